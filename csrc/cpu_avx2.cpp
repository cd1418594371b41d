#include "cpu_level.h"

namespace davsr {
namespace {

struct Avx2 {
  static constexpr const char* name = "avx2";
  static constexpr int bytes = 32;
  static constexpr int registers = 16;
  using Device = Cpu<Avx2>;
};

}  // namespace

CpuKernels avx2_kernels() { return kernels_of<Avx2>(); }

}  // namespace davsr
