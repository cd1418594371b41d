// What samples along a motion leave to the frames that they were taken from, on a CPU. Every frame has one owner, who
// gathers what other frames sampled of it: no sum depends on the threads.
#pragma once

#include "cpu_motion_average.h"
#include "cpu_motion_cells.h"
#include "cpu_motion_spread.h"

namespace davsr {

constexpr int64_t kRowsTogether = 4;  // of one neighbour: what they sample stays in the first-level cache

// Samples of all frames at all steps, [batch, frames, steps, height, channels, room], in memory of the caller's: what
// one pass samples, the next one reads in order, and puts their gradients in their place.
template <class Device, class Real>
struct KeptSamples {
  const MotionShape& shape;
  const int64_t room;  // of a row, with what vectors write past it
  Real* data;

  KeptSamples(const MotionShape& of, Real* memory) : shape(of), room(sampled_row(of.width)), data(memory) {}

  Real* row(int64_t b, int64_t p, int k, int64_t y) const {
    return data + (((b * shape.frames + p) * shape.steps + k) * shape.height + y) * shape.channels * room;
  }
};

// The weights of cells at every column of a frame: rows of cells that were raised before are kept, two for each step.
template <class Device, class Real>
struct RaisedWeights {
  using F = typename Device::template Lanes<Real>;

  const MotionShape& shape;
  const Real* weight;
  const int64_t room;
  CellColumns<Device, Real> columns;
  Scratch<Device, Real> raised;         // [steps][2][room]
  int64_t kept[MotionShape::kMost][2];  // where in `weight` they come from

  RaisedWeights(const MotionShape& of, const void* weights, const Parallel& threads)
      : shape(of),
        weight(static_cast<const Real*>(weights)),
        room(CellColumns<Device, Real>::room_for(of.width)),
        columns(of, 0, of.width, threads),
        raised(threads, 2 * of.steps * room) {
    for (auto& numbers : kept) numbers[0] = numbers[1] = -1;
  }

  // Two rows, and how far a row of pixels lies from the first one to the second.
  struct Row {
    const Real *upper, *lower;
    Real beyond;
    DAVSR_FN F at(int64_t i) const {
      constexpr int wide = Device::template lanes<Real>;
      const F high = Device::template pack<Real, wide>(upper + i);
      return high + beyond * (Device::template pack<Real, wide>(lower + i) - high);
    }
  };
  Row row(int64_t b, int64_t p, int k, int64_t y) {
    const Between<Real> at = between<Real>(y, shape.height, shape.cells_h);
    return {raise(b, p, k, at.first), raise(b, p, k, at.second), at.beyond};
  }

 private:
  const Real* raise(int64_t b, int64_t p, int k, int64_t r) {
    const int64_t from = shape.cell_at(b, k, p) + r * shape.cells_w;
    Real* to = raised.data + (2 * k + (r & 1)) * room;
    if (kept[k][r & 1] != from) {
      kept[k][r & 1] = from;
      __builtin_memcpy(columns.row.data, weight + from, static_cast<size_t>(shape.cells_w) * sizeof(Real));
      columns.raise(to);
    }
    return to;
  }
};

// The gradient of a sample n of frame p: w d_mean / support of a blend, and D (n - a_p) of a mismatch.
struct SampleGradient {
  const MotionShape& shape;
  const void *a, *motion;
  const void *weight, *support, *d_mean;  // of the blend
  const void* d_error;                    // cells; D is `share` times that
  double share;
  void* d_a;  // is added to
};

template <class Device, class Real, int few, bool blends, bool matches>  // few: colours together
struct SampleGradientPass {
  using F = typename Device::template Lanes<Real>;
  static constexpr int wide = Device::template lanes<Real>;

  const SampleGradient& op;
  const KeptSamples<Device, Real>* gradients;  // that are known already, or null
  const MotionShape& shape;
  const int64_t room;
  SampledRow<Device, Real> row;
  RaisedWeights<Device, Real> weights;
  SpreadRows<Device, Real> rows;
  Scratch<Device, Real> cells;   // [cells_w] D of a row
  Scratch<Device, Real> spread;  // [steps][room]: D at every column

  SampleGradientPass(const SampleGradient& gradient, const Parallel& threads, const KeptSamples<Device, Real>* known = nullptr)
      : op(gradient),
        gradients(known),
        shape(gradient.shape),
        room(CellColumns<Device, Real>::room_for(shape.width)),
        row(shape, 0, shape.width, threads),
        weights(shape, gradient.weight, threads),
        rows(shape.width, shape.height + 1, threads),
        cells(threads, shape.cells_w),
        spread(threads, shape.steps * room) {
    Clear<Device, Real>::run(spread.data, shape.steps * room);  // and so it stays beyond the last cell
  }

  // To frame f, from all frames that sampled it.
  void add(int64_t b, int64_t f) {
    for (int64_t channel = 0; channel < shape.channels; channel += few) {
      for (int64_t first = 0; first < shape.height; first += kRowsTogether)
        for (int k = 0; k < shape.steps; ++k)
          for (int64_t y = first; shape.has(f - shape.step[k]) && y < first + kRowsTogether && y < shape.height; ++y)
            add_row(b, f, y, k, channel);
      Real* to = static_cast<Real*>(op.d_a) + shape.at(b, f) + channel * shape.plane();
      rows.template fold<few>(shape.height, shape.plane(), to);
    }
  }

  // D of row r of cells, nothing after the last one, at every column.
  void spread_row(int64_t b, int64_t p, int k, int64_t r) {
    Real* to = spread.data + k * room;
    if (r >= shape.cells_h) return Clear<Device, Real>::run(to, room);
    const Real* from = static_cast<const Real*>(op.d_error) + shape.cell_at(b, k, p) + r * shape.cells_w;
    for (int64_t c = 0; c < shape.cells_w; ++c) cells.data[c] = from[c] * static_cast<Real>(op.share);
    spread_cells<Device, Real>(cells.data, shape.cells_w, shape.cell_w, to);
  }

  // What row y of the frame that samples frame f at step k leaves there.
  void add_row(int64_t b, int64_t f, int64_t y, int k, int64_t channel) {
    const int64_t p = f - shape.step[k], pixel = y * shape.width, plane = shape.plane();
    const int64_t first = shape.at(b, p) + channel * plane + pixel;
    const Real *image = static_cast<const Real*>(op.a) + shape.at(b, f) + channel * plane, *own = nullptr, *d_error = nullptr;
    const Real *d_mean = nullptr, *support = nullptr;
    typename RaisedWeights<Device, Real>::Row weight{};
    const Real* known = gradients ? gradients->row(b, p, k, y) + channel * gradients->room : nullptr;
    if (blends && !known) {
      weight = weights.row(b, p, k, y);
      support = static_cast<const Real*>(op.support) + (b * shape.frames + p) * shape.pixels() + pixel;
      d_mean = static_cast<const Real*>(op.d_mean) + first;
    }
    if (matches && !known) {
      if (y % shape.cell_h == 0) spread_row(b, p, k, y / shape.cell_h);
      d_error = spread.data + k * room;
      own = static_cast<const Real*>(op.a) + first;
    }
    row.locate(op.motion, b, p, y, shape.step[k]);
    for (int64_t i = 0; i < shape.width; i += wide) {
      const int count = row.lanes(i);
      F value[few] = {}, down, right;
      if (known) {
        look_ahead<few>(known + i, kRowsTogether * shape.channels * gradients->room, gradients->room);
#pragma GCC unroll 3
        for (int c = 0; c < few; ++c) value[c] = Device::template pack<Real, wide>(known + c * gradients->room + i);
      } else if (matches) {
        row.template read<few>(image, i, value);
        const F d = Device::template pack<Real, wide>(d_error + i);
#pragma GCC unroll 3
        for (int c = 0; c < few; ++c) value[c] = d * (value[c] - load_some<Device, Real>(own + c * plane + i, count));
      }
      if (blends && !known) {
        const F share = weight.at(i) / load_some<Device, Real>(support + i, count);
#pragma GCC unroll 3
        for (int c = 0; c < few; ++c) value[c] += share * load_some<Device, Real>(d_mean + c * plane + i, count);
      }
      const auto there = row.there(i, down, right);
      rows.template add<few>(there, down, right, value, count);
    }
  }
};

}  // namespace davsr
