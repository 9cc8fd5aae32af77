"""Room 6: a training in a process of its own, which writes what `svertka train` writes; and what is refused."""

import asyncio
import json
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from starlette.testclient import TestClient

from svertka.errors import DataError
from svertka.lab.app import create_app
from svertka.lab.datafolder import DataFolder
from svertka.lab.guard import Door
from svertka.lab.rooms import training
from svertka.lab.trainings import Trainings
from svertka.vision.datasets import load
from svertka.vision.run import train

LAB = [sys.executable, "-c", "from svertka.cli import main; main()", "lab", "--no-browser"]
Ask = Callable[..., Any]


@pytest.fixture
def trainings(tmp_path: Path) -> Iterator[Trainings]:
    made = Trainings(runs=tmp_path / "runs")
    yield made
    made.close()


@pytest.fixture
def ask(trainings: Trainings) -> Ask:
    """Asks the API; the answer as JSON."""
    client = TestClient(create_app(Door(requests=1e6), trainings=trainings), base_url="http://127.0.0.1:8765")

    def post(what: str, status: int = 200, **asked: Any) -> Any:
        answer = client.post(f"/api/training/{what}", json=asked)
        assert answer.status_code == status, answer.text
        return answer.json()

    return post


def waited(ask: Ask, until: Callable[[Any], bool], seconds: float = 60.0) -> Any:
    end = time.monotonic() + seconds
    while not until(state := ask("state")):
        assert time.monotonic() < end, state
        time.sleep(0.02)
    return state


def log(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def pictures(root: Path, classes: str = "ab") -> Path:
    for value, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for i in range(4):
            Image.new("L", (12, 10), 90 * value + i).save(root / name / f"{i}.png")
    return root


def test_a_training_is_what_svertka_train_does(ask: Ask, trainings: Trainings, tmp_path: Path) -> None:
    run = ask("start", model="linear", epochs=2, seed=3)["run"]
    assert ask("start", 422, model="linear")["kind"] == "train-busy"
    state = waited(ask, lambda state: state["phase"] not in ("starting", "running"))
    assert state["phase"] == "finished", state
    records = log(trainings.runs / run)
    assert state["history"] == records and len(records) == 2
    assert state["points"] and state["points"][-1][0] <= 2
    outcome = train({"model": "linear", "epochs": 2, "seed": 3}, out=tmp_path / "plain")
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (trainings.runs / run, outcome.folder))
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert outcome.evaluation is not None
    answers = state["answers"]
    assert answers["matrix"] == outcome.evaluation.confusion.tolist() and answers["split"] == "test"
    assert all(answers["matrix"][true][answer] == count for true, answer, count in answers["pairs"])
    kept = ask("runs")["runs"]
    assert [(one["run"], one["finished"], one["done"]) for one in kept] == [(run, True, 2)]
    assert kept[0]["accuracy"] == records[-1]["val_accuracy"]
    assert ask("resume", 422, run=run)["kind"] == "train-finished"
    assert ask("open", run=run)["network"] == run


def test_an_earlier_run_is_told_as_it_was(ask: Ask, trainings: Trainings) -> None:
    run = ask("start", model="linear", epochs=2)["run"]
    before = waited(ask, lambda state: state["phase"] == "finished")
    assert ask("look", run=run) == before
    later = TestClient(
        create_app(Door(requests=1e6), trainings=Trainings(runs=trainings.runs)), base_url="http://127.0.0.1:8765"
    )
    assert later.post("/api/training/state", json={}).json()["phase"] == "none"
    told = later.post("/api/training/look", json={"run": run}).json()
    same = ("phase", "run", "model", "data", "epochs", "history", "answers")
    assert {name: told[name] for name in same} == {name: before[name] for name in same}
    assert told["answers"]["matrix"] and told["answers"]["split"] == "test"
    (trainings.runs / run / "evaluation.json").write_text('{"split": "test"}')
    refused = later.post("/api/training/look", json={"run": run})
    assert refused.status_code == 422 and "evaluation.json is damaged" in refused.json()["message"]
    (trainings.runs / run / "evaluation.json").unlink()
    told = later.post("/api/training/look", json={"run": run}).json()
    assert (told["answers"], len(told["history"])) == (None, 2)
    assert later.post("/api/training/look", json={"run": "../secret"}).json()["kind"] == "no-run"


def test_stopped_and_resumed_it_is_the_same_run(ask: Ask, trainings: Trainings, tmp_path: Path) -> None:
    run = ask("start", model="lenet", epochs=5)["run"]
    waited(ask, lambda state: state["history"])
    assert ask("stop")["phase"] == "stopping"
    state = waited(ask, lambda state: state["phase"] != "stopping")
    assert state["phase"] == "stopped" and 1 <= len(state["history"]) < 5
    assert [one["finished"] for one in ask("runs")["runs"]] == [False]
    assert ask("resume", run=run)["phase"] == "starting"
    state = waited(ask, lambda state: state["phase"] == "finished")
    assert state["history"] == log(trainings.runs / run)
    outcome = train({"model": "lenet", "epochs": 5}, out=tmp_path / "plain")
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (trainings.runs / run, outcome.folder))
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_a_page_is_told_what_is_new(ask: Ask, trainings: Trainings) -> None:
    ask("start", model="linear", epochs=3)

    async def heard() -> list[Any]:
        told = []
        async for progress in training.follow(trainings):
            told.append(progress)
            if progress is not None and progress.phase == "finished":
                break
        return told

    told = asyncio.run(asyncio.wait_for(heard(), 60))
    assert [progress.fresh for progress in told] == [True] + [False] * (len(told) - 1)
    whole = ask("state")
    assert [epoch.model_dump() for progress in told for epoch in progress.history] == whole["history"]
    assert [point for progress in told for point in progress.points] == [tuple(point) for point in whole["points"]]
    answers = [progress.answers for progress in told if progress.answers is not None]
    assert answers[-1].model_dump() == whole["answers"] | {"pairs": list(map(tuple, whole["answers"]["pairs"]))}


def test_many_points_are_joined() -> None:
    from svertka.lab.trainings import Followed

    followed, page = Followed("run", "lenet", "digits", 10), training._Told()
    followed.hear({"tells": "begun", "steps": 100, "done": 0, "epochs": []})
    assert page.next(followed).fresh
    for step in range(1, 1001):
        followed.hear({"tells": "step", "done": step, "loss": 1.0})
    assert 100 < len(followed.points) <= 400 and followed.points[-1][0] > 9.9
    assert all(loss == 1.0 for _, loss in followed.points)
    again = page.next(followed)
    assert again.fresh and len(again.points) == len(followed.points)
    assert not page.next(followed).fresh


@pytest.mark.parametrize(
    ("asked", "kind", "numbers"),
    [
        ({"epochs": 0}, "train-epochs", [1, 1000]),
        ({"epochs": 2.5}, "train-epochs", [1, 1000]),
        ({"batch_size": 5000}, "train-batch-size", [1, 4096]),
        ({"batch_size": 1, "model": "resnet18"}, "train-batch-size", [2, 4096]),
        ({"lr": 0}, "train-lr", [10]),
        ({"lr": -1e-3}, "train-lr", [10]),
        ({"seed": -1}, "train-seed", [0, 2**31 - 1]),
        ({"augmentation": "own", "shift": 5}, "train-shift", [0, 4]),
        ({"augmentation": "own", "crop": 0.95}, "train-crop", [90]),
        ({"augmentation": "own", "contrast": 2}, "train-contrast", [100]),
        ({"model": "nets/mine.py:build"}, "train-model", []),
        ({"optimizer": "adam"}, "train-optimizer", []),
        ({"data": "/etc"}, "train-no-data", []),
        ({"data": "../.."}, "train-no-data", []),
    ],
)
def test_what_cannot_be_used_is_said_before_anything_begins(
    ask: Ask, trainings: Trainings, asked: dict[str, Any], kind: str, numbers: list[int]
) -> None:
    for what in ("plan", "start"):
        problem = ask(what, 422, **asked)
        assert (problem["kind"], problem["numbers"]) == (kind, numbers)
    assert not trainings.runs.exists()


def test_a_plan_is_what_the_library_chooses(ask: Ask) -> None:
    plan = ask("plan", model="lenet")
    assert plan["epochs"] == 76 and plan["batch_size"] == 64 and plan["optimizer"] == "adamw" and plan["crop"] == 0.1
    assert plan["pictures"] == [1299, 143, 355] and plan["picture"] == [1, 8, 8] and plan["steps"] == 21
    assert plan["command"] == "svertka train digits --model lenet"
    own = ask("plan", model="resnet18", epochs=3, augmentation="own", shift=1, flip=True)
    assert own["command"] == (
        "svertka train digits --model resnet18 --epochs 3 --shift 1 --flip --crop 0.0 --contrast 0.0"
    )
    assert own["parameters"] == 11_172_810
    assert ask("plan", epochs=20, augmentation="none")["crop"] == 0


def test_only_what_is_in_the_folder_is_offered(tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", pictures(tmp_path / "outside")
    pictures(inside / "letters")
    pictures(inside / "split" / "train")
    (inside / "empty").mkdir()
    (inside / "link").symlink_to(outside)
    folder = DataFolder(inside)
    assert folder.sets() == {
        "digits": "digits", "letters": str(inside / "letters"), "split": str(inside / "split")
    }  # fmt: skip
    assert list(DataFolder(outside).sets()) == ["digits", "outside"]
    pictures(tmp_path / "digits")
    assert DataFolder(tmp_path / "digits").sets()["digits/"] == str(tmp_path / "digits")
    for wrong in (inside / "empty", tmp_path / "none"):
        with pytest.raises(DataError, match="--data"):
            DataFolder(wrong)


def test_samples_are_the_pictures(ask: Ask) -> None:
    import base64
    import io

    strips = ask("samples")["strips"]
    assert [strip["label"] for strip in strips] == list("0123456789")
    image = Image.open(io.BytesIO(base64.b64decode(strips[7]["picture"].partition(",")[2])))
    split = load("digits").train
    first = split.pixels[(split.labels == 7).nonzero()[0, 0], 0]  # type: ignore[index]
    assert list(image.crop((0, 0, 8, 8)).convert("L").tobytes()) == first.ravel().tolist()
    assert image.size == (strips[7]["width"], strips[7]["height"]) == (8 * 9 - 1, 8)


def test_bad_data_and_runs_of_other_data(tmp_path: Path) -> None:
    root = pictures(tmp_path / "data")
    trainings = Trainings(DataFolder(root), tmp_path / "runs")
    client = TestClient(create_app(Door(), trainings=trainings), base_url="http://127.0.0.1:8765")

    def post(what: str, **asked: Any) -> Any:
        return client.post(f"/api/training/{what}", json=asked).json()

    assert post("plan", data="data")["classes"] == ["a", "b"]
    train({"model": "linear", "data": str(root), "epochs": 1}, out=tmp_path / "runs" / "ours", workers=0)
    config = json.loads((tmp_path / "runs/ours/config.json").read_text())
    config["settings"] |= {"data": str(tmp_path / "elsewhere"), "epochs": 2}
    (tmp_path / "runs/ours/config.json").write_text(json.dumps(config))
    assert post("resume", run="ours")["kind"] == "train-elsewhere"
    assert post("resume", run="../data")["kind"] == "no-run"
    assert post("open", run="../runs/ours")["kind"] == "no-run"
    config["settings"]["model"] = "mine.py:build"
    (tmp_path / "runs/ours/config.json").write_text(json.dumps(config))
    assert post("runs")["runs"] == []
    for picture in (root / "a").iterdir():
        picture.unlink()
    (root / "c").mkdir()
    assert post("plan", data="data")["kind"] == "train-no-data"


def test_the_end_of_the_server_saves_the_training(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [*LAB, "--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
    )
    assert process.stdout is not None
    address = process.stdout.readline().split()[-1]

    def post(what: str, **asked: Any) -> Any:
        request = urllib.request.Request(
            f"{address}api/training/{what}", json.dumps(asked).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)

    run = post("start", model="lenet", epochs=500)["run"]
    waited(post, lambda state: state["history"])
    with urllib.request.urlopen(f"{address}api/training/events") as stream:  # a page that is still there
        assert json.loads(stream.readline().removeprefix(b"data: "))["run"] == run
        process.send_signal(signal.SIGINT)
        said, errors = process.communicate(timeout=60)
    assert f"The training in runs/lab/{run} is saved" in said and not errors
    done = len(log(tmp_path / "runs/lab" / run))
    again = Trainings(runs=tmp_path / "runs/lab")
    again.resume(run)
    end = time.monotonic() + 60
    while (followed := again.look()[1]) is None or len(followed.history) <= done:
        assert time.monotonic() < end and followed is not None and followed.phase != "failed"
        time.sleep(0.02)
    again.close()
    assert followed.phase == "stopped"


def test_a_server_that_is_killed_leaves_no_training_behind(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from svertka.lab.trainings import Trainings; "
        "t = Trainings(runs=Path(sys.argv[1])); t.start({'model': 'lenet', 'epochs': 500}, 'digits'); "
        "print(t._process.pid, flush=True); time.sleep(600)"
    )
    server = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    pid = int(server.stdout.readline())
    end = time.monotonic() + 60
    while not list(tmp_path.glob("*/metrics.jsonl")):
        assert time.monotonic() < end
        time.sleep(0.02)
    server.kill()
    server.communicate()
    while Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text().split()[2]:
        assert time.monotonic() < end
        time.sleep(0.02)
    (folder,) = tmp_path.iterdir()
    assert (folder / "checkpoint").exists() and not list(folder.glob(".*"))


def test_a_process_that_falls_is_told(trainings: Trainings, monkeypatch: pytest.MonkeyPatch) -> None:
    from svertka.lab import trainings as module

    monkeypatch.setattr(module.sys, "executable", "/bin/false")
    trainings.start({"model": "lenet", "epochs": 1}, "digits")
    assert trainings._reader is not None
    trainings._reader.join(10)
    followed = trainings.look()[1]
    assert followed is not None and followed.phase == "failed" and "exit code 1" in followed.why


def test_the_librarys_sentence_comes_through(ask: Ask) -> None:
    ask("start", model="lenet", epochs=2, lr=10, optimizer="sgd")
    state = waited(ask, lambda state: state["phase"] not in ("starting", "running"))
    assert state["phase"] in ("failed", "finished")
    if state["phase"] == "failed":
        assert "the loss became" in state["why"] or "NaN" in state["why"]
