"""What a network takes for what, as a page shows it."""

from __future__ import annotations

from typing import Any

import numpy as np

from svertka.vision.metrics import Evaluation

MOST_CLASSES = 40
"""Of more, a page shows the pairs that are confused most and no matrix."""

_PAIRS = 12


def answers(evaluation: Evaluation, split: str, epoch: int) -> dict[str, Any]:
    """What a page shows of an evaluation."""
    wrong = evaluation.confusion.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:_PAIRS]
    cells = [divmod(int(cell), len(wrong)) for cell in order if wrong.flat[cell]]
    return {
        "split": split,
        "epoch": epoch,
        "count": evaluation.count,
        "correct": evaluation.correct,
        "accuracy": evaluation.accuracy,
        "loss": evaluation.loss,
        "classes": list(evaluation.classes),
        "matrix": evaluation.confusion.tolist() if len(evaluation.classes) <= MOST_CLASSES else [],
        "pairs": [[true, answer, int(wrong[true, answer])] for true, answer in cells],
    }
