"""The picture half of the learned prior: what a frame lacks, from that frame alone.

A residual network on cells of 4x4 pixels, whose values are its channels: all of its work is done on the LR grid. It is
taught on still pictures, of which there are more, and more varied ones, than of clips.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from davsr.models.layers import Conv3x3, ResidualBlock, weights_channels_last
from davsr.models.precision import like_weights
from davsr.models.prior import Observation, Prior
from davsr.ops import cell_deviations

CELL = 4  # pixels a side
GAIN = 4.0  # brings the deviations in a cell to about one


class PictureTrunk(nn.Module):
    """Frames -> features on the grid of cells, and from them the detail that is added to the frame.

    Starts at no detail.

    Args:
        channels: width of the features.
        blocks: residual blocks.
    """

    def __init__(self, channels: int, blocks: int) -> None:
        super().__init__()
        self.entry = Conv3x3(3 * CELL**2, channels)
        self.blocks = nn.Sequential(*(ResidualBlock(channels) for _ in range(blocks)))
        self.last = Conv3x3(channels, 3 * CELL**2)
        for parameter in self.last.parameters():
            nn.init.zeros_(parameter)
        weights_channels_last(self)

    def forward(self, frames: Tensor) -> Tensor:
        """Frames [n, 3, H, W], sides multiples of 4 -> features [n, channels, H / 4, W / 4]."""
        x = like_weights(cell_deviations(frames, GAIN), self).contiguous(memory_format=torch.channels_last)
        features: Tensor = self.blocks(self.entry(x, slope=0.1))
        return features

    def detail(self, features: Tensor) -> Tensor:
        """Features -> what is added to the frames [n, 3, H, W]."""
        return pixels_of_cells(self.last(features))


class PictureEnhancement(Prior):
    """The trunk as an enhancement of frames by themselves: how it is taught, with s_t = 1 and clips of one frame."""

    def __init__(self, channels: int, blocks: int) -> None:
        super().__init__()
        self.trunk = PictureTrunk(channels, blocks)

    def forward(
        self, z: Tensor, beta: Tensor | None = None, alpha: Tensor | None = None, clip: Observation | None = None
    ) -> Tensor:
        """z [b, 3, T, H, W] of any size -> the same; nothing else takes part."""
        H, W = z.shape[3:]
        frames = F.pad(z.transpose(1, 2).flatten(0, 1), (0, -W % CELL, 0, -H % CELL), mode="replicate")
        detail = self.trunk.detail(self.trunk(frames))[..., :H, :W].to(z.dtype)
        return z + detail.unflatten(0, (z.shape[0], -1)).transpose(1, 2)


def pixels_of_cells(cells: Tensor) -> Tensor:
    """Deviations in cells [n, 48, h, w] -> [n, 3, 4 h, 4 w]."""
    return F.pixel_shuffle(cells, CELL) / GAIN
