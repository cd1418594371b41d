// Samples along a motion on a CPU: a vector of neighbouring pixels at a time.
#pragma once

#include "cpu_tiles.h"

namespace davsr {

template <class Device, class Real>
static DAVSR_FN typename Device::template Lanes<Real> load_some(const Real* from, int count) {
  constexpr int wide = Device::template lanes<Real>;
  if (count == wide) return Device::template pack<Real, wide>(from);
  typename Device::template Lanes<Real> value{};
  __builtin_memcpy(&value, from, static_cast<size_t>(count) * sizeof(Real));
  return value;
}

template <class Device, class Real>
static DAVSR_FN void store_some(Real* to, typename Device::template Lanes<Real> value, int count) {
  constexpr int wide = Device::template lanes<Real>;
  if (count == wide)
    __builtin_memcpy(to, &value, sizeof value);
  else
    __builtin_memcpy(to, &value, static_cast<size_t>(count) * sizeof(Real));
}

template <int count>
struct Colours {
  static constexpr int value = count;
};

// Calls body(Colours<n>{}, first channel) for all channels: three together where there are three.
template <class Body>
static DAVSR_FN void colours(const MotionShape& shape, const Body& body) {
  if (shape.channels == 3) return body(Colours<3>{}, 0);
  for (int64_t c = 0; c < shape.channels; ++c) body(Colours<1>{}, c);
}

// Asks for what lies `further` on, of channels that lie `plane` apart, wherever that may be.
template <int Colours, class Real>
static DAVSR_FN void look_ahead(const Real* from, int64_t further, int64_t plane) {
  const auto at = reinterpret_cast<uintptr_t>(from);
  for (int c = 0; c < Colours; ++c)
    __builtin_prefetch(reinterpret_cast<const void*>(at + static_cast<uintptr_t>(further + c * plane) * sizeof(Real)), 0, 2);
}

constexpr int64_t kWideRow = 512;   // pixels, from which on the next rows are asked for: see SampledRow::fetch
constexpr int64_t kWindowRows = 6;  // beyond so many, lanes are read by the row
constexpr int32_t kLevel = -1;      // all lanes lie in the first row of their window: two rows are read, not three

// The samples of a row of pixels at one step, of an image of any number of channels: first where they lie, then what
// lies there, so that nothing waits for the next address.
template <class Device, class Real>
struct SampledRow {
  using F = typename Device::template Lanes<Real>;
  using I = typename Device::template Index<Real>;
  using Whole = typename IntegerOf<Real>::type;
  static constexpr int wide = Device::template lanes<Real>;
  static constexpr bool windows = wide >= 8;

  const MotionShape& shape;
  int64_t first, count;  // pixels of the row
  Scratch<Device, Real> down, right;
  Scratch<Device, Whole> column, below;  // in the window
  Scratch<Device, int64_t> window;       // the number of its first pixel
  Scratch<Device, int32_t> deepest;      // its last row that a lane lies in, or kLevel; 0: there is no window
  const Real *motion_x = nullptr, *motion_y = nullptr;
  int64_t y = 0;
  int step = 0;

  SampledRow(const MotionShape& of, int64_t begin, int64_t pixels, const Parallel& threads)
      : shape(of),
        first(begin),
        count(pixels),
        down(threads, pixels + wide),
        right(threads, pixels + wide),
        column(threads, pixels + wide),
        below(threads, pixels + wide),
        window(threads, pixels / wide + 1),
        deepest(threads, pixels / wide + 1) {}

  int lanes(int64_t i) const { return static_cast<int>(count - i < wide ? count - i : wide); }

  Place<Device, Real> place_at(int64_t i) const {
    const int n = lanes(i);
    return place<Device, Real>(shape, Device::template splat<Real>(static_cast<Real>(y)),
                               Device::template ramp<Real>(static_cast<Real>(first + i)),
                               load_some<Device, Real>(motion_y + i, n), load_some<Device, Real>(motion_x + i, n), step);
  }

  // Far beyond every border, and what is no number before them all: differences of such integers stay integers.
  static DAVSR_FN F bounded(F value) {
    const F limit = Device::template splat<Real>(16777216);
    return Device::template within<Real>(value, -limit, limit);
  }

  // Held inside an axis of `size` pixels, at whose end it lies a whole pixel beyond the one before; what is no number
  // is held there.
  static DAVSR_FN void hold_inside(F& first, F& rest, int64_t size) {
    const F zero{}, end = Device::template splat<Real>(static_cast<Real>(size - 1));
    rest = first < end ? rest : zero + 1;
    first = first < end ? first : end - 1;
    rest = first < zero ? zero : rest;
    first = first < zero ? zero : first;
  }

  void locate(const void* motion, int64_t b, int64_t p, int64_t row_of_pixels, int step_to) {
    const Real* along = static_cast<const Real*>(motion) + shape.motion_at(b, p) + row_of_pixels * shape.width + first;
    locate(along, along + shape.pixels(), row_of_pixels, step_to);
  }
  void locate(const Real* along_x, const Real* along_y, int64_t row_of_pixels, int step_to) {
    y = row_of_pixels;
    step = step_to;
    motion_x = along_x;
    motion_y = along_y;
    if (!windows || shape.width < 2 * wide) return;
    const Real far = static_cast<Real>(step);
    const F at_y = Device::template splat<Real>(static_cast<Real>(y));
    F at_x = Device::template ramp<Real>(static_cast<Real>(first));
    for (int64_t i = 0; i < count; i += wide, at_x += static_cast<Real>(wide)) {
      const int n = lanes(i);
      const F delta_y = load_some<Device, Real>(motion_y + i, n) * far, delta_x = load_some<Device, Real>(motion_x + i, n) * far;
      const F whole_y = Device::template round_down<Real>(delta_y), whole_x = Device::template round_down<Real>(delta_x);
      F first_y = at_y + whole_y, first_x = at_x + whole_x, rest_y = delta_y - whole_y, rest_x = delta_x - whole_x;
      if (find_window(i, first_y, first_x, rest_y, rest_x) || shape.height < 2) continue;
      hold_inside(first_y, rest_y, shape.height);
      hold_inside(first_x, rest_x, shape.width);
      find_window(i, first_y, first_x, rest_y, rest_x);
    }
  }

  // A window of two vectors in two rows, three, or a few more, for lanes that lie in all but the last of them: the
  // usual case, but that they may have to be held inside the frame before. Whether there is one.
  DAVSR_FN bool find_window(int64_t i, F first_y, F first_x, F rest_y, F rest_x) {
    const I row = Device::template integer<Real>(bounded(first_y)), at = Device::template integer<Real>(bounded(first_x));
    const int64_t top = row[0] < row[wide - 1] ? row[0] : row[wide - 1], low = row[0] < row[wide - 1] ? row[wide - 1] : row[0];
    const int64_t left = at[0] < at[wide - 1] ? at[0] : at[wide - 1], end = at[0] < at[wide - 1] ? at[wide - 1] : at[0];
    const int64_t last = shape.width - 2 * wide;
    int64_t start = left & -wide;  // whole cache lines, where the lanes fit into them
    start = end - start < 2 * wide - 1 ? start : (left + end + 1) / 2 - wide;
    start = start < last ? start : last;
    start = start > 0 ? start : 0;
    const I from = at - static_cast<Whole>(start), second = row - static_cast<Whole>(top);
    const int64_t rows = low - top > 1 ? low - top : 1;
    const I outside = from | (static_cast<Whole>(2 * wide - 2) - from) | second | (static_cast<Whole>(rows) - second);
    Device::template put<Real, wide>(down.data + i, rest_y);
    Device::template put<Real, wide>(right.data + i, rest_x);
    __builtin_memcpy(column.data + i, &from, sizeof from);
    __builtin_memcpy(below.data + i, &second, sizeof second);
    // Without branches, but for the last one: nobody can foresee where rows end, and most lanes lie inside.
    const bool level = (low == top) & !Device::template signs<Real>(-second);
    const bool inside =
        (top >= 0) & (rows < kWindowRows) & (top + rows + !level < shape.height) & !Device::template signs<Real>(outside);
    const int32_t last_row = level ? kLevel : static_cast<int32_t>(rows);
    deepest.data[i / wide] = inside ? last_row : 0;
    window.data[i / wide] = top * shape.width + start;
    return inside;
  }

  // The last row of a window that the vector at pixel i lies in, see `deepest`.
  DAVSR_FN int32_t depth(int64_t i) const { return windows && shape.width >= 2 * wide ? deepest.data[i / wide] : 0; }

  // The samples at pixels [i, i + wide) of the row, of channels of `image` that lie `plane` apart.
  template <int Colours>
  DAVSR_FN void read(const Real* image, int64_t i, F* out) const {
    const int32_t last = depth(i);
    if (last == 1)
      read_rows<Colours, false>(image, i, out);
    else if (last == kLevel)
      read_level<Colours>(image, i, out);
    else
      read_unusual<Colours>(image, i, out);
  }

  // Asks for what the samples so many rows below will lie between: a row of a wide frame is a page of memory, across
  // which processors do not look ahead by themselves.
  template <int Colours>
  DAVSR_FN void fetch(const Real* image, int64_t i, int64_t below) const {
    if (!windows || shape.width < 2 * wide) return;
    look_ahead<Colours>(image + window.data[i / wide], (below + 1) * shape.width, shape.plane());
  }

  // Where they lie: the number of the pixel to their upper left, and how far beyond it.
  DAVSR_FN I there(int64_t i, F& to_low, F& to_right) const {
    if (depth(i) == 0) {
      const Place<Device, Real> at = place_at(i);
      to_low = at.down;
      to_right = at.right;
      return at.row * static_cast<Whole>(shape.width) + at.column;
    }
    I from, second;
    __builtin_memcpy(&from, column.data + i, sizeof from);
    __builtin_memcpy(&second, below.data + i, sizeof second);
    to_low = Device::template pack<Real, wide>(down.data + i);
    to_right = Device::template pack<Real, wide>(right.data + i);
    return from + second * static_cast<Whole>(shape.width) + static_cast<Whole>(window.data[i / wide]);
  }

  // Between the lanes' columns of a row of a window.
  static DAVSR_FN F across(const Real* row, const I& from, const F& to_right) {
    const F a = Device::template pack<Real, wide>(row), b = Device::template pack<Real, wide>(row + wide);
    const F before = shuffle(a, b, from);
    return before + to_right * (shuffle(a, b, from + 1) - before);
  }

  template <int Colours>
  DAVSR_FN void read_level(const Real* image, int64_t i, F* out) const {
    const Real* top = image + window.data[i / wide];
    const F to_right = Device::template pack<Real, wide>(right.data + i),
            to_low = Device::template pack<Real, wide>(down.data + i);
    I from;
    __builtin_memcpy(&from, column.data + i, sizeof from);
#pragma GCC unroll 3
    for (int c = 0; c < Colours; ++c, top += shape.plane()) {
      const F above = across(top, from, to_right);
      out[c] = above + to_low * (across(top + shape.width, from, to_right) - above);
    }
  }

  template <int Colours, bool deep>
  DAVSR_FN void read_rows(const Real* image, int64_t i, F* out) const {
    const Real* top = image + window.data[i / wide];
    const int64_t plane = shape.plane(), low = shape.width;
    const F to_right = Device::template pack<Real, wide>(right.data + i),
            to_low = Device::template pack<Real, wide>(down.data + i);
    I from, second;
    __builtin_memcpy(&from, column.data + i, sizeof from);
    __builtin_memcpy(&second, below.data + i, sizeof second);
#pragma GCC unroll 3
    for (int c = 0; c < Colours; ++c, top += plane) {
      const auto between = [&](const Real* row) { return across(row, from, to_right); };
      const F upper = between(top), middle = between(top + low);
      F last = between(top + 2 * low), above = second > 0 ? middle : upper, under = second > 0 ? last : middle;
      for (int32_t r = 2; deep && r <= deepest.data[i / wide]; ++r) {
        above = second >= static_cast<Whole>(r) ? last : above;
        last = between(top + (r + 1) * low);
        under = second >= static_cast<Whole>(r) ? last : under;
      }
      out[c] = above + to_low * (under - above);
    }
  }

  template <int Colours>
  __attribute__((noinline)) void read_unusual(const Real* image, int64_t i, F* out) const {
    if (depth(i) > 1) return read_rows<Colours, true>(image, i, out);
    const Place<Device, Real> at = place_at(i);
    Corners<F> around[Colours];
    Device::template corners<Real, Colours>(image, shape.plane(), shape.height, shape.width, at.row, at.column, around);
    for (int c = 0; c < Colours; ++c) out[c] = around[c].value(at.down, at.right);
  }
};

}  // namespace davsr
