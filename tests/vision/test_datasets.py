"""Data sets: what is found in each kind of DATA, the choices made for it, and the errors that name what is wrong."""

import gzip
import os
import struct
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from svertka.errors import DataError
from svertka.vision.augment import Augmentation
from svertka.vision.datasets import load, load_for
from svertka.vision.pictures import PictureError, Preprocessing


def picture(path, size=(8, 8), mode="L", value=None):
    """A random picture of (height, width), or an even one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(zlib.crc32(path.name.encode("utf-8", "surrogateescape")))
    values = rng.integers(0, 256, (*size, 3), np.uint8) if value is None else np.full((*size, 3), value, np.uint8)
    Image.fromarray(values).convert(mode).save(path)


def class_folders(root, counts, **options):
    for name, count in counts.items():
        for i in range(count):
            picture(root / name / f"{i:03}.png", **options)
    return str(root)


def write_idx(folder, split, labels, size=(6, 5)):
    labels = np.uint8(labels)
    pixels = np.random.default_rng(len(labels)).integers(0, 256, (len(labels), *size), np.uint8)
    for what, array in (("images", pixels), ("labels", labels)):
        header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
        path = folder / f"{split}-{what}-idx{array.ndim}-ubyte.gz"
        path.write_bytes(gzip.compress(header + array.tobytes()))
    return pixels


def counts(split):
    return torch.bincount(split.labels).tolist()


# ---- digits


def test_the_embedded_digits_are_those_of_scikit_learn():
    datasets = pytest.importorskip("sklearn.datasets")
    theirs = datasets.load_digits()
    ours = load("digits", validation=0)
    order = [int(name.removeprefix("digits #")) for split in (ours.train, ours.test) for name in split.names]
    assert sorted(order) == list(range(1797))
    pixels = torch.cat([ours.train.pixels, ours.test.pixels])[:, 0].numpy()
    labels = torch.cat([ours.train.labels, ours.test.labels]).numpy()
    assert (pixels == np.rint(theirs.images[order] * 255 / 16)).all()
    assert (labels == theirs.target[order]).all()


def test_digits_are_split_the_same_way_whatever_the_seed():
    first, second = load("digits", seed=0), load("digits", seed=1)
    assert first.classes == tuple("0123456789")
    assert first.test.names == second.test.names
    assert len(first.test) == 355
    assert all(34 <= count <= 37 for count in counts(first.test))
    assert first.validation.names != second.validation.names
    assert all(12 <= count <= 15 for count in counts(first.validation))
    names = [*first.train.names, *first.validation.names, *first.test.names]
    assert len(set(names)) == len(names) == 1797
    assert first.preprocessing.size == (8, 8)
    assert first.preprocessing.channels == 1
    assert first.augmentation == Augmentation(crop=0.1)
    assert first.notes == []


def test_a_folder_called_digits_is_not_taken_in_silence(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    class_folders(tmp_path / "digits", {"a": 4, "b": 4})
    assert any("./digits" in note for note in load("digits").notes)
    assert load("./digits").classes == ("a", "b")
    assert load("./digits").train.names[0].startswith(f"a{os.sep}")
    monkeypatch.chdir(tmp_path / "digits")
    assert load(".").classes == ("a", "b")
    assert load(".").train.decode(0, load(".").preprocessing).shape == (1, 8, 8)


# ---- class folders


def test_class_folders_become_classes_and_a_stratified_cut(tmp_path):
    data = class_folders(tmp_path, {"cat": 30, "dog": 10, "elk": 20})
    found = load(data, validation=0.2)
    assert found.classes == ("cat", "dog", "elk")
    assert counts(found.train) == [24, 8, 16]
    assert counts(found.validation) == [6, 2, 4]
    assert found.test is None
    assert found.notes == []
    assert len(set(found.train.names) | set(found.validation.names)) == 60
    for split in (found.train, found.validation):
        for name, label, file in zip(split.names, split.labels.tolist(), split.files, strict=True):
            assert name == file
            assert Path(name).parts[0] == found.classes[label]


def test_the_cut_follows_the_seed_and_the_share(tmp_path):
    data = class_folders(tmp_path, {"a": 10, "b": 10})
    assert load(data, seed=3).validation.names == load(data, seed=3).validation.names
    assert load(data, seed=3).validation.names != load(data, seed=4).validation.names
    assert load(data, validation=0).validation is None
    assert counts(load(data, validation=0).train) == [10, 10]
    assert counts(load(data, validation=0.001).validation) == [1, 1]
    assert counts(load(data, validation=0.999).train) == [1, 1]


def test_a_class_of_one_picture_keeps_it_for_training(tmp_path):
    found = load(class_folders(tmp_path, {"a": 10, "b": 1}))
    assert counts(found.train) == [9, 1]
    assert found.validation.labels.tolist() == [0]
    assert any("class b has a single picture" in note for note in found.notes)


@pytest.mark.parametrize("name", ["val", "valid", "validation", "Val"])
def test_split_folders_are_used(tmp_path, name):
    for split, count in (("train", 6), (name, 3), ("test", 2)):
        class_folders(tmp_path / split, {"a": count, "b": count})
    found = load(str(tmp_path))
    assert [counts(split) for split in (found.train, found.validation, found.test)] == [[6, 6], [3, 3], [2, 2]]
    assert found.test.names[0] == str(Path("test/a/000.png"))
    assert found.test.decode(0, found.preprocessing).shape == (1, 8, 8)


def test_train_without_the_others(tmp_path):
    class_folders(tmp_path / "train", {"a": 10, "b": 10})
    (tmp_path / "extra").mkdir()
    found = load(str(tmp_path))
    assert counts(found.validation) == [1, 1]
    assert found.test is None
    assert any("extra" in note for note in found.notes)


def test_a_class_may_be_called_train(tmp_path):
    assert load(class_folders(tmp_path, {"car": 3, "train": 3, "test": 3})).classes == ("car", "test", "train")


def test_other_files_are_ignored_but_counted(tmp_path):
    data = class_folders(tmp_path, {"a": 4, "b": 4})
    for name in ("a/.DS_Store", "a/._000.png", "b/notes.txt", "b/Thumbs.db", "b/png", "readme.md"):
        (tmp_path / name).write_bytes(b"x")
    picture(tmp_path / "stray.png")
    class_folders(tmp_path / ".ipynb_checkpoints", {"c": 1})
    found = load(data, validation=0)
    assert counts(found.train) == [4, 4]
    assert [note.partition(" in ")[0] for note in found.notes] == [
        "4 files without a picture's ending",
        "2 hidden files",
        "1 pictures outside class folders",
    ]


def test_endings_in_capitals_and_folders_in_folders(tmp_path):
    data = class_folders(tmp_path, {"a": 3, "b": 3})
    picture(tmp_path / "a" / "deep" / "deeper" / "X.PNG")
    found = load(data, validation=0)
    assert counts(found.train) == [4, 3]
    assert str(Path("a/deep/deeper/X.PNG")) in found.train.names


def test_circles_of_links_end(tmp_path):
    data = class_folders(tmp_path, {"a": 3, "b": 3})
    (tmp_path / "a" / "self").symlink_to(tmp_path / "a")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    found = load(data, validation=0)
    assert counts(found.train)[1] == 3
    assert len(found.train) <= 9


def test_links_to_pictures_and_folders_are_followed(tmp_path):
    class_folders(tmp_path / "store", {"x": 3})
    data = class_folders(tmp_path / "data", {"a": 3, "b": 1})
    (tmp_path / "data" / "b" / "link.png").symlink_to(tmp_path / "store" / "x" / "000.png")
    (tmp_path / "data" / "c").symlink_to(tmp_path / "store" / "x")
    assert counts(load(data, validation=0).train) == [3, 2, 3]


def test_odd_names_stay_readable_and_are_shown_printable(tmp_path):
    data = class_folders(tmp_path, {"a": 2, "b": 2})
    odd = os.fsdecode(b"caf\xe9\n.png")
    picture(tmp_path / "a" / odd)
    found = load(data, validation=0)
    index = found.train.files.index(str(Path("a", odd)))
    assert found.train.names[index].isprintable()
    assert found.train.decode(index, found.preprocessing).shape == (1, 8, 8)


def test_errors_of_folders_name_the_culprit(tmp_path):
    def make(name, *parts):
        for part in parts:
            class_folders(tmp_path / name / part[0], part[1])
        return tmp_path / name

    empty = make("empty", (".", {"a": 2, "b": 2}))
    (empty / "hollow").mkdir()
    (empty / "hollow" / "note.txt").write_text("x")
    flat = make("flat", (".", {"a": 2})) / "a"
    cases = {
        tmp_path / "nothing": "nothing does not exist",
        flat / "000.png": "000.png is not a folder",
        flat: "holds 2 pictures but no class folders",
        empty: "class folder .*hollow holds no pictures",
        make("one", (".", {"only": 3})): "one class only \\(only\\)",
        make("gap", ("train", {"a": 2, "b": 2}), ("test", {"a": 2})): "the test split .* no pictures of class b",
        make("new", ("train", {"a": 2, "b": 2}), ("test", {"a": 1, "b": 1, "c": 1})): "has the class c, unknown to",
        make("two", ("train", {"a": 2, "b": 2}), ("val", {"a": 2}), ("valid", {"a": 2})): "both the validation split",
        make("bare", ("train", {"a": 2, "b": 2}), ("test", {})): "does not exist",
    }
    (tmp_path / "bare" / "test").mkdir()
    cases[tmp_path / "bare"] = "test holds 0 pictures but no class folders"
    for folder, reason in cases.items():
        with pytest.raises(DataError, match=reason) as caught:
            load(str(folder))
        assert str(tmp_path) in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "arguments", [{"validation": 1.0}, {"validation": -0.1}, {"seed": -1}, {"channels": 2}, {"fit": "x"}]
)
def test_impossible_arguments_are_named(arguments):
    with pytest.raises(DataError, match=": give"):
        load("digits", **arguments)


# ---- sizes, channels, mean and std


def test_a_common_size_is_used(tmp_path):
    found = load(class_folders(tmp_path, {"a": 3, "b": 3}, size=(10, 14)))
    assert found.preprocessing.size == (10, 14)
    assert found.notes == []


def test_sizes_that_vary_give_their_middle_and_a_note(tmp_path):
    data = class_folders(tmp_path, {"a": 3}, size=(30, 30))
    class_folders(tmp_path, {"b": 4}, size=(40, 50))
    found = load(data)
    assert found.preprocessing.size == (40, 40)
    (note,) = found.notes
    assert note.startswith(
        "the pictures vary from 30 × 30 to 40 × 50 pixels (height × width) and are scaled to 40 × 40"
    )
    asked = load(data, size=(20, 24))
    assert asked.preprocessing.size == (20, 24)
    assert asked.notes == []


def test_large_pictures_are_scaled_to_224_with_a_note(tmp_path):
    found = load(class_folders(tmp_path, {"a": 2, "b": 2}, size=(600, 700)))
    assert found.preprocessing.size == (224, 224)
    assert "have 600 × 700 pixels" in found.notes[0]


def test_tiny_pictures_that_vary_become_8(tmp_path):
    data = class_folders(tmp_path, {"a": 2}, size=(2, 3))
    class_folders(tmp_path, {"b": 2}, size=(1, 1))
    assert load(data).preprocessing.size == (8, 8)


def test_grey_stays_grey_and_one_colour_picture_is_enough_for_three_channels(tmp_path):
    data = class_folders(tmp_path, {"a": 3, "b": 3})
    assert load(data, validation=0).preprocessing.channels == 1
    picture(tmp_path / "b" / "colour.png", mode="RGB")
    assert load(data, validation=0).preprocessing.channels == 3
    assert load(data, validation=0, channels=1).preprocessing.channels == 1


def test_mean_and_std_are_those_of_the_pictures(tmp_path):
    data = class_folders(tmp_path, {"a": 5, "b": 5}, mode="RGB")
    found = load(data, validation=0)
    decoded = torch.stack([found.train.decode(i, found.preprocessing) for i in range(10)]).double() / 255
    torch.testing.assert_close(
        torch.tensor(found.preprocessing.mean).double(), decoded.mean((0, 2, 3)), rtol=0, atol=1e-4
    )
    expected = decoded.std((0, 2, 3), correction=0)
    torch.testing.assert_close(torch.tensor(found.preprocessing.std).double(), expected, rtol=0, atol=1e-4)
    assert load(data, validation=0).preprocessing == found.preprocessing


def test_even_pictures_do_not_divide_by_zero_and_are_told(tmp_path):
    found = load(class_folders(tmp_path, {"a": 3, "b": 3}, value=7))
    assert min(found.preprocessing.std) > 0
    assert any("one even colour" in note for note in found.notes)


def test_unreadable_pictures_do_not_stop_loading_unless_strict(tmp_path):
    data = class_folders(tmp_path, {"a": 3, "b": 3})
    (tmp_path / "a" / "broken.png").write_bytes(b"x")
    assert counts(load(data, validation=0).train) == [4, 3]
    with pytest.raises(PictureError, match=r"broken\.png"):
        load(data, validation=0, strict=True)


def test_only_unreadable_pictures_are_an_error(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.png").write_bytes(b"x")
    with pytest.raises(DataError, match=r"none of the training pictures can be read, for one: .*x\.png"):
        load(str(tmp_path))


# ---- augmentation


@pytest.mark.parametrize(
    ("classes", "mode", "size", "expected"),
    [
        (("cat", "dog"), "RGB", 32, Augmentation(shift=2, flip=True)),
        (("cat", "dog"), "RGB", 8, Augmentation(crop=0.1, flip=True)),
        (("cat", "dog"), "L", 32, Augmentation(shift=2)),
        (("3", "8"), "RGB", 32, Augmentation(shift=2)),
        (("12", "house"), "RGB", 32, Augmentation(shift=2)),
        (("turn_left", "turn_right"), "RGB", 32, Augmentation(shift=2)),
        (("leftover", "bright"), "RGB", 32, Augmentation(shift=2, flip=True)),
    ],
)
def test_the_default_augmentation_suits_the_data(tmp_path, classes, mode, size, expected):
    found = load(class_folders(tmp_path, dict.fromkeys(classes, 2), mode=mode, size=(size, size)))
    assert found.augmentation == expected
    assert any("not flipped" in note for note in found.notes) == (mode == "RGB" and not expected.flip)


# ---- IDX

FASHION = Path("/usr/share/datasets/fashion-mnist")


def test_an_idx_folder(tmp_path):
    pixels = write_idx(tmp_path, "train", [0, 1, 2] * 20)
    write_idx(tmp_path, "t10k", [2, 1, 0])
    found = load(str(tmp_path), validation=0)
    assert found.classes == ("0", "1", "2")
    assert torch.equal(found.train.pixels[:, 0], torch.from_numpy(pixels))
    assert found.train.labels.dtype == torch.int64
    assert found.test.labels.tolist() == [2, 1, 0]
    assert list(found.test.names) == ["t10k-images #0", "t10k-images #1", "t10k-images #2"]
    assert found.preprocessing.size == (6, 5)
    assert found.augmentation == Augmentation(crop=0.1)
    assert counts(load(str(tmp_path)).validation) == [2, 2, 2]


def test_a_larger_size_scales_idx_pictures_by_the_same_path(tmp_path):
    pixels = write_idx(tmp_path, "train", [0, 1] * 5)
    found = load(str(tmp_path), size=(12, 10), channels=3, validation=0)
    assert torch.equal(found.train.decode(4, found.preprocessing), found.preprocessing.from_pixels(pixels[4]))
    assert found.train.decode(4, found.preprocessing).shape == (3, 12, 10)


def test_idx_labels_are_checked_between_the_splits(tmp_path):
    write_idx(tmp_path, "train", [0, 1, 2])
    write_idx(tmp_path, "t10k", [0, 1, 2, 3])
    with pytest.raises(
        DataError, match=r"t10k-labels.* has the label 3 at #3, but the 3 classes have the labels 0 to 2"
    ):
        load(str(tmp_path))
    write_idx(tmp_path, "t10k", [0, 1])
    with pytest.raises(DataError, match=r"the test split .* has no pictures of class 2"):
        load(str(tmp_path))
    (tmp_path / "classes.txt").write_text("a\nb\n")
    with pytest.raises(DataError, match=r"train-labels.* has the label 2"):
        load(str(tmp_path))


def test_an_idx_folder_needs_training_pictures(tmp_path):
    write_idx(tmp_path, "t10k", [0, 1, 2])
    with pytest.raises(DataError, match="has IDX files of test but none of train"):
        load(str(tmp_path))


@pytest.mark.skipif(not FASHION.is_dir(), reason="Debian's dataset-fashion-mnist is not installed")
def test_fashion_mnist_itself():
    found = load(str(FASHION))
    assert [len(split) for split in (found.train, found.validation, found.test)] == [54000, 6000, 10000]
    assert counts(found.test) == [1000] * 10
    assert abs(found.preprocessing.mean[0] - 0.2860) < 0.01
    assert abs(found.preprocessing.std[0] - 0.3530) < 0.01
    assert found.augmentation == Augmentation(shift=2)


# ---- for evaluation

PLAIN = Preprocessing(1, (8, 8))


def test_evaluation_uses_the_models_order_of_classes(tmp_path):
    for split in ("train", "test"):
        class_folders(tmp_path / split, {"a": 3, "b": 2, "c": 1})
    found = load_for(str(tmp_path), ("c", "x", "b", "a"), PLAIN)
    assert Counter(found.labels.tolist()) == {3: 3, 2: 2, 0: 1}
    assert all(
        ("c", "x", "b", "a")[label] == Path(name).parts[1]
        for label, name in zip(found.labels, found.names, strict=True)
    )
    assert found.notes == (f"{tmp_path} has no pictures of class x",)
    with pytest.raises(DataError, match="has no pictures of class x"):
        load_for(str(tmp_path), ("c", "x", "b", "a"), PLAIN, strict=True)
    with pytest.raises(DataError, match="has the class b, unknown to the model: it knows a, c"):
        load_for(str(tmp_path), ("a", "c"), PLAIN)


def test_evaluation_of_a_folder_without_splits_takes_it_whole(tmp_path):
    data = class_folders(tmp_path, {"a": 3, "b": 2})
    found = load_for(data, ("a", "b"), PLAIN)
    assert len(found) == 5
    assert found.notes == (f"{tmp_path} has no test split, so all of its 5 pictures are used",)


def test_a_single_class_can_be_evaluated(tmp_path):
    found = load_for(class_folders(tmp_path, {"b": 2}), ("a", "b"), PLAIN)
    assert found.labels.tolist() == [1, 1]


def test_a_missing_split_is_named(tmp_path):
    class_folders(tmp_path / "train", {"a": 3, "b": 2})
    with pytest.raises(DataError, match="has no test folder: add one, or choose one of train"):
        load_for(str(tmp_path), ("a", "b"), PLAIN)
    with pytest.raises(DataError, match="digits has no validation split: choose one of train, test"):
        load_for("digits", tuple("0123456789"), PLAIN, split="validation")


def test_the_other_splits_need_not_be_right(tmp_path):
    class_folders(tmp_path / "train", {"a": 1})
    class_folders(tmp_path / "test", {"a": 3, "b": 2})
    assert len(load_for(str(tmp_path), ("a", "b"), PLAIN)) == 5


def test_digits_and_idx_for_evaluation(tmp_path):
    assert load_for("digits", tuple("0123456789"), PLAIN).notes == ()
    write_idx(tmp_path, "t10k", [3, 1, 3])
    found = load_for(str(tmp_path), tuple("0123456789"), PLAIN)
    assert found.labels.tolist() == [3, 1, 3]
    assert found.notes[0] == "the pictures of 6 × 5 pixels are scaled to the model's 8 × 8"
    assert "no pictures of class 0, 2, 4, 5, 6 and 3 more" in found.notes[1]
    with pytest.raises(DataError, match="none of train"):
        load_for(str(tmp_path), tuple("0123456789"), PLAIN, split="train")
