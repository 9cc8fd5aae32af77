"""What decides a trained network's weights: one frozen record, filled from what the user gave and from a recipe."""

import hashlib
import json
import math
import shlex
from collections.abc import Callable, Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch

from svertka.errors import DataError
from svertka.vision.augment import Augmentation
from svertka.vision.datasets import Dataset
from svertka.vision.modelfile import is_code

OPTIMIZERS = ("adamw", "sgd")
_PICTURES_SHOWN = 100_000
_EPOCHS = (10, 80)
_FEW_EPOCHS = 10  # a picture that is shown no oftener is not learnt by heart: augmentation only delays
SCHEDULES = ("onecycle", "cosine", "constant")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Two runs with equal settings on equal data and the same number of threads give the same weights, bit for bit.

    `data` is "digits" or a folder; `size`, `channels`, `fit` and `validation` are for `svertka.vision.datasets.load`;
    `model` and `model_arguments` for `svertka.models.create`. `early_stopping` counts epochs without a better
    validation accuracy, 0 is off. `shift` (pixels), `flip`, `crop` and `contrast` are those of `Augmentation`.
    `batch_size` is that of all processes together, and `sync_batch_norm` for more than one. With `autocast` sums of
    products are computed in bfloat16 in training; weights and all else stay float32.

    A setting with a default is one that older runs don't know: for them it has that value.
    """

    data: str
    model: str
    model_arguments: dict[str, Any]
    size: tuple[int, int]
    channels: int
    fit: str
    validation: float
    strict: bool
    seed: int
    epochs: int
    batch_size: int
    optimizer: str
    lr: float
    weight_decay: float
    schedule: str
    label_smoothing: float
    class_weights: bool
    early_stopping: int
    shift: int
    flip: bool
    crop: float
    contrast: float
    sync_batch_norm: bool = False
    autocast: bool = False
    device: str
    threads: int

    def __post_init__(self) -> None:
        for name, (allowed, what) in _ALLOWED.items():
            value = getattr(self, name)
            if not allowed(value):
                raise DataError(f"{option(name)} {value} cannot be used: it must be {what}")

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values."""
        return asdict(self) | {"size": list(self.size)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Settings":
        """From `to_dict`'s values; DataError if one is unknown, or one without a default is missing."""
        known = {field.name for field in fields(cls)}
        needed = {field.name for field in fields(cls) if field.default is MISSING}
        if differing := sorted((set(values) - known) | (needed - set(values))):
            culprits = ", ".join(name if name.isidentifier() else json.dumps(name)[:40] for name in differing[:20])
            raise DataError(f"the settings of this run and of this svertka differ in {culprits}: start a new run")
        for entry in fields(cls):
            if entry.name in values and not _fits(values[entry.name], entry.type):
                raise DataError(
                    f"{option(entry.name)} of this run is {json.dumps(values[entry.name])[:80]}, which cannot be:"
                    " restore config.json, or start a new run"
                )
        return cls(**{**values, "size": tuple(values["size"])})


def _fits(value: Any, kind: Any) -> bool:
    """Whether a value from JSON is one of a field's type."""
    if kind == tuple[int, int]:
        return isinstance(value, list) and len(value) == 2 and all(_fits(side, int) and side > 0 for side in value)
    if kind in (int, float) and isinstance(value, bool):
        return False
    kinds: dict[Any, Any] = {float: (int, float), dict[str, Any]: dict}
    return isinstance(value, kinds.get(kind, kind)) and (kind is not float or math.isfinite(value))


def _is_device(name: str) -> bool:
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError, NotImplementedError):  # which one depends on how torch was built
        return False
    return True


def _has_fast_bfloat16(device: str) -> bool:
    """Whether it is a GPU that computes in bfloat16 itself: it is several times as fast as in float32."""
    return device.startswith("cuda") and torch.cuda.is_available() and torch.cuda.is_bf16_supported(False)


_ALLOWED: dict[str, tuple[Callable[[Any], bool], str]] = {
    "epochs": (lambda n: n >= 1, "at least 1"),
    "batch_size": (lambda n: n >= 1, "at least 1"),
    "seed": (lambda n: 0 <= n < 2**63, "from 0 to 2^63 − 1"),
    "optimizer": (lambda name: name in OPTIMIZERS, f"one of {', '.join(OPTIMIZERS)}"),
    "schedule": (lambda name: name in SCHEDULES, f"one of {', '.join(SCHEDULES)}"),
    "lr": (lambda rate: 0 < rate < math.inf, "a positive number"),
    "weight_decay": (lambda decay: 0 <= decay < math.inf, "a number of at least 0"),
    "label_smoothing": (lambda share: 0 <= share < 1, "at least 0 and below 1"),
    "early_stopping": (lambda epochs: epochs >= 0, "a number of epochs, or 0 for none"),
    "threads": (lambda n: n >= 1, "at least 1"),
    "device": (_is_device, "a device of this machine that torch can use, such as cpu"),
}


def settings_for(given: Mapping[str, Any], dataset: Dataset, threads: int) -> Settings:
    """The settings for a new run: what was `given`, the rest from the data and from the model's recipe."""
    model = given.get("model", "lenet")
    height, width = dataset.preprocessing.size
    defaults = {
        "data": "digits",
        "model": model,
        "model_arguments": {},
        "fit": dataset.preprocessing.fit,
        "validation": 0.1,
        "strict": False,
        "seed": 0,
        "schedule": "onecycle",
        "class_weights": False,
        "early_stopping": 0,
        "autocast": _has_fast_bfloat16(given.get("device", "cpu")),
        "device": "cpu",
        "threads": threads,
    }
    resolved = {"size": (height, width), "channels": dataset.preprocessing.channels}
    chosen = recipe(model, len(dataset.train))
    few = given.get("epochs", chosen["epochs"]) <= _FEW_EPOCHS
    augmentation = asdict(Augmentation() if few else dataset.augmentation)
    settings = Settings(**{**defaults, **augmentation, **chosen, **given, **resolved})
    if settings.early_stopping and dataset.validation is None:
        raise DataError("--early-stopping needs validation pictures: give --validation 0.1 or a val folder")
    return settings


def recipe(model: str, pictures: int) -> dict[str, Any]:
    """Optimiser, rates and epochs that train `model` well on so many training pictures.

    Networks with batch norm stand the high rates of SGD, and gain by them; the others get AdamW. Few pictures are shown
    more often.
    """
    epochs = {"epochs": min(max(_PICTURES_SHOWN // pictures, _EPOCHS[0]), _EPOCHS[1])}
    sgd = {"optimizer": "sgd", "lr": 0.2, "weight_decay": 5e-4, "batch_size": 128, "label_smoothing": 0.1}
    adamw = {"optimizer": "adamw", "weight_decay": 1e-2, "batch_size": 64}
    recipes = {
        "linear": {**adamw, "lr": 1e-2, "label_smoothing": 0.0},
        "lenet": {**adamw, "lr": 2e-3, "label_smoothing": 0.1},
        "resnet18": sgd,
        "resnet50": sgd,
        "mobilenet": sgd,
    }
    return epochs | recipes.get(model, {**adamw, "lr": 5e-4, "label_smoothing": 0.1})


def fingerprint(dataset: Dataset) -> dict[str, Any]:
    """What a resumed run checks its data by: pictures, classes, preprocessing, a digest of names and labels."""
    digest = hashlib.sha256()
    splits = {"train": dataset.train, "validation": dataset.validation}
    for split in splits.values():
        if split is not None:
            digest.update("\0".join(split.names).encode("utf-8", "surrogateescape"))
            digest.update(split.labels.numpy().tobytes())
    return {
        **{f"{name} pictures": 0 if split is None else len(split) for name, split in splits.items()},
        "classes": list(dataset.classes),
        "preprocessing": dataset.preprocessing.to_dict(),
        "names and labels": digest.hexdigest(),
    }


def code_digest(model: str) -> str | None:
    """The SHA-256 of the user's file that builds the model, None for a model of svertka's own."""
    if not is_code(model):
        return None
    path = Path(model.rpartition(":")[0])
    if not path.is_file():
        raise DataError(f"there is no file {path}: give --model FILE.py:factory")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def refuse_changes(given: Mapping[str, Any], settings: Settings, folder: Path) -> None:
    """DataError naming the first of the `given` arguments that differs from the run that is to be resumed."""
    for name, value in given.items():
        before = getattr(settings, name)
        if name not in ("data", "model") and value != before:
            raise DataError(
                f"the run in {folder} was started with {option(name)} {_written(before)}, not {_written(value)}:"
                " leave the option away, or start a new run with another --out"
            )
    model = given.get("model", None if is_code(settings.model) else settings.model)
    if model is None:
        raise DataError(
            f"the run in {folder} trains a model that a user's own code builds: to run that code again name it,"
            f" --model {settings.model}"
        )
    if model != settings.model and not (is_code(model) and is_code(settings.model)):
        raise DataError(f"the run in {folder} was started with --model {settings.model}, not {model}: leave it away")


def refuse_other_data(found: Mapping[str, Any], before: Mapping[str, Any], data: str) -> None:
    """DataError naming the first difference between the data's fingerprint and the one that the run began with."""
    for name, value in before.items():
        if found.get(name) != value:
            difference = f"{name} {value}, now {found.get(name)}" if isinstance(value, int) else name
            raise DataError(
                f"{data} has changed since the run began ({difference}): restore it, or start anew with another --out"
            )


def option(name: str) -> str:
    """The command-line option of a setting."""
    return "--model-arg" if name == "model_arguments" else "--" + name.replace("_", "-")


def command(settings: Settings) -> str:
    """The command that trains with these settings: all that is not a switch left off is written out."""
    words = ["svertka", "train", shlex.quote(settings.data)]
    for name, value in settings.to_dict().items():
        flag = option(name)
        either = name == "flip" or (name == "autocast" and settings.device.startswith("cuda"))
        if name == "data" or (value is False and not either):
            continue
        if name == "model_arguments":
            words += [f"{flag} {shlex.quote(f'{key}={json.dumps(one)}')}" for key, one in value.items()]
        elif isinstance(value, bool):
            words.append(flag if value else f"--no-{name}")
        elif name == "early_stopping" and not value:
            continue
        else:
            words.append(f"{flag} {shlex.quote('x'.join(map(str, value)) if isinstance(value, list) else str(value))}")
    return " ".join(words)


def _written(value: Any) -> str:
    return "x".join(map(str, value)) if isinstance(value, tuple) else str(value)
