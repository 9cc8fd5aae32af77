"""Room 4 tells the lecture's numbers, and the library's."""

from typing import Any

import numpy as np
import pytest

from svertka import nn
from svertka.explain.connections import Connections
from svertka.explain.cost import costs
from svertka.explain.operations import bound
from svertka.lab.api import LabError
from svertka.lab.rooms.layers import (
    ConnectionsAsked,
    LayersAsked,
    PaddingsAsked,
    connections,
    layers,
    paddings,
)


def asked(**arguments: Any) -> dict[str, Any]:
    return {one.kind: one for one in layers(LayersAsked(**arguments), lambda: None).layers}


def test_the_lectures_paddings() -> None:
    found = paddings(PaddingsAsked(input="1 2 3 4 5", kernel="-1 0 2 0 -1"), lambda: None)
    assert {one.mode: one.stage.output.values for one in found.modes} == {
        "zeros": [-1, 0, 0, 6, 7],
        "replicate": [-2, -1, 0, 1, 2],
        "reflect": [-4, -2, 0, 2, 4],
        "symmetric": [-3, -1, 0, 1, 3],
        "circular": [-5, -5, 0, 5, 5],
    }
    line = {one.mode: one.stage.drawn.values for one in found.modes}
    assert line["symmetric"] == [2, 1, 1, 2, 3, 4, 5, 5, 4]
    assert line["circular"] == [4, 5, 1, 2, 3, 4, 5, 1, 2]


def test_the_lectures_costs() -> None:
    six = asked(inputs=3, outputs=6, height=32, width=32, kernel=5)
    assert (six["regular"].weights + six["regular"].biases, six["regular"].macs) == (456, 352_800)
    assert six["dense"].weights + six["dense"].biases == 14_455_392
    separable = asked(inputs=3, outputs=16, height=128, width=128, kernel=3, same=True)
    assert (separable["regular"].weights, separable["regular"].macs) == (432, 7_077_888)
    assert (separable["separable"].weights, separable["separable"].macs) == (75, 1_228_800)
    picture = asked(inputs=3, outputs=3, height=256, width=256, kernel=3, same=True)
    assert picture["dense"].weights == 196_608**2 == 38_654_705_664


def test_costs_are_the_librarys() -> None:
    found = asked(inputs=4, outputs=8, height=9, width=7, kernel=3, stride=2, groups=2, same=True)
    for kind, groups, outputs in (("regular", 1, 8), ("grouped", 2, 8), ("depthwise", 4, 4)):
        layer = nn.Conv2d(4, outputs, 3, stride=2, padding="same_upper", groups=groups)
        expected = costs(layer, (4, 9, 7))
        one = found[kind]
        assert (one.weights, one.biases, one.macs, one.macs_inside) == (
            expected.weights, expected.biases, expected.macs, expected.macs_inside,
        )  # fmt: skip
    unshared = costs(nn.LocallyConnected2d(4, 8, 3, (9, 7), stride=2, padding="same_upper"), (4, 9, 7))
    assert (found["unshared"].weights, found["unshared"].macs) == (unshared.weights, unshared.macs)


def test_a_large_layer_takes_no_memory() -> None:
    assert asked(inputs=512, outputs=512, height=1024, width=1024, kernel=16)["regular"].weights == 512 * 512 * 256


def test_who_sees_whom() -> None:
    found = connections(ConnectionsAsked(n=5, kernel=3, padding=1), lambda: None)
    assert found.weights == {"convolutional": 3, "local": 15, "full": 25}
    layer = nn.Conv1d(1, 1, 3, padding=1)
    expected = Connections(bound(layer), (1, 5)).along()
    assert [(link.output, link.input, link.tap) for link in found.links] == [
        (link.output, link.input, link.tap) for link in expected
    ]
    channels = layers(LayersAsked(inputs=4, outputs=6, groups=2), lambda: None).channels
    assert np.array_equal(channels["grouped"], np.kron(np.eye(2), np.ones((3, 2))))
    assert np.array_equal(channels["depthwise"], np.eye(4))
    assert layers(LayersAsked(inputs=64, outputs=6), lambda: None).channels == {}


@pytest.mark.parametrize(
    ("make", "arguments", "kind"),
    [
        (
            lambda **a: layers(LayersAsked(**a), lambda: None),
            {"inputs": 3, "outputs": 4, "groups": 2},
            "channel-groups",
        ),
        (lambda **a: layers(LayersAsked(**a), lambda: None), {"height": 3, "kernel": 5}, "no-window"),
        (lambda **a: connections(ConnectionsAsked(**a), lambda: None), {"n": 2, "kernel": 5}, "no-window"),
        (lambda **a: paddings(PaddingsAsked(**a), lambda: None), {"input": "1 2; 3 4", "kernel": "1"}, "axes"),
    ],
)
def test_what_cannot_be_used_has_a_name(make: Any, arguments: dict[str, Any], kind: str) -> None:
    with pytest.raises(LabError) as caught:
        make(**arguments)
    assert caught.value.kind == kind
