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

// The transpose of a packed layer: one [3, 3, made, seen] with the mirrored weight.
Tensor turned_packed(const Tensor& weight) { return weight.flip({0, 1}).transpose(2, 3).contiguous(); }

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
  const Tensor first_turned = turned_packed(trust[0].narrow(2, 0, 2)), second_turned = turned_packed(trust[2]);
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

// conv3x3 of cells [n, h, w, seen] to [n, h, w, made], of a weight that changes; in memory of cells that are used up,
// where there are any.
Tensor convolved(const Tensor& cells, const Tensor& weight, const std::optional<Tensor>& bias_in, float slope, Level level,
                 const Tensor& used = {}) {
  const int64_t made = weight.size(0), seen = weight.size(1), padded_to = round_up(made, kPad);
  const Tensor taps = at::constant_pad_nd(weight.permute({2, 3, 1, 0}), {0, padded_to - made}).contiguous();
  const Tensor bias =
      bias_in ? at::constant_pad_nd(*bias_in, {0, padded_to - made}).contiguous() : at::zeros({padded_to}, cells.options());
  const Tensor points = at::empty({36, seen, padded_to}, cells.options());
  const std::vector<int64_t> sizes{cells.size(0), cells.size(1), cells.size(2), made};
  const int64_t numbers = cells.size(0) * cells.size(1) * cells.size(2) * made;
  const Tensor out = used.defined() ? used.view(-1).narrow(0, 0, numbers).view(sizes) : at::empty(sizes, cells.options());
  choose(level).conv3x3({cells.size(0), cells.size(1), cells.size(2), seen, made, padded_to, cells.const_data_ptr<float>(),
                         taps.const_data_ptr<float>(), bias.const_data_ptr<float>(), nullptr, points.data_ptr<float>(),
                         out.data_ptr<float>(), slope, false},
                        threads());
  return out;
}

// The gradients of a layer's weight and bias, of what it saw and that of what it made, both [n, h, w, channels].
std::tuple<Tensor, Tensor> layer_gradients(const Tensor& d_made, const Tensor& cells, Level level) {
  const int64_t made = d_made.size(3), seen = cells.size(3), padded_to = round_up(made, kPad);
  const Tensor d_weight = at::empty({3, 3, seen, padded_to}, cells.options()), d_bias = at::empty({padded_to}, cells.options());
  choose(level).conv3x3_gradient(
      {cells.size(0), cells.size(1), cells.size(2), seen, made, padded_to, cells.const_data_ptr<float>(),
       d_made.const_data_ptr<float>(), d_weight.data_ptr<float>(), d_bias.data_ptr<float>()},
      threads());
  return {d_weight.narrow(3, 0, made).permute({3, 2, 0, 1}).contiguous(), d_bias.narrow(0, 0, made).clone()};
}

MotionShape detail_shape(const Tensor& mean, const Tensor& support, const Tensor& first, const Tensor& last, const char* op) {
  check_video(mean, 1, op, "mean");
  TORCH_CHECK_VALUE(mean.scalar_type() == at::kFloat, op, ": mean must be float32, got ", mean.scalar_type());
  MotionShape shape = video_shape(mean);
  shape.cells_h = (shape.height + 3) / 4;
  shape.cells_w = (shape.width + 3) / 4;
  check_support(shape, support, mean, op);
  TORCH_CHECK_VALUE(first.dim() == 4 && first.size(0) > 0, op, ": first must be [hidden, 16 c + 1, 3, 3], got ", first.sizes());
  const int64_t hidden = first.size(0), seen = 16 * shape.channels;
  check_sizes(first, {hidden, seen + 1, 3, 3}, op, "first");
  check_sizes(last, {seen, hidden, 3, 3}, op, "last");
  for (const Tensor& weight : {first, last})
    TORCH_CHECK_VALUE(weight.scalar_type() == at::kFloat, op, ": weights must be float32, got ", weight.scalar_type());
  return shape;
}

Tensor cells_of(const MotionShape& shape, const Tensor& x, const Tensor* support, double support_level, Level level) {
  const Tensor cells =
      at::empty({shape.batch * shape.frames, shape.cells_h, shape.cells_w, 16 * shape.channels + (support ? 1 : 0)}, x.options());
  choose(level).pixels_to_cells({shape, x.const_data_ptr<float>(), support ? support->const_data_ptr<float>() : nullptr,
                                 cells.data_ptr<float>(), static_cast<float>(support_level), support != nullptr},
                                threads());
  return cells;
}

Tensor add_detail_(Tensor& out, const Tensor& mean_in, const Tensor& support_in, const Tensor& first, const Tensor& first_bias,
                   const Tensor& last, const Tensor& last_bias, double support_level, Level level) {
  const char* op = "add_detail";
  const MotionShape shape = detail_shape(mean_in, support_in, first, last, op);
  check_layer(first, first_bias, first.sizes(), op, "first");
  check_layer(last, last_bias, last.sizes(), op, "last");
  check_out(out, mean_in, {mean_in, support_in}, op);
  TORCH_CHECK_VALUE(out.is_contiguous(), op, ": out must be contiguous");
  if (out.numel() == 0)
    return at::empty({shape.batch * shape.frames, shape.cells_h, shape.cells_w, first.size(0)}, mean_in.options());
  const Tensor mean = mean_in.contiguous(), support = support_in.contiguous();
  const Tensor cells = cells_of(shape, mean, &support, support_level, level);
  const Tensor hidden = convolved(cells, first, first_bias, 0, level);
  const Tensor made = convolved(hidden, last, last_bias, 1, level, cells);
  choose(level).cells_to_pixels({shape, made.size(3), made.const_data_ptr<float>(), out.data_ptr<float>(), nullptr, false},
                                threads());
  return hidden;
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> add_detail_backward_(Tensor& d_mean, const Tensor& grad_in,
                                                                        const Tensor& mean_in, const Tensor& support_in,
                                                                        const Tensor& hidden_in, const Tensor& first,
                                                                        const Tensor& last, double support_level, Level level) {
  const char* op = "add_detail";
  const MotionShape shape = detail_shape(mean_in, support_in, first, last, op);
  check_sizes(hidden_in, {shape.batch * shape.frames, shape.cells_h, shape.cells_w, first.size(0)}, op, "hidden");
  check_type(hidden_in, mean_in, op, "hidden", "mean");
  check_out(d_mean, mean_in, {mean_in, support_in, grad_in, hidden_in}, op);
  TORCH_CHECK_VALUE(d_mean.is_contiguous(), op, ": d_mean must be contiguous");
  const Tensor grad = like(grad_in, mean_in, "add_detail: grad");
  const Tensor mean = mean_in.contiguous(), support = support_in.contiguous(), hidden = hidden_in.contiguous();
  const Tensor d_support = at::empty_like(support);
  if (grad.numel() == 0)
    return {d_support, at::zeros_like(first), at::zeros({first.size(0)}, first.options()), at::zeros_like(last),
            at::zeros({last.size(0)}, last.options())};
  const Tensor cells = cells_of(shape, mean, &support, support_level, level), d_made = cells_of(shape, grad, nullptr, 0, level);
  auto [d_last, d_last_bias] = layer_gradients(d_made, hidden, level);
  const Tensor d_hidden = at::threshold_backward(convolved(d_made, turned(last), {}, 1, level), hidden, 0);
  auto [d_first, d_first_bias] = layer_gradients(d_hidden, cells, level);
  const Tensor d_cells = convolved(d_hidden, turned(first), {}, 1, level, cells);
  choose(level).cells_to_pixels(
      {shape, d_cells.size(3), d_cells.const_data_ptr<float>(), d_mean.data_ptr<float>(), d_support.data_ptr<float>(), true},
      threads());
  return {d_support, d_first, d_first_bias, d_last, d_last_bias};
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
  m.impl("add_detail_", add_detail_);
  m.impl("add_detail_backward_", add_detail_backward_);
  m.impl("momentum_backward_", momentum_backward_);
}

}  // namespace davsr
