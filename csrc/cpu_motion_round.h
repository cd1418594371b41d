// A round along a motion in one pass on a CPU: the average of a few frames and the step down its total variation, band
// by band, so that the average never leaves the cache.
#pragma once

#include "cpu_flatten.h"
#include "cpu_motion_bands.h"

namespace davsr {

template <class Device, class Real, int few>
static void motion_round_rows(const MotionRound& op, const Parallel& threads) {
  const MotionShape& shape = op.shape;
  const int64_t channels = few ? few : shape.channels, width = shape.width, out_plane = op.count * shape.pixels();
  const int64_t most = band_rows(shape) < shape.height ? band_rows(shape) + 2 : shape.height;
  parallel<Device>(threads, shape.batch * shape.height, [&](int64_t begin, int64_t end) {
    AveragePass<Device, Real, few> pass(shape, op.mismatch, op.reach, op.raised, threads);
    FlattenedRows<Device, Real, false, few> rows(channels, width, *static_cast<const Real*>(op.step), static_cast<Real>(op.flat),
                                                 threads);
    Scratch<Device, Real> mean(threads, channels * most * width);
    bands(shape, begin, end, [&](int64_t b, int64_t top, int64_t stop) {
      const int64_t above = top > 0 ? top - 1 : top, below = stop < shape.height ? stop + 1 : stop;
      for (int64_t n = 0; n < op.count; ++n) {
        AveragedFrame<Real> frame = frame_of_round<Real>(op, b, n);
        frame.mean = mean.data;
        frame.top = above;
        frame.mean_plane = (below - above) * width;
        pass.average(frame, above, below);
        Real* out = static_cast<Real*>(op.out) + b * channels * out_plane + n * shape.pixels();
        for (int64_t y = top; y < stop; ++y)
          rows.run(mean.data + (y - above) * width, nullptr, frame.mean_plane, out + y * width, out_plane, y > 0,
                   y + 1 < shape.height, y > top);
      }
    });
  });
}

template <class Device, class Real>
static void motion_round(const MotionRound& op, const Parallel& threads) {
  op.shape.channels == 3 ? motion_round_rows<Device, Real, 3>(op, threads) : motion_round_rows<Device, Real, 0>(op, threads);
}

}  // namespace davsr
