"""All options, in the order in which data flows: degradation -> model -> data -> train -> test.

A YAML file names only what differs from the defaults here. Unknown keys, wrong types and values out of range are
refused with their dotted path (see `davsr.config`); what a network's options must fulfil together is asked before it is
built (`davsr.models.buildable`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from davsr import config
from davsr.config import option
from davsr.errors import InputError
from davsr.guards.names import require_device_name, require_run_name
from davsr.settings.migration import today

Preset = Literal[
    "ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow", "placebo"
]  # the encoders' trade of time for size

# Trust of a data step in what it is given, times the largest eigenvalue of A A^T (0.003 in all, in the standard
# setting): what A sees best goes 1 / (1 + ALPHA), four fifths, of the way to the data. docs/differences.md has what
# another start costs.
ALPHA = 0.24


@dataclass(frozen=True)
class DegradationOptions:
    """The observation model y = A x + n (docs: `davsr.physics.degradation.Degradation`)."""

    scale: tuple[int, int, int] = option((5, 4, 4), minimum=1, maximum=64)  # (s_t, s_h, s_w)
    exposure: float | None = option(None, above=0, maximum=1024)  # HR frames that an LR frame integrates; null: s_t
    phase: int = option(0, minimum=-1024, maximum=1024)  # LR frame j integrates from HR frame s_t j + phase on
    psf: str = "bicubic"  # bicubic, gaussian, box, delta, or the path of an .npy file with a [k_h, k_w] array
    psf_sigma: float = option(1.6, above=0, maximum=256)  # HR pixels; used by psf: gaussian
    # The tap of a dense PSF that acts on HR pixel s i; null: size // 2.
    psf_origin: tuple[int, int] | None = option(None, minimum=-4096, maximum=4096)
    boundary: Literal["reflect", "circular"] = "reflect"
    solver: Literal["auto", "separable", "fourier", "cg"] = "auto"


@dataclass(frozen=True)
class InterpolationOptions:
    """x_0: from LR frames to the HR grid in space and time."""

    method: Literal["nearest", "linear", "flow", "slomo", "trilinear"] = "flow"
    resize: Literal["bicubic", "bilinear_corners"] = "bicubic"  # bilinear_corners: align_corners=True, for parity
    centre: float | None = None  # HR frame on which LR frame 0 is centred; null: phase + (exposure - 1) / 2
    flow: Literal["dis", "spynet"] = "dis"  # estimator of method: flow; dis is OpenCV's and needs no weights
    weights: str | None = None  # a checkpoint of slomo or spynet


@dataclass(frozen=True)
class RoundsOptions:
    """Rounds along the motion between x_0 and the enhancement.

    Averages over trajectories and data steps in alternation.
    """

    count: int = option(0, minimum=0, maximum=200)  # 12 is plenty; they follow the motion of method: flow
    channels: int = option(0, minimum=0, maximum=1024)  # width of what they learn; 0: they go by constants
    weights: str | None = None  # a checkpoint of a model with such rounds, to start from


@dataclass(frozen=True)
class HyperOptions:
    """alpha_k, beta_k: learned by HyPaNet from (sigma, s_t, s_h), or fixed."""

    kind: Literal["learned", "fixed"] = "learned"
    alpha: float = option(ALPHA, above=0)  # times the largest eigenvalue of A A^T: fixed value, or start of learning
    beta: float = option(0.1, minimum=0)  # fixed value, or start of learning


@dataclass(frozen=True)
class FlowNetOptions:
    """SPyNet: `levels` scales, at each one a stack of convolutions of these widths."""

    levels: int = option(6, minimum=1, maximum=8)
    channels: tuple[int, ...] = option((32, 64, 32, 16), minimum=1, maximum=1024)
    kernel: int = option(7, minimum=1, maximum=31)
    matching: int = option(0, minimum=0, maximum=8)  # radius of the search that levels are shown; 0: none, as published
    shared: bool = False  # the same weights at all levels
    passes: int = option(1, minimum=1, maximum=16)  # corrections per level
    dilated: bool = False  # the taps of hidden convolution n lie 2^n pixels apart: a wide view for few weights
    weights: str | None = None  # a SPyNet checkpoint to start from


@dataclass(frozen=True)
class EnhancementOptions:
    """The learned prior: `rve`, the paper's recurrent network.

    `frames`, a residual network on every frame by itself, of these `channels` and `blocks`; `pictures`, the trunk that
    `recurrent` begins with, likewise; `recurrent`, that trunk on LR frames, a recurrence, and their fusion with the
    rounds; `none` leaves interpolation and data step alone (training-free).
    """

    kind: Literal["none", "rve", "frames", "pictures", "recurrent"] = "rve"
    channels: int = option(64, minimum=1, maximum=1024)  # m
    blocks: int = option(7, minimum=1, maximum=256)  # residual blocks, per propagation branch of rve
    feature_blocks: int = option(5, minimum=1, maximum=256)
    reconstruction_blocks: int = option(5, minimum=1, maximum=256)
    hr_channels: int = option(64, minimum=1, maximum=1024)  # width at full resolution, where time goes
    groups: int = option(16, minimum=2, maximum=1024)  # deformable groups; half of them sample p1, half p2
    max_residue: float = option(10.0, above=0)  # LR-feature pixels that an offset may add to the flow
    order: Literal[1, 2] = 2  # grid propagation looks one or two steps back
    beta_channel: bool = True
    recurrent_blocks: int = option(2, minimum=0, maximum=256)  # recurrent: of each direction of the recurrence; 0: none
    alignment_groups: int = option(0, minimum=0, maximum=1024)  # recurrent: of channels, to correct the flow; 0: none
    fusion_channels: int = option(48, minimum=1, maximum=1024)  # recurrent: width at every HR time
    fusion_blocks: int = option(4, minimum=1, maximum=256)
    trunk_weights: str | None = (
        None  # recurrent: a checkpoint of kind pictures or recurrent, whose trunk it starts with
    )
    flow: FlowNetOptions = FlowNetOptions()


@dataclass(frozen=True)
class ModelOptions:
    """DAVSR: K rounds of data step and enhancement."""

    iterations: int = option(3, minimum=1, maximum=64)  # K
    data_step: bool = True  # false: enhancement only, to measure what the data step adds
    final_data_step: bool = False  # the last enhancement is brought into agreement with the data once more
    interpolation: InterpolationOptions = InterpolationOptions()
    rounds: RoundsOptions = RoundsOptions()
    hyper: HyperOptions = HyperOptions()
    enhancement: EnhancementOptions = EnhancementOptions()
    weights: str | None = None  # a checkpoint, ours or in published names; null: the initialisation


@dataclass(frozen=True)
class SourceOptions:
    """One source of clips."""

    kind: Literal["video", "frames", "pairs", "synthetic", "stills"] = "frames"
    path: str = ""  # video file, folder of frames, folder of clip folders; synthetic, stills: folder of photographs
    lq_path: str = ""  # pairs: the LR side, laid out like `path`
    weight: float = option(1.0, above=0)  # share of the samples, relative to the other sources
    reduce: int = option(1, minimum=1, maximum=64)  # of the sides, first: a clean truth from a compressed film
    strides: tuple[int, ...] = option((1,), minimum=1)  # every n-th frame, n drawn from here: faster motion
    candidates: int = option(1, minimum=1, maximum=1000)  # of so many crops the liveliest is taken
    frames: str = ""  # of each clip only frames start:stop, so that the rest can validate; empty: all
    cuts: bool = True  # look for scene cuts, which no sample crosses
    clips: tuple[str, ...] = ()  # names of clips, of which alone a source is made; empty: all
    exclude: tuple[str, ...] = ()  # names of clips or photographs that are never trained on
    speed: tuple[float, float] = option((0.1, 4.0), above=0, maximum=1000)  # synthetic: pixels a frame, log-uniform
    layers: int = option(3, minimum=0, maximum=100)  # synthetic: at most so many moving things before the background


@dataclass(frozen=True)
class ValidationOptions:
    """Cuts of unseen clips, degraded by `degradation` and scored while training goes on."""

    sources: tuple[SourceOptions, ...] = ()  # video, frames or pairs; every stride of a source is scored
    frames: int = option(5, minimum=1, maximum=1000)  # LR frames of a cut
    cuts: int = option(1, minimum=1)  # of each clip and stride, evenly spaced
    crop: int = option(0, minimum=0)  # HR side of the central crop; 0: whole frames
    every: int = option(5000, minimum=1)  # iterations
    pictures: int = option(4, minimum=0)  # comparison strips per validation


@dataclass(frozen=True)
class DataOptions:
    """Training samples: `frames` LR frames and the HR frames they show, cropped to `patch`."""

    sources: tuple[SourceOptions, ...] = ()
    frames: int = option(5, minimum=1, maximum=1000)  # LR frames of a sample
    patch: int = option(256, minimum=16, maximum=8192)  # HR side of a sample
    exposures: tuple[float, ...] = option((), above=0, maximum=1024)  # drawn per step; empty: degradation.exposure
    sigma: tuple[float, float] = option((0.0, 0.0), minimum=0, maximum=1)  # range of the noise, fraction of full scale
    compression: float = option(0.0, minimum=0, maximum=1)  # share of samples that pass through light JPEG
    flips: bool = True  # flips, transposes and time reversal
    flow_motion: float = option(8.0, above=0, maximum=1000)  # task flow: largest motion between two frames, pixels
    imperfect: float = option(0.0, minimum=0, maximum=1)  # share of truths made soft, noisy or compressed
    samples: int = option(0, minimum=0)  # of rounds_cache: so many, then the same again
    rounds_cache: str = ""  # folder where x_0 of the samples is kept, once made; empty: computed at every step
    workers: int = option(1, minimum=0, maximum=256)
    cache: str = ""  # folder for decoded films, each decoded once; empty: in memory
    validation: ValidationOptions = ValidationOptions()

    def __post_init__(self) -> None:
        if self.sigma[0] > self.sigma[1]:
            raise InputError(f"sigma must be a range from low to high, got {list(self.sigma)}")


@dataclass(frozen=True)
class TrainOptions:
    """The training loop."""

    task: Literal["video", "flow"] = "video"  # flow: only model.enhancement.flow, on the exact flow of synthetic data
    iterations: int = option(300_000, minimum=1)
    batch: int = option(8, minimum=1, maximum=65536)  # samples of a step, of all processes together
    accumulate: int = option(1, minimum=1)  # each process takes its share of the batch in so many parts
    rate: float = option(1e-4, above=0)
    rate_end: float = option(1e-7, minimum=0)
    warmup: int = option(0, minimum=0)  # iterations over which the rate rises to its value
    flow_factor: float = option(0.25, minimum=0)  # of the rate, for the flow network
    offset_factor: float = option(1.0, minimum=0)  # of the rate, for the offset convolutions
    trunk_factor: float = option(1.0, minimum=0)  # of the rate, for the trunk of enhancement.kind recurrent
    flow_frozen: int = option(0, minimum=0)  # iterations before the flow network starts to learn
    interpolation_frozen: bool = False  # x_0 is taken as given: interpolation and rounds do not learn
    betas: tuple[float, float] = option((0.9, 0.99), minimum=0, maximum=1)
    loss: Literal["charbonnier", "psnr"] = "charbonnier"  # psnr: of each frame, so that easy ones count like hard ones
    loss_epsilon: float = option(1e-12, above=0)  # Charbonnier sqrt(d^2 + epsilon), mean
    stage_weight: float = option(0.0, minimum=0)  # of the same loss on x_1 .. x_{K-1}
    frames_weight: float = option(1.0, minimum=0)  # of the loss on restored frames; 0: trunk and recurrence alone learn
    pictures_weight: float = option(0.0, minimum=0)  # of the same loss on LR frames as kind recurrent sharpens them
    clip_norm: float = option(0.0, minimum=0)  # 0: no gradient clipping
    ema: float = option(0.0, minimum=0, maximum=1)  # decay of the averaged weights; 0: none
    nonfinite_limit: int = option(10, minimum=1)  # non-finite steps in a row that end the run
    minutes: float = option(0.0, minimum=0)  # save and stop after this time; 0: no limit
    checkpoint_every: int = option(1000, minimum=1)
    checkpoints_kept: int = option(3, minimum=1)
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
    sigma: float = option(0.0, minimum=0, maximum=1)  # noise, of full scale: told to the model, added on the fly
    num_frame_testing: int = option(10, minimum=0)  # LR frames per window; 0: the whole clip
    num_frame_overlap: int = option(0, minimum=0)  # LR frames that two windows share and fade over; protocol: none
    size_patch_testing: int = option(0, minimum=0)  # LR side of a tile; 0: whole frames
    size_patch_margin: int = option(24, minimum=0)  # LR pixels of context on each side of a tile
    border: int = option(2, minimum=0)  # first and last HR frames of a clip that are not scored
    save: Literal["none", "frames", "video", "both"] = "both"
    rate: float = option(0.0, minimum=0, maximum=10_000)  # LR frames a second; 0: the clip's, or 24
    pictures: int = option(3, minimum=0)  # comparison pictures per clip
    reference: Literal["none", "reds4"] = "none"  # published rows to print beside the table
    stages: bool = True  # score x_0, z_1, x_1, ... too
    temporal: bool = True  # score consistency over time: tOF and warping error
    lpips: Literal["none", "alex", "vgg"] = "none"  # perceptual distance; needs the package lpips and its weights

    def __post_init__(self) -> None:
        if 0 < self.rate < 0.01:
            raise InputError(f"rate must be 0 or at least 0.01 frames a second, got {self.rate}")
        _require_overlap(self.num_frame_testing, self.num_frame_overlap)


@dataclass(frozen=True)
class RestoreOptions:
    """`davsr restore` and `davsr polish`: any video, of any length and size, in bounded memory."""

    model: str = ""  # a checkpoint, `training-free`, or empty: the shipped model
    sigma: float = option(0.0, minimum=0, maximum=1)  # standard deviation of the input's noise, fraction of full scale
    response: Literal["srgb", "linear"] = "srgb"  # linear: exposure and PSF average light, not the sRGB values of it
    num_frame_testing: int | Literal["auto"] = option("auto", minimum=0)  # LR frames per window; 0: the whole scene
    num_frame_overlap: int | Literal["auto"] = option("auto", minimum=0)  # LR frames that two windows share
    size_patch_testing: int | Literal["auto"] = option("auto", minimum=0)  # LR side of a tile; 0: whole frames
    size_patch_margin: int | Literal["auto"] = option("auto", minimum=0)  # LR pixels of context around a tile
    memory: float = option(0.0, minimum=0)  # GB that auto plans for; 0: what is free
    cuts: bool = True  # scene cuts end a window
    deblur: bool = False  # of the s_t frames that are made of each one, write only that in the middle of its exposure
    slow_motion: bool = False  # keep the frame rate, so that time runs s_t times slower; without sound
    rate: str = ""  # LR frames per second, such as 24000/1001, instead of what the input says
    codec: Literal["h264", "h265", "ffv1"] = "h264"
    crf: float = option(16.0, minimum=0, maximum=51)  # of h264 and h265, lower is better; ffv1 is lossless
    preset: Preset = "medium"  # of h264 and h265
    audio: bool = True
    frames: str = ""  # start:stop, such as 100:110: only these LR frames
    drop_duplicates: bool = False  # leave out LR frames that repeat the one before
    partial: bool = False  # restore what is there of a file that is cut short or damaged
    overwrite: bool = False  # an output that exists is replaced once the new one is whole
    log: bool = True  # write <output>.log

    def __post_init__(self) -> None:
        _require_overlap(self.num_frame_testing, self.num_frame_overlap)
        tile, margin = self.size_patch_testing, self.size_patch_margin
        if tile != "auto" and margin != "auto" and 0 < tile <= 2 * margin:
            raise InputError(f"size_patch_margin must be below half of size_patch_testing = {tile}, got {margin}")


def _require_overlap(window: int | Literal["auto"], overlap: int | Literal["auto"]) -> None:
    """Windows that share all that they have would never get on."""
    if window != "auto" and overlap != "auto" and 0 < window <= overlap:
        raise InputError(f"num_frame_overlap must be below num_frame_testing = {window}, got {overlap}")


@dataclass(frozen=True)
class Options:
    """Everything; `name` is the folder under experiments/ and results/."""

    name: str = "davsr"
    seed: int = option(0, minimum=0, maximum=2**63 - 1)
    device: str = "auto"  # cpu, cuda, cuda:1, mps
    threads: int = option(0, minimum=0, maximum=1024)  # CPU threads; 0: torch's choice
    precision: Literal["float32", "bfloat16", "float16"] = "float32"  # of the network; the data step stays float32
    degradation: DegradationOptions = DegradationOptions()
    model: ModelOptions = ModelOptions()
    data: DataOptions = DataOptions()
    train: TrainOptions = TrainOptions()
    test: TestOptions = TestOptions()
    restore: RestoreOptions = RestoreOptions()
    # Dotted names that a file or a flag states: they win over a checkpoint's conventions, also where they equal a
    # default
    stated: tuple[str, ...] = field(default=(), compare=False, repr=False, metadata={"internal": True})

    def __post_init__(self) -> None:
        require_run_name(self.name)
        require_device_name(self.device)


def load_options(path: str | Path | None = None, overrides: Iterable[str] = ()) -> Options:
    """Options of a YAML file with `section.key=value` overrides.

    Raises:
        davsr.errors.InputError: with the dotted path, the value and the nearest known name.
    """
    tree = today(config.read_tree(path, overrides))
    return replace(config.build(Options, tree), stated=tuple(config.leaves(tree)))
