"""Objects on disk: machine code that was compiled before, found by a digest of all that it depends on.

An entry is a file of the user's own folder, named by its key: magic, key, SHA-256 of the payload, payload. It is read
only if nobody else can have written it and nothing of it is missing or damaged; whatever is wrong with it, it is as if
it weren't there. Nor is a folder without room or without permission an error: then all is compiled anew.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

VARIABLE = "SVERTKA_CACHE"
OFF = "off"
LIMIT = 256 << 20  # bytes of all entries together, about

_MAGIC = b"svertka object 1"
_HEADER = len(_MAGIC) + 32 + 32
_KEY = 64  # hexadecimal digits
_LARGEST = 64 << 20
_BLOCK = 4096
_REMEMBER_USE = 3600.0  # seconds by which an entry's last use may be wrong
_SWEEPS = 32  # the folder is looked through each time that a process, or about all of them, wrote LIMIT / _SWEEPS bytes
_LEFT_BEHIND = 600.0  # a temporary file so old has lost its writer

_warned: set[str] = set()
_written = 0  # bytes, by this process since it last looked through the folder


def key(*parts: str) -> str:
    """The digest of texts, in hexadecimal; different lists of texts have different digests."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode()
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()


def folder() -> Path | None:
    """Where entries lie: what SVERTKA_CACHE says, else svertka in the user's cache folder; None if nowhere."""
    chosen = os.environ.get(VARIABLE, "")
    if chosen == OFF or not hasattr(os, "geteuid"):  # without owners and modes nothing tells whose an entry is
        return None
    base = os.environ.get("XDG_CACHE_HOME", "")
    try:
        if chosen:
            return Path(chosen).expanduser().absolute()
        return (Path(base) if base.startswith("/") else Path.home() / ".cache") / "svertka"
    except RuntimeError:  # this user, or the one that is named, has no home
        return None


def read(key: str) -> bytes | None:
    """The payload of an entry, or None if there is no sound one."""
    if not _is_key(key):
        return None
    try:
        with _opened(create=False) as place:
            return None if place is None else _read(key, place)
    except OSError:
        return None


def write(key: str, payload: bytes) -> None:
    """Keeps a payload, if that is possible; readers see the whole entry or none."""
    global _written
    try:
        with _opened(create=True) as place:
            if place is not None:
                _write(key, payload, place)
                size = _on_disk(_HEADER + len(payload))
                _written += size
                # The digest is the chance by which many processes that each write little look through it, too.
                if _written >= LIMIT // _SWEEPS or int(key[:8], 16) / 2**32 < size * _SWEEPS / LIMIT:
                    _written = 0
                    _sweep(place, LIMIT)
    except OSError:
        return


@dataclass(frozen=True)
class State:
    """What there is to say about the cache.

    Args:
        folder: where it is; None if there is no place for it.
        finding: why it isn't used; "" if it is.
        entries, size: how many and how many bytes.
        limit: of the bytes.
    """

    folder: Path | None
    finding: str
    entries: int
    size: int
    limit: int = LIMIT


def state() -> State:
    """The cache as it is now; nothing is made."""
    path = folder()
    if path is None:
        off = os.environ.get(VARIABLE) == OFF or not hasattr(os, "geteuid")
        told = f"it is switched off: unset {VARIABLE}" if off else f"there is no home folder: set {VARIABLE} to one"
        return State(None, told, 0, 0)
    try:
        place = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return State(path, "", 0, 0)
    except OSError as error:
        return State(path, str(error.strerror), 0, 0)
    try:
        found = _entries(_names(place), place)
        return State(path, _fault(os.fstat(place)), len(found), sum(size for _, size, _ in found))
    finally:
        os.close(place)


def clear() -> State:
    """Removes all entries; gives what there was.

    Raises:
        OSError: if one can't be removed.
    """
    before = state()
    if before.folder is not None and before.folder.is_dir():
        place = os.open(before.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            for name in [*_names(place), *_temporary(place)]:
                _remove(name, place)
        finally:
            os.close(place)
    return before


def remedy(path: Path) -> str:
    """What to do about a folder that can't be used."""
    return f"`chmod 700 {path}` if it is yours, or set {VARIABLE} to a folder of your own or to {OFF}"


@contextmanager
def _opened(*, create: bool) -> Iterator[int | None]:
    """The folder's descriptor, or None if it isn't there or isn't the user's alone, which is told once."""
    path = folder()
    if path is None:
        yield None
        return
    try:
        place = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        if not create:
            yield None
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)
        place = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        finding = _fault(os.fstat(place))
        if finding:
            _warn(f"compiled kernels are not kept in {path}, because {finding}: {remedy(path)}")
        yield None if finding else place
    finally:
        os.close(place)


def _fault(found: os.stat_result) -> str:
    """Why a folder isn't the user's alone; "" if it is."""
    if found.st_uid != os.geteuid():
        return f"it belongs to user {found.st_uid}, not to user {os.geteuid()}"
    if found.st_mode & 0o077:
        return f"others have access to it (mode {stat.S_IMODE(found.st_mode):o})"
    return ""


def _warn(message: str) -> None:
    if message not in _warned:
        _warned.add(message)
        warnings.warn(message, RuntimeWarning, stacklevel=2)


def _read(key: str, place: int) -> bytes | None:
    # A pipe in place of a file must not be waited for, a link not be followed.
    file = os.open(key, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=place)
    try:
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
            return None
        if not _HEADER <= found.st_size <= _LARGEST:
            return None
        data = os.read(file, found.st_size)
        if abs(time.time() - found.st_mtime) > _REMEMBER_USE:  # in the future, too: clocks are set back
            os.utime(file)
    finally:
        os.close(file)
    payload = data[_HEADER:]
    return payload if data[:_HEADER] == _header(key, payload) else None


def _header(key: str, payload: bytes) -> bytes:
    return _MAGIC + bytes.fromhex(key) + hashlib.sha256(payload).digest()


def _write(key: str, payload: bytes, place: int) -> None:
    name = f".{key}.{os.getpid()}.{time.monotonic_ns()}"
    file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=place)
    try:
        with os.fdopen(file, "wb") as stream:
            stream.write(_header(key, payload) + payload)
        os.rename(name, key, src_dir_fd=place, dst_dir_fd=place)
    except BaseException:
        _remove(name, place)
        raise


def _sweep(place: int, limit: int) -> None:
    """Removes what was used longest ago until an eighth is free, and what dead writers left behind."""
    for used, _, name in _entries(_temporary(place), place):
        if abs(time.time() - used) > _LEFT_BEHIND:
            _remove(name, place)
    found = sorted(_entries(_names(place), place))
    total = sum(size for _, size, _ in found)
    if total <= limit:
        return
    for _, size, name in found:
        if total <= limit - limit // 8:
            return
        _remove(name, place)
        total -= size


def _entries(names: list[str], place: int) -> list[tuple[float, int, str]]:
    """(last use, bytes on a disk of usual blocks, name) of each."""
    found = []
    for name in names:
        try:
            status = os.stat(name, dir_fd=place, follow_symlinks=False)
        except FileNotFoundError:  # another process was quicker
            continue
        found.append((status.st_mtime, _on_disk(status.st_size), name))
    return found


def _on_disk(size: int) -> int:
    """What a file of this size takes, in whole blocks."""
    return -(-size // _BLOCK) * _BLOCK


def _names(place: int) -> list[str]:
    return [name for name in os.listdir(place) if _is_key(name)]


def _temporary(place: int) -> list[str]:
    return [name for name in os.listdir(place) if name.startswith(".") and _is_key(name[1:].split(".")[0])]


def _is_key(name: str) -> bool:
    return len(name) == _KEY and not name.strip("0123456789abcdef")


def _remove(name: str, place: int) -> None:
    try:
        os.unlink(name, dir_fd=place)
    except FileNotFoundError:
        return
