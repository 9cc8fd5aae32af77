"""Tables fit the terminal and say what they leave out, and names cannot draw on it."""

from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from svertka.vision.metrics import Evaluation, Mistake
from svertka.vision.tables import percent, show_evaluation


def _shown(evaluation: Evaluation, path: Path, width: int = 80) -> list[str]:
    with path.open("w") as file:
        console = Console(width=width, file=file, highlight=False)
        show_evaluation(console, evaluation, "test")
    return path.read_text().splitlines()


def _evaluation(classes: list[str]) -> Evaluation:
    draw = np.random.default_rng(0)
    confusion = draw.integers(0, 3, (len(classes), len(classes))) + 50 * np.eye(len(classes), dtype=np.int64)
    mistakes = tuple(Mistake(f"{'long/' * 30}{i}.png", classes[0], classes[-1], 0.5) for i in range(30))
    return Evaluation(tuple(classes), confusion, 0.5, mistakes, {"a.png": "a.png is broken"})


@pytest.mark.parametrize("classes", [2, 10, 20, 40, 300])
def test_any_number_of_classes_fits_80_columns(tmp_path: Path, classes: int) -> None:
    lines = _shown(_evaluation([f"class number {i}" for i in range(classes)]), tmp_path / "log")
    assert max(map(len, lines)) <= 80
    assert sum("class number" in line for line in lines) < 110
    assert any("Confusion: the true class in rows" in line for line in lines) == (classes < 20)
    assert any("whole matrix" in line for line in lines) == (classes >= 20)
    assert any(f"the 20 worst of {classes}" in line for line in lines) == (classes > 20)
    assert any("1 picture could not be read" in line for line in lines)


def test_the_matrix_shows_every_count(tmp_path: Path) -> None:
    confusion = np.array([[5, 0, 1], [0, 7, 0], [2, 0, 111]])
    lines = _shown(Evaluation(("a", "b", "c"), confusion, 0.1), tmp_path / "log")
    start = lines.index("Confusion: the true class in rows, the answer in columns")
    rows = [line.split() for line in lines[start + 1 : start + 6]]
    assert rows[0] == ["a", "b", "c"] and rows[2:] == [
        ["a", "5", "·", "1"],
        ["b", "·", "7", "·"],
        ["c", "2", "·", "111"],
    ]


def test_names_are_text_and_not_markup(tmp_path: Path) -> None:
    lines = _shown(_evaluation(["[red]x[/red]", "\x1b[31my"]), tmp_path / "log")
    text = "\n".join(lines)
    assert "[red]x[/red]" in text and "\x1b" not in text


def test_percent_rounds_to_all_or_nothing_only_what_is() -> None:
    shares = [None, 0.0, 1e-9, 0.12345, 0.999999, 1.0]
    assert [percent(share) for share in shares] == ["–", "0.00 %", "0.01 %", "12.35 %", "99.99 %", "100.00 %"]
