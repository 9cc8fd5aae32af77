"""Entries come back whole or not at all; what others could have written is never read; the folder stays small."""

import os
import stat
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest

from svertka.jit import cache

KEY, OTHER = cache.key("one"), cache.key("other")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "_warned", set())
    return tmp_path / "cache"


def test_what_was_written_is_read(folder):
    assert cache.read(KEY) is None
    assert not folder.exists()
    cache.write(KEY, b"code")
    assert cache.read(KEY) == b"code"
    assert cache.read(OTHER) is None
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert [entry.name for entry in folder.iterdir()] == [KEY]
    assert stat.S_IMODE((folder / KEY).stat().st_mode) == 0o600


def test_keys_tell_lists_of_texts_apart():
    keys = {cache.key(*parts) for parts in (("ab", "c"), ("a", "bc"), ("abc",), ("abc", ""), ())}
    assert len(keys) == 5


def test_the_folder_follows_the_environment(monkeypatch):
    monkeypatch.delenv(cache.VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache.folder() == Path("/somewhere/svertka")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # which the convention says to ignore
    assert cache.folder() == Path.home() / ".cache" / "svertka"
    monkeypatch.setenv(cache.VARIABLE, cache.OFF)
    assert cache.folder() is None
    cache.write(KEY, b"code")
    assert cache.read(KEY) is None
    assert cache.state().finding.startswith("it is switched off")
    cache.clear()


def damaged(entry, how):
    data = entry.read_bytes()
    if how == "cut":
        entry.write_bytes(data[:-1])
    elif how == "empty":
        entry.write_bytes(b"")
    elif how == "half a header":
        entry.write_bytes(data[:20])
    elif how == "longer":
        entry.write_bytes(data + b"x")
    elif how == "one bit":
        entry.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    elif how == "magic":
        entry.write_bytes(b"X" + data[1:])
    elif how == "another's":
        cache.write(OTHER, b"other code")
        entry.write_bytes((entry.parent / OTHER).read_bytes())
    elif how == "writable by the group":
        entry.chmod(0o620)
    elif how == "writable by all":
        entry.chmod(0o602)
    elif how == "link":
        entry.rename(entry.parent / "elsewhere")
        entry.symlink_to("elsewhere")
    elif how == "pipe":
        entry.unlink()
        os.mkfifo(entry, 0o600)
    elif how == "folder":
        entry.unlink()
        entry.mkdir()


@pytest.mark.parametrize(
    "how",
    [
        "cut", "empty", "half a header", "longer", "one bit", "magic", "another's", "writable by the group",
        "writable by all", "link", "pipe", "folder",
    ],
)  # fmt: skip
def test_an_entry_with_a_fault_is_none(folder, how):
    cache.write(KEY, b"code")
    assert cache.read(KEY) == b"code"
    damaged(folder / KEY, how)
    assert cache.read(KEY) is None
    cache.write(KEY, b"code")  # as after compiling anew
    assert cache.read(KEY) == (None if how == "folder" else b"code")


@pytest.mark.parametrize("mode", [0o770, 0o755, 0o701, 0o702])
def test_a_folder_open_to_others_is_not_used_and_that_is_told_once(folder, mode):
    cache.write(KEY, b"code")
    folder.chmod(mode)
    with pytest.warns(RuntimeWarning, match=f"{folder}.*others have access to it.*{mode:o}.*chmod 700 {folder}"):
        assert cache.read(KEY) is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cache.write(OTHER, b"code")
    assert not (folder / OTHER).exists()
    assert "others have access" in cache.state().finding


@pytest.mark.usefixtures("folder")
def test_a_folder_of_another_user_is_not_used(monkeypatch):
    cache.write(KEY, b"code")
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.warns(RuntimeWarning, match=f"belongs to user {owner}, not to user {owner + 1}"):
        assert cache.read(KEY) is None


@pytest.mark.parametrize("where", ["/dev/null", "/dev/null/below", "/proc/nowhere/svertka"])
def test_no_room_for_a_folder_is_no_error(monkeypatch, where):
    monkeypatch.setenv(cache.VARIABLE, where)
    cache.write(KEY, b"code")
    assert cache.read(KEY) is None
    cache.state()


def test_a_full_disk_is_no_error_and_leaves_nothing(folder, monkeypatch):
    cache.write(OTHER, b"code")

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "rename", full)
    cache.write(KEY, b"code")
    assert [entry.name for entry in folder.iterdir()] == [OTHER]


def test_what_was_used_longest_ago_goes_first(folder, monkeypatch):
    keys = [cache.key(str(i)) for i in range(12)]
    now = time.time()
    for age, key in enumerate(reversed(keys)):
        cache.write(key, bytes(1000))
        os.utime(folder / key, (now, now - 10_000 * age))
    left = folder / f".{KEY}.1.1"
    left.write_bytes(b"half")
    os.utime(left, (now, now - 3600))
    (folder / "notes.txt").write_text("somebody's")
    assert cache.read(keys[0]) is not None  # the oldest, which is the youngest now
    size = cache.state().size
    monkeypatch.setattr(cache, "LIMIT", size)
    cache.write(KEY, bytes(1000))  # so much of the limit that the folder is looked through
    names = {entry.name for entry in folder.iterdir()}
    assert {keys[0], KEY, "notes.txt"} <= names
    assert left.name not in names
    assert keys[1] not in names
    state = cache.state()
    assert state.size <= size * 7 / 8
    assert state.entries == len(names) - 1


@pytest.mark.usefixtures("folder")
def test_a_process_never_exceeds_the_limit_by_more_than_a_share(monkeypatch):
    """Whatever the keys: by what it writes between two looks through the folder, and an entry."""
    limit, size = 64 * 4096, 3000
    monkeypatch.setattr(cache, "LIMIT", limit)
    monkeypatch.setattr(cache, "_written", 0)
    largest = 0
    for number in range(200):
        cache.write("f" * 56 + f"{number:08x}", bytes(size))  # by chance such a key never has the folder looked through
        largest = max(largest, cache.state().size)
    assert limit * 3 // 4 < largest <= limit + limit // cache._SWEEPS + 4096


def test_clearing_takes_entries_and_nothing_else(folder):
    assert cache.clear().entries == 0
    for key in (KEY, OTHER):
        cache.write(key, b"code")
    (folder / "notes.txt").write_text("somebody's")
    assert cache.clear().entries == 2
    assert [entry.name for entry in folder.iterdir()] == ["notes.txt"]
    assert cache.state().entries == 0


def test_writers_at_once_leave_whole_entries(folder):
    code = (
        "import sys; from svertka.jit import cache\n"
        "for i in range(200):\n"
        "    cache.write(cache.key(str(i % 7)), b'x' * 20000)\n"
        "    assert cache.read(cache.key(str(i % 7))) == b'x' * 20000, i\n"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(3)]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    assert len(list(folder.iterdir())) == 7


def test_without_a_home_there_is_no_cache_and_that_is_told(monkeypatch):
    for name in ("HOME", "XDG_CACHE_HOME", cache.VARIABLE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", lambda _: (_ for _ in ()).throw(KeyError("no such user")))
    assert cache.folder() is None
    cache.write(KEY, b"object")
    assert cache.read(KEY) is None
    assert cache.state().finding.startswith("there is no home folder")
    monkeypatch.setenv(cache.VARIABLE, "~nobody-of-this-name/kernels")
    assert cache.folder() is None


def test_entries_from_the_future_are_used_and_swept(folder):
    """A clock that was set back leaves them behind."""
    for index in range(2):
        key = cache.key(str(index))
        cache.write(key, b"object")
        os.utime(folder / key, (time.time() + 1e6,) * 2)
    left = folder / f".{cache.key('left')}.1.1"
    left.write_bytes(b"half")
    os.utime(left, (time.time() + 1e6,) * 2)
    assert cache.read(cache.key("0")) == b"object"
    assert abs((folder / cache.key("0")).stat().st_mtime - time.time()) < 100
    place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        cache._sweep(place, 4096)
    finally:
        os.close(place)
    assert not left.exists()
    assert len(cache._names(folder)) <= 1
