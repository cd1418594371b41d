#!/usr/bin/env bash
# What half an hour with a GPU is used for, within about nine minutes: build for it, compare with the CPU, check memory
# accesses, measure, and train for what is left. Stops at the first failure of the first two. Without a GPU, but with a
# CUDA build of torch and nvcc, it builds, links and imports the whole extension and says that nothing ran.
#
#     make gpu            PYTHON=python3 OUT=results/gpu MINUTES=9 OPTIONS=options/train/prior_pack.yml
set -euo pipefail
cd "$(dirname "$0")/.."
python="${PYTHON:-python3}"
out="${OUT:-results/gpu}"
options="${OPTIONS:-options/train/prior_pack.yml}"
end=$(($(date +%s) + 60 * ${MINUTES:-9}))
left() { echo $((end - $(date +%s))); }
mkdir -p "$out"

# -- build -------------------------------------------------------------------------------------------------------------
facts="$("$python" -c '
import torch
from torch.utils import cpp_extension
there = torch.cuda.is_available()
card = torch.cuda.get_device_name() if there else ""
major, minor = torch.cuda.get_device_capability() if there else (8, 0)
print(torch.version.cuda or "-", cpp_extension.CUDA_HOME or "-", f"{major}.{minor}", card.replace(" ", "_") or "-")')"
read -r cuda home arch card <<< "$facts"
if [ "$cuda" = - ] || [ "$home" = - ]; then
  echo "gpu: $python must have a CUDA build of torch (CUDA: $cuda) and nvcc beside it (CUDA_HOME: $home)" >&2
  exit 2
fi
echo "gpu: torch for CUDA $cuda, ${card//_/ }, sm_${arch/./}"
export TORCH_CUDA_ARCH_LIST="${TORCH_CUDA_ARCH_LIST:-$arch}" DAVSR_CUDA=1 DAVSR_REQUIRE_EXT=1
"$python" setup.py -q build_ext --build-lib "$out/built" --build-temp "$out/objects" > "$out/build.log" 2>&1 || {
  tail -40 "$out/build.log"
  exit 1
}
export DAVSR_EXTENSION_FOLDER="$PWD/$out/built/davsr" PYTHONPATH="$PWD"
"$python" -c '
import torch
from davsr.ops import backend
assert torch.ops.davsr.has_cuda(), "the extension was built without its CUDA kernels"
print("gpu: the extension is built, linked and imported;", backend("cuda"))'
if [ "$card" = - ]; then
  echo "gpu: torch sees no GPU here: nothing ran"
  exit 0
fi

# -- right, clean ------------------------------------------------------------------------------------------------------
"$python" -m pytest -q -p no:cacheprovider tests/ops/test_ops_cuda.py | tee "$out/tests.log"
if command -v compute-sanitizer > /dev/null; then
  timeout 120 compute-sanitizer --tool memcheck --error-exitcode 1 "$python" -m pytest -q -p no:cacheprovider \
    tests/ops/test_ops_cuda.py -k "results_and_gradients and not 33" > "$out/memcheck.log" 2>&1 || {
    code=$?
    tail -40 "$out/memcheck.log"
    [ $code -eq 124 ] || exit 1
    echo "gpu: memcheck was cut off after two minutes without an error"
  }
fi

# -- fast --------------------------------------------------------------------------------------------------------------
for suite in data_step deform_align fourier_division rounds network training; do
  [ "$(left)" -gt 60 ] || break
  timeout "$(left)" "$python" -m benchmarks --device cuda --only "$suite" --json "$out/$card-$suite.json" \
    | tee "$out/$suite.txt" || echo "gpu: $suite was not measured"
done

# -- trains ------------------------------------------------------------------------------------------------------------
if [ ! -d data/pack ]; then
  echo "gpu: no data/pack (make pack): nothing was trained"
elif [ "$(left)" -gt 30 ]; then
  minutes="$("$python" -c "print(max($(left) - 20, 10) / 60)")"
  "$python" train.py -opt "$options" --auto-resume --set train.minutes="$minutes" --set device=cuda | tee "$out/train.log"
  find experiments -name 'best.pt' -size -16M -newer "$out/build.log" -exec cp {} "$out/" \;
fi
echo "gpu: results in $out"
