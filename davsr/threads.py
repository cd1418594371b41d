"""How threads wait for work: decided before torch is loaded, as OpenMP and BLAS read their settings only then."""

from __future__ import annotations

import os

# About 20 microseconds: longer than from one operation of a network to the next, far shorter than a turn of the
# scheduler.
_SPIN = "1000"
_BLAS_SPIN = "4"  # 2^4 turns, the least; else 2^26, a tenth of a second after each use of NumPy's OpenBLAS


def sleep_when_idle() -> None:
    """Let idle threads sleep soon instead of spinning for milliseconds; what the user has set in the environment stays.

    A thread of OpenMP that waits for another spins, by default, up to 300000 times (libgomp) or 200 ms (libomp). Beside
    another program it thereby uses up the time of the very thread it waits for: small operations then take ten to
    twenty times as long.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", _SPIN)
        os.environ.setdefault("KMP_BLOCKTIME", "0")
        os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", _BLAS_SPIN)
