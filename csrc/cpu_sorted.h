// Vectors of numbers that follow each other, and vectors of every n-th of them, on a CPU.
#pragma once

#include "vectors.h"

namespace davsr {

// Vectors of numbers that follow each other <-> vectors of every n-th of them.
template <class Device>
struct Sorted {
  using F = typename Device::template Lanes<float>;
  using I = typename Device::template Index<float>;
  static constexpr int wide = Device::template lanes<float>;

  template <int n>
  static DAVSR_FN void deal(F* v) {
    if constexpr (n > 1) {
      I even, odd;
#pragma GCC unroll 16
      for (int l = 0; l < wide; ++l) {
        even[l] = 2 * l;
        odd[l] = 2 * l + 1;
      }
      F part[n];
#pragma GCC unroll 16
      for (int i = 0; i < n / 2; ++i) {
        part[i] = shuffle(v[2 * i], v[2 * i + 1], even);
        part[n / 2 + i] = shuffle(v[2 * i], v[2 * i + 1], odd);
      }
      deal<n / 2>(part);
      deal<n / 2>(part + n / 2);
#pragma GCC unroll 16
      for (int i = 0; i < n; ++i) v[i] = part[i % 2 * (n / 2) + i / 2];
    }
  }

  template <int n>
  static DAVSR_FN void collect(F* v) {
    if constexpr (n > 1) {
      I low, high;
#pragma GCC unroll 16
      for (int l = 0; l < wide; ++l) {
        low[l] = l / 2 + l % 2 * wide;
        high[l] = wide / 2 + l / 2 + l % 2 * wide;
      }
      F part[n];
#pragma GCC unroll 16
      for (int i = 0; i < n; ++i) part[i % 2 * (n / 2) + i / 2] = v[i];
      collect<n / 2>(part);
      collect<n / 2>(part + n / 2);
#pragma GCC unroll 16
      for (int i = 0; i < n / 2; ++i) {
        v[2 * i] = shuffle(part[i], part[n / 2 + i], low);
        v[2 * i + 1] = shuffle(part[i], part[n / 2 + i], high);
      }
    }
  }
};

}  // namespace davsr
