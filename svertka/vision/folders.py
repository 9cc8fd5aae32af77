"""Folders of class folders: finding the picture files, and saying what is wrong with the layout."""

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from svertka.errors import DataError
from svertka.vision.pictures import picture_suffixes, printable

_SPLITS = {"train": "train", "val": "validation", "valid": "validation", "validation": "validation", "test": "test"}


@dataclass(frozen=True)
class ClassFolders:
    """What one folder of class folders holds.

    files     class name → its picture files, in order, as paths below the data folder
    ignored   what else was there, and how many: "hidden files", …
    """

    files: dict[str, list[str]]
    ignored: Counter[str]


def split_folders(root: Path) -> tuple[dict[str, Path], list[str]]:
    """({"train" | "validation" | "test": folder}, other folders) if train/ has class folders, else ({}, []).

    Raises DataError if two folders are the same split.
    """
    found: dict[str, Path] = {}
    others: list[str] = []
    for folder in _subfolders(root):
        split = _SPLITS.get(folder.name.lower())
        if split is None:
            others.append(folder.name)
        elif split in found:
            raise DataError(f"{printable(folder)} and {found[split].name} are both the {split} split: keep one of them")
        else:
            found[split] = folder
    return (found, others) if "train" in found and _subfolders(found["train"]) else ({}, [])


def scan_class_folders(folder: Path, root: Path) -> ClassFolders:
    """All pictures in the class folders of `folder`, at any depth, known by their names' endings; no file is opened.

    The paths are below `root`, the data folder. Links are followed, and a folder is visited once for each class, so
    that circles end. Raises DataError if there are no class folders, or if one holds no picture.
    """
    ignored: Counter[str] = Counter()
    outside = _files_in(folder, ignored, deep=False)
    class_folders = _subfolders(folder)
    if not class_folders:
        raise DataError(
            f"{printable(folder)} holds {len(outside)} pictures but no class folders: give each class its own folder"
        )
    ignored["pictures outside class folders"] += len(outside)
    files: dict[str, list[str]] = {}
    for class_folder in class_folders:
        names = _files_in(class_folder, ignored, deep=True)
        if not names:
            raise DataError(
                f"the class folder {printable(class_folder)} holds no pictures (.png, .jpg and so on): "
                "put some into it or delete it"
            )
        below = class_folder.relative_to(root)
        files[class_folder.name] = [f"{below}{os.sep}{name}" for name in names]
    return ClassFolders(files, +ignored)


def _subfolders(root: Path) -> list[Path]:
    try:
        return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError as error:
        raise _unreadable(str(root), error) from error


def _files_in(folder: Path, ignored: Counter[str], *, deep: bool) -> list[str]:
    """The picture files in a folder and, if `deep`, in the folders below it: paths below it, sorted."""
    suffixes, found = picture_suffixes(), []
    waiting, visited = [str(folder)], set()
    while waiting:
        current = waiting.pop()
        try:
            status = Path(current).stat()
            if (status.st_dev, status.st_ino) in visited:
                continue
            visited.add((status.st_dev, status.st_ino))
            with os.scandir(current) as entries:
                for entry in entries:
                    if entry.is_dir():
                        if deep and not entry.name.startswith("."):
                            waiting.append(entry.path)
                    elif entry.name.startswith("."):
                        ignored["hidden files"] += 1
                    elif entry.name[entry.name.rfind(".") :].lower() in suffixes:
                        found.append(entry.path)
                    else:
                        ignored["files without a picture's ending"] += 1
        except OSError as error:
            raise _unreadable(current, error) from error
    return sorted(path[len(str(folder)) + 1 :] for path in found)


def _unreadable(folder: str, error: OSError) -> DataError:
    return DataError(f"the folder {printable(folder)} cannot be read ({error.strerror}): check its permissions")
