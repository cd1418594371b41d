// The operators on CUDA: the units of kernels.h on the current stream of the tensors' device, products through at::.
#include <ATen/Context.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include "by_unit.h"
#include "cuda_device.h"

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
                        const std::optional<at::Tensor>& flow_2, const at::Tensor& weight, const at::Tensor& bias,
                        int64_t groups, double max_residue, Level) {
  const c10::cuda::CUDAGuard guard(features.device());
  const AlignShape shape = align_shape(features, raw, flow_1, flow_2, weight, groups, max_residue);
  check_bias(shape, bias, features);
  return deform_align_by_columns<Cuda>(shape, features, raw, flow_1, flow_2, weight, bias);
}

AlignGradients deform_align_backward(const at::Tensor& grad, const at::Tensor& features, const at::Tensor& raw,
                                     const at::Tensor& flow_1, const std::optional<at::Tensor>& flow_2,
                                     const at::Tensor& weight, int64_t groups, double max_residue, Level) {
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

}  // namespace

TORCH_LIBRARY_IMPL(davsr, CUDA, m) {
  m.impl("deform_align", deform_align);
  m.impl("deform_align_backward", deform_align_backward);
  m.impl("fourier_division", fourier_division);
  m.impl("fourier_division_backward", fourier_division_backward);
}

}  // namespace davsr
