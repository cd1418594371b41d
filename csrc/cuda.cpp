// The operators on CUDA: the units of kernels.h on the current stream of the tensors' device, products through at::.
#include <ATen/Context.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include "by_unit.h"
#include "by_unit_camera.h"
#include "by_unit_motion.h"
#include "cuda_device.h"
#include "host_camera.h"

namespace davsr {

template <class Unit>
void Cuda::launch(int64_t count, const Unit& unit) {
  run_units(count, unit, c10::cuda::getCurrentCUDAStream().stream());
  C10_CUDA_KERNEL_LAUNCH_CHECK();
}

bool has_cuda() { return true; }

namespace {

using Level = std::optional<c10::string_view>;  // of the CPU; nothing to choose here

at::Tensor deform_align(const at::Tensor& features, const at::Tensor& raw, const at::Tensor& flow_1,
                        const std::optional<at::Tensor>& flow_2, const at::Tensor& weight, const at::Tensor& bias, int64_t groups,
                        double max_residue, Level) {
  const c10::cuda::CUDAGuard guard(features.device());
  const AlignShape shape = align_shape(features, raw, flow_1, flow_2, weight, groups, max_residue);
  check_bias(shape, bias, features);
  return deform_align_by_columns<Cuda>(shape, features, raw, flow_1, flow_2, weight, bias);
}

AlignGradients deform_align_backward(const at::Tensor& grad, const at::Tensor& features, const at::Tensor& raw,
                                     const at::Tensor& flow_1, const std::optional<at::Tensor>& flow_2, const at::Tensor& weight,
                                     int64_t groups, double max_residue, Level) {
  const c10::cuda::CUDAGuard guard(features.device());
  at::globalContext().alertNotDeterministic("davsr::deform_align_backward");  // atomic sums
  const AlignShape shape = align_shape(features, raw, flow_1, flow_2, weight, groups, max_residue);
  return deform_align_backward_by_columns<Cuda>(shape, grad, features, raw, flow_1, flow_2, weight);
}

std::tuple<at::Tensor, at::Tensor> fourier_division(const at::Tensor& x, const at::Tensor& y, const at::Tensor& otf,
                                                    const at::Tensor& gram, const at::Tensor& alpha, at::IntArrayRef scale,
                                                    int64_t width, Level) {
  const c10::cuda::CUDAGuard guard(x.device());
  return fourier_division_by_bins<Cuda>(division_shape(x, scale, width), x, y, otf, gram, alpha);
}

DivisionGradients fourier_division_backward(const at::Tensor& grad, const at::Tensor& x, const at::Tensor& otf,
                                            const at::Tensor& gram, const at::Tensor& alpha, const at::Tensor& quotient,
                                            at::IntArrayRef scale, int64_t width, bool otf_gradient, Level) {
  const c10::cuda::CUDAGuard guard(x.device());
  return fourier_division_backward_by_bins<Cuda>(division_shape(x, scale, width), grad, x, otf, gram, alpha, quotient,
                                                 otf_gradient);
}

at::Tensor motion_mismatch(const at::Tensor& a, const at::Tensor& motion, at::IntArrayRef cell, at::IntArrayRef steps, Level) {
  const c10::cuda::CUDAGuard guard(a.device());
  return motion_mismatch_by_unit<Cuda>(mismatch_shape(a, motion, cell, steps), a, motion);
}

std::tuple<at::Tensor, at::Tensor> motion_mismatch_backward(const at::Tensor& grad, const at::Tensor& a, const at::Tensor& motion,
                                                            at::IntArrayRef cell, at::IntArrayRef steps, bool motion_gradient,
                                                            Level) {
  const c10::cuda::CUDAGuard guard(a.device());
  at::globalContext().alertNotDeterministic("davsr::motion_mismatch_backward");
  const MotionShape shape = mismatch_shape(a, motion, cell, steps);
  const at::Tensor checked = like(grad, cells_like(a, shape), "motion_mismatch: grad");
  return motion_mismatch_backward_by_unit<Cuda>(shape, checked, a, motion, motion_gradient);
}

std::tuple<at::Tensor, at::Tensor> motion_blend(const at::Tensor& a, const at::Tensor& motion, const at::Tensor& weight,
                                                at::IntArrayRef steps, Level) {
  const c10::cuda::CUDAGuard guard(a.device());
  return motion_blend_by_unit<Cuda>(blend_shape(a, motion, weight, steps), a, motion, weight);
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> motion_blend_backward(const at::Tensor& d_mean, const at::Tensor& d_support,
                                                                     const at::Tensor& a, const at::Tensor& motion,
                                                                     const at::Tensor& weight, const at::Tensor& mean,
                                                                     const at::Tensor& support, at::IntArrayRef steps,
                                                                     bool motion_gradient, Level) {
  const c10::cuda::CUDAGuard guard(a.device());
  at::globalContext().alertNotDeterministic("davsr::motion_blend_backward");
  const MotionShape shape = blend_shape(a, motion, weight, steps);
  check_support(shape, support, a, "motion_blend");
  return motion_blend_backward_by_unit<Cuda>(shape, like(d_mean, a, "motion_blend: grad"),
                                             like(d_support, support, "motion_blend: grad of support"), a, motion, weight,
                                             like(mean, a, "motion_blend: mean"), support.contiguous(), motion_gradient);
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> motion_average(const at::Tensor& a, const at::Tensor& motion, at::IntArrayRef cell,
                                                              at::IntArrayRef steps, double mismatch, double reach, Level) {
  const c10::cuda::CUDAGuard guard(a.device());
  return motion_average_by_unit<Cuda>(average_shape(a, motion, cell, steps, mismatch, reach), a, motion, mismatch, reach);
}

void motion_average_(at::Tensor& out, const at::Tensor& a, const at::Tensor& motion, at::IntArrayRef cell, at::IntArrayRef steps,
                     double mismatch, double reach, Level) {
  const c10::cuda::CUDAGuard guard(a.device());
  const MotionShape shape = average_shape(a, motion, cell, steps, mismatch, reach);
  check_out(out, a, {a, motion}, "motion_average");
  out.copy_(std::get<0>(motion_average_by_unit<Cuda>(shape, a, motion, mismatch, reach)));
}

at::Tensor motion_average_backward(const at::Tensor& d_mean, const std::optional<at::Tensor>& d_support, const at::Tensor& a,
                                   const at::Tensor& motion, const at::Tensor& weight, const at::Tensor& mean,
                                   const at::Tensor& support, at::IntArrayRef cell, at::IntArrayRef steps, double mismatch,
                                   Level) {
  const c10::cuda::CUDAGuard guard(a.device());
  at::globalContext().alertNotDeterministic("davsr::motion_average_backward");
  const MotionShape shape = average_shape(a, motion, cell, steps, mismatch, 1);
  const AverageGradients given = average_gradients(shape, d_mean, d_support, a, weight, mean, support);
  return motion_average_backward_by_unit<Cuda>(shape, given, a, motion, mismatch);
}

at::Tensor flatten(const at::Tensor& x, const at::Tensor& step, double flat, Level) {
  const c10::cuda::CUDAGuard guard(x.device());
  return flatten_by_unit<Cuda>(flatten_shape(x, step), x, step, flat);
}

void flatten_(at::Tensor& out, const at::Tensor& x, const at::Tensor& step, double flat, Level) {
  const c10::cuda::CUDAGuard guard(x.device());
  const MotionShape shape = flatten_shape(x, step);
  check_out(out, x, {x, step}, "flatten");
  out.copy_(flatten_by_unit<Cuda>(shape, x, step, flat));
}

std::tuple<at::Tensor, at::Tensor> flatten_backward(const at::Tensor& grad, const at::Tensor& x, const at::Tensor& step,
                                                    double flat, Level) {
  const c10::cuda::CUDAGuard guard(x.device());
  return flatten_backward_by_unit<Cuda>(flatten_shape(x, step), like(grad, x, "flatten: grad"), x, step, flat);
}

at::Tensor camera(const at::Tensor& x, const std::optional<at::Tensor>& y, Taps time, Taps rows, Taps columns,
                  at::IntArrayRef start, at::IntArrayRef scale, bool circular, Level) {
  const c10::cuda::CUDAGuard guard(x.device());
  return camera_with(x, y, {time, rows, columns, start, scale, circular}, camera_by_unit<Cuda>);
}

at::Tensor camera_adjoint(const at::Tensor& y, const std::optional<at::Tensor>& x, Taps time, Taps rows, Taps columns,
                          at::IntArrayRef start, at::IntArrayRef scale, bool circular, Level) {
  const c10::cuda::CUDAGuard guard(y.device());
  return camera_adjoint_with(y, x, {time, rows, columns, start, scale, circular}, camera_adjoint_by_unit<Cuda>);
}

void camera_adjoint_(at::Tensor& out, const at::Tensor& y, const std::optional<at::Tensor>& x, Taps time, Taps rows, Taps columns,
                     at::IntArrayRef start, at::IntArrayRef scale, bool circular, Level) {
  const c10::cuda::CUDAGuard guard(out.device());
  camera_adjoint_into_with(out, y, x, {time, rows, columns, start, scale, circular}, camera_adjoint_by_unit<Cuda>);
}

}  // namespace

TORCH_LIBRARY_IMPL(davsr, CUDA, m) {
  m.impl("deform_align", deform_align);
  m.impl("deform_align_backward", deform_align_backward);
  m.impl("fourier_division", fourier_division);
  m.impl("fourier_division_backward", fourier_division_backward);
  m.impl("motion_mismatch", motion_mismatch);
  m.impl("motion_mismatch_backward", motion_mismatch_backward);
  m.impl("motion_blend", motion_blend);
  m.impl("motion_blend_backward", motion_blend_backward);
  m.impl("motion_average", motion_average);
  m.impl("motion_average_", motion_average_);
  m.impl("motion_average_backward", motion_average_backward);
  m.impl("flatten", flatten);
  m.impl("flatten_", flatten_);
  m.impl("flatten_backward", flatten_backward);
  m.impl("camera", camera);
  m.impl("camera_adjoint", camera_adjoint);
  m.impl("camera_adjoint_", camera_adjoint_);
}

}  // namespace davsr
