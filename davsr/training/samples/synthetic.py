"""Clips with known motion: photographs that pan, zoom and rotate in layers along smooth random paths.

A scene is a continuous function of time, so it can be rendered at any rate, exposed for any duration, and its flow
between two times is exact. Time is counted in HR frames, positions in HR pixels whose centres are integers.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from davsr.data.frames import is_image, read_image
from davsr.errors import InputError
from davsr.options import SourceOptions

SUPERSAMPLE = 2  # a pixel is the mean of 2x2 samples, as on a sensor: sharp, yet without much aliasing
_EXPOSURE_STEP = 0.5  # pixels that anything moves at most between two samples of an exposure
_SMALLEST_PHOTO = 64


@dataclass(frozen=True)
class SmoothPath:
    """A smooth random function of time: constant velocity plus two slow oscillations, zero at `origin`."""

    velocity: float
    origin: float
    amplitudes: np.ndarray  # [2]
    periods: np.ndarray  # [2] HR frames
    phases: np.ndarray  # [2]

    @classmethod
    def draw(cls, rng: np.random.Generator, speed: float, origin: float) -> SmoothPath:
        """A path whose velocity stays below twice `speed` (units per HR frame)."""
        periods = rng.uniform(12, 80, size=2)
        amplitudes = rng.uniform(0, 0.5, size=2) * speed * periods / (2 * np.pi)  # each adds at most speed / 2
        return cls(speed * rng.uniform(-1, 1), origin, amplitudes, periods, rng.uniform(0, 2 * np.pi, size=2))

    def __call__(self, time: float) -> float:
        return self._at(time) - self._at(self.origin)

    def _at(self, time: float) -> float:
        return float(self.velocity * time + self.amplitudes @ np.sin(2 * np.pi * time / self.periods + self.phases))


@dataclass(frozen=True)
class Pose:
    """Similarity from HR pixels to a layer's own coordinates, as a function of time."""

    centre: tuple[float, float]  # HR position (x, y) of the layer's own origin at the time where the paths are zero
    x: SmoothPath
    y: SmoothPath
    angle: SmoothPath  # radians
    zoom: SmoothPath  # natural logarithm

    def matrix(self, time: float) -> np.ndarray:
        """[3, 3]: homogeneous HR position -> layer position, in HR pixels about the layer's origin."""
        shrink = np.exp(-self.zoom(time))
        cosine, sine = shrink * np.cos(self.angle(time)), shrink * np.sin(self.angle(time))
        x, y = self.centre[0] + self.x(time), self.centre[1] + self.y(time)
        linear = np.array([[cosine, sine], [-sine, cosine]])
        return np.vstack([np.column_stack([linear, -linear @ [x, y]]), [0, 0, 1]])


@dataclass(frozen=True)
class Layer:
    """A photograph, cut out by a mask unless it is the background."""

    texture: np.ndarray  # uint8 [h, w, 3], mirrored beyond its sides
    anchor: tuple[float, float]  # texture position (x, y) of the layer's origin
    density: float  # texture pixels per HR pixel
    pose: Pose
    mirrored: bool = False
    mask: np.ndarray | None = None  # uint8 [n, n], SUPERSAMPLE pixels per HR pixel, the layer's origin at its centre

    def colours(self, to_layer: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """The texture at the positions `to_layer` [3, 3] maps the pixels of an image of `size` (h, w) to."""
        matrix = _similarity(self.density, *self.anchor) @ to_layer
        if self.mirrored:
            matrix[0] = 2 * self.anchor[0] * matrix[2] - matrix[0]
        return cv2.warpAffine(self.texture, matrix[:2], size[::-1], flags=_LINEAR, borderMode=cv2.BORDER_REFLECT_101)

    def opacity(self, to_layer: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """The mask likewise, uint8 [h, w]; zero beyond it."""
        assert self.mask is not None
        middle = (self.mask.shape[0] - 1) / 2
        matrix = _similarity(SUPERSAMPLE, middle, middle) @ to_layer
        return cv2.warpAffine(self.mask, matrix[:2], size[::-1], flags=_LINEAR)


_LINEAR = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP  # OpenCV 4 rounds positions to 1/32 pixel here, OpenCV 5 does not


@dataclass(frozen=True)
class Scene:
    """Layers from back to front, seen in a window of `size` (h, w)."""

    size: tuple[int, int]
    layers: tuple[Layer, ...]

    def frame(self, time: float) -> np.ndarray:
        """The instantaneous picture at one time, uint8 [h, w, 3]."""
        h, w = self.size
        fine = (h * SUPERSAMPLE, w * SUPERSAMPLE)
        offset = (1 / SUPERSAMPLE - 1) / 2  # the first of the finer pixels lies this far from the first pixel
        to_pixels = _similarity(1 / SUPERSAMPLE, offset, offset)
        background, *front = self.layers
        picture = background.colours(background.pose.matrix(time) @ to_pixels, fine)
        for layer in front:
            to_layer = layer.pose.matrix(time) @ to_pixels
            opacity = layer.opacity(to_layer, fine)
            if opacity.any():
                share = opacity.astype(np.float32) / 255
                picture = cv2.blendLinear(layer.colours(to_layer, fine), picture, share, 1 - share)
        return cv2.resize(picture, (w, h), interpolation=cv2.INTER_AREA)

    def frames(self, times: np.ndarray) -> np.ndarray:
        """Instantaneous pictures, uint8 [n, h, w, 3]."""
        return np.stack([self.frame(time) for time in times])

    def expose(self, start: float, duration: float) -> np.ndarray:
        """What a shutter that is open during [start, start + duration) records, uint8 [h, w, 3].

        As many samples as keep anything from moving more than half a pixel between two of them.
        """
        samples = max(1, int(np.ceil(self.largest_motion(start, start + duration) / _EXPOSURE_STEP)))
        times = start + (np.arange(samples) + 0.5) * duration / samples
        return np.rint(np.mean([self.frame(time) for time in times], axis=0)).astype(np.uint8)

    def flow(self, a: float, b: float) -> tuple[np.ndarray, np.ndarray]:
        """Exact motion of what is seen at time `a` until time `b`.

        Returns:
            flow: float32 [h, w, 2], pixels (dx, dy): the frame of `b`, sampled at p + flow, shows what the frame of `a`
                has at p.
            visible: bool [h, w], where that is still inside the window and not covered by another layer at `b`.
        """
        h, w = self.size
        grid = np.stack(np.meshgrid(np.arange(w), np.arange(h)), axis=-1).astype(np.float64)
        labels_a, labels_b = self._labels(a), self._labels(b)
        target = np.empty_like(grid)
        for number, layer in enumerate(self.layers):
            motion = np.linalg.inv(layer.pose.matrix(b)) @ layer.pose.matrix(a)
            here = labels_a == number
            target[here] = grid[here] @ motion[:2, :2].T + motion[:2, 2]
        nearest = np.rint(target).astype(int)
        inside = ((nearest >= 0) & (nearest < [w, h])).all(axis=-1)
        x, y = nearest[..., 0].clip(0, w - 1), nearest[..., 1].clip(0, h - 1)
        return (target - grid).astype(np.float32), inside & (labels_b[y, x] == labels_a)

    def largest_motion(self, a: float, b: float) -> float:
        """Pixels that any corner of the window moves with any layer between two times."""
        h, w = self.size
        corners = np.array([[x, y, 1] for x in (0, w - 1) for y in (0, h - 1)], dtype=np.float64)
        motions = [np.linalg.inv(layer.pose.matrix(b)) @ layer.pose.matrix(a) for layer in self.layers]
        return max(float(np.linalg.norm((corners @ m.T - corners)[:, :2], axis=1).max()) for m in motions)

    def _labels(self, time: float) -> np.ndarray:
        """Number of the layer seen at each pixel, [h, w]."""
        labels = np.zeros(self.size, dtype=np.int64)
        for number, layer in enumerate(self.layers[1:], start=1):
            labels[layer.opacity(layer.pose.matrix(time), self.size) > 127] = number
        return labels


def load_photos(options: SourceOptions, path: str) -> list[list[np.ndarray]]:
    """Every photograph below `options.path`, reduced, each as a pyramid of halvings.

    Args:
        path: the option's dotted path, for errors.

    Raises:
        InputError: no photographs, an unreadable or a tiny one.
    """
    folder = Path(options.path)
    if not options.path or not folder.is_dir():
        raise InputError(f"{path}.path: must be a folder of photographs, got {options.path!r}")
    files = [f for f in sorted(folder.rglob("*")) if is_image(f) and not _is_hidden(f.relative_to(folder))]
    files = [f for f in files if f.name not in options.exclude and f.stem not in options.exclude]
    unique = list({file.resolve(): file for file in files}.values())  # wallpapers come as many links to one picture
    if not unique:
        raise InputError(f"{path}.path: folder {folder} holds no photographs")
    return [_pyramid(file, options.reduce, path) for file in unique]


def _is_hidden(path: Path) -> bool:
    """Whether a file or a folder above it is one that file managers keep for themselves, such as their thumbnails."""
    return any(part.startswith(".") for part in path.parts)


def _pyramid(file: Path, reduce: int, path: str) -> list[np.ndarray]:
    photo = read_image(file)
    height, width = photo.shape[0] // reduce, photo.shape[1] // reduce
    if min(height, width) < _SMALLEST_PHOTO:
        raise InputError(f"{path}.path: {file} must be at least {_SMALLEST_PHOTO} pixels a side, got {height}x{width}")
    levels = [cv2.resize(photo, (width, height), interpolation=cv2.INTER_AREA) if reduce > 1 else photo]
    while min(levels[-1].shape[:2]) >= 2 * _SMALLEST_PHOTO:
        previous = levels[-1]
        half = (previous.shape[1] // 2, previous.shape[0] // 2)
        levels.append(cv2.resize(previous, half, interpolation=cv2.INTER_AREA))
    return levels


def draw_scene(
    rng: np.random.Generator,
    photos: list[list[np.ndarray]],
    size: tuple[int, int],
    duration: float,
    speed: tuple[float, float] = (0.1, 4.0),
    layers: int = 3,
    candidates: int = 1,
) -> Scene:
    """A random scene that lasts `duration` HR frames.

    Args:
        photos: pyramids, of `load_photos`.
        size: (h, w) of the window, HR pixels.
        speed: range of the typical velocity, pixels per HR frame, drawn log-uniformly for the camera and for each
            layer.
        layers: at most so many before the background; their number is drawn.
        candidates: of so many random places in the photographs a layer shows the one with the most detail.
    """
    camera = _draw_speed(rng, speed)
    background = _draw_layer(rng, photos, size, duration, camera, candidates, mask=False)
    front = [
        _draw_layer(rng, photos, size, duration, _draw_speed(rng, speed), candidates, mask=True)
        for _ in range(int(rng.integers(0, layers + 1)))
    ]
    return Scene(size, (background, *front))


def _draw_speed(rng: np.random.Generator, speed: tuple[float, float]) -> float:
    return float(np.exp(rng.uniform(*np.log(speed))))


def _draw_layer(
    rng: np.random.Generator,
    photos: list[list[np.ndarray]],
    size: tuple[int, int],
    duration: float,
    speed: float,
    candidates: int,
    mask: bool,
) -> Layer:
    h, w = size
    # Turning and zooming move the window's sides by half of the speed at most, and never spin or run away.
    turn = min(rng.uniform(0, 1) * speed / max(size), 0.02)
    grow = min(rng.uniform(0, 1) * speed / max(size), 0.5 / max(duration, 1))
    middle = float(rng.uniform(0, duration))  # when a layer is where it was put, so that it is seen at some time
    position = rng.uniform(0, 1, size=2) * (w - 1, h - 1) if mask else ((w - 1) / 2, (h - 1) / 2)
    direction = rng.uniform(0, 2 * np.pi)
    pose = Pose(
        (float(position[0]), float(position[1])),
        SmoothPath.draw(rng, speed * abs(np.cos(direction)), middle),
        SmoothPath.draw(rng, speed * abs(np.sin(direction)), middle),
        SmoothPath.draw(rng, turn, middle),
        SmoothPath.draw(rng, grow, middle),
    )
    # 1 to 2 texture pixels for each of the samples of a pixel: as sharp as a camera, from the level that needs no more.
    places = []
    for _ in range(candidates):
        pyramid = photos[int(rng.integers(len(photos)))]
        density = SUPERSAMPLE * float(np.exp(rng.uniform(0, np.log(2))))
        texture = pyramid[min(int(rng.integers(0, 3)), len(pyramid) - 1)]
        anchor = rng.uniform(0, 1, size=2) * (texture.shape[1] - 1, texture.shape[0] - 1)
        places.append((texture, anchor, density))
    texture, anchor, density = (
        places[0] if candidates == 1 else max(places, key=lambda place: _detail(place[0], place[1], size))
    )
    shape = _draw_mask(rng, float(rng.uniform(0.12, 0.45) * min(size))) if mask else None
    return Layer(texture, (float(anchor[0]), float(anchor[1])), density, pose, bool(rng.random() < 0.5), shape)


def _detail(texture: np.ndarray, anchor: np.ndarray, size: tuple[int, int]) -> float:
    """How much there is to see around `anchor` (x, y).

    Of four quarters of what a window shows, the least mean gradient.
    """
    h, w = (min(2 * n, m) for n, m in zip(size, texture.shape[:2], strict=True))
    left, top = (
        int(np.clip(c - n / 2, 0, m - n)) for c, n, m in zip(anchor, (w, h), texture.shape[1::-1], strict=True)
    )
    grey = texture[top : top + h : 2, left : left + w : 2, 1].astype(np.int16)
    quarters = [half for rows in np.array_split(grey, 2) for half in np.array_split(rows, 2, axis=1)]
    return min(float(np.abs(np.diff(q, axis=0)).mean() + np.abs(np.diff(q, axis=1)).mean()) for q in quarters)


def _draw_mask(rng: np.random.Generator, radius: float) -> np.ndarray:
    """A random smooth or cornered blob of about this radius in HR pixels, uint8 with soft edges."""
    corners = int(rng.choice([3, 4, 5, 96]))
    angles = np.linspace(0, 2 * np.pi, corners, endpoint=False) + rng.uniform(0, 2 * np.pi)
    orders = np.arange(1, 6)
    waves = np.cos(angles[:, None] * orders + rng.uniform(0, 2 * np.pi, size=5)) @ (
        rng.normal(0, 0.25, size=5) / orders
    )
    contour = radius * SUPERSAMPLE * np.clip(1 + waves, 0.3, 1.7)
    side = 2 * int(np.ceil(contour.max() + 2))
    points = contour[:, None] * np.column_stack([np.cos(angles), np.sin(angles)]) + (side - 1) / 2
    mask = np.zeros((side, side), dtype=np.uint8)
    cv2.fillPoly(mask, [np.rint(points * 16).astype(np.int32)], 255, lineType=cv2.LINE_AA, shift=4)
    return mask


def _similarity(scale: float, x: float, y: float) -> np.ndarray:
    return np.array([[scale, 0, x], [0, scale, y], [0, 0, 1]], dtype=np.float64)
