"""Frames: what the animation shows at each step, as plain data.

A frame is a function of the steps and a number. It shows the input with the window on it, the kernel, the output so
far, and the result spelled out. Only slices that the window touches are drawn: up to `SLICES` channels (times depths).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from svertka import spec
from svertka.errors import GeometryError
from svertka.explain.draw import style
from svertka.explain.draw.axes import MOST, Axis, axis
from svertka.explain.draw.formulas import spelled
from svertka.explain.draw.titles import times
from svertka.explain.steps import Position, Step, Steps

SLICES = 3  # channels, or channels × depths of the kernel, that are drawn


@dataclass(frozen=True)
class Cell:
    """One cell of a panel.

    Args:
        row, column: place in the panel.
        text: the number in it.
        role: one of style.BOXES.
        corner: small, at the lower right: what the number is multiplied by.
        origin: small, at the upper left: the position where a padding's value came from.
        marked: whether a thick outline marks it as the chosen one.
        note: what it is, in words.
    """

    row: int
    column: int
    text: str
    role: str
    corner: str = ""
    origin: str = ""
    marked: bool = False
    note: str = ""


@dataclass(frozen=True)
class Panel:
    """A table of cells.

    Args:
        caption: what it shows.
        rows, columns: its size.
        cells: at rest; they depend on the step only as far as the caption does.
        active: of this step, to be drawn over `cells`.
        outline: (row, column, rows, columns) of the window; None if it has none.
    """

    caption: str
    rows: int
    columns: int
    cells: tuple[Cell, ...]
    active: tuple[Cell, ...] = ()
    outline: tuple[int, int, int, int] | None = None


@dataclass(frozen=True)
class Frame:
    """What is to be seen at one step.

    Args:
        number: of this frame.
        step: the output that it explains.
        inputs: a panel for each slice.
        kernels: beside the inputs; empty if the operation has no weights.
        output: a slice of the output; cells before `done` have been shown, the active one is this step's.
        done: how many cells of the output panel had their turn before.
        operator: what happens between input and output: "∗", "max", "mean", …
        formula: the result, spelled out: pieces to be set one after another, lines broken between them.
        notes: what the drawing leaves out.
    """

    number: int
    step: Step
    inputs: tuple[Panel, ...]
    kernels: tuple[Panel, ...]
    output: Panel
    done: int
    operator: str
    formula: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def page(self) -> tuple[str, ...]:
        """What the resting cells depend on: frames of one page differ in their active cells alone."""
        return tuple(panel.caption for panel in (*self.inputs, *self.kernels, self.output))


class Frames(Sequence[Frame]):
    """The frames of one output channel, made when they are asked for, in row-major order of the positions drawn.

    Args:
        steps: of the operation.
        title: one line.
        channel: of the output.
        at: a position of the output that must be drawn, where the input is too large to be drawn in full.
        most: places that are drawn on each axis, for 1 to 3 axes.
    """

    def __init__(
        self,
        steps: Steps,
        title: str,
        channel: int = 0,
        at: Sequence[int] | None = None,
        most: tuple[int, int, int] = MOST,
    ) -> None:
        if not 0 <= channel < steps.output.shape[0]:
            raise GeometryError(f"there is no output channel {channel}: there are {steps.output.shape[0]}, from 0")
        self.steps, self.title, self.channel = steps, title, channel
        operation, size = steps.bound.operation, steps.x.shape[1:]
        at = tuple(at) if at is not None else (0,) * operation.ndim
        self.axes = tuple(
            axis(window, n, place, outputs, most[operation.ndim - 1])
            for window, n, place, outputs in zip(operation.windows, size, at, steps.output.shape[1:], strict=True)
        )
        self.positions = list(itertools.product(*(axis.outputs for axis in self.axes)))
        self.notes = tuple(self._notes())
        self._resting = lru_cache(maxsize=64)(self._cells)
        self._results = lru_cache(maxsize=64)(self._slice_of_results)

    def __len__(self) -> int:
        return len(self.positions)

    def __iter__(self) -> Iterator[Frame]:
        return (self[number] for number in range(len(self)))

    def __getitem__(self, number: Any) -> Any:
        if isinstance(number, slice):
            return [self[i] for i in range(*number.indices(len(self)))]
        if not -len(self) <= number < len(self):
            raise IndexError(f"frame {number} of {len(self)}")
        return self._frame(number % len(self))

    def number_of(self, position: Sequence[int]) -> int:
        """The number of the frame that explains an output position."""
        return self.positions.index(tuple(position))

    @property
    def is_line(self) -> bool:
        """Whether there is one spatial axis: then the kernel is drawn under the window that it lies on."""
        return len(self.axes) == 1

    def _frame(self, number: int) -> Frame:
        position = self.positions[number]
        step = self.steps.at((self.channel, *position))
        slices = self._slices(position)
        return Frame(
            number,
            step,
            tuple(self._input(step, *piece) for piece in slices),
            tuple(self._kernel(step, *piece) for piece in slices) if self._weighted else (),
            self._output(position),
            self._number_on_page(position),
            _OPERATORS.get(type(self.steps.bound.operation).__name__, "∗"),
            tuple(spelled(self.steps.bound.operation, step)),
            self.notes,
        )

    @property
    def _weighted(self) -> bool:
        return self.steps.bound.weight is not None

    def _slices(self, position: Position) -> list[tuple[int, int | None]]:
        """(input channel, depth tap or None) of each slice that is drawn."""
        depths: list[int | None] = [None]
        if len(self.axes) == 3:
            depths = [tap for tap, _ in self.axes[0].window(position[0])]
        return list(itertools.product(self.steps.channels(self.channel), depths))[:SLICES]

    def _flat(self) -> tuple[Axis | None, Axis]:
        """(the axis of the rows, the axis of the columns)."""
        return (None if self.is_line else self.axes[-2]), self.axes[-1]

    def _input(self, step: Step, channel: int, depth_tap: int | None) -> Panel:
        rows, columns = self._flat()
        depth = None if depth_tap is None else self.axes[0].place(step.output[1], depth_tap)
        active = self._window(step, channel, depth_tap, depth)
        places = [(cell.row, cell.column) for cell in active]
        top, left = (min(values) for values in zip(*places, strict=True)) if places else (0, 0)
        bottom, right = (max(values) for values in zip(*places, strict=True)) if places else (-1, -1)
        return Panel(
            self._caption("Input", self.steps.x.shape[0], channel, depth),
            1 if rows is None else len(rows.places),
            len(columns.places),
            self._resting(channel, depth),
            active,
            (top, left, bottom - top + 1, right - left + 1) if places else None,
        )

    def _caption(self, name: str, channels: int, channel: int, depth: int | None) -> str:
        parts = [f"channel {channel}"] * (channels > 1)
        if depth is not None:
            parts.append(f"depth {style.number(depth)}")
        return ", ".join([name, *parts])

    def _cells(self, channel: int, depth: int | None) -> tuple[Cell, ...]:
        """A slice of the input and its padding, at rest."""
        return tuple(self._at(channel, depth, *place) for place in self._grid())

    def _grid(self) -> Iterator[tuple[int, int]]:
        rows, columns = self._flat()
        return itertools.product(range(1 if rows is None else len(rows.places)), range(len(columns.places)))

    def _at(self, channel: int, depth: int | None, row: int, column: int) -> Cell:
        rows, columns = self._flat()
        marks = [columns.places[column]]
        if rows is not None:
            marks.insert(0, rows.places[row])
        if depth is not None:
            marks.insert(0, self.axes[0].mark(depth))
        kinds = {mark.kind for mark in marks}
        source = tuple(mark.source for mark in marks)
        if "nothing" in kinds:
            return Cell(row, column, "", "nothing", note="nothing stands here")
        if min(source) < 0:
            return Cell(row, column, self._outside(), "padding", note="padding")
        text, where = _short(self.steps.x[(channel, *source)]), ", ".join(map(str, source))
        if kinds == {"input"}:
            return Cell(row, column, text, "input", note=f"input at {where}")
        return Cell(row, column, text, "padding", origin=where.replace(" ", ""), note=f"padding: the input at {where}")

    def _outside(self) -> str:
        """What zero padding contributes, in a word."""
        operation = self.steps.bound.operation
        match operation:
            case spec.MaxPool():
                return f"{style.MINUS}∞"
            case spec.AveragePool(count_include_pad=False) | spec.WeightedPool(count_include_pad=False):
                return ""
            case spec.Pad():
                return style.number(operation.value)
        return "0"

    def _window(self, step: Step, channel: int, depth_tap: int | None, depth: int | None) -> tuple[Cell, ...]:
        """The cells under the window, with what they are multiplied by."""
        rows, columns = self._flat()
        terms = {term.tap: term for term in step.terms if term.channel == channel}
        uncounted, resting = self._outside() == "", self._resting(channel, depth)
        cells = []
        for row_tap, row in [(None, 0)] if rows is None else rows.window(step.output[-2]):
            for column_tap, column in columns.window(step.output[-1]):
                tap = tuple(t for t in (depth_tap, row_tap, column_tap) if t is not None)
                rest, term = resting[row * len(columns.places) + column], terms.get(tap)
                corner = ""
                if term is not None and term.weight is not None and not (uncounted and term.source is None):
                    corner = self._share(term.weight)
                role = {"input": "window", "padding": "window-padding"}.get(rest.role, "window-nothing")
                chosen = term is not None and term.chosen
                cells.append(Cell(row, column, rest.text, role, corner, rest.origin, chosen, rest.note))
        return tuple(cells)

    def _share(self, weight: float) -> str:
        operation = self.steps.bound.operation
        if isinstance(operation, spec.Pad) or (self.is_line and self._weighted):
            return ""  # nothing to say, or the weight is drawn right below
        if isinstance(operation, spec.AveragePool):
            return "" if math.isnan(weight) else f"1/{style.number(1 / weight)}"
        return style.number(weight, 2, 3)

    def _kernel(self, step: Step, channel: int, depth_tap: int | None) -> Panel:
        kernel = self.steps.kernel(step.output, channel)
        seen = {term.tap for term in step.terms if term.channel == channel}
        kernel = kernel if depth_tap is None else kernel[depth_tap]
        caption = self._caption("Kernel", len(self.steps.channels(self.channel)), channel, depth_tap)
        if self.is_line:
            columns = self.axes[-1]
            cells = [
                Cell(0, column, _short(kernel[tap]), "kernel" if (tap,) in seen else "idle", note=f"weight {tap}")
                for tap, column in columns.window(step.output[-1])
            ]
            return Panel(caption, 1, len(columns.places), (), tuple(cells))
        cells, idle = [], []
        for row, column in itertools.product(*map(range, kernel.shape)):
            tap = (row, column) if depth_tap is None else (depth_tap, row, column)
            note = "weight " + ", ".join(map(str, tap))
            cells.append(Cell(row, column, _short(kernel[row, column]), "kernel", note=note))
            if tap not in seen:
                idle.append(replace(cells[-1], role="idle"))
        resting, active = (cells, idle) if not isinstance(self.steps.bound.operation, spec.Unshared) else ([], cells)
        return Panel(caption, len(kernel), kernel.shape[1], tuple(resting), tuple(active))

    def _output(self, position: Position) -> Panel:
        rows, columns = self._flat()
        lead = position[: -1 if rows is None else -2]
        cells = self._results(lead)
        number = self._number_on_page(position)
        caption = self._caption("Output", self.steps.output.shape[0], self.channel, lead[0] if lead else None)
        return Panel(
            caption,
            1 if rows is None else len(rows.outputs),
            len(columns.outputs),
            cells,
            (replace(cells[number], role="current"),),
        )

    def _number_on_page(self, position: Position) -> int:
        """How many outputs of this slice come before."""
        rows, columns = self._flat()
        row = 0 if rows is None else rows.outputs.index(position[-2])
        return row * len(columns.outputs) + columns.outputs.index(position[-1])

    def _slice_of_results(self, lead: Position) -> tuple[Cell, ...]:
        """A slice of the output."""
        rows, columns = self._flat()
        cells = []
        for i, r in enumerate([None] if rows is None else rows.outputs):
            for j, c in enumerate(columns.outputs):
                place = (*lead, *(() if r is None else (r,)), c)
                text = _short(self.steps.output[(self.channel, *place)])
                cells.append(Cell(i, j, text, "output", note="output at " + ", ".join(map(str, place))))
        return tuple(cells)

    def _notes(self) -> Iterator[str]:
        if not all(axis.whole for axis in self.axes):
            parts = " × ".join(f"{axis.outputs.start} … {axis.outputs.stop - 1}" for axis in self.axes)
            yield f"Cut to the outputs at {parts} of {times(self.steps.output.shape[1:])}."
        channels, shown = self.steps.channels(self.channel), SLICES
        depths = len(self.axes[0].window(self.positions[0][0])) if len(self.axes) == 3 else 1
        if len(channels) * depths > shown:
            what = "channels" if depths == 1 else "slices"
            yield f"{shown} of {len(channels) * depths} {what} of the input are drawn; the sum has them all."
        if isinstance(self.steps.bound.operation, spec.TransposedConvolution):
            yield "The inputs stand as far apart as the stride; the kernel, turned round, moves one place at a time."
        if isinstance(self.steps.bound.operation, spec.StochasticPool):
            yield "Values times their probabilities: evaluation takes this mean, training draws one value."


def _short(value: float) -> str:
    return style.number(value, decimals=2 if abs(value) >= 0.1 else 3)


_OPERATORS = {
    "MaxPool": "max",
    "AveragePool": "mean",
    "LpPool": "norm",
    "StochasticPool": "mean",
    "KMaxPool": "max",
    "Pad": "pad",
}
