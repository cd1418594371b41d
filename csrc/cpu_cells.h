// Videos [b, c, T, H, W] to cells of 4x4 pixels whose numbers lie side by side, channels-last, and back: what a small
// network at a quarter of the side reads and writes. Copies alone.
#pragma once

#include "cpu_tiles.h"

namespace davsr {

constexpr int64_t kCell = 4;

// Of the frames of `count`: every colour's 4x4 pixels, row by row, then the mean of the support less `level`. A cell
// that reaches over the frame's end repeats its last pixels; only those inside count for the mean.
template <class Device>
static void to_cells(const ToCells& op, const Parallel& threads) {
  const MotionShape& shape = op.shape;
  const int64_t wide = kCell * kCell * shape.channels + 1;
  parallel<Device>(threads, shape.batch * op.count * shape.cells_h, [&](int64_t begin, int64_t end) {
    for (int64_t unit = begin; unit < end; ++unit) {
      const int64_t row = unit % shape.cells_h, n = unit / shape.cells_h % op.count, b = unit / shape.cells_h / op.count;
      const int64_t p = op.first + n, top = row * kCell, tall = shape.height - top < kCell ? shape.height - top : kCell;
      float* to = op.cells + unit * shape.cells_w * wide;
      const float* support = op.support + (b * shape.frames + p) * shape.pixels() + top * shape.width;
      for (int64_t cell = 0; cell < shape.cells_w; ++cell, to += wide) {
        const int64_t left = cell * kCell, across = shape.width - left < kCell ? shape.width - left : kCell;
        for (int64_t c = 0; c < shape.channels; ++c) {
          const float* from = op.x + shape.at(b, p) + c * shape.plane() + top * shape.width + left;
          for (int64_t y = 0; y < kCell; ++y) {
            const float* line = from + (y < tall ? y : tall - 1) * shape.width;
            float* out = to + (c * kCell + y) * kCell;
            if (across == kCell)
              __builtin_memcpy(out, line, kCell * sizeof(float));
            else
              for (int64_t x = 0; x < kCell; ++x) out[x] = line[x < across ? x : across - 1];
          }
        }
        float sum = 0;
        for (int64_t y = 0; y < tall; ++y)
          for (int64_t x = 0; x < across; ++x) sum += support[y * shape.width + left + x];
        to[wide - 1] = sum / static_cast<float>(tall * across) - op.level;
      }
    }
  });
}

// x += cells [b * count, cells_h, cells_w, 16 channels], at frames from `first` on.
template <class Device>
static void add_cells(const AddCells& op, const Parallel& threads) {
  const MotionShape& shape = op.shape;
  const int64_t wide = kCell * kCell * shape.channels;
  parallel<Device>(threads, shape.batch * op.count * shape.cells_h, [&](int64_t begin, int64_t end) {
    for (int64_t unit = begin; unit < end; ++unit) {
      const int64_t row = unit % shape.cells_h, n = unit / shape.cells_h % op.count, b = unit / shape.cells_h / op.count;
      const int64_t top = row * kCell, tall = shape.height - top < kCell ? shape.height - top : kCell;
      const float* from = op.cells + unit * shape.cells_w * wide;
      for (int64_t cell = 0; cell < shape.cells_w; ++cell, from += wide) {
        const int64_t left = cell * kCell, across = shape.width - left < kCell ? shape.width - left : kCell;
        for (int64_t c = 0; c < shape.channels; ++c) {
          float* to = op.x + shape.at(b, op.first + n) + c * shape.plane() + top * shape.width + left;
          for (int64_t y = 0; y < tall; ++y, to += shape.width) {
            const float* line = from + (c * kCell + y) * kCell;
            if (across == kCell)
              for (int64_t x = 0; x < kCell; ++x) to[x] += line[x];
            else
              for (int64_t x = 0; x < across; ++x) to[x] += line[x];
          }
        }
      }
    }
  });
}

}  // namespace davsr
