"""Gradients of what whole rows are asked for: their k largest numbers, and the maximum or mean of their parts.

    k-max     dx[i] = dy[j] if x[i] is the j-th number of y, else 0
    maximum   dx[i] = dy[s] if x[i] is the first number of part s that is y[s], else 0
    mean      dx[i] = dy[s] / (numbers of part s)

Which numbers were taken needn't be kept: the k largest stand in y in the order they stand in x, and of equal ones the
first were taken, so that the next number of y is always the next one like it in x; NaN is like NaN. A task is some
rows.
"""

from __future__ import annotations

from dataclasses import dataclass

from llvmlite import ir

from svertka.kernels.emit import F32, I1, I64, Arguments, Emitter, Value
from svertka.kernels.family import Family

POINTERS = ("x", "y", "dy", "dx", "boundaries")
NUMBERS = ("rows", "rows_in_task", "length", "outputs", "channels")


@dataclass(frozen=True)
class RowGradient:
    """The gradient of the "k-max", "max" or "average"; of the last two, `channels` rows share a line of boundaries."""

    kind: str


def _write(spec: RowGradient, _schedule: None, e: Emitter, slots: Value, task: Value, _worker: Value) -> None:
    a = Arguments(e, slots, POINTERS, NUMBERS)
    first = e.mul(task, a.rows_in_task)

    def row(number: Value) -> None:
        at, outputs = e.mul(number, a.length), e.mul(number, a.outputs)
        x, dx, y, dy = e.at(a.x, at), e.at(a.dx, at), e.at(a.y, outputs), e.at(a.dy, outputs)
        if spec.kind == "k-max":
            e.loop(0, a.length, lambda i, j: _take(e, x, dx, y, dy, i, j, a.outputs), [e.i64(0)])
            return
        sample, _ = e.divmod(number, a.channels)
        cuts = e.sub(a.outputs, 1)
        boundaries = e.at(a.boundaries, e.mul(sample, cuts), I64)

        def part(s: Value, start: Value) -> list[Value]:
            cut = e.load(boundaries, e.min(s, e.sub(cuts, 1)), I64)
            stop = e.b.select(e.b.icmp_signed("==", s, cuts), a.length, _between(e, cut, start, a.length))
            if spec.kind == "average":
                share = e.b.fdiv(e.load(dy, s), e.b.sitofp(e.sub(stop, start), F32))
                e.loop(start, stop, lambda i: e.store(share, dx, i))
            else:
                e.loop(start, stop, lambda i, done: _first(e, x, dx, y, dy, i, s, done), [ir.Constant(I1, 0)])
            return [stop]

        e.loop(0, a.outputs, part, [e.i64(0)])

    e.loop(first, e.min(e.add(first, a.rows_in_task), a.rows), row)


def _between(e: Emitter, value: Value, low: Value, high: Value) -> Value:
    value = e.min(value, high)
    return e.b.select(e.b.icmp_signed("<", value, low), low, value)


def _alike(e: Emitter, a: Value, b: Value) -> Value:
    """Equal, or both NaN."""
    both = e.b.and_(e.b.fcmp_unordered("uno", a, a), e.b.fcmp_unordered("uno", b, b))
    return e.b.or_(e.b.fcmp_ordered("==", a, b), both)


def _take(e: Emitter, x: Value, dx: Value, y: Value, dy: Value, i: Value, j: Value, count: Value) -> list[Value]:
    """Number i, when j numbers were found; gives how many are found now."""
    here = e.min(j, e.sub(count, 1))
    found = e.b.and_(_alike(e, e.load(x, i), e.load(y, here)), e.b.icmp_signed("<", j, count))
    e.store(e.b.select(found, e.load(dy, here), e.f32(0.0)), dx, i)
    return [e.add(j, e.b.zext(found, I64))]


def _first(e: Emitter, x: Value, dx: Value, y: Value, dy: Value, i: Value, s: Value, done: Value) -> list[Value]:
    """Number i of part s; gives whether the part's maximum is found."""
    found = e.b.and_(_alike(e, e.load(x, i), e.load(y, s)), e.b.not_(done))
    e.store(e.b.select(found, e.load(dy, s), e.f32(0.0)), dx, i)
    return [e.b.or_(done, found)]


ROW_GRADIENT = Family("row gradient", POINTERS, NUMBERS, _write)
