"""Operations that keep channels apart on contiguous tensors, by the planes family."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from svertka import spec
from svertka import window as geometry
from svertka.engine.launch import Launch, address, constant_line
from svertka.engine.layout import empty
from svertka.engine.packing import packed_weight
from svertka.engine.plane_tables import ColumnMap, RowMap, column_map, int32, row_map
from svertka.engine.pools import combination_of, counts_of, first_tap, room_for_taps
from svertka.kernels.combine import Average, Combination, WeightedSum
from svertka.kernels.epilogue import Epilogue
from svertka.kernels.planes import PLANES, Planes, PlanesSchedule, Taps, choose_planes
from svertka.kernels.target import host
from svertka.kernels.whole import WHOLE, Whole, WholeSchedule
from svertka.window import OUTSIDE, Window

_KEEP = Window(1)
_TASK = 1 << 16  # taps in a task, about
_TASKS = 16  # there are so many, if there are so many planes
_SMALL = 1 << 14  # taps that are not worth another task


def prepare_planes(
    operation: Any,
    x: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    scale: Tensor | None = None,
    residual: Tensor | None = None,
    *,
    schedule: PlanesSchedule | None = None,
    where: str = "",
) -> Any:
    """A runner for an operation that keeps channels apart on a contiguous x, or why there is none.

    where: as in `combination_of`.
    """
    combination = combination_of(operation, tuple(x.shape[2:]), where)
    epilogue = Epilogue(
        bias is not None, scale is not None, residual is not None, getattr(operation, "activation", None)
    )
    if combination.separable and schedule is None and covers_all(operation.windows, tuple(x.shape[2:])):
        return _WholeRunner(operation, combination, x)
    plan = _plan(operation, combination, tuple(x.shape[2:]), epilogue, schedule)
    return plan if isinstance(plan, str) else _Runner(operation, plan, x, weight)


def covers_all(windows: Sequence[Any], size: tuple[int, ...]) -> bool:
    """Whether there is one output, and it sees each input once."""
    return all(
        window.output_size(n) == 1 and np.array_equal(window.sources(n)[0], np.arange(n))
        for window, n in zip(windows, size, strict=True)
    )


@dataclass(frozen=True)
class _Plan:
    """How an operation is cut on inputs of one size: all but the number of planes.

    Args:
        band: output rows in a band.
        flat: a band's lines are computed as one.
        given: tables for the rows and the columns of the output, see `_given`.
    """

    kernel: Planes
    schedule: PlanesSchedule
    rows: RowMap
    columns: ColumnMap
    band: int
    flat: bool
    given: tuple[Tensor, Tensor]


def _plan(
    operation: Any, combination: Combination, size: tuple[int, ...], epilogue: Epilogue, schedule: PlanesSchedule | None
) -> _Plan | str:
    """The plan, or why there is none."""
    *outer, along = operation.windows if len(size) > 1 else (_KEEP, *operation.windows)
    height = size[:-1] or (1,)
    separable, lanes = combination.separable, host().lanes
    rows = row_map(outer, height, separable)
    columns = column_map(along, size[-1], along.output_size(size[-1]))
    row_given, column_given = _given(operation, combination, outer, along, height, size)
    one_count = isinstance(combination, Average) and len({*row_given.tolist()}) * len({*column_given.tolist()}) == 1
    row_taps = Taps(rows.sources.shape[1]) if separable else Taps(rows.taps, rows.step, rows.dilation, rows.depth > 1)
    taps = Taps(along.size, along.stride, along.dilation) if isinstance(along, Window) else None
    schedule = schedule or choose_planes(combination, row_taps, taps, rows.slab, columns.outputs > lanes)
    by_row, along_row = schedule.unrolled
    sliding = row_taps.slides and not by_row and rows.taps >= schedule.rows > 1
    kernel = Planes(
        combination,
        row_taps if by_row else None,
        taps if along_row else None,
        columns.split,
        one_count,
        sliding and isinstance(combination, WeightedSum),
        epilogue,
    )
    flat = separable and columns.flat and (one_count or not combination.required)
    flat = flat and columns.split * (columns.outputs + schedule.ends * lanes) <= schedule.scratch
    while not flat and rows.lines(schedule.rows) * columns.pitches(lanes, schedule.vectors)[0] > schedule.scratch:
        longest = columns.segments[0].outputs
        if longest <= lanes:
            return "its windows are too large for lines in scratch memory"
        columns = column_map(along, size[-1], -(-longest // (2 * lanes)) * lanes)
    if one_count:
        row_given = row_given[:1] * column_given[0]
    given = torch.from_numpy(row_given), torch.from_numpy(np.pad(column_given, (0, lanes)))
    return _Plan(kernel, schedule, rows, columns, _band(rows, columns, schedule, flat), flat, given)


def _band(rows: RowMap, columns: ColumnMap, schedule: PlanesSchedule, flat: bool) -> int:
    """Output rows in a band: as many as there is room for, or about equal parts; whole tiles."""
    lanes, tile = host().lanes, schedule.rows
    if flat:
        most = (schedule.scratch // columns.split - schedule.ends * lanes) // columns.outputs
    else:
        most = rows.rows(schedule.scratch // columns.pitches(lanes, schedule.vectors)[0], tile)
    bands = math.ceil(rows.slab / min(most, rows.slab))
    return math.ceil(rows.slab / bands / tile) * tile


def _given(
    operation: Any, combination: Combination, outer: Sequence[Any], along: Any, height: Sequence[int], size: Any
) -> tuple[Any, Any]:
    """What rows and columns are given: factors of a mean's count, or the first input that they read."""
    if isinstance(combination, Average):
        counts = [np.asarray(line, np.float64) for line in counts_of(operation, size)]
        if combination.reciprocal:
            counts = [1 / line for line in counts]
        total = np.ones(1)
        for line in counts[:-1]:
            total = np.multiply.outer(total, line).reshape(-1)
        return total.astype(np.float32), counts[-1].astype(np.float32)
    if not combination.required & {"source", "tap"}:
        return np.zeros(1, np.int32), np.zeros(1, np.int32)
    sources = geometry.sources(outer, height)
    tables = sources.reshape(-1, sources.shape[-1]), along.sources(size[-1])
    rows, columns = (_first(table, "tap" in combination.required) for table in tables)
    return rows, columns


def _first(sources: Any, tap: bool) -> Any:
    """int32 [outputs]: the first input that each reads, or the tap that reads it; −1 if none."""
    first = np.argmax(sources != OUTSIDE, axis=1)
    found = np.take_along_axis(sources, first[:, None], axis=1)[:, 0]
    return (np.where(found == OUTSIDE, OUTSIDE, first) if tap else found).astype(np.int32)


class _Weights:
    """Weights of a pooling, [channels or 1, taps]."""

    def __init__(self, divide: bool) -> None:
        self.divide = divide

    def __call__(self, weight: Tensor) -> Tensor:
        lines = weight.reshape(weight.shape[0], -1)
        return (lines / lines.sum(1, keepdim=True) if self.divide else lines).contiguous()


_AS_THEY_ARE, _NORMALISED = _Weights(False), _Weights(True)


class _Runner:
    """An operation on inputs of one shape, by the planes family."""

    def __init__(self, operation: Any, plan: _Plan, x: Tensor, weight: Tensor | None) -> None:
        size, lanes = tuple(x.shape[2:]), host().lanes
        channels = x.shape[1] if weight is None else max(x.shape[1], weight.shape[0])
        self.shape = (x.shape[0], channels, *operation.output_size(size))
        does = plan.kernel.combination
        self.tells, self.bits = getattr(does, "where", ""), does.bits
        rows, columns = plan.rows, plan.columns
        self.draws = "draw" in does.required
        divide = isinstance(operation, spec.WeightedPool) and isinstance(does, WeightedSum)
        self.packing = _NORMALISED if divide else _AS_THEY_ARE
        line_pitch, phase_pitch = columns.pitches(lanes, plan.schedule.vectors)
        if plan.flat:
            ends = plan.schedule.ends * lanes
            line_pitch, phase_pitch = columns.outputs, rows.lines(plan.band) * columns.outputs + ends
        tables = columns.tables(phase_pitch, lanes)
        bands, sources, band_count = rows.tables(plan.band)
        self.tables = (
            bands, sources, tables.segments, tables.ranges, tables.edges, tables.columns, *plan.given,
            tables.taps_at,
        )  # fmt: skip
        self.addresses = tuple(address(table) for table in self.tables)
        self.outside = constant_line(size[-1], does.identity)
        planes, outputs = self.shape[0] * channels, math.prod(self.shape[2:])
        row_taps, column_taps = rows.taps * rows.sources.shape[1], len(columns.tap_phases)
        work = outputs * rows.depth * row_taps * column_taps // (band_count * tables.count)
        group = _shared_out(planes, work)
        self.launch = Launch(
            PLANES,
            plan.kernel,
            plan.schedule,
            -(-planes // group) * band_count * tables.count,
            planes=planes,
            group=group,
            channels=channels,
            multiple=channels // x.shape[1],
            band_count=band_count,
            segment_count=tables.count,
            x_plane=math.prod(size),
            width=size[-1],
            y_plane=outputs,
            y_width=self.shape[-1],
            line_pitch=line_pitch,
            phase_pitch=phase_pitch,
            phases=columns.phases,
            flat=int(plan.flat),
            row_taps=row_taps,
            depth_taps=rows.depth,
            depth_step=rows.depth_step(plan.band),
            row_step=rows.step,
            row_dilation=rows.dilation,
            column_taps=column_taps,
            weight_plane=0 if weight is None or weight.shape[0] == 1 else weight[0].numel(),
        )
        self.detail = f"planes, {plan.schedule.rows} rows × {plan.schedule.vectors * lanes} columns at a time"

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
        x = x.contiguous()
        packed = None if weight is None else packed_weight(weight, self.packing)
        bias, scale, residual = (None if t is None else t.contiguous() for t in (bias, scale, residual))
        seed = torch.empty((), dtype=torch.int64).random_(generator=generator) if self.draws else None
        y = empty(self.shape, False)
        places = torch.empty(self.shape, dtype=torch.int64) if self.tells == "source" else None
        taps = room_for_taps(y.numel(), self.bits) if self.tells == "tap" else None
        self.launch(
            x.data_ptr(), self.outside.data_ptr(), address(packed), y.data_ptr(),
            address(places) or first_tap(taps), address(scale),
            address(bias), address(residual), address(seed), *self.addresses,
        )  # fmt: skip
        second = taps if places is None else places
        return y if second is None else (y, second)


class _WholeRunner:
    """An operation with one output for each plane."""

    def __init__(self, operation: Any, combination: Combination, x: Tensor) -> None:
        size, schedule = tuple(x.shape[2:]), WholeSchedule()
        planes, places = x.shape[0] * x.shape[1], math.prod(size)
        self.shape = (*x.shape[:2], *(1 for _ in size))
        self.count = int32([0])
        if isinstance(combination, Average):
            rows, columns = _given(operation, combination, operation.windows[:-1], operation.windows[-1], (), size)
            self.count = torch.from_numpy(rows * columns)
        group = min(schedule.planes, _shared_out(planes, places))
        self.launch = Launch(
            WHOLE, Whole(combination), schedule, math.ceil(planes / group), planes=planes, group=group, places=places
        )
        self.detail = "planes, each as a whole"

    def __call__(self, x: Tensor, **_: Any) -> Tensor:
        x = x.contiguous()
        y = empty(self.shape, False)
        self.launch(x.data_ptr(), y.data_ptr(), self.count.data_ptr())
        return y


def _shared_out(planes: int, taps: int) -> int:
    """Planes in a task, where each has so many taps."""
    return max(1, min(_TASK // max(taps, 1), planes // _TASKS), _SMALL // max(taps, 1))
