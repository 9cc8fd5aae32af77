"""How much rounding error the kernels may add for speed: a stated policy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from torch import nn
from torch.fx.traceback import annotate

from svertka.engine.choice import Choice
from svertka.errors import SvertkaError

VARIABLE = "SVERTKA_PRECISION"
# The products of a Winograd tile on an axis, at most: with more of them errors grow. The first is the default.
PRODUCTS = {"fast": 8, "strict": 4}

_choice = Choice("precision", VARIABLE, tuple(PRODUCTS))


def get_precision() -> str:
    """The policy in force in this thread: "strict" or "fast"."""
    return _choice.get()


def set_precision(name: str, *layers: nn.Module) -> None:
    """Chooses how convolutions may be computed, in all threads.

    Args:
        name: "fast", the default: also by Winograd's algorithm with larger tiles, whose rounding error is up to 12
            times the direct sum's, a few millionths of the result; "strict": only by those whose error is no larger.
        layers: modules in whose convolutions of `svertka.nn` alone it holds, whatever holds elsewhere; it becomes
            their attribute `precision`, which `None` undoes.

    Raises:
        SvertkaError: for another name, and for a module without such a convolution.
    """
    if not layers:
        _choice.set(name)
        return
    with _choice.held(name):
        for layer in layers:
            found: list[Any] = [module for module in layer.modules() if hasattr(module, "precision")]
            if not found:
                raise SvertkaError(
                    f"{type(layer).__name__} has no convolution of svertka.nn, whose precision alone can be set: "
                    f"choose one for all by svertka.set_precision({name!r})"
                )
            for module in found:
                module.precision = name


def precision(name: str) -> AbstractContextManager[None]:
    """`set_precision` for a `with` block, in this thread alone."""
    return _choice.held(name)


_NOTE = "svertka.precision"  # with a traced operation, of its layer


def noted(name: str) -> AbstractContextManager[Any]:
    """Notes a layer's policy with its operations, for who compiles them."""
    return annotate({_NOTE: name})


@contextmanager
def of_layer(name: str) -> Iterator[None]:
    """A layer's policy in force, and noted."""
    with noted(name), precision(name):
        yield


def as_noted(meta: Mapping[str, Any]) -> AbstractContextManager[None]:
    """The policy in force that is noted with a traced operation, if one is."""
    name = (meta.get("custom") or {}).get(_NOTE)
    return nullcontext() if name is None else precision(name)


def products() -> int:
    """The products of a Winograd tile on an axis that the policy in force allows."""
    return PRODUCTS[_choice.get()]
