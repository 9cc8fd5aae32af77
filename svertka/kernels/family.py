"""Families: the kinds of kernels there are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from svertka.kernels.emit import Emitter, Value


@dataclass(frozen=True)
class Family:
    """One algorithm.

    Args:
        name: as reports name it.
        pointers, numbers: its arguments by name, in the order of their slots.
        write: `write(spec, schedule, emitter, slots, task, worker)` writes the function of one task.
    """

    name: str
    pointers: tuple[str, ...]
    numbers: tuple[str, ...]
    write: Callable[[Any, Any, Emitter, Value, Value, Value], None]
