"""Whether a result is right."""

from __future__ import annotations

import numpy as np
from layer_rows import Arrays, Row

# Of the largest difference, in units of the results' root mean square. Sums in float32 differ by about 10⁻⁶ of it,
# Winograd's by 10⁻⁵; numbers rounded to float16 by 10⁻³, to bfloat16 by 10⁻².
TOLERANCE = 1e-4


def error(row: Row, result: np.ndarray, reference: np.ndarray) -> float | None:
    """max |result − reference| / √mean reference²; None where there is no such number."""
    if result.shape != reference.shape or row.kind == "stochastic":
        return None
    largest = float(np.abs(result - reference).max())
    return largest / float(np.sqrt(np.square(reference).mean())) if np.isfinite(largest) else None


def fault(row: Row, arrays: Arrays, result: np.ndarray, reference: np.ndarray) -> str:
    """What is wrong with a result; "" if it is right."""
    if result.shape != reference.shape:
        return f"its result is of shape {list(result.shape)}, not {list(reference.shape)}"
    if row.kind == "stochastic":
        return _unlike_draws(row, arrays["x"], result, reference)
    off = error(row, result, reference)
    return "" if off is not None and off <= TOLERANCE else f"its result is off by more than {TOLERANCE:g}"


def _unlike_draws(row: Row, x: np.ndarray, result: np.ndarray, expected: np.ndarray) -> str:
    """Draws are members of their windows, which don't overlap, and on average what is expected, within 2 %."""
    k = row.kernel
    windows = x.reshape(*x.shape[:2], x.shape[2] // k, k, x.shape[3] // k, k)
    if not (windows == result[:, :, :, None, :, None]).any(axis=(3, 5)).all():
        return "it draws what isn't in the window"
    off = abs(result.mean() / expected.mean() - 1)
    return "" if off <= 0.02 else f"its draws are off by {off:.1%} on average"
