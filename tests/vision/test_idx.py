"""IDX files: what a right one gives, and that each way of being wrong is named."""

import gzip
import struct

import numpy as np
import pytest

from svertka.errors import DataError
from svertka.vision.idx import IdxSplit, find_idx_files, idx_classes, read_idx, read_idx_split


def idx_bytes(array, *, kind=8, dimensions=None, sizes=None):
    sizes = array.shape if sizes is None else sizes
    header = bytes([0, 0, kind, len(sizes) if dimensions is None else dimensions])
    return header + struct.pack(f">{len(sizes)}I", *sizes) + array.tobytes()


PICTURES = np.arange(5 * 4 * 3, dtype=np.uint8).reshape(5, 4, 3)
LABELS = np.uint8([0, 1, 2, 1, 0])


def test_plain_and_gzipped_files_by_content_not_by_name(tmp_path):
    for name, data in {
        "a": idx_bytes(PICTURES),
        "b.gz": gzip.compress(idx_bytes(PICTURES)),
        "c.gz": idx_bytes(PICTURES),
    }.items():
        (tmp_path / name).write_bytes(data)
        result = read_idx(tmp_path / name, 3)
        assert result.dtype == np.uint8
        assert (result == PICTURES).all()
        assert result.flags.writeable


def test_large_files_are_read_in_parts(tmp_path):
    many = np.random.default_rng(0).integers(0, 256, (300, 100, 100), np.uint8)
    (tmp_path / "a.gz").write_bytes(gzip.compress(idx_bytes(many), 1))
    assert (read_idx(tmp_path / "a.gz", 3) == many).all()


HUGE = (2**32 - 1, 2**32 - 1, 2**32 - 1)
ZIPPED = gzip.compress(idx_bytes(PICTURES), mtime=0)  # the same bytes, and names of tests, each time


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "is not an IDX file"),
        (b"\0\0", "is not an IDX file"),
        (b"PK\3\4 a zip file", "is not an IDX file"),
        (idx_bytes(PICTURES, kind=0x0D), "IDX type 0x0d"),
        (idx_bytes(LABELS), "has 1 dimensions where pictures have 3"),
        (idx_bytes(PICTURES, dimensions=255), "has 255 dimensions"),
        (idx_bytes(PICTURES)[:10], "ends within its header"),
        (idx_bytes(PICTURES)[:-1], "= 60 values by its header but holds only 59"),
        (idx_bytes(PICTURES) + b"\0", "but holds more"),
        (idx_bytes(PICTURES, sizes=HUGE), "is too short for the 4294967295"),
        (ZIPPED[:-20], "damaged gzip"),
        (ZIPPED[:30] + b"\xff\xff\xff" + ZIPPED[33:], "damaged gzip"),
        (ZIPPED[:-8] + bytes(8), "damaged gzip"),
        (ZIPPED + b"rubbish", "damaged gzip"),
        (ZIPPED[:5], "damaged gzip"),
    ],
)
def test_a_wrong_file_is_named_with_the_reason(tmp_path, data, reason):
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(data)
    with pytest.raises(DataError, match=reason) as caught:
        read_idx(path, 3)
    assert str(caught.value).startswith(str(path))


def test_a_missing_file_or_a_folder_is_named(tmp_path):
    for path in (tmp_path / "nothing", tmp_path):
        with pytest.raises(DataError, match="cannot be read"):
            read_idx(path, 1)


def write_set(folder, prefix="", ending="", splits=("train", "t10k"), dash="-"):
    for split in splits:
        for what, array, rank in (("images", PICTURES, 3), ("labels", LABELS, 1)):
            data = gzip.compress(idx_bytes(array)) if ending else idx_bytes(array)
            (folder / f"{prefix}{split}-{what}{dash}idx{rank}-ubyte{ending}").write_bytes(data)


@pytest.mark.parametrize(
    ("options", "splits"),
    [
        ({}, {"train", "test"}),
        ({"ending": ".gz"}, {"train", "test"}),
        ({"dash": "."}, {"train", "test"}),
        ({"prefix": "emnist-letters-", "splits": ("train", "test")}, {"train", "test"}),
        ({"splits": ("train", "valid", "test")}, {"train", "validation", "test"}),
    ],
)
def test_the_usual_names_are_found(tmp_path, options, splits):
    write_set(tmp_path, **options)
    (tmp_path / "readme.txt").write_text("hello")
    files = find_idx_files(tmp_path)
    assert set(files) == splits
    for found in files.values():
        assert (read_idx_split(found).labels == LABELS).all()


def test_a_plain_file_goes_before_a_gzipped_one(tmp_path):
    write_set(tmp_path)
    write_set(tmp_path, ending=".gz")
    assert all(path.suffix != ".gz" for files in find_idx_files(tmp_path).values() for path in files.values())


def test_several_sets_in_one_folder_are_an_error(tmp_path):
    write_set(tmp_path, "emnist-letters-")
    write_set(tmp_path, "emnist-digits-")
    with pytest.raises(DataError, match="'emnist-digits-', 'emnist-letters-'"):
        find_idx_files(tmp_path)


def test_other_files_are_no_idx_files(tmp_path):
    (tmp_path / "train-images.png").write_bytes(b"")
    assert find_idx_files(tmp_path) == {}


def test_pictures_and_labels_must_belong_together(tmp_path):
    write_set(tmp_path, splits=("train",))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx_bytes(LABELS[:4]))
    files = find_idx_files(tmp_path)["train"]
    with pytest.raises(DataError, match="5 pictures but train-labels-idx1-ubyte 4 labels"):
        read_idx_split(files)
    for what, other in (("images", "labels"), ("labels", "images")):
        with pytest.raises(DataError, match=f"no file of {what} beside it"):
            read_idx_split({other: files[other]})


def test_no_pictures_are_an_error(tmp_path):
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx_bytes(PICTURES[:0]))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx_bytes(LABELS[:0]))
    with pytest.raises(DataError, match="holds no pixels"):
        read_idx_split(find_idx_files(tmp_path)["train"])


def split_with(labels, folder):
    labels = np.uint8(labels)
    return IdxSplit(np.zeros((len(labels), 2, 2), np.uint8), labels, folder / "images", folder / "labels")


def test_labels_name_themselves_from_0_or_1(tmp_path):
    assert idx_classes(tmp_path, split_with([2, 0, 1, 1], tmp_path), complete=True) == (("0", "1", "2"), 0)
    assert idx_classes(tmp_path, split_with([2, 3, 1], tmp_path), complete=True) == (("1", "2", "3"), 1)


def test_a_gap_in_the_labels_is_an_error(tmp_path):
    with pytest.raises(DataError, match="up to 200 but none for class 3"):
        idx_classes(tmp_path, split_with([0, 1, 2, 200], tmp_path), complete=True)
    assert len(idx_classes(tmp_path, split_with([0, 4], tmp_path), complete=False)[0]) == 5


def test_class_names_from_a_list(tmp_path):
    (tmp_path / "classes.txt").write_text("мяч\n\n ankle boot \n", "utf-8")
    assert idx_classes(tmp_path, split_with([0, 1], tmp_path), complete=True) == (("мяч", "ankle boot"), 0)
    with pytest.raises(DataError, match="none for class ankle boot"):
        idx_classes(tmp_path, split_with([0, 0], tmp_path), complete=True)


@pytest.mark.parametrize("content", [b"", b"\n \n", b"a\nb\na\n", b"\xff\xfe\n"])
def test_a_bad_list_of_names_is_an_error(tmp_path, content):
    (tmp_path / "classes.txt").write_bytes(content)
    with pytest.raises(DataError, match=r"classes\.txt .*: give one class a line"):
        idx_classes(tmp_path, split_with([0, 1], tmp_path), complete=True)
