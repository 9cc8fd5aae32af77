"""The parts of a report, each from data to a section with plain words; a part without data is no section."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from svertka import inspect
from svertka.explain.cost import grouped
from svertka.explain.draw.svg import escape
from svertka.explain.draw.titles import times
from svertka.explain.summaries import Summary, short
from svertka.inspect import draw
from svertka.vision.metrics import Evaluation
from svertka.vision.report.findings import Findings, shown_units
from svertka.vision.report.page import Section, figure, folded, paragraph, points, table, worded
from svertka.vision.tables import percent

_OPEN_ROWS = 30
_SCORES = (
    '<p class="note">Recall: the share of the class that is found. Precision: the share of such answers that are '
    "right. F1: their harmonic mean.</p>"
)


def learning(history: Sequence[Mapping[str, Any]]) -> Section | None:
    """Curves, and whether it learnt by heart."""
    if not history:
        return None
    last = history[-1]
    words = f"After {len(history)} epochs it is right on {percent(last['train_accuracy'])} of the training pictures"
    if "val_accuracy" in last:
        gap = last["train_accuracy"] - last["val_accuracy"]
        words += f" and on {percent(last['val_accuracy'])} of the validation pictures, which it never trains on"
        if gap > 0.05:
            words += ": it knows some by heart; more pictures or augmentation would help"
        elif last is not history[0] and last["val_loss"] <= 1.001 * min(record["val_loss"] for record in history):
            words += ", and the validation loss was still falling at the end" if gap < 0.01 else ""
    return Section("learning", "How it learnt", paragraph(words + ".") + figure(draw.curves({"run": history})))


def answers(evaluation: Evaluation | None, split: str) -> Section | None:
    """Confusion and scores by class."""
    if evaluation is None:
        return None
    body = paragraph(f"The {grouped(evaluation.count)} {split} pictures. Each row is a class, each column an answer.")
    scores = [
        (name, percent(score.recall), percent(score.precision), percent(score.f1), str(score.support))
        for name, score in evaluation.per_class.items()
    ]
    heads = ("class", "recall", "precision", "F1", "pictures")
    shown = len(scores) <= _OPEN_ROWS
    body += figure(draw.confusion(evaluation)) + folded("Scores by class", table(heads, scores) + _SCORES, shown)
    return Section("answers", "What it gets right and wrong", body)


def mistakes(found: Findings, evaluation: Evaluation | None) -> Section | None:
    """The most confident wrong answers with what speaks for them."""
    if not found.mistakes:
        return None
    total = len(evaluation.mistakes) if evaluation else len(found.mistakes)
    first = "This is its one wrong answer." if total == 1 else f"Of {grouped(total)} mistakes it is surest of these."
    words = " Blue speaks for the class: where it is covered, the class's probability falls. Orange speaks against it."
    return Section("mistakes", "Its worst mistakes", paragraph(first + words) + figure(draw.mistakes(found.mistakes)))


def weights(found: Findings) -> Section | None:
    """Templates, the first filters, and those of other layers."""
    body = ""
    if found.templates is not None:
        words = (
            "A linear network compares the picture with one template for each class. Blue: light pixels speak for "
            "the class; orange: they speak against it."
        )
        body += paragraph(words) + figure(draw.templates(found.templates))
    for number, bank in enumerate(found.filters):
        drawn = figure(draw.filters(bank), _of_filters(bank)) if number in _shown_filters(found.filters) else ""
        body += drawn
    if not body:
        return None
    return Section("weights", "Its weights as pictures", body)


def _shown_filters(banks: Sequence[inspect.Filters]) -> set[int]:
    """The first, and the first of each other kind that says something: 1 × 1 filters are single numbers."""
    shown: dict[str, int] = {}
    for number, bank in enumerate(banks):
        if number == 0 or bank.weight[0, 0].size > 1:
            shown.setdefault(bank.kind, number)
    return set(shown.values())


def _of_filters(bank: inspect.Filters) -> str:
    return {
        "RGB": "Grey is 0; a colour is what the filter looks for in red, green and blue.",
        "grey": "White is 0, blue positive, orange negative: the filter looks for light under blue, dark under orange.",
        "depthwise": "Each channel has one filter of its own. White is 0, blue positive, orange negative.",
        "grouped": "Outputs in rows, inputs in columns; a dot is a connection that the groups leave out.",
        "full": "Outputs in rows, inputs in columns. White is 0, blue positive, orange negative.",
    }[bank.kind]


def maps(found: Findings, stages: Sequence[int] | None = None, all_pictures: bool = False) -> Section | None:
    """Feature maps of the first pictures."""
    chosen = [one for one in found.decisions if one.features is not None and one.features.stages]
    if not chosen:
        return None
    words = (
        "The same channels before and after each step: white is 0, blue positive, orange negative. The nonlinearity "
        "cuts off what is negative, the pool keeps the largest of each window. The frame on the picture is what the "
        "place in the middle of the maps sees."
    )
    body = paragraph(words)
    for one in chosen if all_pictures else chosen[:2]:
        assert one.features is not None
        body += figure(draw.feature_maps(one.features, one.picture, stages, title=f"{one.name}, layer by layer"))
    return Section("maps", "A picture on its way through the network", body)


def units(found: Findings, picture_of: Callable[[int], Any] | None) -> Section | None:
    """What excites the units that stand out, and the classes."""
    if not found.exciting or picture_of is None:
        return None
    words = (
        "For each unit, the parts of pictures that excite it most: what its place sees. Shown are the units whose best "
        "pictures stand out most; in the last layer, the classes."
    )
    body = paragraph(words)
    for one in found.exciting:
        made = {unit: picture for (layer, unit), picture in found.made.items() if layer == one.layer.title}
        chosen = shown_units(one, found.trained.classes)
        names = found.trained.classes if one.layer.output == (len(found.trained.classes),) else ()
        caption = ""
        if made:
            least = min(one.beaten.get(unit, 0.0) for unit in made)
            caption = "“Made for it” is a picture found by gradient ascent. " + (
                f"Each excites its unit more than any of the {one.count} pictures does."
                if least == 1
                else f"Each excites its unit more than do at least {percent(least)} of the {one.count} pictures."
            )
        body += figure(draw.exciting(one, picture_of, chosen, made=made, names=names), worded(caption))
    return Section("units", "What excites its units", body)


def decisions(found: Findings) -> Section | None:
    """Three methods for each picture, and the check."""
    told = [one for one in found.decisions if one.maps]
    if not told:
        return None
    words = (
        "Three ways to ask. Occlusion covers a square and looks how the class's probability falls; integrated "
        "gradients add up the score's slope at each pixel on the way from a blank picture; Grad-CAM shows where the "
        "last maps are that raise the score. Blue speaks for the class, orange against it."
    )
    body = paragraph(words)
    for one in told:
        title = one.name if one.true is None else f"{one.name}: {one.true}"
        caption = ""
        if one.checks:
            failed = [check.method for check in one.checks if not check.passed]
            caption = (
                "The check: with random weights in place of the learnt ones the map must change (likeness under 0.5)"
            )
            caption += f"; {', '.join(failed)} fails, so don't trust it here." if failed else ", and it does."
        drawn = draw.attributions(one.picture, one.maps, found.trained.classes, one.probabilities, one.checks, title)
        body += figure(drawn, escape(caption))
    return Section("decisions", "What its decisions rest on", body)


def motivation(found: Findings) -> Section | None:
    """Equivariance, accuracy against shift, sharing."""
    body = ""
    if found.equivariance is not None and found.equivariance.layers:
        measured = found.equivariance
        words = (
            "Shift the picture, and the maps should shift along (equivariance). 0 means: exactly; about 1: unrelated. "
            "A stride or pool follows only shifts by its multiples, padding spoils the edges, and a dash stands where "
            "no place is away from the edges."
        )
        body += paragraph(words) + figure(draw.equivariance(measured))
        if measured.same_answer:
            told = ", ".join(
                f"{percent(share)} after {shift} px"
                for shift, share in zip(measured.shifts, measured.same_answer, strict=True)
            )
            body += paragraph(
                f"The answer should not change at all (invariance). Of {measured.count} pictures, shifted round their "
                f"edges, so many get the same answer: {told}."
            )
    if found.shifts is not None:
        body += figure(
            draw.accuracy_by_shift(found.shifts),
            f"{found.shifts.count} pictures, shifted in four directions, their edges repeated into the gap.",
        )
    if found.sharing:
        body += paragraph(
            "A convolution's output sees a few inputs only (sparse connections), and all places use the same weights."
        ) + figure(draw.sharing(found.sharing))
    return Section("motivation", "Shifts, sparse connections, shared weights", body) if body else None


def costs(summary: Summary | None) -> Section | None:
    """The table of layers."""
    if summary is None:
        return None
    rows = []
    for row in summary.rows:
        axes = row.receptive_field
        field = "" if axes is None else "all" if all(a.whole for a in axes) else times([a.size for a in axes])
        stride = "" if axes is None or any(a.stride is None for a in axes) else str(axes[0].stride)
        rows.append(
            (row.name, row.kind, times(row.output), grouped(row.parameters) if row.parameters else "",
             short(row.macs) if row.macs else "", field, stride)
        )  # fmt: skip
    heads = ("layer", "kind", "output", "parameters", "multiply-adds", "sees", "step")
    words = (
        f"On one picture of {times(summary.input_size)}: {grouped(summary.parameters)} parameters, "
        f"{short(summary.macs)} multiply-adds, {short(summary.memory)} bytes of results. “Sees” is the side of the "
        "receptive field in pixels, “step” how far apart two neighbours' fields are."
    )
    body = paragraph(words) + folded(f"The {len(rows)} layers", table(heads, rows, 2), len(rows) <= _OPEN_ROWS)
    return Section("costs", "Layers and costs", body + "".join(map(paragraph, summary.notes)))


def left_out(notes: Sequence[str]) -> Section | None:
    """What is missing, and why."""
    if not notes:
        return None
    return Section("missing", "What is missing", points([f"{note.rstrip('.')}." for note in notes]))


def in_short(evaluation: Evaluation, found: Findings) -> list[str]:
    """The most important sentences."""
    counts = evaluation.confusion.sum(axis=1)
    guess = counts.max() / max(counts.sum(), 1)
    first = (
        f"{grouped(evaluation.correct)} of {grouped(evaluation.count)} pictures that it was not trained on are right; "
        f"always guessing the most frequent class would give {percent(float(guess))}."
    )
    said = [first]
    wrong = evaluation.confusion.copy()
    np.fill_diagonal(wrong, 0)
    if wrong.max():
        true, answer = np.unravel_index(int(wrong.argmax()), wrong.shape)
        said.append(
            f"Most often {evaluation.classes[true]} is taken for {evaluation.classes[answer]}: {wrong[true, answer]} "
            f"of {counts[true]} pictures."
        )
        scores = {name: score.f1 for name, score in evaluation.per_class.items() if score.f1 is not None}
        worst, best = min(scores, key=lambda n: scores[n]), max(scores, key=lambda n: scores[n])
        if worst != best:
            said.append(
                f"It knows {best} best (F1 {percent(scores[best])}) and {worst} worst ({percent(scores[worst])})."
            )
    if found.shifts is not None and len(found.shifts.shifts) > 2:
        shift, accuracy = found.shifts.shifts[-2], found.shifts.accuracy[-2]
        said.append(
            f"Of {found.shifts.count} pictures, {percent(found.shifts.accuracy[0])} are right as they are, and "
            f"{percent(accuracy)} when they are shifted by {shift} pixels."
        )
    return said
