"""An operation on one input as a page draws it: what stands in each cell, and which terms each output has.

Everything is numbers in flat lists, so that the page looks a hover up and computes nothing. Cells are numbered
row-major through channels, rows and columns of what is drawn: the input and all places that windows look at. A signal
has one row.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from typing import Any

import numpy as np

from svertka.explain.draw.axes import Axis, axis
from svertka.explain.explanation import Explanation
from svertka.explain.steps import Steps
from svertka.lab.api import Answered, LabError
from svertka.lab.work import Check

MAX_TERMS = 20_000
"""More products than these are not told one by one: they would take seconds."""

MAX_CELLS = 6_000
"""Nor are more cells drawn."""

Number = float | None
KINDS = ("input", "padding", "nothing")


class Drawn(Answered):
    """The cells of the input and around it.

    Args:
        channels, rows, columns: of what is drawn.
        top, left: rows above and columns left of the input.
        values: of each cell; null where nothing stands.
        kinds: 0 the input itself, 1 padding, 2 nothing.
        sources: the input (its flat number) that stands in each cell, -1 for none.
    """

    channels: int
    rows: int
    columns: int
    top: int
    left: int
    values: list[Number]
    kinds: list[int]
    sources: list[int]


class Output(Answered):
    """The result: `values` in row-major order of channels, rows, columns."""

    channels: int
    rows: int
    columns: int
    values: list[Number]


class Terms(Answered):
    """The terms of all outputs; those of output i are starts[i] … starts[i + 1] − 1.

    Args:
        cells: where each looks.
        weights: which entry of the kernel (its flat number, as it was given) meets it; -1 where there is no kernel.
        factors: what the value is multiplied by; null where nothing is.
        products: what is added up; null where nothing is.
        chosen: 1 where the result is this very value.
    """

    starts: list[int]
    cells: list[int]
    weights: list[int]
    factors: list[Number]
    products: list[Number]
    chosen: list[int]


class Readers(Answered):
    """Which outputs see each input: those of input i are outputs[starts[i]] … outputs[starts[i + 1] − 1]."""

    starts: list[int]
    outputs: list[int]


class Stage(Answered):
    """An operation on one input, whole."""

    ndim: int
    size: list[int]
    drawn: Drawn
    output: Output
    terms: Terms
    readers: Readers
    biases: list[Number]


def staged(shown: Explanation, check: Check, flipped: bool = False) -> Stage:
    """The stage of an explanation.

    Args:
        shown: the operation on its input.
        check: called now and then, to stop.
        flipped: whether the kernel was turned round; terms then name its entries as they were given.

    Raises:
        LabError: if there are too many terms or cells to draw.
    """
    axes = _axes(shown)
    channels = len(shown.x)
    cells = channels * math.prod(len(line.places) for line in axes)
    if cells + shown.output.size > MAX_CELLS:
        raise LabError("too-many-cells", f"{cells + shown.output.size} cells are too many to draw: take less", cells)
    numbers = _Numbers(shown, axes, flipped)
    terms: dict[str, list[Any]] = {name: [] for name in ("cells", "weights", "factors", "products", "chosen")}
    starts = [0]
    biases: list[Number] = []
    readers: list[list[int]] = [[] for _ in range(shown.x.size)]
    for number, step in enumerate(shown.steps):
        check()
        if starts[-1] + len(step.terms) * (len(shown.steps) - number) > MAX_TERMS:
            raise LabError("too-many-terms", f"there are over {MAX_TERMS} products to show: take a smaller input")
        for term in step.terms:
            terms["cells"].append(numbers.cell(step.output, term.channel, term.tap))
            terms["weights"].append(numbers.weight(step.output, term.channel, term.tap))
            terms["factors"].append(_finite(term.weight))
            terms["products"].append(_finite(term.product))
            terms["chosen"].append(int(term.chosen))
            if term.source is not None:
                seen = readers[int(np.ravel_multi_index((term.channel, *term.source), shown.x.shape))]
                if not seen or seen[-1] != number:
                    seen.append(number)
        starts.append(len(terms["cells"]))
        biases.append(_finite(step.bias))
    return Stage(
        ndim=len(axes),
        size=list(shown.x.shape[1:]),
        drawn=_drawn(shown, axes),
        output=_output(shown.output),
        terms=Terms(starts=starts, **terms),
        readers=Readers(starts=_starts(readers), outputs=[output for seen in readers for output in seen]),
        biases=biases,
    )


def plane(shape: Sequence[int]) -> tuple[int, int, int]:
    """(channels, rows, columns) of [C, *size] with one or two axes."""
    return (shape[0], 1, shape[1]) if len(shape) == 2 else (shape[0], shape[1], shape[2])


def _axes(shown: Explanation) -> list[Axis]:
    outputs = shown.output.shape[1:]
    everything = 10**9
    return [
        axis(window, n, 0, size, everything)
        for window, n, size in zip(shown.bound.operation.windows, shown.x.shape[1:], outputs, strict=True)
    ]


class _Numbers:
    """Flat numbers of cells and of weights."""

    def __init__(self, shown: Explanation, axes: list[Axis], flipped: bool) -> None:
        self.looks = [[dict(look) for look in line.looks] for line in axes]
        self.drawn = [len(line.places) for line in axes]
        self.numbered: Steps | None = None
        if shown.bound.weight is not None:  # the same steps, with numbers in place of the weights
            flat = np.arange(shown.bound.weight.size, dtype=np.float64).reshape(shown.bound.weight.shape)
            flat = np.flip(flat, tuple(range(-len(axes), 0))) if flipped else flat
            self.numbered = copy(shown.steps)
            self.numbered.bound = replace(shown.bound, weight=flat)

    def cell(self, output: Sequence[int], channel: int, tap: Sequence[int]) -> int:
        number = channel
        for looks, size, place, t in zip(self.looks, self.drawn, output[1:], tap, strict=True):
            number = number * size + looks[place][t]
        return number

    def weight(self, output: tuple[int, ...], channel: int, tap: tuple[int, ...]) -> int:
        return -1 if self.numbered is None else int(self.numbered.kernel(output, channel)[tap])


def _drawn(shown: Explanation, axes: list[Axis]) -> Drawn:
    x = shown.x
    places = np.indices([len(line.places) for line in axes]).reshape(len(axes), -1).T
    values: list[Number] = []
    kinds: list[int] = []
    sources: list[int] = []
    for channel in range(len(x)):
        for place in places:
            marks = [line.places[i] for line, i in zip(axes, place, strict=True)]
            kinds.append(max(KINDS.index(mark.kind) for mark in marks))
            outside = any(mark.source < 0 for mark in marks)
            source = () if outside else tuple(mark.source for mark in marks)
            sources.append(-1 if outside else int(np.ravel_multi_index((channel, *source), x.shape)))
            nothing = 0.0 if kinds[-1] == 1 else None
            values.append(nothing if outside else float(x[(channel, *source)]))
    firsts = [next(i for i, mark in enumerate(line.places) if mark.kind == "input") for line in axes]
    sizes = [len(line.places) for line in axes]
    channels, rows, columns = plane((len(x), *sizes))
    return Drawn(
        channels=channels, rows=rows, columns=columns, top=firsts[0] if len(axes) == 2 else 0, left=firsts[-1],
        values=values, kinds=kinds, sources=sources,
    )  # fmt: skip


def _output(values: Any) -> Output:
    channels, rows, columns = plane(values.shape)
    return Output(channels=channels, rows=rows, columns=columns, values=[_finite(v) for v in values.ravel().tolist()])


def _finite(value: float | None) -> Number:
    return None if value is None or not math.isfinite(value) else float(value)


def _starts(lists: list[list[int]]) -> list[int]:
    return [0, *np.cumsum([len(each) for each in lists]).tolist()]
