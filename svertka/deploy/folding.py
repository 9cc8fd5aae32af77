"""Arithmetic on sizes, which exporters write for networks that take any size: done when all the numbers are known."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from svertka.deploy.onnxfile import TYPES

LARGEST = 1 << 16  # numbers in a result: masks over places, not pictures


def _divided(a: Any, b: Any) -> Any:
    """ONNX cuts quotients of integers off towards 0."""
    return np.trunc(a / b).astype(a.dtype) if a.dtype.kind == "i" else a / b


def _range(start: Any, limit: Any, step: Any) -> Any:
    if not 0 <= math.ceil((limit.item() - start.item()) / step.item()) <= LARGEST:
        raise ValueError("its range is empty or too long")
    return np.arange(start.item(), limit.item(), step.item(), dtype=start.dtype)


_ELEMENTWISE: dict[str, Callable[..., Any]] = {
    "Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": _divided, "Neg": np.negative, "Abs": np.abs,
    "Less": np.less, "LessOrEqual": np.less_equal, "Greater": np.greater, "GreaterOrEqual": np.greater_equal,
    "Equal": np.equal, "And": np.logical_and, "Or": np.logical_or, "Not": np.logical_not, "Where": np.where,
    "Min": lambda *given: np.minimum.reduce(np.broadcast_arrays(*given)),
    "Max": lambda *given: np.maximum.reduce(np.broadcast_arrays(*given)),
}  # fmt: skip
FOLDED = frozenset((*_ELEMENTWISE, "Cast", "Mod", "Range", "Squeeze", "Unsqueeze", "Identity"))


def folded(op: str, attribute: Callable[..., Any], given: Sequence[Any]) -> Any:
    """What a node of FOLDED gives on known numbers; `attribute(name, default)` are its attributes.

    ValueError if the result would have more than LARGEST numbers, or isn't finite.
    """
    if op in (*_ELEMENTWISE, "Mod") and math.prod(np.broadcast_shapes(*(x.shape for x in given))) > LARGEST:
        raise ValueError(f"its result has more than {LARGEST} numbers")
    with np.errstate(all="raise"):
        try:
            match op:
                case "Cast":
                    return given[0].astype(TYPES[attribute("to", 0)])
                case "Mod":
                    return (np.fmod if attribute("fmod", 0) else np.mod)(*given)
                case "Range":
                    return _range(*given)
                case "Squeeze" | "Unsqueeze":
                    axes = attribute("axes", None) if len(given) == 1 else given[1].tolist()
                    reshape: Any = np.expand_dims if op == "Unsqueeze" else np.squeeze
                    return reshape(given[0], None if axes is None else tuple(np.atleast_1d(axes).tolist()))
                case "Identity":
                    return given[0]
            return _ELEMENTWISE[op](*given)
        except (ArithmeticError, KeyError) as error:
            raise ValueError(f"it computes sizes that can't be: {error}") from error
