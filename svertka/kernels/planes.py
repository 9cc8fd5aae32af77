"""Operations that keep channels apart, on planes: each channel of each sample lies for itself, row after row.

    y[p, r, o] = finish(Σ_j Σ_t  x[p, row(r, j), column(o, t)])        Σ: what the combination does, tap by tap

p runs over planes [sample, channel], r over the rows of the output, o along a row; j and t are the window's taps of the
rows and along a row. A vector holds neighbours along a row. Axes before the last two count as rows, too.

The work comes in bands of output rows. First the rows that a band reads become lines in scratch memory (`lines`), where
padding stands in its place and each tap reads neighbours, whatever the stride. Then the outputs are computed from them.
An operation that may be done on one axis after the other (`Combination.separable`) combines rows while it fills the
lines; otherwise a line is a copy of a row, and outputs see one line for each tap of the rows.

Windows of few taps are unrolled. In all others, and in those that are no regular windows (the rows and columns of
adaptive pooling), the lines and the places in them that a tap reads come from tables, and so one kernel serves all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from llvmlite import ir

from svertka.kernels.combine import Combination, Given, State, WeightedMean, WeightedSum, resized, uniform
from svertka.kernels.emit import I32, I64, Arguments, Emitter, Value
from svertka.kernels.epilogue import NOTHING, Epilogue, activate
from svertka.kernels.family import Family
from svertka.kernels.lines import BAND, MOST_ROWS, SEGMENT, Line, LineFiller, index_at, load_first, store_first

POINTERS = (
    "x", "outside", "weight", "y", "places", "scale", "bias", "residual", "seed",
    "bands", "rows", "segments", "ranges", "edges", "columns", "row_given", "column_given", "taps_at",
)  # fmt: skip
NUMBERS = (
    "planes", "group", "channels", "multiple", "band_count", "segment_count", "x_plane", "width", "y_plane", "y_width",
    "line_pitch", "phase_pitch", "phases", "flat", "depth_taps", "depth_step", "row_taps", "row_step", "row_dilation",
    "column_taps", "weight_plane",
)  # fmt: skip

MOST_COLUMNS = 8  # taps along a row that are unrolled
MOST_UNROLLED = 49  # taps of a window that are unrolled
MOST_BEFORE_SLIDING = 25  # the same where the rest may slide along tiles of two vectors


@dataclass(frozen=True)
class Taps:
    """A window's taps on one axis, to be unrolled; of rows, `deep` if there are such in several slabs."""

    size: int
    stride: int = 1
    dilation: int = 1
    deep: bool = False

    @property
    def slides(self) -> bool:
        """Whether the next output's taps are the same ones but for the first and the last."""
        return self.stride == self.dilation == 1 and not self.deep


@dataclass(frozen=True)
class Planes:
    """What is computed: all of it that the machine code depends on.

    Args:
        combination: what is done inside a window.
        rows, columns: its taps; None: known at run time, by tables.
        phases: into how many a row is cut as it is copied to a line; 1 if the tables do it.
        one_count: the given count is the same for all outputs.
        sliding: the rows of a window follow each other, there are as many as in a tile, and the next output's begin
            one further; of a weighted sum only.
        epilogue: of sums; scale and bias are numbers of a channel.
    """

    combination: Combination
    rows: Taps | None
    columns: Taps | None
    phases: int
    one_count: bool = False
    sliding: bool = False
    epilogue: Epilogue = NOTHING


@dataclass(frozen=True)
class PlanesSchedule:
    """How it is computed.

    Args:
        rows, vectors: the tile of outputs that are computed together, so that they share what they read.
        scratch: floats of the lines.
        unrolled: whether the taps of the rows and those along a row are.
    """

    rows: int = 1
    scratch: int = 8192
    unrolled: tuple[bool, bool] = (False, False)
    vectors: int = 1

    @property
    def ends(self) -> int:
        """Vectors at a line's end: a tile may read beyond it, and the next begins on a vector's boundary."""
        return self.vectors + 1


class PlanesKernel:
    """Writes the task of a spec and a schedule."""

    def __init__(self, spec: Planes, schedule: PlanesSchedule, e: Emitter) -> None:
        self.spec, self.schedule, self.e = spec, schedule, e
        self.does, self.separable = spec.combination, spec.combination.separable
        self.needs = spec.combination.required
        # A tile's vectors: their row, and their place along it.
        self.cells = [(i, v * e.lanes) for i in range(schedule.rows) for v in range(schedule.vectors)]

    def write(self, slots: Value, task: Value, _worker: Value) -> None:
        """Task (group of planes · bands + band) · segments + segment."""
        e = self.e
        self.a = a = Arguments(e, slots, POINTERS, NUMBERS)
        rest, segment = e.divmod(task, a.segment_count)
        group, band = e.divmod(rest, a.band_count)
        first = e.mul(group, a.group)
        last = e.min(e.add(first, a.group), a.planes)
        band_place, segment_place = (
            e.at(a.bands, e.mul(band, BAND), I32),
            e.at(a.segments, e.mul(segment, SEGMENT), I32),
        )
        self.first_row, self.rows, self.first_line, lines = (index_at(e, band_place, i) for i in range(BAND))
        self.first_output, self.outputs, *segment_parts, columns = (
            index_at(e, segment_place, i) for i in range(SEGMENT)
        )
        self.columns = e.at(a.columns, columns, I32)
        self._flat = e.b.icmp_signed("!=", a.flat, e.i64(0))
        self.lines = e.array(self.schedule.scratch)
        rows = self.spec.rows.size if self.spec.rows else 0
        line = Line(self.spec.phases, rows, self.does) if self.separable else Line(self.spec.phases, 1, None)
        filler = LineFiller(e, line, a, self.lines, self.schedule.ends)
        tile = self.schedule.rows
        tiles, _ = e.divmod(e.add(self.rows, tile - 1), tile)
        missing = e.mul(e.sub(e.mul(tiles, tile), self.rows), a.row_step)
        filler.clear(e.b.select(self._flat, e.i64(1), lines), missing)

        def plane(index: Value) -> None:
            source, _ = e.divmod(index, a.multiple)
            x = e.at(a.x, e.mul(source, a.x_plane))
            filler.fill(x, self.does.identity, self.first_line, lines, segment_parts)
            self._plane(index)

        e.loop(first, last, plane)

    def _plane(self, plane: Value) -> None:
        """All outputs of the band and the segment."""
        e, a, tile = self.e, self.a, self.schedule.rows
        self.image, self.channel = e.divmod(plane, a.channels)
        self.weight = e.at(a.weight, e.mul(self.channel, a.weight_plane))
        self.weights = self._unrolled_weights()
        outputs = e.b.select(self._flat, e.mul(self.rows, self.outputs), self.outputs)
        rows = e.b.select(self._flat, e.i64(1), self.rows)
        start = e.add(e.mul(self.first_row, a.y_width), self.first_output)
        here = e.add(e.mul(plane, a.y_plane), start)

        def row(r: Value) -> None:
            def vector(o: Value) -> None:
                states, given = self._tile(r, o)
                place = e.add(here, e.add(e.mul(r, a.y_width), o))
                self._finish(states, given, place, e.sub(rows, r), e.sub(outputs, o))

            e.loop(0, outputs, vector, step=self.schedule.vectors * e.lanes)

        e.loop(0, rows, row, step=tile)

    def _finish(self, states: list[State], given: list[Given], place: Value, rows: Value, outputs: Value) -> None:
        """Stores the results of a tile, of which there may be fewer rows and outputs left than it has."""
        e, targets = self.e, (self.a.y, self.a.places)
        places, left = [], []
        for i, along in self.cells:
            places.append(e.add(place, e.add(e.mul(self.a.y_width, i), along)))
            here = e.sub(outputs, along)
            left.append(e.b.select(e.b.icmp_signed("<", e.i64(i), rows), here, e.i64(0)) if i else here)
        results = [self._results(*cell) for cell in zip(states, given, places, left, strict=True)]

        def whole() -> tuple[()]:
            for values, here in zip(results, places, strict=True):
                for value, target in zip(values, targets, strict=False):
                    e.store_vector(value, target, here)
            return ()

        def part() -> tuple[()]:
            for values, here, count in zip(results, places, left, strict=True):
                for value, target in zip(values, targets, strict=False):
                    store_first(e, value, target, here, count)
            return ()

        # All results are stored in either way: so none is computed later than its numbers are read, at hand no more.
        e.choose(e.b.icmp_signed(">=", left[-1], e.i64(e.lanes)), whole, part)

    def _results(self, state: State, given: Given, place: Value, left: Value) -> list[Value]:
        """The results as they are stored."""
        e, epilogue = self.e, self.spec.epilogue
        value, *places = self.does.finish(e, state, given)
        if epilogue.scale:
            value = e.b.fmul(value, e.splat(e.load(self.a.scale, self.channel)))
        if epilogue.bias:
            value = e.b.fadd(value, e.splat(e.load(self.a.bias, self.channel)))
        if epilogue.residual:
            value = e.b.fadd(value, load_first(e, self.a.residual, place, left))
        return [activate(e, epilogue.activation, value), *(resized(e, index, self.does.bits) for index in places)]

    # The taps of a tile

    def _tile(self, r: Value, o: Value) -> tuple[list[State], list[Given]]:
        """The states of a tile's vectors at the end, and what they were given."""
        e = self.e
        given = [self._given(e.add(r, i), e.add(o, along)) for i, along in self.cells]
        if self.separable:
            return [[self._merged(e.add(r, i), e.add(o, along))] for i, along in self.cells], given
        states: list[State] = [[] for _ in self.cells]
        for turn in range(self.does.turns):
            states = [self.does.start(e, turn, state, known) for state, known in zip(states, given, strict=True)]
            if self.spec.sliding:
                states = self._slid(r, o, states)
            elif self.spec.rows:
                states = self._unrolled(turn, r, o, states)
            else:
                states = self._rolled(turn, r, o, states)
        return states, given

    def _given(self, r: Value, o: Value) -> Given:
        e, a = self.e, self.a
        row, output = e.add(self.first_row, r), e.add(self.first_output, o)
        if "count" in self.needs:
            if self.spec.one_count:
                return Given(count=e.splat(e.load(a.row_given)))
            return Given(count=e.b.fmul(e.splat(e.load(a.row_given, row)), e.load_vector(a.column_given, output)))
        if "draw" in self.needs:
            start = e.add(e.add(e.mul(self.channel, a.y_plane), e.mul(row, a.y_width)), output)
            lanes = ir.Constant(e.indices, list(range(e.lanes)))
            places = e.b.add(e.splat_index(e.b.trunc(start, I32)), lanes)
            return Given(draw=uniform(e, e.load(a.seed, 0, I64), self.image, places))
        if self.needs & {"source", "tap"}:
            width = self._column_taps if "tap" in self.needs else a.width
            in_row, at = e.load(a.row_given, row, I32), e.load_vector(a.column_given, output, kind=e.indices)
            place = e.b.add(e.splat_index(e.b.mul(in_row, e.b.trunc(e.value(width), I32))), at)
            nothing = e.b.icmp_signed("<", e.b.or_(e.splat_index(in_row), at), e.splat_index(0))
            return Given(first=e.b.select(nothing, e.splat_index(-1), place))
        return Given()

    def _merged(self, r: Value, o: Value) -> Value:
        """What the taps along a row make of a line that holds combined rows."""
        e, a, columns = self.e, self.a, self.spec.columns
        line = e.at(self.lines, e.add(e.mul(r, a.line_pitch), o))
        if columns:
            merged = e.load_vector(line, self._tap_at(0))
            for t in range(1, columns.size):
                merged = self.does.merge(e, merged, e.load_vector(line, self._tap_at(t)))
            return merged

        def tap(t: Value, merged: Value) -> list[Value]:
            return [self.does.merge(e, merged, e.load_vector(line, self._tap_at(t)))]

        first = e.load_vector(line, self._tap_at(e.i64(0)))
        return e.loop(1, a.column_taps, tap, [first])[0]

    def _tap_at(self, t: Any) -> Value:
        """From an output's place in a line to the one that tap t reads."""
        e, columns = self.e, self.spec.columns
        if columns is None:
            return index_at(e, self.a.taps_at, t)
        place, phase = divmod(t * columns.dilation, columns.stride)
        return e.add(e.mul(self.a.phase_pitch, phase) if phase else 0, place)

    def _unrolled_weights(self, slab: Value = 0) -> list[Value]:
        """A slab's weights, in registers for as long as there are enough."""
        e, rows, columns = self.e, self.spec.rows, self.spec.columns
        if "weight" not in self.needs or not rows or not columns:
            return []
        taps = rows.size * columns.size
        first = e.mul(slab, taps)
        return [e.splat(e.load(self.weight, e.add(first, tap))) for tap in range(taps)]

    def _unrolled(self, turn: int, r: Value, o: Value, states: list[State]) -> list[State]:
        """Slab after slab, if the window has several."""
        e, rows = self.e, self.spec.rows
        assert rows
        first = e.mul(r, rows.stride)
        if not rows.deep:
            return self._unrolled_slab(turn, first, o, states, self.weights, 0)

        def slab(number: Value, *flat: Value) -> list[Value]:
            here = e.add(first, e.mul(number, self.a.depth_step))
            weights, first_tap = self._unrolled_weights(number), e.mul(number, rows.size * self._column_taps)
            return _flat(self._unrolled_slab(turn, here, o, self._cut(flat), weights, first_tap))

        return self._cut(e.loop(0, self.a.depth_taps, slab, _flat(states)))

    def _unrolled_slab(
        self, turn: int, first: Value, o: Value, states: list[State], weights: list[Value], first_tap: Value
    ) -> list[State]:
        """Line after line: what is read of one serves all rows of the tile that see it."""
        e, rows, columns, vectors = self.e, self.spec.rows, self.spec.columns, self.schedule.vectors
        assert rows and columns
        seen: dict[int, list[tuple[int, int]]] = {}
        for i in range(self.schedule.rows):
            for j in range(rows.size):
                seen.setdefault(i * rows.stride + j * rows.dilation, []).append((i, j))
        for offset in sorted(seen):
            line = e.add(first, offset)
            row = self._row_of(line)
            for t in range(columns.size):
                for v in range(vectors):
                    place = e.add(o, v * e.lanes)
                    value, source = self._told(line, row, place, t)
                    for i, j in seen[offset]:
                        weight = weights[j * columns.size + t] if weights else None
                        source = self._number(e.add(first_tap, j * columns.size + t), source)
                        weight, cell = self._inside(weight, row, place, t), i * vectors + v
                        states[cell] = self.does.step(e, turn, states[cell], value, source, weight)
        return states

    def _cut(self, flat: Sequence[Value]) -> list[State]:
        """The states of the tile's vectors, one after the other in `flat`."""
        length = len(flat) // len(self.cells)
        return [list(flat[first : first + length]) for first in range(0, len(flat), length)]

    def _rolled(self, turn: int, r: Value, o: Value, states: list[State]) -> list[State]:
        """Tap after tap, by the tables."""
        e, a, tile = self.e, self.a, self.schedule.rows
        columns = self.spec.columns
        count = columns.size if columns else a.column_taps

        def row_tap(depth: Value, j: Value, *flat: Value) -> list[Value]:
            first = e.add(e.mul(depth, a.depth_step), e.mul(j, a.row_dilation))
            lines = [e.add(e.mul(e.add(r, i), a.row_step), first) for i in range(tile)]
            rows = [self._row_of(line) for line in lines]

            def tap(t: Any, *flat: Value) -> list[Value]:
                result = self._cut(flat)
                weight, number = None, e.add(e.mul(e.add(e.mul(depth, a.row_taps), j), count), t)
                if "weight" in self.needs:
                    weight = e.splat(e.load(self.weight, number))
                for cell, (i, along) in enumerate(self.cells):
                    place = e.add(o, along)
                    value, source = self._told(lines[i], rows[i], place, t)
                    source = self._number(number, source)
                    own = self._inside(weight, rows[i], place, t)
                    result[cell] = self.does.step(e, turn, result[cell], value, source, own)
                return _flat(result)

            if columns is None:
                return e.loop(0, count, tap, flat)
            for t in range(columns.size):
                flat = tuple(tap(t, *flat))
            return list(flat)

        def depth_tap(depth: Value, *flat: Value) -> list[Value]:
            return e.loop(0, a.row_taps, partial(row_tap, depth), flat)

        return self._cut(e.loop(0, a.depth_taps, depth_tap, _flat(states)))

    def _slid(self, r: Value, o: Value, states: list[State]) -> list[State]:
        """Line after line, of which each of the tile's rows sees the next with its next row of weights."""
        e, tile, row_taps = self.e, self.schedule.rows, self.a.row_taps
        sums = [state[0] for state in states]

        def line(number: Value, seen: range, *sums: Value) -> list[Value]:
            """One line's part in the sums of the rows that see it."""
            return self._of_line(e.add(r, number), o, {i: e.sub(number, i) for i in seen}, sums)

        for number in range(tile - 1):  # the first rows alone
            sums = line(e.i64(number), range(number + 1), *sums)
        sums = e.loop(tile - 1, row_taps, lambda number, *sums: line(number, range(tile), *sums), sums)
        for number in range(tile - 1):  # the last rows alone
            sums = line(e.add(row_taps, number), range(number + 1, tile), *sums)
        return [[total] for total in sums]

    def _of_line(self, line: Value, o: Value, weight_rows: dict[int, Value], sums: Sequence[Value]) -> list[Value]:
        """The sums with the taps of a line, where the tile's row i is at row weight_rows[i] of its weights."""
        e, columns, vectors = self.e, self.spec.columns, self.schedule.vectors
        count = columns.size if columns else self.a.column_taps
        weights = {i: e.at(self.weight, e.mul(j, count)) for i, j in weight_rows.items()}

        def tap(t: Any, *sums: Value) -> list[Value]:
            result = list(sums)
            values = [self._told(line, None, e.add(o, v * e.lanes), t)[0] for v in range(vectors)]
            for i, row in weights.items():
                weight = e.splat(e.load(row, t))
                for v, value in enumerate(values):
                    result[i * vectors + v] = e.fma(value, weight, result[i * vectors + v])
            return result

        if columns is None:
            return e.loop(0, count, tap, sums)
        for t in range(columns.size):
            sums = tap(t, *sums)
        return list(sums)

    def _row_of(self, line: Value) -> Value:
        """The input row (i64) of which a line is a copy, −1 outside; None if nobody asks."""
        if "source" not in self.needs and not self._counts_weights:
            return None
        return index_at(self.e, self.a.rows, self.e.add(self.first_line, line))

    @property
    def _counts_weights(self) -> bool:
        return isinstance(self.does, WeightedMean)

    def _told(self, line: Value, row: Value, o: Value, t: Any) -> tuple[Value, Value]:
        """(value, source) that tap t reads in a line for the vector at o."""
        e = self.e
        place = e.add(o, self._tap_at(t))
        value = e.load_vector(self.lines, e.add(e.mul(line, self.a.line_pitch), place))
        if "source" not in self.needs:
            return value, None
        start = e.splat_index(e.b.trunc(e.mul(row, self.a.width), I32))
        return value, e.b.add(start, e.load_vector(self.columns, place, kind=e.indices))

    def _number(self, tap: Value, source: Value) -> Value:
        """The tap's number in place of the source, if it is asked for."""
        if "tap" not in self.needs:
            return source
        return self.e.splat_index(tap if isinstance(tap, int) else self.e.b.trunc(tap, I32))

    @property
    def _column_taps(self) -> Value:
        return self.spec.columns.size if self.spec.columns else self.a.column_taps

    def _inside(self, weight: Value, row: Value, o: Value, t: Any) -> Value:
        """The weight; 0 of taps outside, if weights are counted."""
        if not self._counts_weights:
            return weight
        e = self.e
        column = e.load_vector(self.columns, e.add(o, self._tap_at(t)), kind=e.indices)
        outside = e.b.icmp_signed("<", e.b.or_(column, e.splat_index(e.b.trunc(row, I32))), e.splat_index(0))
        return e.b.select(outside, e.splat(0.0), weight)


def _flat(states: Sequence[State]) -> list[Value]:
    return [value for state in states for value in state]


def choose_planes(
    combination: Combination, rows: Taps, columns: Taps | None, outputs: int, wide: bool
) -> PlanesSchedule:
    """The schedule for windows of these taps and so many output rows, `wide` if a vector doesn't hold one."""
    unrolled_columns = columns.size if columns and columns.size <= MOST_COLUMNS else 0
    if combination.separable:
        return PlanesSchedule(1, unrolled=(rows.size <= MOST_ROWS, unrolled_columns > 0))
    summed, taps = isinstance(combination, WeightedSum), rows.size * unrolled_columns * combination.turns
    slides = summed and wide and rows.slides
    unrolled = (0 < taps <= (MOST_BEFORE_SLIDING if slides else MOST_UNROLLED), unrolled_columns > 0)
    if not summed or outputs < 3:
        return PlanesSchedule(1, unrolled=unrolled)
    return PlanesSchedule(4, unrolled=unrolled, vectors=2 if slides and not unrolled[0] else 1)


def _write(spec: Planes, schedule: PlanesSchedule, e: Emitter, slots: Value, task: Value, worker: Value) -> None:
    PlanesKernel(spec, schedule, e).write(slots, task, worker)


PLANES = Family("planes", POINTERS, NUMBERS, _write)
