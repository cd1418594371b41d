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

// What a layer [3, 3, channels, made] makes of three rows of cells, whose channels lie `next` apart: `block` channels
// at `vectors` vectors of cells from x on. bias: or null.
template <class Device, int vectors, int block>
static DAVSR_FN void cell_sums(const float* const* rows, int64_t next, int64_t channels, int64_t x, const float* weight,
                               const float* bias, int64_t made, typename Device::template Lanes<float> (&sum)[vectors][block]) {
#pragma GCC unroll 2
  for (int v = 0; v < vectors; ++v)
#pragma GCC unroll 8
    for (int j = 0; j < block; ++j) sum[v][j] = Device::template splat<float>(bias ? bias[j] : 0.0f);
  for (int ky = 0; ky < 3; ++ky)
    for (int kx = 0; kx < 3; ++kx)
      add_channels<Device>(rows[ky] + x + kx - 1, next, channels, weight + (ky * 3 + kx) * channels * made, made, sum);
}

// Of each of a few images three rows of `channels` numbers of every cell, by number % 3; what lies beside a row is
// zero.
template <class Device>
struct RowsOfCells {
  using F = typename Device::template Lanes<float>;
  static constexpr int wide = Device::template lanes<float>;
  static constexpr int vectors = Device::registers >= 32 ? 2 : 1;  // of cells at a time
  static constexpr int block = 8;                                  // channels that are made at a time
  static constexpr int64_t step = vectors * wide;

  const int64_t channels, room;
  Scratch<Device, float> data, outside;

  static int64_t room_for(int64_t cells) { return wide + (cells + step) / step * step + wide; }

  RowsOfCells(int64_t images, int64_t of_channels, int64_t widest, const Parallel& threads)
      : channels(of_channels),
        room(room_for(widest)),
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

  // visit(first channel, first cell, sums of `block` channels at `vectors` vectors of cells) for all that a layer [3,
  // 3, channels, made] makes of row r of a frame of `tall` rows of so many cells; made: a multiple of `block`.
  template <class Visit>
  void convolve(int64_t image, int64_t r, int64_t tall, int64_t cells, const float* weight, const float* bias, int64_t made,
                const Visit& visit) const {
    const float* nothing = outside.data + wide;
    const float* rows[3] = {r > 0 ? row(image, r - 1) : nothing, row(image, r), r + 1 < tall ? row(image, r + 1) : nothing};
    for (int64_t x = 0; x < cells; x += step)
      for (int64_t at = 0; at < made; at += block) {
        F sum[vectors][block];
        cell_sums<Device>(rows, room, channels, x, weight + at, bias + at, made, sum);
        visit(at, x, sum);
      }
  }
};

template <class F>
static DAVSR_FN F rectified(F value) {
  return value < 0.0f ? F{} : value;
}

}  // namespace davsr
