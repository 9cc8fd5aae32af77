"""What the rooms' requests share: sizes and pads with bounds, and numbers from text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from svertka import spec
from svertka.explain.parsing import parse_text
from svertka.lab.api import LabError
from svertka.window import TransposedWindow, Window

MAX_ENTRIES = 3 * 32 * 32
Mode = Literal["zeros", "replicate", "reflect", "symmetric", "circular"]
Text = Annotated[str, Field(max_length=60_000)]
Small = Annotated[int, Field(ge=1, le=16)]
Pad = Annotated[int, Field(ge=0, le=32)]
Smalls = Annotated[list[Small], Field(min_length=1, max_length=2)]
Pads = Annotated[list[tuple[Pad, Pad]], Field(min_length=1, max_length=2)]


def numbers(text: str, name: str) -> Any:
    """float64 [channels, *size] with one or two axes, from the grammar of matrices."""
    values = parse_text(text, name)
    if values.ndim not in (2, 3):
        raise LabError("axes", f"{name} has {values.ndim - 1} axes: give a signal or a matrix")
    if values.size > MAX_ENTRIES:
        raise LabError("too-many-cells", f"{name} has {values.size} numbers, over {MAX_ENTRIES}", values.size)
    if abs(values).max() > 1e9:
        raise LabError("too-large", f"{name} holds numbers over 1e9: take smaller ones")
    return values


def per_axis(values: Sequence[Any], ndim: int) -> tuple[Any, ...]:
    """A value for each axis: one serves all."""
    return tuple(values) * ndim if len(values) == 1 else tuple(values)[-ndim:]


def check_sizes(operation: spec.Operation[Any], size: Sequence[int]) -> None:
    """A LabError if a window does not fit the padded input."""
    for window, n in zip(operation.windows, size, strict=True):
        if isinstance(window, Window) and window.missing(n):
            before, after = window.pads(n)
            raise LabError(
                "no-window", f"a kernel of extent {window.extent} is larger than the padded input, {n} + {before} + "
                f"{after}: give more padding or a smaller kernel", window.extent, n, before, after,
            )  # fmt: skip


def forward(window: Window | TransposedWindow) -> Window:
    """The window itself; of a transposed one that which it transposes."""
    return window.window if isinstance(window, TransposedWindow) else window


def planes(values: Any, ndim: int) -> list[list[list[float]]]:
    """[planes, rows, columns] of an array with `ndim` spatial axes; a signal has one row."""
    rows = 1 if ndim == 1 else values.shape[-2]
    found: list[list[list[float]]] = values.reshape(math.prod(values.shape[:-ndim]), rows, values.shape[-1]).tolist()
    return found


def tensor(values: Any) -> Tensor:
    """float64, as the layers take it."""
    return torch.as_tensor(values, dtype=torch.float64)
