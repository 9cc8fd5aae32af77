"""A trained network's answers: to labelled pictures (`evaluate`) and to any number of picture files (`predict`)."""

import glob
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from svertka.errors import DataError
from svertka.vision.batches import Batches
from svertka.vision.datasets import Split
from svertka.vision.metrics import Evaluation, Mistake, confusion_matrix
from svertka.vision.modelfile import TrainedModel
from svertka.vision.pictures import PictureError, picture_suffixes, printable
from svertka.vision.tables import percent
from svertka.vision.team import Team


@dataclass(frozen=True)
class Prediction:
    """A picture's most probable classes with their probabilities, the best first; or the reason why there are none."""

    picture: str
    ranking: tuple[tuple[str, float], ...] = ()
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values."""
        if self.error is not None:
            return {"picture": self.picture, "error": self.error}
        return {
            "picture": self.picture,
            "predictions": [{"class": label, "probability": probability} for label, probability in self.ranking],
        }

    def line(self, width: int) -> str:
        """Probabilities and classes, padded to `width` characters, and the picture: in columns from line to line."""
        answers = [f"{percent(probability):>8}  {printable(label):<{width}}" for label, probability in self.ranking]
        return "  ".join([*answers, printable(self.picture)])


def evaluate(
    model: nn.Module,
    batches: Batches,
    split: Split,
    classes: tuple[str, ...],
    after_batch: Callable[[], None] = lambda: None,
    team: Team | None = None,
) -> Evaluation:
    """Classify the pictures of `split`, which come in `batches` unshuffled; the model is put in evaluation mode.

    The processes of a `team` classify their shares, and each gets the result for all. `after_batch` may raise to stop.
    DataError if no picture could be read, or if the scores are NaN or infinite.
    """
    model.eval()
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    loss, answers = 0.0, []
    with torch.no_grad():
        for batch in batches.epoch(0):
            if len(batch.labels):
                scores = model(batch.images.to(device)).cpu()
                loss += float(nn.functional.cross_entropy(scores, batch.labels, reduction="sum"))
                confidence, predicted = scores.softmax(1).max(1)
                answers.append((batch.indices, batch.labels, predicted, confidence))
            after_batch()
    skipped = dict(batches.skipped)
    if team and not team.alone:
        loss, answers, skipped = _of_all(team, loss, answers, skipped)
    if not answers:
        raise DataError("none of the pictures to evaluate could be read: give others")
    if not np.isfinite(loss):
        raise DataError("the network's answers are NaN or infinite: train it again with a lower --lr")
    indices, true, predicted, confidence = (torch.cat(parts).numpy() for parts in zip(*answers, strict=True))
    wrong = np.flatnonzero(true != predicted)
    worst_first = wrong[np.argsort(-confidence[wrong], kind="stable")]
    return Evaluation(
        classes,
        confusion_matrix(true, predicted, len(classes)),
        loss / len(true),
        tuple(
            Mistake(split.names[indices[i]], classes[true[i]], classes[predicted[i]], float(confidence[i]))
            for i in worst_first
        ),
        skipped,
    )


_Answers = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]  # index, label, answer, confidence: each [n]


def _of_all(
    team: Team, loss: float, answers: list[_Answers], skipped: dict[str, str]
) -> tuple[float, list[_Answers], dict[str, str]]:
    """All processes' losses, answers and skipped pictures together, in the order in which one process has them."""
    loss = team.total(loss)[0]
    ours = [torch.cat(parts).tolist() for parts in zip(*answers, strict=True)] or [[], [], [], []]
    columns: list[list[Any]] = [list(chain(*parts)) for parts in zip(*team.gather(ours), strict=True)]
    for theirs in team.gather(skipped):
        skipped = theirs | skipped
    if not columns[0]:
        return loss, [], skipped
    indices, labels, predicted = (torch.tensor(column) for column in columns[:3])
    order = indices.argsort()
    confidence = torch.tensor(columns[3], dtype=torch.float32)
    return loss, [(indices[order], labels[order], predicted[order], confidence[order])], skipped


def predict(
    trained: TrainedModel, pictures: Iterable[Path], top: int = 1, batch_size: int = 64, workers: int | None = None
) -> Iterator[Prediction]:
    """Classify picture files in their order, each with its `top` most probable classes.

    Pictures are decoded by threads while the network runs, a few batches ahead: memory does not grow with their number.
    """
    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        source = ((path, pool.submit(_decoded, trained, path)) for path in pictures)
        ahead = deque(islice(source, 3 * batch_size))
        try:
            while ahead:
                batch = [ahead.popleft() for _ in range(min(batch_size, len(ahead)))]
                ahead.extend(islice(source, len(batch)))
                yield from _predict_batch(trained, batch, top)
        finally:
            pool.shutdown(cancel_futures=True)


def find_pictures(arguments: Iterable[str]) -> Iterator[Path]:
    """The picture files that `arguments` name: files, patterns such as "**/*.jpg", and folders with all below them.

    A folder gives its files with the ending of a picture, sorted by name. A name that is none of these is given back as
    it is, to be reported when it is opened.
    """
    suffixes = picture_suffixes()
    for argument in arguments:
        path = Path(argument)
        if path.is_dir():
            yield from _below(path, suffixes)
        elif not path.exists() and glob.has_magic(argument):
            matches = sorted(glob.glob(argument, recursive=True))  # noqa: PTH207 - the pattern may be absolute
            yield from (Path(match) for match in matches if not Path(match).is_dir()) if matches else [path]
        else:
            yield path


def _below(folder: Path, suffixes: frozenset[str]) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if Path(name).suffix.lower() in suffixes and not name.startswith("."):
                yield Path(parent, name)


def _decoded(trained: TrainedModel, path: Path) -> torch.Tensor | PictureError:
    try:
        return trained.preprocessing.decode(path)
    except PictureError as error:
        return error


def _predict_batch(
    trained: TrainedModel, batch: list[tuple[Path, Future[torch.Tensor | PictureError]]], top: int
) -> Iterator[Prediction]:
    decoded = [future.result() for _, future in batch]
    pixels = [picture for picture in decoded if isinstance(picture, torch.Tensor)]
    rankings = iter(_rankings(trained, torch.stack(pixels), top) if pixels else ())
    for (path, _), picture in zip(batch, decoded, strict=True):
        if isinstance(picture, torch.Tensor):
            yield Prediction(str(path), next(rankings))
        else:
            yield Prediction(str(path), error=str(picture))


def _rankings(trained: TrainedModel, pixels: torch.Tensor, top: int) -> list[tuple[tuple[str, float], ...]]:
    """The best classes and their probabilities for uint8 pictures [n, C, H, W]."""
    with torch.no_grad():
        probabilities = trained.model(trained.preprocessing.normalise(pixels)).softmax(1)
    best = probabilities.topk(min(top, len(trained.classes)), dim=1)
    return [
        tuple((trained.classes[i], value) for i, value in zip(indices, values, strict=True))
        for indices, values in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]
