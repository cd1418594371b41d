"""A network as one graph (torch.export) for clips of one size, without davsr's code.

DAVSR_REFERENCE=1 python -m integrations.export_network network.pt2 --frames 5 --size 64 64

The motion of the clip is an input: OpenCV's search for it is no graph of tensors.

frames = torch.export.load("network.pt2").module()(lq, *motion_of(lq))
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor, nn

import davsr
from davsr.models.davsr import Start
from davsr.models.dis import dis_flow
from davsr.models.interpolation import flow_between_neighbours
from davsr.models.motion import Motion


class WithMotion(nn.Module):
    """A network without noise to undo, to which the motion is given.

    Args:
        network: its interpolation goes along the flow.
        frames: LR frames of a clip, at least two.
    """

    def __init__(self, network: davsr.DAVSR, frames: int) -> None:
        super().__init__()
        self.network = network
        self.times = network.interpolate.times(frames, network.degradation)

    def forward(self, lq: Tensor, there: Tensor, back: Tensor) -> Tensor:
        """Frames [b, t, 3, h, w] and flows [b, t - 1, 2, h, w], to the next frame and back -> [b, T, 3, H, W]."""
        network, A = self.network, self.network.degradation
        motion = Motion(self.times, there, back)
        x = network.interpolate(lq, A, motion)
        if network.rounds is not None:
            x = network.rounds(x, lq.transpose(1, 2), motion.of_hr_frames(A.scale, x), A)
        frames = network(lq, start=Start(x, motion, {}))
        assert isinstance(frames, Tensor)
        return frames


def motion_of(lq: Tensor) -> tuple[Tensor, Tensor]:
    """The flows of a clip [b, t, 3, h, w] to the next frame and back, as the network finds them.

    Both are [b, t - 1, 2, h, w].
    """
    return flow_between_neighbours(lq, dis_flow)


def export(network: davsr.DAVSR, frames: int, size: tuple[int, int]) -> torch.export.ExportedProgram:
    """The graph for clips [1, frames, 3, *size]."""
    lq = torch.rand(1, frames, 3, *size)
    given = (lq, *motion_of(lq))
    model = WithMotion(network, frames).eval()
    with torch.no_grad():
        model(*given)  # fills what the operator keeps for these sizes
        return torch.export.export(model, given, strict=False)


def arguments(description: str, output: str) -> argparse.Namespace:
    """What both exporters ask for."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("output", help=output)
    parser.add_argument("--frames", type=int, default=5, help="LR frames")
    parser.add_argument("--size", type=int, nargs=2, default=(64, 64), metavar=("H", "W"), help="LR height and width")
    parser.add_argument("--model", help="a checkpoint; default: the shipped model")
    return parser.parse_args()


def main() -> None:
    args = arguments("Write a network as one graph for clips of one size.", "a .pt2 file")
    torch.export.save(export(davsr.load_model(args.model), args.frames, tuple(args.size)), args.output)


if __name__ == "__main__":
    main()
