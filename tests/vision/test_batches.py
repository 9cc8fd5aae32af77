"""Batches: the same for any number of workers, any memory and any point of entry; nothing unreadable goes unnoticed."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from svertka.errors import DataError
from svertka.vision.augment import Augmentation
from svertka.vision.batches import Batches, usable_cores
from svertka.vision.datasets import Split, load
from svertka.vision.pictures import PictureError, Preprocessing

PREPROCESSING = Preprocessing(1, (6, 5), mean=(0.4,), std=(0.3,))
CHANGES = Augmentation(shift=1, flip=True, crop=0.2, contrast=0.2)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A split of 23 picture files of which number 4 and 17 are unreadable."""
    root = tmp_path_factory.mktemp("pictures")
    names = [f"{i:02}.png" for i in range(23)]
    rng = np.random.default_rng(0)
    for i, name in enumerate(names):
        Image.fromarray(rng.integers(0, 256, (6, 5), np.uint8)).save(root / name)
        if i in (4, 17):
            (root / name).write_bytes((root / name).read_bytes()[:-30])
    return Split(torch.arange(23) % 3, names, files=names, root=root)


def in_memory(count=23):
    pixels = np.random.default_rng(1).integers(0, 256, (count, 1, 6, 5), np.uint8)
    return Split(torch.arange(count) % 3, [f"#{i}" for i in range(count)], torch.from_numpy(pixels))


def batches(split, batch_size=5, preprocessing=PREPROCESSING, **options):
    return Batches(split, preprocessing, batch_size, **{"shuffle": True, "seed": 0, "workers": 0, **options})


def same(first, second):
    first, second = list(first), list(second)
    return len(first) == len(second) and all(
        a.step == b.step
        and torch.equal(a.images, b.images)
        and torch.equal(a.labels, b.labels)
        and torch.equal(a.indices, b.indices)
        for a, b in zip(first, second, strict=True)
    )


# ---- what a batch is


def test_without_shuffling_the_pictures_come_in_order():
    split = in_memory()
    served = list(batches(split, shuffle=False).epoch(0))
    assert [len(batch.labels) for batch in served] == [5, 5, 5, 5, 3]
    assert [batch.step for batch in served] == [0, 1, 2, 3, 4]
    assert torch.equal(torch.cat([batch.indices for batch in served]), torch.arange(23))
    assert torch.equal(torch.cat([batch.labels for batch in served]), split.labels)
    images = torch.cat([batch.images for batch in served])
    assert images.dtype == torch.float32
    assert torch.equal(images, PREPROCESSING.normalise(split.pixels))


def test_shuffling_serves_each_picture_once_with_its_label_in_a_new_order_each_epoch():
    split = in_memory()
    orders = []
    for epoch in (0, 1):
        served = list(batches(split).epoch(epoch))
        order = torch.cat([batch.indices for batch in served])
        assert sorted(order.tolist()) == list(range(23))
        assert torch.equal(torch.cat([batch.labels for batch in served]), split.labels[order])
        assert torch.equal(torch.cat([batch.images for batch in served]), PREPROCESSING.normalise(split.pixels[order]))
        orders.append(order.tolist())
    assert orders[0] != orders[1]


def test_epoch_and_seed_decide_and_nothing_else_does():
    split = in_memory()
    one = batches(split, augmentation=CHANGES)
    assert same(one.epoch(3), batches(split, augmentation=CHANGES).epoch(3))
    assert not same(one.epoch(3), one.epoch(4))
    assert not same(one.epoch(3), batches(split, augmentation=CHANGES, seed=1).epoch(3))
    torch.manual_seed(99)
    assert same(one.epoch(3), one.epoch(3))


def test_each_step_and_each_epoch_draws_its_own_changes():
    alike = Split(torch.zeros(20, dtype=torch.int64), [""] * 20, in_memory(1).pixels.repeat(20, 1, 1, 1))
    served = batches(alike, augmentation=Augmentation(contrast=0.5))
    drawn = [batch.images for epoch in (0, 1) for batch in served.epoch(epoch)]
    assert not any(torch.equal(drawn[i], drawn[j]) for i in range(8) for j in range(i))


@pytest.mark.parametrize(
    ("count", "shuffle", "steps"), [(23, True, 5), (21, True, 4), (21, False, 5), (1, True, 1), (5, True, 1)]
)
def test_the_number_of_steps(count, shuffle, steps):
    found = batches(in_memory(count), shuffle=shuffle)
    assert len(found) == steps
    assert len(list(found.epoch(0))) == steps


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_may_be_entered_anywhere(files, workers):
    whole = list(batches(files, augmentation=CHANGES).epoch(1))
    for start in (0, 2, 4, 5, 9):
        assert same(batches(files, augmentation=CHANGES, workers=workers).epoch(1, start), whole[start:])


# ---- files, workers, memory


def test_neither_workers_nor_memory_change_a_batch(files):
    expected = [list(batches(files, augmentation=CHANGES).epoch(epoch)) for epoch in range(3)]
    for workers in (0, 1, 2, 3):
        for cache_bytes in (0, 7 * 30 + 1, 1 << 20):
            served = batches(files, augmentation=CHANGES, workers=workers, cache_bytes=cache_bytes)
            for epoch in range(3):
                assert same(served.epoch(epoch), expected[epoch]), (workers, cache_bytes, epoch)


def test_files_and_memory_give_the_same(files):
    readable = torch.tensor([i for i in range(23) if i not in (4, 17)])
    from_files = files.subset(readable)
    pixels = torch.stack([from_files.decode(i, PREPROCESSING) for i in range(len(from_files))])
    from_memory = Split(from_files.labels, from_files.names, pixels)
    assert same(batches(from_files, workers=2).epoch(0), batches(from_memory).epoch(0))


def test_pictures_in_memory_of_another_size_are_scaled():
    split, larger = in_memory(), Preprocessing(3, (12, 10))
    for workers in (0, 2):
        served = list(batches(split, preprocessing=larger, shuffle=False, workers=workers).epoch(0))
        assert torch.equal(served[0].images[2], larger.normalise(split.decode(2, larger)))


def test_what_fits_in_memory_is_decoded_once(files, monkeypatch):
    decoded = []
    original = Split.decode
    monkeypatch.setattr(Split, "decode", lambda self, index, p: decoded.append(index) or original(self, index, p))
    everything, some = batches(files), batches(files, cache_bytes=10 * 30)
    for served, again in ((everything, 0), (some, 12)):  # 10 of 23 fit; number 17 is known to be unreadable
        list(served.epoch(0))
        assert sorted(decoded) == list(range(23))
        decoded.clear()
        list(served.epoch(1))
        assert len(decoded) == again
        decoded.clear()


def test_the_global_generator_is_left_alone(files):
    state = torch.get_rng_state()
    for workers in (0, 2):
        list(batches(files, workers=workers, augmentation=CHANGES).epoch(0))
    assert torch.equal(torch.get_rng_state(), state)


def test_two_epochs_at_once_do_not_disturb_each_other(files):
    served = batches(files, cache_bytes=200)
    first, second = served.epoch(0), served.epoch(1)
    pairs = list(zip(first, second, strict=True))
    assert same([pair[0] for pair in pairs], batches(files).epoch(0))
    assert same([pair[1] for pair in pairs], batches(files).epoch(1))


# ---- unreadable pictures


@pytest.mark.parametrize("workers", [0, 2])
def test_unreadable_pictures_are_left_out_and_reported_once(files, workers):
    log = {}
    served = batches(files, workers=workers, skipped=log, shuffle=False)
    for epoch in (0, 1):
        found = list(served.epoch(epoch))
        assert [len(batch.labels) for batch in found] == [4, 5, 5, 4, 3]
        assert 4 not in found[0].indices
    assert served.skipped is log
    assert set(log) == {"04.png", "17.png"}
    assert str(files.root / "04.png") in log["04.png"]


def test_a_batch_of_which_nothing_is_left_is_not_given(files):
    found = list(batches(files, batch_size=1, shuffle=False).epoch(0))
    assert [batch.step for batch in found] == [i for i in range(23) if i not in (4, 17)]


@pytest.mark.parametrize("workers", [0, 2])
def test_strict_raises_and_names_the_picture(files, workers):
    with pytest.raises(PictureError, match=r"04\.png is damaged"):
        list(batches(files, workers=workers, strict=True, shuffle=False).epoch(0))


# ---- the processes


def children():
    pid = os.getpid()
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


linux = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="looks at /proc")


@linux
def test_the_workers_end_with_the_epoch_however_it_ends(files):
    before = children()
    served = batches(files, batch_size=2, workers=2, cache_bytes=0)
    list(served.epoch(0))
    assert children() == before
    abandoned = served.epoch(0)
    next(abandoned)
    assert len(children()) == len(before) + 2
    abandoned.close()
    assert children() == before
    with pytest.raises(PictureError):
        list(batches(files, workers=2, strict=True).epoch(0))
    assert children() == before


class Deadly(Split):
    """A split in which one picture kills the process that decodes it, as a fault in a decoder would."""

    def decode(self, index, preprocessing):
        if index == 12:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().decode(index, preprocessing)


@linux
def test_the_death_of_a_worker_is_told_where_pictures_are_asked_for(files):
    split = Deadly(files.labels, files.names, files=files.files, root=files.root)
    before = children()
    handler = signal.getsignal(signal.SIGCHLD)
    steps = []
    with pytest.raises(
        DataError, match=r"decoding stopped \(DataLoader worker .*\): if memory ran out, use fewer workers"
    ):
        for batch in batches(split, workers=2, shuffle=False, batch_size=2).epoch(0):
            steps.append(batch.step)
            time.sleep(0.01)  # a training step, in which no exception may come up
    assert steps == list(range(len(steps)))
    assert signal.getsignal(signal.SIGCHLD) is handler
    assert children() == before


@linux
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupt_or_a_kill_leaves_no_process_behind(tmp_path, sent):
    for i in range(4):
        Image.new("L", (5, 6), i).save(tmp_path / f"{i}.png")
    program = textwrap.dedent(f"""
        import os, signal, torch
        signal.signal(signal.SIGINT, signal.default_int_handler)  # shells start what runs behind with SIGINT ignored
        from svertka.vision.batches import Batches
        from svertka.vision.datasets import Split
        from svertka.vision.pictures import Preprocessing
        names = [f"{{i % 4}}.png" for i in range(100_000)]
        split = Split(torch.zeros(100_000, dtype=torch.int64), names, files=names, root={str(tmp_path)!r})
        batches = Batches(split, Preprocessing(1, (6, 5)), 10, shuffle=True, seed=0, workers=2, cache_bytes=0)
        for batch in batches.epoch(0):
            if batch.step == 3:
                print(open(f"/proc/{{os.getpid()}}/task/{{os.getpid()}}/children").read(), flush=True)
    """)
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        workers = process.stdout.readline().split()
        assert len(workers) == 2
        if sent == signal.SIGINT:
            os.killpg(process.pid, sent)  # as a terminal does
        else:
            process.kill()
        errors = process.communicate(timeout=30)[1]
    assert process.returncode == -sent
    assert errors.count("Traceback") == (1 if sent == signal.SIGINT else 0)
    deadline = time.monotonic() + 20  # torch's workers look every 5 s whether their parent is alive
    while any(Path("/proc", worker).exists() for worker in workers) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(Path("/proc", worker).exists() for worker in workers)


def test_more_workers_than_cores_are_the_users_choice(files):
    assert usable_cores() >= 1
    assert same(
        batches(files, workers=usable_cores() + 1, batch_size=2).epoch(0), batches(files, batch_size=2).epoch(0)
    )


@pytest.mark.parametrize(("argument", "value"), [("batch_size", 0), ("seed", -1), ("workers", -1), ("cache_bytes", -1)])
def test_impossible_arguments_are_named(argument, value):
    with pytest.raises(DataError, match=f"{value} is not possible: give"):
        batches(in_memory(), **{argument: value})


# ---- the cost


def test_digits_end_to_end():
    data = load("digits")
    served = Batches(data.train, data.preprocessing, 64, shuffle=True, seed=0, augmentation=data.augmentation)
    images = torch.cat([batch.images for batch in served.epoch(0)])
    assert images.shape == (1299, 1, 8, 8)
    assert abs(images.mean()) < 0.1
    assert abs(images.std() - 1) < 0.1
