"""Tolerances from the formula: how far a float32 sum may be from the true one."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from comparing import assert_near

UNIT = 2.0**-24  # the unit roundoff of float32


def sum_bound(terms: int, magnitude: npt.ArrayLike) -> Any:
    """The bound of a sum of products in any order, (n + 2) u / (1 − n u) · Σ |w·x| (Higham 2002, section 3.1)."""
    return (terms + 2) * UNIT / (1 - terms * UNIT) * np.asarray(magnitude)


def agrees(result: npt.ArrayLike, expected: npt.ArrayLike, bound: npt.ArrayLike) -> bool:
    """Whether `comparing.assert_near` holds: each number within its bound, NaN and ±∞ in the same places."""
    try:
        assert_near(torch.from_numpy(np.asarray(result).copy()), np.asarray(expected, np.float64), bound)
    except AssertionError:
        return False
    return True
