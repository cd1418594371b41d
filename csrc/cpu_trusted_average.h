// The average along a motion whose weights a network changes, in one pass on a CPU.
#pragma once

#include "cpu_motion_bands.h"

namespace davsr {

template <class Device, int few>
static void trusted_average_rows(const TrustedAverage& op, const Parallel& threads) {
  averaged_frames<Device, AveragePass<Device, float, few, true>, float>(
      op, &op.layers, threads, [&](AveragedFrame<float>& frame, int64_t b, int64_t p) {
        const int64_t cells = (b * op.shape.frames + p) * op.shape.cells();
        frame.speed = op.speed + cells;
        frame.weight_step = op.shape.frames * op.shape.cells();
        frame.weight = op.weight + op.shape.cell_at(b, 0, p);
        frame.root = op.root + op.shape.cell_at(b, 0, p);
        frame.texture = op.texture + cells;
      });
}

template <class Device>
static void trusted_average(const TrustedAverage& op, const Parallel& threads) {
  op.shape.channels == 3 ? trusted_average_rows<Device, 3>(op, threads) : trusted_average_rows<Device, 0>(op, threads);
}

}  // namespace davsr
