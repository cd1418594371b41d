#!/usr/bin/env bash
# What people install: sdist -> wheels -> fresh environments away from the checkout, where every command must work.
#
#     .ci/package.sh [python]       its packages (torch, numpy, ...) serve the fresh environments, so that nothing is
#     downloaded
set -euo pipefail
cd "$(dirname "$0")/.."
checkout="$PWD"
python="$(realpath -s "${1:-python3}")"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
step() { echo "package: $*"; }

"$python" -m build --no-isolation --sdist --outdir "$work/dist" . > "$work/build.log" 2>&1 || { cat "$work/build.log"; exit 1; }
mkdir "$work/source"
tar -xzf "$work"/dist/*.tar.gz -C "$work/source" --strip-components 1
step "the source distribution, built and unpacked"

cd "$work/source"
build() { "$python" -m build --no-isolation --wheel --outdir "$work/wheels" . > "$work/build.log" 2>&1 || { cat "$work/build.log"; exit 1; }; }
DAVSR_NO_EXT=1 build
rm -rf build
# A compiler that fails must not end the installation: what comes out is the wheel for every machine.
CXX=/bin/false build
grep -q "false failed on .*: the extension is left out" "$work/build.log"
ls "$work/wheels" | grep -qx 'davsr-.*-py3-none-any.whl' && [ "$(ls "$work/wheels" | wc -l)" = 1 ]
for CXX in ${CXX:-} g++ clang++; do
  command -v "$CXX" > /dev/null || continue
  CXX="$CXX" DAVSR_REQUIRE_EXT=1 build
  ls "$work/wheels" | grep -q 'davsr-.*-cp310-abi3-.*.whl'
  step "a wheel by $CXX"
  break
done

packages="$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
for wheel in "$work"/wheels/*.whl; do
  kind="$(basename "$wheel")"
  "$python" -m venv "$work/$kind"
  bin="$work/$kind/bin"
  # Plain lines of a .pth name folders; the editable davsr in that folder is reached by a .pth of its own, which is not
  # followed.
  echo "$packages" > "$("$bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/borrowed.pth"
  "$bin/python" -m pip install --quiet --no-index --no-deps --force-reinstall "$wheel"
  mkdir "$work/$kind/away" && cd "$work/$kind/away"
  davsr() { "$bin/davsr" "$@" > "$work/run.log" 2>&1 || { echo "davsr $* failed:"; cat "$work/run.log"; exit 1; }; }
  "$bin/python" -c 'import davsr, sys; assert davsr.__file__.startswith(sys.prefix), davsr.__file__'
  davsr doctor
  case "$kind" in *abi3*) grep -q "ops on cpu *cpu-" "$work/run.log" ;; *) grep -q "ops on cpu *reference" "$work/run.log" ;; esac
  davsr test --frames 0:15 --set name=sample
  davsr test -opt training_free --frames 0:15
  davsr train -opt davsr_tiny --set train.iterations=2 --set data.workers=0 --set data.patch=32
  davsr weights inspect experiments/davsr_tiny/checkpoints/step_0000002.pt
  sample="$("$bin/python" -c 'from davsr.settings.presets import PACKAGE; print(PACKAGE / "assets" / "sample.mp4")')"
  davsr prepare degrade --input "$sample" --output lq
  davsr restore lq out.mp4 --rate 24 --window 3 --model training-free
  davsr polish out.mp4 --input lq --output better.mp4
  (mkdir examples && cd examples && "$bin/python" "$checkout/tests/snippets.py" "$checkout/README.md")
  step "every command runs from $kind"
  cd "$work"
done
