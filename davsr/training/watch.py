"""A watch over the ranks of a run that names the one that died."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from datetime import timedelta

import torch.distributed as dist

from davsr.ranks import Ranks

_BEAT = 2.0  # seconds between signs of life
_DEAD = 30.0  # seconds of silence after which a rank counts as dead


class Watch:
    """Signs of life of all ranks, by a thread of each: a rank that falls silent ends the others, which name it.

    Without it a killed rank leaves the others waiting in a collective until its timeout.
    """

    def __init__(self, ranks: Ranks) -> None:
        self.ranks = ranks
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        if ranks.world > 1:
            # A connection of its own: the main thread may be blocked in the one of the process group.
            host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
            self._store = dist.TCPStore(  # type: ignore[attr-defined]  # not in its __all__
                host, port, is_master=False, wait_for_workers=False, timeout=timedelta(seconds=20)
            )
            self._store.set(f"davsr/host/{ranks.rank}", f"{socket.gethostname()}, process {os.getpid()}")
            self._store.set(f"davsr/beat/{ranks.rank}", "0")
            ranks.barrier()
            self._seen = dict.fromkeys(range(ranks.world), (b"", time.monotonic()))
            self._lock = threading.Lock()
            self._thread = threading.Thread(target=self._run, name="davsr-watch", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Stop watching. Ranks that still watch would take this one for dead: all of them come to an end together."""
        if self._thread is not None:
            self._stop.set()
            self._thread.join()

    def explain(self) -> str | None:
        """Which rank is gone, after an error that a lost connection may have caused; None: all are alive."""
        deadline = time.monotonic() + 6 * _BEAT
        while self._thread is not None and time.monotonic() < deadline:
            try:
                silent = self._silent(3 * _BEAT)
            except dist.DistError as error:
                return self._without_store(error)
            if silent:
                return self._name(silent)
            time.sleep(_BEAT / 4)
        return None

    def _run(self) -> None:
        count = 0
        while not self._stop.wait(_BEAT):
            count += 1
            try:
                self._store.set(f"davsr/beat/{self.ranks.rank}", str(count))
                silent = self._silent(_DEAD)
            except dist.DistError as error:
                if self._stop.wait(3 * _BEAT):  # the main thread may have noticed as well, and says so
                    return
                self._abort(self._without_store(error))
            if silent and not self._stop.is_set():
                self._abort(self._name(silent))

    def _silent(self, limit: float) -> list[int]:
        with self._lock:
            now, silent = time.monotonic(), []
            for rank in range(self.ranks.world):
                beat = self._store.get(f"davsr/beat/{rank}")
                if beat != self._seen[rank][0]:
                    self._seen[rank] = (beat, now)
                elif rank != self.ranks.rank and now - self._seen[rank][1] > limit:
                    silent.append(rank)
            return silent

    def _name(self, ranks: list[int]) -> str:
        who = ", ".join(f"rank {rank} ({self._store.get(f'davsr/host/{rank}').decode()})" for rank in ranks)
        return f"{who} died: it gives no sign of life; go on with --auto-resume from the last checkpoint"

    def _without_store(self, error: Exception) -> str:
        host = "torchrun" if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True" else "rank 0"
        return f"{host} died: it no longer holds the ranks together ({error}); go on with --auto-resume"

    def _abort(self, message: str) -> None:
        print(f"davsr: train: {message}", file=sys.stderr, flush=True)
        os._exit(1)  # the main thread hangs in a collective that cannot end
