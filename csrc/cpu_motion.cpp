// The ops along the motion on the CPU: tensors in, pointers to the kernels of the chosen instruction set, tensors out.
#include <ATen/MemoryOverlap.h>

#include <algorithm>

#include "by_unit_motion.h"
#include "cpu_host.h"
#include "host_layers.h"
#include "serial.h"

namespace davsr {
namespace {

using Level = std::optional<c10::string_view>;

at::Tensor motion_mismatch(const at::Tensor& a_in, const at::Tensor& motion_in, at::IntArrayRef cell, at::IntArrayRef steps,
                           Level level) {
  const MotionShape shape = mismatch_shape(a_in, motion_in, cell, steps);
  if (is_serial(level)) return motion_mismatch_by_unit<Serial>(shape, a_in, motion_in);
  const at::Tensor a = a_in.contiguous(), motion = motion_in.contiguous(), error = cells_like(a, shape);
  if (error.numel() > 0)
    choose(level).motion_mismatch({shape, a.data_ptr(), motion.data_ptr(), error.data_ptr()}, a.scalar_type() == at::kDouble,
                                  threads());
  return error;
}

std::tuple<at::Tensor, at::Tensor> motion_mismatch_backward(const at::Tensor& grad_in, const at::Tensor& a_in,
                                                            const at::Tensor& motion_in, at::IntArrayRef cell,
                                                            at::IntArrayRef steps, bool motion_gradient, Level level) {
  const MotionShape shape = mismatch_shape(a_in, motion_in, cell, steps);
  const at::Tensor grad = like(grad_in, cells_like(a_in, shape), "motion_mismatch: grad");
  if (is_serial(level)) return motion_mismatch_backward_by_unit<Serial>(shape, grad, a_in, motion_in, motion_gradient);
  const at::Tensor a = a_in.contiguous(), motion = motion_in.contiguous(), d_a = at::empty_like(a);
  const at::Tensor d_motion = motion_gradient ? at::empty_like(motion) : at::empty({0}, motion.options());
  if (a.numel() > 0)
    choose(level).motion_mismatch_backward({shape, a.data_ptr(), motion.data_ptr(), grad.data_ptr(), d_a.data_ptr(),
                                            motion_gradient ? d_motion.data_ptr() : nullptr},
                                           a.scalar_type() == at::kDouble, threads());
  return {d_a, d_motion};
}

std::tuple<at::Tensor, at::Tensor> motion_blend(const at::Tensor& a_in, const at::Tensor& motion_in, const at::Tensor& weight_in,
                                                at::IntArrayRef steps, Level level) {
  const MotionShape shape = blend_shape(a_in, motion_in, weight_in, steps);
  if (is_serial(level)) return motion_blend_by_unit<Serial>(shape, a_in, motion_in, weight_in);
  const at::Tensor a = a_in.contiguous(), motion = motion_in.contiguous(), weight = weight_in.contiguous();
  const at::Tensor mean = at::empty_like(a),
                   support = at::empty({shape.batch, shape.frames, shape.height, shape.width}, a.options());
  if (a.numel() > 0)
    choose(level).motion_blend({shape, a.data_ptr(), motion.data_ptr(), weight.data_ptr(), mean.data_ptr(), support.data_ptr()},
                               a.scalar_type() == at::kDouble, threads());
  return {mean, support};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> motion_blend_backward(const at::Tensor& d_mean_in, const at::Tensor& d_support_in,
                                                                     const at::Tensor& a_in, const at::Tensor& motion_in,
                                                                     const at::Tensor& weight_in, const at::Tensor& mean_in,
                                                                     const at::Tensor& support_in, at::IntArrayRef steps,
                                                                     bool motion_gradient, Level level) {
  const MotionShape shape = blend_shape(a_in, motion_in, weight_in, steps);
  check_support(shape, support_in, a_in, "motion_blend");
  const at::Tensor d_mean = like(d_mean_in, a_in, "motion_blend: grad"), mean = like(mean_in, a_in, "motion_blend: mean");
  const at::Tensor support = support_in.contiguous(), d_support = like(d_support_in, support, "motion_blend: grad of support");
  if (is_serial(level))
    return motion_blend_backward_by_unit<Serial>(shape, d_mean, d_support, a_in, motion_in, weight_in, mean, support,
                                                 motion_gradient);
  const at::Tensor a = a_in.contiguous(), motion = motion_in.contiguous(), weight = weight_in.contiguous();
  const at::Tensor d_a = at::empty_like(a), d_weight = at::empty_like(weight);
  const at::Tensor d_motion = motion_gradient ? at::empty_like(motion) : at::empty({0}, motion.options());
  if (a.numel() > 0)
    choose(level).motion_blend_backward(
        {shape, a.data_ptr(), motion.data_ptr(), weight.data_ptr(), mean.data_ptr(), support.data_ptr(), d_mean.data_ptr(),
         d_support.data_ptr(), d_a.data_ptr(), d_weight.data_ptr(), motion_gradient ? d_motion.data_ptr() : nullptr},
        a.scalar_type() == at::kDouble, threads());
  return {d_a, d_weight, d_motion};
}

void average_into(const MotionShape& shape, const at::Tensor& a, const at::Tensor& motion, double mismatch, double reach,
                  const at::Tensor& mean, void* support, void* weight, Level level) {
  if (a.numel() > 0)
    choose(level).motion_average({shape, a.data_ptr(), motion.data_ptr(), mean.data_ptr(), support, weight, mismatch, reach},
                                 a.scalar_type() == at::kDouble, threads());
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> motion_average(const at::Tensor& a_in, const at::Tensor& motion_in,
                                                              at::IntArrayRef cell, at::IntArrayRef steps, double mismatch,
                                                              double reach, Level level) {
  const MotionShape shape = average_shape(a_in, motion_in, cell, steps, mismatch, reach);
  if (is_serial(level)) return motion_average_by_unit<Serial>(shape, a_in, motion_in, mismatch, reach);
  const at::Tensor a = a_in.contiguous(), mean = at::empty_like(a), weight = cells_like(a, shape).zero_(),
                   support = at::empty({shape.batch, shape.frames, shape.height, shape.width}, a.options());
  average_into(shape, a, motion_in.contiguous(), mismatch, reach, mean, support.data_ptr(), weight.data_ptr(), level);
  return {mean, support, weight};
}

at::Tensor motion_average_backward(const at::Tensor& d_mean_in, const std::optional<at::Tensor>& d_support_in,
                                   const at::Tensor& a_in, const at::Tensor& motion_in, const at::Tensor& weight_in,
                                   const at::Tensor& mean_in, const at::Tensor& support_in, at::IntArrayRef cell,
                                   at::IntArrayRef steps, double mismatch, Level level) {
  const MotionShape shape = average_shape(a_in, motion_in, cell, steps, mismatch, 1);
  const AverageGradients given = average_gradients(shape, d_mean_in, d_support_in, a_in, weight_in, mean_in, support_in);
  if (is_serial(level)) return motion_average_backward_by_unit<Serial>(shape, given, a_in, motion_in, mismatch);
  const at::Tensor a = a_in.contiguous(), motion = motion_in.contiguous();
  const at::Tensor d_a = at::empty_like(a), d_error = cells_like(a, shape);
  if (a.numel() > 0)
    choose(level).motion_average_backward(
        {shape, a.data_ptr(), motion.data_ptr(), given.weight.data_ptr(), given.mean.data_ptr(), given.support.data_ptr(),
         given.d_mean.data_ptr(), given.d_support ? given.d_support->data_ptr() : nullptr, d_a.data_ptr(), d_error.data_ptr(),
         mismatch},
        a.scalar_type() == at::kDouble, threads());
  return d_a;
}

void motion_average_(at::Tensor& out, const at::Tensor& a_in, const at::Tensor& motion_in, at::IntArrayRef cell,
                     at::IntArrayRef steps, double mismatch, double reach, Level level) {
  const MotionShape shape = average_shape(a_in, motion_in, cell, steps, mismatch, reach);
  check_out(out, a_in, {a_in, motion_in}, "motion_average");
  if (is_serial(level)) {
    out.copy_(std::get<0>(motion_average_by_unit<Serial>(shape, a_in, motion_in, mismatch, reach)));
    return;
  }
  const at::Tensor made = out.is_contiguous() ? out : at::empty(out.sizes(), out.options());
  average_into(shape, a_in.contiguous(), motion_in.contiguous(), mismatch, reach, made, nullptr, nullptr, level);
  if (!made.is_same(out)) out.copy_(made);
}

at::Tensor flatten(const at::Tensor& x_in, const at::Tensor& step, double flat, Level level) {
  const MotionShape shape = flatten_shape(x_in, step);
  if (is_serial(level)) return flatten_by_unit<Serial>(shape, x_in, step, flat);
  const at::Tensor x = x_in.contiguous(), out = at::empty_like(x);
  if (x.numel() > 0)
    choose(level).flatten({shape, flat, x.data_ptr(), step.data_ptr(), nullptr, out.data_ptr(), nullptr},
                          x.scalar_type() == at::kDouble, threads());
  return out;
}

void flatten_(at::Tensor& out, const at::Tensor& x_in, const at::Tensor& step, double flat, Level level) {
  const MotionShape shape = flatten_shape(x_in, step);
  check_out(out, x_in, {x_in, step}, "flatten");
  if (is_serial(level)) {
    out.copy_(flatten_by_unit<Serial>(shape, x_in, step, flat));
    return;
  }
  const at::Tensor x = x_in.contiguous(), made = out.is_contiguous() ? out : at::empty(out.sizes(), out.options());
  if (x.numel() > 0)
    choose(level).flatten({shape, flat, x.data_ptr(), step.data_ptr(), nullptr, made.data_ptr(), nullptr},
                          x.scalar_type() == at::kDouble, threads());
  if (!made.is_same(out)) out.copy_(made);
}

std::tuple<at::Tensor, at::Tensor> flatten_backward(const at::Tensor& grad_in, const at::Tensor& x_in, const at::Tensor& step,
                                                    double flat, Level level) {
  const MotionShape shape = flatten_shape(x_in, step);
  const at::Tensor grad = like(grad_in, x_in, "flatten: grad");
  if (is_serial(level)) return flatten_backward_by_unit<Serial>(shape, grad, x_in, step, flat);
  const at::Tensor x = x_in.contiguous(), d_x = at::empty_like(x);
  const at::Tensor sums = at::zeros({shape.batch, shape.frames, shape.height}, x.options());
  if (x.numel() > 0)
    choose(level).flatten({shape, flat, x.data_ptr(), step.data_ptr(), grad.data_ptr(), d_x.data_ptr(), sums.data_ptr()},
                          x.scalar_type() == at::kDouble, threads());
  return {d_x, sums.sum().reshape(step.sizes())};
}

// What a round reads and writes, dense; `made` is copied to `out` where that is not.
struct RoundTensors {
  at::Tensor a, motion, made;
  MotionRound round;
};

RoundTensors round_tensors(at::Tensor& out, const at::Tensor& a_in, const at::Tensor& motion_in, const at::Tensor& step,
                           int64_t first, int64_t total, at::IntArrayRef cell, at::IntArrayRef steps, double mismatch,
                           double reach, double flat, const char* op) {
  check_video(out, 1, op, "out");
  check_video(a_in, 1, op, "a");
  const int64_t b = a_in.size(0), c = a_in.size(1), held = a_in.size(2), H = a_in.size(3), W = a_in.size(4);
  const int64_t count = out.size(2);
  check_sizes(out, {b, c, count, H, W}, op, "out");
  check_type(out, a_in, op, "out", "a");
  check_type(motion_in, a_in, op, "motion", "a");
  TORCH_CHECK_VALUE(motion_in.dim() == 5, op, ": motion must be [b, count, 2, h, w], got ", motion_in.sizes());
  const bool raised = motion_in.size(3) != H || motion_in.size(4) != W;
  // Everything else is as of an average of frames that lie one after the other.
  const at::Tensor like_frames = a_in.slice(2, 0, 1);
  MotionShape shape =
      average_shape(like_frames, at::empty({1}, a_in.options()).expand({b, 1, 2, H, W}), cell, steps, mismatch, reach);
  flatten_shape(like_frames, step);
  shape.frames = held;
  check_sizes(motion_in, {b, count, 2, raised ? shape.cells_h : H, raised ? shape.cells_w : W}, op, "motion");
  TORCH_CHECK_VALUE(first >= 0 && first <= total - count, op, ": frames must be of the ", total, " of the clip, got ", count,
                    " from ", first);
  int64_t low = first, high = first + count - 1;
  for (const int64_t far : steps) {
    low = std::min(low, std::max(first + far, int64_t{0}));
    high = std::max(high, std::min(first + count - 1 + far, total - 1));
  }
  TORCH_CHECK_VALUE(high - low < held, op, ": a must hold frames ", low, " to ", high, ", got ", held, " places");
  for (const at::Tensor& input : {a_in, motion_in, step}) at::assert_no_overlap(out, input);
  at::assert_no_internal_overlap(out);
  RoundTensors given{a_in.contiguous(), motion_in.contiguous(), out, {}};
  if (!out.is_contiguous()) given.made = at::empty(out.sizes(), out.options());
  given.round = {
      shape,    first, count, total, given.a.data_ptr(), given.motion.data_ptr(), step.data_ptr(), given.made.data_ptr(),
      mismatch, reach, flat,  raised};
  return given;
}

void motion_round_(at::Tensor& out, const at::Tensor& a, const at::Tensor& motion, const at::Tensor& step, int64_t first,
                   int64_t total, at::IntArrayRef cell, at::IntArrayRef steps, double mismatch, double reach, double flat,
                   Level level) {
  const RoundTensors given =
      round_tensors(out, a, motion, step, first, total, cell, steps, mismatch, reach, flat, "motion_round");
  if (out.numel() == 0) return;
  choose(level).motion_round(given.round, a.scalar_type() == at::kDouble, threads());
  if (!given.made.is_same(out)) out.copy_(given.made);
}

void learned_round_(at::Tensor& out, const at::Tensor& a, const at::Tensor& motion, const at::Tensor& speed_in,
                    const at::Tensor& step, at::TensorList trust, at::TensorList detail, int64_t first, int64_t total,
                    at::IntArrayRef cell, at::IntArrayRef steps, double mismatch, double reach, double low, double high,
                    double flat, double support_level, Level level) {
  const char* op = "learned_round";
  const RoundTensors given = round_tensors(out, a, motion, step, first, total, cell, steps, mismatch, reach, flat, op);
  TORCH_CHECK_VALUE(a.scalar_type() == at::kFloat, op, ": a must be float32, got ", a.scalar_type());
  const MotionShape& shape = given.round.shape;
  check_sizes(speed_in, {shape.batch, given.round.count, shape.cells_h, shape.cells_w}, op, "speed");
  check_type(speed_in, a, op, "speed", "a");
  const TrustLayers of_trust = trust_layers(trust, low, high, op);
  const int64_t seen = 16 * shape.channels;
  const int64_t of_detail = check_packed(detail, {{6, 6, seen + 1, -1}, {-1}, {6, 6, -1, seen}, {seen}}, op, "detail");
  if (out.numel() == 0) return;
  const at::Tensor speed = speed_in.contiguous();
  const auto of = [](const at::Tensor& tensor) { return tensor.const_data_ptr<float>(); };
  choose(level).learned_round(
      {given.round, of(speed), of_trust,
       DetailLayers{of_detail, of(detail[0]), of(detail[1]), of(detail[2]), of(detail[3]), static_cast<float>(support_level)}},
      threads());
  if (!given.made.is_same(out)) out.copy_(given.made);
}

void warp_between_(at::Tensor& out, const at::Tensor& video_in, const at::Tensor& before_in, const at::Tensor& after_in,
                   at::IntArrayRef low, at::ArrayRef<double> share, Level level) {
  const char* op = "warp_between_";
  check_video(video_in, 1, op, "video");
  const auto count = static_cast<int64_t>(low.size());
  const int64_t b = video_in.size(0), t = video_in.size(1), c = video_in.size(2), H = video_in.size(3), W = video_in.size(4);
  TORCH_CHECK_VALUE(H < (int64_t{1} << 24) && W < (int64_t{1} << 24) && H * W < (int64_t{1} << 31), op,
                    ": video must have frames of fewer than 2^31 pixels, got ", video_in.sizes());
  TORCH_CHECK_VALUE(before_in.dim() == 5 && before_in.size(3) > 0 && before_in.size(4) > 0, op,
                    ": before must be [b, count, 2, h, w], got ", before_in.sizes());
  const int64_t h = before_in.size(3), w = before_in.size(4);
  TORCH_CHECK_VALUE(h < (int64_t{1} << 24) && w < (int64_t{1} << 24), op, ": before must have sides below 2^24, got ",
                    before_in.sizes());
  check_sizes(before_in, {b, count, 2, h, w}, op, "before");
  check_sizes(after_in, {b, count, 2, h, w}, op, "after");
  check_sizes(out, {b, count, c, H, W}, op, "out");
  TORCH_CHECK_VALUE(video_in.scalar_type() == at::kFloat, op, ": video must be float32, got ", video_in.scalar_type());
  check_type(before_in, video_in, op, "before", "video");
  check_type(after_in, video_in, op, "after", "video");
  check_type(out, video_in, op, "out", "video");
  TORCH_CHECK_VALUE(share.size() == low.size(), op, ": share must have a number for each of low, got ", share.size(), " for ",
                    low.size());
  for (const int64_t frame : low)
    TORCH_CHECK_VALUE(frame >= 0 && frame < t, op, ": low must be frames of the ", t, " of video, got ", low);
  if (out.numel() == 0) return;
  at::assert_no_internal_overlap(out);
  const bool dense = (W == 1 || out.stride(4) == 1) && (H == 1 || out.stride(3) == W);
  const at::Tensor made = dense ? out : at::empty(out.sizes(), out.options());
  const at::Tensor video = video_in.contiguous(), before = before_in.contiguous(), after = after_in.contiguous();
  at::assert_no_overlap(out, video);
  MotionShape shape;
  shape.batch = b;
  shape.channels = c;
  shape.frames = t;
  shape.height = H;
  shape.width = W;
  shape.cells_h = h;
  shape.cells_w = w;
  choose(level).warp_between(
      {shape, count, video.const_data_ptr<float>(), before.const_data_ptr<float>(), after.const_data_ptr<float>(), low.data(),
       share.data(), made.data_ptr<float>(), made.stride(0), made.stride(1), made.stride(2)},
      threads());
  if (!made.is_same(out)) out.copy_(made);
}

}  // namespace

TORCH_LIBRARY_IMPL(davsr, CPU, m) {
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
  m.impl("motion_round_", motion_round_);
  m.impl("learned_round_", learned_round_);
  m.impl("warp_between_", warp_between_);
}

}  // namespace davsr
