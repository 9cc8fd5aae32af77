"""Reports as files: of one run, of chosen pictures, and of several runs beside each other."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

import svertka
from svertka.errors import DataError, SvertkaError
from svertka.explain.cost import grouped
from svertka.explain.draw.titles import times
from svertka.explain.summaries import short, summary
from svertka.files import write_text
from svertka.inspect.extras import need
from svertka.vision.batches import Batches
from svertka.vision.datasets import Dataset, Split, load
from svertka.vision.metrics import Evaluation
from svertka.vision.modelfile import TrainedModel, is_code, load_model
from svertka.vision.prediction import evaluate
from svertka.vision.report import findings, sections
from svertka.vision.report.page import Section, code, facts, page, paragraph, points, table
from svertka.vision.run import Outcome
from svertka.vision.runfolder import METRICS_FILE, REPORT_FILE, read_config, read_metrics, versions
from svertka.vision.settings import Settings, command, fingerprint
from svertka.vision.tables import percent
from svertka.vision.training import using_threads


@dataclass
class Run:
    """A run folder, read, and its data if they are still there.

    Args:
        folder: of the run.
        trained: its model.
        settings: that it was trained with.
        history: the records of its epochs.
        config: the content of config.json.
        split, split_name: test or validation pictures; None if they are gone.
        evaluation: of the model on them.
        notes: why something is missing.
    """

    folder: Path
    trained: TrainedModel
    settings: Settings
    history: list[dict[str, Any]]
    config: dict[str, Any]
    split: Split | None = None
    split_name: str = ""
    evaluation: Evaluation | None = None
    notes: list[str] = field(default_factory=list)


def read_run(
    folder: Path, model_code: str | None = None, workers: int | None = None, outcome: Outcome | None = None
) -> Run:
    """Read a run, load its data and evaluate its model on test, or else validation pictures.

    `outcome` is that of training, if it has just ended: the model is not evaluated again.
    """
    config = read_config(folder) if folder.is_dir() else None
    if config is None:
        raise DataError(f"{folder} is no run folder with a config.json: give the folder that svertka train wrote to")
    settings = Settings.from_dict(config["settings"])
    trained = load_model(folder, model_code)
    metrics = folder / METRICS_FILE
    history = read_metrics(metrics) if metrics.exists() else []
    run = Run(folder, trained, settings, history, config)
    try:
        dataset = load(
            settings.data, size=settings.size, channels=settings.channels, fit=settings.fit,
            validation=settings.validation, seed=settings.seed,
        )  # fmt: skip
    except (SvertkaError, OSError) as error:
        run.notes.append(f"all that needs pictures is left out, since the data can't be read: {error}")
        return run
    _take(run, dataset)
    if outcome is not None:
        run.evaluation = outcome.evaluation
    elif run.split is not None:
        batches = Batches(run.split, trained.preprocessing, 128, shuffle=False, seed=0, workers=workers)
        run.evaluation = evaluate(trained.model, batches, run.split, trained.classes)
    return run


def _take(run: Run, dataset: Dataset) -> None:
    run.split = dataset.test or dataset.validation
    run.split_name = "test" if dataset.test else "validation"
    if dataset.classes != run.trained.classes:
        run.split = None
        run.notes.append("all that needs pictures is left out, since the data have other classes than the model")
    elif fingerprint(dataset) != run.config["data"]:
        run.notes.append("the data have changed since the run")


def of_run(run: Run, console: Console, workers: int | None = None) -> Path:
    """Write report.html into the run's folder; gives its path.

    MissingExtra if there is no matplotlib.
    """
    need("matplotlib", "the report")
    start, trained = time.perf_counter(), run.trained
    with using_threads(run.settings.threads), _bars(console) as progress:
        found = findings.of_model(trained)
        found.notes += [note[0].upper() + note[1:] for note in run.notes]
        if run.split is not None and len(run.split):
            findings.of_data(found, run.split, run.evaluation, progress, workers)
    parts = [
        sections.learning(run.history),
        sections.answers(run.evaluation, run.split_name),
        sections.mistakes(found, run.evaluation),
        sections.decisions(found),
        sections.units(found, found.picture),
        sections.weights(found),
        sections.maps(found),
        sections.motivation(found),
        sections.costs(found.summary),
        sections.left_out(found.notes),
        _made(run, time.perf_counter() - start),
    ]
    path = run.folder / REPORT_FILE
    title = f"{_title(run.settings)} on {Path(run.settings.data).name}"
    write_text(path, page(title, _lead(run, found), [part for part in parts if part]))
    return path


def of_pictures(
    trained: TrainedModel,
    pictures: Sequence[tuple[str, Tensor]],
    path: Path,
    *,
    classes: Sequence[int] = (),
    data: Split | None = None,
    console: Console,
    notes: Sequence[str] = (),
) -> Path:
    """Write what a model makes of chosen pictures.

    Args:
        trained: the model.
        pictures: names and uint8 [C, h, w].
        path: of the file.
        classes: to be explained beside the answer; the second most probable if empty.
        data: labelled pictures in which to look for what excites units.
        console: shows progress.
        notes: sentences for the end of the page.
    """
    need("matplotlib", "the report")
    with _bars(console) as progress:
        found = findings.of_model(trained)
        found.notes += notes
        if data is not None:
            findings.of_data(found, data, None, progress)
            found.decisions.clear()
        findings.of_pictures(found, pictures, classes)
    answers = [
        (one.name, *(f"{trained.classes[i]} {percent(one.probabilities[i])}" for i in _best(one.probabilities)))
        for one in found.decisions
    ]
    heads = ("picture", "answer", "second", "third")[: 1 + min(3, len(trained.classes))]
    parts = [
        Section("answers", "Answers", table(heads, answers, 4)) if answers else None,
        sections.decisions(found),
        sections.maps(found, all_pictures=True),
        sections.units(found, found.picture),
        sections.weights(found),
        sections.motivation(found),
        sections.costs(found.summary),
        sections.left_out(found.notes),
    ]
    count = f"{len(pictures)} pictures" if len(pictures) > 1 else pictures[0][0]
    lead = f'<p class="lead">What {trained.name} of {trained.path.parent.name} makes of {count}.</p>'
    write_text(path, page(f"{trained.name}: {count}", lead, [part for part in parts if part]))
    return path


def compare(runs: Sequence[Run], path: Path) -> Path:
    """Write a page on which runs stand beside each other."""
    need("matplotlib", "the report")
    from svertka.inspect import draw
    from svertka.vision.report.page import figure

    names = _names(runs)
    best = max(runs, key=lambda run: run.evaluation.accuracy if run.evaluation else -1.0)
    rows = []
    for name, run in zip(names, runs, strict=True):
        result = summary(run.trained.model, (run.trained.preprocessing.channels, *run.trained.preprocessing.size))
        accuracy = percent(run.evaluation.accuracy) if run.evaluation else "–"
        loss = f"{run.evaluation.loss:.4f}" if run.evaluation else "–"
        seconds = sum(record.get("seconds", 0) for record in run.history)
        rows.append(
            (name, _title(run.settings), accuracy, loss, grouped(result.parameters), short(result.macs),
             str(len(run.history)), f"{seconds:.0f} s")
        )  # fmt: skip
    heads = ("run", "model", "accuracy", "loss", "parameters", "multiply-adds", "epochs", "training")
    lead = '<p class="lead">' + (
        f"{names[runs.index(best)]} is the most accurate: {percent(best.evaluation.accuracy)}."
        if best.evaluation
        else "The runs' data can't be read, so their accuracy is not known."
    )
    parts = [
        Section("runs", "The runs", table(heads, rows, 2) + _on_what(runs)),
        Section(
            "curves", "How they learnt", figure(draw.curves(dict(zip(names, (r.history for r in runs), strict=True))))
        ),
        _differences(names, runs),
        _by_class(names, runs),
        Section("commands", "The same again", "".join(code(command(run.settings)) for run in runs)),
        sections.left_out([f"{name}: {note}" for name, run in zip(names, runs, strict=True) for note in run.notes]),
    ]
    write_text(path, page(f"{len(runs)} runs beside each other", lead + "</p>", [part for part in parts if part]))
    return path


def _names(runs: Sequence[Run]) -> list[str]:
    """The folders' names, whole paths if two are alike."""
    names = [run.folder.resolve().name for run in runs]
    return names if len(set(names)) == len(names) else [str(run.folder) for run in runs]


def _on_what(runs: Sequence[Run]) -> str:
    sets = {(run.settings.data, run.split_name, run.evaluation.count) for run in runs if run.evaluation}
    if len(sets) == 1:
        data, split, count = sets.pop()
        return paragraph(f"Accuracy and loss on the same {count} {split} pictures of {data}.")
    return paragraph("The runs were evaluated on different pictures: their accuracies don't compare directly.")


def _differences(names: Sequence[str], runs: Sequence[Run]) -> Section | None:
    every = [run.settings.to_dict() for run in runs]
    differing = [key for key in every[0] if len({json.dumps(one[key]) for one in every}) > 1]
    if not differing:
        return None
    rows = [(key.replace("_", " "), *(_written(one[key]) for one in every)) for key in differing]
    return Section("settings", "Settings in which they differ", table(("setting", *names), rows))


def _by_class(names: Sequence[str], runs: Sequence[Run]) -> Section | None:
    scores = [run.evaluation.per_class if run.evaluation else {} for run in runs]
    labels = list(scores[0])
    if not labels or any(list(one) != labels for one in scores):
        return None
    rows = [(label, *(percent(one[label].f1) for one in scores)) for label in labels]
    return Section("classes", "F1 by class", table(("class", *names), rows))


def _written(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}={one}" for key, one in value.items()) or "–"
    return "×".join(map(str, value)) if isinstance(value, list) else str(value)


def _lead(run: Run, found: findings.Findings) -> str:
    told, seconds = run.evaluation, sum(record.get("seconds", 0.0) for record in run.history)
    numbers = []
    if told is not None:
        numbers += [(f"of {grouped(told.count)} {run.split_name} pictures right", percent(told.accuracy))]
    numbers += [("classes", str(len(run.trained.classes)))]
    if found.summary is not None:
        numbers += [
            ("parameters", short(found.summary.parameters)),
            ("multiply-adds a picture", short(found.summary.macs)),
        ]
    numbers += [(f"of training, {len(run.history)} epochs", _duration(seconds))]
    size = run.settings.size
    kind = "grey" if run.settings.channels == 1 else "colour"
    lead = (
        f'<p class="lead">A network tells {len(run.trained.classes)} kinds of {kind} pictures of {times(size)} pixels '
        "apart: what it learnt, and what it looks at.</p>"
    )
    return lead + facts(numbers) + (points(sections.in_short(told, found)) if told is not None else "")


def _made(run: Run, seconds: float) -> Section:
    then = run.config["versions"]
    rows = [
        ("svertka", svertka.__version__),
        *((name, value) for name, value in then.items()),
        ("threads", str(run.settings.threads)),
        ("seed", str(run.settings.seed)),
        ("folder", str(run.folder.resolve())),
    ]
    body = paragraph("The same weights again, bit for bit with the same versions and number of threads:")
    body += code(command(run.settings)) + paragraph("And this page:")
    again = f"svertka report {shlex.quote(str(run.folder))}"
    body += code(again + (f" --model-code {run.settings.model}" if is_code(run.settings.model) else ""))
    body += table(("", ""), rows, 2)
    if versions() != then:
        body += paragraph(f"This page was made with {', '.join(f'{k} {v}' for k, v in versions().items())}.")
    return Section("made", "How it was made", body + f'<p class="note">The report took {seconds:.0f} seconds.</p>')


def _title(settings: Settings) -> str:
    name = Path(settings.model.rpartition(":")[0]).stem if is_code(settings.model) else settings.model
    arguments = ", ".join(f"{key}={value}" for key, value in settings.model_arguments.items())
    return f"{name} ({arguments})" if arguments else name


def _best(probabilities: Sequence[float]) -> list[int]:
    return sorted(range(len(probabilities)), key=lambda i: -probabilities[i])[:3]


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


@contextmanager
def _bars(console: Console) -> Iterator[findings.Progress]:
    """A bar on a terminal while batches go round."""
    bar = Progress(
        TextColumn("report: {task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        console=console, transient=True, disable=not console.is_terminal,
    )  # fmt: skip

    def progress(title: str, total: int) -> Callable[[Iterable[Any]], Iterable[Any]]:
        def going(batches: Iterable[Any]) -> Iterator[Any]:
            task = bar.add_task(title, total=total)
            for batch in batches:
                yield batch
                bar.advance(task)
            bar.remove_task(task)

        return going

    with bar:
        yield progress
