"""Dense convolution with stride 1 or 2 by Winograd's minimal filtering, fused for a block of tiles.

    y[tile, :, :, d] = epilogue(A_y · [Σ_c (B_y · X[tile, :, :, c] · B_xᵀ) ⊙ (G_y · w[:, :, c, d] · G_xᵀ)] · A_xᵀ)

X is a tile's input, n_y × n_x places, n = s · (m − 1) + r for m outputs, r taps and stride s on an axis; A, B, G see
`winograd_points`, where stride 2 is taken apart into phases: (2m + 1)² products for 3×3 taps, in place of 9m².
For each of the n_y · n_x points the sum over channels is a matrix product [tiles × inputs] · [inputs × outputs], with
m_y · m_x · r_y · r_x / (n_y · n_x) times fewer multiply-adds than the direct sum.

Which inputs a tile reads and which outputs it gives say four tables, so that one kernel serves every padding mode,
dilation and size: for each line of tiles on an axis the places of its n inputs and of its m outputs, −1 where there is
none. An input outside is read from a line of zeros, an output outside isn't written.

A task takes tiles through all of it, for some blocks of vectors · lanes outputs. What is between its steps lies in
scratch, of which each worker has its own: first the transformed input [set of tiles][chunk of lanes inputs][point]
[tile][lane], then the products [set of tiles][block][point][tile][output]. Point by point, so that the transformed
weights [groups][points][blocks][inputs][vectors · lanes] go through the cache once for all tiles of a task.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from llvmlite import ir

from svertka.kernels.emit import I32, I64, POINTER, Arguments, Emitter, Value
from svertka.kernels.epilogue import NOTHING, Epilogue
from svertka.kernels.family import Family
from svertka.kernels.linear_map import linear_map
from svertka.kernels.target import Target
from svertka.kernels.winograd_output import OutputTile
from svertka.kernels.winograd_points import products_of, transforms

POINTERS = (
    "x", "zeros", "w", "y", "rows", "columns", "y_rows", "y_columns", "bias", "scale", "residual", "transformed",
    "products",
)  # fmt: skip
LINE = 16  # floats of a cache line
NUMBERS = (
    "tiles", "image_tiles", "tiles_across", "x_image", "y_image", "tile_tasks", "output_tasks", "task_sets",
    "transformed_size", "products_size",
)  # fmt: skip


@dataclass(frozen=True)
class Winograd:
    """What is computed.

    Args:
        inputs, outputs: channels of one group.
        kernel: the taps on the axes (rows, columns); (1, r) in one dimension.
        epilogue: see there; bias and scale are padded to whole blocks.
        pool: (rows, columns) of windows side by side, of each of which only the maximum is stored (after the
            activation); tiles are whole windows.
        stride: on the axes; 1 on those with one tap, where it shows in the tables alone.
    """

    inputs: int
    outputs: int
    kernel: tuple[int, int] = (3, 3)
    epilogue: Epilogue = NOTHING
    pool: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)


@dataclass(frozen=True)
class WinogradSchedule:
    """How it is computed.

    Args:
        tile: outputs of a tile on the axes (rows, columns): F(tile, kernel).
        tiles, vectors: the register tile of the products.
        sets: of `tiles` tiles in a task, at most.
        blocks: blocks of vectors · lanes outputs in a task.
        apart: all tiles are transformed first, in a launch of their own, and not anew for each part of the outputs.
        inputs: the weights come as the dense family reads them, and each task transforms those of so many inputs at a
            time (a divisor of the group's, a multiple of the lanes); 0 if they come transformed.
    """

    tile: tuple[int, int]
    tiles: int
    vectors: int
    sets: int
    blocks: int
    apart: bool = False
    inputs: int = 0

    def __str__(self) -> str:
        return f"F({self.tile[0]}×{self.tile[1]}) {self.tiles}×{self.vectors}"


def points_of(spec: Winograd, tile: tuple[int, int]) -> tuple[int, int]:
    """n on the axes, for tiles of so many outputs."""
    down, across = (products_of(*axis) for axis in zip(tile, spec.kernel, spec.stride, strict=True))
    return down, across


def blocks_of(spec: Winograd, schedule: WinogradSchedule, target: Target) -> int:
    """The number of blocks that a group's outputs make."""
    return -(-spec.outputs // (schedule.vectors * target.lanes))


def scratch_floats(spec: Winograd, schedule: WinogradSchedule, target: Target) -> tuple[int, int]:
    """Floats of the transformed input of a set of tiles, and of its products in a task."""
    down, across = points_of(spec, schedule.tile)
    line = schedule.tiles * down * across * target.lanes
    return line * -(-spec.inputs // target.lanes), line * schedule.blocks * schedule.vectors


def weight_floats(spec: Winograd, schedule: WinogradSchedule, target: Target) -> int:
    """Floats of the weights that a task transforms at a time."""
    down, across = points_of(spec, schedule.tile)
    return down * across * _pitch(schedule.inputs * schedule.vectors * target.lanes) if schedule.inputs else 0


def _pitch(floats: int) -> int:
    """From point to point, so that those of one weight don't fall on the same places of the cache."""
    return floats + LINE


class WinogradKernel:
    """Writes the task of a spec and a schedule."""

    def __init__(self, spec: Winograd, schedule: WinogradSchedule, e: Emitter) -> None:
        self.spec, self.schedule, self.e = spec, schedule, e
        self.width = schedule.vectors * e.lanes
        self.blocks = blocks_of(spec, schedule, e.target)
        self.chunks = -(-spec.inputs // e.lanes)
        self.down, self.across = points_of(spec, schedule.tile)
        self.points = self.down * self.across
        axes = zip(schedule.tile, spec.kernel, spec.stride, strict=True)
        self.vertical, self.horizontal = (transforms(*axis) for axis in axes)

    def write(self, slots: Value, task: Value, worker: Value) -> None:
        """Task (group · tile_tasks + tiles' part) · output_tasks + outputs' part: all of it in the worker's scratch."""
        group, tile_task, output_task = self._begin(slots, task)
        self._choose_tiles(group, tile_task)
        self.transformed = self._room(self.a.transformed, self.a.transformed_size, worker)
        self.products = self._room(self.a.products, self.a.products_size, worker)
        self._transform_input()
        self._finish(group, output_task)

    def write_input(self, slots: Value, task: Value, _worker: Value) -> None:
        """Task group · tile_tasks + tiles' part: the first half, to what all workers share."""
        group, tile_task, _ = self._begin(slots, task)
        self._choose_tiles(group, tile_task)
        self.transformed = self._room(self.a.transformed, self.a.transformed_size, task)
        self._transform_input()

    def write_output(self, slots: Value, task: Value, worker: Value) -> None:
        """The second half of `write`."""
        group, tile_task, output_task = self._begin(slots, task)
        self._choose_tiles(group, tile_task)
        e, tiles = self.e, self.schedule.tiles
        all_sets, _ = e.divmod(e.add(self.a.tiles, tiles - 1), tiles)
        first_set = e.add(e.mul(group, all_sets), e.mul(tile_task, self.a.task_sets))
        self.transformed = self._room(self.a.transformed, self.a.transformed_size, first_set)
        self.products = self._room(self.a.products, self.a.products_size, worker)
        self._finish(group, output_task)

    def _begin(self, slots: Value, task: Value) -> tuple[Value, Value, Value]:
        e = self.e
        self.a = Arguments(e, slots, POINTERS, NUMBERS)
        self.temporary = e.array(self.points * e.lanes)
        rest, output_task = e.divmod(task, self.a.output_tasks)
        return (*e.divmod(rest, self.a.tile_tasks), output_task)

    def _room(self, place: Value, size: Value, number: Value) -> Value:
        return self.e.at(place, self.e.mul(number, size))

    def _choose_tiles(self, group: Value, tile_task: Value) -> None:
        e, tiles = self.e, self.schedule.tiles
        self.first_input, self.first_output = e.mul(group, self.spec.inputs), e.mul(group, self.spec.outputs)
        self.first = e.mul(tile_task, e.mul(self.a.task_sets, tiles))
        self.last = e.min(e.add(self.first, e.mul(self.a.task_sets, tiles)), self.a.tiles)
        self.sets, _ = e.divmod(e.add(e.sub(self.last, self.first), tiles - 1), tiles)

    def _finish(self, group: Value, output_task: Value) -> None:
        e, blocks = self.e, self.schedule.blocks
        self.group_block = e.mul(group, self.blocks)
        self.first_block = e.mul(output_task, blocks)
        self.last_block = e.min(e.add(self.first_block, blocks), self.blocks)
        if self.schedule.inputs:
            self.fresh = e.at(
                self.products, e.mul(self.a.task_sets, scratch_floats(self.spec, self.schedule, e.target)[1])
            )
            e.loop(self.first_block, self.last_block, self._multiply_fresh)
        else:
            self._multiply()
        self._transform_output()

    # The input

    def _transform_input(self) -> None:
        """B_y · X · B_xᵀ of each tile and channel; the last set's missing tiles repeat the last one."""
        e = self.e
        places = e.array(self.points, POINTER)

        def of_set(number: Value) -> None:
            begin = e.add(self.first, e.mul(number, self.schedule.tiles))

            def of_tile(t: Value) -> None:
                tile = e.min(e.add(begin, t), e.sub(self.last, 1))
                self._find(tile, places)
                here = e.add(e.mul(number, self.chunks * self.points * self.schedule.tiles), t)
                target = e.at(self.transformed, e.mul(here, e.lanes))
                self._transform_tile(places, target)

            e.loop(0, self.schedule.tiles, of_tile)

        e.loop(0, self.sets, of_set)

    def _find(self, tile: Value, places: Value) -> None:
        """The addresses of a tile's inputs."""
        e = self.e
        image, rest = e.divmod(tile, self.a.image_tiles)
        down, across = e.divmod(rest, self.a.tiles_across)
        x = e.at(self.a.x, e.add(e.mul(image, self.a.x_image), self.first_input))
        rows = e.at(self.a.rows, e.mul(down, self.down), I32)
        columns = e.at(self.a.columns, e.mul(across, self.across), I32)
        column = [e.load(columns, j, I32) for j in range(self.across)]

        def row(i: Value) -> None:
            place = e.load(rows, i, I32)
            for j in range(self.across):
                outside = e.b.icmp_signed("<", e.b.or_(place, column[j]), ir.Constant(I32, 0))
                inside = e.at(x, e.b.sext(e.b.add(place, column[j]), I64))
                address = e.b.select(outside, self.a.zeros, inside)
                e.store(address, e.at(places, e.add(e.mul(i, self.across), j), POINTER))

        e.loop(0, self.down, row)

    def _transform_tile(self, places: Value, target: Value) -> None:
        e, full = self.e, self.spec.inputs // self.e.lanes
        step = self.points * self.schedule.tiles * e.lanes

        def chunk(number: Value, count: int) -> None:
            channel, here = e.mul(number, e.lanes), e.at(target, e.mul(number, step))

            def row(i: Value) -> None:
                values = []
                for j in range(self.across):
                    place = e.load(places, e.add(e.mul(i, self.across), j), POINTER)
                    values.append(e.load_vector(place, channel, count))
                for j, value in enumerate(linear_map(e, self.horizontal.B, values)):
                    e.store_vector(value, self.temporary, e.add(e.mul(i, self.across * e.lanes), j * e.lanes))

            def column(j: Value) -> None:
                begin = e.at(self.temporary, e.mul(j, e.lanes))
                values = [e.load_vector(begin, i * self.across * e.lanes) for i in range(self.down)]
                set_row = self.schedule.tiles * e.lanes
                put = e.at(here, e.mul(j, set_row))
                for i, value in enumerate(linear_map(e, self.vertical.B, values)):
                    e.store_vector(value, put, i * self.across * set_row)

            e.loop(0, self.down, row)
            e.loop(0, self.across, column)

        e.loop(0, full, lambda number: chunk(number, e.lanes))
        if self.spec.inputs % e.lanes:
            chunk(e.i64(full), self.spec.inputs % e.lanes)

    # The products

    def _multiply(self) -> None:
        """The sums over inputs: one point after the other, for each block of outputs and each set of tiles."""
        e, size = self.e, self.spec.inputs * self.width
        blocks = e.mul(self.group_block, self.points)

        def of_point(point: Value) -> None:
            def of_block(block: Value) -> None:
                place = e.add(e.add(blocks, e.mul(point, self.blocks)), block)
                weights = e.at(self.a.w, e.mul(place, size))
                following = e.add(block, 1)
                more = e.b.icmp_signed("<", following, self.last_block)
                skipped = e.sub(self.blocks, e.sub(self.last_block, self.first_block))
                ahead = e.at(weights, e.b.select(more, e.value(size), e.mul(e.add(skipped, 1), size)))
                e.loop(0, self.sets, lambda index: self._multiply_set(point, block, index, weights, ahead))

            e.loop(self.first_block, self.last_block, of_block)

        e.loop(0, self.points, of_point)

    def _multiply_fresh(self, block: Value) -> None:
        """The sums of a block over all inputs, whose weights are transformed part by part."""
        e, part, taps = self.e, self.schedule.inputs, math.prod(self.spec.kernel)
        place = e.mul(e.mul(e.add(self.group_block, block), taps), self.spec.inputs * self.width)
        weights = e.at(self.a.w, place)

        def of_part(first: Value) -> None:
            self._transform_weights(e.at(weights, e.mul(first, self.width)))

            def of_point(point: Value) -> None:
                own = e.at(self.fresh, e.mul(point, _pitch(part * self.width)))
                # Meanwhile the next inputs' weights come into the cache, tap by tap.
                tap, _ = e.divmod(e.mul(point, taps), self.points)
                there = e.mul(e.add(e.add(e.mul(tap, self.spec.inputs), first), part), self.width)
                ahead = e.at(weights, there)
                e.loop(0, self.sets, lambda index: self._multiply_set(point, block, index, own, ahead, first))

            e.loop(0, self.points, of_point)

        e.loop(0, self.spec.inputs, of_part, step=part)

    def _transform_weights(self, weights: Value) -> None:
        """G_y · w · G_xᵀ of the inputs from here on, to [point][input][width]."""
        e, part, (r_y, r_x) = self.e, self.schedule.inputs, self.spec.kernel
        tap_step = self.spec.inputs * self.width

        pitch = _pitch(part * self.width)

        def vector(place: Value) -> None:
            source, put = e.at(weights, place), e.at(self.fresh, place)
            columns = [
                linear_map(e, self.vertical.G, [e.load_vector(source, (i * r_x + j) * tap_step) for i in range(r_y)])
                for j in range(r_x)
            ]
            for i, row in enumerate(zip(*columns, strict=True)):
                for j, value in enumerate(linear_map(e, self.horizontal.G, row)):
                    e.store_vector(value, put, (i * self.across + j) * pitch)

        e.loop(0, part * self.width, vector, step=e.lanes)

    def _multiply_set(
        self, point: Value, block: Value, index: Value, weights: Value, ahead: Value, first: Value | None = None
    ) -> None:
        """One register tile's sum, over all inputs or, from `first`, a part; from `ahead` on are the next weights."""
        e, tiles, vectors = self.e, self.schedule.tiles, self.schedule.vectors
        part = self.schedule.inputs or self.spec.inputs
        full, rest = divmod(part, e.lanes)
        # What is needed next comes into the cache meanwhile: each set of tiles asks for its share of the lines.
        lines = -(-self.width // (LINE * self.schedule.sets))
        ahead = e.at(ahead, e.mul(index, lines * LINE))
        place = e.add(e.mul(index, self.chunks * self.points), point)
        if first is not None:
            place = e.add(place, e.mul(e.divmod(first, e.lanes)[0], self.points))
        x = e.at(self.transformed, e.mul(place, tiles * e.lanes))

        def chunk(number: Value, *acc: Value, count: int = e.lanes) -> list[Value]:
            here = e.at(x, e.mul(number, self.points * tiles * e.lanes))
            begin = e.mul(number, e.lanes * self.width)
            column, following = e.at(weights, begin), e.at(ahead, begin)

            def channel(c: Value, *acc: Value) -> list[Value]:
                row = e.at(column, e.mul(c, self.width))
                w = [e.load_vector(row, v * e.lanes) for v in range(vectors)]
                if self.schedule.apart:  # so does the transformed input of the next point
                    e.prefetch(here, e.add(e.mul(c, LINE), tiles * e.lanes), level=2)
                for line in range(0, lines * LINE, LINE):
                    e.prefetch(following, e.add(e.mul(c, self.width), line), level=2)
                result: list[Value] = []
                for t in range(tiles):
                    value = e.splat(e.load(here, e.add(c, t * e.lanes)))
                    result += [e.fma(value, w[v], acc[t * vectors + v]) for v in range(vectors)]
                return result

            return e.loop(0, count, channel, acc)

        place = e.add(e.mul(self._held(index, block), self.points), point)
        put = e.at(self.products, e.mul(place, tiles * self.width))
        count = tiles * vectors
        acc = [e.splat(0.0)] * count
        if first is not None:
            zeros, begins = acc, e.b.icmp_signed("==", first, e.value(0))
            acc = e.choose(
                begins, lambda: zeros, lambda: [e.load_vector(put, number * e.lanes) for number in range(count)]
            )
        acc = e.loop(0, full, chunk, acc)
        if rest:
            acc = chunk(e.i64(full), *acc, count=rest)
        for number, value in enumerate(acc):
            e.store_vector(value, put, number * e.lanes)

    def _held(self, index: Value, block: Value) -> Value:
        """Where the products of a set and a block begin, in pieces of points · tiles · width."""
        return self.e.add(self.e.mul(index, self.schedule.blocks), self.e.sub(block, self.first_block))

    # The output

    def _transform_output(self) -> None:
        """A_y · products · A_xᵀ of each tile and vector, the epilogue, and into its place."""
        e, tiles = self.e, self.schedule.tiles

        def of_tile(tile: Value) -> None:
            index, t = e.divmod(e.sub(tile, self.first), tiles)
            image, rest = e.divmod(tile, self.a.image_tiles)
            down, across = e.divmod(rest, self.a.tiles_across)
            rows = e.at(self.a.y_rows, e.mul(down, self.schedule.tile[0] // self.spec.pool[0]), I32)
            columns = e.at(self.a.y_columns, e.mul(across, self.schedule.tile[1] // self.spec.pool[1]), I32)
            y = e.add(e.mul(image, self.a.y_image), self.first_output)

            def of_block(block: Value) -> None:
                place = e.add(e.mul(self._held(index, block), self.points * tiles), t)
                source = e.at(self.products, e.mul(place, self.width))
                e.loop(0, self.schedule.vectors, lambda v: self._of_vector(block, v, source, y, rows, columns))

            e.loop(self.first_block, self.last_block, of_block)

        e.loop(self.first, self.last, of_tile)

    def _of_vector(self, block: Value, v: Value, source: Value, y: Value, rows: Value, columns: Value) -> None:
        """The outputs of one tile and one vector of channels, of which the last may not be whole."""
        e, outputs = self.e, self.spec.outputs
        channel = e.add(e.mul(block, self.width), e.mul(v, e.lanes))
        source = e.at(source, e.mul(v, e.lanes))

        padded = e.add(e.mul(self.group_block, self.width), channel)

        def do(count: int) -> None:
            OutputTile(self, padded, count).write(source, e.add(y, channel), rows, columns)

        full, part = divmod(outputs, e.lanes)
        if not part and outputs % self.width == 0:
            do(e.lanes)
            return
        if full:
            e.when(e.b.icmp_signed("<=", channel, e.value(outputs - e.lanes)), lambda: do(e.lanes))
        if part:
            e.when(e.b.icmp_signed("==", channel, e.value(full * e.lanes)), lambda: do(part))


def _write(spec: Winograd, schedule: WinogradSchedule, e: Emitter, slots: Value, task: Value, worker: Value) -> None:
    WinogradKernel(spec, schedule, e).write(slots, task, worker)


def _write_input(
    spec: Winograd, schedule: WinogradSchedule, e: Emitter, slots: Value, task: Value, worker: Value
) -> None:
    WinogradKernel(spec, schedule, e).write_input(slots, task, worker)


def _write_output(
    spec: Winograd, schedule: WinogradSchedule, e: Emitter, slots: Value, task: Value, worker: Value
) -> None:
    WinogradKernel(spec, schedule, e).write_output(slots, task, worker)


WINOGRAD = Family("winograd", POINTERS, NUMBERS, _write)
WINOGRAD_INPUT = Family("winograd-input", POINTERS, NUMBERS, _write_input)
WINOGRAD_OUTPUT = Family("winograd-output", POINTERS, NUMBERS, _write_output)
