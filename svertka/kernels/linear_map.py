"""A constant matrix times vectors, unrolled: what rows or columns of points ±a have in common is computed once."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from fractions import Fraction

from svertka.kernels.emit import Emitter, Value

Matrix = Sequence[Sequence[Fraction]]


def linear_map(e: Emitter, matrix: Matrix, x: Sequence[Value]) -> list[Value]:
    """y_i = Σ_k matrix_ik · x_k.

    Columns j, l with M_il = (−1)^i M_ij (powers of a and −a) need x_j + x_l in even rows and x_j − x_l in odd ones.
    Rows j, l with M_lk = ±(−1)^k M_jk are E + O and ±(E − O), with E the sum over even and O over odd k.
    """
    twins = _twin_columns(matrix)
    if twins:
        return _by_columns(e, matrix, x, twins)
    results: dict[int, Value] = {}
    for j, row in enumerate(matrix):
        if j in results:
            continue
        twin = _twin_row(matrix, j, results)
        if twin is None:
            results[j] = _sum(e, row, x)
        else:
            other, sign = twin
            results[j], results[other] = _even_and_odd(e, row, x, sign)
    return [results[j] for j in range(len(matrix))]


def _twin_columns(matrix: Matrix) -> list[tuple[int, int]]:
    columns = list(zip(*matrix, strict=True))
    flipped = [tuple((-1) ** i * value for i, value in enumerate(column)) for column in columns]
    pairs: dict[int, int] = {}
    for j, flip in enumerate(flipped):
        if j not in pairs.values() and sum(value != 0 for value in flip) > 1:
            others = (k for k in range(j + 1, len(columns)) if columns[k] == flip and k not in pairs.values())
            pairs.update((j, other) for other in itertools.islice(others, 1))
    return list(pairs.items())


def _by_columns(e: Emitter, matrix: Matrix, x: Sequence[Value], twins: list[tuple[int, int]]) -> list[Value]:
    even, odd, seconds = list(x), list(x), {second for _, second in twins}
    for j, second in twins:
        even[j], odd[j] = e.b.fadd(x[j], x[second]), e.b.fsub(x[j], x[second])
    results = []
    for i, row in enumerate(matrix):
        left = [Fraction(0) if k in seconds else value for k, value in enumerate(row)]
        results.append(_sum(e, left, odd if i % 2 else even))
    return results


def _twin_row(matrix: Matrix, j: int, done: dict[int, Value]) -> tuple[int, int] | None:
    row = matrix[j]
    flipped = [(-1) ** k * value for k, value in enumerate(row)]
    if flipped == list(row) or flipped == [-value for value in row]:  # one of its halves is empty
        return None
    for other in range(j + 1, len(matrix)):
        for sign in (1, -1):
            if other not in done and list(matrix[other]) == [sign * value for value in flipped]:
                return other, sign
    return None


def _even_and_odd(e: Emitter, row: Sequence[Fraction], x: Sequence[Value], sign: int) -> tuple[Value, Value]:
    """(E + O, sign · (E − O)), where each half is its leading coefficient times a sum that begins with 1."""
    halves = []
    for parity in (0, 1):
        part = [value if k % 2 == parity else Fraction(0) for k, value in enumerate(row)]
        leading = next(value for value in reversed(part) if value)
        halves.append((leading, _sum(e, [value / leading for value in part], x)))
    (even_by, even), (odd_by, odd) = halves
    even = even if even_by == 1 else e.b.fmul(even, e.splat(float(even_by)))
    if odd_by == 1:
        total = e.b.fadd(even, odd)
        return total, e.b.fsub(even, odd) if sign == 1 else e.b.fsub(odd, even)
    total = e.fma(odd, e.splat(float(odd_by)), even)
    difference = e.fma(odd, e.splat(float(-odd_by)), even)
    return total, difference if sign == 1 else e.b.fneg(difference)


def _sum(e: Emitter, row: Sequence[Fraction], x: Sequence[Value]) -> Value:
    """Σ row_k · x_k, first what is taken as it is."""
    terms = sorted((k for k, value in enumerate(row) if value), key=lambda k: row[k] != 1)
    if not terms:
        return e.splat(0.0)
    total = x[terms[0]] if row[terms[0]] == 1 else e.b.fmul(x[terms[0]], e.splat(float(row[terms[0]])))
    for k in terms[1:]:
        if row[k] == 1:
            total = e.b.fadd(total, x[k])
        elif row[k] == -1:
            total = e.b.fsub(total, x[k])
        else:
            total = e.fma(x[k], e.splat(float(row[k])), total)
    return total
