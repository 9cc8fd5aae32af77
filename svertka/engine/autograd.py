"""Gradients: an operation and its adjoint, both by kernels, as one step of torch's autograd.

What asks for gradients of gradients gets the gradient composed of torch's operations, which torch can follow.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from svertka import spec
from svertka.engine import (
    batch_norm,
    block_gradients,
    dense_gradients,
    depthwise_gradients,
    pool_gradients,
    row_gradients,
    transposed_gradients,
    unshared_gradients,
    weighted_gradients,
)
from svertka.engine.dispatch import unfit
from svertka.engine.layout import neighbours
from svertka.engine.precision import PRODUCTS, products
from svertka.engine.report import PORTABLE, Call, tally
from svertka.engine.step import Saved, Step
from svertka.engine.winograd import FEWEST, suits_windows
from svertka.window import Window


@dataclass(frozen=True)
class Gradient:
    """How the kernels give the gradients of a kind of operation.

    Args:
        prepare: `prepare(operation, x, *tensors, **options)` gives a Step, or a string: why the kernels can't do it.
            Of the tensors it looks at shapes and strides alone.
        automatic: `automatic(operation, x)` tells whether the engine "auto" uses it, too: where it is faster than
            torch's wherever that was measured.
    """

    prepare: Callable[..., Step | str]
    automatic: Callable[[Any, Tensor], bool] = lambda *_: False


def _large(_: Any, x: Tensor) -> bool:
    """Whether the work is more than the call, which takes some 25 µs longer than torch's."""
    return x.numel() >= _LARGE


def _large_and_regular(operation: Any, x: Tensor) -> bool:
    """The same, but for adaptive pooling, of which torch is as fast."""
    return x.numel() >= _LARGE and all(isinstance(window, Window) for window in operation.windows)


def _large_unshared(operation: Any, x: Tensor) -> bool:
    """The same of a layer with so many numbers to read in all windows; each has weights of its own."""
    taps: int = math.prod(window.size for window in operation.windows)
    return 8 * x[0].numel() * taps >= _LARGE


def _last(_: Any, x: Tensor) -> bool:
    return x.ndim > 2 and neighbours(x)


def _quick(operation: spec.Convolution | spec.ConvolutionBlock, x: Tensor) -> bool:
    """First layers, depthwise windows and what Winograd's algorithm takes, on neighbouring channels.

    Others are no faster than torch's.
    """
    if not _last(operation, x):
        return False
    if 1 < operation.groups == x.shape[1]:
        return math.prod(window.size for window in operation.windows) >= _WIDE
    many = x.shape[1] >= FEWEST * operation.groups and x.numel() >= _WORTH
    return x.shape[1] < _FEW or (many and _by_winograd(operation, products()))


@lru_cache(maxsize=1024)
def _by_winograd(operation: spec.Convolution | spec.ConvolutionBlock, most: int) -> bool:
    """Whether Winograd's algorithm takes both gradients, with larger tiles than the smallest."""
    plain = all(window.mode == "zeros" for window in operation.windows)
    return most > PRODUCTS["strict"] and plain and suits_windows(operation.windows)


_LARGE = 1 << 18  # numbers of x
_WORTH = 1 << 16  # numbers of x, from which convolutions are more than the call
_WIDE, _FEW = 9, 8  # taps of a depthwise window, channels


def _convolution(operation: spec.Convolution, x: Tensor, *tensors: Any) -> Step | str:
    depthwise = 1 < operation.groups == x.shape[1]
    module: Any = depthwise_gradients.prepare_depthwise_step if depthwise else dense_gradients.prepare_convolution_step
    return module(operation, x, *tensors)  # type: ignore[no-any-return]


GRADIENTS: dict[type[spec.Operation[Any]], Gradient] = {
    spec.Convolution: Gradient(_convolution, _quick),
    spec.ConvolutionBlock: Gradient(block_gradients.prepare_block_step, _quick),
    spec.TransposedConvolution: Gradient(transposed_gradients.prepare_transposed_step, _last),
    spec.BatchNorm: Gradient(batch_norm.prepare_batch_norm_step, _last),
    spec.MaxPool: Gradient(pool_gradients.prepare_maximum, _large_and_regular),
    spec.RectifiedMaxPool: Gradient(pool_gradients.prepare_maximum, _large_and_regular),
    spec.AveragePool: Gradient(pool_gradients.prepare_average, _large_and_regular),
    spec.LpPool: Gradient(pool_gradients.prepare_norm, _large_and_regular),
    spec.StochasticPool: Gradient(pool_gradients.prepare_stochastic, _large_and_regular),
    spec.WeightedPool: Gradient(weighted_gradients.prepare_weighted, _large_and_regular),
    spec.KMaxPool: Gradient(row_gradients.prepare_k_max_step, _large),
    spec.SegmentPool: Gradient(row_gradients.prepare_segments_step, _large),
    spec.Pad: Gradient(pool_gradients.prepare_padding, _large_and_regular),
    spec.Unshared: Gradient(unshared_gradients.prepare_unshared_step, _large_unshared),
}


def automatic(operation: spec.Operation[Any], x: Tensor) -> bool:
    """Whether the engine "auto" lets the kernels do what needs gradients."""
    gradient = GRADIENTS.get(type(operation))
    return gradient is not None and gradient.automatic(operation, x)


def prepare(operation: Any, x: Tensor, *tensors: Tensor | None, **options: Any) -> Any:
    """A runner like those of `dispatch.PREPARE`, through which gradients flow, or why there is none."""
    gradient = GRADIENTS.get(type(operation))
    if gradient is None:
        return "it needs gradients, which torch computes"
    step = gradient.prepare(operation, x, *tensors, **options)
    return step if isinstance(step, str) else _Differentiable(operation, step)


class _Differentiable:
    """A step as a function of tensors."""

    def __init__(self, operation: Any, step: Step) -> None:
        self.operation, self.step, self.detail = operation, step, step.detail

    def __call__(self, x: Tensor, *tensors: Tensor | None, **options: Any) -> Any:
        return _Function.apply(self, options, x, *tensors)  # type: ignore[no-untyped-call]


class _Function(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, does: _Differentiable, options: dict[str, Any], x: Tensor, *tensors: Tensor | None) -> Any:
        results, kept = does.step.forward(x, *tensors, **options)
        ctx.does, ctx.layout = does, (x.shape, x.stride())
        ctx.save_for_backward(None if does.step.linear else x, *tensors, *kept)
        if len(results) == 1:
            return results[0]
        ctx.mark_non_differentiable(*results[1:])
        return results

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        does, dy, needs = ctx.does, gradients[0], ctx.needs_input_grad[2:]
        x, *rest = ctx.saved_tensors
        tensors, kept = rest[: len(needs) - 1], rest[len(needs) - 1 :]
        reason = _unfit(does.operation, dy)
        if not reason:
            return None, None, *does.step.backward(dy, Saved(needs, x, tensors, kept))
        if x is None:  # its numbers don't matter
            x = torch.empty_strided(*ctx.layout).zero_().requires_grad_()
        tally(Call(does.operation, tuple(x.shape), PORTABLE, reason)).count += 1
        return None, None, *_by_torch(does, Saved(needs, x, tensors, kept), dy)


def _unfit(operation: Any, dy: Tensor) -> str:
    """Why the kernels can't give this gradient; "" if they can."""
    if torch.is_grad_enabled():
        return "it needs gradients of gradients"
    if not torch._C._has_storage(dy):
        return "gradients come in a batch"
    return unfit(operation, dy, ())


def _by_torch(does: _Differentiable, saved: Saved, dy: Tensor) -> list[Any]:
    follow = torch.is_grad_enabled()
    with torch.enable_grad():
        y = does.step.composed(does.operation, saved)
        tensors = zip((saved.x, *saved.tensors), saved.needs, strict=True)
        wanted = [tensor for tensor, need in tensors if need and tensor is not None]
        gradients = iter(torch.autograd.grad(y, wanted, dy, create_graph=follow))
    return [next(gradients) if need else None for need in saved.needs]
