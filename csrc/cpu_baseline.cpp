#include "cpu_level.h"

namespace davsr {
namespace {

struct Baseline {
  static constexpr const char* name = "baseline";
  static constexpr int bytes = 16;
  static constexpr int registers = 16;
  static constexpr bool has_bits = false;
  static constexpr bool has_pairs = false;
  using Device = Cpu<Baseline>;
};

}  // namespace

CpuKernels baseline_kernels() { return kernels_of<Baseline>(); }

}  // namespace davsr
