// A step down the total variation of an image, smooth where it is flat, and the same step's derivative, once for every
// device:
//
//     u = D x,  q = |u|^2 + flat^2,  x - step D^T (u / sqrt q)                       D: differences to the right and
//     below, of all colours the derivative is symmetric:   g - step D^T (v / sqrt q - u (u . v) / q^1.5)    v = D g
#pragma once

#include "portable.h"

namespace davsr {

// Of one pixel, over all colours. `to_right`, `below`: how far the neighbours are in memory, 0 where there is none.
template <class Device, class Real>
struct Slopes {
  Real inverse;  // 1 / sqrt q
  Real turn;     // (u . v) / q

  template <bool gradient>  // known where it is compiled, as the number of channels may be: of rows vectors are made
  static DAVSR_FN Slopes of(const Real* x, const Real* g, int64_t channels, int64_t plane, int64_t to_right, int64_t below,
                            Real flat) {
    Real q = flat * flat, both = 0;
    for (int64_t n = 0; n < channels; ++n) {
      const int64_t c = n * plane;
      const Real across = x[c + to_right] - x[c], down = x[c + below] - x[c];
      q += across * across + down * down;
      if (gradient) both += across * (g[c + to_right] - g[c]) + down * (g[c + below] - g[c]);
    }
    return {Real(1) / Device::template root<Real>(q), both / q};
  }
  // What crosses from this pixel to the one at `far`.
  DAVSR_FN Real flux(const Real* x, const Real* g, int64_t far) const {
    const Real u = x[far] - x[0];
    return inverse * (g ? (g[far] - g[0]) - u * turn : u);
  }
};

}  // namespace davsr
