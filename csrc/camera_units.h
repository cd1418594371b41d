// Units of the camera and of its transpose: what a GPU thread does. Neighbours work on neighbouring pixels of a row.
// Torch-free; `Device` is Cuda or Serial.
#pragma once

#include "camera.h"

namespace davsr {

// Some taps of an axis, few enough to go along with a launch: nothing has to be copied to a GPU before it. Positions
// along one axis fit 32 bits, which a GPU counts in; places in memory do not.
template <class Real>
struct CameraTaps : CameraGrid<int32_t> {
  static constexpr int64_t kMost = 64;
  static constexpr int64_t kLongest = 1 << 29;  // HR samples; a period is twice as long
  Real weight[kMost];
};

// Unit = one number of `out` [.., samples, inner], of x [.., scale samples, inner]: one axis of A.
template <class Device, class Real>
struct CameraAlong {
  CameraTaps<Real> axis;
  int64_t inner;
  const Real *x, *base;  // base: like out, possibly out itself, or null
  Real* out;             // base + sum, or base - sum
  bool subtract;

  DAVSR_FN void operator()(int64_t unit) const {
    const int64_t column = unit % inner, line = unit / inner;
    const auto first = axis.scale * static_cast<int32_t>(line % axis.samples);
    const Real* from = x + line / axis.samples * axis.size() * inner + column;
    Real sum = 0;
    if (axis.inside(first)) {
      from += (first + axis.start) * inner;
      for (int32_t k = 0; k < axis.taps; ++k) sum += axis.weight[k] * from[k * inner];
    } else {
      for (int32_t k = 0; k < axis.taps; ++k) sum += axis.weight[k] * from[axis.place(first + k) * inner];
    }
    const Real before = base ? base[unit] : Real(0);
    out[unit] = subtract ? before - sum : before + sum;
  }
};

// Unit = `scale` numbers of `out` [.., scale samples, inner] that follow each other along the axis, of y
// [.., samples, inner]: the transpose of one axis.
template <class Device, class Real>
struct CameraBack {
  CameraTaps<Real> axis;
  int64_t inner;
  const Real *y, *base;  // base: like out, possibly out itself, or null
  Real* out;             // base + sum

  DAVSR_FN void operator()(int64_t unit) const {
    const int64_t column = unit % inner, line = unit / inner;
    const auto sample = static_cast<int32_t>(line % axis.samples);
    const Real* from = y + (line - sample) * inner + column;
    int64_t to = line * axis.scale * inner + column;
    Real next = base ? base[to] : Real(0);
    for (int32_t at = axis.scale * sample; at < axis.scale * (sample + 1); ++at, to += inner) {
      Real sum = next;
      if (base && at + 1 < axis.scale * (sample + 1)) next = base[to + inner];  // on its way while this one is made
      axis.folded(at, [&](int32_t last, int32_t tap) {
        for (int32_t i = last, k = tap; i >= 0 && k < axis.taps; --i, k += axis.scale) sum += axis.weight[k] * from[i * inner];
      });
      out[to] = sum;
    }
  }
};

}  // namespace davsr
