"""What a user writes or points at becomes an array: matrices as text, tables and arrays in files, pictures.

The grammar of text, from the inside out:

    1 -2 0.5   1,-2,0.5   1/9   entries of a row, between blanks, tabs or commas; the point is the decimal mark
    1 2; 3 4                    rows of a matrix; 1 2 3 is a signal, and 1 2 3; (with the semicolon) a matrix of one row
    1 2; 3 4 ;; 5 6; 7 8        planes of a volume
    1 2; 3 4 | 5 6; 7 8         channels

Where there are several lines, as in most files, a line is a row and an empty line parts planes. An array in a .npy
file has its shape by the library's convention: [length], [height, width], [channels, *size]. Every entry must be
finite: NaN and infinity are refused.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt

from svertka.errors import DataError
from svertka.vision.pictures import Preprocessing, picture_suffixes, printable, read_header

Array = npt.NDArray[np.float64]
Pixels = npt.NDArray[np.uint8]

MAX_ENTRIES = 4_000_000
"""More numbers than this (a picture of 2000 × 2000) are not explained one by one."""

_MAX_BYTES = 64 * 2**20
_TABLES = {".csv", ".tsv", ".txt"}
_ENTRY = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?(/\d+\.?\d*)?", re.ASCII)
_MISSING = re.compile(r"^\s*,|,\s*,")


def parse(text: str, name: str = "the matrix") -> Array:
    """float64 [C, *size] of 1 to 3 spatial axes, from text or from the file that it names (a picture: grey).

    Args:
        text: a matrix in the grammar above, or a path that ends in .csv, .tsv, .txt, .npy or as pictures do.
        name: what errors call it, such as "--kernel".

    Raises:
        DataError: naming the row, the entry or the file that cannot be used.
    """
    suffix = Path(text.strip()).suffix.lower() if len(text) < 4096 else ""
    if suffix == ".npy":
        return _channels_first(read_npy(Path(text)), text)
    if suffix in _TABLES:
        return _read_table(Path(text))
    if is_picture(text):
        pixels = read_picture(text)
        if pixels.size > MAX_ENTRIES:
            raise DataError(f"{printable(text)} has over {MAX_ENTRIES} pixels: scale it down or cut a part out")
        return pixels.astype(np.float64)
    return parse_text(text, name)


def is_picture(text: str) -> bool:
    """Whether the text ends as the name of a picture does."""
    return len(text) < 4096 and Path(text.strip()).suffix.lower() in picture_suffixes()


def parse_text(text: str, name: str = "the matrix") -> Array:
    """float64 [C, *size], from text in the grammar above."""
    if not text.strip():
        raise DataError(f'{name} is empty: write numbers, such as "1 2 3; 3 4 5; 1 0 2"')
    channels = _one_line(text, name).replace("−", "-").split("|")
    where = [f"channel {c} of {name}" if len(channels) > 1 else name for c in range(1, len(channels) + 1)]
    return _stacked([_volume(part, called) for part, called in zip(channels, where, strict=True)], "channel", name)


def read_npy(path: Path) -> Array:
    """The array in a .npy file, float64 of its own shape; nothing is unpickled, and no memory is taken for a lie."""
    try:
        stored = np.load(_existing(path), mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        reason = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
        raise DataError(f"{printable(path)} is no .npy array ({reason}): save it again with numpy.save") from error
    if not isinstance(stored, np.ndarray) or stored.dtype.kind not in "biuf":
        kind = getattr(stored, "dtype", type(stored).__name__)
        raise DataError(f"{printable(path)} holds {kind} in place of real numbers: convert it with .astype(float)")
    if stored.size > MAX_ENTRIES:
        raise DataError(
            f"{printable(path)} holds {stored.size} numbers, over the {MAX_ENTRIES} allowed: cut a part out"
        )
    values = np.array(stored, dtype=np.float64)
    if not values.size:
        raise DataError(f"{printable(path)} is empty, its shape is {values.shape}: give an array with entries")
    if not np.isfinite(values).all():
        place = tuple(int(i) for i in np.argwhere(~np.isfinite(values))[0])
        raise DataError(f"{printable(path)} holds {values[place]} at {place}: only finite numbers are explained")
    return values


def read_picture(path: str | Path, channels: int | None = 1, most: int | None = None) -> Pixels:
    """A picture at its own size, by the path that training and prediction use.

    Args:
        path: of the picture.
        channels: 1 (grey), 3 (RGB), or None for what the picture has.
        most: a picture with more pixels is scaled down to about so many.

    Returns:
        uint8 [channels, height, width].
    """
    header = read_header(path)
    wanted = (1 if header.grey else 3) if channels is None else channels
    height, width = header.size
    if most is not None and height * width > most:
        scale = (most / (height * width)) ** 0.5
        height, width = max(1, round(height * scale)), max(1, round(width * scale))
    pixels: Pixels = Preprocessing(wanted, (height, width), "stretch").decode(path).numpy()
    return pixels


def numbers(text: str, name: str) -> list[float]:
    """The numbers of one row, such as a bias for each channel."""
    if not text.strip():
        raise DataError(f"{name} is empty: write numbers, such as 1,0.5")
    return _row(text.replace("−", "-"), name)


def sizes(text: str | None, name: str) -> int | tuple[int, ...] | None:
    """One whole number, or one for each axis: 2, or 2,1."""
    if text is None:
        return None
    parts = [part.strip() for part in text.replace("x", ",").split(",")]
    if not all(re.fullmatch(r"[+-]?\d{1,15}", part, re.ASCII) for part in parts):
        raise DataError(f"{name} {text} is no size: write a whole number, or one for each axis like 2,1")
    return int(parts[0]) if len(parts) == 1 else tuple(map(int, parts))


def padding(text: str, ndim: int = 1, name: str = "--padding") -> int | str | tuple[int | str | tuple[int, int], ...]:
    """A padding as the library takes it, from 1 | 1,2 | same | 1:2 (before:after) | 1:2,0 (an entry for each axis)."""
    parts = [_side(part.strip(), text, name) for part in text.replace("−", "-").split(",")]
    if len(parts) > 1:
        return tuple(parts)
    return (parts[0],) * ndim if isinstance(parts[0], tuple) else parts[0]


def position(text: str, shape: Sequence[int], name: str = "--at") -> tuple[int, ...]:
    """A place in an output of this shape, (channel, *place): written in full, or without the channel if that is 0."""
    place = sizes(text, name)
    found = (place,) if isinstance(place, int) else tuple(place or ())
    full = (0, *found) if len(found) == len(shape) - 1 else found
    if len(full) != len(shape) or not all(0 <= i < n for i, n in zip(full, shape, strict=True)):
        last = ",".join(str(n - 1) for n in shape)
        raise DataError(f"{name} {text} is outside the output: its places (channel, then each axis) end at {last}")
    return full


def region(text: str, size: Sequence[int], name: str = "--region") -> tuple[slice, slice]:
    """Rows and columns of a picture, from 10:20,30:45 (the second of a pair not counted)."""
    match = re.fullmatch(r"\s*(\d{1,15}):(\d{1,15})\s*,\s*(\d{1,15}):(\d{1,15})\s*", text, re.ASCII)
    if match is None:
        raise DataError(f"{name} {text} is no region: write rows and columns like 10:20,30:45")
    top, bottom, left, right = map(int, match.groups())
    if not (top < bottom <= size[0] and left < right <= size[1]):
        raise DataError(f"{name} {text} is not inside the picture: it has {size[0]} rows and {size[1]} columns")
    return slice(top, bottom), slice(left, right)


def _side(part: str, text: str, name: str) -> int | str | tuple[int, int]:
    if re.fullmatch(r"[+-]?\d{1,15}", part, re.ASCII):
        return int(part)
    if re.fullmatch(r"[+-]?\d{1,15}:[+-]?\d{1,15}", part, re.ASCII):
        before, after = part.split(":")
        return int(before), int(after)
    if re.fullmatch(r"[a-z_]+", part):
        return part  # the window says which names there are
    raise DataError(f"{name} {text} is no padding: write 1, 1,2 (by axis), 1:2 (before:after), or a name like same")


def _read_table(path: Path) -> Array:
    _existing(path)
    if path.stat().st_size > _MAX_BYTES:
        raise DataError(f"{printable(path)} has over {_MAX_BYTES // 2**20} MiB of text: cut a part out")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"{printable(path)} is not text in UTF-8: save it as such") from None
    return parse_text(text, printable(path))


def _one_line(text: str, name: str) -> str:
    """Lines become rows, empty lines part planes; within a line of several, a semicolon is a comma (as in some CSV)."""
    lines = text.strip().splitlines()
    if len(lines) < 2:
        return text
    if any(";" in line and "," in line for line in lines):
        raise DataError(f"{name} has both ; and , in a line: write decimal points and one separator")
    joined = re.sub(r"\n(\s*\n)+", ";;", "\n".join(line.replace(";", ",") for line in lines))
    return re.sub(r"\s*\|\s*", "|", joined).replace("\n", ";")


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise DataError(f"there is no file {printable(path)}: check the path")
    return path


def _channels_first(values: Array, name: str) -> Array:
    if values.ndim not in (1, 2, 3, 4):
        raise DataError(
            f"{printable(name)} has the shape {values.shape}: give [length], [height, width] or [channels, *size] "
            "with at most three spatial axes"
        )
    return values if values.ndim > 2 else values[None]


def _volume(text: str, name: str) -> Array:
    """[*size] with as many axes as the text has kinds of separators."""
    planes = text.split(";;")
    if len(planes) == 1:
        rows = _matrix(text, name)
        return rows if ";" in text else rows[0]
    return _stacked([_matrix(part, f"plane {p} of {name}") for p, part in enumerate(planes, 1)], "plane", name)


def _matrix(text: str, name: str) -> Array:
    lines = text.split(";")
    if len(lines) > 1 and not lines[-1].strip():
        lines.pop()
    rows = [_row(line, f"row {r} of {name}" if len(lines) > 1 else name) for r, line in enumerate(lines, 1)]
    counts = Counter(map(len, rows))
    usual = counts.most_common(1)[0][0]
    odd = [number for number, row in enumerate(rows, 1) if len(row) != usual]
    if odd:
        others = f"{', '.join(map(str, odd[1:6]))}{' …' if len(odd) > 6 else ''}"
        also = f" (row{'s' if odd[2:] else ''} {others} {'differ' if odd[2:] else 'differs'}, too)" if odd[1:] else ""
        raise DataError(
            f"row {odd[0]} of {name} holds {len(rows[odd[0] - 1])} numbers where {usual} were expected, as in the "
            f"other rows{also}: make all rows equally long"
        )
    return np.array(rows, dtype=np.float64)


def _row(text: str, name: str) -> list[float]:
    if not _words(text):
        raise DataError(f"{name} is empty: write numbers between the separators")
    missing = _MISSING.search(text)
    if missing:
        number = len(_words(text[: missing.start() + 1])) + 1
        raise DataError(f"entry {number} of {name} is missing: write a number between the commas")
    return [_number(word, f"entry {number} of {name}") for number, word in enumerate(_words(text), 1)]


def _words(text: str) -> list[str]:
    return text.replace(",", " ").split()


def _number(word: str, name: str) -> float:
    if not _ENTRY.fullmatch(word):
        if word.lower().lstrip("+-") in ("nan", "inf", "infinity"):
            raise DataError(f"{name} is {word}: only finite numbers are explained")
        raise DataError(f"{name} is {printable(word[:20])!r}, which is no number: write it like 3, -0.5, 1e-3 or 1/9")
    try:
        value = float(Fraction(word)) if "/" in word and "." not in word else _quotient(word)
    except (ZeroDivisionError, OverflowError, ValueError):
        value = np.inf
    if not np.isfinite(value):
        raise DataError(f"{name} is {word}, which is not finite: write a number below 1.8e308")
    return value


def _quotient(word: str) -> float:
    over, _, under = word.partition("/")
    return float(over) / float(under or 1)


def _stacked(parts: list[Array], kind: str, name: str) -> Array:
    for number, part in enumerate(parts, 1):
        if part.shape != parts[0].shape:
            raise DataError(
                f"{kind} {number} of {name} has the size {_size(part)} and {kind} 1 has {_size(parts[0])}: "
                f"all must be of one size"
            )
    return np.stack(parts)


def _size(values: Array) -> str:
    return "×".join(map(str, values.shape))
