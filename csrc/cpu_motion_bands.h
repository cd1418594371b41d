// The frames of a clip averaged along a motion on a CPU, in bands of rows that stay in the cache.
#pragma once

#include "cpu_motion_pass.h"

namespace davsr {

constexpr int64_t kBand = 98304;   // pixels of a few frames at a time: they stay in the third-level cache
constexpr int64_t kBandRows = 64;  // at least: more rows are sampled than are averaged
constexpr int64_t kShared = 16;    // bands of frames at least, for threads to share

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

// Band by band, all frames of each, as what they sample of each other stays in the cache, and threads share these:
// visit(frame, b, p) completes the frame, with the frame's pointers but those that only some averages have.
template <class Device, class Pass, class Real, class Op, class Visit>
static void averaged_frames(const Op& op, const TrustLayers* layers, const Parallel& threads, const Visit& visit) {
  const MotionShape& shape = op.shape;
  int64_t parts = (shape.height + band_rows(shape) - 1) / band_rows(shape);
  while (parts * shape.frames < kShared && shape.height / parts >= kBandRows) parts *= 2;
  parallel<Device>(threads, shape.batch * parts * shape.frames, [&](int64_t begin, int64_t end) {
    Pass pass(shape, op.mismatch, op.reach, false, threads, layers);
    for (int64_t unit = begin; unit < end; ++unit) {
      const int64_t p = unit % shape.frames, part = unit / shape.frames % parts, b = unit / shape.frames / parts;
      const auto* a = static_cast<const Real*>(op.a);
      AveragedFrame<Real> frame{};
      frame.own = a + shape.at(b, p);
      for (int k = 0; k < shape.steps; ++k)
        if (shape.has(p + shape.step[k])) frame.image[k] = a + shape.at(b, p + shape.step[k]);
      frame.motion = static_cast<const Real*>(op.motion) + shape.motion_at(b, p);
      frame.mean = static_cast<Real*>(op.mean) + shape.at(b, p);
      if (op.support) frame.support = static_cast<Real*>(op.support) + (b * shape.frames + p) * shape.pixels();
      frame.plane = frame.mean_plane = shape.plane();
      visit(frame, b, p);
      pass.average(frame, shape.height * part / parts, shape.height * (part + 1) / parts);
    }
  });
}

// Frame n of those that a round averages, without where its mean goes.
template <class Real>
static DAVSR_FN AveragedFrame<Real> frame_of_round(const MotionRound& op, int64_t b, int64_t n) {
  const MotionShape& shape = op.shape;
  const auto* a = static_cast<const Real*>(op.a);
  const int64_t p = op.first + n;
  AveragedFrame<Real> frame{};
  frame.own = a + shape.at(b, p % shape.frames);
  for (int k = 0; k < shape.steps; ++k) {
    const int64_t other = p + shape.step[k];
    if (other >= 0 && other < op.total) frame.image[k] = a + shape.at(b, other % shape.frames);
  }
  frame.motion = static_cast<const Real*>(op.motion) + (b * op.count + n) * 2 * (op.raised ? shape.cells() : shape.pixels());
  frame.plane = shape.plane();
  return frame;
}

template <class Device, class Real, int few>
static void motion_average_rows(const MotionAverage& op, const Parallel& threads) {
  const MotionShape& shape = op.shape;
  averaged_frames<Device, AveragePass<Device, Real, few>, Real>(
      op, nullptr, threads, [&](AveragedFrame<Real>& frame, int64_t b, int64_t p) {
        if (op.weight) frame.weight = static_cast<Real*>(op.weight) + shape.cell_at(b, 0, p);
        frame.weight_step = shape.frames * shape.cells();
      });
}

template <class Device, class Real>
static void motion_average(const MotionAverage& op, const Parallel& threads) {
  op.shape.channels == 3 ? motion_average_rows<Device, Real, 3>(op, threads) : motion_average_rows<Device, Real, 0>(op, threads);
}

}  // namespace davsr
