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
_GAP = 32  # columns that are copied needlessly rather than begin another range


def int32(table: Any) -> Tensor:
    """A table as the kernels read it; one that is empty has a number that nobody reads."""
    flat = np.ascontiguousarray(table, np.int32).reshape(-1)
    return torch.from_numpy(flat if flat.size else np.zeros(1, np.int32))


@dataclass(frozen=True)
class RowMap:
    """The lines of a band: its output row r sees the lines d · depth_step + r · step + j · dilation, j < taps.

    Args:
        outputs: output rows, in slabs of `slab` rows of which one band has only rows of one.
        sources: int64 [lines, rows], the input rows that a line combines (one, if it is a copy), −1 outside.
        deep: with a third axis that shares lines, int64 [slabs, depth]: the input slabs that its taps d read; the
            sources are then those within a slab, of `height` rows.
    """

    outputs: int
    taps: int
    step: int
    dilation: int
    sources: Table
    slab: int
    deep: Table | None = None
    height: int = 0

    @property
    def depth(self) -> int:
        """Taps in depth."""
        return 1 if self.deep is None else self.deep.shape[1]

    def depth_step(self, rows: int) -> int:
        """Lines that so many output rows see in one slab."""
        return (rows - 1) * self.step + (self.taps - 1) * self.dilation + 1

    def lines(self, rows: int) -> int:
        """Lines that so many output rows see."""
        return self.depth * self.depth_step(rows)

    def rows(self, lines: int, tile: int) -> int:
        """How many rows, whole tiles of them, see no more lines than that."""
        return (lines // self.depth - self.depth_step(tile)) // (tile * self.step) * tile + tile

    def tables(self, rows: int) -> tuple[Tensor, Tensor, int]:
        """int32 [bands, (first row, rows, first line, lines)] of so many rows each; [lines, rows]; number of bands."""
        bands, lines = [], [self.sources] if self.deep is None else []
        length, step = self.depth_step(rows), rows * self.step
        slabs = [None] if self.deep is None else self.deep
        for number, slab in enumerate(slabs):
            for first in range(0, self.slab, rows):
                count = min(rows, self.slab - first)
                if slab is None:
                    bands.append((first, count, first * self.step, self.lines(count)))
                    continue
                bands.append((number * self.slab + first, count, self.depth * length * len(lines), self.depth * length))
                lines.append(self._block(slab, first // rows * step, length))
        return int32(bands), int32(np.concatenate(lines)), len(bands)

    def _block(self, slab: Table, first: int, length: int) -> Table:
        """int64 [depth · length, 1]: lines of each of the slabs; −1 also for those after a slab's last."""
        row = np.full(length, OUTSIDE)
        here = self.sources[first : first + length, 0]
        row[: len(here)] = here
        outside = (slab[:, None] == OUTSIDE) | (row == OUTSIDE)
        return np.where(outside, OUTSIDE, slab[:, None] * self.height + row).reshape(-1, 1)


def row_map(windows: Sequence[Any], size: Sequence[int], combined: bool) -> RowMap:
    """The lines of windows on the axes before the last; `combined` if a line holds all rows under a window."""
    table = geometry.sources(windows, size)
    table = table.reshape(-1, table.shape[-1])
    if combined:
        return RowMap(len(table), 1, 1, 1, table, len(table))
    window, n = windows[-1], size[-1]
    if isinstance(window, Window) and window.stride < window.extent:  # neighbours see the same rows
        line, slab = window.padded_line(n)[:, None], window.output_size(n)
        deep = windows[0].sources(size[0]) if len(windows) > 1 else None
        return RowMap(len(table), window.size, window.stride, window.dilation, line, slab, deep, n)
    return RowMap(len(table), table.shape[1], table.shape[1], 1, table.reshape(-1, 1), len(table))


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
    def elsewhere(self) -> list[tuple[int, int]]:
        """(first, last + 1) of the runs of columns that are read, but not among the copied ones."""
        low, high = self.copied
        source = np.unique(self.source[self.moved])
        source = source[(source != OUTSIDE) & ((source < low) | (source >= high))]
        if not source.size:
            return []
        cuts = np.flatnonzero(np.diff(source) > _GAP)
        return [(int(run[0]), int(run[-1]) + 1) for run in np.split(source, cuts + 1)]


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

    def pitches(self, lanes: int, vectors: int) -> tuple[int, int]:
        """(line pitch, phase pitch) in floats, with room for whole tiles of so many vectors."""
        longest = max(segment.outputs for segment in self.segments)
        phase_pitch = _rounded(longest + int(self.tap_places.max()) + vectors * lanes, lanes)
        spare = max(sum(self._spare(run, lanes) for run in segment.elsewhere) for segment in self.segments)
        return self.phases * phase_pitch + _rounded(spare, lanes), phase_pitch

    def _spare(self, run: tuple[int, int], lanes: int) -> int:
        """Floats for columns from elsewhere, cut into phases."""
        return self.split * (-(-(run[1] - run[0]) // self.split) + lanes)

    def tables(self, phase_pitch: int, lanes: int) -> ColumnTables:
        """The tables for a phase pitch."""
        rows: list[tuple[int, ...]] = []
        ranges: list[tuple[int, ...]] = []
        edges: list[tuple[int, int]] = []
        columns: list[Table] = []
        for segment in self.segments:
            begin = len(ranges), len(edges)
            place = segment.phase * phase_pitch + segment.index
            copies, where = self._copies(segment, place, phase_pitch, lanes)
            ranges += copies
            targets, sources = place[segment.moved], segment.source[segment.moved]
            edges += zip(targets.tolist(), where[sources].tolist(), strict=True)
            line = np.full(self.phases * phase_pitch, OUTSIDE)
            line[place] = segment.source
            parts = begin[0], len(ranges), begin[1], len(edges)
            rows.append((segment.first, segment.outputs, *parts, len(columns) * len(line)))
            columns.append(line)
        taps_at = self.tap_phases * phase_pitch + self.tap_places
        return ColumnTables(len(rows), *map(int32, (rows, ranges, edges, np.concatenate(columns), taps_at)))

    def _copies(
        self, segment: Segment, place: Table, phase_pitch: int, lanes: int
    ) -> tuple[list[tuple[int, ...]], Table]:
        """The ranges of columns that are copied, and for each column where it then stands; the last is OUTSIDE."""
        runs = segment.elsewhere
        ranges: list[tuple[int, ...]] = []
        where = np.full(max([segment.copied[1], *(high for _, high in runs)]) + 1, OUTSIDE)
        low, high = segment.copied
        if high > low:
            copied = ~segment.moved
            where[low:high] = place[copied]
            # There may be fewer columns than phases, but where the first would stand follows for all phases.
            phase, index = int(segment.phase[copied][0]), int(segment.index[copied][0])
            first = [divmod(phase + i, self.phases) for i in range(self.split)]
            ranges.append((low, high - low, *(p * phase_pitch + index + more for more, p in first)))
        spare = self.phases * phase_pitch
        for low, high in runs:
            room = self._spare((low, high), lanes)
            at = spare + np.arange(self.split) * (room // self.split)
            number = np.arange(high - low)
            there = at[number % self.split] + number // self.split
            where[low:high] = np.where(where[low:high] == OUTSIDE, there, where[low:high])
            ranges.append((low, high - low, *at.tolist()))
            spare += room
        return ranges, where


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
