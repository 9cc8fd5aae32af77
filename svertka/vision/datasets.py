"""From what the user calls DATA to pictures with labels: the embedded digits, class folders, or IDX files."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median

import numpy as np
import torch

from svertka.errors import DataError
from svertka.vision.augment import Augmentation
from svertka.vision.folders import ClassFolders, scan_class_folders, split_folders
from svertka.vision.idx import IdxSplit, find_idx_files, idx_classes, read_idx_split
from svertka.vision.pictures import Header, PictureError, Preprocessing, printable, read_header

DIGITS = "digits"
_EMBEDDED = Path(__file__).parent / "data"
_HEADERS = 500  # pictures whose headers decide the default size and channels
_MEASURED = 2000  # pictures that give the mean and std, fewer if they are large:
_MEASURED_PIXELS = 100_000_000
_LARGEST_COMMON_SIDE = 512  # above it, even equal pictures are scaled down by default
_LARGEST_DEFAULT_SIDE = 224


@dataclass(frozen=True, eq=False)
class Split:
    """The pictures of training, validation or test.

    labels   int64 [n], indices into the classes
    names    what to call each picture: its file below the data folder, or "test-images #17" counted from 0
    pixels   uint8 [n, 1, h, w] if the pictures are in memory, else None
    files    else: their paths below `root`
    notes    sentences about this split that the user must see
    """

    labels: torch.Tensor
    names: Sequence[str]
    pixels: torch.Tensor | None = None
    files: Sequence[str] = ()
    root: Path = Path()
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def decode(self, index: int, preprocessing: Preprocessing) -> torch.Tensor:
        """One picture as uint8 [C, H, W]. Raises PictureError if it can't be used."""
        if self.pixels is not None:
            return preprocessing.from_pixels(self.pixels[index, 0].numpy())
        return preprocessing.decode(os.path.join(self.root, self.files[index]))

    def subset(self, indices: torch.Tensor) -> "Split":
        """The pictures at `indices`, in that order."""
        chosen = indices.tolist()
        return replace(
            self,
            labels=self.labels[indices],
            names=[self.names[i] for i in chosen],
            pixels=None if self.pixels is None else self.pixels[indices],
            files=[self.files[i] for i in chosen] if self.files else (),
        )


@dataclass
class Dataset:
    """All that training needs to know of its data; `preprocessing` and `augmentation` are what suits it."""

    classes: tuple[str, ...]
    train: Split
    validation: Split | None
    test: Split | None
    preprocessing: Preprocessing
    augmentation: Augmentation
    notes: list[str] = field(default_factory=list)


@dataclass
class _Source:
    """What was found in DATA, before sizes and the cut are decided. `splits` always has "train", but for `load_for`."""

    classes: tuple[str, ...]
    splits: dict[str, Split]
    notes: list[str] = field(default_factory=list)


def load(
    data: str,
    *,
    size: tuple[int, int] | None = None,
    channels: int | None = None,
    fit: str = "crop",
    validation: float = 0.1,
    seed: int = 0,
    strict: bool = False,
) -> Dataset:
    """The data set called `data`: "digits", a folder of class folders (or of train/, val/, test/ with such), or of IDX files.

    Without a validation split, the share `validation` of each class is cut from training, drawn by `seed`; 0: none.
    `size` and `channels` left out follow the pictures; a choice that changes them is told in `notes`. mean and std are measured on
    up to 2000 training pictures. Unreadable pictures met on the way are left to `Batches` to report, or raise PictureError if
    `strict`. Raises DataError if `data` is none of these or a part of it is wrong.
    """
    if not 0 <= validation < 1:
        raise DataError(f"the validation share {validation} is not possible: give a number from 0 to below 1.")
    if seed < 0:
        raise DataError(f"the seed {seed} is negative: give 0 or a positive whole number.")
    source = _find(data)
    _check_classes(data, source)
    train, held_out = source.splits["train"], source.splits.get("validation")
    if held_out is None and validation > 0:
        train, held_out = _cut(train, source, validation, seed)
    notes = source.notes
    draw = np.random.default_rng(seed)
    if size is None or channels is None:
        headers = list(_headers(train, draw, strict))
        size = size or _default_size(headers, notes)
        channels = channels or (1 if all(header.grey for header in headers) else 3)
    preprocessing = _measured(train, Preprocessing(channels, size, fit), draw, strict, notes)
    augmentation = _default_augmentation(source.classes, train, preprocessing, notes)
    return Dataset(source.classes, train, held_out, source.splits.get("test"), preprocessing, augmentation, notes)


def load_for(
    data: str, classes: Sequence[str], preprocessing: Preprocessing, *, split: str = "test", strict: bool = False
) -> Split:
    """The pictures on which a model with these `classes` is to be evaluated, labelled by the model's order of classes.

    `split` is "train", "validation" or "test"; a folder without splits is taken whole, and a note in the result says so. Raises
    DataError if the split is missing or holds a class that the model does not know; with `strict`, also if a class has no picture.
    """
    source = _find(data, only=split)
    found = source.splits.get(split) or source.splits.get("all")
    if found is None:
        have = ", ".join(name for name in source.splits)
        raise DataError(f"{data} has no {split} split: choose one that it has ({have}).")
    unknown = [source.classes[i] for i in found.labels.unique().tolist() if source.classes[i] not in classes]
    if unknown:
        raise DataError(
            f"{data} has pictures of class {_few(unknown)}, which the model does not know: it knows {_few(list(classes), 20)}."
        )
    place = torch.tensor([list(classes).index(name) if name in classes else -1 for name in source.classes])
    notes = list(source.notes)
    if split not in source.splits:
        notes.append(f"{data} has no splits, so all of its {len(found)} pictures are used.")
    labels = place[found.labels]
    absent = [name for i, name in enumerate(classes) if not (labels == i).any()]
    if absent:
        sentence = f"{data} has no pictures of class {_few(absent)}"
        if strict:
            raise DataError(f"{sentence}: add some, or leave out --strict.")
        notes.append(f"{sentence}.")
    return replace(found, labels=labels, notes=tuple(notes))


# ---- what DATA is


def _find(data: str, only: str | None = None) -> _Source:
    """All splits in DATA, or for evaluation only the one named; class folders without splits are then "all", else "train"."""
    if data == DIGITS:
        notes = (
            ["the folder 'digits' was not used but the embedded digits: write ./digits for it."]
            if Path(data).is_dir()
            else []
        )
        return replace(_digits(), notes=notes)
    root = Path(data)
    if not root.is_dir():
        what = "is not a folder" if root.exists() else "does not exist"
        raise DataError(
            f"{printable(data)} {what}: give 'digits', a folder with a folder of pictures per class, or a folder of IDX files."
        )
    try:
        idx_files = find_idx_files(root)
    except OSError as error:
        raise DataError(
            f"the folder {printable(root)} cannot be read ({error.strerror}): check its permissions."
        ) from error
    if idx_files:
        return _idx_source(root, idx_files, only)
    folders = split_folders(root)
    if not folders:
        return _folder_source(root, {"train" if only is None else "all": root})
    if only is not None:
        folders = {name: folder for name, folder in folders.items() if name == only}
        if not folders:
            raise DataError(f"{printable(data)} has no {only} folder: add one, or choose another split.")
    return _folder_source(root, folders)


def _digits() -> _Source:
    """The 1797 digits of scikit-learn, 8 × 8; of each class every fifth picture is for test: 20 %, whatever the seed."""
    files = {what: _EMBEDDED / f"digits-{what}.gz" for what in ("images-idx3-ubyte", "labels-idx1-ubyte")}
    read = read_idx_split(_EMBEDDED, "digits", dict(zip(("images", "labels"), files.values(), strict=True)))
    labels = torch.from_numpy(read.labels.astype(np.int64))
    whole = Split(labels, [f"digits #{i}" for i in range(len(labels))], torch.from_numpy(read.pixels)[:, None])
    places = torch.empty(len(labels), dtype=torch.int64)
    for label in range(10):
        members = labels == label
        places[members] = torch.arange(int(members.sum()))
    test = places % 5 == 4
    splits = {"train": whole.subset((~test).nonzero()[:, 0]), "test": whole.subset(test.nonzero()[:, 0])}
    return _Source(tuple(map(str, range(10))), splits)


def _idx_source(root: Path, files: dict[str, dict[str, Path]], only: str | None) -> _Source:
    wanted = [only] if only in files else sorted(files, key=["train", "validation", "test"].index)
    if "train" not in files and only is None:
        raise DataError(
            f"{root} holds no IDX file train-images-idx3-ubyte: put the training pictures and labels into it."
        )
    reads = {split: read_idx_split(root, split, files[split]) for split in wanted}
    classes, first = idx_classes(root, reads.get("train") or next(iter(reads.values())), complete=only is None)
    return _Source(classes, {split: _idx_split(read, first, classes) for split, read in reads.items()})


def _idx_split(read: IdxSplit, first: int, classes: tuple[str, ...]) -> Split:
    labels = torch.from_numpy(read.labels.astype(np.int64)) - first
    outside = (labels < 0) | (labels >= len(classes))
    if outside.any():
        index = int(outside.nonzero()[0, 0])
        raise DataError(
            f"{read.labels_path} has the label {int(labels[index]) + first} at #{index}, but the labels go from {first} to "
            f"{first + len(classes) - 1}: correct or download it again."
        )
    name = read.images_path.name.removesuffix(".gz").removesuffix("-idx3-ubyte").removesuffix(".idx3-ubyte")
    return Split(labels, [f"{name} #{i}" for i in range(len(labels))], torch.from_numpy(read.pixels)[:, None])


def _folder_source(root: Path, folders: dict[str, Path]) -> _Source:
    scans = {split: scan_class_folders(folder) for split, folder in folders.items()}
    classes = tuple(scans["train"].files if "train" in scans else next(iter(scans.values())).files)
    for split, scan in scans.items():
        unknown = [name for name in scan.files if name not in classes]
        if unknown:
            raise DataError(
                f"{printable(scan.root)} has the class {_few(unknown)}, which {printable(folders['train'])} has not: "
                f"add training pictures of it, or take it out of {split}."
            )
    splits = {split: _folder_split(root, scan, classes) for split, scan in scans.items()}
    ignored = sum((scan.ignored for scan in scans.values()), start=type(next(iter(scans.values())).ignored)())
    notes = [
        f"{count} files {what} were ignored in {printable(root)}." for what, count in sorted(ignored.items()) if count
    ]
    return _Source(tuple(map(printable, classes)), splits, notes)


def _folder_split(root: Path, scan: ClassFolders, classes: tuple[str, ...]) -> Split:
    below = os.path.relpath(scan.root, root)
    files = [os.path.normpath(os.path.join(below, file)) for name in classes for file in scan.files.get(name, [])]
    counts = torch.tensor([len(scan.files.get(name, [])) for name in classes])
    names = files if all(map(str.isprintable, files)) else [printable(file) for file in files]
    return Split(torch.arange(len(classes)).repeat_interleave(counts), names, files=files, root=root)


def _check_classes(data: str, source: _Source) -> None:
    if len(source.classes) < 2:
        raise DataError(
            f"{printable(data)} has one class only ({source.classes[0]}): add a folder of pictures of another."
        )
    for name, split in source.splits.items():
        counts = torch.bincount(split.labels, minlength=len(source.classes))
        missing = [source.classes[i] for i in (counts == 0).nonzero()[:, 0].tolist()]
        if missing:
            raise DataError(
                f"the {name} split of {printable(data)} has no pictures of class {_few(missing)}: add some."
            )


def _few(names: list[str], limit: int = 5) -> str:
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


# ---- the cut, sizes, mean and std


def _cut(train: Split, source: _Source, share: float, seed: int) -> tuple[Split, Split | None]:
    """(train, validation): the share of each class, at least one picture of a class that has two."""
    draw = np.random.default_rng(seed)
    chosen: list[int] = []
    alone: list[str] = []
    for label, name in enumerate(source.classes):
        members = (train.labels == label).nonzero()[:, 0].numpy()
        count = min(len(members) - 1, max(1, round(share * len(members))))
        chosen += draw.permutation(members)[:count].tolist()
        alone += [name] if count == 0 else []
    if alone:
        source.notes.append(f"class {_few(alone)} has a single picture, so none is left for validation.")
    held_out = torch.zeros(len(train), dtype=torch.bool)
    held_out[chosen] = True
    if not chosen:
        return train, None
    return train.subset((~held_out).nonzero()[:, 0]), train.subset(held_out.nonzero()[:, 0])


def _headers(train: Split, draw: np.random.Generator, strict: bool) -> Iterator[Header]:
    """The headers of a sample of the pictures; unreadable ones are left out, or raise if `strict`."""
    if train.pixels is not None:
        yield Header((train.pixels.shape[2], train.pixels.shape[3]), grey=True)
        return
    readable = False
    for index in draw.permutation(len(train))[:_HEADERS].tolist():
        try:
            yield read_header(os.path.join(train.root, train.files[index]))
            readable = True
        except PictureError as error:
            if strict:
                raise
            last = error
    if not readable:
        raise DataError(f"none of the pictures looked at can be read; the last: {last}")


def _default_size(headers: list[Header], notes: list[str]) -> tuple[int, int]:
    sizes = {header.size for header in headers}
    if len(sizes) == 1 and max(headers[0].size) <= _LARGEST_COMMON_SIDE:
        return headers[0].size
    middle = median(side for header in headers for side in header.size)
    side = min(max(8, 8 * round(middle / 8)), _LARGEST_DEFAULT_SIDE)
    smallest, largest = min(sizes, key=lambda s: s[0] * s[1]), max(sizes, key=lambda s: s[0] * s[1])
    if len(sizes) == 1:
        what = f"the pictures have {smallest[0]} × {smallest[1]} pixels (height × width)"
    else:
        what = f"the pictures vary from {smallest[0]} × {smallest[1]} to {largest[0]} × {largest[1]} pixels (height × width)"
    notes.append(f"{what} and are scaled to {side} × {side}: choose another size with --size.")
    return side, side


def _measured(
    train: Split, preprocessing: Preprocessing, draw: np.random.Generator, strict: bool, notes: list[str]
) -> Preprocessing:
    """With the mean and std of a sample of the training pictures."""
    total, squares, pixels, spent = np.zeros(preprocessing.channels), np.zeros(preprocessing.channels), 0, 0
    for index in draw.permutation(len(train))[:_MEASURED].tolist():
        if spent > _MEASURED_PIXELS:
            break
        try:
            picture = train.decode(index, preprocessing).to(torch.int64).flatten(1)
        except PictureError:
            if strict:
                raise
            continue
        total += picture.sum(1).numpy()
        squares += (picture * picture).sum(1).numpy()
        pixels += picture.shape[1]
        spent += picture.numel()
    if not pixels:
        raise DataError("none of the training pictures looked at can be read: check the data folder.")
    mean = total / pixels / 255
    std = np.sqrt(np.maximum(squares / pixels / 255**2 - mean**2, 0))
    if std.min() < 1 / 255:
        notes.append("the training pictures hardly differ from one even colour: check that they are the right ones.")
        std = np.maximum(std, 1 / 255)
    return replace(preprocessing, mean=tuple(mean.round(4).tolist()), std=tuple(std.round(4).tolist()))


def _default_augmentation(
    classes: tuple[str, ...], train: Split, preprocessing: Preprocessing, notes: list[str]
) -> Augmentation:
    """A shift of about a fourteenth of the side; colour photographs are flipped too, unless the class names speak against it."""
    shift = max(1, min(preprocessing.size) // 14)
    if train.pixels is not None or preprocessing.channels == 1:
        return Augmentation(shift=shift)
    sided = [name for name in classes if len(name) == 1 or name.isdecimal() or {"left", "right"} & set(_words(name))]
    if sided:
        notes.append(
            f"pictures are not flipped, because class {_few(sided)} may not look the same in a mirror (--flip does it)."
        )
    return Augmentation(shift=shift, flip=not sided)


def _words(name: str) -> list[str]:
    return "".join(c.lower() if c.isalpha() else " " for c in name).split()
