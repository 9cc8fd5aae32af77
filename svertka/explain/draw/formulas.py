"""A result spelled out: 1·(−1) + 2·0 + 3·1 = 2."""

from __future__ import annotations

import math
from typing import Any

from svertka import spec
from svertka.explain.draw.style import factor, number
from svertka.explain.steps import Step, Term

MOST = 40  # terms that are spelled out; of more, the first and the last, and the sum of the others
_SUPERSCRIPTS = str.maketrans("0123456789.", "⁰¹²³⁴⁵⁶⁷⁸⁹·")


def spelled(operation: spec.Operation[Any], step: Step) -> list[str]:
    """The result as pieces to be set one after another with spaces between; a line may be broken between any two."""
    result = f"= {number(step.result)}"
    counted = [term for term in step.terms if term.source is not None or _counts_padding(operation)]
    values = [term.value for term in counted]
    match operation:
        case spec.MaxPool():
            return [*_listed("max(", [number(v) for v in values], ")"), result]
        case spec.KMaxPool():
            which = f"no. {step.output[1] + 1} of the {operation.k} largest of ("
            return [*_listed(which, [number(v) for v in values], ")"), result]
        case spec.AveragePool():
            divisor = next((1 / term.weight for term in counted if term.weight), math.nan)
            if len(values) == 1 and divisor == 1:
                return [number(values[0]), result]
            return [*_listed("(", [factor(v) for v in values], ")", " +"), f"/ {number(divisor)}", result]
        case spec.LpPool():
            return [*_norm(operation.p, values), result]
        case spec.Pad():
            return [_padded(step.terms[0]), result]
        case spec.StochasticPool():
            weighted = [term for term in counted if term.weight]
            return [*_sum(weighted), result] if weighted else ["nothing is positive:", result]
    return [*_sum(counted, step.bias), result]


def _counts_padding(operation: spec.Operation[Any]) -> bool:
    if isinstance(operation, (spec.MaxPool, spec.KMaxPool)):
        return False
    if isinstance(operation, (spec.AveragePool, spec.WeightedPool)):
        return operation.count_include_pad
    return True


def _sum(terms: list[Term], bias: float | None = None) -> list[str]:
    """value·weight + …, and the bias."""
    pieces = [f"{factor(term.value)}·{factor(term.weight or 0.0)}" for term in terms]
    if len(pieces) > MOST:
        left_out = terms[MOST - 6 : -5]
        rest = math.fsum(term.product or 0.0 for term in left_out)
        pieces = [*pieces[: MOST - 6], f"{factor(rest)} [{len(left_out)} more terms]", *pieces[-5:]]
    if bias is not None:
        pieces.append(f"{factor(bias)} [bias]")
    if not pieces:
        return ["0 [no inputs here]"]
    return [pieces[0], *(f"+ {piece}" for piece in pieces[1:])]


def _listed(opening: str, items: list[str], closing: str, separator: str = ",") -> list[str]:
    """opening item, item … closing."""
    if len(items) > MOST:
        items = [*items[: MOST - 6], f"… {len(items) - MOST + 1} more …", *items[-5:]]
    if not items:
        return [opening + closing]
    pieces = [f"{item}{separator}" for item in items[:-1]] + [items[-1] + closing]
    return [opening + pieces[0], *pieces[1:]]


def _norm(p: float, values: list[float]) -> list[str]:
    sizes = [f"|{number(v)}|" if v < 0 else number(v) for v in values]
    if p == math.inf:
        return _listed("max(", sizes, ")")
    if p == 1:
        return _listed("", sizes, "", " +")
    power = number(p).translate(_SUPERSCRIPTS) if p == round(p) else f"^{number(p)}"
    raised = [f"{size}{power}" for size in sizes]
    return _listed("√(", raised, ")", " +") if p == 2 else _listed("(", raised, f")^(1/{number(p)})", " +")


def _padded(term: Term) -> str:
    if term.source is None:
        return "outside:"
    where = ", ".join(map(str, term.source))
    return f"{'the padding repeats' if term.on_padding else 'itself,'} the input at {where}"
