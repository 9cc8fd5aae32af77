"""Operations composed so that a traced graph holds for all sizes and each of its parts has an ONNX operator.

Most of `svertka.portable` does already. What is here instead: poolings for which torch has an operation of its own that
ONNX lacks (to a given output size, sums, k-max), or that the exporter would write down wrongly (a divisor is dropped,
sizes rounded up are not those of torch).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from svertka import functional, portable, spec
from svertka import window as geometry
from svertka.window import Segments, Window

_MAX: Any = (F.max_pool1d, F.max_pool2d, F.max_pool3d)
_AVERAGE: Any = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)
_TORCHS: dict[Any, Callable[..., Any]] = {
    getattr(F, f"{name}{ndim}d"): getattr(functional, f"{name}{ndim}d")
    for name in ("adaptive_max_pool", "adaptive_avg_pool")
    for ndim in (1, 2, 3)
}


class Composed(TorchFunctionMode):
    """While it is on, the operations of `svertka.functional`, and torch's adaptive poolings, are composed as above."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is functional.run:
            return _run(*args, **kwargs)
        if func is functional.k_max_pool1d:
            return _k_max(*args, **kwargs)
        if func in _TORCHS:
            with self:
                return _TORCHS[func](*args, **kwargs)
        return func(*args, **kwargs)


def _run(operation: spec.Operation[Any], x: Tensor, *tensors: Any, **options: Any) -> Any:
    if x.ndim == operation.ndim + 1:
        result = _run(operation, x[None], *tensors, **options)
        return tuple(part[0] for part in result) if isinstance(result, tuple) else result[0]
    match operation:
        case spec.MaxPool():
            return _max(operation, x, **options)
        case spec.AveragePool():
            return _average(operation, x)
        case spec.LpPool(p=math.inf):
            return _max(spec.MaxPool(operation.windows), x.abs()).clamp(min=0)
        case spec.LpPool(p=p):
            total = _total(operation.windows, x.abs() if p == 1 else x.abs() ** p)
            return total if p == 1 else total ** (1 / p)
        case spec.ConvolutionBlock(pool=(_, *_)):
            block = spec.ConvolutionBlock(operation.windows, operation.groups, operation.activation)
            return _max(spec.MaxPool(operation.pool), portable.run(block, x, *tensors))
    return portable.run(operation, x, *tensors, **options)


def _max(operation: spec.MaxPool, x: Tensor, return_indices: bool = False) -> Any:
    windows = operation.windows
    if return_indices:
        if operation.ndim == 1:  # torch's for one axis decides on the size
            values, index = portable.run(_lifted(operation), x[:, :, None], return_indices=True)
            return values[:, :, 0], index[:, :, 0]
        return portable.run(operation, x, return_indices=True)
    for axis, window in enumerate(windows, start=2):
        if isinstance(window, Segments):
            x = _largest_of_segments(window, x, axis)
    others = [Window(1) if isinstance(window, Segments) else window for window in windows]
    if all(window == Window(1) for window in others):
        return x
    if operation.ndim == 1:
        return _max(_lifted(spec.MaxPool(tuple(others))), x[:, :, None])[:, :, 0]
    symmetric = _symmetric_zeros(others)
    if symmetric is None:
        x = portable.pad(x, others, -math.inf)
    sizes, strides, dilations = _numbers(others)
    return _MAX[operation.ndim - 1](x, sizes, strides, symmetric or 0, dilations)


def _lifted(operation: spec.MaxPool) -> spec.MaxPool:
    return spec.MaxPool((Window(1), *operation.windows))


def _largest_of_segments(window: Segments, x: Tensor, axis: int) -> Tensor:
    if window.count == 1:
        return x.amax(axis, keepdim=True)
    places = window.filled(x.shape[axis], torch)
    taps = x.index_select(axis, places.reshape(-1).to(x.device))
    return taps.reshape(*x.shape[:axis], window.count, -1, *x.shape[axis + 1 :]).amax(axis + 1)


def _average(operation: spec.AveragePool, x: Tensor) -> Any:
    windows, divisor = operation.windows, operation.divisor
    if divisor is not None:
        return _total(windows, x) / divisor
    symmetric = _symmetric_zeros(windows)
    if symmetric is not None and all(getattr(window, "dilation", 0) == 1 for window in windows):
        kernel, stride, _ = _numbers(windows)
        return _AVERAGE[operation.ndim - 1](x, kernel, stride, symmetric, False, operation.count_include_pad)
    if all(isinstance(window, Segments) and window.count == 1 for window in windows):
        return x.mean(tuple(range(2, x.ndim)), keepdim=True)
    counted = "taps_on_line" if operation.count_include_pad else "taps_inside"
    return _total(windows, x) / geometry.taps(windows, x.shape[2:], counted, torch).to(x)


def _total(windows: Sequence[Any], x: Tensor) -> Tensor:
    """The sum of each window."""
    for axis, window in enumerate(windows, start=2):
        if isinstance(window, Segments):
            x = _total_of_segments(window, x, axis)
    windows = [Window(1) if isinstance(window, Segments) else window for window in windows]
    if all(window == Window(1) for window in windows):
        return x
    if any(window.dilation > 1 for window in windows):
        return portable.gather(x, windows, 0.0)[0].sum(-1)
    kernel, stride, _ = _numbers(windows)
    mean: Tensor = _AVERAGE[len(windows) - 1](portable.pad(x, windows), kernel, stride)
    return mean * math.prod(kernel)


def _total_of_segments(window: Segments, x: Tensor, axis: int) -> Tensor:
    """x · Mᵀ along the axis, M[i, j] = 1 where input j is in segment i."""
    if window.count == 1:
        return x.sum(axis, keepdim=True)
    starts, ends = window.bounds(x.shape[axis], torch)
    place = torch.arange(x.shape[axis])[:, None]
    inside = ((place >= starts) & (place < ends)).to(x)
    total: Tensor = x.movedim(axis, -1) @ inside
    return total.movedim(-1, axis)


def _numbers(windows: Sequence[Any]) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(getattr(window, name) for window in windows) for name in ("size", "stride", "dilation"))


def _symmetric_zeros(windows: Sequence[Any]) -> tuple[int, ...] | None:
    """The zero padding of each axis where ONNX's poolings and torch's agree on it; None elsewhere."""
    pads = []
    for window in windows:
        if not isinstance(window, Window) or isinstance(window.padding, str) or window.ceil_mode:
            return None
        before, after = window.padding
        if before != after or not 0 <= 2 * before <= window.size or (window.mode != "zeros" and before):
            return None
        pads.append(before)
    return tuple(pads)


def _k_max(x: Tensor, k: int) -> Tensor:
    """ONNX's TopK takes the first of equal values, which torch's doesn't promise."""
    order = x.topk(k, dim=-1).indices
    return x.gather(-1, order.sort(dim=-1).values)
