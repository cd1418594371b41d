// C (+)= A B for a tile that is already in the cache: A is read by broadcast through any strides, B and C in rows.
#pragma once

#include "vectors.h"

namespace davsr {

template <class Device, class Real, int Rows, int Vectors>
static DAVSR_FN void product_block(int64_t depth, const Real* a, int64_t a_row, int64_t a_step, const Real* b, int64_t b_row,
                                   Real* c, int64_t c_row, bool accumulate) {
  using F = typename Device::template Lanes<Real>;
  constexpr int width = Device::template lanes<Real>;
  F sum[Rows][Vectors] = {};
  for (int64_t k = 0; k < depth; ++k) {
    F row[Vectors];
#pragma GCC unroll 4
    for (int j = 0; j < Vectors; ++j) row[j] = Device::template pack<Real, width>(b + k * b_row + j * width);
#pragma GCC unroll 16
    for (int i = 0; i < Rows; ++i) {
      const Real value = a[i * a_row + k * a_step];
#pragma GCC unroll 4
      for (int j = 0; j < Vectors; ++j) sum[i][j] += row[j] * value;
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < Rows; ++i)
#pragma GCC unroll 4
    for (int j = 0; j < Vectors; ++j) {
      Real* to = c + i * c_row + j * width;
      // Added at the end: the sums of parts round less than one long sum.
      Device::template put<Real, width>(to, accumulate ? sum[i][j] + Device::template pack<Real, width>(to) : sum[i][j]);
    }
}

template <class Device, class Real, int Vectors>
static void product_panel(int64_t rows, int64_t depth, const Real* a, int64_t a_row, int64_t a_step, const Real* b, int64_t b_row,
                          Real* c, int64_t c_row, bool accumulate) {
  constexpr int tall = Device::registers >= 32 ? 12 : 6;
  int64_t i = 0;
  for (; i + tall <= rows; i += tall)
    product_block<Device, Real, tall, Vectors>(depth, a + i * a_row, a_row, a_step, b, b_row, c + i * c_row, c_row, accumulate);
  for (; i + 4 <= rows; i += 4)
    product_block<Device, Real, 4, Vectors>(depth, a + i * a_row, a_row, a_step, b, b_row, c + i * c_row, c_row, accumulate);
  for (; i < rows; ++i)
    product_block<Device, Real, 1, Vectors>(depth, a + i * a_row, a_row, a_step, b, b_row, c + i * c_row, c_row, accumulate);
}

// columns: a multiple of kPad.
template <class Device, class Real>
static void product(int64_t rows, int64_t columns, int64_t depth, const Real* a, int64_t a_row, int64_t a_step, const Real* b,
                    int64_t b_row, Real* c, int64_t c_row, bool accumulate) {
  constexpr int width = Device::template lanes<Real>;
  int64_t j = 0;
  for (; j + 2 * width <= columns; j += 2 * width)
    product_panel<Device, Real, 2>(rows, depth, a, a_row, a_step, b + j, b_row, c + j, c_row, accumulate);
  for (; j < columns; j += width)
    product_panel<Device, Real, 1>(rows, depth, a, a_row, a_step, b + j, b_row, c + j, c_row, accumulate);
}

}  // namespace davsr
