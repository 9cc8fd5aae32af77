"""Sums over rows for batch norm, x and dy being matrices [rows, columns] with a column for each channel.

Of each chunk of rows, which stays in the cache meanwhile:
    forward    m = Σ x / n,  s = Σ (x − m)²
    backward   m = Σ dy,     s = Σ dy · (x − mean)
and of all chunks t together (Chan et al. 1983, equation 2.1):
    forward    mean = Σ n_t m_t / Σ n_t,  s = (Σ s_t + Σ n_t (m_t − mean)²) / Σ n_t
    backward   Σ m_t,  Σ s_t
A chunk's sums are short, so that float32 does; which rows make a chunk is a matter of shapes alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from svertka.kernels.emit import F32, Arguments, Emitter, Value
from svertka.kernels.family import Family

POINTERS = ("x", "dy", "mean", "sums")
NUMBERS = ("rows", "columns", "chunk")
TOGETHER_POINTERS = ("sums", "first", "second")
TOGETHER_NUMBERS = ("rows", "columns", "chunk", "chunks")
_VECTORS = 4  # of columns that are summed up at a time


@dataclass(frozen=True)
class Moments:
    """Which sums."""

    backward: bool = False


def _over_columns(e: Emitter, first: Value, last: Value, body: Callable[[Value, int, bool], None]) -> None:
    """body(column, how many vectors or numbers, whether they are vectors), as wide as it goes."""
    for count, vector in ((_VECTORS, True), (1, True), (1, False)):
        width = count * (e.lanes if vector else 1)
        rest, _ = e.divmod(e.sub(last, first), width)
        end = e.add(first, e.mul(rest, width))
        e.loop(first, end, lambda at, c=count, v=vector: body(at, c, v), step=width)
        first = end


def _read(e: Emitter, pointer: Value, offset: Value, vector: bool) -> Value:
    return e.load_vector(pointer, offset) if vector else e.load(pointer, offset)


def _write(e: Emitter, value: Value, pointer: Value, offset: Value, vector: bool) -> None:
    (e.store_vector if vector else e.store)(value, pointer, offset)


def _float(e: Emitter, value: Value, vector: bool) -> Value:
    """An i64 as a float, or a vector of it."""
    one = e.b.sitofp(value, F32)
    return e.splat(one) if vector else one


def _write_moments(spec: Moments, _: Any, e: Emitter, slots: Value, task: Value, _worker: Value) -> None:
    """Task chunk."""
    a = Arguments(e, slots, POINTERS, NUMBERS)
    first = e.mul(task, a.chunk)
    last = e.min(e.add(first, a.chunk), a.rows)
    room = e.at(a.sums, e.mul(e.mul(task, 2), a.columns))

    def columns(at: Value, count: int, vector: bool) -> None:
        width = e.lanes if vector else 1
        places = [e.add(at, i * width) for i in range(count)]
        zeros = [e.splat(0.0) if vector else e.f32(0.0)] * count

        def rows(term: Callable[[int, Value, Value], Value], start: list[Value]) -> list[Value]:
            def row(index: Value, *acc: Value) -> list[Value]:
                here = e.mul(index, a.columns)
                return [term(i, e.add(here, place), acc[i]) for i, place in enumerate(places)]

            return e.loop(first, last, row, start)

        if spec.backward:
            means = [_read(e, a.mean, place, vector) for place in places]

            def row(index: Value, *acc: Value) -> list[Value]:
                here = e.mul(index, a.columns)
                result = []
                for i, place in enumerate(places):
                    dy, x = (_read(e, p, e.add(here, place), vector) for p in (a.dy, a.x))
                    result += [e.b.fadd(acc[2 * i], dy), e.fma(dy, e.b.fsub(x, means[i]), acc[2 * i + 1])]
                return result

            sums = e.loop(first, last, row, zeros * 2)
            one, two = sums[::2], sums[1::2]
        else:
            total = rows(lambda _, at, acc: e.b.fadd(acc, _read(e, a.x, at, vector)), zeros)
            one = [e.b.fdiv(value, _float(e, e.sub(last, first), vector)) for value in total]

            def squared(i: int, at: Value, acc: Value) -> Value:
                off = e.b.fsub(_read(e, a.x, at, vector), one[i])
                return e.fma(off, off, acc)

            two = rows(squared, zeros)
        for i, place in enumerate(places):
            _write(e, one[i], room, place, vector)
            _write(e, two[i], room, e.add(place, a.columns), vector)

    _over_columns(e, e.i64(0), a.columns, columns)


def _write_together(spec: Moments, _: Any, e: Emitter, slots: Value, _task: Value, _worker: Value) -> None:
    """The only task."""
    a = Arguments(e, slots, TOGETHER_POINTERS, TOGETHER_NUMBERS)

    def columns(at: Value, _count: int, vector: bool) -> None:
        zero = e.splat(0.0) if vector else e.f32(0.0)
        width = e.lanes if vector else 1

        def read(chunk: Value, part: int, place: Value) -> Value:
            return _read(e, a.sums, e.add(e.mul(e.add(e.mul(chunk, 2), part), a.columns), place), vector)

        for i in range(_count):
            place = e.add(at, i * width)
            all_rows = _float(e, a.rows, vector)

            def size(chunk: Value) -> Value:
                start = e.mul(chunk, a.chunk)
                return _float(e, e.sub(e.min(e.add(start, a.chunk), a.rows), start), vector)

            if spec.backward:
                one, two = e.loop(
                    0,
                    a.chunks,
                    lambda t, m, s, p=place: [e.b.fadd(m, read(t, 0, p)), e.b.fadd(s, read(t, 1, p))],
                    [zero, zero],
                )
            else:
                (total,) = e.loop(0, a.chunks, lambda t, m, p=place: [e.fma(size(t), read(t, 0, p), m)], [zero])
                one = e.b.fdiv(total, all_rows)

                def add(t: Value, s: Value, p: Value = place, mean: Value = one) -> list[Value]:
                    off = e.b.fsub(read(t, 0, p), mean)
                    return [e.b.fadd(s, e.fma(e.b.fmul(size(t), off), off, read(t, 1, p)))]

                (two,) = e.loop(0, a.chunks, add, [zero])
                two = e.b.fdiv(two, all_rows)
            _write(e, one, a.first, place, vector)
            _write(e, two, a.second, place, vector)

    _over_columns(e, e.i64(0), a.columns, columns)


MOMENTS = Family("moments", POINTERS, NUMBERS, _write_moments)
TOGETHER = Family("moments together", TOGETHER_POINTERS, TOGETHER_NUMBERS, _write_together)
