"""Connections held against the matrix, weight counts against the lecture, and their drawings."""

import json
import re
import xml.etree.ElementTree as ET
from typing import Any

import numpy as np
import pytest
from torch import nn

import svertka
from svertka import nn as ours
from svertka.explain import Connections


def connections(layer: nn.Module, *shape: int) -> Connections:
    return svertka.explain(layer, np.ones(shape)).connections()


@pytest.mark.parametrize(
    ("layer", "size"),
    [
        (ours.Conv1d(1, 1, 3, 2, 1), 8),
        (ours.Conv1d(1, 1, 3, padding=3, dilation=2, padding_mode="reflect"), 7),
        (ours.LocallyConnected1d(1, 1, 2, 6), 6),
        (ours.ConvTranspose1d(1, 1, 3, 2, 1), 5),
        (nn.AdaptiveAvgPool1d(4), 6),
    ],
)
def test_the_matrix_has_an_entry_where_an_output_sees_an_input(layer: nn.Module, size: int) -> None:
    if not isinstance(layer, nn.AdaptiveAvgPool1d):
        layer.weight.data.fill_(1)
    e = svertka.explain(layer, np.ones(size))
    expected = e.matrix().toarray() != 0
    found = np.zeros_like(expected)
    for connection in e.connections().along():
        if connection.input is not None:
            found[connection.output, connection.input] = True
    assert (found == expected).all()


def test_weights_side_by_side() -> None:
    found = connections(ours.Conv1d(1, 1, 3, padding=1), 1, 5)
    assert found.weights == {"convolutional": 3, "local": 15, "full": 25}
    assert found.kind == "convolutional"
    found = connections(ours.LocallyConnected2d(2, 4, 3, 6, groups=2), 2, 6, 6)
    assert found.weights == {"convolutional": 36, "local": 16 * 36, "full": 72 * 64}
    assert found.kind == "local"
    assert connections(ours.Conv2d(2, 4, (5, 6)), 2, 5, 6).kind == "full"
    assert connections(ours.Conv2d(2, 4, (5, 6), groups=2), 2, 5, 6).kind == "convolutional"
    assert connections(ours.Conv2d(2, 4, (5, 5)), 2, 5, 6).kind == "convolutional"
    assert (connections(nn.MaxPool1d(2), 1, 8).kind, connections(nn.MaxPool1d(2), 1, 8).weights) == ("windows", {})


def test_channels_that_see_each_other() -> None:
    layer = ours.Conv2d(6, 4, 1, groups=2)
    layer.weight.data.fill_(1)
    e = svertka.explain(layer, np.ones((6, 1, 1)))
    found = e.connections()
    assert (found.channels == (e.matrix().toarray() != 0)).all()
    assert found.groups == 2
    assert connections(nn.MaxPool2d(2), 3, 4, 4).channels.tolist() == np.eye(3, dtype=bool).tolist()
    assert connections(ours.ConvTranspose1d(4, 6, 2, groups=2), 4, 3).channels.shape == (6, 4)


def test_connections_go_through_json() -> None:
    read = json.loads(json.dumps(connections(ours.Conv1d(1, 1, 3, padding=1), 1, 3).to_dict()))
    assert read["axes"] == [[[0, None, 0], [0, 0, 1], [0, 1, 2], [1, 0, 0], [1, 1, 1], [1, 2, 2], [2, 1, 0],
                             [2, 2, 1], [2, None, 2]]]  # fmt: skip
    assert read["weights"]["full"] == 9


def parts(drawing: str) -> dict[str, Any]:
    """Circles, wires by their looks, and texts of a drawing."""
    root = ET.fromstring(drawing)
    wires = [e.get("class", "") for e in root.iter() if e.tag.endswith("path") and "L" in e.get("d", "")]
    return {
        "circles": sum(e.tag.endswith("circle") for e in root.iter()),
        "wires": [w for w in wires if re.match("wire|thin", w)],
        "texts": [e.text or "" for e in root.iter() if e.tag.endswith("text")],
    }


def test_three_kinds_are_drawn_one_below_the_other() -> None:
    found = parts(connections(ours.Conv1d(1, 1, 3, padding=1), 1, 5).svg())
    assert found["circles"] == 12 + 12 + 10
    assert len([w for w in found["wires"] if w.startswith("wire")]) == 15
    assert len([w for w in found["wires"] if w == "wire w0"]) == 4  # the first weight has one more, on the padding
    assert len([w for w in found["wires"] if w.startswith("thin")]) == 15 + 25
    for text in ("Convolutional: 3 weights", "Local: 15 weights", "Full: 25 weights"):
        assert any(text in shown for shown in found["texts"])


@pytest.mark.parametrize(
    ("layer", "shape", "text"),
    [
        (ours.Conv2d(12, 24, 3, 2, 1, groups=12, padding_mode="circular"), (12, 9, 32), "shown: 4 of 16 outputs"),
        (ours.ConvTranspose1d(1, 1, 12, 3), (1, 40), "shown: 9 of 129 outputs"),
        (nn.AdaptiveMaxPool2d(3), (2, 7, 7), "Windows without weights"),
        (ours.KMaxPool1d(3), (2, 7), "each by itself"),
        (ours.Conv1d(3, 2, 12), (3, 12), "every output sees every input"),
        (nn.AvgPool1d(2, 2, 1), (1, 4), "Windows without weights"),
    ],
)
def test_what_is_drawn_of_other_layers(layer: nn.Module, shape: tuple[int, ...], text: str) -> None:
    found = parts(connections(layer, *shape).svg(compare=False))
    assert any(text in shown for shown in found["texts"]), found["texts"]
    assert found["circles"] <= 80
