// How much more or less a neighbour counts than its mismatch would let it: two 3x3 convolutions and a sum over the
// cells of a frame, on a CPU, row by row behind the pass that finds the mismatch.
#pragma once

#include "cpu_cell_rows.h"
#include "cpu_motion_cells.h"
#include "cpu_sorted.h"
#include "cpu_winograd.h"

namespace davsr {

constexpr int64_t kTrustReach = 2;  // cells to each side that a weight depends on

constexpr float kLeastMismatch = 1e-8f;   // the root's slope stays finite, for who learns the network
constexpr float kLeastDeviation = 1e-6f;  // a quarter of an 8-bit level, squared

template <class Device, class Real, bool learned>
struct TrustRows {  // of an average without a network
  static constexpr int64_t reach = 0;
  TrustRows(const TrustLayers*, int64_t, int64_t, const Parallel&) {}
};

template <class Device>
struct TrustRows<Device, float, true> {
  using F = typename Device::template Lanes<float>;
  using Rows = RowsOfCells<Device>;
  static constexpr int64_t reach = kTrustReach;
  static constexpr int wide = Device::template lanes<float>;
  static constexpr int vectors = Device::registers >= 32 ? 2 : 1;  // of cells at a time
  static constexpr int block = 8;                                  // channels that are made at a time
  static constexpr int points = 6;                                 // of a row of four cells
  static constexpr int64_t step = vectors * wide;

  const TrustLayers& layers;
  const int64_t room, tiles_room;    // of a row of cells, of every fourth cell
  Rows root;                         // of the mismatch, an image of each step
  Rows shared;                       // what is the same at every step: texture, motion, and that there is a cell
  Rows hidden;                       // [hidden][points], an image of each step
  Scratch<Device, float> second;     // [3][points][hidden][hidden], the second layer at these points along rows
  Scratch<Device, float> made;       // [steps][hidden][room], a row of the first layer
  Scratch<Device, float> dealt;      // [4][tiles_room], its every fourth cell
  Scratch<Device, float> products;   // [points][block][wide]
  Scratch<Device, float> untrusted;  // [steps][3][room], logarithms of the weights without trust

  TrustRows(const TrustLayers* of, int64_t steps, int64_t widest, const Parallel& threads)
      : layers(*of),
        room(wide + (widest + kTileCells * wide) / (kTileCells * wide) * kTileCells * wide + wide),
        tiles_room(2 * wide + (widest / kTileCells + wide) / wide * wide),
        root(steps, 1, room, threads),
        shared(1, kTrustSees - 1, room, threads),
        hidden(steps, of->hidden * points, tiles_room, threads),
        second(threads, 3 * points * of->hidden * of->hidden),
        made(threads, steps * of->hidden * room),
        dealt(threads, kTileCells * tiles_room),
        products(threads, points * block * wide),
        untrusted(threads, steps * 3 * room) {
    Clear<Device, float>::run(made.data, steps * layers.hidden * room);
    Clear<Device, float>::run(dealt.data, kTileCells * tiles_room);
    Clear<Device, float>::run(untrusted.data, steps * 3 * room);
    const int64_t pairs = layers.hidden * layers.hidden;
    for (int64_t ky = 0; ky < 3; ++ky)
      for (int64_t i = 0; i < pairs; ++i) {
        float tap[3], point[points];
        for (int64_t kx = 0; kx < 3; ++kx) tap[kx] = layers.second[(ky * 3 + kx) * pairs + i];
        weights_to_points(tap, point);
        for (int64_t f = 0; f < points; ++f) second.data[(ky * points + f) * pairs + i] = point[f];
      }
  }

  float* untrusted_of(int k, int64_t r) const { return untrusted.data + (k * 3 + r % 3) * room; }

  // Hidden row r of every step that is present, of a frame of `tall` rows of so many cells. What all of them share is
  // summed once: what the network sees of the motion, and of the distance, grows with the distance.
  void hide(int present, const int* numbers, const int* steps, int64_t r, int64_t cells, int64_t tall) {
    const float *about[3], *of_step[3];
    shared.around(0, r, tall, about);
    for (int64_t x = 0; x < cells; x += step)
      for (int64_t at = 0; at < layers.hidden; at += block) {
        F same[vectors][block], far[vectors][block];
        const auto add = [&](const float* const* rows, int64_t channel, int64_t channels, auto& sum) {
          const float* weight = layers.first + channel * layers.hidden + at;
          add_cells<Device>(rows, room, channels, x, weight, kTrustSees, layers.hidden, sum);
        };
        const float* moves[3] = {about[0] + room, about[1] + room, about[2] + room};
        begin_sums<Device>(layers.first_bias + at, same);
        add(about, 1, 1, same);
        begin_sums<Device>(nullptr, far);
        add(moves, 2, 2, far);
        for (int each = 0; each < present; ++each) {
          const int k = numbers[each];
          const float distance = static_cast<float>(steps[k] < 0 ? -steps[k] : steps[k]);
          F sum[vectors][block];
          for (int v = 0; v < vectors; ++v)
            for (int j = 0; j < block; ++j) sum[v][j] = same[v][j] + far[v][j] * distance;
          root.around(k, r, tall, of_step);
          add(of_step, 0, 1, sum);
          for (int v = 0; v < vectors; ++v)
            for (int j = 0; j < block; ++j)
              Device::template put<float, wide>(made.data + (k * layers.hidden + at + j) * room + x + v * wide,
                                                rectified(sum[v][j]));
        }
      }
    for (int each = 0; each < present; ++each)
      for (int64_t j = 0; j < layers.hidden; ++j) look(numbers[each], j, r, cells);
  }

  // Row r of hidden channel j at the points.
  void look(int k, int64_t j, int64_t r, int64_t cells) {
    float *row = made.data + (k * layers.hidden + j) * room, *first = dealt.data + wide;
    const int64_t tiles = (cells + kTileCells - 1) / kTileCells;
    for (int64_t x = cells; x < kTileCells * tiles + 1; ++x) row[x] = 0;
    for (int64_t x = 0; x < tiles; x += wide) {
      F cell[kTileCells];
#pragma GCC unroll 4
      for (int i = 0; i < kTileCells; ++i) cell[i] = Device::template pack<float, wide>(row + x * kTileCells + i * wide);
      Sorted<Device>::template deal<kTileCells>(cell);
#pragma GCC unroll 4
      for (int i = 0; i < kTileCells; ++i) Device::template put<float, wide>(first + i * tiles_room + x, cell[i]);
    }
    first[tiles] = 0;
    float* to = hidden.row(k, r) + j * points * tiles_room;
    for (int64_t x = 0; x < tiles; x += wide) {
      F cell[points], point[points];
      cell[0] = Device::template pack<float, wide>(first + (kTileCells - 1) * tiles_room + x - 1);
#pragma GCC unroll 4
      for (int i = 0; i < kTileCells; ++i) cell[i + 1] = Device::template pack<float, wide>(first + i * tiles_room + x);
      cell[points - 1] = Device::template pack<float, wide>(first + x + 1);
      to_points(cell, point);
#pragma GCC unroll 6
      for (int f = 0; f < points; ++f) Device::template put<float, wide>(to + f * tiles_room + x, point[f]);
    }
  }

  // The logarithms of the weights of row r of step k; they take the place of those without trust.
  const float* trusted(int k, int64_t r, int64_t cells, int64_t tall) {
    float* to = untrusted_of(k, r);
    const float* rows[3];
    hidden.around(k, r, tall, rows);
    const F low = Device::template splat<float>(layers.low), high = Device::template splat<float>(layers.high);
    for (int64_t x = 0; x * kTileCells < cells; x += wide) {
      F factor[kTileCells];
      for (F& sum : factor) sum = Device::template splat<float>(layers.last_bias);
      for (int64_t at = 0; at < layers.hidden; at += block) {
        multiply(rows, x, at);
        for (int j = 0; j < block; ++j) {
          F point[points], cell[kTileCells];
          for (int f = 0; f < points; ++f) point[f] = Device::template pack<float, wide>(products.data + (f * block + j) * wide);
          from_points(point, cell);
          for (int i = 0; i < kTileCells; ++i) factor[i] += rectified(cell[i] + layers.second_bias[at + j]) * layers.last[at + j];
        }
      }
      Sorted<Device>::template collect<kTileCells>(factor);
      for (int i = 0; i < kTileCells; ++i) {
        F bounded = factor[i] < low ? low : factor[i];
        bounded = bounded > high ? high : bounded;
        float* there = to + x * kTileCells + i * wide;
        Device::template put<float, wide>(there, Device::template pack<float, wide>(there) + bounded);
      }
    }
    return to;
  }

  // Products of the second layer at every point: channels [at, at + block) of a vector of tiles.
  DAVSR_FN void multiply(const float* const* rows, int64_t x, int64_t at) const {
    for (int64_t f = 0; f < points; ++f) {
      F sum[1][block] = {};
      for (int64_t ky = 0; ky < 3; ++ky)
        add_channels<Device>(rows[ky] + f * tiles_room + x, points * tiles_room, layers.hidden,
                             second.data + (ky * points + f) * layers.hidden * layers.hidden + at, layers.hidden, sum);
#pragma GCC unroll 8
      for (int j = 0; j < block; ++j) Device::template put<float, wide>(products.data + (f * block + j) * wide, sum[0][j]);
    }
  }
};

}  // namespace davsr
