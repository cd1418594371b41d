"""What is measured of the whole network: from LR frames to HR frames, and a training step."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.measure import OURS, Case, Run, noise
from benchmarks.peer import ALIGN_NAME, Peer
from davsr.models.davsr import DAVSR
from davsr.options import DegradationOptions, EnhancementOptions, ModelOptions
from davsr.runtime import keep_freed_memory

NAIVE = f"the same network, NCHW, eager; {ALIGN_NAME}; form (a)"


def network(iterations: int, device: torch.device, quick: bool = False) -> DAVSR:
    """The network of the paper's size with weights at which offsets, masks and flows vary as trained ones do."""
    torch.manual_seed(0)
    size = EnhancementOptions(
        channels=16, blocks=2, feature_blocks=1, reconstruction_blocks=1, hr_channels=16, groups=4
    )
    options = ModelOptions(iterations=iterations, enhancement=size if quick else EnhancementOptions())
    model = DAVSR(options, DegradationOptions(boundary="circular"))
    assert model.enhance is not None
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for layer in model.enhance.alignment.values():
            last = layer.offset[-1]
            last.weight.copy_(torch.randn(last.weight.shape, generator=generator) * 0.03)
            last.bias.copy_(torch.randn(last.bias.shape, generator=generator) * 0.1)
    return model.to(device)


def clip(frames: int, height: int, width: int, device: torch.device) -> Tensor:
    """A smooth moving pattern [1, t, 3, h, w]: flow finds the motion."""
    t, y, x = (torch.arange(n, dtype=torch.float32) for n in (frames, height, width))
    phase = 0.2 * (x + 1.5 * t[:, None, None]) + 0.13 * (y[:, None] - t[:, None, None])
    shades = torch.stack([phase, 1.3 * phase + 1, 0.7 * phase + 2], dim=1)
    return (0.5 + 0.4 * torch.sin(shades))[None].to(device)


def inference(model: torch.nn.Module, lq: Tensor) -> Run:
    model.eval()

    def run() -> Tensor:
        with torch.inference_mode():
            return model(lq)

    return run


def training_step(model: torch.nn.Module, lq: Tensor) -> Run:
    """Forward, Charbonnier loss, backward and Adam; returns the loss and all gradients in one vector."""
    keep_freed_memory()  # as train.py does; the peer, in the same process, has it too
    parameters = list(model.parameters())
    optimiser = torch.optim.Adam(parameters, lr=1e-6, betas=(0.9, 0.99))
    truth = noise(1, 5 * lq.shape[1], 3, 4 * lq.shape[3], 4 * lq.shape[4], device=lq.device, scale=0.1) + 0.5

    def run() -> tuple[Tensor, Tensor]:
        optimiser.zero_grad(set_to_none=True)
        loss = ((model(lq) - truth).square() + 1e-12).sqrt().mean()
        loss.backward()
        optimiser.step()
        gradients = [p.grad.flatten() for p in parameters if p.grad is not None]
        return loss.detach(), torch.cat(gradients)

    return run


def network_cases(quick: bool) -> list[Case]:
    """The whole network from LR frames to HR frames, and one training step."""

    def build(
        wrap: Callable[[torch.nn.Module, Tensor], Run],
        iterations: int,
        size: tuple[int, int, int],
        contestant: str,
        device: torch.device,
        small: bool,
    ) -> Run:
        model: torch.nn.Module = network(iterations, device, quick)
        model = model.to(memory_format=torch.channels_last) if contestant == OURS else Peer(model)
        return wrap(model, clip(*((3, 16, 16) if small else size), device=device))

    side = 16 if quick else 64
    rows = (
        ("network", "forward, K = 3", inference, 3, (3, side, side), 2.0, 3e-5),
        ("training", "training step, K = 1", training_step, 1, (2, side, side), 3.0, 1e-3),
    )
    return [
        Case(
            suite,
            name,
            f"{'x'.join(map(str, size))} -> {5 * size[0]}x{4 * size[1]}x{4 * size[2]}",
            lambda contestant, device, small, wrap=wrap, k=k, size=size: build(
                wrap, k, size, contestant, device, small
            ),
            NAIVE,
            target=None if quick or not ALIGN_NAME.startswith("torchvision") else target,
            tolerance=tolerance,
            repeats=3,
        )
        for suite, name, wrap, k, size, target, tolerance in rows
    ]
