// Pages that the system has not given yet, asked for by the megabyte. One that is new to a process costs a fault when
// it is first written: where no freed memory can hold a result, more than what is computed into it.
#pragma once

#include <ATen/Parallel.h>

#include <cstddef>
#include <cstdint>

#if defined(__linux__)
#include <sys/mman.h>
#include <unistd.h>
#endif

namespace davsr {

// Of memory that is about to be written as a whole; what it holds stays as it is. Nothing happens where the pages are
// there, and where the system cannot do it (Linux can from 5.14 on).
inline void prefault(const void* memory, size_t bytes) {
#if defined(__linux__)
  constexpr int populate_write = 23;               // MADV_POPULATE_WRITE, which older headers lack
  constexpr uintptr_t piece = uintptr_t{1} << 20;  // bytes
  static const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const auto begin = reinterpret_cast<uintptr_t>(memory);
  const uintptr_t first = (begin + page - 1) / page * page, last = (begin + bytes) / page * page;
  if (last < first + 4 * piece) return;
  const auto missing = [&](uintptr_t at) {
    unsigned char present = 0;
    return mincore(reinterpret_cast<void*>(at), page, &present) == 0 && !(present & 1);
  };
  uintptr_t known = first;
  while (known < last && !missing(known)) known += piece;
  if (known >= last) return;
  at::parallel_for(0, static_cast<int64_t>((last - known + piece - 1) / piece), 1, [&](int64_t from, int64_t until) {
    for (int64_t i = from; i < until; ++i) {
      const uintptr_t at = known + static_cast<uintptr_t>(i) * piece;
      if (missing(at)) madvise(reinterpret_cast<void*>(at), last - at < piece ? last - at : piece, populate_write);
    }
  });
#endif
}

}  // namespace davsr
