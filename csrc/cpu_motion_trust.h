// How much more or less a neighbour counts than its mismatch would let it: two 3x3 convolutions and a sum over the
// cells of a frame, on a CPU, row by row behind the pass that finds the mismatch.
#pragma once

#include "cpu_cell_rows.h"
#include "cpu_motion_cells.h"

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

  const TrustLayers& layers;
  Rows seen, hidden;  // an image of each step
  const int64_t room;
  Scratch<Device, float> untrusted;  // [steps][3][room], logarithms of the weights without trust
  Scratch<Device, float> shared;     // [2][room], what is the same at every step

  TrustRows(const TrustLayers* of, int64_t steps, int64_t widest, const Parallel& threads)
      : layers(*of),
        seen(steps, kTrustSees, widest, threads),
        hidden(steps, of->hidden, widest, threads),
        room(seen.room),
        untrusted(threads, steps * 3 * room),
        shared(threads, 2 * room) {
    Clear<Device, float>::run(untrusted.data, steps * 3 * room);
  }

  float* shared_of(int64_t which) const { return shared.data + which * room; }
  float* untrusted_of(int k, int64_t r) const { return untrusted.data + (k * 3 + r % 3) * room; }

  // Hidden row r of step k, of a frame of `tall` rows of so many cells.
  void hide(int k, int64_t r, int64_t cells, int64_t tall) {
    float* to = hidden.row(k, r);
    const auto put = [&](int64_t at, int64_t x, const auto& sum) {
      for (int v = 0; v < Rows::vectors; ++v)
        for (int j = 0; j < Rows::block; ++j)
          Device::template put<float, wide>(to + (at + j) * room + x + v * wide, rectified(sum[v][j]));
    };
    seen.convolve(k, r, tall, cells, layers.first, layers.first_bias, layers.hidden, put);
    hidden.end_row(k, r, cells);
  }

  // The logarithms of the weights of row r of step k; they take the place of those without trust.
  const float* trusted(int k, int64_t r, int64_t cells, int64_t tall) {
    float* to = untrusted_of(k, r);
    F factor[Rows::vectors] = {};
    const auto add = [&](int64_t at, int64_t x, const auto& sum) {
      for (int v = 0; v < Rows::vectors; ++v) {
        if (at == 0) factor[v] = Device::template splat<float>(layers.last_bias);
        for (int j = 0; j < Rows::block; ++j) factor[v] += rectified(sum[v][j]) * layers.last[at + j];
        if (at + Rows::block < layers.hidden) continue;
        const F low = Device::template splat<float>(layers.low), high = Device::template splat<float>(layers.high);
        F bounded = factor[v] < low ? low : factor[v];
        bounded = bounded > high ? high : bounded;
        float* there = to + x + v * wide;
        Device::template put<float, wide>(there, Device::template pack<float, wide>(there) + bounded);
      }
    };
    hidden.convolve(k, r, tall, cells, layers.second, layers.second_bias, layers.hidden, add);
    return to;
  }
};

}  // namespace davsr
