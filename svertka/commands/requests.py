"""From what the command line was given to an operation with its weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from svertka import functional, spec
from svertka.errors import DataError
from svertka.explain import parsing
from svertka.explain.operations import Array
from svertka.vision.pictures import printable
from svertka.window import Segments, integer

KINDS = (
    "max", "average", "lp", "weighted", "stochastic", "kmax", "dynamic-max", "dynamic-average", "adaptive-max",
    "adaptive-average", "adaptive-lp",
)  # fmt: skip
SIDE = 12
"""Rows and columns of a picture that are explained unless a region is asked for."""


class PoolWindow(NamedTuple):
    """A pool's window as it was given; `stride` None is the size."""

    size: int | tuple[int, ...] | None
    stride: int | tuple[int, ...] | None
    padding: Any
    dilation: Any
    mode: str
    ceil: bool


def read_input(text: str, channels: int, region: str | None) -> tuple[Array, str]:
    """The input [C, *size], and for a picture a sentence that says which part of it this is."""
    if not parsing.is_picture(text):
        if region is not None:
            raise DataError(f"--region {region} cuts a picture, but --input is none: leave it away")
        return parsing.parse(text, "--input"), ""
    values = parsing.read_picture(text, channels)
    rows, columns = cut(region, values.shape[1:], (SIDE, SIDE))
    return values[:, rows, columns].astype(np.float64), described(text, values, rows, columns)


def cut(region: str | None, size: Sequence[int], largest: tuple[int, int]) -> tuple[slice, slice]:
    """The rows and columns that were asked for; by default the middle, at most as large as said."""
    if region is not None:
        return parsing.region(region, size)
    rows, columns = (
        slice(max(0, (n - most) // 2), max(0, (n - most) // 2) + min(n, most))
        for n, most in zip(size, largest, strict=True)
    )
    return rows, columns


def described(name: str | Path, values: parsing.Pixels, rows: slice, columns: slice) -> str:
    """Which part of which picture."""
    height, width = values.shape[1:]
    kind = "grey" if len(values) == 1 else "RGB"
    whole = f"{printable(name)}, {width} × {height} pixels, {kind}"
    if (rows.stop - rows.start, columns.stop - columns.start) == (height, width):
        return whole
    return f"{whole}: rows {rows.start}–{rows.stop - 1}, columns {columns.start}–{columns.stop - 1}"


def filters(texts: Sequence[str], x: Array, groups: int) -> Array:
    """The weight [output channels, input channels / groups, *kernel size], a filter from each text.

    A .npy file may hold all of it, or be one of the filters.
    """
    ndim = x.ndim - 1
    inputs = len(x) // integer(groups, "--groups", 1)
    weights = [_filter(text, ndim) for text in texts]
    if len(weights) == 1 and weights[0].ndim > ndim + 1:
        return weights[0]
    for number, weight in enumerate(weights, 1):
        called = f"--kernel {number}" if len(weights) > 1 else "--kernel"
        if weight.ndim != ndim + 1:
            raise DataError(_axes_sentence(called, weight.ndim - 1, ndim))
        if weight.shape != weights[0].shape:
            raise DataError(f"{called} has another size than the first one: give kernels of one size")
        if len(weight) != inputs or inputs * groups != len(x):
            raise DataError(
                f"{called} has {len(weight)} channels where the input has {len(x)} in {groups} groups: give a part for "
                "each input channel of a group, divided by |, and a fitting --groups"
            )
    return np.stack(weights)


def turns(weight: Array) -> bool:
    """Whether a convolution's weight is another one when its kernels are turned round."""
    axes = tuple(range(2, weight.ndim))
    return not np.array_equal(weight, np.flip(weight, axes))


def transposed_filters(texts: Sequence[str], x: Array, groups: int) -> Array:
    """The weight [input channels, output channels / groups, *kernel size], as `filters` reads it.

    A .npy file that holds all of it has this shape, which is torch's.
    """
    weight = filters(texts, x, groups)
    if len(texts) == 1 and len(_filter(texts[0], x.ndim - 1).shape) == x.ndim + 1:
        return weight
    if len(weight) % groups:
        raise DataError(f"{len(weight)} kernels can't be divided into {groups} groups: give a multiple")
    parts = weight.reshape(groups, len(weight) // groups, *weight.shape[1:]).swapaxes(1, 2)
    turned: Array = parts.reshape(-1, *parts.shape[2:])
    return turned


def at_each_place(kernels: Array, size: Sequence[int]) -> Array:
    """The unshared weight [*output size, 1, C, *kernel size], from kernels for each place in row-major order."""
    if kernels.ndim == 2 + 2 * len(size):
        return kernels
    places = math.prod(size)
    if len(kernels) == 1:
        kernels = kernels.repeat(places, 0)
    if len(kernels) != places:
        raise DataError(f"an output of {places} places needs --kernel {places} times (or once), not {len(kernels)}")
    return kernels.reshape(*size, 1, *kernels.shape[1:])


def biases(text: str | None, channels: int, places: Sequence[int] | None = None) -> Array | None:
    """[channels], or for an unshared convolution [*places]: one for all or one for each."""
    if text is None:
        return None
    values = np.array(parsing.numbers(text, "--bias"))
    wanted = channels if places is None else math.prod(places)
    if len(values) == 1:
        values = values.repeat(wanted)
    if len(values) != wanted:
        raise DataError(f"--bias has {len(values)} numbers where {wanted} were expected: give one, or one for each")
    return values if places is None else values.reshape(places)


def pool_weights(text: str, ndim: int) -> Array:
    """The weights of a weighted pooling, [channels or 1, *kernel size]."""
    values = _filter(text, ndim)
    if values.ndim != ndim + 1:
        raise DataError(_axes_sentence("--kernel", values.ndim - 1, ndim))
    if (values < 0).any() or not (values.reshape(len(values), -1).sum(1) > 0).all():
        raise DataError("--kernel of a weighted pooling must not be negative, and its sum must be above 0")
    return values


def pool(
    kind: str, ndim: int, window: PoolWindow, weight: Array | None, p: float, count_pad: bool
) -> spec.Operation[Any]:
    """The spec of a pooling of this kind."""
    if kind not in KINDS:
        raise DataError(f"there is no pooling of kind {printable(kind)}: choose among {', '.join(KINDS)}")
    if (kind == "weighted") != (weight is not None):
        raise DataError('a weighted pooling, and no other, has a --kernel: add one like "1 2; 1 0", or leave it away')
    if window.size is None and weight is None:
        raise DataError(f"a pooling of kind {kind} needs a size: add --size 2")
    if kind.startswith("adaptive-"):
        return _adaptive(kind.removeprefix("adaptive-"), spec.segments(ndim, window.size), p)
    if kind in ("kmax", "dynamic-max", "dynamic-average"):
        if ndim != 1 or not isinstance(window.size, int):
            raise DataError(f"{kind} pooling is of sequences: give an --input of one row and a --size of one number")
        if kind == "kmax":
            return spec.KMaxPool((Segments(1),), window.size)
        return _adaptive(kind.removeprefix("dynamic-"), spec.segments(1, window.size, overlap=False), p)
    size: Any = window.size if weight is None else weight.shape[1:]
    if weight is not None and window.size is not None and spec.per_axis(window.size, ndim, "--size") != size:
        raise DataError("--size differs from the --kernel's: leave --size away")
    stride = size if window.stride is None else window.stride
    windows = spec.windows(ndim, size, stride, window.padding, window.dilation, window.mode, window.ceil)
    match kind:
        case "max":
            return spec.MaxPool(windows)
        case "average":
            return spec.AveragePool(windows, count_pad)
        case "lp":
            return spec.LpPool(windows, p)
        case "weighted":
            return spec.WeightedPool(windows, count_pad)
    return spec.StochasticPool(windows, sample=False)


def drawn(operation: spec.Operation[Any], x: Array, seed: int, gradient: bool) -> dict[str, Array]:
    """One draw of a stochastic pooling, and its gradient if asked for, by title."""
    if not isinstance(operation, spec.StochasticPool):
        raise DataError("--sample draws in stochastic pooling only: add --kind stochastic, or leave it away")
    given = torch.from_numpy(x)[None].requires_grad_()
    sampled = spec.StochasticPool(operation.windows, sample=True)
    result = functional.run(sampled, given, generator=torch.Generator().manual_seed(seed))
    result.sum().backward()
    found = {f"One draw, as in training (seed {seed})": result.detach().numpy()[0]}
    if gradient and given.grad is not None:
        found["Gradient of the sum of the drawn outputs with respect to the input"] = given.grad.numpy()[0]
    return found


def _adaptive(kind: str, windows: Any, p: float) -> spec.Operation[Any]:
    if kind == "max":
        return spec.MaxPool(windows)
    return spec.AveragePool(windows) if kind == "average" else spec.LpPool(windows, p)


def _filter(text: str, ndim: int) -> Array:
    """[input channels, *kernel size], or more axes if a .npy file has them."""
    if Path(text.strip()).suffix.lower() != ".npy":
        return parsing.parse(text, "--kernel")
    values = parsing.read_npy(Path(text))
    if values.ndim not in (ndim, ndim + 1, ndim + 2, 2 * ndim + 2):
        raise DataError(
            f"{printable(text)} has the shape {values.shape}: a kernel for an input of {ndim} axes has the shape "
            "[*kernel size], [channels, *kernel size], or that of a whole weight"
        )
    return values[None] if values.ndim == ndim else values


def _axes_sentence(called: str, found: int, wanted: int) -> str:
    names = ("a row", "a matrix", "a volume")
    hint = ' (a matrix of one row ends in a semicolon, "1 0 -1;")' if wanted > found else ""
    return f"{called} is {names[found - 1]} where the input is {names[wanted - 1]}: give both the same axes{hint}"
