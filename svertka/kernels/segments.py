"""Maximum or mean of the parts that given boundaries cut rows into: y[n, c, s] over x[n, c, b[n, s − 1] … b[n, s] − 1].

The channels of a sample are cut at the same places, so as many of them as a vector has lanes go side by side. An empty
part has the maximum −∞ and the mean NaN. A task is a group of channels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from llvmlite import ir

from svertka.kernels.emit import F32, I1, I64, Arguments, Emitter, Value
from svertka.kernels.family import Family
from svertka.kernels.rows import SCRATCH, Rows

POINTERS = ("x", "boundaries", "y")
NUMBERS = ("channels", "length", "segments", "groups")


@dataclass(frozen=True)
class Parts:
    """What is made of a part: its mean or its maximum."""

    mean: bool


def _write(spec: Parts, _schedule: None, e: Emitter, slots: Value, task: Value, _worker: Value) -> None:
    """Task sample · groups + group."""
    a = Arguments(e, slots, POINTERS, NUMBERS)
    sample, group = e.divmod(task, a.groups)
    before = e.mul(sample, a.channels)
    first = e.add(before, e.mul(group, e.lanes))
    rows = Rows(e, a.x, a.length, first, e.add(before, a.channels), SCRATCH // e.lanes)
    cuts = e.sub(a.segments, 1)
    boundaries, result = e.at(a.boundaries, e.mul(sample, cuts), I64), e.array(e.lanes)
    parted = e.b.icmp_signed(">", a.length, e.i64(rows.room))

    def part(number: Value, start: Value, fetched: Value) -> list[Value]:
        last = e.b.icmp_signed("==", number, cuts)
        cut = e.load(boundaries, e.min(number, e.sub(cuts, 1)), I64)
        stop = e.b.select(last, a.length, _within(e, cut, a.length))
        begin = e.splat(0.0 if spec.mean else -math.inf)
        total, fetched = _combined(spec, e, a, rows, start, stop, parted, begin, fetched)
        if spec.mean:
            count = e.b.sitofp(_within(e, e.sub(stop, start), a.length), F32)
            total = e.b.fdiv(total, e.splat(count))
        e.store_vector(total, result)

        def store(lane: Value) -> None:
            e.store(e.load(result, lane), a.y, e.add(e.mul(e.add(first, lane), a.segments), number))

        e.loop(0, rows.count, store)
        return [stop, fetched]

    e.loop(0, a.segments, part, [e.i64(0), ir.Constant(I1, 0)])


def _within(e: Emitter, value: Value, most: Value) -> Value:
    """The number, or the nearest one from 0 to `most`."""
    value = e.min(value, most)
    return e.b.select(e.b.icmp_signed("<", value, e.i64(0)), e.i64(0), value)


def _combined(
    spec: Parts, e: Emitter, a: Arguments, rows: Rows, start: Value, stop: Value, parted: Value, *carried: Value
) -> Any:
    """The sum or maximum of positions [start, stop), and whether scratch holds all that has room there."""

    def piece(begin: Value, total: Value, fetched: Value) -> list[Value]:
        end = e.min(e.add(begin, rows.room), stop)
        first = e.b.select(parted, begin, e.i64(0))
        needed = e.b.or_(parted, e.b.not_(fetched))
        e.when(needed, lambda: rows.fetch(first, e.b.select(parted, end, a.length)))

        def position(i: Value, total: Value) -> list[Value]:
            value = rows.vector(e.sub(i, first))
            return [e.b.fadd(total, value) if spec.mean else e.maximum(total, value)]

        (total,) = e.loop(begin, end, position, [total])
        return [total, ir.Constant(I1, 1)]

    return e.loop(start, stop, piece, carried, step=rows.room)


SEGMENTS = Family("segments", POINTERS, NUMBERS, _write)
