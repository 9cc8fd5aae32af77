"""The gradients of depthwise convolutions, to the weight and to the input, on neighbouring channels.

    dw[t, c] = Σ_n Σ_o x[n, source(o, t), c] · dy[n, o, c]        db[c] = Σ_n Σ_o dy[n, o, c]
    dx[n, i, c] = Σ over the readers (o, t) of i of  dy[n, o, c] · w[t, c]

Vectors run along the channels. The sums of the weight stay in registers: a task has `rows` lines of taps (or a piece
of one) for a block of channels, and goes through its share of all rows of dy, which stays in the L2 for the other
tasks of the share. Two tables tell the sources, one for the rows (all axes but the last; −1 is a line of zeros) and
one for the columns; where the taps of a column follow each other at the dilation, one address serves them all. Shares
are added up in order afterwards, see `weights`.

The gradient to the input goes through a table of each input's readers; it is for strides and paddings with which it is
no ordinary convolution.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from svertka.kernels.emit import I32, I64, Arguments, Emitter, Value
from svertka.kernels.family import Family
from svertka.kernels.target import Target

POINTERS = ("x", "zeros", "dy", "dw", "row_table", "column_table")
NUMBERS = (
    "x_image", "all_rows", "rows", "columns", "row_taps", "inner_first", "inner_last", "start", "share", "chunks",
)  # fmt: skip


@dataclass(frozen=True)
class DepthwiseWeight:
    """What is computed.

    Args:
        channels: of x and dy.
        taps, stride, dilation: of the windows along a row.
        bias: its gradient is wanted, too: a row after the taps.
    """

    channels: int
    taps: int
    stride: int = 1
    dilation: int = 1
    bias: bool = False


@dataclass(frozen=True)
class DepthwiseWeightSchedule:
    """How: `rows` lines of taps × `vectors` in registers; a line of more taps than fit is cut into `pieces`."""

    rows: int
    vectors: int
    pieces: int = 1

    def piece(self, taps: int) -> int:
        """Taps of a piece; the last may have fewer."""
        return -(-taps // self.pieces)


def choose_depthwise_weight(spec: DepthwiseWeight, target: Target, row_taps: int) -> DepthwiseWeightSchedule:
    """The schedule for windows of so many lines of taps: few passes over the rows, little done in vain."""
    best = None
    for vectors in range(1, min(-(-spec.channels // target.lanes), 3) + 1):
        room = (target.registers - 2) // vectors - 1 - int(spec.bias)
        pieces = max(1, -(-spec.taps // room))
        rows = max(1, min(room // spec.taps, row_taps)) if pieces == 1 else 1
        passes = -(-row_taps // rows) * pieces * -(-spec.channels // (vectors * target.lanes))
        work = passes * (rows * spec.taps / pieces * vectors + 1.5 * rows + vectors + 2)
        if best is None or work < best[0]:
            best = work, DepthwiseWeightSchedule(rows, vectors, pieces)
    assert best is not None
    return best[1]


class _WeightWriter:
    def __init__(self, spec: DepthwiseWeight, schedule: DepthwiseWeightSchedule, e: Emitter) -> None:
        self.spec, self.schedule, self.e = spec, schedule, e
        self.width = schedule.vectors * e.lanes
        self.blocks = -(-spec.channels // self.width)

    def write(self, slots: Value, task: Value, _worker: Value) -> None:
        """Task (share · blocks + block of channels) · chunks + chunk; chunk = lines of taps · pieces + piece."""
        e, pieces = self.e, self.schedule.pieces
        self.a = a = Arguments(e, slots, POINTERS, NUMBERS)
        rest, chunk = e.divmod(task, a.chunks)
        share, self.block = e.divmod(rest, self.blocks)
        line, self.piece = e.divmod(chunk, pieces)
        self.first_line = e.mul(line, self.schedule.rows)
        self.sums_bias = e.b.icmp_signed("==", chunk, e.i64(0))
        self.first = e.mul(share, a.share)
        self.last = e.min(e.add(self.first, a.share), a.all_rows)
        self.channel = e.mul(self.block, self.width)
        taps = e.mul(a.row_taps, self.spec.taps)
        place = e.mul(rest, e.add(taps, int(self.spec.bias)))
        self.dw = e.at(a.dw, e.mul(place, self.width))
        self.bias_row = e.mul(taps, self.width)
        piece = self.schedule.piece(self.spec.taps)
        end = self.spec.taps - (pieces - 1) * piece
        rest_of = self.spec.channels - (self.blocks - 1) * self.width

        def by_piece(count: int) -> None:
            self._either(pieces > 1 and end != piece, self.piece, pieces, count, (end, piece))

        if rest_of == self.width or self.blocks == 1:
            by_piece(rest_of)
            return

        def last_block() -> tuple[()]:
            by_piece(rest_of)
            return ()

        def other() -> tuple[()]:
            by_piece(self.width)
            return ()

        e.choose(e.b.icmp_signed("==", self.block, e.i64(self.blocks - 1)), last_block, other)

    def _either(self, differ: bool, piece: Value, pieces: int, count: int, sizes: tuple[int, int]) -> None:
        if not differ:
            self._sum(count, sizes[1])
            return

        def last() -> tuple[()]:
            self._sum(count, sizes[0])
            return ()

        def other() -> tuple[()]:
            self._sum(count, sizes[1])
            return ()

        self.e.choose(self.e.b.icmp_signed("==", piece, self.e.i64(pieces - 1)), last, other)

    def _sum(self, count: int, taps: int) -> None:
        """The task for blocks of `count` channels and pieces of so many taps."""
        e, spec, rows = self.e, self.spec, self.schedule.rows
        self.lanes = [max(0, min(e.lanes, count - v * e.lanes)) for v in range(self.schedule.vectors)]
        vectors = [v for v, lanes in enumerate(self.lanes) if lanes]
        first_tap = e.mul(self.piece, self.schedule.piece(spec.taps))
        total = (rows * taps + spec.bias) * len(vectors)
        acc = e.loop(self.first, self.last, lambda row, *acc: self._row(row, first_tap, taps, acc), self._zeros(total))
        for i in range(rows):
            line = e.add(self.first_line, i)
            place = e.mul(e.add(e.mul(line, spec.taps), first_tap), self.width)

            def keep(i: int = i, place: Value = place) -> None:
                for t in range(taps):
                    for v in vectors:
                        value = acc[(i * taps + t) * len(vectors) + v]
                        e.store_vector(value, self.dw, e.add(place, t * self.width + v * e.lanes))

            e.when(e.b.icmp_signed("<", line, self.a.row_taps), keep)

        def keep_bias() -> None:
            for v in vectors:
                value = acc[rows * taps * len(vectors) + v]
                e.store_vector(value, self.dw, e.add(self.bias_row, v * e.lanes))

        if spec.bias:
            e.when(self.sums_bias, keep_bias)

    def _zeros(self, count: int) -> list[Value]:
        return [self.e.splat(0.0)] * count

    def _row(self, row: Value, first_tap: Value, taps: int, acc: Sequence[Value]) -> list[Value]:
        """Adds a row of dy; rows are counted through all images."""
        e, a, spec = self.e, self.a, self.spec
        image, here = e.divmod(row, a.rows)
        table = e.at(a.row_table, e.mul(here, a.row_taps), I32)
        x = e.at(a.x, e.add(e.mul(image, a.x_image), self.channel))
        zeros = e.at(a.zeros, self.channel)
        dy = e.at(a.dy, e.add(e.mul(e.mul(row, a.columns), spec.channels), self.channel))
        lines = []
        for i in range(self.schedule.rows):
            tap = e.add(self.first_line, i)
            offset = e.b.sext(e.load(table, e.min(tap, e.sub(a.row_taps, 1)), I32), I64)
            nothing = e.b.or_(
                e.b.icmp_signed("<", offset, e.i64(0)), e.b.icmp_signed(">=", tap, self.e.value(a.row_taps))
            )
            lines.append(e.b.select(nothing, zeros, e.at(x, offset)))

        def inside(column: Value, *acc: Value) -> list[Value]:
            first = e.add(e.mul(e.mul(column, spec.stride), spec.channels), a.start)
            first = e.add(first, e.mul(first_tap, spec.dilation * spec.channels))
            step = spec.dilation * spec.channels
            places = [[e.at(e.at(line, first), t * step) for t in range(taps)] for line in lines]
            return self._place(dy, column, places, acc)

        def at_edge(column: Value, *acc: Value) -> list[Value]:
            entries = e.at(a.column_table, e.add(e.mul(column, spec.taps), first_tap), I32)
            offsets = [e.b.sext(e.load(entries, t, I32), I64) for t in range(taps)]
            outside = [e.b.icmp_signed("<", offset, e.i64(0)) for offset in offsets]
            places = [
                [e.b.select(out, zeros, e.at(line, offset)) for out, offset in zip(outside, offsets, strict=True)]
                for line in lines
            ]
            return self._place(dy, column, places, acc)

        acc = e.loop(0, a.inner_first, at_edge, acc)
        acc = e.loop(a.inner_first, a.inner_last, inside, acc)
        return e.loop(a.inner_last, a.columns, at_edge, acc)

    def _place(self, dy: Value, column: Value, places: list[list[Value]], acc: Sequence[Value]) -> list[Value]:
        e = self.e
        here = e.mul(column, self.spec.channels)
        used = [(v, lanes) for v, lanes in enumerate(self.lanes) if lanes]
        row = [e.load_vector(dy, e.add(here, v * e.lanes), lanes) for v, lanes in used]
        result: list[Value] = []
        for line in places:
            for place in line:
                for (v, lanes), value in zip(used, row, strict=True):
                    x = e.load_vector(place, v * e.lanes, lanes)
                    result.append(e.fma(x, value, acc[len(result)]))
        if self.spec.bias:
            result += [e.b.fadd(acc[len(result) + i], value) for i, value in enumerate(row)]
        return result


def _write_weight(
    spec: DepthwiseWeight, schedule: DepthwiseWeightSchedule, e: Emitter, slots: Value, task: Value, worker: Value
) -> None:
    _WeightWriter(spec, schedule, e).write(slots, task, worker)


DEPTHWISE_WEIGHT = Family("depthwise weight gradient", POINTERS, NUMBERS, _write_weight)


@dataclass(frozen=True)
class DepthwiseInput:
    """The gradient to the input of so many channels."""

    channels: int


_WIDEST = 4  # vectors


def _write_input(spec: DepthwiseInput, _: None, e: Emitter, slots: Value, task: Value, _worker: Value) -> None:
    """Task image · parts + part of the inputs."""
    a = Arguments(e, slots, DEPTHWISE_INPUT.pointers, DEPTHWISE_INPUT.numbers)
    image, part = e.divmod(task, a.parts)
    first = e.mul(part, a.part)
    last = e.min(e.add(first, a.part), a.inputs)
    dy = e.at(a.dy, e.mul(image, a.dy_image))
    dx = e.at(a.dx, e.mul(e.mul(image, a.inputs), spec.channels))

    def block(begin: Value, end: Value, target: Value, channel: Value, lanes: Sequence[int]) -> None:
        def reader(index: Value, *acc: Value) -> list[Value]:
            output, tap = (e.b.sext(e.load(a.readers, e.add(e.mul(index, 2), i), I32), I64) for i in range(2))
            row, weights = e.at(e.at(dy, output), channel), e.at(e.at(a.w, tap), channel)
            return [
                e.fma(e.load_vector(row, v * e.lanes, n), e.load_vector(weights, v * e.lanes, n), acc[v])
                for v, n in enumerate(lanes)
            ]

        acc = e.loop(begin, end, reader, [e.splat(0.0)] * len(lanes))
        for v, n in enumerate(lanes):
            e.store_vector(acc[v], target, e.add(channel, v * e.lanes), n)

    def one(place: Value) -> None:
        begin, end = (e.b.sext(e.load(a.starts, e.add(place, i), I32), I64) for i in range(2))
        target = e.at(dx, e.mul(place, spec.channels))
        width = _WIDEST * e.lanes
        whole = spec.channels // width * width
        if whole:
            e.loop(0, whole, lambda c: block(begin, end, target, c, [e.lanes] * _WIDEST), step=width)
        rest = spec.channels - whole
        if rest:
            counts = [min(e.lanes, rest - at) for at in range(0, rest, e.lanes)]
            block(begin, end, target, e.i64(whole), counts)

    e.loop(first, last, one)


DEPTHWISE_INPUT = Family(
    "depthwise input gradient",
    ("dy", "w", "dx", "starts", "readers"),
    ("inputs", "dy_image", "parts", "part"),
    _write_input,
)
