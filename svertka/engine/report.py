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


class Tally:
    """How often a kind of call was made since the last reset."""

    __slots__ = ("call", "count")

    def __init__(self, call: Call) -> None:
        self.call, self.count = call, 0


_tallies: dict[Call, Tally] = {}
_OTHERS = Call("other operations", (), "", f"beyond the first {_LIMIT} kinds of calls")


def tally(call: Call) -> Tally:
    """The tally of a kind of call; whoever makes one adds 1 to its `count`."""
    if call not in _tallies and len(_tallies) >= _LIMIT:
        call = _OTHERS
    return _tallies.setdefault(call, Tally(call))


def report(*, reset: bool = False) -> dict[Call, int]:
    """How many calls of each kind there were since the start or the last reset, in the order they first came."""
    counts = {call: tally.count for call, tally in _tallies.items() if tally.count}
    if reset:
        for entry in _tallies.values():
            entry.count = 0
    return counts
