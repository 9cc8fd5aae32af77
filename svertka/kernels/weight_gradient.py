"""The gradient of a dense convolution to its weights: a matrix product over all output places.

    dw[t, c, d] = Σ_n Σ_q x[n, source(q, t), c] · dy[n, q, d]

q runs over output places, t over taps, c over the group's inputs, d over its outputs. The register tile is `inputs` ×
`vectors`: for one place and tap, neighbouring numbers of x are broadcast and multiplied with vectors of dy. The sum
goes over blocks of places, whose dy stays in the cache while all the task's tiles take it; between blocks a tile's sums
lie in memory. Which sums a task does, and in which order, is a matter of shapes alone; where one is cut into splits,
each has a dw of its own, and they are added up in order afterwards, see `weights`: dw is [splits][groups][blocks]
[taps · inputs][width]. The bias' gradient, Σ_n Σ_q dy[n, q, d], is one row more, summed up while dy is copied.

Where a maximum pooling follows, neighbours in the table's order of places are one window, and dy is the pooling's, with
the tap that each took: dy[n, q, d] is dy[n, window of q, d] if that took q, else 0, and lies in the cache alone.

Few-channel convolutions have the taps of a row as inputs of one tap, see `dense`.
"""

from __future__ import annotations

from dataclasses import dataclass

from llvmlite import ir

from svertka.kernels.emit import I32, I64, Arguments, Emitter, Value
from svertka.kernels.family import Family

I8 = ir.IntType(8)
POINTERS = ("x", "zeros", "dy", "taken", "dw", "offsets", "gathers")
NUMBERS = (
    "pixels", "images", "x_image", "taps", "task_taps", "tap_tasks", "groups", "split_size",
    "stored_pixels",
)  # fmt: skip


@dataclass(frozen=True)
class WeightGradient:
    """What is computed.

    Args:
        inputs, outputs: channels of one group; with `runs` the inputs of one run.
        channels: neighbours at one place of dy: the outputs of all groups.
        runs: offsets below −1 say which line of `gathers` tells where each input of a run is.
        bias: its gradient is wanted, too.
        pooled: so many places are a window of a maximum pooling, 1 if none follows; fewer than 128. What was `taken` of
            it is a byte, 255 if nothing.
    """

    inputs: int
    outputs: int
    channels: int
    runs: bool = False
    bias: bool = False
    pooled: int = 1


@dataclass(frozen=True)
class WeightGradientSchedule:
    """How: the register tile, and how many places a block has."""

    inputs: int
    vectors: int
    block: int = 64


class _Writer:
    def __init__(self, spec: WeightGradient, schedule: WeightGradientSchedule, e: Emitter) -> None:
        self.spec, self.schedule, self.e = spec, schedule, e
        self.width = schedule.vectors * e.lanes
        self.blocks = -(-spec.outputs // self.width)
        self.places = max(schedule.block // spec.pooled, 1) * spec.pooled  # of a block

    def write(self, slots: Value, task: Value, _worker: Value) -> None:
        """Task ((split · groups + group) · blocks + block of outputs) · tap_tasks + some of the taps."""
        e = self.e
        self.a = a = Arguments(e, slots, POINTERS, NUMBERS)
        rest, tap_task = e.divmod(task, a.tap_tasks)
        rest, self.block = e.divmod(rest, self.blocks)
        split, group = e.divmod(rest, a.groups)
        self.first_tap = e.mul(tap_task, a.task_taps)
        self.last_tap = e.min(e.add(self.first_tap, a.task_taps), a.taps)
        self.x = e.at(a.x, e.mul(group, 0 if self.spec.runs else self.spec.inputs))
        first_channel = e.add(e.mul(group, self.spec.outputs), e.mul(self.block, self.width))
        self.dy, self.taken = e.at(a.dy, first_channel), e.at(a.taken, first_channel, I8)
        place = e.add(e.mul(e.add(e.mul(split, a.groups), group), self.blocks), self.block)
        rows = e.add(e.mul(a.taps, self.spec.inputs), int(self.spec.bias))
        self.dw = e.at(a.dw, e.mul(e.mul(place, rows), self.width))
        self.patch = e.array(self.spec.inputs) if self.spec.runs else None
        self.panel = e.array(self.places * self.width)
        first = e.mul(split, a.split_size)
        last = e.min(e.add(first, a.split_size), e.mul(a.images, a.pixels))

        def block(begin: Value) -> None:
            self.begin, self.end = begin, e.min(e.add(begin, self.places), last)
            self.images = (
                e.divmod(begin, a.pixels)[0],
                e.divmod(e.add(self.end, e.sub(a.pixels, 1)), a.pixels)[0],
            )
            self.starts = self._is(begin, first)
            self._fill()
            self._tiles()

        e.loop(first, last, block, step=self.places)

    def _is(self, a: Value, b: Value) -> Value:
        return self.e.b.icmp_signed("==", a, self.e.value(b))

    def _fill(self) -> None:
        """Copies the block's dy to the panel [place][width], zeros in place of missing outputs, and sums it up."""
        e, vectors = self.e, self.schedule.vectors

        def copy(count: int) -> None:
            lanes = [max(0, min(e.lanes, count - v * e.lanes)) for v in range(vectors)]

            def window(q: Value, *acc: Value) -> list[Value]:
                row = e.mul(e.divmod(q, self.spec.pooled)[0], self.spec.channels)
                to = e.mul(e.sub(q, self.begin), self.width)
                result = []
                for v in range(vectors):
                    here = e.add(row, v * e.lanes)
                    values = self._of_window(here, lanes[v]) if lanes[v] else [e.splat(0.0)] * self.spec.pooled
                    for k, value in enumerate(values):
                        e.store_vector(value, self.panel, e.add(to, k * self.width + v * e.lanes))
                    result += [e.sum([acc[v], *values])] if self.spec.bias else []
                return result

            if not self.spec.bias:
                e.loop(self.begin, self.end, window, step=self.spec.pooled)
                return
            sums = e.at(self.dw, e.mul(e.mul(self.a.taps, self.spec.inputs), self.width))
            acc = e.loop(self.begin, self.end, window, self._loaded(sums, vectors), step=self.spec.pooled)

            def keep() -> None:
                for v, value in enumerate(acc):
                    e.store_vector(value, sums, v * e.lanes)

            e.when(self._is(self.first_tap, 0), keep)

        rest = self.spec.outputs - (self.blocks - 1) * self.width
        if self.blocks == 1 or rest == self.width:
            copy(rest)
            return

        def some() -> tuple[()]:
            copy(rest)
            return ()

        def all_of_them() -> tuple[()]:
            copy(self.width)
            return ()

        e.choose(self._is(self.block, self.blocks - 1), some, all_of_them)

    def _of_window(self, here: Value, lanes: int) -> list[Value]:
        """dy of the places of a window."""
        e, pooled = self.e, self.spec.pooled
        dy = e.load_vector(self.dy, here, lanes)
        if pooled == 1:
            return [dy]
        taken = e.load_vector(self.taken, here, lanes, ir.VectorType(I8, e.lanes))
        here_taken = [e.b.icmp_signed("==", taken, ir.Constant(taken.type, [k] * e.lanes)) for k in range(pooled)]
        return [e.b.select(of_place, dy, e.splat(0.0)) for of_place in here_taken]

    def _loaded(self, sums: Value, count: int) -> list[Value]:
        """So many vectors of what was added up so far: nothing, in the first block."""
        e = self.e
        return e.choose(
            self.starts,
            lambda: [e.splat(0.0)] * count,
            lambda: [e.load_vector(sums, i * e.lanes) for i in range(count)],
        )

    def _tiles(self) -> None:
        """Adds the block's places to all tiles of inputs."""
        e, tile, inputs = self.e, self.schedule.inputs, self.spec.inputs
        whole = inputs // tile * tile

        def tap(index: Value) -> None:
            table = e.at(self.a.offsets, e.mul(index, self.a.stored_pixels), I32)
            sums = e.at(self.dw, e.mul(index, inputs * self.width))

            def several(c: Value, count: int) -> None:
                self._tile(table, e.at(sums, e.mul(c, self.width)), c, count)

            if whole:
                e.loop(0, whole, lambda c: several(c, tile), step=tile)
            if inputs > whole:
                several(e.i64(whole), inputs - whole)

        e.loop(self.first_tap, self.last_tap, tap)

    def _tile(self, table: Value, sums: Value, c: Value, count: int) -> None:
        e, a, vectors = self.e, self.a, self.schedule.vectors

        def image(number: Value, *acc: Value) -> list[Value]:
            begin = e.mul(number, a.pixels)
            start = e.b.select(e.b.icmp_signed(">", self.begin, begin), self.begin, begin)
            stop = e.min(self.end, e.add(begin, a.pixels))
            x = e.at(self.x, e.mul(number, a.x_image))
            panel = e.at(self.panel, e.mul(e.sub(begin, self.begin), self.width))

            def place(q: Value, *acc: Value) -> list[Value]:
                here = e.mul(q, self.width)
                row = [e.load_vector(panel, e.add(here, v * e.lanes)) for v in range(vectors)]
                source = self._source(x, e.load(table, q, I32))
                result: list[Value] = []
                for i in range(count):
                    number = e.splat(e.load(source, e.add(c, i)))
                    result += [e.fma(number, row[v], acc[i * vectors + v]) for v in range(vectors)]
                return result

            return e.loop(e.sub(start, begin), e.sub(stop, begin), place, acc)

        acc = e.loop(*self.images, image, self._loaded(sums, count * vectors))
        for i, value in enumerate(acc):
            e.store_vector(value, sums, i * e.lanes)

    def _source(self, x: Value, offset: Value) -> Value:
        e = self.e
        outside = e.b.icmp_signed("<", offset, ir.Constant(I32, 0))
        source = e.b.select(outside, self.a.zeros, e.at(x, e.b.sext(offset, I64)))
        if not self.spec.runs:
            return source

        def gathered() -> list[Value]:
            line = e.b.sext(e.b.sub(ir.Constant(I32, -2), offset), I64)
            places = e.at(self.a.gathers, e.mul(line, self.spec.inputs), I32)

            def one(i: Value) -> None:
                place = e.load(places, i, I32)
                inside = e.b.icmp_signed(">=", place, ir.Constant(I32, 0))
                address = e.b.select(inside, e.at(x, e.b.sext(place, I64)), self.a.zeros)
                e.store(e.load(address), self.patch, i)

            e.loop(0, self.spec.inputs, one)
            return [self.patch]

        mixed = e.b.icmp_signed("<", offset, ir.Constant(I32, -1))
        return e.choose(mixed, gathered, lambda: [source])[0]


def _write(
    spec: WeightGradient, schedule: WeightGradientSchedule, e: Emitter, slots: Value, task: Value, worker: Value
) -> None:
    _Writer(spec, schedule, e).write(slots, task, worker)


WEIGHT_GRADIENT = Family("weight gradient", POINTERS, NUMBERS, _write)
