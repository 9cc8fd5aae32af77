"""Figures can be drawn of whatever there is, are written whole, and follow the theme of a page."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_networks import CLASSES, PREPROCESSING, Unusual, pasted, trained
from torch import nn

from svertka import inspect, models
from svertka.errors import DataError
from svertka.inspect import draw
from svertka.inspect.draw.decisions import MistakenPicture
from svertka.inspect.draw.looks import around_grey, mosaic, overlaid, signed
from svertka.inspect.motivation import ShiftAccuracy
from svertka.vision.metrics import Evaluation

PICTURES = pasted(20, 3)[0]


def _drawn(figure: object, path: Path) -> np.ndarray:
    draw.save(figure, path)
    pixels = np.asarray(Image.open(path).convert("RGB"))
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 8
    return pixels


@pytest.mark.parametrize("model, size", [(Unusual(), (3, 12, 12)), (nn.Conv2d(1, 70, 3), (1, 9, 9))])
def test_filters_of_any_kind(model: nn.Module, size: tuple[int, ...], tmp_path: Path) -> None:
    for bank in inspect.filters(model, size):
        _drawn(draw.filters(bank), tmp_path / "a.png")
    layers = nn.Sequential(nn.Conv2d(3, 40, 3), nn.Conv2d(40, 40, 3, groups=40), nn.Conv2d(40, 30, (1, 5)))
    for bank in inspect.filters(layers, (3, 20, 20)):
        _drawn(draw.filters(bank), tmp_path / "a.png")


def test_templates_maps_and_exciting_pictures(tmp_path: Path) -> None:
    linear = inspect.templates(models.linear(1, 3, size=(4, 4)), (1, 4, 4), ("$a$", "b", "c"))
    assert linear is not None
    _drawn(draw.templates(linear), tmp_path / "a.png")
    x = PREPROCESSING.normalise(PICTURES)
    for model in (trained(), Unusual()):
        _drawn(draw.feature_maps(inspect.feature_maps(model, x[0]), PICTURES[0].numpy()), tmp_path / "a.png")
    first, *_, last = inspect.exciting(trained(), x)
    made = inspect.synthesise(trained(), [inspect.Unit(first.layer.name, 2)], PREPROCESSING, steps=2)
    _drawn(draw.exciting(first, lambda i: PICTURES[i].numpy(), [2, 0], made={2: made[0]}), tmp_path / "a.png")
    _drawn(draw.exciting(last, lambda i: PICTURES[i].numpy(), range(3), names=CLASSES), tmp_path / "a.png")


def test_decisions_mistakes_and_measurements(tmp_path: Path) -> None:
    x = PREPROCESSING.normalise(PICTURES)
    found = [inspect.occlusion(trained(), x[0], target) for target in (0, 1)]
    check = inspect.sanity(trained(), x[0], 0, draws=1)
    figure = draw.attributions(PICTURES[0].numpy(), [[one] for one in found], CLASSES, [0.9, 0.1, 0.0], [check])
    _drawn(figure, tmp_path / "a.png")
    wrong = MistakenPicture("a.png", PICTURES[0].numpy(), "cross", "square", 0.9, *found)
    _drawn(draw.mistakes([wrong] * 3), tmp_path / "a.png")
    _drawn(draw.equivariance(inspect.equivariance(trained(), x[:2])), tmp_path / "a.png")
    _drawn(draw.sharing(inspect.sharing(trained(), (3, 24, 24))), tmp_path / "a.png")
    _drawn(draw.accuracy_by_shift(ShiftAccuracy((0, 2), (1.0, 0.5), 3)), tmp_path / "a.png")


@pytest.mark.parametrize("count", [3, 15, 60])
def test_curves_and_confusion(count: int, tmp_path: Path) -> None:
    matrix = np.random.default_rng(0).integers(0, 20, (count, count)).astype(np.int64)
    _drawn(draw.confusion(Evaluation(tuple(f"class {i}" for i in range(count)), matrix, 1.0)), tmp_path / "a.png")
    history = [{"epoch": i, "train_loss": 1 / i, "train_accuracy": 0.5, "val_loss": 1.0, "val_accuracy": 0.4}
               for i in range(1, count)]  # fmt: skip
    _drawn(draw.curves({"one": history}), tmp_path / "a.png")
    _drawn(draw.curves({"one": history, "two": history[:1]}), tmp_path / "a.png")


def test_colours_are_of_the_numbers() -> None:
    colours = signed(np.array([-2.0, -1.0, 0.0, 1.0, np.nan]), 1.0)
    assert colours.tolist() == [[213, 94, 0], [213, 94, 0], [255, 255, 255], [0, 114, 178], [255, 255, 255]]
    assert around_grey(np.array([-1.0, 0.0, 1.0]).reshape(3, 1, 1), 1.0).tolist() == [[[0, 128, 255]]]
    assert mosaic([np.zeros((2, 3, 3), np.uint8)] * 3, 2).shape == (5, 7, 4)
    speaks = overlaid(np.zeros((1, 1, 3), np.uint8), np.array([[1.0, -1.0, 0.0]]))[0]
    assert speaks[0, 2] > speaks[0, 0] and speaks[1, 0] > speaks[1, 2] and len(set(speaks[2].tolist())) == 1


def test_svg_follows_the_theme_and_is_the_same_each_time() -> None:
    def text() -> str:
        return draw.svg(draw.sharing(inspect.sharing(trained(), (3, 24, 24))))

    assert text() == text()
    assert text().startswith("<svg") and "var(--ink)" in text() and "#1b1f24" not in text()
    assert "<text" in text(), "words stay words"


def test_bad_names_are_refused_and_nothing_is_left_half_written(tmp_path: Path) -> None:
    figure = draw.accuracy_by_shift(ShiftAccuracy((0, 2), (1.0, 0.5), 3))
    with pytest.raises(DataError, match=r"ends in \.png"):
        draw.save(figure, tmp_path / "a.txt")
    assert not list(tmp_path.iterdir())


def test_without_the_extra_a_sentence_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['captum'] = sys.modules['matplotlib'] = None\n"
        "import torch\nfrom svertka import inspect, errors\n"
        "model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))\n"
        "print(len(inspect.sharing(model, (1, 2, 2))))\n"
        "for call in (lambda: inspect.draw.sharing([]), lambda: inspect.occlusion(model, torch.zeros(1, 2, 2), 0)):\n"
        "    try: call()\n"
        "    except errors.SvertkaError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    first, figure, attribution = done.stdout.splitlines()
    assert first == "1"
    assert figure == "a figure needs matplotlib, which is not installed: pip install 'svertka[inspect]'"
    assert attribution == "occlusion needs captum, which is not installed: pip install 'svertka[inspect]'"


def test_importing_it_loads_neither_matplotlib_nor_captum() -> None:
    code = "import sys, svertka.inspect.draw; sys.exit(any(m in sys.modules for m in ('matplotlib', 'captum')))"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert torch.is_grad_enabled()
