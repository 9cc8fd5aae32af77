"""Gradients of windows that keep channels apart, in either memory format: each input gathers from its readers."""

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
from svertka.engine.planes import covers_all
from svertka.engine.pools import first_tap, tap_bits
from svertka.kernels.gathering import GATHERING, Gathering, Part, choose_gathering
from svertka.kernels.gathering_planes import GATHERING_PLANES, MOST_PHASES, MOST_TAPS, GatheringPlanes
from svertka.kernels.target import host
from svertka.window import Adjoint, Segments, Window

_TASK = 1 << 15  # numbers of dx in a task, about
_FEW_TASKS = 8
_REACH = 2048  # of windows that are done in vectors, in outputs


def prepare_gathering(kind: str, windows: Sequence[Any], x: Tensor, counts: Sequence[Any] | None = None) -> Any:
    """A runner of (dy, taken, weight) → dx, shaped like x, or why there is none.

    Args:
        kind: "sum", "taken" or "weighted", see `kernels.gathering`.
        windows, x: of the operation.
        counts: of a sum: for each axis what each output's gradient is divided by; None: by nothing.

    The runner's tensors: dy in any layout; the taps that were taken (`pools.room_for_taps`), or None; the weight,
    [channels, taps] or [taps, channels] if x lies in channels_last, or None.
    """
    size = tuple(x.shape[2:])
    outputs = spec.MaxPool(tuple(windows)).output_size(size)
    if max(math.prod(size), math.prod(outputs)) >= 2**31:
        return "an image has more places than a table can count"
    windows = [window.at(n) for window, n in zip(windows, size, strict=True)]
    windows, sizes = ([Window(1)] if len(size) == 1 else []) + windows, (1,) * (len(size) == 1) + size
    lines = [np.ones(window.output_size(n)) for window, n in zip(windows, sizes, strict=True)]
    if counts is not None:
        lines = [*([lines[0]] if len(size) == 1 else []), *counts]
    if kind == "sum" and covers_all(windows, sizes):
        return _Spread(x, math.prod(float(line[0]) for line in lines))
    shares = [np.divide(1, line, out=np.zeros(len(line)), where=np.asarray(line) != 0) for line in lines]
    part = Part(kind, tap_bits(windows, sizes) if kind == "taken" else 8)
    gathered = _Channels if channels_last(x) else _Planes
    return gathered(part, windows, sizes, shares, x, outputs)


class _Spread:
    """The gradient of a mean over whole images."""

    detail = "gradient spread evenly"

    def __init__(self, x: Tensor, count: float) -> None:
        self.shape, self.last, self.share = tuple(x.shape), channels_last(x), 1 / count

    def __call__(self, dy: Tensor, *_: Tensor | None) -> Tensor:
        return empty(self.shape, self.last).copy_(dy * self.share)


def _readers(adjoint: Adjoint, shares: Any, taps_behind: int = 1) -> tuple[Tensor, Tensor]:
    """int32 starts, and int32 [readers, (output, tap, share's bits)], see `kernels.gathering`."""
    bits = np.asarray(shares, np.float32).view(np.int32)[adjoint.outputs]
    table = np.stack([adjoint.outputs, adjoint.taps * taps_behind, bits], axis=1)
    return torch.from_numpy(adjoint.starts.astype(np.int32)), _int32(table)


def _int32(table: Any) -> Tensor:
    """A table as the kernels read it; one that is empty has numbers that nobody reads."""
    return torch.from_numpy(np.asarray(table if len(table) else np.zeros((1, 3)), np.int32))


def _outer(lines: Sequence[Any]) -> Any:
    """The products of one of each."""
    total = np.ones(1)
    for line in lines:
        total = np.multiply.outer(total, line).reshape(-1)
    return total


class _Channels:
    """By vectors of channels."""

    def __init__(
        self, part: Part, windows: Any, size: tuple[int, ...], shares: Any, x: Tensor, outputs: tuple[int, ...]
    ) -> None:
        self.shape, self.y_shape = tuple(x.shape), (*x.shape[:2], *outputs)
        channels, columns = x.shape[1], size[-1]
        column_taps = windows[-1].sources(columns).shape[1]
        rows = _readers(geometry.adjoint(windows[:-1], size[:-1]), _outer(shares[:-1]), column_taps)
        self.tables = (*rows, *_readers(geometry.adjoint(windows[-1:], size[-1:]), shares[-1]))
        self.addresses = tuple(map(address, self.tables))
        all_rows = x.shape[0] * math.prod(size[:-1])
        rows_in_task = max(min(_TASK // (columns * channels), -(-all_rows // _FEW_TASKS)), 1)
        row_tasks = -(-all_rows // rows_in_task)
        columns_in_task = max(_TASK // channels, 1) if row_tasks < _FEW_TASKS else columns
        column_tasks = -(-columns // columns_in_task)
        self.launch = Launch(
            GATHERING,
            Gathering(part, channels),
            choose_gathering(channels, host().lanes),
            row_tasks * column_tasks,
            all_rows=all_rows,
            rows=math.prod(size[:-1]),
            columns=columns,
            y_rows=len(shares[-2]) * math.prod(len(line) for line in shares[:-2]),
            y_columns=len(shares[-1]),
            rows_in_task=rows_in_task,
            column_tasks=column_tasks,
            columns_in_task=columns_in_task,
        )
        self.detail = "gradient gathered by channels"

    def __call__(self, dy: Tensor, taken: Tensor | None = None, weight: Tensor | None = None) -> Tensor:
        dy = dy.contiguous(memory_format=CHANNELS_LAST[dy.ndim])
        dx = empty(self.shape, True)
        self.launch(dy.data_ptr(), first_tap(taken), address(weight), dx.data_ptr(), *self.addresses)
        return dx


class _Planes:
    """Plane by plane."""

    def __init__(
        self, part: Part, windows: Any, size: tuple[int, ...], shares: Any, x: Tensor, outputs: tuple[int, ...]
    ) -> None:
        self.shape = tuple(x.shape)
        along, columns = windows[-1], size[-1]
        taps = along.sources(columns).shape[1]
        phases, further = _along(along, columns)
        rows = _readers(geometry.adjoint(windows[:-1], size[:-1]), _outer(shares[:-1]), taps)
        self.tables = (*rows, torch.from_numpy(np.asarray(shares[-1], np.float32)), _int32(further))
        self.addresses = tuple(map(address, self.tables))
        planes, count = x.shape[0] * x.shape[1], math.prod(size[:-1])
        plane = count * columns
        planes_in_task = max(min(_TASK // plane, -(-planes // _FEW_TASKS)), 1)
        bands = 1 if planes_in_task > 1 else min(max(-(-plane // _TASK), 1), count)
        rows_in_band = -(-count // bands)
        bands = -(-count // rows_in_band)
        self.launch = Launch(
            GATHERING_PLANES,
            GatheringPlanes(part, phases),
            None,
            -(-planes // planes_in_task) * bands,
            planes=planes,
            planes_in_task=planes_in_task,
            channels=x.shape[1],
            rows=count,
            bands=bands,
            rows_in_band=rows_in_band,
            columns=columns,
            y_plane=math.prod(outputs),
            y_columns=outputs[-1],
            taps=math.prod(window.sources(n).shape[1] for window, n in zip(windows, size, strict=True)),
            further_count=len(further),
        )
        self.detail = "gradient gathered by planes"

    def __call__(self, dy: Tensor, taken: Tensor | None = None, weight: Tensor | None = None) -> Tensor:
        dy, dx = dy.contiguous(), empty(self.shape, False)
        self.launch(dy.data_ptr(), first_tap(taken), address(weight), dx.data_ptr(), *self.addresses)
        return dx


def _along(window: Window | Segments, n: int) -> tuple[tuple[tuple[tuple[int, int], ...], ...], Any]:
    """(the phases of a row that are done in vectors, [readings, (input, output, tap)] that are done one by one)."""
    if isinstance(window, Window) and window.stride <= MOST_PHASES and window.size <= MOST_TAPS:
        phases = window.phases(n)
        shifts = [shift for phase in phases for _, shift in phase]
        if max(shifts) - min(shifts) <= _REACH:
            return phases, window.repeated(n)
    adjoint = geometry.adjoint((window,), (n,))
    inputs = np.repeat(np.arange(n), np.diff(adjoint.starts))
    return ((),), np.stack([inputs, adjoint.outputs, adjoint.taps], axis=1)
