"""Threads: the OpenMP runtime that the process has loaded already."""

from __future__ import annotations

import ctypes
import os
from functools import lru_cache
from pathlib import Path

_in_child = False


def _forked() -> None:
    global _in_child
    _in_child = True


os.register_at_fork(after_in_child=_forked)


@lru_cache(maxsize=1)
def fork_address() -> int:
    """The address of GOMP_parallel, 0 if no OpenMP runtime is loaded."""
    try:
        lines = Path("/proc/self/maps").read_text().splitlines()
    except OSError:
        lines = []
    paths = {line.split(maxsplit=5)[5] for line in lines if "/" in line}
    for path in sorted(path for path in paths if "libgomp" in path or "libomp" in path or "libiomp" in path):
        try:
            function = ctypes.CDLL(path).GOMP_parallel
        except (OSError, AttributeError):
            continue
        return ctypes.cast(function, ctypes.c_void_p).value or 0
    return 0


def usable(threads: int) -> int:
    """How many of so many threads a call can use: a forked child's OpenMP runtime has lost its own."""
    return 1 if _in_child or not fork_address() else threads
