// What several ops ask of their tensors, each answered in one sentence that names the op and the tensor.
#pragma once

#include <ATen/ATen.h>

#include "portable.h"

namespace davsr {

inline void check_floating(const at::Tensor& tensor, const char* op, const char* name) {
  TORCH_CHECK_VALUE(tensor.scalar_type() == at::kFloat || tensor.scalar_type() == at::kDouble, op, ": ", name,
                    " must be float32 or float64, got ", tensor.scalar_type());
}

inline void check_sizes(const at::Tensor& tensor, at::IntArrayRef sizes, const char* op, const char* name) {
  TORCH_CHECK_VALUE(tensor.sizes() == sizes, op, ": ", name, " must be ", sizes, ", got ", tensor.sizes());
}

// The type and the device of `other`, which the sentence calls `like`.
inline void check_type(const at::Tensor& tensor, const at::Tensor& other, const char* op, const char* name, const char* like) {
  TORCH_CHECK_VALUE(tensor.scalar_type() == other.scalar_type() && tensor.device() == other.device(), op, ": ", name, " must be ",
                    other.scalar_type(), " on ", other.device(), ", like ", like, ", got ", tensor.scalar_type(), " on ",
                    tensor.device());
}

// A video [b, c, T, H, W] of pixels, with at least so many frames.
inline void check_video(const at::Tensor& x, int64_t frames, const char* op, const char* name) {
  TORCH_CHECK_VALUE(x.dim() == 5 && x.size(1) > 0 && x.size(2) >= frames && x.size(3) > 0 && x.size(4) > 0, op, ": ", name,
                    " must be [b, c, T, H, W], got ", x.sizes());
}

// The tensor itself where it is dense: sizes, type and device of another one; `name` begins with the op.
inline at::Tensor like(const at::Tensor& tensor, const at::Tensor& other, const char* name) {
  TORCH_CHECK_VALUE(
      tensor.sizes() == other.sizes() && tensor.scalar_type() == other.scalar_type() && tensor.device() == other.device(), name,
      " must be ", other.sizes(), " of ", other.scalar_type(), " on ", other.device(), ", got ", tensor.sizes(), " of ",
      tensor.scalar_type(), " on ", tensor.device());
  return tensor.contiguous();
}

inline MotionShape video_shape(const at::Tensor& x) {
  MotionShape shape;
  shape.batch = x.size(0);
  shape.channels = x.size(1);
  shape.frames = x.size(2);
  shape.height = x.size(3);
  shape.width = x.size(4);
  return shape;
}

}  // namespace davsr
