"""Several processes train as one does, stop as one does, and none of them hangs when another fails."""

import json
import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from vision.teams import Together, command, together

from svertka.errors import DataError
from svertka.vision import run
from svertka.vision.augment import Augmentation
from svertka.vision.batches import Batches
from svertka.vision.checkpoint import read_state
from svertka.vision.datasets import Split, load
from svertka.vision.pictures import Preprocessing
from svertka.vision.syncnorm import synchronise_norms
from svertka.vision.team import Team, gathered, place
from svertka.vision.training import train_epoch

NORMED = f"{Path(__file__).parent / 'normed_model.py'}:build"
OPTIONS = ["--threads=1", "--workers=0", "--seed=1"]
PREPROCESSING = Preprocessing(1, (8, 8), mean=(0.3,), std=(0.4,))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Class folders of 3 × 9 grey pictures, of which two are broken."""
    draw = np.random.default_rng(0)
    for label in "012":
        (tmp_path / "pictures" / label).mkdir(parents=True)
        for i in range(9):
            pixels = draw.integers(0, 80, (8, 8)) + 40 * int(label)
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "pictures" / label / f"{i}.png")
    for broken in ("1/4", "2/2"):
        (tmp_path / "pictures" / f"{broken}.png").write_bytes(b"no picture")
    return tmp_path / "pictures"


def _given(**others: Any) -> dict[str, Any]:
    return {"model": NORMED, "model_arguments": {"norm": False}, "epochs": 2, "batch_size": 400, "lr": 0.01, "seed": 3,
            "threads": 1, **others}  # fmt: skip


def _trained(given: dict[str, Any], out: Path, resume: bool = False, save_every: float = 60) -> dict[str, Any]:
    """Train alone or as one of a team; what the final evaluation says."""
    with gathered(print) as team:
        outcome = run.train(given, out=out, resume=resume, workers=0, save_every=save_every, team=team)
    assert outcome.evaluation is not None
    return outcome.evaluation.to_dict() | {"mistakes": len(outcome.evaluation.mistakes), "all": dict(outcome.skipped)}


def _curve(folder: Path) -> list[list[float]]:
    """Loss and accuracy in training and validation, epoch by epoch."""
    records = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [[value for key, value in record.items() if "loss" in key or "accuracy" in key] for record in records]


# ---- shares


@pytest.mark.parametrize("processes", [2, 3, 5])
@pytest.mark.parametrize("shuffle", [True, False])
def test_shares_make_up_the_batch(pictures: Path, processes: int, shuffle: bool) -> None:
    files = sorted(str(path.relative_to(pictures)) for path in pictures.rglob("*.png"))
    decoded: Counter[int] = Counter()

    class Counted(Split):
        def decode(self, index: int, preprocessing: Preprocessing) -> torch.Tensor:
            decoded[index] += 1
            return super().decode(index, preprocessing)

    split = Counted(torch.arange(len(files)) % 3, files, files=files, root=pictures)

    def epoch(share: tuple[int, int]) -> list[Any]:
        augmentation = Augmentation(shift=1, flip=True, crop=0.2, contrast=0.3)
        options = {"shuffle": shuffle, "seed": 5, "augmentation": augmentation, "workers": 0}
        return list(Batches(split, PREPROCESSING, 8, share=share, **options).epoch(1))  # type: ignore[arg-type]

    whole = epoch((0, 1))
    assert sum(len(batch.labels) for batch in whole) == 25 and set(decoded.values()) == {1}
    decoded.clear()
    shares = [epoch((rank, processes)) for rank in range(processes)]
    assert set(decoded.values()) == {1} and len(decoded) == 27
    for batch, *parts in zip(whole, *shares, strict=True):
        indices = torch.cat([part.indices for part in parts])
        order = torch.tensor([indices.tolist().index(index) for index in batch.indices.tolist()])
        assert len(order) == len(indices) and all(part.step == batch.step for part in parts)
        assert torch.equal(torch.cat([part.images for part in parts])[order], batch.images)
        assert torch.equal(torch.cat([part.labels for part in parts])[order], batch.labels)


def test_shares_are_alike_and_keep_their_pictures() -> None:
    split = load("digits").train
    batches = [Batches(split, PREPROCESSING, 64, shuffle=True, seed=0, share=(rank, 3)) for rank in range(3)]
    owners: list[Counter[int]] = [Counter() for _ in range(len(split))]
    for epoch in range(4):
        for rank, ours in enumerate(batches):
            for batch in ours.epoch(epoch):
                assert len(batch.labels) in (21, 22) or batch.step == len(ours) - 1
                for index in batch.indices.tolist():
                    owners[index][rank] += 1
    kept = sum(max(counts.values()) for counts in owners) / sum(sum(counts.values()) for counts in owners)
    assert kept > 0.85  # by chance it were 0.54


def test_of_a_small_batch_no_share_is_a_single_picture() -> None:
    split = load("digits").train.subset(torch.arange(7))
    for count, expected in ((7, [3, 2, 2]), (5, [3, 2, 0]), (3, [3, 0, 0])):
        shares = [Batches(split, PREPROCESSING, count, shuffle=False, seed=0, share=(rank, 3)) for rank in range(3)]
        assert [len(next(share.epoch(0)).labels) for share in shares] == expected


# ---- the same training


@pytest.mark.parametrize("processes", [2, 3])
def test_a_team_has_the_loss_curve_of_one(tmp_path: Path, processes: int) -> None:
    given = _given(
        class_weights=True, label_smoothing=0.1, batch_size=433, crop=0.1, weight_decay=0.1
    )  # 433 · 3 = 1299
    alone = _trained(given, tmp_path / "alone")
    results = together(processes, _trained, given, tmp_path / "team")
    assert all(result == results[0] for result in results)
    assert results[0]["confusion"] == alone["confusion"] and results[0]["mistakes"] == alone["mistakes"]
    assert results[0]["loss"] == pytest.approx(alone["loss"], rel=1e-4)
    np.testing.assert_allclose(_curve(tmp_path / "team"), _curve(tmp_path / "alone"), rtol=1e-4)


def test_broken_pictures_and_empty_shares_do_not_shift_the_mean(tmp_path: Path, pictures: Path) -> None:
    given = _given(data=str(pictures), batch_size=5, epochs=3, validation=0.2, class_weights=True, optimizer="sgd")
    alone = _trained(given, tmp_path / "alone")
    for processes in (2, 3):
        team = together(processes, _trained, given, tmp_path / f"{processes}")
        assert all(result["all"] == team[0]["all"] for result in team)
        assert set(team[0]["all"]) == set(alone["all"]) == {"1/4.png", "2/2.png"}
        np.testing.assert_allclose(_curve(tmp_path / f"{processes}"), _curve(tmp_path / "alone"), rtol=1e-3)


def test_synchronised_norms_make_a_team_like_one(tmp_path: Path) -> None:
    given = _given(model_arguments={"norm": True}, batch_size=433, sync_batch_norm=True)
    _trained(given, tmp_path / "alone")
    together(2, _trained, given, tmp_path / "synchronised")
    together(2, _trained, {**given, "sync_batch_norm": False}, tmp_path / "by share")
    expected = _curve(tmp_path / "alone")
    np.testing.assert_allclose(_curve(tmp_path / "synchronised"), expected, rtol=1e-3)
    assert not np.allclose(_curve(tmp_path / "by share"), expected, rtol=1e-3)


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("momentum", [0.3, None])
def test_a_team_norm_is_torchs(affine: bool, momentum: float | None) -> None:
    torch.manual_seed(0)
    theirs = torch.nn.BatchNorm2d(3, affine=affine, momentum=momentum).double()
    ours = torch.nn.Sequential(torch.nn.BatchNorm2d(3, affine=affine, momentum=momentum).double())
    ours = synchronise_norms(ours, Team())  # type: ignore[assignment]
    batch = torch.randn(3, 3, 2, 2, dtype=torch.float64)
    for _ in range(2):
        assert torch.autograd.gradcheck(ours, batch.clone().requires_grad_())
    ours.load_state_dict({f"0.{key}": value for key, value in theirs.state_dict().items()})
    for _ in range(2):
        torch.testing.assert_close(ours(batch), theirs(batch))
    torch.testing.assert_close(dict(ours[0].state_dict()), dict(theirs.state_dict()))
    torch.testing.assert_close(ours.eval()(batch), theirs.eval()(batch))


def test_the_number_of_processes_may_change_on_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = _given(epochs=3)
    _trained(given, tmp_path / "alone")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(run.TrainingProgress, "epoch", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        run.train(given, out=tmp_path / "run")
    (stopped, others) = Together(2, _stopped_at, given, tmp_path / "run", 5).end()
    assert "stopped, and saved" in stopped.out + others.out
    state = read_state(tmp_path / "run" / "checkpoint", json.loads((tmp_path / "run" / "config.json").read_text()))
    assert (state.epoch, state.step) == (1, 1)
    together(3, _trained, given, tmp_path / "run", True)
    np.testing.assert_allclose(_curve(tmp_path / "run"), _curve(tmp_path / "alone"), rtol=1e-4)


# ---- stopping and failing


def _stopped_at(given: dict[str, Any], out: Path, step: int) -> None:
    """Train, and in the process of the highest rank ask it to stop after so many steps of the run."""
    done = run.Training._after_step

    def after_step(self: run.Training, loss: float) -> None:
        at = self.state.epoch * len(self.batches) + self.state.step
        if at == step and self.team.rank == self.team.size - 1:
            os.kill(os.getpid(), signal.SIGTERM)
        done(self, loss)

    run.Training._after_step = after_step  # type: ignore[method-assign]
    _trained(given, out, resume=out.exists())


def _ended(size: int, *arguments: str) -> tuple[list[int | None], list[str]]:
    """The exit codes of svertka in a team and the lines that they wrote to stderr."""
    ended = Together(size, command, "train", "--no-report", *arguments, *OPTIONS).end()
    return [one.code for one in ended], [line for one in ended for line in one.err.splitlines()]


def test_a_failing_process_ends_all_with_one_sentence(tmp_path: Path, pictures: Path) -> None:
    codes, lines = _ended(2, "--epochs=1", "--model=linear", "--optimizer=sgd", "--lr=1e30", f"--out={tmp_path / 'a'}")
    assert codes == [2, 2] and len(lines) == 1 and "the loss became" in lines[0]
    options = [str(pictures), "--strict", "--epochs=1", "--batch-size=6", "--size=8x8", "--model=linear"]
    codes, lines = _ended(3, *options, f"--out={tmp_path / 'b'}")
    assert 2 in codes and 0 not in codes and len(lines) == 1 and ".png" in lines[0]
    codes, lines = _ended(2, "--epochs=0", f"--out={tmp_path / 'c'}")
    assert codes == [2, 2] and len(lines) == 1 and "--epochs 0" in lines[0]


def test_a_process_that_fails_alone_ends_all(tmp_path: Path) -> None:
    started = Together(3, _failing, _given(), tmp_path / "run")
    ended = started.end()
    assert [one.code for one in ended] == [-1, -1, -1]
    assert "".join(one.out for one in ended) == "only process 1 has this\n"


def _failing(given: dict[str, Any], out: Path) -> None:
    def fail(*_: Any) -> Any:
        raise DataError("only process 1 has this")

    if os.environ["RANK"] == "1":
        run.train_epoch = fail
    assert run.train_epoch in (fail, train_epoch)
    _trained(given, out)


def test_a_process_that_vanishes_is_missed(tmp_path: Path) -> None:
    started = Together(2, _vanishing, _given(), tmp_path / "run")
    left, vanished = started.end()
    assert vanished.code == -signal.SIGKILL
    assert left.code == -1 and "process 0 of 2 has lost the others" in left.out and "--resume" in left.out


def test_a_process_that_stands_still_is_given_up(tmp_path: Path) -> None:
    started = Together(2, _standing, _given(), tmp_path / "run", patience=2)
    (left,) = started.end(1)
    started.processes[1].kill()
    assert left.code == -1 and "process 0 of 2 has lost the others" in left.out


def _vanishing(given: dict[str, Any], out: Path) -> None:
    if os.environ["RANK"] == "1":
        run.Training._after_step = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[method-assign]
    _trained(given, out)


def _standing(given: dict[str, Any], out: Path) -> None:
    if os.environ["RANK"] == "1":
        with gathered(print):
            os.kill(os.getpid(), signal.SIGSTOP)
    _trained(given, out)


def test_data_that_differs_between_machines_is_refused(tmp_path: Path, pictures: Path) -> None:
    ended = Together(2, _other_data, _given(data=str(pictures)), tmp_path / "run").end()
    assert [one.code for one in ended] == [-1, -1]
    assert "finds other pictures in" in "".join(one.out for one in ended)
    assert not (tmp_path / "run").exists()


def _other_data(given: dict[str, Any], out: Path) -> None:
    if os.environ["RANK"] == "1":
        found = run.load

        def load_fewer(*arguments: Any, **options: Any) -> Any:
            dataset = found(*arguments, **options)
            dataset.train = dataset.train.subset(torch.arange(len(dataset.train) - 1))
            return dataset

        run.load = load_fewer
    _trained(given, out)


@pytest.mark.parametrize(
    "environment", [{"RANK": "2", "WORLD_SIZE": "2"}, {"RANK": "x", "WORLD_SIZE": "2"}, {"RANK": "0", "WORLD_SIZE": ""}]
)
def test_an_environment_that_makes_no_sense_is_refused(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(DataError, match=r"names no place in a team \(RANK="):
        place()


def test_without_a_team_there_is_no_other() -> None:
    with gathered(print) as team:
        assert team.alone and team.leads and team.tell({"a": 1}) == {"a": 1} and team.gather(3) == [3]
        assert team.total(1, 2.5) == [1, 2.5] and team.highest(4) == [4]
