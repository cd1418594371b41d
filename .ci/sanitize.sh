#!/usr/bin/env bash
# Builds the extension with AddressSanitizer and UndefinedBehaviorSanitizer in a temporary folder and runs the op tests
# on it. `sanitize.sh calls N SEED` makes random calls of the ops instead.
# Also proves that no file compiled for one instruction set offers a function that another could be linked to.
set -euo pipefail
cd "$(dirname "$0")/.."
python="${PYTHON:-python}"
compiler="${CXX:-g++}"
if ! command -v "$compiler" > /dev/null; then
  echo "sanitize: no C++ compiler ($compiler); the extension was not checked here"
  exit 0
fi
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

# Without inlining, every function that could be shared between files is there to be seen.
for level in avx2:-mavx2,-mfma,-mf16c avx512:-mavx512f,-mavx512bw,-mavx512vl,-mavx512dq,-mfma,-mf16c; do
  [ "$(uname -m)" = x86_64 ] || continue
  name="${level%%:*}"
  IFS=, read -ra flags <<< "${level#*:}"
  "$compiler" -std=c++17 -O0 -fPIC -Wno-psabi "${flags[@]}" -c "csrc/cpu_$name.cpp" -o "$work/$name.o"
  shared="$(nm -C --defined-only "$work/$name.o" | grep -E ' [WVu] ' | grep -v 'DW.ref' || true)"
  if [ -n "$shared" ]; then
    echo "sanitize: cpu_$name.cpp offers functions that a processor without $name might run:"
    echo "$shared"
    exit 1
  fi
done

flags="-fsanitize=address,undefined -fno-sanitize=vptr -fno-sanitize-recover=undefined -fno-omit-frame-pointer -g1 -O1"
mkdir -p "$work/davsr"
DAVSR_CUDA=0 DAVSR_CXXFLAGS="$flags" DAVSR_LDFLAGS="-fsanitize=address,undefined" \
  "$python" setup.py -q build_ext --build-lib "$work" --build-temp "$work/objects" > "$work/build.log" 2>&1 || {
  cat "$work/build.log"
  exit 1
}

# Python itself keeps memory to its end: leaks are watched by the flat-memory tests instead. torch's own libraries
# report nothing, as only the extension is instrumented; compilers that a test would start are left out.
preload="$("$compiler" -print-file-name=libasan.so) $("$compiler" -print-file-name=libubsan.so)"
export DAVSR_EXTENSION_FOLDER="$work/davsr" OMP_NUM_THREADS=2
checked() { LD_PRELOAD="$preload" ASAN_OPTIONS=detect_leaks=0:halt_on_error=1 UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1 "$python" "$@"; }
checked -c "from davsr.ops import backend; assert backend().name != 'reference', backend()"
if [ "${1:-}" = calls ]; then # make op-calls: so many random calls, of a seed
  checked -m tests.ops.calls --calls "$2" --seed "$3"
  exit
fi
checked -m tests.ops.calls --calls 300 --seed 20 > /dev/null
checked -m pytest --capture=sys -p no:cacheprovider tests/ops/test_ops_{deform_align,fourier_division,conv3x3,motion_average,motion_pass,motion_round,learned_round,learned_gradient,flatten,fusion,warp_between,camera,cells,data_step,momentum}.py \
  -k "not compile and not memory_is_flat and not specification and not opcheck and not errors"
echo "sanitize: the op tests are clean"
