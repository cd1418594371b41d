// The CUDA device as a type: how 16 bytes move, how sums meet, how units are launched. Torch-free.
#pragma once

#include <cuda_runtime_api.h>

#include "kernels.h"

namespace davsr {

// Runs unit(0) .. unit(count - 1) on the stream. Instantiated in kernels.cu for every unit.
template <class Unit>
void run_units(int64_t count, const Unit& unit, cudaStream_t stream);

struct Cuda : OneLane<Cuda> {
  template <size_t bytes>
  static DAVSR_FN void copy(void* to, const void* from) {
#if defined(__CUDA_ARCH__)
    if constexpr (bytes == 16) {
      *static_cast<uint4*>(to) = *static_cast<const uint4*>(from);
      return;
    }
#endif
    memcpy(to, from, bytes);
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
