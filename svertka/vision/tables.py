"""What training and evaluation show on a terminal: progress with the time left, and the tables at the end."""

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from svertka.vision.datasets import Dataset
from svertka.vision.metrics import Evaluation
from svertka.vision.pictures import printable
from svertka.vision.settings import Settings

_MOST_ROWS = 20
_WORST = 10
_LONGEST_NAME = 24


class TrainingProgress:
    """A line for each epoch, and below them on a terminal a bar with the time left."""

    def __init__(self, console: Console, epochs: int, steps: int, done: int, has_validation: bool) -> None:
        self._console = console
        self._epochs, self._has_validation = epochs, has_validation
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            refresh_per_second=2,
            transient=True,
            expand=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=epochs * steps, completed=done, loss="–")

    def __enter__(self) -> "TrainingProgress":
        validation = "   validation loss   accuracy" if self._has_validation else ""
        self._console.print(f"\n    epoch   train loss   accuracy{validation}       time", soft_wrap=True)
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def step(self, epoch: int, loss: float) -> None:
        """A step of `epoch` (from 0) was taken."""
        self._bar.update(self._task, advance=1, loss=f"{loss:.3f}", description=f"epoch {epoch + 1}/{self._epochs}")

    def epoch(self, record: dict[str, Any]) -> None:
        """An epoch is done; `record` is its line of metrics.jsonl."""
        epoch = f"{record['epoch']}/{self._epochs}"
        line = f"{epoch:>9}{record['train_loss']:>13.4f}{percent(record['train_accuracy']):>11}"
        if self._has_validation:
            line += f"{record['val_loss']:>18.4f}{percent(record['val_accuracy']):>11}"
        self._console.print(f"{line}{record['seconds']:>9.1f} s", soft_wrap=True)


def show_start(console: Console, settings: Settings, dataset: Dataset, parameters: int, folder: Path) -> None:
    """Print what is about to be trained, on what, how and where, and what the user must know of the data."""
    height, width = dataset.preprocessing.size
    splits = {"training": dataset.train, "validation": dataset.validation, "test": dataset.test}
    counts = ", ".join(f"{len(split)} {name}" for name, split in splits.items() if split)
    kind = "grey" if dataset.preprocessing.channels == 1 else "RGB"
    facts = {
        "model": f"{settings.model}, {parameters} parameters",
        "data": f"{settings.data}: {counts}; {len(dataset.classes)} classes; {height}x{width} {kind}",
        "recipe": f"{settings.epochs} epochs in batches of {settings.batch_size}; {settings.optimizer},"
        f" {settings.schedule} up to {settings.lr:g}; seed {settings.seed}",
        "changes": _augmentation(settings),
        "folder": str(folder),
    }
    if settings.device != "cpu" or settings.autocast:
        facts["device"] = settings.device + (", sums of products in bfloat16" if settings.autocast else "")
    for name, fact in facts.items():
        console.print(Text(f"{name:<8}{printable(fact)}"), soft_wrap=True)
    for note in dataset.notes:
        console.print(Text(f"note    {note}"), soft_wrap=True)


def _augmentation(settings: Settings) -> str:
    changes = {
        f"shift by up to {settings.shift} px": settings.shift,
        "flip": settings.flip,
        f"crop by up to {settings.crop:.0%}": settings.crop,
        f"contrast by up to {settings.contrast:.0%}": settings.contrast,
    }
    return ", ".join(name for name, value in changes.items() if value) or "none: pictures are shown as they are"


def show_evaluation(console: Console, evaluation: Evaluation, title: str) -> None:
    """Print accuracy, scores by class, what was taken for what, the worst mistakes and the skipped pictures."""
    wrong = evaluation.count - evaluation.correct
    share = f"{percent(evaluation.accuracy)} of {evaluation.count} pictures right"
    console.print(Text(f"\n{printable(title)}: {share}, {wrong} wrong, loss {evaluation.loss:.4f}", style="bold"))
    _show_classes(console, evaluation)
    _show_confusion(console, evaluation)
    if evaluation.mistakes:
        _show_mistakes(console, evaluation)
    show_skipped(console, evaluation.skipped, title)


def show_skipped(console: Console, skipped: Mapping[str, str], title: str) -> None:
    """Print how many pictures could not be read, and why the first of them."""
    if not skipped:
        return
    pictures = "1 picture" if len(skipped) == 1 else f"{len(skipped)} pictures"
    console.print(Text(f"\n{printable(title)}: {pictures} could not be read and were skipped", style="bold"))
    for reason in list(skipped.values())[:_WORST]:
        console.print(Text(f"  {reason}"), soft_wrap=True)
    if len(skipped) > _WORST:
        console.print(f"  and {len(skipped) - _WORST} more")


def _show_classes(console: Console, evaluation: Evaluation) -> None:
    scores = evaluation.per_class
    shown = list(scores)
    title = "By class"
    if len(shown) > _MOST_ROWS:
        shown = sorted(shown, key=lambda label: (scores[label].f1 is None, scores[label].f1))[:_MOST_ROWS]
        title = f"By class, the {_MOST_ROWS} worst of {len(scores)}"
    table = _table("class", "precision", "recall", "F1", "pictures")
    for label in shown:
        score = scores[label]
        table.add_row(_name(label), *map(percent, (score.precision, score.recall, score.f1)), str(score.support))
    _show(console, title, table)


def _show_confusion(console: Console, evaluation: Evaluation) -> None:
    """The matrix if it fits, else the pairs of classes that are confused most often."""
    matrix = evaluation.confusion
    labels = [printable(label) for label in evaluation.classes]
    heads, rows = labels, labels
    if max(map(len, labels)) > 3:
        heads = [str(i) for i in range(1, len(labels) + 1)]
        rows = [f"{head:>{len(heads[-1])}} {label}" for head, label in zip(heads, labels, strict=True)]
    cell = max(len(str(matrix.max())), max(map(len, heads)))
    if min(max(map(len, rows)), _LONGEST_NAME) + len(heads) * (cell + 2) + 2 > console.width:
        _show_confused_pairs(console, evaluation)
        return
    table = _table("", *heads)
    for i, row in enumerate(matrix.tolist()):
        table.add_row(_name(rows[i]), *(_cell(count, right=i == j) for j, count in enumerate(row)))
    _show(console, "Confusion: the true class in rows, the answer in columns", table)


def _show_confused_pairs(console: Console, evaluation: Evaluation) -> None:
    wrong = evaluation.confusion.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:_MOST_ROWS]
    table = _table("true class", "answer", "pictures", left=2)
    for true, answer in (divmod(int(cell), len(wrong)) for cell in order if wrong.flat[cell]):
        table.add_row(_name(evaluation.classes[true]), _name(evaluation.classes[answer]), str(wrong[true, answer]))
    _show(console, "Confused most often (evaluate --json gives the whole matrix)", table)


def _show_mistakes(console: Console, evaluation: Evaluation) -> None:
    table = _table("true class", "answer", "confidence", "picture", left=2)
    table.columns[-1].justify = "left"
    table.columns[-1].overflow = "fold"
    for mistake in evaluation.mistakes[:_WORST]:
        table.add_row(
            _name(mistake.true), _name(mistake.predicted), percent(mistake.confidence), Text(printable(mistake.name))
        )
    _show(console, "Worst mistakes", table)


def _show(console: Console, title: str, table: Table) -> None:
    console.print(f"\n[bold]{title}[/bold]")
    console.print(table)


def _table(*heads: str, left: int = 1) -> Table:
    """Columns under `heads`, the first `left` of them set to the left."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for i, head in enumerate(heads):
        table.add_column(Text(head), justify="left" if i < left else "right")
    return table


def _cell(count: int, right: bool) -> Text:
    if count == 0:
        return Text("·", style="dim")
    return Text(str(count), style="green" if right else "bold red")


def _name(label: str) -> Text:
    text = Text(printable(label))
    text.truncate(_LONGEST_NAME, overflow="ellipsis")
    return text


def percent(share: float | None) -> str:
    """A share in percent with two decimals; only all of it is 100.00 %, only nothing 0.00 %; – for None."""
    if share is None:
        return "–"
    return f"{100 * share if share in (0, 1) else min(max(100 * share, 0.01), 99.99):.2f} %"
