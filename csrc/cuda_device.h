// The CUDA device as a type: how 16 bytes move, how sums meet, how units are launched. Torch-free.
#pragma once

#include <cuda_runtime_api.h>

#include "kernels.h"

namespace davsr {

// Runs unit(0) .. unit(count - 1) on the stream. Instantiated in kernels.cu for every unit.
template <class Unit>
void run_units(int64_t count, const Unit& unit, cudaStream_t stream);

template <size_t bytes>
struct Bytes;
template <>
struct Bytes<2> {
  using type = unsigned short;
};
template <>
struct Bytes<4> {
  using type = unsigned int;
};
template <>
struct Bytes<8> {
  using type = uint2;
};
template <>
struct Bytes<16> {
  using type = uint4;
};

struct Cuda : OneLane<Cuda> {
  // In one instruction, of memory that is aligned to it. Of memcpy nvcc 13.0 made moves of bytes for a single half, and
  // what ptxas made of those was wrong on a card.
  template <size_t bytes>
  static DAVSR_FN void copy(void* to, const void* from) {
#if defined(__CUDA_ARCH__)
    using Unit = typename Bytes<bytes>::type;
    *static_cast<Unit*>(to) = *static_cast<const Unit*>(from);
#else
    memcpy(to, from, bytes);
#endif
  }
  template <class Real>
  static DAVSR_FN void add_one(Real* to, Real value) {
#if defined(__CUDA_ARCH__)
    atomicAdd(to, value);
#else
    *to += value;
#endif
  }
  // On the current stream; defined in cuda.cpp, the one file that knows both torch and CUDA.
  template <class Unit>
  static void launch(int64_t count, const Unit& unit);
};

}  // namespace davsr
