"""The definition of every operation, in float64 NumPy: slow, short, and what all else is held against.

Each function first lays out the taps, X[n, c, o, t]: the value that tap t of output o reads in channel c of sample n
(`taps`), and is then the formula of the lecture on them. Outputs o and taps t run over all axes in row-major order.
Inputs are [N, C, *size]; results are float64 (complex128 for complex input) [N, C', *output size].
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from svertka import spec
from svertka import window as geometry
from svertka.window import OUTSIDE, AxisWindow, Window

Array = npt.NDArray[Any]


def taps(x: npt.ArrayLike, windows: Sequence[AxisWindow], outside: float = 0.0) -> Array:
    """X [N, C, outputs, taps]: all that the windows read, `outside` where they read no input."""
    x = np.asarray(x)
    x = x.astype(np.complex128 if np.iscomplexobj(x) else np.float64)
    index = geometry.sources(windows, x.shape[2:])
    index = index.reshape(-1, index.shape[-1])
    flat = x.reshape(*x.shape[:2], -1)
    return np.where(index == OUTSIDE, outside, flat[:, :, index])


def conv(
    x: npt.ArrayLike, weight: npt.ArrayLike, bias: npt.ArrayLike | None, windows: Sequence[AxisWindow], groups: int = 1
) -> Array:
    """y[n, d, o] = b[d] + Σ_c Σ_t w[d, c, t] · X[n, c, o, t], c over the channels of d's group.

    weight: [out_channels, in_channels / groups, *kernel_size]; bias: [out_channels].
    """
    weight = np.asarray(weight)
    kernels = weight.reshape(groups, weight.shape[0] // groups, weight.shape[1], -1)
    y = np.einsum("gdct,ngcot->ngdo", kernels, _grouped(taps(x, windows), groups))
    return _shaped(y.reshape(len(y), weight.shape[0], -1), bias, windows, x)


def conv_transpose(
    x: npt.ArrayLike, weight: npt.ArrayLike, bias: npt.ArrayLike | None, windows: Sequence[AxisWindow], groups: int = 1
) -> Array:
    """y[n, d, o] = b[d] + Σ_c Σ_t w[c, d, t] · X[n, c, o, t]: tap t of input c falls on output o.

    weight: [in_channels, out_channels / groups, *kernel_size]; windows: TransposedWindows.
    """
    weight = np.asarray(weight)
    kernels = weight.reshape(groups, weight.shape[0] // groups, weight.shape[1], -1)
    y = np.einsum("gcdt,ngcot->ngdo", kernels, _grouped(taps(x, windows), groups))
    return _shaped(y.reshape(len(y), groups * weight.shape[1], -1), bias, windows, x)


def locally_connected(
    x: npt.ArrayLike, weight: npt.ArrayLike, bias: npt.ArrayLike | None, windows: Sequence[AxisWindow], groups: int = 1
) -> Array:
    """y[n, d, o] = b[o, d] + Σ_c Σ_t w[o, d, c, t] · X[n, c, o, t]: a convolution with weights of each place's own.

    weight: [*output size, out_channels, in_channels / groups, *kernel_size]; bias: [*output size, out_channels].
    """
    weight, ndim = np.asarray(weight), len(windows)
    channels = weight.shape[ndim]
    kernels = weight.reshape(math.prod(weight.shape[:ndim]), groups, channels // groups, weight.shape[ndim + 1], -1)
    y = np.einsum("ogdct,ngcot->ngdo", kernels, _grouped(taps(x, windows), groups))
    y = y.reshape(len(y), channels, *weight.shape[:ndim])
    added: Array = y if bias is None else y + np.moveaxis(np.asarray(bias), -1, 0)
    return added


def max_pool(x: npt.ArrayLike, windows: Sequence[AxisWindow]) -> tuple[Array, Array]:
    """(max_t X, its row-major index in the input): the first on ties, NaN above all; (−∞, −1) of nothing."""
    x = np.asarray(x)
    index = geometry.sources(windows, x.shape[2:])
    index = index.reshape(-1, index.shape[-1])
    read = taps(x, windows, -np.inf)
    # np.argmax takes the first maximum and the first NaN; taps outside are ranked below −∞.
    rank = np.where(index == OUTSIDE, -2.0, np.where(read == -np.inf, -1.0, 0.0))
    first = np.where((read == -np.inf).all(-1), rank.argmax(-1), read.argmax(-1))
    at = np.broadcast_to(index, read.shape)
    values, places = (np.take_along_axis(table, first[..., None], -1)[..., 0] for table in (read, at))
    return _shaped(values, None, windows, x), _shaped(places, None, windows, x)


def avg_pool(
    x: npt.ArrayLike, windows: Sequence[AxisWindow], count_include_pad: bool = True, divisor: float | None = None
) -> Array:
    """Σ_t X / (number of taps), of those on the input and its padding or (not `count_include_pad`) on the input."""
    x = np.asarray(x)
    count = geometry.taps(windows, x.shape[2:], "taps_on_line" if count_include_pad else "taps_inside")
    with np.errstate(invalid="ignore"):
        total = _shaped(taps(x, windows).sum(-1), None, windows, x)
        return total / (count if divisor is None else divisor)


def lp_pool(x: npt.ArrayLike, windows: Sequence[AxisWindow], p: float = 2.0) -> Array:
    """(Σ_t |X|^p)^(1/p), or max_t |X| for p = ∞; infinite where a power is too large for float64."""
    magnitude = abs(taps(x, windows))
    with np.errstate(over="ignore"):
        norm = magnitude.max(-1) if p == np.inf else (magnitude**p).sum(-1) ** (1 / p)
    return _shaped(norm, None, windows, x)


def weighted_avg_pool(
    x: npt.ArrayLike, weight: npt.ArrayLike, windows: Sequence[AxisWindow], count_include_pad: bool = True
) -> Array:
    """Σ_t w[c, t] · X[n, c, o, t] / Σ_t w[c, t], the last sum over all taps or over those on the input.

    weight: [channels or 1, *kernel_size].
    """
    x, weight = np.asarray(x), np.asarray(weight, dtype=np.float64)
    weight = weight.reshape(len(weight), 1, -1)
    counted = 1.0 if count_include_pad else taps(np.ones((1, 1, *x.shape[2:])), windows)
    with np.errstate(invalid="ignore"):
        return _shaped((weight * taps(x, windows)).sum(-1) / (weight * counted).sum(-1), None, windows, x)


def stochastic_pool(x: npt.ArrayLike, windows: Sequence[AxisWindow], draw: npt.ArrayLike | None = None) -> Array:
    """X at the tap that `draw` falls on, p_t = max(X_t, 0) / Σ max(X, 0); without a draw Σ_t p_t · X_t; 0 if all ≤ 0.

    draw: uniform numbers in [0, 1), [N, C, *output size]: tap t is taken if p_0 + … + p_{t−1} ≤ draw < p_0 + … + p_t.
    """
    positive = np.maximum(taps(x, windows), 0)
    total = positive.sum(-1, keepdims=True)
    with np.errstate(invalid="ignore"):
        share = np.where(total == 0, 0.0, positive / np.where(total == 0, 1.0, total))
        if draw is None:
            return _shaped((share * positive).sum(-1), None, windows, x)
        below = share.cumsum(-1) <= np.asarray(draw).reshape(*share.shape[:-1], 1)
    drawn = np.take_along_axis(positive, np.minimum(below.sum(-1), share.shape[-1] - 1)[..., None], -1)
    ordinary = np.isfinite(total) & (total > 0)
    return _shaped(np.where(ordinary, drawn, total)[..., 0], None, windows, x)


def k_max_pool(x: npt.ArrayLike, k: int) -> Array:
    """The k largest of the last axis in the order they stand in; of equal ones the first, NaN above all."""
    x = np.asarray(x, dtype=np.float64)
    largest = np.lexsort((-x, ~np.isnan(x)))[..., :k]
    return np.take_along_axis(x, np.sort(largest, axis=-1), -1)


def dynamic_pool(x: npt.ArrayLike, boundaries: npt.ArrayLike, kind: str = "max") -> Array:
    """Maximum or mean of x[n, c] between neighbouring boundaries[n]; an empty segment gives −∞ or NaN."""
    x, boundaries = np.asarray(x, dtype=np.float64), np.asarray(boundaries)
    y = np.empty((*x.shape[:2], boundaries.shape[1] + 1))
    for n, edges in enumerate(boundaries):
        for s, part in enumerate(np.split(x[n], edges, axis=-1)):
            with np.errstate(invalid="ignore"):
                mean = part.sum(-1) / np.float64(part.shape[-1])
            y[n, :, s] = part.max(-1, initial=-np.inf) if kind == "max" else mean
    return y


def pad(x: npt.ArrayLike, windows: Sequence[Window], value: float = 0.0) -> Array:
    """The padded input: windows of one tap each."""
    return _shaped(taps(x, windows, value)[..., 0], None, windows, x)


def batch_norm(
    x: npt.ArrayLike, weight: npt.ArrayLike | None, bias: npt.ArrayLike | None, eps: float, relu: bool = False
) -> Array:
    """y[n, c, o] = (x[n, c, o] − μ[c]) / √(σ²[c] + ε) · w[c] + b[c], by the moments of all images and places.

    weight, bias: [C]; the variance is that of all numbers, without Bessel's correction (Ioffe & Szegedy 2015).
    """
    x = np.asarray(x, np.float64)
    axes, line = (0, *range(2, x.ndim)), (-1, *(1 for _ in x.shape[2:]))
    y = (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + eps)
    if weight is not None:
        y = y * np.asarray(weight, np.float64).reshape(line)
    if bias is not None:
        y = y + np.asarray(bias, np.float64).reshape(line)
    result: Array = np.maximum(y, 0) if relu else y
    return result


def run(operation: spec.Operation[Any], x: npt.ArrayLike, *tensors: Any) -> Any:
    """The operation of a spec, as `svertka.functional.run` computes it (stochastic pooling: its evaluation)."""
    windows = operation.windows
    match operation:
        case spec.Convolution():
            return conv(x, tensors[0], tensors[1], windows, operation.groups)
        case spec.TransposedConvolution():
            return conv_transpose(x, tensors[0], tensors[1], windows, operation.groups)
        case spec.Unshared():
            return locally_connected(x, tensors[0], tensors[1], windows, operation.groups)
        case spec.MaxPool():
            return max_pool(x, windows)[0]
        case spec.RectifiedMaxPool():
            return np.maximum(max_pool(x, windows)[0], 0)
        case spec.AveragePool():
            return avg_pool(x, windows, operation.count_include_pad, operation.divisor)
        case spec.LpPool():
            return lp_pool(x, windows, operation.p)
        case spec.WeightedPool():
            return weighted_avg_pool(x, tensors[0], windows, operation.count_include_pad)
        case spec.StochasticPool():
            return stochastic_pool(x, windows)
        case spec.KMaxPool():
            return k_max_pool(x, operation.k)
        case spec.Pad():
            return pad(x, windows, operation.value)
        case spec.BatchNorm():
            weight, bias = (*tensors, None, None)[:2]
            return batch_norm(x, weight, bias, operation.eps, operation.activation is not None)
    raise TypeError(f"the reference has no definition of {type(operation).__name__}")


def _grouped(read: Array, groups: int) -> Array:
    return read.reshape(read.shape[0], groups, read.shape[1] // groups, *read.shape[2:])


def _shaped(y: Array, bias: npt.ArrayLike | None, windows: Sequence[AxisWindow], x: npt.ArrayLike) -> Array:
    """y [N, C, outputs] as [N, C, *output size], the bias added."""
    size = [window.output_size(n) for window, n in zip(windows, np.shape(x)[2:], strict=True)]
    y = y if bias is None else y + np.asarray(bias)[:, None]
    return y.reshape(*y.shape[:2], *size)
