"""`gathering` on planes: each channel of each sample lies for itself, row after row.

Of a window with stride s, the inputs s · q + k (k < s, q = 0, 1, …) are read by neighbouring outputs: by tap t those at
q + shift(t), if t's place is the input's, modulo s. So one vector of outputs makes one of inputs for each phase k, and
s of them are joined to neighbours. What padding makes outputs read beyond that is a list of single readings, added
number by number; of windows that aren't regular all readings are in it.

Sums are made on one axis after the other: first the rows' readers are combined to a line of scratch memory.

A vector may stick out of the row; what follows it is written later by the same task, but for the last rows of the task,
which are stored number by number there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from llvmlite import ir

from svertka.kernels.emit import F32, I32, I64, POINTER, Arguments, Emitter, Value, shuffle
from svertka.kernels.family import Family
from svertka.kernels.gathering import READER, Part, is_taken

POINTERS = ("dy", "taken", "w", "dx", "row_starts", "row_readers", "column_shares", "further")
NUMBERS = (
    "planes", "planes_in_task", "channels", "rows", "bands", "rows_in_band", "columns", "y_plane", "y_columns",
    "taps", "further_count",
)  # fmt: skip
SEGMENT = 1024  # numbers of each phase that are made at a time
MOST_PHASES, MOST_TAPS = 4, 8  # of windows that are done in vectors


@dataclass(frozen=True)
class GatheringPlanes:
    """What is gathered.

    Args:
        phases: for each phase its taps, pairs (tap, shift); one phase without taps if all readings are single ones.
    """

    part: Part
    phases: tuple[tuple[tuple[int, int], ...], ...]

    @property
    def reach(self) -> tuple[int, int]:
        """The least and the largest shift."""
        shifts = [shift for phase in self.phases for _, shift in phase]
        return min(shifts, default=0), max(shifts, default=0)


class _Task:
    """Task planes' part · bands + band."""

    def __init__(self, spec: GatheringPlanes, e: Emitter, slots: Value, task: Value) -> None:
        self.spec, self.e = spec, e
        self.a = a = Arguments(e, slots, POINTERS, NUMBERS)
        self.low, self.high = spec.reach
        by_line = spec.part.kind == "sum" and any(spec.phases)
        self.line = e.array(SEGMENT + self.high - self.low + 2 * e.lanes) if by_line else None
        self.aside = e.array(len(spec.phases) * e.lanes)
        group, band = e.divmod(task, a.bands)
        first_plane = e.mul(group, a.planes_in_task)
        last_plane = e.min(e.add(first_plane, a.planes_in_task), a.planes)
        first_row = e.mul(band, a.rows_in_band)
        last_row = e.min(e.add(first_row, a.rows_in_band), a.rows)
        plane_size = e.mul(a.rows, a.columns)
        # Where the task ends: with several bands it has one plane.
        last = e.add(e.mul(e.sub(last_plane, 1), plane_size), e.mul(last_row, a.columns))

        def plane(number: Value) -> None:
            start = e.mul(number, a.y_plane)
            self.dy, self.taken = e.at(a.dy, start), e.at(a.taken, start, ir.IntType(spec.part.bits))
            self.w = e.at(a.w, e.mul(e.divmod(number, a.channels)[1], a.taps))

            def row(index: Value) -> None:
                at = e.add(e.mul(number, plane_size), e.mul(index, a.columns))
                self._row(index, e.at(a.dx, at), e.sub(last, at))

            e.loop(first_row, last_row, row)

        e.loop(first_plane, last_plane, plane)

    def _row(self, row: Value, dx: Value, left: Value) -> None:
        """One row; so many numbers are left of it and what follows in the task."""
        e, a = self.e, self.a
        self.readers = [e.b.sext(e.load(a.row_starts, e.add(row, k), I32), I64) for k in (0, 1)]
        phases = len(self.spec.phases)
        count, _ = e.divmod(e.add(a.columns, phases - 1), phases)

        def block(q: Value, segment: Value) -> None:
            vectors = self._sums(q, segment) if self.line is not None else self._parts(q)
            self._store(vectors, dx, e.mul(q, phases), left)

        def segment(first: Value) -> None:
            if self.line is not None:
                self._combine(first, e.min(e.sub(count, first), SEGMENT))
            e.loop(first, e.min(e.add(first, SEGMENT), count), lambda q: block(q, first), step=e.lanes)

        e.loop(0, count, segment, step=SEGMENT)
        e.loop(0, a.further_count, lambda number: self._further(number, dx))

    def _each_reader(self, body: Callable[..., Sequence[Value]], carried: Sequence[Value]) -> list[Value]:
        """body(the reader's entry, the first output of its row, its tap, *carried) for all readers of the row."""
        e, a = self.e, self.a

        def one(r: Value, *carried: Value) -> Sequence[Value]:
            entry = e.at(a.row_readers, e.mul(r, READER), I32)
            output, tap = (e.b.sext(e.load(entry, k, I32), I64) for k in (0, 1))
            return body(entry, e.mul(output, a.y_columns), tap, *carried)

        first, last = self.readers
        return e.loop(first, last, one, carried)

    # Sums

    def _combine(self, first: Value, count: Value) -> None:
        """What the rows' readers give together, for the outputs that a segment's inputs see; 0 where there is none."""
        e, low = self.e, self.low
        count = e.add(count, self.high - low)

        def vector(i: Value) -> None:
            o = e.add(e.add(first, low), i)

            def add(entry: Value, start: Value, _: Value, total: Value) -> list[Value]:
                return [e.fma(e.splat(e.load(entry, 2)), self._outputs(start, o), total)]

            (total,) = self._each_reader(add, [e.splat(0.0)])
            shares = self._masked(self.a.column_shares, o)
            e.store_vector(e.b.fmul(total, shares), self.line, i)

        e.loop(0, e.add(count, e.lanes), vector, step=e.lanes)

    def _sums(self, q: Value, segment: Value) -> list[Value]:
        """The inputs of all phases from q on."""
        e, vectors = self.e, []
        for phase in self.spec.phases:
            total = e.splat(0.0)
            for i, (_, shift) in enumerate(phase):
                value = e.load_vector(self.line, e.add(e.sub(q, segment), shift - self.low))
                total = e.b.fadd(total, value) if i else value
            vectors.append(total)
        return vectors

    # Parts of single taps

    def _parts(self, q: Value) -> list[Value]:
        e, a = self.e, self.a
        zeros = [e.splat(0.0) for _ in self.spec.phases]
        if not any(self.spec.phases):
            return zeros
        first = e.b.icmp_signed(">=", e.add(q, self.low), e.i64(0))
        last = e.b.icmp_signed("<=", e.add(q, self.high + e.lanes), a.y_columns)

        def gathered(read: Callable[[Value, Value], Value]) -> list[Value]:
            return self._each_reader(lambda _, start, tap, *sums: self._added(read, start, tap, q, sums), zeros)

        def plain(start: Value, o: Value) -> Value:
            return e.load_vector(self.dy, e.add(start, o))

        return e.choose(e.b.and_(first, last), lambda: gathered(plain), lambda: gathered(self._outputs))

    def _added(
        self, read: Callable[[Value, Value], Value], start: Value, row_tap: Value, q: Value, sums: Sequence[Value]
    ) -> list[Value]:
        """The sums of all phases with one row's readers."""
        e, result = self.e, list(sums)
        seen: dict[int, Value] = {}
        for k, phase in enumerate(self.spec.phases):
            for tap, shift in phase:
                if shift not in seen:
                    seen[shift] = read(start, e.add(q, shift))
                result[k] = self._with(result[k], seen[shift], start, e.add(q, shift), e.add(row_tap, tap))
        return result

    def _with(self, total: Value, dy: Value, start: Value, o: Value, tap: Value) -> Value:
        e, part = self.e, self.spec.part
        if part.kind == "weighted":
            return e.fma(e.splat(e.load(self.w, tap)), dy, total)
        # Those outside the row have no gradient, whatever number is read for them, from a vector near by.
        o = _within(e, o, e.i64(-e.lanes), self.a.y_columns)
        number = e.splat_index(e.b.trunc(tap, I32))
        found = is_taken(e, part, self.taken, e.add(start, o), number)
        return e.b.fadd(total, e.b.select(found, dy, e.splat(0.0)))

    def _outputs(self, start: Value, o: Value) -> Value:
        """The vector of dy at o … of a row, 0 outside it."""
        return self._masked(self.e.at(self.dy, start), o)

    def _masked(self, row: Value, o: Value) -> Value:
        """The vector at o … of a row of as many numbers as there are output columns, 0 outside it."""
        e = self.e
        lanes = ir.Constant(e.indices, list(range(e.lanes)))
        place = e.b.add(e.splat_index(e.b.trunc(o, I32)), lanes)
        mask = e.b.icmp_unsigned("<", place, e.splat_index(e.b.trunc(self.a.y_columns, I32)))
        name, kind = f"llvm.masked.load.v{e.lanes}f32.p0", ir.FunctionType(e.vector, [POINTER, mask.type, e.vector])
        module = e.function.module
        load = module.globals.get(name) or ir.Function(module, kind, name)
        return e.b.call(load, [e.b.gep(row, [o], source_etype=F32), mask, ir.Constant(e.vector, None)])

    # Storing, and single readings

    def _store(self, vectors: list[Value], dx: Value, place: Value, left: Value) -> None:
        e = self.e
        joined = interleaved(e, vectors)
        width = len(joined) * e.lanes

        def whole() -> tuple[()]:
            for v, vector in enumerate(joined):
                e.store_vector(vector, dx, e.add(place, v * e.lanes))
            return ()

        def part() -> tuple[()]:
            for v, vector in enumerate(joined):
                e.store_vector(vector, self.aside, v * e.lanes)
            rest = e.sub(left, place)
            e.loop(0, rest, lambda i: e.store(e.load(self.aside, i), dx, e.add(place, i)))
            return ()

        e.choose(e.b.icmp_signed("<=", e.add(place, width), left), whole, part)

    def _further(self, number: Value, dx: Value) -> None:
        """One more reading of a column, by all readers of the row."""
        e, a, part = self.e, self.a, self.spec.part
        entry = e.at(a.further, e.mul(number, READER), I32)
        column, output, own = (e.b.sext(e.load(entry, k, I32), I64) for k in range(READER))

        def add(row: Value, start: Value, tap: Value, total: Value) -> list[Value]:
            here, tap = e.add(start, output), e.add(tap, own)
            dy = e.load(self.dy, here)
            if part.kind == "sum":
                return [e.fma(e.load(row, 2), dy, total)]
            if part.kind == "weighted":
                return [e.fma(e.load(self.w, tap), dy, total)]
            kind = ir.IntType(part.bits)
            found = e.b.icmp_signed("==", e.load(self.taken, here, kind), e.b.trunc(tap, kind))
            return [e.b.fadd(total, e.b.select(found, dy, e.f32(0.0)))]

        (total,) = self._each_reader(add, [e.f32(0.0)])
        if part.kind == "sum":
            total = e.b.fmul(total, e.load(a.column_shares, output))
        e.store(e.b.fadd(e.load(dx, column), total), dx, column)


def _within(e: Emitter, value: Value, low: Value, high: Value) -> Value:
    value = e.min(value, high)
    return e.b.select(e.b.icmp_signed("<", value, low), low, value)


def interleaved(e: Emitter, vectors: Sequence[Value]) -> list[Value]:
    """The numbers v[0][0], v[1][0], …, v[s − 1][0], v[0][1], … of s vectors: the inverse of `lines.split`."""
    phases, lanes, result = len(vectors), e.lanes, []
    if phases == 1:
        return list(vectors)
    for number in range(phases):
        places = [divmod(number * lanes + lane, phases) for lane in range(lanes)]  # (which lane, of which vector)
        taken = vectors[0]
        for v, vector in enumerate(vectors[1:], start=1):
            picks = [
                lanes + at if origin == v else (at if v == 1 else lane) for lane, (at, origin) in enumerate(places)
            ]
            taken = shuffle(e, taken, vector, picks)
        result.append(taken)
    return result


def _write(spec: GatheringPlanes, _schedule: None, e: Emitter, slots: Value, task: Value, _worker: Value) -> None:
    _Task(spec, e, slots, task)


GATHERING_PLANES = Family("gathering on planes", POINTERS, NUMBERS, _write)
