"""How each number of an operation's output comes to be: its window, the terms in it, and what is made of them.

All is plain data, taken from the index map of `svertka.window` and checked against nothing else: the layer, the
reference, the matrix and the drawings read the same map.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from svertka import reference, spec
from svertka.errors import GeometryError
from svertka.explain.operations import Array, Bound
from svertka.window import OUTSIDE, Window

Position = tuple[int, ...]


@dataclass(frozen=True)
class Term:
    """What one tap of a window contributes.

    Args:
        channel: of the input.
        tap: place in the kernel, for each axis.
        place: where the tap looks, for each axis; 0 … n − 1 is the input, anything else its padding.
        source: the input that stands there; None on zero padding.
        value: what is read.
        weight: what it is multiplied by (a share of the mean, a probability); None where nothing is.
        product: what it adds to the result's sum; None where nothing is added up (a maximum).
        chosen: whether the result is this very value (maximum, k largest).
    """

    channel: int
    tap: Position
    place: Position
    source: Position | None
    value: float
    weight: float | None = None
    product: float | None = None
    chosen: bool = False

    @property
    def on_padding(self) -> bool:
        """Whether the tap looks at the padding."""
        return self.place != self.source


@dataclass(frozen=True)
class Step:
    """One number of the output.

    Args:
        output: (channel, *position).
        terms: channels of the input first, then taps in row-major order; taps that read nothing at all are left out.
        bias: added to the sum, or None.
        result: the number.
    """

    output: Position
    terms: tuple[Term, ...]
    bias: float | None
    result: float

    def to_dict(self) -> dict[str, Any]:
        """Everything in plain types, for JSON."""
        return asdict(self)


class Steps(Sequence[Step]):
    """The steps of an operation on one input, made when they are asked for.

    Args:
        bound: the operation with its weights.
        x: float64 [C, *size].
    """

    def __init__(self, bound: Bound, x: Array) -> None:
        self.bound, self.x = bound, x
        operation = bound.operation
        self.output: Array = _output(bound, x)
        size = x.shape[1:]
        self._sources = [w.sources(n) for w, n in zip(operation.windows, size, strict=True)]
        self._places = [
            w.places(n) if isinstance(w, Window) else table
            for w, n, table in zip(operation.windows, size, self._sources, strict=True)
        ]
        # Taps that are on no line at all: past the end of rounded-up windows, short segments, gaps of a transpose.
        self._missing = [
            places >= n + w.pads(n)[1] if isinstance(w, Window) else table == OUTSIDE
            for w, n, places, table in zip(operation.windows, size, self._places, self._sources, strict=True)
        ]

    def __len__(self) -> int:
        return self.output.size

    def __getitem__(self, number: Any) -> Any:
        if isinstance(number, slice):
            return [self[i] for i in range(*number.indices(len(self)))]
        if not -len(self) <= number < len(self):
            raise IndexError(f"step {number} of {len(self)}")
        return self.at(tuple(int(i) for i in np.unravel_index(number % len(self), self.output.shape)))

    def __iter__(self) -> Iterator[Step]:
        return (self[number] for number in range(len(self)))

    def at(self, output: Position) -> Step:
        """The step of the output at (channel, *position).

        Raises:
            GeometryError: if there is no such output.
        """
        shape = self.output.shape
        if len(output) != len(shape) or not all(0 <= i < n for i, n in zip(output, shape, strict=True)):
            raise GeometryError(
                f"there is no output at {output}: the output has the shape {shape}, (channel, *position) from 0"
            )
        channels = self.channels(output[0])
        taps = [(c, *tap) for c in channels for tap in self._taps(output[1:])]
        values = np.array([self._value(c, source) for c, _, _, source in taps])
        terms = self._terms(output, taps, values)
        bias = None
        if self.bound.bias is not None:
            unshared = isinstance(self.bound.operation, spec.Unshared)
            bias = float(self.bound.bias[(*output[1:], output[0])] if unshared else self.bound.bias[output[0]])
        return Step(output, terms, bias, float(self.output[output]))

    def channels(self, output_channel: int) -> range:
        """The input channels that an output channel sees."""
        operation = self.bound.operation
        if not isinstance(operation, (spec.Convolution, spec.TransposedConvolution, spec.Unshared)):
            return range(output_channel, output_channel + 1)
        inputs = self.x.shape[0] // operation.groups
        group = output_channel // (self.output.shape[0] // operation.groups)
        return range(group * inputs, (group + 1) * inputs)

    def _taps(self, position: Position) -> list[tuple[Position, Position, Position | None]]:
        """(tap, place, source) of the taps of the window at an output position."""
        if isinstance(self.bound.operation, spec.KMaxPool):
            position = (0,)
        found = []
        for tap in itertools.product(*(range(table.shape[1]) for table in self._places)):
            where = list(zip(position, tap, strict=True))
            if any(table[at] for table, at in zip(self._missing, where, strict=True)):
                continue
            place = tuple(int(table[at]) for table, at in zip(self._places, where, strict=True))
            source = tuple(int(table[at]) for table, at in zip(self._sources, where, strict=True))
            found.append((tap, place, None if OUTSIDE in source else source))
        return found

    def _value(self, channel: int, source: Position | None) -> float:
        if source is None:
            operation = self.bound.operation
            return operation.value if isinstance(operation, spec.Pad) else 0.0
        return float(self.x[(channel, *source)])

    def _terms(self, output: Position, taps: list[Any], values: Array) -> tuple[Term, ...]:
        weights, products, chosen = self._made_of(output, taps, values)
        return tuple(
            Term(
                channel, tap, place, source, float(value),
                None if weights is None else float(weights[i]),
                None if products is None else float(products[i]),
                i == chosen,
            )
            for i, ((channel, tap, place, source), value) in enumerate(zip(taps, values, strict=True))
        )  # fmt: skip

    def _made_of(
        self, output: Position, taps: list[Any], values: Array
    ) -> tuple[Array | None, Array | None, int | None]:
        """(weights, products, number of the chosen term) of one output's terms."""
        operation, reads = self.bound.operation, np.array([source is not None for *_, source in taps], dtype=bool)
        match operation:
            case spec.Convolution() | spec.TransposedConvolution() | spec.Unshared() | spec.WeightedPool():
                weights = self._weights(output, taps)
                if isinstance(operation, spec.WeightedPool):
                    weights = weights / (weights if operation.count_include_pad else weights[reads]).sum()
            case spec.AveragePool():
                count = operation.divisor or (len(taps) if operation.count_include_pad else reads.sum())
                weights = np.full(len(taps), 1 / count if count else math.nan)
            case spec.StochasticPool():
                positive = np.maximum(values, 0)
                weights = positive / (positive.sum() or 1.0)
                return weights, weights * positive, None
            case spec.LpPool():
                with np.errstate(over="ignore"):
                    return None, None if operation.p == math.inf else abs(values) ** operation.p, None
            case spec.MaxPool():
                return None, None, _first_largest(values, reads)
            case spec.KMaxPool():
                largest = np.sort(np.argsort(-values, kind="stable")[: operation.k])
                return None, None, int(largest[output[1]])
            case _:  # a padding: the value itself
                weights = np.ones(len(taps))
        return weights, weights * values, None

    def kernel(self, output: Position, channel: int) -> Array:
        """The weights [*kernel size] that lie between an output and a channel of the input that it sees."""
        weight, operation = self.bound.weight, self.bound.operation
        assert weight is not None
        match operation:
            case spec.Convolution():
                kernel: Array = weight[output[0], channel - self.channels(output[0]).start]
            case spec.TransposedConvolution():
                kernel = weight[channel, output[0] % weight.shape[1]]
            case spec.Unshared():
                kernel = weight[output[1:]][output[0], channel - self.channels(output[0]).start]
            case _:  # a weighted pooling: one kernel for all channels, or one for each
                kernel = weight[channel % weight.shape[0]]
        return kernel

    def _weights(self, output: Position, taps: list[Any]) -> Array:
        """The weight that each term is multiplied by."""
        kernels = {channel: self.kernel(output, channel) for channel in self.channels(output[0])}
        return np.array([kernels[channel][tap] for channel, tap, *_ in taps])


def _first_largest(values: Array, reads: Any) -> int | None:
    if not reads.any():
        return None
    candidates = np.where(reads, values, -math.inf)
    first = int(candidates.argmax())  # the first maximum, the first NaN
    return first if reads[first] else int(reads.argmax())


def _output(bound: Bound, x: Array) -> Array:
    operation = bound.operation
    if isinstance(operation, spec.KMaxPool):
        if not 1 <= operation.k <= x.shape[-1]:
            raise GeometryError(f"k={operation.k} of a k-max pooling must lie between 1 and the length {x.shape[-1]}")
        largest: Array = reference.k_max_pool(x, operation.k)
        return largest
    weights: list[Any] = []
    if isinstance(operation, spec.WeightedPool):
        weights = [bound.weight]
    elif bound.weight is not None:
        weights = [bound.weight, bound.bias]
    result: Array = reference.run(operation, x[None], *weights)[0]
    return result
