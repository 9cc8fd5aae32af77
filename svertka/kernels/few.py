"""Convolution of few channels (first layers) as a matrix product on lines that are padded in the cache.

    y[l, o, d] = epilogue(Σ_t Σ_i  line(l, t)[o · stride · C + i] · w[t, i, d])

l runs over lines of the output (a row of its last axis), o along a line, t over the window's taps on the other axes,
and i over the run of numbers that its taps along the line read: taps · C neighbours, all channels of a place side by
side. A task copies the lines of x that some lines of y read to the stack, with their padding in place, by a table of
the index map. From there each tile of pixels reads at fixed distances: no address is looked up, and no edge is special.

A line whose length no tile divides ends in a tile that begins earlier: the same numbers are stored twice.
"""

from __future__ import annotations

from dataclasses import dataclass

from svertka.kernels.dense import DenseKernel, blocks_of
from svertka.kernels.emit import I32, I64, Arguments, Emitter, Value
from svertka.kernels.epilogue import NOTHING, Epilogue
from svertka.kernels.family import Family

POINTERS = ("x", "w", "y", "lines", "rows", "positions", "bias", "scale", "residual")
NUMBERS = (
    "x_image", "x_channel", "y_image", "line_tasks", "task_lines", "all_lines", "chunks", "chunk_places",
    "line_places", "slots", "length", "pitch", "taps",
)  # fmt: skip
ROOM = 1 << 14  # floats for the lines of a task


@dataclass(frozen=True)
class Few:
    """What is computed: all of it that the machine code depends on.

    Args:
        inputs: channels of x.
        outputs: channels of y.
        row: taps along a line.
        stride: along a line.
        epilogue: see there; bias and scale are padded to whole blocks.
        pool: (lines, places) of a window of which only the maximum is stored (after the activation).
        apart: x is [inputs, lines, places], else [lines, places, inputs].
        planes: y is [outputs, lines, places], else [lines, places, outputs].
    """

    inputs: int
    outputs: int
    row: int
    stride: int
    epilogue: Epilogue = NOTHING
    pool: tuple[int, int] = (1, 1)
    apart: bool = False
    planes: bool = False

    @property
    def pooled(self) -> int:
        """Pixels of a pooling window."""
        return self.pool[0] * self.pool[1]


@dataclass(frozen=True)
class FewSchedule:
    """How it is computed.

    Args:
        pixels, vectors: the register tile; whole pooling windows, and no more pixels than a line has.
        tiles: the most tiles of pixels in a task.
    """

    pixels: int
    vectors: int
    tiles: int = 8

    def __str__(self) -> str:
        return f"{self.pixels}×{self.vectors}"


class FewKernel(DenseKernel):
    """Writes the task of a spec and a schedule."""

    spec: Few  # type: ignore[assignment]
    schedule: FewSchedule  # type: ignore[assignment]

    def __init__(self, spec: Few, schedule: FewSchedule, e: Emitter) -> None:
        self.spec, self.schedule, self.e = spec, schedule, e
        self.width = schedule.vectors * e.lanes
        self.blocks = blocks_of(spec, schedule, e.target)

    def write(self, slots: Value, task: Value, _worker: Value) -> None:
        """Task (image · line_tasks + lines' part) · chunks + chunk."""
        e, spec = self.e, self.spec
        self.a = a = Arguments(e, slots, POINTERS, NUMBERS)
        rest, chunk = e.divmod(task, a.chunks)
        image, part = e.divmod(rest, a.line_tasks)
        self.scratch = e.array(ROOM)
        self._fill(e.at(a.x, e.mul(image, a.x_image)), part, chunk)
        first_line = e.mul(part, a.task_lines)
        last_line = e.min(e.add(first_line, a.task_lines), a.all_lines)
        self.chunk_place = e.min(e.mul(chunk, a.chunk_places), e.sub(a.line_places, a.chunk_places))
        self.image_place, self.image_channel = e.mul(image, a.y_image), e.mul(image, spec.outputs)
        self.group_block = e.i64(0)
        self.sums = e.array(self.schedule.tiles * self.schedule.pixels * self.width) if spec.planes else None
        first_place = e.add(e.mul(first_line, a.line_places), self.chunk_place)
        count = e.mul(e.sub(last_line, first_line), a.chunk_places)
        self.first = e.mul(first_place, spec.pooled)

        def block(index: Value) -> None:
            e.loop(first_line, last_line, lambda line: self._line(index, line))
            if spec.planes:
                self._turn(index, first_place, e.add(first_place, count))

        e.loop(0, self.blocks, block)

    def _line(self, block: Value, line: Value) -> None:
        e, a, windows = self.e, self.a, self.schedule.pixels // self.spec.pooled
        place = e.add(e.mul(line, a.line_places), self.chunk_place)

        def tile(start: Value) -> None:
            start = e.min(start, e.sub(a.chunk_places, windows))
            acc = self._tile(block, line, start)
            self._finish(block, e.mul(e.add(place, start), self.spec.pooled), None, acc)

        e.loop(0, a.chunk_places, tile, step=windows)

    def _tile(self, block: Value, line: Value, start: Value) -> list[Value]:
        """The sums of a tile that begins at place `start` of a line's chunk."""
        e, a, spec, vectors = self.e, self.a, self.spec, self.schedule.vectors
        run = spec.row * spec.inputs
        step = spec.stride * spec.inputs  # from pixel to pixel
        column = e.at(self.scratch, e.mul(start, spec.pool[1] * step))

        def tap(index: Value, *acc: Value) -> list[Value]:
            offsets = [
                e.load(a.rows, e.add(e.mul(e.add(e.mul(line, spec.pool[0]), i), a.taps), index), I32)
                for i in range(spec.pool[0])
            ]
            sources = [e.at(column, e.b.sext(offset, I64)) for offset in offsets]
            weights = e.at(a.w, e.mul(e.add(e.mul(block, a.taps), index), run * self.width))

            def number(i: Value, *acc: Value) -> list[Value]:
                vector = [e.load_vector(weights, e.add(e.mul(i, self.width), v * e.lanes)) for v in range(vectors)]
                result: list[Value] = []
                for p in range(self.schedule.pixels):
                    window, k = divmod(p, spec.pooled)
                    above, beside = divmod(k, spec.pool[1])
                    x = e.load(sources[above], e.add(i, (window * spec.pool[1] + beside) * step))
                    result += [e.fma(e.splat(x), vector[v], acc[p * vectors + v]) for v in range(vectors)]
                return result

            # A loop even if it is short: neighbouring turns, written out, share numbers, and would keep too many.
            return e.loop(0, run, number, acc)

        return e.loop(0, a.taps, tap, [e.splat(0.0)] * (self.schedule.pixels * vectors))

    def _fill(self, x: Value, part: Value, chunk: Value) -> None:
        """Copies the lines that the task reads to the stack."""
        e, a = self.e, self.a
        positions = e.at(a.positions, e.mul(chunk, e.add(a.length, 2)), I32)
        begin, count = (e.b.sext(e.load(positions, i, I32), I64) for i in range(2))
        positions = e.at(positions, 2, I32)
        source = e.b.sext(e.load(positions, begin, I32), I64)
        end = e.add(begin, count)

        def fill(slot: Value) -> None:
            target = e.at(self.scratch, e.mul(slot, a.pitch))
            offset = e.b.sext(e.load(a.lines, e.add(e.mul(part, a.slots), slot), I32), I64)

            def copy() -> tuple[()]:
                line = e.at(x, offset)
                self._middle(line, source, e.at(target, e.mul(begin, self.spec.inputs)), count)
                for low, high in ((0, begin), (end, a.length)):
                    e.loop(low, high, lambda place: self._edge(line, positions, target, place))
                return ()

            def clear() -> tuple[()]:
                e.loop(0, a.pitch, lambda i: e.store_vector(e.splat(0.0), target, i), step=e.lanes)
                return ()

            e.choose(e.b.icmp_signed("<", offset, e.i64(0)), clear, copy)

        e.loop(0, a.slots, fill)

    def _middle(self, line: Value, source: Value, target: Value, count: Value) -> None:
        """Copies `count` places that follow each other, from place `source` on."""
        e, inputs = self.e, self.spec.inputs
        if inputs == 1 or not self.spec.apart:
            begin, numbers = e.at(line, e.mul(source, inputs)), e.mul(count, inputs)
            whole = e.mul(e.divmod(numbers, e.lanes)[0], e.lanes)
            e.loop(0, whole, lambda i: e.store_vector(e.load_vector(begin, i), target, i), step=e.lanes)
            e.loop(whole, numbers, lambda i: e.store(e.load(begin, i), target, i))
            return

        def place(i: Value) -> None:
            for c in range(inputs):
                e.store(e.load(self._number(line, e.add(source, i), c)), target, e.add(e.mul(i, inputs), c))

        e.loop(0, count, place)

    def _edge(self, line: Value, positions: Value, target: Value, place: Value) -> None:
        """Copies one place, or writes zeros where the table has none."""
        e, inputs = self.e, self.spec.inputs
        source = e.b.sext(e.load(positions, place, I32), I64)
        outside = e.b.icmp_signed("<", source, e.i64(0))
        there = e.b.select(outside, e.i64(0), source)
        for c in range(inputs):
            value = e.b.select(outside, e.f32(0.0), e.load(self._number(line, there, c)))
            e.store(value, target, e.add(e.mul(place, inputs), c))

    def _number(self, line: Value, place: Value, channel: int) -> Value:
        e = self.e
        if self.spec.apart:
            return e.at(e.at(line, e.mul(self.a.x_channel, channel)), place)
        return e.at(line, e.add(e.mul(place, self.spec.inputs), channel))

    def _place(self, output: Value) -> Value:
        return self.e.mul(output, self.spec.outputs)

    def _plane(self) -> Value:
        return self.e.mul(self.a.all_lines, self.a.line_places)


def _write(spec: Few, schedule: FewSchedule, e: Emitter, slots: Value, task: Value, worker: Value) -> None:
    FewKernel(spec, schedule, e).write(slots, task, worker)


FEW = Family("few", POINTERS, NUMBERS, _write)
