"""The operations of the lecture: tensors in, tensors out, with torch.nn.functional's names, arguments and defaults.

Every operation takes [N, C, *size] or, without the batch, [C, *size], with 1, 2 or 3 spatial axes as its name says, and
gives the same kind. Any float dtype, any device, autograd. Beyond torch's arguments:

* `padding` also takes a name ("valid", "same", "same_upper", "same_lower") or a pair (before, after) for each axis, and
  may be wider than half the kernel and than the input;
* `padding_mode` is one of "zeros", "replicate", "reflect", "symmetric", "circular".

Sizes that make no window raise GeometryError, which is both a ValueError and a RuntimeError.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, Concatenate, ParamSpec, TypeVar

import torch
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function

from svertka import arguments, portable, spec
from svertka.engine import dispatch
from svertka.errors import GeometryError
from svertka.window import integer

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")
Sizes = int | Sequence[int]
Padding = int | str | Sequence[int | str | tuple[int, int]]


def run(operation: spec.Operation[Any], x: Tensor, *tensors: Tensor | None, **options: Any) -> Any:
    """Runs an operation on [N, C, *size] or [C, *size]: the one place that chooses who computes it."""
    if has_torch_function((x, *tensors)):  # somebody watches (`svertka.explain`), or x is of a class of its own
        return handle_torch_function(run, (x, *tensors), operation, x, *tensors, **options)
    unbatched = x.ndim == operation.ndim + 1
    if not unbatched and x.ndim != operation.ndim + 2:
        raise GeometryError(
            f"expected {operation.ndim + 1}D (unbatched) or {operation.ndim + 2}D (batched) input, "
            f"[N, C, {operation.ndim} sizes], but got an input of shape {list(x.shape)}"
        )
    batch = x[None] if unbatched else x
    try:
        # What torch traces, it shall see composed of its own operations.
        traced = torch.compiler.is_compiling()
        result = NotImplemented if traced else dispatch.attempt(operation, batch, tensors, options)
        if result is NotImplemented:
            result = portable.run(operation, batch, *tensors, **options)
    except RuntimeError:
        _explain(operation, x, *tensors)
        raise
    if not unbatched:
        return result
    return tuple(part[0] for part in result) if isinstance(result, tuple) else result[0]


def _explain(operation: spec.Operation[Any], x: Tensor, *tensors: Tensor | None) -> None:
    """Raises the GeometryError that tells why the operation failed, if sizes are the reason."""
    operation.output_size(x.shape[-operation.ndim :])
    channels, weight = x.shape[-operation.ndim - 1], tensors[0] if tensors else None
    if weight is None:
        return
    match operation:
        case spec.SegmentPool():  # which has no weight, but boundaries
            return
        case spec.Convolution() | spec.ConvolutionBlock():
            expected = weight.shape[1] * operation.groups
        case spec.TransposedConvolution():
            expected = weight.shape[0]
        case spec.Unshared():
            expected = weight.shape[operation.ndim + 1] * operation.groups
        case _:  # a weighted pooling: one weight serves all channels, or each has its own
            expected = channels if weight.shape[0] == 1 else weight.shape[0]
    if channels != expected:
        raise GeometryError(
            f"weight of size {list(weight.shape)} expects an input of {expected} channels, "
            f"but the input of shape {list(x.shape)} has {channels}"
        )


def _conv(
    ndim: int,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: Padding = 0,
    dilation: Sizes = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
) -> Tensor:
    """Convolution, y[o] = b + Σ w[t] · x[o·stride + t·dilation − before]: cross-correlation, as in all deep learning.

    Args:
        input: [N, in_channels, *size].
        weight: [out_channels, in_channels / groups, *kernel_size].
        bias: [out_channels] or None.

    Returns:
        [N, out_channels, *output size]; output size ⌊(n + before + after − extent) / stride⌋ + 1 on each axis.
    """
    operation = arguments.convolution_spec(ndim, weight.shape[2:], stride, padding, dilation, groups, padding_mode)
    return run(operation, input, weight, bias)  # type: ignore[no-any-return]


def _conv_block(
    ndim: int,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: Padding = 0,
    dilation: Sizes = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
    scale: Tensor | None = None,
    residual: Tensor | None = None,
    activation: str | None = None,
    negative_slope: float = 0.01,
    pool_size: Sizes | None = None,
) -> Tensor:
    """Convolution → nonlinearity → pooling as one: max over windows of activation(scale · Σ w·x + bias + residual).

    Args:
        input, weight, bias, stride, padding, dilation, groups, padding_mode: of the convolution.
        scale: [out_channels], as batch norm leaves it in evaluation; or None.
        residual: added before the activation, [N, out_channels, *the convolution's output size]; or None.
        activation: a name of `spec.ACTIVATIONS`, or None.
        negative_slope: of leaky_relu.
        pool_size: kernel size, and stride, of a maximum pooling; or None.

    Returns:
        [N, out_channels, *output size].
    """
    operation = arguments.block_spec(
        ndim, weight.shape[2:], stride, padding, dilation, groups, padding_mode, activation, negative_slope, pool_size
    )
    return run(operation, input, weight, bias, scale, residual)  # type: ignore[no-any-return]


def _conv_transpose(
    ndim: int,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: int | Sequence[int | tuple[int, int]] = 0,
    output_padding: Sizes = 0,
    groups: int = 1,
    dilation: Sizes = 1,
) -> Tensor:
    """Transposed convolution: the adjoint of the convolution with these arguments, a layer of its own.

    Args:
        input: [N, in_channels, *size].
        weight: [in_channels, out_channels / groups, *kernel_size].
        bias: [out_channels] or None.
        output_padding: places added at the end, to choose among the sizes that the convolution maps to one size.

    Returns:
        [N, out_channels, *output size]; output size (n − 1)·stride − before − after + extent + output_padding.
    """
    operation = arguments.transposed_spec(ndim, weight.shape[2:], stride, padding, output_padding, groups, dilation)
    return run(operation, input, weight, bias)  # type: ignore[no-any-return]


_LINEAR = spec.Convolution(())


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """y = x·wᵀ + b, the convolution with no spatial axes: a dense layer.

    Args:
        input: [*, in_features].
        weight: [out_features, in_features].
        bias: [out_features] or None.

    Returns:
        [*, out_features].
    """
    if input.ndim == 2:
        return run(_LINEAR, input, weight, bias)  # type: ignore[no-any-return]
    rows = run(_LINEAR, input.reshape(-1, input.shape[-1]), weight, bias)
    return rows.reshape(*input.shape[:-1], weight.shape[0])  # type: ignore[no-any-return]


def _locally_connected(
    ndim: int,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: Padding = 0,
    dilation: Sizes = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
) -> Tensor:
    """Unshared convolution: at each place a weight of its own (Goodfellow et al., Deep Learning, section 9.5).

    Args:
        input: [N, in_channels, *size].
        weight: [*output size, out_channels, in_channels / groups, *kernel_size]: at each place a convolution's weight.
        bias: [*output size, out_channels] or None.

    Returns:
        [N, out_channels, *output size].
    """
    if weight.ndim != 2 * ndim + 2:
        raise GeometryError(
            f"an unshared weight is [{ndim} output sizes, out_channels, in_channels / groups, {ndim} kernel sizes], "
            f"but got one of shape {list(weight.shape)}"
        )
    operation = arguments.unshared_spec(ndim, weight.shape[ndim + 2 :], stride, padding, dilation, groups, padding_mode)
    return run(operation, input, weight, bias)  # type: ignore[no-any-return]


def _max_pool(
    ndim: int,
    input: Tensor,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Padding = 0,
    dilation: Sizes = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    *,
    padding_mode: str = "zeros",
) -> Any:
    """The largest input of each window; its gradient goes to the first of them.

    In mode "zeros" the padding takes no part (it is −∞), as in torch; a window that reads no input gives −∞.

    Returns:
        [N, C, *output size], or with `return_indices` a pair of it and of int64 row-major indices into the spatial
        input (−1 for a window that reads no input).
    """
    operation = arguments.pool_spec(spec.MaxPool, ndim, kernel_size, stride, padding, dilation, ceil_mode, padding_mode)
    return run(operation, input, return_indices=return_indices)


def _avg_pool(
    ndim: int,
    input: Tensor,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: float | None = None,
    *,
    dilation: Sizes = 1,
    padding_mode: str = "zeros",
) -> Tensor:
    """The mean of each window; `count_include_pad` counts zeros on the padding, `divisor_override` divides by itself.

    Without `count_include_pad`, a window that reads no input gives NaN (0 / 0).
    """
    operation = arguments.pool_spec(
        spec.AveragePool, ndim, kernel_size, stride, padding, dilation, ceil_mode, padding_mode,
        count_include_pad, divisor_override,
    )  # fmt: skip
    return run(operation, input)  # type: ignore[no-any-return]


def _lp_pool(
    ndim: int,
    input: Tensor,
    norm_type: float,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    ceil_mode: bool = False,
    *,
    padding: Padding = 0,
    dilation: Sizes = 1,
    padding_mode: str = "zeros",
) -> Tensor:
    """(Σ |x|^p)^(1/p) of each window, for any p = `norm_type` > 0 and ∞.

    torch's own takes powers of the signed input, so that odd p lose what cancels; this is the norm. Its gradient is 0
    where the norm is 0.
    """
    operation = arguments.pool_spec(
        spec.LpPool, ndim, kernel_size, stride, padding, dilation, ceil_mode, padding_mode, norm_type
    )
    return run(operation, input)  # type: ignore[no-any-return]


def _weighted_avg_pool(
    ndim: int,
    input: Tensor,
    weight: Tensor,
    stride: Sizes | None = None,
    padding: Padding = 0,
    count_include_pad: bool = True,
    *,
    dilation: Sizes = 1,
    padding_mode: str = "zeros",
) -> Tensor:
    """Σ w·x / Σ w of each window, with its gradient to the weights, too.

    Args:
        input: [N, C, *size].
        weight: [C or 1, *kernel_size], normalised here; not negative, with a positive sum.
        count_include_pad: False leaves taps on the padding out of Σ w.
    """
    if weight.ndim != ndim + 1:
        raise GeometryError(
            f"the weight of a weighted pooling is [channels or 1, {ndim} kernel sizes], "
            f"but got one of shape {list(weight.shape)}"
        )
    operation = arguments.pool_spec(
        spec.WeightedPool, ndim, tuple(weight.shape[1:]), stride, padding, dilation, False, padding_mode,
        count_include_pad,
    )  # fmt: skip
    return run(operation, input, weight)  # type: ignore[no-any-return]


def _stochastic_pool(
    ndim: int,
    input: Tensor,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Padding = 0,
    training: bool = True,
    *,
    dilation: Sizes = 1,
    ceil_mode: bool = False,
    padding_mode: str = "zeros",
    generator: torch.Generator | None = None,
) -> Tensor:
    """A draw from each window with probability ∝ value (Zeiler & Fergus 2013, section 3).

    Negative values count as 0; a window without a positive value gives 0. The gradient goes to the drawn place. Not in
    `training`: the mean weighted by the same probabilities, Σ x² / Σ x (section 3.2).

    Args:
        generator: draws from it instead of torch's default one.
    """
    operation = arguments.pool_spec(
        spec.StochasticPool, ndim, kernel_size, stride, padding, dilation, ceil_mode, padding_mode, training
    )
    return run(operation, input, generator=generator)  # type: ignore[no-any-return]


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *,
    activation: str | None = None,
) -> Tensor:
    """(x − mean) / √(variance + eps) · weight + bias, of each channel (Ioffe & Szegedy 2015); then max(·, 0), if asked.

    Args:
        input: [N, C, *size].
        running_mean, running_var: [C]; in `training` they move towards the batch's by `momentum` (the variance
            with Bessel's correction), else they stand for it. They may be None in training.
        weight, bias: [C] or None.
        activation: "relu" or None.
    """
    if activation not in (None, "relu"):
        raise GeometryError(f"activation={activation!r} can't be taken with batch norm: give 'relu' or None")
    result = NotImplemented
    watched = has_torch_function((input, weight, bias))
    if training and input.ndim > 1 and not watched and not torch.compiler.is_compiling():
        operation = arguments.batch_norm_spec(input.ndim - 2, eps, activation)
        result = dispatch.attempt(operation, input, (weight, bias), {})
    if result is NotImplemented:
        y = torch.nn.functional.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
        return y if activation is None else torch.relu_(y)
    y, mean, variance = result
    with torch.no_grad():
        count = input.numel() // input.shape[1]
        if running_mean is not None:
            running_mean.lerp_(mean.to(running_mean.dtype), momentum)
        if running_var is not None:
            running_var.lerp_((variance * (count / (count - 1))).to(running_var.dtype), momentum)
    return y


def k_max_pool1d(input: Tensor, k: int) -> Tensor:
    """The k largest of each sequence, in the order they stand in (Kalchbrenner et al. 2014, section 3.2).

    Args:
        input: [*, L], L ≥ k.

    Returns:
        [*, k]; of equal values those that stand first are taken.
    """
    if has_torch_function((input,)):
        return handle_torch_function(k_max_pool1d, (input,), input, k)
    if not 1 <= integer(k, "k", 1) <= input.shape[-1]:
        raise GeometryError(f"k={k} of a k-max pooling must lie between 1 and the length {input.shape[-1]}")
    if input.ndim in (2, 3):
        return run(arguments.k_max_spec(k), input)  # type: ignore[no-any-return]
    rows = run(arguments.k_max_spec(k), input.reshape(1, -1, input.shape[-1]))
    return rows.reshape(*input.shape[:-1], k)  # type: ignore[no-any-return]


def dynamic_pool1d(
    input: Tensor, segments: int | None = None, boundaries: Tensor | None = None, kind: str = "max"
) -> Tensor:
    """Maximum or mean of each segment of a sequence.

    Args:
        input: [N, C, L].
        segments: cut every sequence into this many nearly equal parts (Socher et al. 2011, section 2.3; with more
            segments than inputs they repeat inputs).
        boundaries: or cut sample n at the places boundaries[n], int64 [N, S − 1], rising from 0 to L (Chen et al. 2015,
            dynamic multi-pooling). An empty segment has the maximum −∞ and the mean NaN.
        kind: "max" or "average".

    Returns:
        [N, C, segments].
    """
    if kind not in ("max", "average"):
        raise GeometryError(f"kind={kind!r} of a dynamic pooling is unknown: choose 'max' or 'average'")
    if (segments is None) == (boundaries is None):
        raise GeometryError("a dynamic pooling needs either a number of segments or boundaries, not both or none")
    if boundaries is None:
        return run(arguments.segments_spec(spec.MaxPool if kind == "max" else spec.AveragePool, segments), input)  # type: ignore[no-any-return]
    if boundaries.ndim != 2 or input.ndim != 3 or boundaries.shape[0] != input.shape[0]:
        raise GeometryError(
            f"boundaries are [N, segments − 1] for an input [N, C, L], but got {list(boundaries.shape)} "
            f"for {list(input.shape)}"
        )
    operation = arguments.segment_pool_spec(kind)
    if has_torch_function((input, boundaries)):  # who watches sees what it is composed of
        return portable.run(operation, input, boundaries)  # type: ignore[no-any-return]
    return run(operation, input, boundaries)  # type: ignore[no-any-return]


def _adaptive_max_pool(ndim: int, input: Tensor, output_size: Any, return_indices: bool = False) -> Any:
    """Maximum pooling to a given output size: output i looks at the inputs ⌊i·n/m⌋ … ⌈(i+1)·n/m⌉ − 1."""
    return run(arguments.adaptive_spec(spec.MaxPool, ndim, output_size), input, return_indices=return_indices)


def _adaptive_avg_pool(ndim: int, input: Tensor, output_size: Any) -> Tensor:
    """Average pooling to a given output size: output i looks at the inputs ⌊i·n/m⌋ … ⌈(i+1)·n/m⌉ − 1."""
    return run(arguments.adaptive_spec(spec.AveragePool, ndim, output_size), input)  # type: ignore[no-any-return]


def _adaptive_lp_pool(ndim: int, input: Tensor, norm_type: float, output_size: Any) -> Tensor:
    """Lp pooling to a given output size: output i looks at the inputs ⌊i·n/m⌋ … ⌈(i+1)·n/m⌉ − 1."""
    operation = arguments.adaptive_spec(spec.LpPool, ndim, output_size, norm_type)
    return run(operation, input)  # type: ignore[no-any-return]


def _pad(ndim: int, input: Tensor, padding: Sizes, mode: str = "zeros", value: float = 0.0) -> Tensor:
    """The padded input; negative numbers cut off.

    Args:
        input: [N, C, *size].
        padding: one number for all sides, or (left, right, top, bottom, front, back), the last axis first, as in F.pad.
        mode: one of `window.MODES`.
        value: what stands outside in mode "zeros".
    """
    return run(arguments.pad_spec(ndim, padding, mode, value), input)  # type: ignore[no-any-return]


def _for_ndim(
    function: Callable[Concatenate[int, Parameters], Result],
) -> tuple[Callable[Parameters, Result], Callable[Parameters, Result], Callable[Parameters, Result]]:
    """The function for 1, 2 and 3 spatial axes, under its public names."""
    return _fixed(function, 1), _fixed(function, 2), _fixed(function, 3)


def _fixed(function: Callable[Concatenate[int, Parameters], Result], ndim: int) -> Callable[Parameters, Result]:
    def call(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        return function(ndim, *args, **kwargs)

    _, *parameters = inspect.signature(function).parameters.values()
    call.__signature__ = inspect.signature(function).replace(parameters=parameters)  # type: ignore[attr-defined]
    call.__name__ = call.__qualname__ = f"{function.__name__[1:]}{ndim}d"
    call.__doc__ = function.__doc__
    return call


conv1d, conv2d, conv3d = _for_ndim(_conv)
conv_block1d, conv_block2d, conv_block3d = _for_ndim(_conv_block)
conv_transpose1d, conv_transpose2d, conv_transpose3d = _for_ndim(_conv_transpose)
locally_connected1d, locally_connected2d, locally_connected3d = _for_ndim(_locally_connected)
max_pool1d, max_pool2d, max_pool3d = _for_ndim(_max_pool)
avg_pool1d, avg_pool2d, avg_pool3d = _for_ndim(_avg_pool)
lp_pool1d, lp_pool2d, lp_pool3d = _for_ndim(_lp_pool)
weighted_avg_pool1d, weighted_avg_pool2d, weighted_avg_pool3d = _for_ndim(_weighted_avg_pool)
stochastic_pool1d, stochastic_pool2d, stochastic_pool3d = _for_ndim(_stochastic_pool)
adaptive_max_pool1d, adaptive_max_pool2d, adaptive_max_pool3d = _for_ndim(_adaptive_max_pool)
adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d = _for_ndim(_adaptive_avg_pool)
adaptive_lp_pool1d, adaptive_lp_pool2d, adaptive_lp_pool3d = _for_ndim(_adaptive_lp_pool)
pad1d, pad2d, pad3d = _for_ndim(_pad)
