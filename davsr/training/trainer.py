"""Training: options -> samples -> loss -> Adam -> checkpoints, on one process or many."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Iterator
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from davsr import config
from davsr.checkpoints.files import CheckpointFolder, load_checkpoint, save_checkpoint
from davsr.checkpoints.fit import load_strictly
from davsr.checkpoints.network import KEY as NETWORK
from davsr.checkpoints.network import network_section
from davsr.errors import InputError
from davsr.files import write_text
from davsr.guards.locks import locked
from davsr.log import BEGINS, logger, logging_to
from davsr.options import Options
from davsr.ranks import Ranks
from davsr.runtime import autocast, setup
from davsr.training.optimizer import AveragedModel, make_optimizer, restore_optimizer, set_rates
from davsr.training.record import Record, StepMeans, duration
from davsr.training.samples.dataset import load_batches
from davsr.training.signals import StopRequest
from davsr.training.state import Outcome, State, restored
from davsr.training.tasks import compile_stacks, offset_magnitude, open_task
from davsr.training.watch import Watch

_SMALLEST_SCALE = 2.0**-10  # of float16 gradients: once it has fallen so far, every step overflows


class TrainingError(RuntimeError):
    """A run that cannot go on: non-finite losses in a row, or another rank that died."""


def train(options: Options, *, auto_resume: bool = False) -> Outcome:
    """Train what `options.train.task` says, into `experiments/<name>/`.

    Args:
        options: see `options/train/*.yml`.
        auto_resume: go on from the newest checkpoint of that folder, if there is one.

    Raises:
        InputError: options, data or weights are wrong; named before training starts.
        TrainingError: non-finite losses in a row, or a rank that died.
    """
    ranks = Ranks.from_environment()
    folder = Path("experiments") / options.name
    with ExitStack() as closing:
        if ranks.first:
            closing.enter_context(locked(folder))
        log = folder / "log.txt" if ranks.first else None
        closing.enter_context(logging_to(log, console=ranks.first, waits=True))
        stop = closing.enter_context(StopRequest())
        device = setup(options, rank=ranks.local)
        ranks.join(device)
        closing.callback(ranks.leave)
        watch = Watch(ranks)
        closing.callback(watch.close)
        try:
            outcome = Trainer(options, folder, device, ranks, stop, auto_resume=auto_resume).run()
        except RuntimeError as error:
            gone = watch.explain()
            if gone:
                raise TrainingError(f"train: {gone}") from error
            raise
        ranks.barrier()  # until all have ended, all watch
        watch.close()
        ranks.barrier()  # rank 0 holds the store that the others ask
        return outcome


class Trainer:
    """One run: what it trains, where it stands, and the loop."""

    def __init__(
        self,
        options: Options,
        folder: Path,
        device: torch.device,
        ranks: Ranks,
        stop: StopRequest,
        *,
        auto_resume: bool,
    ) -> None:
        self.began = time.monotonic()
        self.options, self.folder, self.device, self.ranks, self.stop = options, folder, device, ranks, stop
        settings = options.train
        self.checkpoints = CheckpointFolder(folder / "checkpoints", settings.checkpoints_kept)
        newest = ranks.gather(self.checkpoints.newest())[0]
        if newest is not None and not auto_resume:
            raise InputError(f"train: {folder} holds a run already ({newest.name}); use --auto-resume, or another name")
        self.share, rest = divmod(settings.batch, ranks.world * settings.accumulate)
        if rest or not self.share:
            parts = f"{ranks.world} (processes) * {settings.accumulate} (train.accumulate)"
            raise InputError(f"train.batch: must be a multiple of {parts}, got {settings.batch}")

        torch.manual_seed(options.seed)  # every rank starts from the same weights
        self.task = open_task(options, device, ranks, fresh=newest is None)
        self.model = self.task.model.to(device)
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch knows it, its stubs do not
        self.model.train()
        self.optimizer = make_optimizer(self.model, settings)
        self.average = AveragedModel(self.model, settings.ema) if settings.ema else None
        self.scaler = torch.amp.GradScaler(device.type, enabled=options.precision == "float16")
        self.state = State()
        self.record = Record(folder, settings.tensorboard) if ranks.first else None
        if newest is not None:
            self._restore(newest)
        elif self.record:
            self.record.rewind(-1)  # figures of a run that ended before its first checkpoint
        self.first_step = self.state.step
        if settings.compile:
            compile_stacks(self.model)
        self.objective = ranks.share(self.task.objective, device)
        self._describe(newest)

    def run(self) -> Outcome:
        """Steps until the last one, the time limit or a signal; then a checkpoint."""
        settings, state = self.options.train, self.state
        if state.step == 0:
            self._validate()
        batches = load_batches(
            self.task.samples, self._indices(), self.options.data.workers, self.device.type == "cuda"
        )
        means = StepMeans()
        saved: int | None = state.step if self.checkpoints.newest() else None
        stopping = False
        while state.step < settings.iterations and not stopping:
            logged = (state.step + 1) % settings.log_every == 0 or state.step + 1 == settings.iterations
            stopping = self._step(batches, means, logged)
            if logged:
                self._log(means)
                means = StepMeans()
            if state.step % self.options.data.validation.every == 0 or state.step == settings.iterations:
                began = time.monotonic()
                self._validate()
                means.pause(time.monotonic() - began)
            if state.step % settings.checkpoint_every == 0:
                self._save()
                saved = state.step
        if saved != state.step:
            self._save()
        if self.record:
            self.record.close()
        if stopping:
            reason = self.stop.reason or ("train.minutes" if self._late() else "another rank was told to")
            logger.info("stopped after step %d (%s); go on with --auto-resume", state.step, reason)
        return Outcome(state, self.stop.signal, self.checkpoints.newest())

    def _step(self, batches: Iterator[Any], means: StepMeans, logged: bool) -> bool:
        """One step: gradients of this process's share, agreement with the others, Adam. Returns whether to stop."""
        settings, state = self.options.train, self.state
        rate = set_rates(self.optimizer, state.step, settings)
        self.optimizer.zero_grad(set_to_none=True)
        loss_sum = torch.zeros((), device=self.device)
        indices: list[int] = []
        with offset_magnitude(self.model, logged) as offsets:
            for part in range(settings.accumulate):
                began = time.monotonic()
                batch = next(batches)
                means.waited += time.monotonic() - began
                indices += batch["index"]
                inputs = self.task.inputs(batch, state.step)
                with self._without_sync() if part + 1 < settings.accumulate else nullcontext():
                    with autocast(self.options.precision, self.device):
                        loss, scalars = self.objective(*inputs)
                    self.scaler.scale(loss / settings.accumulate).backward()
                loss_sum += loss.detach() / settings.accumulate

        # Every rank learns of every rank's loss and wish to stop, so that all skip, count and stop together.
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.get_total_norm([p.grad for p in self.model.parameters() if p.grad is not None])
        mine = [loss_sum, ~loss_sum.isfinite(), torch.tensor(self.stop.signal > 0 or self._late(), device=self.device)]
        shared = self.ranks.sum(torch.stack([value.float() for value in mine]))
        # The one time in a step that the host waits for the device
        total, nonfinite, stops, size = torch.cat([shared, norm.view(1).to(shared)]).tolist()
        overflow = self.scaler.is_enabled() and not math.isfinite(size)
        if nonfinite or not (math.isfinite(size) or overflow):
            self._skip(indices, loss_sum, norm)
        else:
            if settings.clip_norm:
                nn.utils.clip_grads_with_norm_(self.model.parameters(), settings.clip_norm, norm)
            self.scaler.step(self.optimizer)  # leaves the weights alone where float16 overflowed
            state.nonfinite_row = 0
            if not overflow:
                state.updates += 1
                if self.average:
                    self.average.update(state.updates - 1)
            means.add(total / self.ranks.world, norm, rate, scalars, offsets)
        self.scaler.update()
        if self.scaler.is_enabled() and self.scaler.get_scale() < _SMALLEST_SCALE:
            raise TrainingError(
                f"train: float16 gradients overflow at every scale since step {state.step}; use bfloat16"
            )
        state.step += 1
        means.steps += 1
        return bool(stops)

    def _skip(self, indices: list[int], loss: Tensor, norm: Tensor) -> None:
        """A non-finite step leaves weights, moments and averages as they are; too many in a row end the run."""
        state = self.state
        state.nonfinite += 1
        state.nonfinite_row += 1
        guilty = self.ranks.gather(None if loss.isfinite() else (float(loss), indices))
        blame = "; ".join(f"rank {r}: loss {g[0]} on samples {g[1]}" for r, g in enumerate(guilty) if g is not None)
        logger.warning(
            "step %d skipped: %s", state.step + 1, blame or f"gradient norm {float(norm)} on samples {indices}"
        )
        self.optimizer.zero_grad(set_to_none=True)
        if self.scaler.is_enabled():  # the scaler wants to have seen every step: an infinite gradient is one it skips
            self.scaler.step(self.optimizer)
        limit = self.options.train.nonfinite_limit
        if state.nonfinite_row >= limit:
            raise TrainingError(
                f"train: {limit} non-finite steps in a row, the last one {state.step + 1} ({blame or 'gradient'}); "
                f"the last checkpoint is {self.checkpoints.newest()}"
            )

    def _indices(self) -> Iterator[list[int]]:
        """Samples of this process, part by part.

        Step n takes the indices from n * batch on, on any number of processes.
        """
        settings = self.options.train
        for step in range(self.state.step, settings.iterations):
            for part in range(settings.accumulate):
                first = step * settings.batch + (part * self.ranks.world + self.ranks.rank) * self.share
                yield list(range(first, first + self.share))

    def _without_sync(self) -> Any:
        """Gradients stay here until the last part of a step.

        The first step records the static graph, which needs them all.
        """
        if isinstance(self.objective, DistributedDataParallel) and self.state.step > self.first_step:
            return self.objective.no_sync()
        return nullcontext()

    def _late(self) -> bool:
        minutes = self.options.train.minutes
        return minutes > 0 and time.monotonic() - self.began > 60 * minutes

    def _validate(self) -> None:
        """Score the averaged weights where there are any; keep the best ones."""
        state = self.state
        model = self.average.model if self.average else self.model
        model.eval()
        figures = self.task.validate(model, self.ranks, self.folder / "validation" / f"{state.step:07d}")
        self.model.train()
        if not figures:
            return
        score = figures.pop(self.task.score)
        figures = {**figures, self.task.score.removeprefix("negative_"): abs(score)}
        if score > state.best:
            state.best, state.best_step = score, state.step
            if self.record:
                shipped = {
                    key: value for key, value in self._tree().items() if key not in ("optimizer", "scaler", "rng")
                }
                save_checkpoint(self.checkpoints.best, shipped)
        if self.record:
            self.record.write(state.step, figures)
            self.record.draw()
        shown = ", ".join(
            f"{name} {value:.{5 if 'loss' in name else 3}f}" for name, value in figures.items() if "/" not in name
        )
        logger.info("step %d: validation: %s%s", state.step, shown, " (best)" if state.best_step == state.step else "")

    def _log(self, means: StepMeans) -> None:
        """Write the figures of the steps since the last time."""
        state, settings = self.state, self.options.train
        figures = means.figures()
        figures["skipped"] = state.nonfinite
        if self.scaler.is_enabled():
            figures["scale"] = self.scaler.get_scale()
        left = (settings.iterations - state.step) * figures["step_seconds"]
        logger.info("step %d/%d: %s, %s left", state.step, settings.iterations, means.line(), duration(left))
        if self.record:
            self.record.write(state.step, figures)
            if state.step % (10 * settings.log_every) == 0:
                self.record.draw()

    def _tree(self) -> dict[str, Any]:
        """Everything that the next process needs to go on, bit for bit."""
        return {
            "model": self.model.state_dict(),
            "ema": self.average.model.state_dict() if self.average else None,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "rng": torch.get_rng_state(),
            **dataclasses.asdict(self.state),
            NETWORK: network_section(self.options),
            "options": config.to_tree(self.options),
        }

    def _save(self) -> None:
        if self.ranks.first:
            self.checkpoints.save(self._tree())

    def _restore(self, file: Path) -> None:
        tree = load_checkpoint(file)
        for name, module in (("model", self.model), ("ema", self.average.model if self.average else None)):
            if module is None:
                continue
            if tree.get(name) is None:
                raise InputError(f"checkpoint {file}: holds no {name} weights; the run was started without train.ema")
            load_strictly(module, tree[name], f"checkpoint {file}")
        restore_optimizer(self.optimizer, tree.get("optimizer"), str(file))
        try:
            if self.scaler.is_enabled() and tree.get("scaler"):
                self.scaler.load_state_dict(tree["scaler"])
            torch.set_rng_state(tree["rng"])
        except (KeyError, TypeError, RuntimeError, AttributeError) as error:
            raise InputError(f"checkpoint {file}: its generator or scaler cannot be restored ({error})") from None
        self.state = restored(tree, str(file))
        if self.record:
            self.record.rewind(self.state.step)

    def _describe(self, newest: Path | None) -> None:
        """Say what is about to happen, and leave the options beside it."""
        settings = self.options.train
        self.folder.mkdir(parents=True, exist_ok=True)
        logger.info("run: %s", self.folder, extra=BEGINS)
        for source in self.task.samples.sources:
            logger.info("data: %s", source.describe())
        logger.info(
            "model: %.3f M parameters, %s on %s; step of %d samples: %d process(es) x %d part(s) x %d",
            sum(p.numel() for p in self.model.parameters()) / 1e6,
            self.options.precision,
            self.device,
            settings.batch,
            self.ranks.world,
            settings.accumulate,
            self.share,
        )
        if newest is not None:
            logger.info("goes on from %s", newest)
        if self.ranks.first:
            write_text(self.folder / "options.yml", config.to_yaml(self.options))
