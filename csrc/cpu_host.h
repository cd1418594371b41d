// What the host files of the CPU share: the kernels that this processor can run, and torch's threads and memory for
// them.
#pragma once

#include <ATen/Parallel.h>
#include <c10/core/impl/alloc_cpu.h>

#include <vector>

#include "cpu_kernels.h"
#include "host.h"

namespace davsr {

// Best first. "serial" is the GPU's code path on one lane of the CPU: it proves the bodies and the indices that the GPU
// runs.
inline std::vector<CpuKernels> cpu_kernels() {
  std::vector<CpuKernels> levels;
#if defined(DAVSR_X86)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512dq"))
    levels.push_back(avx512_kernels());
  // F16C is older, and clang cannot be asked for it
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) levels.push_back(avx2_kernels());
#endif
  levels.push_back(baseline_kernels());
  return levels;
}

inline const std::vector<CpuKernels>& levels() {
  static const std::vector<CpuKernels> found = cpu_kernels();
  return found;
}

inline const CpuKernels& choose(const std::optional<c10::string_view>& level) {
  if (!level) return levels().front();
  for (const CpuKernels& kernels : levels())
    if (*level == kernels.level) return kernels;
  TORCH_CHECK_VALUE(false, "davsr: level must be one of cpu_levels(), got ", *level);
}

inline bool is_serial(const std::optional<c10::string_view>& level) { return level && *level == "serial"; }

inline const Parallel& threads() {
  static const Parallel parallel{
      [](int64_t n, void* context, void (*body)(void*, int64_t, int64_t)) {
        at::parallel_for(0, n, 1, [&](int64_t begin, int64_t end) { body(context, begin, end); });
      },
      [](int64_t bytes) { return c10::alloc_cpu(static_cast<size_t>(bytes)); },
      [](void* memory) { c10::free_cpu(memory); },
  };
  return parallel;
}

}  // namespace davsr
