"""The gradients of depthwise convolutions: to the input, to the weight, to the bias."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from svertka import spec
from svertka import window as geometry
from svertka.engine.dense import MOST, prepare_convolution
from svertka.engine.dense_gradients import ConvolutionStep
from svertka.engine.launch import Launch, address, constant_line
from svertka.engine.layout import channels_last, contiguous, empty, scratch_floats, with_channels_last
from svertka.engine.packing import Packing, same, weight_order
from svertka.engine.pools import inner_outputs, prepare_depthwise
from svertka.engine.step import Step
from svertka.kernels.depthwise_gradient import (
    DEPTHWISE_INPUT,
    DEPTHWISE_WEIGHT,
    DepthwiseInput,
    DepthwiseWeight,
    choose_depthwise_weight,
)
from svertka.kernels.target import host
from svertka.window import OUTSIDE

_TASKS = 16  # into so many at least, if there are as many rows
_PART = 1 << 14  # numbers of dx in a task, about


def prepare_depthwise_step(
    operation: spec.Convolution, x: Tensor, weight: Tensor, bias: Tensor | None = None
) -> Step | str:
    """A depthwise convolution and its gradients, or why there are none."""
    runner = prepare_convolution(operation, x, weight, bias)
    return runner if isinstance(runner, str) else _DepthwiseStep(operation, runner)


class _DepthwiseStep(ConvolutionStep):
    def input_gradient(self, x: Tensor, weight: Tensor, dy: Tensor) -> Any:
        return prepare_input_gradient(self.operation, x, weight, dy)

    def weight_gradient(self, x: Tensor, weight: Tensor, dy: Tensor, bias: bool) -> Any:
        return prepare_weight_gradient(self.operation, x, weight, dy, bias)


def prepare_input_gradient(operation: spec.Convolution, x: Tensor, weight: Tensor, dy: Tensor) -> Any:
    """A runner of (dy, weight) → dx, shaped like x, or why there is none."""
    if max(x[0].numel(), dy[0].numel()) >= MOST:
        return "an image has more numbers than a table can count"
    turned = [window.turned(n) for window, n in zip(operation.windows, x.shape[2:], strict=True)]
    if None in turned:
        return _ByReaders(operation, x, dy)
    block = spec.ConvolutionBlock(tuple(turned), dy.shape[1])  # type: ignore[arg-type]
    return _Turned(prepare_depthwise(block, dy, weight), x)


def _of_inputs(dx: Tensor, channels: int) -> Tensor:
    """Where several outputs read a channel, the sum of what they give."""
    multiplier = dx.shape[1] // channels
    return (
        dx
        if multiplier == 1
        else dx.movedim(1, -1).reshape(len(dx), *dx.shape[2:], channels, -1).sum(-1).movedim(-1, 1)
    )


class _Turned:
    """As a convolution of dy with the weight turned round."""

    def __init__(self, runner: Any, x: Tensor) -> None:
        self.runner, self.channels, self.detail = runner, x.shape[1], runner.detail

    def __call__(self, dy: Tensor, weight: Tensor) -> Tensor:
        flipped = weight.detach().flip(tuple(range(2, weight.ndim)))
        return _of_inputs(self.runner(dy, flipped), self.channels)


class _ByReaders:
    """By a table of the outputs that read each input."""

    detail = "depthwise input gradient, by a table"

    def __init__(self, operation: spec.Convolution, x: Tensor, dy: Tensor) -> None:
        size, channels = x.shape[2:], dy.shape[1]
        self.shape, self.channels, self.last = (x.shape[0], channels, *size), x.shape[1], channels_last(x)
        sources = geometry.sources(operation.windows, size)
        sources = sources.reshape(-1, sources.shape[-1])
        outputs, taps = np.nonzero(sources != OUTSIDE)
        order = np.argsort(sources[outputs, taps], kind="stable")
        inputs = math.prod(size)
        starts = np.searchsorted(sources[outputs, taps][order], np.arange(inputs + 1))
        pairs = np.stack([outputs[order], taps[order]], 1) * channels
        self.tables = torch.from_numpy(starts.astype(np.int32)), torch.from_numpy(pairs.astype(np.int32))
        part = max(_PART // channels, 1)
        parts = -(-inputs // part)
        self.launch = Launch(
            DEPTHWISE_INPUT,
            DepthwiseInput(channels),
            None,
            x.shape[0] * parts,
            inputs=inputs,
            dy_image=dy[0].numel(),
            parts=parts,
            part=part,
        )

    def __call__(self, dy: Tensor, weight: Tensor) -> Tensor:
        dy = with_channels_last(dy, "x")
        lines = weight.detach().reshape(weight.shape[0], -1).t().contiguous()
        dx = empty(self.shape, True)
        self.launch(address(dy), address(lines), address(dx), *map(address, self.tables))
        dx = _of_inputs(dx, self.channels)
        return dx if self.last or dx.is_contiguous() else contiguous(with_channels_last(dx))


def prepare_weight_gradient(operation: spec.Convolution, x: Tensor, weight: Tensor, dy: Tensor, bias: bool) -> Any:
    """A runner of (x, dy) → (dw, db), shaped like the weight and its bias, or why there is none."""
    if max(x[0].numel() * (dy.shape[1] // x.shape[1]), dy[0].numel()) >= MOST:
        return "an image has more numbers than a table can count"
    return _WeightGradient(operation, x, weight, dy, bias)


class _WeightGradient:
    def __init__(self, operation: spec.Convolution, x: Tensor, weight: Tensor, dy: Tensor, bias: bool) -> None:
        target, size, channels = host(), x.shape[2:], dy.shape[1]
        *outer, row = operation.windows
        self.bias, self.like = bias, (weight.shape, weight.stride())
        self.multiplier = channels // x.shape[1]
        kernel = DepthwiseWeight(channels, row.size, row.stride, row.dilation, bias)
        lines = geometry.sources(outer, size[:-1]).reshape(-1, math.prod(window.size for window in outer))
        columns = row.sources(size[-1])
        line = size[-1] * channels
        self.tables = tuple(
            torch.from_numpy(np.where(table == OUTSIDE, OUTSIDE, table * step).astype(np.int32))
            for table, step in ((lines, line), (columns, channels))
        )
        schedule = choose_depthwise_weight(kernel, target, lines.shape[1])
        width = schedule.vectors * target.lanes
        blocks = -(-channels // width)
        chunks = -(-lines.shape[1] // schedule.rows) * schedule.pieces
        all_rows = x.shape[0] * len(lines)
        read = 4 * (line * outer[-1].stride if outer else line) + 4 * len(columns) * channels  # bytes of a row's turn
        share = max(1, min(target.l2 // 2 // read, -(-all_rows * blocks * chunks // _TASKS)))
        shares = -(-all_rows // share)
        first, last = inner_outputs(row, size[-1])
        packing = same(Packing(1, blocks, width, tuple(range(lines.shape[1] * row.size))))
        self.order = weight_order(packing, *self.like)
        self.unpack = self.order.unpacking(shares, bias)
        self.room = shares * self.order.room(bias)
        self.zeros = constant_line(line)
        self.launch = Launch(
            DEPTHWISE_WEIGHT,
            kernel,
            schedule,
            shares * blocks * chunks,
            x_image=math.prod(size) * channels,
            all_rows=all_rows,
            rows=len(lines),
            columns=len(columns),
            row_taps=lines.shape[1],
            inner_first=first,
            inner_last=last,
            start=row.at(size[-1]).offset * channels,
            share=share,
            chunks=chunks,
        )
        self.detail = f"depthwise weight gradient, {schedule.rows} lines of taps × {schedule.vectors} vectors"

    def __call__(self, x: Tensor, dy: Tensor) -> tuple[Tensor, Tensor | None]:
        if self.multiplier > 1:
            x = x.repeat_interleave(self.multiplier, 1)
        x, dy = with_channels_last(x, "x"), with_channels_last(dy, "residual")
        sums = scratch_floats(self.room, "y")
        self.launch(address(x), address(self.zeros), address(dy), address(sums), *map(address, self.tables))
        dw = torch.empty_strided(*self.like)
        db = torch.empty(dy.shape[1]) if self.bias else None
        self.unpack(address(dw), address(sums), *self.order.addresses, address(db))
        return dw, db
