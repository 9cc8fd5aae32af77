"""Whether a result is right."""

from __future__ import annotations

from collections.abc import Sequence

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


# Algorithms that take fewer products than the direct sum round up to 11 times as coarsely (docs/engine.md), and what
# rounding does to a loss grows from step to step by the same factor, whoever rounded.
COARSENESS = 11


def losses_and_tolerances(exact: Sequence[float], rounded: Sequence[Sequence[float]]) -> np.ndarray:
    """[2, steps]: the losses of training steps, and by how much those of others may differ from them.

    Args:
        exact: in float64.
        rounded: of the same steps in float32, each rounded in another way: the furthest one, of this step or one before
            it, tells how far rounding alone leads.
    """
    losses = np.asarray(exact, np.float64)
    off = np.abs(np.asarray(rounded, np.float64) - losses).max(0)
    unit = np.finfo(np.float32).eps * np.abs(losses)
    return np.stack([losses, COARSENESS * np.maximum.accumulate(np.maximum(off, unit))])


def fault_of_losses(found: np.ndarray, expected: np.ndarray) -> str:
    """What is wrong with the losses of training steps; "" if they are right."""
    losses, tolerances = expected
    if found.shape != losses.shape:
        return f"it took {len(found)} steps, not {len(losses)}"
    off = np.abs(found - losses)
    wrong = ~(off <= tolerances)  # also what is no number
    if not wrong.any():
        return ""
    step = int(wrong.argmax())
    return f"its loss after {step} steps is off by {off[step]:.1g}, where rounding leads to {tolerances[step]:.1g}"
