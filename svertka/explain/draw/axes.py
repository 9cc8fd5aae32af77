"""One axis as it is drawn: the places from left to right, what stands at each, and where each window lies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from svertka.window import OUTSIDE, TransposedWindow, Window

# Places of the input, and outputs, that are drawn on an axis, for 1 to 3 axes; more only if one window needs them.
MOST = (24, 16, 8)


@dataclass(frozen=True)
class Mark:
    """What stands at a place.

    Args:
        kind: "input", "padding", or "nothing" (a gap of a transposed window, or past the end of the padding).
        source: the input that stands there or that the padding repeats; −1 if none.
    """

    kind: str
    source: int


@dataclass(frozen=True)
class Axis:
    """An axis, or the part of it that is drawn.

    Args:
        outputs: those whose windows are drawn.
        size: number of outputs in all.
        first: the first place drawn; columns count from it.
        places: what stands at each place drawn.
        looks: for each output drawn, the (tap, column) of its window.
        whole: whether nothing is cut off.
    """

    outputs: range
    size: int
    first: int
    places: tuple[Mark, ...]
    looks: tuple[tuple[tuple[int, int], ...], ...]
    whole: bool

    def window(self, output: int) -> tuple[tuple[int, int], ...]:
        """(tap, column) of each tap of an output's window, from left to right."""
        return self.looks[output - self.outputs.start]

    def place(self, output: int, tap: int) -> int:
        """The place that a tap of an output looks at."""
        return self.first + dict(self.window(output))[tap]

    def mark(self, place: int) -> Mark:
        """What stands at a place."""
        return self.places[place - self.first]


def axis(window: Any, n: int, at: int, size: int, most: int) -> Axis:
    """The axis of a window on n inputs; cut to a part with output `at` in it, if it is too long.

    Args:
        window: a Window, TransposedWindow or Segments.
        n: number of inputs.
        at: the output that must be drawn.
        size: number of outputs of the operation; more than the window's own if it gives several for one window.
        most: places, and outputs, that are drawn.
    """
    moving = isinstance(window, (Window, TransposedWindow))
    table = window.places(n) if moving else window.sources(n)
    table = np.broadcast_to(table, (size, table.shape[1])) if len(table) == 1 else table
    span = window.span(n) if moving else (0, n - 1)
    looked = [[int(p) for p in row if moving or p != OUTSIDE] for row in table]
    lows, highs = [min(row) for row in looked], [max(row) for row in looked]
    start, stop = _part(lows, highs, at, span, most)
    whole = (start, stop) == (0, size)
    first, last = span if whole else (min(lows[start:stop]), max(highs[start:stop]))
    marks = tuple(_mark(window, n, place) for place in range(first, last + 1))
    looks = tuple(
        tuple(sorted(((tap, int(place) - first) for tap, place in enumerate(row) if moving or place != OUTSIDE),
                     key=lambda look: look[1]))
        for row in table[start:stop]
    )  # fmt: skip
    return Axis(range(start, stop), size, first, marks, looks, whole)


def _part(lows: list[int], highs: list[int], at: int, span: tuple[int, int], most: int) -> tuple[int, int]:
    """Outputs start … stop − 1 around `at` that fit: all if they do, else as many as `most` places hold."""
    size = len(lows)
    if size <= most and span[1] - span[0] < most + max(h - low for low, h in zip(lows, highs, strict=True)):
        return 0, size
    start, stop = at, at + 1

    def fits(start: int, stop: int) -> bool:
        inside = start >= 0 and stop <= size and stop - start <= most
        return inside and max(highs[start:stop]) - min(lows[start:stop]) < most

    while fits(start, stop + 1) or fits(start - 1, stop):
        stop += fits(start, stop + 1)
        start -= fits(start - 1, stop)
    return start, stop


def _mark(window: Any, n: int, place: int) -> Mark:
    if not isinstance(window, (Window, TransposedWindow)):
        return Mark("input", place)
    source = int(window.extend(place, n))
    if isinstance(window, TransposedWindow):
        return Mark("input" if source != OUTSIDE else "nothing", source)
    if source == place != OUTSIDE:
        return Mark("input", source)
    return Mark("nothing" if place >= n + window.pads(n)[1] else "padding", source)
