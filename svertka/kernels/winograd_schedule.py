"""Direct or Winograd, and with which tiles: a model of the cycles that one core takes, fitted to measurement.

    cycles = multiply-adds / 2 a cycle + loops + transforms + bytes from beyond the L2 / bandwidth

Of a call's work the model adds up what each part alone would take: measured sums are within about a tenth of that.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

from svertka.kernels.target import Target
from svertka.kernels.winograd import Winograd, WinogradSchedule, blocks_of, points_of, scratch_floats
from svertka.kernels.winograd_points import PRODUCTS, most_products, products_of

_STREAM = 7.0  # bytes a cycle that a core gets from beyond its L2 while others read, too
_OVERLAP = 0.75  # of the shorter of arithmetic and reading, where each weight is read once and for one register tile
_FIT = 0.3  # of the L2 that scratch may take: lines that pass through push some of the rest out
_CORES = (2, 4)  # tasks should be about equal parts for so many
_STEP = 0.8  # cycles of a channel's step in the products beside its multiply-adds
_CALL = 60.0  # cycles of one register tile's sum beside its steps
_WEIGHT = 5.0  # cycles for a vector of weights of a point, if a task transforms them
_FAR = 4  # times the L2: transformed weights larger than that may take longer to read than to make
_LAUNCH = 15_000.0  # cycles of all cores until a launch runs, and after it
_DIRECT = 0.87  # of the multiply-adds that could be done, by the direct kernel
_STRIDED_WAITS = 0.25  # of the time that weights take to read, by the direct kernel with a stride
_IN_FLIGHT = 4.0  # cycles of a step at least: multiply-adds wait for those of the step before
_ROOM = 1 << 24  # floats that all transformed tiles may take
_TILES_MEASURED = 2
_WIDEST = 11  # inputs of a tile on an axis, if there is a stride: larger ones, whose transforms spill, never won


@dataclass(frozen=True)
class Direct:
    """No Winograd: the direct kernels, by their own rules."""

    def __str__(self) -> str:
        return "direct"


Choice = WinogradSchedule | Direct


def tile_sizes(kernel: tuple[int, int], products: int, stride: tuple[int, int] = (1, 1)) -> list[tuple[int, int]]:
    """The tiles with at most so many products of a phase on an axis, for which there are points.

    On an axis with one tap a tile has one output; with several taps it has at least 2.
    """
    sizes = [
        [1] if r == 1 else [m for m in range(2, products + 1) if _has_points(m, r, s, products)]
        for r, s in zip(kernel, stride, strict=True)
    ]
    if kernel[0] == kernel[1] and stride[0] == stride[1]:
        return [(m, m) for m in sizes[0]]
    return [(down, across) for down in sizes[0] for across in sizes[1]]


def _has_points(outputs: int, taps: int, stride: int, products: int) -> bool:
    if stride > 1 and products_of(outputs, taps, stride) > _WIDEST:
        return False
    return most_products(outputs, taps, stride) <= min(products, PRODUCTS[-1])


def choose_winograd(spec: Winograd, target: Target, *sizes: int) -> Choice:
    """The best by the model; sizes as in `candidates_winograd`."""
    return candidates_winograd(spec, target, *sizes)[0]


def candidates_winograd(
    spec: Winograd, target: Target, images: int, groups: int, height: int, width: int, products: int, changing: int
) -> list[Choice]:
    """What is worth measuring, best first: for each tile size some schedules, and the direct kernels.

    Args:
        height, width: of the output.
        products: of a tile on an axis, at most.
        changing: 1 if the weights change from call to call, so that it doesn't pay to transform them in advance.
    """
    work = images, groups, height, width
    costs: dict[Choice, float] = {Direct(): _direct_cycles(spec, target, *work)}
    for tile in tile_sizes(spec.kernel, products, spec.stride):
        if tile[0] % spec.pool[0] or tile[1] % spec.pool[1]:
            continue
        found = {
            schedule: _cycles(spec, schedule, target, *work)
            for schedule in _schedules(spec, tile, target, images, height, width, changing)
        }
        for schedule in sorted(found, key=lambda schedule: found[schedule])[:3]:
            costs[schedule] = found[schedule]
    return sorted(costs, key=lambda choice: costs[choice])


def tiles_of(tile: tuple[int, int], images: int, height: int, width: int) -> int:
    """The number of tiles of all images."""
    return images * math.ceil(height / tile[0]) * math.ceil(width / tile[1])


def _schedules(
    spec: Winograd, tile: tuple[int, int], target: Target, images: int, height: int, width: int, changing: int
) -> Iterator[WinogradSchedule]:
    tiles = tiles_of(tile, images, height, width)
    fresh = [size for size in (32, 16) if spec.inputs % size == 0][:1]
    points = math.prod(points_of(spec, tile))
    far = 4 * points * spec.inputs * spec.outputs > _FAR * target.l2
    parts_of_inputs = fresh if changing else [0, *fresh] if far else [0]
    for count, vectors in _register_tiles(spec, tiles, target):
        blocks = math.ceil(spec.outputs / (vectors * target.lanes))
        sets = math.ceil(tiles / count)
        parts = {1, 2, 4, *(math.ceil(sets / size) for size in (1, 2, 3, 4, 6, 8, 12, 16, 24))}
        for tile_tasks in sorted(parts, reverse=True):  # more tasks first, where it is all the same
            if tile_tasks > sets:
                continue
            for output_tasks in {part for part in (1, 2, 4, 8) if part <= blocks}:
                part = math.ceil(blocks / output_tasks)
                for apart, inputs in itertools.product((False, True), parts_of_inputs):
                    yield WinogradSchedule(tile, count, vectors, math.ceil(sets / tile_tasks), part, apart, inputs)


def _register_tiles(spec: Winograd, tiles: int, target: Target) -> list[tuple[int, int]]:
    """The best (tiles, vectors) that fit: sums, a vector of weights for each and one number of the input."""
    most = min(math.ceil(spec.outputs / target.lanes), 4)
    sizes = [
        (count, vectors)
        for vectors in range(1, most + 1)
        for count in range(1, min((target.registers - 1 - vectors) // vectors, tiles, 16) + 1)
    ]

    def cost(size: tuple[int, int]) -> float:
        count, vectors = size
        turns = math.ceil(tiles / count) * math.ceil(spec.outputs / (vectors * target.lanes))
        return turns * (_step(count, vectors) * spec.inputs + _CALL)

    best = sorted(sizes, key=cost)
    once = [size for size in best if size[0] >= tiles]  # each weight is needed once: it may be all about reading them
    return list(dict.fromkeys([*best[:_TILES_MEASURED], *once[:1]]))


def _step(count: int, vectors: int) -> float:
    return max(count * vectors / 2, (count + vectors) / 2, _IN_FLIGHT) + _STEP


def _cycles(
    spec: Winograd, schedule: WinogradSchedule, target: Target, images: int, groups: int, height: int, width: int
) -> float:
    points = math.prod(points_of(spec, schedule.tile))
    tiles = tiles_of(schedule.tile, images, height, width)
    sets, blocks = math.ceil(tiles / schedule.tiles), blocks_of(spec, schedule, target)
    tile_tasks, output_tasks = math.ceil(sets / schedule.sets), math.ceil(blocks / schedule.blocks)
    transformed, products = (4.0 * schedule.sets * floats for floats in scratch_floats(spec, schedule, target))
    weights = 4.0 * points * spec.inputs * blocks * schedule.vectors * target.lanes

    multiply = sets * blocks * points * (spec.inputs * _step(schedule.tiles, schedule.vectors) + _CALL)
    of_point = 3.0 + 0.4 * target.lanes  # cycles for a vector of a point, there and back: most of it is moving
    chunks = math.ceil(spec.inputs / target.lanes)
    into: float = tiles * chunks * points * of_point
    out = tiles * blocks * schedule.vectors * points * 0.85 * of_point
    room = target.l2 - products - (0 if schedule.apart else transformed)
    stays = min(max(room / (weights * groups), 0.0), 1.0) if tile_tasks > 1 else 0.0
    weights *= math.prod(spec.kernel) / points if schedule.inputs else 1
    moved = weights * (1 + (tile_tasks - 1) * (1 - stays)) if weights * groups > target.l2 / 2 else 0.0
    if schedule.inputs:
        out += tile_tasks * spec.inputs * blocks * schedule.vectors * points * _WEIGHT
    tasks = tile_tasks * output_tasks
    if schedule.apart:
        everything = transformed * tile_tasks
        if groups * everything > 4 * _ROOM:
            return math.inf
        spilt = everything * (1 + output_tasks)
        held = products
    else:
        spilt = 0.0
        into *= output_tasks
        held = transformed + products
    spilt += held * tasks * max(held / target.l2 - _FIT, 0.0)
    stream = moved / _STREAM
    main = max(multiply, stream) + _OVERLAP * min(multiply, stream) if sets == 1 else multiply + stream
    total = groups * (main + into + out + spilt / _STREAM)
    full = groups * sets * blocks / (schedule.sets * schedule.blocks)  # tasks, the last ones counted by their part
    return total * _imbalance(groups * tasks, full) + _LAUNCH * (1 + schedule.apart)


def _imbalance(tasks: int, full: float) -> float:
    """How much longer than equal parts would take: so many tasks hold the work of `full` full ones."""
    return sum(math.ceil(tasks / cores) * cores / full for cores in _CORES) / len(_CORES)


def _direct_cycles(spec: Winograd, target: Target, images: int, groups: int, height: int, width: int) -> float:
    taps = math.prod(spec.kernel)
    vectors = math.ceil(spec.outputs / target.lanes)
    multiply = images * height * width * taps * spec.inputs * vectors / 2 / _DIRECT
    weights = 4 * taps * spec.inputs * vectors * target.lanes
    moved = weights if weights * groups > target.l2 / 2 else 0
    waits = moved / _STREAM * (_STRIDED_WAITS if max(spec.stride) > 1 else 1)
    return groups * (multiply + waits) + _LAUNCH
