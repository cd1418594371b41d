// Strips of columns that the average along a motion is taken in, and a coarse motion raised to the pixels of one.
#pragma once

#include "cpu_motion_average.h"
#include "cpu_motion_cells.h"

namespace davsr {

constexpr int64_t kStrip = 512;  // pixels of a row at a time: their samples stay in the second-level cache

// Columns of a frame that are averaged together: the pixels, the cells that they lie between, with `reach` more to each
// side, and those cells' pixels.
struct Strip {
  int64_t begin, end;              // pixels
  int64_t first_cell, cells;       // of a row
  int64_t first_sampled, sampled;  // pixels of a row

  template <class Real>
  static DAVSR_FN Strip of(const MotionShape& shape, int64_t number, int64_t strips, int64_t reach) {
    Strip at;
    at.begin = shape.width * number / strips;
    at.end = shape.width * (number + 1) / strips;
    const int64_t first = between<Real>(at.begin, shape.width, shape.cells_w).first - reach;
    const int64_t stop = between<Real>(at.end - 1, shape.width, shape.cells_w).second + 1 + reach;
    at.first_cell = first > 0 ? first : 0;
    at.cells = (stop < shape.cells_w ? stop : shape.cells_w) - at.first_cell;
    const int64_t last = (at.first_cell + at.cells) * shape.cell_w;
    at.first_sampled = at.first_cell * shape.cell_w;
    at.sampled = (at.end > last ? at.end : last) - at.first_sampled;
    return at;
  }
};

// A motion on the grid of cells raised to a strip's pixels: bilinear and half-pixel, in pixels of the finer grid.
template <class Device, class Real>
struct RaisedMotion {
  const MotionShape& shape;
  const int64_t room;
  Scratch<Device, Real> raised;  // [cell_h][2][room]
  CellColumns<Device, Real> columns;

  RaisedMotion(const MotionShape& of, int64_t widest, const Parallel& threads)
      : shape(of), room(widest), raised(threads, of.cell_h * 2 * widest), columns(of, 0, of.width, threads) {
    Clear<Device, Real>::run(raised.data, of.cell_h * 2 * widest);
  }
  void cover(const Strip& strip) { columns.cover(shape, strip.first_sampled, strip.first_sampled + strip.sampled); }
  const Real* row(int64_t y) const { return raised.data + y % shape.cell_h * 2 * room; }

  // Rows [begin, end), no more than a cell has, of a motion [2, cells_h, cells_w].
  void raise(const Real* motion, int64_t begin, int64_t end) {
    const Real finer[2] = {static_cast<Real>(shape.width) / static_cast<Real>(shape.cells_w),
                           static_cast<Real>(shape.height) / static_cast<Real>(shape.cells_h)};
    for (int64_t y = begin; y < end; ++y) {
      const Between<Real> at = between<Real>(y, shape.height, shape.cells_h);
      for (int axis = 0; axis < 2; ++axis) {
        const Real* upper = motion + axis * shape.cells() + at.first * shape.cells_w + columns.first_cell;
        const Real* lower = upper + (at.second - at.first) * shape.cells_w;
        const Real scale = finer[axis];
        Real* to = columns.row.data;
        DAVSR_NO_ALIAS
        for (int64_t c = 0; c < columns.cells; ++c) to[c] = scale * (upper[c] + at.beyond * (lower[c] - upper[c]));
        columns.raise(raised.data + (y % shape.cell_h * 2 + axis) * room);
      }
    }
  }
};

}  // namespace davsr
