"""Windows: which inputs each output looks at, on one axis, in integers.

A window of `size` taps, `dilation` apart, starts `padding[0]` places before the input and moves on by `stride`. Tap t
of output o therefore looks at the place

    place(o, t) = o · stride + t · dilation − before

and a place outside 0 … n − 1 is outside the input ("zeros") or stands for an input (the other modes). Output sizes,
pads, receptive fields, transposed windows and adjoints all follow from this one formula, and every other part of
Svertka takes them from here.

An N-d window is a tuple of these, one for each axis. Sizes are counted in elements. The formulas use nothing but
arithmetic operators, so they serve numpy arrays, torch tensors and symbolic integers alike.

Sources: Dumoulin & Visin, "A guide to convolution arithmetic for deep learning", 2018 (sizes, transposed windows);
Araujo, Norris & Sim, "Computing receptive fields of convolutional neural networks", Distill, 2019 (composition).
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from svertka.errors import GeometryError

Table = npt.NDArray[np.int64]

MODES = ("zeros", "replicate", "reflect", "symmetric", "circular")
PADDINGS = ("valid", "same", "same_upper", "same_lower")
OUTSIDE = -1

_OTHER_NAMES = {
    "constant": "'constant' means 'replicate' in the lecture and 'zeros' in torch",
    "mirror": "'mirror' is 'symmetric' when the edge is repeated and 'reflect' when it is not",
    "cyclic": "'cyclic' is called 'circular' here",
    "wrap": "'wrap' is called 'circular' here",
    "edge": "'edge' is called 'replicate' here",
}


class AxisWindow(Protocol):
    """What all windows of this file have: a map from (output, tap) to input on one axis."""

    def output_size(self, n: int) -> int:
        """The number of outputs for n inputs."""

    def sources(self, n: int, xp: Any = np) -> Any:
        """int64 [output_size(n), taps]: the input that each tap reads, −1 where it reads none.

        `xp` is the array library that makes the table: numpy, or torch (which may leave n symbolic).
        """


def sources(windows: Sequence[AxisWindow], size: Sequence[int], xp: Any = np) -> Any:
    """The N-d index map: which input each tap of each output reads.

    Args:
        windows: one for each axis.
        size: number of inputs on each axis.
        xp: numpy or torch.

    Returns:
        int64 [*output size, taps]: the input's row-major number, −1 outside; taps run in row-major order, too.
    """
    index = xp.zeros((1,), dtype=xp.int64)
    for window, n in zip(windows, size, strict=True):
        table = window.sources(n, xp)
        outer, inner = index[..., None, :, None], table[:, None, :]
        inside = (outer != OUTSIDE) & (inner != OUTSIDE)
        index = (outer * n + inner - OUTSIDE) * inside + OUTSIDE
        index = index.reshape(*index.shape[:-2], index.shape[-2] * index.shape[-1])
    return index


def readers(windows: Sequence[Window], size: Sequence[int]) -> list[Any]:
    """The N-d index map of the gradient: which outputs read each input, and by which taps.

    Returns:
        Maps int64 [*size, taps]: an output (its row-major number) that reads the input by the tap, −1 where there is
        none. The first map has all readers but where padding repeats an input, which one tap then reads more than once.
    """
    axes = [window.readers(n) for window, n in zip(windows, size, strict=True)]
    counts = [window.output_size(n) for window, n in zip(windows, size, strict=True)]
    maps = []
    for layer in np.ndindex(*(table.shape[2] for table in axes)):
        index = np.zeros((1,), dtype=np.int64)
        for table, k, count in zip(axes, layer, counts, strict=True):
            outer, inner = index[..., None, :, None], table[:, None, :, k]
            index = np.where((outer != OUTSIDE) & (inner != OUTSIDE), outer * count + inner, OUTSIDE)
            index = index.reshape(*index.shape[:-2], -1)
        maps.append(index)
    return [maps[0], *(index for index in maps[1:] if (index != OUTSIDE).any())]


def adjoint(windows: Sequence[AxisWindow], size: Sequence[int]) -> Adjoint:
    """The N-d map of the gradient as lists: the (output, tap) pairs that read each input, all by row-major numbers."""
    table = sources(windows, size)
    count, flat = table.shape[-1], table.reshape(-1)
    reading = np.flatnonzero(flat != OUTSIDE)
    order = reading[np.argsort(flat[reading], kind="stable")]
    starts = np.searchsorted(flat[order], np.arange(math.prod(size) + 1))
    return Adjoint(starts.astype(np.int64), order // count, order % count)


def taps(windows: Sequence[AxisWindow], size: Sequence[int], count: str, xp: Any = np) -> Any:
    """int64 [*output size]: the taps of each output, counted on each axis by the window's method named `count`."""
    total = xp.ones((), dtype=xp.int64)
    for window, n in zip(windows, size, strict=True):
        total = total[..., None] * getattr(window, count)(n, xp)
    return total


def extent(size: int, dilation: int) -> int:
    """Places from the first tap to the last, both counted: (size − 1) · dilation + 1."""
    return (size - 1) * dilation + 1


def integer(value: Any, name: str, least: int) -> int:
    """`value` as an int of at least `least`, or a GeometryError that calls it `name`."""
    try:
        number = operator.index(value)
    except TypeError:
        raise GeometryError(f"{name}={value!r} is not a whole number: give an int of at least {least}") from None
    if number < least:
        raise GeometryError(f"{name}={number} is too small: it must be at least {least}")
    return number


def check_mode(mode: str) -> str:
    """`mode` if it is one of MODES; else a GeometryError that lists them."""
    if mode in MODES:
        return mode
    hint = _OTHER_NAMES.get(mode, f"padding mode {mode!r} is unknown")
    raise GeometryError(f"{hint}: choose one of {', '.join(MODES)}")


def extend(place: Any, n: int, mode: str) -> Any:
    """The input that each place of the endless line stands for: the periodic extension of numpy.pad.

    Args:
        place: integers (int, numpy array or torch tensor); 0 … n − 1 is the input itself.
        n: number of inputs, at least 1 unless the mode is "zeros".
        mode: one of MODES.

    Returns:
        Indices 0 … n − 1 of the same kind as `place`; −1 where the place is outside (mode "zeros" only).
    """
    if mode == "zeros":
        return (place - OUTSIDE) * ((place >= 0) & (place < n)) + OUTSIDE
    if n < 1:
        raise GeometryError(f"padding mode {mode!r} needs at least one input to extend, but the axis is empty")
    if mode == "replicate":
        return (abs(place) + place) // 2 - (abs(place - n + 1) + place - n + 1) // 2
    if mode == "circular":
        return place % n
    if mode == "symmetric":  # period 2n: 0 … n−1, n−1 … 0
        return (2 * n - 1 - abs(2 * (place % (2 * n)) - 2 * n + 1)) // 2
    return n - 1 - abs(place % max(2 * n - 2, 1) - n + 1)  # reflect, period 2n − 2: the edge is not repeated


@dataclass(frozen=True)
class Window:
    """One axis of a convolution, a pooling or a padding.

    Args:
        size: number of taps.
        stride: places from one output's window to the next.
        dilation: places from one tap to the next.
        padding: (before, after), one number for both, or a name: "valid"; "same" (torch's: stride 1 only);
            "same_upper" (TensorFlow's SAME: ⌈n / stride⌉ outputs, the odd place at the end); "same_lower" (at the
            beginning). With stride above 1 the last two depend on the input size and stay names until `at(n)`.
            A negative number cuts that many inputs off.
        mode: what stands outside the input, one of MODES; it may be wider than the input.
        ceil_mode: round the output size up; a window may then run past the padding's end, where there is nothing
            in any mode, but it starts on the input or on the padding before it, as in torch.

    Raises:
        GeometryError: (a ValueError and a RuntimeError) for numbers and names that make no window.
    """

    size: int
    stride: int = 1
    dilation: int = 1
    padding: tuple[int, int] | str = (0, 0)
    mode: str = "zeros"
    ceil_mode: bool = False

    def __post_init__(self) -> None:
        for name in ("size", "stride", "dilation"):
            object.__setattr__(self, name, integer(getattr(self, name), name, 1))
        check_mode(self.mode)
        object.__setattr__(self, "padding", self._checked_padding(self.padding))

    def _checked_padding(self, padding: Any) -> tuple[int, int] | str:
        if isinstance(padding, str):
            if padding not in PADDINGS:
                raise GeometryError(f"padding {padding!r} is unknown: give numbers or one of {', '.join(PADDINGS)}")
            if padding == "valid":
                return (0, 0)
            if padding == "same" and self.stride != 1:
                raise GeometryError(
                    f"padding='same' is torch's and needs stride 1, but stride={self.stride}: "
                    "use 'same_upper' (TensorFlow's SAME) or 'same_lower'"
                )
            if self.stride == 1:
                return _halves(self.extent - 1, at_end=padding != "same_lower")
            return padding
        if isinstance(padding, Sequence):
            if len(padding) != 2:
                raise GeometryError(f"padding={tuple(padding)} has {len(padding)} entries on one axis: (before, after)")
            before, after = padding
        else:
            before = after = padding
        least = -(2**62)
        return integer(before, "padding before", least), integer(after, "padding after", least)

    @property
    def extent(self) -> int:
        """Places from the first tap to the last, both counted: (size − 1) · dilation + 1."""
        return extent(self.size, self.dilation)

    def pads(self, n: int) -> tuple[int, int]:
        """(before, after) for n inputs: for the SAME names max(0, (⌈n/s⌉ − 1)·s + extent − n), split in two."""
        if isinstance(self.padding, str):
            total = (-(-n // self.stride) - 1) * self.stride + self.extent - n
            return _halves(_larger(total, 0), at_end=self.padding == "same_upper")
        return self.padding

    def at(self, n: int) -> Window:
        """This window with its padding in numbers, as it is on n inputs."""
        return replace(self, padding=self.pads(n)) if isinstance(self.padding, str) else self

    def output_size(self, n: int) -> int:
        """⌊(n + before + after − extent) / stride⌋ + 1, or rounded up under `ceil_mode`.

        Raises:
            GeometryError: if not one window fits.
        """
        before, after = self.pads(n)
        room = n + before + after - self.extent
        outputs = room // self.stride + 1
        if self.ceil_mode:  # one more for what is left over, if it starts on the input or the padding before it
            starts = -(-(n + before) // self.stride)
            outputs = _larger(outputs, -_larger(room // -self.stride - 1, -starts))
        if outputs < 1:
            raise GeometryError(
                f"a kernel of {self.size} taps (extent {self.extent}) is larger than the padded input "
                f"({n} + {before} + {after}): give a larger input, more padding or a smaller kernel"
            )
        return outputs

    def missing(self, n: int) -> int:
        """How many inputs n lacks for one window to fit; 0 if one does."""
        before, after = self.pads(n)
        return max(0, self.extent - n - before - after)

    def reach(self, n: int) -> tuple[int, int]:
        """(before, after): by how much the windows overhang n inputs; what they don't read at the end is negative."""
        before, _ = self.pads(n)
        return before, (self.output_size(n) - 1) * self.stride + self.extent - before - n

    def extend(self, place: Any, n: int) -> Any:
        """`extend` by this window's mode; −1 also past the end of the padding, where `ceil_mode` may lead."""
        _, after = self.pads(n)
        index = extend(place, n, self.mode)
        return (index - OUTSIDE) * (place < n + after) + OUTSIDE if self.ceil_mode else index

    def places(self, n: int, xp: Any = np) -> Any:
        """int64 [output_size(n), size]: place(o, t), where 0 … n − 1 is the input and all else is padding."""
        before, _ = self.pads(n)
        starts = xp.arange(self.output_size(n), dtype=xp.int64) * self.stride - before
        return starts[:, None] + xp.arange(self.size, dtype=xp.int64) * self.dilation

    def sources(self, n: int, xp: Any = np) -> Any:
        """int64 [output_size(n), size]: the input that each tap reads, −1 where it reads none."""
        return self.extend(self.places(n, xp), n)

    def taps_on_line(self, n: int, xp: Any = np) -> Any:
        """int64 [output_size(n)]: how many taps lie on the input or its padding (all, but for `ceil_mode`)."""
        _, after = self.pads(n)
        return (self.places(n, xp) < n + after).sum(axis=1)

    def taps_inside(self, n: int, xp: Any = np) -> Any:
        """int64 [output_size(n)]: how many taps read an input."""
        return (self.sources(n, xp) != OUTSIDE).sum(axis=1)

    def span(self, n: int) -> tuple[int, int]:
        """(first, last) place of the line that holds all n inputs and all that the windows look at."""
        places = self.places(n)
        return min(int(places.min()), 0), max(int(places.max()), n - 1)

    def padded_line(self, n: int, xp: Any = np) -> Any:
        """int64 [before + n + after of `reach(n)`]: the input at each place that the windows reach, −1 where none."""
        before, after = self.reach(n)
        return self.extend(xp.arange(before + n + after, dtype=xp.int64) - before, n)

    def then(self, following: Window) -> Window:
        """The window of `following` on this window's output: what its outputs see of this one's input.

        Sizes compose exactly. The taps do too where they are evenly spaced; otherwise the result is the dense
        window from the first input seen to the last. Its `extent`, `stride` and `offset` are the receptive field.
        The padding modes of the two don't compose: the result says "zeros".
        """
        first, second = self._numbers(), following._numbers()
        size, dilation = _summed_taps((self.size, self.dilation), (following.size, self.stride * following.dilation))
        before, after = (a + self.stride * b for a, b in zip(first, second, strict=True))
        return Window(size, self.stride * following.stride, dilation, (before, after))

    def union(self, other: Window) -> Window:
        """The smallest dense window that covers this one and `other`: branches that meet again.

        Raises:
            GeometryError: if the strides differ, so that the branches drift apart.
        """
        if self.stride != other.stride:
            raise GeometryError(
                f"branches with strides {self.stride} and {other.stride} have no common receptive field"
            )
        (mine, after), (its, _) = self._numbers(), other._numbers()
        before = max(mine, its)
        extent = before + max(self.extent - mine, other.extent - its)
        return Window(extent, self.stride, 1, (before, after + (extent - self.extent) - (before - mine)))

    @property
    def offset(self) -> int:
        """The place that the first tap of output 0 looks at: −before."""
        return -self._numbers()[0]

    def _numbers(self) -> tuple[int, int]:
        if isinstance(self.padding, str):
            raise GeometryError(f"padding {self.padding!r} depends on the input size: use window.at(n) first")
        return self.padding

    def readers(self, n: int) -> Table:
        """int64 [n, size, most]: the outputs that read each input by each tap, −1 where there are fewer than `most`."""
        sources = self.sources(n)
        outputs, tap = np.nonzero(sources != OUTSIDE)
        pair = sources[outputs, tap] * self.size + tap
        order = np.argsort(pair, kind="stable")
        pair, outputs = pair[order], outputs[order]
        rank = np.arange(len(pair)) - np.searchsorted(pair, pair)
        found = np.full((n * self.size, int(rank.max(initial=0)) + 1), OUTSIDE, dtype=np.int64)
        found[pair, rank] = outputs
        return found.reshape(n, self.size, -1)

    def turned(self, n: int) -> Window | None:
        """The window on the outputs by which, its taps in reverse, the gradient of n inputs is a convolution.

        There is one at stride 1 in mode "zeros"; else None.
        """
        if self.stride != 1 or self.mode != "zeros" or self.ceil_mode:
            return None
        before, after = self.pads(n)
        return Window(self.size, 1, self.dilation, (self.extent - 1 - before, self.extent - 1 - after))

    def phases(self, n: int) -> tuple[tuple[tuple[int, int], ...], ...]:
        """For each k < stride the (tap, shift) by which outputs q + shift read the inputs q · stride + k in place.

        These are all readings but those of padding that stands for inputs, see `repeated`.
        """
        before, _ = self.pads(n)
        found: list[list[tuple[int, int]]] = [[] for _ in range(self.stride)]
        for tap in range(self.size):
            # The place o · stride + tap · dilation − before is q · stride + k.
            shift, k = divmod(tap * self.dilation - before, self.stride)
            found[k].append((tap, -shift))
        return tuple(map(tuple, found))

    def repeated(self, n: int) -> Table:
        """int64 [readings, (input, output, tap)]: those of places outside, where padding stands for the input."""
        sources = self.sources(n)
        outputs, taps = np.nonzero((sources != OUTSIDE) & (sources != self.places(n)))
        return np.stack([sources[outputs, taps], outputs, taps], axis=1)

    def adjoint(self, n: int) -> Adjoint:
        """For each of n inputs, the (output, tap) pairs that read it, in any mode: the map of the gradient."""
        return adjoint((self,), (n,))


@dataclass(frozen=True)
class Adjoint:
    """The readers of each input: pairs starts[i] … starts[i + 1] − 1 of `outputs` and `taps` read input i."""

    starts: Table
    outputs: Table
    taps: Table


@dataclass(frozen=True)
class TransposedWindow:
    """The window of a transposed convolution: inputs and outputs of `window` (mode "zeros") change places.

    Args:
        window: the forward window, its padding in numbers.
        output_padding: places added at the end, to choose among the sizes that `window` maps to one size.
    """

    window: Window
    output_padding: int = 0

    def __post_init__(self) -> None:
        window = self.window
        if window.mode != "zeros":
            raise GeometryError(f"a transposed window pads with 'zeros' only, not with {window.mode!r}")
        window._numbers()
        integer(self.output_padding, "output_padding", 0)
        if self.output_padding >= max(window.stride, window.dilation):
            raise GeometryError(
                f"output padding must be smaller than either stride or dilation, but output_padding="
                f"{self.output_padding}, stride={window.stride}, dilation={window.dilation}"
            )

    @property
    def size(self) -> int:
        """Number of taps."""
        return self.window.size

    def output_size(self, n: int) -> int:
        """(n − 1) · stride − before − after + extent + output_padding."""
        before, after = self.window._numbers()
        outputs = (n - 1) * self.window.stride - before - after + self.window.extent + self.output_padding
        if outputs < 1:
            raise GeometryError(
                f"padding ({before}, {after}) cuts off all outputs of a transposed kernel of {self.size} taps "
                f"on {n} inputs: give less padding"
            )
        return outputs

    def sources(self, n: int, xp: Any = np) -> Any:
        """int64 [output_size(n), size]: the input whose tap falls on the output, −1 where none does."""
        return self.extend(self.places(n, xp), n)

    def places(self, n: int, xp: Any = np) -> Any:
        """int64 [output_size(n), size]: where each tap looks when the inputs stand `stride` places apart, from 0 on.

        There the kernel is turned round: its last tap looks at the first place.
        """
        before, _ = self.window._numbers()
        outputs = xp.arange(self.output_size(n), dtype=xp.int64)[:, None] + before
        return outputs - xp.arange(self.size, dtype=xp.int64) * self.window.dilation

    def extend(self, place: Any, n: int) -> Any:
        """The input that stands at each of these places; −1 in the gaps and outside."""
        index = place // self.window.stride
        stands = (place % self.window.stride == 0) & (index >= 0) & (index < n)
        return (index - OUTSIDE) * stands + OUTSIDE

    def span(self, n: int) -> tuple[int, int]:
        """(first, last) of these places: all n inputs and all that the windows look at."""
        places = self.places(n)
        return min(int(places.min()), 0), max(int(places.max()), (n - 1) * self.window.stride)


@dataclass(frozen=True)
class Segments:
    """Windows that divide the whole axis into a given number of outputs.

    Args:
        count: number of outputs.
        overlap: True for torch's adaptive pooling, ⌊i·n/count⌋ … ⌈(i+1)·n/count⌉ − 1, where neighbours may share an
            input; False for segments that share none (Socher 2011, dynamic pooling). With more outputs than
            inputs both repeat inputs.
    """

    count: int
    overlap: bool = True

    def __post_init__(self) -> None:
        integer(self.count, "output_size", 1)

    def output_size(self, n: int) -> int:
        """`count`, whatever n is, as long as there is an input."""
        if n < 1:
            raise GeometryError("a pooling to a given output size needs at least one input, but the axis is empty")
        return self.count

    def at(self, n: int) -> Window | Segments:
        """The regular window that these segments are on n inputs, if they are one."""
        step = n // self.count
        return Window(step, step) if step and n % self.count == 0 else self

    def longest(self, n: int) -> int:
        """The number of inputs in the longest segment."""
        short, rest = n // self.count, n % self.count
        if rest == 0:
            return short
        # An overlapping segment has a part of a share at each end, unless the shares of `rest` come out even.
        return short + 1 if not self.overlap or self.count % rest == 0 else short + 2

    def bounds(self, n: int, xp: Any = np) -> tuple[Any, Any]:
        """(starts, ends), int64 [count] each: output i looks at the inputs starts[i] … ends[i] − 1."""
        i = xp.arange(self.output_size(n), dtype=xp.int64)
        starts, stops = i * n // self.count, (i + 1) * n
        if self.overlap:
            return starts, -(-stops // self.count)
        return starts, xp.maximum(stops // self.count, starts + 1)

    def sources(self, n: int, xp: Any = np) -> Any:
        """int64 [count, longest(n)]: the inputs of each segment; shorter segments end in −1."""
        starts, ends = self.bounds(n, xp)
        places = starts[:, None] + xp.arange(self.longest(n), dtype=xp.int64)
        return (places - OUTSIDE) * (places < ends[:, None]) + OUTSIDE

    def filled(self, n: int, xp: Any = np) -> Any:
        """int64 [count, n // count + 2]: the inputs of each segment, its last one repeated, for any n."""
        starts, ends = self.bounds(n, xp)
        return xp.minimum(starts[:, None] + xp.arange(n // self.count + 2, dtype=xp.int64), ends[:, None] - 1)

    def taps_inside(self, n: int, xp: Any = np) -> Any:
        """int64 [count]: the number of inputs in each segment."""
        starts, ends = self.bounds(n, xp)
        return ends - starts

    taps_on_line = taps_inside


def _larger(a: int, b: int) -> int:
    """max(a, b) by arithmetic alone, which a symbolic size goes through undecided."""
    return (a + b + abs(a - b)) // 2


def _halves(total: int, *, at_end: bool) -> tuple[int, int]:
    small = total // 2
    return (small, total - small) if at_end else (total - small, small)


def _summed_taps(inner: tuple[int, int], outer: tuple[int, int]) -> tuple[int, int]:
    """(size, dilation) of the set {i·d + j·e}: exact if evenly spaced, else the dense range that covers it."""
    (size, step), (count, jump) = inner, outer
    if count == 1:
        return (size, step) if size > 1 else (1, 1)
    if size == 1:
        return count, jump
    if jump % step == 0 and jump <= size * step:
        return size + (count - 1) * jump // step, step
    if step % jump == 0 and step <= count * jump:
        return count + (size - 1) * step // jump, jump
    return (size - 1) * step + (count - 1) * jump + 1, 1
