"""Convolutions with stride 1 or 2 by the Winograd family."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from svertka import spec
from svertka.engine import precision
from svertka.engine.launch import Launch, address, constant_line
from svertka.engine.layout import channels_last, contiguous, empty, scratch, scratch_floats, with_channels_last
from svertka.engine.packing import Packing, packed_weight, same
from svertka.engine.tuning import schedule_for
from svertka.kernels import winograd
from svertka.kernels.epilogue import Epilogue
from svertka.kernels.target import host
from svertka.kernels.winograd import WINOGRAD, WINOGRAD_INPUT, WINOGRAD_OUTPUT, Winograd, WinogradSchedule
from svertka.kernels.winograd_points import phases, transforms
from svertka.kernels.winograd_schedule import Direct
from svertka.window import OUTSIDE, Window

FEWEST = 32  # channels on each side: with fewer, F(2×2) may err a little more than the direct sum
_TAPS = (3, 5, 7)  # on an axis, or 1


@dataclass(frozen=True)
class WinogradPacking:
    """Transformed weights as the kernel reads them: [groups, points, blocks, inputs, width], G_y w G_xᵀ in double.

    Args:
        groups, blocks, width: `blocks` · `width` ≥ the outputs of one group.
        tile, kernel, stride: F(tile, kernel), with a stride.
    """

    groups: int
    blocks: int
    width: int
    tile: tuple[int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int]

    def __call__(self, weight: Tensor) -> Tensor:
        down, across = (_matrix(*axis) for axis in zip(self.tile, self.kernel, self.stride, strict=True))
        outputs, inputs = weight.shape[0] // self.groups, weight.shape[1]
        both = torch.kron(down, across)  # [points, taps]
        packed = weight.new_zeros(self.groups, len(both), self.blocks, inputs, self.width)
        for group, block in itertools.product(range(self.groups), range(self.blocks)):
            # One after the other, since all of them in double would take more memory than the network.
            first = group * outputs + block * self.width
            part = weight[first : min(first + self.width, (group + 1) * outputs)]
            transformed = both @ part.reshape(-1, both.shape[1]).t().double()
            packed[group, :, block, :, : len(part)] = transformed.view(len(both), len(part), inputs).transpose(1, 2)
        return packed


@lru_cache(maxsize=64)
def _matrix(outputs: int, taps: int, stride: int) -> Tensor:
    rows = transforms(outputs, taps, stride).G
    return torch.tensor([[float(value) for value in row] for row in rows], dtype=torch.float64)


def axis_tiles(window: Window, n: int, outputs: int) -> tuple[Any, Any]:
    """The tiles of so many outputs on an axis of n inputs: which inputs each reads, and which outputs it gives.

    With dilation d a tile has every d-th output; with a stride its inputs come phase by phase. Both are int64,
    [tiles, products] and [tiles, outputs], with OUTSIDE in place of what isn't there.
    """
    line, count, step = window.padded_line(n), window.output_size(n), window.dilation
    reads, gives, of_tile = [], [], step * np.array(phases(outputs, window.size, window.stride))
    for phase in range(min(step, count)):
        for first in range(phase, count, step * outputs):
            gives.append(np.arange(first, first + step * outputs, step))
            reads.append(first * window.stride + of_tile)
    given, read = np.stack(gives), np.stack(reads)
    inside = read < len(line)
    return np.where(inside, line[np.where(inside, read, 0)], OUTSIDE), np.where(given < count, given, OUTSIDE)


def tiles_of(operation: Any, size: Sequence[int], tile: tuple[int, int]) -> list[tuple[Any, Any]]:
    """`axis_tiles` of the rows and of the columns, for inputs of this size; on one axis there is one row."""
    lifted = 2 - operation.ndim
    windows, sizes = (Window(1),) * lifted + operation.windows, (1,) * lifted + tuple(size)
    return [axis_tiles(window, n, m) for window, n, m in zip(windows, sizes, tile, strict=True)]


class Runner:
    """A convolution of inputs of one shape.

    Args:
        operation: its windows have stride 1 or 2; one or two of them.
        kernel, schedule: see the family.
        x: like the input: its shape and strides.
        shape: of the output.
        last: the output's channels are neighbours.
        question: what the schedule was chosen for.
        adjoint: the weights are those of the convolution whose adjoint this is.
    """

    def __init__(
        self,
        operation: spec.ConvolutionBlock,
        kernel: Winograd,
        schedule: WinogradSchedule,
        x: Tensor,
        shape: tuple[int, ...],
        last: bool,
        question: tuple[Any, ...],
        adjoint: bool = False,
    ) -> None:
        target, groups = host(), operation.groups
        self.shape, self.last, self.question = shape, last, question
        self.direct = last or shape[1] == 1 or math.prod(shape[2:]) == 1  # both formats have the same order
        (rows, y_rows), (columns, y_columns) = tiles_of(operation, x.shape[2:], schedule.tile)
        across, y_across = x.shape[-1], shape[-1]
        self.tables = (
            table(rows, across * x.shape[1]),
            table(columns, x.shape[1]),
            table(_pooled(y_rows, kernel.pool[0], shape[-2] if operation.ndim > 1 else 1), y_across * shape[1]),
            table(_pooled(y_columns, kernel.pool[1], y_across), shape[1]),
        )
        image_tiles = len(rows) * len(columns)
        tiles = x.shape[0] * image_tiles
        sets = math.ceil(tiles / schedule.tiles)
        tile_tasks = math.ceil(sets / schedule.sets)
        task_sets = math.ceil(sets / tile_tasks)
        blocks = winograd.blocks_of(kernel, schedule, target)
        output_tasks = math.ceil(blocks / schedule.blocks)
        transformed, products = winograd.scratch_floats(kernel, schedule, target)
        # Of each worker: the products, and behind them the weights that it transforms.
        self.products = task_sets * products + winograd.weight_floats(kernel, schedule, target)
        numbers = {
            "tiles": tiles,
            "image_tiles": image_tiles,
            "tiles_across": len(columns),
            "x_image": x[0].numel(),
            "y_image": math.prod(shape[1:]),
            "tile_tasks": tile_tasks,
            "output_tasks": output_tasks,
            "task_sets": task_sets,
            "transformed_size": transformed if schedule.apart else task_sets * transformed,
            "products_size": self.products,
        }
        self.tasks = groups * tile_tasks * output_tasks
        self.transformed = 0 if schedule.apart else task_sets * transformed
        self.shared = groups * sets * transformed if schedule.apart else 0
        if schedule.apart:
            of_sets = {**numbers, "tile_tasks": sets, "output_tasks": 1, "task_sets": 1}
            self.launches = [
                Launch(WINOGRAD_INPUT, kernel, schedule, groups * sets, **of_sets),
                Launch(WINOGRAD_OUTPUT, kernel, schedule, self.tasks, **numbers),
            ]
        else:
            self.launches = [Launch(WINOGRAD, kernel, schedule, self.tasks, **numbers)]
        width = schedule.vectors * target.lanes
        taps = tuple(range(math.prod(kernel.kernel)))[:: -1 if adjoint else 1]
        self.packing: Any = same(
            Packing(groups, blocks, width, taps, adjoint)
            if schedule.inputs
            else WinogradPacking(groups, blocks, width, schedule.tile, kernel.kernel, kernel.stride)
        )
        self.line: Any = same(Packing(groups, blocks, width, (), line=True))
        self.zeros = constant_line(max(kernel.inputs, 16))
        names = ("×".join(map(str, numbers[2 - operation.ndim :])) for numbers in (schedule.tile, kernel.kernel))
        stride = " with stride 2" if max(kernel.stride) > 1 else ""
        tile = f"tile of {schedule.tiles} tiles × {schedule.vectors} vectors"
        self.detail = f"winograd F({', '.join(names)}){stride}, {tile}"

    def __call__(
        self,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        scale: Tensor | None = None,
        residual: Tensor | None = None,
    ) -> Tensor:
        x = with_channels_last(x, "x")
        residual = None if residual is None else with_channels_last(residual, "residual")
        y = empty(self.shape, self.last) if self.direct else scratch(self.shape, "y")
        packed = packed_weight(weight, self.packing)
        biases = None if bias is None else packed_weight(bias, self.line)
        scales = None if scale is None else packed_weight(scale, self.line)
        workers = torch.get_num_threads()
        transformed = scratch_floats(self.shared + workers * self.transformed, "transformed")
        products = scratch_floats(workers * self.products, "products")
        pointers = (
            x.data_ptr(), self.zeros.data_ptr(), packed.data_ptr(), y.data_ptr(),
            *(table.data_ptr() for table in self.tables), address(biases), address(scales), address(residual),
            transformed.data_ptr(), products.data_ptr(),
        )  # fmt: skip
        for launch in self.launches:
            launch(*pointers)
        return y if self.direct else contiguous(y)


def _pooled(outputs: Any, size: int, count: int) -> Any:
    """The windows of so many outputs each that tiles give, of the first `count`, in place of their outputs."""
    windows = np.where(outputs[:, ::size] == OUTSIDE, OUTSIDE, outputs[:, ::size] // size)
    return np.where(windows < count, windows, OUTSIDE)


def table(places: Any, step: int) -> Tensor:
    """A kernel's int32 table of places `step` numbers apart, OUTSIDE where there is none."""
    return torch.from_numpy(np.where(places == OUTSIDE, OUTSIDE, places * step).astype(np.int32))


def suits_windows(windows: Sequence[Window], stride: int = 1) -> bool:
    """Whether the family can compute convolutions by windows of such sizes and of strides up to this one.

    By windows of stride 1 it computes the gradient to the input, too, and that of the gradient to the weight that one.
    """
    sizes = {window.size for window in windows} - {1}
    steps = all(window.stride <= stride for window in windows)
    return len(windows) <= 2 and bool(sizes) and sizes <= set(_TAPS) and steps


def suits(operation: spec.ConvolutionBlock, weight: Tensor, stride: int = 2) -> bool:
    """Whether the family can compute it, and is worth a thought."""
    fewest = min(weight.shape[1], weight.shape[0] // operation.groups)
    return suits_windows(operation.windows, stride) and fewest >= FEWEST


def prepare_winograd(
    operation: spec.ConvolutionBlock,
    x: Tensor,
    weight: Tensor,
    epilogue: Epilogue,
    schedule: WinogradSchedule | None = None,
    changing: bool = False,
) -> Any:
    """A runner for a convolution block, or a string if another family is better; arguments see `prepare_block`."""
    inner = operation.convolution.output_size(x.shape[2:])
    pool = _pool(operation, inner)
    if pool is None or (operation.pool and epilogue.residual):
        return "its pooling windows don't lie side by side, or there is something to add before"
    outputs = weight.shape[0] // operation.groups
    kernel = Winograd(weight.shape[1], outputs, _kernel(operation), epilogue, pool, _stride(operation))
    shape = (x.shape[0], weight.shape[0], *operation.output_size(x.shape[2:]))
    height, width = (1, *inner)[-2:]
    question = (kernel, host(), x.shape[0], operation.groups, height, width, precision.products(), int(changing))
    chosen = schedule or schedule_for(*question)
    if isinstance(chosen, Direct):
        return "the direct kernels are faster"
    if chosen.tile[0] % pool[0] or chosen.tile[1] % pool[1]:
        raise ValueError(f"{chosen} has tiles that are not whole windows of {pool[0]}×{pool[1]}")
    last = channels_last(x) or channels_last(weight)
    return Runner(operation, kernel, chosen, x, shape, last, question)


def _pool(operation: spec.ConvolutionBlock, size: tuple[int, ...]) -> tuple[int, int] | None:
    """The size of pooling windows that lie side by side from the first output on, as do the outputs; None if not."""
    if not operation.pool:
        return 1, 1
    for window, n in zip(operation.pool, size, strict=True):
        taken = window.sources(n)
        if (taken.reshape(-1) != np.arange(taken.size)).any():
            return None
    if any(window.dilation > 1 for window in operation.windows):
        return None
    down, across = (1,) * (2 - operation.ndim) + tuple(window.size for window in operation.pool)
    return down, across


def prepare_adjoint(operation: spec.Convolution, x: Tensor, weight: Tensor, dy: Tensor) -> Any:
    """A runner of (dy, weight) → dx, or a string: with zeros around, C_d dy by the mirrored weights."""
    if any(window.mode != "zeros" or window.ceil_mode for window in operation.windows):
        return "what padding repeats is read more than once"
    windows = []
    for window, n in zip(operation.windows, x.shape[2:], strict=True):
        before, after = (window.extent - 1 - pad for pad in window.pads(n))
        windows.append(replace(window, padding=(before, after)))
    block = spec.ConvolutionBlock(tuple(windows), operation.groups)
    if not suits(block, weight, stride=1):
        return "the family doesn't suit"
    kernel = Winograd(weight.shape[0] // operation.groups, weight.shape[1], _kernel(block))
    height, width = (1, *x.shape[2:])[-2:]
    question = (kernel, host(), x.shape[0], operation.groups, height, width, precision.products(), 1)
    chosen = schedule_for(*question)
    if isinstance(chosen, Direct):
        return "the direct kernels are faster"
    return Runner(block, kernel, chosen, dy, tuple(x.shape), channels_last(x), question, adjoint=True)


def _kernel(operation: spec.ConvolutionBlock) -> tuple[int, int]:
    down, across = (1,) * (2 - operation.ndim) + tuple(window.size for window in operation.windows)
    return down, across


def _stride(operation: spec.ConvolutionBlock) -> tuple[int, int]:
    """1 where there is one tap: what it reads is told by the tables."""
    strides = (window.stride if window.size > 1 else 1 for window in operation.windows)
    down, across = (1,) * (2 - operation.ndim) + tuple(strides)
    return down, across
