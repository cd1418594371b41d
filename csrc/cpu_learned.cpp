// The learned parts of a round along the motion with what their gradients need, and those, on the CPU: tensors in,
// pointers to the kernels of the chosen instruction set, tensors out.
#include "cpu_host.h"
#include "host_layers.h"
#include "host_motion.h"

namespace davsr {
namespace {

using Level = std::optional<c10::string_view>;
using at::Tensor;

MotionShape trusted_shape(const Tensor& a, const Tensor& motion, const Tensor& speed, at::IntArrayRef cell, at::IntArrayRef steps,
                          double mismatch, double reach, const char* op) {
  const MotionShape shape = average_shape(a, motion, cell, steps, mismatch, reach);
  TORCH_CHECK_VALUE(a.scalar_type() == at::kFloat, op, ": a must be float32, got ", a.scalar_type());
  check_sizes(speed, {shape.batch, shape.frames, shape.cells_h, shape.cells_w}, op, "speed");
  check_type(speed, a, op, "speed", "a");
  return shape;
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> trusted_average_kept(const Tensor& a_in, const Tensor& motion_in,
                                                                        const Tensor& speed_in, at::TensorList trust,
                                                                        at::IntArrayRef cell, at::IntArrayRef steps,
                                                                        double mismatch, double reach, double low, double high,
                                                                        Level level) {
  const char* op = "trusted_average";
  const MotionShape shape = trusted_shape(a_in, motion_in, speed_in, cell, steps, mismatch, reach, op);
  const TrustLayers layers = trust_layers(trust, low, high, op);
  const Tensor a = a_in.contiguous(), motion = motion_in.contiguous(), speed = speed_in.contiguous();
  const Tensor mean = at::empty_like(a), weight = cells_like(a, shape).zero_(), root = at::zeros_like(weight),
               support = at::empty({shape.batch, shape.frames, shape.height, shape.width}, a.options()),
               texture = at::empty_like(speed);
  if (a.numel() > 0)
    choose(level).trusted_average({shape, a.const_data_ptr<float>(), motion.const_data_ptr<float>(),
                                   speed.const_data_ptr<float>(), mean.data_ptr<float>(), support.data_ptr<float>(), layers,
                                   mismatch, reach, weight.data_ptr<float>(), root.data_ptr<float>(), texture.data_ptr<float>()},
                                  threads());
  return {mean, support, weight, root, texture};
}

// The transpose of a packed layer, to the first `seen` channels: one [3, 3, made, seen] with the mirrored weight.
Tensor turned_packed(const Tensor& weight, int64_t seen) {
  const int64_t of = weight.size(2), made = weight.size(3);
  Tensor turned = at::empty({3, 3, made, seen}, weight.options());
  const float* from = weight.const_data_ptr<float>();
  float* to = turned.data_ptr<float>();
  for (int64_t tap = 8; tap >= 0; --tap)
    for (int64_t j = 0; j < made; ++j)
      for (int64_t c = 0; c < seen; ++c) *to++ = from[(tap * of + c) * made + j];
  return turned;
}

std::tuple<Tensor, Tensor> trusted_average_backward_(Tensor& samples, const Tensor& d_mean_in,
                                                     const std::optional<Tensor>& d_support_in, const Tensor& a_in,
                                                     const Tensor& motion_in, const Tensor& speed_in, const Tensor& mean_in,
                                                     const Tensor& support_in, const Tensor& weight_in, const Tensor& root_in,
                                                     const Tensor& texture_in, at::TensorList trust, at::IntArrayRef cell,
                                                     at::IntArrayRef steps, double mismatch, double low, double high,
                                                     Level level) {
  const char* op = "trusted_average";
  const MotionShape shape = trusted_shape(a_in, motion_in, speed_in, cell, steps, mismatch, 1, op);
  const TrustLayers layers = trust_layers(trust, low, high, op);
  const AverageGradients given = average_gradients(shape, d_mean_in, d_support_in, a_in, weight_in, mean_in, support_in);
  const Tensor root = like(root_in, weight_in, "trusted_average: root"),
               texture = like(texture_in, speed_in, "trusted_average: texture");
  const Tensor a = a_in.contiguous(), motion = motion_in.contiguous(), speed = speed_in.contiguous();
  const Tensor first_turned = turned_packed(trust[0], 2), second_turned = turned_packed(trust[2], layers.hidden);
  TrustedAverageBackward backward{shape,
                                  a.const_data_ptr<float>(),
                                  motion.const_data_ptr<float>(),
                                  speed.const_data_ptr<float>(),
                                  given.mean.const_data_ptr<float>(),
                                  given.support.const_data_ptr<float>(),
                                  given.weight.const_data_ptr<float>(),
                                  root.const_data_ptr<float>(),
                                  texture.const_data_ptr<float>(),
                                  given.d_mean.const_data_ptr<float>(),
                                  given.d_support ? given.d_support->const_data_ptr<float>() : nullptr,
                                  layers,
                                  second_turned.const_data_ptr<float>(),
                                  first_turned.const_data_ptr<float>(),
                                  mismatch};
  const int64_t numbers = backward.layer_numbers();
  TORCH_CHECK_VALUE(
      samples.is_contiguous() && samples.scalar_type() == at::kFloat && samples.numel() >= backward.sample_numbers(), op,
      ": samples must be ", backward.sample_numbers(), " numbers of float32 side by side, got ", samples.sizes(), " of ",
      samples.scalar_type());
  for (const Tensor& read : {d_mean_in, a_in, motion_in, speed_in, mean_in, support_in, weight_in, root_in, texture_in})
    at::assert_no_overlap(samples, read);
  const Tensor d_a = at::empty_like(a), d_error = cells_like(a, shape), d_texture = at::empty_like(speed);
  const Tensor d_layers = at::zeros({numbers}, a.options()),
               parts = at::empty({shape.batch * shape.frames, numbers}, a.options());
  backward.d_a = d_a.data_ptr<float>();
  backward.d_error = d_error.data_ptr<float>();
  backward.d_texture = d_texture.data_ptr<float>();
  backward.d_layers = d_layers.data_ptr<float>();
  backward.d_layers_parts = parts.data_ptr<float>();
  backward.samples = samples.data_ptr<float>();
  if (a.numel() > 0) choose(level).trusted_average_backward(backward, threads());
  return {d_a, d_layers};
}

MotionShape detail_shape(const Tensor& mean, const Tensor& support, const Tensor& step, const Tensor& first, const Tensor& last,
                         double flat, const char* op) {
  check_video(mean, 1, op, "mean");
  TORCH_CHECK_VALUE(mean.scalar_type() == at::kFloat, op, ": mean must be float32, got ", mean.scalar_type());
  MotionShape shape = video_shape(mean);
  shape.cells_h = (shape.height + 3) / 4;
  shape.cells_w = (shape.width + 3) / 4;
  check_support(shape, support, mean, op);
  TORCH_CHECK_VALUE(step.numel() == 1, op, ": step must be one number, got ", step.sizes());
  check_type(step, mean, op, "step", "mean");
  TORCH_CHECK_VALUE(flat > 0, op, ": flat must be above 0, got ", flat);
  TORCH_CHECK_VALUE(first.dim() == 4 && first.size(0) > 0, op, ": first must be [hidden, 16 c + 1, 3, 3], got ", first.sizes());
  const int64_t hidden = first.size(0), seen = 16 * shape.channels;
  check_sizes(first, {hidden, seen + 1, 3, 3}, op, "first");
  check_sizes(last, {seen, hidden, 3, 3}, op, "last");
  for (const Tensor& weight : {first, last})
    TORCH_CHECK_VALUE(weight.scalar_type() == at::kFloat, op, ": weights must be float32, got ", weight.scalar_type());
  return shape;
}

std::tuple<Tensor, Tensor> flatten_with_detail(const Tensor& mean_in, const Tensor& support_in, const Tensor& step,
                                               const Tensor& first_in, const Tensor& first_bias_in, const Tensor& last_in,
                                               const Tensor& last_bias_in, double flat, double support_level, Level level) {
  const char* op = "flatten_with_detail";
  const MotionShape shape = detail_shape(mean_in, support_in, step, first_in, last_in, flat, op);
  check_layer(first_in, first_bias_in, first_in.sizes(), op, "first");
  check_layer(last_in, last_bias_in, last_in.sizes(), op, "last");
  const Tensor mean = mean_in.contiguous(), support = support_in.contiguous(), first = first_in.contiguous(),
               first_bias = first_bias_in.contiguous(), last = last_in.contiguous(), last_bias = last_bias_in.contiguous();
  const int64_t numbers = first.size(0);
  const Tensor out = at::empty_like(mean),
               hidden = at::empty({shape.batch * shape.frames, shape.cells_h, shape.cells_w, numbers}, mean.options());
  if (out.numel() > 0)
    choose(level).detail({shape, numbers, mean.const_data_ptr<float>(), support.const_data_ptr<float>(),
                          step.const_data_ptr<float>(), first.const_data_ptr<float>(), first_bias.const_data_ptr<float>(),
                          last.const_data_ptr<float>(), last_bias.const_data_ptr<float>(), static_cast<float>(flat),
                          static_cast<float>(support_level), out.data_ptr<float>(), hidden.data_ptr<float>()},
                         threads());
  return {out, hidden};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> flatten_with_detail_backward(
    const Tensor& grad_in, const Tensor& mean_in, const Tensor& support_in, const Tensor& hidden_in, const Tensor& step,
    const Tensor& first_in, const Tensor& last_in, double flat, double support_level, Level level) {
  const char* op = "flatten_with_detail";
  const MotionShape shape = detail_shape(mean_in, support_in, step, first_in, last_in, flat, op);
  const int64_t numbers = first_in.size(0);
  check_sizes(hidden_in, {shape.batch * shape.frames, shape.cells_h, shape.cells_w, numbers}, op, "hidden");
  check_type(hidden_in, mean_in, op, "hidden", "mean");
  const Tensor grad = like(grad_in, mean_in, "flatten_with_detail: grad");
  const Tensor mean = mean_in.contiguous(), support = support_in.contiguous(), hidden = hidden_in.contiguous(),
               first = first_in.contiguous(), last = last_in.contiguous();
  const Tensor d_mean = at::empty_like(mean), d_support = at::empty_like(support),
               d_step = at::zeros(step.sizes(), step.options());
  if (mean.numel() == 0)
    return {d_mean,
            d_support,
            d_step,
            at::zeros_like(first),
            at::zeros({numbers}, first.options()),
            at::zeros_like(last),
            at::zeros({last.size(0)}, last.options())};
  const Tensor d_first = at::empty_like(first), d_first_bias = at::empty({numbers}, first.options()),
               d_last = at::empty_like(last), d_last_bias = at::empty({last.size(0)}, last.options());
  choose(level).detail_backward(
      {shape, numbers, grad.const_data_ptr<float>(), mean.const_data_ptr<float>(), support.const_data_ptr<float>(),
       hidden.const_data_ptr<float>(), step.const_data_ptr<float>(), first.const_data_ptr<float>(), last.const_data_ptr<float>(),
       static_cast<float>(flat), static_cast<float>(support_level), d_mean.data_ptr<float>(), d_support.data_ptr<float>(),
       d_step.data_ptr<float>(), d_first.data_ptr<float>(), d_first_bias.data_ptr<float>(), d_last.data_ptr<float>(),
       d_last_bias.data_ptr<float>()},
      threads());
  return {d_mean, d_support, d_step, d_first, d_first_bias, d_last, d_last_bias};
}

// The gradient of the momentum; those of the videos go into d_z, which is added to, and d_ahead, where that of `before`
// is left.
Tensor momentum_backward_(Tensor& d_z, Tensor& d_ahead, const Tensor& z_in, const Tensor& before_in, double momentum,
                          Level level) {
  const char* op = "momentum";
  check_floating(d_z, op, "d_z");
  const Tensor z = like(z_in, d_z, "momentum: z"), before = like(before_in, d_z, "momentum: before");
  like(d_ahead, d_z, "momentum: d_ahead");
  for (const Tensor& written : {d_z, d_ahead}) {
    TORCH_CHECK_VALUE(written.is_contiguous(), op, ": d_z and d_ahead must be contiguous");
    for (const Tensor& read : {z_in, before_in}) at::assert_no_overlap(written, read);
  }
  at::assert_no_overlap(d_z, d_ahead);
  const Tensor d_momentum = at::zeros({}, d_z.options());
  if (d_z.numel() > 0)
    choose(level).momentum_gradient(
        {d_z.numel(), z.data_ptr(), before.data_ptr(), d_z.data_ptr(), d_ahead.data_ptr(), d_momentum.data_ptr(), momentum},
        d_z.scalar_type() == at::kDouble, threads());
  return d_momentum;
}

}  // namespace

TORCH_LIBRARY_IMPL(davsr, CPU, m) {
  m.impl("trusted_average_kept", trusted_average_kept);
  m.impl("trusted_average_backward_", trusted_average_backward_);
  m.impl("flatten_with_detail", flatten_with_detail);
  m.impl("flatten_with_detail_backward", flatten_with_detail_backward);
  m.impl("momentum_backward_", momentum_backward_);
}

}  // namespace davsr
