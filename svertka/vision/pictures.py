"""From a picture file to a uint8 tensor: the one path by which training, evaluation and prediction see a picture."""

import dataclasses
import functools
import io
import logging
import math
import os
import stat
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from svertka.errors import DataError

logging.getLogger("PIL").addHandler(logging.NullHandler())  # else it logs of damaged files to stderr

MAX_PIXELS = 100_000_000
"""A picture with more pixels (10 000 × 10 000) is refused by its header, before memory is taken for it."""

FITS = ("crop", "stretch", "pad")

_REFUSED_FORMATS = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}
"""Formats that Pillow recognises but can't draw by itself (EPS would start Ghostscript on a file from anywhere)."""

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation → what turns the stored pixels upright."""


class PictureError(DataError):
    """A picture that can't be used; the message names it."""


@dataclass(frozen=True)
class Preprocessing:
    """How a picture becomes the input of a network. It is saved with the model, so that every use is alike.

    channels   1 (grey) or 3 (RGB)
    size       (height, width) in pixels
    fit        "crop": the shorter side is scaled and the centre cut out; "stretch": both sides are scaled;
               "pad": the whole picture is shown, and its edge pixels are repeated up to the borders
    mean, std  per channel, on the scale 0..1; left out: 0 and 1

    Raises DataError if a value is not possible.
    """

    channels: int
    size: tuple[int, int]
    fit: str = "crop"
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.channels not in (1, 3):
            raise DataError(f"a picture has 1 channel (grey) or 3 (RGB), not {self.channels}: give one of the two")
        if len(self.size) != 2 or not all(isinstance(side, int) and side > 0 for side in self.size):
            raise DataError(f"the picture size {self.size} is not (height, width): give two positive whole numbers")
        if math.prod(self.size) > MAX_PIXELS:
            raise DataError(f"the picture size {self.size} has more than {MAX_PIXELS} pixels: give a smaller one")
        if self.fit not in FITS:
            raise DataError(f"the fit '{self.fit}' is not known: give one of {', '.join(FITS)}")
        object.__setattr__(self, "size", tuple(self.size))
        object.__setattr__(self, "mean", tuple(self.mean) or (0.0,) * self.channels)
        object.__setattr__(self, "std", tuple(self.std) or (1.0,) * self.channels)
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != self.channels or not all(map(math.isfinite, values)):
                raise DataError(f"the {name} {values} does not fit {self.channels} channel(s): give a number for each")
        if min(self.std) <= 0:
            raise DataError(f"the std {self.std} is not positive: give a positive number for each channel")

    def decode(self, source: str | Path | bytes | BinaryIO) -> torch.Tensor:
        """The picture as uint8 [channels, height, width].

        `source` is a path, the bytes of a file, or an open binary file. EXIF orientation is obeyed, transparency is
        laid over white, an animation shows its first frame, and 16-bit grey is scaled to 8 bits (for 32 bits see
        `_value_range`). Raises PictureError with one sentence: which picture, what is wrong, what to do.
        """
        with opened(source) as picture:
            enough = 2 * max(self.size)
            picture.draft(None, (enough, enough))  # JPEG: decoded at 1/2, 1/4 or 1/8 if that leaves twice the size
            picture.load()
            return self._tensor(_upright(picture))

    def from_pixels(self, pixels: NDArray[np.uint8]) -> torch.Tensor:
        """A picture in memory, uint8 [h, w], by the same path as a file: uint8 [channels, height, width]."""
        return self._tensor(Image.fromarray(pixels))

    def normalise(self, batch: torch.Tensor) -> torch.Tensor:
        """(batch / 255 − mean) / std: uint8 [B, C, H, W] → float32 of the same shape."""
        mean = torch.tensor(self.mean, device=batch.device).view(-1, 1, 1)
        std = torch.tensor(self.std, device=batch.device).view(-1, 1, 1)
        return (batch * (1 / (255 * std))).sub_(mean / std)

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON can hold them."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in dataclasses.asdict(self).items()}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "Preprocessing":
        """What `to_dict` gave. Raises DataError if a field is missing, unknown or impossible."""
        known = {field.name for field in dataclasses.fields(cls)}
        if not isinstance(fields, Mapping) or set(fields) != known:
            raise DataError(f"the preprocessing {fields!r} is not an object with the fields {', '.join(sorted(known))}")
        values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in fields.items()}
        try:
            return cls(**values)
        except TypeError as error:
            raise DataError(f"the preprocessing {dict(fields)!r} has a field of the wrong type ({error})") from error

    def _tensor(self, picture: Image.Image) -> torch.Tensor:
        if picture.mode in ("I", "F") or picture.mode.startswith("I;16"):
            picture = Image.fromarray(_eight_bits(picture))
        transparent = picture.has_transparency_data
        picture = self._fitted(
            _in_mode(picture, "RGBA" if transparent else "L" if picture.mode in ("1", "L") else "RGB")
        )
        if transparent:
            picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
        pixels = np.array(_in_mode(picture, "L" if self.channels == 1 else "RGB"))
        pixels = pixels[None] if self.channels == 1 else pixels.transpose(2, 0, 1)
        if self.fit == "pad":
            pixels = _edges_repeated(pixels, self.size)
        return torch.from_numpy(np.ascontiguousarray(pixels))

    def _fitted(self, picture: Image.Image) -> Image.Image:
        """Scaled to the size by bilinear interpolation, antialiased; under "pad", inside the size."""
        height, width = self.size
        if picture.size == (width, height):
            return picture
        scale = width / picture.width, height / picture.height
        box = (0.0, 0.0, float(picture.width), float(picture.height))
        if self.fit == "crop":
            cut_x = max(0.0, picture.width - width / max(scale)) / 2  # rounding may leave a little less than 0
            cut_y = max(0.0, picture.height - height / max(scale)) / 2
            box = (cut_x, cut_y, picture.width - cut_x, picture.height - cut_y)
        elif self.fit == "pad":
            width = min(width, max(1, round(picture.width * min(scale))))
            height = min(height, max(1, round(picture.height * min(scale))))
        return picture.resize((width, height), Image.Resampling.BILINEAR, box=box)


@dataclass(frozen=True)
class Header:
    """What a picture's header says, before any pixel is decoded."""

    size: tuple[int, int]  # (height, width), upright
    grey: bool


def read_header(source: str | Path | bytes | BinaryIO) -> Header:
    """The size and kind of a picture. Raises PictureError as `Preprocessing.decode` does."""
    with opened(source) as picture:
        width, height = picture.size
        # Other formats would have to be decoded to find their EXIF block.
        if picture.format in ("JPEG", "MPO") and _orientation(picture) >= 5:
            width, height = height, width
        return Header((height, width), picture.mode in ("1", "L", "LA", "La", "I", "F") or picture.mode[:4] == "I;16")


@functools.cache
def picture_suffixes() -> frozenset[str]:
    """The lower-case file name endings of all formats that can be decoded: ".png", ".jpg", …"""
    endings = Image.registered_extensions()
    return frozenset(end for end, name in endings.items() if name in Image.OPEN and name not in _REFUSED_FORMATS)


def printable(name: str | Path) -> str:
    """A file name as it can be shown anywhere: what no terminal can print becomes �."""
    return "".join(c if c.isprintable() else "�" for c in str(name))


class _Quiet:
    """While any thread is inside, Pillow's warnings are off: they are of metadata, which decides nothing here.

    `warnings.catch_warnings` alone would leave the filters of another thread behind.
    """

    def __init__(self) -> None:
        self._lock, self._inside, self._filters = threading.Lock(), 0, warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._filters = warnings.catch_warnings()
                self._filters.__enter__()
                warnings.filterwarnings("ignore", module=r"PIL\.|svertka\.vision\.pictures")
            self._inside += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._filters.__exit__(None, None, None)


_PILLOW_KEEPS_QUIET = _Quiet()


@contextmanager
def opened(source: str | Path | bytes | BinaryIO) -> Iterator[Image.Image]:
    """The picture, open, with its header read; whatever goes wrong with it inside becomes a PictureError."""
    name = _name(source)
    try:
        with _PILLOW_KEEPS_QUIET:
            _refuse_non_files(source, name)
            with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as picture:
                _refuse_by_header(picture, name)
                yield picture
    except PictureError:
        raise
    except Exception as error:  # a decoder may raise anything on a damaged file
        raise PictureError(_what_is_wrong(name, error)) from error


def _name(source: str | Path | bytes | BinaryIO) -> str:
    if isinstance(source, bytes):
        return f"the picture in memory ({len(source)} bytes)"
    if isinstance(source, str | os.PathLike):
        return printable(source)
    return printable(str(getattr(source, "name", "the open picture file")))


def _refuse_non_files(source: str | Path | bytes | BinaryIO, name: str) -> None:
    if isinstance(source, str | os.PathLike):
        status = Path(source).stat()
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
            raise PictureError(f"{name} is not a regular file: give a picture file")
        empty = status.st_size == 0
    else:
        empty = source == b""
    if empty:
        raise PictureError(f"{name} is empty: copy it again or delete it")


def _refuse_by_header(picture: Image.Image, name: str) -> None:
    if picture.format in _REFUSED_FORMATS:
        raise PictureError(f"{name} is in the format {picture.format}, which is not decoded: convert it to PNG or JPEG")
    if picture.width * picture.height > MAX_PIXELS:
        raise PictureError(
            f"{name} has {picture.width} × {picture.height} pixels, over the {MAX_PIXELS // 10**6} million allowed: "
            "scale it down or delete it"
        )
    if not picture.width * picture.height:
        raise PictureError(f"{name} has no pixels ({picture.width} × {picture.height}): delete it")


def _what_is_wrong(name: str, error: Exception) -> str:
    match error:
        case FileNotFoundError():
            return f"{name} does not exist: check the path"
        case IsADirectoryError():
            return f"{name} is a folder: give a picture file"
        case PermissionError():
            return f"{name} may not be read: change its permissions"
        case UnidentifiedImageError():
            return f"{name} is not a picture in a known format: convert it to PNG or JPEG, or delete it"
        case Image.DecompressionBombError():
            return f"{name} has more than the {MAX_PIXELS // 10**6} million pixels allowed: scale it down or delete it"
    reason = printable(str(error)).strip(" .") or type(error).__name__
    return f"{name} is damaged or cut short ({reason}): copy it again or delete it"


def _orientation(picture: Image.Image) -> int:
    try:
        orientation = int(picture.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # damaged metadata does not spoil the pixels
        return 1
    return orientation if orientation in _UPRIGHT else 1


def _upright(picture: Image.Image) -> Image.Image:
    orientation = _orientation(picture)
    if orientation == 1:
        return picture
    upright = picture.transpose(_UPRIGHT[orientation])
    upright.format = picture.format
    return upright


def _in_mode(picture: Image.Image, mode: str) -> Image.Image:
    return picture if picture.mode == mode else picture.convert(mode)


def _eight_bits(picture: Image.Image) -> NDArray[np.uint8]:
    """Grey of 16 or 32 bits, or floats, scaled to 0..255; a value marked as transparent becomes white."""
    values = np.asarray(picture).astype(np.float32)
    low, high = _value_range(picture, values)
    with np.errstate(invalid="ignore", over="ignore"):
        scaled = np.rint((values - low) * (255 / max(high - low, 1e-30)))
    grey: NDArray[np.uint8] = np.nan_to_num(scaled, nan=0.0).clip(0, 255).astype(np.uint8)
    transparent = picture.info.get("transparency")
    if isinstance(transparent, int):
        grey[values == transparent] = 255
    return grey


def _value_range(picture: Image.Image, values: NDArray[np.float32]) -> tuple[float, float]:
    """The values that become 0 and 255.

    In 16 bits, 0 and 65535. A format of 32 bits does not say: 0 and the first of 1 (floats only), 255 and 65535 that no
    value of the picture exceeds; if there is none, or a value is negative, its least and its greatest value.
    """
    if picture.mode.startswith("I;16") or (picture.mode == "I" and picture.format == "PPM"):
        return 0.0, 65535.0
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return 0.0, 1.0
    low, high = float(finite.min()), float(finite.max())
    for full in (1.0, 255.0, 65535.0) if picture.mode == "F" else (255.0, 65535.0):
        if low >= 0 and high <= full:
            return 0.0, full
    return low, high


def _edges_repeated(pixels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    rows, columns = size[0] - pixels.shape[1], size[1] - pixels.shape[2]
    widths = ((0, 0), (rows // 2, rows - rows // 2), (columns // 2, columns - columns // 2))
    return np.pad(pixels, widths, mode="edge")
