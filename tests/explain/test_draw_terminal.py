"""The terminal view: one number and all that it is made of, within the width that there is."""

import io
import re

import numpy as np
import pytest
import torch
from geometries import drawn
from hypothesis import given, settings
from operations import explained
from rich.console import Console

import svertka
from svertka import nn
from svertka.errors import GeometryError
from svertka.explain.draw.terminal import view
from svertka.explain.steps import Steps


def printed(e, width=80, at=None):
    console = Console(file=io.StringIO(), width=width, color_system=None)
    e.print(console, at=at)
    return console.file.getvalue()


def convolution(kernel, **named):
    weight = torch.tensor(kernel, dtype=torch.float64)
    layer = getattr(nn, f"Conv{weight.ndim}d")(1, 1, tuple(weight.shape), bias=False, **named)
    layer.weight.data = weight[None, None]
    return layer


def test_one_number_is_spelled_out():
    e = svertka.explain(convolution([[0, 1], [1, -1]], padding="same"), [[1, 2, 3], [3, 4, 5], [1, 0, 2]])
    text = printed(e, at=(0, 1, 1))
    assert "4·0 + 5·1 + 0·1 + 2·(−1) = 3" in text
    assert "3  [4] [5] (0)" in text and "[ ] window, ( ) padding" in text
    assert "5  [3]  ·" in text  # the outputs before, this one, those to come


def test_weights_stand_under_the_inputs_that_they_lie_on():
    lines = printed(svertka.explain(convolution([-1, 0, 1]), [1, 2, 3, 4, 50]), at=(0, 2)).splitlines()
    row = lines[lines.index(next(line for line in lines if line.startswith("Input"))) + 1]
    kernel = lines[lines.index(next(line for line in lines if line.startswith("Kernel"))) + 1]
    assert row.index("[3]") + 2 == kernel.index("−1") + 2
    assert row.index("]", row.index("50")) == kernel.index(" 1 ") + 2


def test_the_chosen_one_is_marked():
    assert "»5«" in printed(svertka.explain(nn.MaxPool2d(2), [[1, 2], [5, 3]]))


def test_a_large_input_is_cut_around_the_output_and_the_region_named():
    e = svertka.explain(nn.Conv2d(1, 1, 3, padding=1), np.arange(10_000).reshape(100, 100) % 10)
    text = printed(e, at=(0, 70, 30))
    assert "Output at 70, 30:" in text and "Cut to the outputs at" in text and "of 100×100" in text
    assert len(text.splitlines()) < 60


@settings(drawn, max_examples=30)
@given(explained())
def test_no_line_is_wider_than_the_terminal(case):
    steps = Steps(*case)
    for width in (80, 50):
        console = Console(file=io.StringIO(), width=width, color_system=None)
        console.print(view(steps, "title", steps[len(steps) - 1].output))
        assert max(map(len, console.file.getvalue().splitlines())) <= width
        assert "…" not in re.sub(r"\d … \d", "", console.file.getvalue())  # nothing is cut without a word


def test_what_is_no_output_is_told():
    e = svertka.explain(nn.MaxPool1d(2), [1, 2, 3, 4])
    with pytest.raises(GeometryError, match=r"there is no output at \(0, 2\)"):
        e.print(at=(0, 2))
    with pytest.raises(GeometryError, match="no output"):
        e.print(at=(0,))


def test_rich_prints_the_object_itself():
    console = Console(file=io.StringIO(), width=80, color_system=None)
    console.print(svertka.explain(nn.MaxPool1d(2), [1, 2]))
    assert "max(1, 2) = 2" in console.file.getvalue()
