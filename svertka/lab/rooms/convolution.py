"""Room 1: a convolution, or its transpose, on numbers that the page gives; everything about it in one answer."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from svertka import arguments, spec
from svertka.explain.explanation import Explanation, explain
from svertka.explain.matrix import names
from svertka.lab.api import Answered, Asked, Endpoint, File, LabError
from svertka.lab.rooms.asking import Mode, Pads, Smalls, Text, check_sizes, forward, numbers, per_axis, planes
from svertka.lab.rooms.code import convolution_code
from svertka.lab.rooms.stage import Stage, staged
from svertka.lab.work import Check

MAX_MATRIX = 20_000  # entries, zeros counted, of a matrix that is drawn


class ConvolutionAsked(Asked):
    """A convolution.

    Args:
        input: a signal "1 2 3" or a matrix "1 2; 3 4", its channels between bars.
        kernel: of as many axes; planes between bars, in the order [out, in / groups] (transposed: [in, out / groups]).
        bias: of every output channel alike.
        stride, dilation: for each axis.
        padding: (before, after) for each axis, or a name.
        mode: what stands outside the input.
        groups: parts of the channels that don't see each other.
        transposed: the transpose, with `output_padding` places added at the end.
        flip: turn the kernel round, as mathematics has it.
    """

    input: Text
    kernel: Text
    bias: float | None = None
    stride: Smalls = Field([1])
    padding: Pads | Literal["valid", "same_upper", "same_lower"] = "valid"
    dilation: Smalls = Field([1])
    mode: Mode = "zeros"
    groups: Annotated[int, Field(ge=1, le=64)] = 1
    transposed: bool = False
    output_padding: Annotated[int, Field(ge=0, le=8)] = 0
    flip: bool = False


class AxisFacts(Answered):
    """One axis in numbers: ⌊(n + before + after − extent) / stride⌋ + 1 = outputs.

    Of a transpose: (n − 1) · stride − before − after + extent + output_padding = outputs.
    """

    n: int
    before: int
    after: int
    size: int
    stride: int
    dilation: int
    extent: int
    outputs: int


class Matrix(Answered):
    """The operation as a matrix: entry i stands at (rows[i], columns[i]).

    Args:
        height, width: numbers of outputs and of inputs.
        values: of the entries that are not empty.
        names: of the weights that make them, k11 ….
    """

    height: int
    width: int
    rows: list[int]
    columns: list[int]
    values: list[float]
    names: list[str]


class CostFacts(Answered):
    """What the layer costs, and others of the same shape, by kind."""

    weights: dict[str, int]
    macs: dict[str, int]
    macs_inside: int


class ConvolutionAnswer(Answered):
    """The convolution, whole.

    Args:
        input: the numbers that were read, [channels, rows, columns]; of a signal one row.
        kernel: [planes, rows, columns].
        filters: output channels.
        stage: what is drawn.
        axes: each in numbers.
        matrix: null where it is too large to be drawn.
        cost: in multiply-adds.
        code: the same in PyTorch, to be copied and run.
    """

    input: list[list[list[float]]]
    kernel: list[list[list[float]]]
    filters: int
    stage: Stage
    axes: list[AxisFacts]
    matrix: Matrix | None
    cost: CostFacts
    code: str


class ExportAsked(Asked):
    """An animation of a convolution as a file."""

    experiment: ConvolutionAsked
    kind: Literal["svg", "gif", "html"]
    channel: Annotated[int, Field(ge=0, le=64)] = 0


def convolve(asked: ConvolutionAsked, check: Check) -> ConvolutionAnswer:
    """A convolution step by step, as a matrix, and what it costs."""
    shown = explanation(asked)
    stage = staged(shown, check, asked.flip)
    cost = shown.cost
    kinds = {"convolution": cost, **cost.others}
    weight = shown.bound.weight
    assert weight is not None
    typed = np.flip(weight, tuple(range(-stage.ndim, 0))) if asked.flip else weight
    return ConvolutionAnswer(
        input=planes(shown.x, stage.ndim),
        kernel=planes(typed, stage.ndim),
        filters=len(shown.output),
        stage=stage,
        axes=[_facts(w, n) for w, n in zip(shown.bound.operation.windows, shown.x.shape[1:], strict=True)],
        matrix=_matrix(shown),
        cost=CostFacts(
            weights={kind: each.weights for kind, each in kinds.items()},
            macs={kind: each.macs for kind, each in kinds.items()},
            macs_inside=cost.macs_inside,
        ),
        code=convolution_code(asked, shown, typed),
    )


def export(asked: ExportAsked, _: Check) -> File:
    """The animation of a convolution as SVG or GIF, or as a page with a player."""
    shown = explanation(asked.experiment)
    if asked.channel >= len(shown.output):
        raise LabError("request", f"there is no output channel {asked.channel}: there are {len(shown.output)}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"convolution.{asked.kind}"
        shown.animate(path, channel=asked.channel)
        types = {"svg": "image/svg+xml", "gif": "image/gif", "html": "text/html"}
        return File(path.read_bytes(), types[asked.kind], path.name)


def explanation(asked: ConvolutionAsked) -> Explanation:
    """The library's explanation of what was asked for.

    Raises:
        LabError: for what the page can say in the reader's language.
        SvertkaError: for all else that makes no convolution.
    """
    x, kernel = numbers(asked.input, "the input"), numbers(asked.kernel, "the kernel")
    ndim = x.ndim - 1
    if kernel.ndim != x.ndim:
        raise LabError("axes", f"the input has {ndim} axes and the kernel {kernel.ndim - 1}: give both alike")
    inputs, kernels, groups = len(x), len(kernel), asked.groups
    if inputs % groups or kernels * groups % inputs or (kernels * groups // inputs) % groups:
        raise LabError(
            "groups", f"{kernels} kernels for {inputs} channels can't be divided into {groups} groups", kernels, inputs,
            groups,
        )  # fmt: skip
    outputs = kernels * groups // inputs
    leading = (inputs, outputs // groups) if asked.transposed else (outputs, inputs // groups)
    operation = _operation(asked, ndim, kernel.shape[1:])
    check_sizes(operation, x.shape[1:])
    bias = None if asked.bias is None else [asked.bias] * outputs
    return explain(operation, x, kernel.reshape(*leading, *kernel.shape[1:]), bias, flip=asked.flip)


def _operation(asked: ConvolutionAsked, ndim: int, size: Sequence[int]) -> spec.Operation[Any]:
    stride, dilation = per_axis(asked.stride, ndim), per_axis(asked.dilation, ndim)
    padding = asked.padding if isinstance(asked.padding, str) else per_axis(asked.padding, ndim)
    if not asked.transposed:
        return arguments.convolution_spec(ndim, tuple(size), stride, padding, dilation, asked.groups, asked.mode)
    if isinstance(padding, str):
        if padding != "valid":
            raise LabError("transposed-padding", "a transposed convolution takes its padding in numbers")
        padding = ((0, 0),) * ndim
    if asked.mode != "zeros":
        raise LabError("transposed-mode", "a transposed convolution pads with zeros only")
    return arguments.transposed_spec(
        ndim, tuple(size), stride, padding, asked.output_padding, asked.groups, dilation
    )  # fmt: skip


def _facts(window: Any, n: int) -> AxisFacts:
    one = forward(window)
    before, after = one.pads(n)
    return AxisFacts(
        n=n, before=before, after=after, size=one.size, stride=one.stride, dilation=one.dilation,
        extent=one.extent, outputs=window.output_size(n),
    )  # fmt: skip


def _matrix(shown: Explanation) -> Matrix | None:
    height, width = shown.output.size, shown.x.size
    if height * width > MAX_MATRIX:
        return None
    table, called = shown.matrix(), names(shown.steps)
    found = [(row, column) for row in range(height) for column in range(width) if called[row][column] != "0"]
    return Matrix(
        height=height,
        width=width,
        rows=[row for row, _ in found],
        columns=[column for _, column in found],
        values=[float(table[row, column]) for row, column in found],
        names=[called[row][column] for row, column in found],
    )


ENDPOINTS = (
    Endpoint("/api/convolution", ConvolutionAsked, ConvolutionAnswer, convolve),
    Endpoint("/api/convolution/export", ExportAsked, File, export),
)
