// The loops around flatten.h on a CPU: row by row, with the slopes of the row above kept. Plain loops, which the
// compiler makes vectors of.
#pragma once

#include "cpu_tiles.h"
#include "flatten.h"

namespace davsr {

// One row after the other; the slopes of the row above are kept.
template <class Device, class Real, bool gradient, int few>  // few: how many channels there are, 0: any number
struct FlattenedRows {
  const int64_t channels, width;
  const Real step, flat;
  Scratch<Device, Real> scratch;
  Real *inverse, *turn, *above_inverse, *above_turn, *across;

  FlattenedRows(int64_t channels_of, int64_t width_of, Real step_of, Real flat_of, const Parallel& threads)
      : channels(few ? few : channels_of),
        width(width_of),
        step(step_of),
        flat(flat_of),
        scratch(threads, 5 * width_of),
        inverse(scratch.data),
        turn(inverse + width_of),
        above_inverse(turn + width_of),
        above_turn(above_inverse + width_of),
        across(above_turn + width_of) {}

  DAVSR_FN void slopes(const Real* x, const Real* g, int64_t plane, int64_t below, Real* inverse_of, Real* turn_of) const {
    const auto pixel = [&](int64_t i, int64_t to_right) {
      const auto at = Slopes<CpuPixel<Device>, Real>::template of<gradient>(x + i, gradient ? g + i : nullptr,
                                                                            few ? few : channels, plane, to_right, below, flat);
      inverse_of[i] = at.inverse;
      if (gradient) turn_of[i] = at.turn;
    };
    DAVSR_NO_ALIAS
    for (int64_t i = 0; i < width - 1; ++i) pixel(i, 1);
    pixel(width - 1, 0);
  }

  // The row at x, whose channels lie `plane` apart, to `out`, where they lie `out_plane` apart. `goes_on`: the row
  // above was the last one. Backward, g is the gradient of the result; returns that of the step.
  Real run(const Real* x, const Real* g, int64_t plane, Real* out, int64_t out_plane, bool has_above, bool has_below,
           bool goes_on) {
    const int64_t below = has_below ? width : 0, above = has_above ? -width : 0;
    if (has_above && goes_on) {
      Real *const last_inverse = inverse, *const last_turn = turn;
      inverse = above_inverse;
      turn = above_turn;
      above_inverse = last_inverse;
      above_turn = last_turn;
    } else if (has_above) {
      slopes(x + above, g ? g + above : nullptr, plane, width, above_inverse, above_turn);
    }
    slopes(x, g, plane, below, inverse, turn);
    for (int64_t c = 0; c < channels; ++c) {
      const Real *here = x + c * plane, *slope = gradient ? g + c * plane : nullptr;
      Real* to = out + c * out_plane;
      const auto flux = [&](const Real* from, const Real* along, Real inverse_at, Real turn_at, int64_t far) {
        return Slopes<CpuPixel<Device>, Real>{inverse_at, turn_at}.flux(from, along, far);
      };
      DAVSR_NO_ALIAS
      for (int64_t i = 0; i + 1 < width; ++i)
        across[i] = flux(here + i, gradient ? slope + i : nullptr, inverse[i], gradient ? turn[i] : 0, 1);
      across[width - 1] = 0;
      if (has_above) DAVSR_NO_ALIAS
      for (int64_t i = 0; i < width; ++i) {
        const Real down = flux(here + i, gradient ? slope + i : nullptr, inverse[i], gradient ? turn[i] : 0, below);
        const Real came =
            flux(here + i + above, gradient ? slope + i + above : nullptr, above_inverse[i], gradient ? above_turn[i] : 0, width);
        to[i] = (gradient ? slope[i] : here[i]) + step * (across[i] + down - came);
      }
      else DAVSR_NO_ALIAS for (int64_t i = 0; i < width; ++i) {
        const Real down = flux(here + i, gradient ? slope + i : nullptr, inverse[i], gradient ? turn[i] : 0, below);
        to[i] = (gradient ? slope[i] : here[i]) + step * (across[i] + down);
      }
      DAVSR_NO_ALIAS
      for (int64_t i = 1; i < width; ++i) to[i] -= step * across[i - 1];
    }
    Real sum = 0;
    if (gradient) {  // g . D^T (u / sqrt q) = (u . v) / sqrt q, and (u . v) / q is there
      typename Device::template Lanes<Real> sums{};
      constexpr int wide = Device::template lanes<Real>;
      int64_t i = 0;
      for (; i + wide <= width; i += wide)
        sums += Device::template pack<Real, wide>(turn + i) / Device::template pack<Real, wide>(inverse + i);
      for (; i < width; ++i) sum -= turn[i] / inverse[i];
      sum -= Device::template sum<Real, wide>(sums);
    }
    return sum;
  }
};

template <class Device, class Real, bool gradient, int few>
static void flatten_rows(const Flatten& op, const Parallel& threads) {
  const MotionShape& shape = op.shape;
  const Real step = *static_cast<const Real*>(op.step), flat = static_cast<Real>(op.flat);
  parallel<Device>(threads, shape.batch * shape.frames * shape.height, [&](int64_t begin, int64_t end) {
    FlattenedRows<Device, Real, gradient, few> rows(shape.channels, shape.width, step, flat, threads);
    for (int64_t unit = begin; unit < end; ++unit) {
      const int64_t y = unit % shape.height, p = unit / shape.height % shape.frames, b = unit / shape.height / shape.frames;
      const int64_t first = shape.at(b, p) + y * shape.width;
      const Real sum =
          rows.run(static_cast<const Real*>(op.x) + first, gradient ? static_cast<const Real*>(op.grad) + first : nullptr,
                   shape.plane(), static_cast<Real*>(op.out) + first, shape.plane(), y > 0, y + 1 < shape.height, unit > begin);
      if (gradient) static_cast<Real*>(op.d_step)[unit] = sum;
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
