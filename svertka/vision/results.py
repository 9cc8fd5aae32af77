"""Predictions kept in a folder, so that many processes can share the work and any of them may die.

parts/            chunks of lines, each written in one move under a name that its content decides
predictions.jsonl a line for each picture, in the order in which the pictures were named, when all are done
config.json       what the answers depend on: another model or number of classes is refused

The processes do not talk to each other. The picture number i, of all that were named, is that of process i mod n; one
that is in a part is not done again. So a run that was killed, in one process or in all, is simply started again.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from svertka.errors import DataError
from svertka.files import read_json, remove_parts, write_json, write_text
from svertka.vision.modelfile import TrainedModel
from svertka.vision.prediction import predict

CONFIG_FILE = "config.json"
RESULT_FILE = "predictions.jsonl"
_PARTS = "parts"
_CHUNK = 256  # pictures whose answers a kill may cost


@dataclass(frozen=True)
class Harvest:
    """What a process found when its share was done.

    `missing` pictures are other processes' and not done yet; only if there are none, predictions.jsonl is written, with
    `total` lines, `unreadable` of which tell why there is no answer. `fresh` are those that this process did now.
    """

    folder: Path
    total: int
    fresh: int
    missing: int
    unreadable: int


def predict_into(
    folder: Path,
    trained: TrainedModel,
    pictures: Sequence[Path],
    *,
    top: int = 1,
    share: tuple[int, int] = (0, 1),
    workers: int | None = None,
    chunk: int = _CHUNK,
) -> Harvest:
    """Classify this process' share (rank, processes) of `pictures` and keep the answers in `folder`.

    A picture that is named twice is done once. DataError if the folder holds another model's answers, or other files.
    """
    names = list(dict.fromkeys(map(str, pictures)))
    _check(folder, {"model": _digest(trained.path.read_bytes()), "top": top})
    rank, processes = share
    done = _answers(folder)
    todo = (Path(name) for name in names[rank::processes] if name not in done)
    answers, fresh = predict(trained, todo, top, workers=workers), 0
    while lines := [json.dumps(answer.to_dict()) + "\n" for answer in islice(answers, chunk)]:
        text = "".join(lines)
        write_text(folder / _PARTS / f"{_digest(text.encode())[:24]}.jsonl", text)
        fresh += len(lines)
    return _merged(folder, names, fresh)


def _check(folder: Path, config: dict[str, Any]) -> None:
    """Make the folder, or see that it was made for the same answers."""
    path = folder / CONFIG_FILE
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder} is a file: give a folder with --out")
    others = {entry.name for entry in folder.glob("[!.]*")} - {CONFIG_FILE, RESULT_FILE, _PARTS}
    if others and not path.exists():
        raise DataError(f"{folder} holds other files and no predictions: give another --out")
    (folder / _PARTS).mkdir(parents=True, exist_ok=True)
    if not path.exists():
        write_json(path, config)  # perhaps several processes do, all the same
    elif (before := read_json(path)) != config:
        other = "another model" if before.get("model") != config["model"] else f"--top {before.get('top')}"
        raise DataError(f"{folder} holds predictions of {other}: give another --out")


def _answers(folder: Path) -> dict[str, str]:
    """Picture → line, from all parts; of a picture that was done twice one of the lines, the same in each process."""
    answers: dict[str, str] = {}
    for part in sorted((folder / _PARTS).glob("*.jsonl")):
        try:
            for line in part.read_text(encoding="utf-8").splitlines(keepends=True):
                answers.setdefault(_picture(json.loads(line)), line)
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise DataError(f"{part} is damaged: remove it and start again, to have its pictures done") from error
    return answers


def _picture(answer: Any) -> str:
    """The picture that an answer is about; TypeError or KeyError if it is none."""
    if not isinstance(answer, dict) or not isinstance(answer["picture"], str):
        raise TypeError
    return answer["picture"]


def _merged(folder: Path, names: list[str], fresh: int) -> Harvest:
    """Write predictions.jsonl if all of `names` are done."""
    answers = _answers(folder)
    lines = [answers[name] for name in names if name in answers]
    unreadable = sum("error" in json.loads(line) for line in lines)
    if len(lines) == len(names):
        write_text(folder / RESULT_FILE, "".join(lines))
        remove_parts(folder / _PARTS)
    return Harvest(folder, len(names), fresh, len(names) - len(lines), unreadable)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
