"""What a classifier got right and wrong, from its confusion matrix: numbers only, drawn by `svertka.vision.tables`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class ClassScore:
    """How well one class is told from the others.

    `precision` is the share of the pictures called so that are, `recall` of those that are the share that is called so.

    A share of nothing is None: precision of a class never predicted, recall of a class without pictures.
    """

    precision: float | None
    recall: float | None
    f1: float | None
    support: int


@dataclass(frozen=True)
class Mistake:
    """A picture that was given the wrong class, and the probability that the network gave to its answer."""

    name: str
    true: str
    predicted: str
    confidence: float


@dataclass(frozen=True)
class Evaluation:
    """A classifier's answers on one set of pictures.

    `confusion` is int64 [true class, predicted class]; `loss` is the mean cross-entropy in nats; `mistakes` are all of
    them, the most confident first; `skipped` names each picture that could not be read, with the reason.
    """

    classes: tuple[str, ...]
    confusion: npt.NDArray[np.int64]
    loss: float
    mistakes: tuple[Mistake, ...] = ()
    skipped: Mapping[str, str] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """How many pictures were classified."""
        return int(self.confusion.sum())

    @property
    def correct(self) -> int:
        """How many of them rightly."""
        return int(np.trace(self.confusion))

    @property
    def accuracy(self) -> float:
        """The share classified rightly; 0 for no pictures."""
        return self.correct / max(self.count, 1)

    @property
    def per_class(self) -> dict[str, ClassScore]:
        """Precision, recall, F1 and the number of pictures of each class."""
        hits = np.diagonal(self.confusion).tolist()
        called = self.confusion.sum(axis=0).tolist()
        support = self.confusion.sum(axis=1).tolist()
        return {
            label: ClassScore(_share(hit, said), _share(hit, true), _share(2 * hit, said + true), true)
            for label, hit, said, true in zip(self.classes, hits, called, support, strict=True)
        }

    def to_dict(self) -> dict[str, Any]:
        """Everything but the single mistakes, as JSON-able values."""
        return {
            "accuracy": self.accuracy,
            "count": self.count,
            "correct": self.correct,
            "loss": self.loss,
            "classes": list(self.classes),
            "per_class": {label: vars(score) for label, score in self.per_class.items()},
            "confusion": self.confusion.tolist(),
            "skipped": dict(self.skipped),
        }

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> Evaluation:
        """What `to_dict` gave, without the mistakes; KeyError, TypeError or ValueError if it is anything else."""
        classes = tuple(map(str, told["classes"]))
        confusion = np.array(told["confusion"], dtype=np.int64)
        if confusion.shape != (len(classes), len(classes)):
            raise ValueError
        return cls(classes, confusion, float(told["loss"]), skipped=dict(told["skipped"]))


def confusion_matrix(true: npt.ArrayLike, predicted: npt.ArrayLike, classes: int) -> npt.NDArray[np.int64]:
    """Count int labels [n] by (true class, predicted class): int64 [classes, classes]."""
    cells = np.asarray(true, dtype=np.int64) * classes + np.asarray(predicted, dtype=np.int64)
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes).astype(np.int64)


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
