"""Specs: all that decides an operation's result, parsed once from what users write.

An operation is a tuple of windows, one for each axis, and what is done inside them. Specs are frozen and hashable:
equal specs are the same operation. The functions at the end turn torch's arguments into them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from svertka.errors import GeometryError
from svertka.window import Segments, TransposedWindow, Window, check_mode, integer

PoolWindow = Window | Segments
R = TypeVar("R")
W = TypeVar("W", Window, TransposedWindow, Window | Segments, covariant=True)


@dataclass(frozen=True)
class Operation(Generic[W]):
    """Windows, one for each spatial axis, and (in the subclasses) what is done inside each."""

    windows: tuple[W, ...]

    @property
    def ndim(self) -> int:
        """The number of spatial axes."""
        return len(self.windows)

    def output_size(self, size: Sequence[int]) -> tuple[int, ...]:
        """Spatial output size for a spatial input size."""
        return on_each_axis(lambda window, n: window.output_size(n), self.windows, size)


@dataclass(frozen=True)
class Convolution(Operation[Window]):
    """A weighted sum with the same weights at each place; `groups` parts of the channels don't see each other."""

    groups: int = 1


@dataclass(frozen=True)
class Activation:
    """A nonlinearity by torch's name: one of ACTIVATIONS; `slope` is leaky_relu's, for negative inputs."""

    name: str
    slope: float = 0.01

    def __post_init__(self) -> None:
        if self.name not in ACTIVATIONS:
            raise GeometryError(f"activation {self.name!r} is unknown: choose one of {', '.join(ACTIVATIONS)}")


ACTIVATIONS = (
    "relu", "relu6", "leaky_relu", "silu", "gelu", "sigmoid", "tanh", "hardtanh", "hardsigmoid", "hardswish",
)  # fmt: skip


@dataclass(frozen=True)
class ConvolutionBlock(Operation[Window]):
    """Convolution, times a scale, plus a bias, plus a residual, nonlinearity, maximum pooling: a layer of the lecture.

    Args:
        groups: of the convolution.
        activation: the nonlinearity, or none.
        pool: the windows of the maximum, or none.
    """

    groups: int = 1
    activation: Activation | None = None
    pool: tuple[Window, ...] = ()

    @property
    def convolution(self) -> Convolution:
        """Its first part."""
        return Convolution(self.windows, self.groups)

    def output_size(self, size: Sequence[int]) -> tuple[int, ...]:
        """Spatial output size for a spatial input size."""
        size = self.convolution.output_size(size)
        return MaxPool(self.pool).output_size(size) if self.pool else size


@dataclass(frozen=True)
class TransposedConvolution(Operation[TransposedWindow]):
    """The transpose of a convolution (the adjoint of its padding included)."""

    groups: int = 1


@dataclass(frozen=True)
class Unshared(Operation[Window]):
    """A weighted sum with own weights at each place: a locally connected layer."""

    groups: int = 1


@dataclass(frozen=True)
class MaxPool(Operation[PoolWindow]):
    """The largest input in the window; the first one on ties. A window that reads no input gives −∞."""


@dataclass(frozen=True)
class RectifiedMaxPool(Operation[PoolWindow]):
    """The larger of 0 and the largest input in the window: ReLU and maximum pooling in one pass."""


@dataclass(frozen=True)
class AveragePool(Operation[PoolWindow]):
    """The sum of the window divided by the number of its taps.

    Args:
        count_include_pad: count the taps on the padding, too; otherwise a window that reads no input gives 0 / 0.
        divisor: divide by this instead.
    """

    count_include_pad: bool = True
    divisor: float | None = None

    def __post_init__(self) -> None:
        if self.divisor == 0:
            raise GeometryError("divisor_override=0 divides nothing: give another number, or None for the taps")


@dataclass(frozen=True)
class LpPool(Operation[PoolWindow]):
    """(Σ |x|^p)^(1/p) over the window; max |x| for p = ∞."""

    p: float = 2.0

    def __post_init__(self) -> None:
        if not self.p > 0:
            raise GeometryError(f"norm_type={self.p} is not the order of a norm: give a number above 0, or math.inf")


@dataclass(frozen=True)
class WeightedPool(Operation[Window]):
    """Σ w·x / Σ w over the window: over all its taps, or over those that read an input."""

    count_include_pad: bool = True


@dataclass(frozen=True)
class StochasticPool(Operation[Window]):
    """A draw from the window with probability ∝ max(x, 0), or (not `sample`) the mean weighted by it; 0 if all ≤ 0."""

    sample: bool = True


@dataclass(frozen=True)
class KMaxPool(Operation[PoolWindow]):
    """The k largest inputs of the whole axis, in the order they stand in; of equal ones the first, NaN above all."""

    k: int = 1


@dataclass(frozen=True)
class SegmentPool(Operation[PoolWindow]):
    """The maximum or mean of each part of the whole axis, cut at boundaries that every sample brings along.

    Args:
        kind: "max" or "average".
    """

    kind: str = "max"


@dataclass(frozen=True)
class Pad(Operation[Window]):
    """A window of one tap: the padded input itself; `value` stands outside in mode "zeros".

    Specs are equal whose values have the same bits: NaN is itself, and −0 is not 0.
    """

    value: float = 0.0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pad) and (self.windows, repr(self.value)) == (other.windows, repr(other.value))

    def __hash__(self) -> int:
        return hash((self.windows, repr(self.value)))


@dataclass(frozen=True)
class BatchNorm(Operation[Window]):
    """(x − mean) / √(variance + eps) · weight + bias, of each channel over all images and places; then `activation`.

    Its windows see one place each.

    Args:
        activation: relu, or none.
    """

    eps: float = 1e-5
    activation: Activation | None = None


def on_each_axis(function: Callable[..., R], *arguments: Sequence[Any]) -> tuple[R, ...]:
    """The function of each axis' arguments; what it raises names the axis, if there are several."""
    results: list[R] = []
    for values in zip(*arguments, strict=True):
        try:
            results.append(function(*values))
        except GeometryError as error:
            if len(arguments[0]) == 1:
                raise
            axis = ("depth", "height", "width")[len(results) - len(arguments[0])]
            raise GeometryError(f"{axis}: {error}") from None
    return tuple(results)


def per_axis(value: Any, ndim: int, name: str) -> tuple[Any, ...]:
    """One value for each axis, as torch reads it: a number or name serves all; a tuple of one serves all, too."""
    if isinstance(value, str) or not isinstance(value, Sequence):
        return (value,) * ndim
    if len(value) == 1 and not isinstance(value[0], Sequence):
        return (value[0],) * ndim
    if len(value) != ndim:
        raise GeometryError(f"{name}={tuple(value)} has {len(value)} entries, but there are {ndim} spatial axes")
    return tuple(value)


def windows(
    ndim: int,
    kernel_size: Any,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    mode: str = "zeros",
    ceil_mode: bool = False,
) -> tuple[Window, ...]:
    """The windows of a convolution or pooling, from torch's arguments.

    Args:
        ndim: number of spatial axes.
        kernel_size, stride, dilation: a number, or one for each axis.
        padding: a number, a name of `window.PADDINGS`, or for each axis one of these or a pair (before, after).
        mode: one of `window.MODES`.
        ceil_mode: round output sizes up.

    Raises:
        GeometryError: naming the argument that cannot be used.
    """

    def window(size: int, step: int, gap: int, pad: Any) -> Window:
        window = Window(size, step, gap, pad, mode, ceil_mode)
        if not isinstance(window.padding, str) and min(window.padding) < 0:
            raise GeometryError(f"padding={pad} is negative: only a Pad layer can cut inputs off")
        return window

    return on_each_axis(
        window,
        per_axis(kernel_size, ndim, "kernel_size"),
        per_axis(stride, ndim, "stride"),
        per_axis(dilation, ndim, "dilation"),
        per_axis(padding, ndim, "padding"),
    )


def transposed_windows(
    ndim: int, kernel_size: Any, stride: Any = 1, padding: Any = 0, output_padding: Any = 0, dilation: Any = 1
) -> tuple[TransposedWindow, ...]:
    """The windows of a transposed convolution, from torch's arguments; `padding` in numbers."""
    forward = windows(ndim, kernel_size, stride, padding, dilation)
    return on_each_axis(TransposedWindow, forward, per_axis(output_padding, ndim, "output_padding"))


def pad_windows(ndim: int, padding: Any, mode: str = "zeros") -> tuple[Window, ...]:
    """The windows of a padding, from torch's argument: one number for all sides, or last axis first, as in F.pad.

    Args:
        ndim: number of spatial axes.
        padding: a number, or (left, right, top, bottom, front, back), 2 for each axis.
        mode: one of `window.MODES`.
    """
    check_mode(mode)
    sides = per_axis(padding, 2 * ndim, "padding")
    return tuple(Window(1, padding=(sides[2 * axis], sides[2 * axis + 1]), mode=mode) for axis in reversed(range(ndim)))


def segments(ndim: int, output_size: Any, overlap: bool = True) -> tuple[Segments | Window, ...]:
    """The windows of an adaptive pooling; None for an axis keeps its size."""
    return tuple(
        Window(1) if count is None else Segments(integer(count, "output_size", 1), overlap)
        for count in per_axis(output_size, ndim, "output_size")
    )
