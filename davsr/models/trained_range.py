"""What a model has learned from, and what lies outside."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from davsr.log import logger
from davsr.options import DegradationOptions, Options


@dataclass(frozen=True)
class TrainedRange:
    """What a model learned from. Outside of it the data step still holds, the learned part is a guess."""

    scale: tuple[int, int, int]
    psf: str
    exposures: tuple[float, float]  # shortest and longest, HR frames
    sigma: tuple[float, float]  # least and most noise

    @classmethod
    def of(cls, options: Options) -> TrainedRange:
        """That of a run with these options."""
        A, data = options.degradation, options.data
        exposures = data.exposures or (A.exposure or A.scale[0],)
        return cls(A.scale, A.psf, (min(exposures), max(exposures)), data.sigma)

    def outside(self, degradation: DegradationOptions, sigma: float) -> list[str]:
        """A line for everything that this model never saw."""
        exposure = degradation.exposure or degradation.scale[0]
        lines = []
        if degradation.scale != self.scale:
            lines.append(f"scale {_by(degradation.scale)}: the model was trained for {_by(self.scale)}")
        if degradation.psf != self.psf:
            lines.append(f"psf {degradation.psf}: the model was trained for {self.psf}")
        for name, value, (low, high) in (("exposure", exposure, self.exposures), ("sigma", sigma, self.sigma)):
            if not low <= value <= high:
                lines.append(f"{name} {value:g}: the model was trained for {low:g} to {high:g}")
        return lines

    def warn(self, degradation: DegradationOptions, sigma: float, consequence: str = "expect less") -> None:
        """Say in the log what lies outside, and what follows from it."""
        lines = self.outside(degradation, sigma)
        if lines:
            logger.warning("%s; %s", "; ".join(lines), consequence)


def _by(numbers: Iterable[int]) -> str:
    return "x".join(map(str, numbers))
