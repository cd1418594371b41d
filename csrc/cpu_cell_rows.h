// Rows of cells, the numbers of one channel side by side, and 3x3 convolutions over three of them, on a CPU: small
// networks that go along with a pass over pixels, row by row.
#pragma once

#include "cpu_tiles.h"

namespace davsr {

// Adds what weights [channels, made] make of vectors of numbers, whose channels lie `next` apart: `block` channels.
template <class Device, int vectors, int block>
static DAVSR_FN void add_channels(const float* from, int64_t next, int64_t channels, const float* weight, int64_t made,
                                  typename Device::template Lanes<float> (&sum)[vectors][block]) {
  using F = typename Device::template Lanes<float>;
  constexpr int wide = Device::template lanes<float>;
  for (int64_t c = 0; c < channels; ++c, from += next, weight += made)
#pragma GCC unroll 2
    for (int v = 0; v < vectors; ++v) {
      const F value = Device::template pack<float, wide>(from + v * wide);
#pragma GCC unroll 16
      for (int j = 0; j < block; ++j) sum[v][j] += value * weight[j];
    }
}

// Adds what `channels` channels have of a layer [3, 3, of, made] in three rows of cells, where they lie `next` apart:
// `block` channels at `vectors` vectors of cells from x on.
template <class Device, int vectors, int block>
static DAVSR_FN void add_cells(const float* const* rows, int64_t next, int64_t channels, int64_t x, const float* weight,
                               int64_t of, int64_t made, typename Device::template Lanes<float> (&sum)[vectors][block]) {
  for (int ky = 0; ky < 3; ++ky)
    for (int kx = 0; kx < 3; ++kx)
      add_channels<Device>(rows[ky] + x + kx - 1, next, channels, weight + (ky * 3 + kx) * of * made, made, sum);
}

// bias: or null.
template <class Device, int vectors, int block>
static DAVSR_FN void begin_sums(const float* bias, typename Device::template Lanes<float> (&sum)[vectors][block]) {
#pragma GCC unroll 2
  for (int v = 0; v < vectors; ++v)
#pragma GCC unroll 8
    for (int j = 0; j < block; ++j) sum[v][j] = Device::template splat<float>(bias ? bias[j] : 0.0f);
}

// Of each of a few images three rows of `channels` numbers of every cell, by number % 3; what lies beside a row is
// zero.
template <class Device>
struct RowsOfCells {
  using F = typename Device::template Lanes<float>;
  static constexpr int wide = Device::template lanes<float>;

  const int64_t channels, room;
  Scratch<Device, float> data, outside;

  RowsOfCells(int64_t images, int64_t of_channels, int64_t row_room, const Parallel& threads)
      : channels(of_channels),
        room(row_room),
        data(threads, images * 3 * of_channels * room),
        outside(threads, of_channels * room) {
    Clear<Device, float>::run(data.data, images * 3 * channels * room);
    Clear<Device, float>::run(outside.data, channels * room);
  }

  float* row(int64_t image, int64_t r) const { return data.data + (image * 3 + r % 3) * channels * room + wide; }
  // What was written past the last of so many cells is none of the frame.
  void end_row(int64_t image, int64_t r, int64_t cells) const {
    for (int64_t c = 0; c < channels; ++c) row(image, r)[c * room + cells] = 0;
  }
  // Row r of a frame of `tall` rows, and those around it.
  void around(int64_t image, int64_t r, int64_t tall, const float** rows) const {
    for (int64_t i = 0; i < 3; ++i) rows[i] = r - 1 + i >= 0 && r - 1 + i < tall ? row(image, r - 1 + i) : outside.data + wide;
  }
};

template <class F>
static DAVSR_FN F rectified(F value) {
  return value < 0.0f ? F{} : value;
}

}  // namespace davsr
