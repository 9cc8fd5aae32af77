"""Results held against the float64 reference, with tolerances that follow from the arithmetic.

A sum of n rounded products is off by at most about n·ε times the sum of their magnitudes, whatever the order of
summation. The tolerance of a result is therefore the same operation on magnitudes, times ε, times the number of
roundings; where nothing is rounded (maxima, padding) it is 0.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from svertka.window import sources

KINDS = ("normal", "ties", "nan", "infinite")


def numbers(shape: tuple[int, ...], seed: int, dtype: torch.dtype = torch.float64, kind: str = "normal") -> Tensor:
    """Random numbers: normal ones, whole ones −2 … 2 (many of them equal), or normal ones with some NaN or ±∞."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(shape, generator=generator, dtype=torch.float64)
    chance = torch.rand(shape, generator=generator, dtype=torch.float64)
    if kind == "ties":
        values = values.round().clamp(-2, 2)
    if kind == "nan":
        values[chance < 0.1] = torch.nan
    if kind == "infinite":
        values[chance < 0.1], values[chance > 0.9] = torch.inf, -torch.inf
    return values.to(dtype)


def assert_near(actual: Tensor, expected: npt.ArrayLike, tolerance: npt.ArrayLike = 0.0) -> None:
    """Each finite number within its tolerance of the expected one; NaN, ∞ and −∞ in the same places; the same shape."""
    found, expected = actual.detach().resolve_conj().numpy(), np.asarray(expected)
    assert found.shape == expected.shape, f"shape {found.shape}, expected {expected.shape}"
    tolerance = np.broadcast_to(np.asarray(tolerance, dtype=np.float64), expected.shape)
    with np.errstate(invalid="ignore"):
        same = (found == expected) | (np.isnan(found) & np.isnan(expected))
        wrong = ~same & ~(np.isfinite(expected) & (abs(found - expected) <= tolerance))
    if wrong.any():
        place = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise AssertionError(
            f"{wrong.sum()} of {wrong.size} differ, first at {place}: {found[place]}, expected {expected[place]} "
            f"± {tolerance[place]:.2g}"
        )


def assert_sums_near(found: Tensor, definition: Callable[..., Any], *tensors: Tensor | None, roundings: float) -> None:
    """`assert_near` for sums of products: `definition` of the tensors ± ε · roundings · `definition` of magnitudes."""
    magnitude = definition(*(None if tensor is None else abs(tensor) for tensor in tensors))
    assert_near(
        found, definition(*tensors), roundings * np.nan_to_num(magnitude, posinf=0) * torch.finfo(found.dtype).eps
    )


def assert_norms_near(found: Tensor, expected: npt.ArrayLike, terms: int, p: float) -> None:
    """`assert_near` for p-norms: the root divides the sum's roundings by p; an exponent off by ε costs ε·ln y more."""
    expected = np.asarray(expected)
    finite = np.where(np.isfinite(expected), expected, 0.0)
    roundings = (terms + 8) * max(1.0, 1 / p) + 4 * abs(np.log(np.where(finite > 0, finite, 1.0)))
    assert_near(found, expected, 0.0 if p == np.inf else torch.finfo(found.dtype).eps * roundings * finite)


def places_of(taps: Tensor, windows: Any, size: Any) -> Tensor:
    """The places that the taps of these numbers read, [N, C, *output size]; −1 is none, in as many bits."""
    table = torch.from_numpy(sources(windows, size))
    count = table.shape[-1]
    number = taps.flatten(2).long().movedim(-1, 0)
    number = torch.where(number < 0, number + {1: 2**8, 2: 2**16, 4: 2**32}[taps.element_size()], number)
    table = torch.nn.functional.pad(table.reshape(-1, count), (0, 1), value=-1)
    found = table.gather(1, number.clamp(max=count).flatten(1)).view(number.shape)
    return found.movedim(0, -1).reshape(taps.shape)
