"""Gradients: an operation and its adjoint, both by kernels, as one step of torch's autograd.

What asks for gradients of gradients gets the gradient composed of torch's operations, which torch can follow.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from svertka import portable, spec
from svertka.engine import dense_gradients, pool_gradients, pools

_REMEMBERED = 4096
_prepared: OrderedDict[Any, tuple[Any, Any]] = OrderedDict()


def differentiable(operation: Any, x: Tensor, *tensors: Tensor | None) -> str:
    """Why the kernels can't give the gradient of a call; "" if they can."""
    if type(operation) in (spec.MaxPool, spec.AveragePool):
        return ""
    if not isinstance(operation, spec.Convolution):
        return "it needs gradients, which torch computes"
    weight = tensors[0]
    if weight is None or 1 < operation.groups == x.shape[1]:
        return "it needs gradients of a depthwise convolution, which torch computes"
    return ""


def apply(runner: Any, operation: Any, x: Tensor, *tensors: Tensor | None, **options: Any) -> Any:
    """The operation by its runner, such that gradients flow."""
    if isinstance(operation, spec.Convolution):
        return _Convolution.apply(runner, operation, x, *tensors)  # type: ignore[no-untyped-call]
    if isinstance(operation, spec.AveragePool):
        return _Average.apply(runner, operation, x)  # type: ignore[no-untyped-call]
    y, places = _Maximum.apply(operation, x)  # type: ignore[no-untyped-call]
    return (y, places) if options.get("return_indices") else y


def _remembered(key: Any, operation: Any, build: Any) -> Any:
    """What `build` gives, once for each key; the operation is held, so that its id stays its own."""
    found = _prepared.get(key)
    if found is None:
        found = _prepared[key] = (build(), operation)
        if len(_prepared) > _REMEMBERED:
            _prepared.popitem(last=False)
    return found[0]


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, runner: Any, operation: Any, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        ctx.operation = operation
        ctx.save_for_backward(x, weight, bias)
        return runner(x, weight, bias)  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (dy,) = gradients
        tensors, count = ctx.saved_tensors, len(ctx.needs_input_grad) - 2
        needs = (*ctx.needs_input_grad[2:], False)[:3]
        if torch.is_grad_enabled():
            found = _by_torch(ctx.operation, tensors, needs, dy)
        else:
            found = _convolution_gradients(ctx.operation, tensors, needs, dy)
        return None, None, *found[:count]


def _convolution_gradients(operation: Any, tensors: Any, needs: Sequence[bool], dy: Tensor) -> list[Tensor | None]:
    x, weight, _ = tensors

    def runner(prepare: Any) -> Any:
        key = (prepare, id(operation), x.shape, x.stride(), weight.shape, dy.stride())
        return _remembered(key, operation, lambda: prepare(operation, x, weight, dy))

    return [
        runner(dense_gradients.prepare_input_gradient)(dy, weight) if needs[0] else None,
        runner(dense_gradients.prepare_weight_gradient)(x, dy) if needs[1] else None,
        dense_gradients.bias_gradient(dy) if needs[2] else None,
    ]


class _Maximum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, operation: Any, x: Tensor) -> Any:
        key = (pools.prepare_pool, id(operation), x.shape, x.stride())
        runner = _remembered(key, operation, lambda: pools.prepare_pool(operation, x, return_indices=True))
        y, places = runner(x, return_indices=True)
        ctx.operation = operation
        ctx.save_for_backward(x, places)
        ctx.mark_non_differentiable(places)
        return y, places

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        x, places = ctx.saved_tensors
        if torch.is_grad_enabled():
            return None, *_by_torch(ctx.operation, (x,), (True,), gradients[0])
        return None, _pool_gradient(ctx.operation, x)(gradients[0], places)


class _Average(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, runner: Any, operation: Any, x: Tensor) -> Any:
        ctx.operation, ctx.layout = operation, (x.shape, x.stride())
        return runner(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        like = torch.empty_strided(*ctx.layout)
        if torch.is_grad_enabled():  # the mean is linear: its gradient is the same everywhere
            return None, None, *_by_torch(ctx.operation, (like.zero_().requires_grad_(),), (True,), gradients[0])
        return None, None, _pool_gradient(ctx.operation, like)(gradients[0], None)


def _pool_gradient(operation: Any, x: Tensor) -> Any:
    key = (pool_gradients.prepare_pool_gradient, id(operation), x.shape, x.stride())
    return _remembered(key, operation, lambda: pool_gradients.prepare_pool_gradient(operation, x))


def _by_torch(operation: Any, tensors: Sequence[Tensor | None], needs: Sequence[bool], dy: Tensor) -> list[Any]:
    y = portable.run(operation, *tensors)
    wanted = [tensor for tensor, need in zip(tensors, needs, strict=True) if need and tensor is not None]
    gradients = iter(torch.autograd.grad(y, wanted, dy, create_graph=True))
    return [next(gradients) if need else None for need in needs]
