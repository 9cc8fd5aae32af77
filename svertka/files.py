"""Files that are whole or not there: written beside, flushed to disk, then put in place in one move."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from svertka.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

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


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file; DataError if it can't be, as on a full disk."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    with written_beside(path) as beside:
        try:
            save_file(dict(tensors), beside, metadata=dict(metadata))
        except SafetensorError as error:  # which hides the system's error
            reason = " ".join(str(error).split())
            raise DataError(f"{path} can't be written ({reason}): free space, and go on with --resume") from error


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
