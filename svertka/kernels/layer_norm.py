"""Layer norm of rows [rows, columns], such as the channels of each place:

    y = (x − m) · γ / √(v + ε) + β,  m = Σ x / n,  v = Σ (x − m)² / n  over a row

(Ba et al. 2016). A row stays in the cache while it is read three times. A task is some rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from svertka.kernels.emit import F32, Arguments, Emitter, Value
from svertka.kernels.family import Family

POINTERS = ("x", "gamma", "beta", "y")
NUMBERS = ("rows", "columns", "rows_in_task")


@dataclass(frozen=True)
class LayerNorm:
    """ε, and whether there are a scale γ and a shift β."""

    eps: float
    scale: bool = True
    shift: bool = True


def _write(spec: LayerNorm, _: Any, e: Emitter, slots: Value, task: Value, _worker: Value) -> None:
    """Task rows."""
    a = Arguments(e, slots, POINTERS, NUMBERS)
    first = e.mul(task, a.rows_in_task)
    last = e.min(e.add(first, a.rows_in_task), a.rows)
    whole = e.sub(a.columns, e.b.and_(a.columns, e.i64(e.lanes - 1)))
    count = e.b.sitofp(a.columns, F32)

    def row(index: Value) -> None:
        start = e.mul(index, a.columns)
        x, y = e.at(a.x, start), e.at(a.y, start)

        def over(term: Callable[[Value, Value], Value]) -> Value:
            """The sum of term(number, sum so far), in vectors as far as they go."""
            (sums,) = e.loop(0, whole, lambda at, acc: [term(e.load_vector(x, at), acc)], [e.splat(0.0)], step=e.lanes)
            (total,) = e.loop(whole, a.columns, lambda at, acc: [term(e.load(x, at), acc)], [e.across(sums, e.b.fadd)])
            return total

        def like(value: Value, number: Value) -> Value:
            return number if value.type == F32 else e.splat(number)

        mean = e.b.fdiv(over(lambda value, acc: e.b.fadd(acc, value)), count)

        def squared(value: Value, acc: Value) -> Value:
            off = e.b.fsub(value, like(value, mean))
            return e.fma(off, off, acc)

        variance = e.b.fdiv(over(squared), count)
        inverse = e.b.fdiv(e.f32(1.0), e.call("llvm.sqrt", e.b.fadd(variance, e.f32(spec.eps))))

        def store(at: Value, read: Callable[..., Value], write: Callable[..., None]) -> None:
            value = read(x, at)
            value = e.b.fmul(e.b.fsub(value, like(value, mean)), like(value, inverse))
            value = e.b.fmul(value, read(a.gamma, at)) if spec.scale else value
            value = e.b.fadd(value, read(a.beta, at)) if spec.shift else value
            write(value, y, at)

        e.loop(0, whole, lambda at: store(at, e.load_vector, e.store_vector), step=e.lanes)
        e.loop(whole, a.columns, lambda at: store(at, e.load, e.store))

    e.loop(first, last, row)


LAYER_NORM = Family("layer norm", POINTERS, NUMBERS, _write)
