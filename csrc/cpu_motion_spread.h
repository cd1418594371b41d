// Sums of what bilinear samples of an image leave to its pixels, on a CPU: the transpose of sampling.
#pragma once

#include "cpu_motion_sample.h"

namespace davsr {

// The pixels of up to four colours, rows of them. A sample adds to two pixels each of two rows: their colours lie side
// by side, and what comes from the left apart from what comes from the right, so that what two samples add to is either
// the same or apart. Pixel x of a row has the numbers [8 x - 4, 8 x + 4); the row after the last and the column after
// the last take what has no weight.
template <class Device, class Real>
struct SpreadRows {
  using F = typename Device::template Lanes<Real>;
  using I = typename Device::template Index<Real>;
  using Whole = typename IntegerOf<Real>::type;
  using Both = typename Device::template Pack<Real, 8>;
  using Four = typename Device::template Pack<Real, 4>;
  static constexpr int wide = Device::template lanes<Real>;
  static constexpr int block = wide < 8 ? wide : 8;  // lanes whose numbers change places with each other

  const int64_t width, size;
  Scratch<Device, Real> sums;

  SpreadRows(int64_t columns, int64_t rows, const Parallel& threads)
      : width(columns), size((rows * columns + 1) * 8), sums(threads, size) {
    Clear<Device, Real>::run(sums.data, size);
  }

  // Adds the value of each of `count` lanes, of so many colours, to the four pixels that begin with number `at`.
  template <int colours>
  DAVSR_FN void add(const I& at, F down, F right, const F* value, int count) {
    F part[8] = {};
#pragma GCC unroll 4
    for (int c = 0; c < colours; ++c) {
      part[4 + c] = value[c] * right;
      part[c] = value[c] - part[4 + c];
    }
    Real numbers[8 * wide], low[wide];
    Whole places[wide];
    __builtin_memcpy(places, &at, sizeof places);
    __builtin_memcpy(low, &down, sizeof low);
#pragma GCC unroll 8
    for (int group = 0; group < 8; group += block) {
      transpose_blocks(part + group);
#pragma GCC unroll 8
      for (int j = 0; j < block; ++j)
        Device::template put<Real, wide>(numbers + (wide > 8 ? j * wide : j * 8 + group), part[group + j]);
    }
    const auto lane = [&](int l) {
      const Both both = Device::template pack<Real, 8>(numbers + (wide > 8 ? l % 8 * wide + l / 8 * 8 : l * 8));
      const Both below = both * low[l];
      Real *upper = sums.data + int64_t{8} * places[l], *lower = upper + 8 * width;
      Device::template put<Real, 8>(upper, Device::template pack<Real, 8>(upper) + (both - below));
      Device::template put<Real, 8>(lower, Device::template pack<Real, 8>(lower) + below);
    };
    if (count == wide) {
#pragma GCC unroll 16
      for (int l = 0; l < wide; ++l) lane(l);
    } else {
      for (int l = 0; l < count; ++l) lane(l);
    }
  }

  // Adds the sums of the rows of an image to `colours` planes of it; then they are zero.
  template <int colours>
  void fold(int64_t rows, int64_t plane, Real* to) {
    Real* from = sums.data;
    for (int64_t y = 0; y < rows; ++y, to += width, from += 8 * width) {
      fold_row<colours>(from, plane, to);
      Clear<Device, Real>::run(from, 8 * width);
    }
    Clear<Device, Real>::run(from, sums.data + size - from);
  }

 private:
  template <int colours>
  DAVSR_FN void fold_row(const Real* from, int64_t plane, Real* to) const {
    const auto sum_at = [&](int64_t x) {
      const Four own = Device::template pack<Real, 4>(from + 8 * x);
      return x > 0 ? own + Device::template pack<Real, 4>(from + 8 * x - 4) : own;
    };
    int64_t x = 0;
    for (; x + 4 <= width; x += 4) {
      const Four sum[4] = {sum_at(x), sum_at(x + 1), sum_at(x + 2), sum_at(x + 3)};
#pragma GCC unroll 4
      for (int c = 0; c < colours; ++c) {
        const Four of_colour = {sum[0][c], sum[1][c], sum[2][c], sum[3][c]};
        Device::template put<Real, 4>(to + c * plane + x, Device::template pack<Real, 4>(to + c * plane + x) + of_colour);
      }
    }
    for (; x < width; ++x) {
      const Four sum = sum_at(x);
      for (int c = 0; c < colours; ++c) to[c * plane + x] += sum[c];
    }
  }

  // rows[i][j] <-> rows[j][i] in every block of `block` lanes.
  static DAVSR_FN void transpose_blocks(F* rows) {
#pragma GCC unroll 4
    for (int apart = 1; apart < block; apart *= 2) {
      I one, other;
#pragma GCC unroll 16
      for (int l = 0; l < wide; ++l) {
        one[l] = l & apart ? wide + l - apart : l;
        other[l] = l & apart ? wide + l : l + apart;
      }
#pragma GCC unroll 16
      for (int i = 0; i < block; ++i) {
        if (i & apart) continue;
        const F a = rows[i], b = rows[i + apart];
        rows[i] = shuffle(a, b, one);
        rows[i + apart] = shuffle(a, b, other);
      }
    }
  }
};

}  // namespace davsr
