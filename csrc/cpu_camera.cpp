// The camera on the CPU: tensors in, the kernels of the chosen instruction set, tensors out.
#include <ATen/MemoryOverlap.h>

#include "cpu_host.h"

namespace davsr {
namespace {

using Level = std::optional<c10::string_view>;
using Taps = at::ArrayRef<double>;

// The three axes for a video whose LR side has the sizes `low`, [b, c, t, h, w].
Camera camera_of(at::IntArrayRef low, Taps time, Taps rows, Taps columns, at::IntArrayRef start, at::IntArrayRef scale,
                 bool circular, const char* op) {
  TORCH_CHECK_VALUE(start.size() == 3 && scale.size() == 3, op, ": start and scale must be three numbers, got ", start, " and ",
                    scale);
  Camera made{};
  made.images = low[0] * low[1];
  const Taps weights[3] = {time, rows, columns};
  CameraAxis* axes[3] = {&made.time, &made.rows, &made.columns};
  for (size_t i = 0; i < 3; ++i) {
    const auto taps = static_cast<int64_t>(weights[i].size());
    TORCH_CHECK_VALUE(taps > 0 && taps <= (1 << 16), op, ": time, rows and columns must be 1 to 65536 taps, got ", taps);
    TORCH_CHECK_VALUE(start[i] > -(1 << 20) && start[i] < (1 << 20), op, ": start must be below 2^20, got ", start);
    *axes[i] = {scale[i], low[i + 2], taps, start[i], weights[i].data(), circular};
  }
  return made;
}

// The sizes of the LR side of x.
std::vector<int64_t> low_sizes(const at::Tensor& x, at::IntArrayRef scale, const char* op) {
  check_video(x, 1, op, "x");
  check_floating(x, op, "x");
  TORCH_CHECK_VALUE(scale.size() == 3, op, ": scale must be three numbers, got ", scale);
  std::vector<int64_t> sizes = x.sizes().vec();
  for (size_t i = 0; i < 3; ++i) {
    TORCH_CHECK_VALUE(scale[i] > 0 && sizes[i + 2] % scale[i] == 0, op, ": (T, H, W) of x must be multiples of the scale ", scale,
                      ", got ", x.sizes());
    sizes[i + 2] /= scale[i];
  }
  return sizes;
}

std::vector<int64_t> high_sizes(const at::Tensor& y, at::IntArrayRef scale, const char* op) {
  check_video(y, 1, op, "y");
  check_floating(y, op, "y");
  TORCH_CHECK_VALUE(scale.size() == 3, op, ": scale must be three numbers, got ", scale);
  std::vector<int64_t> sizes = y.sizes().vec();
  for (size_t i = 0; i < 3; ++i) {
    TORCH_CHECK_VALUE(scale[i] > 0 && scale[i] < (1 << 16) && sizes[i + 2] < (int64_t{1} << 31), op,
                      ": scale must be 1 to 65535, got ", scale);
    sizes[i + 2] *= scale[i];
  }
  return sizes;
}

at::Tensor camera(const at::Tensor& x_in, const std::optional<at::Tensor>& y_in, Taps time, Taps rows, Taps columns,
                  at::IntArrayRef start, at::IntArrayRef scale, bool circular, Level level) {
  const std::vector<int64_t> low = low_sizes(x_in, scale, "camera");
  Camera op = camera_of(low, time, rows, columns, start, scale, circular, "camera");
  if (y_in) {
    check_sizes(*y_in, low, "camera", "y");
    check_type(*y_in, x_in, "camera", "y", "x");
  }
  const at::Tensor x = x_in.contiguous(), y = y_in ? y_in->contiguous() : at::Tensor(), out = at::empty(low, x.options());
  op.x = x.data_ptr();
  op.y = y_in ? y.data_ptr() : nullptr;
  op.out = out.data_ptr();
  if (out.numel() > 0) choose(level).camera(op, x.scalar_type() == at::kDouble, threads());
  return out;
}

void adjoint_into(const at::Tensor& out, const at::Tensor& y_in, const at::Tensor* x, Camera op, Level level) {
  const at::Tensor y = y_in.contiguous();
  op.x = x ? x->data_ptr() : nullptr;
  op.y = y.data_ptr();
  op.out = out.data_ptr();
  if (out.numel() > 0) choose(level).camera_adjoint(op, y.scalar_type() == at::kDouble, threads());
}

at::Tensor camera_adjoint(const at::Tensor& y, const std::optional<at::Tensor>& x_in, Taps time, Taps rows, Taps columns,
                          at::IntArrayRef start, at::IntArrayRef scale, bool circular, Level level) {
  const std::vector<int64_t> high = high_sizes(y, scale, "camera_adjoint");
  const Camera op = camera_of(y.sizes(), time, rows, columns, start, scale, circular, "camera_adjoint");
  at::Tensor x;
  if (x_in) {
    check_sizes(*x_in, high, "camera_adjoint", "x");
    check_type(*x_in, y, "camera_adjoint", "x", "y");
    x = x_in->contiguous();
  }
  const at::Tensor out = at::empty(high, y.options());
  adjoint_into(out, y, x_in ? &x : nullptr, op, level);
  return out;
}

// out = x + A^T y; without x, out itself is x.
void camera_adjoint_(at::Tensor& out, const at::Tensor& y, const std::optional<at::Tensor>& x_in, Taps time, Taps rows,
                     Taps columns, at::IntArrayRef start, at::IntArrayRef scale, bool circular, Level level) {
  const char* name = "camera_adjoint_";
  const std::vector<int64_t> high = high_sizes(y, scale, name);
  const Camera op = camera_of(y.sizes(), time, rows, columns, start, scale, circular, name);
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
  adjoint_into(made, y, &x, op, level);
  if (!made.is_same(out)) out.copy_(made);
}

}  // namespace

TORCH_LIBRARY_IMPL(davsr, CPU, m) {
  m.impl("camera", camera);
  m.impl("camera_adjoint", camera_adjoint);
  m.impl("camera_adjoint_", camera_adjoint_);
}

}  // namespace davsr
