// The gradient of motion_average.h's average on a CPU, where none of the motion is wanted. With g = d_mean / support:
//
//     d_w_s = d_support + g . (n_s - mean)                       of pixels, then summed to cells
//     d_e_s = -d_w_s w_s / M^2
//     d n_s = w_s g + D_s (n_s - a_p)       D_s = 2 d_e_s / (pixels and colours of a cell)
//     d a_p = g - sum_s D_s (n_s - a_p)
//
// In two passes: one along the frames that sample, which ends with D and d a_p, one along the frames that are sampled,
// which adds what every sample leaves to them. No sum depends on the threads. Where a network has a say in the weights,
// the first one ends with d_w_s w_s.
#pragma once

#include "cpu_motion_average.h"
#include "cpu_motion_sample_gradient.h"

namespace davsr {

constexpr int64_t kGradientStrip = 512;  // pixels of a row at a time

// Columns of a frame whose cells are finished together: those cells, their pixels, and the pixels between them.
struct CellStrip {
  int64_t first_cell, cells, begin, end, first_sampled, sampled;

  template <class Real>
  static DAVSR_FN CellStrip of(const MotionShape& shape, int64_t number, int64_t strips) {
    CellStrip at;
    at.first_cell = shape.cells_w * number / strips;
    const int64_t stop = shape.cells_w * (number + 1) / strips;
    at.cells = stop - at.first_cell;
    at.begin = at.first_cell * shape.cell_w;
    at.end = stop < shape.cells_w ? stop * shape.cell_w : shape.width;
    int64_t low = at.begin, high = at.end;
    while (low > 0 && between<Real>(low - 1, shape.width, shape.cells_w).second >= at.first_cell) --low;
    while (high < shape.width && between<Real>(high, shape.width, shape.cells_w).first < stop) ++high;
    at.first_sampled = low;
    at.sampled = high - low;
    return at;
  }
};

// Of one frame in one strip: row by row of cells.
template <class Device, class Real, int few, bool learned = false>  // few: how many channels there are, 0: any number
struct WeightGradientPass {
  using F = typename Device::template Lanes<Real>;
  static constexpr int wide = Device::template lanes<Real>;

  const MotionAverageBackward& op;
  const MotionShape& shape;
  const CellStrip strip;
  const int64_t channels, room, kept;         // kept: rows of gradients from the first one of a cell on
  const KeptSamples<Device, Real>* samples;   // where a network has a say: of all rows, for those who come after
  const int64_t apart;                        // samples of a row: from one channel to the next
  int64_t b = 0, p = 0, own_rows[2] = {};     // [begin, end) of the rows whose samples nobody else keeps
  int present = 0, step[MotionShape::kMost];  // numbers of the steps that lead to frames
  SampledRow<Device, Real> row;
  Scratch<Device, Real> few_samples;  // [kept][steps][channels][apart]; or of a row that somebody else keeps
  Scratch<Device, Real> grads;        // [kept][channels + 1][room]: g, and what d_w has of it without neighbours
  Scratch<Device, Real> sums;         // [2][steps][room]: d_w of two rows of cells at every column
  Scratch<Device, Real> beyond;       // [sampled], see Between
  Scratch<Device, int64_t> start;     // [cells + 2]: the first column in or after each cell, from the one before
  Scratch<Device, Real> spread;       // [steps][room]: D at every column

  // The rows that must have been sampled before row r of cells is finished.
  static int64_t needed(const MotionShape& shape, int64_t r) {
    int64_t y = (r + 1) * shape.cell_h;
    while (y < shape.height && between<Real>(y, shape.height, shape.cells_h).first <= r) ++y;
    return y;
  }
  static int64_t first_needed(const MotionShape& shape, int64_t r) {
    int64_t y = r * shape.cell_h;
    while (y > 0 && between<Real>(y - 1, shape.height, shape.cells_h).second >= r) --y;
    return y;
  }
  static int64_t rows_kept(const MotionShape& shape) {
    int64_t most = 1;
    for (int64_t r = 0; r < shape.cells_h; ++r) {
      const int64_t rows = needed(shape, r) - r * shape.cell_h;
      most = rows > most ? rows : most;
    }
    return most;
  }

  WeightGradientPass(const MotionAverageBackward& backward, const CellStrip& of, const KeptSamples<Device, Real>* kept_samples,
                     const Parallel& threads)
      : op(backward),
        shape(backward.shape),
        strip(of),
        channels(few ? few : shape.channels),
        room((of.sampled + wide - 1) / wide * wide + 2 * wide),
        kept(rows_kept(shape)),
        samples(kept_samples),
        apart(learned ? sampled_row(shape.width) : room),
        row(backward.shape, of.first_sampled, of.sampled, threads),
        few_samples(threads, (learned ? 1 : kept * shape.steps) * channels * apart),
        grads(threads, kept * (channels + 1) * room),
        sums(threads, 2 * shape.steps * room),
        beyond(threads, of.sampled),
        start(threads, of.cells + 2),
        spread(threads, shape.steps * room) {
    if (!learned) Clear<Device, Real>::run(few_samples.data, kept * shape.steps * channels * apart);
    Clear<Device, Real>::run(grads.data, kept * (channels + 1) * room);
    int64_t known = 0;
    for (int64_t i = 0; i < strip.sampled; ++i) {
      const Between<Real> at = between<Real>(strip.first_sampled + i, shape.width, shape.cells_w);
      beyond.data[i] = at.beyond;
      for (; known < strip.cells + 2 && strip.first_cell - 1 + known <= at.first; ++known) start.data[known] = i;
    }
    for (; known < strip.cells + 2; ++known) start.data[known] = strip.sampled;
  }

  void finish_rows(int64_t sample, int64_t frame, int64_t begin, int64_t end) {
    b = sample;
    p = frame;
    present = 0;
    for (int k = 0; k < shape.steps; ++k)
      if (shape.has(p + shape.step[k])) step[present++] = k;
    own_rows[0] = begin * shape.cell_h;
    own_rows[1] = end < shape.cells_h ? end * shape.cell_h : shape.height;
    Clear<Device, Real>::run(sums.data, 2 * shape.steps * room);
    Clear<Device, Real>::run(spread.data, shape.steps * room);
    int64_t sampled = first_needed(shape, begin);
    for (int64_t r = begin; r < end; ++r) {
      for (const int64_t stop = needed(shape, r); sampled < stop;) {
        const int64_t below = sampled + kept < stop ? sampled + kept : stop;
        for (int64_t y = sampled; y < below; ++y) gradient_row(y);
        for (int k = 0; k < present; ++k)  // one neighbour after the other: their rows stay in the first-level cache
          for (int64_t y = sampled; y < below; ++y) sample_row(y, step[k], begin);
        sampled = below;
      }
      for (int k = 0; k < present; ++k) finish_cells(r, step[k]);
      if (learned) continue;
      for (int64_t y = r * shape.cell_h; y < (r + 1) * shape.cell_h; ++y) own_row(y, present);
      if (r + 1 == shape.cells_h)
        for (int64_t y = (r + 1) * shape.cell_h; y < shape.height; ++y) own_row(y, 0);
    }
  }

  Real* samples_of(int64_t y, int k) {
    if (!learned) return few_samples.data + (y % kept * shape.steps + k) * channels * apart;
    return y >= own_rows[0] && y < own_rows[1] ? samples->row(b, p, k, y) + strip.first_sampled : few_samples.data;
  }
  Real* grads_of(int64_t y) { return grads.data + y % kept * (channels + 1) * room; }

  void gradient_row(int64_t y) {
    Real* to = grads_of(y);
    const int64_t pixel = y * shape.width + strip.first_sampled, of_frame = (b * shape.frames + p) * shape.pixels() + pixel;
    const Real* support = static_cast<const Real*>(op.support) + of_frame;
    const Real* d_support = op.d_support ? static_cast<const Real*>(op.d_support) + of_frame : nullptr;
    const Real* d_mean = static_cast<const Real*>(op.d_mean) + shape.at(b, p) + pixel;
    const Real* mean = static_cast<const Real*>(op.mean) + shape.at(b, p) + pixel;
    for (int64_t i = 0; i < strip.sampled; i += wide) {
      const int count = row.lanes(i);
      F alone{};
      if (d_support) alone = load_some<Device, Real>(d_support + i, count);
      const F share = Real(1) / load_some<Device, Real>(support + i, count);
      for (int64_t c = 0; c < channels; ++c) {
        const F g = load_some<Device, Real>(d_mean + c * shape.plane() + i, count) * share;
        alone -= g * load_some<Device, Real>(mean + c * shape.plane() + i, count);
        Device::template put<Real, wide>(to + c * room + i, g);
      }
      Device::template put<Real, wide>(to + channels * room + i, alone);
    }
  }

  // d_w of a row at one step, added to the two rows of cells that it lies between: to none before `begin`.
  void sample_row(int64_t y, int k, int64_t begin) {
    row.locate(op.motion, b, p, y, shape.step[k]);
    const Real* image = static_cast<const Real*>(op.a) + shape.at(b, p + shape.step[k]);
    const Between<Real> at = between<Real>(y, shape.height, shape.cells_h);
    const Real upper = at.first < begin ? 0 : 1 - at.beyond, lower = at.second < begin ? 0 : at.beyond;
    const Real* g = grads_of(y);
    Real *to = samples_of(y, k), *first = sums.data + ((at.first & 1) * shape.steps + k) * room;
    Real* second = sums.data + ((at.second & 1) * shape.steps + k) * room;
    for (int64_t i = 0; i < strip.sampled; i += wide) {
      F d_w = Device::template pack<Real, wide>(g + channels * room + i);
      colours(shape, [&](auto n, int64_t c) {
        F value[n.value];
        row.template read<n.value>(image + c * shape.plane(), i, value);
#pragma GCC unroll 3
        for (int j = 0; j < n.value; ++j) {
          Device::template put<Real, wide>(to + (c + j) * apart + i, value[j]);
          d_w += value[j] * Device::template pack<Real, wide>(g + (c + j) * room + i);
        }
      });
      Device::template put<Real, wide>(first + i, Device::template pack<Real, wide>(first + i) + d_w * upper);
      Device::template put<Real, wide>(second + i, Device::template pack<Real, wide>(second + i) + d_w * lower);
    }
  }

  // D of row r of cells at one step, or d_w w: to memory, and D to every column.
  void finish_cells(int64_t r, int k) {
    Real* from = sums.data + ((r & 1) * shape.steps + k) * room;
    const int64_t cells = shape.cell_at(b, k, p) + r * shape.cells_w + strip.first_cell;
    const Real* weight = static_cast<const Real*>(op.weight) + cells;
    Real *d_error = static_cast<Real*>(op.d_error) + cells, *to = spread.data + k * room + strip.begin - strip.first_sampled;
    const double of_error = -2 / (op.mismatch * op.mismatch * static_cast<double>(channels * shape.cell_h * shape.cell_w));
    const Real share = learned ? 1 : static_cast<Real>(of_error);
    Real before = 0;  // what the columns after the cell before have of this one
    for (int64_t j = 0; j <= strip.cells; ++j) {
      Real own = 0, next = 0;
      for (int64_t i = start.data[j]; i < start.data[j + 1]; ++i) {
        const Real part = beyond.data[i] * from[i];
        next += part;
        own += from[i] - part;
      }
      if (j > 0) {
        const bool last = strip.first_cell + j == shape.cells_w;  // its columns lie between it and itself
        d_error[j - 1] = (own + before + (last ? next : 0)) * weight[j - 1] * share;
      }
      before = next;
    }
    if (!learned) spread_cells<Device, Real>(d_error, strip.cells, shape.cell_w, to);
    Clear<Device, Real>::run(from, room);
  }

  // What a row's own pixels have of the mean and of their mismatch with so many neighbours.
  void own_row(int64_t y, int neighbours) {
    const int64_t shift = strip.begin - strip.first_sampled, count = strip.end - strip.begin;
    const int64_t first = shape.at(b, p) + y * shape.width + strip.begin;
    const Real *a = static_cast<const Real*>(op.a) + first, *g = grads_of(y) + shift, *sampled[MotionShape::kMost];
    const Real* d_error[MotionShape::kMost];
    Real* to = static_cast<Real*>(op.d_a) + first;
    for (int k = 0; k < neighbours; ++k) {
      sampled[k] = samples_of(y, step[k]) + shift;
      d_error[k] = spread.data + step[k] * room + shift;
    }
    for (int64_t i = 0; i < count; i += wide) {
      const int some = static_cast<int>(count - i < wide ? count - i : wide);
      colours(shape, [&](auto n, int64_t c) {
        F sum[n.value], own[n.value];
#pragma GCC unroll 3
        for (int j = 0; j < n.value; ++j) {
          own[j] = load_some<Device, Real>(a + (c + j) * shape.plane() + i, some);
          sum[j] = Device::template pack<Real, wide>(g + (c + j) * room + i);
        }
        for (int k = 0; k < neighbours; ++k) {
          const F d = Device::template pack<Real, wide>(d_error[k] + i);
#pragma GCC unroll 3
          for (int j = 0; j < n.value; ++j)
            sum[j] -= d * (Device::template pack<Real, wide>(sampled[k] + (c + j) * apart + i) - own[j]);
        }
#pragma GCC unroll 3
        for (int j = 0; j < n.value; ++j) store_some<Device, Real>(to + (c + j) * shape.plane() + i, sum[j], some);
      });
    }
  }
};

// The pass along the frames that sample.
template <class Device, class Real, int few, bool learned>
static void weight_gradients(const MotionAverageBackward& op, const KeptSamples<Device, Real>* samples, const Parallel& threads) {
  const MotionShape& shape = op.shape;
  const int64_t wanted = (shape.width + kGradientStrip - 1) / kGradientStrip;
  const int64_t strips = wanted < shape.cells_w ? wanted : shape.cells_w;
  parallel<Device>(threads, shape.batch * shape.frames * shape.cells_h, [&](int64_t begin, int64_t end) {
    for (int64_t number = 0; number < strips; ++number) {
      WeightGradientPass<Device, Real, few, learned> pass(op, CellStrip::of<Real>(shape, number, strips), samples, threads);
      for (int64_t row = begin; row < end;) {
        const int64_t frame = row / shape.cells_h, r = row % shape.cells_h;
        const int64_t count = shape.cells_h - r < end - row ? shape.cells_h - r : end - row;
        pass.finish_rows(frame / shape.frames, frame % shape.frames, r, r + count);
        row += count;
      }
    }
  });
}

// The pass along the frames that are sampled.
template <class Device, class Real, int few>
static void leave_samples(const SampleGradient& left, const KeptSamples<Device, Real>* gradients, const Parallel& threads) {
  const MotionShape& shape = left.shape;
  parallel<Device>(threads, shape.batch * shape.frames, [&](int64_t begin, int64_t end) {
    SampleGradientPass<Device, Real, few ? few : 1, true, true> pass(left, threads, gradients);
    for (int64_t frame = begin; frame < end; ++frame) pass.add(frame / shape.frames, frame % shape.frames);
  });
}

template <class Device, class Real, int few>
static void motion_average_backward_frames(const MotionAverageBackward& op, const Parallel& threads) {
  const MotionShape& shape = op.shape;
  weight_gradients<Device, Real, few, false>(op, nullptr, threads);
  const SampleGradient left{shape, op.a, op.motion, op.weight, op.support, op.d_mean, op.d_error, 1, op.d_a};
  leave_samples<Device, Real, few>(left, nullptr, threads);
}

template <class Device, class Real>
static void motion_average_backward(const MotionAverageBackward& op, const Parallel& threads) {
  op.shape.channels == 3 ? motion_average_backward_frames<Device, Real, 3>(op, threads)
                         : motion_average_backward_frames<Device, Real, 0>(op, threads);
}

}  // namespace davsr
