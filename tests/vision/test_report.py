"""A run's report is one whole file with all parts; what can't be given is told in a sentence."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from small_networks import CLASSES, PREPROCESSING, Unusual, pasted, trained
from torch import nn

from svertka.errors import DataError
from svertka.vision.modelfile import TrainedModel
from svertka.vision.report import findings, page
from svertka.vision.report.runs import compare, of_pictures, of_run, read_run
from svertka.vision.run import train
from svertka.vision.settings import Settings, command

QUIET = Console(quiet=True)
TINY = f"{Path(__file__).parent / 'tiny_model.py'}:build"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two runs on the digits."""
    root = tmp_path_factory.mktemp("runs")
    given = {"epochs": 2, "batch_size": 200, "threads": 1, "lr": 0.02, "optimizer": "adamw"}
    return [
        train({**given, "model": TINY}, out=root / "tiny").folder,
        train({**given, "model": "linear"}, out=root / "linear").folder,
    ]


def _model(model: nn.Module) -> TrainedModel:
    return TrainedModel(model.eval(), "mine", {}, CLASSES, PREPROCESSING, {}, Path("runs/mine/model.safetensors"))


def _whole(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    assert text.startswith("<!doctype html>") and text.endswith("</html>\n")
    assert path.stat().st_size < 5_000_000
    outside = re.findall(r'(?:src|href)="(?!#|data:)[^"]*"|url\((?!#|&quot;#)[^)]*\)|@import', text)
    assert not outside, "no network is asked"
    ids = re.findall(r'<section id="(\w+)"', text)
    assert ids == re.findall(r'<a href="#(\w+)"', text) and len(set(ids)) == len(ids)
    return text


def test_the_report_of_a_run_has_all_parts(folders: list[Path]) -> None:
    run = read_run(folders[0], TINY, 0)
    text = _whole(of_run(run, QUIET, 0))
    parts = ("learning", "answers", "mistakes", "decisions", "units", "weights", "maps", "motivation", "costs", "made")
    assert tuple(re.findall(r'<section id="(\w+)"', text)) == parts
    assert run.evaluation is not None and f"{100 * run.evaluation.accuracy:.2f} %" in text
    for words in ("what excites its units most", "made for it", "each weight is used", "always guessing", "passes"):
        assert words in text, words
    assert f"--model {TINY}" in text and f"--model-code {TINY}" in text


def test_a_linear_run_shows_its_templates_and_goes_without_maps(folders: list[Path]) -> None:
    text = _whole(of_run(read_run(folders[1], None, 0), QUIET, 0))
    assert "the template of each class" in text and 'id="maps"' not in text
    assert "Grad-CAM could not be given: the model has no layer with maps" in text


def test_the_command_that_is_told_makes_the_same_settings(folders: list[Path], capsys: object) -> None:
    import shlex
    import sys
    from unittest import mock

    from svertka import cli

    del capsys
    for folder in folders:
        settings = Settings.from_dict(json.loads((folder / "config.json").read_text())["settings"])
        with (
            mock.patch("svertka.vision.run.train", side_effect=RuntimeError("can't allocate memory")) as asked,
            mock.patch.object(sys, "argv", shlex.split(command(settings))),
            pytest.raises(SystemExit),
        ):
            cli.main()
        given = asked.call_args.args[0]
        assert given.items() <= vars(settings).items()
        assert not any(getattr(settings, name) for name in set(vars(settings)) - set(given)), "what is left out is off"


def test_runs_are_compared(folders: list[Path], tmp_path: Path) -> None:
    text = _whole(compare([read_run(folders[0], TINY, 0), read_run(folders[1], None, 0)], tmp_path / "c.html"))
    for words in ("tiny", "linear", "is the most accurate", "on the same 355 test pictures", "F1 by class"):
        assert words in text, words
    table = text.partition('id="settings"')[2].partition("</section>")[0]
    assert ">model<" in table and ">optimizer<" not in table


def test_a_run_whose_data_are_gone_tells_the_rest(folders: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object, **__: object) -> None:
        raise DataError("the folder is gone")

    monkeypatch.setattr("svertka.vision.report.runs.load", gone)
    text = _whole(of_run(read_run(folders[0], TINY, 0), QUIET, 0))
    assert "the data can&#x27;t be read: the folder is gone" in text
    assert 'id="learning"' in text and 'id="weights"' in text and 'id="answers"' not in text
    with pytest.raises(DataError, match=r"no run folder with a config\.json"):
        read_run(folders[0] / "nothing")


def test_an_unusual_network_gives_what_can_be_given(tmp_path: Path) -> None:
    pictures = [(f"{i}.png", pixels) for i, pixels in enumerate(pasted(2, 1)[0])]
    text = _whole(of_pictures(_model(Unusual()), pictures, tmp_path / "a.html", console=QUIET))
    assert 'id="decisions"' in text and 'id="maps"' in text and "same (call 2)" in text

    class Odd(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            flat = x.flatten(1)
            return torch.stack([flat.mean(1), flat.std(1), flat.amax(1)], 1).detach()  # no gradient, no weights

    text = _whole(of_pictures(_model(Odd()), pictures, tmp_path / "b.html", console=QUIET))
    assert 'id="decisions"' in text, "occlusion needs no gradient"
    missing = text.partition('id="missing"')[2]
    assert "Grad-CAM could not be given" in missing and "ntegrated gradients could not be given" in missing


def test_pictures_are_explained_for_the_classes_asked_for(tmp_path: Path) -> None:
    found = findings.of_model(_model(trained()))
    pixels = pasted(1, 2)[0][0]
    decision = findings.decide(found, "a", pixels, None, [2])
    answer = int(np.argmax(decision.probabilities))
    assert [maps[0].target for maps in decision.maps] == list(dict.fromkeys([answer, 2]))
    assert len(decision.checks) == 3 and not found.notes
    Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(tmp_path / "a.png")


def test_what_fails_is_a_sentence_and_only_once() -> None:
    found = findings.of_model(_model(trained()))

    def broken() -> None:
        raise KeyError("x")

    assert found.attempt("the moon", broken) is found.attempt("the moon", broken) is None
    assert found.notes == ["The moon could not be given: KeyError: 'x'"]
    assert found.attempt("one", lambda: 1) == 1


def test_a_page_escapes_what_it_is_given() -> None:
    text = page.page("<b>", page.points(["1 < 2"]), [page.Section("a", "A & B", page.code("x<y"))])
    assert "<b>" not in text.partition("<body")[2].replace("<b></b>", "") and "1 &lt; 2" in text
    assert "A &amp; B" in text and "x&lt;y" in text
