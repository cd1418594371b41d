"""The operations that carry most of DAVSR's arithmetic, each beside its reference in plain PyTorch.

The compiled extension is used where it was built; otherwise the references run, with the same results. ``backend()``
says which.
"""

from davsr.ops._camera import (
    Axes,
    camera,
    camera_adjoint,
    camera_adjoint_reference,
    camera_compiled,
    camera_reference,
)
from davsr.ops._cells import add_cells, to_cells
from davsr.ops._conv3x3 import conv3x3, conv3x3_reference, weights_stay
from davsr.ops._data_step import data_step, data_step_compiled, data_step_reference
from davsr.ops._deform_align import deform_align, deform_align_reference, one_source_channels
from davsr.ops._extension import Backend, backend, log_backend, serves_without_gradient
from davsr.ops._flatten import flatten, flatten_gradient, flatten_reference
from davsr.ops._fourier_division import fold_power, fourier_division, fourier_division_reference
from davsr.ops._fusion import (
    cell_deviations,
    fusion_cells,
    fusion_cells_reference,
    fusion_pixels,
    fusion_pixels_reference,
    mean_around,
)
from davsr.ops._grid import clamped_to_border, resize_flow, sample, sampling_grid
from davsr.ops._learned_gradient import (
    DetailGradients,
    TrustedKept,
    flatten_with_detail,
    flatten_with_detail_gradient,
    momentum_gradient,
    samples_memory,
    split_like,
    trusted_average_gradient,
    trusted_average_kept,
)
from davsr.ops._learned_round import (
    RoundNetworks,
    learned_round,
    pack_detail,
    pack_trust,
)
from davsr.ops._motion_average import (
    AverageKept,
    motion_average,
    motion_average_gradient,
    motion_average_kept,
    motion_average_reference,
    motion_mean,
)
from davsr.ops._motion_parts import (
    motion_blend,
    motion_blend_reference,
    motion_mismatch,
    motion_mismatch_reference,
)
from davsr.ops._motion_round import motion_round
from davsr.ops._warp_between import warp_between, warp_between_reference

__all__ = [
    "AverageKept",
    "Axes",
    "Backend",
    "DetailGradients",
    "RoundNetworks",
    "TrustedKept",
    "add_cells",
    "backend",
    "camera",
    "camera_adjoint",
    "camera_adjoint_reference",
    "camera_compiled",
    "camera_reference",
    "cell_deviations",
    "clamped_to_border",
    "conv3x3",
    "conv3x3_reference",
    "data_step",
    "data_step_compiled",
    "data_step_reference",
    "deform_align",
    "deform_align_reference",
    "flatten",
    "flatten_gradient",
    "flatten_reference",
    "flatten_with_detail",
    "flatten_with_detail_gradient",
    "fold_power",
    "fourier_division",
    "fourier_division_reference",
    "fusion_cells",
    "fusion_cells_reference",
    "fusion_pixels",
    "fusion_pixels_reference",
    "learned_round",
    "log_backend",
    "mean_around",
    "momentum_gradient",
    "motion_average",
    "motion_average_gradient",
    "motion_average_kept",
    "motion_average_reference",
    "motion_blend",
    "motion_blend_reference",
    "motion_mean",
    "motion_mismatch",
    "motion_mismatch_reference",
    "motion_round",
    "one_source_channels",
    "pack_detail",
    "pack_trust",
    "resize_flow",
    "sample",
    "samples_memory",
    "sampling_grid",
    "serves_without_gradient",
    "split_like",
    "to_cells",
    "trusted_average_gradient",
    "trusted_average_kept",
    "warp_between",
    "warp_between_reference",
    "weights_stay",
]
