"""How much rounding error the kernels may add for speed: a stated policy."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from svertka.errors import SvertkaError

VARIABLE = "SVERTKA_PRECISION"
DEFAULT = "strict"
# The products of a Winograd tile on an axis, at most: with more of them errors grow.
PRODUCTS = {"strict": 4, "fast": 8}

_name = ""


def get_precision() -> str:
    """The policy in force: "strict" or "fast"."""
    global _name
    if not _name:
        name = os.environ.get(VARIABLE, DEFAULT)
        if name not in PRODUCTS:
            raise SvertkaError(f"{VARIABLE}={name} is no precision: choose one of {', '.join(PRODUCTS)}")
        _name = name
    return _name


def set_precision(name: str) -> None:
    """Chooses how convolutions may be computed.

    Args:
        name: "strict": by algorithms whose rounding error is no larger than the direct sum's; "fast": also by
            Winograd's with larger tiles, whose error is up to 12 times as large, a few millionths of the result.

    Raises:
        SvertkaError: for another name.
    """
    global _name
    if name not in PRODUCTS:
        raise SvertkaError(f"{name!r} is no precision: choose one of {', '.join(PRODUCTS)}")
    _name = name


@contextmanager
def precision(name: str) -> Iterator[None]:
    """`set_precision` for a `with` block."""
    before = get_precision()
    set_precision(name)
    try:
        yield
    finally:
        set_precision(before)


def products() -> int:
    """The products of a Winograd tile on an axis that the policy in force allows."""
    return PRODUCTS[_name or get_precision()]
