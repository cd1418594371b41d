// The ops along the motion over units of motion_units.h, for any device that offers launch(count, unit).
#pragma once

#include "host_motion.h"
#include "motion_units.h"

namespace davsr {

// run(Real{}) for the type of the tensor, which is float32 or float64.
template <class Run>
void with_reals(const at::Tensor& tensor, const Run& run) {
  if (tensor.scalar_type() == at::kDouble)
    run(double{});
  else
    run(float{});
}

template <class Real>
Real* reals(const at::Tensor& tensor) {
  return static_cast<Real*>(tensor.data_ptr());
}

template <class Device>
at::Tensor motion_mismatch_by_unit(const MotionShape& shape, const at::Tensor& a_in, const at::Tensor& motion_in) {
  const at::Tensor a = a_in.contiguous(), motion = motion_in.contiguous(), error = cells_like(a, shape);
  with_reals(a, [&](auto real) {
    using Real = decltype(real);
    Device::launch(error.numel(), MismatchCell<Device, Real>{shape, reals<Real>(a), reals<Real>(motion), reals<Real>(error)});
  });
  return error;
}

template <class Device>
std::tuple<at::Tensor, at::Tensor> motion_mismatch_backward_by_unit(const MotionShape& shape, const at::Tensor& grad,
                                                                    const at::Tensor& a_in, const at::Tensor& motion_in,
                                                                    bool motion_gradient) {
  const at::Tensor a = a_in.contiguous(), motion = motion_in.contiguous(), d_a = at::zeros_like(a);
  const at::Tensor d_motion = motion_gradient ? at::empty_like(motion) : at::empty({0}, motion.options());
  with_reals(a, [&](auto real) {
    using Real = decltype(real);
    Device::launch(shape.batch * shape.frames * shape.pixels(),
                   MismatchGradient<Device, Real>{shape, reals<Real>(a), reals<Real>(motion), reals<Real>(grad), reals<Real>(d_a),
                                                  motion_gradient ? reals<Real>(d_motion) : nullptr});
  });
  return {d_a, d_motion};
}

template <class Device>
std::tuple<at::Tensor, at::Tensor> motion_blend_by_unit(const MotionShape& shape, const at::Tensor& a_in,
                                                        const at::Tensor& motion_in, const at::Tensor& weight_in) {
  const at::Tensor a = a_in.contiguous(), motion = motion_in.contiguous(), weight = weight_in.contiguous();
  const at::Tensor mean = at::empty_like(a),
                   support = at::empty({shape.batch, shape.frames, shape.height, shape.width}, a.options());
  with_reals(a, [&](auto real) {
    using Real = decltype(real);
    Device::launch(support.numel(), BlendPixel<Device, Real>{shape, reals<Real>(a), reals<Real>(motion), reals<Real>(weight),
                                                             reals<Real>(mean), reals<Real>(support)});
  });
  return {mean, support};
}

template <class Device>
std::tuple<at::Tensor, at::Tensor, at::Tensor> motion_blend_backward_by_unit(const MotionShape& shape, const at::Tensor& d_mean,
                                                                             const at::Tensor& d_support, const at::Tensor& a_in,
                                                                             const at::Tensor& motion_in,
                                                                             const at::Tensor& weight_in, const at::Tensor& mean,
                                                                             const at::Tensor& support, bool motion_gradient) {
  const at::Tensor a = a_in.contiguous(), motion = motion_in.contiguous(), weight = weight_in.contiguous();
  const at::Tensor d_a = at::zeros_like(a), d_weight = at::zeros_like(weight);
  const at::Tensor d_motion = motion_gradient ? at::empty_like(motion) : at::empty({0}, motion.options());
  with_reals(a, [&](auto real) {
    using Real = decltype(real);
    Device::launch(support.numel(), BlendGradient<Device, Real>{shape, reals<Real>(a), reals<Real>(motion), reals<Real>(weight),
                                                                reals<Real>(mean), reals<Real>(support), reals<Real>(d_mean),
                                                                reals<Real>(d_support), reals<Real>(d_a), reals<Real>(d_weight),
                                                                motion_gradient ? reals<Real>(d_motion) : nullptr});
  });
  return {d_a, d_weight, d_motion};
}

// One pass after the other: the mismatch, the weights, the blend. Neighbours that are no frames have no weight.
template <class Device>
std::tuple<at::Tensor, at::Tensor, at::Tensor> motion_average_by_unit(const MotionShape& shape, const at::Tensor& a,
                                                                      const at::Tensor& motion, double mismatch, double reach) {
  at::Tensor weight = motion_mismatch_by_unit<Device>(shape, a, motion).div_(-mismatch * mismatch);
  for (int k = 0; k < shape.steps; ++k) {
    const double frames = shape.step[k];
    weight.select(1, k).sub_(frames * frames / (2 * reach * reach));
  }
  weight.exp_();
  for (int k = 0; k < shape.steps; ++k) {
    const int64_t absent = std::min<int64_t>(std::abs(shape.step[k]), shape.frames);
    weight.select(1, k).narrow(1, shape.step[k] < 0 ? 0 : shape.frames - absent, absent).zero_();
  }
  auto [mean, support] = motion_blend_by_unit<Device>(shape, a, motion, weight);
  return {mean, support, weight};
}

// The blend's gradient, that of the weights, and the mismatch's, which is added.
template <class Device>
at::Tensor motion_average_backward_by_unit(const MotionShape& shape, const AverageGradients& given, const at::Tensor& a_in,
                                           const at::Tensor& motion_in, double mismatch) {
  const at::Tensor d_support = given.d_support ? *given.d_support : at::zeros_like(given.support);
  const at::Tensor a = a_in.contiguous(), motion = motion_in.contiguous();
  auto [d_a, d_weight, none] = motion_blend_backward_by_unit<Device>(shape, given.d_mean, d_support, a, motion, given.weight,
                                                                     given.mean, given.support, false);
  const at::Tensor d_error = d_weight.mul_(given.weight).div_(-mismatch * mismatch), sums = d_a;
  with_reals(a, [&](auto real) {
    using Real = decltype(real);
    Device::launch(shape.batch * shape.frames * shape.pixels(),
                   MismatchGradient<Device, Real>{shape, reals<Real>(a), reals<Real>(motion), reals<Real>(d_error),
                                                  reals<Real>(sums), nullptr});
  });
  return sums;
}

template <class Device>
at::Tensor flatten_by_unit(const MotionShape& shape, const at::Tensor& x_in, const at::Tensor& step, double flat) {
  const at::Tensor x = x_in.contiguous(), out = at::empty_like(x);
  with_reals(x, [&](auto real) {
    using Real = decltype(real);
    Device::launch(shape.batch * shape.frames * shape.pixels(),
                   FlattenPixel<Device, Real>{shape, static_cast<Real>(flat), reals<Real>(x), reals<Real>(step), nullptr,
                                              reals<Real>(out), nullptr});
  });
  return out;
}

template <class Device>
std::tuple<at::Tensor, at::Tensor> flatten_backward_by_unit(const MotionShape& shape, const at::Tensor& grad,
                                                            const at::Tensor& x_in, const at::Tensor& step, double flat) {
  const at::Tensor x = x_in.contiguous(), d_x = at::empty_like(x);
  const at::Tensor sums = at::empty({shape.batch, shape.frames, shape.height, shape.width}, x.options());
  with_reals(x, [&](auto real) {
    using Real = decltype(real);
    Device::launch(sums.numel(), FlattenPixel<Device, Real>{shape, static_cast<Real>(flat), reals<Real>(x), reals<Real>(step),
                                                            reals<Real>(grad), reals<Real>(d_x), reals<Real>(sums)});
  });
  return {d_x, sums.sum().reshape(step.sizes())};
}

}  // namespace davsr
