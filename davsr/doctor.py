"""`davsr doctor`: what this installation consists of and can do."""

from __future__ import annotations

import argparse
import platform
from importlib.metadata import PackageNotFoundError, version

import av
import cv2
import torch

from davsr import __version__, runtime
from davsr.checkpoints.loading import SHIPPED
from davsr.ops import backend
from davsr.restoration.memory import free_memory
from davsr.restoration.planning import GIGABYTE

CODECS = ("libx264", "libx265", "libsvtav1", "libvpx-vp9", "ffv1", "aac")
OPTIONAL = ("lmdb", "tensorboard", "lpips", "safetensors")
OPENCV = ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless")
NOT_INSTALLED = "not installed (optional)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """No arguments."""


def run(args: argparse.Namespace) -> int:
    """Print the report."""
    rows = installation()
    width = max(len(topic) for topic, _ in rows)
    for topic, finding in rows:
        print(f"{topic.ljust(width)}  {finding}")
    return 0


def installation() -> list[tuple[str, str]]:
    """(topic, finding) in the order in which they are printed."""
    device = runtime.choose_device("auto")
    rows = [
        ("davsr", __version__),
        ("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"),
        ("torch", str(torch.__version__)),
        ("device", f"{device.type}: {runtime.describe(device)}"),
        ("ops on cpu", _backend("cpu")),
    ]
    if device.type != "cpu":
        rows.append((f"ops on {device.type}", _backend(device.type)))
    encoders = [name for name in CODECS if _can_encode(name)]
    rows += [
        ("numpy", version("numpy")),
        ("opencv", _opencv()),
        ("pyav", av.__version__),
        ("encoders", ", ".join(encoders) or "none: frames can be written, videos cannot"),
        (
            "model",
            f"shipped: {SHIPPED.name}"
            if SHIPPED.is_file()
            else "none shipped: restoration along the motion, without weights",
        ),
        *((name, _installed(name)) for name in OPTIONAL),
    ]
    return [*rows, ("free memory", f"{free_memory(device) / GIGABYTE:.1f} GiB")]


def _backend(kind: str) -> str:
    chosen = backend(kind)
    return f"{chosen.name}, {chosen.reason}"


def _opencv() -> str:
    """The version of cv2, which either of two packages brings; both at once overwrite each other's files."""
    there = [name for name in OPENCV if _installed(name) != NOT_INSTALLED]
    if len(there) > 1:
        return (
            f"{cv2.__version__}, but {' and '.join(there)} are both installed and overwrite each other: "
            f"pip uninstall {' '.join(there)}, then install one of them"
        )
    return f"{cv2.__version__}, {there[0]}" if there else cv2.__version__


def _can_encode(name: str) -> bool:
    try:
        return bool(av.codec.Codec(name, "w"))
    except ValueError:  # av.codec.UnknownCodecError is one
        return False


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return NOT_INSTALLED
