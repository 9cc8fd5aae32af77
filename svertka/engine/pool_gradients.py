"""Poolings and their gradients, in either memory format."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from svertka import portable, spec
from svertka.engine.gathering import prepare_gathering
from svertka.engine.pad import prepare_pad
from svertka.engine.pools import counts_of, prepare_pool, taps_like
from svertka.engine.step import Saved, Step


def prepare_maximum(
    operation: spec.MaxPool | spec.RectifiedMaxPool, x: Tensor, *, return_indices: bool = False
) -> Step | str:
    """A maximum pooling and its gradient, or why there is none."""
    parts = prepare_pool(operation, x, taps=True), prepare_gathering("taken", operation.windows, x)
    return _refused(*parts) or _Taken(
        *parts, prepare_pool(operation, x, return_indices=True) if return_indices else None
    )


def _refused(*parts: Any) -> str:
    """Why one of them can't be done; "" if all can."""
    return next((part for part in parts if isinstance(part, str)), "")


class _Taken(Step):
    """A pooling that takes one input of each window: dy goes there."""

    def __init__(self, runner: Any, gradient: Any, places: Any = None) -> None:
        self.runner, self.gradient, self.places, self.detail = runner, gradient, places, runner.detail
        self.layout: tuple[Any, Any] = ((), ())  # of y

    def forward(self, x: Tensor, *_: Tensor | None, **options: Any) -> tuple[tuple[Tensor, ...], list[Tensor]]:
        y, taken = self.runner(x, generator=options.get("generator"))
        self.layout = y.shape, y.stride()
        results = (y,) if self.places is None else (y, self.places(x)[1])
        return results, [taken]

    def backward(self, dy: Tensor, saved: Saved) -> Sequence[Tensor | None]:
        return [self.gradient(dy, saved.kept[0])]


def prepare_average(operation: spec.AveragePool, x: Tensor) -> Step | str:
    """An average pooling and its gradient, or why there is none."""
    gradient = prepare_gathering("sum", operation.windows, x, counts_of(operation, tuple(x.shape[2:])))
    parts = prepare_pool(operation, x), gradient
    return _refused(*parts) or _Sum(*parts)


def prepare_padding(operation: spec.Pad, x: Tensor) -> Step | str:
    """A padding and its gradient, or why there is none."""
    parts = prepare_pad(operation, x), prepare_gathering("sum", operation.windows, x)
    return _refused(*parts) or _Sum(*parts)


class _Sum(Step):
    """A linear operation that adds inputs up, or a padding: the gradient is the adjoint."""

    linear = True

    def __init__(self, runner: Any, gradient: Any) -> None:
        self.runner, self.gradient, self.detail = runner, gradient, runner.detail

    def forward(self, x: Tensor, *_: Tensor | None, **__: Any) -> tuple[tuple[Tensor, ...], list[Tensor]]:
        return (self.runner(x),), []

    def backward(self, dy: Tensor, _: Saved) -> Sequence[Tensor | None]:
        return [self.gradient(dy)]


def prepare_norm(operation: spec.LpPool, x: Tensor) -> Step | str:
    """A pooling by p-norms and its gradient, or why there is none."""
    if operation.p == math.inf:
        maximum = spec.MaxPool(operation.windows)
        parts = prepare_pool(maximum, x, taps=True), prepare_gathering("taken", operation.windows, x)
        return _refused(*parts) or _LargestMagnitude(*parts)
    parts = prepare_pool(operation, x), prepare_gathering("sum", operation.windows, x)
    return _refused(*parts) or _Norm(operation.p, *parts)


class _LargestMagnitude(Step):
    """y = max |x|: dx = sign(x) · dy where it was taken."""

    def __init__(self, runner: Any, gradient: Any) -> None:
        self.runner, self.gradient, self.detail = runner, gradient, runner.detail

    def forward(self, x: Tensor, *_: Tensor | None, **__: Any) -> tuple[tuple[Tensor, ...], list[Tensor]]:
        y, taken = self.runner(x.abs())
        return (y.clamp_(min=0),), [taken]  # 0 of a window that reads no input

    def backward(self, dy: Tensor, saved: Saved) -> Sequence[Tensor | None]:
        return [self.gradient(dy, saved.kept[0]).mul_(saved.x.sign())]


class _Norm(Step):
    """y = (Σ |x|^p)^(1/p): dx = sign(x) · |x|^(p − 1) · Σ dy · y^(1 − p); 0 where x or y is."""

    def __init__(self, p: float, runner: Any, gradient: Any) -> None:
        self.p, self.runner, self.gradient, self.detail = p, runner, gradient, runner.detail

    def forward(self, x: Tensor, *_: Tensor | None, **__: Any) -> tuple[tuple[Tensor, ...], list[Tensor]]:
        y = self.runner(x)
        return (y,), [y]

    def backward(self, dy: Tensor, saved: Saved) -> Sequence[Tensor | None]:
        x, (y,), p = saved.x, saved.kept, self.p
        if p == 1:
            return [self.gradient(dy).mul_(x.sign())]
        if p == 2:
            return [self.gradient((dy / y).masked_fill_(y == 0, 0.0)).mul_(x)]
        shares = (dy * y ** (1 - p)).masked_fill_(y == 0, 0.0)
        slope = (x.abs() ** (p - 1)).copysign_(x).masked_fill_(x == 0, 0.0)
        return [self.gradient(shares).mul_(slope)]


def prepare_stochastic(operation: spec.StochasticPool, x: Tensor, **_: Any) -> Step | str:
    """A stochastic pooling and its gradient, or why there is none."""
    if operation.sample:
        parts = prepare_pool(operation, x, taps=True), prepare_gathering("taken", operation.windows, x)
        return _refused(*parts) or _Drawn(*parts)
    total = spec.AveragePool(operation.windows, divisor=1.0)
    parts = prepare_pool(operation, x), prepare_gathering("sum", operation.windows, x)
    return _refused(*parts, prepare_pool(total, x)) or _ProportionalMean(*parts, prepare_pool(total, x))


class _Drawn(_Taken):
    """A draw: dy goes to the place that was drawn."""

    def composed(self, operation: Any, saved: Saved) -> Any:
        (taps,) = saved.kept
        values, _ = portable.gather(saved.x.clamp(min=0), operation.windows, 0.0)
        number = taps_like(taps, *self.layout).long() & (256 ** taps.element_size() - 1)
        drawn = values.gather(-1, number.clamp(max=values.shape[-1] - 1)[..., None])[..., 0]
        return drawn.masked_fill(number >= values.shape[-1], 0.0)


class _ProportionalMean(Step):
    """y = Σ x⁺² / s with s = Σ x⁺: dx = 2 x⁺ · Σ dy / s − Σ dy · y / s where x ≥ 0, else 0."""

    def __init__(self, runner: Any, gradient: Any, total: Any) -> None:
        self.runner, self.gradient, self.total, self.detail = runner, gradient, total, runner.detail

    def forward(self, x: Tensor, *_: Tensor | None, **__: Any) -> tuple[tuple[Tensor, ...], list[Tensor]]:
        y = self.runner(x)
        return (y,), [y]

    def backward(self, dy: Tensor, saved: Saved) -> Sequence[Tensor | None]:
        (y,), positive = saved.kept, saved.x.clamp(min=0)
        total = self.total(positive)
        share = dy / total.masked_fill_(total == 0, 1.0)
        dx = self.gradient(share).mul_(positive).mul_(2).sub_(self.gradient(share * y))
        return [dx.masked_fill_(~(saved.x >= 0), 0.0)]
