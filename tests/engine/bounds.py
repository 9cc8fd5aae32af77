"""Tolerances from the formula: how far a float32 sum may be from the true one."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from comparing import assert_near

from svertka.engine import winograd
from svertka.kernels.winograd_points import transforms
from svertka.window import OUTSIDE, Window

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


def absolute(matrix):
    return np.array([[abs(float(value)) for value in row] for row in matrix])


def winograd_bound(operation, x, weight, tile):
    """How far a result may be off: |A| (Σ_c |G||w||Gᵀ| ⊙ |B||x||Bᵀ|) |Aᵀ| times u times the roundings on the way.

    These are C for the sum, and at most n in each of the four passes of the transforms of inputs and outputs, r in each
    of the two of weights (an even and an odd half, each scaled, make one or two more).
    """
    windows = (Window(1),) * (2 - operation.ndim) + operation.windows
    x = abs(x.reshape(*x.shape[:2], *(1,) * (2 - operation.ndim), *x.shape[2:])).astype(np.float64)
    taps = tuple(window.size for window in windows)
    strides = tuple(window.stride if window.size > 1 else 1 for window in windows)
    down, across = (transforms(*axis) for axis in zip(tile, taps, strides, strict=True))
    (rows, y_rows), (columns, y_columns) = (
        winograd.axis_tiles(window, n, m) for window, n, m in zip(windows, x.shape[2:], tile, strict=True)
    )
    padded = np.pad(x, ((0, 0), (0, 0), (0, 1), (0, 1)))  # the last row and column stand for OUTSIDE, which is −1
    tiles = padded[:, :, rows][..., columns]  # [N, C, down, n_y, across, n_x]
    given = np.einsum("ia,ncxayb,jb->ncxiyj", absolute(down.B), tiles, absolute(across.B))
    size, groups = weight.shape[0] // operation.groups, operation.groups
    w = abs(weight.reshape(groups, size, weight.shape[1], *taps)).astype(np.float64)
    w = np.einsum("ia,gocab,jb->gocij", absolute(down.G), w, absolute(across.G))
    given = given.reshape(len(x), groups, -1, *given.shape[2:])
    products = np.einsum("gocij,ngcxiyj->ngoxiyj", w, given)
    sums = np.einsum("ai,ngoxiyj,bj->ngoxayb", absolute(down.A), products, absolute(across.A))
    sums = sums.reshape(len(x), -1, *sums.shape[3:])
    y = np.zeros((*sums.shape[:2], y_rows.max() + 1, y_columns.max() + 1))
    for i, j in zip(*(t.reshape(-1) for t in np.meshgrid(range(len(rows)), range(len(columns)))), strict=True):
        r, c = y_rows[i][y_rows[i] != OUTSIDE], y_columns[j][y_columns[j] != OUTSIDE]
        y[:, :, r[:, None], c] = sums[:, :, i, : len(r), j, : len(c)]
    roundings = weight.shape[1] + 2 * (len(down.B) + len(across.B) + 2) + sum(taps) + 7
    y = y if operation.ndim == 2 else y[:, :, 0]
    return roundings * UNIT / (1 - roundings * UNIT) * y
