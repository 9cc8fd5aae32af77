"""Which operation a layer is: its spec and its weights, for layers of svertka.nn and of torch.nn alike."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from svertka import arguments, spec
from svertka.errors import GeometryError
from svertka.nn import DynamicPool1d, KMaxPool1d

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Bound:
    """An operation with its weights: all that its result depends on but the input.

    Args:
        operation: the spec.
        weight: float64, shaped as in `svertka.functional`; None if the operation has none.
        bias: float64 or None.
        title: what it is, in a few words, such as "Conv2d".
    """

    operation: spec.Operation[Any]
    weight: Array | None = None
    bias: Array | None = None
    title: str = ""


def bound(what: nn.Module | spec.Operation[Any], weight: Any = None, bias: Any = None) -> Bound:
    """The operation of a layer, or of a spec with its weights.

    Raises:
        GeometryError: if `what` is no single operation with windows.
    """
    if isinstance(what, spec.Operation):
        return Bound(what, _numbers(weight), _numbers(bias), _in_words(type(what).__name__))
    operation = operation_of(what)
    if operation is None:
        raise GeometryError(
            f"{type(what).__name__} is not one operation with windows: give a convolution, pooling or padding layer"
        )
    return Bound(
        operation, _numbers(getattr(what, "weight", None)), _numbers(getattr(what, "bias", None)), type(what).__name__
    )


def operation_of(layer: nn.Module) -> spec.Operation[Any] | None:
    """The spec of a layer of svertka.nn or torch.nn; None if it has no windows."""
    ours = getattr(layer, "operation", None)
    if isinstance(ours, spec.Operation):
        return ours
    if isinstance(layer, KMaxPool1d):
        return arguments.k_max_spec(layer.k)
    if isinstance(layer, DynamicPool1d) and layer.segments:
        kind: Any = spec.MaxPool if layer.kind == "max" else spec.AveragePool
        return arguments.segments_spec(kind, layer.segments)
    for classes, parse in _TORCH:
        for ndim, theirs in enumerate(classes, start=1):
            if isinstance(layer, theirs):
                operation: spec.Operation[Any] = parse(layer, ndim)
                return operation
    return None


def _in_words(name: str) -> str:
    """TransposedConvolution → Transposed convolution."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).capitalize()


def _numbers(values: Any) -> Array | None:
    if values is None:
        return None
    return np.asarray(values.detach().cpu().double() if isinstance(values, Tensor) else values, dtype=np.float64)


def _convolution(layer: Any, ndim: int) -> spec.Operation[Any]:
    return arguments.convolution_spec(
        ndim, layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.groups, layer.padding_mode
    )


def _transposed(layer: Any, ndim: int) -> spec.Operation[Any]:
    return arguments.transposed_spec(
        ndim, layer.kernel_size, layer.stride, layer.padding, layer.output_padding, layer.groups, layer.dilation
    )


def _max(layer: Any, ndim: int) -> spec.Operation[Any]:
    return arguments.pool_spec(
        spec.MaxPool, ndim, layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.ceil_mode, "zeros"
    )


def _average(layer: Any, ndim: int) -> spec.Operation[Any]:
    return arguments.pool_spec(
        spec.AveragePool, ndim, layer.kernel_size, layer.stride, layer.padding, 1, layer.ceil_mode, "zeros",
        layer.count_include_pad, getattr(layer, "divisor_override", None),
    )  # fmt: skip


def _lp(layer: Any, ndim: int) -> spec.Operation[Any]:
    return arguments.pool_spec(
        spec.LpPool, ndim, layer.kernel_size, layer.stride, 0, 1, layer.ceil_mode, "zeros", float(layer.norm_type)
    )


_TORCH: tuple[tuple[Any, Any], ...] = (
    ((nn.Conv1d, nn.Conv2d, nn.Conv3d), _convolution),
    ((nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d), _transposed),
    ((nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d), _max),
    ((nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d), _average),
    ((nn.LPPool1d, nn.LPPool2d, nn.LPPool3d), _lp),
    (
        (nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d),
        lambda layer, ndim: arguments.adaptive_spec(spec.MaxPool, ndim, layer.output_size),
    ),
    (
        (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
        lambda layer, ndim: arguments.adaptive_spec(spec.AveragePool, ndim, layer.output_size),
    ),
)
