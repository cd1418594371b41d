// motion_average.h in one pass on a CPU: every neighbour is sampled once, into rows that stay in the cache until the
// weights of their cells are known.
#pragma once

#include "cpu_motion_raised.h"

namespace davsr {

constexpr int64_t kBand = 98304;   // pixels of a few frames at a time: they stay in the third-level cache
constexpr int64_t kBandRows = 64;  // at least: more rows are sampled than are averaged

// A frame that is averaged: where it, its neighbours and its motion lie, and where its mean goes.
template <class Real>
struct AveragedFrame {
  const Real* own;
  const Real* image[MotionShape::kMost];        // of each step; null: there is none
  const Real* motion;                           // [2, height, width], or of cells where it is raised
  Real* mean;                                   // its row `top`
  Real *support, *weight;                       // of all rows, of step 0; null where they are not asked for
  int64_t plane, mean_plane, weight_step, top;  // from one channel to the next, and from one step
};

// The average of one frame in one strip, row by row.
template <class Device, class Real, int few>  // few: how many channels there are, 0: any number
struct AveragePass {
  using F = typename Device::template Lanes<Real>;
  static constexpr int wide = Device::template lanes<Real>;

  const MotionShape& shape;
  const double mismatch, reach;
  const bool raised_motion;
  const int64_t channels, strips;
  const int64_t room, kept;  // kept: rows of samples from the one that is blended on
  Strip strip{};
  AveragedFrame<Real> frame{};
  int present = 0, step[MotionShape::kMost];    // numbers of the steps that lead to frames
  int64_t own_rows[2] = {}, own_cells[2] = {};  // [begin, end) of the cells whose weights nobody else writes
  SampledRow<Device, Real> row;
  CellColumns<Device, Real> columns;
  Scratch<Device, Real> samples;  // [kept][steps][channels][room]
  Scratch<Device, Real> squares;  // [steps][room], sums over the rows of a cell
  Scratch<Device, Real> raised;   // [3][steps][room], the weights of three rows of cells at every column
  RaisedMotion<Device, Real> motion;

  static int64_t widest(const MotionShape& shape, int64_t strips) {
    int64_t most = 0;
    for (int64_t n = 0; n < strips; ++n) {
      const int64_t sampled = Strip::of<Real>(shape, n, strips).sampled;
      most = sampled > most ? sampled : most;
    }
    return most;
  }
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

  AveragePass(const MotionShape& of, double mismatch_of, double reach_of, bool raised_of, const Parallel& threads)
      : shape(of),
        mismatch(mismatch_of),
        reach(reach_of),
        raised_motion(raised_of),
        channels(few ? few : of.channels),
        strips((of.width + kStrip - 1) / kStrip),
        room(CellColumns<Device, Real>::room_for(widest(of, strips))),
        kept(rows_kept(of)),
        row(of, 0, room, threads),
        columns(of, 0, of.width, threads),
        samples(threads, kept * of.steps * channels * room),
        squares(threads, of.steps * room),
        raised(threads, 3 * of.steps * room),
        motion(of, raised_of ? room : wide, threads) {
    Clear<Device, Real>::run(samples.data, kept * of.steps * channels * room);
  }

  void cover(int64_t number) {
    strip = Strip::of<Real>(shape, number, strips);
    row.first = strip.first_sampled;
    row.count = strip.sampled;
    columns.cover(shape, strip.begin, strip.end);
    if (raised_motion) motion.cover(strip);
    own_cells[0] = strip.begin ? between<Real>(strip.begin - 1, shape.width, shape.cells_w).second + 1 : 0;
    own_cells[1] = strip.first_cell + strip.cells;
  }

  // Rows [begin, end) of a frame, all strips.
  void average(const AveragedFrame<Real>& of, int64_t begin, int64_t end) {
    frame = of;
    present = 0;
    for (int k = 0; k < shape.steps; ++k)
      if (frame.image[k]) step[present++] = k;
    for (int64_t number = 0; number < strips; ++number) {
      if (strips > 1 || strip.end == 0) cover(number);
      average_rows(begin, end);
    }
  }

  void average_rows(int64_t begin, int64_t end) {
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
    if (raised_motion) motion.raise(frame.motion, begin, end);
    for (int k = 0; k < present; ++k)
      for (int64_t y = begin; y < end; ++y) sample_row(y, step[k]);
  }

  void sample_row(int64_t y, int k) {
    const Real* along = raised_motion ? motion.row(y) : frame.motion + y * shape.width + strip.first_sampled;
    row.locate(along, along + (raised_motion ? motion.room : shape.pixels()), y, shape.step[k]);
    const Real* own = frame.own + y * shape.width + strip.first_sampled;
    const Real* image = frame.image[k];
    Real *to = samples_of(y, k), *sums = squares.data + k * room;
    for (int64_t i = 0; i < strip.sampled; i += wide) {
      F square = Device::template pack<Real, wide>(sums + i);
      colours(shape, [&](auto n, int64_t c) {
        F value[n.value];
        row.template read<n.value>(image + c * frame.plane, i, value);
#pragma GCC unroll 3
        for (int j = 0; j < n.value; ++j) {
          Device::template put<Real, wide>(to + (c + j) * room + i, value[j]);
          const F difference = value[j] - load_some<Device, Real>(own + (c + j) * frame.plane + i, row.lanes(i));
          square += difference * difference;
        }
      });
      Device::template put<Real, wide>(sums + i, square);
    }
  }

  // The sums of row r of cells are whole: their weights, at every column.
  void weigh(int64_t r) {
    const Real share =
        static_cast<Real>(-1 / (mismatch * mismatch * static_cast<double>(channels * shape.cell_h * shape.cell_w)));
    for (int each = 0; each < present; ++each) {
      const int k = step[each];
      const double frames = shape.step[k];
      const F far = Device::template splat<Real>(static_cast<Real>(-frames * frames / (2 * reach * reach)));
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
      if (frame.weight && r >= own_rows[0] && r < own_rows[1])
        __builtin_memcpy(frame.weight + k * frame.weight_step + r * shape.cells_w + own_cells[0],
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
    const int64_t count = strip.end - strip.begin, plane = frame.plane, mean_plane = frame.mean_plane;
    const Real* own = frame.own + pixel;
    Real* mean = frame.mean + pixel - frame.top * shape.width;
    Real* support = frame.support ? frame.support + pixel : nullptr;
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
        for (int j = 0; j < n.value; ++j) store_some<Device, Real>(mean + (c + j) * mean_plane + i, total[j] * share, some);
      });
    }
  }
};

static DAVSR_FN int64_t band_rows(const MotionShape& shape) {
  return kBand / shape.width > kBandRows ? kBand / shape.width : kBandRows;
}

// Bands of the rows [begin, end) of all batches, with the batch that each lies in.
template <class Visit>
static DAVSR_FN void bands(const MotionShape& shape, int64_t begin, int64_t end, const Visit& visit) {
  const int64_t most = band_rows(shape);
  while (begin < end) {
    const int64_t b = begin / shape.height, y = begin % shape.height;
    int64_t rows = shape.height - y < end - begin ? shape.height - y : end - begin;
    const int64_t parts = (rows + most - 1) / most;
    rows = (rows + parts - 1) / parts;
    visit(b, y, y + rows);
    begin += rows;
  }
}

// Band by band, all frames of each: what they sample of each other stays in the cache.
template <class Device, class Real, int few>
static void motion_average_rows(const MotionAverage& op, const Parallel& threads) {
  const MotionShape& shape = op.shape;
  parallel<Device>(threads, shape.batch * shape.height, [&](int64_t begin, int64_t end) {
    AveragePass<Device, Real, few> pass(shape, op.mismatch, op.reach, false, threads);
    bands(shape, begin, end, [&](int64_t b, int64_t top, int64_t stop) {
      for (int64_t p = 0; p < shape.frames; ++p) {
        const auto* a = static_cast<const Real*>(op.a);
        AveragedFrame<Real> frame{};
        frame.own = a + shape.at(b, p);
        for (int k = 0; k < shape.steps; ++k)
          if (shape.has(p + shape.step[k])) frame.image[k] = a + shape.at(b, p + shape.step[k]);
        frame.motion = static_cast<const Real*>(op.motion) + shape.motion_at(b, p);
        frame.mean = static_cast<Real*>(op.mean) + shape.at(b, p);
        if (op.support) frame.support = static_cast<Real*>(op.support) + (b * shape.frames + p) * shape.pixels();
        if (op.weight) frame.weight = static_cast<Real*>(op.weight) + shape.cell_at(b, 0, p);
        frame.weight_step = shape.frames * shape.cells();
        frame.plane = frame.mean_plane = shape.plane();
        pass.average(frame, top, stop);
      }
    });
  });
}

template <class Device, class Real>
static void motion_average(const MotionAverage& op, const Parallel& threads) {
  op.shape.channels == 3 ? motion_average_rows<Device, Real, 3>(op, threads) : motion_average_rows<Device, Real, 0>(op, threads);
}

}  // namespace davsr
