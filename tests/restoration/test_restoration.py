"""`davsr restore`: what goes in comes out five times as often and four times as large, and everything else the same."""

from __future__ import annotations

import json
import re
import signal
from fractions import Fraction

import cv2
import numpy as np
import pytest
import torch

import davsr.restoration.streaming as streaming
from davsr.checkpoints.loading import TRAINING_FREE, load_model
from davsr.data.video import VideoReader
from davsr.errors import InputError
from davsr.options import DegradationOptions, RestoreOptions
from davsr.restoration import planning
from davsr.restoration.restore import restore
from davsr.restoration.target import part_folder
from tests.processes import start_and_hold
from tests.videos import about, decode, pattern, sound_of, write_video

FAST = {"preset": "ultrafast", "crf": 4.0, "size_patch_testing": 0, "num_frame_testing": 4}


@pytest.fixture
def model():
    return load_model(model=TRAINING_FREE)


def run(source, target, model, degradation=None, **options):
    return restore(source, target, model=model, degradation=degradation, options=RestoreOptions(**{**FAST, **options}))


def whole(source, model, **call):
    """The model's answer to the whole clip at once, uint8 [T, H, W, 3]."""
    lq = (
        torch.from_numpy(VideoReader(source).frames(0, 10**6).astype(np.float32) / 255)
        .permute(0, 3, 1, 2)
        .contiguous()[None]
    )
    with torch.inference_mode():
        hr = model(lq, **call)[0].clamp(0, 1).mul(255).round()
    return hr.permute(0, 2, 3, 1).numpy().astype(np.uint8)


def psnr(a, b):
    return 10 * np.log10(255**2 / max(np.mean((a.astype(np.float64) - b) ** 2), 1e-9))


def test_rate_count_size_sound_and_pixels(tmp_path, model):
    source = write_video(tmp_path / "in.mp4", pattern(9), sound=True)
    before = source.read_bytes()
    result = run(source, tmp_path / "out.mp4", model)
    told = about(tmp_path / "out.mp4")
    assert told["rate"] == Fraction(120000, 1001) == result.rate
    assert told["steps"] == {Fraction(1001, 120000)} and told["start"] == 0
    assert told["frames"] == 45 == result.frames and told["size"] == (96, 128) == result.size
    assert sound_of(tmp_path / "out.mp4") == sound_of(source) and sound_of(source)[0]
    assert psnr(decode(tmp_path / "out.mp4"), whole(source, model)) > 32  # 4:2:0 and the codec; ffv1 is compared below
    assert source.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.mp4", "out.mp4"]
    assert len(result.residuals) == 9 and max(result.residuals) < 0.02


def test_frames_of_a_folder_are_the_models_own(tmp_path, model):
    source = write_video(tmp_path / "in.mp4", pattern(7))
    run(source, tmp_path / "out", model, num_frame_testing=6, num_frame_overlap=4)  # two frames of context: exact
    files = sorted((tmp_path / "out").iterdir())
    assert [file.name for file in files] == [f"{i:08d}.png" for i in range(35)]
    frames = np.stack([cv2.imread(str(file))[..., ::-1] for file in files])
    difference = np.abs(frames.astype(int) - whole(source, model))
    assert difference.max() <= 1 and (difference > 0).mean() < 0.01  # 16 bits between, rounded twice

    folder = run(
        tmp_path / "out", tmp_path / "again.mp4", model, rate="50", degradation=DegradationOptions(scale=(1, 1, 1))
    )
    assert folder.rate == 50 and about(tmp_path / "again.mp4")["frames"] == 35
    with pytest.raises(InputError, match="no rate; give --rate"):
        run(tmp_path / "out", tmp_path / "no.mp4", model)


def test_slow_motion_keeps_the_rate_and_drops_the_sound(tmp_path, model, caplog):
    source = write_video(tmp_path / "in.mp4", pattern(3), sound=True)
    with caplog.at_level("INFO", logger="davsr"):
        run(source, tmp_path / "out.mp4", model, slow_motion=True)
    told = about(tmp_path / "out.mp4")
    assert told["frames"] == 15 and told["rate"] == Fraction(24000, 1001)
    assert not sound_of(tmp_path / "out.mp4")[0] and "sound" in caplog.text


def test_every_residual_is_in_the_log_and_right(tmp_path, model, caplog):
    source = write_video(tmp_path / "in.mp4", pattern(6))
    with caplog.at_level("INFO", logger="davsr"):
        result = run(source, tmp_path / "out.mkv", model, codec="ffv1")
    frames = torch.from_numpy(whole(source, model)).float().div(255).permute(3, 0, 1, 2)[None]
    seen = torch.from_numpy(VideoReader(source).frames(0, 6)).float().div(255).permute(3, 0, 1, 2)[None]
    expected = model.degradation.residual(frames, seen)[0]
    np.testing.assert_allclose(
        result.residuals, expected, atol=3e-4
    )  # whole() is rounded to 8 bits: 1/255/sqrt(12) = 1e-3
    logged = re.findall(r"LR frames 0\.\.5, \|\|y - A x\|\|: (.*)", caplog.text)
    assert [float(v) for v in logged[0].split()] == pytest.approx(result.residuals, abs=1e-5)


@pytest.mark.parametrize(
    "settings", [{"exposure": 3.5, "phase": -2}, {"exposure": 8.0}, {"scale": (3, 2, 2), "psf": "gaussian"}]
)
def test_the_users_physics_reaches_the_data_step(tmp_path, settings):
    degradation = DegradationOptions(**settings)
    model = load_model(model=TRAINING_FREE, degradation=degradation)
    source = write_video(tmp_path / "in.mp4", pattern(8))
    result = run(source, tmp_path / "out", model, num_frame_testing=0)
    frames = np.stack([cv2.imread(str(file))[..., ::-1] for file in sorted((tmp_path / "out").iterdir())])
    assert np.abs(frames.astype(int) - whole(source, model)).max() <= 1
    x = torch.from_numpy(frames.copy()).float().div(255).permute(3, 0, 1, 2)[None]
    y = torch.from_numpy(VideoReader(source).frames(0, 8)).float().div(255).permute(3, 0, 1, 2)[None]
    np.testing.assert_allclose(
        result.residuals, model.degradation.residual(x, y)[0], atol=1e-3
    )  # x is rounded to 8 bits


def test_linear_light_explains_what_a_sensor_averages(tmp_path):
    from davsr.physics.degradation import Degradation
    from davsr.physics.response import LinearLight, to_linear, to_srgb

    values = torch.linspace(-0.5, 1.5, 201)
    torch.testing.assert_close(to_srgb(to_linear(values)), values)
    operator = LinearLight(Degradation())
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(1, 3, 10, 32, 32, generator=generator), torch.rand(1, 3, 2, 8, 8, generator=generator)
    z = operator.data_step(x, y, 1e-5)
    assert operator.residual(z, y).max() < 0.02 < Degradation().residual(z, y).min()
    # The closed form's normal equations hold in linear light.
    A = Degradation()
    u, v, w = to_linear(operator.data_step(x.double(), y.double(), 0.01)), to_linear(x.double()), to_linear(y.double())
    torch.testing.assert_close(
        A.adjoint(A.apply(u) - w) + 0.01 * (u - v), torch.zeros_like(u), atol=1e-12, rtol=0
    )  # rounding

    model = load_model(model=TRAINING_FREE)
    source = write_video(tmp_path / "in.mp4", pattern(3))
    plain = run(source, tmp_path / "a", model)
    linear = run(source, tmp_path / "b", model, response="linear")
    assert max(linear.residuals) < 0.02
    assert plain.residuals != linear.residuals


def test_a_scene_cut_ends_a_window(tmp_path, model):
    first, second = pattern(6, 48, 64), 255 - pattern(6, 48, 64, seed=5) // 3
    source = write_video(tmp_path / "in.mp4", np.concatenate([first, second]))
    run(source, tmp_path / "cut", model)
    alone = write_video(tmp_path / "alone.mp4", first)
    run(alone, tmp_path / "first", model)
    for i in range(30):
        a, b = (cv2.imread(str(tmp_path / name / f"{i:08d}.png")).astype(int) for name in ("cut", "first"))
        assert np.abs(a - b).mean() < 1.5, f"frame {i} mixes two scenes"  # the two files are encoded apart
    run(source, tmp_path / "mixed", model, cuts=False)
    a, b = (cv2.imread(str(tmp_path / name / "00000029.png")).astype(int) for name in ("mixed", "first"))
    assert np.abs(a - b).mean() > 5


def interrupted(monkeypatch, source, target, model, after, **options):
    """Run until `after` windows are done, as a kill would leave it."""
    monkeypatch.setattr(streaming, "_SEGMENT_FRAMES", 1)
    real, count = model.forward, 0

    def failing(*args, **kwargs):
        nonlocal count
        count += 1
        if count > after:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(model, "forward", failing)
    with pytest.raises(KeyboardInterrupt):
        run(source, target, model, **options)
    monkeypatch.setattr(model, "forward", real)


@pytest.mark.parametrize(("name", "codec"), [("out.mkv", "ffv1"), ("out.mp4", "h264"), ("out", "h264")])
def test_a_restart_continues_after_the_last_segment(tmp_path, model, monkeypatch, name, codec):
    source = write_video(tmp_path / "in.mp4", pattern(16), sound=True)
    target = tmp_path / name
    uninterrupted = run(source, tmp_path / f"whole-{name}", model, codec=codec)
    interrupted(monkeypatch, source, target, model, 3, codec=codec)
    assert not target.exists() and part_folder(target).is_dir()
    result = run(source, target, model, codec=codec)
    assert result.continued == 30
    assert result.residuals == pytest.approx(uninterrupted.residuals, abs=1e-7)
    assert not part_folder(target).exists()
    if name == "out":
        for file in (tmp_path / "whole-out").iterdir():
            assert file.read_bytes() == (target / file.name).read_bytes()
        return
    difference = np.abs(decode(target).astype(int) - decode(tmp_path / f"whole-{name}"))
    assert len(difference) == 80 and difference.max() <= (0 if codec == "ffv1" else 40)
    assert sound_of(target) == sound_of(tmp_path / f"whole-{name}")
    if name == "out.mp4":
        told = about(target)
        assert told["rate"] == Fraction(120000, 1001) and told["steps"] == {Fraction(1001, 120000)}


def test_segments_made_with_other_settings_are_not_continued(tmp_path, model, monkeypatch):
    source = write_video(tmp_path / "in.mp4", pattern(12))
    target = tmp_path / "out.mp4"
    interrupted(monkeypatch, source, target, model, 2)
    assert run(source, target, model, sigma=0.1).continued == 0
    target.unlink()
    interrupted(monkeypatch, source, target, model, 2)
    write_video(source, pattern(12, seed=3))
    assert run(source, target, model).continued == 0


def test_one_stream_is_encoded_by_one_set_of_parameters(tmp_path, model, monkeypatch):
    """Segments are joined behind the header of the first: where memory asks for another encoder, all begins anew."""
    source = write_video(tmp_path / "in.mp4", pattern(12))
    target = tmp_path / "out.mp4"
    for economy, continues in ((planning.Economy(), True), (planning.LEAST_MEMORY, False)):
        interrupted(monkeypatch, source, target, model, 2, preset="medium")
        with monkeypatch.context() as patch:
            patch.setattr(planning.Economy, "of", lambda size, memory, economy=economy: economy)
            result = run(source, target, model, preset="medium", memory=8.0)
        assert (result.continued > 0) == continues
        assert about(target)["frames"] == len(VideoReader(target).frames(0, 100)) == 60
        target.unlink()


def test_a_kill_while_a_record_is_written_loses_one_segment_only(tmp_path, model, monkeypatch):
    source = write_video(tmp_path / "in.mp4", pattern(16))
    target = tmp_path / "out.mp4"
    interrupted(monkeypatch, source, target, model, 4)
    records = sorted(part_folder(target).glob("segment-*.json"))
    records[-1].rename(records[-1].with_name(f"{records[-1].name}.tmp"))
    (part_folder(target) / "whole.mp4").write_bytes(b"half a file")
    result = run(source, target, model)
    assert (
        result.continued == json.loads(records[-2].read_text())["stop"]
        if records[-2].exists()
        else result.continued == 30
    )
    assert about(target)["frames"] == 80


def test_an_output_is_not_overwritten_unasked_and_never_the_input(tmp_path, model):
    source = write_video(tmp_path / "in.mp4", pattern(2))
    target = tmp_path / "out.mp4"
    target.write_bytes(b"precious")
    with pytest.raises(InputError, match="exists; give --overwrite"):
        run(source, target, model)
    assert target.read_bytes() == b"precious"
    run(source, target, model, overwrite=True)
    assert about(target)["frames"] == 10
    for same in (source, tmp_path / "." / "in.mp4", tmp_path):
        with pytest.raises(InputError, match="must not be the input"):
            run(source, same, model, overwrite=True)
    link = tmp_path / "link.mp4"
    link.symlink_to(source)
    with pytest.raises(InputError, match="must not be the input"):
        run(source, link, model, overwrite=True)
    assert VideoReader(source).size == (24, 32)


def test_what_a_container_cannot_hold_is_said_before_work_begins(tmp_path, model):
    source = write_video(tmp_path / "in.mp4", pattern(2), sound=True)
    for name, codec in (("out.webm", "h264"), ("out.wmv", "h264"), ("out.png", "h264"), ("out.mov", "ffv1")):
        with pytest.raises(InputError, match=r"must end in \.mp4|cannot hold ffv1"):
            run(source, tmp_path / name, model, codec=codec)
    assert not part_folder(tmp_path / "out.webm").exists()


def test_a_damaged_input_leaves_no_output(tmp_path, model):
    source = write_video(tmp_path / "in.mkv", pattern(20, 48, 64), codec="ffv1")
    content = bytearray(source.read_bytes())
    content[len(content) // 2 : -2000] = bytes(len(content) - len(content) // 2 - 2000)
    source.write_bytes(content)
    with pytest.raises(InputError, match=r"is damaged|truncated"):
        run(source, tmp_path / "out.mp4", model)
    assert not (tmp_path / "out.mp4").exists()
    run(source, tmp_path / "out.mp4", model, partial=True)
    assert 0 < about(tmp_path / "out.mp4")["frames"] < 100


@pytest.mark.parametrize("name", ["out.mp4", "out"])
def test_a_killed_process_leaves_no_output_and_continues(tmp_path, model, name):
    source = write_video(tmp_path / "in.mp4", pattern(300, 16, 16), sound=True)
    target, before = tmp_path / name, source.read_bytes()
    command = [
        "restore",
        str(source),
        str(target),
        "--model",
        "training-free",
        "--preset",
        "ultrafast",
        "--device",
        "cpu",
    ]
    process = start_and_hold("davsr.restoration.target:Target", "end_segment", 1, *command)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL and not target.exists() and source.read_bytes() == before
    result = restore(source, target, model=model, options=RestoreOptions(preset="ultrafast"))
    assert result.continued >= 250 and len(result.residuals) == 300
    assert (len(list(target.iterdir())) if name == "out" else about(target)["frames"]) == 1500
