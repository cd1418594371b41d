"""The learned prior at its smallest.

Every frame by itself, after rounds along the motion gathered what its neighbours show.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from davsr.models.layers import Conv3x3, ResidualBlock, weights_channels_last
from davsr.models.precision import like_weights
from davsr.models.prior import Observation, Prior
from davsr.options import EnhancementOptions

CELL = 4  # pixels a side, whose values are the channels that the network works on
_PIXELS = 2**18  # HR pixels of one pass


class FrameEnhancement(Prior):
    """A residual network on cells of 4x4 pixels: entry, residual blocks, and what is added to the frame.

    It sees the deviations of a cell from its mean colour, so that a shade that is not there cannot be added, and starts
    as the identity.
    """

    def __init__(self, options: EnhancementOptions) -> None:
        super().__init__()
        self.beta_channel = options.beta_channel
        cells = 3 * CELL**2
        self.entry = Conv3x3(cells + options.beta_channel, options.channels)
        self.blocks = nn.Sequential(*(ResidualBlock(options.channels) for _ in range(options.blocks)))
        self.last = Conv3x3(options.channels, cells)
        for parameter in self.last.parameters():
            nn.init.zeros_(parameter)
        weights_channels_last(self)

    def forward(
        self, z: Tensor, beta: Tensor | None = None, alpha: Tensor | None = None, clip: Observation | None = None
    ) -> Tensor:
        """Enhance z [b, 3, T, H, W] of any size, with beta [b] where there is a beta channel.

        Returns its shape and dtype.

        Raises:
            ValueError: z has no three channels, or beta is missing.
        """
        if z.dim() != 5 or z.shape[1] != 3:
            raise ValueError(f"FrameEnhancement: z must be [b, 3, T, H, W], got {list(z.shape)}")
        if self.beta_channel and (beta is None or beta.shape != z.shape[:1]):
            raise ValueError(
                f"FrameEnhancement: beta must be [{z.shape[0]}], got {None if beta is None else list(beta.shape)}"
            )
        b, _, T, H, W = z.shape
        frames = z.transpose(1, 2).flatten(0, 1)
        betas = None if beta is None or not self.beta_channel else beta.repeat_interleave(T)
        n = max(1, _PIXELS // (H * W))
        parts = [
            self._frames(part, None if betas is None else betas[n * i : n * (i + 1)])
            for i, part in enumerate(frames.split(n))
        ]
        return torch.cat(parts).unflatten(0, (b, T)).transpose(1, 2)

    def _frames(self, frames: Tensor, beta: Tensor | None) -> Tensor:
        """[n, 3, H, W], [n] -> [n, 3, H, W]."""
        H, W = frames.shape[2:]
        padded = F.pad(frames, (0, -W % CELL, 0, -H % CELL), mode="replicate") if H % CELL or W % CELL else frames
        level = F.interpolate(F.avg_pool2d(padded, CELL), scale_factor=CELL, mode="nearest")
        x = 4 * F.pixel_unshuffle(padded - level, CELL)
        if beta is not None:
            x = torch.cat([x, beta.to(x.dtype).view(-1, 1, 1, 1).expand(-1, 1, *x.shape[2:])], dim=1)
        x = like_weights(x, self.entry).contiguous(memory_format=torch.channels_last)
        x = self.blocks(self.entry(x, slope=0.1))
        detail = F.pixel_shuffle(self.last(x), CELL)
        return frames + detail[..., :H, :W].to(frames.dtype)
