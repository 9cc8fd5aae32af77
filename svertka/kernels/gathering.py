"""Gradients of windows that keep channels apart: each input gathers from the outputs that read it.

    dx[i, c] = Σ over the pairs (o, t) that read input i of part(dy[o, c], o, t)

    part   sum       share(o) · dy      means; the share is that of o's row times that of its column
           taken     dy if taken[o, c] = t, else 0      maxima and draws, which took one tap
           weighted  w[t, c] · dy      weighted sums

No sum is shared by two threads, none needs dx to be filled with zeros, and each is in one order: rows' readers outside,
columns' readers inside. This file gathers on neighbouring channels, in vectors of them; `gathering_planes` on planes.

Tables list the readers of each row (all axes but the last count as rows) and each column of the input, as starts
[inputs + 1] and, for each reader, the output, the tap (of rows times the taps of columns) and the share's bits.
"""

from __future__ import annotations

from dataclasses import dataclass

from llvmlite import ir

from svertka.kernels.emit import I32, I64, Arguments, Emitter, Value
from svertka.kernels.family import Family

POINTERS = ("dy", "taken", "w", "dx", "row_starts", "row_readers", "column_starts", "column_readers")
NUMBERS = ("all_rows", "rows", "columns", "y_rows", "y_columns", "rows_in_task", "column_tasks", "columns_in_task")
READER = 3  # numbers of a reader


@dataclass(frozen=True)
class Part:
    """What an input gets from an output that read it.

    Args:
        kind: "sum", "taken" or "weighted".
        bits: of the integers `taken`.
    """

    kind: str
    bits: int = 8


@dataclass(frozen=True)
class Gathering:
    """What is gathered, for so many neighbouring channels."""

    part: Part
    channels: int


@dataclass(frozen=True)
class GatheringSchedule:
    """`vectors` of channels are gathered side by side."""

    vectors: int = 1


def choose_gathering(channels: int, lanes: int) -> GatheringSchedule:
    """As few blocks as there can be of at most 8 vectors."""
    vectors = -(-channels // lanes)
    return GatheringSchedule(-(-vectors // -(-vectors // 8)))


class _Task:
    """Task rows' part · column_tasks + columns' part; rows are counted through all images."""

    def __init__(self, spec: Gathering, schedule: GatheringSchedule, e: Emitter, slots: Value, task: Value) -> None:
        self.spec, self.schedule, self.e = spec, schedule, e
        self.a = a = Arguments(e, slots, POINTERS, NUMBERS)
        rows, columns = e.divmod(task, a.column_tasks)
        first = e.mul(rows, a.rows_in_task)
        self.first_column = e.mul(columns, a.columns_in_task)
        self.last_column = e.min(e.add(self.first_column, a.columns_in_task), a.columns)
        e.loop(first, e.min(e.add(first, a.rows_in_task), a.all_rows), self._row)

    def _readers(self, starts: Value, i: Value) -> tuple[Value, Value]:
        return tuple(self.e.b.sext(self.e.load(starts, self.e.add(i, k), I32), I64) for k in (0, 1))

    def _row(self, number: Value) -> None:
        e, a, channels = self.e, self.a, self.spec.channels
        image, row = e.divmod(number, a.rows)
        start = e.mul(e.mul(image, a.y_rows), e.mul(a.y_columns, channels))
        self.dy, self.taken = e.at(a.dy, start), e.at(a.taken, start, ir.IntType(self.spec.part.bits))
        self.dx = e.at(a.dx, e.mul(number, e.mul(a.columns, channels)))
        self.row_readers = self._readers(a.row_starts, row)
        e.loop(self.first_column, self.last_column, self._input)

    def _input(self, column: Value) -> None:
        """All channels of one input."""
        e, channels = self.e, self.spec.channels
        readers = self._readers(self.a.column_starts, column)
        dx = e.at(self.dx, e.mul(column, channels))
        width = self.schedule.vectors * e.lanes
        whole = channels // width * width
        if whole > width:
            e.loop(0, whole, lambda c: self._block(readers, dx, c, width), step=width)
        elif whole:
            self._block(readers, dx, e.i64(0), width)
        if channels > whole:
            self._block(readers, dx, e.i64(whole), channels - whole)

    def _block(self, column_readers: tuple[Value, Value], dx: Value, c: Value, count: int) -> None:
        """So many channels of one input."""
        e, a = self.e, self.a
        counts = [min(e.lanes, count - first) for first in range(0, count, e.lanes)]

        def row_reader(r: Value, *sums: Value) -> list[Value]:
            row = e.at(a.row_readers, e.mul(r, READER), I32)
            output, tap = (e.b.sext(e.load(row, k, I32), I64) for k in (0, 1))
            first = e.mul(output, a.y_columns)

            def column_reader(q: Value, *sums: Value) -> list[Value]:
                column = e.at(a.column_readers, e.mul(q, READER), I32)
                output, own = (e.b.sext(e.load(column, k, I32), I64) for k in (0, 1))
                here = e.add(e.mul(e.add(first, output), self.spec.channels), c)
                part = self._part_of(row, column, e.add(tap, own), c)
                return [part(e.add(here, v * e.lanes), v, n, sums[v]) for v, n in enumerate(counts)]

            return e.loop(*column_readers, column_reader, sums)

        sums = e.loop(*self.row_readers, row_reader, [e.splat(0.0)] * len(counts))
        for v, lanes in enumerate(counts):
            e.store_vector(sums[v], dx, e.add(c, v * e.lanes), lanes)

    def _part_of(self, row: Value, column: Value, tap: Value, c: Value) -> Value:
        """A function that adds the parts of some channels from one reader to their sums."""
        e, part = self.e, self.spec.part
        if part.kind == "sum":
            share = e.splat(e.b.fmul(e.load(row, 2), e.load(column, 2)))
            return lambda here, _, lanes, total: e.fma(share, e.load_vector(self.dy, here, lanes), total)
        if part.kind == "weighted":
            w = e.at(self.a.w, e.add(e.mul(tap, self.spec.channels), c))

            def weighted(here: Value, vector: int, lanes: int, total: Value) -> Value:
                weight = e.load_vector(w, vector * e.lanes, lanes)
                return e.fma(weight, e.load_vector(self.dy, here, lanes), total)

            return weighted
        number = e.splat_index(e.b.trunc(tap, I32))

        def taken(here: Value, _: int, lanes: int, total: Value) -> Value:
            dy, zero = e.load_vector(self.dy, here, lanes), e.splat(0.0)
            return e.b.fadd(total, e.b.select(is_taken(e, part, self.taken, here, number, lanes), dy, zero))

        return taken


def is_taken(e: Emitter, part: Part, taken: Value, here: Value, tap: Value, lanes: int | None = None) -> Value:
    """Whether these outputs took the tap, a vector of int32 with one number in all lanes."""
    kind = ir.VectorType(ir.IntType(part.bits), e.lanes)
    numbers = e.load_vector(taken, here, lanes, kind)
    return e.b.icmp_signed("==", numbers if part.bits == 32 else e.b.zext(numbers, e.indices), tap)


def _write(spec: Gathering, schedule: GatheringSchedule, e: Emitter, slots: Value, task: Value, _worker: Value) -> None:
    _Task(spec, schedule, e, slots, task)


GATHERING = Family("gathering", POINTERS, NUMBERS, _write)
