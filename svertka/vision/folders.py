"""Folders of class folders: finding the picture files, and saying what is wrong with the layout."""

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from svertka.errors import DataError
from svertka.vision.pictures import picture_suffixes, printable

SPLIT_FOLDERS = {
    "train": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}


@dataclass(frozen=True)
class ClassFolders:
    """The class folders in one folder: class names, and the files of each, relative to `root`, in order."""

    root: Path
    files: dict[str, list[str]]
    ignored: Counter[str]  # "hidden" and "without a picture's ending" → how many files


def split_folders(root: Path) -> dict[str, Path]:
    """{"train" | "validation" | "test": folder} if `root` holds train/ with class folders in it, else {}.

    Raises DataError if two folders are the same split.
    """
    found: dict[str, Path] = {}
    for folder in _subfolders(root):
        split = SPLIT_FOLDERS.get(folder.name.lower())
        if split is None:
            continue
        if split in found:
            raise DataError(f"{root} holds both {found[split].name}/ and {folder.name}/: keep one {split} folder.")
        found[split] = folder
    return found if "train" in found and _subfolders(found["train"]) else {}


def scan_class_folders(root: Path) -> ClassFolders:
    """All pictures in the class folders of `root`, at any depth, by their file name endings; no file is opened.

    Links are followed, and each folder is visited once for a class, so that circles end. Raises DataError if there are no
    class folders, or if one holds no picture.
    """
    folders = _subfolders(root)
    suffixes = picture_suffixes()
    if not folders:
        pictures = sum(Path(name).suffix.lower() in suffixes for name in os.listdir(root))
        raise DataError(
            f"{printable(root)} holds {pictures} pictures but no class folders: expected one folder of pictures per class, "
            "or train/ and test/ with such folders, or IDX files."
        )
    files: dict[str, list[str]] = {}
    ignored: Counter[str] = Counter()
    for folder in folders:
        files[folder.name] = _picture_files(root, folder, suffixes, ignored)
        if not files[folder.name]:
            raise DataError(
                f"the class folder {printable(folder)} holds no pictures: put some into it or delete it "
                "(a picture file ends in .png, .jpg and so on)."
            )
    return ClassFolders(root, files, ignored)


def _subfolders(root: Path) -> list[Path]:
    try:
        return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError as error:
        raise DataError(
            f"the folder {printable(root)} cannot be read ({error.strerror}): check its permissions."
        ) from error


def _picture_files(root: Path, folder: Path, suffixes: frozenset[str], ignored: Counter[str]) -> list[str]:
    found: list[str] = []
    waiting, visited = [str(folder)], set()
    while waiting:
        current = waiting.pop()
        try:
            status = os.stat(current)
            if (status.st_dev, status.st_ino) in visited:
                continue
            visited.add((status.st_dev, status.st_ino))
            with os.scandir(current) as entries:
                for entry in entries:
                    if entry.is_dir():
                        ignored_folder = entry.name.startswith(".")
                        waiting += [] if ignored_folder else [entry.path]
                        ignored["hidden"] += ignored_folder
                    elif entry.name.startswith("."):
                        ignored["hidden"] += 1
                    elif os.path.splitext(entry.name)[1].lower() in suffixes:
                        found.append(entry.path)
                    else:
                        ignored["without a picture's ending"] += 1
        except OSError as error:
            raise DataError(
                f"the folder {printable(current)} cannot be read ({error.strerror}): check its permissions."
            ) from error
    prefix = len(str(root)) + 1
    return sorted(path[prefix:] for path in found)
