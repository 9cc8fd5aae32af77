"""Formulas of single numbers: y[i] = f(x₀[i], x₁[i], …), each operand with strides of its own, 0 where it is repeated.

A formula is a tuple: ("x", operand), ("number", value), an operator's name with formulas, or an activation's name with
its slope and a formula. An identity with strides is a copy, whatever the two memory formats.

Rows have three indices and are `columns` long. A task is some rows by some columns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from llvmlite import ir

from svertka.kernels.emit import I32, I64, Arguments, Emitter, Value
from svertka.kernels.epilogue import ACTIVATIONS, activate, exp, normal
from svertka.kernels.family import Family
from svertka.spec import Activation

MOST = 8  # operands
POINTERS = (*(f"x{i}" for i in range(MOST)), "y", "strides")
NUMBERS = ("rows", "second", "third", "columns", "rows_in_task", "columns_in_task", "column_tasks")
NEIGHBOURS, REPEATED, APART = "neighbours", "repeated", "apart"  # how an operand's columns lie
Formula = tuple[Any, ...]


@dataclass(frozen=True)
class Elementwise:
    """A formula, and how the columns of its operands and of the result lie."""

    formula: Formula
    columns: tuple[str, ...]
    result: str = NEIGHBOURS


def _minimum(e: Emitter, a: Value, b: Value) -> Value:
    return e.b.fneg(e.maximum(e.b.fneg(a), e.b.fneg(b)))


OPERATORS: dict[str, Callable[..., Value]] = {
    "add": lambda e, a, b: e.b.fadd(a, b),
    "sub": lambda e, a, b: e.b.fsub(a, b),
    "mul": lambda e, a, b: e.b.fmul(a, b),
    "div": lambda e, a, b: e.b.fdiv(a, b),
    "neg": lambda e, a: e.b.fneg(a),
    "abs": lambda e, a: e.call("llvm.fabs", a),
    "sqrt": lambda e, a: e.call("llvm.sqrt", a),
    "exp": exp,
    "normal": normal,
    "maximum": lambda e, a, b: e.maximum(a, b),
    "minimum": _minimum,
    # Where a ≤ 0 the gradient of relu is 0; elsewhere, and at NaN, it is b.
    "relu_gradient": lambda e, a, b: e.b.select(e.b.fcmp_ordered("<=", a, e.splat(0.0)), e.splat(0.0), b),
}


def operands(formula: Formula) -> int:
    """How many operands a formula has: the highest one's number, plus 1."""
    if formula[0] == "x":
        return int(formula[1]) + 1
    return max((operands(part) for part in formula[1:] if isinstance(part, tuple)), default=0)


def _value(e: Emitter, formula: Formula, xs: list[Value], known: dict[Formula, Value]) -> Value:
    """The formula's vector; what stands in it twice is computed once."""
    if formula[0] == "x":
        return xs[formula[1]]
    if formula[0] == "number":
        return e.splat(formula[1])
    if formula not in known:
        if formula[0] in ACTIVATIONS:
            x = _value(e, formula[2], xs, known)
            known[formula] = activate(e, Activation(formula[0], formula[1]), x)
        else:
            known[formula] = OPERATORS[formula[0]](e, *(_value(e, part, xs, known) for part in formula[1:]))
    return known[formula]


def _write(spec: Elementwise, _: Any, e: Emitter, slots: Value, task: Value, _worker: Value) -> None:
    """Task rows · column_tasks + columns."""
    a = Arguments(e, slots, POINTERS, NUMBERS)
    row_task, column_task = e.divmod(task, a.column_tasks)
    first_row, first = e.mul(row_task, a.rows_in_task), e.mul(column_task, a.columns_in_task)
    last_row = e.min(e.add(first_row, a.rows_in_task), a.rows)
    last = e.min(e.add(first, a.columns_in_task), a.columns)
    count = e.sub(last, first)
    whole = e.sub(count, e.b.and_(count, e.i64(e.lanes - 1)))
    kinds = (*spec.columns, spec.result)
    places = (*range(len(spec.columns)), MOST)  # the result's strides stand at the end
    steps = [e.load(a.strides, 4 * place + 3, I64) for place in places]

    def row(index: Value) -> None:
        rest, third = e.divmod(index, a.third)
        indices = (*e.divmod(rest, a.second), third)
        starts = []
        for place, step in zip(places, steps, strict=True):
            start = e.mul(first, step)
            for axis, at in enumerate(indices):
                start = e.add(start, e.mul(at, e.load(a.strides, 4 * place + axis, I64)))
            starts.append(e.at(getattr(a, POINTERS[place]), start))

        def columns(at: Value, lanes: int) -> None:
            pairs = zip(kinds[:-1], starts, steps, strict=False)
            xs = [_read(e, kind, start, step, at, lanes) for kind, start, step in pairs]
            y = _value(e, spec.formula, xs, {})
            if lanes == e.lanes and kinds[-1] == NEIGHBOURS:
                e.store_vector(y, starts[-1], at)
                return
            for lane in range(lanes):
                one = e.b.extract_element(y, ir.Constant(I32, lane))
                e.store(one, starts[-1], e.mul(e.add(at, lane), steps[-1]))

        e.loop(0, whole, lambda at: columns(at, e.lanes), step=e.lanes)
        e.loop(whole, count, lambda at: columns(at, 1))

    e.loop(first_row, last_row, row)


def _read(e: Emitter, kind: str, start: Value, step: Value, at: Value, lanes: int) -> Value:
    """A vector of an operand, from column `at` on; only so many lanes matter."""
    if kind == REPEATED:
        return e.splat(e.load(start))
    if kind == NEIGHBOURS and lanes == e.lanes:
        return e.load_vector(start, at)
    if lanes == 1:
        return e.splat(e.load(start, e.mul(at, step)))
    value = e.splat(0.0)
    for lane in range(lanes):
        one = e.load(start, e.mul(e.add(at, lane), step))
        value = e.b.insert_element(value, one, ir.Constant(I32, lane))
    return value


ELEMENTWISE = Family("elementwise", POINTERS, NUMBERS, _write)
