"""Padding, and cutting off: y[n, c, o] = x[n, c, source(o)], or the value where there is no source.

A row of the result is its left edge, neighbours of the input, and its right edge: the edges go through the index map,
what lies between is copied. At each place of a row lie `unit` numbers: one, or all channels if they are neighbours. A
task is some rows and some columns of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from llvmlite import ir

from svertka.kernels.emit import F32, I32, I64, Arguments, Emitter, Value, shuffle
from svertka.kernels.family import Family

POINTERS = ("x", "depth_sources", "height_sources", "column_sources", "y")
NUMBERS = (
    "value", "unit", "plane", "rows", "depths", "heights", "in_heights", "in_columns", "columns", "inner_first",
    "inner_last", "shift", "rows_in_task", "column_tasks", "columns_in_task",
)  # fmt: skip
_NARROW = 4  # lanes of the vectors where a whole one is too wide


@dataclass(frozen=True)
class Pad:
    """What is copied; sizes, sources and the value (its bits) are numbers of the call.

    Args:
        single: `unit` is 1.
    """

    single: bool


class _Task:
    """Task row block · column_tasks + column block; rows run over planes, depths and heights."""

    def __init__(self, spec: Pad, e: Emitter, slots: Value, task: Value) -> None:
        self.spec, self.e = spec, e
        self.a = a = Arguments(e, slots, POINTERS, NUMBERS)
        self.value = e.b.bitcast(e.b.trunc(a.value, I32), F32)
        block, columns = e.divmod(task, a.column_tasks)
        self.first = e.mul(columns, a.columns_in_task)
        self.last = e.min(e.add(self.first, a.columns_in_task), a.columns)
        start = e.mul(block, a.rows_in_task)
        rest, height = e.divmod(start, a.heights)
        plane, depth = e.divmod(rest, a.depths)
        e.loop(start, e.min(e.add(start, a.rows_in_task), a.rows), self._row, (plane, depth, height))

    def _source(self, table: Value, output: Value) -> Value:
        return self.e.b.sext(self.e.load(table, output, I32), I64)

    def _inside(self, source: Value) -> Value:
        return self.e.b.icmp_signed(">=", source, self.e.i64(0))

    def _row(self, row: Value, plane: Value, depth: Value, height: Value) -> list[Value]:
        """Writes a row; gives the next one's plane, depth and height."""
        e, a = self.e, self.a
        self._write(row, plane, self._source(a.depth_sources, depth), self._source(a.height_sources, height))
        height = e.add(height, 1)
        end = e.b.icmp_signed("==", height, a.heights)
        height, depth = e.b.select(end, e.i64(0), height), e.add(depth, e.b.zext(end, I64))
        end = e.b.icmp_signed("==", depth, a.depths)
        return [e.add(plane, e.b.zext(end, I64)), e.b.select(end, e.i64(0), depth), height]

    def _write(self, row: Value, plane: Value, depth: Value, height: Value) -> None:
        """Writes a row of a plane that has these sources."""
        e, a = self.e, self.a
        source = e.mul(e.add(e.mul(depth, a.in_heights), height), e.mul(a.in_columns, a.unit))
        x, y = e.at(a.x, e.add(e.mul(plane, a.plane), source)), e.at(a.y, e.mul(row, e.mul(a.columns, a.unit)))

        def read() -> tuple[()]:
            inner_first, inner_last = self._within(a.inner_first), self._within(a.inner_last)
            self._edge(x, y, self.first, inner_first)
            start, count = e.mul(inner_first, a.unit), self._numbers(inner_first, inner_last)
            self._copy(e.at(x, e.add(start, e.mul(a.shift, a.unit))), e.at(y, start), count)
            self._edge(x, y, inner_last, self.last)
            return ()

        def fill() -> tuple[()]:
            self._fill(e.at(y, e.mul(self.first, a.unit)), self._numbers(self.first, self.last))
            return ()

        # A source is −1 or not less than 0, and so is what two of them make.
        e.choose(self._inside(e.b.or_(depth, height)), read, fill)

    def _numbers(self, first: Value, last: Value) -> Value:
        return self.e.mul(self.e.sub(last, first), self.a.unit)

    def _within(self, column: Value) -> Value:
        """The column, or the nearest one of the task."""
        column = self.e.min(column, self.last)
        return self.e.b.select(self.e.b.icmp_signed("<", column, self.first), self.first, column)

    def _edge(self, x: Value, y: Value, first: Value, last: Value) -> None:
        """Columns one by one."""
        e, a = self.e, self.a

        def column(number: Value) -> None:
            source = self._source(a.column_sources, number)
            here = e.at(y, e.mul(number, a.unit))

            def read() -> tuple[()]:
                if self.spec.single:
                    e.store(e.load(x, source), here)
                else:
                    self._copy(e.at(x, e.mul(source, a.unit)), here, a.unit)
                return ()

            def fill() -> tuple[()]:
                if self.spec.single:
                    e.store(self.value, here)
                else:
                    self._fill(here, a.unit)
                return ()

            e.choose(self._inside(source), read, fill)

        e.loop(first, last, column)

    def _copy(self, x: Value, y: Value, count: Value) -> None:
        e = self.e

        def move(i: Value, kind: Any) -> None:
            e.b.store(e.b.load(e.at(x, i), typ=kind, align=4), e.at(y, i), align=4)

        self._in_vectors(count, move)

    def _fill(self, y: Value, count: Value) -> None:
        e, wide = self.e, self.e.splat(self.value)

        def store(i: Value, kind: Any) -> None:
            width = getattr(kind, "count", 0)
            value = shuffle(e, wide, wide, range(width)) if width else self.value
            e.b.store(value, e.at(y, i), align=4)

        self._in_vectors(count, store)

    def _in_vectors(self, count: Value, move: Callable[[Value, Any], None]) -> None:
        """`move(i, kind)` over so many numbers, in vectors as wide as they fill; the last overlaps the one before."""
        e = self.e

        def vectors(width: int) -> tuple[()]:
            kind = ir.VectorType(F32, width)
            end = e.sub(count, width)
            e.loop(0, end, lambda i: move(i, kind), step=width)
            move(end, kind)
            return ()

        def one_by_one() -> tuple[()]:
            e.loop(0, count, lambda i: move(i, F32))
            return ()

        def narrow() -> tuple[()]:
            e.choose(self._at_least(count, _NARROW), lambda: vectors(_NARROW), one_by_one)
            return ()

        e.choose(self._at_least(count, e.lanes), lambda: vectors(e.lanes), narrow if e.lanes > _NARROW else one_by_one)

    def _at_least(self, count: Value, width: int) -> Value:
        return self.e.b.icmp_signed(">=", count, self.e.i64(width))


def _write(spec: Pad, _schedule: None, e: Emitter, slots: Value, task: Value, _worker: Value) -> None:
    _Task(spec, e, slots, task)


PAD = Family("pad", POINTERS, NUMBERS, _write)
