"""Layer norm of rows [rows, columns], such as the channels of each place, and its gradient:

    y = (x − m) · γ · r + β,  r = 1 / √(v + ε),  m = Σ x / n,  v = Σ (x − m)² / n  over a row of n columns
    dx = r · (g − Σ g / n − z · Σ g·z / n),  g = dy · γ,  z = (x − m) · r
    dγ = Σ dy · z,  dβ = Σ dy  over all rows

(Ba et al. 2016). A row stays in the cache while it is read two or three times. A task is some rows; the gradients to γ
and β are sums [tasks, 2, columns], dβ's first, that are put together afterwards, see `moments`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from svertka.kernels.emit import F32, Arguments, Emitter, Value
from svertka.kernels.family import Family

POINTERS = ("x", "gamma", "beta", "y", "mean", "inverse")
GRADIENT_POINTERS = ("dy", "x", "gamma", "mean", "inverse", "dx", "sums")
NUMBERS = ("rows", "columns", "rows_in_task")


@dataclass(frozen=True)
class LayerNorm:
    """ε, whether there are a scale γ and a shift β, and whether each row's m and r are kept, too."""

    eps: float
    scale: bool = True
    shift: bool = True
    statistics: bool = False


@dataclass(frozen=True)
class LayerNormGradient:
    """Whether there is a scale γ, and whether the gradients to γ and β, and to x, are wanted."""

    scale: bool = True
    lines: bool = True
    x: bool = True


class _Rows:
    """A task's rows, and how one goes along their columns; `count` is how many these are, as a float."""

    def __init__(self, e: Emitter, a: Any, task: Value) -> None:
        self.e, self.all = e, a.columns
        self.first = e.mul(task, a.rows_in_task)
        self.last = e.min(e.add(self.first, a.rows_in_task), a.rows)
        self.whole = e.sub(a.columns, e.b.and_(a.columns, e.i64(e.lanes - 1)))
        self.count = e.b.sitofp(a.columns, F32)

    def each(self, row: Callable[[Value], None]) -> None:
        """Does row(number) for each."""
        self.e.loop(self.first, self.last, row)

    def columns(self, body: Callable[..., Sequence[Value]], vectors: Sequence[Value] = ()) -> list[Value]:
        """Carries `vectors` through body(column, read, write, *vectors), and what their lanes add up to further."""
        e = self.e
        sums = e.loop(0, self.whole, lambda at, *a: body(at, e.load_vector, e.store_vector, *a), vectors, step=e.lanes)
        ends = [e.across(value, e.b.fadd) for value in sums]
        return e.loop(self.whole, self.all, lambda at, *a: body(at, e.load, e.store, *a), ends)


def _like(e: Emitter, value: Value, number: Value) -> Value:
    """The number, in all lanes if the value is a vector."""
    return number if value.type == F32 else e.splat(number)


def _write(spec: LayerNorm, _: Any, e: Emitter, slots: Value, task: Value, _worker: Value) -> None:
    """Task rows."""
    a = Arguments(e, slots, POINTERS, NUMBERS)
    rows, like = _Rows(e, a, task), partial(_like, e)

    def row(index: Value) -> None:
        start = e.mul(index, a.columns)
        x, y = e.at(a.x, start), e.at(a.y, start)

        def over(term: Callable[[Value, Value], Value]) -> Value:
            """The sum of term(number, sum so far)."""
            (total,) = rows.columns(lambda at, read, _, acc: [term(read(x, at), acc)], [e.splat(0.0)])
            return total

        mean = e.b.fdiv(over(lambda value, acc: e.b.fadd(acc, value)), rows.count)

        def squared(value: Value, acc: Value) -> Value:
            off = e.b.fsub(value, like(value, mean))
            return e.fma(off, off, acc)

        variance = e.b.fdiv(over(squared), rows.count)
        inverse = e.b.fdiv(e.f32(1.0), e.call("llvm.sqrt", e.b.fadd(variance, e.f32(spec.eps))))

        if spec.statistics:
            e.store(mean, a.mean, index)
            e.store(inverse, a.inverse, index)

        def store(at: Value, read: Callable[..., Value], write: Callable[..., None]) -> Sequence[Value]:
            value = read(x, at)
            value = e.b.fmul(e.b.fsub(value, like(value, mean)), like(value, inverse))
            value = e.b.fmul(value, read(a.gamma, at)) if spec.scale else value
            value = e.b.fadd(value, read(a.beta, at)) if spec.shift else value
            write(value, y, at)
            return ()

        rows.columns(store)

    rows.each(row)


LAYER_NORM = Family("layer norm", POINTERS, NUMBERS, _write)


def _write_gradient(spec: LayerNormGradient, _: Any, e: Emitter, slots: Value, task: Value, _worker: Value) -> None:
    """Task rows."""
    a = Arguments(e, slots, GRADIENT_POINTERS, NUMBERS)
    rows, like = _Rows(e, a, task), partial(_like, e)
    d_beta = e.at(a.sums, e.mul(e.mul(task, 2), a.columns))
    d_gamma = e.at(d_beta, a.columns)

    def nothing(at: Value, _: Any, write: Callable[..., None]) -> Sequence[Value]:
        zero = e.splat(0.0) if write == e.store_vector else e.f32(0.0)
        write(zero, d_beta, at)
        write(zero, d_gamma, at)
        return ()

    def row(index: Value) -> None:
        start = e.mul(index, a.columns)
        dy, x, dx = (e.at(pointer, start) for pointer in (a.dy, a.x, a.dx))
        mean, inverse = e.load(a.mean, index), e.load(a.inverse, index)

        def numbers(at: Value, read: Callable[..., Value]) -> tuple[Value, Value, Value]:
            """dy, g and z."""
            value = read(x, at)
            z = e.b.fmul(e.b.fsub(value, like(value, mean)), like(value, inverse))
            d = read(dy, at)
            return d, e.b.fmul(d, read(a.gamma, at)) if spec.scale else d, z

        def products(at: Value, read: Any, write: Any, *acc: Value) -> Sequence[Value]:
            d, g, z = numbers(at, read)
            if spec.lines:
                write(e.b.fadd(read(d_beta, at), d), d_beta, at)
                write(e.fma(d, z, read(d_gamma, at)), d_gamma, at)
            return [e.b.fadd(acc[0], g), e.fma(g, z, acc[1])] if spec.x else ()

        sums = rows.columns(products, [e.splat(0.0)] * 2 if spec.x else ())
        if not spec.x:
            return
        one, two = (e.b.fdiv(value, rows.count) for value in sums)

        def store(at: Value, read: Any, write: Any) -> Sequence[Value]:
            _, g, z = numbers(at, read)
            off = e.b.fsub(e.b.fsub(g, like(g, one)), e.b.fmul(z, like(g, two)))
            write(e.b.fmul(off, like(g, inverse)), dx, at)
            return ()

        rows.columns(store)

    if spec.lines:
        rows.columns(nothing)
    rows.each(row)


LAYER_NORM_GRADIENT = Family("layer norm gradient", GRADIENT_POINTERS, NUMBERS, _write_gradient)
