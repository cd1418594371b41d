// Included by one translation unit per instruction set, which defines the type `Isa` in its own anonymous namespace.
#pragma once

#include "cpu_conv3x3.h"
#include "cpu_deform_align.h"
#include "cpu_fourier_division.h"

namespace davsr {

template <class Isa>
static CpuKernels kernels_of() {
  using Device = typename Isa::Device;
  return CpuKernels{
      Isa::name,
      [](const AlignForward& op, bool doubles, const Parallel& threads) {
        doubles ? align_forward_channels<Device, double>(op, threads) : align_forward_channels<Device, float>(op, threads);
      },
      [](const AlignBackward& op, bool doubles, const Parallel& threads) {
        doubles ? align_backward_channels<Device, double>(op, threads) : align_backward_channels<Device, float>(op, threads);
      },
      [](const Division& op, bool doubles, const Parallel& threads) {
        doubles ? division<Isa, double>(op, threads) : division<Isa, float>(op, threads);
      },
      [](const DivisionOtfGradient& op, bool doubles, const Parallel& threads) {
        doubles ? division_otf_gradient<Isa, double>(op, threads) : division_otf_gradient<Isa, float>(op, threads);
      },
      [](const Conv3x3& op, const Parallel& threads) { conv3x3<Device>(op, threads); },
  };
}

}  // namespace davsr
