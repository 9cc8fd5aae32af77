"""The folder of one training run, and the rules by which it is made, taken up again or replaced.

model.safetensors   the trained model, enough to predict: of the last epoch, or with early stopping of the best one
config.json         the settings, the fingerprint of the data, the versions
metrics.jsonl       a line for each finished epoch
evaluation.json     what the trained model takes for what, on the test or else the validation pictures
checkpoint          where training stands
report.html         what was learnt, made at the end
"""

import json
import platform
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import torch

from svertka.errors import DataError
from svertka.files import read_json, remove_parts, write_json, write_text
from svertka.vision.checkpoint import CHECKPOINT_FILE, are_records
from svertka.vision.datasets import Dataset
from svertka.vision.metrics import Evaluation
from svertka.vision.modelfile import MODEL_FILE
from svertka.vision.settings import Settings, code_digest, fingerprint

CONFIG_FILE = "config.json"
METRICS_FILE = "metrics.jsonl"
EVALUATION_FILE = "evaluation.json"
REPORT_FILE = "report.html"
_FILES = (
    CHECKPOINT_FILE,
    CONFIG_FILE,
    MODEL_FILE,
    METRICS_FILE,
    EVALUATION_FILE,
    REPORT_FILE,
)  # the checkpoint is the first to go


def check_folder(out: Path | None, resume: bool, overwrite: bool) -> None:
    """DataError if the wishes contradict each other or what is at `out`; nothing is changed."""
    if resume and overwrite:
        raise DataError("--resume goes on with a run and --overwrite replaces it: give one of the two")
    if out is None:
        if resume or overwrite:
            raise DataError(f"--{'resume' if resume else 'overwrite'} needs the run's folder: add --out FOLDER")
        return
    if out.exists() and not out.is_dir():
        raise DataError(f"{out} is a file: give a folder with --out")
    if not out.exists() or not any(out.iterdir()):
        return
    if not (resume or overwrite):
        raise DataError(f"{out} exists and is not empty: add --resume or --overwrite, or give another --out")
    if not any((out / name).exists() for name in _FILES):
        raise DataError(f"{out} holds other files and no run: give another --out")


def make_folder(out: Path | None, settings: Settings) -> Path:
    """Make `out`, or a fresh folder under runs/; an older run's files in it are removed, and nothing else."""
    if out is None:
        return _fresh_folder(settings)
    out.mkdir(parents=True, exist_ok=True)
    remove_parts(out)
    for name in _FILES:
        (out / name).unlink(missing_ok=True)
    return out


def write_config(folder: Path, settings: Settings, dataset: Dataset) -> dict[str, Any]:
    """Write config.json and give its content as it will be read again."""
    config = {
        "settings": settings.to_dict(),
        "data": fingerprint(dataset),
        "model code": code_digest(settings.model),
        "versions": versions(),
    }
    write_json(folder / CONFIG_FILE, config)
    return read_json(folder / CONFIG_FILE)


def versions() -> dict[str, str]:
    """What else decides the last bits of a result."""
    return {"python": platform.python_version(), "torch": torch.__version__, "machine": platform.machine()}


def read_config(folder: Path) -> dict[str, Any] | None:
    """The content of config.json; None if the run had not come so far as to write it."""
    path = folder / CONFIG_FILE
    if not path.exists():
        return None
    config = read_json(path)
    for key in ("settings", "data", "versions"):
        if not isinstance(config.get(key), dict):
            raise DataError(f"{path} has no {key}: restore it, or start again with --overwrite")
    return config


def write_metrics(folder: Path, history: list[dict[str, Any]]) -> None:
    """Write a line of JSON for each finished epoch: after a resume there are no lines of epochs that were lost."""
    write_text(folder / METRICS_FILE, "".join(json.dumps(record) + "\n" for record in history))


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The records that `write_metrics` wrote; DataError if there is anything else."""
    try:
        history = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is damaged ({error}): remove it, and the report goes without it") from error
    if not are_records(history):
        raise DataError(f"{path} holds a line that is no record of an epoch: remove it, and the report goes without it")
    return history


def write_evaluation(folder: Path, evaluation: Evaluation, split: str, epoch: int) -> None:
    """Write how the model of `epoch` did on the pictures of `split`, "test" or "validation"."""
    write_json(folder / EVALUATION_FILE, {"split": split, "epoch": epoch, **evaluation.to_dict()})


def read_evaluation(folder: Path) -> tuple[Evaluation, str, int] | None:
    """(evaluation, split, epoch) that were written; None if none were, DataError if they are damaged."""
    path = folder / EVALUATION_FILE
    if not path.exists():
        return None
    told = read_json(path)
    try:
        evaluation, split, epoch = Evaluation.from_dict(told), told["split"], int(told["epoch"])
        if split not in ("test", "validation"):
            raise ValueError
        return evaluation, split, epoch
    except (KeyError, ValueError, TypeError) as error:
        raise DataError(f"{path} is damaged: remove it, and the run is shown without its confusion matrix") from error


def _fresh_folder(settings: Settings) -> Path:
    parts = (
        Path(settings.model.rpartition(":")[0]).stem if ":" in settings.model else settings.model,
        Path(settings.data).name,
    )
    name = "-".join(re.sub(r"\W+", "-", part).strip("-") for part in parts)
    stem = f"runs/{name}-{datetime.now():%Y%m%d-%H%M%S}"
    number = 1
    while True:
        folder = Path(stem if number == 1 else f"{stem}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            number += 1
        else:
            return folder
