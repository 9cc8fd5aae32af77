"""The lecture's counts, read from what the command prints; and what it answers to input that can't be used."""

import json
import re

import pytest
from typer.testing import CliRunner

from svertka.cli import app
from svertka.errors import SvertkaError

SEPARABLE = ["3x128x128", "--filters", "16", "--size", "3", "--padding", "same", "--no-bias"]


def printed(*arguments):
    result = CliRunner().invoke(app, ["explain", "cost", *arguments], env={"COLUMNS": "100"}, catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def row(text, heading):
    """The numbers of a line of the table: convolution, unshared, dense, separable."""
    line = next(line for line in text.splitlines() if line.strip().startswith(heading))
    cells = re.split(r" {2,}", line.removeprefix(heading).strip())
    return [int(cell.replace(" ", "")) for cell in cells]


def test_slide_3():
    text = printed("3x256x256", "--filters", "3", "--size", "3", "--padding", "same", "--no-bias")
    assert row(text, "weights")[2] == 38_654_705_664 == (256 * 256 * 3) ** 2


def test_slide_23():
    text = printed("3x32x32", "--filters", "6", "--size", "5")
    assert "3×32×32 → 6×28×28" in text
    assert row(text, "weights and biases")[::2] == [456, 14_455_392]
    assert row(text, "multiply-adds")[0] == 352_800


def test_slide_29():
    text = printed(*SEPARABLE)
    assert row(text, "weights")[::3] == [432, 75]
    assert row(text, "multiply-adds")[::3] == [7_077_888, 1_228_800]


def test_json_and_the_picture_of_connections(tmp_path):
    found = json.loads(printed(*SEPARABLE, "--json", "--connections", str(tmp_path / "a.svg")))
    assert (found["macs"], found["others"]["separable"]["macs"]) == (7_077_888, 1_228_800)
    assert (tmp_path / "a.svg").read_text().startswith("<svg")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["3", "--filters", "6", "--size", "5"], "the shape 3 is none"),
        (["3x0x4", "--filters", "6", "--size", "5"], "the shape 3x0x4 is none"),
        (["3x4x4", "--filters", "6", "--size", "5"], "larger than the padded input"),
        (["3x4x4", "--filters", "6", "--size", "2", "--groups", "2"], "must divide by --groups 2"),
        (["3x4x4", "--filters", "6", "--size", "2", "--connections", "a.png"], "no SVG file"),
    ],
)
def test_what_cannot_be_used_is_told(arguments, words):
    with pytest.raises(SvertkaError, match=re.escape(words)):
        printed(*arguments)
