"""Batch norm in training and its gradient, by kernels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from svertka import spec
from svertka.engine.launch import Launch, address, constant_line
from svertka.engine.layout import CHANNELS_LAST, channels_last, empty, scratch_floats
from svertka.engine.step import Saved, Step
from svertka.kernels.batch_norm import BATCH_NORM, BatchNorm
from svertka.kernels.target import host

_PART = 1 << 13  # numbers of a part, about: some stay in the cache from one block of channels to the next
_MOST_PARTS = 256


def prepare_batch_norm_step(
    operation: spec.BatchNorm, x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None
) -> Step | str:
    """Batch norm and its gradients, or why there are none."""
    if x.numel() // x.shape[1] < 2:
        return "one number for each channel has no variance"
    if any(tensor is not None and not tensor.is_contiguous() for tensor in (weight, bias)):
        return "its weight has gaps"
    return _Step(operation, x)


def prepare_batch_norm(
    operation: spec.BatchNorm, x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None
) -> Any:
    """A runner of batch norm, or why there is none."""
    step = prepare_batch_norm_step(operation, x, weight, bias)
    return step if isinstance(step, str) else _Forward(step)


class _Forward:
    def __init__(self, step: Step) -> None:
        self.step, self.detail = step, step.detail

    def __call__(self, x: Tensor, *tensors: Tensor | None) -> Any:
        return self.step.forward(x, *tensors)[0]


class _Step(Step):
    """Results are y, the means and the variances (without Bessel's correction)."""

    def __init__(self, operation: spec.BatchNorm, x: Tensor) -> None:
        self.last = channels_last(x) or math.prod(x.shape[2:]) == 1
        self.shape, self.channels = tuple(x.shape), x.shape[1]
        self.relu, self.eps = operation.activation is not None, operation.eps
        places = math.prod(x.shape[2:])
        self.total = x.shape[0] * places
        if self.last:
            self.part = max(_PART // self.channels, -(-self.total // _MOST_PARTS), 1)
            self.count = -(-self.total // self.part)
            tasks = self.count
        else:
            self.part, self.count, tasks = places, x.shape[0], x.shape[0] * self.channels
        joined = -(-self.channels // host().lanes)
        self.launches = {
            does: self._launch(does, joined if does.startswith("join") else tasks)
            for does in ("moments", "join moments", "normalise", "sums", "join sums", "gradient")
        }
        self.detail = "batch norm"

    def _launch(self, does: str, tasks: int) -> Launch:
        last = self.total - (self.count - 1) * self.part if self.last else self.part
        relu = self.relu and does in ("normalise", "sums", "gradient")
        epsilon = self.eps if does == "join moments" else 0.0
        return _launch(
            BatchNorm(does, not self.last, relu, epsilon), tasks, self.channels, self.total, self.part, self.count, last
        )

    def _laid(self, x: Tensor) -> Tensor:
        if not self.last:
            return x.contiguous()
        return x.contiguous(memory_format=CHANNELS_LAST[x.ndim]) if x.ndim in CHANNELS_LAST else x.contiguous()

    def forward(self, x: Tensor, *tensors: Tensor | None, **_: Any) -> tuple[tuple[Tensor, ...], list[Tensor]]:
        lines = self._lines(tensors)
        x, parts = self._laid(x), scratch_floats(self.count * 2 * self.channels, "y")
        stats, y = torch.empty(3, self.channels), empty(self.shape, self.last and len(self.shape) > 2)
        self._run("moments", x=x, parts=parts)
        self._run("join moments", parts=parts, stats=stats)
        self._run("normalise", x=x, y=y, stats=stats, **lines)
        return (y, stats[0], stats[1]), [stats]

    def _lines(self, tensors: Sequence[Tensor | None]) -> dict[str, Tensor]:
        weight, bias = (*tensors, None, None)[:2]
        return {
            "weight": constant_line(self.channels, 1.0) if weight is None else weight,
            "bias": constant_line(self.channels) if bias is None else bias,
        }

    def _run(self, does: str, **tensors: Tensor) -> None:
        self.launches[does](*(address(tensors.get(name)) for name in BATCH_NORM.pointers))

    def backward(self, dy: Tensor, saved: Saved) -> Sequence[Tensor | None]:
        x, dy = self._laid(saved.x), self._laid(dy)
        known = {"x": x, "dy": dy, "stats": saved.kept[0], **self._lines(saved.tensors)}
        parts = scratch_floats(self.count * 2 * self.channels, "y")
        results, dx = torch.empty(2, self.channels), None
        self._run("sums", parts=parts, **known)
        self._run("join sums", parts=parts, stats=saved.kept[0], results=results)
        if saved.needs[0]:
            dx = empty(self.shape, self.last and len(self.shape) > 2)
            self._run("gradient", y=dx, results=results, **known)
        found = zip(saved.tensors, (results[1], results[0]), strict=False)
        return [dx, *(None if tensor is None else gradient for tensor, gradient in found)]


@lru_cache(maxsize=1024)
def _launch(kernel: BatchNorm, tasks: int, channels: int, total: int, part: int, count: int, last_count: int) -> Launch:
    return Launch(
        BATCH_NORM,
        kernel,
        None,
        tasks,
        channels=channels,
        rows=total,
        part=part,
        count=count,
        total=total,
        last_count=last_count,
    )
