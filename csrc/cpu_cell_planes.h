// Whole images of cells, channel by channel, on a CPU, and 3x3 convolutions of small networks over them, a vector of
// neighbouring cells at a time, with the gradient of such a layer's weights.
#pragma once

#include "cpu_cell_rows.h"

namespace davsr {

// Planes of `tall` rows of cells with zeros around.
template <class Device>
struct CellPlanes {
  using F = typename Device::template Lanes<float>;
  static constexpr int wide = Device::template lanes<float>;
  static constexpr int vectors = Device::registers >= 32 ? 2 : 1;  // of cells at a time
  static constexpr int64_t step = vectors * wide;

  const int64_t channels, tall, cells, room, plane;
  Scratch<Device, float> data;

  CellPlanes(int64_t of_channels, int64_t of_tall, int64_t of_cells, const Parallel& threads)
      : channels(of_channels),
        tall(of_tall),
        cells(of_cells),
        room(wide + (of_cells + step) / step * step + wide),
        plane((of_tall + 2) * room),
        data(threads, of_channels * plane) {
    Clear<Device, float>::run(data.data, channels * plane);
  }

  float* row(int64_t c, int64_t r) const { return data.data + c * plane + (r + 1) * room + wide; }

  // What vectors wrote past the last cell is none of the image.
  void end_row(int64_t c, int64_t r) const {
    Clear<Device, float>::run(row(c, r) + cells, (cells + step - 1) / step * step - cells);
  }

  // visit(first channel, first cell, sums of `block` channels at `vectors` vectors of cells) for all that a layer [3,
  // 3, channels, made] makes of row r; bias: or null; made: a multiple of `block`.
  template <int block, class Visit>
  void convolve(int64_t r, const float* weight, const float* bias, int64_t made, const Visit& visit) const {
    const float* rows[3] = {row(0, r - 1), row(0, r), row(0, r + 1)};
    for (int64_t x = 0; x < cells; x += step)
      for (int64_t at = 0; at < made; at += block) {
        F sum[vectors][block];
        begin_sums<Device>(bias ? bias + at : nullptr, sum);
        add_cells<Device>(rows, plane, channels, x, weight + at, channels, made, sum);
        visit(at, x, sum);
      }
  }
};

// The gradient of a layer's weights [3, 3, in, made], as sums of vectors of cells which are added up at the end.
template <class Device>
struct WeightSums {
  using F = typename Device::template Lanes<float>;
  using Planes = CellPlanes<Device>;
  static constexpr int wide = Device::template lanes<float>;
  static constexpr int few = Device::registers >= 32 ? 4 : 2;  // channels that come in at a time
  static constexpr int many = 4;                               // that are made
  static constexpr int64_t together = 4;                       // rows, which stay in the first-level cache

  const int64_t in, made;
  Scratch<Device, float> data;  // [3, 3, in, made, wide], then of the bias [made, wide]

  WeightSums(int64_t in_channels, int64_t made_channels, const Parallel& threads)
      : in(in_channels), made(made_channels), data(threads, (9 * in_channels + 1) * made_channels * wide) {}

  int64_t numbers() const { return (9 * in + 1) * made; }
  void clear() { Clear<Device, float>::run(data.data, numbers() * wide); }

  // in: a multiple of `few`; made: of `many`.
  void add(const Planes& from, const Planes& d) {
    for (int64_t first = 0; first < d.tall; first += together) {
      const int64_t stop = first + together < d.tall ? first + together : d.tall;
      for (int64_t tap = 0; tap < 9; ++tap)
        for (int64_t c = 0; c < in; c += few)
          for (int64_t j = 0; j < made; j += many) add_rows(from, d, first, stop, tap, c, j);
      float* bias = data.data + 9 * in * made * wide;
      for (int64_t j = 0; j < made; ++j, bias += wide) {
        F sum = Device::template pack<float, wide>(bias);
        for (int64_t r = first; r < stop; ++r)
          for (int64_t x = 0; x < d.cells; x += wide) sum += Device::template pack<float, wide>(d.row(j, r) + x);
        Device::template put<float, wide>(bias, sum);
      }
    }
  }

  // Weights, then biases.
  void write(float* to) const {
    for (int64_t i = 0; i < numbers(); ++i)
      to[i] = Device::template sum<float, wide>(Device::template pack<float, wide>(data.data + i * wide));
  }

 private:
  DAVSR_FN void add_rows(const Planes& from, const Planes& d, int64_t first, int64_t stop, int64_t tap, int64_t c, int64_t j) {
    float* to = data.data + ((tap * in + c) * made + j) * wide;
    F sum[few][many];
#pragma GCC unroll 4
    for (int i = 0; i < few; ++i)
#pragma GCC unroll 4
      for (int l = 0; l < many; ++l) sum[i][l] = Device::template pack<float, wide>(to + (i * made + l) * wide);
    for (int64_t r = first; r < stop; ++r) {
      const float *value = from.row(c, r + tap / 3 - 1) + tap % 3 - 1, *slope = d.row(j, r);
      for (int64_t x = 0; x < d.cells; x += wide) {
        F slopes[many];
#pragma GCC unroll 4
        for (int l = 0; l < many; ++l) slopes[l] = Device::template pack<float, wide>(slope + l * d.plane + x);
#pragma GCC unroll 4
        for (int i = 0; i < few; ++i) {
          const F seen = Device::template pack<float, wide>(value + i * from.plane + x);
#pragma GCC unroll 4
          for (int l = 0; l < many; ++l) sum[i][l] += seen * slopes[l];
        }
      }
    }
#pragma GCC unroll 4
    for (int i = 0; i < few; ++i)
#pragma GCC unroll 4
      for (int l = 0; l < many; ++l) Device::template put<float, wide>(to + (i * made + l) * wide, sum[i][l]);
  }
};

}  // namespace davsr
