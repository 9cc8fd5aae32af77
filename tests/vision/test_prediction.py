"""Predictions are those of the evaluation, in the order of the pictures, and what cannot be read is named."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from svertka.errors import DataError
from svertka.vision import prediction
from svertka.vision.batches import Batches
from svertka.vision.datasets import Split, load
from svertka.vision.modelfile import TrainedModel, build_model
from svertka.vision.pictures import Preprocessing
from svertka.vision.prediction import Prediction, evaluate, find_pictures, predict

PREPROCESSING = Preprocessing(1, (8, 8), mean=(0.3,), std=(0.4,))


@pytest.fixture(scope="module")
def trained() -> TrainedModel:
    """A network with the weights that chance gave it."""
    model = build_model("lenet", {"widths": [3, 4], "hidden": 8}, 10, PREPROCESSING).eval()
    return TrainedModel(model, "lenet", {}, tuple("abcdefghij"), PREPROCESSING, {}, Path("model.safetensors"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """150 pictures, more than two batches, in two folders below one."""
    root = tmp_path_factory.mktemp("pictures")
    draw = np.random.default_rng(0)
    for i in range(150):
        path = root / ("first" if i < 40 else "second") / f"{i:03}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (8, 8)).astype(np.uint8)).save(path)
    return root


def _split(folder: Path) -> Split:
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.png"))
    return Split(torch.arange(len(files)) % 10, files, files=files, root=folder)


def test_predictions_are_those_of_the_evaluation(trained: TrainedModel, folder: Path) -> None:
    split = _split(folder)
    batches = Batches(split, PREPROCESSING, 32, shuffle=False, seed=0, workers=0)
    evaluation = evaluate(trained.model, batches, split, trained.classes)
    predictions = list(predict(trained, find_pictures([str(folder)])))
    assert [p.picture for p in predictions] == [str(folder / name) for name in split.names]
    answers = [p.ranking[0][0] for p in predictions]
    true = [trained.classes[label] for label in split.labels.tolist()]
    assert evaluation.correct == sum(a == b for a, b in zip(answers, true, strict=True)) < 150
    worst = evaluation.mistakes[0]
    ranking = {p.picture: p.ranking[0] for p in predictions}[str(folder / worst.name)]
    assert ranking == (worst.predicted, pytest.approx(worst.confidence, abs=1e-6))
    confidences = [mistake.confidence for mistake in evaluation.mistakes]
    assert confidences == sorted(confidences, reverse=True) and len(confidences) == 150 - evaluation.correct


def test_the_loss_is_the_mean_cross_entropy(trained: TrainedModel) -> None:
    test = load("digits").test
    assert test is not None
    scores = trained.model(PREPROCESSING.normalise(test.pixels)).detach()
    expected = torch.nn.functional.cross_entropy(scores, test.labels).item()
    for batch_size in (50, 1000):
        batches = Batches(test, PREPROCESSING, batch_size, shuffle=False, seed=0)
        assert evaluate(trained.model, batches, test, trained.classes).loss == pytest.approx(expected, rel=1e-5)


def test_probabilities_fall_and_sum_to_one(trained: TrainedModel, folder: Path) -> None:
    (one,) = predict(trained, [folder / "first" / "000.png"], top=99)
    probabilities = [probability for _, probability in one.ranking]
    assert sorted(probabilities, reverse=True) == probabilities
    assert sum(probabilities) == pytest.approx(1) and {label for label, _ in one.ranking} == set("abcdefghij")
    assert len(next(predict(trained, [folder / "first" / "000.png"], top=3)).ranking) == 3


def test_what_cannot_be_read_is_named_in_its_place(trained: TrainedModel, folder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"nothing")
    good = folder / "first" / "001.png"
    found = list(predict(trained, [good, broken, tmp_path / "missing.png", good], batch_size=2))
    assert [p.error is None for p in found] == [True, False, False, True]
    assert found[0].ranking == found[3].ranking
    assert "broken.png" in str(found[1].error) and "missing.png does not exist" in str(found[2].error)
    assert [p.error is None for p in predict(trained, [broken, broken])] == [False, False]


def test_pictures_are_read_only_a_little_ahead(trained: TrainedModel, folder: Path) -> None:
    taken = 0

    def endless() -> Iterator[Path]:
        nonlocal taken
        while True:
            taken += 1
            yield folder / "first" / "002.png"

    predictions = predict(trained, endless(), batch_size=4)
    for _ in range(10):
        next(predictions)
    predictions.close()  # type: ignore[attr-defined]
    assert taken <= 10 + 4 * 4


def test_files_patterns_and_folders_are_found_in_order(folder: Path, tmp_path: Path) -> None:
    names = [path.name for path in find_pictures([str(folder / "second" / "14*.png"), str(folder / "first")])]
    assert names == [f"{i:03}.png" for i in [*range(140, 150), *range(40)]]
    assert len(list(find_pictures([str(folder / "**" / "*.png")]))) == 150
    odd = tmp_path / "a[1].png"
    odd.write_bytes(b"")
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / ".hidden.png").write_bytes(b"")
    assert list(find_pictures([str(odd)])) == [odd]
    assert list(find_pictures([str(tmp_path)])) == [odd]
    for missing in (tmp_path / "none*.png", tmp_path / "none.png"):
        assert list(find_pictures([str(missing)])) == [missing]


def test_lines_are_columns_and_json_is_json() -> None:
    lines = [
        Prediction("a.png", (("cat", 1.0), ("horse", 0.0))).line(5),
        Prediction("b\n.png", (("horse", 0.06), ("cat", 0.04))).line(5),
    ]
    assert lines == ["100.00 %  cat      0.00 %  horse  a.png", "  6.00 %  horse    4.00 %  cat    b�.png"]
    assert json.loads(json.dumps(Prediction("a", (("cat", 0.5),)).to_dict())) == {
        "picture": "a", "predictions": [{"class": "cat", "probability": 0.5}],
    }  # fmt: skip
    assert Prediction("a", error="broken").to_dict() == {"picture": "a", "error": "broken"}


def test_answers_that_are_no_numbers_are_refused(trained: TrainedModel, folder: Path) -> None:
    split = _split(folder)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    torch.nn.init.constant_(model[1].weight, float("nan"))
    batches = Batches(split, PREPROCESSING, 32, shuffle=False, seed=0, workers=0)
    with pytest.raises(DataError, match="NaN"):
        evaluate(model, batches, split, trained.classes)


def test_nothing_readable_is_refused(trained: TrainedModel, tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"")
    split = _split(tmp_path)
    batches = Batches(split, PREPROCESSING, 32, shuffle=False, seed=0, workers=0)
    with pytest.raises(DataError, match="none of the pictures"):
        prediction.evaluate(trained.model, batches, split, trained.classes)
