// The step down the total variation and, added to it, what a network of two 3x3 convolutions over cells of 4x4 pixels
// finds, on a CPU: row of cells by row of cells, so that nothing on the way leaves the cache.
#pragma once

#include "cpu_cell_rows.h"
#include "cpu_flatten.h"
#include "cpu_motion_sample.h"

namespace davsr {

constexpr int kCell = 4;

// Four vectors of numbers that follow each other <-> vectors of every fourth of them.
template <class Device>
struct Fours {
  using F = typename Device::template Lanes<float>;
  using I = typename Device::template Index<float>;
  static constexpr int wide = Device::template lanes<float>;

  static DAVSR_FN void split(F* v) {
    I even, odd;
#pragma GCC unroll 16
    for (int l = 0; l < wide; ++l) {
      even[l] = 2 * l;
      odd[l] = 2 * l + 1;
    }
    const F a = shuffle(v[0], v[1], even), b = shuffle(v[0], v[1], odd), c = shuffle(v[2], v[3], even),
            d = shuffle(v[2], v[3], odd);
    v[0] = shuffle(a, c, even);
    v[1] = shuffle(b, d, even);
    v[2] = shuffle(a, c, odd);
    v[3] = shuffle(b, d, odd);
  }
  static DAVSR_FN void join(F* v) {
    I low, high;
#pragma GCC unroll 16
    for (int l = 0; l < wide; ++l) {
      low[l] = l / 2 + l % 2 * wide;
      high[l] = wide / 2 + l / 2 + l % 2 * wide;
    }
    const F a = shuffle(v[0], v[2], low), b = shuffle(v[0], v[2], high), c = shuffle(v[1], v[3], low),
            d = shuffle(v[1], v[3], high);
    v[0] = shuffle(a, c, low);
    v[1] = shuffle(a, c, high);
    v[2] = shuffle(b, d, low);
    v[3] = shuffle(b, d, high);
  }
};

template <class Device>
struct DetailRows {
  using F = typename Device::template Lanes<float>;
  using Rows = RowsOfCells<Device>;
  static constexpr int wide = Device::template lanes<float>;

  const FlattenWithDetail& op;
  const MotionShape& shape;
  Rows cells, hidden;
  Scratch<Device, float> line;  // a row of pixels, whose end is repeated

  DetailRows(const FlattenWithDetail& of, const Parallel& threads)
      : op(of),
        shape(of.shape),
        cells(1, kCell * kCell * of.shape.channels + 1, of.shape.cells_w, threads),
        hidden(1, of.hidden, of.shape.cells_w, threads),
        line(threads, kCell * (of.shape.cells_w + wide)) {
    Clear<Device, float>::run(line.data, kCell * (shape.cells_w + wide));
  }

  // Row r of frame n: every channel's pixels, then the mean of the support less `level`. A cell that reaches over the
  // frame's end repeats its last pixels; only those inside count for the mean.
  void see(int64_t b, int64_t n, int64_t r) {
    const int64_t top = r * kCell, tall = shape.height - top < kCell ? shape.height - top : kCell;
    float* to = cells.row(0, r);
    for (int64_t c = 0; c < shape.channels; ++c) {
      const float* from = op.mean + shape.at(b, n) + c * shape.plane() + top * shape.width;
      for (int64_t y = 0; y < kCell; ++y, to += kCell * cells.room) {
        __builtin_memcpy(line.data, from + (y < tall ? y : tall - 1) * shape.width,
                         static_cast<size_t>(shape.width) * sizeof(float));
        for (int64_t x = shape.width; x < kCell * shape.cells_w; ++x) line.data[x] = line.data[shape.width - 1];
        for (int64_t cell = 0; cell < shape.cells_w; cell += wide) {
          F pixels[kCell];
          for (int i = 0; i < kCell; ++i) pixels[i] = Device::template pack<float, wide>(line.data + kCell * cell + i * wide);
          Fours<Device>::split(pixels);
          for (int i = 0; i < kCell; ++i) Device::template put<float, wide>(to + i * cells.room + cell, pixels[i]);
        }
      }
    }
    const float* support = op.support + (b * shape.frames + n) * shape.pixels() + top * shape.width;
    for (int64_t cell = 0; cell < shape.cells_w; ++cell) {
      const int64_t left = cell * kCell, across = shape.width - left < kCell ? shape.width - left : kCell;
      float sum = 0;
      for (int64_t y = 0; y < tall; ++y)
        for (int64_t x = 0; x < across; ++x) sum += support[y * shape.width + left + x];
      to[cell] = sum / static_cast<float>(tall * across) - op.level;
    }
    cells.end_row(0, r, shape.cells_w);
  }

  void hide(int64_t r) {
    float* to = hidden.row(0, r);
    cells.convolve(0, r, shape.cells_h, shape.cells_w, op.first, op.first_bias, op.hidden,
                   [&](int64_t at, int64_t x, const auto& sum) {
                     for (int v = 0; v < Rows::vectors; ++v)
                       for (int j = 0; j < Rows::block; ++j)
                         Device::template put<float, wide>(to + (at + j) * hidden.room + x + v * wide, rectified(sum[v][j]));
                   });
    hidden.end_row(0, r, shape.cells_w);
  }

  // Eight numbers of a cell are two of its rows.
  void add(int64_t b, int64_t n, int64_t r) {
    const int64_t top = r * kCell, tall = shape.height - top < kCell ? shape.height - top : kCell;
    const auto add_rows = [&](int64_t at, int64_t cell, const auto& sum) {
      const int64_t c = at / (kCell * kCell), first = at % (kCell * kCell) / kCell;
      float* image = op.out + shape.at(b, n) + c * shape.plane() + top * shape.width;
      for (int64_t y = first; y < first + 2 && y < tall; ++y)
        for (int v = 0; v < Rows::vectors; ++v) {
          F pixels[kCell];
          for (int i = 0; i < kCell; ++i) pixels[i] = sum[v][(y - first) * kCell + i];
          Fours<Device>::join(pixels);
          for (int i = 0; i < kCell; ++i) {
            const int64_t x = kCell * (cell + v * wide) + i * wide, left = shape.width - x;
            if (left <= 0) break;
            const int some = static_cast<int>(left < wide ? left : wide);
            float* to = image + y * shape.width + x;
            store_some<Device, float>(to, load_some<Device, float>(to, some) + pixels[i], some);
          }
        }
    };
    hidden.convolve(0, r, shape.cells_h, shape.cells_w, op.last, op.last_bias, kCell * kCell * shape.channels, add_rows);
  }
};

template <class Device, int few>
static void flatten_with_detail_rows(const FlattenWithDetail& op, const Parallel& threads) {
  const MotionShape& shape = op.shape;
  const int64_t rows = shape.cells_h;
  parallel<Device>(threads, shape.batch * shape.frames * rows, [&](int64_t begin, int64_t end) {
    DetailRows<Device> network(op, threads);
    FlattenedRows<Device, float, false, few> flattened(shape.channels, shape.width, *op.step, op.flat, threads);
    while (begin < end) {
      const int64_t image = begin / rows, b = image / shape.frames, n = image % shape.frames, first = begin % rows;
      const int64_t stop = rows - first < end - begin ? rows : first + end - begin, frame = shape.at(b, n);
      int64_t seen = first > 2 ? first - 2 : 0, hidden = first > 1 ? first - 1 : 0;
      for (int64_t r = first; r < stop; ++r) {
        for (; hidden < rows && hidden <= r + 1; ++hidden) {
          for (; seen < rows && seen <= hidden + 1; ++seen) network.see(b, n, seen);
          network.hide(hidden);
        }
        for (int64_t y = kCell * r; y < kCell * (r + 1) && y < shape.height; ++y) {
          const int64_t at = frame + y * shape.width;
          flattened.run(op.mean + at, nullptr, shape.plane(), op.out + at, shape.plane(), y > 0, y + 1 < shape.height,
                        y > kCell * first);
        }
        network.add(b, n, r);
      }
      begin += stop - first;
    }
  });
}

template <class Device>
static void flatten_with_detail(const FlattenWithDetail& op, const Parallel& threads) {
  op.shape.channels == 3 ? flatten_with_detail_rows<Device, 3>(op, threads) : flatten_with_detail_rows<Device, 0>(op, threads);
}

}  // namespace davsr
