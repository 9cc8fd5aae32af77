"""Weighted poolings with their gradients, to the input and to the weights.

    y[o] = Σ_t v[t] · x[source(o, t)] / s[o]

With `count_include_pad` v = w / Σ w and s = 1; else v = w and s[o] is the sum of the weights whose taps read an input.
With g = dy / s:

    dx[i] = Σ v[t] · g[o] over the pairs (o, t) that read i
    dv[t] = Σ_o g[o] · (x[source(o, t)] − y[o])                          where tap t reads an input
    dw = (dv' − Σ_t v · dv') / Σ w with dv'[t] = Σ_o g[o] · x[source(o, t)], with `count_include_pad`

Both sums over outputs are weight gradients of a depthwise convolution: of x, and of an input of ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from svertka import spec
from svertka.engine.depthwise_gradients import prepare_weight_gradient
from svertka.engine.gathering import prepare_gathering
from svertka.engine.layout import channels_last
from svertka.engine.pools import prepare_depthwise, prepare_pool
from svertka.engine.step import Saved, Step


def prepare_weighted(operation: spec.WeightedPool, x: Tensor, weight: Tensor) -> Step | str:
    """A weighted pooling and its gradients, or why there is none."""
    runner = prepare_pool(operation, x, weight)
    if isinstance(runner, str):
        return runner
    channels = x.shape[1]
    convolution = spec.Convolution(operation.windows, channels)
    kernel = torch.empty((channels, 1, *weight.shape[1:]))
    dy = torch.empty((*x.shape[:2], *operation.output_size(x.shape[2:])))
    gradient = prepare_gathering("weighted", operation.windows, x)
    to_weight = prepare_weight_gradient(convolution, x, kernel, dy, False)
    sums = None if operation.count_include_pad else _Sums(convolution, x, kernel, dy)
    for part in (gradient, to_weight):
        if isinstance(part, str):
            return part
    return _Weighted(runner, gradient, to_weight, sums)


class _Sums:
    """The sums of the weights whose taps read an input."""

    def __init__(self, convolution: spec.Convolution, x: Tensor, kernel: Tensor, dy: Tensor) -> None:
        block = spec.ConvolutionBlock(convolution.windows, convolution.groups)
        self.ones = torch.ones(1, *x.shape[1:])
        self.runner = prepare_depthwise(block, self.ones, kernel)
        self.gradient = prepare_weight_gradient(convolution, self.ones, kernel, dy[:1], False)

    def __call__(self, weight: Tensor) -> Tensor:
        """[1, channels, *output size] of a weight [channels, *kernel size]."""
        return self.runner(self.ones, weight[:, None].contiguous())  # type: ignore[no-any-return]


class _Weighted(Step):
    """A weighted pooling of inputs of one shape."""

    def __init__(self, runner: Any, gradient: Any, to_weight: Any, sums: _Sums | None) -> None:
        self.runner, self.gradient, self.to_weight, self.sums = runner, gradient, to_weight, sums
        self.detail = runner.detail

    def forward(self, x: Tensor, *tensors: Tensor | None, **_: Any) -> tuple[tuple[Tensor, ...], list[Tensor]]:
        y = self.runner(x, *tensors)
        return (y,), [y]

    def backward(self, dy: Tensor, saved: Saved) -> Sequence[Tensor | None]:
        x, weight, dw = saved.x, saved.tensors[0], None
        assert weight is not None
        weight, g = weight.detach(), dy
        total = _spread(weight.flatten(1).sum(1), weight)
        kernel = (weight / total if self.sums is None else weight).expand(x.shape[1], *weight.shape[1:])
        if self.sums is not None:
            sums = self.sums(kernel)
            g = (dy / sums).masked_fill_(sums == 0, 0.0)  # a window that reads no input is 0 / 0, and passes nothing on
        if saved.needs[1]:
            dw = self._to_weight(x, g, saved.kept[0], kernel, total)
            dw = dw if len(weight) == len(dw) else dw.sum(0, keepdim=True)
        lines = kernel.flatten(1)
        return [self.gradient(g, None, (lines.t() if channels_last(x) else lines).contiguous()), dw]

    def _to_weight(self, x: Tensor, g: Tensor, y: Tensor, kernel: Tensor, total: Tensor) -> Tensor:
        """dw for each channel."""
        dw: Tensor = self.to_weight(x, g)[0].view_as(kernel)
        if self.sums is None:
            return (dw - _spread((dw * kernel).flatten(1).sum(1), kernel)) / total
        product = (g * y).masked_fill_(g == 0, 0.0).sum(0, keepdim=True)
        outside: Tensor = self.sums.gradient(self.sums.ones, product)[0]
        return dw - outside.view_as(kernel)


def _spread(line: Tensor, like: Tensor) -> Tensor:
    """One number for each channel, to be used with a weight."""
    return line.view(-1, *(1,) * (like.ndim - 1))
