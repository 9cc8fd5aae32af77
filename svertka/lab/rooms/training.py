"""Room 6: data, model and settings are chosen, a training is started, followed, stopped and taken up again."""

from __future__ import annotations

import asyncio
import base64
import functools
import io
import math
import shlex
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

import torch
from PIL import Image
from pydantic import Field

from svertka.errors import SvertkaError
from svertka.lab.api import Answered, Asked, Endpoint, LabError, Stream
from svertka.lab.networks import Networks
from svertka.lab.trainings import Followed, Kept, Phase, Trainings
from svertka.lab.work import Check
from svertka.models import MODELS
from svertka.vision.datasets import DIGITS, Dataset, Split, load
from svertka.vision.modelfile import create_model
from svertka.vision.pictures import PictureError, Preprocessing
from svertka.vision.settings import OPTIMIZERS, Settings, option, settings_for

Name = Annotated[str, Field(max_length=300)]
Number = float | None

_NORMED = ("resnet18", "resnet50", "mobilenet")
_MOST_EPOCHS, _MOST_BATCH, _MOST_RATE, _MOST_SEED = 1000, 4096, 10.0, 2**31 - 1
_STRIPS, _IN_STRIP, _SAMPLE_SIDE = 10, 8, 64
_BEAT = 0.1  # seconds between two looks at what has changed
_QUIET = 15.0  # seconds after which an open stream says that it is there


class Nothing(Asked):
    """Nothing needs to be said."""


class OfferAnswer(Answered):
    """What can be chosen: names of data sets, models, optimizers."""

    data: list[str]
    models: list[str]
    optimizers: list[str]


class TrainAsked(Asked):
    """What to train on what, as `svertka train` takes it; null is left to what suits model and data.

    Args:
        data: a name from the offer.
        augmentation: "suited" to the data, "none", or "own": then shift (in pixels), flip, crop and contrast count.
    """

    data: Name = DIGITS
    model: Name = "lenet"
    epochs: Number = None
    batch_size: Number = None
    optimizer: Name | None = None
    lr: Number = None
    seed: Number = None
    augmentation: Literal["suited", "none", "own"] = "suited"
    shift: Number = None
    flip: bool = False
    crop: Number = None
    contrast: Number = None


class PlanAnswer(Answered):
    """What a training with these settings would be.

    Args:
        epochs, batch_size, optimizer, lr, seed, shift, flip, crop, contrast: that would count.
        steps: in an epoch.
        parameters: of the model.
        pictures: for training, validation and test.
        picture: channels, height, width.
        classes: their names.
        notes: what to know of the data, in English.
        command: the same in a terminal.
    """

    epochs: int
    batch_size: int
    optimizer: str
    lr: float
    seed: int
    shift: int
    flip: bool
    crop: float
    contrast: float
    steps: int
    parameters: int
    pictures: tuple[int, int, int]
    picture: tuple[int, int, int]
    classes: list[str]
    notes: list[str]
    command: str


class SamplesAsked(Asked):
    """The name of a data set."""

    data: Name = DIGITS


class Strip(Answered):
    """Some pictures of a class, side by side with a gap between them: PNG, as a data URL; width × height of all."""

    label: str
    width: int
    height: int
    picture: str


class SamplesAnswer(Answered):
    """Pictures of the first classes; `others` is the number of classes that are not shown."""

    strips: list[Strip]
    others: int


class Epoch(Answered):
    """A line of metrics.jsonl: losses and shares told right, null without validation pictures."""

    epoch: int
    lr: float
    train_loss: float
    train_accuracy: float
    val_loss: float | None = None
    val_accuracy: float | None = None
    seconds: float


class Answers(Answered):
    """What was taken for what.

    Args:
        split: which pictures; the model is the one after `epoch`.
        count, correct, accuracy, loss: of all.
        classes: their names.
        matrix: counts, the true class in rows, the answer in columns; empty if there are too many classes.
        pairs: (true class, answer, count) of what was confused most.
    """

    split: Literal["validation", "test"]
    epoch: int
    count: int
    correct: int
    accuracy: float
    loss: float
    classes: list[str]
    matrix: list[list[int]]
    pairs: list[tuple[int, int, int]]


class Progress(Answered):
    """Where the training in hand stands; of a stream, what is new since the message before.

    Args:
        phase: "none" if nothing was trained since the lab was started.
        run, model, data: names.
        epochs: that the run shall have.
        steps: in an epoch; 0 until it is known.
        done: steps that were taken.
        parameters, pictures, picture: as in a plan; null until they are known.
        seconds_left: by the speed until now.
        why: it failed.
        skipped: pictures that could not be read.
        fresh: whether points and history begin anew, or are to be added to those told before.
        points: (epochs that have passed, mean loss of the steps since the point before).
        history: finished epochs.
        answers: null if they are as before, or if there are none.
    """

    phase: Phase = "none"
    run: str = ""
    model: str = ""
    data: str = ""
    epochs: int = 0
    steps: int = 0
    done: int = 0
    parameters: int | None = None
    pictures: tuple[int, int, int] | None = None
    picture: tuple[int, int, int] | None = None
    seconds_left: float | None = None
    why: str = ""
    skipped: int = 0
    fresh: bool = True
    points: list[tuple[float, float]]
    history: list[Epoch]
    answers: Answers | None = None


_NOTHING_YET = Progress(points=[], history=[])


class RunAsked(Asked):
    """The name of a run folder."""

    run: Name


class RunKept(Answered):
    """A run folder that the lab has made.

    Args:
        done: epochs of it.
        accuracy: of the last epoch, on validation or else on training pictures.
        finished: whether nothing is left to do.
        opens: whether it holds a model.
    """

    run: str
    model: str
    data: str
    epochs: int
    done: int
    accuracy: float | None
    finished: bool
    opens: bool


class RunsAnswer(Answered):
    """Run folders, the newest first, and the folder that they are in."""

    folder: str
    runs: list[RunKept]


class Opened(Answered):
    """The name by which the room of networks knows a model."""

    network: str


def offer(_: Nothing, _check: Check, trainings: Trainings) -> OfferAnswer:
    """What can be chosen."""
    return OfferAnswer(data=list(trainings.data.sets()), models=list(MODELS), optimizers=list(OPTIMIZERS))


def plan(asked: TrainAsked, _: Check, trainings: Trainings) -> PlanAnswer:
    """What a training with these settings would be, or what of them can't be used."""
    given, settings, data = _resolved(asked, trainings)
    batches, rest = divmod(len(data.train), settings.batch_size)
    return PlanAnswer(
        **{name: getattr(settings, name) for name in (
            "epochs", "batch_size", "optimizer", "lr", "seed", "shift", "flip", "crop", "contrast"
        )},
        steps=batches + (rest > (1 if batches else 0)),
        parameters=_parameters(settings.model, settings.channels, settings.size, len(data.classes)),
        pictures=(len(data.train), len(data.validation or ()), len(data.test or ())),
        picture=(settings.channels, *settings.size),
        classes=list(data.classes),
        notes=data.notes,
        command=_command(given),
    )  # fmt: skip


def start(asked: TrainAsked, _: Check, trainings: Trainings) -> Progress:
    """Start a training; one at a time."""
    given, settings, _data = _resolved(asked, trainings)
    trainings.start({**given, "epochs": settings.epochs}, asked.data)
    return state(Nothing(), _, trainings)


def resume(asked: RunAsked, _: Check, trainings: Trainings) -> Progress:
    """Go on with a run that was stopped."""
    trainings.resume(asked.run)
    return state(Nothing(), _, trainings)


def stop(_: Nothing, _check: Check, trainings: Trainings) -> Progress:
    """Have the training in hand save its checkpoint and end."""
    trainings.stop()
    return state(_, _check, trainings)


def state(_: Nothing, _check: Check, trainings: Trainings) -> Progress:
    """Where the training in hand stands, as a whole."""
    with trainings.locked:
        followed = trainings.look()[1]
        return _NOTHING_YET if followed is None else _Told().next(followed)


def look(asked: RunAsked, _: Check, trainings: Trainings) -> Progress:
    """A run as a whole: the one in hand, or what stands in the folder of an earlier one."""
    with trainings.locked:
        return _Told().next(trainings.told(asked.run))


def runs(_: Nothing, _check: Check, trainings: Trainings) -> RunsAnswer:
    """The run folders that the lab has made."""
    return RunsAnswer(folder=str(trainings.runs), runs=[_listed(kept) for kept in trainings.kept()])


def open_network(asked: RunAsked, _: Check, trainings: Trainings, networks: Networks) -> Opened:
    """Make a run's model known to the room of networks."""
    kept = trainings.run(asked.run)
    if not kept.has_model:
        raise LabError("train-no-model", f"the run {kept.name} has no model yet: a first epoch must be done")
    return Opened(network=networks.add(kept.name, kept.folder))


def samples(asked: SamplesAsked, check: Check, trainings: Trainings) -> SamplesAnswer:
    """Some pictures of each class, as the network will get them."""
    data = _outline(_path(asked.data, trainings), 0)
    channels, (height, width) = data.preprocessing.channels, data.preprocessing.size
    less = min(1.0, _SAMPLE_SIDE / max(height, width))
    size = (max(1, round(height * less)), max(1, round(width * less)))
    seen = Preprocessing(channels, size, data.preprocessing.fit)
    strips = [_strip(label, i, data.train, seen, check) for i, label in enumerate(data.classes[:_STRIPS])]
    return SamplesAnswer(strips=[strip for strip in strips if strip], others=max(0, len(data.classes) - _STRIPS))


async def follow(trainings: Trainings) -> AsyncIterator[Progress | None]:
    """The training in hand as it goes on: first as a whole, then what is new; None now and then, to be there."""
    told, seen, quiet = _Told(), -1, 0.0
    while not trainings.closing:
        with trainings.locked:
            changes, followed = trainings.look()
            news = None
            if changes != seen:
                news = _NOTHING_YET if followed is None else told.next(followed)
        if changes != seen:
            seen, quiet = changes, 0.0
            yield news
        elif quiet >= _QUIET:
            quiet = 0.0
            yield None
        await asyncio.sleep(_BEAT)
        quiet += _BEAT


class _Told:
    """What one page has been told already."""

    def __init__(self) -> None:
        self.of: tuple[Followed, int] | None = None
        self.points = self.epochs = 0
        self.answers: dict[str, Any] | None = None

    def next(self, now: Followed) -> Progress:
        """What it has not been told; hold the lock meanwhile."""
        fresh = self.of is None or self.of[0] is not now or self.of[1] != now.joined
        if fresh:
            self.points, self.epochs, self.answers = 0, 0, None
        begun = now.begun or {}
        progress = Progress(
            phase=now.phase, run=now.name, model=now.model, data=now.data, epochs=now.epochs, steps=now.steps,
            done=now.done, parameters=begun.get("parameters"), pictures=begun.get("pictures"),
            picture=begun.get("picture"), seconds_left=now.seconds_left, why=now.why, skipped=now.skipped, fresh=fresh,
            points=now.points[self.points :], history=[Epoch(**record) for record in now.history[self.epochs :]],
            answers=None if now.answers is self.answers or now.answers is None else _answers(now.answers),
        )  # fmt: skip
        self.of = (now, now.joined)
        self.points, self.epochs, self.answers = len(now.points), len(now.history), now.answers
        return progress


def _answers(told: dict[str, Any]) -> Answers:
    return Answers(**{name: told[name] for name in Answers.model_fields})


def _listed(kept: Kept) -> RunKept:
    last = kept.history[-1] if kept.history else {}
    return RunKept(
        run=kept.name, model=kept.model, data=kept.data.rstrip("/").rpartition("/")[2], epochs=kept.epochs,
        done=len(kept.history), accuracy=last.get("val_accuracy", last.get("train_accuracy")),
        finished=kept.finished, opens=kept.has_model,
    )  # fmt: skip


def _resolved(asked: TrainAsked, trainings: Trainings) -> tuple[dict[str, Any], Settings, Dataset]:
    """What is given to `svertka train`, all settings that follow from it, and the data but for mean and std."""
    if asked.model not in MODELS:
        raise LabError("train-model", f"there is no model {asked.model!r}: choose one of {', '.join(MODELS)}")
    if asked.optimizer not in (None, *OPTIMIZERS):
        raise LabError(
            "train-optimizer", f"there is no optimizer {asked.optimizer!r}: choose {' or '.join(OPTIMIZERS)}"
        )
    given: dict[str, Any] = {"data": _path(asked.data, trainings), "model": asked.model}
    given |= {"epochs": _whole("epochs", asked.epochs, 1, _MOST_EPOCHS)}
    given |= {"batch_size": _whole("batch-size", asked.batch_size, 2 if asked.model in _NORMED else 1, _MOST_BATCH)}
    given |= {"optimizer": asked.optimizer, "seed": _whole("seed", asked.seed, 0, _MOST_SEED)}
    if asked.lr is not None and not 0 < asked.lr <= _MOST_RATE:
        raise LabError("train-lr", f"the learning rate must be above 0 and at most {_MOST_RATE:g}", int(_MOST_RATE))
    given = {name: value for name, value in (given | {"lr": asked.lr}).items() if value is not None}
    data = _outline(given["data"], given.get("seed", 0))
    if asked.augmentation == "none":
        given |= {"shift": 0, "flip": False, "crop": 0.0, "contrast": 0.0}
    if asked.augmentation == "own":
        half = max(1, min(data.preprocessing.size) // 2)
        given |= {"shift": _whole("shift", asked.shift, 0, half) or 0, "flip": asked.flip}
        given |= {"crop": _share("crop", asked.crop, 0.9), "contrast": _share("contrast", asked.contrast, 1.0)}
    return given, settings_for(given, data, threads=1), data


def _path(name: str, trainings: Trainings) -> str:
    """What `svertka train` calls the data of that name: it is looked up, never made."""
    known = trainings.data.sets()
    if name not in known:
        raise LabError("train-no-data", f"there are no data {name!r} here: choose one of {', '.join(known)}")
    return known[name]


def _whole(field: str, value: float | None, least: int, most: int) -> int | None:
    if value is None:
        return None
    if not (least <= value <= most and value == math.floor(value)):
        raise LabError(f"train-{field}", f"{field} must be a whole number from {least} to {most}", least, most)
    return int(value)


def _share(field: str, value: float | None, most: float) -> float:
    if value is None:
        return 0.0
    if not 0 <= value <= most:
        raise LabError(f"train-{field}", f"{field} must be from 0 to {most:.0%}", round(100 * most))
    return value


def _outline(path: str, seed: int) -> Dataset:
    """The data but for mean and std; what is wrong with them has its name, so that a page says it beside them."""
    try:
        return load(path, seed=seed, measure=False)
    except SvertkaError as error:
        raise LabError("train-data", str(error)) from None


@functools.lru_cache(256)
def _parameters(model: str, channels: int, size: tuple[int, int], classes: int) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in create_model(model, {}, channels, size, classes).parameters())


def _command(given: dict[str, Any]) -> str:
    words = ["svertka", "train", shlex.quote(given["data"])]
    for name, value in given.items():
        if name == "flip":
            words.append("--flip" if value else "--no-flip")
        elif name != "data":
            words.append(f"{option(name)} {value}")
    return " ".join(words)


def _strip(label: str, number: int, split: Split, seen: Preprocessing, check: Check) -> Strip | None:
    """The first pictures of a class, side by side; None if none of them can be read."""
    found: list[torch.Tensor] = []
    for index in (split.labels == number).nonzero()[: 2 * _IN_STRIP, 0].tolist():
        check()
        try:
            found.append(split.decode(index, seen))
        except PictureError:
            continue
        if len(found) == _IN_STRIP:
            break
    if not found:
        return None
    height, width = seen.size
    gap = 1 + width // 16
    image = Image.new("RGBA", (len(found) * (width + gap) - gap, height))
    for place, pixels in enumerate(found):
        rgb = pixels.expand(3, -1, -1).permute(1, 2, 0).contiguous().numpy()
        image.paste(Image.fromarray(rgb), (place * (width + gap), 0))
    stream = io.BytesIO()
    image.save(stream, "PNG")
    picture = "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()
    return Strip(label=label, width=image.width, height=height, picture=picture)


ENDPOINTS: tuple[Endpoint | Stream, ...] = (
    Endpoint("/api/training/offer", Nothing, OfferAnswer, offer, needs=("trainings",)),
    Endpoint("/api/training/samples", SamplesAsked, SamplesAnswer, samples, needs=("trainings",)),
    Endpoint("/api/training/plan", TrainAsked, PlanAnswer, plan, needs=("trainings",)),
    Endpoint("/api/training/start", TrainAsked, Progress, start, needs=("trainings",)),
    Endpoint("/api/training/resume", RunAsked, Progress, resume, needs=("trainings",)),
    Endpoint("/api/training/stop", Nothing, Progress, stop, needs=("trainings",)),
    Endpoint("/api/training/state", Nothing, Progress, state, needs=("trainings",)),
    Endpoint("/api/training/look", RunAsked, Progress, look, needs=("trainings",)),
    Endpoint("/api/training/runs", Nothing, RunsAnswer, runs, needs=("trainings",)),
    Endpoint("/api/training/open", RunAsked, Opened, open_network, needs=("trainings", "networks")),
    Stream("/api/training/events", Progress, follow, needs=("trainings",)),
)
