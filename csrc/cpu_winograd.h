// Winograd's F(4x4, 3x3) (Lavin and Gray, CVPR 2016): in the basis of the points 0, 1, -1, 2, -2 and infinity a tile of
// 4x4 results of a 3x3 convolution costs 36 products for each pair of channels instead of 144.
//
//     made = A^T [(G w G^T) . (B^T seen B)] A
#pragma once

#include "vectors.h"

namespace davsr {

constexpr int kTileCells = 4;    // results to each side of a tile
constexpr int64_t kPoints = 36;  // 6x6

// B^T d, G g and A^T m of one column.
template <class F>
static DAVSR_FN void to_points(const F* d, F* t) {
  const F even = d[4] - 4.0f * d[2], odd = d[3] - 4.0f * d[1], even_2 = d[4] - d[2], odd_2 = 2.0f * (d[3] - d[1]);
  t[0] = 4.0f * d[0] - 5.0f * d[2] + d[4];
  t[1] = even + odd;
  t[2] = even - odd;
  t[3] = even_2 + odd_2;
  t[4] = even_2 - odd_2;
  t[5] = 4.0f * d[1] - 5.0f * d[3] + d[5];
}

template <class F>
static DAVSR_FN void weights_to_points(const F* g, F* t) {
  const F ends = (g[0] + g[2]) * (-1.0f / 6), middle = g[1] * (-1.0f / 6), half = g[0] * (1.0f / 24) + g[2] * (1.0f / 6);
  t[0] = g[0] * 0.25f;
  t[1] = ends + middle;
  t[2] = ends - middle;
  t[3] = half + g[1] * (1.0f / 12);
  t[4] = half - g[1] * (1.0f / 12);
  t[5] = g[2];
}

template <class F>
static DAVSR_FN void from_points(const F* m, F* o) {
  const F sum = m[1] + m[2], difference = m[1] - m[2], sum_2 = m[3] + m[4], difference_2 = m[3] - m[4];
  o[0] = m[0] + sum + sum_2;
  o[1] = difference + 2.0f * difference_2;
  o[2] = sum + 4.0f * sum_2;
  o[3] = difference + 8.0f * difference_2 + m[5];
}

// The transformation of every column, then of every row of what came out: first[From][From] -> last[To][To].
template <class F, int From, int To, class Transform>
static DAVSR_FN void both_ways(const F (*first)[From], F (*last)[To], const Transform& transform) {
  F half[To][From];
#pragma GCC unroll 6
  for (int x = 0; x < From; ++x) {
    F column[From], moved[To];
#pragma GCC unroll 6
    for (int y = 0; y < From; ++y) column[y] = first[y][x];
    transform(column, moved);
#pragma GCC unroll 6
    for (int y = 0; y < To; ++y) half[y][x] = moved[y];
  }
#pragma GCC unroll 6
  for (int y = 0; y < To; ++y) transform(half[y], last[y]);
}

}  // namespace davsr
