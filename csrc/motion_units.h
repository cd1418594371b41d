// Units of the ops along the motion: what a GPU thread does. Torch-free; `Device` is Cuda or Serial.
#pragma once

#include "flatten.h"
#include "one_lane.h"

namespace davsr {

// One pixel of one frame.
struct MotionPixel {
  int64_t b, p, y, x;

  static DAVSR_FN MotionPixel of(const MotionShape& shape, int64_t unit) {
    const int64_t pixel = unit % shape.pixels(), frame = unit / shape.pixels();
    return {frame / shape.frames, frame % shape.frames, pixel / shape.width, pixel % shape.width};
  }
  template <class Device, class Real>
  DAVSR_FN Place<Device, Real> sample(const MotionShape& shape, const Real* motion, int step) const {
    const Real* there = motion + shape.motion_at(b, p) + y * shape.width + x;
    return place<Device, Real>(shape, static_cast<Real>(y), static_cast<Real>(x), there[shape.pixels()], there[0], step);
  }
};

template <class Device, class Real>
static DAVSR_FN Corners<Real> look(const MotionShape& shape, const Real* image, const Place<Device, Real>& at) {
  Corners<Real> around;
  Device::template corners<Real, 1>(image, 0, shape.height, shape.width, at.row, at.column, &around);
  return around;
}

// A pixel between four cells, and their weights.
template <class Real>
struct CellWeights {
  int64_t at[4];
  Real weight[4];

  static DAVSR_FN CellWeights of(const MotionShape& shape, const MotionPixel& pixel) {
    const Between<Real> v = between<Real>(pixel.y, shape.height, shape.cells_h);
    const Between<Real> u = between<Real>(pixel.x, shape.width, shape.cells_w);
    return {{v.first * shape.cells_w + u.first, v.first * shape.cells_w + u.second, v.second * shape.cells_w + u.first,
             v.second * shape.cells_w + u.second},
            {(1 - v.beyond) * (1 - u.beyond), (1 - v.beyond) * u.beyond, v.beyond * (1 - u.beyond), v.beyond * u.beyond}};
  }
  DAVSR_FN Real value(const Real* cells) const {
    Real sum = 0;
    DAVSR_UNROLL
    for (int i = 0; i < 4; ++i) sum += weight[i] * cells[at[i]];
    return sum;
  }
};

// Adds `value` to the pixels that a sample came from.
template <class Device, class Real>
static DAVSR_FN void spread(const MotionShape& shape, const Place<Device, Real>& at, Real value, Real* image) {
  Real* to = image + at.row * shape.width + at.column;
  const int64_t right = at.column + 1 < shape.width ? 1 : 0, below = at.row + 1 < shape.height ? shape.width : 0;
  const Real low = value * at.down, top = value - low;
  Device::add_one(to, top * (1 - at.right));
  Device::add_one(to + right, top * at.right);
  Device::add_one(to + below, low * (1 - at.right));
  Device::add_one(to + below + right, low * at.right);
}

// Unit = one cell of one step and frame.
template <class Device, class Real>
struct MismatchCell {
  MotionShape shape;
  const Real *a, *motion;
  Real* error;

  DAVSR_FN void operator()(int64_t unit) const {
    const int64_t cell = unit % shape.cells(), p = unit / shape.cells() % shape.frames;
    const int64_t k = unit / shape.cells() / shape.frames % shape.steps, b = unit / shape.cells() / shape.frames / shape.steps;
    Real sum = 0;
    if (shape.has(p + shape.step[k])) {
      for (int64_t i = 0; i < shape.cell_h * shape.cell_w; ++i) {
        const MotionPixel pixel{b, p, cell / shape.cells_w * shape.cell_h + i / shape.cell_w,
                                cell % shape.cells_w * shape.cell_w + i % shape.cell_w};
        const Place<Device, Real> at = pixel.template sample<Device, Real>(shape, motion, shape.step[k]);
        for (int64_t c = 0; c < shape.channels; ++c) {
          const Corners<Real> around = look<Device, Real>(shape, a + shape.at(b, p + shape.step[k]) + c * shape.plane(), at);
          const Real own = a[shape.at(b, p) + c * shape.plane() + pixel.y * shape.width + pixel.x];
          const Real difference = around.value(at.down, at.right) - own;
          sum += difference * difference;
        }
      }
    }
    error[unit] = sum / static_cast<Real>(shape.channels * shape.cell_h * shape.cell_w);
  }
};

// Unit = one pixel of one frame.
template <class Device, class Real>
struct MismatchGradient {
  MotionShape shape;
  const Real *a, *motion, *d_error;
  Real *d_a, *d_motion;

  DAVSR_FN void operator()(int64_t unit) const {
    const MotionPixel pixel = MotionPixel::of(shape, unit);
    const int64_t here = pixel.y * shape.width + pixel.x, row = pixel.y / shape.cell_h, column = pixel.x / shape.cell_w;
    const bool inside = row < shape.cells_h && column < shape.cells_w;
    const Real share = Real(2) / static_cast<Real>(shape.channels * shape.cell_h * shape.cell_w);
    Real slope_x = 0, slope_y = 0;
    for (int k = 0; inside && k < shape.steps; ++k) {
      const int step = shape.step[k];
      if (!shape.has(pixel.p + step)) continue;
      const Real d = share * d_error[shape.cell_at(pixel.b, k, pixel.p) + row * shape.cells_w + column];
      const Place<Device, Real> at = pixel.template sample<Device, Real>(shape, motion, step);
      for (int64_t c = 0; c < shape.channels; ++c) {
        const int64_t there = shape.at(pixel.b, pixel.p + step) + c * shape.plane();
        const int64_t own = shape.at(pixel.b, pixel.p) + c * shape.plane() + here;
        const Corners<Real> around = look<Device, Real>(shape, a + there, at);
        const Real back = d * (around.value(at.down, at.right) - a[own]);
        Device::add_one(d_a + own, -back);
        spread<Device, Real>(shape, at, back, d_a + there);
        slope_x += back * around.slope_x(at.down) * at.free_x * static_cast<Real>(step);
        slope_y += back * around.slope_y(at.right) * at.free_y * static_cast<Real>(step);
      }
    }
    if (d_motion) {
      Real* to = d_motion + shape.motion_at(pixel.b, pixel.p) + here;
      to[0] = slope_x;
      to[shape.pixels()] = slope_y;
    }
  }
};

// Unit = one pixel of one frame.
template <class Device, class Real>
struct BlendPixel {
  MotionShape shape;
  const Real *a, *motion, *weight;
  Real *mean, *support;

  DAVSR_FN void operator()(int64_t unit) const {
    const MotionPixel pixel = MotionPixel::of(shape, unit);
    const CellWeights<Real> cells = CellWeights<Real>::of(shape, pixel);
    const int64_t own = shape.at(pixel.b, pixel.p) + pixel.y * shape.width + pixel.x;
    for (int64_t c = 0; c < shape.channels; ++c) {
      Real total = a[own + c * shape.plane()], sum = 1;
      for (int k = 0; k < shape.steps; ++k) {
        if (!shape.has(pixel.p + shape.step[k])) continue;
        const Place<Device, Real> at = pixel.template sample<Device, Real>(shape, motion, shape.step[k]);
        const Real w = cells.value(weight + shape.cell_at(pixel.b, k, pixel.p));
        total += w * look<Device, Real>(shape, a + shape.at(pixel.b, pixel.p + shape.step[k]) + c * shape.plane(), at)
                         .value(at.down, at.right);
        sum += w;
      }
      mean[own + c * shape.plane()] = total / sum;
      support[unit] = sum;
    }
  }
};

// Unit = one pixel of one frame.
template <class Device, class Real>
struct BlendGradient {
  MotionShape shape;
  const Real *a, *motion, *weight, *mean, *support, *d_mean, *d_support;
  Real *d_a, *d_weight, *d_motion;

  DAVSR_FN void operator()(int64_t unit) const {
    const MotionPixel pixel = MotionPixel::of(shape, unit);
    const CellWeights<Real> cells = CellWeights<Real>::of(shape, pixel);
    const int64_t here = pixel.y * shape.width + pixel.x, own = shape.at(pixel.b, pixel.p) + here;
    const Real inverse = 1 / support[unit];
    Real slope_x = 0, slope_y = 0;
    for (int64_t c = 0; c < shape.channels; ++c)
      Device::add_one(d_a + own + c * shape.plane(), d_mean[own + c * shape.plane()] * inverse);
    for (int k = 0; k < shape.steps; ++k) {
      const int step = shape.step[k];
      if (!shape.has(pixel.p + step)) continue;
      const Place<Device, Real> at = pixel.template sample<Device, Real>(shape, motion, step);
      const int64_t of_step = shape.cell_at(pixel.b, k, pixel.p);
      const Real w = cells.value(weight + of_step);
      Real d_w = d_support[unit];
      for (int64_t c = 0; c < shape.channels; ++c) {
        const int64_t there = shape.at(pixel.b, pixel.p + step) + c * shape.plane();
        const Real g = d_mean[own + c * shape.plane()] * inverse;
        const Corners<Real> around = look<Device, Real>(shape, a + there, at);
        d_w += g * (around.value(at.down, at.right) - mean[own + c * shape.plane()]);
        spread<Device, Real>(shape, at, g * w, d_a + there);
        slope_x += g * w * around.slope_x(at.down) * at.free_x * static_cast<Real>(step);
        slope_y += g * w * around.slope_y(at.right) * at.free_y * static_cast<Real>(step);
      }
      DAVSR_UNROLL
      for (int i = 0; i < 4; ++i) Device::add_one(d_weight + of_step + cells.at[i], d_w * cells.weight[i]);
    }
    if (d_motion) {
      Real* to = d_motion + shape.motion_at(pixel.b, pixel.p) + here;
      to[0] = slope_x;
      to[shape.pixels()] = slope_y;
    }
  }
};

// Unit = one pixel of one frame; `grad` null: the step itself.
template <class Device, class Real>
struct FlattenPixel {
  MotionShape shape;
  Real flat;
  const Real *x, *step, *grad;
  Real *out, *d_step;  // d_step: of every pixel, to be summed

  DAVSR_FN void operator()(int64_t unit) const {
    const MotionPixel pixel = MotionPixel::of(shape, unit);
    const int64_t own = shape.at(pixel.b, pixel.p) + pixel.y * shape.width + pixel.x;
    const int64_t right = pixel.x + 1 < shape.width ? 1 : 0, below = pixel.y + 1 < shape.height ? shape.width : 0;
    const auto slopes = [&](int64_t at, int64_t to_right, int64_t to_below) {
      return grad ? Slopes<Device, Real>::template of<true>(x + at, grad + at, shape.channels, shape.plane(), to_right, to_below,
                                                            flat)
                  : Slopes<Device, Real>::template of<false>(x + at, nullptr, shape.channels, shape.plane(), to_right, to_below,
                                                             flat);
    };
    const Slopes<Device, Real> here = slopes(own, right, below);
    Slopes<Device, Real> left{0, 0}, above{0, 0};
    if (pixel.x > 0) left = slopes(own - 1, 1, below);
    if (pixel.y > 0) above = slopes(own - shape.width, right, shape.width);
    for (int64_t c = 0; c < shape.channels; ++c) {
      const Real *value = x + own + c * shape.plane(), *slope = grad ? grad + own + c * shape.plane() : nullptr;
      Real sum = here.flux(value, slope, right) + here.flux(value, slope, below);
      if (pixel.x > 0) sum -= left.flux(value - 1, slope ? slope - 1 : nullptr, 1);
      if (pixel.y > 0) sum -= above.flux(value - shape.width, slope ? slope - shape.width : nullptr, shape.width);
      out[own + c * shape.plane()] = (slope ? *slope : *value) + *step * sum;
    }
    if (grad) d_step[unit] = -here.turn / here.inverse;
  }
};

}  // namespace davsr
