"""Pictures that a page sends: decoded by the one path, bounded in pixels."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from svertka.lab.api import Answered, Asked, Endpoint, LabError
from svertka.lab.work import Check
from svertka.vision.pictures import PictureError, Preprocessing, read_header

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


def decode(data: bytes, channels: int, size: tuple[int, int], fit: str = "crop") -> object:
    """uint8 [channels, *size] tensor of the picture in a file's bytes.

    Raises:
        LabError: named, if it is none or has too many pixels.
    """
    if not data:
        raise LabError("no-picture", "the file is empty: choose a picture")
    try:
        height, width = read_header(data).size
        if height * width > MAX_PIXELS:
            raise LabError(
                "picture-size", f"the picture has {height} × {width} pixels, over the {MAX_PIXELS} allowed: scale it",
                height, width,
            )  # fmt: skip
        return Preprocessing(channels, size, fit).decode(data)
    except PictureError as error:
        raise LabError("no-picture", str(error)) from None


def numbers(asked: PictureAsked, _: Check, data: bytes) -> PictureNumbers:
    """The numbers of a picture."""
    channels = 3 if asked.channels > 1 else 1
    pixels = decode(data, channels, (asked.rows, asked.columns)).tolist()  # type: ignore[attr-defined]
    planes = ["; ".join(" ".join(map(str, row)) for row in plane) + ";" for plane in pixels[: asked.channels]]
    return PictureNumbers(text=" | ".join(planes))


ENDPOINTS = (Endpoint("/api/picture", PictureAsked, PictureNumbers, numbers, takes_file=True),)
