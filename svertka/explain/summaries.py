"""The summary of a network: shapes, parameters, cost, memory and receptive fields, by layer and in total; and time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from svertka.errors import GeometryError
from svertka.explain import timing
from svertka.explain.cost import grouped
from svertka.explain.draw.titles import times
from svertka.explain.receptive import AxisField, described, reach
from svertka.explain.tracing import Call, trace
from svertka.window import integer

if TYPE_CHECKING:
    from rich.table import Table

_INDEPENDENT = "does not depend on the input"
_FLOAT = 4  # bytes of a float32
_LONGEST = 2048  # inputs on an axis, for which all that is seen is followed place by place


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
        reach: in that case (fewest, most) places from the first input that an output sees to the last, for each axis;
            None if that isn't known either.
        memory: bytes of the results in float32; 0 if they lie in memory that an earlier row has counted.
        moved: bytes of inputs, parameters and results in float32, each once.
        seconds: that it took, if it was timed.
    """

    name: str
    kind: str
    output: tuple[int, ...]
    parameters: int
    macs: int
    receptive_field: tuple[AxisField, ...] | None
    reason: str = ""
    reach: tuple[tuple[int, int], ...] | None = None
    memory: int = field(default=0, compare=False)
    moved: int = field(default=0, compare=False)
    seconds: float | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Summary:
    """A network on one input, or on a batch of them.

    Args:
        model: its name, or the network's class.
        input_size: (channels, *spatial size).
        rows: in the order of the calls.
        parameters: in all, shared ones counted once.
        macs: multiply-adds in all.
        memory: bytes of all results in float32, which is what training keeps of them at most; the input not counted.
        notes: what has to be said about the run.
        batch: number of inputs that macs, memory and seconds are of.
        machine: this machine's measured peak, if the network was timed.
    """

    model: str
    input_size: tuple[int, ...]
    rows: tuple[Row, ...]
    parameters: int
    macs: int
    memory: int
    notes: tuple[str, ...] = ()
    batch: int = 1
    machine: timing.Machine | None = None

    def to_dict(self) -> dict[str, Any]:
        """Everything in plain types, for JSON."""
        return asdict(self)

    def roof(self, row: Row) -> float | None:
        """The part of the machine's measured peak that a row reached, by the roofline model; None if not timed."""
        if self.machine is None or not row.seconds:
            return None
        return self.machine.roof(2 * row.macs, row.moved) / row.seconds

    def table(self) -> Table:
        """Everything as a table for the terminal; that of the times, if the network was timed."""
        from rich import box
        from rich.table import Table

        batch = f"{self.batch} × " if self.batch > 1 else ""
        title = f"{self.model} on {batch}{times(self.input_size)}"
        table = Table(title=title, box=box.SIMPLE_HEAD, show_footer=True, padding=0)
        table.show_edge = table.pad_edge = False
        table.title_justify = table.caption_justify = "left"
        table.add_column("Layer", "Total", overflow="fold", min_width=12)
        table.add_column("Kind", overflow="fold")
        table.add_column("Output", justify="right")
        footnotes: dict[str, int] = {}
        columns, legend = (self._sizes, _LEGEND) if self.machine is None else (self._times, _timed(self.machine))
        cells = columns(table, footnotes)
        for row, above in zip(self.rows, ("", *(row.name for row in self.rows)), strict=False):
            table.add_row(_nested(row.name, above), row.kind, times(row.output), *cells(row))
        lines = [legend, *(f"({number}) {reason}" for reason, number in footnotes.items()), *self.notes]
        if self.machine is None:
            lines.insert(0, f"{grouped(self.parameters)} parameters, {grouped(self.macs)} multiply-adds.")
        table.caption = "\n".join(lines)
        return table

    def __rich__(self) -> Table:
        return self.table()

    def _sizes(self, table: Table, footnotes: dict[str, int]) -> Callable[[Row], list[str]]:
        """Adds the columns of an untimed summary; gives what fills them."""
        for heading, total in (("Params", self.parameters), ("MACs", self.macs), ("Bytes", self.memory)):
            table.add_column(heading, short(total), justify="right")
        for heading in ("Field", "Step", "From"):
            table.add_column(heading, justify="right", no_wrap=True)
        return lambda row: [*map(_short_or_empty, (row.parameters, row.macs, row.memory)), *_field(row, footnotes)]

    def _times(self, table: Table, _: dict[str, int]) -> Callable[[Row], list[str]]:
        """Adds the columns of a timed summary; gives what fills them."""
        spent = sum(row.seconds or 0.0 for row in self.rows)
        share = self.roof(Row("", "", (), 0, self.macs, None, moved=sum(r.moved for r in self.rows), seconds=spent))
        speed = 2 * self.macs / spent / 1e9 if spent else 0.0
        totals = (short(self.macs), _milliseconds(spent), "", f"{speed:.1f}", "" if share is None else f"{share:.0%}")
        for heading, total in zip(("MACs", "ms", "Share", "GFLOP/s", "Roof"), totals, strict=True):
            table.add_column(heading, total, justify="right", no_wrap=True)

        def cells(row: Row) -> list[str]:
            if row.seconds is None:
                return [_short_or_empty(row.macs), "", "", "", ""]
            roof = self.roof(row) if row.memory or row.macs else None
            return [
                _short_or_empty(row.macs),
                _milliseconds(row.seconds),
                f"{row.seconds / spent:.1%}",
                f"{2 * row.macs / row.seconds / 1e9:.1f}" if row.macs else "",
                "" if roof is None else f"{roof:.0%}",
            ]

        return cells


_LEGEND = (
    "Bytes: of the results, in float32. Field, Step, From: size, stride and first place of the receptive "
    "field in the input."
)


def _timed(machine: timing.Machine) -> str:
    return (
        "ms: the fastest of several rounds. Roof: the time that the measured peak of this machine would take "
        f"({machine.gflops:.0f} GFLOP/s by a matrix product, {machine.bandwidth:.1f} GB/s by a copy, threads: "
        f"{machine.threads}), in per cent of the time taken; over 100 % comes from the cache."
    )


def summary(model: nn.Module, input: Sequence[int] | Tensor, *, time: bool = False, name: str = "") -> Summary:
    """Every layer's output shape, parameters, multiply-adds, memory and receptive field, in evaluation mode.

    The model is not computed, only its shapes are, on a copy without weights; itself it is left alone. Only to time
    it, it is run on the CPU.

    Args:
        model: any torch model that takes one tensor [N, channels, *size].
        input: such a tensor, or the size (channels, *size) of one input, with 1, 2 or 3 spatial axes.
        time: measure how long each layer takes, and this machine's peak; takes a few seconds.
        name: the model's; its class' if empty.

    Raises:
        GeometryError: if the model cannot take such an input.
    """
    if isinstance(input, Tensor):
        example: Sequence[int] | Tensor = input
        batch, *size = input.shape if input.ndim else (1,)
    else:
        example = size = [integer(n, f"input[{axis}]", 1) for axis, n in enumerate(input)]
        batch = 1
    if not size:
        raise GeometryError(f"input={input} is no size: give (channels, height, width) or a tensor")
    found = trace(model, example)
    spent = timing.seconds(model, example) if time else {}
    rows = [_row(call, size[1:], spent.get((call.name, call.number))) for call in found.calls]
    if any(row.reason not in ("", _INDEPENDENT) for row in rows) and max(size[1:], default=0) <= _LONGEST:
        rows = _with_reach(rows, found.calls, trace(model, example, exact=True).calls)
    macs, memory = sum(row.macs for row in rows), sum(row.memory for row in rows)
    machine = timing.machine() if time else None
    title = name or type(model).__name__
    return Summary(title, tuple(size), tuple(rows), found.parameters, macs, memory, found.notes, batch, machine)


def _row(call: Call, size: Sequence[int], seconds: float | None) -> Row:
    field = _INDEPENDENT if call.field is None else described(call.field, size)
    known, reason = (None, field) if isinstance(field, str) else (field, "")
    memory, moved = call.memory * _FLOAT, call.moved * _FLOAT
    return Row(
        call.name, call.kind, call.shape[1:], call.parameters, call.macs, known, reason,
        memory=memory, moved=moved, seconds=seconds,
    )  # fmt: skip


def _with_reach(rows: Sequence[Row], calls: Sequence[Call], exact: Sequence[Call]) -> list[Row]:
    """The rows without a field with what their outputs see place by place."""
    fields = {(call.name, call.number): call.field for call in exact}
    found = [fields.get((call.name, call.number)) for call in calls]
    return [
        row if not row.reason or seen is None else replace(row, reach=reach(seen))
        for row, seen in zip(rows, found, strict=True)
    ]


def _field(row: Row, footnotes: dict[str, int]) -> list[str]:
    if row.receptive_field is None:
        number = footnotes.setdefault(row.reason, len(footnotes) + 1)
        if row.reach is None:
            return [f"({number})", "", ""]
        return [_equal([str(a) if a == b else f"{a}–{b}" for a, b in row.reach]), f"({number})", ""]
    axes = row.receptive_field
    return [
        "all" if axes and all(axis.whole for axis in axes) else _equal([str(axis.size) for axis in axes]),
        _equal(["" if axis.stride is None else str(axis.stride) for axis in axes]),
        _equal(["" if axis.whole else str(axis.offset) for axis in axes]).replace("-", "−"),
    ]


def _nested(name: str, above: str) -> str:
    """The name without the parts that the row above begins with, too: indented by a space for each."""
    parts, others = name.split("."), above.split(".")
    shared = next((i for i, pair in enumerate(zip(parts[:-1], others, strict=False)) if pair[0] != pair[1]), None)
    shared = min(len(parts) - 1, len(others)) if shared is None else shared
    return " " * shared + ".".join(parts[shared:])


def _equal(axes: Sequence[str]) -> str:
    """One number for all axes, where they are equal."""
    return "×".join(axes if len(set(axes)) > 1 else axes[:1])


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.2f}"


def _short_or_empty(number: int) -> str:
    return short(number) if number else ""


def short(number: int) -> str:
    """Three digits and a unit: 12.3M."""
    value, unit = float(number), ""
    for unit in ("", "k", "M", "G", "T"):
        if value < 1000 or unit == "T":
            break
        value /= 1000
    return f"{value:.{0 if not unit else 2 if value < 10 else 1 if value < 100 else 0}f}{unit}"
