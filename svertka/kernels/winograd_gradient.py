"""The gradient of a dense convolution with stride 1 to its weights, by Winograd's minimal filtering.

    dw[:, :, c, d] = G_yᵀ · [Σ_tiles (B_y · X[tile, :, :, c] · B_xᵀ) ⊙ (A_yᵀ · dY[tile, :, :, d] · A_x)] · G_x

It is the adjoint of `winograd` in the weights, with the same tiles, tables and points: X is a tile's input, n_y × n_x
places, dY the m_y × m_x gradients of its outputs, n = m + r − 1. For each of the n_y · n_x points the sum over tiles
is a matrix product [inputs × tiles] · [tiles × outputs], with m_y · m_x · r_y · r_x / (n_y · n_x) times fewer
multiply-adds than the direct sum (Lavin & Gray 2016, F(3×3, 4×4) in their words).

A task takes some of the tiles, for a part of the inputs and a part of the outputs. A set of tiles at a time is
transformed, [point][tile][channel], and multiplied into the task's sums, [point][block of outputs][input][width]; both
stay in the cache. The sums, transformed back, are a dw of the task's split, in the order that `weight_gradient` has,
with the bias' gradient as one row more.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from llvmlite import ir

from svertka.kernels.emit import I32, I64, POINTER, Arguments, Emitter, Value
from svertka.kernels.family import Family
from svertka.kernels.linear_map import linear_map
from svertka.kernels.target import Target
from svertka.kernels.winograd_points import Matrix, transforms
from svertka.kernels.winograd_schedule import tile_sizes

POINTERS = ("x", "zeros", "dy", "dw", "rows", "columns", "y_rows", "y_columns", "scratch")
NUMBERS = ("tiles", "image_tiles", "tiles_across", "x_image", "y_image", "groups", "split_tiles")
_LINE = 16  # floats between points, so that those of one channel don't fall on the same places of the cache


@dataclass(frozen=True)
class WinogradGradient:
    """What is computed.

    Args:
        inputs, outputs: channels of one group.
        kernel: the taps on the axes (rows, columns); (1, r) in one dimension.
        bias: its gradient is wanted, too.
    """

    inputs: int
    outputs: int
    kernel: tuple[int, int]
    bias: bool = False


@dataclass(frozen=True)
class WinogradGradientSchedule:
    """How it is computed.

    Args:
        tile: outputs of a tile on the axes (rows, columns).
        inputs, vectors: the register tile of the products; `vectors` divides the outputs' vectors.
        tiles: of a set.
        part: inputs of a task; it divides the group's and is a multiple of the lanes, or it is all of them.
        blocks: of vectors · lanes outputs in a task.
    """

    tile: tuple[int, int]
    inputs: int
    vectors: int
    tiles: int
    part: int
    blocks: int


class _Layout:
    """Sizes that follow from a spec and a schedule, in floats."""

    def __init__(self, spec: WinogradGradient, schedule: WinogradGradientSchedule, target: Target) -> None:
        self.down, self.across = (m + r - 1 for m, r in zip(schedule.tile, spec.kernel, strict=True))
        self.points = self.down * self.across
        self.width = schedule.vectors * target.lanes
        self.blocks = -(-spec.outputs // self.width)
        self.input_parts, self.output_parts = -(-spec.inputs // schedule.part), -(-self.blocks // schedule.blocks)
        self.x_line = -(-schedule.part // target.lanes) * target.lanes
        self.dy_line = schedule.blocks * self.width
        self.x_point, self.dy_point = (schedule.tiles * line + _LINE for line in (self.x_line, self.dy_line))
        self.sum_point = schedule.part * self.dy_line + _LINE
        self.all = self.points * (self.x_point + self.dy_point + self.sum_point)


def scratch_floats(spec: WinogradGradient, schedule: WinogradGradientSchedule, target: Target) -> int:
    """Floats that a worker needs."""
    return _Layout(spec, schedule, target).all


def parts(spec: WinogradGradient, schedule: WinogradGradientSchedule, target: Target) -> int:
    """Into how many tasks a split of the tiles is cut for each group."""
    layout = _Layout(spec, schedule, target)
    return layout.input_parts * layout.output_parts


class _Writer:
    def __init__(self, spec: WinogradGradient, schedule: WinogradGradientSchedule, e: Emitter) -> None:
        self.spec, self.schedule, self.e = spec, schedule, e
        self.layout = _Layout(spec, schedule, e.target)
        self.vertical, self.horizontal = (transforms(m, r) for m, r in zip(schedule.tile, spec.kernel, strict=True))

    def write(self, slots: Value, task: Value, worker: Value) -> None:
        """Task ((split · groups + group) · parts of outputs + outputs' part) · parts of inputs + inputs' part."""
        e, of = self.e, self.layout
        self.a = a = Arguments(e, slots, POINTERS, NUMBERS)
        rest, self.input_part = e.divmod(task, of.input_parts)
        rest, output_part = e.divmod(rest, of.output_parts)
        split, group = e.divmod(rest, a.groups)
        self.first_input = e.mul(self.input_part, self.schedule.part)
        first_block = e.mul(output_part, self.schedule.blocks)
        self.part_blocks = e.min(e.sub(of.blocks, first_block), self.schedule.blocks)
        self.x = e.at(a.x, e.add(e.mul(group, self.spec.inputs), self.first_input))
        self.first_output = e.mul(first_block, of.width)
        self.dy = e.at(a.dy, e.add(e.mul(group, self.spec.outputs), self.first_output))
        rows = math.prod(self.spec.kernel) * self.spec.inputs + int(self.spec.bias)
        place = e.add(e.mul(e.add(e.mul(split, a.groups), group), of.blocks), first_block)
        self.dw, self.dw_block = e.at(a.dw, e.mul(place, rows * of.width)), rows * of.width
        self.sums = e.at(a.scratch, e.mul(worker, of.all))
        self.from_x = e.at(self.sums, of.points * of.sum_point)
        self.from_dy = e.at(self.from_x, of.points * of.x_point)
        self.places, self.temporary = e.array(of.points, POINTER), e.array(of.points * e.lanes)
        self.biases = e.array(of.dy_line)
        if self.spec.bias:
            e.loop(0, of.dy_line, lambda i: e.store_vector(e.splat(0.0), self.biases, i), step=e.lanes)
        first = e.mul(split, a.split_tiles)
        last = e.min(e.add(first, a.split_tiles), a.tiles)

        def of_set(begin: Value) -> None:
            count = e.min(e.sub(last, begin), self.schedule.tiles)
            self._transform(begin, count)
            self._multiply(count, e.b.icmp_signed("==", begin, first))

        e.loop(first, last, of_set, step=self.schedule.tiles)
        self._finish()

    # The transforms of x and dy

    def _transform(self, begin: Value, count: Value) -> None:
        e, a, of = self.e, self.a, self.layout
        full, rest = divmod(self.spec.outputs, e.lanes)

        def of_tile(t: Value) -> None:
            image, place = e.divmod(e.add(begin, t), a.image_tiles)
            down, across = e.divmod(place, a.tiles_across)
            self._find(e.at(self.x, e.mul(image, a.x_image)), a.rows, a.columns, down, across, (of.down, of.across))
            to = e.at(self.from_x, e.mul(t, of.x_line))
            matrices = self.vertical.B, self.horizontal.B

            def of_x(channel: Value, lanes: int) -> None:
                self._transform_vector(matrices, channel, lanes, e.at(to, channel), of.x_point)

            whole = self.schedule.part // e.lanes * e.lanes
            e.loop(0, whole, lambda channel: of_x(channel, e.lanes), step=e.lanes)
            if self.schedule.part > whole:
                of_x(e.i64(whole), self.schedule.part - whole)
            self._find(e.at(self.dy, e.mul(image, a.y_image)), a.y_rows, a.y_columns, down, across, self.schedule.tile)
            put = e.at(self.from_dy, e.mul(t, of.dy_line))
            turned = _transposed(self.vertical.A), _transposed(self.horizontal.A)

            def of_dy(channel: Value, lanes: int) -> None:
                sums = self._transform_vector(turned, channel, lanes, e.at(put, channel), of.dy_point, self.spec.bias)
                for value in sums:
                    e.store_vector(e.b.fadd(e.load_vector(self.biases, channel), value), self.biases, channel)

            end = e.mul(self.part_blocks, of.width)
            if not rest:
                e.loop(0, end, lambda channel: of_dy(channel, e.lanes), step=e.lanes)
                return
            stop = e.min(end, e.sub(full * e.lanes, self.first_output))
            e.loop(0, stop, lambda channel: of_dy(channel, e.lanes), step=e.lanes)
            e.when(e.b.icmp_signed("<", stop, end), lambda: of_dy(stop, rest))

        e.loop(0, count, of_tile)

    def _find(self, x: Value, rows: Value, columns: Value, down: Value, across: Value, size: tuple[int, int]) -> None:
        """The addresses of a tile's places, of zeros where there is none."""
        e = self.e
        rows = e.at(rows, e.mul(down, size[0]), I32)
        columns = e.at(columns, e.mul(across, size[1]), I32)
        column = [e.load(columns, j, I32) for j in range(size[1])]

        def row(i: Value) -> None:
            place = e.load(rows, i, I32)
            for j in range(size[1]):
                outside = e.b.icmp_signed("<", e.b.or_(place, column[j]), ir.Constant(I32, 0))
                inside = e.at(x, e.b.sext(e.b.add(place, column[j]), I64))
                address = e.b.select(outside, self.a.zeros, inside)
                e.store(address, e.at(self.places, e.add(e.mul(i, size[1]), j), POINTER))

        e.loop(0, size[0], row)

    def _transform_vector(
        self, matrices: tuple[Matrix, Matrix], channel: Value, lanes: int, to: Value, pitch: int, summed: bool = False
    ) -> list[Value]:
        """M_y · tile · M_xᵀ of a vector of channels, and, `summed`, the sum of the tile."""
        e, of, (down, across) = self.e, self.layout, matrices
        wide = len(across[0])

        def row(i: Value, *sums: Value) -> list[Value]:
            places = e.at(self.places, e.mul(i, wide), POINTER)
            values = [e.load_vector(e.load(places, j, POINTER), channel, lanes) for j in range(wide)]
            self._keep(linear_map(e, across, values), e.mul(i, of.across), 1)
            return [e.sum([*sums, *values])] if summed else []

        def column(j: Value) -> None:
            begin = e.at(self.temporary, e.mul(j, e.lanes))
            values = [e.load_vector(begin, i * of.across * e.lanes) for i in range(len(down[0]))]
            put = e.at(to, e.mul(j, pitch))
            for i, value in enumerate(linear_map(e, down, values)):
                e.store_vector(value, put, i * of.across * pitch)

        sums = e.loop(0, len(down[0]), row, [e.splat(0.0)] if summed else [])
        e.loop(0, of.across, column)
        return sums

    def _keep(self, values: Sequence[Value], place: Value, step: int) -> None:
        """Vectors for the second axis' transform."""
        for j, value in enumerate(values):
            self.e.store_vector(value, self.temporary, self.e.mul(self.e.add(place, j * step), self.e.lanes))

    # The products

    def _multiply(self, count: Value, starts: Value) -> None:
        """Adds a set's tiles to the sums: for each point, block of outputs and register tile of inputs."""
        e, of, tile = self.e, self.layout, self.schedule.inputs
        whole = self.schedule.part // tile * tile

        def of_point(point: Value) -> None:
            x = e.at(self.from_x, e.mul(point, of.x_point))
            dy, sums = e.at(self.from_dy, e.mul(point, of.dy_point)), e.at(self.sums, e.mul(point, of.sum_point))

            def of_block(block: Value) -> None:
                row = e.at(dy, e.mul(block, of.width))
                here = e.at(sums, e.mul(block, self.schedule.part * of.width))

                def several(c: Value, size: int) -> None:
                    self._tile(e.at(x, c), row, e.at(here, e.mul(c, of.width)), size, count, starts)

                if whole:
                    e.loop(0, whole, lambda c: several(c, tile), step=tile)
                if self.schedule.part > whole:
                    several(e.i64(whole), self.schedule.part - whole)

            e.loop(0, self.part_blocks, of_block)

        e.loop(0, of.points, of_point)

    def _tile(self, x: Value, dy: Value, sums: Value, size: int, count: Value, starts: Value) -> None:
        e, of, vectors = self.e, self.layout, self.schedule.vectors

        def tile(t: Value, *acc: Value) -> list[Value]:
            here, there = e.at(dy, e.mul(t, of.dy_line)), e.at(x, e.mul(t, of.x_line))
            row = [e.load_vector(here, v * e.lanes) for v in range(vectors)]
            result: list[Value] = []
            for i in range(size):
                number = e.splat(e.load(there, i))
                result += [e.fma(number, row[v], acc[i * vectors + v]) for v in range(vectors)]
            return result

        begin = e.choose(
            starts,
            lambda: [e.splat(0.0)] * (size * vectors),
            lambda: [e.load_vector(sums, i * e.lanes) for i in range(size * vectors)],
        )
        for i, value in enumerate(e.loop(0, count, tile, begin)):
            e.store_vector(value, sums, i * e.lanes)

    # The transform of the sums

    def _finish(self) -> None:
        e, of, part = self.e, self.layout, self.schedule.part
        down, across = _transposed(self.vertical.G), _transposed(self.horizontal.G)

        def vector(block: Value, number: Value) -> None:
            """A vector of the block's [input][width]."""
            place = e.mul(number, e.lanes)
            source = e.at(self.sums, e.add(e.mul(block, part * of.width), place))
            to = e.at(self.dw, e.add(e.mul(block, self.dw_block), e.add(e.mul(self.first_input, of.width), place)))

            def row(i: Value) -> None:
                begin = e.at(source, e.mul(i, of.across * of.sum_point))
                values = [e.load_vector(begin, j * of.sum_point) for j in range(of.across)]
                self._keep(linear_map(e, across, values), e.mul(i, len(across)), 1)

            def column(j: Value) -> None:
                begin = e.at(self.temporary, e.mul(j, e.lanes))
                values = [e.load_vector(begin, i * len(across) * e.lanes) for i in range(of.down)]
                tap = self.spec.inputs * of.width
                put = e.at(to, e.mul(j, tap))
                for i, value in enumerate(linear_map(e, down, values)):
                    e.store_vector(value, put, i * len(across) * tap)

            e.loop(0, of.down, row)
            e.loop(0, len(across), column)

        def of_block(block: Value) -> None:
            e.loop(0, part * self.schedule.vectors, lambda number: vector(block, number))
            if self.spec.bias:
                e.when(e.b.icmp_signed("==", self.input_part, e.i64(0)), lambda: self._store_biases(block))

        e.loop(0, self.part_blocks, of_block)

    def _store_biases(self, block: Value) -> None:
        e, of = self.e, self.layout
        to = e.at(self.dw, e.add(e.mul(block, self.dw_block), self.dw_block - of.width))
        begin = e.at(self.biases, e.mul(block, of.width))
        for v in range(self.schedule.vectors):
            e.store_vector(e.load_vector(begin, v * e.lanes), to, v * e.lanes)


def _transposed(matrix: Matrix) -> Matrix:
    return tuple(zip(*matrix, strict=True))


def _write(
    spec: WinogradGradient, schedule: WinogradGradientSchedule, e: Emitter, slots: Value, task: Value, worker: Value
) -> None:
    _Writer(spec, schedule, e).write(slots, task, worker)


WINOGRAD_GRADIENT = Family("winograd weight gradient", POINTERS, NUMBERS, _write)


# The choice: cycles of one core, fitted to measurement

_DIRECT = 0.85  # of the multiply-adds that could be done, by the direct kernel
_ROOM = 0.8  # of the L2 that sums and a set's tiles may take
_STEP = 1.0  # cycles of a tile's step in the products beside its multiply-adds
_KEEPING = 1.5  # cycles for a vector of sums, there and back, for each set
_MOVING = 3.0, 0.4  # cycles for a vector of a point in a transform, and more for each lane
_FEWEST = 16  # channels on each side
_LARGER = 0.9  # of the time, if larger tiles are to be worth their larger errors


def choose_winograd_gradient(
    spec: WinogradGradient, target: Target, images: int, height: int, width: int, products: int
) -> WinogradGradientSchedule | None:
    """The best by the model, None if the direct kernel is better; sizes are those of dy."""
    if min(spec.inputs, spec.outputs) < _FEWEST:
        return None
    vectors = -(-spec.outputs // target.lanes)
    best = images * height * width * math.prod(spec.kernel) * spec.inputs * vectors / 2 / _DIRECT
    chosen = None
    for tile in tile_sizes(spec.kernel, products):
        costs = {s: _cycles(spec, s, target, images, height, width) for s in _schedules(spec, tile, target)}
        schedule = min(costs, key=lambda schedule: costs[schedule])
        if costs[schedule] < best * (_LARGER if chosen else 1):
            best, chosen = costs[schedule], schedule
    return chosen


def _schedules(spec: WinogradGradient, tile: tuple[int, int], target: Target) -> Iterator[WinogradGradientSchedule]:
    vectors = -(-spec.outputs // target.lanes)
    inputs = [n for n in range(target.lanes, spec.inputs, target.lanes) if spec.inputs % n == 0] + [spec.inputs]
    for size in (size for size in range(1, 5) if vectors % size == 0):
        count = min((target.registers - 1 - size) // size, 14)
        for part, blocks in itertools.product(inputs, range(1, vectors // size + 1)):
            schedules = [WinogradGradientSchedule(tile, count, size, n, part, blocks) for n in (48, 32, 16)]
            fits = (s for s in schedules if 4 * scratch_floats(spec, s, target) <= _ROOM * target.l2)
            yield next(fits, schedules[-1])


def _cycles(
    spec: WinogradGradient, schedule: WinogradGradientSchedule, target: Target, images: int, height: int, width: int
) -> float:
    of = _Layout(spec, schedule, target)
    tiles = images * math.ceil(height / schedule.tile[0]) * math.ceil(width / schedule.tile[1])
    vectors = of.blocks * schedule.vectors
    whole, rest = divmod(schedule.part, schedule.inputs)
    turn = sum(
        times * (max(n * schedule.vectors, n + schedule.vectors, 8) / 2 + _STEP)
        for times, n in ((whole, schedule.inputs), (bool(rest), rest))
    )
    multiply = tiles * of.points * of.blocks * of.input_parts * turn
    moving = _MOVING[0] + _MOVING[1] * target.lanes
    chunks = -(-spec.inputs // target.lanes)
    into = tiles * of.points * moving * (chunks * of.output_parts + vectors * of.input_parts)
    keeping = _KEEPING * math.ceil(tiles / schedule.tiles) * of.points * spec.inputs * vectors
    last = 2 * of.points * spec.inputs * vectors
    spilt = max(4 * of.all / (_ROOM * target.l2) - 1, 0.0)
    return (multiply + keeping) * (1 + spilt) + into + last
