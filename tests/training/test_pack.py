"""The data pack that travels to a GPU: within its size, read like any other clips, nothing where there is nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np

from davsr.options import SourceOptions
from davsr.training.samples.footage import open_footage
from davsr.training.samples.synthetic import load_photos

ROOT = Path(__file__).parents[2]


def pack(options: Path, out: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, ".ci/pack.py", "-opt", str(options), "--out", str(out), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_a_pack_holds_clips_and_photographs_within_its_size(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    rng = np.random.default_rng(0)
    for i in range(4):
        noise = rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)
        cv2.imwrite(str(photos / f"{i}.png"), cv2.resize(noise, (480, 360), interpolation=cv2.INTER_CUBIC))
    options = tmp_path / "pack.yml"
    options.write_text(
        "data:\n  sources:\n"
        "    - {kind: video, path: davsr/assets/sample.mp4, cuts: false}\n"
        f"    - {{kind: synthetic, path: {photos}}}\n"
    )
    out = tmp_path / "out"
    done = pack(options, out, "--megabytes", "0.3", "--frames", "10", "--side", "64")
    assert done.returncode == 0, done.stderr
    assert 0.1e6 < sum(file.stat().st_size for file in out.rglob("*.webp")) <= 0.3e6
    clips = open_footage(SourceOptions(kind="frames", path=str(out / "clips"), cuts=False), "source")
    assert len(clips) > 1 and all(clip.store.shape == (10, 64, 64) for clip in clips)
    assert len(load_photos(SourceOptions(kind="synthetic", path=str(out / "photos")), "source")) >= 1
    again = pack(options, out)
    assert again.returncode == 2 and "exists" in again.stderr


def test_a_pack_of_nothing_is_refused(tmp_path):
    options = tmp_path / "pack.yml"
    options.write_text("data:\n  sources: [{kind: video, path: davsr/assets/sample.mp4}]\n")
    done = pack(options, tmp_path / "out", "--frames", "4000")
    assert done.returncode == 2
    assert "no shot of 4000 frames of 192 pixels a side" in done.stderr and not (tmp_path / "out").exists()
