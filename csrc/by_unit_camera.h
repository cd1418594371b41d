// The camera over units of camera_units.h, for any device that offers launch(count, unit).
#pragma once

#include <ATen/ATen.h>

#include <algorithm>

#include "camera_units.h"

namespace davsr {

// run(taps) for the taps of an axis, in parts that a launch can take along: A is the sum over such parts.
template <class Real, class Run>
void with_taps(const CameraAxis& axis, const Run& run) {
  using Taps = CameraTaps<Real>;
  TORCH_CHECK_VALUE(axis.size() < Taps::kLongest, "camera: axes must be below 2^29 HR samples, got ", axis.size());
  const auto narrow = [](int64_t value) { return static_cast<int32_t>(value); };
  for (int64_t first = 0; first < axis.taps; first += Taps::kMost) {
    const int64_t count = std::min(Taps::kMost, axis.taps - first);
    Taps part{{narrow(axis.scale), narrow(axis.samples), narrow(count), narrow(axis.start + first), axis.circular}, {}};
    for (int64_t k = 0; k < count; ++k) part.weight[k] = static_cast<Real>(axis.weight[first + k]);
    run(part);
  }
}

// out [outer, samples, inner] = sum over the taps, or base - that.
template <class Device, class Real>
void camera_along(const CameraAxis& axis, int64_t outer, int64_t inner, const Real* x, const Real* base, Real* out) {
  const bool subtract = base != nullptr;
  with_taps<Real>(axis, [&](const CameraTaps<Real>& taps) {
    Device::launch(outer * axis.samples * inner, CameraAlong<Device, Real>{taps, inner, x, base, out, subtract});
    base = out;
  });
}

// Its transpose: out [outer, scale samples, inner], or base + that.
template <class Device, class Real>
void camera_back(const CameraAxis& axis, int64_t outer, int64_t inner, const Real* y, const Real* base, Real* out) {
  with_taps<Real>(axis, [&](const CameraTaps<Real>& taps) {
    Device::launch(outer * axis.samples * inner, CameraBack<Device, Real>{taps, inner, y, base, out});
    base = out;
  });
}

inline bool changes_nothing(const CameraAxis& axis) {
  return axis.scale == 1 && axis.taps == 1 && axis.start == 0 && axis.weight[0] == 1;
}

// One axis after the other, time first, as it leaves the fewest numbers: one pass reads the large video, the others are
// small. `mean` and `rows` are what is between them.
template <class Device, class Real>
void camera_by_axis(const Camera& op, const at::TensorOptions& options) {
  const int64_t width = op.columns.size(), height = op.rows.size(), frames = op.images * op.time.samples;
  const auto *x = static_cast<const Real*>(op.x), *y = static_cast<const Real*>(op.y);
  at::Tensor mean, rows;
  const auto filter = [&](const CameraAxis& axis, int64_t outer, int64_t inner, at::Tensor& kept) {
    if (changes_nothing(axis)) return;
    kept = at::empty({outer * axis.samples * inner}, options);
    camera_along<Device, Real>(axis, outer, inner, x, nullptr, static_cast<Real*>(kept.data_ptr()));
    x = static_cast<const Real*>(kept.data_ptr());
  };
  filter(op.time, op.images, height * width, mean);
  filter(op.rows, frames, width, rows);
  camera_along<Device, Real>(op.columns, frames * op.rows.samples, 1, x, y, static_cast<Real*>(op.out));
}

// Time last: the one pass over the large video.
template <class Device, class Real>
void camera_adjoint_by_axis(const Camera& op, const at::TensorOptions& options) {
  const int64_t width = op.columns.size(), height = op.rows.size(), frames = op.images * op.time.samples;
  const auto *x = static_cast<const Real*>(op.x), *y = static_cast<const Real*>(op.y);
  at::Tensor columns, plane;
  const auto spread = [&](const CameraAxis& axis, int64_t outer, int64_t inner, at::Tensor& kept) {
    if (changes_nothing(axis)) return;
    kept = at::empty({outer * axis.size() * inner}, options);
    camera_back<Device, Real>(axis, outer, inner, y, nullptr, static_cast<Real*>(kept.data_ptr()));
    y = static_cast<const Real*>(kept.data_ptr());
  };
  spread(op.columns, frames * op.rows.samples, 1, columns);
  spread(op.rows, frames, width, plane);
  camera_back<Device, Real>(op.time, op.images, height * width, y, x, static_cast<Real*>(op.out));
}

template <class Device>
void camera_by_unit(const Camera& op, bool doubles, const at::TensorOptions& options) {
  if (doubles)
    camera_by_axis<Device, double>(op, options);
  else
    camera_by_axis<Device, float>(op, options);
}

template <class Device>
void camera_adjoint_by_unit(const Camera& op, bool doubles, const at::TensorOptions& options) {
  if (doubles)
    camera_adjoint_by_axis<Device, double>(op, options);
  else
    camera_adjoint_by_axis<Device, float>(op, options);
}

}  // namespace davsr
