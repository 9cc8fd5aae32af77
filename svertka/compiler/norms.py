"""Batch norm by the statistics of the batch, and its gradient.

    forward    y = s·x + t,  s = γ / √(σ² + ε),  t = β − μ·s
    backward   dx = a·dy + b·x + c,  a = γ·r,  b = −a·r·Σ dy·(x − μ)·r / n,  c = −a·Σ dy / n − b·μ,  r = 1 / √(σ² + ε)

(Ioffe & Szegedy 2015). What is done number by number joins the formulas around it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from svertka.compiler.blocks import FxNode, only_user
from svertka.compiler.formulas import Expression, is_formula, record_formula
from svertka.compiler.layers import float32
from svertka.compiler.recorder import NotRecordable
from svertka.engine.layer_norm import prepare_layer_norm, prepare_layer_norm_gradient
from svertka.engine.moments import prepare_moments
from svertka.kernels.elementwise import Formula

if TYPE_CHECKING:
    from svertka.compiler.lower import Lowering

_X, _Y, _Z, _W = (("x", i) for i in range(4))
_INVERSE = "div", ("number", 1.0)


def forward(low: Lowering, node: FxNode) -> tuple[Any, str, int]:
    """(y, mean, 1 / √(variance + ε), the new running mean and variance)."""
    x, gamma, beta, running_mean, running_variance, training, momentum, eps = node.args
    if not training:
        raise NotRecordable("it uses given statistics")
    x = _laid(low, x)
    mean, variance = _sums(low, x)
    count = x.shape[0] * math.prod(x.shape[2:])
    inverse = _line(low, (*_INVERSE, ("sqrt", ("add", _X, ("number", eps)))), variance)
    scale = inverse if gamma is None else _line(low, ("mul", _X, _Y), inverse, low.tensor(gamma))
    shift = _line(low, ("neg", ("mul", _X, _Y)), mean, scale)
    if beta is not None:
        shift = _line(low, ("add", _X, _Y), shift, low.tensor(beta))
    running: list[Tensor | None] = [None, None]
    if running_mean is not None:
        old = ("mul", _X, ("number", 1 - momentum))
        unbiased = momentum * count / max(count - 1, 1)
        running = [
            _line(low, ("add", old, ("mul", _Y, ("number", momentum))), low.tensor(running_mean), mean),
            _line(low, ("add", old, ("mul", _Y, ("number", unbiased))), low.tensor(running_variance), variance),
        ]
    y: Any = Expression(("add", ("mul", _X, _Y), _Z), [x, _wide(scale, x), _wide(shift, x)], tuple(x.shape))
    y = y if joins(low, node) else y.recorded(low)
    return (y, mean, inverse, *running), "moments, elementwise", 0


def of_layer(low: Lowering, node: FxNode) -> tuple[Any, str, int]:
    """A layer norm: (y, mean, 1 / √(variance + ε)), the latter if somebody asks for them."""
    x, shape, gamma, beta, eps = node.args
    x = float32(low.tensor(x)).contiguous()
    lines = [_line_of(low, part) for part in (gamma, beta)]
    there = [line is not None for line in lines]
    wanted = any(user.args[1] and user.users for user in node.users)
    runner = low.prepared(prepare_layer_norm, x, math.prod(shape), eps, *there, wanted)
    if not wanted:
        return (runner(x, *lines), None, None), runner.detail, 0
    y, mean, inverse = runner(x, *lines)
    like = node.meta["val"][1].shape
    return (y, mean.view(like), inverse.view(like)), runner.detail, 0


def of_layer_backward(low: Lowering, node: FxNode) -> tuple[Any, str, int]:
    """The gradients to (x, γ, β) of a layer norm."""
    dy, x, shape, mean, inverse, gamma, beta, wanted = node.args
    x, dy = (float32(low.tensor(part)).contiguous() for part in (x, dy))
    mean, inverse, line = low.tensor(mean), low.tensor(inverse), _line_of(low, gamma)
    lines = (gamma is not None and wanted[1]) or (beta is not None and wanted[2])
    runner = low.prepared(
        prepare_layer_norm_gradient, x, math.prod(shape), line is not None, bool(lines), bool(wanted[0])
    )
    dx, d_gamma, d_beta = runner(dy, x, line, mean, inverse)
    kept = [
        None if part is None or not want else part for part, want in zip((d_gamma, d_beta), wanted[1:], strict=True)
    ]
    return (dx, *(None if part is None else part.view(tuple(shape)) for part in kept)), runner.detail, 0


def _line_of(low: Lowering, node: FxNode) -> Tensor | None:
    """A parameter, one number after the other, whether it is held or comes in; None of none."""
    value = low.parameter(node)
    if value is None:
        return None
    return value.contiguous() if isinstance(value, Tensor) else low.recorder.stand_in(value, ())


def joins(low: Lowering, node: FxNode) -> bool:
    """Whether a batch norm's result is only for one formula, as a part of it."""
    results = [user for user in node.users if user.args[1] == 0]
    user = only_user(results[0]) if len(results) == 1 else None
    return user is not None and is_formula(user) and user not in low.apart


def backward(low: Lowering, node: FxNode) -> tuple[Any, str, int]:
    """The gradients to (x, γ, β)."""
    dy, x, gamma, _, _, mean, inverse, training, _, wanted = node.args
    if not training:
        raise NotRecordable("it uses given statistics")
    x, dy, mean, inverse = _laid(low, x), _laid(low, dy), low.tensor(mean), low.tensor(inverse)
    count = x.shape[0] * math.prod(x.shape[2:])
    total, product = _sums(low, x, dy, mean)
    d_gamma = _line(low, ("mul", _X, _Y), product, inverse)
    a = inverse if gamma is None else _line(low, ("mul", _X, _Y), inverse, low.tensor(gamma))
    b = _line(low, ("mul", ("number", -1 / count), ("mul", _X, ("mul", _Y, _Z))), a, inverse, d_gamma)
    c = _line(low, ("sub", ("mul", ("number", -1 / count), ("mul", _X, _Y)), ("mul", _Z, _W)), a, total, b, mean)
    formula = ("add", ("add", ("mul", _X, _Z), ("mul", _Y, _W)), ("x", 4))
    dx = record_formula(low, formula, [dy, x, *(_wide(line, x) for line in (a, b, c))], x.shape) if wanted[0] else None
    return (dx, d_gamma, total), "moments, elementwise", 0


def _laid(low: Lowering, node: FxNode) -> Tensor:
    x = float32(low.tensor(node))
    return x.contiguous() if x.ndim == 2 else low.with_neighbours(x)


def _sums(low: Lowering, x: Tensor, *rest: Tensor) -> tuple[Tensor, Tensor]:
    runner = low.prepared(prepare_moments, bool(rest), x)
    return runner(x, *rest)  # type: ignore[no-any-return]


def _line(low: Lowering, formula: Formula, *lines: Tensor) -> Tensor:
    """A formula of one number for each channel."""
    return low.recorder.formula(formula, lines, torch.empty(lines[0].shape))


def _wide(line: Tensor, x: Tensor) -> Tensor:
    return line.view(-1, *(1 for _ in x.shape[2:]))
