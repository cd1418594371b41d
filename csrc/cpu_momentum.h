// The gradient of a step ahead in the direction of the last change, on a CPU, in one pass over its videos.
#pragma once

#include "cpu_motion_sample.h"

namespace davsr {

constexpr int64_t kSummed = 1 << 12;  // numbers whose sum is one part of the whole: no sum depends on the threads

template <class Device, class Real>
static void momentum_gradient(const MomentumGradient& op, const Parallel& threads) {
  using F = typename Device::template Lanes<Real>;
  constexpr int wide = Device::template lanes<Real>;
  const auto *z = static_cast<const Real*>(op.z), *before = static_cast<const Real*>(op.before);
  auto *d_z = static_cast<Real*>(op.d_z), *d_ahead = static_cast<Real*>(op.d_ahead);
  const Real momentum = static_cast<Real>(op.momentum);
  const int64_t numbers = op.numbers, parts = (numbers + kSummed - 1) / kSummed;
  Scratch<Device, Real> sums(threads, parts + 1);
  parallel<Device>(threads, parts, [&](int64_t begin, int64_t end) {
    for (int64_t part = begin; part < end; ++part) {
      const int64_t stop = (part + 1) * kSummed < numbers ? (part + 1) * kSummed : numbers;
      F sum{};
      for (int64_t i = part * kSummed; i < stop; i += wide) {
        const int some = static_cast<int>(stop - i < wide ? stop - i : wide);
        const F d = load_some<Device, Real>(d_ahead + i, some);
        sum += d * (load_some<Device, Real>(z + i, some) - load_some<Device, Real>(before + i, some));
        store_some<Device, Real>(d_z + i, load_some<Device, Real>(d_z + i, some) + d * (1 + momentum), some);
        store_some<Device, Real>(d_ahead + i, d * -momentum, some);
      }
      sums.data[part] = Device::template sum<Real, wide>(sum);
    }
  });
  double whole = 0;
  for (int64_t part = 0; part < parts; ++part) whole += static_cast<double>(sums.data[part]);
  *static_cast<Real*>(op.d_momentum) = static_cast<Real>(whole);
}

}  // namespace davsr
