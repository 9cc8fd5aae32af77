"""Dense convolution as a matrix product whose left factor is read through the index map.

    y[q, d] = epilogue(Σ_t Σ_c  x[source(q, t), c] · w[t, c, d])

q runs over output pixels, t over taps, c over the group's inputs, d over its outputs. `source(q, t)` is the window's
index map as a table of offsets, so that one kernel serves every kernel size, stride, dilation, number of axes and
padding mode, transposed convolutions (a phase at a time), 1×1 convolutions and linear layers. A tap outside reads a
line of zeros.

The register tile is `pixels` × `vectors`: each of x's numbers is broadcast and multiplied with `vectors` vectors of w.
Weights are packed [groups][blocks][taps][inputs][vectors · lanes], zeros in place of missing outputs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from llvmlite import ir

from svertka.kernels.emit import I32, I64, Arguments, Emitter, Value
from svertka.kernels.epilogue import COSTLY, NOTHING, Epilogue, activate
from svertka.kernels.family import Family
from svertka.kernels.target import Target
from svertka.kernels.transpose import transposed

POINTERS = ("x", "zeros", "w", "y", "offsets", "places", "bias", "scale", "residual")
Sums: TypeAlias = Callable[[int, int], Value]
_SHORT = 8  # a loop of so few turns is written out
NUMBERS = ("pixels", "stored_pixels", "x_image", "y_image", "taps", "groups", "pixel_tasks", "output_tasks")


@dataclass(frozen=True)
class Dense:
    """What is computed: all of it that the machine code depends on.

    Args:
        inputs, outputs: channels of one group.
        epilogue: see there; bias and scale are padded to whole blocks.
        planes: y is [outputs, pixels] for each image, not [pixels, outputs]; the places are all, in order.
        pooled: so many neighbours in the table's order of pixels are one window of a maximum, of which only the
            largest is stored (after the activation).
    """

    inputs: int
    outputs: int
    epilogue: Epilogue = NOTHING
    pooled: int = 1
    planes: bool = False


@dataclass(frozen=True)
class DenseSchedule:
    """How it is computed.

    Args:
        pixels, vectors: the register tile.
        tiles: tiles of pixels in a task.
        blocks: blocks of vectors · lanes outputs in a task.
        block_taps, block_inputs: the part of the sum that is added up before the next tile's turn, so that its weights
            stay in the cache; sums go to memory in between. 0 means all.
        ahead: the weights so many floats on are asked for in advance.
    """

    pixels: int
    vectors: int
    tiles: int = 8
    blocks: int = 1
    block_taps: int = 0
    block_inputs: int = 0
    ahead: int = 0

    def __str__(self) -> str:
        return f"{self.pixels}×{self.vectors}"


def blocks_of(spec: Any, schedule: Any, target: Target) -> int:
    """The number of blocks that a group's outputs make."""
    return int(-(-spec.outputs // (schedule.vectors * target.lanes)))


class DenseKernel:
    """Writes the task of a spec and a schedule."""

    def __init__(self, spec: Dense, schedule: DenseSchedule, e: Emitter) -> None:
        self.spec, self.schedule, self.e = spec, schedule, e
        self.width = schedule.vectors * e.lanes
        self.blocks = blocks_of(spec, schedule, e.target)
        self.split = bool(schedule.block_taps or schedule.block_inputs)

    def write(self, slots: Value, task: Value, _worker: Value) -> None:
        """Task (((image · groups + group) · pixel_tasks) + pixels' part) · output_tasks + outputs' part."""
        e, schedule = self.e, self.schedule
        self.a = Arguments(e, slots, POINTERS, NUMBERS)
        rest, output_task = e.divmod(task, self.a.output_tasks)
        rest, pixel_task = e.divmod(rest, self.a.pixel_tasks)
        image, group = e.divmod(rest, self.a.groups)
        first = e.mul(pixel_task, schedule.tiles * schedule.pixels)
        last = e.min(e.add(first, schedule.tiles * schedule.pixels), self.a.pixels)
        first_block = e.mul(output_task, schedule.blocks)
        last_block = e.min(e.add(first_block, schedule.blocks), self.blocks)
        self.x = e.at(self.a.x, e.add(e.mul(image, self.a.x_image), e.mul(group, self.spec.inputs)))
        self.image_place = e.add(e.mul(image, self.a.y_image), e.mul(group, self.spec.outputs))
        self.image_channel = e.mul(e.add(e.mul(image, self.a.groups), group), self.spec.outputs)
        self.group_block = e.mul(group, self.blocks)
        kept = self.split or self.spec.planes
        self.sums = e.array(schedule.tiles * schedule.pixels * self.width) if kept else None
        self.first = first

        def block(index: Value) -> None:
            self._parts(index, first, last)
            if self.spec.planes:
                self._turn(index, *(e.divmod(pixel, self.spec.pooled)[0] for pixel in (first, last)))

        e.loop(first_block, last_block, block)

    def _parts(self, block: Value, first: Value, last: Value) -> None:
        """All parts of the sum, one after the other, for all tiles."""
        e, schedule, inputs = self.e, self.schedule, self.spec.inputs
        if not self.split:
            self._tiles(block, first, last, (0, self.a.taps), (0, inputs), None, None)
            return
        step = schedule.block_inputs or inputs

        def part_of_taps(tap: Value) -> None:
            end = e.min(e.add(tap, schedule.block_taps or 1), self.a.taps)

            def part_of_inputs(channel: Value) -> None:
                stop = e.min(e.add(channel, step), inputs)
                begins = e.b.and_(self._is(tap, 0), self._is(channel, 0))
                ends = e.b.and_(self._is(end, self.a.taps), self._is(stop, inputs))
                self._tiles(block, first, last, (tap, end), (channel, stop), begins, ends)

            e.loop(0, inputs, part_of_inputs, step=step)

        e.loop(0, self.a.taps, part_of_taps, step=schedule.block_taps or 1)

    def _is(self, a: Value, b: int | Value) -> Value:
        return self.e.b.icmp_signed("==", a, self.e.value(b))

    def _tiles(
        self,
        block: Value,
        first: Value,
        last: Value,
        taps: tuple[Value, Value],
        inputs: tuple[Value, Value],
        begins: Value | None,
        ends: Value | None,
    ) -> None:
        """One part of the sum for each tile; `begins` and `ends` say whether it is the first and the last part."""
        e, schedule = self.e, self.schedule

        def tile(pixel: Value) -> None:
            place = e.mul(e.sub(pixel, first), self.width)
            acc = self._start(begins, place)
            acc = self._sum(block, pixel, taps, inputs, acc)
            if ends is None:
                self._finish(block, pixel, last, acc)
                return

            def keep() -> tuple[()]:
                for index, value in enumerate(acc):
                    e.store_vector(value, self.sums, e.add(place, index * e.lanes))
                return ()

            def finish() -> tuple[()]:
                self._finish(block, pixel, last, acc)
                return ()

            e.choose(ends, finish, keep)

        e.loop(first, last, tile, step=schedule.pixels)

    def _start(self, begins: Value | None, place: Value) -> list[Value]:
        e, count = self.e, self.schedule.pixels * self.schedule.vectors
        zeros = [e.splat(0.0)] * count
        if begins is None:
            return zeros
        return e.choose(
            begins, lambda: zeros, lambda: [e.load_vector(self.sums, e.add(place, i * e.lanes)) for i in range(count)]
        )

    def _sum(
        self, block: Value, pixel: Value, taps: tuple[Value, Value], inputs: tuple[Value, Value], acc: list[Value]
    ) -> list[Value]:
        """The tile's sum over a range of taps and inputs, added to `acc`."""
        e, pixels, vectors = self.e, self.schedule.pixels, self.schedule.vectors
        row = e.mul(e.add(self.group_block, block), self.a.taps)

        def tap(index: Value, *acc: Value) -> list[Value]:
            sources = self._sources(index, pixel)
            weights = e.at(self.a.w, e.mul(e.mul(e.add(row, index), self.spec.inputs), self.width))

            def channel(c: Value, *acc: Value) -> list[Value]:
                column = [e.load_vector(weights, e.add(e.mul(c, self.width), v * e.lanes)) for v in range(vectors)]
                if self.schedule.ahead:
                    for v in range(0, self.width, 16):
                        e.prefetch(weights, e.add(e.mul(c, self.width), v + self.schedule.ahead))
                result: list[Value] = []
                for p in range(pixels):
                    x = e.splat(e.load(sources[p], c))
                    result += [e.fma(x, column[v], acc[p * vectors + v]) for v in range(vectors)]
                return result

            if (
                self.spec.inputs <= _SHORT and not self.schedule.block_inputs
            ):  # an inner loop of so few turns would cost more than it does
                values = list(acc)
                for c in range(self.spec.inputs):
                    values = channel(e.i64(c), *values)
                return values
            return e.loop(inputs[0], inputs[1], channel, acc)

        return e.loop(taps[0], taps[1], tap, acc)

    def _sources(self, tap: Value, pixel: Value) -> list[Value]:
        """The addresses from which the tile's pixels read, by the tap's line of the table of offsets."""
        e = self.e
        table = e.at(self.a.offsets, e.add(e.mul(tap, self.a.stored_pixels), pixel), I32)
        return [self._source(e.load(table, p, I32)) for p in range(self.schedule.pixels)]

    def _source(self, offset: Value) -> Value:
        e = self.e
        outside = e.b.icmp_signed("<", offset, ir.Constant(I32, 0))
        return e.b.select(outside, self.a.zeros, e.at(self.x, e.b.sext(offset, I64)))

    def _finish(self, block: Value, pixel: Value, last: Value | None, acc: list[Value]) -> None:
        """Epilogue and store; the last block's missing outputs and pixels from `last` on are left out."""
        e, vectors = self.e, self.schedule.vectors
        channel = e.mul(block, self.width)
        padded = e.add(e.mul(self.group_block, self.width), channel)
        epilogue = self.spec.epilogue
        scale = [e.load_vector(self.a.scale, e.add(padded, v * e.lanes)) for v in range(vectors) if epilogue.scale]
        bias = [e.load_vector(self.a.bias, e.add(padded, v * e.lanes)) for v in range(vectors) if epilogue.bias]

        def stored(count: int) -> None:
            def window(p: int | Value, sums: Sums) -> None:
                here = e.add(pixel, p)
                if last is None:
                    self._store(here, channel, sums, count, scale, bias)
                    return
                inside = e.b.icmp_signed("<", here, last)
                e.when(inside, lambda: self._store(here, channel, sums, count, scale, bias))

            if epilogue.activation and epilogue.activation.name in COSTLY:
                self._one_by_one(acc, window)
                return
            for p in range(0, self.schedule.pixels, self.spec.pooled):
                window(p, lambda k, v, p=p: acc[(p + k) * vectors + v])  # type: ignore[misc]

        missing = self.blocks * self.width - self.spec.outputs
        if not missing or (self.spec.planes and not epilogue.residual):
            stored(self.width)  # in planes' sums there is room for all
        elif self.blocks == 1:
            stored(self.spec.outputs)
        else:
            full, part = self.width, self.width - missing

            def all_of_it() -> tuple[()]:
                stored(full)
                return ()

            def a_part() -> tuple[()]:
                stored(part)
                return ()

            e.choose(self._is(block, self.blocks - 1), a_part, all_of_it)

    def _one_by_one(self, acc: list[Value], window: Callable[[Value, Sums], None]) -> None:
        """The windows of a tile in a loop over sums in memory: the code of a costly activation stands there once."""
        e, vectors = self.e, self.schedule.vectors
        tile = e.array(len(acc) * e.lanes)
        for index, value in enumerate(acc):
            e.store_vector(value, tile, index * e.lanes)

        def body(p: Value) -> None:
            first = e.at(tile, e.mul(p, self.width))
            window(p, lambda k, v: e.load_vector(first, (k * vectors + v) * e.lanes))

        e.loop(0, self.schedule.pixels, body, step=self.spec.pooled)

    def _store(
        self, pixel: Value, channel: Value, sums: Sums, count: int, scale: list[Value], bias: list[Value]
    ) -> None:
        """Epilogue and store of one window: sums(k, v) is vector v of its pixel k."""
        e, vectors, epilogue = self.e, self.schedule.vectors, self.spec.epilogue
        output = e.divmod(pixel, self.spec.pooled)[0]
        place = e.add(e.add(self.image_place, self._place(output)), channel)
        y, target = self.a.y, place
        if self.spec.planes:
            y, target = self.sums, e.mul(e.sub(output, e.divmod(self.first, self.spec.pooled)[0]), self.width)
        for v in range(vectors):
            lanes = min(e.lanes, count - v * e.lanes)
            if lanes <= 0:
                break
            values = []
            for k in range(self.spec.pooled):
                value = sums(k, v)
                if epilogue.scale:
                    value = e.fma(value, scale[v], bias[v]) if epilogue.bias else e.b.fmul(value, scale[v])
                elif epilogue.bias:
                    value = e.b.fadd(value, bias[v])
                if epilogue.residual:
                    value = e.b.fadd(value, e.load_vector(self.a.residual, e.add(place, v * e.lanes), lanes))
                values.append(activate(e, epilogue.activation, value))
            largest = values[0]
            for value in values[1:]:
                largest = e.maximum(largest, value)
            e.store_vector(largest, y, e.add(target, v * e.lanes), lanes)

    def _place(self, output: Value) -> Value:
        """Where an output's channels begin in its image."""
        return self.e.b.sext(self.e.load(self.a.places, output, I32), I64)

    def _plane(self) -> Value:
        """Places of an image."""
        return self.e.divmod(self.a.pixels, self.spec.pooled)[0]

    def _turn(self, block: Value, first: Value, last: Value) -> None:
        """From [outputs, channels] in `sums` to [channels, outputs] in y.

        Squares of lanes × lanes become rows in the cache, and each row then goes to memory in one piece: planes often
        are a multiple of 4096 bytes apart, so that a line of each would fall on the same place of the cache.
        """
        e, lanes, most = self.e, self.e.lanes, self.schedule.tiles * self.schedule.pixels
        plane = self._plane()
        channel = e.mul(block, self.width)
        y = e.at(self.a.y, e.add(e.mul(e.add(self.image_channel, channel), plane), first))
        count, channels = e.sub(last, first), e.min(e.sub(self.spec.outputs, channel), self.width)
        whole, row = e.mul(e.divmod(count, lanes)[0], lanes), -(-most // lanes) * lanes
        rows = e.array(row * lanes)

        def square(c: Value, p: Value) -> None:
            values = [e.load_vector(self.sums, e.add(e.mul(e.add(p, i), self.width), c)) for i in range(lanes)]
            for i, value in enumerate(transposed(e, values)):
                e.store_vector(value, rows, e.add(i * row, p))

        def write(c: Value, i: Value) -> None:
            target, source = e.at(y, e.mul(e.add(c, i), plane)), e.at(rows, e.mul(i, row))
            e.loop(0, whole, lambda p: e.store_vector(e.load_vector(source, p), target, p), step=lanes)
            rest = e.at(self.sums, e.add(c, i))
            e.loop(whole, count, lambda p: e.store(e.load(rest, e.mul(p, self.width)), target, p))

        def squares(c: Value) -> None:
            e.loop(0, whole, lambda p: square(c, p), step=lanes)
            e.loop(0, e.min(e.sub(channels, c), lanes), lambda i: write(c, i))

        e.loop(0, channels, squares, step=lanes)


def _write(spec: Dense, schedule: DenseSchedule, e: Emitter, slots: Value, task: Value, worker: Value) -> None:
    DenseKernel(spec, schedule, e).write(slots, task, worker)


DENSE = Family("dense", POINTERS, NUMBERS, _write)
