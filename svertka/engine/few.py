"""Convolutions of few channels: first layers, of pictures with one or three."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from svertka import spec
from svertka import window as geometry
from svertka.engine.launch import Launch, address
from svertka.engine.layout import channels_last, empty, neighbours, with_channels_last
from svertka.engine.packing import Packing, packed_weight, same
from svertka.engine.tuning import schedule_for
from svertka.kernels.dense import blocks_of
from svertka.kernels.epilogue import Epilogue
from svertka.kernels.few import FEW, ROOM, Few, FewSchedule
from svertka.kernels.target import host
from svertka.window import OUTSIDE

FEW_CHANNELS = 33  # fewer are few: then copying their lines is little beside the sums
_TASKS = 16  # into so many at least, if there are as many lines
_ALIGNMENT = 16  # floats


def suits(operation: spec.ConvolutionBlock, x: Tensor) -> bool:
    """Whether a convolution's taps along a line are neighbours, and too few numbers each to be a sum of their own."""
    if not operation.windows or operation.groups > 1 or x.shape[1] >= FEW_CHANNELS:
        return False
    along = operation.windows[-1]
    return along.size > 1 and along.dilation == 1


def prepare_few(
    operation: spec.ConvolutionBlock,
    x: Tensor,
    weight: Tensor,
    epilogue: Epilogue,
    schedule: FewSchedule | None = None,
) -> Any:
    """A runner for a convolution block of few channels, or why there is none."""
    conv_size = operation.convolution.output_size(x.shape[2:])
    pool = (1, 1)
    if operation.pool:
        along = geometry.sources(operation.pool[-1:], conv_size[-1:])
        if (along.reshape(-1) != np.arange(along.size)).any():
            return "a pooling window along a line leaves out places"
        pool = (math.prod(window.size for window in operation.pool[:-1]), along.shape[-1])
    last = channels_last(x) or channels_last(weight)
    shape = (x.shape[0], weight.shape[0], *operation.output_size(x.shape[2:]))
    either = shape[1] == 1 or math.prod(shape[2:]) == 1  # both formats have the same order
    apart = x.is_contiguous() and x.shape[1] > 1
    along = operation.windows[-1]
    kernel = Few(x.shape[1], shape[1], along.size, along.stride, epilogue, pool, apart, not (last or either))
    question = (kernel, host(), math.prod(window.size for window in operation.windows[:-1]), shape[-1])
    schedule = schedule or schedule_for(*question)
    lines = _Lines(operation, x, kernel, schedule, conv_size)
    if not lines.fit:
        return "a tile of its lines has no room on the stack"
    return Runner(question, schedule, lines, x, shape, last)


class _Lines:
    """How an image is cut into tasks of lines, or of chunks of a line, and what each reads: tables of the index map.

    Attributes:
        fit: whether a task's lines have room.
        task_lines, chunks, chunk_places: the task; places are those of y.
        lines: int32 [tasks, slots]: where the lines that a task reads begin in an image, OUTSIDE for zeros.
        rows: int32 [lines of y, lines of a pooling window, taps]: where the line that each reads begins on the stack.
        positions: int32 [chunks, 2 + length]: of a padded line, the range that is copied as one, and the place of each.
    """

    def __init__(
        self, operation: spec.ConvolutionBlock, x: Tensor, kernel: Few, schedule: FewSchedule, conv_size: Any
    ) -> None:
        self.read = self._read(operation, x, conv_size)
        self.count = len(self.read)
        self.places = operation.output_size(x.shape[2:])[-1]
        self.kernel, self.along = kernel, operation.windows[-1]
        windows = schedule.pixels // kernel.pooled
        most = schedule.tiles * windows
        self.chunk_places, self.task_lines = min(self.places, most), 1
        while not (fit := self._fits()) and self.chunk_places > windows:
            self.chunk_places = max(-(-self.chunk_places // (2 * windows)) * windows, windows)
            if self.chunk_places == windows:
                fit = self._fits()
                break
        self.fit = fit and self.places >= windows
        if not self.fit:
            return
        self.chunks = -(-self.places // self.chunk_places)
        wanted = -(-self.count * x.shape[0] // _TASKS)
        while self.chunks == 1 and self.task_lines < min(wanted, most // self.places, self.count):
            self.task_lines += 1
            if not self._fits():
                self.task_lines -= 1
                break
        line_step = x.shape[-1] * (1 if kernel.apart else kernel.inputs)
        self.lines, self.rows = self._slots(line_step)
        self.positions = self._positions(x.shape[-1])

    @staticmethod
    def _read(operation: spec.ConvolutionBlock, x: Tensor, conv_size: Any) -> Any:
        """int64 [lines of y, lines of a pooling window, taps]: the line of x that each reads."""
        sources = geometry.sources(operation.windows[:-1], x.shape[2:-1])
        sources = sources.reshape(-1, sources.shape[-1])
        if not operation.pool:
            return sources[:, None]
        order = geometry.sources(operation.pool[:-1], conv_size[:-1])
        return sources[order.reshape(-1, order.shape[-1])]

    @property
    def length(self) -> int:
        """Places of a padded line of x that a chunk of y reads."""
        return (self.chunk_places * self.kernel.pool[1] - 1) * self.kernel.stride + self.kernel.row

    @property
    def pitch(self) -> int:
        """Floats from line to line on the stack."""
        return -(-self.length * self.kernel.inputs // _ALIGNMENT) * _ALIGNMENT

    def _tasks(self) -> list[Any]:
        """For each task, the distinct lines of x that it reads, and for each reading which of them it is."""
        parts = [self.read[i : i + self.task_lines] for i in range(0, self.count, self.task_lines)]
        return [np.unique(part, return_inverse=True) for part in parts]

    def _fits(self) -> bool:
        return max(len(lines) for lines, _ in self._tasks()) * self.pitch <= ROOM

    def _slots(self, line_step: int) -> tuple[Tensor, Tensor]:
        tasks = self._tasks()
        table = np.full((len(tasks), max(len(lines) for lines, _ in tasks)), OUTSIDE, dtype=np.int32)
        for row, (lines, _) in zip(table, tasks, strict=True):
            row[: len(lines)] = np.where(lines == OUTSIDE, OUTSIDE, lines * line_step)
        rows = np.concatenate([which.reshape(-1) for _, which in tasks]) * self.pitch
        return torch.from_numpy(table), torch.from_numpy(rows.astype(np.int32))

    def _positions(self, size: int) -> Tensor:
        line = self.along.padded_line(size)
        rows = []
        for chunk in range(self.chunks):
            place = min(chunk * self.chunk_places, self.places - self.chunk_places)
            begin = place * self.kernel.pool[1] * self.kernel.stride
            part = line[begin : begin + self.length]
            rows.append([*_longest_run(part), *part])
        return torch.tensor(rows, dtype=torch.int32)


def _longest_run(places: Any) -> tuple[int, int]:
    """(begin, count) of the longest run of neighbours that are inputs."""
    breaks = np.flatnonzero((np.diff(places) != 1) | (places[1:] == OUTSIDE) | (places[:-1] == OUTSIDE)) + 1
    edges = np.concatenate(([0], breaks, [len(places)]))
    inside = places[edges[:-1]] != OUTSIDE
    counts = np.diff(edges) * inside
    longest = int(counts.argmax())
    return int(edges[longest]), int(counts[longest])


class Runner:
    """A convolution of few channels on inputs of one shape.

    Attributes:
        detail: for the report.
        question: what the schedule was chosen for.
    """

    def __init__(
        self, question: Any, schedule: FewSchedule, lines: _Lines, x: Tensor, shape: tuple[int, ...], last: bool
    ) -> None:
        self.question = question
        kernel, target, *_ = question
        self.shape, self.last, self.lines = shape, last, lines
        self.as_is = kernel.apart or neighbours(x)
        tasks, taps = len(lines.lines), lines.read.shape[-1]
        self.launch = Launch(
            FEW,
            kernel,
            schedule,
            x.shape[0] * tasks * lines.chunks,
            x_image=x[0].numel(),
            x_channel=math.prod(x.shape[2:]),
            y_image=math.prod(shape[1:]),
            line_tasks=tasks,
            task_lines=lines.task_lines,
            all_lines=lines.count,
            chunks=lines.chunks,
            chunk_places=lines.chunk_places,
            line_places=lines.places,
            slots=lines.lines.shape[1],
            length=lines.length,
            pitch=lines.pitch,
            taps=taps,
        )
        blocks = blocks_of(kernel, schedule, target)
        self.packing = same(Packing(1, blocks, schedule.vectors * target.lanes, tuple(range(taps)), runs=True))
        self.line_packing = self.packing.of_line()
        self.detail = f"few channels, tile of {schedule.pixels} pixels × {schedule.vectors} vectors"

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
        y = empty(self.shape, self.last)
        packed = packed_weight(weight, self.packing)  # held until the kernel has read it, whatever others forget
        biases = None if bias is None else packed_weight(bias, self.line_packing)
        scales = None if scale is None else packed_weight(scale, self.line_packing)
        self.launch(
            x.data_ptr(), packed.data_ptr(), y.data_ptr(), self.lines.lines.data_ptr(),
            self.lines.rows.data_ptr(), self.lines.positions.data_ptr(), address(biases), address(scales),
            address(residual),
        )  # fmt: skip
        return y
