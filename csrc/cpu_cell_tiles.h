// 3x3 convolutions of a small network over rows of cells, four rows at a time, by Winograd's F(4x4, 3x3) on a CPU.
//
// Every fourth cell of a row lies side by side: what a vector of tiles needs follows each other.
#pragma once

#include "cpu_cell_rows.h"
#include "cpu_sorted.h"
#include "cpu_winograd.h"

namespace davsr {

// Of a frame `kept` rows, by number % kept, of `channels` numbers of every cell; what lies beside a row is zero.
template <class Device>
struct TiledCells {
  using F = typename Device::template Lanes<float>;
  static constexpr int wide = Device::template lanes<float>;
  static constexpr int few = 8, many = Device::registers >= 32 ? 16 : few;  // channels that are made at a time
  static constexpr int group = 4;                                           // of them are visited together

  const int64_t channels, kept, room;
  Scratch<Device, float> rows, outside;
  Scratch<Device, float> seen;      // [kPoints][channels][wide]
  Scratch<Device, float> products;  // [kPoints][many][wide]

  TiledCells(int64_t of_channels, int64_t rows_kept, int64_t cells, const Parallel& threads)
      : channels(of_channels),
        kept(rows_kept),
        room((tiles(cells) + wide - 1) / wide * wide + wide),
        rows(threads, rows_kept * of_channels * kTileCells * room),
        outside(threads, of_channels * kTileCells * room),
        seen(threads, kPoints * of_channels * wide),
        products(threads, kPoints * many * wide) {
    Clear<Device, float>::run(rows.data, kept * channels * kTileCells * room);
    Clear<Device, float>::run(outside.data, channels * kTileCells * room);
  }

  static int64_t tiles(int64_t cells) { return (cells + kTileCells - 1) / kTileCells; }

  // The first cells of the tiles of channel c of row r; the next ones lie `room` further on, behind zeros.
  float* row(int64_t r, int64_t c) const { return rows.data + (r % kept * channels + c) * kTileCells * room; }
  // What was written past the last of so many cells is none of the frame, as far as tiles reach.
  void end_row(int64_t r, int64_t cells) const {
    for (int64_t c = 0; c < channels; ++c)
      for (int64_t x = cells; x <= kTileCells * tiles(cells); ++x) row(r, c)[x % kTileCells * room + x / kTileCells] = 0;
  }

  // visit(first channel, first tile, made[channel of `group`][row][cell]) a vector of tiles after the other, for all
  // that a layer [kPoints, channels, made] makes of row r of tiles of a frame of `tall` rows of so many cells; made: a
  // multiple of `few`.
  template <class Visit>
  void convolve(int64_t r, int64_t tall, int64_t cells, const float* weight, const float* bias, int64_t made,
                const Visit& visit) const {
    const float* from[6];
    for (int64_t i = 0; i < 6; ++i) {
      const int64_t at = kTileCells * r - 1 + i;
      from[i] = at >= 0 && at < tall ? row(at, 0) : outside.data;
    }
    for (int64_t x = 0; x < tiles(cells); x += wide) {
      for (int64_t c = 0; c < channels; ++c) look(from, x + c * kTileCells * room, seen.data + c * wide);
      for (int64_t at = 0; at < made;)
        at += made - at < many ? make<few>(at, x, weight, bias, made, visit) : make<many>(at, x, weight, bias, made, visit);
    }
  }

 private:
  DAVSR_FN void look(const float* const* from, int64_t x, float* to) const {
    F cell[6][6], point[6][6];
#pragma GCC unroll 6
    for (int i = 0; i < 6; ++i) {
      const float* first = from[i] + x;
      cell[i][0] = Device::template pack<float, wide>(first + (kTileCells - 1) * room - 1);
#pragma GCC unroll 4
      for (int j = 0; j < kTileCells; ++j) cell[i][j + 1] = Device::template pack<float, wide>(first + j * room);
      cell[i][5] = Device::template pack<float, wide>(first + 1);
    }
    both_ways<F, 6, 6>(cell, point, to_points<F>);
    for (int64_t f = 0; f < kPoints; ++f) Device::template put<float, wide>(to + f * channels * wide, point[f / 6][f % 6]);
  }

  // Channels [at, at + block) -> block.
  template <int block, class Visit>
  int64_t make(int64_t at, int64_t x, const float* weight, const float* bias, int64_t made, const Visit& visit) const {
    for (int64_t f = 0; f < kPoints; ++f) {
      F sum[1][block] = {};
      add_channels<Device>(seen.data + f * channels * wide, wide, channels, weight + f * channels * made + at, made, sum);
#pragma GCC unroll 16
      for (int j = 0; j < block; ++j) Device::template put<float, wide>(products.data + (f * block + j) * wide, sum[0][j]);
    }
    for (int first = 0; first < block; first += group) {
      F cell[group][kTileCells][kTileCells];
      for (int j = 0; j < group; ++j) {
        F point[6][6];
        for (int64_t f = 0; f < kPoints; ++f)
          point[f / 6][f % 6] = Device::template pack<float, wide>(products.data + (f * block + first + j) * wide);
        both_ways<F, 6, 4>(point, cell[j], from_points<F>);
        for (int i = 0; i < kTileCells * kTileCells; ++i) cell[j][i / kTileCells][i % kTileCells] += bias[at + first + j];
      }
      visit(at + first, x, cell);
    }
    return block;
  }
};

}  // namespace davsr
