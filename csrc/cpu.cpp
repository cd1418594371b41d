// The operators on the CPU: tensors in, pointers to the kernels of the chosen instruction set, tensors out.
#include "cpu_host.h"
#include "serial.h"

namespace davsr {
namespace {

// The last dimension filled up with zeros to a multiple of kPad.
at::Tensor padded_rows(const at::Tensor& matrix, at::ScalarType type) {
  auto sizes = matrix.sizes().vec();
  const int64_t columns = sizes.back();
  sizes.back() = round_up(columns, kPad);
  at::Tensor padded =
      sizes.back() == columns ? at::empty(sizes, matrix.options().dtype(type)) : at::zeros(sizes, matrix.options().dtype(type));
  padded.narrow(-1, 0, columns).copy_(matrix);
  return padded;
}

at::Tensor deform_align(const at::Tensor& features_in, const at::Tensor& raw_in, const at::Tensor& flow_1_in,
                        const std::optional<at::Tensor>& flow_2_in, const at::Tensor& weight, const at::Tensor& bias,
                        int64_t groups, double max_residue, std::optional<c10::string_view> level) {
  const AlignShape shape = align_shape(features_in, raw_in, flow_1_in, flow_2_in, weight, groups, max_residue);
  check_bias(shape, bias, features_in);
  if (is_serial(level)) return deform_align_by_columns<Serial>(shape, features_in, raw_in, flow_1_in, flow_2_in, weight, bias);
  at::Tensor features = features_in, raw = raw_in, flow_1 = flow_1_in, flow_2 = flow_2_in.value_or(flow_1_in);
  at::Tensor out = at::empty({shape.batch, shape.c_out, shape.height, shape.width}, features.options(), layout(features));
  if (out.numel() == 0) return out;
  const at::ScalarType type = compute_type(features);
  const at::Tensor matrix = padded_rows(by_column(weight, shape).reshape({-1, shape.c_out}), type);
  const at::Tensor row = padded_rows(bias, type);
  const at::Tensor padded = at::empty({shape.batch * shape.groups, shape.padded_plane()}, features.options().dtype(type));
  const AlignForward op{shape,       planes(features),  planes(raw),       planes(flow_1), planes(flow_2),
                        planes(out), padded.data_ptr(), matrix.data_ptr(), row.data_ptr(), matrix.size(-1)};
  choose(level).align_forward(op, type == at::kDouble, threads());
  return out;
}

AlignGradients deform_align_backward(const at::Tensor& grad, const at::Tensor& features_in, const at::Tensor& raw_in,
                                     const at::Tensor& flow_1_in, const std::optional<at::Tensor>& flow_2_in,
                                     const at::Tensor& weight, int64_t groups, double max_residue,
                                     std::optional<c10::string_view> level) {
  const AlignShape shape = align_shape(features_in, raw_in, flow_1_in, flow_2_in, weight, groups, max_residue);
  TORCH_CHECK_VALUE(grad.sizes() == at::IntArrayRef({shape.batch, shape.c_out, shape.height, shape.width}),
                    "deform_align: grad must be of the size of the result, got ", grad.sizes());
  if (is_serial(level))
    return deform_align_backward_by_columns<Serial>(shape, grad, features_in, raw_in, flow_1_in, flow_2_in, weight);
  at::Tensor features = features_in, raw = raw_in, flow_1 = flow_1_in, flow_2 = flow_2_in.value_or(flow_1_in);
  const at::ScalarType type = compute_type(features);
  const auto options = features.options().dtype(type);
  at::Tensor d_features = at::empty(features.sizes(), features.options(), layout(features));
  at::Tensor d_raw = at::empty(raw.sizes(), raw.options(), layout(raw));
  const int64_t depth = 9 * shape.channels, c_pad = round_up(shape.c_out, kPad), n_pad = round_up(depth, kPad);
  const at::Tensor d_flow = at::empty({shape.batch, shape.groups, 2, shape.pixels()}, options);
  const at::Tensor d_weight = at::empty({shape.batch, shape.groups * depth, c_pad}, options);
  const at::Tensor d_out = padded_rows(grad.permute({0, 2, 3, 1}), type);
  if (features.numel() > 0) {
    const at::Tensor weight_t = at::zeros({shape.groups, c_pad, n_pad}, options);
    weight_t.narrow(1, 0, shape.c_out)
        .narrow(2, 0, depth)
        .copy_(by_column(weight, shape).reshape({shape.groups, depth, shape.c_out}).transpose(1, 2));
    const AlignBackward op{
        shape,         planes(features), planes(raw),         planes(flow_1),    planes(flow_2),      planes(d_features),
        planes(d_raw), d_out.data_ptr(), weight_t.data_ptr(), d_flow.data_ptr(), d_weight.data_ptr(), c_pad,
        n_pad};
    choose(level).align_backward(op, type == at::kDouble, threads());
  }
  const int64_t rest = shape.groups - shape.first_groups;
  return {d_features,
          d_raw,
          flow_gradient(d_flow, shape, 0, shape.first_groups).to(flow_1_in.scalar_type()),
          flow_2_in ? flow_gradient(d_flow, shape, shape.first_groups, rest).to(flow_2_in->scalar_type())
                    : at::empty({0}, flow_1_in.options()),
          from_columns(d_weight.sum(0).narrow(1, 0, shape.c_out), shape).to(weight.scalar_type()),
          d_out.sum(at::IntArrayRef({0, 1, 2})).narrow(0, 0, shape.c_out).to(weight.scalar_type())};
}

std::tuple<at::Tensor, at::Tensor> fourier_division(const at::Tensor& x_in, const at::Tensor& y_in, const at::Tensor& otf_in,
                                                    const at::Tensor& gram_in, const at::Tensor& alpha_in, at::IntArrayRef scale,
                                                    int64_t width, std::optional<c10::string_view> level) {
  const DivisionShape shape = division_shape(x_in, scale, width);
  if (is_serial(level)) return fourier_division_by_bins<Serial>(shape, x_in, y_in, otf_in, gram_in, alpha_in);
  const DivisionTensors in = division_tensors(shape, x_in, y_in, otf_in, gram_in, alpha_in);
  at::Tensor quotient = at::empty_like(in.y), out = at::empty_like(in.x);
  const Division op{shape,
                    in.x.data_ptr(),
                    in.y.data_ptr(),
                    in.otf.data_ptr(),
                    in.gram.data_ptr(),
                    in.alpha.data_ptr(),
                    quotient.data_ptr(),
                    out.data_ptr(),
                    false};
  choose(level).division(op, in.x.scalar_type() == at::kDouble, threads());
  return {out, quotient};
}

DivisionGradients fourier_division_backward(const at::Tensor& grad_in, const at::Tensor& x_in, const at::Tensor& otf_in,
                                            const at::Tensor& gram_in, const at::Tensor& alpha_in, const at::Tensor& quotient_in,
                                            at::IntArrayRef scale, int64_t width, bool otf_gradient,
                                            std::optional<c10::string_view> level) {
  const DivisionShape shape = division_shape(x_in, scale, width);
  if (is_serial(level))
    return fourier_division_backward_by_bins<Serial>(shape, grad_in, x_in, otf_in, gram_in, alpha_in, quotient_in, otf_gradient);
  const DivisionTensors in = division_tensors(shape, grad_in, quotient_in, otf_in, gram_in, alpha_in);
  at::Tensor d_quotient = at::empty_like(in.y), d_x = at::empty_like(in.x);
  at::Tensor d_otf = at::empty({0}, in.otf.options());
  const bool doubles = in.x.scalar_type() == at::kDouble;
  const Division op{shape,
                    in.x.data_ptr(),
                    nullptr,
                    in.otf.data_ptr(),
                    in.gram.data_ptr(),
                    in.alpha.data_ptr(),
                    d_quotient.data_ptr(),
                    d_x.data_ptr(),
                    true};
  choose(level).division(op, doubles, threads());
  if (otf_gradient) {
    d_otf = at::empty_like(in.otf);
    const at::Tensor x = checked(x_in, in.x, in.x.sizes(), "x");
    const DivisionOtfGradient gradient{shape,           x.data_ptr(),          in.x.data_ptr(),
                                       in.y.data_ptr(), d_quotient.data_ptr(), d_otf.data_ptr()};
    choose(level).division_otf_gradient(gradient, doubles, threads());
  }
  return division_gradients(d_x, d_quotient, d_otf, in.y);
}

// What the kernel of conv3x3 makes of the weights first: [36, c_in, c_pad].
at::Tensor conv3x3_points(const at::Tensor& weight, std::optional<c10::string_view> level) {
  TORCH_CHECK_VALUE(weight.dim() == 4 && weight.size(2) == 3 && weight.size(3) == 3 && weight.scalar_type() == at::kFloat,
                    "conv3x3: weight must be [c_out, c_in, 3, 3] of float32, got ", weight.sizes(), " of ", weight.scalar_type());
  const at::Tensor taps = padded_rows(weight.permute({2, 3, 1, 0}), at::kFloat);
  const at::Tensor points = at::empty({36, weight.size(1), taps.size(-1)}, taps.options());
  Conv3x3 op{};  // of no image
  op.c_in = weight.size(1), op.c_out = weight.size(0), op.c_pad = taps.size(-1);
  op.weight = taps.const_data_ptr<float>(), op.transformed = points.data_ptr<float>();
  if (points.numel() > 0) choose(level).conv3x3(op, threads());
  return points;
}

at::Tensor conv3x3(const at::Tensor& x_in, const at::Tensor& weight, const at::Tensor& bias,
                   const std::optional<at::Tensor>& residual_in, double slope, std::optional<c10::string_view> level,
                   const std::optional<at::Tensor>& points, bool shuffle) {
  TORCH_CHECK_VALUE(x_in.dim() == 4, "conv3x3: x must be [b, c_in, h, w], got ", x_in.sizes());
  const int64_t c_in = x_in.size(1), c_out = weight.size(0);
  TORCH_CHECK_VALUE(c_in > 0 && weight.sizes() == at::IntArrayRef({c_out, c_in, 3, 3}), "conv3x3: weight must be [c_out, ", c_in,
                    ", 3, 3], got ", weight.sizes());
  TORCH_CHECK_VALUE(bias.sizes() == at::IntArrayRef({c_out}), "conv3x3: bias must be [", c_out, "], got ", bias.sizes());
  for (const at::Tensor* tensor : {&x_in, &weight, &bias})
    TORCH_CHECK_VALUE(tensor->scalar_type() == at::kFloat, "conv3x3: tensors must be float32, got ", tensor->scalar_type());
  const at::Tensor x = x_in.contiguous(at::MemoryFormat::ChannelsLast);
  TORCH_CHECK_VALUE(!shuffle || (c_out % (4 * kPad) == 0 && !residual_in),
                    "conv3x3: shuffled channels must be a multiple of 64 without a residual, got ", c_out);
  const int64_t side = shuffle ? 2 : 1, made = c_out / (side * side);
  const at::Tensor out =
      at::empty({x.size(0), made, side * x.size(2), side * x.size(3)}, x.options(), at::MemoryFormat::ChannelsLast);
  at::Tensor residual;
  if (residual_in) {
    TORCH_CHECK_VALUE(residual_in->sizes() == out.sizes() && residual_in->scalar_type() == at::kFloat,
                      "conv3x3: residual must be like the result, ", out.sizes(), " of float32, got ", residual_in->sizes(),
                      " of ", residual_in->scalar_type());
    residual = residual_in->contiguous(at::MemoryFormat::ChannelsLast);
  }
  if (out.numel() == 0) return out;
  const at::Tensor row = padded_rows(bias, at::kFloat);
  at::Tensor taps, transformed;
  if (points) {
    TORCH_CHECK_VALUE(points->sizes() == at::IntArrayRef({36, c_in, row.size(0)}) && points->scalar_type() == at::kFloat,
                      "conv3x3: points must be those of the weight, [36, ", c_in, ", ", row.size(0), "] of float32, got ",
                      points->sizes(), " of ", points->scalar_type());
    transformed = points->contiguous();
  } else {
    taps = padded_rows(weight.permute({2, 3, 1, 0}), at::kFloat);
    transformed = at::empty({36, c_in, row.size(0)}, x.options());
  }
  const Conv3x3 op{x.size(0),
                   x.size(2),
                   x.size(3),
                   c_in,
                   c_out,
                   row.size(0),
                   x.const_data_ptr<float>(),
                   points ? nullptr : taps.const_data_ptr<float>(),
                   row.const_data_ptr<float>(),
                   residual_in ? residual.const_data_ptr<float>() : nullptr,
                   transformed.data_ptr<float>(),
                   out.data_ptr<float>(),
                   static_cast<float>(slope),
                   shuffle};
  choose(level).conv3x3(op, threads());
  return out;
}

std::tuple<at::Tensor, at::Tensor> conv3x3_weight_gradient(const at::Tensor& grad, const at::Tensor& x_in,
                                                           std::optional<c10::string_view> level) {
  TORCH_CHECK_VALUE(x_in.dim() == 4 && grad.dim() == 4 && x_in.size(0) == grad.size(0) && x_in.size(2) == grad.size(2) &&
                        x_in.size(3) == grad.size(3),
                    "conv3x3: grad must be [b, c_out, h, w] where x is [b, c_in, h, w], got ", grad.sizes(), " and ",
                    x_in.sizes());
  for (const at::Tensor* tensor : {&grad, &x_in})
    TORCH_CHECK_VALUE(tensor->scalar_type() == at::kFloat, "conv3x3: tensors must be float32, got ", tensor->scalar_type());
  const int64_t c_in = x_in.size(1), c_out = grad.size(1), c_pad = round_up(c_out, kPad);
  if (grad.numel() == 0 || c_in == 0)
    return {at::zeros({3, 3, c_in, c_out}, x_in.options()).permute({3, 2, 0, 1}), at::zeros({c_out}, x_in.options())};
  const at::Tensor x = x_in.contiguous(at::MemoryFormat::ChannelsLast), d_out = grad.contiguous(at::MemoryFormat::ChannelsLast);
  const at::Tensor d_weight = at::empty({3, 3, c_in, c_pad}, x.options()), d_bias = at::empty({c_pad}, x.options());
  const Conv3x3Gradient op{x.size(0),
                           x.size(2),
                           x.size(3),
                           c_in,
                           c_out,
                           c_pad,
                           x.const_data_ptr<float>(),
                           d_out.const_data_ptr<float>(),
                           d_weight.data_ptr<float>(),
                           d_bias.data_ptr<float>()};
  choose(level).conv3x3_gradient(op, threads());
  return {d_weight.narrow(-1, 0, c_out).contiguous().permute({3, 2, 0, 1}), d_bias.narrow(0, 0, c_out)};
}

std::vector<std::string> cpu_levels() {
  std::vector<std::string> names;
  for (const CpuKernels& kernels : levels()) names.emplace_back(kernels.level);
  names.emplace_back("serial");
  return names;
}

#if !defined(DAVSR_WITH_CUDA)
bool has_cuda() { return false; }
#endif

}  // namespace

#if defined(DAVSR_WITH_CUDA)
bool has_cuda();  // cuda.cpp
#endif

TORCH_LIBRARY_IMPL(davsr, CPU, m) {
  m.impl("deform_align", deform_align);
  m.impl("deform_align_backward", deform_align_backward);
  m.impl("fourier_division", fourier_division);
  m.impl("fourier_division_backward", fourier_division_backward);
  m.impl("conv3x3", conv3x3);
  m.impl("conv3x3_points", conv3x3_points);
  m.impl("conv3x3_weight_gradient", conv3x3_weight_gradient);
}

TORCH_LIBRARY_IMPL(davsr, CompositeExplicitAutograd, m) {
  m.impl("cpu_levels", cpu_levels);
  m.impl("has_cuda", has_cuda);
}

}  // namespace davsr
