"""The folder that the lab may train on: which data sets are in it, by name.

A name is looked up among those that were found and never becomes a path of itself: nothing outside the folder is
opened, whatever a request says.
"""

from __future__ import annotations

import os
from pathlib import Path

from svertka.errors import DataError
from svertka.vision.datasets import DIGITS
from svertka.vision.folders import split_folders
from svertka.vision.idx import find_idx_files
from svertka.vision.pictures import picture_suffixes

_MOST = 200


class DataFolder:
    """Data sets by name: the embedded digits, the folder itself and the folders in it, as far as they are some.

    Args:
        folder: None for the digits alone.

    Raises:
        DataError: if the folder holds no data set.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.root = None if folder is None else folder.resolve()
        if self.root is None:
            return
        if not self.root.is_dir():
            raise DataError(f"{folder} is no folder: give --data a folder of pictures, or one with several of them")
        if len(self.sets()) == 1:
            raise DataError(
                f"{folder} holds nothing to train on: give --data a folder with a folder of pictures for each class,"
                " one of IDX files, or one that holds such folders"
            )

    def sets(self) -> dict[str, str]:
        """What there is now: name → what `svertka train` calls it."""
        found = {DIGITS: DIGITS}
        if self.root is None:
            return found
        inside = [path for path in _folders(self.root)[:_MOST] if path.resolve().is_relative_to(self.root)]
        for path in [self.root] if _is_data(self.root) else filter(_is_data, inside):
            found[path.name if path.name not in ("", DIGITS) else f"{path.name}/"] = str(path)
        return found


def _is_data(folder: Path) -> bool:
    """Whether it holds IDX files, a train folder, or at least two folders with pictures right inside."""
    try:
        if find_idx_files(folder) or split_folders(folder)[0]:
            return True
        return sum(map(_has_pictures, _folders(folder))) >= 2
    except (DataError, OSError):
        return False


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _has_pictures(folder: Path) -> bool:
    suffixes = picture_suffixes()
    with os.scandir(folder) as entries:
        return any(entry.name[entry.name.rfind(".") :].lower() in suffixes for entry in entries)
