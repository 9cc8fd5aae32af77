"""Which outputs of a layer see which inputs, and through which weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from svertka import spec
from svertka.explain.cost import Cost, Costs, costs
from svertka.explain.operations import Bound
from svertka.window import Table

KINDS = {"convolutional": "convolution", "local": "unshared", "full": "dense"}
_MIXING = (spec.Convolution, spec.TransposedConvolution, spec.Unshared)


@dataclass(frozen=True)
class Connection:
    """One output place that sees one input place, on one axis.

    Args:
        output, input: the places; the input is None on zero padding.
        tap: of the window; a convolution has a weight for each, whatever the output.
    """

    output: int
    input: int | None
    tap: int


class Connections:
    """The connections of a layer with windows.

    Args:
        bound: the layer, as an operation with its weights.
        shape: of its input, (channels, *size).
    """

    def __init__(self, bound: Bound, shape: Sequence[int]) -> None:
        self.bound, self.shape = bound, tuple(shape)
        self.costs: Costs = costs(bound, shape)
        self.output: tuple[int, ...] = self.costs.shapes[1]

    @property
    def kind(self) -> str:
        """How the layer connects.

        "convolutional": the same weights at each place; "local": own weights at each place; "full": its one output
        place sees all inputs, each through its own weight; "windows": there are no weights (most pools, paddings).
        """
        operation = self.bound.operation
        if self.bound.weight is None:
            return "windows"
        if isinstance(operation, spec.Convolution) and self.channels.all() and math.prod(self.output[1:]) == 1:
            sources = (w.sources(n)[0].tolist() for w, n in zip(operation.windows, self.shape[1:], strict=True))
            if all(line == list(range(n)) for line, n in zip(sources, self.shape[1:], strict=True)):
                return "full"
        return "local" if isinstance(operation, spec.Unshared) else "convolutional"

    @property
    def weights(self) -> dict[str, int]:
        """Number of weights, without biases, of each kind of connection between this input and output; {} if none."""
        if self.bound.weight is None:
            return {}
        own: dict[str, Cost] = dict(self.costs.others)
        own.setdefault("unshared" if isinstance(self.bound.operation, spec.Unshared) else "convolution", self.costs)
        return {kind: own[name].weights for kind, name in KINDS.items() if name in own}

    @property
    def channels(self) -> npt.NDArray[np.bool_]:
        """bool [output channels, input channels]: which sees which."""
        outputs, inputs, operation = self.output[0], self.shape[0], self.bound.operation
        if not isinstance(operation, _MIXING):
            return np.eye(outputs, inputs, dtype=bool)
        groups = np.eye(operation.groups, dtype=bool)
        return np.kron(groups, np.ones((outputs // operation.groups, inputs // operation.groups), dtype=bool))

    @property
    def groups(self) -> int:
        """Parts of the channels that don't see each other."""
        return self.bound.operation.groups if isinstance(self.bound.operation, _MIXING) else self.shape[0]

    def along(self, axis: int = -1) -> list[Connection]:
        """The connections on one axis, by outputs, then taps; windows are the same combination on the others."""
        window: Any = self.bound.operation.windows[axis]
        table: Table = window.sources(self.shape[1:][axis])
        return [
            Connection(output, None if source < 0 else source, tap)
            for output, row in enumerate(table.tolist())
            for tap, source in enumerate(row)
        ]

    def to_dict(self) -> dict[str, Any]:
        """Everything in plain types, for JSON; `axes` holds [output, input or null, tap] for each axis."""
        axes = [
            [[found.output, found.input, found.tap] for found in self.along(axis)]
            for axis in range(len(self.shape) - 1)
        ]
        return {
            "kind": self.kind,
            "input": list(self.shape),
            "output": list(self.output),
            "weights": self.weights,
            "groups": self.groups,
            "channels": self.channels.astype(int).tolist(),
            "axes": axes,
        }

    def __repr__(self) -> str:
        return f"Connections({self.kind}, {self.shape} → {self.output}, weights: {self.weights})"

    def svg(self, *, compare: bool = True, channels: bool | None = None) -> str:
        """Inputs below, outputs above, and a line where an output sees an input; equal weights have equal colours.

        Args:
            compare: show all three kinds of connection one below the other, with their numbers of weights.
            channels: add which output channel sees which input channel; None: if there are several.
        """
        from svertka.explain.draw.connections import drawing

        return drawing(self, compare, max(self.shape[0], self.output[0]) > 1 if channels is None else channels)

    def _repr_html_(self) -> str:
        return self.svg()
