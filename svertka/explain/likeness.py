"""X against X: two pictures compared pixel by pixel, and by small filters that find a pattern wherever it stands.

A filter is a patch of the first picture. Its response at a place is the cosine between the patch and what the picture
shows there, Σ w·x / √(Σ w² · Σ x²): 1 where the very pattern stands, and it is a convolution divided by the root of
another. For pictures of −1 and 1 it is the mean of the products.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from svertka import functional
from svertka.errors import DataError

Array = npt.NDArray[np.float64]

X = """
-1 -1 -1 -1 -1 -1 -1 -1 -1
-1  1 -1 -1 -1 -1 -1  1 -1
-1 -1  1 -1 -1 -1  1 -1 -1
-1 -1 -1  1 -1  1 -1 -1 -1
-1 -1 -1 -1  1 -1 -1 -1 -1
-1 -1 -1  1 -1  1 -1 -1 -1
-1 -1  1 -1 -1 -1  1 -1 -1
-1  1 -1 -1 -1 -1 -1  1 -1
-1 -1 -1 -1 -1 -1 -1 -1 -1
"""
DEFORMED_X = """
-1 -1 -1 -1 -1 -1 -1 -1 -1
-1 -1 -1 -1 -1 -1  1 -1 -1
-1  1 -1 -1 -1  1 -1 -1 -1
-1 -1  1  1 -1  1 -1 -1 -1
-1 -1 -1 -1  1 -1 -1 -1 -1
-1 -1 -1  1 -1  1  1 -1 -1
-1 -1 -1  1 -1 -1 -1  1 -1
-1 -1  1 -1 -1 -1 -1 -1 -1
-1 -1 -1 -1 -1 -1 -1 -1 -1
"""
X_PATCHES = ((1, 1), (3, 3), (1, 5))
"""Where the first X shows a falling stroke, a crossing and a rising stroke, 3 × 3 each."""


@dataclass(frozen=True)
class Found:
    """Where a filter responds most.

    Args:
        place: (row, column) of the upper left corner of the patch in the first picture.
        patch: its values, as rows.
        best: the largest response in the first and in the second picture, at most 1.
        at: where each of them is, the upper left corner.
    """

    place: tuple[int, int]
    patch: tuple[tuple[float, ...], ...]
    best: tuple[float, float]
    at: tuple[tuple[int, int], tuple[int, int]]


@dataclass(frozen=True)
class Likeness:
    """What two pictures have in common.

    Args:
        cells: number of pixels of each.
        differing: how many of them differ between the two.
        ones: how many pixels are bright (nearer to the largest value of both pictures than to the least) in each.
        shared: how many are bright in both.
        cosine: between the whole pictures: the response of the first, taken as one filter, to the second.
        found: the small filters.
    """

    cells: int
    differing: int
    ones: tuple[int, int]
    shared: int
    cosine: float
    found: tuple[Found, ...]

    def to_dict(self) -> dict[str, Any]:
        """Everything in plain types, for JSON."""
        return asdict(self)


def compare(
    first: Any = None, second: Any = None, size: int = 3, places: Sequence[tuple[int, int]] | None = None
) -> Likeness:
    """Compares two grey pictures pixel by pixel, and by filters that are patches of the first.

    Args:
        first, second: [height, width] of one size; both None for the lecture's two X.
        size: height and width of the filters.
        places: where in the first picture they are taken, (row, column) of the upper left corner; by default where it
            varies most in both directions, three that don't overlap.

    Raises:
        DataError: if the sizes differ or leave no place for the filters.
    """
    if first is None or second is None:
        first, second, places = slides_x(), slides_x(deformed=True), X_PATCHES if places is None else places
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    _check(a, b, size)
    middle = float(min(a.min(), b.min()) + max(a.max(), b.max())) / 2
    ones = a > middle, b > middle
    # The zero of pixel values is black and says nothing; that of two values −1 and 1 is their middle already.
    a, b = a - middle, b - middle
    where = tuple(places) if places is not None else _corners(a, size)
    return Likeness(
        a.size, int((a != b).sum()), (int(ones[0].sum()), int(ones[1].sum())), int((ones[0] & ones[1]).sum()),
        float(responses(b, a)[0, 0]), tuple(_found(a, b, place, size, middle) for place in where),
    )  # fmt: skip


def slides_x(deformed: bool = False) -> Array:
    """The lecture's X of −1 and 1, [9, 9], or its deformed twin."""
    return np.array((DEFORMED_X if deformed else X).split(), dtype=np.float64).reshape(9, 9)


def responses(picture: Array, patch: Array) -> Array:
    """The cosine between the patch and each window of the picture, [H − h + 1, W − w + 1]; 0 for a window of zeros."""
    x, w = torch.from_numpy(picture)[None, None], torch.from_numpy(patch)[None, None]
    products = functional.conv2d(x, w)[0, 0].numpy()
    squares = functional.conv2d(x * x, torch.ones_like(w))[0, 0].numpy() * (patch * patch).sum()
    lengths = np.sqrt(np.maximum(squares, 0))
    cosines: Array = np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 1e-9)
    return cosines


def _found(a: Array, b: Array, place: tuple[int, int], size: int, middle: float) -> Found:
    patch = a[place[0] : place[0] + size, place[1] : place[1] + size]
    # Rounded, so that of equal responses the first is taken whatever the rounding of the sums.
    maps = [responses(picture, patch).round(12) for picture in (a, b)]
    at = [divmod(int(found.argmax()), found.shape[1]) for found in maps]
    best = [float(found.max()) for found in maps]
    rows = tuple(tuple(row) for row in (patch + middle).tolist())
    return Found(place, rows, (best[0], best[1]), (at[0], at[1]))


def _corners(a: Array, size: int, count: int = 3) -> tuple[tuple[int, int], ...]:
    """Upper left corners of the windows with most change in their poorer direction, without overlap."""
    gy, gx = np.gradient(a)
    window = torch.ones(1, 1, size, size, dtype=torch.float64)
    xx, yy, xy = (
        functional.conv2d(torch.from_numpy(p)[None, None], window)[0, 0].numpy() for p in (gx * gx, gy * gy, gx * gy)
    )
    least = (xx + yy) / 2 - np.sqrt(((xx - yy) / 2) ** 2 + xy**2)  # the smaller eigenvalue
    places = []
    for _ in range(count):
        row, column = (int(i) for i in np.unravel_index(least.argmax(), least.shape))
        if least[row, column] == -np.inf:
            break
        places.append((row, column))
        least[max(0, row - size + 1) : row + size, max(0, column - size + 1) : column + size] = -np.inf
    return tuple(places)


def _check(a: Array, b: Array, size: int) -> None:
    if a.ndim != 2 or a.shape != b.shape:
        raise DataError(
            f"pictures of {'×'.join(map(str, a.shape))} and {'×'.join(map(str, b.shape))} cannot be compared pixel by "
            "pixel: give two grey ones of one size"
        )
    if size < 1 or size > min(a.shape):
        raise DataError(f"filters of {size}×{size} don't fit into {a.shape[0]}×{a.shape[1]}: give a smaller --size")
