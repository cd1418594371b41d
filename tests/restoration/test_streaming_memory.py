"""Memory is bounded by the window: measured as the peak of a process of its own."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

import davsr
from davsr.checkpoints.loading import TRAINING_FREE, load_model
from davsr.errors import InputError
from davsr.options import DegradationOptions, EnhancementOptions, ModelOptions, RestoreOptions
from davsr.restoration import planning
from davsr.restoration.cutting import Plan
from davsr.restoration.encoder import Encoding, economy_of
from davsr.restoration.memory import free_memory
from tests.videos import pattern, write_video

_RUN = """
import re, resource, sys, torch
from pathlib import Path
from davsr.checkpoints.loading import TRAINING_FREE, load_model
from davsr.options import *
from davsr.restoration.restore import restore
torch.set_num_threads(1)
source, target, scale, interpolation, memory, channels = sys.argv[1:]
degradation = DegradationOptions(scale=tuple(map(int, scale.split(","))))
enhancement, shared = EnhancementOptions(kind="none"), {}
if channels == "shipped":
    shared = {"num_frame_overlap": 2, "size_patch_margin": 8}  # less than its own, to be done sooner
elif int(channels):
    enhancement = EnhancementOptions(
        channels=int(channels), blocks=1, feature_blocks=1, reconstruction_blocks=1, hr_channels=8, groups=2,
        flow=FlowNetOptions(levels=3, channels=(8, 8), kernel=3))
made = ModelOptions(
    iterations=1, hyper=HyperOptions(kind="fixed"), enhancement=enhancement,
    interpolation=InterpolationOptions(method=interpolation))
model = load_model() if channels == "shipped" else load_model(model=made, degradation=degradation)
options = RestoreOptions(preset="ultrafast", cuts=False, memory=float(memory), **shared)
result = restore(source, target, model=model, options=options)
status = Path("/proc/self/status")
if status.exists():  # rusage counts what the parent held when it started this process
    kilobytes = int(re.search(r"VmHWM:\\s+(\\d+) kB", status.read_text())[1])
else:
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(result.frames, kilobytes * 1024, result.plan)
"""


def peak(source, target, scale="5,4,4", interpolation="linear", memory=0, channels=0):
    """(HR frames, peak bytes, plan) of a restoration in its own process."""
    arguments = [str(source), str(target), scale, interpolation, str(memory), str(channels)]
    run = subprocess.run([sys.executable, "-c", _RUN, *arguments], capture_output=True, text=True, check=True)
    frames, size, plan = run.stdout.strip().splitlines()[-1].split(" ", 2)
    return int(frames), float(size), plan


def test_peak_memory_does_not_grow_with_length(tmp_path):
    frames = np.tile(pattern(50, 36, 64), (20, 1, 1, 1))
    few, small, _ = peak(write_video(tmp_path / "few.mp4", frames[:200]), tmp_path / "a.mp4", scale="3,2,2")
    many, large, _ = peak(write_video(tmp_path / "many.mp4", frames), tmp_path / "b.mp4", scale="3,2,2")
    assert (few, many) == (600, 3000)
    assert large < 1.2 * small  # the frames alone would be a quarter more


@pytest.mark.parametrize("channels", [0, pytest.param(8, marks=pytest.mark.slow)])
def test_a_restoration_stays_within_the_memory_it_is_given(tmp_path, channels):
    source = write_video(tmp_path / "in.mp4", pattern(6, 216, 384))
    frames, size, plan = peak(source, tmp_path / "out.mp4", memory=2, channels=channels)
    assert frames == 30
    assert size < 2e9, plan
    assert "window=10" not in plan or "tile=0" not in plan, f"{plan}: nothing had to be planned"


@pytest.mark.slow
def test_the_shipped_model_stays_within_the_memory_it_is_given(tmp_path):
    source = write_video(tmp_path / "in.mp4", pattern(8, 108, 192))
    frames, size, plan = peak(source, tmp_path / "out.mp4", memory=0.65, channels="shipped")
    assert frames == 40
    assert "on_disk=True" in plan and not ("tile=0" in plan and "tile_width=0" in plan), plan
    assert size < 0.65 * 2**30, (plan, size)


@pytest.mark.slow
def test_4k_output_stays_below_6_gb(tmp_path):
    source = write_video(tmp_path / "in.mp4", pattern(4, 540, 960))
    frames, size, plan = peak(source, tmp_path / "out.mp4", memory=5.5)
    assert frames == 20
    assert size < 6e9, plan


def choose(size, gigabytes, **given):
    model = load_model(model=TRAINING_FREE)
    return planning.choose_plan(size, (5, 4, 4), planning.bytes_per_pixel(model), gigabytes * 2**30, **given)


def test_plans_use_the_memory_there_is():
    assert choose((180, 320), 50) == Plan(40, 2, 0, 24)
    tight = choose((540, 960), 4)
    assert tight.tile and tight.window > tight.overlap
    with pytest.raises(InputError, match=r"restore\.memory: 960x540 .* needs .* GB"):
        choose((540, 960), 0.2)
    assert choose((540, 960), 0.2, window=7, tile=100).window == 7  # what is given is not questioned
    assert choose((540, 960), 9, window=5).window == 5
    on_device = choose((540, 960), 20, device=2 * 2**30)
    assert on_device.tile


def test_what_is_said_of_windows_is_what_they_are(tmp_path, caplog):
    assert choose((18, 32), 50, overlap=44) == Plan(45, 44, 0, 24)  # a longer overlap needs a longer window
    source = write_video(tmp_path / "in.mp4", pattern(3, 12, 16))
    with caplog.at_level("INFO", logger="davsr"):
        davsr.restore(source, tmp_path / "out.mkv", model="training-free", options=RestoreOptions(codec="ffv1"))
    assert "one window of 3 LR frames" in caplog.text and "shared" not in caplog.text


@pytest.mark.parametrize("memory", [50, 2.7])
def test_windows_share_as_much_however_short_memory_is(memory):
    assert choose((540, 960), memory, overlap=4).overlap == 4


def test_no_more_is_taken_than_is_worth_it():
    """Where nobody states a limit: the modest amount, if more would not be much faster."""
    most = choose((270, 480), 50)
    assert most == Plan(40, 2, 0, 24)
    assert choose((270, 480), 50, modest=4 * 2**30) != most  # on disk, in tiles: nearly as fast
    barely = choose((270, 480), 50, modest=0.1 * 2**30)  # nothing is so little: the least of what is nearly as fast
    assert barely == choose((270, 480), 50, modest=0) and barely != most
    assert choose((270, 480), 50, frames=12).window >= 12  # a clip of one window shares nothing
    work = planning.cost_of(Plan(40, 2, 0, 24), (270, 480), (5, 4, 4), 26, frames=78).work
    assert work == pytest.approx(2 * 40 / 78)


def test_estimates_bound_what_a_network_takes():
    """The estimate that plans rest on is not below the tensors that autograd-free inference must hold at least."""
    model = load_model(model=ModelOptions(enhancement=EnhancementOptions(channels=16, groups=4)))
    assert planning.bytes_per_pixel(model) > planning.bytes_per_pixel(load_model(model=TRAINING_FREE)) > 2 * 3 * 4
    assert free_memory(torch.device("cpu")) > 0
    assert planning.host_budget(6.0) < 6 * 2**30


@pytest.mark.parametrize(("exposure", "phase", "overlap"), [(None, 0, 2), (3, 1, 2), (5, 1, 4), (5, -2, 4), (11, 0, 6)])
def test_windows_share_more_where_exposures_reach_farther(exposure, phase, overlap):
    degradation = DegradationOptions(exposure=exposure, phase=phase)
    assert planning.default_overlap(degradation, load_model(model=TRAINING_FREE)) == overlap


def test_an_encoder_looks_less_far_where_the_stated_memory_is_short():
    """What it then holds is left to the pieces; who states no limit, or asks for another encoder, keeps its own."""
    size = (1080, 1920)

    def told(**stated):
        options = RestoreOptions(**stated)
        return Encoding.chosen(options, economy_of(options, size)).options().get("x264-params", "")

    assert told(memory=1.6) == "rc-lookahead=10"
    assert told(memory=1.1) == "rc-lookahead=5:ref=1:bframes=1"
    assert not any([told(), told(memory=8), told(memory=1.2, preset="ultrafast"), told(memory=1.2, codec="h265")])
    economies = planning.Economy(), planning.SHORT_LOOKAHEAD
    plans = [choose((270, 480), 1.2, economy=economy, frames=60) for economy in economies]
    work = [planning.cost_of(plan, (270, 480), (5, 4, 4), 26, 60).work for plan in plans]
    assert work[1] < work[0], plans
