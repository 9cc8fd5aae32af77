"""The IDX format of MNIST and its kin: arrays of bytes behind a short big-endian header, often gzipped.

Layout (http://yann.lecun.com/exdb/mnist): two zero bytes, a type byte (8: unsigned byte), the number of dimensions, then each
dimension as 32 bits, then the values.
"""

import gzip
import math
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from svertka.errors import DataError

_FILE_NAME = re.compile(
    r"(?P<prefix>.*?)(?P<split>train|t10k|test|val|valid|validation)-(?P<what>images|labels)[-.]idx[13]-ubyte(\.gz)?",
    re.IGNORECASE,
)
_SPLITS = {"train": "train", "t10k": "test", "test": "test"}  # the rest is "validation"
_GZIP_LIMIT = 1100  # gzip shrinks nothing further than 1032 times


@dataclass(frozen=True)
class IdxSplit:
    """Pictures uint8 [n, h, w] and their labels uint8 [n], from the two files named."""

    pixels: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    images_path: Path
    labels_path: Path


def read_idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """The array in an IDX file of unsigned bytes, plain or gzipped (by its content, whatever its name).

    Raises DataError if the file is not that, has another number of dimensions, or is shorter or longer than its header says.
    """
    try:
        with _decompressed(path) as file:
            shape = _read_header(file, path, dimensions)
            values = np.empty(math.prod(shape), np.uint8)
            filled = _fill(file, values)
            if filled < values.size or file.read(1):
                found = f"only {filled}" if filled < values.size else "more"
                raise DataError(
                    f"{path} should hold {values.size} values ({' × '.join(map(str, shape))}) by its header but holds {found}: "
                    "copy or download it again."
                )
            return values.reshape(shape)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path} is damaged gzip data ({error}): copy or download it again.") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error}): check the file.") from error


def find_idx_files(folder: Path) -> dict[str, dict[str, Path]]:
    """{"train" | "validation" | "test": {"images" | "labels": path}} of the IDX files in a folder; a plain file goes before a gzipped one.

    Raises DataError if the folder holds several sets, told apart by what stands before "train-images…".
    """
    found: dict[str, dict[str, dict[str, Path]]] = {}
    for path in sorted(folder.iterdir(), reverse=True):  # "x.gz" comes before "x", which then replaces it
        match = _FILE_NAME.fullmatch(path.name)
        if match and path.is_file():
            split = _SPLITS.get(match["split"].lower(), "validation")
            found.setdefault(match["prefix"], {}).setdefault(split, {})[match["what"].lower()] = path
    if len(found) > 1:
        names = ", ".join(f"'{prefix}'" for prefix in sorted(found))
        raise DataError(f"{folder} holds several IDX sets ({names}): put the files of one into a folder of its own.")
    return next(iter(found.values()), {})


def read_idx_split(folder: Path, split: str, files: dict[str, Path]) -> IdxSplit:
    """The pictures and labels of one split. Raises DataError if a file is missing or the two disagree."""
    for what in ("images", "labels"):
        if what not in files:
            other = next(iter(files.values())).name
            raise DataError(
                f"{folder} holds {other} but no {what} for the {split} split: put the missing IDX file beside it."
            )
    pixels, labels = read_idx(files["images"], 3), read_idx(files["labels"], 1)
    if len(pixels) != len(labels):
        raise DataError(
            f"{files['images']} holds {len(pixels)} pictures but {files['labels'].name} {len(labels)} labels: "
            "the two must belong together, so copy or download them again."
        )
    if pixels.size == 0:
        raise DataError(
            f"{files['images']} holds no pictures ({' × '.join(map(str, pixels.shape))}): give another file."
        )
    return IdxSplit(pixels, labels, files["images"], files["labels"])


def idx_classes(folder: Path, train: IdxSplit, *, complete: bool = True) -> tuple[tuple[str, ...], int]:
    """The class names and the label of the first: the lines of classes.txt, else the labels themselves, from 0 or 1 on.

    Raises DataError if classes.txt is empty or repeats a name, if a label has no name, or, when `complete`, no picture.
    """
    listed = folder / "classes.txt"
    present = set(np.unique(train.labels).tolist())
    if listed.is_file():
        classes = tuple(_class_names(listed))
        first = 0
    else:
        first = 0 if 0 in present else 1
        classes = tuple(str(label) for label in range(first, max(max(present) + 1, first + 1)))
    for label in present:
        if not first <= label < first + len(classes):
            raise DataError(
                f"{train.labels_path} holds the label {label} but {listed} names {len(classes)} classes (0 to {len(classes) - 1}): "
                "correct one of the two."
            )
    missing = [name for label, name in enumerate(classes, first) if label not in present]
    if missing and complete:
        raise DataError(
            f"{train.labels_path} goes up to the label {max(present)} but has no picture of class {', '.join(missing[:5])}"
            f"{' …' if len(missing) > 5 else ''}: it is damaged, or classes.txt beside it should list the names."
        )
    return classes, first


def _class_names(listed: Path) -> list[str]:
    try:
        names = [line.strip() for line in listed.read_text("utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{listed} cannot be read ({error}): give one class name a line, in UTF-8.") from error
    if not names or len(set(names)) != len(names):
        raise DataError(f"{listed} is empty or repeats a name: give one class name a line.")
    return names


@contextmanager
def _decompressed(path: Path) -> Iterator[BinaryIO]:
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        if zipped:
            with gzip.open(file) as content:
                yield content  # type: ignore[misc]
        else:
            yield file


def _read_header(file: BinaryIO, path: Path, dimensions: int) -> tuple[int, ...]:
    start = file.read(4)
    if len(start) < 4 or start[:2] != b"\0\0":
        raise DataError(
            f"{path} is not an IDX file (it starts with {start.hex(' ') or 'nothing'}): give one as MNIST has."
        )
    if start[2] != 8:
        raise DataError(
            f"{path} holds values of IDX type 0x{start[2]:02x}: only unsigned bytes (0x08) are pictures or labels."
        )
    if start[3] != dimensions:
        kind = "pictures: count × height × width" if dimensions == 3 else "labels: count"
        raise DataError(
            f"{path} has {start[3]} dimension(s) where {dimensions} are needed ({kind}): give the right file."
        )
    sizes = file.read(4 * dimensions)
    if len(sizes) < 4 * dimensions:
        raise DataError(f"{path} ends within its header: copy or download it again.")
    shape = tuple(np.frombuffer(sizes, ">u4").tolist())
    if math.prod(shape) > _GZIP_LIMIT * path.stat().st_size:
        raise DataError(
            f"{path} is too short for the {' × '.join(map(str, shape))} values that its header promises: copy or download it again."
        )
    return shape


def _fill(file: BinaryIO, values: NDArray[np.uint8]) -> int:
    """Reads until the array is full or the file ends; returns the number of bytes read."""
    view, filled = memoryview(values), 0
    while filled < len(view):
        count = file.readinto(view[filled : filled + (1 << 20)])  # type: ignore[attr-defined]
        if not count:
            break
        filled += count
    return filled
