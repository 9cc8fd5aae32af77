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
from svertka.engine import dense_gradients

_REMEMBERED = 4096
_prepared: OrderedDict[Any, Any] = OrderedDict()


def differentiable(operation: Any, x: Tensor, *tensors: Tensor | None) -> str:
    """Why the kernels can't give the gradient of a call; "" if they can."""
    if not isinstance(operation, spec.Convolution):
        return "it needs gradients, which torch computes"
    weight = tensors[0]
    if weight is None or 1 < operation.groups == weight.shape[0] == x.shape[1]:
        return "it needs gradients of a depthwise convolution, which torch computes"
    return ""


def apply(runner: Any, operation: Any, x: Tensor, *tensors: Tensor | None) -> Any:
    """The operation by its runner, such that gradients flow."""
    return _Convolution.apply(runner, operation, x, *tensors)  # type: ignore[no-untyped-call]


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, runner: Any, operation: Any, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        ctx.operation, ctx.biased = operation, bias is not None
        ctx.save_for_backward(x, weight, bias)
        return runner(x, weight, bias)  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (dy,) = gradients
        x, weight, bias = ctx.saved_tensors
        _, _, *needs = ctx.needs_input_grad
        needs += [False] * (3 - len(needs))
        if torch.is_grad_enabled():
            found = _by_torch(ctx.operation, (x, weight, bias), needs, dy)
        else:
            found = _by_kernels(ctx.operation, (x, weight, bias), needs, dy)
        return None, None, *found[: len(ctx.needs_input_grad) - 2]


def _by_kernels(
    operation: Any, tensors: tuple[Tensor, Tensor, Tensor | None], needs: Sequence[bool], dy: Tensor
) -> Any:
    x, weight, _ = tensors
    found: list[Tensor | None] = [None, None, None]
    if needs[0]:
        found[0] = _runner(dense_gradients.prepare_input_gradient, operation, x, weight, dy)(dy, weight)
    if needs[1]:
        found[1] = _runner(dense_gradients.prepare_weight_gradient, operation, x, weight, dy)(x, dy)
    if needs[2]:
        found[2] = dense_gradients.bias_gradient(dy)
    return found


def _runner(prepare: Any, operation: Any, x: Tensor, weight: Tensor, dy: Tensor) -> Any:
    key = (prepare, id(operation), x.shape, x.stride(), weight.shape, dy.stride())
    found = _prepared.get(key)
    if found is None:
        # The operation is held, so that its id stays its own.
        found = _prepared[key] = (prepare(operation, x, weight, dy), operation)
        if len(_prepared) > _REMEMBERED:
            _prepared.popitem(last=False)
    return found[0]


def _by_torch(operation: Any, tensors: Sequence[Tensor | None], needs: Sequence[bool], dy: Tensor) -> list[Any]:
    y = portable.run(operation, *tensors)
    wanted = [tensor for tensor, need in zip(tensors, needs, strict=True) if need and tensor is not None]
    gradients = iter(torch.autograd.grad(y, wanted, dy, create_graph=True))
    return [next(gradients) if need else None for need in needs]
