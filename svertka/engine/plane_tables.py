"""The tables that tell the planes family which rows become lines, and where in a line each number stands.

All of it follows from the index map of the windows; see `kernels.lines` and `kernels.planes` for what reads it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from svertka import window as geometry
from svertka.kernels.lines import MOST_PHASES
from svertka.window import OUTSIDE, Window

Table = npt.NDArray[np.int64]


def int32(table: Any) -> Tensor:
    """A table as the kernels read it; one that is empty has a number that nobody reads."""
    flat = np.ascontiguousarray(table, np.int32).reshape(-1)
    return torch.from_numpy(flat if flat.size else np.zeros(1, np.int32))


@dataclass(frozen=True)
class RowMap:
    """The lines of a plane: output row r sees the lines r · step + j · dilation, j < taps.

    Args:
        outputs: output rows.
        sources: int64 [lines, rows], the input rows that a line combines (one, if it is a copy), −1 outside.
    """

    outputs: int
    taps: int
    step: int
    dilation: int
    sources: Table

    def lines(self, rows: int) -> int:
        """How many lines so many output rows see."""
        return (rows - 1) * self.step + (self.taps - 1) * self.dilation + 1

    def bands(self, rows: int) -> Tensor:
        """int32 [bands, (first row, rows, first line, lines)] of so many rows each, but for the last."""
        bands = []
        for first in range(0, self.outputs, rows):
            count = min(rows, self.outputs - first)
            bands.append((first, count, first * self.step, self.lines(count)))
        return int32(bands)


def row_map(windows: Sequence[Any], size: Sequence[int], combined: bool) -> RowMap:
    """The lines of windows on the axes before the last; `combined` if a line holds all rows under a window."""
    table = geometry.sources(windows, size)
    table = table.reshape(-1, table.shape[-1])
    if combined:
        return RowMap(len(table), 1, 1, 1, table)
    if len(windows) == 1 and isinstance(windows[0], Window):
        window, n = windows[0], size[0]
        if window.stride < window.extent:  # neighbours see the same rows
            return RowMap(len(table), window.size, window.stride, window.dilation, window.padded_line(n)[:, None])
    return RowMap(len(table), table.shape[1], table.shape[1], 1, table.reshape(-1, 1))


@dataclass(frozen=True)
class Segment:
    """Outputs of a row, and the places of the line that they see.

    Args:
        first, outputs: which outputs.
        copied: (first, last + 1) of the columns that are copied as they stand.
        phase, index, source: int64 [places]: where each stands and the column that stands there, −1 outside.
        moved: of these places, which are none of the copied columns'.
    """

    first: int
    outputs: int
    copied: tuple[int, int]
    phase: Table
    index: Table
    source: Table
    moved: npt.NDArray[np.bool_]

    @property
    def elsewhere(self) -> tuple[int, int]:
        """(first, last + 1) of the columns that are read, but not among the copied ones; (0, 0) if there are none."""
        low, high = self.copied
        source = self.source[self.moved]
        source = source[(source != OUTSIDE) & ((source < low) | (source >= high))]
        return (int(source.min()), int(source.max()) + 1) if source.size else (0, 0)


@dataclass(frozen=True)
class ColumnMap:
    """The places along a row, cut into segments.

    Args:
        phases: of a line; tap t of output o reads phase `tap_phases[t]` at o + `tap_places[t]`.
        split: into how many phases columns are copied; 1 where all places are filled by table.
    """

    outputs: int
    phases: int
    split: int
    tap_phases: Table
    tap_places: Table
    segments: tuple[Segment, ...]

    @property
    def flat(self) -> bool:
        """Whether lines without a gap between them are one line: each phase has the outputs' length."""
        whole = len(self.segments) == 1 and not self.segments[0].moved.any()
        return whole and self.split == self.phases and not self.tap_places.any()

    def pitches(self, lanes: int) -> tuple[int, int]:
        """(line pitch, phase pitch) in floats, with room for whole vectors."""
        longest = max(segment.outputs for segment in self.segments)
        phase_pitch = _rounded(longest + int(self.tap_places.max()) + lanes, lanes)
        spare = max(self._spare(segment, lanes) for segment in self.segments)
        return self.phases * phase_pitch + _rounded(self.split * spare, lanes), phase_pitch

    def _spare(self, segment: Segment, lanes: int) -> int:
        """Floats for each phase of the columns from elsewhere."""
        low, high = segment.elsewhere
        return -(-(high - low) // self.split) + lanes if high > low else 0

    def tables(self, phase_pitch: int, lanes: int) -> ColumnTables:
        """The tables for a phase pitch."""
        rows, ranges, edges, columns = [], [], [], []
        for segment in self.segments:
            place = segment.phase * phase_pitch + segment.index
            low, high = segment.copied
            where = np.full(max(high, segment.elsewhere[1]) + 1, OUTSIDE)  # the last stands for OUTSIDE
            before = len(ranges), len(edges)
            if high > low:
                copied = place[~segment.moved]
                where[low:high] = copied
                # A row may have fewer columns than there are phases: the first places follow from the first one's.
                phase, index = segment.phase[~segment.moved][0], segment.index[~segment.moved][0]
                first = [divmod(int(phase) + i, self.phases) for i in range(self.split)]
                ranges.append((low, high - low, *(p * phase_pitch + int(index) + more for more, p in first)))
            low, high = segment.elsewhere
            if high > low:
                spare, part = self.phases * phase_pitch, self._spare(segment, lanes)
                at = [spare + i * part for i in range(self.split)]
                number = np.arange(high - low)
                there = np.array(at)[number % self.split] + number // self.split
                where[low:high] = np.where(where[low:high] == OUTSIDE, there, where[low:high])
                ranges.append((low, high - low, *at))
            moved = segment.moved
            edges += zip(place[moved].tolist(), where[segment.source[moved]].tolist(), strict=True)
            line = np.full(self.phases * phase_pitch, OUTSIDE)
            line[place] = segment.source
            rows.append((segment.first, segment.outputs, before[0], len(ranges), before[1], len(edges), len(columns) * len(line)))
            columns.append(line)
        taps_at = self.tap_phases * phase_pitch + self.tap_places
        return ColumnTables(len(rows), *map(int32, (rows, ranges, edges, np.concatenate(columns), taps_at)))


@dataclass(frozen=True)
class ColumnTables:
    """What the kernels read of a ColumnMap."""

    count: int
    segments: Tensor
    ranges: Tensor
    edges: Tensor
    columns: Tensor
    taps_at: Tensor


def column_map(window: Any, n: int, outputs: int) -> ColumnMap:
    """The places of a window on n columns, in segments of so many outputs."""
    if isinstance(window, Window):
        return _regular(window.at(n), n, outputs)
    sources = window.sources(n)
    count, taps = sources.shape
    segments = []
    for first in range(0, count, outputs):
        here = sources[first : first + outputs]
        index, phase = np.mgrid[: len(here), :taps].reshape(2, -1)
        moved = np.ones(here.size, bool)
        segments.append(Segment(first, len(here), (0, 0), phase, index, here.reshape(-1), moved))
    return ColumnMap(count, taps, 1, np.arange(taps), np.zeros(taps, np.int64), tuple(segments))


def _regular(window: Window, n: int, outputs: int) -> ColumnMap:
    count, stride, line = window.output_size(n), window.stride, window.padded_line(n)
    split = stride if stride <= MOST_PHASES else 1
    segments = []
    for first in range(0, count, outputs):
        here = min(outputs, count - first)
        start, length = first * stride, (here - 1) * stride + window.extent
        column = window.offset + start + np.arange(length)
        moved = (column < 0) | (column >= n) | (split != stride)
        copied = column[~moved]
        ends = (int(copied[0]), int(copied[-1]) + 1) if copied.size else (0, 0)
        index, phase = np.divmod(np.arange(length), stride)
        segments.append(Segment(first, here, ends, phase, index, line[start : start + length], moved))
    places, phases = np.divmod(np.arange(window.size) * window.dilation, stride)
    return ColumnMap(count, stride, split, phases, places, tuple(segments))


def _rounded(count: int, multiple: int) -> int:
    return -(-count // multiple) * multiple
