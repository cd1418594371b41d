// The camera's checks and tensors, for every device: what is left to each is run(op, doubles, options).
#pragma once

#include <ATen/ATen.h>
#include <ATen/MemoryOverlap.h>
#include <torch/library.h>

#include <optional>
#include <vector>

#include "camera.h"
#include "checks.h"

namespace davsr {

using Taps = at::ArrayRef<double>;

// What a camera is made of, as it is given to the ops.
struct CameraArguments {
  Taps time, rows, columns;
  at::IntArrayRef start, scale;
  bool circular;
};

// The three axes for a video whose LR side has the sizes `low`, [b, c, t, h, w].
inline Camera camera_of(at::IntArrayRef low, const CameraArguments& given, const char* op) {
  TORCH_CHECK_VALUE(given.start.size() == 3 && given.scale.size() == 3, op, ": start and scale must be three numbers, got ",
                    given.start, " and ", given.scale);
  Camera made{};
  made.images = low[0] * low[1];
  const Taps weights[3] = {given.time, given.rows, given.columns};
  CameraAxis* axes[3] = {&made.time, &made.rows, &made.columns};
  for (size_t i = 0; i < 3; ++i) {
    const auto taps = static_cast<int64_t>(weights[i].size());
    const int64_t start = given.start[i];
    TORCH_CHECK_VALUE(taps > 0 && taps <= (1 << 16), op, ": time, rows and columns must be 1 to 65536 taps, got ", taps);
    TORCH_CHECK_VALUE(start > -(1 << 20) && start < (1 << 20), op, ": start must be below 2^20, got ", given.start);
    *axes[i] = {{given.scale[i], low[i + 2], taps, start, given.circular}, weights[i].data()};
  }
  return made;
}

inline std::vector<int64_t> sizes_of_video(const at::Tensor& video, at::IntArrayRef scale, const char* op, const char* name) {
  check_video(video, 1, op, name);
  check_floating(video, op, name);
  TORCH_CHECK_VALUE(scale.size() == 3, op, ": scale must be three numbers, got ", scale);
  return video.sizes().vec();
}

// The sizes of the LR side of x.
inline std::vector<int64_t> low_sizes(const at::Tensor& x, at::IntArrayRef scale, const char* op) {
  std::vector<int64_t> sizes = sizes_of_video(x, scale, op, "x");
  for (size_t i = 0; i < 3; ++i) {
    TORCH_CHECK_VALUE(scale[i] > 0 && sizes[i + 2] % scale[i] == 0, op, ": (T, H, W) of x must be multiples of the scale ", scale,
                      ", got ", x.sizes());
    sizes[i + 2] /= scale[i];
  }
  return sizes;
}

inline std::vector<int64_t> high_sizes(const at::Tensor& y, at::IntArrayRef scale, const char* op) {
  std::vector<int64_t> sizes = sizes_of_video(y, scale, op, "y");
  for (size_t i = 0; i < 3; ++i) {
    TORCH_CHECK_VALUE(scale[i] > 0 && scale[i] < (1 << 16) && sizes[i + 2] < (int64_t{1} << 31), op,
                      ": scale must be 1 to 65535, got ", scale);
    sizes[i + 2] *= scale[i];
  }
  return sizes;
}

template <class Run>
at::Tensor camera_with(const at::Tensor& x_in, const std::optional<at::Tensor>& y_in, const CameraArguments& given,
                       const Run& run) {
  const std::vector<int64_t> low = low_sizes(x_in, given.scale, "camera");
  Camera op = camera_of(low, given, "camera");
  if (y_in) {
    check_sizes(*y_in, low, "camera", "y");
    check_type(*y_in, x_in, "camera", "y", "x");
  }
  const at::Tensor x = x_in.contiguous(), y = y_in ? y_in->contiguous() : at::Tensor(), out = at::empty(low, x.options());
  op.x = x.data_ptr();
  op.y = y_in ? y.data_ptr() : nullptr;
  op.out = out.data_ptr();
  if (out.numel() > 0) run(op, x.scalar_type() == at::kDouble, x.options());
  return out;
}

template <class Run>
void adjoint_into(const at::Tensor& out, const at::Tensor& y_in, const at::Tensor* x, Camera op, const Run& run) {
  const at::Tensor y = y_in.contiguous();
  op.x = x ? x->data_ptr() : nullptr;
  op.y = y.data_ptr();
  op.out = out.data_ptr();
  if (out.numel() > 0) run(op, y.scalar_type() == at::kDouble, y.options());
}

template <class Run>
at::Tensor camera_adjoint_with(const at::Tensor& y, const std::optional<at::Tensor>& x_in, const CameraArguments& given,
                               const Run& run) {
  const std::vector<int64_t> high = high_sizes(y, given.scale, "camera_adjoint");
  const Camera op = camera_of(y.sizes(), given, "camera_adjoint");
  at::Tensor x;
  if (x_in) {
    check_sizes(*x_in, high, "camera_adjoint", "x");
    check_type(*x_in, y, "camera_adjoint", "x", "y");
    x = x_in->contiguous();
  }
  const at::Tensor out = at::empty(high, y.options());
  adjoint_into(out, y, x_in ? &x : nullptr, op, run);
  return out;
}

// out = x + A^T y; without x, out itself is x.
template <class Run>
void camera_adjoint_into_with(at::Tensor& out, const at::Tensor& y, const std::optional<at::Tensor>& x_in,
                              const CameraArguments& given, const Run& run) {
  const char* name = "camera_adjoint_";
  const std::vector<int64_t> high = high_sizes(y, given.scale, name);
  const Camera op = camera_of(y.sizes(), given, name);
  check_sizes(out, high, name, "out");
  check_type(out, y, name, "out", "y");
  at::assert_no_internal_overlap(out);
  at::assert_no_overlap(out, y);
  at::Tensor x = out.contiguous();
  const at::Tensor made = out.is_contiguous() ? out : at::empty(high, out.options());
  if (x_in) {
    check_sizes(*x_in, high, name, "x");
    check_type(*x_in, y, name, "x", "y");
    at::assert_no_overlap(out, *x_in);
    x = x_in->contiguous();
  }
  adjoint_into(made, y, &x, op, run);
  if (!made.is_same(out)) out.copy_(made);
}

}  // namespace davsr
