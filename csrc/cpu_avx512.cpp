#include "cpu_level.h"

namespace davsr {
namespace {

struct Avx512 {
  static constexpr const char* name = "avx512";
  static constexpr int bytes = 64;
  static constexpr int registers = 32;
  using Device = Cpu<Avx512>;
};

}  // namespace

CpuKernels avx512_kernels() { return kernels_of<Avx512>(); }

}  // namespace davsr
