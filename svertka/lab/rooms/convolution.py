"""Room 1: a convolution, or its transpose, on numbers that the page gives; everything about it in one answer."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from svertka import arguments, spec
from svertka.explain.explanation import Explanation, explain
from svertka.explain.matrix import names
from svertka.explain.parsing import parse_text
from svertka.lab.api import Answered, Asked, Endpoint, File, LabError
from svertka.lab.rooms.code import convolution_code, per_axis
from svertka.lab.rooms.stage import Stage, staged
from svertka.lab.work import Check
from svertka.window import TransposedWindow

MAX_ENTRIES = 3 * 32 * 32
MAX_MATRIX = 20_000  # entries, zeros counted, of a matrix that is drawn
Mode = Literal["zeros", "replicate", "reflect", "symmetric", "circular"]
Text = Annotated[str, Field(max_length=60_000)]
Small = Annotated[int, Field(ge=1, le=16)]
Pad = Annotated[int, Field(ge=0, le=32)]


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
    stride: Annotated[list[Small], Field(min_length=1, max_length=2)] = Field([1])
    padding: (
        Annotated[list[tuple[Pad, Pad]], Field(min_length=1, max_length=2)]
        | Literal["valid", "same_upper", "same_lower"]
    ) = "valid"
    dilation: Annotated[list[Small], Field(min_length=1, max_length=2)] = Field([1])
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
        input=_planes(shown.x, stage.ndim),
        kernel=_planes(typed, stage.ndim),
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
    inputs, planes, groups = len(x), len(kernel), asked.groups
    if inputs % groups or planes * groups % inputs or (planes * groups // inputs) % groups:
        raise LabError(
            "groups", f"{planes} kernels for {inputs} channels can't be divided into {groups} groups", planes, inputs,
            groups,
        )  # fmt: skip
    outputs = planes * groups // inputs
    leading = (inputs, outputs // groups) if asked.transposed else (outputs, inputs // groups)
    operation = _operation(asked, ndim, kernel.shape[1:])
    _check_sizes(operation, x.shape[1:])
    bias = None if asked.bias is None else [asked.bias] * outputs
    return explain(operation, x, kernel.reshape(*leading, *kernel.shape[1:]), bias, flip=asked.flip)


def numbers(text: str, name: str) -> Any:
    """float64 [channels, *size] with one or two axes, from the grammar of matrices."""
    values = parse_text(text, name)
    if values.ndim not in (2, 3):
        raise LabError("axes", f"{name} has {values.ndim - 1} axes: give a signal or a matrix")
    if values.size > MAX_ENTRIES:
        raise LabError("too-many-cells", f"{name} has {values.size} numbers, over {MAX_ENTRIES}", values.size)
    if abs(values).max() > 1e9:
        raise LabError("too-large", f"{name} holds numbers over 1e9: take smaller ones")
    return values


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


def _check_sizes(operation: spec.Operation[Any], size: Sequence[int]) -> None:
    for window, n in zip(operation.windows, size, strict=True):
        if not isinstance(window, TransposedWindow) and window.missing(n):
            before, after = window.pads(n)
            raise LabError(
                "no-window", f"a kernel of extent {window.extent} is larger than the padded input, {n} + {before} + "
                f"{after}: give more padding or a smaller kernel", window.extent, n, before, after,
            )  # fmt: skip


def _facts(window: Any, n: int) -> AxisFacts:
    forward = window.window if isinstance(window, TransposedWindow) else window
    before, after = forward.pads(n)
    return AxisFacts(
        n=n, before=before, after=after, size=forward.size, stride=forward.stride, dilation=forward.dilation,
        extent=forward.extent, outputs=window.output_size(n),
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


def _planes(values: Any, ndim: int) -> list[list[list[float]]]:
    rows = 1 if ndim == 1 else values.shape[-2]
    planes: list[list[list[float]]] = values.reshape(math.prod(values.shape[:-ndim]), rows, values.shape[-1]).tolist()
    return planes


ENDPOINTS = (
    Endpoint("/api/convolution", ConvolutionAsked, ConvolutionAnswer, convolve),
    Endpoint("/api/convolution/export", ExportAsked, File, export),
)
