// Checks and geometry of the ops along the motion, for every device.
#pragma once

#include <ATen/ATen.h>
#include <torch/library.h>

#include <tuple>

#include "portable.h"

namespace davsr {

inline MotionShape motion_shape(const at::Tensor& a, const at::Tensor& motion, at::IntArrayRef steps, const char* op) {
  TORCH_CHECK_VALUE(a.dim() == 5 && a.size(1) > 0 && a.size(2) > 0 && a.size(3) > 0 && a.size(4) > 0, op,
                    ": a must be [b, c, T, H, W], got ", a.sizes());
  TORCH_CHECK_VALUE(a.scalar_type() == at::kFloat || a.scalar_type() == at::kDouble, op, ": a must be float32 or float64, got ",
                    a.scalar_type());
  TORCH_CHECK_VALUE(a.size(3) < (int64_t{1} << 24) && a.size(4) < (int64_t{1} << 24), op, ": a must have sides below 2^24, got ",
                    a.sizes());
  TORCH_CHECK_VALUE(motion.sizes() == at::IntArrayRef({a.size(0), a.size(2), 2, a.size(3), a.size(4)}), op,
                    ": motion must be [b, T, 2, H, W] like a, ", a.sizes(), ", got ", motion.sizes());
  TORCH_CHECK_VALUE(motion.scalar_type() == a.scalar_type() && motion.device() == a.device(), op, ": motion must be ",
                    a.scalar_type(), " on ", a.device(), ", like a, got ", motion.scalar_type(), " on ", motion.device());
  TORCH_CHECK_VALUE(!steps.empty() && steps.size() <= MotionShape::kMost, op, ": steps must be 1 to ", MotionShape::kMost,
                    " distances, got ", steps);
  MotionShape shape;
  shape.batch = a.size(0);
  shape.channels = a.size(1);
  shape.frames = a.size(2);
  shape.height = a.size(3);
  shape.width = a.size(4);
  shape.steps = static_cast<int>(steps.size());
  for (size_t k = 0; k < steps.size(); ++k) {
    TORCH_CHECK_VALUE(steps[k] > -(int64_t{1} << 20) && steps[k] < (int64_t{1} << 20), op, ": steps must be below 2^20, got ",
                      steps);
    shape.step[k] = static_cast<int32_t>(steps[k]);
  }
  return shape;
}

inline MotionShape mismatch_shape(const at::Tensor& a, const at::Tensor& motion, at::IntArrayRef cell, at::IntArrayRef steps) {
  MotionShape shape = motion_shape(a, motion, steps, "motion_mismatch");
  TORCH_CHECK_VALUE(cell.size() == 2 && cell[0] > 0 && cell[1] > 0 && cell[0] <= shape.height && cell[1] <= shape.width,
                    "motion_mismatch: cell must be two sides within the frame, got ", cell);
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
  TORCH_CHECK_VALUE(weight.scalar_type() == a.scalar_type() && weight.device() == a.device(), "motion_blend: weight must be ",
                    a.scalar_type(), " on ", a.device(), ", like a, got ", weight.scalar_type(), " on ", weight.device());
  shape.cells_h = weight.size(3);
  shape.cells_w = weight.size(4);
  return shape;
}

inline at::Tensor like(const at::Tensor& tensor, const at::Tensor& other, const char* name) {
  TORCH_CHECK_VALUE(
      tensor.sizes() == other.sizes() && tensor.scalar_type() == other.scalar_type() && tensor.device() == other.device(), name,
      " must be ", other.sizes(), " of ", other.scalar_type(), " on ", other.device(), ", got ", tensor.sizes(), " of ",
      tensor.scalar_type(), " on ", tensor.device());
  return tensor.contiguous();
}

inline at::Tensor cells_like(const at::Tensor& a, const MotionShape& shape) {
  return at::empty({shape.batch, shape.steps, shape.frames, shape.cells_h, shape.cells_w}, a.options());
}

inline MotionShape flatten_shape(const at::Tensor& x, const at::Tensor& step) {
  TORCH_CHECK_VALUE(x.dim() == 5 && x.size(1) > 0 && x.size(3) > 0 && x.size(4) > 0, "flatten: x must be [b, c, T, H, W], got ",
                    x.sizes());
  TORCH_CHECK_VALUE(x.scalar_type() == at::kFloat || x.scalar_type() == at::kDouble,
                    "flatten: x must be float32 or float64, got ", x.scalar_type());
  TORCH_CHECK_VALUE(step.numel() == 1 && step.scalar_type() == x.scalar_type() && step.device() == x.device(),
                    "flatten: step must be one number of ", x.scalar_type(), " on ", x.device(), ", like x, got ", step.sizes(),
                    " of ", step.scalar_type());
  MotionShape shape;
  shape.batch = x.size(0);
  shape.channels = x.size(1);
  shape.frames = x.size(2);
  shape.height = x.size(3);
  shape.width = x.size(4);
  return shape;
}

}  // namespace davsr
