"""Learning curves and the confusion matrix, drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from svertka.explain.draw.style import LIGHT
from svertka.inspect.draw.looks import HEADING, LINES, SMALL, TEXT, WIDTH, Sheet, short, signed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from svertka.vision.metrics import Evaluation

_TOP = HEADING + 24
_MOST = 30  # classes whose counts can be written


def curves(runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> Figure:
    """Loss and accuracy by epoch; of one run in training and validation, of several each in a colour of its own.

    Args:
        runs: by name the records of each epoch, as metrics.jsonl has them.
    """
    several = len(runs) > 1
    height = _TOP + 290 + (20 * len(runs) if several else 0)
    sheet = Sheet(WIDTH, height, "Learning curves")
    charts = [sheet.chart(56 + i * 470, _TOP + 34, 380, 200, title) for i, title in enumerate(("Loss", "Accuracy, %"))]
    for number, (_, history) in enumerate(runs.items()):
        for axes, what, times in zip(charts, ("loss", "accuracy"), (1, 100), strict=True):
            _plot(axes, history, what, times, several, LIGHT[LINES[number % len(LINES)]])
    for axes in charts:
        axes.set_xlabel("epoch")
        _cut_off(axes)
        longest = max(len(history) for history in runs.values())
        axes.set_xlim(0.5 if longest < 2 else 1 - 0.02 * longest, longest * 1.02 + 0.02)
        axes.xaxis.get_major_locator().set_params(integer=True)  # type: ignore[call-arg]
    y = height - 14 - (20 * len(runs) if several else 0)
    lines = "dashed: training, with augmentation and dropout; solid: validation"
    if several:
        lines = "validation pictures; dashed: training, where there are none"
    sheet.text(56, y, lines, SMALL, "faint")
    for number, name in enumerate(runs if several else ()):
        at = y + 20 * (number + 1)
        sheet.box(56, at - 2, 22, 4, fill=LINES[number % len(LINES)])
        sheet.text(88, at, name, SMALL)
    return sheet.figure


def confusion(evaluation: Evaluation) -> Figure:
    """True classes in rows, answers in columns; right ones blue, wrong ones orange, each by its share of the row."""
    counts, classes = evaluation.confusion, evaluation.classes
    n = len(classes)
    written = n <= _MOST
    cell = min(46, (WIDTH - 170) // n) if written else max(1, (WIDTH - 170) // n)
    left, top = 160, _TOP + (22 if n <= 12 else 96 if written else 10)
    sheet = Sheet(left + n * cell + 10, top + n * cell + 12, "What was taken for what")
    sheet.text(0, top - 12 if n <= 12 else _TOP + 6, "true class ↓   answer →", SMALL, "faint")
    for i, name in enumerate(classes if written else ()):
        sheet.text(left - 10, top + (i + 0.5) * cell, short(name, 21), SMALL, "ink", "right")
        _column_name(sheet, left + (i + 0.5) * cell, top, name, n)
    if written:
        for i, row in enumerate(counts.tolist()):
            for j, count in enumerate(row):
                _count(sheet, left + j * cell, top + i * cell, cell, count, count / max(sum(row), 1), i == j)
    else:
        shares = counts / counts.sum(axis=1, keepdims=True).clip(min=1)
        sheet.picture(signed(np.where(np.eye(n) > 0, shares, -shares), 1.0), left, top, n * cell, n * cell)
    sheet.box(left, top, n * cell, n * cell, "line", thick=1)
    return sheet.figure


def _cut_off(axes: Axes) -> None:
    """Let single values that are far above all others leave the frame, so that the rest is seen."""
    values = np.concatenate([np.asarray(line.get_ydata(), dtype=float) for line in axes.get_lines()])
    finite = values[np.isfinite(values)]
    most = 4 * float(np.quantile(finite, 0.75)) if len(finite) else 0.0
    if len(finite) and finite.max() > most > 0:
        axes.set_ylim(0, most)
        axes.annotate(
            f"up to {finite.max():.3g}", (0.5, 1.0), (0, -4), xycoords="axes fraction", textcoords="offset points",
            ha="center", va="top", fontsize=8, color=LIGHT["faint"],
        )  # fmt: skip


def _plot(axes: Axes, history: Sequence[Mapping[str, Any]], what: str, times: int, several: bool, colour: str) -> None:
    epochs = [record["epoch"] for record in history]
    for split, style in (("train", (0, (4, 2))), ("val", "-")):
        key = f"{split}_{what}"
        if not history or key not in history[0] or (several and split == "train" and f"val_{what}" in history[0]):
            continue
        values = [times * record[key] for record in history]
        own = colour if several or split == "val" else LIGHT["faint"]
        single = {"marker": "o", "markersize": 4} if len(values) < 12 else {}
        axes.plot(epochs, values, color=own, linestyle=style, linewidth=1.8, **single)  # type: ignore[arg-type]


def _column_name(sheet: Sheet, x: float, top: float, name: str, n: int) -> None:
    if n <= 12:
        sheet.text(x, top - 12, short(name, 7 if n > 6 else 12), SMALL - 2, "ink", "center")
        return
    text = sheet.paper.text(x + 3, top - 8, short(name, 12), fontsize=SMALL * 0.75, color=LIGHT["ink"], ha="center")
    text.set(rotation=90, va="bottom")


def _count(sheet: Sheet, x: float, y: float, cell: float, count: int, share: float, right: bool) -> None:
    middle = x + cell / 2, y + cell / 2
    if not count:
        sheet.text(*middle, "·", SMALL, "line", "center")
        return
    strength = 0.85 * share if right else min(1.0, 0.12 + 2.2 * share)
    sheet.box(x + 1, y + 1, cell - 2, cell - 2, fill="current" if right else "warning", alpha=strength)
    size = TEXT if cell >= 44 else SMALL if cell >= 26 else 8
    sheet.text(*middle, str(count), size, "on-current" if strength > 0.55 else "ink", "center")
