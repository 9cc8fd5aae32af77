"""The gradients of convolutions by the dense families: to the input, to the weight, to the bias."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from svertka import spec
from svertka import window as geometry
from svertka.engine import winograd, winograd_gradient
from svertka.engine.dense import MOST, Part, Runner, phases, prepare_convolution
from svertka.engine.launch import Launch, address, constant_line
from svertka.engine.layout import channels_last, run_tables, scratch_floats, tables, with_channels_last
from svertka.engine.packing import Packing, changing, same, weight_order
from svertka.engine.pools import first_tap
from svertka.engine.step import Remembered, Saved, Step
from svertka.kernels.dense import Dense
from svertka.kernels.schedule import choose_weight_gradient
from svertka.kernels.target import host
from svertka.kernels.weight_gradient import WEIGHT_GRADIENT, WeightGradient
from svertka.window import OUTSIDE


def prepare_convolution_step(
    operation: spec.Convolution, x: Tensor, weight: Tensor, bias: Tensor | None = None
) -> Step | str:
    """A convolution and its gradients, or why there are none."""
    runner = prepare_convolution(operation, x, weight, bias, changing=True)
    return runner if isinstance(runner, str) else ConvolutionStep(operation, runner)


class ConvolutionStep(Step):
    """A sum over windows, with its gradients to the input, the weight and the bias.

    Subclasses say how an operation's are prepared: `input_gradient(x, weight, dy)` gives a function of (dy, weight),
    `weight_gradient(x, weight, dy, bias)` one of (x, dy), which gives a pair, the bias' gradient only if asked for.
    """

    def __init__(self, operation: Any, runner: Any) -> None:
        self.operation, self.runner, self.detail = operation, runner, runner.detail
        self.remembered = Remembered()

    def input_gradient(self, x: Tensor, weight: Tensor, dy: Tensor) -> Any:
        """See the class."""
        return prepare_input_gradient(self.operation, x, weight, dy)

    def weight_gradient(self, x: Tensor, weight: Tensor, dy: Tensor, bias: bool) -> Any:
        """See the class."""
        return prepare_weight_gradient(self.operation, x, weight, dy, bias)

    def forward(self, x: Tensor, *tensors: Tensor | None, **_: Any) -> tuple[tuple[Tensor, ...], list[Tensor]]:
        with changing():
            return (self.runner(x, *tensors),), []

    def backward(self, dy: Tensor, saved: Saved) -> Sequence[Tensor | None]:
        x, weight = saved.x, saved.tensors[0]
        assert weight is not None
        needed, needs_weight, needs_bias = (*saved.needs, False)[:3]
        dx = dw = db = None
        if needed:
            run = self.remembered(("x", dy.stride()), lambda: self.input_gradient(x, weight, dy))
            with changing():
                dx = run(dy, weight)
        if needs_weight:
            run = self.remembered(
                ("weight", dy.stride(), needs_bias), lambda: self.weight_gradient(x, weight, dy, needs_bias)
            )
            dw, db = run(x, dy)
        if needs_bias and db is None:
            db = dy.sum((0, *range(2, dy.ndim)))
        return [dx, dw, db][: len(saved.needs)]


def prepare_input_gradient(operation: spec.Convolution, x: Tensor, weight: Tensor, dy: Tensor) -> Any:
    """A runner of (dy, weight) → dx, shaped like x, or why there is none.

    The adjoint of the index map tells which outputs read an input, and by which tap: dx is a convolution of dy by it,
    phase by phase where the stride is above 1. What padding repeats is read more than once by the same tap: the further
    readings are sums of their own, added to the few places that they concern.
    """
    if max(x[0].numel(), dy[0].numel()) >= MOST:
        return "an image has more numbers than a table can count"
    runner = winograd.prepare_adjoint(operation, x, weight, dy)
    if not isinstance(runner, str):
        return runner
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


def prepare_weight_gradient(operation: spec.Convolution, x: Tensor, weight: Tensor, dy: Tensor, bias: bool) -> Any:
    """A runner of (x, dy) → (dw, db), shaped like the weight and its bias, or why there is none.

    Without `bias` db is None.
    """
    if max(x[0].numel(), dy[0].numel()) >= MOST:
        return "an image has more numbers than a table can count"
    runner = winograd_gradient.prepare_weight_gradient(operation, x, weight, dy, bias)
    if not isinstance(runner, str):
        return runner
    sources = geometry.sources(operation.windows, x.shape[2:])
    sources = sources.reshape(-1, sources.shape[-1])
    return WeightGradientRunner(operation, sources, x, weight, dy, bias)


class WeightGradientRunner:
    """The gradient to the weight of a sum over the places that an index map tells.

    Args:
        operation: its windows and groups.
        sources: int64 [places of dy, taps].
        x, weight, dy: tensors like those that come.
        bias: whether that gradient is wanted, too.
        transposed: the weight is [channels of x, channels of dy / groups, *kernel_size].
        pooled: so many places in a row are a window of a maximum pooling; dy is that of the windows.
    """

    def __init__(
        self,
        operation: Any,
        sources: Any,
        x: Tensor,
        weight: Tensor,
        dy: Tensor,
        bias: bool,
        transposed: bool = False,
        pooled: int = 1,
    ) -> None:
        target, groups, windows = host(), operation.groups, operation.windows
        self.bias, self.like = bias, (weight.shape, weight.stride())
        outputs, inputs = dy.shape[1] // groups, x.shape[1] // groups
        taps = sources.shape[-1]
        runs = bool(windows) and groups == 1 and inputs < _FEW and not transposed
        if runs and windows[-1].size > 1 and windows[-1].dilation == 1:
            table = run_tables(sources, windows[-1].size, inputs, 0, 1, 1)
            taps, inputs = taps // windows[-1].size, inputs * windows[-1].size
        else:
            runs, table = False, tables(sources, None, x.shape[1], 1, 1)
        self.table = table
        kernel = WeightGradient(inputs, outputs, dy.shape[1], runs, bias, pooled)
        schedule = choose_weight_gradient(kernel, target, taps)
        width = schedule.vectors * target.lanes
        blocks = -(-outputs // width)
        task_taps = max(1, min(taps, target.l2 // 2 // (4 * inputs * width)))
        tap_tasks = -(-taps // task_taps)
        places = x.shape[0] * len(sources)
        apart = groups * blocks * tap_tasks
        split_size = max(-(-places // max(_TASKS // apart, 1)), _LEAST)
        split_size = -(-split_size // pooled) * pooled
        splits = -(-places // split_size)
        self.zeros = constant_line(max(inputs, 16))
        packing = same(Packing(groups, blocks, width, tuple(range(taps)), transposed, runs))
        self.order = weight_order(packing, *self.like)
        self.unpack = self.order.unpacking(splits, bias)
        self.room = splits * self.order.room(bias)
        self.launch = Launch(
            WEIGHT_GRADIENT,
            kernel,
            schedule,
            splits * apart,
            pixels=len(sources),
            images=x.shape[0],
            x_image=x[0].numel(),
            taps=taps,
            task_taps=task_taps,
            tap_tasks=tap_tasks,
            groups=groups,
            split_size=split_size,
            stored_pixels=table.offsets.shape[1],
        )
        self.detail = f"weight gradient, tile of {schedule.inputs} inputs × {schedule.vectors} vectors"

    def __call__(self, x: Tensor, dy: Tensor, taken: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        x, dy = with_channels_last(x, "x"), with_channels_last(dy, "residual")
        sums = scratch_floats(self.room, "y")
        self.launch(
            address(x), address(self.zeros), address(dy), first_tap(taken), address(sums), address(self.table.offsets),
            address(self.table.gathers),
        )  # fmt: skip
        dw = torch.empty_strided(*self.like)
        db = torch.empty(dy.shape[1]) if self.bias else None
        self.unpack(address(dw), address(sums), *self.order.addresses, address(db))
        return dw, db


_TASKS = 16  # into so many at least, if there is enough to do
_LEAST = 256  # places of a split
_FEW = 8  # fewer channels than these are few
