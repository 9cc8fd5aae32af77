"""Launches: a kernel of a family, its numbers filled in, waiting for its pointers."""

from __future__ import annotations

from functools import cache, lru_cache
from struct import Struct
from typing import Any

import torch
from torch import Tensor

from svertka.jit import engine, threads
from svertka.jit.parallel import parallel_module
from svertka.kernels.emit import FIRST
from svertka.kernels.family import Family
from svertka.kernels.target import Target, host


def kernel_text(family: Family, spec: Any, schedule: Any, target: Target) -> str:
    """The IR of a kernel."""
    return str(
        parallel_module(family.name, target, lambda e, *arguments: family.write(spec, schedule, e, *arguments))
    )


@cache
def kernel(family: Family, spec: Any, schedule: Any, target: Target) -> engine.Loaded:
    """The kernel of a spec and a schedule, compiled or loaded on first use."""
    return engine.load(kernel_text(family, spec, schedule, target), target, family.name)


class Launch:
    """One call of a kernel, all but the pointers known: `launch(*pointers)` with addresses in the family's order.

    Args:
        family, spec, schedule: the kernel.
        tasks: into how many tasks the work is cut.
        numbers: the family's numbers by name.
    """

    __slots__ = ("_fork", "_pack", "_run", "_tail", "_tasks", "schedule")

    def __init__(self, family: Family, spec: Any, schedule: Any, tasks: int, **numbers: int) -> None:
        if set(numbers) != set(family.numbers):
            raise TypeError(f"{family.name} takes {family.numbers}, not {tuple(numbers)}")
        self.schedule = schedule
        self._run = kernel(family, spec, schedule, host()).run
        self._fork, self._tasks = threads.fork_address(), tasks
        self._pack = Struct(f"{FIRST + len(family.pointers)}q").pack
        self._tail = Struct(f"{len(family.numbers)}q").pack(*(numbers[name] for name in family.numbers))

    def __call__(self, *pointers: int) -> None:
        tasks = self._tasks
        slots = self._pack(self._fork, tasks, *pointers) + self._tail
        self._run(slots, 1 if tasks == 1 else threads.usable(min(torch.get_num_threads(), tasks)))


def address(tensor: Tensor | None) -> int:
    """A tensor's address; 0 of none."""
    return 0 if tensor is None else tensor.data_ptr()


@lru_cache(maxsize=64)
def constant_line(count: int, value: float = 0.0) -> Tensor:
    """So many floats of one value, for taps outside."""
    return torch.full((count,), value)
