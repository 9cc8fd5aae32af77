"""Unshared convolutions by their family."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from svertka import spec
from svertka import window as geometry
from svertka.engine.launch import Launch, address
from svertka.engine.layout import channels_last, empty
from svertka.kernels.target import host
from svertka.kernels.unshared import UNSHARED, Unshared, UnsharedSchedule, choose_unshared

_MOST = 2**31  # what a table's int32 can count
_TASK = 1 << 15  # weights that a task reads, about
_FEW_TASKS = 16


def prepare_unshared(
    operation: spec.Unshared,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    schedule: UnsharedSchedule | None = None,
) -> Any:
    """A runner for an unshared convolution of x, or why there is none; `schedule` forces one."""
    ndim, groups = operation.ndim, operation.groups
    outputs, inputs = weight.shape[ndim : ndim + 2]
    size = operation.output_size(x.shape[2:])
    fits = tuple(weight.shape[:ndim]) == size and inputs * groups == x.shape[1] and outputs % groups == 0
    if not fits or (bias is not None and bias.shape != (*size, outputs)):
        return "its sizes don't fit"  # torch's operations say it better
    if x[0].numel() >= _MOST:
        return "an image has more numbers than a table can count"
    kernel = Unshared(inputs, math.prod(weight.shape[ndim + 2 :]), outputs // groups, bias is not None)
    schedule = schedule or choose_unshared(kernel, host())
    if schedule.block < 1:
        return f"a window of {kernel.terms} numbers is too large"
    return _Runner(operation, kernel, schedule, x)


class _Runner:
    """An unshared convolution on inputs of one shape."""

    def __init__(self, operation: spec.Unshared, kernel: Unshared, schedule: UnsharedSchedule, x: Tensor) -> None:
        groups = operation.groups
        outputs = groups * kernel.outputs
        size = operation.output_size(x.shape[2:])
        self.shape, places = (x.shape[0], outputs, *size), math.prod(size)
        self.last = channels_last(x)
        sources = geometry.sources(operation.windows, x.shape[2:])
        self.sources = torch.from_numpy(sources.reshape(-1)).int()
        places_in_task = max(_TASK // (kernel.terms * kernel.outputs), 1)
        few = places * groups < _FEW_TASKS
        rows = min(max(_TASK // kernel.terms, 1), kernel.outputs) if few else kernel.outputs
        row_tasks = -(-kernel.outputs // rows)
        self.launch = Launch(
            UNSHARED,
            kernel,
            schedule,
            -(-places // places_in_task) * groups * row_tasks,
            images=x.shape[0],
            places=places,
            groups=groups,
            x_image=x[0].numel(),
            x_channel=1 if self.last else math.prod(x.shape[2:]),
            x_place=x.shape[1] if self.last else 1,
            y_image=outputs * places,
            y_channel=1 if self.last else places,
            y_place=outputs if self.last else 1,
            places_in_task=places_in_task,
            row_tasks=row_tasks,
            rows_in_task=rows,
        )
        self.detail = f"unshared, {schedule.images} images at a time"

    def __call__(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        x = x if self.last else x.contiguous()
        weight, bias = weight.contiguous(), None if bias is None else bias.contiguous()
        y = empty(self.shape, self.last)
        self.launch(x.data_ptr(), self.sources.data_ptr(), weight.data_ptr(), address(bias), y.data_ptr())
        return y
