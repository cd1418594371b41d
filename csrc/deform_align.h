// The arithmetic of deform_align, once for every device.
//
// `Device` is a type that knows how many pixels go together (Lanes<Real>: 1 on a GPU, a vector on a CPU), how packs of
// channels are loaded, and how sums into shared memory are made. Features come in padded group planes,
// [b, groups, h + 3, w + 3, channels]: the zero border (one cell before, two after) takes every sample that falls
// outside, so no corner is ever tested.
#pragma once

#include "portable.h"

namespace davsr {

// One tap of one group at a block of pixels.
template <class Device, class Real>
struct Tap {
  using F = typename Device::template Lanes<Real>;
  F tanh_y, tanh_x, mask;
  F down, right;                                 // fractions of a cell
  typename Device::template Index<Real> corner;  // upper left cell of the padded plane
};

// Cell of the padded axis at or before `base + delta`, and the fraction of a cell beyond it. The fraction is taken from
// the small displacement, not from the coordinate, so its error does not grow with the frame. What falls outside goes
// to the zero border; what is not a number stays so in the fraction.
template <class Device, class Real>
static DAVSR_FN typename Device::template Lanes<Real> split(typename Device::template Lanes<Real> delta,
                                                            typename Device::template Lanes<Real> base, int64_t size,
                                                            typename Device::template Lanes<Real>& fraction) {
  using F = typename Device::template Lanes<Real>;
  const F limit = Device::template splat<Real>(16777216), extent = Device::template splat<Real>(static_cast<Real>(size));
  F bounded = delta > limit ? limit : delta;  // what is not a number stays so
  bounded = bounded < -limit ? -limit : bounded;
  const F whole = Device::template round_down<Real>(bounded);
  const F first = base + whole;
  fraction = bounded - whole;
  const F border = extent + Device::template splat<Real>(1);
  const F cell = first < extent ? first + Device::template splat<Real>(1) : border;
  return first >= Device::template splat<Real>(-1) ? cell : border;
}

// Pixels of one row, from column x on, and the flow that moves them.
template <class F>
struct Block {
  int64_t row;
  F x, flow_y, flow_x;
};

// Tap k (row-major in the 3x3 window) from its three raw channels.
template <class Device, class Real>
static DAVSR_FN Tap<Device, Real> align_tap(const AlignShape& shape, const Block<typename Device::template Lanes<Real>>& block,
                                            int k, typename Device::template Lanes<Real> raw_y,
                                            typename Device::template Lanes<Real> raw_x,
                                            typename Device::template Lanes<Real> logit) {
  using F = typename Device::template Lanes<Real>;
  const F reach = Device::template splat<Real>(static_cast<Real>(shape.max_residue));
  Tap<Device, Real> tap;
  tap.tanh_y = Device::template tanh<Real>(raw_y);
  tap.tanh_x = Device::template tanh<Real>(raw_x);
  tap.mask = Device::template sigmoid<Real>(logit);
  const F base_y = Device::template splat<Real>(static_cast<Real>(block.row + k / 3 - 1));
  const F base_x = block.x + Device::template splat<Real>(static_cast<Real>(k % 3 - 1));
  const F y = split<Device, Real>(reach * tap.tanh_y + block.flow_y, base_y, shape.height, tap.down);
  const F x = split<Device, Real>(reach * tap.tanh_x + block.flow_x, base_x, shape.width, tap.right);
  tap.corner = Device::template cell<Real>(y, x, shape.width + 3);
  return tap;
}

template <class Real>
struct CornerWeights {
  Real top_left, top_right, low_left, low_right;
};

template <class F>
static DAVSR_FN CornerWeights<F> corner_weights(F down, F right) {
  const F one = F{} + 1;
  return {(one - down) * (one - right), (one - down) * right, down * (one - right), down * right};
}

// The same, times the mask.
template <class F>
static DAVSR_FN CornerWeights<F> corner_weights(F down, F right, F mask) {
  const F low = down * mask, top = mask - low, left = F{} + 1 - right;
  return {top * left, top * right, low * left, low * right};
}

// column[0 .. channels) = the weighted corners at `cell` of a padded plane, N channels at a time.
template <class Device, class Real, class Stored, int N>
static DAVSR_FN void sample(const Stored* cell, int64_t channels, int64_t row, const CornerWeights<Real>& weight,
                            Stored* column) {
  for (int64_t c = 0; c < channels; c += N) {
    const Stored* corner = cell + c;
    const auto above = Device::template pack<Real, N>(corner) * weight.top_left +
                       Device::template pack<Real, N>(corner + channels) * weight.top_right;
    const auto below = Device::template pack<Real, N>(corner + row) * weight.low_left +
                       Device::template pack<Real, N>(corner + row + channels) * weight.low_right;
    Device::template put<Real, N>(column + c, above + below);
  }
}

// What the chain rule needs of one tap at one pixel: the products of the column's gradient with each corner.
template <class Real>
struct CornerDots {
  Real top_left, top_right, low_left, low_right;
};

// Adds the column's gradient to the corners' gradients, writes the column itself again (the weight's gradient reads
// it).
template <class Device, class Real, class Stored, int N>
static DAVSR_FN CornerDots<Real> sample_backward(const Stored* cell, Real* d_cell, int64_t channels, int64_t row,
                                                 const CornerWeights<Real>& weight, Real mask, const Stored* d_column,
                                                 Stored* column) {
  CornerDots<Real> dots{0, 0, 0, 0};
  for (int64_t c = 0; c < channels; c += N) {
    const auto d = Device::template pack<Real, N>(d_column + c);
    const auto top_left = Device::template pack<Real, N>(cell + c);
    const auto top_right = Device::template pack<Real, N>(cell + c + channels);
    const auto low_left = Device::template pack<Real, N>(cell + c + row);
    const auto low_right = Device::template pack<Real, N>(cell + c + row + channels);
    const auto above = top_left * weight.top_left + top_right * weight.top_right;
    const auto below = low_left * weight.low_left + low_right * weight.low_right;
    Device::template put<Real, N>(column + c, (above + below) * mask);
    Device::template add_dots<Real, N>(dots, d * top_left, d * top_right, d * low_left, d * low_right);
    const auto masked = d * mask;
    Real* d_corner = d_cell + c;
    Device::template add<Real, N>(d_corner, masked * weight.top_left);
    Device::template add<Real, N>(d_corner + channels, masked * weight.top_right);
    Device::template add<Real, N>(d_corner + row, masked * weight.low_left);
    Device::template add<Real, N>(d_corner + row + channels, masked * weight.low_right);
  }
  return dots;
}

// The chain rule from the corner dots to the raw channels; returns the gradients of the coordinates, which the flow
// shares.
template <class F>
struct TapGradient {
  F y, x;                       // of the coordinate, in pixels
  F offset_y, offset_x, logit;  // of the raw channels
};

template <class F>
static DAVSR_FN TapGradient<F> tap_gradient(const CornerDots<F>& dot, F down, F right, F mask, F tanh_y, F tanh_x, F reach) {
  const F one = F{} + 1;
  const CornerWeights<F> weight = corner_weights(down, right);
  const F value = dot.top_left * weight.top_left + dot.top_right * weight.top_right + dot.low_left * weight.low_left +
                  dot.low_right * weight.low_right;
  TapGradient<F> d;
  d.y = mask * ((one - right) * (dot.low_left - dot.top_left) + right * (dot.low_right - dot.top_right));
  d.x = mask * ((one - down) * (dot.top_right - dot.top_left) + down * (dot.low_right - dot.low_left));
  d.offset_y = d.y * reach * (one - tanh_y * tanh_y);
  d.offset_x = d.x * reach * (one - tanh_x * tanh_x);
  d.logit = value * mask * (one - mask);
  return d;
}

}  // namespace davsr
