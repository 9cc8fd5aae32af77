"""Memory that was freed, back to the system."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from functools import cache


def give_back() -> None:
    """Gives back what the C library keeps of freed memory: glibc does, for each thread a heap of its own."""
    _trim()(0)


@cache
def _trim() -> Callable[[int], int]:
    """glibc's `malloc_trim`; where there is none, nothing."""
    return getattr(ctypes.CDLL(None), "malloc_trim", lambda _: 0) if sys.platform == "linux" else lambda _: 0
