"""Numbers as aligned text for the terminal: matrices, and the terms of one number."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from svertka.explain.draw.style import number
from svertka.explain.operations import Array
from svertka.explain.steps import Step, Term

if TYPE_CHECKING:
    from rich.table import Table

MAX_ROWS = 32
"""Rows of a matrix that are shown at most."""


def aligned(values: Array) -> list[list[str]]:
    """The entries of [rows, columns] as text with the same number of decimals, so that their points stand in a line."""
    largest = float(abs(values).max(initial=0))
    if not np.isfinite(values).all() or largest >= 1e6 or 0 < largest < 1e-3:
        return [[number(entry) for entry in row] for row in values.tolist()]
    decimals = 0
    if (values != values.round()).any():
        decimals = max(0, 2 - math.floor(math.log10(largest)))
    return [[f"{entry:.{decimals}f}".replace("-", "−") for entry in row] for row in (values + 0.0).tolist()]


def matrix_lines(values: Array, width: int, names: tuple[str, str] = ("rows", "columns")) -> list[str]:
    """An array of 1 to 3 axes as lines: aligned columns, planes one after the other.

    What doesn't fit into the width or into MAX_ROWS is cut off, and a last line names the region that is shown.
    """
    if values.ndim == 1:
        return matrix_lines(values[None], width, names)
    if values.ndim == 3:
        lines = []
        for plane, matrix in enumerate(values[:MAX_ROWS]):
            lines += [f"plane {plane}", *matrix_lines(matrix, width, names)]
        return [*lines, f"planes 0–{MAX_ROWS - 1} of {len(values)}"] if len(values) > MAX_ROWS else lines
    return text_lines(aligned(values[:MAX_ROWS]), values.shape, width, names)


def text_lines(
    entries: Sequence[Sequence[str]],
    shape: Sequence[int],
    width: int,
    names: tuple[str, str] = ("rows", "columns"),
    heads: tuple[Sequence[str], Sequence[str]] | None = None,
) -> list[str]:
    """Entries as aligned columns, cut to the width.

    Args:
        entries: the first rows of a matrix.
        shape: the whole matrix's.
        width: of the terminal.
        names: what its rows and columns are called where it is cut.
        heads: a name for each row and each column.
    """
    table = [list(row) for row in entries]
    left = 2
    if heads is not None:
        left += max(map(len, heads[0])) + 2
        table.insert(0, list(heads[1]))
    cell = max(len(entry) for row in table for entry in row)
    columns = min(shape[1], max(1, (width - left + 2) // (cell + 2)))
    if columns < shape[1]:
        columns = max(1, (width - left - 1) // (cell + 2))
    lines = [
        "  ".join(entry.rjust(cell) for entry in row[:columns]) + ("  …" if columns < shape[1] else "")
        for row in table
    ]  # fmt: skip
    firsts = ["", *heads[0]] if heads is not None else [""] * len(lines)
    lines = [f"  {first}".ljust(left) + line for first, line in zip(firsts, lines, strict=False)]
    if columns < shape[1] or len(entries) < shape[0]:
        lines.append(
            f"  {names[0]} 0–{len(entries) - 1} of {shape[0]} and {names[1]} 0–{columns - 1} of {shape[1]} are shown"
        )
    return lines


def sum_of_terms(step: Step, most: int) -> tuple[Table, str]:
    """The terms of one number as a table, the largest first if they are many, and a line that says how they add up.

    Args:
        step: the number.
        most: as many terms at most; the others are summed in the last row.
    """
    from rich import box
    from rich.table import Table

    terms = list(step.terms)
    added = all(term.product is not None for term in terms)
    if len(terms) > most:
        terms.sort(key=lambda term: (not term.chosen, -abs(term.value if term.product is None else term.product)))
    shown, rest = terms[:most], terms[most:]
    weighted = any(term.weight is not None for term in terms)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, show_footer=bool(rest))
    total = _number(sum(term.product or 0.0 for term in rest)) if added else ""
    table.add_column("channel", justify="right", footer=f"{len(rest)} more" if rest else "")
    table.add_column("place", justify="right")
    table.add_column("value", justify="right")
    if weighted:
        table.add_column("× weight", justify="right")
    if added:
        table.add_column("= product", justify="right", footer=total)
    table.add_column("")
    for term in shown:
        row = [str(term.channel), _place(term), _number(term.value)]
        row += [_number(term.weight or 0.0)] if weighted else []
        row += [_number(term.product or 0.0)] if added else []
        table.add_row(*row, "← the result" if term.chosen else "")
    return table, _sentence(step, added, weighted)


def _sentence(step: Step, added: bool, weighted: bool) -> str:
    result, count = _number(step.result), len(step.terms)
    if not added:
        return f"one of {count} values: {result}"
    total = _number(sum(term.product or 0.0 for term in step.terms))
    if not weighted:
        return f"sum of {count} powers: {total}, its root: {result}"
    if step.bias is None:
        return f"sum of {count} products: {result}"
    bias = f"+ {_number(step.bias)}" if step.bias >= 0 else f"− {_number(-step.bias)}"
    return f"sum of {count} products: {total} {bias} (bias) = {result}"


def _place(term: Term) -> str:
    place = ", ".join(number(i) for i in term.place)
    if not term.on_padding:
        return place
    return (
        f"{place} (padding)" if term.source is None else f"{place} (padding, from {', '.join(map(str, term.source))})"
    )


def _number(value: float) -> str:
    return number(value, 4)
