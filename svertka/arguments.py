"""Specs from arguments: what torch's functions and layers are told, as the spec of an operation, built once."""

from __future__ import annotations

from typing import Any

from svertka import spec
from svertka.portable import remembered
from svertka.window import Window, integer


@remembered
def convolution_spec(
    ndim: int, kernel_size: Any, stride: Any, padding: Any, dilation: Any, groups: int, mode: str
) -> spec.Convolution:
    """The spec of a convolution, from torch's arguments."""
    return spec.Convolution(
        spec.windows(ndim, kernel_size, stride, padding, dilation, mode), integer(groups, "groups", 1)
    )


@remembered
def transposed_spec(
    ndim: int, kernel_size: Any, stride: Any, padding: Any, output_padding: Any, groups: int, dilation: Any
) -> spec.TransposedConvolution:
    """The spec of a transposed convolution, from torch's arguments."""
    windows = spec.transposed_windows(ndim, kernel_size, stride, padding, output_padding, dilation)
    return spec.TransposedConvolution(windows, integer(groups, "groups", 1))


@remembered
def block_spec(
    ndim: int,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
    mode: str,
    activation: str | None,
    slope: float,
    pool_size: Any,
) -> spec.ConvolutionBlock:
    """The spec of a convolution block; its pooling moves by its own size."""
    convolution = convolution_spec(ndim, kernel_size, stride, padding, dilation, groups, mode)
    pool = () if pool_size is None else spec.windows(ndim, pool_size, pool_size)
    chosen = None if activation is None else spec.Activation(activation, slope)
    return spec.ConvolutionBlock(convolution.windows, convolution.groups, chosen, pool)


@remembered
def unshared_spec(
    ndim: int, kernel_size: Any, stride: Any, padding: Any, dilation: Any, groups: int, mode: str
) -> spec.Unshared:
    """The spec of an unshared convolution, from a convolution's arguments."""
    return spec.Unshared(spec.windows(ndim, kernel_size, stride, padding, dilation, mode), integer(groups, "groups", 1))


@remembered
def pool_spec(
    kind: type[spec.Operation[Any]],
    ndim: int,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: bool,
    mode: str,
    *details: Any,
) -> spec.Operation[Any]:
    """The spec of a pooling of the given kind; a stride of None is the kernel's size."""
    stride = kernel_size if stride is None or stride == () else stride
    return kind(spec.windows(ndim, kernel_size, stride, padding, dilation, mode, ceil_mode), *details)


@remembered
def batch_norm_spec(ndim: int, eps: float, activation: str | None) -> spec.BatchNorm:
    """The spec of batch norm on so many spatial axes."""
    chosen = None if activation is None else spec.Activation(activation)
    return spec.BatchNorm((Window(1),) * ndim, float(eps), chosen)


@remembered
def adaptive_spec(kind: type[spec.Operation[Any]], ndim: int, output_size: Any, *details: Any) -> spec.Operation[Any]:
    """The spec of a pooling to a given output size."""
    return kind(spec.segments(ndim, output_size), *details)


@remembered
def segments_spec(kind: type[spec.Operation[Any]], count: int | None) -> spec.Operation[Any]:
    """The spec of a pooling over nearly equal segments of one axis."""
    return kind(spec.segments(1, count, overlap=False))


@remembered
def k_max_spec(k: int) -> spec.KMaxPool:
    """The spec of a k-max pooling."""
    return spec.KMaxPool(spec.segments(1, 1), k)


@remembered
def segment_pool_spec(kind: str) -> spec.SegmentPool:
    """The spec of a pooling between boundaries."""
    return spec.SegmentPool(spec.segments(1, 1), kind)


def pad_spec(ndim: int, padding: Any, mode: str, value: float) -> spec.Pad:
    """The spec of a padding, from F.pad's argument."""
    return _pad_spec(ndim, padding, mode, value, repr(value))  # what remembers takes −0 for 0, and NaN for new


@remembered
def _pad_spec(ndim: int, padding: Any, mode: str, value: float, _: str) -> spec.Pad:
    return spec.Pad(spec.pad_windows(ndim, padding, mode), value)
