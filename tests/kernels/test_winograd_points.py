import random
from fractions import Fraction

import numpy as np
import pytest

from svertka.kernels.winograd_points import PRODUCTS, Transforms, from_points, points, transforms

SIZES = [(n - r + 1, r) for n in PRODUCTS for r in (1, 2, 3, 5, 7) if n > r or n == r == 1]


def fractions(seed, count):
    draw = random.Random(seed)
    return [Fraction(draw.randint(-99, 99), draw.randint(1, 99)) for _ in range(count)]


def times(matrix, vector):
    return [sum(a * x for a, x in zip(row, vector, strict=True)) for row in matrix]


def defined(g, d, outputs):
    return [sum(g[k] * d[i + k] for k in range(len(g))) for i in range(outputs)]


def filtered(t, g, d):
    return times(t.A, [a * b for a, b in zip(times(t.G, g), times(t.B, d), strict=True)])


@pytest.mark.parametrize("outputs, taps", SIZES)
def test_the_transforms_are_exact(outputs, taps):
    t = transforms(outputs, taps)
    g, d = fractions(0, taps), fractions(1, outputs + taps - 1)
    assert filtered(t, g, d) == defined(g, d, outputs)


def test_any_points_do():
    g, d = fractions(2, 3), fractions(3, 6)
    t = from_points([Fraction(text) for text in ("7/3", "0", "-1", "5", "1/9")], 4, 3)
    assert filtered(t, g, d) == defined(g, d, 4)


def test_a_wrong_transform_is_noticed():
    t = transforms(4, 3)
    g, d = fractions(4, 3), fractions(5, 6)
    for name in ("A", "G", "B"):
        rows = [list(row) for row in getattr(t, name)]
        rows[1][1] += Fraction(1, 1000)
        wrong = Transforms(**{**{other: getattr(t, other) for other in ("A", "G", "B")}, name: rows})
        assert filtered(wrong, g, d) != defined(g, d, 4)


@pytest.mark.parametrize("products", PRODUCTS)
def test_points_are_different_and_the_kernels_constants_exact(products):
    found = points(products)
    assert len(set(found)) == products - 1 == len(found)
    t = transforms(products, 1)
    for matrix in (t.A[:7], t.B):
        for value in (value for row in matrix for value in row):
            assert products == 9 or Fraction(float(np.float32(float(value)))) == value


@pytest.mark.parametrize("given", [["0", "1"], ["0", "1", "1"], ["0", "1", "-1", "2"]])
def test_too_few_or_equal_points_are_refused(given):
    with pytest.raises(ValueError, match=r"F\(2, 3\) takes 3 different points besides ∞"):
        from_points([Fraction(text) for text in given], 2, 3)
