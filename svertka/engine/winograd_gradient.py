"""The gradient of convolutions with stride 1 to their weights by the Winograd family."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from svertka import spec
from svertka.engine import precision
from svertka.engine.launch import Launch, address, constant_line
from svertka.engine.layout import scratch_floats, with_channels_last
from svertka.engine.packing import Packing, same, weight_order
from svertka.engine.winograd import suits_windows, table, tiles_of
from svertka.kernels import winograd_gradient
from svertka.kernels.target import host
from svertka.kernels.winograd_gradient import (
    WINOGRAD_GRADIENT,
    WinogradGradient,
    WinogradGradientSchedule,
    choose_winograd_gradient,
)

_TASKS = 16  # into so many at least, if there are as many tiles
_LEAST = 64  # tiles of a split


def prepare_weight_gradient(
    operation: spec.Convolution,
    x: Tensor,
    weight: Tensor,
    dy: Tensor,
    bias: bool,
    schedule: WinogradGradientSchedule | None = None,
) -> Any:
    """A runner of (x, dy) → (dw, db), shaped like the weight and its bias, or a string if another family is better."""
    if not suits_windows(operation.windows):
        return "the family doesn't suit"
    down, across = (1,) * (2 - operation.ndim) + tuple(window.size for window in operation.windows)
    groups = operation.groups
    kernel = WinogradGradient(x.shape[1] // groups, dy.shape[1] // groups, (down, across), bias)
    height, width = (1, *dy.shape[2:])[-2:]
    chosen = schedule or choose_winograd_gradient(kernel, host(), len(x), height, width, precision.products())
    return Runner(operation, kernel, chosen, x, weight, dy) if chosen else "the direct kernels are faster"


class Runner:
    """The gradient to the weight for inputs of one shape; the arguments are those of `prepare_weight_gradient`."""

    def __init__(
        self,
        operation: spec.Convolution,
        kernel: WinogradGradient,
        schedule: WinogradGradientSchedule,
        x: Tensor,
        weight: Tensor,
        dy: Tensor,
    ) -> None:
        target, groups = host(), operation.groups
        self.bias, self.like = kernel.bias, (weight.shape, weight.stride())
        (rows, y_rows), (columns, y_columns) = tiles_of(operation, x.shape[2:], schedule.tile)
        self.tables = (
            table(rows, x.shape[-1] * x.shape[1]),
            table(columns, x.shape[1]),
            table(y_rows, dy.shape[-1] * dy.shape[1]),
            table(y_columns, dy.shape[1]),
        )
        image_tiles = len(rows) * len(columns)
        tiles = x.shape[0] * image_tiles
        apart = groups * winograd_gradient.parts(kernel, schedule, target)
        split_tiles = max(-(-tiles // max(_TASKS // apart, 1)), _LEAST)
        splits = -(-tiles // split_tiles)
        width = schedule.vectors * target.lanes
        taps = tuple(range(math.prod(kernel.kernel)))
        packing = same(Packing(groups, -(-kernel.outputs // width), width, taps))
        self.order = weight_order(packing, *self.like)
        self.unpack = self.order.unpacking(splits, kernel.bias)
        self.room = splits * self.order.room(kernel.bias)
        self.scratch = winograd_gradient.scratch_floats(kernel, schedule, target)
        self.zeros = constant_line(max(x.shape[1], dy.shape[1], 16))
        self.launch = Launch(
            WINOGRAD_GRADIENT,
            kernel,
            schedule,
            splits * apart,
            tiles=tiles,
            image_tiles=image_tiles,
            tiles_across=len(columns),
            x_image=x[0].numel(),
            y_image=dy[0].numel(),
            groups=groups,
            split_tiles=split_tiles,
        )
        names = ("×".join(map(str, numbers[2 - operation.ndim :])) for numbers in (schedule.tile, kernel.kernel))
        self.detail = (
            f"winograd weight gradient F({', '.join(names)}), "
            f"tile of {schedule.inputs} inputs × {schedule.vectors} vectors"
        )

    def __call__(self, x: Tensor, dy: Tensor) -> tuple[Tensor, Tensor | None]:
        x, dy = with_channels_last(x, "x"), with_channels_last(dy, "residual")
        sums = scratch_floats(self.room, "y")
        room = scratch_floats(torch.get_num_threads() * self.scratch, "products")
        self.launch(
            address(x), address(self.zeros), address(dy), address(sums), *map(address, self.tables), address(room)
        )
        dw = torch.empty_strided(*self.like)
        db = torch.empty(dy.shape[1]) if self.bias else None
        self.unpack(address(dw), address(sums), *self.order.addresses, address(db))
        return dw, db
