"""The peer of the benchmarks: the network as one writes it from its description.

The same layers and weights as ours, plain PyTorch throughout: NCHW, eager, float32, one frame after another, absent
neighbours as zeros, torchvision's `deform_conv2d` with its elementwise steps, and the data step on full HR spectra with
its transfer function computed once. What implementations of this family do is done here too: features and flows of all
frames in one batch, flows once for a direction, no gradients kept at inference.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from davsr.models.alignment import FlowGuidedAlignment
from davsr.models.davsr import DAVSR, per_sample
from davsr.models.flow import SPyNet
from davsr.models.layers import ResidualBlocks
from davsr.models.rve import BRANCHES, RVE
from davsr.ops import deform_align_reference
from davsr.physics.degradation import Degradation
from davsr.physics.psf import plane_transfer_function, transfer_function
from davsr.physics.solvers import spectral_data_step_reference

try:
    from torchvision.ops import deform_conv2d
except ImportError:
    deform_conv2d = None

ALIGN_NAME = (
    "torchvision.ops.deform_conv2d" if deform_conv2d else "our plain-PyTorch reference (torchvision is not installed)"
)


class Peer(nn.Module):
    """`DAVSR` again, naively; made of a copy of a model's weights. Circular boundary only, as form (a) is."""

    def __init__(self, model: DAVSR) -> None:
        super().__init__()
        if model.degradation.boundary != "circular":
            raise ValueError(f"Peer: the boundary must be circular, got {model.degradation.boundary}")
        net = copy.deepcopy(model).to(memory_format=torch.contiguous_format)
        assert net.enhance is not None
        self.degradation, self.iterations = net.degradation, net.options.iterations
        self.interpolate, self.hyper, self.rve = net.interpolate, net.hyper, net.enhance
        self._otf: dict[tuple[int, ...], Tensor] = {}

    def forward(self, lq: Tensor, sigma: float = 0.0) -> Tensor:
        """lq [b, t, c, h, w] -> [b, T, c, H, W]."""
        noise = per_sample(sigma, lq)
        alpha, beta = self.hyper(noise, self.degradation)
        y = lq.transpose(1, 2)
        x = self.interpolate(lq, self.degradation, noise)
        for k in range(self.iterations):
            z = spectral_data_step_reference(x, y, alpha[:, k], self._transfer(x), self.degradation.scale)
            x = enhance(self.rve, z, beta[:, k])
        return x.transpose(1, 2)

    def _transfer(self, x: Tensor) -> Tensor:
        size = tuple(x.shape[2:])
        if size not in self._otf:
            self._otf[size] = full_transfer(self.degradation, size).to(x.device)
        return self._otf[size]


def full_transfer(degradation: Degradation, size: tuple[int, ...]) -> Tensor:
    """The transfer function [T, H, W] of exposure and point-spread function on the periodic HR grid, complex64."""
    time = transfer_function(degradation._time.taps, size[0])
    plane = plane_transfer_function(degradation._plane.psf, size[1], size[2])
    return torch.from_numpy(time[:, None, None] * plane).to(torch.complex64)


def enhance(net: RVE, z: Tensor, beta: Tensor) -> Tensor:
    """x_k = RVE(z_k, beta_k): [b, 3, T, H, W] -> the same."""
    b, _, T, H, W = z.shape
    frames = z.transpose(1, 2).reshape(b * T, 3, H, W)
    constant = beta.view(b, 1, 1, 1, 1).expand(b, T, 1, H, W).reshape(b * T, 1, H, W)
    x = net.features[1](net.features[0](torch.cat([frames, constant], dim=1) if net.options.beta_channel else frames))
    features = residual_blocks(net.features[4], net.features[3](net.features[2](x)))
    outputs: dict[str, list[Tensor]] = {"features": list(features.view(b, T, *features.shape[1:]).unbind(1))}

    if T > 1:
        small = F.interpolate(frames, size=(H // 4, W // 4), mode="bicubic", align_corners=False).view(
            b, T, 3, H // 4, W // 4
        )
        first, second = small[:, :-1].flatten(0, 1), small[:, 1:].flatten(0, 1)
        backward = spynet(net.flow, first, second).view(b, T - 1, 2, H // 4, W // 4)
        forward = spynet(net.flow, second, first).view(b, T - 1, 2, H // 4, W // 4)
    for name in BRANCHES:
        order = list(range(T)) if name.startswith("forward") else list(range(T - 1, -1, -1))
        scan: list[Tensor] = []
        for step, i in enumerate(order):
            current = outputs["features"][i]
            aligned = torch.zeros_like(current)
            if step > 0:
                flow_1 = forward[:, i - 1] if name.startswith("forward") else backward[:, i]
                p1 = scan[-1]
                p2, flow_2 = torch.zeros_like(current), torch.zeros_like(flow_1)
                warped_2 = p2
                if step > 1:
                    p2 = scan[-2]
                    flow_2 = forward[:, i - 2] if name.startswith("forward") else backward[:, i + 1]
                    flow_2 = flow_1 + warp(flow_2, flow_1)
                    warped_2 = warp(p2, flow_2)
                cond = torch.cat([warp(p1, flow_1), current, warped_2], dim=1)
                aligned = align(net.alignment[name], torch.cat([p1, p2], dim=1), cond, flow_1, flow_2)
            earlier = [output[i] for output in outputs.values()]
            scan.append(aligned + residual_blocks(net.propagation[name], torch.cat([*earlier, aligned], dim=1)))
        outputs[name] = scan if name.startswith("forward") else scan[::-1]

    enhanced = []
    for i in range(T):
        x = residual_blocks(net.reconstruction, torch.cat([output[i] for output in outputs.values()], dim=1))
        x = F.leaky_relu(F.pixel_shuffle(convolve(net.upsample1, x), 2), 0.1)
        x = F.leaky_relu(F.pixel_shuffle(convolve(net.upsample2, x), 2), 0.1)
        x = convolve(net.conv_last, F.leaky_relu(convolve(net.conv_hr, x), 0.1))
        enhanced.append(x + z[:, :, i])
    return torch.stack(enhanced, dim=2)


def convolve(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """torch's own 3x3 convolution."""
    return F.conv2d(x, layer.weight, layer.bias, padding=1)


def residual_blocks(blocks: ResidualBlocks, x: Tensor) -> Tensor:
    x = F.leaky_relu(convolve(blocks.entry, x), 0.1)
    for block in blocks.blocks:
        x = x + convolve(block.conv2, F.relu(convolve(block.conv1, x)))
    return x


def align(layer: FlowGuidedAlignment, features: Tensor, cond: Tensor, flow_1: Tensor, flow_2: Tensor) -> Tensor:
    """features [b, 2m, h, w] = cat(p1, p2), cond [b, 3m, h, w] -> [b, m, h, w]."""
    *hidden, last = (part for part in layer.offset if isinstance(part, nn.Conv2d))
    x = torch.cat([cond, flow_1, flow_2], dim=1)
    for conv in hidden:
        x = F.leaky_relu(convolve(conv, x), 0.1)
    raw = convolve(last, x)
    return modulated_convolution(
        features, raw, flow_1, flow_2, layer.weight, layer.bias, groups=layer.groups, max_residue=layer.max_residue
    )


def elementwise_and_deform_conv2d(
    features: Tensor,
    raw: Tensor,
    flow_1: Tensor,
    flow_2: Tensor,
    weight: Tensor,
    bias: Tensor,
    *,
    groups: int,
    max_residue: float,
) -> Tensor:
    """`davsr.ops.deform_align` with torchvision: the offsets and the mask are tensors of their own."""
    o1, o2, mask = torch.chunk(raw, 3, dim=1)
    offset = max_residue * torch.tanh(torch.cat([o1, o2], dim=1))
    offset_1, offset_2 = torch.chunk(offset, 2, dim=1)
    offset_1 = offset_1 + flow_1.flip(1).repeat(1, offset_1.size(1) // 2, 1, 1)
    offset_2 = offset_2 + flow_2.flip(1).repeat(1, offset_2.size(1) // 2, 1, 1)
    offset = torch.cat([offset_1, offset_2], dim=1)
    assert deform_conv2d is not None
    return deform_conv2d(features, offset, weight, bias, padding=1, mask=torch.sigmoid(mask))


modulated_convolution: Callable[..., Tensor] = (
    elementwise_and_deform_conv2d if deform_conv2d else deform_align_reference
)


def warp(x: Tensor, flow: Tensor, padding: str = "zeros") -> Tensor:
    """x [b, c, h, w] sampled at p + flow, flow [b, 2, h, w] in pixels (dx, dy)."""
    h, w = x.shape[2:]
    grid_y, grid_x = torch.meshgrid(
        torch.arange(h, dtype=x.dtype, device=x.device), torch.arange(w, dtype=x.dtype, device=x.device), indexing="ij"
    )
    at_x = 2 * (grid_x + flow[:, 0]) / max(w - 1, 1) - 1
    at_y = 2 * (grid_y + flow[:, 1]) / max(h - 1, 1) - 1
    return F.grid_sample(
        x, torch.stack([at_x, at_y], dim=-1), mode="bilinear", padding_mode=padding, align_corners=True
    )


def spynet(net: SPyNet, reference: Tensor, support: Tensor) -> Tensor:
    """Flow [n, 2, h, w] such that warp(support, flow) looks like reference [n, 3, h, w]."""
    h, w = reference.shape[2:]
    multiple = 2 ** (len(net.levels) - 1)
    height, width = -(-h // multiple) * multiple, -(-w // multiple) * multiple
    references, supports = [], []
    for image, pyramid in ((reference, references), (support, supports)):
        image = (image - net.mean) / net.std
        pyramid.append(F.interpolate(image, size=(height, width), mode="bilinear", align_corners=False))
        for _ in range(len(net.levels) - 1):
            pyramid.insert(0, F.avg_pool2d(pyramid[0], 2))
    flow = reference.new_zeros(reference.shape[0], 2, height // multiple, width // multiple)
    for number, level in enumerate(net.levels):
        if number:
            flow = 2 * F.interpolate(flow, scale_factor=2, mode="bilinear", align_corners=True)
        warped = warp(supports[number], flow, "border")
        flow = flow + level(torch.cat([references[number], warped, flow], dim=1))
    flow = F.interpolate(flow, size=(h, w), mode="bilinear", align_corners=False)
    return torch.stack([flow[:, 0] * w / width, flow[:, 1] * h / height], dim=1)
