import random
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from svertka.kernels.winograd_points import PRODUCTS, from_points, phases, points, products_of, transforms

SIZES = [(n - r + 1, r) for n in PRODUCTS for r in (1, 2, 3, 5, 7) if n > r or n == r == 1]


def fractions(seed, count):
    draw = random.Random(seed)
    return [Fraction(draw.randint(-99, 99), draw.randint(1, 99)) for _ in range(count)]


def times(matrix, vector):
    return [sum(a * x for a, x in zip(row, vector, strict=True)) for row in matrix]


def defined(g, d, outputs, stride=1):
    return [sum(g[k] * d[stride * i + k] for k in range(len(g))) for i in range(outputs)]


def filtered(t, g, d):
    return times(t.A, [a * b for a, b in zip(times(t.G, g), times(t.B, d), strict=True)])


@pytest.mark.parametrize("outputs, taps", SIZES)
def test_the_transforms_are_exact(outputs, taps):
    t = transforms(outputs, taps)
    g, d = fractions(0, taps), fractions(1, outputs + taps - 1)
    assert filtered(t, g, d) == defined(g, d, outputs)


@pytest.mark.parametrize("outputs", range(1, 8))
@pytest.mark.parametrize("stride, taps", ((2, 2), (2, 3), (2, 4), (2, 5), (2, 7), (3, 3), (3, 5)))
def test_with_a_stride_too_phase_by_phase(outputs, stride, taps):
    if outputs + -(-taps // stride) - 1 > max(PRODUCTS):
        pytest.skip("there are no points")
    t, count = transforms(outputs, taps, stride), products_of(outputs, taps, stride)
    g, d = fractions(0, taps), fractions(1, count)
    order = phases(outputs, taps, stride)
    assert sorted(order) == list(range(count))
    assert filtered(t, g, [d[place] for place in order]) == defined(g, d, outputs, stride)
    assert len(t.B) == len(t.G) == len(t.A[0]) == count


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
        wrong = replace(t, **{name: rows})
        assert filtered(wrong, g, d) != defined(g, d, 4)


@pytest.mark.parametrize("products", [3, *PRODUCTS[1:]])
def test_points_are_different_and_the_kernels_constants_exact(products):
    found = points(products)
    assert len(set(found)) == products - 1 == len(found)
    t = transforms(products - 1, 2)
    for matrix in (t.A[:7], t.B):
        for value in (value for row in matrix for value in row):
            assert products == 9 or Fraction(float(np.float32(float(value)))) == value


@pytest.mark.parametrize("given", [["0", "1"], ["0", "1", "1"], ["0", "1", "-1", "2"]])
def test_too_few_or_equal_points_are_refused(given):
    with pytest.raises(ValueError, match=r"F\(2, 3\) takes 3 different points besides ∞"):
        from_points([Fraction(text) for text in given], 2, 3)
