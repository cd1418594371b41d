// The data step of a camera of three axes whose exposures do not overlap: y - A x, its solution in the eigenbases of
// rows and columns, one LR frame at a time, and what that adds to x. One call: what is between lies in the caches.
#pragma once

#include "cpu_camera.h"

namespace davsr {

constexpr int64_t kSolvedRows = 4 * kCameraRows;  // of a frame at most, by one thread at a time

// The eigenbasis of an axis [size, size], or its transpose, in rows that are filled up to `room` numbers.
template <class Device, class Real>
static void lay_out_basis(const Real* basis, int64_t size, int64_t room, bool turned, Real* to) {
  Clear<Device, Real>::run(to, size * room);
  for (int64_t i = 0; i < size; ++i)
    for (int64_t j = 0; j < size; ++j) to[i * room + j] = basis[turned ? j * size + i : i * size + j];
}

// u of every LR frame [h, w], in its place: Q_h ((Q_h^T u Q_w) / (spectrum + alpha)) Q_w^T. Behind the last frame there
// is room for a vector.
template <class Device, class Real>
static void solve_frames(const DataStep& op, const Parallel& threads) {
  const int64_t h = op.camera.rows.samples, w = op.camera.columns.samples, room = round_up(w, kPad);
  const int64_t planes = op.camera.images * op.camera.time.samples;
  const Real *rows = static_cast<const Real*>(op.rows), *spectrum = static_cast<const Real*>(op.spectrum);
  const Real* alpha = static_cast<const Real*>(op.alpha);
  const Real sign = op.camera.y ? 1 : -1;  // where nothing was observed, A x was made instead of -A x
  Real* u = static_cast<Real*>(op.u);
  Scratch<Device, Real> columns(threads, w * room), turned(threads, w * room), within(threads, planes * h * room);
  lay_out_basis<Device, Real>(static_cast<const Real*>(op.columns), w, room, false, columns.data);
  lay_out_basis<Device, Real>(static_cast<const Real*>(op.columns), w, room, true, turned.data);
  // visit(frame, first row, rows, result) for what left * (a frame) * right is of some rows; left_row, left_step: from
  // one row of `left` to the next, and from one number to the next.
  const auto products = [&](int64_t left_row, int64_t left_step, const Real* from, int64_t from_room, const Real* right,
                            const auto& visit) {
    parallel<Device>(threads, planes * h, [&](int64_t begin, int64_t end) {
      Scratch<Device, Real> half(threads, kSolvedRows * room), whole(threads, kSolvedRows * room);
      for (int64_t unit = begin; unit < end;) {
        const int64_t plane = unit / h, r = unit % h;
        int64_t count = h - r < end - unit ? h - r : end - unit;
        count = count < kSolvedRows ? count : kSolvedRows;
        product<Device, Real>(count, room, h, rows + r * left_row, left_row, left_step, from + plane * h * from_room, from_room,
                              half.data, room, false);
        product<Device, Real>(count, room, w, half.data, room, 1, right, room, whole.data, room, false);
        visit(plane, r, count, whole.data);
        unit += count;
      }
    });
  };
  products(1, h, u, w, columns.data, [&](int64_t plane, int64_t r, int64_t count, const Real* made) {
    const Real penalty = alpha[plane / op.frames_of_sample];
    for (int64_t i = r; i < r + count; ++i, made += room) {
      const Real* eigenvalue = spectrum + i * w;
      Real* to = within.data + (plane * h + i) * room;
      DAVSR_NO_ALIAS
      for (int64_t j = 0; j < w; ++j) to[j] = made[j] / (sign * (eigenvalue[j] + penalty));
      for (int64_t j = w; j < room; ++j) to[j] = 0;
    }
  });
  products(h, 1, within.data, room, turned.data, [&](int64_t plane, int64_t r, int64_t count, const Real* made) {
    for (int64_t i = r; i < r + count; ++i, made += room)
      __builtin_memcpy(u + (plane * h + i) * w, made, static_cast<size_t>(w) * sizeof(Real));
  });
}

template <class Device, class Real>
static void data_step(const DataStep& op, const Parallel& threads) {
  Camera there = op.camera, back = op.camera;
  there.out = op.u;
  camera<Device, Real>(there, threads);
  solve_frames<Device, Real>(op, threads);
  back.y = op.u;
  camera_adjoint<Device, Real>(back, threads);
}

}  // namespace davsr
