"""Poolings and depthwise convolutions: windows that keep channels apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from svertka import spec
from svertka.engine.launch import Launch, address
from svertka.engine.layout import channels_last, contiguous, empty, neighbours, strides, with_channels_last
from svertka.engine.packing import packed_weight, same
from svertka.kernels.channelwise import Channelwise, ChannelwiseSchedule, choose_channelwise
from svertka.kernels.combine import (
    Average,
    Combination,
    Maximum,
    Norm,
    ProportionalDraw,
    ProportionalMean,
    WeightedMean,
    WeightedSum,
)
from svertka.kernels.epilogue import Epilogue
from svertka.kernels.family import Family
from svertka.kernels.tall import CHANNELWISE
from svertka.kernels.target import host
from svertka.window import OUTSIDE, Segments, Window

Table = npt.NDArray[np.int32]
_KEEP = Window(1)
_TASK = 1 << 17  # values of x that a task reads, about
_FEW_TASKS = 8
_WIDTH = 64  # channels in a task, about
_ORDERS = (1e-2, 1e2)  # of norms; others leave the range of float32


def prepare_pool(
    operation: Any,
    x: Tensor,
    *weight: Tensor,
    return_indices: bool = False,
    taps: bool = False,
    generator: torch.Generator | None = None,  # noqa: ARG001 (only the runner draws)
    schedule: ChannelwiseSchedule | None = None,
) -> Any:
    """A runner for a pooling, or why there is none.

    Args:
        weight: of a weighted mean, [channels or 1, *kernel_size].
        return_indices: the runner gives (y, int64 places), of a maximum.
        taps: it gives (y, the numbers of the taps that were taken, see `taps_like`), of a maximum or a draw.
    """
    if isinstance(operation, spec.LpPool) and not (operation.p == math.inf or _ORDERS[0] <= operation.p <= _ORDERS[1]):
        return f"norms of order {operation.p} are computed by torch"
    if weight and weight[0].shape[0] not in (1, x.shape[1]):
        return "its sizes don't fit"  # torch's operations say it better
    where = "source" if return_indices else "tap" if taps else ""
    combination = combination_of(operation, tuple(x.shape[2:]), where)
    return _prepared(operation, combination, x, *weight, schedule=schedule)


def prepare_depthwise(
    operation: spec.ConvolutionBlock,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    scale: Tensor | None = None,
    residual: Tensor | None = None,
    *,
    schedule: ChannelwiseSchedule | None = None,
) -> Any:
    """A runner for a depthwise convolution block without pooling, or why there is none.

    weight: [C, 1, *kernel_size].
    """
    if weight.shape[0] > x.shape[1]:
        return "its channels have several outputs"
    return _prepared(operation, WeightedSum(), x, weight, bias, scale, residual, schedule=schedule)


def _prepared(
    operation: Any,
    combination: Combination,
    x: Tensor,
    *tensors: Tensor | None,
    schedule: ChannelwiseSchedule | None,
) -> Any:
    operation.output_size(x.shape[2:])  # raises where no window fits
    if x[0].numel() >= 2**31:
        return "an image has more numbers than a table can count"
    if not channels_last(x) and schedule is None:
        from svertka.engine.planes import prepare_planes  # which builds on this module

        runner = prepare_planes(operation, x, *tensors, where=getattr(combination, "where", ""))
        if not isinstance(runner, str):
            return runner
    parts = _parts(operation, combination, x) if schedule is None else 1
    if parts > 1:
        return _InParts(operation, x, parts)
    return _runner(operation, combination, x, *tensors, schedule=schedule)


def _parts(operation: Any, combination: Combination, x: Tensor) -> int:
    """Into how many parts the first axis of a reduction of whole images is cut, so that there are tasks enough."""
    whole = all(window == Segments(1) for window in operation.windows)
    splits = isinstance(combination, Average) or combination == Maximum()
    if not (whole and splits and channels_last(x)):
        return 1
    tasks = x.shape[0] * -(-x.shape[1] // _WIDTH)
    return min(x.shape[2], x.numel() // (tasks * _TASK), -(-_FEW_TASKS // tasks))


class _InParts:
    """The mean or maximum of whole images: of parts of them, and then of these."""

    def __init__(self, operation: Any, x: Tensor, parts: int) -> None:
        windows = (Segments(parts, overlap=False), *operation.windows[1:])
        parted: Any = spec.MaxPool(windows)
        combination: Combination = Maximum()
        if isinstance(operation, spec.AveragePool):
            count = math.prod(x.shape[2:]) if operation.divisor is None else operation.divisor
            parted, operation = spec.AveragePool(windows, divisor=1.0), replace(operation, divisor=count)
            combination = Average()
        self.first = _runner(parted, combination, x)
        self.second = _runner(operation, combination, empty(self.first.shape, True))
        self.detail = f"{self.first.detail}, images in {parts} parts"

    def __call__(self, x: Tensor, **_: Any) -> Any:
        return self.second(self.first(x))


_GUARD = 64  # numbers before and after those of the taps, which kernels may read


def tap_bits(windows: Sequence[Any], size: Sequence[int]) -> int:
    """The bits of an integer that tells the taps of a window apart, and none of them."""
    taps = math.prod(window.sources(n).shape[1] for window, n in zip(windows, size, strict=True))
    return 8 if taps < 2**8 else 16 if taps < 2**16 else 32


_INTEGERS = {8: torch.int8, 16: torch.int16, 32: torch.int32, 64: torch.int64}


def room_for_taps(count: int, bits: int) -> Tensor:
    """Room for the numbers of taps, with some to spare before and after them: see `first_tap`."""
    return torch.empty(count + 2 * _GUARD, dtype=_INTEGERS[bits])


def first_tap(taps: Tensor | None) -> int:
    """The address of the first number in `room_for_taps`; 0 of none."""
    return 0 if taps is None else taps.data_ptr() + _GUARD * taps.element_size()


def taps_like(taps: Tensor, shape: Sequence[int], stride: Sequence[int]) -> Tensor:
    """The numbers in `room_for_taps` [N, C, *output size], which lie as those of the result do; none is −1."""
    return taps[_GUARD:-_GUARD].as_strided(tuple(shape), tuple(stride))


def combination_of(operation: Any, size: tuple[int, ...], where: str = "") -> Combination:
    """What an operation does inside a window, and whether it tells a "source" or "tap" that it took."""
    bits = tap_bits(operation.windows, size) if where == "tap" else 64
    match operation:
        case spec.MaxPool():
            return Maximum(where, bits)
        case spec.RectifiedMaxPool():
            return Maximum(where, bits, rectified=True)
        case spec.AveragePool():
            return Average(all(_exact(count) for line in counts_of(operation, size) for count in line))
        case spec.LpPool():
            return Norm(operation.p)
        case spec.WeightedPool():
            outside = any((w.sources(n) == OUTSIDE).any() for w, n in zip(operation.windows, size, strict=True))
            return WeightedMean() if outside and not operation.count_include_pad else WeightedSum()
        case spec.StochasticPool():
            return ProportionalDraw(where, bits) if operation.sample else ProportionalMean()
    return WeightedSum()


def _exact(count: float) -> bool:
    """Whether 1 / count has no rounding."""
    return math.frexp(abs(count))[0] == 0.5


def counts_of(operation: spec.AveragePool, size: tuple[int, ...]) -> list[Any]:
    """For each axis what each output is divided by; the divisor of a window is their product."""
    sizes = zip(operation.windows, size, strict=True)
    if operation.divisor is not None:
        ones = [np.ones(window.output_size(n)) for window, n in sizes]
        return [ones[0] * operation.divisor, *ones[1:]]
    name = "taps_on_line" if operation.count_include_pad else "taps_inside"
    return [getattr(window, name)(n) for window, n in sizes]


@dataclass(frozen=True)
class _Axis:
    """One axis of the index map, see `kernels.channelwise`."""

    outputs: int
    taps: int
    table: Tensor


def _axis(window: Any, n: int, behind: int, taps_behind: int, counts: Any) -> _Axis:
    """The table of an axis with so many inputs on the axes behind, and taps if an output's first tap is asked for."""
    sources = window.sources(n)
    inside = sources != OUTSIDE
    places = np.where(inside, sources * behind, OUTSIDE)
    first = np.take_along_axis(places, inside.argmax(1)[:, None], 1)
    if taps_behind:
        first = np.where(inside.any(1), inside.argmax(1) * taps_behind, OUTSIDE)[:, None]
    bits = np.asarray(counts, np.float32).view(np.int32)[:, None]
    table = np.concatenate([places, first, bits], 1).astype(np.int32)
    return _Axis(sources.shape[0], sources.shape[1], torch.from_numpy(table))


def inner_outputs(window: Any, n: int) -> tuple[int, int]:
    """(first, last + 1) of the outputs whose taps read neighbours at the dilation, all on the input; (0, 0) if none."""
    if not isinstance(window, Window):
        return 0, 0
    sources = window.sources(n)
    inner = np.flatnonzero(((sources == window.places(n)) & (sources != OUTSIDE)).all(1))
    return (int(inner[0]), int(inner[-1]) + 1) if len(inner) else (0, 0)


def padded_row(window: Any, n: int) -> Tensor:
    """int32: the input at each place that the windows of a row reach, −1 where there is none."""
    line = window.padded_line(n) if isinstance(window, Window) else np.empty(0)
    return torch.from_numpy(line.astype(np.int32))


@dataclass(frozen=True)
class Normalised:
    """Weights of a pooling, [taps, channels]."""

    channels: int
    divide: bool

    def __call__(self, weight: Tensor) -> Tensor:
        lines = weight.reshape(weight.shape[0], -1)
        if self.divide:
            lines = lines / lines.sum(1, keepdim=True)
        return lines.expand(self.channels, -1).t().contiguous()


def _runner(
    operation: Any,
    combination: Combination,
    x: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    scale: Tensor | None = None,
    residual: Tensor | None = None,
    *,
    schedule: ChannelwiseSchedule | None = None,
) -> ChannelwiseRunner:
    """An operation on inputs of one shape, by the channelwise family."""
    channels, row = x.shape[1], operation.windows[-1]
    activation = getattr(operation, "activation", None)
    epilogue = Epilogue(bias is not None, scale is not None, residual is not None, activation)
    kernel = channelwise(operation, combination, channels, epilogue)
    columns = row.output_size(x.shape[-1])
    schedule = schedule or choose_channelwise(kernel, host(), columns)
    if schedule.pixels > columns or schedule.vectors * min(schedule.lanes, channels) > channels:
        raise ValueError(f"{schedule} is larger than a row of {columns} outputs of {channels} channels")
    if schedule.rows > 1 and not kernel.rows:
        raise ValueError(f"{schedule} has rows that share no inputs")
    divide = isinstance(operation, spec.WeightedPool) and isinstance(combination, WeightedSum)
    packing = same(Normalised(channels, divide))
    last = channels_last(x) or (weight is not None and channels_last(weight))
    return ChannelwiseRunner(operation, kernel, schedule, x, last, packing)


def channelwise(operation: Any, combination: Combination, channels: int, epilogue: Epilogue) -> Channelwise:
    """What the channelwise family computes for an operation."""
    row, rows = operation.windows[-1], _overlapping(operation, combination)
    regular = {"taps": row.size, "stride": row.stride, "dilation": row.dilation} if isinstance(row, Window) else {}
    return Channelwise(combination, channels, epilogue, deep=operation.ndim == 3, rows=rows, **regular)


def _overlapping(operation: Any, combination: Combination) -> int:
    """The taps of the rows of a weighted sum on two axes, if they follow each other; else 0."""
    if operation.ndim != 2 or combination != WeightedSum():
        return 0
    window = operation.windows[0]
    return window.size if window.stride == window.dilation == 1 < window.size else 0


class ChannelwiseRunner:
    """An operation on inputs of one shape, by the channelwise family or one with its tables.

    Args:
        kernel, schedule, family: see there.
        x: like the input: its shape and strides.
        last: the output's channels are neighbours.
        packing: of the weights.
        width: channels in a block of vectors; all of their lanes if 0.
    """

    def __init__(
        self,
        operation: Any,
        kernel: Channelwise,
        schedule: ChannelwiseSchedule,
        x: Tensor,
        last: bool,
        packing: Any,
        family: Family = CHANNELWISE,
        width: int = 0,
    ) -> None:
        size, row = tuple(x.shape[2:]), operation.windows[-1]
        self.combination, self.tells = kernel.combination, getattr(kernel.combination, "where", "")
        self.draws = "draw" in kernel.combination.required  # random numbers
        self.last, self.packing, self.as_is = last, packing, neighbours(x)
        self.shape = (x.shape[0], kernel.channels, *operation.output_size(size))
        self.either = kernel.channels == 1 or math.prod(self.shape[2:]) == 1  # both formats have the same order
        self.stored_last = last or not self.either
        self.stride = strides(self.shape, self.stored_last)
        alone = not kernel.combination.required & {"weight", "draw", "source", "tap"}
        self.plain = alone and self.as_is and (last or self.either)  # x → y, as they lie
        self.axes = axes = _axes(operation, kernel.combination, size)
        start = row.at(size[-1]).offset if isinstance(row, Window) else 0
        width = width or schedule.vectors * schedule.lanes
        sides = zip((_KEEP, *operation.windows)[-2:], (1, *size)[-2:], strict=True)
        inner = [inner_outputs(window, n) for window, n in sides]
        self.launch = self._launch(family, kernel, schedule, x, inner, start, width)
        self.line = padded_row(row, size[-1])
        self.tables = (*(address(axis.table) for axis in axes), address(self.line))
        self.detail = f"{family.name}, tile of {schedule.pixels} pixels × {schedule.vectors} vectors"

    def _launch(
        self,
        family: Family,
        kernel: Channelwise,
        schedule: ChannelwiseSchedule,
        x: Tensor,
        inner: Sequence[tuple[int, int]],
        start: int,
        width: int,
    ) -> Launch:
        depth, height, column = self.axes
        rows = x.shape[0] * depth.outputs * height.outputs
        rows_in_task, channels = self._task(kernel, schedule, rows, width)
        row_tasks, channel_tasks = -(-rows // rows_in_task), -(-kernel.channels // channels)
        return Launch(
            family,
            kernel,
            schedule,
            row_tasks * channel_tasks,
            x_image=x[0].numel(),
            rows=rows,
            depths=depth.outputs,
            heights=height.outputs,
            columns=column.outputs,
            depth_taps=depth.taps,
            height_taps=height.taps,
            column_taps=column.taps,
            start=start,
            inner_first=inner[-1][0],
            inner_last=inner[-1][1],
            rows_in_task=rows_in_task,
            channel_tasks=channel_tasks,
            channels_in_task=channels,
            inner_top=inner[0][0],
            inner_bottom=inner[0][1],
        )

    def _task(self, kernel: Channelwise, schedule: ChannelwiseSchedule, rows: int, width: int) -> tuple[int, int]:
        """Of how many of the rows, and of how many channels, a task computes the outputs."""
        columns, channels = self.axes[-1].outputs, kernel.channels
        taps = math.prod(axis.taps for axis in self.axes)
        rows_in_task = max(_TASK // (taps * columns * channels), 1)
        rows_in_task = min(-(-rows_in_task // schedule.rows) * schedule.rows, rows)  # whole tiles
        if -(-rows // rows_in_task) < _FEW_TASKS and taps * rows_in_task * columns * channels > _TASK:  # long tasks
            channels = min(max(_TASK // (taps * rows_in_task * columns) // width, 1) * width, channels)
        return rows_in_task, channels

    def __call__(
        self,
        x: Tensor,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        scale: Tensor | None = None,
        residual: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
        **_: Any,
    ) -> Any:
        if self.plain:  # most poolings, done before the call costs more than they
            y = torch.empty_strided(self.shape, self.stride)
            self.launch(x.data_ptr(), 0, y.data_ptr(), 0, *self.tables, 0, 0, 0, 0)
            return y
        x = x if self.as_is else with_channels_last(x, "x")
        residual = None if residual is None else with_channels_last(residual, "residual")
        bias = None if bias is None else bias.contiguous()
        scale = None if scale is None else scale.contiguous()
        packed = None if weight is None else packed_weight(weight, self.packing)
        seed = torch.empty((), dtype=torch.int64).random_(generator=generator) if self.draws else None
        y, last = empty(self.shape, self.stored_last), self.stored_last
        indices = empty(self.shape, last, torch.int64) if self.tells == "source" else None
        taps = room_for_taps(y.numel(), self.combination.bits) if self.tells == "tap" else None
        self.launch(
            x.data_ptr(), address(packed), y.data_ptr(), address(indices) or first_tap(taps), *self.tables,
            address(bias), address(scale), address(residual), address(seed),
        )  # fmt: skip
        if not (self.last or self.either):
            result = contiguous(y)
            indices = None if indices is None else indices.contiguous()
            if taps is not None:
                turned = room_for_taps(y.numel(), self.combination.bits)
                taps_like(turned, y.shape, result.stride()).copy_(taps_like(taps, y.shape, y.stride()))
                taps = turned
            y = result
        second = taps if indices is None else indices
        return y if second is None else (y, second)


def _axes(operation: Any, combination: Combination, size: tuple[int, ...]) -> list[_Axis]:
    """Three axes, the missing ones in front."""
    missing = 3 - len(size)
    windows, sizes = (_KEEP,) * missing + operation.windows, (1,) * missing + size
    counts: list[Any] = [np.ones(window.output_size(n)) for window, n in zip(windows, sizes, strict=True)]
    if isinstance(combination, Average):
        counts[missing:] = counts_of(operation, size)
        counts = [1 / line if combination.reciprocal else line for line in counts]
    behind = [sizes[1] * sizes[2], sizes[2], 1]
    taps_behind = [0, 0, 0]
    if "tap" in combination.required:
        taps = [window.sources(n).shape[1] for window, n in zip(windows, sizes, strict=True)]
        taps_behind = [taps[1] * taps[2], taps[2], 1]
    return [_axis(*arguments) for arguments in zip(windows, sizes, behind, taps_behind, counts, strict=True)]
