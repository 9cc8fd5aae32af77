"""From what the user calls DATA to pictures with labels: the embedded digits, class folders, or IDX files."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
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
_WHOLE = "all"  # the one split of a folder that has none
_EMBEDDED = Path(__file__).parent / "data"
_HEADERS = 500  # pictures whose headers decide the default size and channels
_MEASURED = 2000  # pictures that give the mean and std; fewer if they are so large that to decode them would take long
_MEASURED_PIXELS = 60_000_000
_MEASURED_AT_LEAST = 64
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
        return preprocessing.decode(self.path(index))

    def path(self, index: int) -> Path:
        """The file of one picture, if it is not in memory."""
        return Path(self.root, self.files[index])

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
    measured: Callable[[], Preprocessing] | None = None,
    measure: bool = True,
) -> Dataset:
    """The data set called `data`: "digits", a folder of class folders or of train/, val/, test/ with such, or of IDX.

    Without a validation split, the share `validation` of each class is cut from training, drawn by `seed`; 0: none.
    `size` (height, width) and `channels` (1 or 3), if None, follow the pictures; mean and std are measured on a sample
    of at most 2000. What the user should know of all this is in `notes`. Pictures that can't be read are left to
    `Batches` to report, or raise PictureError if `strict`. Raises DataError if `data` or a part of it is wrong.

    `measured` gives the preprocessing if somebody else has measured: then no picture is looked at here. Without
    `measure` the headers of a sample decide size and channels, and mean and std stay as they are in `Preprocessing`.
    """
    if not 0 <= validation < 1:
        raise DataError(f"the validation share {validation} is not possible: give a number from 0 to below 1")
    if seed < 0:
        raise DataError(f"the seed {seed} is negative: give 0 or a positive whole number")
    source = _find(data)
    _check_classes(data, source)
    train, held_out, notes = source.splits["train"], source.splits.get("validation"), source.notes
    if held_out is None and validation > 0:
        train, held_out = _cut(train, source, validation, seed)
    if measured:
        return Dataset(source.classes, train, held_out, source.splits.get("test"), measured(), Augmentation(), notes)
    draw = np.random.default_rng(seed)
    headers = _headers(train, draw, strict)
    size = size or _default_size(headers, notes)
    channels = channels or (1 if all(header.grey for header in headers) else 3)
    average = sum(math.prod(header.size) for header in headers) // len(headers)
    sample = draw.permutation(len(train))[: max(_MEASURED_AT_LEAST, min(_MEASURED, _MEASURED_PIXELS // average))]
    preprocessing = Preprocessing(channels, size, fit)
    if measure:
        preprocessing = _measured(train, sample.tolist(), preprocessing, strict, notes)
    augmentation = _default_augmentation(source.classes, train, preprocessing, notes)
    return Dataset(source.classes, train, held_out, source.splits.get("test"), preprocessing, augmentation, notes)


def load_for(
    data: str, classes: Sequence[str], preprocessing: Preprocessing, *, split: str = "test", strict: bool = False
) -> Split:
    """The pictures on which a model is to be evaluated, labelled by its order of `classes`; the result has `notes`.

    `split` is "train", "validation" or "test"; a folder without splits is taken whole. `preprocessing` is the model's.
    Raises DataError if the split is missing, or holds a class that the model does not know, or, if `strict`, lacks one.
    """
    source, name = _find(data, only=split), printable(data)
    if split not in source.splits and _WHOLE not in source.splits:
        raise DataError(f"{name} has no {split} split: choose one of {', '.join(source.splits)}")
    found = source.splits[split if split in source.splits else _WHOLE]
    places = {label: place for place, label in enumerate(classes)}
    labels = torch.tensor([places.get(label, -1) for label in source.classes])[found.labels]
    unknown = [source.classes[label] for label in sorted(set(found.labels[labels < 0].tolist()))]
    if unknown:
        raise DataError(f"{name} has the class {_few(unknown)}, unknown to the model: it knows {_few(classes, 20)}")
    notes = list(source.notes)
    if split not in source.splits:
        notes.append(f"{name} has no {split} split, so all of its {len(found)} pictures are used")
    if found.pixels is not None and found.pixels.shape[2:] != preprocessing.size:
        ours, its = found.pixels.shape[2:], preprocessing.size
        notes.append(f"the pictures of {ours[0]} × {ours[1]} pixels are scaled to the model's {its[0]} × {its[1]}")
    absent = [classes[place] for place in _absent(labels, len(classes))]
    if absent and strict:
        raise DataError(f"{name} has no pictures of class {_few(absent)}: add some or leave out --strict")
    if absent:
        notes.append(f"{name} has no pictures of class {_few(absent)}")
    return replace(found, labels=labels, notes=tuple(notes))


# ---- what DATA is


def _find(data: str, only: str | None = None) -> _Source:
    """All splits in DATA, or the `only` one that is to be evaluated; a folder without splits is then `_WHOLE`."""
    if data == DIGITS:
        return _digits()
    root, name = Path(data), printable(data)
    if not root.is_dir():
        what = "is not a folder" if root.exists() else "does not exist"
        raise DataError(
            f"{name} {what}: give 'digits', a folder with a folder of pictures per class, or one of IDX files"
        )
    try:
        idx_files = find_idx_files(root)
    except OSError as error:
        raise DataError(f"the folder {name} cannot be read ({error.strerror}): check its permissions") from error
    if idx_files:
        return _idx_source(root, idx_files, only)
    folders, others = split_folders(root)
    if not folders:
        return _folder_source(root, {"train" if only is None else _WHOLE: root})
    if only is not None:
        if only not in folders:
            raise DataError(f"{name} has no {only} folder: add one, or choose one of {', '.join(folders)}")
        folders = {only: folders[only]}
    source = _folder_source(root, folders)
    if others:
        source.notes.append(f"beside train the folders {_few(list(map(printable, others)))} in {name} were ignored")
    return source


def _digits() -> _Source:
    """The 1797 digits of scikit-learn, 8 × 8; every fifth picture of each class is for test, whatever the seed."""
    images_path, labels_path = _EMBEDDED / "digits-images-idx3-ubyte.gz", _EMBEDDED / "digits-labels-idx1-ubyte.gz"
    whole = _memory_split(read_idx_split({"images": images_path, "labels": labels_path}), 0, "digits")
    place_in_class = torch.empty_like(whole.labels)
    for label in range(10):
        members = whole.labels == label
        place_in_class[members] = torch.arange(int(members.sum()))
    test = place_in_class % 5 == 4
    splits = {"train": whole.subset((~test).nonzero()[:, 0]), "test": whole.subset(test.nonzero()[:, 0])}
    notes = []
    if Path(DIGITS).is_dir():
        notes.append("'digits' is the embedded data set; for the folder of that name write ./digits")
    return _Source(tuple(map(str, range(10))), splits, notes)


def _idx_source(root: Path, files: dict[str, dict[str, Path]], only: str | None) -> _Source:
    if (only or "train") not in files:
        raise DataError(
            f"{printable(root)} has IDX files of {', '.join(files)} but none of {only or 'train'}: "
            "add them (train-images-idx3-ubyte, …) or give another folder"
        )
    wanted = [only] if only else sorted(files, key=("train", "validation", "test").index)
    reads = {split: read_idx_split(files[split]) for split in wanted}
    classes, first = idx_classes(root, reads[wanted[0]], complete=only is None)
    splits: dict[str, Split] = {}
    for split, read in reads.items():
        name = read.images_path.name.partition("-idx")[0].partition(".idx")[0]
        splits[split] = _memory_split(read, first, printable(name))
        outside = ((splits[split].labels < 0) | (splits[split].labels >= len(classes))).nonzero()[:, 0].tolist()
        if outside:
            raise DataError(
                f"{printable(read.labels_path)} has the label {read.labels[outside[0]]} at #{outside[0]}, but the "
                f"{len(classes)} classes have the labels {first} to {first + len(classes) - 1}: correct the file"
            )
    return _Source(classes, splits)


def _memory_split(read: IdxSplit, first: int, name: str) -> Split:
    labels = torch.from_numpy(read.labels.astype(np.int64)) - first
    return Split(labels, [f"{name} #{i}" for i in range(len(labels))], torch.from_numpy(read.pixels)[:, None])


def _folder_source(root: Path, folders: dict[str, Path]) -> _Source:
    scans = {split: scan_class_folders(folder, root) for split, folder in folders.items()}
    classes = list(scans.get("train", next(iter(scans.values()))).files)
    for split, scan in scans.items():
        unknown = [printable(name) for name in scan.files if name not in classes]
        if unknown:
            raise DataError(
                f"{printable(folders[split])} has the class {_few(unknown)}, unknown to {printable(folders['train'])}: "
                "add training pictures of it or take it out"
            )
    ignored = sum((scan.ignored for scan in scans.values()), Counter[str]())
    notes = [f"{count} {what} in {printable(root)} were ignored" for what, count in sorted(ignored.items())]
    splits = {split: _file_split(root, scan, classes) for split, scan in scans.items()}
    return _Source(tuple(map(printable, classes)), splits, notes)


def _file_split(root: Path, scan: ClassFolders, classes: list[str]) -> Split:
    files = [file for name in classes for file in scan.files.get(name, [])]
    counts = torch.tensor([len(scan.files.get(name, [])) for name in classes])
    names = files if all(map(str.isprintable, files)) else [printable(file) for file in files]
    return Split(torch.arange(len(classes)).repeat_interleave(counts), names, files=files, root=root)


def _check_classes(data: str, source: _Source) -> None:
    if len(source.classes) < 2:
        raise DataError(f"{printable(data)} has one class only ({source.classes[0]}): add pictures of another")
    for split, pictures in source.splits.items():
        absent = [source.classes[label] for label in _absent(pictures.labels, len(source.classes))]
        if absent:
            raise DataError(f"the {split} split of {printable(data)} has no pictures of class {_few(absent)}: add some")


def _absent(labels: torch.Tensor, classes: int) -> list[int]:
    counts = torch.bincount(labels, minlength=classes)
    return [label for label, count in enumerate(counts.tolist()) if count == 0]


def _few(names: Sequence[str], limit: int = 5) -> str:
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
        source.notes.append(f"class {_few(alone)} has a single picture, so none is left for validation")
    held_out = torch.zeros(len(train), dtype=torch.bool)
    held_out[chosen] = True
    if not chosen:
        return train, None
    return train.subset((~held_out).nonzero()[:, 0]), train.subset(held_out.nonzero()[:, 0])


def _headers(train: Split, draw: np.random.Generator, strict: bool) -> list[Header]:
    """The headers of a sample of the pictures; unreadable ones are left out, or raise PictureError if `strict`."""
    if train.pixels is not None:
        return [Header((train.pixels.shape[2], train.pixels.shape[3]), grey=True)]
    headers: list[Header] = []
    for index in draw.permutation(len(train))[:_HEADERS].tolist():
        try:
            headers.append(read_header(train.path(index)))
        except PictureError as error:
            if strict:
                raise
            last = error
    if not headers:
        raise PictureError(f"none of the training pictures can be read, for one: {last}")
    return headers


def _default_size(headers: list[Header], notes: list[str]) -> tuple[int, int]:
    sizes = {header.size for header in headers}
    if len(sizes) == 1 and max(headers[0].size) <= _LARGEST_COMMON_SIDE:
        return headers[0].size
    smallest, largest = (f"{s[0]} × {s[1]}" for s in (min(sizes, key=math.prod), max(sizes, key=math.prod)))
    what = f"have {smallest} pixels" if len(sizes) == 1 else f"vary from {smallest} to {largest} pixels"
    middle = median(side for header in headers for side in header.size)
    side = min(max(8, 8 * round(middle / 8)), _LARGEST_DEFAULT_SIDE)
    notes.append(f"the pictures {what} (height × width) and are scaled to {side} × {side}: --size chooses another size")
    return side, side


def _measured(
    train: Split, sample: list[int], preprocessing: Preprocessing, strict: bool, notes: list[str]
) -> Preprocessing:
    """With the mean and std of a sample of the training pictures."""
    total, squares, pixels = np.zeros(preprocessing.channels), np.zeros(preprocessing.channels), 0
    for index in sample:
        try:
            picture = train.decode(index, preprocessing).to(torch.int64).flatten(1)
        except PictureError:
            if strict:
                raise
            continue
        total += picture.sum(1).numpy()
        squares += (picture * picture).sum(1).numpy()
        pixels += picture.shape[1]
    if not pixels:
        raise PictureError("none of the training pictures looked at can be read: check the data folder")
    mean = total / pixels / 255
    std = np.sqrt(np.maximum(squares / pixels / 255**2 - mean**2, 0))
    if std.min() < 1 / 255:
        notes.append("the training pictures hardly differ from one even colour: check that they are the right ones")
        std = np.maximum(std, 1 / 255)
    return replace(preprocessing, mean=tuple(mean.round(4).tolist()), std=tuple(std.round(4).tolist()))


def _default_augmentation(
    classes: tuple[str, ...], train: Split, preprocessing: Preprocessing, notes: list[str]
) -> Augmentation:
    """A shift of a fourteenth of the side; colour pictures are flipped too, unless the class names speak against it.

    If that is less than a pixel, a crop of a tenth: on digits of 8x8 a whole pixel costs accuracy, and this gains some.
    """
    shift = min(preprocessing.size) // 14
    moved = Augmentation(shift=shift, crop=0.0 if shift else 0.1)
    if train.pixels is not None or preprocessing.channels == 1:
        return moved
    sided = [name for name in classes if len(name) == 1 or name.isdecimal() or {"left", "right"} & set(_words(name))]
    if sided:
        notes.append(
            f"pictures are not flipped, since in a mirror the class {_few(sided)} may be another: --flip does it"
        )
    return replace(moved, flip=not sided)


def _words(name: str) -> list[str]:
    return "".join(c.lower() if c.isalpha() else " " for c in name).split()
