"""Room 5: what a network has learnt: what an answer rests on, filters and templates, pictures that excite its units."""

from __future__ import annotations

import functools
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor

from svertka.inspect.attribution import METHODS
from svertka.inspect.synthesis import Unit, synthesise
from svertka.inspect.weights import filters, templates
from svertka.lab.api import Answered, Asked, Endpoint, LabError
from svertka.lab.networks import DIGITS, Networks
from svertka.lab.rooms.network import Index, Name, PictureOptions, floats, named_layer, png, read_picture
from svertka.lab.work import Check
from svertka.vision.datasets import load
from svertka.vision.pictures import Preprocessing

MAX_FILTERS = 64
MAX_UNITS = 16
Method = Literal["occlusion", "integrated gradients", "Grad-CAM"]


class AttributionAsked(PictureOptions):
    """What speaks for a class in a picture."""

    target: Index
    method: Method = "occlusion"


class AttributionAnswer(Answered):
    """A map over the picture, positive where the picture speaks for the class.

    Args:
        rows, columns: of the map.
        most: its largest absolute value.
        values: little-endian float32 [rows, columns] in base64.
        score: what was attributed: the class's log-probability (occlusion), or its score.
        layer: of Grad-CAM: whose maps were weighed.
    """

    rows: int
    columns: int
    most: float
    values: str
    score: float
    layer: str


class WeightsAsked(Asked):
    """The weights of a network as pictures: of one convolution, by default of the first; of one filter in it."""

    model: Name = ""
    layer: Name = ""
    filter: Index = 0


class Tile(Answered):
    """One picture of weights: whose it is, its largest absolute weight, float32 [channels, rows, columns] in base64."""

    name: str
    channels: int
    rows: int
    columns: int
    most: float
    values: str


class WeightsAnswer(Answered):
    """Weights as pictures.

    Args:
        layers: all convolutions; of a linear network its one layer.
        layer: the one that is shown.
        kind: "template" for each class; "RGB", "grey", "depthwise": a tile for each filter; "full", "grouped": a tile
            for each input channel of the one filter.
        count: filters in the layer.
        filter: the one that is shown, of "full" and "grouped".
        most: the largest absolute weight of all tiles that are shown.
        tiles: at most 64, those with the largest weights.
    """

    layers: list[str]
    layer: str
    kind: str
    count: int
    filter: int
    most: float
    tiles: list[Tile]


class SynthesisAsked(Asked):
    """Pictures to be made for units of one layer; of the last one they are the classes."""

    model: Name = ""
    layer: Name
    units: Annotated[list[Index], Field(min_length=1, max_length=MAX_UNITS)]


class Made(Answered):
    """The picture that was made for a unit, PNG as a data URL, and the largest value of the unit's map on it."""

    unit: int
    picture: str
    excitation: float


class SynthesisAnswer(Answered):
    """Pictures that excite units."""

    made: list[Made]


def attribute(asked: AttributionAsked, check: Check, data: bytes, networks: Networks) -> AttributionAnswer:
    """What a class's score rests on in a picture."""
    trained = networks.get(asked.model)
    if asked.target >= len(trained.classes):
        raise LabError("request", f"there is no class {asked.target}: there are {len(trained.classes)}")
    _, x = read_picture(asked, trained, data, networks)
    check()
    found = METHODS[asked.method](trained.model, x, asked.target)
    rows, columns = found.map.shape
    return AttributionAnswer(
        rows=rows, columns=columns, most=float(np.abs(found.map).max(initial=0)), values=floats(found.map),
        score=found.score, layer=found.layer,
    )  # fmt: skip


def show_weights(asked: WeightsAsked, _: Check, networks: Networks) -> WeightsAnswer:
    """Templates of a linear network, or the filters of a convolution."""
    trained = networks.get(asked.model)
    size = (trained.preprocessing.channels, *trained.preprocessing.size)
    linear = templates(trained.model, size, trained.classes)
    if linear is not None:
        named = list(zip(linear.names, linear.weight, strict=True))[:MAX_FILTERS]
        return _answer([linear.layer], linear.layer, "template", len(linear.weight), 0, named)
    banks = {bank.layer: bank for bank in filters(trained.model, size)}
    if not banks:
        return _answer([], "", "none", 0, 0, [])
    bank = banks.get(asked.layer) or next(iter(banks.values()))
    number = min(asked.filter, len(bank.weight) - 1)
    if bank.kind in ("full", "grouped"):
        named = list(zip(map(str, bank.inputs_of(number)), bank.weight[number][:, None], strict=True))
        strongest = sorted(range(len(named)), key=lambda i: -float(np.abs(named[i][1]).max()))[:MAX_FILTERS]
        named = [named[i] for i in sorted(strongest)]
    else:
        named = [(str(i), bank.weight[i]) for i in bank.strongest(MAX_FILTERS).tolist()]
    return _answer(list(banks), bank.layer, bank.kind, len(bank.weight), number, named)


def excite(asked: SynthesisAsked, check: Check, networks: Networks) -> SynthesisAnswer:
    """Pictures that excite units of one layer most, found by gradient ascent."""
    trained = networks.get(asked.model)
    layer = named_layer(trained, asked.layer)
    units = [Unit(layer.title, unit) for unit in asked.units]
    ours = (asked.model or networks.names()[0]) == DIGITS
    common = _digits(trained.preprocessing) if ours else None
    made = synthesise(trained.model, units, trained.preprocessing, common, after_step=check)
    return SynthesisAnswer(
        made=[Made(unit=one.unit.channel, picture=png(one.picture), excitation=one.excitation) for one in made]
    )


def _answer(
    layers: list[str], layer: str, kind: str, count: int, number: int, named: list[tuple[str, npt.NDArray[np.float32]]]
) -> WeightsAnswer:
    tiles = [
        Tile(
            name=name, channels=weight.shape[0], rows=weight.shape[1], columns=weight.shape[2],
            most=float(np.abs(weight).max(initial=0)), values=floats(weight),
        )
        for name, weight in named
    ]  # fmt: skip
    most = max((tile.most for tile in tiles), default=0.0)
    return WeightsAnswer(layers=layers, layer=layer, kind=kind, count=count, filter=number, most=most, tiles=tiles)


@functools.cache
def _digits(frame: Preprocessing) -> Tensor:
    """uint8 [n, 1, height, width]: some of the digits that our network was trained on."""
    pixels = load("digits").train.pixels
    assert pixels is not None
    return torch.stack([frame.from_pixels(picture[0].numpy()) for picture in pixels[:300]])


ENDPOINTS = (
    Endpoint(
        "/api/network/attribution", AttributionAsked, AttributionAnswer, attribute, takes_file=True, needs=("networks",)
    ),
    Endpoint("/api/network/weights", WeightsAsked, WeightsAnswer, show_weights, needs=("networks",)),
    Endpoint("/api/network/synthesis", SynthesisAsked, SynthesisAnswer, excite, needs=("networks",)),
)
