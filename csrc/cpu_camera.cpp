// The camera on the CPU: tensors in, the kernels of the chosen instruction set, tensors out.
#include "by_unit_camera.h"
#include "cpu_host.h"
#include "host_camera.h"
#include "prefault.h"
#include "serial.h"

namespace davsr {
namespace {

using Level = std::optional<c10::string_view>;

// By the GPU's path, or by the kernel of the chosen level.
auto run_at(const Level& level, void (*serial)(const Camera&, bool, const at::TensorOptions&),
            void (*CpuKernels::*kernel)(const Camera&, bool, const Parallel&)) {
  return [=, &level](const Camera& op, bool doubles, const at::TensorOptions& options) {
    if (is_serial(level)) return serial(op, doubles, options);
    (choose(level).*kernel)(op, doubles, threads());
  };
}

auto adjoint_at(const Level& level) { return run_at(level, camera_adjoint_by_unit<Serial>, &CpuKernels::camera_adjoint); }

at::Tensor camera(const at::Tensor& x, const std::optional<at::Tensor>& y, Taps time, Taps rows, Taps columns,
                  at::IntArrayRef start, at::IntArrayRef scale, bool circular, Level level) {
  return camera_with(x, y, {time, rows, columns, start, scale, circular},
                     run_at(level, camera_by_unit<Serial>, &CpuKernels::camera));
}

at::Tensor camera_adjoint(const at::Tensor& y, const std::optional<at::Tensor>& x, Taps time, Taps rows, Taps columns,
                          at::IntArrayRef start, at::IntArrayRef scale, bool circular, Level level) {
  return camera_adjoint_with(y, x, {time, rows, columns, start, scale, circular}, adjoint_at(level));
}

void camera_adjoint_(at::Tensor& out, const at::Tensor& y, const std::optional<at::Tensor>& x, Taps time, Taps rows, Taps columns,
                     at::IntArrayRef start, at::IntArrayRef scale, bool circular, Level level) {
  camera_adjoint_into_with(out, y, x, {time, rows, columns, start, scale, circular}, adjoint_at(level));
}

// Into out, which without x is x; returns u.
at::Tensor data_step_(at::Tensor& out, const std::optional<at::Tensor>& x_in, const std::optional<at::Tensor>& y_in,
                      const at::Tensor& alpha_in, const at::Tensor& rows_in, const at::Tensor& columns_in,
                      const at::Tensor& spectrum_in, Taps time, Taps rows, Taps columns, at::IntArrayRef start,
                      at::IntArrayRef scale, bool circular, Level level) {
  const char* name = "data_step_";
  const std::vector<int64_t> low = low_sizes(out, scale, name);
  DataStep op{};
  op.camera = camera_of(low, {time, rows, columns, start, scale, circular}, name);
  const int64_t h = low[3], w = low[4];
  const auto dense = [&](const at::Tensor& tensor, at::IntArrayRef sizes, const char* of) {
    check_sizes(tensor, sizes, name, of);
    check_type(tensor, out, name, of, "out");
    at::assert_no_overlap(out, tensor);
    return tensor.contiguous();
  };
  at::assert_no_internal_overlap(out);
  const at::Tensor x = x_in ? dense(*x_in, out.sizes(), "x") : out.contiguous();
  const at::Tensor y = y_in ? dense(*y_in, low, "y") : at::Tensor();
  const at::Tensor alpha = dense(alpha_in, {low[0]}, "alpha"), spectrum = dense(spectrum_in, {h, w}, "spectrum");
  const at::Tensor by_rows = dense(rows_in, {h, h}, "rows_basis"), by_columns = dense(columns_in, {w, w}, "columns_basis");
  const at::Tensor made = out.is_contiguous() ? out : at::empty(out.sizes(), out.options());
  const int64_t numbers = low[0] * low[1] * low[2] * h * w;
  const at::Tensor u = at::empty({numbers + kPad}, out.options()).narrow(0, 0, numbers).view(low);
  op.camera.x = x.data_ptr();
  op.camera.y = y_in ? y.data_ptr() : nullptr;
  op.camera.out = made.data_ptr();
  op.rows = by_rows.data_ptr();
  op.columns = by_columns.data_ptr();
  op.spectrum = spectrum.data_ptr();
  op.alpha = alpha.data_ptr();
  op.frames_of_sample = low[1] * low[2];
  op.u = u.data_ptr();
  prefault(made.data_ptr(), made.nbytes());
  if (numbers > 0) choose(level).data_step(op, out.scalar_type() == at::kDouble, threads());
  if (!made.is_same(out)) out.copy_(made);
  return u;
}

}  // namespace

TORCH_LIBRARY_IMPL(davsr, CPU, m) {
  m.impl("camera", camera);
  m.impl("camera_adjoint", camera_adjoint);
  m.impl("camera_adjoint_", camera_adjoint_);
  m.impl("data_step_", data_step_);
}

}  // namespace davsr
