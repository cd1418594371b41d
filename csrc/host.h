// What the host code of every device shares: checks, geometry, and the tensors around the kernels.
#pragma once

#include <ATen/ATen.h>
#include <torch/library.h>

#include <optional>
#include <tuple>

#include "checks.h"
#include "portable.h"

namespace davsr {

using AlignGradients = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor>;
using DivisionGradients = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor>;

inline Kind kind(const at::Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case at::kFloat:
      return Kind::float32;
    case at::kDouble:
      return Kind::float64;
    case at::kHalf:
      return Kind::float16;
    case at::kBFloat16:
      return Kind::bfloat16;
    default:
      TORCH_CHECK_VALUE(false, "deform_align: tensors must be float32, float64, float16 or bfloat16, got ", tensor.scalar_type());
  }
}

// A view of the tensor itself where its rows follow each other, of a copy (kept in `tensor`) where they do not.
inline Planes planes(at::Tensor& tensor) {
  if (tensor.size(2) > 1 && tensor.stride(2) != tensor.size(3) * tensor.stride(3)) tensor = tensor.contiguous();
  const int64_t pixel = tensor.size(3) > 1 ? tensor.stride(3) : tensor.stride(2);
  return {tensor.data_ptr(), kind(tensor), tensor.stride(0), tensor.stride(1), pixel};
}

inline at::MemoryFormat layout(const at::Tensor& features) {
  const bool last = features.is_contiguous(at::MemoryFormat::ChannelsLast) && !features.is_contiguous();
  return last ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous;
}

inline at::ScalarType compute_type(const at::Tensor& features) {
  return features.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

inline AlignShape align_shape(const at::Tensor& features, const at::Tensor& raw, const at::Tensor& flow_1,
                              const std::optional<at::Tensor>& flow_2, const at::Tensor& weight, int64_t groups,
                              double max_residue) {
  TORCH_CHECK_VALUE(features.dim() == 4 && features.size(2) > 0 && features.size(3) > 0,
                    "deform_align: features must be [b, c, h, w], got ", features.sizes());
  AlignShape shape;
  const int64_t channels = features.size(1);
  TORCH_CHECK_VALUE(groups > 0 && channels > 0 && channels % groups == 0 && (!flow_2 || groups % 2 == 0),
                    "deform_align: groups must be a divisor of the channels of features, even with two sources, got ", groups);
  shape.batch = features.size(0);
  shape.groups = groups;
  shape.channels = channels / groups;
  shape.height = features.size(2);
  shape.width = features.size(3);
  shape.first_groups = flow_2 ? groups / 2 : groups;
  shape.max_residue = max_residue;
  // Cells of one plane are numbered in 32 bits; everything else is 64-bit.
  TORCH_CHECK_VALUE((shape.height + 3) * (shape.width + 3) < (int64_t{1} << 31),
                    "deform_align: features must be frames of fewer than 2^31 pixels, got ", features.sizes());
  const auto is = [&](const at::Tensor& tensor, int64_t count, const char* name) {
    check_sizes(tensor, {shape.batch, count, shape.height, shape.width}, "deform_align", name);
    TORCH_CHECK_VALUE(tensor.device() == features.device(), "deform_align: ", name, " must be on ", features.device(), ", got ",
                      tensor.device());
  };
  is(raw, 27 * groups, "raw");
  is(flow_1, 2, "flow_1");
  if (flow_2) is(*flow_2, 2, "flow_2");
  TORCH_CHECK_VALUE(weight.dim() == 4 && weight.size(0) > 0 && weight.size(1) == channels && weight.size(2) == 3 &&
                        weight.size(3) == 3 && weight.device() == features.device(),
                    "deform_align: weight must be [c_out, c, 3, 3] on the device of features, got ", weight.sizes());
  shape.c_out = weight.size(0);
  return shape;
}

inline void check_bias(const AlignShape& shape, const at::Tensor& bias, const at::Tensor& features) {
  TORCH_CHECK_VALUE(bias.sizes() == at::IntArrayRef({shape.c_out}) && bias.device() == features.device(),
                    "deform_align: bias must be [", shape.c_out, "] on the device of features, got ", bias.sizes(), " on ",
                    bias.device());
}

// [c_out, c, 3, 3] -> [groups, 9, channels, c_out]: the order in which the columns are sampled.
inline at::Tensor by_column(const at::Tensor& weight, const AlignShape& shape) {
  return weight.reshape({shape.c_out, shape.groups, shape.channels, 9}).permute({1, 3, 2, 0});
}

inline at::Tensor from_columns(const at::Tensor& d_weight, const AlignShape& shape) {
  return d_weight.reshape({shape.groups, 9, shape.channels, shape.c_out})
      .permute({3, 0, 2, 1})
      .reshape({shape.c_out, shape.groups * shape.channels, 3, 3});
}

// [b, groups, 2, pixels], (dx, dy): each flow's gradient is the sum over its groups.
inline at::Tensor flow_gradient(const at::Tensor& d_flow, const AlignShape& shape, int64_t first, int64_t count) {
  return d_flow.narrow(1, first, count).sum(1).reshape({shape.batch, 2, shape.height, shape.width});
}

inline DivisionShape division_shape(const at::Tensor& x, at::IntArrayRef scale, int64_t width) {
  TORCH_CHECK_VALUE(x.dim() == 6 && x.size(5) == 2, "fourier_division: x must be [b, c, T, H, W//2+1, 2], got ", x.sizes());
  check_floating(x, "fourier_division", "x");
  TORCH_CHECK_VALUE(scale.size() == 3 && scale[0] > 0 && scale[1] > 0 && scale[2] > 0 && x.size(2) % scale[0] == 0 &&
                        x.size(3) % scale[1] == 0 && width > 0 && width % scale[2] == 0,
                    "fourier_division: scale must be three divisors of the HR sizes, got ", scale);
  TORCH_CHECK_VALUE(width / 2 + 1 == x.size(4), "fourier_division: width must be the W with W//2+1 = ", x.size(4), ", got ",
                    width);
  DivisionShape shape;
  shape.batch = x.size(0);
  shape.channels = x.size(1);
  shape.s_t = scale[0];
  shape.s_h = scale[1];
  shape.s_w = scale[2];
  shape.t = x.size(2) / scale[0];
  shape.h = x.size(3) / scale[1];
  shape.w = width / scale[2];
  return shape;
}

inline at::Tensor checked(const at::Tensor& tensor, const at::Tensor& x, at::IntArrayRef sizes, const char* name) {
  check_sizes(tensor, sizes, "fourier_division", name);
  check_type(tensor, x, "fourier_division", name, "x");
  return tensor.contiguous();
}

struct DivisionTensors {
  at::Tensor x, y, otf, gram, alpha;
};

inline DivisionTensors division_tensors(const DivisionShape& shape, const at::Tensor& x, const at::Tensor& y,
                                        const at::Tensor& otf, const at::Tensor& gram, const at::Tensor& alpha) {
  const int64_t b = shape.batch, c = shape.channels, T = shape.s_t * shape.t, H = shape.s_h * shape.h;
  return {checked(x, x, {b, c, T, H, shape.hr_columns(), 2}, "x"),
          checked(y, x, {b, c, shape.t, shape.h, shape.lr_columns(), 2}, "y"),
          checked(otf, x, {T, H, shape.hr_columns(), 2}, "otf"), checked(gram, x, {shape.t, shape.h, shape.lr_columns()}, "gram"),
          checked(alpha, x, {b}, "alpha")};
}

// Of x, y, otf, gram, alpha: quotient = (y - fold(B x)) / (gram + alpha), so d quotient / d alpha = -quotient /
// (gram + alpha), and d_quotient already carries that division.
inline DivisionGradients division_gradients(const at::Tensor& d_x, const at::Tensor& d_quotient, const at::Tensor& d_otf,
                                            const at::Tensor& quotient) {
  const at::Tensor inner = (d_quotient * quotient).sum(-1).neg_();  // [b, c, t, h, w/2+1]
  return {d_x, d_quotient, d_otf, inner.sum(at::IntArrayRef({0, 1})), inner.sum(at::IntArrayRef({1, 2, 3, 4}))};
}

}  // namespace davsr
