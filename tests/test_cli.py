"""The command line from train to predict; bad input is one sentence and exit code 2; help does not wait for torch."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import svertka
from svertka.cli import main

TINY = f"{Path(__file__).parent / 'vision' / 'tiny_model.py'}:build"


@dataclass
class Result:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """svertka with some arguments, in this process."""

    def call(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["svertka", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "80")
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        code = end.value.code
        return Result(code if isinstance(code, int) else 0, *capsys.readouterr())

    return call


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with a linear model of the digits."""
    from svertka.vision.run import train

    given = {"model": "linear", "epochs": 6, "lr": 0.05, "batch_size": 200, "shift": 0, "threads": 1}
    return train(given, out=tmp_path_factory.mktemp("run")).folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Test digits as class folders of PNG files."""
    from svertka.vision.datasets import load

    root, test = tmp_path_factory.mktemp("pictures"), load("digits").test
    assert test is not None and test.pixels is not None
    for i in range(80):
        path = root / str(int(test.labels[i])) / f"{i:02}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(test.pixels[i, 0].numpy()).save(path)
    return root


def test_train_tells_the_outcome_and_the_next_command(run: Callable[..., Result], tmp_path: Path) -> None:
    out = tmp_path / "a run"
    result = run(
        "train", "digits", "--model", TINY, "--model-arg", "width=3", "--epochs", 2, "--batch-size", 300,
        "--optimizer", "sgd", "--schedule", "cosine", "--lr", 0.1, "--weight-decay", 0, "--label-smoothing", 0.1,
        "--class-weights", "--seed", 3, "--shift", 0, "--no-flip", "--crop", 0, "--contrast", 0.1, "--validation", 0.2,
        "--size", "8x8", "--channels", 1, "--fit", "stretch", "--early-stopping", 5, "--threads", 1, "--out", out,
    )  # fmt: skip
    assert (result.code, result.err) == (0, "")
    parts = ("      2/2", "test: ", "Confusion", "Worst mistakes", f"svertka predict '{out}' PICTURE", "report.html")
    for part in parts:
        assert part in result.out, part
    settings = json.loads((out / "config.json").read_text())["settings"]
    assert settings["model_arguments"] == {"width": 3} and settings["fit"] == "stretch"
    assert (settings["class_weights"], settings["flip"], settings["contrast"]) == (True, False, 0.1)
    again = run("train", "--model", TINY, "--out", out, "--resume")
    assert again.code == 0 and "is finished: nothing is left to do" in again.out


def test_evaluate(run: Callable[..., Result], trained: Path, pictures: Path) -> None:
    result = run("evaluate", trained, "digits", "--json")
    values = json.loads(result.out)
    assert (result.code, values["count"]) == (0, 355) and values["accuracy"] > 0.9
    assert set(values["per_class"]) == set("0123456789")
    of_training = json.loads(run("evaluate", trained / "model.safetensors", "digits", "--split", "train", "--json").out)
    assert of_training["count"] == 1442
    result = run("evaluate", trained, pictures)
    assert result.code == 0 and "of 80 pictures right" in " ".join(result.out.split())


def test_predict_in_lines_and_in_json(run: Callable[..., Result], trained: Path, pictures: Path) -> None:
    result = run("predict", trained, pictures, "--json", "--top", 3)
    values = [json.loads(line) for line in result.out.splitlines()]
    assert (result.code, result.err, len(values)) == (0, "", 80)
    assert all(len(value["predictions"]) == 3 for value in values)
    right = sum(Path(value["picture"]).parent.name == value["predictions"][0]["class"] for value in values)
    assert right == json.loads(run("evaluate", trained, pictures, "--json").out)["correct"] > 70
    lines = run("predict", trained, pictures / "*" / "1?.png").out.splitlines()
    assert len(lines) == 10 and all(line.endswith(".png") and " %  " in line for line in lines)


def test_pictures_that_cannot_be_read_are_named_and_counted(
    run: Callable[..., Result], trained: Path, pictures: Path, tmp_path: Path
) -> None:
    (tmp_path / "broken.png").write_bytes(b"nothing")
    result = run("predict", trained, pictures / "0", tmp_path, "missing.png", "--json")
    assert result.code == 1
    errors = [json.loads(line)["error"] for line in result.out.splitlines() if "error" in line]
    assert len(errors) == 2 and "broken.png" in errors[0]
    assert result.err.splitlines()[-1].startswith("svertka: 2 of ") and "missing.png" in result.err
    assert run("predict", trained, tmp_path).code == 2
    (tmp_path / "broken.png").unlink()
    empty = run("predict", trained, tmp_path)
    assert empty.code == 2 and "there are no pictures in" in empty.err


def test_models_of_ones_own_run_only_when_named(run: Callable[..., Result], tmp_path: Path) -> None:
    run("train", "--model", TINY, "--epochs", 1, "--batch-size", 500, "--threads", 1, "--out", tmp_path, "--no-report")
    assert not (tmp_path / "report.html").exists()
    refused = run("evaluate", tmp_path, "digits")
    assert refused.code == 2 and f"--model-code {TINY}" in refused.err
    assert run("evaluate", tmp_path, "digits", "--model-code", TINY).code == 0


def test_summary(run: Callable[..., Result], trained: Path) -> None:
    result = run("summary", "resnet18", "--input", "3x224x224", "--json")
    assert result.code == 0 and json.loads(result.out)["parameters"] == 11_689_512
    assert "Conv2d" in run("summary", "lenet", "--input", "1x28x28", "--model-arg", "hidden=8").out
    assert "8×8" in run("summary", trained).out
    assert "Linear" in run("summary", TINY, "--input", "1x8x8", "--classes", 5).out


BAD = {
    "no data": (["train", "nowhere"], "nowhere does not exist"),
    "no model": (["train", "--model", "lenin"], "'lenin' is unknown"),
    "a size": (["train", "--size", "28"], "--size 28 is no size: write it like 28x28"),
    "a size of letters": (["train", "--size", "axb"], "--size axb"),
    "an argument": (["train", "--model-arg", "width"], "--model-arg width is no argument"),
    "epochs": (["train", "--epochs", "0"], "--epochs 0"),
    "resume without a folder": (["train", "--resume"], "add --out FOLDER"),
    "no run": (["evaluate", "nowhere", "digits"], "there is no model at nowhere"),
    "no run to predict": (["predict", "nowhere", "x.png"], "there is no model at nowhere"),
    "no run to inspect": (["inspect", "nowhere", "x.png"], "there is no model at nowhere"),
    "no run to report": (["report", "nowhere"], "nowhere is no run folder"),
    "an input": (["summary", "lenet", "--input", "28x28"], "--input 28x28 is no size: write it like 3x224x224"),
    "no input": (["summary", "lenet"], "add --input"),
    "a choice": (["train", "--optimizer", "adam"], "adam"),
    "an option": (["train", "--epoch", "3"], "--epoch"),
    "a command": (["tarin"], "tarin"),
}


@pytest.mark.parametrize(("arguments", "sentence"), BAD.values(), ids=BAD.keys())
def test_bad_input_is_a_sentence_and_exit_code_2(
    run: Callable[..., Result], arguments: list[str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert (result.code, result.out) == (2, "") and sentence in result.err
    assert "Traceback" not in result.err
    if "Usage" not in result.err:
        assert result.err.startswith("svertka: ") and result.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_without_the_extra_training_ends_well_and_says_what_to_install(
    run: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = run("train", "--model", "linear", "--epochs", 1, "--threads", 1, "--out", tmp_path)
    assert result.code == 0 and (tmp_path / "model.safetensors").exists() and not (tmp_path / "report.html").exists()
    assert result.err == (
        "svertka: the report was left out: the report needs matplotlib, which is not installed: "
        "pip install 'svertka[inspect]'.\n"
    )


def test_inspect_shows_pictures_and_names_those_it_cannot_read(
    run: Callable[..., Result], trained: Path, pictures: Path, tmp_path: Path
) -> None:
    (tmp_path / "bad.png").write_text("no picture")
    some, out = sorted(pictures.rglob("*.png"))[:2], tmp_path / "page.html"
    result = run("inspect", trained, *some, tmp_path / "bad.png", "--class", "7", "--data", "digits", "--out", out)
    text = out.read_text()
    assert result.code == 0 and f"The page is {out}" in result.out and "bad.png is not a picture" in result.err
    assert all(picture.name in text for picture in some) and "what excites its units" in text
    assert "the template of each class" in text and "bad.png is not a picture" in text


def test_report_makes_it_anew_and_compares(run: Callable[..., Result], trained: Path, tmp_path: Path) -> None:
    assert run("report", trained, "--workers", 0).code == 0
    assert "the template of each class" in (trained / "report.html").read_text()
    result = run("report", trained, trained, "--workers", 0, "--out", tmp_path / "both.html")
    assert result.code == 0 and "2 runs beside each other" in (tmp_path / "both.html").read_text()


def test_files_of_the_system_are_told_in_a_sentence(run: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = run("train", "--epochs", 1, "--out", tmp_path / "file" / "run")
    assert (result.code, result.out) == (2, "") and "Traceback" not in result.err and result.err.count("\n") == 1


def test_help_and_version_do_not_import_torch() -> None:
    code = (
        "import sys\nfrom svertka.cli import app\n"
        "commands = ('train', 'evaluate', 'predict', 'summary', 'doctor', 'cache')\n"
        "for arguments in (['--version'], ['--help'], *([command, '--help'] for command in commands)):\n"
        "    app(arguments, standalone_mode=False)\n"
        "assert not {'torch', 'numpy', 'PIL'} & set(sys.modules), 'help is slow'"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(f"svertka {svertka.__version__}\n") and "--early-stopping" in result.stdout


def test_a_closed_pipe_is_quiet(trained: Path, tmp_path: Path) -> None:
    for i in range(300):
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / f"{'long' * 40}{i}.png")
    command = [sys.executable, "-m", "svertka.cli", "predict", str(trained), str(tmp_path), "--json"]
    read, write = os.pipe()
    process = subprocess.Popen(command, stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    os.close(read)
    assert process.communicate()[1] == b""
    assert process.returncode == 1
