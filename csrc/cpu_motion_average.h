// The loops around motion_average.h on a CPU: vectors of pixels, row by row. Threads share rows of cells or of pixels,
// so that the rows that neighbours are sampled from stay in the second-level cache.
#pragma once

#include "cpu_motion_sample.h"

namespace davsr {

// The pixels of one row of frame p, a vector at a time, with the motion that they sample along.
template <class Device, class Real>
struct MotionRow {
  using F = typename Device::template Lanes<Real>;
  static constexpr int wide = Device::template lanes<Real>;
  const MotionShape& shape;
  const Real *motion_x, *motion_y;
  int64_t y;

  DAVSR_FN MotionRow(const MotionShape& of, const void* motion, int64_t b, int64_t p, int64_t row)
      : shape(of),
        motion_x(static_cast<const Real*>(motion) + of.motion_at(b, p) + row * of.width),
        motion_y(motion_x + of.pixels()),
        y(row) {}

  // visit(x, count, place) for the places that a step leads to. One step goes along the whole row: the rows of two or
  // more neighbours, whose sizes are often powers of two, would push each other out of the first-level cache.
  template <class Visit>
  DAVSR_FN void blocks(int step, const Visit& visit) const {
    const F at_y = Device::template splat<Real>(static_cast<Real>(y));
    for (int64_t x = 0; x < shape.width; x += wide) {
      const int count = static_cast<int>(shape.width - x < wide ? shape.width - x : wide);
      const F there_x = load_some<Device, Real>(motion_x + x, count), there_y = load_some<Device, Real>(motion_y + x, count);
      const F at_x = Device::template ramp<Real>(static_cast<Real>(x));
      visit(x, count, place<Device, Real>(shape, at_y, at_x, there_y, there_x, step));
    }
  }
};

// Rows of cells spread over the columns of pixels, the two that a row of pixels lies between.
template <class Device, class Real>
struct CellRows {
  static constexpr int64_t pad = 16;  // what a last vector reads past the row
  const MotionShape& shape;
  const Real* cells;  // [b, steps, frames, cells_h, cells_w]
  int64_t row;        // of the buffer
  Scratch<Device, Real> buffer, beyond;
  Scratch<Device, int32_t> column;
  int64_t kept[2] = {-1, -1};  // number of the frame's row of cells in each half of the buffer

  CellRows(const MotionShape& of, const void* weight, const Parallel& threads)
      : shape(of),
        cells(static_cast<const Real*>(weight)),
        row(of.width + pad),
        buffer(threads, 2 * of.steps * row),
        beyond(threads, of.width),
        column(threads, 2 * of.width) {
    Clear<Device, Real>::run(buffer.data, 2 * of.steps * row);
    for (int64_t x = 0; x < of.width; ++x) {
      const Between<Real> at = between<Real>(x, of.width, of.cells_w);
      column.data[2 * x] = static_cast<int32_t>(at.first);
      column.data[2 * x + 1] = static_cast<int32_t>(at.second);
      beyond.data[x] = at.beyond;
    }
  }
  const Real* spread(int64_t b, int64_t p, int64_t cell_row) {
    const int half = cell_row & 1;
    Real* to = buffer.data + half * shape.steps * row;
    const int64_t number = (b * shape.frames + p) * shape.cells_h + cell_row;
    if (kept[half] != number) {
      kept[half] = number;
      for (int k = 0; k < shape.steps; ++k) {
        const Real* from = cells + shape.cell_at(b, k, p) + cell_row * shape.cells_w;
        for (int64_t x = 0; x < shape.width; ++x) {
          const Real first = from[column.data[2 * x]];
          to[k * row + x] = first + beyond.data[x] * (from[column.data[2 * x + 1]] - first);
        }
      }
    }
    return to;
  }
  // The adjoint of what a row of pixels is: [steps][cells_h][width] summed to the cells of frame p.
  void gather(const Real* rows, int64_t b, int64_t p, Real* d_cells) const {
    for (int k = 0; k < shape.steps; ++k)
      for (int64_t r = 0; r < shape.cells_h; ++r) {
        Real* to = d_cells + shape.cell_at(b, k, p) + r * shape.cells_w;
        const Real* from = rows + (k * shape.cells_h + r) * shape.width;
        for (int64_t c = 0; c < shape.cells_w; ++c) to[c] = 0;
        for (int64_t x = 0; x < shape.width; ++x) {
          to[column.data[2 * x]] += (1 - beyond.data[x]) * from[x];
          to[column.data[2 * x + 1]] += beyond.data[x] * from[x];
        }
      }
  }
};

// The weights of row y of frame p.
template <class Device, class Real>
struct WeightRow {
  using F = typename Device::template Lanes<Real>;
  const Real *first, *second;
  int64_t row;
  F beyond;

  DAVSR_FN WeightRow(CellRows<Device, Real>& cells, int64_t b, int64_t p, int64_t y) : row(cells.row) {
    const Between<Real> at = between<Real>(y, cells.shape.height, cells.shape.cells_h);
    first = cells.spread(b, p, at.first);
    second = cells.spread(b, p, at.second);
    beyond = Device::template splat<Real>(at.beyond);
  }
  DAVSR_FN F at(int k, int64_t x) const {
    constexpr int wide = Device::template lanes<Real>;
    const F low = Device::template pack<Real, wide>(first + k * row + x);
    return low + beyond * (Device::template pack<Real, wide>(second + k * row + x) - low);
  }
};

template <class Device, class Real>
static void motion_mismatch(const MotionMismatch& op, const Parallel& threads) {
  using F = typename Device::template Lanes<Real>;
  const MotionShape& shape = op.shape;
  const auto* a = static_cast<const Real*>(op.a);
  const Real share = Real(1) / static_cast<Real>(shape.channels * shape.cell_h * shape.cell_w);
  parallel<Device>(threads, shape.batch * shape.frames * shape.cells_h, [&](int64_t begin, int64_t end) {
    constexpr int wide = Device::template lanes<Real>;
    Scratch<Device, Real> squares(threads, shape.steps * shape.width);
    SampledRow<Device, Real> row(shape, 0, shape.width, threads);
    for (int64_t unit = begin; unit < end; ++unit) {
      const int64_t r = unit % shape.cells_h, p = unit / shape.cells_h % shape.frames, b = unit / shape.cells_h / shape.frames;
      Clear<Device, Real>::run(squares.data, shape.steps * shape.width);
      for (int k = 0; k < shape.steps; ++k) {
        if (!shape.has(p + shape.step[k])) continue;
        Real* sums = squares.data + k * shape.width;
        const Real* image = a + shape.at(b, p + shape.step[k]);
        for (int64_t y = r * shape.cell_h; y < (r + 1) * shape.cell_h; ++y) {
          row.locate(op.motion, b, p, y, shape.step[k]);
          const Real* own = a + shape.at(b, p) + y * shape.width;
          for (int64_t x = 0; x < shape.width; x += wide) {
            const int count = row.lanes(x);
            F square = load_some<Device, Real>(sums + x, count);
            colours(shape, [&](auto n, int64_t c) {
              F value[n.value];
              row.template read<n.value>(image + c * shape.plane(), x, value);
#pragma GCC unroll 3
              for (int i = 0; i < n.value; ++i) {
                const F difference = value[i] - load_some<Device, Real>(own + (c + i) * shape.plane() + x, count);
                square += difference * difference;
              }
            });
            store_some<Device, Real>(sums + x, square, count);
          }
        }
      }
      for (int k = 0; k < shape.steps; ++k) {
        Real* to = static_cast<Real*>(op.error) + shape.cell_at(b, k, p) + r * shape.cells_w;
        const Real* from = squares.data + k * shape.width;
        for (int64_t c = 0; c < shape.cells_w; ++c, from += shape.cell_w) {
          Real sum = 0;
          for (int64_t i = 0; i < shape.cell_w; ++i) sum += from[i];
          to[c] = sum * share;
        }
      }
    }
  });
}

template <class Device, class Real>
static void motion_blend(const MotionBlend& op, const Parallel& threads) {
  using F = typename Device::template Lanes<Real>;
  constexpr int wide = Device::template lanes<Real>;
  const MotionShape& shape = op.shape;
  const int64_t room = shape.width + CellRows<Device, Real>::pad;
  const auto* a = static_cast<const Real*>(op.a);
  parallel<Device>(threads, shape.batch * shape.frames * shape.height, [&](int64_t begin, int64_t end) {
    CellRows<Device, Real> cells(shape, op.weight, threads);
    Scratch<Device, Real> sums(threads, (shape.channels + 1) * room);  // of the weights, then of every colour
    SampledRow<Device, Real> row(shape, 0, shape.width, threads);
    for (int64_t unit = begin; unit < end; ++unit) {
      const int64_t y = unit % shape.height, p = unit / shape.height % shape.frames, b = unit / shape.height / shape.frames;
      const int64_t first = shape.at(b, p) + y * shape.width;
      const WeightRow<Device, Real> weights(cells, b, p, y);
      for (int64_t x = 0; x < room; ++x) sums.data[x] = 1;
      for (int64_t c = 0; c < shape.channels; ++c)
        __builtin_memcpy(sums.data + (c + 1) * room, a + first + c * shape.plane(),
                         static_cast<size_t>(shape.width) * sizeof(Real));
      for (int k = 0; k < shape.steps; ++k) {
        if (!shape.has(p + shape.step[k])) continue;
        row.locate(op.motion, b, p, y, shape.step[k]);
        const Real* image = a + shape.at(b, p + shape.step[k]);
        for (int64_t x = 0; x < shape.width; x += wide) {
          const F w = weights.at(k, x);
          const auto add = [&](Real* to, F value) {
            Device::template put<Real, wide>(to, Device::template pack<Real, wide>(to) + value);
          };
          add(sums.data + x, w);
          colours(shape, [&](auto n, int64_t c) {
            F value[n.value];
            row.template read<n.value>(image + c * shape.plane(), x, value);
#pragma GCC unroll 3
            for (int i = 0; i < n.value; ++i) add(sums.data + (c + i + 1) * room + x, w * value[i]);
          });
        }
      }
      Real* support = static_cast<Real*>(op.support) + (b * shape.frames + p) * shape.pixels() + y * shape.width;
      __builtin_memcpy(support, sums.data, static_cast<size_t>(shape.width) * sizeof(Real));
      for (int64_t c = 0; c < shape.channels; ++c) {
        Real* to = static_cast<Real*>(op.mean) + first + c * shape.plane();
        const Real *total = sums.data + (c + 1) * room, *weight = sums.data;
        DAVSR_NO_ALIAS
        for (int64_t x = 0; x < shape.width; ++x) to[x] = total[x] / weight[x];
      }
    }
  });
}

}  // namespace davsr
