"""Tolerances from the formula: how far a float32 sum may be from the true one."""

from typing import Any

import numpy as np
import numpy.typing as npt

UNIT = 2.0**-24  # the unit roundoff of float32


def sum_bound(terms: int, magnitude: npt.ArrayLike) -> Any:
    """The bound of a sum of products in any order, (n + 2) u / (1 − n u) · Σ |w·x| (Higham 2002, section 3.1)."""
    return (terms + 2) * UNIT / (1 - terms * UNIT) * np.asarray(magnitude)


def agrees(result: npt.ArrayLike, expected: npt.ArrayLike, bound: npt.ArrayLike) -> bool:
    """Whether each number is within its bound; NaN and ±∞ stand in the same places."""
    result, expected = np.asarray(result, np.float64), np.asarray(expected, np.float64)
    if result.shape != expected.shape:
        return False
    ordinary = np.isfinite(expected)
    special = np.array_equal(result[~ordinary], expected[~ordinary], equal_nan=True)
    distance = np.abs(result[ordinary] - expected[ordinary])
    return special and bool((distance <= np.broadcast_to(bound, expected.shape)[ordinary]).all())
