"""python -m tests.kill [--runs 200] [--seed 1] [--only restore]

Each run takes a command and a moment, ends the command there with SIGKILL, SIGTERM or SIGINT, starts the same command
again, and compares what is there with what an undisturbed run leaves, bit for bit. Some runs start the command twice at
once; some give it a disk that fills up (a limit on the size of files), and start it again with room.

The moment is a number of events, not a time: of the calls by which files are opened, renamed, removed and synced, so
that every step of an ending is met, on slow machines as on fast ones. Processes are forked from this one, which has all
modules loaded and does nothing else: threads of libraries do not come along into a fork.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch

from davsr.cli import main as davsr
from tests.kill.commands import COMMANDS, Command, left, make_inputs

SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
WATCHED = {
    "open",
    "os.rename",
    "os.remove",
    "os.rmdir",
    "os.mkdir",
    "os.truncate",
    "shutil.rmtree",
    "os.listdir",
    "os.scandir",
}


@dataclass
class Counts:
    """What the runs came to."""

    runs: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


def start(folder: Path, arguments: list[str], before: Callable[[], None] | None = None) -> int:
    """Run a command in a forked process; its process number."""
    pid = os.fork()
    if pid:
        return pid
    code = 99
    try:
        with (folder / "said.txt").open("ab") as said:
            os.dup2(said.fileno(), 1)
            os.dup2(said.fileno(), 2)
        os.chdir(folder)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # as in a terminal, however this was started
        torch.set_num_threads(1)
        cv2.setNumThreads(0)
        if before is not None:
            before()
        code = davsr(arguments)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException as error:
        print(f"DEFECT {type(error).__name__}: {error}", file=sys.stderr, flush=True)
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def digest(command: Command, folder: Path) -> dict[str, str]:
    """What a command has left, each part as a short text; read in a process of its own."""
    with tempfile.TemporaryFile() as answer:
        pid = os.fork()
        if pid == 0:
            torch.set_num_threads(1)
            cv2.setNumThreads(0)
            parts = {
                name: hashlib.sha256(repr(part).encode()).hexdigest() for name, part in left(command, folder).items()
            }
            os.pwrite(answer.fileno(), json.dumps(parts).encode(), 0)
            os._exit(0)
        code = ended(pid)
        size = os.fstat(answer.fileno()).st_size
        return json.loads(os.pread(answer.fileno(), size, 0)) if code == 0 else {"unreadable": str(code)}


def ended(pid: int) -> int:
    """Exit code, or minus the signal."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def counting(end: int, number: int, report: int | None = None) -> Callable[[], None]:
    """In the process itself: the signal at the so manieth event; without a signal their number goes to the pipe."""

    def install() -> None:
        seen = 0

        def watch(event: str, _: object) -> None:
            nonlocal seen
            if event not in WATCHED:
                return
            seen += 1
            if report is not None:
                os.pwrite(report, f"{seen}\n".encode(), 0)
            elif seen == number:
                os.kill(os.getpid(), end)

        sys.addaudithook(watch)

    return install


def disk_of(size: int) -> Callable[[], None]:
    """No file grows beyond `size` bytes: the system answers as for a full disk."""

    def install() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return install


class Bench:
    """A command with its undisturbed result, and folders in which it is disturbed."""

    def __init__(self, command: Command, inputs: Path, scratch: Path) -> None:
        self.command, self.inputs, self.scratch = command, inputs, scratch
        self.events = 0
        folder = self.fresh()
        with tempfile.TemporaryFile() as report:
            code = ended(start(folder, self.command.arguments, counting(0, 0, report.fileno())))
            self.events = int(os.pread(report.fileno(), 20, 0).split()[0])
        if code != 0:
            raise SystemExit(f"{command.name} does not run undisturbed: {(folder / 'said.txt').read_text()[-2000:]}")
        self.expected = digest(command, folder)
        shutil.rmtree(folder)

    def fresh(self) -> Path:
        folder = Path(tempfile.mkdtemp(dir=self.scratch))
        for path in self.inputs.iterdir():
            (folder / path.name).symlink_to(path)
        if self.command.name == "restore over frames":
            (folder / "old").mkdir()
            for number in range(3):
                cv2.imwrite(str(folder / "old" / f"{number}.png"), np.full((8, 8, 3), number, np.uint8))
        return folder

    def check(self, folder: Path, code: int) -> str:
        """What is wrong with the end; empty: nothing."""
        said = (folder / "said.txt").read_text(errors="replace")
        if "Traceback" in said or "DEFECT" in said:
            return f"it said {said[-600:]}"
        if code not in (0, 2):
            return f"the second start ended with {code}: {said[-300:]}"
        if code == 2 and "exists; give --overwrite" not in said:
            return f"the second start was refused: {said[-300:]}"
        found = digest(self.command, folder)
        if found != self.expected:
            names = sorted(k for k in found.keys() | self.expected.keys() if found.get(k) != self.expected.get(k))
            return f"{len(names)} differ: {', '.join(names[:5])}"
        kept = {path.name for path in self.inputs.iterdir()} | {
            "said.txt",
            "results",
            "experiments",
            *self.command.results,
        }
        over = [
            p.name for p in folder.iterdir() if p.name not in kept and not p.name.endswith(".log") and "." in p.name[1:]
        ]
        over = [name for name in over if name.endswith((".part", ".partial", ".lock"))]
        return f"left over: {', '.join(over)}" if over and code == 0 else ""

    def killed(self, rng: np.random.Generator) -> tuple[str, str]:
        folder = self.fresh()
        number, end = int(rng.integers(1, self.events + 1)), SIGNALS[int(rng.integers(len(SIGNALS)))]
        starts = 1 + int(rng.random() < 0.2)  # some are ended twice
        for _ in range(starts):
            ended(start(folder, [*self.command.arguments, *self._again(folder)], counting(end, number)))
            number = max(number // 2, 1)
        code = ended(start(folder, [*self.command.arguments, *self._again(folder)]))
        return f"{signal.Signals(end).name}", self._done(folder, code, f"{signal.Signals(end).name} at event {number}")

    def twice(self, rng: np.random.Generator) -> tuple[str, str]:
        folder = self.fresh()
        pids = [start(folder, self.command.arguments) for _ in range(2)]
        codes = sorted(ended(pid) for pid in pids)
        fault = "" if codes in ([0, 0], [0, 2]) else f"two at once ended with {codes}"
        code = ended(start(folder, [*self.command.arguments, *self._again(folder)])) if 0 not in codes else 0
        return "two at once", fault or self._done(folder, code, "two at once")

    def full(self, rng: np.random.Generator) -> tuple[str, str]:
        folder = self.fresh()
        size = int(rng.choice([0, 100, 1000, 5000, 20_000, 100_000]))
        first = ended(start(folder, self.command.arguments, disk_of(size)))
        said = (folder / "said.txt").read_text(errors="replace")
        if first not in (0, 2) or "Traceback" in said or "DEFECT" in said:
            return "full disk", self._done(
                folder, first, f"a disk of {size} bytes ended it with {first}: {said[-400:]}"
            )
        code = ended(start(folder, [*self.command.arguments, *self._again(folder)]))
        return "full disk", self._done(folder, code, f"files of {size} bytes at most")

    def _again(self, folder: Path) -> list[str]:
        return list(self.command.again)

    def _done(self, folder: Path, code: int, how: str) -> str:
        fault = self.check(folder, code)
        if not fault:
            shutil.rmtree(folder)
        return f"{how}: {fault}" if fault else ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="commands whose name begins so")
    args = parser.parse_args()
    import davsr.checkpoints.command
    import davsr.evaluation.tester
    import davsr.prepare.command
    import davsr.restoration.command
    import davsr.restoration.polish_command
    import davsr.training.command  # noqa: F401  # loaded once, before processes are forked

    counts = Counts()
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=base) as scratch:
        inputs = Path(scratch) / "inputs"
        inputs.mkdir()
        maker = os.fork()  # decoders and encoders start threads, which must not be here when processes are forked
        if maker == 0:
            make_inputs(inputs)
            os._exit(0)
        if ended(maker) != 0:
            raise SystemExit("the inputs could not be made")
        benches = [Bench(c, inputs, Path(scratch)) for c in COMMANDS if c.name.startswith(args.only)]
        for number in range(args.runs):
            rng = np.random.default_rng([args.seed, number])
            bench = benches[number % len(benches)]
            way = [bench.killed, bench.killed, bench.killed, bench.twice, bench.full][number // len(benches) % 5]
            name, fault = way(rng)
            counts.runs[f"{bench.command.name}: {name}"] += 1
            if fault:
                counts.faults.append(f"run {number}, {bench.command.name}: {fault}")
                print(counts.faults[-1], flush=True)
    for name, count in sorted(counts.runs.items()):
        print(f"{name:40}{count:6}")
    print(f"{counts.runs.total()} runs, seed {args.seed}: {len(counts.faults)} lost something or differ")
    return 1 if counts.faults else 0


if __name__ == "__main__":
    sys.exit(main())
