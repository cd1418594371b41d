"""One process or many: collectives that also work alone."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from davsr.errors import InputError

_TIMEOUT = timedelta(minutes=30)  # of collectives: validation on one rank may take long

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """This process among `world` equal ones, as torchrun started them."""

    rank: int = 0
    world: int = 1
    local: int = 0

    @classmethod
    def from_environment(cls) -> Ranks:
        """As torchrun's variables say; alone without them.

        Raises:
            InputError: the variables are incomplete.
        """
        if int(os.environ.get("WORLD_SIZE", "1")) == 1:
            return cls()
        missing = [name for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
        if missing:
            raise InputError(f"train: WORLD_SIZE is set but {missing[0]} is not; start several processes with torchrun")
        return cls(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), int(os.environ["LOCAL_RANK"]))

    def join(self, device: torch.device, timeout: timedelta = _TIMEOUT) -> None:
        """Meet the other processes; `timeout` is how long one may keep the others waiting."""
        if self.world > 1:
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=timeout)

    def share(self, objective: nn.Module, device: torch.device) -> nn.Module:
        """The module with its gradients averaged over all ranks, every time all of its parameters have one."""
        if self.world == 1:
            return objective
        index = [device.index] if device.type == "cuda" else None
        return DistributedDataParallel(objective, device_ids=index, static_graph=True, gradient_as_bucket_view=True)

    @property
    def first(self) -> bool:
        """Whether this is the rank that writes."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """The sum of all ranks' `values`."""
        if self.world > 1:
            values = values.clone()
            dist.all_reduce(values)
        return values

    def gather(self, value: T) -> list[T]:
        """All ranks' values, by rank."""
        if self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        dist.all_gather_object(values, value)
        return values

    def barrier(self) -> None:
        """Wait for all ranks."""
        if self.world > 1:
            dist.barrier()

    def leave(self) -> None:
        """The end of an orderly run."""
        if dist.is_initialized():
            dist.destroy_process_group()
