"""Room 5: what a trained network makes of a picture: every layer's maps, and any number in them."""

from __future__ import annotations

import base64
import functools
import io
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import torch
from PIL import Image
from pydantic import Field
from torch import Tensor, nn

from svertka.inspect.recording import Layer, layers, private, record
from svertka.lab.api import Answered, Asked, Endpoint, LabError
from svertka.lab.networks import DIGITS, Networks
from svertka.lab.rooms.numbers import Number, Seen, number_of, seen_by
from svertka.lab.rooms.pictures import decode, fitting
from svertka.lab.work import Check
from svertka.vision.datasets import load
from svertka.vision.pictures import PictureError

if TYPE_CHECKING:
    from svertka.vision.modelfile import TrainedModel

MAX_VALUES = 600_000
"""Numbers that are told at a time, of all maps together; of larger ones those channels with the largest value."""

_A_ROW, _IN_A_ROW = 6, 160_000
"""So many maps of a layer are told in any case, unless they have more numbers than that."""

MAX_CHANNELS = 64
Name = Annotated[str, Field(max_length=200)]
Index = Annotated[int, Field(ge=0, le=100_000)]


class NetworkAsked(Asked):
    """A network by its name; the first one if there is none."""

    model: Name = ""


class LayerFacts(Answered):
    """A layer: its title, class, role, and (channels, *size) of what it gives."""

    title: str
    kind: str
    role: str
    shape: list[int]


class NetworkAnswer(Answered):
    """A network.

    Args:
        names: of all networks that the server knows.
        name: of this one.
        classes: in the order of the scores.
        size: (channels, height, width) of its pictures.
        parameters: their number.
        layers: in the order of the calls; those that change no number are left out.
        samples: pictures to begin with, PNG as data URLs.
        draws: whether it was trained on what people draw: then a drawing is cut out and scaled as its pictures were.
    """

    names: list[str]
    name: str
    classes: list[str]
    size: tuple[int, int, int]
    parameters: int
    layers: list[LayerFacts]
    samples: list[str]
    draws: bool


class PictureOptions(NetworkAsked):
    """A picture for a network.

    Args:
        drawn: it is a drawing, light on dark: if the network was trained on such, it is cut out and fills the frame.
        inverted: exchange light and dark.
    """

    drawn: bool = False
    inverted: bool = False


class Maps(Answered):
    """What one layer made of the picture.

    Args:
        title: of the layer.
        rows, columns: of a map; 1 and 1 in a dense layer, each of whose units is a channel.
        channels: which are told.
        most: the largest absolute value in them.
        values: little-endian float32 [channels, rows, columns] in base64.
    """

    title: str
    rows: int
    columns: int
    channels: list[int]
    most: float
    values: str


class LookAnswer(Answered):
    """A picture on its way through a network.

    Args:
        picture: as the network gets it, PNG as a data URL.
        scores: of each class.
        probabilities: their softmax.
        maps: of each layer.
    """

    picture: str
    scores: list[float]
    probabilities: list[float]
    maps: list[Maps]


class MapsAsked(PictureOptions):
    """The maps of one layer from a channel on."""

    layer: Name
    first: Index = 0


class NumberAsked(PictureOptions):
    """One number in a layer's maps; of a dense layer the unit is the channel."""

    layer: Name
    channel: Index = 0
    row: Index = 0
    column: Index = 0


class NumberAnswer(Answered):
    """One number: how it comes to be, and what it sees of all before it, the picture (without a title) first."""

    number: Number
    seen: list[Seen]


def describe(asked: NetworkAsked, _: Check, networks: Networks) -> NetworkAnswer:
    """A network's classes and layers; ours is trained when it is asked for the first time."""
    trained = networks.get(asked.model)
    name = asked.model or networks.names()[0]
    return NetworkAnswer(
        names=list(networks.names()),
        name=name,
        classes=list(trained.classes),
        size=(trained.preprocessing.channels, *trained.preprocessing.size),
        parameters=sum(parameter.numel() for parameter in trained.model.parameters()),
        layers=[
            LayerFacts(title=one.title, kind=one.kind, role=one.role, shape=list(one.output))
            for one in shown_layers(trained)
        ],
        samples=_samples() if name == DIGITS else [],
        draws=name == DIGITS,
    )


def look(asked: PictureOptions, check: Check, data: bytes, networks: Networks) -> LookAnswer:
    """What every layer makes of a picture, and the scores."""
    trained = networks.get(asked.model)
    pixels, x = read_picture(asked, trained, data, networks)
    shown = shown_layers(trained)
    check()
    with torch.no_grad():
        scores = trained.model(x[None])[0].float()
        check()
        given = record(private(trained.model), x[None], shown, lambda _, output: output[0].float().cpu().numpy().copy())
    check()
    return LookAnswer(
        picture=png(pixels.numpy()),
        scores=scores.tolist(),
        probabilities=scores.softmax(0).tolist(),
        maps=[_maps(one, given[one], MAX_VALUES // len(shown)) for one in shown],
    )


def look_closer(asked: MapsAsked, check: Check, data: bytes, networks: Networks) -> Maps:
    """The maps of one layer from channel `first` on, as many as may be told at a time: ask again from the next one."""
    trained = networks.get(asked.model)
    _, x = read_picture(asked, trained, data, networks)
    layer = named_layer(trained, asked.layer)
    if asked.first >= layer.output[0]:
        raise LabError("request", f"{layer.title} has {layer.output[0]} channels, none with the number {asked.first}")
    check()
    with torch.no_grad():
        own = private(trained.model)
        planes = _planes(record(own, x[None], [layer], lambda _, output: output[0].float().cpu().numpy())[layer])
    most = max(1, MAX_VALUES // planes[0].size)
    return _told(layer, planes, np.arange(asked.first, min(asked.first + most, len(planes))))


def explain_number(asked: NumberAsked, check: Check, data: bytes, networks: Networks) -> NumberAnswer:
    """One number of a layer: its sum, and what it sees in every layer before it."""
    trained = networks.get(asked.model)
    _, x = read_picture(asked, trained, data, networks)
    layer = named_layer(trained, asked.layer)
    place = (asked.channel, asked.row, asked.column)[: len(layer.output)]
    if not all(i < n for i, n in zip(place, layer.output, strict=True)):
        raise LabError("request", f"{layer.title} has the shape {layer.output}, without a number at {place}")
    number = number_of(trained.model, x, layer, place)
    check()
    return NumberAnswer(number=number, seen=seen_by(trained.model, tuple(x.shape), layer, place, check))


def shown_layers(trained: TrainedModel) -> tuple[Layer, ...]:
    """The layers that change numbers and have one or two axes."""
    return _shown(trained.model, (trained.preprocessing.channels, *trained.preprocessing.size))


def named_layer(trained: TrainedModel, title: str) -> Layer:
    """LabError if none of the shown layers has that title."""
    found = next((one for one in shown_layers(trained) if one.title == title), None)
    if found is None:
        titles = ", ".join(one.title for one in shown_layers(trained))
        raise LabError("request", f"the network has no layer {title!r}: choose one of {titles}")
    return found


def read_picture(
    asked: PictureOptions, trained: TrainedModel, data: bytes, networks: Networks
) -> tuple[Tensor, Tensor]:
    """The picture as the network gets it: uint8 [channels, height, width], and float32, normalised.

    Raises:
        LabError: named, if it is none or has too many pixels.
    """
    _, size = fitting(data, 512)
    frame = trained.preprocessing
    ours = (asked.model or networks.names()[0]) == DIGITS
    if asked.drawn and ours:
        pixels = frame.from_pixels(_cut_out(decode(data, 1, size, "stretch")[0]).numpy())
    else:
        try:
            pixels = frame.decode(data)
        except PictureError as error:
            raise LabError("no-picture", str(error)) from None
    pixels = 255 - pixels if asked.inverted else pixels
    return pixels, frame.normalise(pixels[None])[0]


def png(pixels: Any) -> str:
    """uint8 [1 or 3, height, width] as a data URL."""
    stream = io.BytesIO()
    picture = pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0))
    Image.fromarray(picture).save(stream, "PNG")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def floats(values: Any) -> str:
    """Little-endian float32 in base64."""
    return base64.b64encode(np.ascontiguousarray(values, dtype="<f4").tobytes()).decode()


@functools.lru_cache(maxsize=32)
def _shown(model: nn.Module, size: tuple[int, ...]) -> tuple[Layer, ...]:
    found = [one for one in layers(model, size) if one.role != "same" and len(one.output) in (1, 3)]
    kept: list[Layer] = []
    for one in found:  # a pool to the size that the maps have already does nothing
        if not (kept and one.role == "pool" and one.kind == "MapsOfSize" and one.output == kept[-1].output):
            kept.append(one)
    return tuple(kept)


def _maps(layer: Layer, values: Any, budget: int) -> Maps:
    planes = _planes(values)
    size = planes[0].size
    most = max(1, budget // size, min(_A_ROW, _IN_A_ROW // size))
    if planes.ndim == 3 and planes[0].size > 1:
        most = min(most, MAX_CHANNELS)
    chosen = np.arange(len(planes))
    if len(planes) > most:
        peaks = np.abs(planes).reshape(len(planes), -1).max(axis=1)
        chosen = np.sort(np.argsort(-peaks, kind="stable")[:most])
    return _told(layer, planes, chosen)


def _planes(values: Any) -> Any:
    """[channels, rows, columns]; a unit of a dense layer is a map of one place."""
    return values.reshape(len(values), *(values.shape[1:] or (1, 1)))


def _told(layer: Layer, planes: Any, chosen: Any) -> Maps:
    told = np.nan_to_num(planes[chosen])
    return Maps(
        title=layer.title, rows=told.shape[1], columns=told.shape[2], channels=chosen.tolist(),
        most=float(np.abs(told).max(initial=0)), values=floats(told),
    )  # fmt: skip


def _cut_out(pixels: Tensor) -> Tensor:
    """The square around what is drawn, as the digits that our network knows fill their frames.

    Args:
        pixels: uint8 [height, width], light on dark.
    """
    rows, columns = ((pixels > 63).any(dim=axis).nonzero()[:, 0] for axis in (1, 0))
    if not len(rows):
        return pixels
    height, width = (int(line[-1] - line[0]) + 1 for line in (rows, columns))
    side = max(height, width)
    square = pixels.new_zeros(side, side)
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = pixels[
        int(rows[0]) : int(rows[-1]) + 1, int(columns[0]) : int(columns[-1]) + 1
    ]
    return square


@functools.cache
def _samples() -> list[str]:
    """The first test picture of each digit."""
    test = load("digits").test
    assert test is not None
    assert test.pixels is not None
    firsts = [int((test.labels == digit).nonzero()[0, 0]) for digit in range(10)]
    return [png(test.pixels[i].numpy()) for i in firsts]


ENDPOINTS = (
    Endpoint("/api/network", NetworkAsked, NetworkAnswer, describe, needs=("networks",)),
    Endpoint("/api/network/look", PictureOptions, LookAnswer, look, takes_file=True, needs=("networks",)),
    Endpoint("/api/network/maps", MapsAsked, Maps, look_closer, takes_file=True, needs=("networks",)),
    Endpoint("/api/network/number", NumberAsked, NumberAnswer, explain_number, takes_file=True, needs=("networks",)),
)
