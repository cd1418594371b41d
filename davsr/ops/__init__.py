"""The operations that carry most of DAVSR's arithmetic, each beside its reference in plain PyTorch.

The compiled extension is used where it was built; otherwise the references run, with the same results. ``backend()`` says which.
"""

from davsr.ops._conv3x3 import conv3x3, conv3x3_reference
from davsr.ops._deform_align import deform_align, deform_align_reference, one_source_channels
from davsr.ops._extension import Backend, backend, log_backend
from davsr.ops._fourier_division import fold_power, fourier_division, fourier_division_reference

__all__ = [
    "Backend",
    "backend",
    "conv3x3",
    "conv3x3_reference",
    "deform_align",
    "deform_align_reference",
    "fold_power",
    "fourier_division",
    "fourier_division_reference",
    "log_backend",
    "one_source_channels",
]
