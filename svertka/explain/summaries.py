"""The summary of a network: shapes, parameters, cost and receptive fields, layer by layer and in total."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from torch import nn

from svertka.errors import GeometryError
from svertka.explain.receptive import AxisField, described
from svertka.explain.tracing import Call, trace
from svertka.window import integer

if TYPE_CHECKING:
    from rich.table import Table

_INDEPENDENT = "does not depend on the input"


@dataclass(frozen=True)
class Row:
    """One call of a layer or function.

    Args:
        name: the layer's name in the network; of a function, that of the module which calls it and its own.
        kind: the layer's class or the function's name.
        output: shape of the output without the batch.
        parameters: number of parameters that no earlier row has counted.
        macs: multiply-adds; padding counted, biases not.
        receptive_field: what an output sees of the input, for each spatial axis; None if there is no one size.
        reason: why there is none; else empty.
    """

    name: str
    kind: str
    output: tuple[int, ...]
    parameters: int
    macs: int
    receptive_field: tuple[AxisField, ...] | None
    reason: str = ""


@dataclass(frozen=True)
class Summary:
    """A network on inputs of one size.

    Args:
        model: the network's class.
        input_size: (channels, *spatial size).
        rows: in the order of the calls.
        parameters: in all, shared ones counted once.
        macs: multiply-adds of one input in all.
        notes: what has to be said about the run.
    """

    model: str
    input_size: tuple[int, ...]
    rows: tuple[Row, ...]
    parameters: int
    macs: int
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Everything in plain types, for JSON."""
        return asdict(self)

    def table(self) -> Table:
        """Everything as a table for the terminal."""
        from rich import box
        from rich.table import Table

        size = "×".join(map(str, self.input_size))
        table = Table(title=f"Input {size}", box=box.SIMPLE_HEAD, show_footer=True, padding=0)
        table.show_edge = table.pad_edge = False
        table.title_justify = table.caption_justify = "left"
        table.add_column("Layer", "Total", overflow="fold", min_width=12)
        table.add_column("Kind", overflow="fold")
        table.add_column("Output", justify="right")
        table.add_column("Parameters", _grouped(self.parameters), justify="right")
        table.add_column("MACs", _short(self.macs), justify="right")
        for heading in ("Field", "Stride", "From"):
            table.add_column(heading, justify="right", no_wrap=True)
        footnotes: dict[str, int] = {}
        for row, above in zip(self.rows, ("", *(row.name for row in self.rows)), strict=False):
            table.add_row(_nested(row.name, above), *_cells(row, footnotes))
        legend = ["Field, Stride, From: size, stride and first place of the receptive field in the input."]
        legend += [f"({number}) {reason}" for reason, number in footnotes.items()]
        table.caption = "\n".join([*legend, *self.notes])
        return table


def summary(model: nn.Module, input_size: Sequence[int]) -> Summary:
    """Every layer's output shape, parameters, multiply-adds and receptive field, for one input in evaluation mode.

    The model is not computed, only its shapes are, on a copy without weights; itself it is left alone.

    Args:
        model: any torch model that takes one tensor [N, channels, *size].
        input_size: (channels, *size), with 1, 2 or 3 spatial axes.

    Raises:
        GeometryError: if the model cannot take an input of this size.
    """
    size = tuple(integer(n, f"input_size[{axis}]", 1) for axis, n in enumerate(input_size))
    if not size:
        raise GeometryError("input_size=() is no size: give (channels, height, width)")
    found = trace(model, size)
    rows = tuple(_row(call, size[1:]) for call in found.calls)
    return Summary(type(model).__name__, size, rows, found.parameters, sum(row.macs for row in rows), found.notes)


def _row(call: Call, size: Sequence[int]) -> Row:
    field = _INDEPENDENT if call.field is None else described(call.field, size)
    known, reason = (None, field) if isinstance(field, str) else (field, "")
    return Row(call.name, call.kind, call.shape[1:], call.parameters, call.macs, known, reason)


def _cells(row: Row, footnotes: dict[str, int]) -> list[str]:
    shape = "×".join(map(str, row.output))
    parameters = _grouped(row.parameters) if row.parameters else ""
    macs = _short(row.macs) if row.macs else ""
    if row.receptive_field is None:
        number = footnotes.setdefault(row.reason, len(footnotes) + 1)
        field = [f"({number})", "", ""]
    else:
        axes = row.receptive_field
        field = [
            "all" if axes and all(axis.whole for axis in axes) else _equal([str(axis.size) for axis in axes]),
            _equal(["" if axis.stride is None else str(axis.stride) for axis in axes]),
            _equal(["" if axis.whole else str(axis.offset) for axis in axes]).replace("-", "−"),
        ]
    return [row.kind, shape, parameters, macs, *field]


def _nested(name: str, above: str) -> str:
    """The name without the parts that the row above begins with, too: indented by a space for each."""
    parts, others = name.split("."), above.split(".")
    shared = next((i for i, pair in enumerate(zip(parts[:-1], others, strict=False)) if pair[0] != pair[1]), None)
    shared = min(len(parts) - 1, len(others)) if shared is None else shared
    return " " * shared + ".".join(parts[shared:])


def _equal(axes: Sequence[str]) -> str:
    """One number for all axes, where they are equal."""
    return "×".join(axes if len(set(axes)) > 1 else axes[:1])


def _grouped(number: int) -> str:
    return f"{number:,}".replace(",", " ")


def _short(number: int) -> str:
    """Three or four digits and a unit."""
    value, unit = float(number), ""
    for unit in ("", "k", "M", "G", "T"):
        if value < 1000 or unit == "T":
            break
        value /= 1000
    return f"{value:.{0 if not unit else 2 if value < 10 else 1 if value < 100 else 0}f} {unit}".strip()
