"""The gradients of unshared convolutions: to the input, to the weight, to the bias."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from svertka import spec
from svertka import window as geometry
from svertka.engine.launch import Launch
from svertka.engine.layout import CHANNELS_LAST, channels_last, empty, scratch_floats
from svertka.engine.step import Saved, Step
from svertka.engine.unshared import prepare_unshared
from svertka.kernels.target import host
from svertka.kernels.unshared_gradient import (
    UNSHARED_INPUT,
    UNSHARED_PATCHES,
    UNSHARED_WEIGHT,
    UnsharedGradient,
    choose_unshared_gradient,
)

_TASK = 1 << 15  # weights that a task reads or writes, about
_PART = 1 << 13  # numbers of dx in a task, about


def prepare_unshared_step(
    operation: spec.Unshared, x: Tensor, weight: Tensor, bias: Tensor | None = None
) -> Step | str:
    """An unshared convolution and its gradients, or why there are none."""
    runner = prepare_unshared(operation, x, weight, bias)
    if isinstance(runner, str):
        return runner
    step = _Step(operation, runner, x, weight)
    return step if step.block else "a window or its outputs are too many for scratch memory"


class _Step(Step):
    """An unshared convolution on inputs of one shape."""

    def __init__(self, operation: spec.Unshared, runner: Any, x: Tensor, weight: Tensor) -> None:
        self.runner, self.detail, self.groups, ndim = runner, runner.detail, operation.groups, operation.ndim
        self.x_shape, self.last = tuple(x.shape), channels_last(x)
        outputs, inputs = weight.shape[ndim] // self.groups, weight.shape[ndim + 1]
        self.weight_shape, places = tuple(weight.shape), math.prod(weight.shape[:ndim])
        self.kernel = kernel = UnsharedGradient(inputs, math.prod(weight.shape[ndim + 2 :]), outputs)
        self.schedule = choose_unshared_gradient(kernel, host())
        self.block = self.schedule.block
        if not self.block:
            return
        size = x.shape[2:]
        sources = geometry.sources(operation.windows, size)
        self.sources = torch.from_numpy(sources.reshape(-1)).int()
        adjoint = geometry.adjoint(operation.windows, size)
        self.starts = torch.from_numpy(adjoint.starts).int()
        self.readers = torch.from_numpy(adjoint.outputs * self.groups * kernel.terms + adjoint.taps)
        places_in_task = max(_TASK // (kernel.terms * outputs), 1)
        y_channels = self.groups * outputs
        numbers = {
            "images": x.shape[0],
            "places": places,
            "groups": self.groups,
            "x_image": x[0].numel(),
            "x_channel": 1 if self.last else math.prod(size),
            "x_place": x.shape[1] if self.last else 1,
            "y_image": y_channels * places,
            "y_channel": 1 if self.last else places,
            "y_place": y_channels if self.last else 1,
            "places_in_task": places_in_task,
        }
        tasks = -(-places // places_in_task) * self.groups
        self.to_weight = Launch(UNSHARED_WEIGHT, kernel, self.schedule, tasks, **numbers)
        self.to_patches = Launch(UNSHARED_PATCHES, kernel, self.schedule, tasks, **numbers)
        self.patches = x.shape[0] * places * self.groups * kernel.terms
        self.to_input = self._to_input(math.prod(size), numbers)

    def _to_input(self, inputs: int, numbers: dict[str, int]) -> Launch:
        """A place's patches [groups, inputs, taps] are [channels, taps]."""
        part = max(_PART // self.x_shape[1], 1)
        parts = -(-inputs // part)
        return Launch(
            UNSHARED_INPUT,
            self.kernel,
            None,
            self.x_shape[0] * parts,
            image=self.patches // self.x_shape[0],
            channels=self.x_shape[1],
            x_channel=numbers["x_channel"],
            x_place=numbers["x_place"],
            inputs=inputs,
            parts=parts,
            part=part,
        )

    def forward(self, x: Tensor, *tensors: Tensor | None, **_: Any) -> tuple[tuple[Tensor, ...], list[Tensor]]:
        return (self.runner(x, *tensors),), []

    def backward(self, dy: Tensor, saved: Saved) -> Sequence[Tensor | None]:
        x, (weight, *_), needs = saved.x, saved.tensors, (*saved.needs, False)
        dy = dy.contiguous(memory_format=CHANNELS_LAST[dy.ndim]) if self.last else dy.contiguous()
        x = x if self.last else x.contiguous()
        assert weight is not None
        dx = dw = db = None
        if needs[0]:
            patches, dx = scratch_floats(self.patches, "x"), empty(self.x_shape, self.last)
            weight = weight.contiguous()
            self.to_patches(x.data_ptr(), self.sources.data_ptr(), dy.data_ptr(), weight.data_ptr(), patches.data_ptr())
            self.to_input(patches.data_ptr(), self.starts.data_ptr(), self.readers.data_ptr(), dx.data_ptr())
        if needs[1]:
            dw = torch.empty(self.weight_shape)
            self.to_weight(x.data_ptr(), self.sources.data_ptr(), dy.data_ptr(), 0, dw.data_ptr())
        if needs[2]:
            db = dy.sum(0).movedim(0, -1)
        return [dx, dw, db][: len(saved.needs)]
