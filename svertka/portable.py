"""Every operation composed from torch's own: any device, any dtype, and the definition of the gradients.

Inputs are [N, C, *size], with as many spatial axes as the operation has windows. Where torch has the very operation it
is called; elsewhere the input is padded by the window's index map (convolutions) or gathered tap by tap through it
(pools, unshared convolution), which costs memory for each tap.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, ParamSpec, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from svertka import spec
from svertka import window as geometry
from svertka.errors import GeometryError
from svertka.window import OUTSIDE, Segments, TransposedWindow, Window

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

_KEEP = Window(1)
_CONV: Any = (None, F.conv1d, F.conv2d, F.conv3d)
_CONV_TRANSPOSE = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)
_MAX: Any = (F.max_pool1d, F.max_pool2d, F.max_pool3d)
_ADAPTIVE_MAX: Any = (F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d)
_ADAPTIVE_AVERAGE: Any = (F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d)


def remembered(build: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Builds once for equal arguments. Under torch.compile, which can't follow a cache, it builds while tracing."""
    cached: Any = lru_cache(maxsize=4096, typed=True)(build)

    def call(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Any:
        if torch.compiler.is_compiling():
            return build(*args, **kwargs)
        try:
            return cached(*args, **kwargs)
        except TypeError:  # a list or a symbolic size, which no cache can hold
            return build(*args, **kwargs)

    return call


def run(operation: spec.Operation[Any], *tensors: Any, **options: Any) -> Any:
    """The operation on the tensors (input first); `options` are what is not part of the spec, such as a generator."""
    return _RUN[type(operation)](operation, *tensors, **options)


def pad(x: Tensor, windows: Sequence[Window], value: float = 0.0) -> Tensor:
    """`x` and what the windows read around it, so that windows without padding read the same."""
    size = x.shape[2:]
    # A decision that hangs on paddings alone, not on sizes, holds for all sizes of a traced graph.
    if all(window.padding == (0, 0) and not window.ceil_mode for window in windows):
        return x
    if all(window.mode == "zeros" for window in windows) and not _varies(windows, size):
        reach = [
            window.reach(n) if window.ceil_mode else window.pads(n) for window, n in zip(windows, size, strict=True)
        ]
        sides = [side for pair in reversed(reach) for side in pair]
        x = F.pad(x, [max(side, 0) for side in sides], value=value)
        # What is cut off may be all of the input and some of the padding, so it is cut last.
        return F.pad(x, [min(side, 0) for side in sides]) if any(side < 0 for side in sides) else x
    channels_last = x.stride(1) == 1 and x.shape[1] > 1  # which index_select keeps only as an order of axes
    x = x.movedim(1, -1) if channels_last else x
    for axis, (window, n) in enumerate(zip(windows, size, strict=True), start=1 if channels_last else 2):
        if window.padding != (0, 0) or window.ceil_mode:
            line = window.padded_line(n, torch).to(x.device)
            x = x.index_select(axis, line.clamp(min=0))
            if window.ceil_mode or window.mode == "zeros":
                x = x.masked_fill((line == OUTSIDE).view(-1, *(1,) * (x.ndim - 1 - axis)), value)
    return x.movedim(-1, 1) if channels_last else x


def _varies(windows: Sequence[Window], size: Sequence[Any]) -> bool:
    """Whether the padding hangs on a size that is left open in a traced graph, where no decision may hang on it."""
    return any(
        isinstance(n, torch.SymInt) and (window.ceil_mode or isinstance(window.padding, str))
        for window, n in zip(windows, size, strict=True)
    )


def gather(x: Tensor, windows: Sequence[Any], fill: float) -> tuple[Tensor, Tensor]:
    """All taps of all windows: values [N, C, *output, taps], `fill` outside; and the index map [*output, taps]."""
    index = geometry.sources(windows, x.shape[2:], torch).to(x.device)
    values = x.flatten(2).index_select(2, index.clamp(min=0).reshape(-1))
    values = values.reshape(*x.shape[:2], *index.shape)
    return values.masked_fill(index == OUTSIDE, fill), index


def _same_on_both_sides(windows: Sequence[Window], size: Sequence[int]) -> tuple[int, ...] | None:
    """The zero padding of each axis if torch's own operations can do it, else None."""
    if any(isinstance(window.padding, str) for window in windows) and _varies(windows, size):
        return None
    pads = [window.pads(n) for window, n in zip(windows, size, strict=True)]
    if all(window.mode == "zeros" for window in windows) and all(0 <= a == b for a, b in pads):
        return tuple(before for before, _ in pads)
    return None


@remembered
def _convolved_by_torch(windows: Sequence[Window], size: Sequence[int]) -> Any:
    """torch's (stride, padding, dilation) for these windows on this size; the padding is None if torch can't do it."""
    stride, dilation = tuple(w.stride for w in windows), tuple(w.dilation for w in windows)
    return stride, _same_on_both_sides(windows, size), dilation


def _convolution(operation: spec.Convolution, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if not operation.windows:
        return F.linear(x, weight, bias)
    stride, padding, dilation = _convolved_by_torch(operation.windows, x.shape[2:])
    if padding is None:
        x, padding = pad(x, operation.windows), (0,) * operation.ndim
    y: Tensor = _CONV[operation.ndim](x, weight, bias, stride, padding, dilation, operation.groups)
    return y


_ACTIVATIONS: dict[str, Callable[..., Tensor]] = {
    "relu": F.relu,
    "relu6": F.relu6,
    "leaky_relu": F.leaky_relu,
    "silu": F.silu,
    "gelu": F.gelu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "hardtanh": F.hardtanh,
    "hardsigmoid": F.hardsigmoid,
    "hardswish": F.hardswish,
}


def _block(
    operation: spec.ConvolutionBlock,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    scale: Tensor | None = None,
    residual: Tensor | None = None,
) -> Any:
    per_channel = (-1, *(1,) * operation.ndim)
    y = _convolution(operation.convolution, x, weight, None if scale is not None else bias)
    if scale is not None:
        y = y * scale.view(per_channel)
        y = y if bias is None else y + bias.view(per_channel)
    y = y if residual is None else y + residual
    activation = operation.activation
    if activation is not None:
        further = (activation.slope,) if activation.name == "leaky_relu" else ()
        y = _ACTIVATIONS[activation.name](y, *further)
    return _max(spec.MaxPool(operation.pool), y) if operation.pool else y


@remembered
def _transposed_by_torch(windows: Sequence[TransposedWindow]) -> Any:
    """torch's (stride, padding, output_padding, dilation), and what F.pad must then cut off."""
    forward = [w.window for w in windows]
    stride, padding, dilation = _convolved_by_torch(forward, (0,) * len(forward))
    crop = [-side for w in reversed(forward) for side in w.pads(0)] if padding is None else []
    return stride, padding or (0,) * len(forward), tuple(w.output_padding for w in windows), dilation, crop


def _transposed(operation: spec.TransposedConvolution, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    stride, padding, extra, dilation, crop = _transposed_by_torch(operation.windows)
    convolve = _CONV_TRANSPOSE[operation.ndim - 1]
    y = convolve(x, weight, bias, stride, padding, extra, operation.groups, dilation)
    return F.pad(y, crop) if crop else y


def _unshared(operation: spec.Unshared, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    ndim, groups = operation.ndim, operation.groups
    outputs = operation.output_size(x.shape[2:])
    if tuple(weight.shape[:ndim]) != outputs:
        raise GeometryError(
            f"an unshared weight fits one input size: this one has the output size {list(weight.shape[:ndim])}, but "
            f"the input of size {list(x.shape[2:])} gives {list(outputs)}"
        )
    values, _ = gather(x, operation.windows, 0.0)
    values = values.reshape(x.shape[0], groups, x.shape[1] // groups, math.prod(outputs), values.shape[-1])
    kernels = weight.reshape(math.prod(outputs), groups, weight.shape[ndim] // groups, *values.shape[2::2])
    y = torch.einsum("ngcok,ogdck->ngdo", values, kernels).reshape(x.shape[0], weight.shape[ndim], *outputs)
    return y if bias is None else y + bias.movedim(-1, 0).to(y.dtype)  # autocast lowers the product alone


@remembered
def _pooled_by_torch(windows: Sequence[Any], size: Sequence[int], average: bool = False) -> Any:
    """torch's (kernel_size, stride, padding, dilation, ceil_mode) for these windows on this size, or None."""
    for window, n in zip(windows, size, strict=True):
        # Where a gap between taps can skip the whole input, torch's maximum names a place outside it, and writes its
        # gradient there. torch's averages have no dilation, and in 3-d refuse an input smaller than the kernel.
        if not isinstance(window, Window) or window.dilation > n:
            return None
        if average and (window.dilation > 1 or (len(windows) == 3 and window.size > n)):
            return None
    padding = _same_on_both_sides(windows, size)
    if padding is None or any(2 * p > w.size for p, w in zip(padding, windows, strict=True)):
        return None
    sizes, strides, dilations = (tuple(getattr(w, name) for w in windows) for name in ("size", "stride", "dilation"))
    return sizes, strides, padding, dilations, windows[0].ceil_mode


def _adaptive(windows: Sequence[Any]) -> bool:
    return all((isinstance(w, Segments) and w.overlap) or w == _KEEP for w in windows)


def _max(operation: spec.MaxPool, x: Tensor, *, return_indices: bool = False) -> Any:
    windows, size, axis = operation.windows, x.shape[2:], operation.ndim - 1
    arguments = _pooled_by_torch(windows, size)
    if arguments is not None:
        *geometry_arguments, ceil_mode = arguments
        return _MAX[axis](x, *geometry_arguments, ceil_mode=ceil_mode, return_indices=return_indices)
    if _adaptive(windows):
        return _ADAPTIVE_MAX[axis](x, operation.output_size(size), return_indices=return_indices)
    values, index = gather(x, windows, _lowest(x.dtype))
    largest, tap = values.max(dim=-1)
    if not return_indices:
        return largest
    chosen = index.expand(*x.shape[:2], *index.shape).gather(-1, tap[..., None])[..., 0]
    # Where all inputs of a window are −∞ a tap outside may have come first: take the window's first input.
    first = index.gather(-1, (index != OUTSIDE).to(torch.int8).argmax(-1, keepdim=True))[..., 0]
    return largest, torch.where(chosen == OUTSIDE, first, chosen)


def _rectified_max(operation: spec.RectifiedMaxPool, x: Tensor) -> Tensor:
    return F.relu(_max(spec.MaxPool(operation.windows), x))


def _lowest(dtype: torch.dtype) -> float:
    return -math.inf if dtype.is_floating_point or dtype.is_complex else torch.iinfo(dtype).min


def _window_sum(windows: Sequence[Any], x: Tensor) -> Any:
    size, axis = x.shape[2:], len(windows) - 1
    if x.is_floating_point():
        if _adaptive(windows):
            count = geometry.taps(windows, size, "taps_inside", torch).to(x.device)
            return _adaptive_mean(windows, x) * count
        arguments = _pooled_by_torch(windows, size, True)
        if arguments is not None:
            kernel, stride, padding, _, ceil_mode = arguments
            return _AVERAGE[axis](x, kernel, stride, padding, ceil_mode, True, 1)
        if all(isinstance(w, Window) and w.dilation == 1 for w in windows):
            kernel, stride = tuple(w.size for w in windows), tuple(w.stride for w in windows)
            return _AVERAGE[axis](pad(x, windows), kernel, stride, (0,) * len(windows), False, True, 1)
    return gather(x, windows, 0.0)[0].sum(-1)


def _avg_pool1d(
    x: Tensor, kernel: Any, stride: Any, padding: Any, ceil_mode: bool, count_include_pad: bool, divisor: Any = None
) -> Tensor:
    """torch's, with the divisor that its siblings for more axes have."""
    if divisor is None:
        return F.avg_pool1d(x, kernel, stride, padding, ceil_mode, count_include_pad)
    kernel, stride, padding = (1, *kernel), (1, *stride), (0, *padding)
    return F.avg_pool2d(x[..., None, :], kernel, stride, padding, ceil_mode, count_include_pad, divisor)[..., 0, :]


_AVERAGE: Any = (_avg_pool1d, F.avg_pool2d, F.avg_pool3d)


def _adaptive_mean(windows: Sequence[Any], x: Tensor) -> Any:
    output_size = tuple(w.output_size(n) for w, n in zip(windows, x.shape[2:], strict=True))
    return _ADAPTIVE_AVERAGE[len(windows) - 1](x, output_size)


def _average(operation: spec.AveragePool, x: Tensor) -> Any:
    windows, size = operation.windows, x.shape[2:]
    if operation.divisor is not None:
        return _divided(_window_sum(windows, x), operation.divisor)
    arguments = _pooled_by_torch(windows, size, True)
    if arguments is not None:
        kernel, stride, padding, _, ceil_mode = arguments
        return _AVERAGE[operation.ndim - 1](x, kernel, stride, padding, ceil_mode, operation.count_include_pad)
    if _adaptive(windows):
        return _adaptive_mean(windows, x)
    counted = "taps_on_line" if operation.count_include_pad else "taps_inside"
    return _divided(_window_sum(windows, x), geometry.taps(windows, size, counted, torch).to(x.device))


def _divided(total: Tensor, count: Any) -> Tensor:
    """The mean; that of integers is cut to an integer, as in torch."""
    inexact = total.is_floating_point() or total.is_complex()
    return torch.div(total, count, rounding_mode=None if inexact else "trunc")


def _lp(operation: spec.LpPool, x: Tensor) -> Any:
    p, magnitude = operation.p, (x.abs() if x.is_floating_point() or x.is_complex() else x.float().abs())
    if p == math.inf:  # a window that reads no input gives 0, like every other p
        return _max(spec.MaxPool(operation.windows), magnitude).clamp(min=0)
    total = _window_sum(operation.windows, _power(magnitude, p))
    return _power(total, 1 / p)


def _power(x: Tensor, p: float) -> Tensor:
    """x ** p for x ≥ 0, with the gradient 0 at x = 0 (the power's own is infinite for p < 1, its next for p < 2)."""
    if p == 1:
        return x
    if p >= 2:
        return x**p
    zero = x == 0
    return (x + zero) ** p * ~zero


def _weighted(operation: spec.WeightedPool, x: Tensor, weight: Tensor) -> Tensor:
    windows, channels = operation.windows, x.shape[1]
    weight = weight / weight.flatten(1).sum(1).view(-1, *(1,) * operation.ndim)
    kernel = weight.expand(channels, *weight.shape[1:])[:, None]
    convolution = spec.Convolution(windows, groups=channels)
    total = _convolution(convolution, x, kernel, None)
    if operation.count_include_pad:
        return total
    return total / _convolution(convolution, torch.ones_like(x[:1]), kernel, None)


def _stochastic(operation: spec.StochasticPool, x: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
    values, _ = gather(x.clamp(min=0), operation.windows, 0.0)
    values = values.to(torch.promote_types(x.dtype, torch.float32))  # sums of half precision would run full
    total = values.sum(-1)
    if not operation.sample:
        weights = values / torch.where(total == 0, 1.0, total)[..., None]
        return (weights * values).sum(-1).to(x.dtype)
    running = values.detach().cumsum(-1)
    draw = torch.rand(running.shape[:-1], generator=generator, dtype=values.dtype, device=x.device)
    tap = (running <= (draw * running[..., -1])[..., None]).sum(-1, keepdim=True)
    drawn = values.gather(-1, tap.clamp(max=values.shape[-1] - 1))[..., 0]
    total = total.detach()  # 0, ∞ or NaN where nothing can be drawn
    return torch.where((total > 0) & total.isfinite(), drawn, total).to(x.dtype)


def _pad(operation: spec.Pad, x: Tensor) -> Tensor:
    operation.output_size(x.shape[2:])  # raises where all would be cut off
    return pad(x, operation.windows, operation.value)


def _k_max(operation: spec.KMaxPool, x: Tensor) -> Tensor:
    order = torch.sort(x, dim=-1, descending=True, stable=True).indices[..., : operation.k]
    return x.gather(-1, order.sort(dim=-1).values)


def _segments(operation: spec.SegmentPool, x: Tensor, boundaries: Tensor) -> Tensor:
    length = x.shape[-1]
    edges = F.pad(F.pad(boundaries, (1, 0), value=0), (0, 1), value=length)
    place = torch.arange(length, device=x.device)
    inside = (place >= edges[:, :-1, None]) & (place < edges[:, 1:, None])  # [N, S, L]
    taps, inside = x[:, :, None, :], inside[:, None]
    if operation.kind == "max":
        return taps.masked_fill(~inside, _lowest(x.dtype)).max(-1).values
    return taps.masked_fill(~inside, 0.0).sum(-1) / inside.sum(-1)


def _batch_norm(
    operation: spec.BatchNorm, x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None
) -> Tensor:
    y = F.batch_norm(x, None, None, weight, bias, True, 0.0, operation.eps)
    return y if operation.activation is None else torch.relu(y)


_RUN: dict[type, Callable[..., Any]] = {
    spec.Convolution: _convolution,
    spec.ConvolutionBlock: _block,
    spec.TransposedConvolution: _transposed,
    spec.Unshared: _unshared,
    spec.MaxPool: _max,
    spec.RectifiedMaxPool: _rectified_max,
    spec.AveragePool: _average,
    spec.LpPool: _lp,
    spec.WeightedPool: _weighted,
    spec.StochasticPool: _stochastic,
    spec.KMaxPool: _k_max,
    spec.SegmentPool: _segments,
    spec.Pad: _pad,
    spec.BatchNorm: _batch_norm,
}
