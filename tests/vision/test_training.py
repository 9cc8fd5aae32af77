"""Schedules and weights are torch's and scikit-learn's, training learns, and what cannot go well is refused."""

import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from sklearn.utils.class_weight import compute_class_weight

from svertka.errors import DataError
from svertka.vision import run
from svertka.vision.checkpoint import read_state
from svertka.vision.datasets import load
from svertka.vision.run import train
from svertka.vision.runfolder import read_evaluation
from svertka.vision.settings import Settings, settings_for
from svertka.vision.training import TrainingError, learning_rate, make_criterion, make_optimizer, seed_chance

TINY = f"{Path(__file__).parent / 'tiny_model.py'}:build"
GIVEN: dict[str, Any] = {"model": TINY, "epochs": 2, "batch_size": 500, "threads": 1}


@pytest.fixture(autouse=True, scope="module")
def digits_once() -> Iterator[None]:
    """Read the digits once for all the runs in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "load", functools.cache(run.load))
        yield


@functools.cache
def _settings(**given: Any) -> Settings:
    return settings_for(given, run.load("digits"), threads=1)


def _digit_folders(root: Path, per_class: int = 6, classes: str = "012") -> Path:
    draw = np.random.default_rng(0)
    for label in classes:
        (root / label).mkdir(parents=True)
        for i in range(per_class):
            pixels = draw.integers(0, 80, (8, 8)) + 40 * int(label)
            Image.fromarray(pixels.astype(np.uint8)).save(root / label / f"{i}.png")
    return root


@pytest.mark.parametrize("steps", [4, 10, 137])
def test_one_cycle_is_torchs(steps: int) -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)])
    theirs = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.3, steps, pct_start=0.3, cycle_momentum=False)
    for step in range(steps):
        assert learning_rate("onecycle", 0.3, step, steps) == pytest.approx(theirs.get_last_lr()[0])
        optimizer.step()
        if step < steps - 1:
            theirs.step()


def test_cosine_is_torchs_and_constant_is_constant() -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.3)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 20)
    for step in range(20):
        assert learning_rate("cosine", 0.3, step, 20) == pytest.approx(theirs.get_last_lr()[0])
        assert learning_rate("constant", 0.3, step, 20) == 0.3
        optimizer.step()
        theirs.step()
    assert learning_rate("onecycle", 0.3, 0, 1) == 0.3


def test_class_weights_are_scikit_learns() -> None:
    labels = torch.tensor([0] * 5 + [1] * 30 + [2] * 7)
    criterion = make_criterion(_settings(class_weights=True, label_smoothing=0.1), labels, 3)
    assert isinstance(criterion, torch.nn.CrossEntropyLoss) and criterion.label_smoothing == 0.1
    assert criterion.weight is not None
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels.numpy())
    torch.testing.assert_close(criterion.weight, torch.tensor(expected, dtype=torch.float32))
    assert make_criterion(_settings(), labels, 3).weight is None


def test_optimizers() -> None:
    model = torch.nn.Linear(2, 2)
    sgd = make_optimizer(model, _settings(optimizer="sgd", lr=0.1, weight_decay=1e-3)).param_groups[0]
    assert (sgd["momentum"], sgd["nesterov"], sgd["weight_decay"]) == (0.9, True, 1e-3)
    assert isinstance(make_optimizer(model, _settings(optimizer="adamw")), torch.optim.AdamW)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_optimizers_agree_with_torchs_plain_ones_in_both_memory_formats(optimizer: str) -> None:
    results = []
    for fused, layout in (
        (True, torch.channels_last),
        (True, torch.contiguous_format),
        (False, torch.contiguous_format),
    ):
        torch.manual_seed(0)
        model = torch.nn.Conv2d(3, 4, 3).double().to(memory_format=layout)  # type: ignore[call-overload]
        steps = make_optimizer(model, _settings(optimizer=optimizer, lr=0.01))
        for group in steps.param_groups:
            group["fused"] = fused
        for _ in range(3):
            steps.zero_grad()
            model(torch.rand(2, 3, 8, 8, dtype=torch.float64)).square().sum().backward()
            steps.step()
        results.append(model.weight.detach())
    torch.testing.assert_close(results[0], results[2])
    torch.testing.assert_close(results[1], results[2])


def test_chance_is_a_function_of_seed_epoch_and_step() -> None:
    def draws(seed: int, epoch: int, step: int) -> float:
        seed_chance(_settings(seed=seed), epoch, step)
        return float(torch.rand(()))

    places = [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0), (1, 1, 1), (0, 11, 1), (0, 1, 11)]
    assert len({draws(*place) for place in places}) == len(places)
    assert draws(1, 2, 3) == draws(1, 2, 3)


def test_it_learns_and_keeps_everything(tmp_path: Path) -> None:
    given = {**GIVEN, "epochs": 8, "batch_size": 64, "lr": 0.02, "model_arguments": {"width": 8}}
    outcome = train(given, out=tmp_path / "run")
    assert outcome.evaluation is not None and outcome.split == "test"
    assert outcome.evaluation.accuracy > 0.9 and outcome.evaluation.count == 355
    assert sorted(path.name for path in outcome.folder.iterdir()) == [
        "checkpoint", "config.json", "evaluation.json", "metrics.jsonl", "model.safetensors",
    ]  # fmt: skip
    kept = read_evaluation(outcome.folder)
    assert kept is not None and kept[1:] == ("test", outcome.epoch)
    assert kept[0].to_dict() == outcome.evaluation.to_dict()
    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [record["epoch"] for record in records] == list(range(1, 9))
    assert records[-1]["train_loss"] < records[0]["train_loss"] / 3
    assert json.loads((tmp_path / "run" / "config.json").read_text())["settings"]["seed"] == 0


@pytest.mark.parametrize(
    "told",
    ["[]", "{", "{}", '{"split": "mine", "epoch": 1, "classes": ["a"], "confusion": [[1]], "loss": 0, "skipped": {}}',
     '{"split": "test", "epoch": 1, "classes": ["a"], "confusion": [[1, 2]], "loss": 0, "skipped": {}}',
     '{"split": "test", "epoch": 1, "classes": ["a"], "confusion": [["x"]], "loss": 0, "skipped": {}}'],
)  # fmt: skip
def test_a_damaged_evaluation_is_named(tmp_path: Path, told: str) -> None:
    assert read_evaluation(tmp_path) is None
    (tmp_path / "evaluation.json").write_text(told)
    with pytest.raises(DataError, match=r"evaluation\.json"):
        read_evaluation(tmp_path)


def test_the_callers_state_is_left_alone(tmp_path: Path) -> None:
    torch.manual_seed(1)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    train({**GIVEN, "epochs": 1, "threads": 2}, out=tmp_path)
    assert torch.equal(before, torch.get_rng_state()) and torch.get_num_threads() == threads


def test_dropout_and_order_depend_on_the_seed_only(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        train({**GIVEN, "seed": seed}, out=tmp_path / name, workers=0)
        torch.rand(7)
    one, same, other = (load_file(tmp_path / name / "model.safetensors") for name in "abc")
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert not torch.equal(one["0.weight"], other["0.weight"])


def test_a_loss_that_is_no_number_stops_and_keeps_the_checkpoint(tmp_path: Path) -> None:
    given = {**GIVEN, "lr": 1e30, "optimizer": "sgd", "schedule": "constant"}
    sentence = r"the loss became (nan|inf) at step \d of epoch 1: .* --lr below 1e\+30"
    with pytest.raises(TrainingError, match=sentence) as caught:
        train(given, out=tmp_path, save_every=0)
    state = read_state(tmp_path / "checkpoint", json.loads((tmp_path / "config.json").read_text()))
    assert state.step > 0 and f"at step {state.step + 1} " in str(caught.value)
    assert not (tmp_path / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"epochs": 0}, "--epochs 0 cannot be used: it must be at least 1"),
        ({"batch_size": 0}, "--batch-size 0"),
        ({"lr": 0.0}, "--lr 0.0"),
        ({"lr": float("nan")}, "--lr nan"),
        ({"seed": -1}, "seed -1"),
        ({"label_smoothing": 1.0}, "--label-smoothing 1.0"),
        ({"weight_decay": -1.0}, "--weight-decay -1.0"),
        ({"optimizer": "adam"}, "--optimizer adam .* one of adamw, sgd"),
        ({"schedule": "step"}, "--schedule step .* one of onecycle"),
        ({"early_stopping": -1}, "--early-stopping -1"),
        ({"early_stopping": 2, "validation": 0.0}, "--early-stopping needs validation"),
        ({"device": "gpu"}, "--device gpu"),
        ({"model": "lenin"}, "'lenin' is unknown"),
        ({"model": "missing.py:build"}, "there is no file missing.py"),
        ({"data": "nowhere"}, "nowhere does not exist"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(
    tmp_path: Path, given: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(DataError, match=sentence):
        train({**GIVEN, **given}, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_folder_is_fresh_or_taken_up_or_replaced_only_on_demand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given = {**GIVEN, "epochs": 1}
    one, two = train(given).folder, train(given).folder
    assert one != two and one.parent == two.parent == Path("runs")
    assert one.name.startswith("tiny_model-digits-2")
    with pytest.raises(DataError, match="is not empty: add --resume or --overwrite"):
        train(given, out=one)
    with pytest.raises(DataError, match="--resume needs the run's folder"):
        train(given, resume=True)
    with pytest.raises(DataError, match="give one of the two"):
        train(given, out=one, resume=True, overwrite=True)
    (one / "notes.txt").write_text("mine")
    train({**given, "seed": 9}, out=one, overwrite=True)
    assert (one / "notes.txt").read_text() == "mine"
    for name in ("model.safetensors", "config.json", "metrics.jsonl", "evaluation.json", "checkpoint"):
        (one / name).unlink()
    with pytest.raises(DataError, match="holds other files and no run"):
        train(given, out=one, overwrite=True)
    with pytest.raises(DataError, match="is a file"):
        train(given, out=one / "notes.txt")


def test_a_failed_overwrite_leaves_the_old_run(tmp_path: Path) -> None:
    train(GIVEN, out=tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(DataError, match="width"):
        train({**GIVEN, "model": "lenet", "model_arguments": {"width": 3}}, out=tmp_path, overwrite=True)
    assert before == {path.name: path.read_bytes() for path in tmp_path.iterdir()}


def test_resuming_a_finished_run_does_nothing(tmp_path: Path) -> None:
    train(GIVEN, out=tmp_path)
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    outcome = train({"model": TINY}, out=tmp_path, resume=True)
    assert outcome.finished_before and outcome.evaluation is None and outcome.epoch == 2
    assert before == {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"epochs": 3}, "was started with --epochs 2, not 3"),
        ({"seed": 1}, "--seed 0, not 1"),
        ({"size": (9, 8)}, "--size 8x8, not 9x8"),
        ({"model": "lenet"}, "--model .*tiny_model.py:build, not lenet"),
        ({"model_arguments": {"width": 5}}, "--model-arg"),
        ({"model": None}, "code builds: to run that code again name it, --model .*tiny_model.py:build"),
    ],
)
def test_resuming_with_other_arguments_is_refused(tmp_path: Path, given: dict[str, Any], sentence: str) -> None:
    train(GIVEN, out=tmp_path)
    wanted = {key: value for key, value in {"model": TINY, **given}.items() if value is not None}
    with pytest.raises(DataError, match=sentence):
        train(wanted, out=tmp_path, resume=True)


def _interrupt(monkeypatch: pytest.MonkeyPatch, given: dict[str, Any], out: Path) -> None:
    """Leave a run after its first epoch."""
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(run.TrainingProgress, "epoch", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        train(given, out=out)


def test_a_run_from_before_a_setting_was_known_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = train(GIVEN, out=tmp_path / "whole").folder
    old = tmp_path / "old"
    _interrupt(monkeypatch, GIVEN, old)
    config = json.loads((old / "config.json").read_text())
    del config["settings"]["sync_batch_norm"]
    (old / "config.json").write_text(json.dumps(config))
    with safe_open(old / "checkpoint", framework="pt") as opened:
        header = json.loads(opened.metadata()["svertka checkpoint"])
    save_file(
        load_file(old / "checkpoint"),
        old / "checkpoint",
        metadata={"svertka checkpoint": json.dumps({**header, "config": config})},
    )
    train({"model": TINY}, out=old, resume=True)
    ours, theirs = load_file(whole / "model.safetensors"), load_file(old / "model.safetensors")
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_resuming_on_changed_data_or_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "load", load)
    code = tmp_path / "net.py"
    code.write_text(Path(TINY.rpartition(":")[0]).read_text())
    data = _digit_folders(tmp_path / "data")
    given = {**GIVEN, "model": f"{code}:build", "data": str(data), "validation": 0.2}
    _interrupt(monkeypatch, given, tmp_path / "run")

    picture = data / "0" / "0.png"
    content = picture.read_bytes()
    (data / "2" / "more.png").write_bytes(content)
    with pytest.raises(DataError, match=r"has changed since the run began \(train pictures 15, now 16\)"):
        train({"model": given["model"]}, out=tmp_path / "run", resume=True)
    (data / "2" / "more.png").unlink()

    (data / "2").rename(data / "3")
    with pytest.raises(DataError, match=r"has changed since the run began \(classes\)"):
        train({"model": given["model"]}, out=tmp_path / "run", resume=True)
    (data / "3").rename(data / "2")

    picture.rename(data / "0" / "renamed.png")
    with pytest.raises(DataError, match=r"has changed since the run began \(.*\)"):
        train({"model": given["model"]}, out=tmp_path / "run", resume=True)
    (data / "0" / "renamed.png").rename(picture)

    text = code.read_text()
    code.write_text(text + "# changed\n")
    with pytest.raises(DataError, match=r"net.py:build was changed since"):
        train({"model": given["model"]}, out=tmp_path / "run", resume=True)
    code.write_text(text)

    data.rename(tmp_path / "moved")  # the same pictures at another place
    outcome = train({"model": given["model"], "data": str(tmp_path / "moved")}, out=tmp_path / "run", resume=True)
    assert outcome.epoch == 2


def test_unreadable_pictures_are_told_and_strict_stops_at_them(tmp_path: Path) -> None:
    data = _digit_folders(tmp_path / "data")
    (data / "1" / "broken.png").write_bytes(b"no picture")
    given = {**GIVEN, "data": str(data), "validation": 0.2}
    outcome = train(given, out=tmp_path / "run", workers=0)
    evaluated = outcome.evaluation.skipped if outcome.evaluation else {}
    assert set(outcome.skipped) | set(evaluated) == {"1/broken.png"}
    assert outcome.split == "validation"
    with pytest.raises(DataError, match=r"broken\.png"):
        train({**given, "strict": True}, out=tmp_path / "strict", workers=0)


def test_notes_and_progress_reach_the_console(tmp_path: Path) -> None:
    console = Console(width=80, record=True, quiet=False, file=(tmp_path / "log").open("w"))
    with console.file:
        train({**GIVEN, "size": (9, 9), "model_arguments": {"width": 3}}, out=tmp_path / "run", console=console)
    text = console.export_text()
    assert "digits: 1299 training, 143 validation, 355 test; 10 classes; 9x9 grey" in text
    progress = [line for line in text.splitlines() if "      1/2 " in line or "      2/2 " in line]
    assert len(progress) == 2
    assert max(map(len, progress)) <= 80
