// The camera on the CPU: tensors in, the kernels of the chosen instruction set, tensors out.
#include "by_unit_camera.h"
#include "cpu_host.h"
#include "host_camera.h"
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

}  // namespace

TORCH_LIBRARY_IMPL(davsr, CPU, m) {
  m.impl("camera", camera);
  m.impl("camera_adjoint", camera_adjoint);
  m.impl("camera_adjoint_", camera_adjoint_);
}

}  // namespace davsr
