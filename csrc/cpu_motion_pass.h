// motion_average.h in one pass on a CPU: every neighbour is sampled once, into rows that stay in the cache until the
// weights of their cells are known.
#pragma once

#include "cpu_motion_average.h"
#include "cpu_motion_cells.h"

namespace davsr {

constexpr int64_t kStrip = 512;  // pixels of a row at a time: their samples stay in the second-level cache

// Columns of a frame that are averaged together: the pixels, the cells that they lie between, and those cells' pixels.
struct Strip {
  int64_t begin, end;              // pixels
  int64_t first_cell, cells;       // of a row
  int64_t first_sampled, sampled;  // pixels of a row

  template <class Real>
  static DAVSR_FN Strip of(const MotionShape& shape, int64_t number, int64_t strips) {
    Strip at;
    at.begin = shape.width * number / strips;
    at.end = shape.width * (number + 1) / strips;
    at.first_cell = between<Real>(at.begin, shape.width, shape.cells_w).first;
    at.cells = between<Real>(at.end - 1, shape.width, shape.cells_w).second + 1 - at.first_cell;
    const int64_t last = (at.first_cell + at.cells) * shape.cell_w;
    at.first_sampled = at.first_cell * shape.cell_w;
    at.sampled = (at.end > last ? at.end : last) - at.first_sampled;
    return at;
  }
};

// The average of one frame in one strip, row by row.
template <class Device, class Real, int few>  // few: how many channels there are, 0: any number
struct AveragePass {
  using F = typename Device::template Lanes<Real>;
  static constexpr int wide = Device::template lanes<Real>;

  const MotionAverage& op;
  const MotionShape& shape;
  const Strip strip;
  const int64_t channels, room, kept;  // kept: rows of samples from the one that is blended on
  int64_t b = 0, p = 0;
  int present = 0, step[MotionShape::kMost];    // numbers of the steps that lead to frames
  int64_t own_rows[2] = {}, own_cells[2] = {};  // [begin, end) of the cells whose weights nobody else writes
  SampledRow<Device, Real> row;
  CellColumns<Device, Real> columns;
  Scratch<Device, Real> samples;  // [kept][steps][channels][room]
  Scratch<Device, Real> squares;  // [steps][room], sums over the rows of a cell
  Scratch<Device, Real> raised;   // [3][steps][room], the weights of three rows of cells at every column

  static int64_t rows_kept(const MotionShape& shape) {
    int64_t most = 1;
    for (int64_t y = 0; y < shape.height; ++y) most = needed(shape, y) - y > most ? needed(shape, y) - y : most;
    return most;
  }
  // The rows that must have been sampled before row y is blended.
  static int64_t needed(const MotionShape& shape, int64_t y) {
    const int64_t rows = (between<Real>(y, shape.height, shape.cells_h).second + 1) * shape.cell_h;
    return rows > y + 1 ? rows : y + 1;
  }

  AveragePass(const MotionAverage& average, const Strip& of, const Parallel& threads)
      : op(average),
        shape(average.shape),
        strip(of),
        channels(few ? few : shape.channels),
        room(CellColumns<Device, Real>::room_for(of.sampled)),
        kept(rows_kept(shape)),
        row(average.shape, of.first_sampled, of.sampled, threads),
        columns(average.shape, of.begin, of.end, threads),
        samples(threads, kept * shape.steps * channels * room),
        squares(threads, shape.steps * room),
        raised(threads, 3 * shape.steps * room) {
    Clear<Device, Real>::run(samples.data, kept * shape.steps * channels * room);
    own_cells[0] = strip.begin ? between<Real>(strip.begin - 1, shape.width, shape.cells_w).second + 1 : 0;
    own_cells[1] = strip.first_cell + strip.cells;
  }

  void average_rows(int64_t sample, int64_t frame, int64_t begin, int64_t end) {
    b = sample;
    p = frame;
    present = 0;
    for (int k = 0; k < shape.steps; ++k)
      if (shape.has(p + shape.step[k])) step[present++] = k;
    own_rows[0] = begin ? between<Real>(begin - 1, shape.height, shape.cells_h).second + 1 : 0;
    own_rows[1] = between<Real>(end - 1, shape.height, shape.cells_h).second + 1;
    Clear<Device, Real>::run(squares.data, shape.steps * room);
    int64_t sampled = between<Real>(begin, shape.height, shape.cells_h).first * shape.cell_h;
    for (int64_t y = begin; y < end; ++y) {
      for (const int64_t stop = needed(shape, y); sampled < stop;) {
        const int64_t r = sampled / shape.cell_h, below = (r + 1) * shape.cell_h;
        sample_rows(sampled, below < stop ? below : stop);
        sampled = below < stop ? below : stop;
        if (sampled == below && r < shape.cells_h) weigh(r);
      }
      blend_row(y);
    }
  }

  Real* samples_of(int64_t y, int k) { return samples.data + (y % kept * shape.steps + k) * channels * room; }

  // One neighbour after the other: the rows that its samples come from stay in the first-level cache.
  void sample_rows(int64_t begin, int64_t end) {
    for (int k = 0; k < present; ++k)
      for (int64_t y = begin; y < end; ++y) sample_row(y, step[k]);
  }

  void sample_row(int64_t y, int k) {
    row.locate(op.motion, b, p, y, shape.step[k]);
    const auto* a = static_cast<const Real*>(op.a);
    const Real* own = a + shape.at(b, p) + y * shape.width + strip.first_sampled;
    const Real* image = a + shape.at(b, p + shape.step[k]);
    Real *to = samples_of(y, k), *sums = squares.data + k * room;
    for (int64_t i = 0; i < strip.sampled; i += wide) {
      F square = Device::template pack<Real, wide>(sums + i);
      colours(shape, [&](auto n, int64_t c) {
        F value[n.value];
        row.template read<n.value>(image + c * shape.plane(), i, value);
#pragma GCC unroll 3
        for (int j = 0; j < n.value; ++j) {
          Device::template put<Real, wide>(to + (c + j) * room + i, value[j]);
          const F difference = value[j] - load_some<Device, Real>(own + (c + j) * shape.plane() + i, row.lanes(i));
          square += difference * difference;
        }
      });
      Device::template put<Real, wide>(sums + i, square);
    }
  }

  // The sums of row r of cells are whole: their weights, at every column.
  void weigh(int64_t r) {
    const Real share =
        static_cast<Real>(-1 / (op.mismatch * op.mismatch * static_cast<double>(channels * shape.cell_h * shape.cell_w)));
    for (int each = 0; each < present; ++each) {
      const int k = step[each];
      const double frames = shape.step[k];
      const F far = Device::template splat<Real>(static_cast<Real>(-frames * frames / (2 * op.reach * op.reach)));
      const Real* sums = squares.data + k * room;
      if (shape.cell_w == 4)
        sum_cells<4>(sums);
      else
        sum_cells<0>(sums);
      Real* weights = columns.row.data;
      for (int64_t c = 0; c < strip.cells; c += wide) {
        const F error = Device::template pack<Real, wide>(weights + c);
        Device::template put<Real, wide>(weights + c, Device::template exp<Real>(error * share + far));
      }
      columns.raise(raised.data + (r % 3 * shape.steps + k) * room);
      if (op.weight && r >= own_rows[0] && r < own_rows[1])
        __builtin_memcpy(static_cast<Real*>(op.weight) + shape.cell_at(b, k, p) + r * shape.cells_w + own_cells[0],
                         weights + own_cells[0] - strip.first_cell,
                         static_cast<size_t>(own_cells[1] - own_cells[0]) * sizeof(Real));
    }
    Clear<Device, Real>::run(squares.data, shape.steps * room);
  }

  template <int cell_w>
  DAVSR_FN void sum_cells(const Real* from) {
    Real* to = columns.row.data;
    const int64_t width = cell_w ? cell_w : shape.cell_w;
    DAVSR_NO_ALIAS
    for (int64_t c = 0; c < strip.cells; ++c) {
      Real sum = 0;
      for (int64_t i = 0; i < width; ++i) sum += from[c * width + i];
      to[c] = sum;
    }
  }

  void blend_row(int64_t y) {
    const Between<Real> at = between<Real>(y, shape.height, shape.cells_h);
    const int64_t pixel = y * shape.width + strip.begin, shift = strip.begin - strip.first_sampled;
    const Real *sampled[MotionShape::kMost], *upper[MotionShape::kMost], *lower[MotionShape::kMost];
    for (int k = 0; k < present; ++k) {
      sampled[k] = samples_of(y, step[k]) + shift;
      upper[k] = raised.data + (at.first % 3 * shape.steps + step[k]) * room;
      lower[k] = raised.data + (at.second % 3 * shape.steps + step[k]) * room;
    }
    const F down = Device::template splat<Real>(at.beyond);
    const int64_t count = strip.end - strip.begin, plane = shape.plane();
    const Real* own = static_cast<const Real*>(op.a) + shape.at(b, p) + pixel;
    Real* mean = static_cast<Real*>(op.mean) + shape.at(b, p) + pixel;
    Real* support = op.support ? static_cast<Real*>(op.support) + (b * shape.frames + p) * shape.pixels() + pixel : nullptr;
    for (int64_t i = 0; i < count; i += wide) {
      const int some = static_cast<int>(count - i < wide ? count - i : wide);
      colours(shape, [&](auto n, int64_t c) {
        F sum = Device::template splat<Real>(1), total[n.value];
#pragma GCC unroll 3
        for (int j = 0; j < n.value; ++j) total[j] = load_some<Device, Real>(own + (c + j) * plane + i, some);
        for (int k = 0; k < present; ++k) {
          const F high = Device::template pack<Real, wide>(upper[k] + i);
          const F weight = high + down * (Device::template pack<Real, wide>(lower[k] + i) - high);
          sum += weight;
#pragma GCC unroll 3
          for (int j = 0; j < n.value; ++j)
            total[j] += weight * Device::template pack<Real, wide>(sampled[k] + (c + j) * room + i);
        }
        if (support && c == 0) store_some<Device, Real>(support + i, sum, some);
        const F share = Real(1) / sum;
#pragma GCC unroll 3
        for (int j = 0; j < n.value; ++j) store_some<Device, Real>(mean + (c + j) * plane + i, total[j] * share, some);
      });
    }
  }
};

template <class Device, class Real, int few>
static void motion_average_rows(const MotionAverage& op, const Parallel& threads) {
  const MotionShape& shape = op.shape;
  const int64_t strips = (shape.width + kStrip - 1) / kStrip;
  parallel<Device>(threads, shape.batch * shape.frames * shape.height, [&](int64_t begin, int64_t end) {
    for (int64_t number = 0; number < strips; ++number) {
      AveragePass<Device, Real, few> pass(op, Strip::of<Real>(shape, number, strips), threads);
      for (int64_t row = begin; row < end;) {
        const int64_t frame = row / shape.height, y = row % shape.height;
        const int64_t count = shape.height - y < end - row ? shape.height - y : end - row;
        pass.average_rows(frame / shape.frames, frame % shape.frames, y, y + count);
        row += count;
      }
    }
  });
}

template <class Device, class Real>
static void motion_average(const MotionAverage& op, const Parallel& threads) {
  op.shape.channels == 3 ? motion_average_rows<Device, Real, 3>(op, threads) : motion_average_rows<Device, Real, 0>(op, threads);
}

}  // namespace davsr
