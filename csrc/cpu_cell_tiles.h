// 3x3 convolutions of a small network over rows of cells, two rows at a time, by Winograd's F(2x2, 3x3) on a CPU: of
// tiles of 2x2 cells 16 products a channel instead of 36.
//
//     made = A^T [(G w G^T) . (B^T seen B)] A
//
//     B^T d = (d0 - d2, d1 + d2, d2 - d1, d1 - d3)      A^T m = (m0 + m1 + m2, m1 - m2 - m3)
//
// Even and odd cells of a row lie apart: what a vector of tiles needs follows each other.
#pragma once

#include "cpu_cell_rows.h"

namespace davsr {

// Of a frame six rows, by number % 6, of `channels` numbers of every cell; what lies beside a row is zero.
template <class Device>
struct TiledCells {
  using F = typename Device::template Lanes<float>;
  static constexpr int wide = Device::template lanes<float>;
  static constexpr int vectors = Device::registers >= 32 ? 2 : 1;  // of tiles at a time
  static constexpr int block = 8;                                  // channels that are made at a time
  static constexpr int points = 16;                                // products of a tile
  static constexpr int64_t step = vectors * wide;

  const int64_t channels, room;
  Scratch<Device, float> rows, outside;
  Scratch<Device, float> seen;      // [points][channels][step]
  Scratch<Device, float> products;  // [points][block][step]

  TiledCells(int64_t of_channels, int64_t cells, const Parallel& threads)
      : channels(of_channels),
        room(2 * wide + (cells / 2 + step) / step * step),
        rows(threads, 6 * of_channels * 2 * room),
        outside(threads, of_channels * 2 * room),
        seen(threads, points * of_channels * step),
        products(threads, points * block * step) {
    Clear<Device, float>::run(rows.data, 6 * channels * 2 * room);
    Clear<Device, float>::run(outside.data, channels * 2 * room);
  }

  // The even cells of channel c of row r; the odd ones lie `room` further on.
  float* row(int64_t r, int64_t c) const { return rows.data + (r % 6 * channels + c) * 2 * room + wide; }
  // What was written past the last of so many cells is none of the frame.
  void end_row(int64_t r, int64_t cells) const {
    for (int64_t c = 0; c < channels; ++c) {
      row(r, c)[(cells + 1) / 2] = 0;
      row(r, c)[room + cells / 2] = 0;
    }
  }

  // visit(first channel, first tile, made[row][even, odd][channel of `block`]) a vector of tiles after the other, for
  // all that a layer [points, channels, made] makes of rows 2 pair and 2 pair + 1 of a frame of `tall` rows of so many
  // cells; made: a multiple of `block`.
  template <class Visit>
  void convolve(int64_t pair, int64_t tall, int64_t cells, const float* weight, const float* bias, int64_t made,
                const Visit& visit) const {
    const float* from[4];
    for (int64_t i = 0; i < 4; ++i) {
      const int64_t r = 2 * pair - 1 + i;
      from[i] = r >= 0 && r < tall ? row(r, 0) : outside.data + wide;
    }
    for (int64_t x = 0; x < (cells + 1) / 2; x += step) {
      for (int64_t c = 0; c < channels; ++c)
        for (int v = 0; v < vectors; ++v) look(from, x + v * wide + c * 2 * room, seen.data + c * step + v * wide);
      for (int64_t at = 0; at < made; at += block) {
        for (int p = 0; p < points; ++p) multiply(p, weight + p * channels * made + at, made);
        for (int v = 0; v < vectors; ++v) {
          F sum[2][2][block];
          for (int j = 0; j < block; ++j) sum_up(products.data + j * step + v * wide, bias[at + j], j, sum);
          visit(at, x + v * wide, sum);
        }
      }
    }
  }

 private:
  static DAVSR_FN void turn(const F& a, const F& b, const F& c, const F& d, F* to) {
    to[0] = a - c;
    to[1] = b + c;
    to[2] = c - b;
    to[3] = b - d;
  }

  DAVSR_FN void look(const float* const* from, int64_t x, float* to) const {
    F across[4][4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const float *even = from[i] + x, *odd = even + room;
      turn(Device::template pack<float, wide>(odd - 1), Device::template pack<float, wide>(even),
           Device::template pack<float, wide>(odd), Device::template pack<float, wide>(even + 1), across[i]);
    }
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      F down[4];
      turn(across[0][j], across[1][j], across[2][j], across[3][j], down);
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) Device::template put<float, wide>(to + (i * 4 + j) * channels * step, down[i]);
    }
  }

  DAVSR_FN void multiply(int p, const float* weight, int64_t made) const {
    F sum[vectors][block] = {};
    add_channels<Device>(seen.data + p * channels * step, step, channels, weight, made, sum);
    float* to = products.data + p * block * step;
#pragma GCC unroll 2
    for (int v = 0; v < vectors; ++v)
#pragma GCC unroll 8
      for (int j = 0; j < block; ++j) Device::template put<float, wide>(to + j * step + v * wide, sum[v][j]);
  }

  static DAVSR_FN void sum_up(const float* from, float bias, int j, F (&sum)[2][2][block]) {
    F down[2][4];
#pragma GCC unroll 4
    for (int q = 0; q < 4; ++q) {
      F m[4];
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) m[i] = Device::template pack<float, wide>(from + (i * 4 + q) * block * step);
      down[0][q] = m[0] + m[1] + m[2];
      down[1][q] = m[1] - m[2] - m[3];
    }
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i) {
      sum[i][0][j] = down[i][0] + down[i][1] + down[i][2] + bias;
      sum[i][1][j] = down[i][1] - down[i][2] - down[i][3] + bias;
    }
  }
};

}  // namespace davsr
