"""The gradient of a dense convolution to its weights: a matrix product over all output places.

    dw[t, c, d] = Σ_n Σ_q x[n, source(q, t), c] · dy[n, q, d]

q runs over output places, t over taps, c over the group's inputs, d over its outputs. The register tile is `inputs` ×
`vectors`: for one place and tap, neighbouring numbers of x are broadcast and multiplied with vectors of dy. The sum
goes over blocks of places, whose dy stays in the cache while all the task's tiles take it; between blocks a tile's sums
lie in memory. Which sums a task does, and in which order, is a matter of shapes alone; where one is cut into splits,
each has a dw of its own, and they are added up in order afterwards.

Few-channel convolutions have the taps of a row as inputs of one tap, see `dense`.
"""

from __future__ import annotations

from dataclasses import dataclass

from llvmlite import ir

from svertka.kernels.emit import I32, I64, Arguments, Emitter, Value
from svertka.kernels.family import Family

POINTERS = ("x", "zeros", "dy", "dw", "offsets", "gathers")
NUMBERS = (
    "pixels", "images", "x_image", "dy_image", "taps", "task_taps", "tap_tasks", "groups", "split_size",
    "stored_pixels",
)  # fmt: skip


@dataclass(frozen=True)
class WeightGradient:
    """What is computed.

    Args:
        inputs, outputs: channels of one group; with `runs` the inputs of one run.
        channels: neighbours at one place of dy: the outputs of all groups.
        runs: offsets below −1 say which line of `gathers` tells where each input of a run is.
    """

    inputs: int
    outputs: int
    channels: int
    runs: bool = False


@dataclass(frozen=True)
class WeightGradientSchedule:
    """How: the register tile, and how many places a block has."""

    inputs: int
    vectors: int
    block: int = 128


class _Writer:
    def __init__(self, spec: WeightGradient, schedule: WeightGradientSchedule, e: Emitter) -> None:
        self.spec, self.schedule, self.e = spec, schedule, e
        self.width = schedule.vectors * e.lanes
        self.blocks = -(-spec.outputs // self.width)

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
        self.dy = e.at(a.dy, e.add(e.mul(group, self.spec.outputs), e.mul(self.block, self.width)))
        place = e.add(e.mul(e.add(e.mul(split, a.groups), group), self.blocks), self.block)
        self.dw = e.at(a.dw, e.mul(e.mul(place, a.taps), self.spec.inputs * self.width))
        self.patch = e.array(self.spec.inputs) if self.spec.runs else None
        first = e.mul(split, a.split_size)
        last = e.min(e.add(first, a.split_size), e.mul(a.images, a.pixels))

        def image(number: Value) -> None:
            begin = e.mul(number, a.pixels)
            start = e.b.select(e.b.icmp_signed(">", first, begin), first, begin)
            stop = e.min(last, e.add(begin, a.pixels))

            def block(place: Value) -> None:
                end = e.min(e.add(place, self.schedule.block), stop)
                self._tiles(number, e.sub(place, begin), e.sub(end, begin), self._is(place, first))

            e.loop(start, stop, block, step=self.schedule.block)

        images = e.divmod(e.add(last, e.sub(a.pixels, 1)), a.pixels)[0]
        e.loop(e.divmod(first, a.pixels)[0], images, image)

    def _is(self, a: Value, b: Value) -> Value:
        return self.e.b.icmp_signed("==", a, b)

    def _tiles(self, image: Value, begin: Value, end: Value, starts: Value) -> None:
        """Adds the places begin … end of one image to all tiles of inputs; the first block of all starts from 0."""
        e, tile, inputs = self.e, self.schedule.inputs, self.spec.inputs
        x = e.at(self.x, e.mul(image, self.a.x_image))
        dy = e.at(self.dy, e.mul(image, self.a.dy_image))
        whole = inputs // tile * tile

        def tap(index: Value) -> None:
            table = e.at(self.a.offsets, e.mul(index, self.a.stored_pixels), I32)
            sums = e.at(self.dw, e.mul(index, inputs * self.width))

            def several(c: Value, count: int) -> None:
                here = e.at(sums, e.mul(c, self.width))
                self._tile((x, dy, table, here), c, count, (begin, end), starts)

            if whole:
                e.loop(0, whole, lambda c: several(c, tile), step=tile)
            if inputs > whole:
                several(e.i64(whole), inputs - whole)

        e.loop(self.first_tap, self.last_tap, tap)

    def _tile(
        self, arrays: tuple[Value, ...], c: Value, count: int, places: tuple[Value, Value], starts: Value
    ) -> None:
        e, vectors = self.e, self.schedule.vectors
        x, dy, table, sums = arrays
        zeros = [e.splat(0.0)] * (count * vectors)
        acc = e.choose(
            starts, lambda: zeros, lambda: [e.load_vector(sums, i * e.lanes) for i in range(count * vectors)]
        )

        def step(part: int, acc: list[Value]) -> list[Value]:
            def place(q: Value, *acc: Value) -> list[Value]:
                row = self._dy(dy, q, part)
                source = self._source(x, e.load(table, q, I32))
                result: list[Value] = []
                for i in range(count):
                    number = e.splat(e.load(source, e.add(c, i)))
                    result += [e.fma(number, row[v], acc[i * vectors + v]) for v in range(vectors)]
                return result

            return e.loop(places[0], places[1], place, acc)

        rest = self.spec.outputs - (self.blocks - 1) * self.width
        if rest == self.width:
            acc = step(self.width, acc)
        elif self.blocks == 1:
            acc = step(rest, acc)
        else:
            lasts = self._is(self.block, e.i64(self.blocks - 1))
            full = acc
            acc = e.choose(lasts, lambda: step(rest, full), lambda: step(self.width, full))
        for i, value in enumerate(acc):
            e.store_vector(value, sums, i * e.lanes)

    def _dy(self, dy: Value, q: Value, count: int) -> list[Value]:
        e = self.e
        here = e.mul(q, self.spec.channels)
        found = []
        for v in range(self.schedule.vectors):
            lanes = min(e.lanes, count - v * e.lanes)
            found.append(e.load_vector(dy, e.add(here, v * e.lanes), lanes) if lanes > 0 else e.splat(0.0))
        return found

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
