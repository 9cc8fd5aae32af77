"""Who computed what: the path that each call took, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

KERNEL, PORTABLE = "kernel", "portable"
_LIMIT = 10_000  # different calls that are told apart; further ones are counted together


@dataclass(frozen=True)
class Call:
    """A kind of call.

    Args:
        operation: its spec (or a name, where there is none).
        shape: the input's.
        path: "kernel" or "portable".
        detail: the kernel's family and schedule, or why the portable path was taken.
    """

    operation: Any
    shape: tuple[int, ...]
    path: str
    detail: str


_counts: dict[Call, int] = {}
_OTHERS = Call("other operations", (), "", f"beyond the first {_LIMIT} kinds of calls")


def note(call: Call) -> None:
    """Counts one call."""
    if call not in _counts and len(_counts) >= _LIMIT:
        call = _OTHERS
    _counts[call] = _counts.get(call, 0) + 1


def report(*, reset: bool = False) -> dict[Call, int]:
    """How many calls of each kind there were since the start or the last reset, in the order they first came."""
    counts = dict(_counts)
    if reset:
        _counts.clear()
    return counts
