"""The k largest of each row in the order they stand in: of equal ones the first, NaN above all.

As many rows as a vector has lanes go together, one in each lane; blocks of them are turned in registers as they come.

Few: the k largest so far are kept in order, v_0 … v_{k−1}. With each further x that is larger than the smallest of
them, m, the last v_j = m goes, those behind it move up, and x comes last: 3 k instructions for a number of each row.

Many: the k-th largest, t, bit by bit from the highest: a bit is set if at least k numbers are as large still. Then all
above t are taken, and of those equal to it the first, until there are k. Long rows go one by one instead.

A task is some groups of rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from llvmlite import ir

from svertka.kernels.emit import F32, I32, I64, Arguments, Emitter, Value, shuffle
from svertka.kernels.family import Family
from svertka.kernels.rows import SCRATCH, Rows

POINTERS = ("x", "y")
NUMBERS = ("rows", "length", "k", "groups", "groups_in_task")
MOST_FEW = 8  # k that are kept in registers; each has a kernel of its own
_CHUNK = 128  # positions
_SIGN, _INFINITY = 0x80000000, 0x7F800000  # bits
Above = Callable[[Value, Value], Value]


@dataclass(frozen=True)
class FewLargest:
    """The first way, for this k."""

    k: int


@dataclass(frozen=True)
class ManyLargest:
    """The second way; k is a number of the call.

    Args:
        along: each row is a group, and its numbers go together.
    """

    along: bool


def _rows(e: Emitter, a: Arguments, group: Value, positions: int) -> Rows:
    return Rows(e, a.x, a.length, e.mul(group, e.lanes), a.rows, positions)


def _each_group(e: Emitter, a: Arguments, task: Value, write: Callable[[Value], None]) -> None:
    start = e.mul(task, a.groups_in_task)
    e.loop(start, e.min(e.add(start, a.groups_in_task), a.groups), write)


def _write_few(spec: FewLargest, _schedule: None, e: Emitter, slots: Value, task: Value, _worker: Value) -> None:
    a = Arguments(e, slots, POINTERS, NUMBERS)
    _each_group(e, a, task, lambda group: _few_largest(spec.k, e, a, _rows(e, a, group, _CHUNK)))


def _few_largest(k: int, e: Emitter, a: Arguments, rows: Rows) -> None:
    def chunk(start: Value, *carried: Value) -> list[Value]:
        rows.fetch(start, e.min(e.add(start, _CHUNK), a.length))
        count = e.min(e.sub(a.length, start), _CHUNK)
        begins = e.b.icmp_signed("==", start, e.i64(0))
        kept = e.choose(begins, lambda: [rows.vector(e.i64(j)) for j in range(k)], lambda: carried[:k])
        first = e.b.select(begins, e.i64(k), e.i64(0))
        # 0 · x is NaN, and stays, if x is NaN (or ∞).
        (strange,) = e.loop(0, count, lambda i, sum_: [e.fma(rows.vector(i), e.splat(0.0), sum_)], carried[k:])

        def steps(above: Above) -> list[Value]:
            return e.loop(first, count, lambda i, *v: _kept(e, above, v, rows.vector(i)), kept)

        ordinary = e.b.fcmp_ordered("ord", strange, strange)
        every = e.b.icmp_unsigned(
            "==", e.b.bitcast(ordinary, ir.IntType(e.lanes)), ir.Constant(ir.IntType(e.lanes), -1)
        )
        return [*e.choose(every, lambda: steps(_plainly(e)), lambda: steps(_with_nan(e))), strange]

    *kept, _ = e.loop(0, a.length, chunk, [e.splat(0.0)] * (k + 1), step=_CHUNK)
    for j, vector in enumerate(kept):
        e.store_vector(vector, rows.scratch, j * e.lanes)

    def row(lane: Value) -> None:
        y = e.at(a.y, e.mul(e.add(rows.first, lane), k))
        for j in range(k):
            e.store(e.load(rows.scratch, e.add(lane, j * e.lanes)), y, j)

    e.loop(0, rows.count, row)


def _kept(e: Emitter, above: Above, kept: Sequence[Value], x: Value) -> list[Value]:
    """What is kept after x."""
    smallest = kept[0]
    for value in kept[1:]:
        smallest = e.b.select(above(smallest, value), value, smallest)
    moves = above(x, smallest)  # whether the place takes its successor's number
    result = [e.b.select(moves, x, kept[-1])]
    for here, after in zip(kept[-2::-1], kept[:0:-1], strict=True):
        moves = e.b.and_(moves, above(after, smallest))
        result.append(e.b.select(moves, after, here))
    return result[::-1]


def _plainly(e: Emitter) -> Above:
    return lambda a, b: e.b.fcmp_ordered(">", a, b)


def _with_nan(e: Emitter) -> Above:
    """NaN is above all but NaN."""
    return lambda a, b: e.b.and_(e.b.fcmp_unordered(">", a, b), e.b.fcmp_ordered("ord", b, b))


def _write_many(spec: ManyLargest, _schedule: None, e: Emitter, slots: Value, task: Value, _worker: Value) -> None:
    a = Arguments(e, slots, POINTERS, NUMBERS)
    keys = _KeysAlong if spec.along else _KeysAcross
    bounds, aside = e.array(2 * e.lanes, I32), e.array(1)
    _each_group(e, a, task, lambda group: _many_largest(e, a, keys(e, a, group), bounds, aside))


def _many_largest(e: Emitter, a: Arguments, keys: _KeysAlong | _KeysAcross, bounds: Value, aside: Value) -> None:
    least = e.splat_index(e.b.trunc(a.k, I32))
    room = SCRATCH // e.lanes
    parted = e.b.icmp_signed(">", keys.vectors, e.i64(room))

    def bit(number: Value, bound: Value, _: Value) -> list[Value]:
        """Sets one more bit; the 33rd turn adds 1, which is too much, and so counts what is above the bound."""
        shift = e.b.trunc(e.min(number, 31), I32)
        trial = e.b.add(bound, e.splat_index(e.b.lshr(ir.Constant(I32, _SIGN), shift)))
        again = e.b.or_(parted, e.b.icmp_signed("==", number, e.i64(0)))

        def part(start: Value, total: Value) -> list[Value]:
            stop = e.min(e.add(start, room), keys.vectors)
            e.when(again, lambda: keys.fetch(start, stop))

            def count(i: Value, total: Value) -> list[Value]:
                found = e.b.icmp_signed(">=", keys.vector(i), trial)
                return [e.b.sub(total, e.b.sext(found, e.indices))]

            return e.loop(0, e.sub(stop, start), count, [total])

        total = keys.total(*e.loop(0, keys.vectors, part, [e.splat_index(0)], step=room))
        return [e.b.select(e.b.icmp_signed(">=", total, least), trial, bound), total]

    bound, larger = e.loop(0, 33, bit, [e.splat_index(-_SIGN), e.splat_index(0)])
    e.store_vector(bound, bounds)
    e.store_vector(e.b.sub(least, larger), bounds, e.lanes)

    def take(lane: Value) -> None:
        x, y = keys.row(lane), e.at(a.y, e.mul(e.add(keys.first, lane), a.k))
        bound, room = e.load(bounds, lane, I32), e.load(bounds, e.add(lane, e.lanes), I32)

        def anew() -> tuple[()]:
            _take(e, a, x, y, lambda value, _: _key(e, value), bound, room, aside)
            return ()

        def kept() -> tuple[()]:
            _take(e, a, x, y, lambda _, i: keys.key(lane, i), bound, room, aside)
            return ()

        e.choose(parted, anew, kept)

    e.loop(0, keys.count, take)


class _KeysAcross:
    """The keys of a group of rows, one in each lane."""

    def __init__(self, e: Emitter, a: Arguments, group: Value) -> None:
        self.e, self.vectors = e, a.length
        self._rows = rows = _rows(e, a, group, SCRATCH // e.lanes)
        self.first, self.count, self.row = rows.first, rows.count, rows.row

    def fetch(self, start: Value, stop: Value) -> None:
        """Brings vectors [start, stop) to scratch."""
        e, rows = self.e, self._rows
        rows.fetch(start, stop)
        e.loop(
            0, e.sub(stop, start), lambda i: e.store_vector(_key(e, rows.vector(i)), rows.scratch, e.mul(i, e.lanes))
        )

    def vector(self, i: Value) -> Value:
        """The i-th one in scratch."""
        return self._rows.vector(i, self.e.indices)

    def key(self, lane: Value, i: Value) -> Value:
        """The i-th one of a row, if all are in scratch."""
        return self.e.load(self._rows.scratch, self.e.add(self.e.mul(i, self.e.lanes), lane), I32)

    def total(self, counts: Value) -> Value:
        """The rows' totals of what was counted in each lane."""
        return counts


class _KeysAlong:
    """The keys of one row, one after the other; in place of those that are missing at the end stands the least."""

    def __init__(self, e: Emitter, a: Arguments, group: Value) -> None:
        self.e, self.first, self.count, self.length = e, group, e.i64(1), a.length
        self.vectors = e.divmod(e.add(a.length, e.lanes - 1), e.lanes)[0]
        self._x, self._scratch = e.at(a.x, e.mul(group, a.length)), e.array(SCRATCH, I32)

    def row(self, _lane: Value) -> Value:
        """The address of the row."""
        return self._x

    def fetch(self, start: Value, stop: Value) -> None:
        """Brings vectors [start, stop) to scratch."""
        e = self.e
        first, last = e.mul(start, e.lanes), e.min(e.mul(stop, e.lanes), self.length)
        whole = e.divmod(last, e.lanes)[0]
        beyond = e.sub(e.mul(stop, e.lanes), e.lanes)
        e.store_vector(e.splat_index(-_SIGN), self._scratch, e.sub(beyond, first))

        def vector(i: Value) -> None:
            place = e.mul(i, e.lanes)
            e.store_vector(_key(e, e.load_vector(self._x, place)), self._scratch, e.sub(place, first))

        def single(place: Value) -> None:
            e.store(_key(e, e.load(self._x, place)), self._scratch, e.sub(place, first))

        e.loop(start, whole, vector)
        e.loop(e.mul(whole, e.lanes), last, single)

    def vector(self, i: Value) -> Value:
        """The i-th one in scratch."""
        return self.e.load_vector(self._scratch, self.e.mul(i, self.e.lanes), kind=self.e.indices)

    def key(self, _lane: Value, i: Value) -> Value:
        """The i-th one of the row, if all are in scratch."""
        return self.e.load(self._scratch, i, I32)

    def total(self, counts: Value) -> Value:
        """The row's total of what was counted in each lane, in all lanes."""
        half = self.e.lanes // 2
        while half:
            counts = self.e.b.add(counts, shuffle(self.e, counts, counts, [i ^ half for i in range(self.e.lanes)]))
            half //= 2
        return counts


def _take(
    e: Emitter, a: Arguments, x: Value, y: Value, key_of: Callable[[Value, Value], Value], bound: Value, room: Value,
    aside: Value,
) -> None:  # fmt: skip
    """Of a row x all that is above its bound goes to y, and as many equal to it as there is room for."""

    def one(i: Value, place: Value, room: Value) -> list[Value]:
        value = e.load(x, i)
        key = key_of(value, i)
        equal = e.b.icmp_signed("==", key, bound)
        wanted = e.b.and_(equal, e.b.icmp_signed(">", room, ir.Constant(I32, 0)))
        taken = e.b.or_(e.b.icmp_signed(">", key, bound), wanted)
        # Written and forgotten unless taken; past the last place it is written elsewhere.
        e.store(value, e.b.select(e.b.icmp_signed("<", place, a.k), e.at(y, place), aside))
        return [e.b.add(place, e.b.zext(taken, I64)), e.b.sub(room, e.b.zext(equal, I32))]

    e.loop(0, a.length, one, [e.i64(0), room])


def _key(e: Emitter, value: Value) -> Value:
    """i32 in the order of the numbers: 0 and −0 are equal, NaN is above ∞; of floats or of a vector of them."""
    single = value.type == F32
    kind, zero = (I32, e.f32(0.0)) if single else (e.indices, e.splat(0.0))

    def number(n: int) -> Value:
        return ir.Constant(I32, n) if single else e.splat_index(n)

    bits = e.b.bitcast(e.b.fadd(value, zero), kind)
    key = e.b.xor(bits, e.b.lshr(e.b.ashr(bits, number(31)), number(1)))
    return e.b.select(e.b.fcmp_unordered("uno", value, value), number(_INFINITY + 1), key)


FEW_LARGEST = Family("the few largest", POINTERS, NUMBERS, _write_few)
MANY_LARGEST = Family("the many largest", POINTERS, NUMBERS, _write_many)
