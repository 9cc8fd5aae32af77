"""Convolutions, transposed convolutions and convolution blocks by the dense family."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor

from svertka import spec
from svertka import window as geometry
from svertka.engine import few, inner, winograd
from svertka.engine.grouped import prepare_grouped
from svertka.engine.launch import Launch, address, constant_line
from svertka.engine.layout import (
    Tables,
    channels_last,
    contiguous,
    empty,
    neighbours,
    scratch,
    tables,
    with_channels_last,
)
from svertka.engine.packing import Packing, packed_weight, same
from svertka.engine.pools import prepare_depthwise
from svertka.engine.tuning import schedule_for
from svertka.kernels.channelwise import ChannelwiseSchedule
from svertka.kernels.dense import DENSE, Dense, DenseSchedule, blocks_of
from svertka.kernels.epilogue import Epilogue
from svertka.kernels.few import FewSchedule
from svertka.kernels.inner import InnerSchedule
from svertka.kernels.target import host
from svertka.kernels.winograd import WinogradSchedule
from svertka.kernels.winograd_schedule import Direct
from svertka.window import OUTSIDE

DIRECT = Direct()
_SMALL = 64  # places of an output whose whole batch is one image to the kernel, so that tiles are full
MOST = 2**31  # what a table's int32 can count


def prepare_convolution(
    operation: spec.Convolution,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    *,
    schedule: Any = None,
    changing: bool = False,
) -> Any:
    """A runner for a convolution of x, or why there is none; arguments as for `prepare_block`."""
    block = spec.ConvolutionBlock(operation.windows, operation.groups)
    return prepare_block(block, x, weight, bias, schedule=schedule, changing=changing)


def prepare_block(
    operation: spec.ConvolutionBlock,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    scale: Tensor | None = None,
    residual: Tensor | None = None,
    *,
    schedule: Any = None,
    changing: bool = False,
) -> Any:
    """A runner for a convolution block on x, or why there is none.

    `schedule` forces one; the weights are `changing` if they are others at each call, as in training.
    """
    reason = _unfit(operation, x, weight.shape[1] * operation.groups, weight.shape[0])
    if reason:
        return reason
    if 1 < operation.groups == x.shape[1] and not operation.pool and schedule in (None, DIRECT):
        runner = prepare_depthwise(operation, x, weight, bias, scale, residual)
        if not isinstance(runner, str):
            return runner
    epilogue = Epilogue(bias is not None, scale is not None, residual is not None, operation.activation)
    if isinstance(schedule, ChannelwiseSchedule) or (operation.groups > 1 and schedule is None):
        runner = prepare_grouped(operation, x, weight, epilogue, schedule)
        if not isinstance(runner, str):
            return runner
    if isinstance(schedule, WinogradSchedule) or (schedule is None and winograd.suits(operation, weight)):
        runner = winograd.prepare_winograd(operation, x, weight, epilogue, schedule, changing)
        if not isinstance(runner, str):
            return runner
    schedule = None if schedule == DIRECT else schedule
    if isinstance(schedule, FewSchedule) or (schedule is None and few.suits(operation, x)):
        runner = few.prepare_few(operation, x, weight, epilogue, schedule)
        if isinstance(schedule, FewSchedule) or not isinstance(runner, str):
            return runner
    if isinstance(schedule, InnerSchedule) or (
        schedule is None and inner.suits(operation, x, weight, bias, scale, residual)
    ):
        return inner.Runner(x, weight, epilogue, schedule)
    size = tuple(x.shape[2:])
    inner_size = operation.convolution.output_size(size)
    sources = geometry.sources(operation.windows, size)
    pooled, order = 1, None
    if operation.pool:
        order = geometry.sources(operation.pool, inner_size)
        order = order.reshape(-1, order.shape[-1])
        pooled = order.shape[-1]
        if (order == OUTSIDE).any() or len(np.unique(order)) != order.size or pooled > 4 or residual is not None:
            return "only windows of at most 4 places that don't overlap are pooled within the convolution"
    sources = sources.reshape(-1, sources.shape[-1])
    part = Part(sources if order is None else sources[order.reshape(-1)], None, range(sources.shape[-1]))
    largest = x.shape[0] * max(x[0].numel(), weight.shape[0] * len(part.sources))
    if len(part.sources) <= _SMALL and largest < MOST:
        part = part.of_batch(x.shape[0], math.prod(size))
    kernel = Dense(weight.shape[1], weight.shape[0] // operation.groups, epilogue, pooled)
    last = channels_last(x) or channels_last(weight)
    shape = (x.shape[0], weight.shape[0], *operation.output_size(size))
    return Runner(kernel, [part], x, shape, last, groups=operation.groups, schedule=schedule)


def prepare_transposed(
    operation: spec.TransposedConvolution,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    *,
    schedule: DenseSchedule | None = None,
) -> Any:
    """A runner for a transposed convolution of x, or why there is none.

    With stride s only each s-th tap meets an input: outputs of one phase (o mod s on each axis) see the same taps, and
    are a convolution of their own.
    """
    outputs = weight.shape[1] * operation.groups
    reason = _unfit(operation, x, weight.shape[0], outputs)
    if reason:
        return reason
    kernel = Dense(weight.shape[0] // operation.groups, weight.shape[1], Epilogue(bias=bias is not None))
    last = channels_last(x) or channels_last(weight)
    shape = (x.shape[0], outputs, *operation.output_size(x.shape[2:]))
    sources = geometry.sources(operation.windows, x.shape[2:]).reshape(*shape[2:], -1)
    parts = phases(sources, tuple(window.window.stride for window in operation.windows))
    return Runner(kernel, parts, x, shape, last, groups=operation.groups, transposed=True, schedule=schedule)


def _unfit(operation: Any, x: Tensor, channels: int, outputs: int) -> str:
    if channels != x.shape[1] or outputs % operation.groups or channels % operation.groups:
        return "its sizes don't fit"  # torch's operation says it better
    inner = operation.convolution if isinstance(operation, spec.ConvolutionBlock) else operation
    if max(x[0].numel(), outputs * math.prod(inner.output_size(x.shape[2:]))) >= MOST:
        return "an image has more numbers than a table can count"
    return ""


class Part:
    """Some of the outputs, with the taps that they see.

    Args:
        sources: int64 [outputs, taps].
        places: which outputs these are; None if they are all, in order.
        taps: which of the kernel's taps, in row-major order.
        added: whether the sums are added to what stands there already.
    """

    images_apart = True

    def __init__(self, sources: Any, places: Any, taps: Any, added: bool = False) -> None:
        self.sources, self.places, self.taps = sources, places, tuple(int(tap) for tap in taps)
        self.added = added

    def of_batch(self, images: int, inputs: int) -> Part:
        """The same for so many images as one, which lie one after the other."""
        first = np.arange(images)[:, None, None] * inputs
        sources = np.where(self.sources == OUTSIDE, OUTSIDE, self.sources + first)
        part = Part(sources.reshape(-1, sources.shape[-1]), None, self.taps)
        part.images_apart = False
        return part


def phases(sources: Any, strides: tuple[int, ...]) -> list[Part]:
    """The parts of an index map [*output size, taps]: outputs at one place modulo the strides see the same taps."""
    places = np.arange(math.prod(sources.shape[:-1])).reshape(sources.shape[:-1])
    parts = []
    for phase in np.ndindex(*strides):
        outputs = tuple(slice(first, None, step) for first, step in zip(phase, strides, strict=True))
        if places[outputs].size == 0:
            continue
        here = sources[outputs].reshape(-1, sources.shape[-1])
        taps = np.flatnonzero((here != OUTSIDE).any(axis=0))
        parts.append(Part(here[:, taps], places[outputs].reshape(-1), taps))
    if len(parts) == 1:
        parts[0].places = None
    return parts


class Runner:
    """A dense convolution on inputs of one shape: a launch for each part.

    Args:
        kernel: what a part computes, but for the layout of y.
        parts: which together make the whole.
        x: like the input: its shape and strides.
        shape: of the output, [N, outputs, *size].
        last: the output's channels are neighbours.
        groups, transposed: how the weight is read, see `Packing`.
        schedule: forces one.

    Attributes:
        detail: for the report.
        question: what the schedule of the last part was chosen for.
    """

    def __init__(
        self,
        kernel: Dense,
        parts: list[Part],
        x: Tensor,
        shape: tuple[int, ...],
        last: bool,
        *,
        groups: int,
        transposed: bool = False,
        schedule: DenseSchedule | None = None,
    ) -> None:
        self.as_is = neighbours(x)
        self.transposed, self.shape, self.last, self.groups = transposed, shape, last, groups
        self.either = shape[1] == 1 or math.prod(shape[2:]) == 1  # both formats have the same order
        whole = len(parts) == 1 and parts[0].places is None and parts[0].images_apart
        kernel = replace(kernel, planes=whole and not last and not self.either)
        self.direct = last or self.either or kernel.planes
        self.zeros = constant_line(max(kernel.inputs, 16))
        self.parts = [self._launch(kernel, part, x, schedule) for part in parts]
        chosen = self.parts[0][0].schedule
        self.detail = f"dense, tile of {chosen.pixels} pixels × {chosen.vectors} vectors"

    def _launch(
        self, kernel: Dense, part: Part, x: Tensor, schedule: DenseSchedule | None
    ) -> tuple[Launch, Tables, Packing, Packing, bool]:
        target, groups, outputs = host(), self.groups, self.shape[1]
        if part.added:
            kernel = replace(kernel, epilogue=replace(kernel.epilogue, residual=True))
        pixels, taps = part.sources.shape
        images = x.shape[0] if part.images_apart else 1
        self.question = (kernel, target, taps, pixels, int(images * groups == 1))
        schedule = schedule or schedule_for(*self.question)
        if not taps:  # only the epilogue is left, which the last part of a sum does: let there be one
            schedule = replace(schedule, block_taps=0, block_inputs=0)
        table = tables(part.sources, part.places, x.shape[1], outputs, schedule.pixels, kernel.pooled)
        blocks = blocks_of(kernel, schedule, target)
        pixel_tasks = math.ceil(pixels / (schedule.pixels * schedule.tiles))
        output_tasks = math.ceil(blocks / schedule.blocks)
        launch = Launch(
            DENSE,
            kernel,
            schedule,
            images * groups * pixel_tasks * output_tasks,
            pixels=pixels,
            stored_pixels=table.offsets.shape[1],
            x_image=x[0].numel(),
            y_image=outputs * math.prod(self.shape[2:]),
            taps=taps,
            groups=groups,
            pixel_tasks=pixel_tasks,
            output_tasks=output_tasks,
        )
        packing = same(Packing(groups, blocks, schedule.vectors * target.lanes, part.taps, self.transposed))
        return launch, table, packing, packing.of_line(), part.added

    def __call__(
        self,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        scale: Tensor | None = None,
        residual: Tensor | None = None,
    ) -> Tensor:
        x = x if self.as_is else with_channels_last(x, "x")
        residual = None if residual is None else with_channels_last(residual, "residual")
        y = empty(self.shape, self.last) if self.direct else scratch(self.shape, "y")
        zeros = self.zeros.data_ptr()
        for launch, table, packing, line, added in self.parts:
            packed = packed_weight(weight, packing)
            biases = None if bias is None else packed_weight(bias, line)
            scales = None if scale is None else packed_weight(scale, line)
            launch(
                x.data_ptr(), zeros, packed.data_ptr(), y.data_ptr(), table.offsets.data_ptr(),
                table.places.data_ptr(), address(biases), address(scales), address(y if added else residual),
            )  # fmt: skip
        return y if self.direct else contiguous(y)
