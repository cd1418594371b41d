"""python -m tests.fuzz --cases 500 | --minutes 30 [--seed 1] [--kinds images,stores] [--only images:17]"""

from __future__ import annotations

import argparse
import os
import resource
import selectors
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch

from davsr.errors import InputError
from tests.fuzz.base import Kind
from tests.fuzz.kinds import KINDS

SECONDS = 20  # of the processor, for one case: the system ends a process that takes more
MEMORY = 2 * 2**30  # bytes that a case may have resident
_PATIENCE = 600.0  # seconds without a word from a worker that waits for nothing, on the slowest of machines
OUTCOMES = ("taken", "refused", "fault", "crash", "hang", "memory")


@dataclass
class Tally:
    """What became of the cases of all kinds, and how each fault can be seen again."""

    counts: dict[str, Counter[str]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def add(self, kind: str, number: int, outcome: str, detail: str) -> None:
        self.counts.setdefault(kind, Counter())[outcome] += 1
        if outcome not in ("taken", "refused"):
            self.faults.append(f"{kind}:{number}  {outcome}  {detail}")

    def table(self) -> str:
        rows = [f"{'kind':12}{'cases':>8}" + "".join(f"{name:>9}" for name in OUTCOMES)]
        for kind, counts in [*sorted(self.counts.items()), ("all", sum(self.counts.values(), Counter()))]:
            rows.append(f"{kind:12}{counts.total():8}" + "".join(f"{counts[name]:9}" for name in OUTCOMES))
        return "\n".join(rows)


def schedule(seed: int, names: list[str]) -> Iterator[tuple[str, int]]:
    """(kind, number) for ever; kinds by their weights, a function of the seed."""
    rng = np.random.default_rng(seed)
    weights = np.array([KINDS[name].weight for name in names])
    numbers = Counter[str]()
    while True:
        for choice in rng.choice(len(names), size=1000, p=weights / weights.sum()):
            yield names[choice], numbers[names[choice]]
            numbers[names[choice]] += 1


def run_case(kind: Kind, seed: int, name: str, number: int, scratch: Path) -> tuple[str, str]:
    """Outcome and detail of one case."""
    rng = np.random.default_rng([seed, sorted(KINDS).index(name), number])
    folder = Path(tempfile.mkdtemp(dir=scratch))
    _reset_peak()
    try:
        kind.run(rng, folder)
        outcome, detail = "taken", ""
    except InputError as error:
        text = str(error)
        outcome, detail = (
            ("refused", "") if text.isprintable() and len(text) < 3000 else ("fault", f"message {text[:80]!r}")
        )
    except (Exception, KeyboardInterrupt, SystemExit) as error:
        trace, place = error.__traceback__, ""
        while trace is not None:
            place = f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
            trace = trace.tb_next
        outcome, detail = "fault", f"{type(error).__name__} at {place}: {' '.join(str(error).split())[:200]}"
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    peak = _peak()
    return (outcome, detail) if peak <= MEMORY or outcome == "fault" else ("memory", f"{peak / 2**30:.1f} GiB")


def _reset_peak() -> None:
    path = Path("/proc/self/clear_refs")
    if path.exists():
        path.write_text("5")


def _peak() -> int:
    """Largest resident memory since `_reset_peak`, where the system tells."""
    path = Path("/proc/self/status")
    lines = path.read_text().splitlines() if path.exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)


class Worker:
    """A forked process that runs the cases it is sent; a crash or a hang costs this process alone."""

    def __init__(self, names: list[str], seed: int, scratch: Path) -> None:
        self.case: tuple[str, int] | None = None
        self.since = time.monotonic()
        task_read, self.tasks = os.pipe()
        self.answers, answer_write = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self.tasks)
            os.close(self.answers)
            try:
                _serve(names, seed, scratch, task_read, answer_write)
            finally:
                os._exit(1)
        os.close(task_read)
        os.close(answer_write)

    def send(self, name: str, number: int) -> None:
        self.case, self.since = (name, number), time.monotonic()
        os.write(self.tasks, f"{name} {number}\n".encode())

    def close(self, gone: bool) -> int:
        """How the process ended; one that is not gone is ended: processes forked later hold its pipe open."""
        if not gone:
            os.kill(self.pid, signal.SIGKILL)
        os.close(self.tasks)
        os.close(self.answers)
        return os.waitpid(self.pid, 0)[1]


def _serve(names: list[str], seed: int, scratch: Path, tasks: int, answers: int) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_DATA, (6 * MEMORY, 6 * MEMORY))
    os.chdir(scratch)
    kinds = {}
    for name in names:  # made here, not before the fork: threads of libraries do not come along
        kinds[name] = KINDS[name]()
        kinds[name].make(Path(tempfile.mkdtemp(dir=scratch)))
    with os.fdopen(tasks) as stream:
        for line in stream:
            name, number = line.split()
            signal.setitimer(signal.ITIMER_PROF, SECONDS)
            outcome, detail = run_case(kinds[name], seed, name, int(number), scratch)
            signal.setitimer(signal.ITIMER_PROF, 0)
            os.write(answers, f"{outcome}\t{detail}".encode("utf-8", "backslashreplace")[:2000] + b"\n")


def run(names: list[str], seed: int, cases: int, minutes: float, processes: int) -> Tally:
    """So many cases, or for so long."""
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    tally, end = Tally(), time.monotonic() + 60 * minutes
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=base) as scratch:
        todo = schedule(seed, names)
        left = cases if cases else 2**62
        workers: dict[int, Worker] = {}
        with selectors.DefaultSelector() as selector:

            def begin() -> None:
                nonlocal left
                if left <= 0 or (not cases and time.monotonic() > end):
                    return
                worker = Worker(names, seed, Path(scratch))
                workers[worker.answers] = worker
                selector.register(worker.answers, selectors.EVENT_READ)
                left -= 1
                worker.send(*next(todo))

            def end_of(worker: Worker, outcome: str = "", gone: bool = False) -> None:
                selector.unregister(worker.answers)
                del workers[worker.answers]
                status = worker.close(gone)
                if worker.case is not None:
                    number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
                    ended = outcome or ("hang" if number == signal.SIGPROF else "crash")
                    tally.add(*worker.case, ended, signal.Signals(number).name if number else f"status {status}")

            for _ in range(processes):
                begin()
            while workers:
                for key, _ in selector.select(timeout=5):
                    worker = workers[key.fd]
                    answer = os.read(key.fd, 4096).decode("utf-8", "replace")
                    if not answer:
                        end_of(worker, gone=True)
                        begin()
                        continue
                    assert worker.case is not None
                    tally.add(*worker.case, *answer.rstrip("\n").split("\t", 1))
                    worker.case = None
                    if left > 0 and (cases or time.monotonic() < end):
                        left -= 1
                        worker.send(*next(todo))
                    else:
                        end_of(worker)
                for worker in list(workers.values()):
                    if time.monotonic() - worker.since > _PATIENCE:
                        end_of(worker, "hang")
                        begin()
    return tally


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", help="KIND:NUMBER, one case in this process, its traceback shown")
    args = parser.parse_args()
    if args.only:
        name, number = args.only.split(":")
        with tempfile.TemporaryDirectory() as scratch:
            kind = KINDS[name]()
            (Path(scratch) / "of").mkdir()
            kind.make(Path(scratch) / "of")
            (Path(scratch) / "case").mkdir()
            kind.run(np.random.default_rng([args.seed, sorted(KINDS).index(name), int(number)]), Path(scratch) / "case")
        return 0
    tally = run(args.kinds.split(","), args.seed, args.cases, args.minutes, args.processes)
    print(tally.table())
    print(f"seed {args.seed}; a case takes at most {SECONDS} s of the processor and {MEMORY / 2**30:g} GiB")
    for fault in sorted(tally.faults):
        print(fault)
    return 1 if tally.faults else 0


if __name__ == "__main__":
    sys.exit(main())
