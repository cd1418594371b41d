#!/usr/bin/env bash
# Compiles the CUDA side where nvcc is, without a GPU and without a CUDA build of torch: the kernels for sm_80 and sm_90
# with warnings as errors, registers and spills reported, no spills in a forward kernel; then the launching file on the
# host.
#
#     .ci/cuda_compile.sh [python]        the Python whose torch headers the launching file is compiled against
set -euo pipefail
cd "$(dirname "$0")/.."
python="${1:-python3}"
nvcc="${NVCC:-$(command -v nvcc || true)}"
if [ -z "$nvcc" ]; then
  echo "cuda: nvcc is not on PATH; the CUDA kernels were not compiled here"
  exit 0
fi
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

pids=()
for arch in 80 90; do
  "$nvcc" -std=c++17 -O3 -arch="sm_$arch" -Werror all-warnings -Xcompiler -Wall,-Wextra,-Werror -Xptxas -v \
    -c csrc/kernels.cu -o "$work/kernels_$arch.o" > "$work/ptxas_$arch.log" 2>&1 &
  pids+=($!)
done
failed=0
for pid in "${pids[@]}"; do wait "$pid" || failed=1; done
if [ "$failed" -ne 0 ]; then
  cat "$work"/ptxas_*.log
  exit 1
fi

"$python" - "$work"/ptxas_80.log "$work"/ptxas_90.log << 'PY'
"""Registers and spills of each kernel, from ptxas -v; exit 1 where a forward kernel spills or none was found."""
import re
import sys

spilled = []
for path in sys.argv[1:]:
    text = open(path).read()
    pattern = r"Compiling entry function '(\S+)' for '(\w+)'.*?(\d+) bytes spill stores, (\d+) bytes spill loads.*?Used (\d+) registers"
    found = re.findall(pattern, text, re.S)
    if not found:
        sys.exit(f"cuda: no kernel in the compiler's report:\n{text}")
    for symbol, arch, stores, loads, registers in found:
        unit = re.search(r"(Align|Division|Mismatch|Blend|Flatten|Camera)(Sample|Gradient|Rows|Quotient|Unfold|Otf|Cell|Pixel|Along|Back)", symbol).group(0)
        types = symbol.split(unit)[1]
        stored = next((n for key, n in {"4Half": "half", "8BFloat16": "bfloat16"}.items() if key in types), None)
        stored = stored or ("double" if "Cuda" in types and "d" in types.split("Cuda")[1][:3] else "float")
        width = re.search(r"Li(\d)E", types)
        name = f"{unit}<{stored}{', ' + width.group(1) if width else ''}>"
        print(f"{arch}  {name:28s} {registers:>3} registers, {stores} + {loads} bytes spilled")
        if (int(stores) or int(loads)) and not re.search("Gradient|Otf", unit):
            spilled.append(f"{arch} {name}")
if spilled:
    sys.exit("cuda: spills in forward kernels: " + ", ".join(spilled))
PY

# Packs of 16 bytes must move in one instruction: four corners in, one column out.
"$nvcc" -std=c++17 -O3 -arch=sm_80 -ptx csrc/kernels.cu -o "$work/kernels.ptx"
for pack in fLi4 4HalfELi8 8BFloat16ELi8; do
  moves="$(awk -v pack="$pack" '/\.entry/ { inside = /AlignSample/ && index($0, pack) } inside && /(ld|st)[a-z.]*\.v4/ { n++ }
    END { print n + 0 }' "$work/kernels.ptx")"
  if [ "$moves" -lt 5 ]; then
    echo "cuda: AlignSample<...$pack> moves 16 bytes at a time in $moves places, expected 5 or more"
    exit 1
  fi
done

# Nothing here is a byte: what moves by bytes was split by the compiler, and came out wrong on a card (CUDA 13.0).
if grep -E '(ld|st)\.global[a-z0-9.]*[usb]8[[:space:]]' "$work/kernels.ptx" | head -3 | grep .; then
  echo "cuda: a kernel moves single bytes, see Cuda::copy"
  exit 1
fi

if ! "$python" -c 'import torch' 2> /dev/null; then
  echo "cuda: kernels for sm_80 and sm_90 compile; $python has no torch, the launching file was not compiled"
  exit 0
fi
include="$("$nvcc" -dryrun -c csrc/kernels.cu 2>&1 | sed -n 's/.*INCLUDES="-I\([^"]*\)".*/\1/p' | head -1)"
torch="$("$python" -c 'import pathlib, torch; print(pathlib.Path(torch.__file__).parent / "include")')"
# A CPU build of torch has no cuda_cmake_macros.h; the definition stands in for it.
"${CXX:-g++}" -std=c++20 -O1 -fPIC -Wall -Wno-psabi -Werror -DC10_USING_CUSTOM_GENERATED_MACROS -DDAVSR_WITH_CUDA \
  -isystem "$torch" -isystem "$torch/torch/csrc/api/include" -isystem "${include%/}" -c csrc/cuda.cpp -o "$work/cuda.o"

# Every unit that the launching file asks for must be one that the kernel file offers.
nm -C "$work/cuda.o" | sed -n 's/.* U \(void davsr::run_units<.*\)/\1/p' | sort -u > "$work/asked"
nm -C "$work/kernels_80.o" | sed -n 's/.* [TWV] \(void davsr::run_units<.*\)/\1/p' | sort -u > "$work/offered"
missing="$(comm -23 "$work/asked" "$work/offered")"
if [ ! -s "$work/asked" ] || [ -n "$missing" ]; then
  echo "cuda: cuda.cpp launches units that kernels.cu does not instantiate: ${missing:-none found at all}"
  exit 1
fi
echo "cuda: kernels for sm_80 and sm_90 and the launching file compile; $(wc -l < "$work/asked") units match"
