"""Matrices turned: y[image, column, row] = x[image, row, column], which is how memory formats differ.

Blocks of lanes × lanes are turned in registers, in log₂(lanes) rounds that each swap the halves, quarters, … of pairs
of rows. A task is a panel of rows: its columns are written a few whole vectors at a time, so that lines of the cache
are filled one after the other.
"""

from __future__ import annotations

from dataclasses import dataclass

from svertka.kernels.emit import Arguments, Emitter, Value, shuffle
from svertka.kernels.family import Family

POINTERS = ("x", "y")
NUMBERS = ("rows", "columns", "panels")


@dataclass(frozen=True)
class Transpose:
    """There is but one transposition; rows and columns are numbers of the call."""


@dataclass(frozen=True)
class TransposeSchedule:
    """`blocks` of lanes rows make a panel."""

    blocks: int = 4


def transposed(e: Emitter, rows: list[Value]) -> list[Value]:
    """The columns of as many rows as a vector has lanes."""
    count, step = len(rows), 1
    while step < count:
        # Swap the off-diagonal blocks of `step` × `step` in each square of twice that size.
        low = [i if not i & step else count + i - step for i in range(count)]
        high = [i + step if not i & step else count + i for i in range(count)]
        result = list(rows)
        for i in range(count):
            if not i & step:
                a, b = rows[i], rows[i + step]
                result[i], result[i + step] = shuffle(e, a, b, low), shuffle(e, a, b, high)
        rows, step = result, step * 2
    return rows


def _write(_: Transpose, schedule: TransposeSchedule, e: Emitter, slots: Value, task: Value, _worker: Value) -> None:
    """Task image · panels + panel."""
    a = Arguments(e, slots, POINTERS, NUMBERS)
    lanes, high = e.lanes, schedule.blocks * e.lanes
    image, panel = e.divmod(task, a.panels)
    start = e.mul(image, e.mul(a.rows, a.columns))
    x, y = e.at(a.x, start), e.at(a.y, start)
    first = e.mul(panel, high)
    last = e.min(e.add(first, high), a.rows)
    whole = e.add(first, e.mul(e.divmod(e.sub(last, first), lanes)[0], lanes))

    def block(row: Value, column: Value) -> None:
        rows = [e.load_vector(x, e.add(e.mul(e.add(row, i), a.columns), column)) for i in range(lanes)]
        for i, value in enumerate(transposed(e, rows)):
            e.store_vector(value, y, e.add(e.mul(e.add(column, i), a.rows), row))

    def one(row: Value, column: Value) -> None:
        e.store(e.load(x, e.add(e.mul(row, a.columns), column)), y, e.add(e.mul(column, a.rows), row))

    def single(first_row: Value, last_row: Value, first_column: Value) -> None:
        e.loop(
            first_column, a.columns, lambda column: e.loop(first_row, last_row, lambda row: one(row, column)) and None
        )

    columns = e.mul(e.divmod(a.columns, lanes)[0], lanes)
    e.loop(
        0,
        columns,
        lambda column: e.loop(first, whole, lambda row: block(row, column), step=lanes) and None,
        step=lanes,
    )
    single(first, whole, columns)
    single(whole, last, e.i64(0))


TRANSPOSE = Family("transpose", POINTERS, NUMBERS, _write)
