"""Winograd's minimal filtering: its three transforms from points, by exact rational arithmetic.

    y_i = Σ_k g_k · d_(i+k),  i < m, k < r      is      y = A ((G g) ⊙ (B d))

with n = m + r − 1 products in place of m · r. Polynomials of degree n − 1 are told by their values at n points; with
the points a_0 … a_(n−2) and ∞, N_j = Π_(l≠j) (a_j − a_l):

    A [m, n]  A_ij = a_j^i;          its last column, of ∞, is 1 in the last row, else 0
    G [n, r]  G_jk = a_j^k / N_j;    its last row is 1 in the last column, else 0
    B [n, n]  row j the coefficients of Π_(l≠j) (x − a_l), the last row those of Π_l (x − a_l)

(Toom–Cook's multiplication transposed: Winograd 1980, Arithmetic Complexity of Computations; Lavin & Gray 2016.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

Row = tuple[Fraction, ...]
Matrix = tuple[Row, ...]

# Besides ∞, for each number of products: pairs ±a, whose rows share half of their operations, and 0 where one is left.
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
def transforms(outputs: int, taps: int) -> Transforms:
    """F(outputs, taps): so many outputs of a filter with so many taps, from outputs + taps − 1 products."""
    return from_points(points(outputs + taps - 1), outputs, taps)


def points(products: int) -> Row:
    """The finite points of so many products, one of PRODUCTS."""
    pairs = [Fraction(text) for text in _PAIRS.get(products, ())]
    zero = [Fraction(0)] * (products - 1 - 2 * len(pairs))
    return (*zero, *(sign * point for point in pairs for sign in (1, -1)))


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
