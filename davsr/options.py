"""All options, in the order in which data flows: degradation -> model -> data -> train -> test.

A YAML file names only what differs from the defaults here. Unknown keys, wrong types and values out of range are
refused with their dotted path (see `davsr.config`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from davsr import config
from davsr.config import option
from davsr.errors import InputError


@dataclass(frozen=True)
class DegradationOptions:
    """The observation model y = A x + n (docs: `davsr.degradation.Degradation`)."""

    scale: tuple[int, int, int] = option((5, 4, 4), minimum=1)  # (s_t, s_h, s_w)
    exposure: float | None = option(None, above=0)  # HR frames that one LR frame integrates; null: s_t, an open shutter
    phase: int = 0  # LR frame j integrates from HR frame s_t j + phase on
    psf: str = "bicubic"  # bicubic, gaussian, box, delta, or the path of an .npy file with a [k_h, k_w] array
    psf_sigma: float = option(1.6, above=0)  # HR pixels; used by psf: gaussian
    psf_origin: tuple[int, int] | None = None  # tap of a dense PSF that acts on HR pixel s i; null: size // 2
    boundary: Literal["reflect", "circular"] = "reflect"
    solver: Literal["auto", "separable", "fourier", "cg"] = "auto"


@dataclass(frozen=True)
class InterpolationOptions:
    """x_0: from LR frames to the HR grid in space and time."""

    method: Literal["nearest", "linear", "flow", "slomo", "trilinear"] = "flow"
    resize: Literal["bicubic", "bilinear_corners"] = "bicubic"  # bilinear_corners: align_corners=True, for parity
    centre: float | None = None  # HR frame on which LR frame 0 is centred; null: phase + (exposure - 1) / 2
    flow: Literal["dis", "spynet"] = "dis"  # estimator of method: flow; dis is OpenCV's and needs no weights
    weights: str | None = None  # of slomo or spynet


@dataclass(frozen=True)
class HyperOptions:
    """alpha_k, beta_k: learned by HyPaNet from (sigma, s_t, s_h), or fixed."""

    kind: Literal["learned", "fixed"] = "learned"
    alpha: float = option(0.24, above=0)  # times the largest eigenvalue of A A^T: fixed value, or start of learning
    beta: float = option(0.1, minimum=0)  # fixed value, or start of learning


@dataclass(frozen=True)
class FlowNetOptions:
    """SPyNet: `levels` scales, at each one a stack of convolutions of these widths."""

    levels: int = option(6, minimum=1, maximum=8)
    channels: tuple[int, ...] = option((32, 64, 32, 16), minimum=1)
    kernel: int = option(7, minimum=1)
    weights: str | None = None  # a SPyNet checkpoint to start from

    def __post_init__(self) -> None:
        if self.kernel % 2 == 0:
            raise InputError(f"kernel must be odd, got {self.kernel}")


@dataclass(frozen=True)
class EnhancementOptions:
    """RVE, the learned prior; `none` leaves interpolation and data step alone (training-free)."""

    kind: Literal["none", "rve"] = "rve"
    channels: int = option(64, minimum=1)  # m
    blocks: int = option(7, minimum=1)  # residual blocks per propagation branch
    feature_blocks: int = option(5, minimum=1)
    reconstruction_blocks: int = option(5, minimum=1)
    hr_channels: int = option(64, minimum=1)  # width at full resolution, where most of a small model's time goes
    groups: int = option(16, minimum=2)  # deformable groups; half of them sample p1, half p2
    max_residue: float = option(10.0, above=0)  # LR-feature pixels that an offset may add to the flow
    order: Literal[1, 2] = 2  # grid propagation looks one or two steps back
    beta_channel: bool = True
    flow: FlowNetOptions = FlowNetOptions()

    def __post_init__(self) -> None:
        if self.groups % 2 or (2 * self.channels) % self.groups:
            raise InputError(f"groups must be even and divide 2 * channels = {2 * self.channels}, got {self.groups}")


@dataclass(frozen=True)
class ModelOptions:
    """DAVSR: K rounds of data step and enhancement."""

    iterations: int = option(3, minimum=1)  # K
    data_step: bool = True  # false: enhancement only, to measure what the data step adds
    interpolation: InterpolationOptions = InterpolationOptions()
    hyper: HyperOptions = HyperOptions()
    enhancement: EnhancementOptions = EnhancementOptions()
    weights: str | None = None  # a checkpoint, ours or in published names; null: the initialisation


@dataclass(frozen=True)
class SourceOptions:
    """One source of training clips."""

    kind: Literal["video", "frames", "pairs", "synthetic"] = "frames"
    path: str = ""  # video file, folder of frames, folder of clip folders; synthetic: folder of photographs
    lq_path: str = ""  # pairs: the LR side, laid out like `path`
    weight: float = option(1.0, above=0)  # share of the samples, relative to the other sources
    reduce: int = option(1, minimum=1)  # average frames down by this first: a clean truth from a compressed film
    strides: tuple[int, ...] = option((1,), minimum=1)  # every n-th frame, n drawn from here: faster motion
    exclude: tuple[str, ...] = ()  # names of clips that are never trained on


@dataclass(frozen=True)
class DataOptions:
    """Training samples: `frames` LR frames and the HR frames they show, cropped to `patch`."""

    sources: tuple[SourceOptions, ...] = ()
    frames: int = option(5, minimum=1)  # LR frames of a sample
    patch: int = option(256, minimum=16)  # HR side of a sample
    exposures: tuple[float, ...] = option((), above=0)  # drawn per sample; empty: degradation.exposure
    sigma: tuple[float, float] = option((0.0, 0.0), minimum=0)  # range of the noise, fraction of full scale
    compression: float = option(0.0, minimum=0, maximum=1)  # share of samples that pass through light JPEG
    flips: bool = True  # flips, transposes and time reversal
    workers: int = option(1, minimum=0)
    cache: str = ""  # folder for decoded frames; empty: next to nothing, in memory


@dataclass(frozen=True)
class TrainOptions:
    """The training loop."""

    iterations: int = option(300_000, minimum=1)
    batch: int = option(1, minimum=1)  # samples per process and step
    accumulate: int = option(1, minimum=1)  # gradients of this many batches make one step
    rate: float = option(1e-4, above=0)
    rate_end: float = option(1e-7, minimum=0)
    warmup: int = option(0, minimum=0)
    flow_factor: float = option(0.25, minimum=0)  # of the rate, for the flow network
    offset_factor: float = option(1.0, minimum=0)  # of the rate, for the offset convolutions
    flow_frozen: int = option(0, minimum=0)  # iterations before the flow network starts to learn
    betas: tuple[float, float] = option((0.9, 0.99), minimum=0, maximum=1)
    loss_epsilon: float = option(1e-12, above=0)  # Charbonnier sqrt(d^2 + epsilon), mean
    clip_norm: float = option(0.0, minimum=0)  # 0: no gradient clipping
    ema: float = option(0.0, minimum=0, maximum=1)  # decay of the averaged weights; 0: none
    nonfinite_limit: int = option(10, minimum=1)  # non-finite losses in a row that end the run
    checkpoint_every: int = option(1000, minimum=1)
    checkpoints_kept: int = option(3, minimum=1)
    validate_every: int = option(5000, minimum=1)
    log_every: int = option(100, minimum=1)
    gradient_checkpointing: bool = False
    compile: bool = False
    tensorboard: bool = False


@dataclass(frozen=True)
class TestOptions:
    """Restoration and its measurement (protocol: README)."""

    __test__ = False  # not a pytest class

    input: str = ""  # folder of frames, video file, or folder of clip folders with LR frames
    truth: str = ""  # GT clips; without `input` they are degraded on the fly by `degradation`, 8-bit
    clips: tuple[str, ...] = ()  # names of clip folders; empty: all
    frames: str = ""  # LR frames start:stop of each clip; empty: all
    crop: bool = False  # crop truth whose sizes the scale does not divide
    num_frame_testing: int = option(10, minimum=0)  # LR frames per window; 0: the whole clip
    size_patch_testing: int = option(0, minimum=0)  # LR side of a tile; 0: whole frames
    border: int = option(2, minimum=0)  # first and last HR frames of a clip that are not scored
    save: Literal["none", "frames", "video", "both"] = "both"
    pictures: int = option(3, minimum=0)  # comparison pictures per clip
    stages: bool = True  # score x_0, z_1, x_1, ... too


@dataclass(frozen=True)
class Options:
    """Everything; `name` is the folder under experiments/ and results/."""

    name: str = "davsr"
    seed: int = 0
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    threads: int = option(0, minimum=0)  # CPU threads; 0: torch's choice
    precision: Literal["float32", "bfloat16", "float16"] = "float32"  # of the network; the data step stays float32
    degradation: DegradationOptions = DegradationOptions()
    model: ModelOptions = ModelOptions()
    data: DataOptions = DataOptions()
    train: TrainOptions = TrainOptions()
    test: TestOptions = TestOptions()


def load_options(path: str | Path | None = None, overrides: Iterable[str] = ()) -> Options:
    """Options of a YAML file with `section.key=value` overrides.

    Raises:
        davsr.errors.InputError: with the dotted path, the value and the nearest known name.
    """
    return config.load(Options, path, overrides)
