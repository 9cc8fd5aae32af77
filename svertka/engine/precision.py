"""How much rounding error the kernels may add for speed: a stated policy."""

from __future__ import annotations

from contextlib import AbstractContextManager

from svertka.engine.choice import Choice

VARIABLE = "SVERTKA_PRECISION"
# The products of a Winograd tile on an axis, at most: with more of them errors grow. The first is the default.
PRODUCTS = {"strict": 4, "fast": 8}

_choice = Choice("precision", VARIABLE, tuple(PRODUCTS))


def get_precision() -> str:
    """The policy in force in this thread: "strict" or "fast"."""
    return _choice.get()


def set_precision(name: str) -> None:
    """Chooses how convolutions may be computed, in all threads.

    Args:
        name: "strict": by algorithms whose rounding error is no larger than the direct sum's; "fast": also by
            Winograd's with larger tiles, whose error is up to 12 times as large, a few millionths of the result.

    Raises:
        SvertkaError: for another name.
    """
    _choice.set(name)


def precision(name: str) -> AbstractContextManager[None]:
    """`set_precision` for a `with` block, in this thread alone."""
    return _choice.held(name)


def products() -> int:
    """The products of a Winograd tile on an axis that the policy in force allows."""
    return PRODUCTS[_choice.get()]
