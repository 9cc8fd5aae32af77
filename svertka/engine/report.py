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


def report(compiled: Any = None, *, reset: bool = False, measure: bool = False) -> Any:
    """Who computed what: by layers that were called one by one, or by a compiled network.

    Args:
        compiled: what `torch.compile` with the backend "svertka" or `svertka.compile` gave, or none.
        reset: count calls of layers anew.
        measure: also measure how long each part of the compiled network takes.

    Returns:
        How many calls of each kind there were since the start or the last reset, dict[Call, int], in the order they
        first came; of a compiled network list[compiler.report.PlanReport], one for each shape of inputs.
    """
    if compiled is not None:
        from svertka.compiler.report import report as of_network

        return of_network(compiled, measure=measure)
    counts = {}
    for call, entry in list(_tallies.items()):  # a copy in one go: other threads may add kinds of calls meanwhile
        count = entry.count
        if reset:
            entry.count -= count  # and count further calls
        if count:
            counts[call] = count
    return counts
