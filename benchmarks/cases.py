"""What is measured of the data step and the ops, each against its peer; rounds and networks have files of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from benchmarks.measure import OURS, Case, Run, noise
from benchmarks.network_cases import network_cases
from benchmarks.peer import ALIGN_NAME, full_transfer, modulated_convolution
from benchmarks.rounds import rounds_cases
from davsr.ops import conv3x3, conv3x3_reference, deform_align, fold_power, fourier_division
from davsr.physics.degradation import Degradation
from davsr.physics.solvers import spectral_data_step_reference

FORM_A = "form (a) in plain PyTorch, OTF cached"
SCALE = (5, 4, 4)
ALPHA = 0.003  # where training starts: 0.24 of the largest eigenvalue of A A^T


def all_cases(quick: bool = False) -> list[Case]:
    """Every case in the order of the table.

    `quick` ones are small, and their ratios are not those that must be reached.
    """
    return [
        *data_step_cases(quick),
        *align_cases(quick),
        *division_cases(quick),
        *conv_cases(quick),
        *rounds_cases(quick, PASSES),
        *network_cases(quick),
    ]


def forward(function: Callable[..., Tensor], *inputs: Tensor) -> Run:
    def run() -> Tensor:
        with torch.inference_mode():
            return function(*inputs)

    return run


def forward_backward(function: Callable[..., Tensor], *inputs: Tensor, also: Sequence[Tensor] = ()) -> Run:
    """Result and gradients of all inputs, for one random gradient of the output.

    Gradients of what is in `also`, weights, are asked for as well, as who learns them does.
    """
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    like = function(*leaves)
    gradient = noise(*like.shape, device=like.device, seed=9).to(like.dtype)

    def run() -> tuple[Tensor, ...]:
        out = function(*leaves)
        return (out, *torch.autograd.grad(out, [*leaves, *also], gradient)[: len(leaves)])

    return run


PASSES = {"forward": forward, "forward + backward": forward_backward}


def data_step_cases(quick: bool = False) -> list[Case]:
    """The standard model: separable, its boundary circular, so that the published form gives the same z."""
    t, h, w = (2, 16, 16) if quick else (5, 64, 64)

    def build(wrap: Callable[..., Run], contestant: str, device: torch.device, small: bool) -> Run:
        lr = (1, 8, 8) if small else (t, h, w)
        degradation = Degradation(SCALE, boundary="circular")
        x = noise(1, 3, 5 * lr[0], 4 * lr[1], 4 * lr[2], device=device)
        y = noise(1, 3, *lr, device=device, seed=1)
        alpha = torch.full((1,), ALPHA, device=device)
        if contestant == OURS:
            return wrap(degradation.data_step, x, y, alpha)
        otf = full_transfer(degradation, tuple(x.shape[2:])).to(device)
        return wrap(lambda x, y, alpha: spectral_data_step_reference(x, y, alpha, otf, SCALE), x, y, alpha)

    size = f"{5 * t}x{4 * h}x{4 * w}"
    twice_x = 2 * 4 * 3 * 5 * t * 4 * h * 4 * w
    return [
        Case(
            "data_step",
            name,
            size,
            lambda contestant, device, small, wrap=wrap: build(wrap, contestant, device, small),
            FORM_A,
            target=40.0 if name == "forward" and not quick else None,
            memory_limit=twice_x if name == "forward" else None,
            tolerance=1e-4,  # of form (a), which divides by alpha: 2e-5 measured
            repeats=21,
        )
        for name, wrap in PASSES.items()
    ]


def align_cases(quick: bool) -> list[Case]:
    """Deformable alignment, 2m -> m channels, from the raw output of the offset convolutions."""
    m, groups, side = (16, 4, 16) if quick else (64, 16, 64)

    def build(wrap: Callable[..., Run], dtype: torch.dtype, contestant: str, device: torch.device, small: bool) -> Run:
        n = 8 if small else side
        images = [noise(1, 2 * m, n, n, device=device), noise(1, 27 * groups, n, n, device=device, seed=1)]
        others = [
            noise(1, 2, n, n, device=device, scale=3, seed=2),
            noise(1, 2, n, n, device=device, scale=3, seed=3),
            noise(m, 2 * m, 3, 3, device=device, scale=0.03, seed=4),
            noise(m, device=device, seed=5),
        ]
        images[1] = inside_cells(images[1], groups)
        images = [x.to(dtype).float() for x in images]  # the same numbers for both
        others[:2] = [flow.round() for flow in others[:2]]
        others[2:] = [x.to(dtype).float() for x in others[2:]]
        align = modulated_convolution
        if contestant == OURS:  # as the network calls it, under autocast where in bfloat16; the flows stay float32
            align = deform_align
            images = [x.to(dtype, memory_format=torch.channels_last) for x in images]
            others[2:] = [x.to(dtype) for x in others[2:]]
        return wrap(lambda *inputs: align(*inputs, groups=groups, max_residue=10.0), *images, *others)

    targets = {} if quick or not ALIGN_NAME.startswith("torchvision") else {"forward": 20.0, "forward + backward": 10.0}
    return [
        Case(
            "deform_align",
            name + suffix,
            f"{2 * m} -> {m}, G = {groups}, {side}x{side}",
            lambda contestant, device, small, wrap=wrap, dtype=dtype: build(wrap, dtype, contestant, device, small),
            ALIGN_NAME + " and its elementwise steps, NCHW, float32",
            target=targets.get(name + suffix),
            tolerance=tolerance,
            repeats=15,
        )
        for dtype, suffix, tolerance in ((torch.float32, "", 1e-4), (torch.bfloat16, ", bfloat16", 2e-2))
        for name, wrap in PASSES.items()
    ]


def inside_cells(raw: Tensor, groups: int) -> Tensor:
    """Raw offsets whose samples keep a tenth of a pixel from the borders of cells, where rounding changes the
    gradient.
    """
    offsets = 10 * torch.tanh(raw[:, : 18 * groups])
    offsets = (offsets.floor() + 0.1 + 0.8 * (offsets - offsets.floor())) / 10
    return torch.cat([torch.atanh(offsets), raw[:, 18 * groups :]], dim=1)


def division_cases(quick: bool) -> list[Case]:
    """The data step of a dense PSF: the op against the pointwise part of form (a), then both with their transforms."""
    t, h, w = (2, 16, 16) if quick else (5, 64, 64)
    axes = (-3, -2, -1)

    def build(what: str, wrap: Callable[..., Run], contestant: str, device: torch.device, small: bool) -> Run:
        lr = (1, 8, 8) if small else (t, h, w)
        hr = tuple(s * n for s, n in zip(SCALE, lr, strict=True))
        x, y = noise(1, 3, *hr, device=device), noise(1, 3, *lr, device=device, seed=1)
        psf = noise(*hr, device=device, seed=2).abs()
        psf = psf / psf.sum()
        alpha = torch.full((1,), 0.1, device=device)
        otf = torch.fft.rfftn(psf) if contestant == OURS else torch.fft.fftn(psf)
        gram = fold_power(otf, scale=SCALE, width=hr[2]) if contestant == OURS else fold(otf.abs().square(), lr)

        def ours(x_hat: Tensor, y_hat: Tensor, alpha: Tensor) -> Tensor:
            return fourier_division(x_hat, y_hat, otf, alpha, scale=SCALE, width=hr[2], gram=gram)

        def published(x_hat: Tensor, y_hat: Tensor, alpha: Tensor) -> Tensor:
            a = alpha.view(-1, 1, 1, 1, 1)
            right = otf.conj() * y_hat + a * x_hat
            quotient = fold(otf * right, lr) / (gram + a)
            return (right - otf.conj() * quotient.repeat(1, 1, *SCALE)) / a

        def stuffed(y: Tensor) -> Tensor:
            zeros = y.new_zeros(1, 3, *hr)
            zeros[..., :: SCALE[0], :: SCALE[1], :: SCALE[2]] = y
            return zeros

        def our_step(x: Tensor, y: Tensor, alpha: Tensor) -> Tensor:
            z_hat = ours(torch.fft.rfftn(x, dim=axes), torch.fft.rfftn(y, dim=axes), alpha)
            return torch.fft.irfftn(z_hat, s=hr, dim=axes)

        def published_step(x: Tensor, y: Tensor, alpha: Tensor) -> Tensor:
            z_hat = published(torch.fft.fftn(x, dim=axes), torch.fft.fftn(stuffed(y), dim=axes), alpha)
            return torch.fft.ifftn(z_hat, dim=axes).real

        if what == "data step":
            run = wrap(our_step if contestant == OURS else published_step, x, y, alpha)
            # Not alpha's gradient: form (a) sums it in float32 to 1e-3 (ours: 1e-6 of float64's, tests/ops).
            return (lambda: run()[:-1]) if wrap is forward_backward else run
        if contestant == OURS:
            spectra = torch.fft.rfftn(x, dim=axes), torch.fft.rfftn(y, dim=axes)
            return real(wrap, ours, *spectra, alpha)
        half = slice(0, hr[2] // 2 + 1)
        spectra = torch.fft.fftn(x, dim=axes), torch.fft.fftn(stuffed(y), dim=axes)
        return real(wrap, published, *spectra, alpha, columns=half)

    def real(
        wrap: Callable[..., Run], function: Callable[..., Tensor], *inputs: Tensor, columns: slice = slice(None)
    ) -> Run:
        """A run on spectra.

        Of its results the forward one is compared, as reals: gradients on half spectra are other ones.
        """
        run = wrap(function, *inputs)

        def compared() -> Tensor:
            result = run()
            z_hat = result[0] if isinstance(result, tuple) else result
            return torch.view_as_real(z_hat[..., columns])

        return compared

    cases = []
    for what, target in (("pointwise part", 4.0), ("data step", 2.5)):
        for name, wrap in PASSES.items():
            cases.append(
                Case(
                    "fourier_division",
                    f"{what}, {name}",
                    f"{5 * t}x{4 * h}x{4 * w}",
                    lambda contestant, device, small, what=what, wrap=wrap: build(
                        what, wrap, contestant, device, small
                    ),
                    FORM_A,
                    target=target if name == "forward" and not quick else None,
                    tolerance=1e-4,
                )
            )
    return cases


def conv_cases(quick: bool) -> list[Case]:
    """The convolution that most of the network's time goes into; ours and torch's both channels-last."""
    m, side = (16, 16) if quick else (64, 64)

    def build(wrap: Callable[..., Run], contestant: str, device: torch.device, small: bool) -> Run:
        n = 8 if small else side
        given = [
            noise(1, m, n, n, device=device),
            noise(m, m, 3, 3, device=device, scale=1 / (3 * m**0.5), seed=1),
            noise(m, device=device, seed=2),
        ]
        given[:2] = [x.contiguous(memory_format=torch.channels_last) for x in given[:2]]
        return wrap(conv3x3 if contestant == OURS else conv3x3_reference, *given)

    return [
        Case(
            "conv3x3",
            name,
            f"{m} -> {m}, {side}x{side}",
            lambda contestant, device, small, wrap=wrap: build(wrap, contestant, device, small),
            "torch's conv2d, channels-last",
            memory_limit=2**24,  # 2.5 MiB as it repeats; what is measured has the first pages of autograd's threads
            tolerance=3e-5,
            repeats=15,
        )
        for name, wrap in PASSES.items()
    ]


def fold(spectrum: Tensor, lr: tuple[int, ...]) -> Tensor:
    """Mean over the aliased blocks of a full spectrum [..., T, H, W]."""
    blocks = (side for s, n in zip(SCALE, lr, strict=True) for side in (s, n))
    return spectrum.reshape(*spectrum.shape[:-3], *blocks).mean(dim=(-6, -4, -2))
