"""Room 3: the classic filters, and one of the reader's own, on a picture or on frames of a camera; X against X."""

from __future__ import annotations

import base64
import io
from typing import Annotated, Any, Literal

import numpy as np
import torch
from PIL import Image
from pydantic import Field
from torch import Tensor

from svertka.explain import gallery, likeness
from svertka.lab.api import Answered, Asked, Endpoint, File, LabError
from svertka.lab.rooms.asking import Text, numbers
from svertka.lab.rooms.pictures import decode, fitting
from svertka.lab.work import Check

Width = Annotated[int, Field(ge=16, le=640)]
Shown = Literal["pixels", "signed", "strength"]


class GalleryAsked(Asked):
    """A picture for all filters; each response is scaled to this width."""

    width: Width = 200


class Kernel(Answered):
    """What a filter convolves with: its name and whole numbers, to be divided by `divisor`."""

    name: str
    rows: list[list[float]]
    divisor: float


class Filtered(Answered):
    """A filter and what it makes of the picture.

    Args:
        name: of the filter.
        shown: what the colours mean: "pixels", "signed" (mid-grey is 0), "strength" (black is 0).
        kernels: one for a plain convolution; several where their responses are put together.
        plain: whether it is one convolution, with the mirrored border.
        picture: PNG, as a data URL.
    """

    name: str
    shown: Shown
    kernels: list[Kernel]
    plain: bool
    picture: str


class GalleryAnswer(Answered):
    """All filters in the gallery's order, and the picture's own (height, width)."""

    size: tuple[int, int]
    filters: list[Filtered]


class ApplyAsked(Asked):
    """One filter of the gallery, or a kernel of one's own, divided by `divisor`."""

    filter: str | None = None
    kernel: Text | None = None
    divisor: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    width: Width = 320


class LikenessAsked(Asked):
    """Two pictures of −1 and 1, the second moved by some places; filters are patches of the first at `places`."""

    first: Text
    second: Text
    places: Annotated[list[tuple[int, int]], Field(max_length=9)] | None = None
    shift: Annotated[int, Field(ge=-8, le=8)] = 0


class FoundPatch(Answered):
    """A filter: where it was taken, its values, its best response in both pictures, and where that is."""

    place: tuple[int, int]
    patch: list[list[float]]
    best: tuple[float, float]
    at: tuple[tuple[int, int], tuple[int, int]]


class LikenessAnswer(Answered):
    """What two pictures have in common; the second as it was moved."""

    second: list[list[float]]
    cells: int
    differing: int
    ones: tuple[int, int]
    shared: int
    cosine: float
    found: list[FoundPatch]


def show_all(asked: GalleryAsked, check: Check, data: bytes) -> GalleryAnswer:
    """What the classic filters make of a picture."""
    picture = _picture(data, 480)
    found = []
    for each in gallery.filters():
        check()
        response = gallery.apply(picture, [each.name])[each.name]
        found.append(_described(each, _png(gallery.pictured(response, each.shown, asked.width))))
    height, width = picture.shape[1:]
    return GalleryAnswer(size=(height, width), filters=found)


def apply(asked: ApplyAsked, _: Check, data: bytes) -> File:
    """One filter on a picture, as raw RGBA; its size and what its colours mean stand in the headers."""
    picture = _picture(data, asked.width)
    if asked.kernel is not None:
        kernel = numbers(asked.kernel, "the kernel")
        kernel = kernel if kernel.ndim == 3 else kernel[:, None]
        if len(kernel) != 1:
            raise LabError("axes", "the kernel of a filter has one channel")
        weight = torch.from_numpy(kernel[0] / asked.divisor).float()
        with torch.no_grad():
            response = gallery.FixedConv2d(len(picture), weight)(picture[None])[0]
        shown: str = "signed" if abs(float(weight.sum())) < 1e-6 * float(weight.abs().sum()) else "pixels"
    else:
        (one,) = gallery.chosen([asked.filter or "edges"])
        response, shown = gallery.apply(picture, [one.name])[one.name], one.shown
    image = gallery.pictured(response, shown, max(response.shape[1:]))
    headers = (
        ("Svertka-Size", f"{image.width}x{image.height}"),
        ("Svertka-Shown", shown),
        ("Content-Encoding", "identity"),  # a camera's frames come too fast to be compressed
    )
    return File(image.convert("RGBA").tobytes(), "application/octet-stream", headers=headers)


def compare(asked: LikenessAsked, _: Check) -> LikenessAnswer:
    """X against X: pixel by pixel, and by small filters."""
    first, second = (numbers(text, name) for text, name in ((asked.first, "the first"), (asked.second, "the second")))
    if first.ndim != 3 or first.shape != second.shape or len(first) != 1:
        raise LabError("axes", "two matrices of one size are compared")
    moved = np.roll(second[0], asked.shift, axis=1)
    found = likeness.compare(first[0], moved, 3, asked.places)
    return LikenessAnswer(
        second=moved.tolist(),
        cells=found.cells,
        differing=found.differing,
        ones=found.ones,
        shared=found.shared,
        cosine=found.cosine,
        found=[
            FoundPatch(place=one.place, patch=[list(row) for row in one.patch], best=one.best, at=one.at)
            for one in found.found
        ],
    )


def _picture(data: bytes, most: int) -> Tensor:
    """float32 [1 or 3, height, width], scaled down so that no side is longer than `most`."""
    channels, size = fitting(data, most)
    return decode(data, channels, size, "stretch").float()


def _described(each: gallery.Filter, picture: str) -> Filtered:
    layer: Any = each.layer(1)
    plain = isinstance(layer, gallery.FixedConv2d)
    kernels = []
    for name, kernel in each.kernels:
        largest = float(layer.weight.abs().max()) if plain else float(kernel.abs().max())
        divisor = round(float(kernel.abs().max()) / largest, 3)
        kernels.append(Kernel(name=name, rows=kernel.double().tolist(), divisor=divisor))
    shown: Any = each.shown
    return Filtered(name=each.name, shown=shown, kernels=kernels, plain=plain, picture=picture)


def _png(image: Image.Image) -> str:
    stream = io.BytesIO()
    image.save(stream, "PNG", compress_level=3)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


ENDPOINTS = (
    Endpoint("/api/filters/gallery", GalleryAsked, GalleryAnswer, show_all, takes_file=True),
    Endpoint("/api/filters/apply", ApplyAsked, File, apply, takes_file=True),
    Endpoint("/api/likeness", LikenessAsked, LikenessAnswer, compare),
)
