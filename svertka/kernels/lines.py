"""Rows of a plane as lines in scratch memory: padded, and cut into phases, so that every tap reads neighbours.

With stride s, neighbouring outputs read places s apart. Phase i of a line holds the places i, i + s, i + 2s, …, and the
vector that tap t reads for the outputs o, o + 1, … lies in phase (t · dilation) mod s from o + ⌊t · dilation / s⌋ on:

    line(l, place) = scratch[(place mod s) · phase_pitch + l · line_pitch + ⌊place / s⌋]

A line is filled from a row of the input, or, where an operation may be done on one axis after the other, from what the
operation makes of all rows under a window. What stands outside the row (padding, and all places where the windows are
no regular ones) is copied number by number afterwards, from where a table says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from llvmlite import ir

from svertka.kernels.combine import Combination
from svertka.kernels.emit import F32, I32, I64, POINTER, VOID, Emitter, Value

MOST_PHASES = 4  # lines of larger strides are filled number by number
MOST_ROWS = 8  # rows under a window that are told one after the other without a loop
BAND, SEGMENT, RANGE, EDGE = 4, 7, 2, 2  # numbers in a line of the tables (a range has a number more for each phase)


@dataclass(frozen=True)
class Line:
    """How lines are filled: all that the machine code depends on.

    Args:
        phases: into how many a row is cut.
        rows: rows under a window that are combined; 0 for a number known at run time.
        combination: of these rows; None where there is one row and it is copied.
    """

    phases: int
    rows: int
    combination: Combination | None


class LineFiller:
    """Writes the filling of a band's lines.

    Args:
        a: the kernel's arguments, see `planes`.
        scratch: where the lines lie.
        ends: vectors at the end of each phase that may be read beyond what is filled.
    """

    def __init__(self, e: Emitter, line: Line, a: Any, scratch: Value, ends: int) -> None:
        self.e, self.line, self.a, self.scratch, self.ends = e, line, a, scratch, ends

    def clear(self, lines: Value, missing: Value) -> None:
        """Zeros where vectors read beyond the end of a phase, and in lines that are `missing` after the band's.

        Numbers that others left there may be slow to compute with: subnormal ones cost a hundred times an ordinary
        one's multiplication, even if nobody wants the result.
        """
        e = self.e

        def line(index: Value) -> None:
            def phase(number: Value) -> None:
                end = e.add(self._place(index), e.mul(e.add(number, 1), self.a.phase_pitch))
                for vectors in range(1, self.ends + 1):
                    e.store_vector(e.splat(0.0), self.scratch, e.sub(end, vectors * e.lanes))

            e.loop(0, self.a.phases, phase)

        e.loop(0, lines, line)
        first, last = self._place(lines), self._place(e.add(lines, missing))
        e.loop(first, last, lambda place: e.store_vector(e.splat(0.0), self.scratch, place), step=e.lanes)

    def fill(self, plane: Value, identity: float, first: Value, lines: Value, segment: Sequence[Value]) -> None:
        """Fills the lines from a plane.

        Args:
            plane: the address of its first number.
            identity: what stands outside.
            first, lines: the band's lines in the table of rows.
            segment: the first range and the end of the ranges, the first edge and the end of the edges.
        """
        e, (first_range, last_range, first_edge, last_edge) = self.e, segment

        def one_range(index: Value) -> None:
            place = e.at(self.a.ranges, e.mul(index, RANGE + self.line.phases), I32)
            column, columns, *at = (index_at(e, place, i) for i in range(RANGE + self.line.phases))
            targets = [e.at(self.scratch, offset) for offset in at]
            source = e.at(plane, column)
            e.loop(0, lines, lambda line: self._fill_line(source, column, columns, e.add(first, line), line, targets))

        e.loop(first_range, last_range, one_range)

        def edge(index: Value) -> None:
            place = e.at(self.a.edges, e.mul(index, EDGE), I32)
            target, source = (index_at(e, place, i) for i in range(EDGE))
            to, origin = e.at(self.scratch, target), e.at(self.scratch, source)

            def copy() -> tuple[()]:
                e.loop(0, lines, lambda line: e.store(e.load(origin, self._place(line)), to, self._place(line)))
                return ()

            def outside() -> tuple[()]:
                e.loop(0, lines, lambda line: e.store(e.f32(identity), to, self._place(line)))
                return ()

            e.choose(e.b.icmp_signed("<", source, e.i64(0)), outside, copy)

        e.loop(first_edge, last_edge, edge)

    def _place(self, line: Value) -> Value:
        return self.e.mul(line, self.a.line_pitch)

    def _fill_line(
        self, plane: Value, column: Value, columns: Value, row: Value, line: Value, targets: list[Value]
    ) -> None:
        """One range of one line: whole groups of phases · lanes columns, then the rest."""
        e, phases = self.e, self.line.phases
        group = phases * e.lanes
        read = self._reader(plane, column, row)
        targets = [e.at(target, self._place(line)) for target in targets]

        def groups(position: Value, left: Value | None) -> None:
            values = read(position, left)
            place = e.b.udiv(position, e.i64(phases))
            for target, value in zip(targets, split(e, values), strict=True):
                e.store_vector(value, target, place)

        whole = e.sub(columns, e.divmod(columns, group)[1])
        e.loop(0, whole, lambda position: groups(position, None), step=group)
        left = e.sub(columns, whole)
        e.when(e.b.icmp_signed(">", left, e.i64(0)), lambda: groups(whole, left))

    def _reader(self, plane: Value, column: Value, row: Value) -> Callable[[Value, Value | None], list[Value]]:
        """`read(position, left)`: the vectors of a group, each combined from all rows; only `left` columns are read."""
        e, combination = self.e, self.line.combination
        row_taps = self.line.rows or self.a.row_taps
        table = e.at(self.a.rows, e.mul(row, row_taps), I32)

        def row_address(tap: Any) -> Value:
            source = index_at(e, table, tap)
            outside = e.b.icmp_signed("<", source, e.i64(0))
            inside = e.at(plane, e.mul(source, self.a.width))
            return e.b.select(outside, e.at(self.a.outside, column), inside)

        if 0 < self.line.rows <= MOST_ROWS:
            addresses = [row_address(tap) for tap in range(self.line.rows)]

            def unrolled(position: Value, left: Value | None) -> list[Value]:
                values = self._group(addresses[0], position, left)
                if combination is None:
                    return values
                partial = [combination.lift(e, value) for value in values]
                for address in addresses[1:]:
                    partial = self._stepped(partial, self._group(address, position, left))
                return partial

            return unrolled

        def rolled(position: Value, left: Value | None) -> list[Value]:
            first = self._group(row_address(0), position, left)
            assert combination is not None
            partial = [combination.lift(e, value) for value in first]
            return e.loop(
                1,
                row_taps,
                lambda tap, *partial: self._stepped(partial, self._group(row_address(tap), position, left)),
                partial,
            )

        return rolled

    def _stepped(self, partial: Sequence[Value], values: Sequence[Value]) -> list[Value]:
        combination = self.line.combination
        assert combination is not None
        return [
            combination.step(self.e, 0, [part], value, None, None)[0]
            for part, value in zip(partial, values, strict=True)
        ]

    def _group(self, row: Value, position: Value, left: Value | None) -> list[Value]:
        e = self.e
        places = [e.add(position, i * e.lanes) for i in range(self.line.phases)]
        if left is None:
            return [e.load_vector(row, place) for place in places]
        return [load_first(e, row, place, e.sub(left, i * e.lanes)) for i, place in enumerate(places)]


def index_at(e: Emitter, table: Value, place: Any) -> Value:
    """A table's int32 as an i64."""
    return e.b.sext(e.load(table, place, I32), I64)


def split(e: Emitter, vectors: Sequence[Value]) -> list[Value]:
    """Phase i of s vectors that follow each other: their numbers i, i + s, i + 2s, …"""
    phases, lanes = len(vectors), e.lanes
    if phases == 1:
        return list(vectors)
    result = []
    for phase in range(phases):
        picks = [divmod(phase + phases * lane, lanes) for lane in range(lanes)]
        taken = vectors[0]
        for number, vector in enumerate(vectors[1:], start=1):
            # Lanes of earlier vectors stand where they belong from the second shuffle on.
            lanes_so_far = [
                lanes + at if origin == number else (at if number == 1 else lane)
                for lane, (origin, at) in enumerate(picks)
            ]
            taken = e.b.shuffle_vector(taken, vector, ir.Constant(e.indices, lanes_so_far))
        result.append(taken)
    return result


def first_lanes(e: Emitter, count: Value) -> Value:
    """A mask of the lanes below `count`, an i64."""
    numbers = ir.Constant(e.indices, list(range(e.lanes)))
    return e.b.icmp_signed("<", numbers, e.splat_index(e.b.trunc(count, I32)))


def load_first(e: Emitter, pointer: Value, offset: Value, count: Value) -> Value:
    """A vector of which only the lanes below `count` (an i64, may be negative) are read; the others are 0."""
    mask = first_lanes(e, count)
    name = f"llvm.masked.load.v{e.lanes}f32.p0"
    kind = ir.FunctionType(e.vector, [POINTER, mask.type, e.vector])
    return e.b.call(_declared(e, name, kind), [e.at(pointer, offset), mask, ir.Constant(e.vector, None)])


def store_first(e: Emitter, value: Value, pointer: Value, offset: Value, count: Value) -> None:
    """Stores only the lanes below `count` (an i64, may be negative): floats or integers."""
    element = value.type.element
    if element not in (F32, I32, I64):
        _store_few(e, value, pointer, offset, count)
        return
    mask = first_lanes(e, count)
    suffix = {F32: "f32", I32: "i32", I64: "i64"}[element]
    kind = ir.FunctionType(VOID, [value.type, POINTER, mask.type])
    address = e.at(pointer, offset, element)
    e.b.call(_declared(e, f"llvm.masked.store.v{e.lanes}{suffix}.p0", kind), [value, address, mask])


def _store_few(e: Emitter, value: Value, pointer: Value, offset: Value, count: Value) -> None:
    """`store_first` of small integers, of which processors have no masked stores: in powers of two."""
    element, lanes = value.type.element, e.lanes

    def whole() -> tuple[()]:
        e.store_vector(value, pointer, offset)
        return ()

    def part() -> None:
        bits, place = e.b.bitcast(value, ir.IntType(lanes * element.width)), e.value(offset)
        size = lanes // 2
        while size:
            kind = ir.IntType(size * element.width)
            wanted = e.b.icmp_signed("!=", e.b.and_(count, e.i64(size)), e.i64(0))
            address = e.at(pointer, place, element)
            few = e.b.trunc(bits, kind)
            e.when(wanted, partial(_store_bits, e, few, address))
            moved = e.b.lshr(bits, ir.Constant(bits.type, kind.width))
            bits, place = e.b.select(wanted, moved, bits), e.b.select(wanted, e.add(place, size), place)
            size //= 2

    def some() -> tuple[()]:
        e.when(e.b.icmp_signed(">", count, e.i64(0)), part)
        return ()

    e.choose(e.b.icmp_signed(">=", count, e.i64(lanes)), whole, some)


def _store_bits(e: Emitter, bits: Value, address: Value) -> None:
    e.b.store(bits, address, align=1)


def _declared(e: Emitter, name: str, kind: Any) -> Value:
    module = e.function.module
    return module.globals.get(name) or ir.Function(module, kind, name)
