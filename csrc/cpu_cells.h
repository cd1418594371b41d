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

  int64_t first_cell() const { return ((b * shape.frames + p) * shape.cells_h + r) * shape.cells_w; }
  int64_t pixel(int64_t channel) const { return shape.at(b, p) + channel * shape.plane() + r * kCellSide * shape.width; }
  int64_t support() const { return (b * shape.frames + p) * shape.pixels() + r * kCellSide * shape.width; }
  int64_t across(int64_t cell) const {
    return shape.width - cell * kCellSide < kCellSide ? shape.width - cell * kCellSide : kCellSide;
  }
};

template <class Device>
static void pixels_to_cells(const PixelsToCells& op, const Parallel& threads) {
  using Row = CellRow<Device>;
  const MotionShape& shape = op.shape;
  const int64_t pixels = kCellSide * kCellSide, numbers = pixels * shape.channels + (op.support ? 1 : 0);
  parallel<Device>(threads, shape.batch * shape.frames * shape.cells_h, [&](int64_t begin, int64_t end) {
    for (int64_t unit = begin; unit < end; ++unit) {
      const Row row(shape, unit);
      float* cells = op.cells + row.first_cell() * numbers;
      for (int64_t c = 0; c < shape.channels; ++c)
        for (int64_t y = 0; y < kCellSide; ++y) {
          const float* from = op.x + row.pixel(c) + (y < row.tall ? y : row.tall - 1) * shape.width;
          float* to = cells + c * pixels + y * kCellSide;
          const bool there = op.repeats || y < row.tall;
          for (int64_t cell = 0; cell < shape.cells_w; ++cell, to += numbers, from += kCellSide) {
            const int64_t across = row.across(cell);
            if (there && across == kCellSide)
              Device::template put<float, kCellSide>(to, Device::template pack<float, kCellSide>(from));
            else
              for (int64_t x = 0; x < kCellSide; ++x)
                to[x] = !there || (x >= across && !op.repeats) ? 0 : from[x < across ? x : across - 1];
          }
        }
      if (!op.support) continue;
      const float* support = op.support + row.support();
      for (int64_t cell = 0; cell < shape.cells_w; ++cell) {
        const int64_t across = row.across(cell);
        float sum = 0;
        for (int64_t y = 0; y < row.tall; ++y)
          for (int64_t x = 0; x < across; ++x) sum += support[y * shape.width + cell * kCellSide + x];
        cells[cell * numbers + numbers - 1] = sum / static_cast<float>(row.tall * across) - op.level;
      }
    }
  });
}

template <class Device>
static void cells_to_pixels(const CellsToPixels& op, const Parallel& threads) {
  using Row = CellRow<Device>;
  using Four = typename Row::Four;
  const MotionShape& shape = op.shape;
  const int64_t pixels = kCellSide * kCellSide;
  parallel<Device>(threads, shape.batch * shape.frames * shape.cells_h, [&](int64_t begin, int64_t end) {
    for (int64_t unit = begin; unit < end; ++unit) {
      const Row row(shape, unit);
      const float* cells = op.cells + row.first_cell() * op.numbers;
      for (int64_t c = 0; c < shape.channels; ++c)
        for (int64_t y = 0; y < kCellSide; ++y) {
          if (y >= row.tall && !op.repeats) break;
          float* to = op.x + row.pixel(c) + (y < row.tall ? y : row.tall - 1) * shape.width;
          const float* from = cells + c * pixels + y * kCellSide;
          for (int64_t cell = 0; cell < shape.cells_w; ++cell, from += op.numbers, to += kCellSide) {
            const int64_t across = row.across(cell);
            if (across == kCellSide) {
              const Four sum = Device::template pack<float, kCellSide>(to) + Device::template pack<float, kCellSide>(from);
              Device::template put<float, kCellSide>(to, sum);
            } else {
              for (int64_t x = 0; x < (op.repeats ? kCellSide : across); ++x) to[x < across ? x : across - 1] += from[x];
            }
          }
        }
      if (!op.support) continue;
      float* support = op.support + row.support();
      for (int64_t cell = 0; cell < shape.cells_w; ++cell) {
        const int64_t across = row.across(cell);
        const float share = cells[cell * op.numbers + op.numbers - 1] / static_cast<float>(row.tall * across);
        for (int64_t y = 0; y < row.tall; ++y)
          for (int64_t x = 0; x < across; ++x) support[y * shape.width + cell * kCellSide + x] = share;
      }
    }
  });
}

}  // namespace davsr
