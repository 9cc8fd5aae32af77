"""A killed run goes on to the same weights, bit for bit, wherever the kill came; a damaged checkpoint is refused."""

import functools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from svertka.errors import DataError
from svertka.vision import run
from svertka.vision.checkpoint import State, read_state, restore, save_checkpoint
from svertka.vision.run import train

TINY = f"{Path(__file__).parent / 'tiny_model.py'}:build"
GIVEN: dict[str, Any] = {"model": TINY, "epochs": 2, "batch_size": 500, "threads": 1, "seed": 4}


@pytest.fixture(scope="module", autouse=True)
def digits_once() -> Iterator[None]:
    """Read the digits once for all the runs in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "load", functools.cache(run.load))
        yield


class Killed(BaseException):
    """Stands for the end of the process: nothing catches it."""


def same_weights(a: Path, b: Path) -> bool:
    """Whether two runs ended in the same bytes."""
    return (a / "model.safetensors").read_bytes() == (b / "model.safetensors").read_bytes()


def _records(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if key != "seconds"} for line in lines]


def _killed_at(monkeypatch: pytest.MonkeyPatch, write: int, after: bool) -> None:
    """Let the process die at its write number `write`, just before or just after the new file is in place."""
    replace, count = Path.replace, 0

    def replace_or_die(self: Path, target: Path) -> Path:
        nonlocal count
        count += 1
        if count == write and not after:
            raise Killed
        result = replace(self, target)
        if count == write:
            raise Killed
        return result

    monkeypatch.setattr(Path, "replace", replace_or_die)


@pytest.fixture(scope="module", params=["adamw", "sgd"])
def uninterrupted(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Any], Path]:
    """Settings with an optimizer, and the folder of a run that nothing disturbed."""
    given = {**GIVEN, "optimizer": request.param, "lr": 0.01}
    folder = tmp_path_factory.mktemp(request.param)
    train(given, out=folder, save_every=0)
    return given, folder


def test_the_comparison_tells_seeds_apart(uninterrupted: tuple[dict[str, Any], Path], tmp_path: Path) -> None:
    given, folder = uninterrupted
    train({**given, "seed": 5}, out=tmp_path / "other")
    assert not same_weights(folder, tmp_path / "other")
    train(given, out=tmp_path / "same")  # without checkpoints in the epochs
    assert same_weights(folder, tmp_path / "same")


def test_killed_at_every_write(
    uninterrupted: tuple[dict[str, Any], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, folder = uninterrupted
    after = given["optimizer"] == "sgd"
    write, finished = 0, False
    while not finished:
        write += 1
        out = tmp_path / str(write)
        with monkeypatch.context() as patch:
            _killed_at(patch, write, after)
            try:
                train(given, out=out, save_every=0)
                finished = True
            except Killed:
                pass
        train(given, out=out, resume=True, save_every=0)
        assert same_weights(folder, out), f"killed at write {write}"
        assert _records(folder) == _records(out), f"killed at write {write}"
        assert not list(out.glob(".*")), "nothing half-written is left"
    assert write > 2 * (3 + 3)  # in each of 2 epochs 3 steps, model, metrics and checkpoint


def _start(out: Path, *options: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "svertka.cli", "train", "digits", "--no-report"]
    command += ["--model", TINY, "--out", str(out), *options]
    return subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )


LONG = {**GIVEN, "epochs": 20, "batch_size": 32, "class_weights": True}
LONG_OPTIONS = [
    "--epochs=20", "--batch-size=32", "--threads=1", "--seed=4", "--class-weights", "--save-every=0.02", "--resume",
]  # fmt: skip


def _wait_for(path: Path, process: subprocess.Popen[bytes]) -> None:
    before = path.stat().st_mtime_ns if path.exists() else 0
    while not path.exists() or path.stat().st_mtime_ns == before:
        assert process.poll() is None, process.communicate()[1].decode()
        time.sleep(0.005)


def test_a_process_that_is_killed_again_and_again(tmp_path: Path) -> None:
    train(LONG, out=tmp_path / "whole")
    out, draw, steps = tmp_path / "killed", random.Random(0), []
    for _ in range(2):
        process = _start(out, *LONG_OPTIONS)
        _wait_for(out / "checkpoint", process)
        time.sleep(draw.random() / 4)
        assert process.poll() is None, "it finished before it was killed"
        process.send_signal(signal.SIGKILL)
        process.communicate()
        with safe_open(out / "checkpoint", framework="pt") as opened:
            steps.append(json.loads(opened.metadata()["svertka checkpoint"])["state"]["step"])
    assert any(steps), "no kill came in the middle of an epoch"
    (out / ".checkpoint.1.part").write_text("half-written")
    train(LONG, out=out, resume=True)
    assert same_weights(tmp_path / "whole", out)
    assert not list(out.glob(".*"))


def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path: Path) -> None:
    process = _start(tmp_path, *LONG_OPTIONS)
    _wait_for(tmp_path / "checkpoint", process)
    process.send_signal(signal.SIGINT)
    sentence = process.communicate()[1].decode()
    assert process.returncode == 130
    assert sentence == f"svertka: stopped, and saved: go on with svertka train --resume --out {tmp_path}.\n"


def test_early_stopping_keeps_the_best_epoch_through_a_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {**GIVEN, "epochs": 30, "lr": 0.1, "schedule": "constant", "early_stopping": 3}
    outcome = train(given, out=tmp_path / "whole")
    records = _records(tmp_path / "whole")
    accuracies = [record["val_accuracy"] for record in records]
    assert len(records) < 30
    assert max(accuracies) == accuracies[outcome.epoch - 1] and len(records) == outcome.epoch + 3
    with monkeypatch.context() as patch, pytest.raises(Killed):
        _killed_at(patch, 2 + 2 * outcome.epoch, after=True)  # an epoch writes two or three files
        train(given, out=tmp_path / "killed")
    train(given, out=tmp_path / "killed", resume=True)
    assert same_weights(tmp_path / "whole", tmp_path / "killed")
    assert records == _records(tmp_path / "killed")


def _small() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    model = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), torch.nn.BatchNorm2d(3)).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.rand(2, 2, 5, 5)).square().sum().backward()
    optimizer.step()
    return model, optimizer


def test_tensors_come_back_in_the_models_memory_format(tmp_path: Path) -> None:
    model, optimizer = _small()
    save_checkpoint(tmp_path / "checkpoint", model, optimizer, State(step=7, loss_sum=0.1), {})
    other, others = _small()
    restore(tmp_path / "checkpoint", other, others)
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b) and a.stride() == b.stride()
        for key, value in optimizer.state[a].items():
            assert torch.equal(value, others.state[b][key]) and value.stride() == others.state[b][key].stride()
    assert read_state(tmp_path / "checkpoint", {}) == State(step=7, loss_sum=0.1)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:-5]),
    "empty": lambda path: path.write_bytes(b""),
    "no header": lambda path: save_file(load_file(path), path),
    "another state": lambda path: save_file(
        load_file(path), path, metadata={"svertka checkpoint": json.dumps({"state": {"stp": 1}, "config": {}})}
    ),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_checkpoint_is_refused(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    save_checkpoint(tmp_path / "checkpoint", *_small(), State(), {})
    damage(tmp_path / "checkpoint")
    with pytest.raises(DataError, match=r"checkpoint is not a whole checkpoint.*--overwrite"):
        read_state(tmp_path / "checkpoint", {})


def test_a_checkpoint_of_another_run_or_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    save_checkpoint(path, *_small(), State(), {"seed": 1})
    with pytest.raises(DataError, match="belongs to a run with another config"):
        read_state(path, {"seed": 2})
    model = torch.nn.Conv2d(2, 4, 3)
    with pytest.raises(DataError, match="does not fit the model"):
        restore(path, model, torch.optim.AdamW(model.parameters()))
    tensors = load_file(path)
    tensors["optimizer.0.exp_avg"] = torch.zeros(5)
    save_file(tensors, path)
    with pytest.raises(DataError, match="does not fit the model"):
        restore(path, *_small())
