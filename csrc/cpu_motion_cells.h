// How the cells of a row lie under its columns of pixels, on a CPU: rows of cells raised to pixels, a vector at a time.
#pragma once

#include "cpu_motion_sample.h"

namespace davsr {

template <class Device, class Real>
struct CellColumns {
  using F = typename Device::template Lanes<Real>;
  using I = typename Device::template Index<Real>;
  using Whole = typename IntegerOf<Real>::type;
  static constexpr int wide = Device::template lanes<Real>;

  int64_t count = 0, first_cell = 0, cells = 0;  // columns; the cells that they lie between
  const int64_t room;
  Scratch<Device, Real> row;             // those of one row of cells, and what vectors read past them
  Scratch<Device, Real> beyond;          // see Between
  Scratch<Device, Whole> first, second;  // the cells that a column lies between, from that of `base`
  Scratch<Device, int64_t> base;         // of a vector of columns

  // How many numbers a row has, with what vectors reach past it.
  static int64_t room_for(int64_t columns) { return (columns + wide - 1) / wide * wide + 2 * wide; }

  // Of columns [begin, end), or of any that are no more.
  CellColumns(const MotionShape& shape, int64_t begin, int64_t end, const Parallel& threads)
      : room(room_for(end - begin)),
        row(threads, shape.cells_w + 2 * wide),
        beyond(threads, room),
        first(threads, room),
        second(threads, room),
        base(threads, room / wide) {
    Clear<Device, Real>::run(row.data, shape.cells_w + 2 * wide);
    cover(shape, begin, end);
  }

  void cover(const MotionShape& shape, int64_t begin, int64_t end) {
    count = end - begin;
    first_cell = between<Real>(begin, shape.width, shape.cells_w).first;
    cells = between<Real>(end - 1, shape.width, shape.cells_w).second + 1 - first_cell;
    for (int64_t i = 0; i < room_for(count); ++i) {
      const int64_t x = begin + i < end ? begin + i : end - 1;
      const Between<Real> at = between<Real>(x, shape.width, shape.cells_w);
      if (i % wide == 0) base.data[i / wide] = at.first - first_cell;
      const int64_t from = first_cell + base.data[i / wide];
      beyond.data[i] = at.beyond;
      first.data[i] = static_cast<Whole>(at.first - from);
      second.data[i] = static_cast<Whole>(at.second - from);
    }
  }

  // `row` at every column.
  DAVSR_FN void raise(Real* to) const {
    for (int64_t i = 0; i < count; i += wide) {
      const Real* from = row.data + base.data[i / wide];
      const F a = Device::template pack<Real, wide>(from), b = Device::template pack<Real, wide>(from + wide);
      I before, after;
      __builtin_memcpy(&before, first.data + i, sizeof before);
      __builtin_memcpy(&after, second.data + i, sizeof after);
      const F low = shuffle(a, b, before);
      Device::template put<Real, wide>(to + i,
                                       low + Device::template pack<Real, wide>(beyond.data + i) * (shuffle(a, b, after) - low));
    }
  }
};

// A number of every cell, at all of its columns.
template <class Device, class Real>
static DAVSR_FN void spread_cells(const Real* from, int64_t cells, int64_t cell_w, Real* to) {
  if (cell_w == 4) {
    for (int64_t c = 0; c < cells; ++c)
      Device::template put<Real, 4>(to + 4 * c, typename Device::template Pack<Real, 4>{} + from[c]);
  } else {
    for (int64_t c = 0; c < cells; ++c, to += cell_w)
      for (int64_t i = 0; i < cell_w; ++i) to[i] = from[c];
  }
}

}  // namespace davsr
