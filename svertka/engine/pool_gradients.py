"""The gradients of maximum and average pooling, in either memory format."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from svertka import spec
from svertka import window as geometry
from svertka.engine.launch import Launch, address
from svertka.engine.layout import CHANNELS_LAST, channels_last, empty
from svertka.engine.pools import counts_of, prepare_pool
from svertka.engine.step import Saved, Step
from svertka.kernels.pool_gradient import POOL_GRADIENT, PoolGradient, PoolGradientSchedule
from svertka.kernels.target import host
from svertka.window import OUTSIDE

_TASK = 1 << 16  # numbers of dx in a task, about


def prepare_maximum(operation: spec.MaxPool, x: Tensor, *, return_indices: bool = False) -> Step | str:
    """A maximum pooling and its gradient, or why there is none."""
    runner = prepare_pool(operation, x, return_indices=True)
    return runner if isinstance(runner, str) else _Maximum(runner, prepare_pool_gradient(operation, x), return_indices)


def prepare_average(operation: spec.AveragePool, x: Tensor) -> Step | str:
    """An average pooling and its gradient, or why there is none."""
    runner = prepare_pool(operation, x)
    return runner if isinstance(runner, str) else _Average(runner, prepare_pool_gradient(operation, x))


class _Maximum(Step):
    def __init__(self, runner: Any, gradient: Any, return_indices: bool) -> None:
        self.runner, self.gradient, self.return_indices = runner, gradient, return_indices
        self.detail = runner.detail

    def forward(self, x: Tensor, *_: Tensor | None, **__: Any) -> tuple[tuple[Tensor, ...], list[Tensor]]:
        y, places = self.runner(x, return_indices=True)
        return ((y, places) if self.return_indices else (y,)), [places]

    def backward(self, dy: Tensor, saved: Saved) -> Sequence[Tensor | None]:
        return [self.gradient(dy, saved.kept[0])]


class _Average(Step):
    linear = True

    def __init__(self, runner: Any, gradient: Any) -> None:
        self.runner, self.gradient, self.detail = runner, gradient, runner.detail

    def forward(self, x: Tensor, *_: Tensor | None, **__: Any) -> tuple[tuple[Tensor, ...], list[Tensor]]:
        return (self.runner(x),), []

    def backward(self, dy: Tensor, _: Saved) -> Sequence[Tensor | None]:
        return [self.gradient(dy, None)]


def prepare_pool_gradient(operation: spec.MaxPool | spec.AveragePool, x: Tensor) -> Any:
    """A runner of (dy, places) → dx, shaped like x; of an average places are None."""
    return _PoolGradient(operation, x)


class _PoolGradient:
    def __init__(self, operation: spec.MaxPool | spec.AveragePool, x: Tensor) -> None:
        self.shape, self.last = tuple(x.shape), channels_last(x)
        size, channels = tuple(x.shape[2:]), x.shape[1]
        inputs, outputs = math.prod(size), math.prod(operation.output_size(size))
        maximum = isinstance(operation, spec.MaxPool)
        self.tables: tuple[Any, ...] = (None, None, None)
        if self.last or not maximum:
            self.tables = _readers(operation, size)
        if self.last:
            images, part = x.shape[0], max(_TASK // channels, 1)
        else:
            images, part = x.shape[0] * channels, max(_TASK // inputs, 1) if maximum else inputs
        planes = maximum and not self.last  # of which a task takes some
        parts = 1 if planes else -(-inputs // part)
        lanes = host().lanes
        schedule = PoolGradientSchedule(min(4, -(-channels // lanes)) if self.last else 1)
        self.launch = Launch(
            POOL_GRADIENT,
            PoolGradient(maximum, channels if self.last else 0),
            schedule,
            -(-images // part) if planes else images * parts,
            inputs=inputs,
            outputs=outputs,
            images=images,
            parts=parts,
            part=part,
        )
        self.detail = "pool gradient"

    def __call__(self, dy: Tensor, places: Tensor | None) -> Tensor:
        dy, places = self._laid(dy), None if places is None else self._laid(places)
        dx = empty(self.shape, self.last)
        self.launch(address(dy), address(places), address(dx), *map(address, self.tables))
        return dx

    def _laid(self, x: Tensor) -> Tensor:
        return x.contiguous(memory_format=CHANNELS_LAST[x.ndim]) if self.last else x.contiguous()


def _readers(operation: Any, size: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """The readers of each input: int32 starts [inputs + 1], int32 outputs and float32 shares of them, in order."""
    sources = geometry.sources(operation.windows, size)
    sources = sources.reshape(-1, sources.shape[-1])
    outputs, taps = np.nonzero(sources != OUTSIDE)
    pairs, times = np.unique(sources[outputs, taps] * len(sources) + outputs, return_counts=True)
    inputs, readers = np.divmod(pairs, len(sources))
    shares = times.astype(np.float64)
    if isinstance(operation, spec.AveragePool):
        counts = np.ones(1)
        for line in counts_of(operation, size):
            counts = np.multiply.outer(counts, line).reshape(-1)
        shares /= counts[readers]
    starts = np.searchsorted(inputs, np.arange(math.prod(size) + 1))
    return tuple(
        torch.from_numpy(table)
        for table in (starts.astype(np.int32), readers.astype(np.int32), shares.astype(np.float32))
    )  # type: ignore[return-value]
