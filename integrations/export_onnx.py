"""A network as an ONNX file for clips of one size.

DAVSR_REFERENCE=1 python -m integrations.export_onnx network.onnx --frames 5 --size 64 64

As in `export_network`, the motion is an input: run it with {"lq": lq, "there": there, "back": back}, the flows as
`export_network.motion_of` finds them. Needs the package onnx.

PyTorch's older exporter traces what is called, and does not see an operation that writes into its input: networks do
that where memory is scarce, and the frames came out wrong by a few percent. So the trace is of the graph of
torch.export, in which nothing is written over, and the operations of it that the exporter does not know are others
here.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule

import davsr
from davsr.ops import backend
from integrations import export_network

OPSET = 18  # the first with the sampling and resizing that are used here, in the form that torch gives them
_END = 2**63 - 1
aten = torch.ops.aten


def _diff(x: Tensor, n: int = 1, dim: int = -1) -> Tensor:
    if n != 1:
        raise NotImplementedError(f"export_onnx: differences of order {n}")
    return aten.slice(x, dim, 1, _END) - aten.slice(x, dim, 0, -1)


def _slice_scatter(
    x: Tensor, source: Tensor, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Tensor:
    first, last = start or 0, _END if end is None else end
    if step != 1 or first < 0 or last < 0:
        raise NotImplementedError(f"export_onnx: a slice {start}:{end}:{step}")
    before = [aten.slice(x, dim, 0, first)] if first else []
    behind = [aten.slice(x, dim, last, _END)] if last < _END else []
    return torch.cat([*before, source, *behind], dim)


def _select_scatter(x: Tensor, source: Tensor, dim: int, index: int) -> Tensor:
    return _slice_scatter(x, source.unsqueeze(dim), dim, index, index + 1)


def _to_copy(x: Tensor, *, dtype: torch.dtype | None = None, **_: Any) -> Tensor:
    return x if dtype is None else x.to(dtype)


# What the exporter does not know, by what it knows.
_KNOWN: dict[Any, Callable[..., Tensor]] = {
    aten.diff.default: _diff,
    aten.copy.default: lambda x, source, non_blocking=False: source.expand_as(x),
    aten.select_scatter.default: _select_scatter,
    aten.slice_scatter.default: _slice_scatter,
    aten._to_copy.default: _to_copy,
    aten.alias.default: lambda x: x,
    aten.hypot.default: lambda x, y: (x * x + y * y).sqrt(),
    aten.view.default: torch.reshape,  # what the others above make may lie otherwise in memory
    aten._unsafe_view.default: torch.reshape,
}


class _Graph(nn.Module):
    """Calls a graph without owning it: the exporter tells its modules to leave training, which graphs refuse."""

    def __init__(self, graph: GraphModule) -> None:
        super().__init__()
        self.graph = [graph]

    def forward(self, lq: Tensor, there: Tensor, back: Tensor) -> Tensor:
        frames: Tensor = self.graph[0](lq, there, back)
        return frames


def export(network: davsr.DAVSR, frames: int, size: tuple[int, int], file: str | Path) -> None:
    """Write the network as ONNX for clips [1, frames, 3, *size].

    Raises:
        davsr.InputError: compiled operations of davsr would be in it, which only davsr can run.
    """
    if backend().name != "reference":
        raise davsr.InputError("export_onnx: set DAVSR_REFERENCE=1, for a graph of PyTorch's own operations")
    graph = export_network.export(network, frames, size).run_decompositions({}).module()
    for part in graph.modules():
        if isinstance(part, GraphModule):
            for node in part.graph.nodes:
                node.target = _KNOWN.get(node.target, node.target)
            part.recompile()
    for parameter in graph.parameters():
        parameter.requires_grad_(False)  # they become constants
    lq = torch.rand(1, frames, 3, *size)
    with torch.no_grad():
        torch.onnx.export(
            _Graph(graph),
            (lq, *export_network.motion_of(lq)),
            str(file),
            dynamo=False,
            opset_version=OPSET,
            input_names=["lq", "there", "back"],
            output_names=["frames"],
        )


def main() -> None:
    args = export_network.arguments("Write a network as ONNX for clips of one size.", "an .onnx file")
    export(davsr.load_model(args.model), args.frames, tuple(args.size), args.output)


if __name__ == "__main__":
    main()
