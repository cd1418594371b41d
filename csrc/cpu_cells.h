// Cells of 4x4 pixels, their numbers side by side, and back, on a CPU: four pixels at a time.
#pragma once

#include "cpu_tiles.h"

namespace davsr {

constexpr int64_t kCellSide = 4;

// The cells of one row of a frame. A cell that reaches over the frame's end has fewer rows or columns of its own.
template <class Device>
struct CellRow {
  using Four = typename Device::template Pack<float, kCellSide>;
  const MotionShape& shape;
  const int64_t b, p, r, tall;

  CellRow(const MotionShape& of, int64_t unit)
      : shape(of),
        b(unit / (of.frames * of.cells_h)),
        p(unit / of.cells_h % of.frames),
        r(unit % of.cells_h),
        tall(of.height - r * kCellSide < kCellSide ? of.height - r * kCellSide : kCellSide) {}

  int64_t pixel(int64_t channel) const { return shape.at(b, p) + channel * shape.plane() + r * kCellSide * shape.width; }
  int64_t support() const { return (b * shape.frames + p) * shape.pixels() + r * kCellSide * shape.width; }
  int64_t across(int64_t cell) const {
    return shape.width - cell * kCellSide < kCellSide ? shape.width - cell * kCellSide : kCellSide;
  }
};

// The pixels of a row of cells, and the mean of its support (null: none) less `level` behind them; from one cell to the
// next `apart` numbers.
template <class Device>
static void row_to_cells(const CellRow<Device>& row, const float* x, const float* support, float level, bool repeats,
                         float* cells, int64_t apart) {
  using Four = typename CellRow<Device>::Four;
  const MotionShape& shape = row.shape;
  const int64_t pixels = kCellSide * kCellSide, whole = shape.width / kCellSide;
  for (int64_t c = 0; c < shape.channels; ++c)
    for (int64_t y = 0; y < kCellSide; ++y) {
      const float* from = x + row.pixel(c) + (y < row.tall ? y : row.tall - 1) * shape.width;
      float* to = cells + c * pixels + y * kCellSide;
      const bool there = repeats || y < row.tall;
      for (int64_t cell = 0; cell < whole; ++cell)
        Device::template put<float, kCellSide>(to + cell * apart,
                                               there ? Device::template pack<float, kCellSide>(from + cell * kCellSide) : Four{});
      for (int64_t i = 0; whole < shape.cells_w && i < kCellSide; ++i) {
        const int64_t column = whole * kCellSide + i, last = shape.width - 1;
        to[whole * apart + i] = there && (repeats || column <= last) ? from[column < last ? column : last] : 0;
      }
    }
  if (!support) return;
  support += row.support();
  float* to = cells + pixels * shape.channels;
  for (int64_t cell = 0; cell < whole; ++cell) {
    Four sum{};
    for (int64_t y = 0; y < row.tall; ++y)
      sum += Device::template pack<float, kCellSide>(support + y * shape.width + cell * kCellSide);
    to[cell * apart] = (sum[0] + sum[1] + sum[2] + sum[3]) / static_cast<float>(row.tall * kCellSide) - level;
  }
  if (whole == shape.cells_w) return;
  float sum = 0;
  for (int64_t y = 0; y < row.tall; ++y)
    for (int64_t x_at = whole * kCellSide; x_at < shape.width; ++x_at) sum += support[y * shape.width + x_at];
  to[whole * apart] = sum / static_cast<float>(row.tall * row.across(whole)) - level;
}

// Back, added to x: what lies beyond the frame is added to the last pixels where it `repeats` them. The number behind
// the pixels is spread over the support.
template <class Device>
static void cells_to_row(const CellRow<Device>& row, const float* cells, int64_t apart, bool repeats, float* x, float* support) {
  using Four = typename CellRow<Device>::Four;
  const MotionShape& shape = row.shape;
  const int64_t pixels = kCellSide * kCellSide, whole = shape.width / kCellSide;
  for (int64_t c = 0; c < shape.channels; ++c)
    for (int64_t y = 0; y < (repeats ? kCellSide : row.tall); ++y) {
      float* to = x + row.pixel(c) + (y < row.tall ? y : row.tall - 1) * shape.width;
      const float* from = cells + c * pixels + y * kCellSide;
      for (int64_t cell = 0; cell < whole; ++cell) {
        float* at = to + cell * kCellSide;
        const Four more = Device::template pack<float, kCellSide>(from + cell * apart);
        Device::template put<float, kCellSide>(at, Device::template pack<float, kCellSide>(at) + more);
      }
      for (int64_t i = 0; whole < shape.cells_w && i < kCellSide; ++i) {
        const int64_t column = whole * kCellSide + i, last = shape.width - 1;
        if (repeats || column <= last) to[column < last ? column : last] += from[whole * apart + i];
      }
    }
  if (!support) return;
  support += row.support();
  for (int64_t cell = 0; cell < shape.cells_w; ++cell) {
    const int64_t across = row.across(cell);
    const float share = cells[cell * apart + pixels * shape.channels] / static_cast<float>(row.tall * across);
    for (int64_t y = 0; y < row.tall; ++y)
      for (int64_t i = 0; i < across; ++i) support[y * shape.width + cell * kCellSide + i] = share;
  }
}

}  // namespace davsr
