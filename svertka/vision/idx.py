"""The IDX format of MNIST and its kin: arrays of bytes behind a short big-endian header, often gzipped.

Layout (http://yann.lecun.com/exdb/mnist): two zero bytes, a type byte (8: unsigned byte), the number of dimensions,
each dimension in 32 bits, then the values.
"""

import gzip
import io
import math
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from svertka.errors import DataError
from svertka.vision.pictures import printable

_FILE_NAME = re.compile(
    r"(?P<prefix>.*?)(?P<split>train|t10k|test|val|valid|validation)-(?P<what>images|labels)[-.]idx[13]-ubyte(\.gz)?",
    re.IGNORECASE,
)
_SPLITS = {"train": "train", "t10k": "test", "test": "test"}  # the rest is "validation"
_GZIP_LIMIT = 1100  # gzip shrinks nothing by more than 1032


@dataclass(frozen=True)
class IdxSplit:
    """Pictures uint8 [n, h, w] and their labels uint8 [n], and the files that they are from."""

    pixels: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    images_path: Path
    labels_path: Path


def read_idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """The array in an IDX file of unsigned bytes, plain or gzipped (by its content, whatever its name).

    Raises DataError if the file is not that, has other than `dimensions`, or is not as long as its header says.
    """
    name = printable(path)
    try:
        with _decompressed(path) as file:
            shape = _read_header(file, path, dimensions)
            values = np.empty(math.prod(shape), np.uint8)
            filled = _fill(file, values)
            if filled < values.size or file.read(1):
                found = f"only {filled}" if filled < values.size else "more"
                raise DataError(
                    f"{name} should hold {_times(shape)} = {values.size} values by its header but holds {found}: "
                    "copy or download it again"
                )
            return values.reshape(shape)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{name} is damaged gzip data ({error}): copy or download it again") from error
    except OSError as error:
        raise DataError(f"{name} cannot be read ({error.strerror or error}): check the file") from error


def find_idx_files(folder: Path) -> dict[str, dict[str, Path]]:
    """{"train" | "validation" | "test": {"images" | "labels": path}} of the IDX files in a folder.

    A plain file goes before a gzipped one. Raises DataError if the folder holds several sets, told apart by what stands
    before "train-images…".
    """
    found: dict[str, dict[str, dict[str, Path]]] = {}
    for path in sorted(folder.iterdir(), reverse=True):  # "x.gz" comes before "x", which then replaces it
        match = _FILE_NAME.fullmatch(path.name)
        if match and path.is_file():
            split = _SPLITS.get(match["split"].lower(), "validation")
            found.setdefault(match["prefix"], {}).setdefault(split, {})[match["what"].lower()] = path
    if len(found) > 1:
        names = ", ".join(f"'{printable(prefix)}'" for prefix in sorted(found))
        raise DataError(f"{printable(folder)} holds several IDX sets ({names}): give each a folder of its own")
    return next(iter(found.values()), {})


def read_idx_split(files: dict[str, Path]) -> IdxSplit:
    """The pictures and labels of one split. Raises DataError if a file is missing or the two disagree."""
    for what, other in (("images", "labels"), ("labels", "images")):
        if what not in files:
            raise DataError(f"{printable(files[other])} has no file of {what} beside it: put it there")
    images_path, labels_path = files["images"], files["labels"]
    pixels, labels = read_idx(images_path, 3), read_idx(labels_path, 1)
    if len(pixels) != len(labels):
        raise DataError(
            f"{printable(images_path)} holds {len(pixels)} pictures but {labels_path.name} {len(labels)} labels: "
            "copy or download both again"
        )
    if pixels.size == 0:
        raise DataError(f"{printable(images_path)} holds no pixels ({_times(pixels.shape)}): give another file")
    return IdxSplit(pixels, labels, images_path, labels_path)


def idx_classes(folder: Path, split: IdxSplit, *, complete: bool) -> tuple[tuple[str, ...], int]:
    """The class names, and the label of the first: the lines of classes.txt, else the labels themselves from 0 or 1 on.

    Raises DataError if classes.txt is empty or repeats a name, or if `complete` and `split` lacks a class.
    """
    listed, present = folder / "classes.txt", set(split.labels.tolist())
    if listed.is_file():
        first, classes = 0, _class_names(listed)
    else:
        first = 0 if 0 in present else 1
        classes = tuple(str(label) for label in range(first, max(present) + 1))
    absent = [name for label, name in enumerate(classes, first) if label not in present]
    if absent and complete:
        raise DataError(
            f"{printable(split.labels_path)} has labels up to {max(present)} but none for class {absent[0]}: "
            f"check the file and {printable(listed)}, which may name the classes"
        )
    return classes, first


def _class_names(listed: Path) -> tuple[str, ...]:
    try:
        names = [line.strip() for line in listed.read_text("utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{printable(listed)} cannot be read ({error}): give one class a line, in UTF-8") from error
    if not names or len(set(names)) != len(names):
        raise DataError(f"{printable(listed)} is empty or repeats a name: give one class a line")
    return tuple(names)


@contextmanager
def _decompressed(path: Path) -> Iterator[io.BufferedIOBase]:
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        if zipped:
            with gzip.GzipFile(fileobj=file) as content:
                yield content
        else:
            yield file


def _read_header(file: io.BufferedIOBase, path: Path, dimensions: int) -> tuple[int, ...]:
    name, start = printable(path), file.read(4)
    if len(start) < 4 or start[:2] != b"\0\0":
        raise DataError(f"{name} is not an IDX file (it starts with '{start.hex(' ')}'): give one like MNIST's")
    if start[2] != 8:
        raise DataError(f"{name} holds values of the IDX type {start[2]:#04x}: give one of unsigned bytes (0x08)")
    if start[3] != dimensions:
        wanted = "pictures have 3 (count, height, width)" if dimensions == 3 else "labels have 1"
        raise DataError(f"{name} has {start[3]} dimensions where {wanted}: give the right file")
    sizes = file.read(4 * dimensions)
    if len(sizes) < 4 * dimensions:
        raise DataError(f"{name} ends within its header: copy or download it again")
    shape = tuple(np.frombuffer(sizes, ">u4").tolist())
    if math.prod(shape) > _GZIP_LIMIT * path.stat().st_size:  # before memory is taken for them
        raise DataError(f"{name} is too short for the {_times(shape)} values of its header: copy or download it again")
    return shape


def _fill(file: io.BufferedIOBase, values: NDArray[np.uint8]) -> int:
    """Reads until the array is full or the file ends; returns the number of bytes read."""
    view, filled = values.data, 0
    while filled < len(view):
        count = file.readinto(view[filled : filled + (1 << 20)])
        if not count:
            break
        filled += count
    return filled


def _times(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))
