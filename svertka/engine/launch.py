"""Launches: a kernel of a family, its numbers filled in, waiting for its pointers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from struct import Struct
from threading import get_ident
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from svertka.jit import engine, threads
from svertka.jit.fingerprint import fingerprint
from svertka.jit.parallel import parallel_module
from svertka.kernels.emit import FIRST
from svertka.kernels.family import Family
from svertka.kernels.target import Target, host


def kernel_text(family: Family, spec: Any, schedule: Any, target: Target) -> str:
    """The IR of a kernel."""
    return str(parallel_module(family.name, target, lambda e, *arguments: family.write(spec, schedule, e, *arguments)))


def kernel(family: Family, spec: Any, schedule: Any, target: Target) -> engine.Loaded:
    """The kernel of a spec and a schedule, compiled or loaded on first use, once for all threads."""
    key = (family, spec, schedule, target)
    found = _kernels.get(key)
    if found is None:
        with engine.alone():
            found = _kernels.get(key) or _loaded(*key)
            _kernels[key] = found
    return found


_kernels: dict[tuple[Family, Any, Any, Target], engine.Loaded] = {}


def _loaded(family: Family, spec: Any, schedule: Any, target: Target) -> engine.Loaded:
    def write() -> str:
        return kernel_text(family, spec, schedule, target)

    if not _described(family, spec, schedule):
        return engine.load(write(), target, family.name)
    return engine.load_recipe(lambda: _recipe(family, spec, schedule, target), write, target, family.name)


def _described(family: Family, *values: Any) -> bool:
    """Whether all that decides the IR is the package's code and what values show of themselves."""
    defined = [family.write.__module__, *(type(value).__module__ for value in values)]
    inside = all(module == "builtins" or module.startswith("svertka.") for module in defined)
    bound = getattr(family.write, "__closure__", None)  # by a function that was made for the occasion
    return inside and not bound and not any(" at 0x" in repr(value) for value in values)


def _recipe(family: Family, spec: Any, schedule: Any, target: Target) -> str:
    """A text that is the same only for the same IR."""
    writers = (family.write, parallel_module, type(spec), type(schedule))
    code = fingerprint("svertka", {writer.__module__ for writer in writers})
    return "\n".join(map(repr, (code, family.name, family.write.__qualname__, spec, schedule, target)))


# Who writes down the launches of a thread, by its number, instead of letting them run: see `compiler.recorder`.
recorders: dict[int, Any] = {}


def recorder() -> Any:
    """This thread's recorder, or None."""
    return recorders.get(get_ident()) if recorders else None


@contextmanager
def not_recording() -> Iterator[None]:
    """For what is to run at once, whoever writes down the rest."""
    paused = recorders.pop(get_ident(), None) if recorders else None
    if paused is None:
        yield
        return
    try:
        with _disable_current_modes():
            yield
    finally:
        recorders[get_ident()] = paused


class Launch:
    """One call of a kernel, all but the pointers known: `launch(*pointers)` with addresses in the family's order.

    Args:
        family, spec, schedule: the kernel.
        tasks: into how many tasks the work is cut.
        numbers: the family's numbers by name.
    """

    __slots__ = ("_pack", "_run", "_tail", "family", "kernel", "numbers", "schedule", "tasks")

    def __init__(self, family: Family, spec: Any, schedule: Any, tasks: int, **numbers: int) -> None:
        if set(numbers) != set(family.numbers):
            raise TypeError(f"{family.name} takes {family.numbers}, not {tuple(numbers)}")
        self.family, self.schedule = family, schedule
        self.kernel = kernel(family, spec, schedule, host())
        self._run = self.kernel.run
        self.tasks, self.numbers = tasks, tuple(numbers[name] for name in family.numbers)
        self._pack = Struct(f"{FIRST + len(family.pointers)}q").pack
        self._tail = Struct(f"{len(family.numbers)}q").pack(*self.numbers)

    def bound(self, *pointers: int) -> Callable[[], None]:
        """The call by one thread with these pointers, as quick as can be."""
        return partial(self._run, self._slots(*pointers), 1)

    def _slots(self, *pointers: int) -> bytes:
        return self._pack(threads.team_address(), self.tasks, *pointers) + self._tail

    def __call__(self, *pointers: int) -> None:
        if recorders and get_ident() in recorders:
            recorders[get_ident()].launched(self, pointers)
            return
        tasks = self.tasks
        slots = self._pack(threads.team_address(), tasks, *pointers) + self._tail
        self._run(slots, 1 if tasks == 1 else threads.usable(min(torch.get_num_threads(), tasks)))


def address(tensor: Tensor | None) -> int:
    """A tensor's address; 0 of none."""
    return 0 if tensor is None else tensor.data_ptr()


@lru_cache(maxsize=64)
def constant_line(count: int, value: float = 0.0) -> Tensor:
    """So many floats of one value, for taps outside."""
    return torch.full((count,), value)
