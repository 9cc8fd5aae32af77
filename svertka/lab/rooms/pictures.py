"""Pictures that a page sends: decoded by the one path, bounded in pixels."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor

from svertka.lab.api import Answered, Asked, Endpoint, LabError
from svertka.lab.work import Check
from svertka.vision.pictures import Header, PictureError, Preprocessing, read_header

MAX_PIXELS = 48_000_000
"""A picture with more is refused by its header; a large telephone's has 48 million."""

Side = Annotated[int, Field(ge=1, le=64)]


class PictureAsked(Asked):
    """A picture as numbers, scaled and cropped to this size."""

    rows: Side = 12
    columns: Side = 12
    channels: Annotated[int, Field(ge=1, le=3)] = 1


class PictureNumbers(Answered):
    """Pixel values, 0 (black) to 255 (white), in the grammar of matrices; where it was cut is said nowhere else."""

    text: str


def decode(data: bytes, channels: int, size: tuple[int, int], fit: str = "crop") -> Tensor:
    """uint8 [channels, *size]: the picture in a file's bytes.

    Raises:
        LabError: named, if it is none or has too many pixels.
    """
    _checked(data)
    try:
        return Preprocessing(channels, size, fit).decode(data)
    except PictureError as error:
        raise LabError("no-picture", str(error)) from None


def fitting(data: bytes, most: int) -> tuple[int, tuple[int, int]]:
    """A picture's channels, and its (height, width) scaled down so that no side is longer than `most`."""
    header = _checked(data)
    scale = min(1.0, most / max(header.size))
    height, width = (max(3, round(side * scale)) for side in header.size)
    return 1 if header.grey else 3, (height, width)


def _checked(data: bytes) -> Header:
    if not data:
        raise LabError("no-picture", "the file is empty: choose a picture")
    try:
        header = read_header(data)
    except PictureError as error:
        raise LabError("no-picture", str(error)) from None
    height, width = header.size
    if height * width > MAX_PIXELS:
        raise LabError(
            "picture-size", f"the picture has {height} × {width} pixels, over the {MAX_PIXELS} allowed: scale it",
            height, width,
        )  # fmt: skip
    return header


def numbers(asked: PictureAsked, _: Check, data: bytes) -> PictureNumbers:
    """The numbers of a picture."""
    channels = 3 if asked.channels > 1 else 1
    pixels = decode(data, channels, (asked.rows, asked.columns)).tolist()
    planes = ["; ".join(" ".join(map(str, row)) for row in plane) + ";" for plane in pixels[: asked.channels]]
    return PictureNumbers(text=" | ".join(planes))


ENDPOINTS = (Endpoint("/api/picture", PictureAsked, PictureNumbers, numbers, takes_file=True),)
