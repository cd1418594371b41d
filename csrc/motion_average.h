// The arithmetic of the average along a motion, once for every device. With m the motion at pixel q of frame p:
//
//     n_s = a_{p+s}(q + s m)            bilinear; outside the frame its border goes on
//     e_s = mean of |n_s - a_p|^2       over the colours of a cell
//     mean = (a_p + sum_s w_s n_s) / (1 + sum_s w_s)        w_s raised bilinearly from cells to pixels
#pragma once

#include "portable.h"

namespace davsr {

// The pixels around a sample, of one colour.
template <class F>
struct Corners {
  F top_left, top_right, low_left, low_right;

  DAVSR_FN F value(F down, F right) const {
    const F top = top_left + right * (top_right - top_left), low = low_left + right * (low_right - low_left);
    return top + down * (low - top);
  }
  DAVSR_FN F slope_y(F right) const {
    const F left = low_left - top_left;
    return left + right * (low_right - top_right - left);
  }
  DAVSR_FN F slope_x(F down) const {
    const F top = top_right - top_left;
    return top + down * (low_right - low_left - top);
  }
};

// Where samples lie: the pixel to their upper left, and the fractions of a pixel beyond it.
template <class Device, class Real>
struct Place {
  using F = typename Device::template Lanes<Real>;
  typename Device::template Index<Real> row, column;
  F down, right;
  F free_y, free_x;  // 1 where the sample moves with the motion, 0 where the border holds it
};

// The pixel at or before base + delta on an axis of `size`, held inside it. The fraction is taken from the small
// displacement, so that its error does not grow with the frame. What is not a number is held at the end.
template <class Device, class Real>
static DAVSR_FN typename Device::template Lanes<Real> hold(typename Device::template Lanes<Real> base,
                                                           typename Device::template Lanes<Real> delta, int64_t size,
                                                           typename Device::template Lanes<Real>& fraction,
                                                           typename Device::template Lanes<Real>& free) {
  using F = typename Device::template Lanes<Real>;
  const F zero = Device::template splat<Real>(0), one = Device::template splat<Real>(1);
  const F limit = Device::template splat<Real>(16777216), end = Device::template splat<Real>(static_cast<Real>(size - 1));
  F bounded = delta < limit ? delta : limit;
  bounded = bounded > -limit ? bounded : -limit;
  const F whole = Device::template floor<Real>(bounded);
  const F first = base + whole, rest = bounded - whole;
  const F inner = first < end ? rest : zero;
  fraction = first >= zero ? inner : zero;
  const F moves = first < end ? one : zero;
  free = first + rest > zero ? moves : zero;
  const F low = first >= zero ? first : zero;
  return low < end ? low : end;
}

template <class Device, class Real>
static DAVSR_FN Place<Device, Real> place(const MotionShape& shape, typename Device::template Lanes<Real> y,
                                          typename Device::template Lanes<Real> x, typename Device::template Lanes<Real> motion_y,
                                          typename Device::template Lanes<Real> motion_x, int step) {
  Place<Device, Real> at;
  const Real far = static_cast<Real>(step);
  const auto row = hold<Device, Real>(y, motion_y * far, shape.height, at.down, at.free_y);
  const auto column = hold<Device, Real>(x, motion_x * far, shape.width, at.right, at.free_x);
  at.row = Device::template integer<Real>(row);
  at.column = Device::template integer<Real>(column);
  return at;
}

// Between which cells of an axis a pixel lies, and how far beyond the first: bilinear interpolation, half-pixel.
template <class Real>
struct Between {
  int64_t first, second;
  Real beyond;
};

template <class Real>
static DAVSR_FN Between<Real> between(int64_t pixel, int64_t pixels, int64_t cells) {
  const Real ratio = static_cast<Real>(cells) / static_cast<Real>(pixels);
  Real at = ratio * (static_cast<Real>(pixel) + Real(0.5)) - Real(0.5);
  at = at > 0 ? at : 0;
  int64_t first = static_cast<int64_t>(at);
  first = first < cells - 1 ? first : cells - 1;
  return {first, first + 1 < cells ? first + 1 : first, at - static_cast<Real>(first)};
}

}  // namespace davsr
