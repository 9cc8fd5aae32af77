"""Files that are whole or not there: written beside, flushed to disk, then put in place in one move."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from svertka.errors import DataError

_PART = ".part"


@contextmanager
def written_beside(path: Path) -> Iterator[Path]:
    """Give a path beside `path` to write to; when the block ends well, that file takes the place of `path`.

    A reader, or a kill at any moment, sees the old file or the new one, never a part.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}{_PART}")
    try:
        yield beside
        beside.chmod(0o666 & ~_umask())  # some writers make files that only their owner may read
        _flush(beside)
        beside.replace(path)
        _flush(path.parent)
    finally:
        beside.unlink(missing_ok=True)


def write_json(path: Path, value: object) -> None:
    """Write `value` as indented JSON."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write `text` in UTF-8."""
    with written_beside(path) as beside:
        beside.write_text(text, encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; DataError if the file holds anything else."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON ({error}): restore it or start a new run") from error
    if not isinstance(value, dict):
        raise DataError(f"{path} holds no JSON object: restore it or start a new run")
    return value


def remove_parts(folder: Path) -> None:
    """Remove what a killed process left half-written in `folder`."""
    for part in folder.glob(f".*{_PART}"):
        part.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
