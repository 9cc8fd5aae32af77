"""What users give to be explained, as numbers of the shape that the operation wants."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor

from svertka import spec
from svertka.errors import DataError, GeometryError
from svertka.explain.operations import Array, Bound


def numbers(values: Any, name: str) -> Array:
    """float64 numbers from a tensor, an array or nested lists.

    Raises:
        DataError: if they are ragged, empty, not finite or no real numbers.
    """
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        values = (values if values.is_complex() else values.double()).numpy()
    if isinstance(values, Sequence) and not isinstance(values, str):
        _check_lengths(values, name, "")
    try:
        given = np.asarray(values)
        if np.iscomplexobj(given):
            raise DataError(f"the {name} holds complex numbers: give its real or imaginary part")
        array: Array = given.astype(np.float64)
    except (TypeError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"the {name} holds something that is no number ({error}): give numbers only") from None
    if not array.size:
        raise DataError(f"the {name} of shape {array.shape} is empty: give at least one number")
    if not np.isfinite(array).all():
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise DataError(f"the {name} holds {array[where]} at {where}: give finite numbers")
    return array


def _check_lengths(values: Sequence[Any], name: str, where: str) -> None:
    """A DataError that names the first row whose length is not its neighbours'."""
    nested = [row for row in values if isinstance(row, (Sequence, np.ndarray, Tensor)) and not isinstance(row, str)]
    if nested and len(nested) != len(values):
        raise DataError(f"the {name} mixes numbers and rows{where}: give a table whose rows are of equal length")
    lengths = [len(row) for row in nested]
    usual = max(set(lengths), key=lengths.count, default=0)
    for i, (row, length) in enumerate(zip(nested, lengths, strict=True)):
        if length != usual:
            raise DataError(
                f"the {name} is ragged: row {i + 1}{where} has {length} entries where the others have {usual}"
            )
        if isinstance(row, Sequence):
            _check_lengths(row, name, f" of part {i + 1}{where}")


def with_channels(values: Array, ndim: int) -> Array:
    """[C, *size] from [*size] (one channel), [C, *size] or [1, C, *size]."""
    if values.ndim == ndim:
        return values[None]
    if values.ndim == ndim + 2 and len(values) == 1:
        return values.reshape(values.shape[1:])
    if values.ndim != ndim + 1:
        raise GeometryError(
            f"the input of shape {values.shape} does not fit an operation on {ndim} spatial "
            f"{'axis' if ndim == 1 else 'axes'}: give one picture, [*size], [channels, *size] or [1, channels, *size]"
        )
    return values


def with_weights(bound: Bound, weight: Any, bias: Any, flip: bool) -> Bound:
    """The operation with the weights that were given, shaped as in `svertka.functional`, turned round if `flip`.

    A kernel alone, [*kernel size], stands for one channel; a number for the bias of one.
    """
    operation = bound.operation
    weighted = isinstance(
        operation, (spec.Convolution, spec.TransposedConvolution, spec.Unshared, spec.WeightedPool)
    )  # fmt: skip
    if weight is not None:
        weight = numbers(weight, "kernel")
        missing = (1 if isinstance(operation, spec.WeightedPool) else 2) if weight.ndim == operation.ndim else 0
        bound = replace(bound, weight=weight.reshape((1,) * missing + weight.shape))
    if bias is not None:
        bound = replace(bound, bias=np.atleast_1d(numbers(bias, "bias")))
    if weighted and bound.weight is None:
        raise GeometryError(f"{bound.title} has no weights: give weight=…, a kernel or what the layer would hold")
    if not weighted and (weight is not None or bias is not None):
        raise GeometryError(f"{bound.title} has no weights: leave weight and bias out")
    if not flip:
        return bound
    if bound.weight is None:
        raise GeometryError(f"{bound.title} has no kernel to flip: leave flip out")
    axes = tuple(range(-operation.ndim, 0))
    return replace(bound, weight=np.flip(bound.weight, axes).copy())


def check(bound: Bound, x: Array) -> None:
    """A GeometryError if the operation can't be done on x [C, *size]: kernel, channels, groups, bias, sizes."""
    operation, weight = bound.operation, bound.weight
    size = operation.output_size(x.shape[1:])
    if weight is None:
        return
    taps, ndim = tuple(window.size for window in operation.windows), operation.ndim
    if weight.shape[-ndim:] != taps:
        raise GeometryError(f"a kernel of {_times(weight.shape[-ndim:])} does not fit windows of {_times(taps)}")
    match operation:
        case spec.Convolution(groups=groups):
            wanted, out = weight.shape[1] * groups, weight.shape[0]
        case spec.TransposedConvolution(groups=groups):
            wanted, out = weight.shape[0], weight.shape[1] * groups
        case spec.Unshared(groups=groups):
            if weight.shape[:ndim] != size:
                raise GeometryError(
                    f"the layer has kernels for an output of {_times(weight.shape[:ndim])}, but this input of "
                    f"{_times(x.shape[1:])} gives {_times(size)}: give an input of the layer's own size"
                )
            wanted, out = weight.shape[ndim + 1] * groups, weight.shape[ndim]
        case _:
            groups, out = 1, len(x)
            wanted = len(x) if len(weight) == 1 else len(weight)
    if len(x) != wanted:
        raise GeometryError(f"{bound.title} expects {_channels(wanted)}, but the input has {_channels(len(x))}")
    if out % groups or wanted % groups:
        raise GeometryError(f"{wanted} input and {out} output channels can't be divided into {groups} groups")
    if bound.bias is not None and bound.bias.size != out * (math.prod(size) if bound.bias.ndim > 1 else 1):
        raise GeometryError(f"a bias of shape {bound.bias.shape} does not fit {_channels(out)} of output")


def _times(sizes: Sequence[int]) -> str:
    return "×".join(map(str, sizes))


def _channels(count: int) -> str:
    return f"{count} channel{'s' if count != 1 else ''}"
