"""Room 4: the five paddings side by side; what layers of one shape cost; who sees whom."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

import numpy as np
from pydantic import Field

from svertka import arguments, spec
from svertka.explain.connections import Connections
from svertka.explain.cost import Cost, costs
from svertka.explain.explanation import explain
from svertka.explain.operations import Bound
from svertka.lab.api import Answered, Asked, Endpoint, LabError
from svertka.lab.rooms.asking import Mode, Pad, Small, Text, check_sizes, numbers
from svertka.lab.rooms.stage import Stage, staged
from svertka.lab.work import Check

Channels = Annotated[int, Field(ge=1, le=512)]
Side = Annotated[int, Field(ge=1, le=1024)]
Kind = Literal["regular", "grouped", "depthwise", "separable", "unshared", "dense"]
_MOST_DRAWN = 32  # channels whose pairs are told one by one


class PaddingsAsked(Asked):
    """A signal and a kernel, for all modes of padding."""

    input: Text
    kernel: Text
    before: Pad = 2
    after: Pad = 2


class Padded(Answered):
    """One mode: what is drawn."""

    mode: Mode
    stage: Stage


class PaddingsAnswer(Answered):
    """All modes, and the numbers that were read."""

    input: list[float]
    kernel: list[float]
    modes: list[Padded]


class LayersAsked(Asked):
    """A layer's shape: channels, the input's height and width, a square kernel; `same` pads it to the same size."""

    inputs: Channels = 3
    outputs: Channels = 6
    height: Side = 32
    width: Side = 32
    kernel: Small = 5
    stride: Small = 1
    groups: Channels = 1
    same: bool = False


class LayerCost(Answered):
    """What one kind of layer costs.

    Args:
        kind: which. "depthwise" has as many output channels as input ones; the others have what was asked for.
        weights, biases: numbers of them.
        macs: multiply-adds, taps on padding counted, biases not.
        macs_inside: those whose tap reads an input.
    """

    kind: Kind
    weights: int
    biases: int
    macs: int
    macs_inside: int


class LayersAnswer(Answered):
    """All kinds of one shape.

    Args:
        output: (height, width) of the output.
        layers: kind by kind.
        channels: for "regular", "grouped" and "depthwise": which output channel (row) sees which input channel; empty
            where there are too many to be drawn.
    """

    output: tuple[int, int]
    layers: list[LayerCost]
    channels: dict[str, list[list[bool]]]


class ConnectionsAsked(Asked):
    """A convolution of a signal of n numbers."""

    n: Annotated[int, Field(ge=1, le=16)] = 5
    kernel: Small = 3
    stride: Small = 1
    dilation: Small = 1
    padding: Pad = 1


class Link(Answered):
    """An output that sees an input by a tap; the input is null on the padding."""

    output: int
    input: int | None
    tap: int


class ConnectionsAnswer(Answered):
    """Who sees whom: the same links convolutional and local; weights of each kind of connection, "full" too."""

    n: int
    outputs: int
    links: list[Link]
    weights: dict[str, int]


def paddings(asked: PaddingsAsked, check: Check) -> PaddingsAnswer:
    """A convolution in all five modes of padding."""
    x, kernel = numbers(asked.input, "the input"), numbers(asked.kernel, "the kernel")
    if x.ndim != 2 or kernel.ndim != 2 or len(x) != 1 or len(kernel) != 1:
        raise LabError("axes", "the paddings are compared on a signal of one channel")
    modes = []
    for mode in get_args(Mode):
        operation = arguments.convolution_spec(1, kernel.shape[1:], 1, ((asked.before, asked.after),), 1, 1, mode)
        check_sizes(operation, x.shape[1:])
        modes.append(Padded(mode=mode, stage=staged(explain(operation, x, kernel[None]), check)))
    return PaddingsAnswer(input=x[0].tolist(), kernel=kernel[0].tolist(), modes=modes)


def layers(asked: LayersAsked, _: Check) -> LayersAnswer:
    """Weights and multiply-adds of layers of one shape, and which channels see which."""
    if asked.inputs % asked.groups or asked.outputs % asked.groups:
        raise LabError(
            "channel-groups",
            f"{asked.inputs} and {asked.outputs} channels can't be divided into {asked.groups} groups",
            asked.inputs, asked.outputs, asked.groups,
        )  # fmt: skip
    shape = (asked.inputs, asked.height, asked.width)
    regular, others = _costs(asked, asked.outputs, 1, shape)
    grouped, _others = _costs(asked, asked.outputs, asked.groups, shape)
    depthwise, _others = _costs(asked, asked.inputs, asked.inputs, shape)
    found: dict[Kind, Cost] = {"regular": regular}
    if asked.groups > 1:
        found["grouped"] = grouped
    found |= {"depthwise": depthwise, "separable": others["separable"], "unshared": others["unshared"]}
    found["dense"] = others["dense"]
    drawn = max(asked.inputs, asked.outputs) <= _MOST_DRAWN
    matrices = {
        "regular": (asked.outputs, 1),
        "grouped": (asked.outputs, asked.groups),
        "depthwise": (asked.inputs, asked.inputs),
    }
    operation = _operation(asked, 1)
    return LayersAnswer(
        output=operation.output_size(shape[1:]),  # type: ignore[arg-type]
        layers=[
            LayerCost(kind=kind, weights=c.weights, biases=c.biases, macs=c.macs, macs_inside=c.macs_inside)
            for kind, c in found.items()
        ],
        channels={
            kind: Connections(_layer(asked, outputs, groups), shape).channels.tolist()
            for kind, (outputs, groups) in matrices.items()
            if drawn
        },
    )


def connections(asked: ConnectionsAsked, _: Check) -> ConnectionsAnswer:
    """Which output of a convolution sees which input, and how many weights each kind of connection has."""
    operation = arguments.convolution_spec(
        1, (asked.kernel,), asked.stride, asked.padding, asked.dilation, 1, "zeros"
    )  # fmt: skip
    check_sizes(operation, (asked.n,))
    found = Connections(Bound(operation, np.zeros((1, 1, asked.kernel)), title="Conv1d"), (1, asked.n))
    links = [Link(output=link.output, input=link.input, tap=link.tap) for link in found.along()]
    return ConnectionsAnswer(n=asked.n, outputs=found.output[1], links=links, weights=found.weights)


def _costs(asked: LayersAsked, outputs: int, groups: int, shape: tuple[int, ...]) -> tuple[Cost, dict[str, Cost]]:
    found = costs(_layer(asked, outputs, groups), shape)
    return found, found.others


def _layer(asked: LayersAsked, outputs: int, groups: int) -> Bound:
    """A convolution with a bias; its zeros take no memory, however many they are."""
    nothing = np.zeros(())
    weight: Any = np.broadcast_to(nothing, (outputs, asked.inputs // groups, asked.kernel, asked.kernel))
    bias: Any = np.broadcast_to(nothing, (outputs,))
    return Bound(_operation(asked, groups), weight, bias, "Conv2d")


def _operation(asked: LayersAsked, groups: int) -> spec.Convolution:
    padding = "same_upper" if asked.same else 0
    operation = arguments.convolution_spec(
        2, (asked.kernel, asked.kernel), asked.stride, padding, 1, groups, "zeros"
    )  # fmt: skip
    check_sizes(operation, (asked.height, asked.width))
    return operation


ENDPOINTS = (
    Endpoint("/api/paddings", PaddingsAsked, PaddingsAnswer, paddings),
    Endpoint("/api/layers", LayersAsked, LayersAnswer, layers),
    Endpoint("/api/connections", ConnectionsAsked, ConnectionsAnswer, connections),
)
