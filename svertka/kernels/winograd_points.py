"""Winograd's minimal filtering: its three transforms from points, by exact rational arithmetic.

    y_i = Σ_k g_k · d_(i+k),  i < m, k < r      is      y = A ((G g) ⊙ (B d))

with n = m + r − 1 products in place of m · r. Polynomials of degree n − 1 are told by their values at n points; with
the points a_0 … a_(n−2) and ∞, N_j = Π_(l≠j) (a_j − a_l):

    A [m, n]  A_ij = a_j^i;          its last column, of ∞, is 1 in the last row, else 0
    G [n, r]  G_jk = a_j^k / N_j;    its last row is 1 in the last column, else 0
    B [n, n]  row j the coefficients of Π_(l≠j) (x − a_l), the last row those of Π_l (x − a_l)

(Toom–Cook's multiplication transposed: Winograd 1980, Arithmetic Complexity of Computations; Lavin & Gray 2016.)

With stride s it is a sum of s such, of each phase of the inputs by each phase of the taps,

    y_i = Σ_(p<s) Σ_k g_(p+s·k) · d_(p+s·(i+k))

so that the transforms of the phases stand side by side (in B one below the other, too), with n = s · (m − 1) + r
products in all. A phase of one tap has nothing to share: its products are its outputs. The inputs come phase by phase.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

Row = tuple[Fraction, ...]
Matrix = tuple[Row, ...]
_ZERO = Fraction(0)

# Besides ∞, for each number of products: pairs ±a, whose rows share half of their operations, and 0 where one is left
# (0 and 1 where two are, of 3).
# Of all such sets of sixteenths (eighths for 9) those with the least rounding error; constants of A and B are exact.
_PAIRS: dict[int, tuple[str, ...]] = {
    4: ("1",),
    5: ("3/8", "5/4"),
    6: ("5/8", "3/2"),
    7: ("5/16", "7/8", "7/4"),
    8: ("1/2", "1", "2"),
    9: ("1/4", "5/8", "9/8", "9/4"),
}
PRODUCTS = (1, *_PAIRS)


@dataclass(frozen=True)
class Transforms:
    """A of the output, G of the weights, B of the input."""

    A: Matrix
    G: Matrix
    B: Matrix


@lru_cache(maxsize=64)
def transforms(outputs: int, taps: int, stride: int = 1) -> Transforms:
    """F(outputs, taps): so many outputs of a filter with so many taps, from `products_of` them products.

    With a stride, B takes a tile's inputs in the order of `phases`.
    """
    parts = [_phase(outputs, len(range(phase, taps, stride))) for phase in range(min(stride, taps))]
    total, before = sum(len(part.B) for part in parts), 0
    weight, given = [], []
    for phase, part in enumerate(parts):
        after = total - before - len(part.B)
        given += [(*(_ZERO,) * before, *row, *(_ZERO,) * after) for row in part.B]
        weight += [tuple(_of_tap(row, tap - phase, stride) for tap in range(taps)) for row in part.G]
        before += len(part.B)
    output = [tuple(value for row in rows for value in row) for rows in zip(*(part.A for part in parts), strict=True)]
    return Transforms(tuple(output), tuple(weight), tuple(given))


def products_of(outputs: int, taps: int, stride: int = 1) -> int:
    """The products of a tile, as many as it reads inputs."""
    return stride * (outputs - 1) + taps


def phases(outputs: int, taps: int, stride: int = 1) -> list[int]:
    """A tile's inputs, numbered from its first one: every `stride`-th from the first on, from the second on, …"""
    return [place for phase in range(stride) for place in range(phase, products_of(outputs, taps, stride), stride)]


def most_products(outputs: int, taps: int, stride: int = 1) -> int:
    """The products of the largest of the phases: what its error grows with."""
    return outputs + -(-taps // stride) - 1


def _phase(outputs: int, taps: int) -> Transforms:
    if taps > 1:
        return from_points(points(outputs + taps - 1), outputs, taps)
    one = tuple(tuple(Fraction(i == j) for j in range(outputs)) for i in range(outputs))
    return Transforms(one, ((Fraction(1),),) * outputs, one)


def _of_tap(row: Row, place: int, stride: int) -> Fraction:
    return row[place // stride] if place >= 0 and place % stride == 0 else _ZERO


def points(products: int) -> Row:
    """The finite points of so many products, one of PRODUCTS."""
    pairs = [Fraction(text) for text in _PAIRS.get(products, ())]
    left = [Fraction(0), Fraction(1)][: products - 1 - 2 * len(pairs)]
    return (*left, *(sign * point for point in pairs for sign in (1, -1)))


def from_points(points: Sequence[Fraction], outputs: int, taps: int) -> Transforms:
    """The transforms from different finite points, outputs + taps − 2 of them, and ∞."""
    if len(set(points)) != outputs + taps - 2 or len(points) != len(set(points)):
        raise ValueError(f"F({outputs}, {taps}) takes {outputs + taps - 2} different points besides ∞")
    scales = [math.prod(a - other for other in points if other != a) for a in points]
    output = [(*(a**i for a in points), Fraction(i == outputs - 1)) for i in range(outputs)]
    weight = [tuple(a**k / scale for k in range(taps)) for a, scale in zip(points, scales, strict=True)]
    weight.append(tuple(Fraction(k == taps - 1) for k in range(taps)))
    given = [(*_polynomial([other for other in points if other != a]), Fraction(0)) for a in points]
    given.append(_polynomial(points))
    return Transforms(tuple(output), tuple(weight), tuple(given))


def _polynomial(roots: Sequence[Fraction]) -> Row:
    """The coefficients of Π (x − root), the constant one first."""
    coefficients = [Fraction(1)]
    for root in roots:
        shifted = [Fraction(0), *coefficients]
        coefficients = [a - root * b for a, b in zip(shifted, [*coefficients, Fraction(0)], strict=True)]
    return tuple(coefficients)
