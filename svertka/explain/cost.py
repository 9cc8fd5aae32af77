"""What an operation costs: parameters, multiply-adds, bytes; and what other layers of the same shape would.

The convention everywhere: one multiply-add (MAC) for each weight that meets an input, those on the padding too; biases,
sums, comparisons and normalisation are not counted. FLOPs in the other common convention are twice the MACs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from svertka import spec
from svertka.errors import GeometryError
from svertka.explain.draw.titles import times
from svertka.explain.operations import Bound, bound
from svertka.window import OUTSIDE

if TYPE_CHECKING:
    from rich.table import Table

_WEIGHTED = (spec.Convolution, spec.TransposedConvolution, spec.Unshared)
_FLOAT = 4  # bytes of a float32


@dataclass(frozen=True)
class Cost:
    """The cost of one layer on one input.

    Args:
        kind: what it is.
        weights: number of weights.
        biases: number of biases.
        macs: multiply-adds, taps on the padding counted, biases not.
        macs_inside: those of them whose tap reads an input: taps where there is nothing but zeros are left out.
        inputs, outputs: numbers that are read and written.
    """

    kind: str
    weights: int
    biases: int
    macs: int
    macs_inside: int
    inputs: int
    outputs: int

    @property
    def parameters(self) -> int:
        """Weights and biases."""
        return self.weights + self.biases

    @property
    def flops(self) -> int:
        """2 · MACs: a multiplication and an addition each."""
        return 2 * self.macs

    @property
    def bytes(self) -> int:
        """Input, weights, biases and output in float32, each moved once."""
        return _FLOAT * (self.inputs + self.parameters + self.outputs)

    @property
    def intensity(self) -> float:
        """Arithmetic intensity: FLOPs for each byte moved."""
        return self.flops / self.bytes

    def count(self, *, flops: bool = False, padding: bool = True, bias: bool = False) -> int:
        """The number of operations under a convention of one's choice.

        Args:
            flops: count a multiply-add as two operations.
            padding: count taps that read nothing.
            bias: count an addition for each output that has a bias, as one operation either way.
        """
        macs = self.macs if padding else self.macs_inside
        return macs * (2 if flops else 1) + (self.outputs if bias and self.biases else 0)

    def to_dict(self) -> dict[str, Any]:
        """Everything in plain types, for JSON."""
        derived = ("parameters", "flops", "bytes", "intensity")
        return asdict(self) | {name: getattr(self, name) for name in derived}


@dataclass(frozen=True)
class Costs(Cost):
    """The cost of a layer, and beside it that of others which map the same input to an output of the same shape.

    Args:
        others: by name: "convolution", "unshared", "dense", "separable" (depthwise, then 1×1), without the layer's
            own kind; empty for a layer without weights for each pair of channels.
        shapes: of the input and the output, (channels, *size) each.
    """

    others: dict[str, Cost]
    shapes: tuple[tuple[int, ...], tuple[int, ...]]

    def to_dict(self) -> dict[str, Any]:
        """Everything in plain types, for JSON."""
        others = {name: cost.to_dict() for name, cost in self.others.items()}
        return super().to_dict() | {"others": others, "shapes": [list(shape) for shape in self.shapes]}

    def table(self) -> Table:
        """Everything as a table for the terminal."""
        from rich import box
        from rich.table import Table

        table = Table(title=" → ".join(map(times, self.shapes)), box=box.SIMPLE_HEAD, padding=(0, 2, 0, 0))
        table.show_edge = table.pad_edge = False
        table.title_justify = table.caption_justify = "left"
        columns = (self, *self.others.values())
        table.add_column("")
        for cost in columns:
            table.add_column(cost.kind, justify="right", overflow="fold")
        for heading, value in _LINES:
            table.add_row(heading, *(grouped(value(cost)) for cost in columns))
        table.add_row("FLOPs per byte", *(f"{cost.intensity:.3g}" for cost in columns))
        table.caption = "Without biases unless they are named. Bytes: input, parameters and output once, in float32."
        return table

    def __rich__(self) -> Table:
        return self.table()


_LINES: tuple[tuple[str, Callable[[Cost], int]], ...] = (
    ("weights", lambda cost: cost.weights),
    ("weights and biases", lambda cost: cost.parameters),
    ("multiply-adds", lambda cost: cost.macs),
    ("  padding not counted", lambda cost: cost.macs_inside),
    ("FLOPs", lambda cost: cost.flops),
    ("bytes", lambda cost: cost.bytes),
)


def costs(what: Bound | nn.Module, shape: Sequence[int]) -> Costs:
    """The cost of a layer on one input.

    Args:
        what: a convolution, pooling or padding layer of svertka.nn or torch.nn, or `operations.bound` of one.
        shape: of the input, (channels, *size).

    Raises:
        GeometryError: if the layer can't take such an input.
    """
    layer = what if isinstance(what, Bound) else bound(what)
    operation, size = layer.operation, tuple(shape[1:])
    if len(size) != operation.ndim:
        raise GeometryError(f"the shape {tuple(shape)} is not (channels, {operation.ndim} sizes)")
    output = (_channels(layer, shape[0]), *_output_size(operation, size))
    weights = 0 if layer.weight is None else layer.weight.size
    biases = 0 if layer.bias is None else layer.bias.size
    one = None if layer.weight is None else layer.weight.shape
    macs = multiply_adds(operation, shape, output, one)
    meeting = _reading(operation, size) * _per_pair(operation, shape[0], output[0]) if macs else 0
    inputs, outputs = math.prod(shape), math.prod(output)
    own = Cost(layer.title, weights, biases, macs, meeting, inputs, outputs)
    return Costs(**vars(own), others=_others(operation, own, shape, output), shapes=(tuple(shape), output))


def multiply_adds(
    operation: spec.Operation[Any], x: Sequence[int], result: Sequence[int], weight: Sequence[int] | None = None
) -> int:
    """The multiply-adds of one call of an operation.

    Args:
        operation: what is done.
        x: shape of its input, [N, C, *size] or [C, *size].
        result: of its output.
        weight: of its weight, if it has one; as in `svertka.functional`.
    """
    if weight is None:
        return 0
    if isinstance(operation, spec.Unshared):
        return math.prod(weight) * (math.prod(result) // math.prod(weight[: operation.ndim + 1]))
    # A tap for each output and input channel of its group; the transpose has one for each input and output channel.
    places = x if isinstance(operation, spec.TransposedConvolution) else result
    return math.prod(places) * math.prod(weight[1:])


def _output_size(operation: spec.Operation[Any], size: Sequence[int]) -> tuple[int, ...]:
    """Of any operation that can be explained; k-max pooling leaves k of its one axis."""
    return (operation.k,) if isinstance(operation, spec.KMaxPool) else operation.output_size(size)


def counted_by_torch(call: Callable[[], Any]) -> tuple[Any, int]:
    """The result of a call, and the multiply-adds of all matrix products and convolutions that torch does in it."""
    with FlopCounterMode(display=False) as counter:
        result = call()
    return result, counter.get_total_flops() // 2


def _channels(layer: Bound, channels: int) -> int:
    """Of the output."""
    operation = layer.operation
    if layer.weight is None or not isinstance(operation, _WEIGHTED):
        return channels
    shape = layer.weight.shape
    expected = shape[0] if isinstance(operation, spec.TransposedConvolution) else shape[-operation.ndim - 1]
    expected *= 1 if isinstance(operation, spec.TransposedConvolution) else operation.groups
    if channels != expected:
        raise GeometryError(f"the layer takes {expected} channels, but the input has {channels}")
    if isinstance(operation, spec.TransposedConvolution):
        return int(shape[1]) * operation.groups
    return int(shape[operation.ndim] if isinstance(operation, spec.Unshared) else shape[0])


def _per_pair(operation: spec.Operation[Any], inputs: int, outputs: int) -> int:
    """Pairs of channels that a window is weighed for."""
    return inputs // operation.groups * outputs if isinstance(operation, _WEIGHTED) else outputs


def _reading(operation: spec.Operation[Any], size: Sequence[int]) -> int:
    """Taps of all outputs together that read an input."""
    tables = (window.sources(n) for window, n in zip(operation.windows, size, strict=True))
    return math.prod(int((table != OUTSIDE).sum()) for table in tables)


def _others(operation: spec.Operation[Any], own: Cost, shape: Sequence[int], output: Sequence[int]) -> dict[str, Cost]:
    if not isinstance(operation, _WEIGHTED):
        return {}
    (inputs, *_), (outputs, *size) = shape, output
    taps, places, reading = (
        math.prod(w.size for w in operation.windows),
        math.prod(size),
        _reading(operation, shape[1:]),
    )
    pairs = _per_pair(operation, inputs, outputs)
    steps = math.prod(shape[1:]) if isinstance(operation, spec.TransposedConvolution) else places
    biased = own.biases > 0

    def cost(kind: str, weights: int, biases: int, macs: int, inside: int) -> Cost:
        return Cost(kind, weights, biases if biased else 0, macs, inside, own.inputs, own.outputs)

    everything = own.inputs * own.outputs
    mixing = inputs * outputs * places
    kinds = {
        "convolution": cost("shared", taps * pairs, outputs, steps * taps * pairs, reading * pairs),
        "unshared": cost("unshared", steps * taps * pairs, own.outputs, steps * taps * pairs, reading * pairs),
        "dense": cost("dense", everything, own.outputs, everything, everything),
        "separable": cost(
            "separable",
            taps * inputs + inputs * outputs,
            outputs,
            steps * taps * inputs + mixing,
            reading * inputs + mixing,
        ),
    }
    del kinds["unshared" if isinstance(operation, spec.Unshared) else "convolution"]
    return kinds


def grouped(number: int) -> str:
    """12 345 678."""
    return f"{number:,}".replace(",", " ")
