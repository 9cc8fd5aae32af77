"""Each picture is answered exactly once, whatever dies on the way; the merged file does not depend on who did what."""

import json
import os
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from vision.teams import Together, command

from svertka.errors import DataError
from svertka.vision import results
from svertka.vision.modelfile import TrainedModel, build_model, load_model, save_model
from svertka.vision.pictures import Preprocessing
from svertka.vision.prediction import find_pictures, predict
from svertka.vision.results import predict_into

PREPROCESSING = Preprocessing(1, (8, 8), mean=(0.3,), std=(0.4,))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    """A network with the weights that chance gave it, in a file."""
    path, model = tmp_path_factory.mktemp("model") / "model.safetensors", build_model("linear", {}, 10, PREPROCESSING)
    save_model(path, model, name="linear", arguments={}, classes=tuple("abcdefghij"), preprocessing=PREPROCESSING)
    return load_model(path)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """50 pictures, of which one is broken."""
    root, draw = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for i in range(50):
        Image.fromarray(draw.integers(0, 256, (8, 8)).astype(np.uint8)).save(root / f"{i:02}.png")
    (root / "31.png").write_bytes(b"nothing")
    return list(find_pictures([str(root)]))


def _lines(folder: Path) -> list[Any]:
    return [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]


def _in_parts(folder: Path) -> Counter[str]:
    parts = (folder / "parts").glob("*.jsonl")
    return Counter(json.loads(line)["picture"] for part in parts for line in part.read_text().splitlines())


def _same(found: list[Any], expected: list[Any]) -> bool:
    """Whether the answers are those of `predict`, but for the roundings of other batches."""
    if [answer["picture"] for answer in found] != [answer["picture"] for answer in expected]:
        return False
    for one, other in zip(found, expected, strict=True):
        if ("error" in one) != ("error" in other):
            return False
        for mine, theirs in zip(one.get("predictions", []), other.get("predictions", []), strict=True):
            if mine["class"] != theirs["class"] or abs(mine["probability"] - theirs["probability"]) > 1e-6:
                return False
    return True


def test_shares_in_any_order_make_up_what_predict_gives(
    trained: TrainedModel, pictures: list[Path], tmp_path: Path
) -> None:
    expected = [answer.to_dict() for answer in predict(trained, pictures, 2)]
    for processes, order in ((1, [0]), (3, [2, 0, 1]), (60, range(60))):
        folder = tmp_path / str(processes)
        for place, rank in enumerate(order, 1):
            assert not (folder / "predictions.jsonl").exists()
            harvest = predict_into(folder, trained, pictures * 2, top=2, share=(rank, processes), chunk=7)
            assert (harvest.missing == 0) == (place >= min(processes, 50))
            if not harvest.missing:
                break
        assert _same(_lines(folder), expected) and harvest.unreadable == 1 and harvest.total == 50
        assert set(_in_parts(folder).values()) == {1}
    assert not _same(_lines(folder)[::-1], expected) and not _same(_lines(folder)[1:], expected)


def test_killed_at_every_chunk_nothing_is_lost_and_little_done_again(
    trained: TrainedModel, pictures: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    replace, fresh, finished = Path.replace, 0, False
    while not finished:
        writes = 0

        def die_at_the_second(self: Path, target: Path) -> Path:
            nonlocal writes
            writes += target.parent.name == "parts"
            if writes == 2:
                raise Killed
            return replace(self, target)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", die_at_the_second)
            try:
                predict_into(tmp_path / "run", trained, pictures, share=(0, 2), chunk=6)
                finished = True
            except Killed:
                fresh += 1
    assert fresh == 4  # 25 pictures are 6 + 6 + 6 + 6 + 1
    predict_into(tmp_path / "run", trained, pictures, share=(0, 1))
    assert set(_in_parts(tmp_path / "run").values()) == {1} and len(_lines(tmp_path / "run")) == 50
    again = predict_into(tmp_path / "run", trained, pictures)
    assert again.fresh == 0 and again.missing == 0


def test_pictures_done_twice_are_told_once_and_new_ones_are_added(
    trained: TrainedModel, pictures: list[Path], tmp_path: Path
) -> None:
    for name in ("a", "b"):
        predict_into(tmp_path / name, trained, pictures[:20], chunk=5 if name == "a" else 8)
    for part in (tmp_path / "b" / "parts").iterdir():  # as one that was thought to be dead may leave them
        shutil.copy(part, tmp_path / "a" / "parts")
    assert set(_in_parts(tmp_path / "a").values()) == {2}
    harvest = predict_into(tmp_path / "a", trained, pictures)
    assert harvest.fresh == 30 and [line["picture"] for line in _lines(tmp_path / "a")] == list(map(str, pictures))


def test_other_answers_and_damaged_ones_are_refused(
    trained: TrainedModel, pictures: list[Path], tmp_path: Path
) -> None:
    predict_into(tmp_path / "run", trained, pictures[:3])
    with pytest.raises(DataError, match="holds predictions of --top 1: give another --out"):
        predict_into(tmp_path / "run", trained, pictures[:3], top=2)
    other = tmp_path / "model.safetensors"
    model = build_model("linear", {}, 10, PREPROCESSING, seed=1)
    save_model(other, model, name="linear", arguments={}, classes=tuple("abcdefghij"), preprocessing=PREPROCESSING)
    with pytest.raises(DataError, match="holds predictions of another model"):
        predict_into(tmp_path / "run", load_model(other), pictures[:3])
    (part,) = (tmp_path / "run" / "parts").iterdir()
    part.write_text("no JSON\n")
    with pytest.raises(DataError, match=r"\.jsonl is damaged: remove it"):
        predict_into(tmp_path / "run", trained, pictures[:3])
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("")
    with pytest.raises(DataError, match="holds other files"):
        predict_into(tmp_path / "mine", trained, pictures[:3])
    with pytest.raises(DataError, match="is a file"):
        predict_into(part, trained, pictures[:3])


def _dies_in_the_middle(*arguments: str) -> None:
    written = results.write_text

    def write_and_die(path: Path, text: str) -> None:
        written(path, text)
        os.kill(os.getpid(), 9)

    if os.environ["RANK"] == "1":
        results.write_text = write_and_die
    results.predict_into.__kwdefaults__["chunk"] = 4
    command(*arguments)


def test_a_worker_that_dies_is_made_up_for(trained: TrainedModel, pictures: list[Path], tmp_path: Path) -> None:
    arguments = ["predict", str(trained.path), str(pictures[0].parent), "--out", str(tmp_path / "run"), "--threads=1"]
    alive, dead = Together(2, _dies_in_the_middle, *arguments).end()
    assert alive.code == 0 and dead.code == -9 and len(_in_parts(tmp_path / "run")) == 25 + 4
    assert "process 0 is done with its share: 21 of 50 pictures are others'" in alive.err or "answers" not in alive.out
    first, second = Together(2, command, *arguments).end()
    assert (first.code, second.code) == (0, 0)
    assert "predictions.jsonl has the answers to 50 pictures, 21 of them from this process" in second.out
    assert set(_in_parts(tmp_path / "run").values()) == {1}
    assert _same(_lines(tmp_path / "run"), [answer.to_dict() for answer in predict(trained, pictures)])
