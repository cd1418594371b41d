"""What every learned prior is: one signature, so that a new one has its place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor, nn

from davsr.models.motion import Motion
from davsr.physics.operator import Operator


@dataclass(frozen=True)
class Observation:
    """What is known of a clip beside its estimate: a prior may look at it.

    Args:
        lq: LR frames [b, t, c, h, w].
        operator: how they came about.
        sigma: their noise [b], a fraction of full scale.
        motion: of the clip, and the times of its HR frames.
        kept: where it is a dict, a prior puts there what it made on its way.
        in_place: a prior may put its frames where z was: nobody looks at z any more, and no gradient is wanted.
    """

    lq: Tensor
    operator: Operator
    sigma: Tensor
    motion: Motion
    kept: dict[str, Tensor] | None = None
    in_place: bool = False


class Prior(nn.Module):
    """A learned enhancement x_k = prior(z_k, beta_k); the same weights serve all K rounds."""

    takes_half = False  # frames in half precision, to be enhanced in their place

    def forward(self, z: Tensor, beta: Tensor, alpha: Tensor, clip: Observation) -> Tensor:
        """Enhance a clip.

        Args:
            z: frames [b, c, T, H, W] in agreement with the data, what the data step made.
            beta: penalty of the prior, [b].
            alpha: penalty of that data step, [b].
            clip: what was observed.

        Returns:
            Frames like z, in its dtype.
        """
        raise NotImplementedError(f"{type(self).__name__}.forward")

    def applies(self, operator: Operator, sigma: float | Tensor) -> bool:
        """Whether it takes part in the restoration of clips like this (sigma: noise, a number or [b]).

        Else it is left out.
        """
        return True

    if TYPE_CHECKING:  # torch types a call as anything

        def __call__(self, z: Tensor, beta: Tensor, alpha: Tensor, clip: Observation) -> Tensor: ...
