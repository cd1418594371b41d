// Included by one translation unit per instruction set, which defines the type `Isa` in its own anonymous namespace.
#pragma once

#include "cpu_conv3x3_gradient.h"
#include "cpu_data_step.h"
#include "cpu_deform_align.h"
#include "cpu_detail_gradient.h"
#include "cpu_flatten.h"
#include "cpu_fourier_division.h"
#include "cpu_fusion.h"
#include "cpu_learned_round.h"
#include "cpu_momentum.h"
#include "cpu_motion_average_gradient.h"
#include "cpu_motion_bands.h"
#include "cpu_motion_gradient.h"
#include "cpu_motion_round.h"
#include "cpu_trusted_average.h"
#include "cpu_trusted_gradient.h"
#include "cpu_warp_between.h"

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
      [](const Conv3x3Gradient& op, const Parallel& threads) { conv3x3_gradient<Device>(op, threads); },
      [](const MotionMismatch& op, bool doubles, const Parallel& threads) {
        doubles ? motion_mismatch<Device, double>(op, threads) : motion_mismatch<Device, float>(op, threads);
      },
      [](const MotionMismatchBackward& op, bool doubles, const Parallel& threads) {
        doubles ? motion_mismatch_backward<Device, double>(op, threads) : motion_mismatch_backward<Device, float>(op, threads);
      },
      [](const MotionBlend& op, bool doubles, const Parallel& threads) {
        doubles ? motion_blend<Device, double>(op, threads) : motion_blend<Device, float>(op, threads);
      },
      [](const MotionBlendBackward& op, bool doubles, const Parallel& threads) {
        doubles ? motion_blend_backward<Device, double>(op, threads) : motion_blend_backward<Device, float>(op, threads);
      },
      [](const MotionAverage& op, bool doubles, const Parallel& threads) {
        doubles ? motion_average<Device, double>(op, threads) : motion_average<Device, float>(op, threads);
      },
      [](const TrustedAverage& op, const Parallel& threads) { trusted_average<Device>(op, threads); },
      [](const MotionAverageBackward& op, bool doubles, const Parallel& threads) {
        doubles ? motion_average_backward<Device, double>(op, threads) : motion_average_backward<Device, float>(op, threads);
      },
      [](const Flatten& op, bool doubles, const Parallel& threads) {
        doubles ? flatten<Device, double>(op, threads) : flatten<Device, float>(op, threads);
      },
      [](const MotionRound& op, bool doubles, const Parallel& threads) {
        doubles ? motion_round<Device, double>(op, threads) : motion_round<Device, float>(op, threads);
      },
      [](const LearnedRound& op, const Parallel& threads) { learned_round<Device>(op, threads); },
      [](const TrustedAverageBackward& op, const Parallel& threads) { trusted_average_backward<Device>(op, threads); },
      [](const Detail& op, const Parallel& threads) { detail<Device>(op, threads); },
      [](const DetailBackward& op, const Parallel& threads) { detail_backward<Device>(op, threads); },
      [](const WarpBetween& op, const Parallel& threads) { warp_between<Device>(op, threads); },
      [](const FusionCells& op, const Parallel& threads) { fusion_cells<Device>(op, threads); },
      [](const FusionPixels& op, const Parallel& threads) { fusion_pixels<Device>(op, threads); },
      [](const Camera& op, bool doubles, const Parallel& threads) {
        doubles ? camera<Device, double>(op, threads) : camera<Device, float>(op, threads);
      },
      [](const Camera& op, bool doubles, const Parallel& threads) {
        doubles ? camera_adjoint<Device, double>(op, threads) : camera_adjoint<Device, float>(op, threads);
      },
      [](const DataStep& op, bool doubles, const Parallel& threads) {
        doubles ? data_step<Device, double>(op, threads) : data_step<Device, float>(op, threads);
      },
      [](const MomentumGradient& op, bool doubles, const Parallel& threads) {
        doubles ? momentum_gradient<Device, double>(op, threads) : momentum_gradient<Device, float>(op, threads);
      },
  };
}

}  // namespace davsr
