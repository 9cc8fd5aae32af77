"""What the elements of a tensor see of one axis of a network's input: told in numbers, or place by place.

A `View` has the numbers that people call the receptive field (size, stride, offset; padding counted in), as long as all
elements see alike. A `Sight` has the very set of inputs that each element sees, however uneven they are. Both go
through the same windows of the index map.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from svertka.errors import GeometryError
from svertka.window import Segments, Table, TransposedWindow, Window

Shape = Sequence[int]
Bits = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Unknown:
    """A field that cannot be told, and why."""

    reason: str


@dataclass(frozen=True, eq=False)
class Picked:
    """A window by its table: what upsampling reads, and how a reshape repeats an axis.

    Args:
        table: int64 [outputs, taps]: the input that each tap reads; −1 where it reads none.
        reason: why its outputs don't all see alike.
    """

    table: Table
    reason: str

    def output_size(self, _: int) -> int:
        """The number of outputs."""
        return len(self.table)

    def sources(self, _: int, __: Any = np) -> Table:
        """The table."""
        return self.table


@dataclass(frozen=True)
class View:
    """What the elements of a tensor see of one axis of the network's input, in numbers.

    Args:
        window: how far they look: the window of the element at place 0 and the stride to the next.
        dim: the dimension of the tensor along which the window moves; None if all elements see the same.
        uneven: why the elements along `dim` see windows of different sizes or strides; `window` is then what they see
            together. Empty if they don't.
    """

    window: Window
    dim: int | None
    uneven: str = ""

    def together(self, shape: Shape) -> Window:
        """What all elements of a tensor of this shape see together, as a window of stride 1."""
        if self.dim is None or self.uneven:
            return self.window
        return replace(self.window.then(Window(shape[self.dim])), stride=1)

    def fixed(self, shape: Shape) -> View:
        """The view of elements that depend on all elements of a tensor of this shape."""
        return View(self.together(shape), None)

    def through(self, window: Any, shape: Shape) -> View | Unknown:
        """What the outputs of a window along `dim` see."""
        assert self.dim is not None
        n = shape[self.dim]
        if isinstance(window, Segments):
            regular = _regular(window, n)
            if window.count == 1:
                return self.fixed(shape)
            if regular is None:
                reason = f"adaptive pooling of {n} places to {window.count} uses uneven windows"
                return self._unevenly(window, shape, reason)
            window = regular
        if isinstance(window, TransposedWindow):
            return self._unevenly(
                window, shape, "the outputs of a transposed convolution see windows of different sizes"
            )
        if isinstance(window, Picked):
            return self._unevenly(window, shape, self.uneven or window.reason)
        if not isinstance(window, Window):
            return Unknown(f"what a {type(window).__name__} reads is not composed")
        if self.uneven:
            return self if window == Window(1) else self._unevenly(window, shape, self.uneven)
        return replace(self, window=self.window.then(window.at(n)))

    def _unevenly(self, window: Any, shape: Shape, reason: str) -> View | Unknown:
        """A view that has no one size: what all see together stays, if all places are read."""
        assert self.dim is not None
        n = shape[self.dim]
        if not np.isin(np.arange(n), window.sources(n)).all():
            return Unknown(f"{reason}, and some places are read by none")
        return View(self.together(shape), self.dim, reason)

    def union(self, other: View, shape: Shape) -> View | Unknown:
        """What elements see that depend on an element of each of two tensors of this shape."""
        if self == other:
            return self
        hull = self.together(shape).union(other.together(shape))
        if self.dim is None or other.dim is None:
            moving, fixed = (self, other) if other.dim is None else (other, self)
            if moving.dim is None or covers(fixed.window, moving.together(shape)):
                return View(hull, None)
            return View(hull, moving.dim, "one branch sees the same from all places and the other one does not")
        if self.dim != other.dim:
            return Unknown("branches meet that run along different axes of the input")
        if self.uneven or other.uneven:
            return View(hull, self.dim, self.uneven or other.uneven)
        try:
            return View(self.window.union(other.window), self.dim)
        except GeometryError as error:
            return View(hull, self.dim, str(error))


def covers(window: Window, other: Window) -> bool:
    """Whether one window reaches as far as another on both sides."""
    return window.union(other).extent == window.extent


def _regular(segments: Segments, n: int) -> Window | None:
    """The window that all segments are, if they are one."""
    starts, ends = segments.bounds(n)
    sizes, strides = set(map(int, ends - starts)), set(map(int, np.diff(starts)))
    if len(sizes) == 1 and len(strides) == 1 and min(strides) > 0:
        return Window(sizes.pop(), strides.pop())
    return None


@dataclass(frozen=True, eq=False)
class Sight:
    """What each element of a tensor sees of one axis of the network's input, place by place.

    Args:
        bits: uint8 [elements along `dim`, ⌈n / 8⌉], np.packbits of the n inputs of the axis; one row if dim is None.
        dim: the dimension of the tensor along which the elements differ.
        rough: whether inputs may be among them that are not seen.
    """

    bits: Bits
    dim: int | None
    rough: bool = False

    def fixed(self, _: Shape) -> Sight:
        """The sight of elements that depend on all elements of the tensor."""
        return Sight(np.bitwise_or.reduce(self.bits, axis=0, keepdims=True), None, self.rough)

    def through(self, window: Any, shape: Shape) -> Sight:
        """What the outputs of a window along `dim` see."""
        assert self.dim is not None
        n = shape[self.dim]
        if isinstance(window, Segments) and window.count == 1:
            return self.fixed(shape)
        rows = np.concatenate([self.bits, np.zeros_like(self.bits[:1])])  # the last is OUTSIDE's: −1
        bits = np.zeros((window.output_size(n), rows.shape[1]), np.uint8)
        for tap in window.sources(n).T:
            bits |= rows[tap]
        return replace(self, bits=bits)

    def within(self, other: Sight) -> bool:
        """Whether each element sees nothing here that it doesn't see there."""
        if self.dim != other.dim and other.dim is not None:
            return False
        return not (self.bits & ~other.bits).any()

    def placed(self, dim: int, before: int, length: int, n: int) -> Sight:
        """The same along a longer axis: `length` elements of n, of which those before and behind see nothing."""
        bits = self.bits if self.dim == dim else np.repeat(self.bits, length, axis=0)
        return replace(self, bits=np.pad(bits, ((before, n - before - length), (0, 0))), dim=dim)


def sights(size: Shape) -> tuple[Sight, ...]:
    """Of the input [N, C, *size] itself: every element sees its own place."""
    return tuple(Sight(np.packbits(np.eye(n, dtype=bool), axis=1), dim) for dim, n in enumerate(size, start=2))
