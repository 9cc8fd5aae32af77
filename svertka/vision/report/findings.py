"""What a report tells, as data: all that `svertka.inspect` finds in a trained model within a bounded time.

What a network doesn't give, for its unusual layers or for want of pictures, is left out, with a sentence in `notes`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from svertka import inspect
from svertka.errors import SvertkaError
from svertka.explain.summaries import Summary, summary
from svertka.inspect.attribution import METHODS
from svertka.inspect.draw.decisions import MistakenPicture
from svertka.inspect.draw.learnt import evenly
from svertka.inspect.extras import MissingExtra
from svertka.inspect.recording import before_nonlinearities
from svertka.vision.batches import Batches
from svertka.vision.datasets import Split
from svertka.vision.metrics import Evaluation
from svertka.vision.modelfile import TrainedModel

T = TypeVar("T")
Progress = Callable[[str, int], Callable[[Iterable[Any]], Iterable[Any]]]

_SPEED = 20e9  # multiply-adds a second that the bounds below reckon with: not measured, so that reports are alike
_EXCITING, _SHIFTED, _ASCENT = (6.0, 200, 2000), (8.0, 50, 500), (10.0, 48, 128)  # seconds, at least, at most
_SHIFTS = (0, 1, 2, 4, 8)
_UNITS, _CLASSES = 6, 10
_MISTAKES, _DECISIONS = (30.0, 2, 6), (60.0, 1, 3)  # seconds, at least, at most
_EQUIVARIANCE = (0.25, 4, 16)  # seconds of a run, in float64 some ten times that
_SQUARES = 200  # that occlusion covers, about
_LARGE = 0.02  # seconds for a picture


@dataclass(frozen=True, eq=False)
class Decision:
    """A picture, the network's answer and what it rests on.

    Args:
        name: of the picture.
        picture: uint8 [channels, height, width].
        true: its class, if it is known.
        probabilities: of all classes.
        maps: by class (the most probable ones first) the methods' maps.
        checks: whether the maps for the answer change with random weights.
        features: what each layer makes of it.
    """

    name: str
    picture: np.ndarray[Any, Any]
    true: str | None
    probabilities: tuple[float, ...]
    maps: tuple[tuple[inspect.Attribution, ...], ...] = ()
    checks: tuple[inspect.Sanity, ...] = ()
    features: inspect.FeatureMaps | None = None


@dataclass(eq=False)
class Findings:
    """All of it; what is missing is None or empty, and `notes` say why. `picture` gives the pictures that excite."""

    trained: TrainedModel
    summary: Summary | None = None
    filters: tuple[inspect.Filters, ...] = ()
    templates: inspect.Templates | None = None
    decisions: list[Decision] = field(default_factory=list)
    mistakes: list[MistakenPicture] = field(default_factory=list)
    exciting: tuple[inspect.Excitement, ...] = ()
    made: dict[tuple[str, int], inspect.Synthesised] = field(default_factory=dict)
    equivariance: inspect.Equivariance | None = None
    shifts: inspect.ShiftAccuracy | None = None
    sharing: tuple[inspect.Sharing, ...] = ()
    notes: list[str] = field(default_factory=list)
    picture: Callable[[int], Any] | None = None

    @property
    def size(self) -> tuple[int, int, int]:
        """(channels, height, width) of a picture."""
        height, width = self.trained.preprocessing.size
        return self.trained.preprocessing.channels, height, width

    def attempt(self, what: str, make: Callable[[], T]) -> T | None:
        """What `make` gives; if it fails, None and a note that `what` could not be given."""
        try:
            return make()
        except MissingExtra as error:
            self.note(f"{what} left out: {error}")
        except Exception as error:  # a user's own network may raise anything
            reason = str(error).partition("\n")[0].rstrip(".") or type(error).__name__
            kind = "" if isinstance(error, SvertkaError) else f"{type(error).__name__}: "
            self.note(f"{what} could not be given: {kind}{reason}")
        return None

    def note(self, sentence: str) -> None:
        """Add a sentence, once."""
        sentence = sentence[0].upper() + sentence[1:]
        if sentence not in self.notes:
            self.notes.append(sentence)

    def normalised(self, pixels: Tensor) -> Tensor:
        """uint8 [n, C, h, w] as the network gets it."""
        return self.trained.preprocessing.normalise(pixels)


def of_model(trained: TrainedModel) -> Findings:
    """What can be told without any picture: layers, costs, filters, templates, sharing."""
    found = Findings(trained)
    model, size = trained.model, found.size
    found.summary = found.attempt("the table of layers", lambda: summary(model, size, name=trained.name))
    found.filters = found.attempt("filters", lambda: inspect.filters(model, size)) or ()
    found.templates = found.attempt("templates", lambda: inspect.templates(model, size, trained.classes))
    found.sharing = found.attempt("the counts of connections", lambda: inspect.sharing(model, size)) or ()
    return found


def decide(
    found: Findings, name: str, pixels: Tensor, true: str | None, classes: Sequence[int] = (), *, draws: int = 3
) -> Decision:
    """The answer to one picture and what it rests on.

    Args:
        found: receives notes.
        name, true: of the picture.
        pixels: uint8 [C, h, w].
        classes: to be explained; the two most probable if empty.
        draws: random networks on which the maps are tried, too.
    """
    model = found.trained.model
    x = found.normalised(pixels[None])
    with torch.no_grad():
        probabilities = model(x).softmax(1)[0]
    order = list(
        dict.fromkeys([int(probabilities.argmax()), *(classes or probabilities.argsort(descending=True)[:2].tolist())])
    )
    maps: list[list[inspect.Attribution]] = [[] for _ in order]
    checks = []
    for method in METHODS:
        answers = found.attempt(method, lambda m=method: inspect.attributions(m, model, x[0], order))  # type: ignore[misc]
        if answers is None:
            continue
        for row, answer in zip(maps, answers, strict=True):
            row.append(answer)
        if draws:
            checks.append(inspect.sanity(model, x[0], order[0], method, draws=draws, trained=answers[0]))
    features = found.attempt("feature maps", lambda: inspect.feature_maps(model, x[0]))
    told = tuple(tuple(row) for row in maps if row)
    return Decision(name, pixels.numpy(), true, tuple(probabilities.tolist()), told, tuple(checks), features)


def of_data(
    found: Findings, split: Split, evaluation: Evaluation | None, progress: Progress, workers: int | None = None
) -> None:
    """What is told of a model on labelled pictures: decisions, mistakes, what excites units, what shifts do.

    Args:
        found: of `of_model`; receives it all.
        split: the pictures.
        evaluation: of the model on them, if there is one.
        progress: given a title and a number of batches, gives what goes round them.
        workers: processes that decode.
    """
    cost = _cost(found)
    sample = _spread(split, _bounded(_EXCITING, cost))
    batches = Batches(sample, found.trained.preprocessing, 64, shuffle=False, seed=0, workers=workers)
    readable = _readable(found, sample, 32)
    if not readable:
        found.note("none of the pictures could be read, so nothing is told of them")
        return
    found.picture = lambda index: sample.decode(index, found.trained.preprocessing).numpy()
    if evaluation is not None:
        _mistakes(found, split, evaluation)
    _decisions(found, sample)
    _excite(found, sample, batches, progress)
    few = torch.stack(readable[: _bounded(_EQUIVARIANCE, 8 * cost)])
    shifts = tuple(s for s in (1, 2, 3, 4) if s < min(found.size[1:]))
    found.equivariance = found.attempt(
        "equivariance", lambda: inspect.equivariance(found.trained.model, found.normalised(few), shifts)
    )
    moved = _spread(split, _bounded(_SHIFTED, 17 * cost))
    shifted = Batches(moved, found.trained.preprocessing, 64, shuffle=False, seed=0, workers=workers)
    amounts = tuple(s for s in _SHIFTS if s < min(found.size[1:]) // 2)
    found.shifts = found.attempt(
        "accuracy against shift",
        lambda: inspect.accuracy_by_shift(
            found.trained.model, shifted.epoch(0), amounts, progress("accuracy against shift", len(shifted))
        ),
    )


def of_pictures(found: Findings, pictures: Sequence[tuple[str, Tensor]], classes: Sequence[int] = ()) -> None:
    """What is told of a model on chosen pictures, uint8 [C, h, w] with their names."""
    draws = _draws(found)
    for name, pixels in pictures:
        decision = found.attempt(
            f"the answer to {name}",
            lambda p=pixels, n=name: decide(found, n, p, None, classes, draws=draws),  # type: ignore[misc]
        )
        if decision is not None:
            found.decisions.append(decision)
    few = torch.stack([pixels for _, pixels in pictures[: min(8, _bounded(_EQUIVARIANCE, 8 * _cost(found)))]])
    found.equivariance = found.attempt(
        "equivariance", lambda: inspect.equivariance(found.trained.model, found.normalised(few))
    )


def synthesise(
    found: Findings, layers: Sequence[str], pictures: Tensor | None, units: Mapping[str, Sequence[int]]
) -> None:
    """Pictures made for units by layer, as far as the network is not too large for it."""
    cost = _cost(found)
    wanted = [inspect.Unit(layer, int(unit)) for layer in layers for unit in units[layer]]
    seconds, least, most = _ASCENT
    steps = int(seconds / (3 * cost * max(len(wanted), 1)))
    if seconds / (3 * cost * least) < 1:
        found.note("no pictures were made for units, since the network is large: svertka.inspect.synthesise makes them")
        return
    steps = min(max(steps, least), most)
    made = found.attempt(
        "pictures made for units",
        lambda: inspect.synthesise(found.trained.model, wanted, found.trained.preprocessing, pictures, steps=steps),
    )
    found.made = {(one.unit.layer, one.unit.channel): one for one in made or ()}


def _excite(found: Findings, sample: Split, batches: Batches, progress: Progress) -> None:
    model = found.trained.model
    every = found.attempt("units", lambda: before_nonlinearities(inspect.layers(model, found.size))) or ()
    maps = [layer for layer in every if layer.has_maps]
    chosen = [maps[i] for i in evenly(len(maps), 3)]
    wanted = [layer.title for layer in (*chosen, *(layer for layer in every[-1:] if layer not in chosen))]

    def excite(against: dict[str, dict[int, float]] | None = None) -> tuple[inspect.Excitement, ...]:
        going = progress("what excites units", len(batches))
        return inspect.exciting(model, batches.epoch(0), wanted, against=against, progress=going)

    first = found.attempt("what excites units", excite) if wanted else None
    if first is None:
        return
    units = {one.layer.title: shown_units(one, found.trained.classes) for one in first}
    pictures = torch.stack(_readable(found, sample, 256))
    synthesise(found, [one.layer.title for one in first[-2:]], pictures, units)
    against: dict[str, dict[int, float]] = {}
    for (layer, unit), made in found.made.items():
        against.setdefault(layer, {})[unit] = made.excitation
    found.exciting = (found.attempt("what excites units", lambda: excite(against)) if against else first) or first


def shown_units(one: inspect.Excitement, classes: Sequence[str]) -> list[int]:
    """The classes of the last layer, or else the units that stand out."""
    if len(one.layer.output) == 1 and one.layer.output[0] == len(classes):
        return list(range(min(len(classes), _CLASSES)))
    return [int(unit) for unit in one.best(_UNITS)]


def _mistakes(found: Findings, split: Split, evaluation: Evaluation) -> None:
    places = {name: i for i, name in enumerate(split.names)}
    classes, model = found.trained.classes, found.trained.model
    for mistake in evaluation.mistakes[: _bounded(_MISTAKES, _SQUARES * _cost(found))]:
        index = places.get(mistake.name)
        if index is None:
            continue

        def explained(index: int = index, mistake: Any = mistake) -> MistakenPicture:
            pixels = split.decode(index, found.trained.preprocessing)
            x = found.normalised(pixels[None])[0]
            maps = inspect.occlusions(model, x, [classes.index(name) for name in (mistake.predicted, mistake.true)])
            return MistakenPicture(
                mistake.name, pixels.numpy(), mistake.true, mistake.predicted, mistake.confidence, *maps
            )

        told = found.attempt("the maps of the worst mistakes", explained)
        if told is not None:
            found.mistakes.append(told)


def _decisions(found: Findings, sample: Split) -> None:
    """The first pictures of the sample that are of different classes and rightly told."""
    seen: set[int] = set()
    most = _bounded(_DECISIONS, 2 * _SQUARES * _cost(found))  # integrated gradients cost about as much as occlusion
    for index in range(min(len(sample), 40 * most)):
        label = int(sample.labels[index])
        if label in seen or len(found.decisions) == most:
            continue
        pixels = _decoded(found, sample, index)
        if pixels is None:
            continue
        with torch.no_grad():
            answer = int(found.trained.model(found.normalised(pixels[None])).argmax())
        if answer != label:
            continue
        seen.add(label)
        name, true = sample.names[index], found.trained.classes[label]
        decision = found.attempt(
            "decisions",
            lambda n=name, p=pixels, t=true: decide(found, n, p, t, draws=0 if found.decisions else _draws(found)),  # type: ignore[misc]
        )
        if decision is not None:
            found.decisions.append(decision)


def _spread(split: Split, count: int) -> Split:
    """So many pictures, all if there are no more, evenly spread through the split but in a mixed order."""
    chosen = torch.from_numpy(np.random.default_rng(0).permutation(len(split))[:count].astype(np.int64))
    return split.subset(chosen)


def _readable(found: Findings, split: Split, count: int) -> list[Tensor]:
    decoded = (_decoded(found, split, index) for index in range(min(len(split), 2 * count)))
    return [pixels for pixels in decoded if pixels is not None][:count]


def _decoded(found: Findings, split: Split, index: int) -> Tensor | None:
    try:
        return split.decode(index, found.trained.preprocessing)
    except SvertkaError:
        return None  # it is named where the pictures are counted


def _cost(found: Findings) -> float:
    """Seconds that a picture takes, as reckoned."""
    return (found.summary.macs if found.summary else 10**8) / _SPEED


def _draws(found: Findings) -> int:
    """Random networks to try a map on: of a large network one."""
    return 3 if _cost(found) < _LARGE else 1


def _bounded(bound: tuple[float, int, int], cost: float) -> int:
    seconds, least, most = bound
    return min(max(int(seconds / max(cost, 1e-9)), least), most)
