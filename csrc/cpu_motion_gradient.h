// The gradients of cpu_motion_average.h.
#pragma once

#include "cpu_motion_sample_gradient.h"

namespace davsr {

// The gradient that reaches the motion from one neighbour of one colour.
template <class Device, class Real>
struct MotionSlope {
  using F = typename Device::template Lanes<Real>;
  F x{}, y{};

  DAVSR_FN void add(const Corners<F>& around, const Place<Device, Real>& at, F d, int step) {
    x += d * around.slope_x(at.down) * at.free_x * static_cast<Real>(step);
    y += d * around.slope_y(at.right) * at.free_y * static_cast<Real>(step);
  }
  DAVSR_FN void add_to(const MotionShape& shape, void* d_motion, int64_t at, int count) const {
    Real* to = static_cast<Real*>(d_motion) + at;
    store_some<Device, Real>(to, x + load_some<Device, Real>(to, count), count);
    to += shape.pixels();
    store_some<Device, Real>(to, y + load_some<Device, Real>(to, count), count);
  }
};

// The samples of one row of a frame at one step: with the pixels around them where the motion's gradient wants those.
template <class Device, class Real>
struct Neighbour {
  using F = typename Device::template Lanes<Real>;
  SampledRow<Device, Real>& row;
  const Real* image;
  const MotionRow<Device, Real> places;
  const bool corners;
  int step;

  DAVSR_FN Neighbour(SampledRow<Device, Real>& sampled, const Real* neighbour, const void* motion, const void* d_motion,
                     int64_t b, int64_t f, int64_t y, int at_step)
      : row(sampled), image(neighbour), places(sampled.shape, motion, b, f, y), corners(d_motion != nullptr), step(at_step) {
    if (!corners) row.locate(motion, b, f, y, step);
  }
  template <class Visit>
  DAVSR_FN void blocks(const Visit& visit) const {
    if (corners) return places.blocks(step, visit);
    const Place<Device, Real> unused{};
    for (int64_t x = 0; x < row.count; x += row.wide) visit(x, row.lanes(x), unused);
  }
  template <int Colours>
  DAVSR_FN void read(int64_t c, int64_t x, const Place<Device, Real>& at, Corners<F>* around, F* value) const {
    const MotionShape& shape = row.shape;
    const Real* from = image + c * shape.plane();
    if (!corners) return row.template read<Colours>(from, x, value);
    Device::template corners<Real, Colours>(from, shape.plane(), shape.height, shape.width, at.row, at.column, around);
    for (int i = 0; i < Colours; ++i) value[i] = around[i].value(at.down, at.right);
  }
};

template <class Device, class Real, int few>  // few: how many channels there are, 0: any number
static void motion_blend_backward_frames(const MotionBlendBackward& op, const Parallel& threads) {
  using F = typename Device::template Lanes<Real>;
  const MotionShape& shape = op.shape;
  const auto *a = static_cast<const Real*>(op.a), *mean = static_cast<const Real*>(op.mean);
  const auto *support = static_cast<const Real*>(op.support), *d_mean = static_cast<const Real*>(op.d_mean);
  const auto* d_support = static_cast<const Real*>(op.d_support);
  auto* d_a = static_cast<Real*>(op.d_a);
  const SampleGradient left{shape, a, op.motion, op.weight, support, d_mean, nullptr, 0, d_a};
  parallel<Device>(threads, shape.batch * shape.frames, [&](int64_t begin, int64_t end) {
    CellRows<Device, Real> cells(shape, op.weight, threads);
    SampleGradientPass<Device, Real, few ? few : 1, true, false> spread(left, threads);
    Scratch<Device, Real> rows(threads, shape.steps * shape.cells_h * shape.width);
    SampledRow<Device, Real> sampled(shape, 0, shape.width, threads);
    for (int64_t unit = begin; unit < end; ++unit) {
      const int64_t f = unit % shape.frames, b = unit / shape.frames;
      if (op.d_motion) Clear<Device, Real>::run(static_cast<Real*>(op.d_motion) + shape.motion_at(b, f), 2 * shape.pixels());
      // The frame's own pixels: their gradient, that of the weights of their neighbours, and of their motion.
      Clear<Device, Real>::run(rows.data, shape.steps * shape.cells_h * shape.width);
      for (int64_t y = 0; y < shape.height; ++y) {
        const Between<Real> across = between<Real>(y, shape.height, shape.cells_h);
        const WeightRow<Device, Real> weights(cells, b, f, y);
        const int64_t row = (b * shape.frames + f) * shape.pixels() + y * shape.width;
        for (int64_t c = 0; c < shape.channels; ++c) {
          const int64_t own = shape.at(b, f) + c * shape.plane() + y * shape.width;
          DAVSR_NO_ALIAS
          for (int64_t x = 0; x < shape.width; ++x) d_a[own + x] = d_mean[own + x] / support[row + x];
        }
        for (int k = 0; k < shape.steps; ++k) {
          if (!shape.has(f + shape.step[k])) continue;
          const Neighbour<Device, Real> neighbour(sampled, a + shape.at(b, f + shape.step[k]), op.motion, op.d_motion, b, f, y,
                                                  shape.step[k]);
          neighbour.blocks([&](int64_t x, int count, const auto& at) {
            const F w = weights.at(k, x);
            F d_w = load_some<Device, Real>(d_support + row + x, count);
            MotionSlope<Device, Real> slope;
            colours(shape, [&](auto n, int64_t c) {
              Corners<F> around[n.value] = {};
              F value[n.value];
              neighbour.template read<n.value>(c, x, at, around, value);
#pragma GCC unroll 3
              for (int i = 0; i < n.value; ++i) {
                const int64_t own = shape.at(b, f) + (c + i) * shape.plane() + y * shape.width + x;
                const F g = load_some<Device, Real>(d_a + own, count);  // not yet what others sampled: d_mean / support
                d_w += g * (value[i] - load_some<Device, Real>(mean + own, count));
                if (op.d_motion) slope.add(around[i], at, g * w, shape.step[k]);
              }
            });
            Real* of_step = rows.data + k * shape.cells_h * shape.width + x;
            Real* first = of_step + across.first * shape.width;
            store_some<Device, Real>(first, load_some<Device, Real>(first, count) + (1 - across.beyond) * d_w, count);
            Real* second = of_step + across.second * shape.width;
            store_some<Device, Real>(second, load_some<Device, Real>(second, count) + across.beyond * d_w, count);
            if (op.d_motion) slope.add_to(shape, op.d_motion, shape.motion_at(b, f) + y * shape.width + x, count);
          });
        }
      }
      cells.gather(rows.data, b, f, static_cast<Real*>(op.d_weight));
      spread.add(b, f);
    }
  });
}

template <class Device, class Real, int few>
static void motion_mismatch_backward_frames(const MotionMismatchBackward& op, const Parallel& threads) {
  using F = typename Device::template Lanes<Real>;
  const MotionShape& shape = op.shape;
  const auto *a = static_cast<const Real*>(op.a), *d_error = static_cast<const Real*>(op.d_error);
  auto* d_a = static_cast<Real*>(op.d_a);
  const Real share = Real(2) / static_cast<Real>(shape.channels * shape.cell_h * shape.cell_w);
  const int64_t room = shape.width + CellRows<Device, Real>::pad;
  const SampleGradient left{shape, a, op.motion, nullptr, nullptr, nullptr, d_error, share, d_a};
  parallel<Device>(threads, shape.batch * shape.frames, [&](int64_t begin, int64_t end) {
    Scratch<Device, Real> errors(threads, shape.steps * room), cells(threads, shape.cells_w);
    Clear<Device, Real>::run(errors.data, shape.steps * room);  // and so they stay beyond the last cell
    SampledRow<Device, Real> sampled(shape, 0, shape.width, threads);
    SampleGradientPass<Device, Real, few ? few : 1, false, true> spread(left, threads);
    // Of row r of cells, nothing after the last one, at its pixels.
    const auto spread_row = [&](int64_t b, int64_t p, int64_t r, int k) {
      if (r >= shape.cells_h) return Clear<Device, Real>::run(errors.data + k * room, room);
      const Real* from = d_error + shape.cell_at(b, k, p) + r * shape.cells_w;
      for (int64_t c = 0; c < shape.cells_w; ++c) cells.data[c] = from[c] * share;
      spread_cells<Device, Real>(cells.data, shape.cells_w, shape.cell_w, errors.data + k * room);
    };
    for (int64_t unit = begin; unit < end; ++unit) {
      const int64_t f = unit % shape.frames, b = unit / shape.frames;
      if (op.d_motion) Clear<Device, Real>::run(static_cast<Real*>(op.d_motion) + shape.motion_at(b, f), 2 * shape.pixels());
      for (int64_t y = 0; y < shape.height; ++y) {
        for (int64_t c = 0; c < shape.channels; ++c)
          Clear<Device, Real>::run(d_a + shape.at(b, f) + c * shape.plane() + y * shape.width, shape.width);
        for (int k = 0; k < shape.steps; ++k) {
          if (!shape.has(f + shape.step[k])) continue;
          if (y % shape.cell_h == 0) spread_row(b, f, y / shape.cell_h, k);
          const Neighbour<Device, Real> neighbour(sampled, a + shape.at(b, f + shape.step[k]), op.motion, op.d_motion, b, f, y,
                                                  shape.step[k]);
          neighbour.blocks([&](int64_t x, int count, const auto& at) {
            const F d = Device::template pack<Real, Device::template lanes<Real>>(errors.data + k * room + x);
            MotionSlope<Device, Real> slope;
            colours(shape, [&](auto n, int64_t c) {
              Corners<F> around[n.value] = {};
              F value[n.value];
              neighbour.template read<n.value>(c, x, at, around, value);
#pragma GCC unroll 3
              for (int i = 0; i < n.value; ++i) {
                const int64_t own = shape.at(b, f) + (c + i) * shape.plane() + y * shape.width + x;
                const F back = d * (value[i] - load_some<Device, Real>(a + own, count));
                store_some<Device, Real>(d_a + own, load_some<Device, Real>(d_a + own, count) - back, count);
                if (op.d_motion) slope.add(around[i], at, back, shape.step[k]);
              }
            });
            if (op.d_motion) slope.add_to(shape, op.d_motion, shape.motion_at(b, f) + y * shape.width + x, count);
          });
        }
      }
      spread.add(b, f);
    }
  });
}

template <class Device, class Real>
static void motion_blend_backward(const MotionBlendBackward& op, const Parallel& threads) {
  op.shape.channels == 3 ? motion_blend_backward_frames<Device, Real, 3>(op, threads)
                         : motion_blend_backward_frames<Device, Real, 0>(op, threads);
}

template <class Device, class Real>
static void motion_mismatch_backward(const MotionMismatchBackward& op, const Parallel& threads) {
  op.shape.channels == 3 ? motion_mismatch_backward_frames<Device, Real, 3>(op, threads)
                         : motion_mismatch_backward_frames<Device, Real, 0>(op, threads);
}

}  // namespace davsr
