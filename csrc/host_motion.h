// Checks and geometry of the ops along the motion, for every device.
#pragma once

#include <ATen/ATen.h>
#include <ATen/MemoryOverlap.h>
#include <torch/library.h>

#include <algorithm>
#include <cstdlib>
#include <tuple>

#include "checks.h"
#include "portable.h"

namespace davsr {

inline MotionShape motion_shape(const at::Tensor& a, const at::Tensor& motion, at::IntArrayRef steps, const char* op) {
  check_video(a, 1, op, "a");
  check_floating(a, op, "a");
  TORCH_CHECK_VALUE(a.size(3) < (int64_t{1} << 24) && a.size(4) < (int64_t{1} << 24), op, ": a must have sides below 2^24, got ",
                    a.sizes());
  TORCH_CHECK_VALUE(motion.sizes() == at::IntArrayRef({a.size(0), a.size(2), 2, a.size(3), a.size(4)}), op,
                    ": motion must be [b, T, 2, H, W] like a, ", a.sizes(), ", got ", motion.sizes());
  check_type(motion, a, op, "motion", "a");
  TORCH_CHECK_VALUE(!steps.empty() && steps.size() <= MotionShape::kMost, op, ": steps must be 1 to ", MotionShape::kMost,
                    " distances, got ", steps);
  MotionShape shape = video_shape(a);
  shape.steps = static_cast<int>(steps.size());
  for (size_t k = 0; k < steps.size(); ++k) {
    TORCH_CHECK_VALUE(steps[k] > -(int64_t{1} << 20) && steps[k] < (int64_t{1} << 20), op, ": steps must be below 2^20, got ",
                      steps);
    shape.step[k] = static_cast<int32_t>(steps[k]);
  }
  return shape;
}

inline MotionShape mismatch_shape(const at::Tensor& a, const at::Tensor& motion, at::IntArrayRef cell, at::IntArrayRef steps,
                                  const char* op = "motion_mismatch") {
  MotionShape shape = motion_shape(a, motion, steps, op);
  TORCH_CHECK_VALUE(cell.size() == 2 && cell[0] > 0 && cell[1] > 0 && cell[0] <= shape.height && cell[1] <= shape.width, op,
                    ": cell must be two sides within the frame, got ", cell);
  shape.cell_h = cell[0];
  shape.cell_w = cell[1];
  shape.cells_h = shape.height / cell[0];
  shape.cells_w = shape.width / cell[1];
  return shape;
}

inline MotionShape blend_shape(const at::Tensor& a, const at::Tensor& motion, const at::Tensor& weight, at::IntArrayRef steps) {
  MotionShape shape = motion_shape(a, motion, steps, "motion_blend");
  TORCH_CHECK_VALUE(weight.dim() == 5 && weight.size(0) == shape.batch && weight.size(1) == shape.steps &&
                        weight.size(2) == shape.frames && weight.size(3) > 0 && weight.size(4) > 0 &&
                        weight.size(3) <= shape.height && weight.size(4) <= shape.width,
                    "motion_blend: weight must be [b, steps, T, h, w] with cells of at least a pixel, got ", weight.sizes());
  check_type(weight, a, "motion_blend", "weight", "a");
  shape.cells_h = weight.size(3);
  shape.cells_w = weight.size(4);
  return shape;
}

inline MotionShape average_shape(const at::Tensor& a, const at::Tensor& motion, at::IntArrayRef cell, at::IntArrayRef steps,
                                 double mismatch, double reach) {
  TORCH_CHECK_VALUE(mismatch > 0 && reach > 0, "motion_average: mismatch and reach must be above 0, got ", mismatch, " and ",
                    reach);
  return mismatch_shape(a, motion, cell, steps, "motion_average");
}

// Memory that a result is to be written to: it has the sizes of `like` and is none of what is read.
inline void check_out(const at::Tensor& out, const at::Tensor& like, at::TensorList read, const char* op) {
  check_sizes(out, like.sizes(), op, "out");
  check_type(out, like, op, "out", "the input");
  at::assert_no_internal_overlap(out);
  for (const at::Tensor& input : read) at::assert_no_overlap(out, input);
}

inline at::Tensor cells_like(const at::Tensor& a, const MotionShape& shape) {
  return at::empty({shape.batch, shape.steps, shape.frames, shape.cells_h, shape.cells_w}, a.options());
}

inline void check_support(const MotionShape& shape, const at::Tensor& support, const at::Tensor& a, const char* op) {
  check_sizes(support, {shape.batch, shape.frames, shape.height, shape.width}, op, "support");
  check_type(support, a, op, "support", "a");
}

// What the gradient of an average reads, dense; d_support may be left out, which is zero.
struct AverageGradients {
  at::Tensor d_mean, weight, mean, support;
  std::optional<at::Tensor> d_support;
};

inline AverageGradients average_gradients(const MotionShape& shape, const at::Tensor& d_mean,
                                          const std::optional<at::Tensor>& d_support, const at::Tensor& a,
                                          const at::Tensor& weight, const at::Tensor& mean, const at::Tensor& support) {
  const char* op = "motion_average";
  check_support(shape, support, a, op);
  check_sizes(weight, {shape.batch, shape.steps, shape.frames, shape.cells_h, shape.cells_w}, op, "weight");
  check_type(weight, a, op, "weight", "a");
  AverageGradients given{like(d_mean, a, "motion_average: grad"),
                         weight.contiguous(),
                         like(mean, a, "motion_average: mean"),
                         support.contiguous(),
                         {}};
  if (d_support) given.d_support = like(*d_support, support, "motion_average: grad of support");
  return given;
}

inline MotionShape flatten_shape(const at::Tensor& x, const at::Tensor& step) {
  check_video(x, 0, "flatten", "x");
  check_floating(x, "flatten", "x");
  TORCH_CHECK_VALUE(step.numel() == 1 && step.scalar_type() == x.scalar_type() && step.device() == x.device(),
                    "flatten: step must be one number of ", x.scalar_type(), " on ", x.device(), ", like x, got ", step.sizes(),
                    " of ", step.scalar_type());
  return video_shape(x);
}

}  // namespace davsr
