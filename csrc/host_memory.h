// Fresh memory for large results. The system clears every page of it when it is first written to, at a fault: 512 small
// pages take four times as long as a large one of their size.
#pragma once

#include <ATen/ATen.h>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace davsr {

constexpr uintptr_t kLargePage = uintptr_t{1} << 21;  // bytes

// Fresh memory itself, which nothing was written to, in large pages where the system has them for who asks (Linux).
inline at::Tensor in_large_pages(const at::Tensor& fresh) {
#if defined(MADV_HUGEPAGE)
  if (fresh.is_cpu()) {
    const auto begin = reinterpret_cast<uintptr_t>(fresh.data_ptr());
    const uintptr_t first = (begin + kLargePage - 1) / kLargePage * kLargePage;
    const uintptr_t last = (begin + fresh.nbytes()) / kLargePage * kLargePage;
    // Where it is refused, small pages do, too.
    if (last > first) madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
  }
#endif
  return fresh;
}

}  // namespace davsr
