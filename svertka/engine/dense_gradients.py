"""The gradients of convolutions by the dense families: to the input, to the weight, to the bias."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from svertka import spec
from svertka import window as geometry
from svertka.engine.dense import MOST, Part, Runner, phases, prepare_convolution
from svertka.engine.few import FEW_CHANNELS
from svertka.engine.launch import Launch, address, constant_line
from svertka.engine.layout import channels_last, run_tables, scratch_floats, tables, with_channels_last
from svertka.engine.step import Remembered, Saved, Step
from svertka.kernels.dense import Dense
from svertka.kernels.schedule import choose_weight_gradient
from svertka.kernels.target import host
from svertka.kernels.weight_gradient import WEIGHT_GRADIENT, WeightGradient
from svertka.window import OUTSIDE


def prepare_step(operation: spec.Convolution, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Step | str:
    """A convolution and its gradients, or why there are none."""
    if 1 < operation.groups == x.shape[1]:
        return "it needs gradients of a depthwise convolution, which torch computes"
    runner = prepare_convolution(operation, x, weight, bias)
    return runner if isinstance(runner, str) else _Step(operation, runner)


class _Step(Step):
    def __init__(self, operation: spec.Convolution, runner: Any) -> None:
        self.operation, self.runner, self.detail = operation, runner, runner.detail
        self.remembered = Remembered()

    def forward(self, x: Tensor, *tensors: Tensor | None, **_: Any) -> tuple[tuple[Tensor, ...], list[Tensor]]:
        return (self.runner(x, *tensors),), []

    def backward(self, dy: Tensor, saved: Saved) -> Sequence[Tensor | None]:
        x, weight, needs = saved.x, saved.tensors[0], saved.needs

        def runner(prepare: Any) -> Any:
            return self.remembered((prepare, dy.stride()), lambda: prepare(self.operation, x, weight, dy))

        found = [
            runner(prepare_input_gradient)(dy, weight) if needs[0] else None,
            runner(prepare_weight_gradient)(x, dy) if needs[1] else None,
            bias_gradient(dy) if needs[2:] == (True,) else None,
        ]
        return found[: len(needs)]


def prepare_input_gradient(operation: spec.Convolution, x: Tensor, weight: Tensor, dy: Tensor) -> Any:
    """A runner of (dy, weight) → dx, shaped like x, or why there is none.

    The adjoint of the index map tells which outputs read an input, and by which tap: dx is a convolution of dy by it,
    phase by phase where the stride is above 1. What padding repeats is read more than once by the same tap: the further
    readings are sums of their own, added to the few places that they concern.
    """
    if max(x[0].numel(), dy[0].numel()) >= MOST:
        return "an image has more numbers than a table can count"
    size = x.shape[2:]
    first, *further = geometry.readers(operation.windows, size)
    strides = tuple(window.stride for window in operation.windows)
    parts = phases(first, strides)
    for more in further:
        flat = more.reshape(-1, more.shape[-1])
        places = (flat != OUTSIDE).any(axis=1).nonzero()[0]
        taps = (flat != OUTSIDE).any(axis=0).nonzero()[0]
        parts.append(Part(flat[places][:, taps], places, taps, added=True))
    kernel = Dense(weight.shape[0] // operation.groups, weight.shape[1])
    last = channels_last(x)
    return Runner(kernel, parts, dy, tuple(x.shape), last, groups=operation.groups, transposed=True)


def prepare_weight_gradient(operation: spec.Convolution, x: Tensor, weight: Tensor, dy: Tensor) -> Any:
    """A runner of (x, dy) → dw, shaped like the weight, or why there is none."""
    if max(x[0].numel(), dy[0].numel()) >= MOST:
        return "an image has more numbers than a table can count"
    return _WeightGradient(operation, x, weight, dy)


class _WeightGradient:
    def __init__(self, operation: spec.Convolution, x: Tensor, weight: Tensor, dy: Tensor) -> None:
        target, groups, windows = host(), operation.groups, operation.windows
        self.shape = tuple(weight.shape)
        self.runs = ""
        outputs, inputs = weight.shape[0] // groups, weight.shape[1]
        sources = geometry.sources(windows, x.shape[2:])
        taps = sources.shape[-1]
        sources = sources.reshape(-1, taps)
        if windows and groups == 1 and inputs < FEW_CHANNELS and windows[-1].size > 1 and windows[-1].dilation == 1:
            self.runs = "last" if channels_last(x) or not x.is_contiguous() else "first"
            plane = math.prod(x.shape[2:]) if self.runs == "first" else 0
            self.table = run_tables(sources, windows[-1].size, inputs, plane, 1, 1)
            taps = len(self.table.offsets)
            inputs = weight[0].numel() // taps
        else:
            self.table = tables(sources, None, x.shape[1], 1, 1)
        kernel = WeightGradient(inputs, outputs, dy.shape[1], bool(self.runs))
        schedule = choose_weight_gradient(kernel, target)
        self.width = schedule.vectors * target.lanes
        self.blocks = -(-outputs // self.width)
        self.groups, self.taps, self.inputs = groups, taps, inputs
        task_taps = max(1, min(taps, target.l2 // 2 // (4 * inputs * self.width)))
        tap_tasks = -(-taps // task_taps)
        places = x.shape[0] * len(sources)
        apart = groups * self.blocks * tap_tasks
        split_size = max(-(-places // max(_TASKS // apart, 1)), _LEAST)
        self.splits = -(-places // split_size)
        self.zeros = constant_line(max(inputs, 16))
        self.launch = Launch(
            WEIGHT_GRADIENT,
            kernel,
            schedule,
            self.splits * apart,
            pixels=len(sources),
            images=x.shape[0],
            x_image=x[0].numel(),
            dy_image=dy[0].numel(),
            taps=taps,
            task_taps=task_taps,
            tap_tasks=tap_tasks,
            groups=groups,
            split_size=split_size,
            stored_pixels=self.table.offsets.shape[1],
        )
        self.detail = f"weight gradient, tile of {schedule.inputs} inputs × {schedule.vectors} vectors"

    def __call__(self, x: Tensor, dy: Tensor) -> Tensor:
        x = x if self.runs == "first" else with_channels_last(x, "x")
        dy = with_channels_last(dy, "residual")
        packed = (self.groups, self.blocks, self.taps, self.inputs, self.width)
        sums = scratch_floats(self.splits * math.prod(packed), "y").view(self.splits, *packed)
        self.launch(
            address(x), address(self.zeros), address(dy), address(sums), address(self.table.offsets),
            address(self.table.gathers),
        )  # fmt: skip
        total = sums[0]
        for part in sums[1:]:  # in order, whoever computed them
            total += part
        return self._unpacked(total)

    def _unpacked(self, dw: Tensor) -> Tensor:
        outputs = self.shape[0] // self.groups
        dw = dw.permute(0, 1, 4, 3, 2).reshape(self.groups, self.blocks * self.width, self.inputs, self.taps)
        dw = dw[:, :outputs].reshape(self.shape[0], self.inputs, self.taps)
        row = self.shape[-1] if len(self.shape) > 2 else 1
        if self.runs == "first":  # taps [channels, rows], inputs [row]
            dw = dw.transpose(1, 2)
        elif self.runs == "last":  # taps [rows], inputs [row, channels]
            dw = dw.reshape(self.shape[0], row, self.shape[1], self.taps).permute(0, 2, 3, 1)
        return dw.reshape(self.shape)


_TASKS = 16  # into so many at least, if there is enough to do
_LEAST = 256  # places of a split


def bias_gradient(dy: Tensor) -> Tensor:
    """Σ dy over all but the channels."""
    return dy.sum((0, *range(2, dy.ndim)))
