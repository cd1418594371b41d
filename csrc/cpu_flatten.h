// The loops around flatten.h on a CPU: row by row, with the slopes of the row above kept. Plain loops, which the
// compiler makes vectors of.
#pragma once

#include "cpu_tiles.h"
#include "flatten.h"

namespace davsr {

template <class Isa>
struct CpuPixel {
  template <class Real>
  static DAVSR_FN float root(float value) {
    return __builtin_sqrtf(value);
  }
  template <class Real>
  static DAVSR_FN double root(double value) {
    return __builtin_sqrt(value);
  }
};

template <class Device, class Real, bool gradient, int few>  // few: how many channels there are, 0: any number
static void flatten_rows(const Flatten& op, const Parallel& threads) {
  const MotionShape& shape = op.shape;
  const int64_t width = shape.width, plane = shape.plane();
  const Real step = *static_cast<const Real*>(op.step), flat = static_cast<Real>(op.flat);
  parallel<Device>(threads, shape.batch * shape.frames * shape.height, [&](int64_t begin, int64_t end) {
    Scratch<Device, Real> scratch(threads, 5 * width);
    Real *inverse = scratch.data, *turn = inverse + width, *above_inverse = turn + width, *above_turn = above_inverse + width;
    Real* across = above_turn + width;
    const auto slopes = [&](const Real* x, const Real* g, int64_t below, Real* inverse_of, Real* turn_of) {
      const auto pixel = [&](int64_t i, int64_t to_right) {
        const auto at = Slopes<CpuPixel<Device>, Real>::of(x + i, gradient ? g + i : nullptr, few ? few : shape.channels, plane,
                                                           to_right, below, flat);
        inverse_of[i] = at.inverse;
        if (gradient) turn_of[i] = at.turn;
      };
      DAVSR_NO_ALIAS
      for (int64_t i = 0; i < width - 1; ++i) pixel(i, 1);
      pixel(width - 1, 0);
    };
    int64_t known = -1;  // the row whose slopes lie in `inverse`
    for (int64_t unit = begin; unit < end; ++unit) {
      const int64_t y = unit % shape.height, p = unit / shape.height % shape.frames, b = unit / shape.height / shape.frames;
      const int64_t first = shape.at(b, p) + y * width, below = y + 1 < shape.height ? width : 0, above = y ? -width : 0;
      const Real* x = static_cast<const Real*>(op.x) + first;
      const Real* g = gradient ? static_cast<const Real*>(op.grad) + first : nullptr;
      Real* out = static_cast<Real*>(op.out) + first;
      if (y > 0 && known == unit - 1) {
        Real *const last_inverse = inverse, *const last_turn = turn;
        inverse = above_inverse;
        turn = above_turn;
        above_inverse = last_inverse;
        above_turn = last_turn;
      } else if (y > 0) {
        slopes(x + above, g ? g + above : nullptr, width, above_inverse, above_turn);
      }
      slopes(x, g, below, inverse, turn);
      known = unit;
      Real sum = 0;
      for (int64_t c = 0; c < shape.channels; ++c) {
        const Real *here = x + c * plane, *slope = gradient ? g + c * plane : nullptr;
        Real* to = out + c * plane;
        const auto flux = [&](const Real* from, const Real* along, Real inverse_at, Real turn_at, int64_t far) {
          return Slopes<CpuPixel<Device>, Real>{inverse_at, turn_at}.flux(from, along, far);
        };
        DAVSR_NO_ALIAS
        for (int64_t i = 0; i + 1 < width; ++i)
          across[i] = flux(here + i, gradient ? slope + i : nullptr, inverse[i], gradient ? turn[i] : 0, 1);
        across[width - 1] = 0;
        if (y > 0) DAVSR_NO_ALIAS
        for (int64_t i = 0; i < width; ++i) {
          const Real down = flux(here + i, gradient ? slope + i : nullptr, inverse[i], gradient ? turn[i] : 0, below);
          const Real came = flux(here + i + above, gradient ? slope + i + above : nullptr, above_inverse[i],
                                 gradient ? above_turn[i] : 0, width);
          to[i] = (gradient ? slope[i] : here[i]) + step * (across[i] + down - came);
        }
        else DAVSR_NO_ALIAS for (int64_t i = 0; i < width; ++i) {
          const Real down = flux(here + i, gradient ? slope + i : nullptr, inverse[i], gradient ? turn[i] : 0, below);
          to[i] = (gradient ? slope[i] : here[i]) + step * (across[i] + down);
        }
        DAVSR_NO_ALIAS
        for (int64_t i = 1; i < width; ++i) to[i] -= step * across[i - 1];
      }
      if (gradient) {  // g . D^T (u / sqrt q) = (u . v) / sqrt q, and (u . v) / q is there
        DAVSR_NO_ALIAS
        for (int64_t i = 0; i < width; ++i) sum -= turn[i] / inverse[i];
        static_cast<Real*>(op.d_step)[unit] = sum;
      }
    }
  });
}

template <class Device, class Real>
static void flatten(const Flatten& op, const Parallel& threads) {
  if (op.shape.channels == 3)
    op.grad ? flatten_rows<Device, Real, true, 3>(op, threads) : flatten_rows<Device, Real, false, 3>(op, threads);
  else
    op.grad ? flatten_rows<Device, Real, true, 0>(op, threads) : flatten_rows<Device, Real, false, 0>(op, threads);
}

}  // namespace davsr
