"""Schedules: how a kernel computes what its spec says, chosen by rules that measurement gave."""

from __future__ import annotations

from dataclasses import replace

from svertka.kernels.channelwise import choose_channelwise
from svertka.kernels.dense import Dense, DenseSchedule
from svertka.kernels.few import Few, FewSchedule
from svertka.kernels.separable import Separable, SeparableSchedule
from svertka.kernels.target import Target
from svertka.kernels.weight_gradient import WeightGradient, WeightGradientSchedule

_POINTERS = 10  # so many pixels of a tile keep their addresses in registers
_AHEAD = 512  # floats of weights, which the hardware's own prefetching doesn't reach across pages
_PAGES = 8192  # pixels of a plane from which on it has so many pages that finding them costs
_TILES_MEASURED = 4
_FROM_L2, _FROM_AFAR = 0.6, 16.0  # half cycles that a line of weights takes: beside the rest, and in its stead
_BLOCK = 1500.0  # half cycles until a block's weights arrive
_FAR = 1.1  # so much longer a tile takes whose weights come from the L2
_TASKS = 8  # so many at least of an image, if there are as many tiles: for several cores, about equal parts
_FEWEST_TILES = 2  # whose weights a task reads
_WEIGHTS = 150  # of a 1×1 convolution, for each place of a task: they come from the L2 for each task
_ROW_TASKS = 14  # into which images are cut, if they have as many rows
_LINES = 384  # pixels of a task of lines, whose sums stay in the cache
_IN_FLIGHT = 8  # multiply-adds that must not wait for each other: 2 units, 4 cycles


def choose_dense(spec: Dense, target: Target, taps: int, pixels: int, alone: int = 0) -> DenseSchedule:
    """The schedule of a dense convolution.

    Args:
        taps: of a window.
        pixels: outputs of an image.
        alone: 1 if there is one image and one group, so that the tasks are all from it.
    """
    return _with_blocks(_best_tiles(spec, target, taps, pixels)[0], spec, target, taps, pixels, alone)


def choose_few(spec: Few, target: Target, taps: int, places: int) -> FewSchedule:
    """The schedule of a convolution of few channels.

    Args:
        taps: of a window on the axes other than the last.
        places: of an output's line; pooling windows, if they are pooled.
    """
    return candidates_few(spec, target, taps, places)[0]


def candidates_few(spec: Few, target: Target, taps: int, places: int) -> list[FewSchedule]:
    """The schedules worth measuring, the rules' choice first: other register tiles."""
    tiles = [
        (count, vectors)
        for vectors in range(1, min(-(-spec.outputs // target.lanes), 6) + 1)
        for count in range(1, min((target.registers - 1 - vectors) // vectors, places * spec.pooled) + 1)
        if count % spec.pooled == 0
    ]

    def cost(tile: tuple[int, int]) -> float:
        count, vectors = tile
        turns = -(-places * spec.pooled // count) * -(-spec.outputs // (vectors * target.lanes))
        far = 4 * taps * spec.row * spec.inputs * vectors * target.lanes > target.l1  # the weights, for each tile
        numbers = max(count * vectors, count + vectors, _IN_FLIGHT) * (_FAR if far else 1.0)
        return turns * (numbers + 0.1 * (count + vectors) + 1.5)

    best = sorted(tiles, key=cost)[:_TILES_MEASURED] or [(spec.pooled, 1)]
    return [FewSchedule(count, vectors, max(_LINES // count, 1)) for count, vectors in best]


def choose_separable(spec: Separable, target: Target, rows: int, columns: int) -> SeparableSchedule | str:
    """The schedule of a depthwise and a 1×1 convolution as one, or why they are better apart.

    Args:
        rows, columns: of the output, rows through all images.
    """
    depthwise = choose_channelwise(spec, target, columns)
    product = choose_dense(spec.product, target, 1, rows * columns)
    product = replace(product, block_inputs=0, block_taps=0)
    schedule = SeparableSchedule(**vars(depthwise), product=product)
    places = rows_of_task(schedule, rows, columns * spec.channels) * columns
    if places * spec.channels > schedule.room:
        return "what is between them doesn't stay in the cache"
    if spec.channels * spec.product.outputs > _WEIGHTS * places:
        return "the second one's weights would be read too often"
    return schedule


def rows_of_task(schedule: SeparableSchedule, rows: int, numbers: int) -> int:
    """How many rows, of so many numbers each, a task takes: whole tiles, and few enough for several cores."""
    most = min(schedule.room // numbers, rows // _ROW_TASKS) // schedule.rows * schedule.rows
    return min(max(most, schedule.rows), rows)


def choose_weight_gradient(spec: WeightGradient, target: Target, taps: int) -> WeightGradientSchedule:
    """The schedule of a convolution's gradient to its weights.

    Half cycles for one place: those of the tiles, and of reading x anew for each block if one tap is all that it's for.
    """
    tiles = [
        (count, vectors)
        for vectors in range(1, min(-(-spec.outputs // target.lanes), 6) + 1)
        for count in range(1, min((target.registers - 1 - vectors) // vectors, spec.inputs, 13) + 1)
    ]

    def turn(count: int, vectors: int) -> float:
        return max(count * vectors, count + vectors, _IN_FLIGHT) + 0.1 * count + 0.5 * vectors + 2.5 if count else 0

    def cost(tile: tuple[int, int]) -> float:
        count, vectors = tile
        whole, rest = divmod(spec.inputs, count)
        reading = spec.inputs / 2 if taps == 1 else 0
        blocks = -(-spec.outputs // (vectors * target.lanes))
        return blocks * (whole * turn(count, vectors) + turn(rest, vectors) + reading)

    return WeightGradientSchedule(*min(tiles, key=cost))


def candidates(spec: Dense, target: Target, taps: int, pixels: int, alone: int = 0) -> list[DenseSchedule]:
    """The schedules worth measuring, the rules' choice first: other register tiles, shorter sums, other tasks."""
    found = []
    for tile in _best_tiles(spec, target, taps, pixels)[:_TILES_MEASURED]:
        for room in (target.l2 // 2, target.l1 * 2 // 3):
            schedule = _with_blocks(tile, spec, target, taps, pixels, alone, room)
            found += [replace(schedule, tiles=tiles) for tiles in (schedule.tiles, -(-schedule.tiles // 2))]
    return list(dict.fromkeys(found))


def _best_tiles(spec: Dense, target: Target, taps: int, pixels: int) -> list[tuple[int, int]]:
    return sorted(_tiles(spec, target, pixels), key=lambda tile: _cost(tile, spec, target, taps, pixels))


def _with_blocks(
    tile: tuple[int, int], spec: Dense, target: Target, taps: int, pixels: int, alone: int, room: int = 0
) -> DenseSchedule:
    """The schedule with a register tile; the weights of a part of a sum take so many bytes, or half of the L2."""
    count, vectors = tile
    width = 4 * vectors * target.lanes  # bytes of weights for one number of x
    inputs = max((room or target.l2 // 2) // width // 16, 1) * 16
    if taps * spec.inputs <= inputs:
        inputs = block_taps = 0
    else:
        block_taps = max(inputs // spec.inputs, 1)
        inputs = 0 if inputs >= spec.inputs else inputs
    ahead = _AHEAD if count == 1 or taps * spec.inputs * width > target.l1 * 2 // 3 else 0
    turns, blocks = -(-pixels // count), -(-spec.outputs // (vectors * target.lanes))
    tiles = 16
    if spec.planes:  # a row of a plane goes to memory in one piece, and large planes have pages of their own
        tiles = 64 if pixels > _PAGES else 32
    elif taps * spec.inputs * width * blocks > target.l2 // 2 and not block_taps:
        # A task reads the weights from beyond the L2: for as many tiles as have their x there.
        tiles = max(target.l2 // 2 // (4 * count * spec.inputs), tiles)
        tiles = -(-turns // -(-turns // tiles))
    while alone and tiles > _FEWEST_TILES and -(-turns // tiles) * blocks < _TASKS:
        tiles //= 2
    return DenseSchedule(count, vectors, tiles, 1, block_taps, inputs, ahead)


def _tiles(spec: Dense, target: Target, pixels: int) -> list[tuple[int, int]]:
    """The register tiles (pixels, vectors) that fit: sums, a vector of weights for each and one number of x."""
    widest = -(-spec.outputs // target.lanes)
    tiles = []
    for vectors in range(1, min(widest, 6) + 1):
        most = min((target.registers - 1 - vectors) // vectors, _POINTERS, pixels)
        tiles += [(tile, vectors) for tile in range(1, most + 1) if tile % spec.pooled == 0]
    return tiles or [(spec.pooled, 1)]


def _cost(tile: tuple[int, int], spec: Dense, target: Target, taps: int, pixels: int) -> float:
    """Half cycles for one number of each pixel: two multiply-adds or two loads in each cycle, and the loop.

    The first pixels of a block wait for its weights, which come from afar; the next ones find them in the L1, or in the
    L2 if they are too many.
    """
    count, vectors = tile
    lines = vectors * target.lanes / 16  # of weights, for one number of x
    in_l1 = 64 * taps * spec.inputs * lines / target.l1
    step = max(count * vectors, count + vectors, _IN_FLIGHT)
    turn = step + 0.35 * count + 0.1 * vectors + 1.5 + _FROM_L2 * lines * min(max(2 * in_l1 - 1, 0), 1)
    first = max(_FROM_AFAR * lines - step, 0) + _BLOCK / max(taps * spec.inputs, 1)
    return -(-spec.outputs // (vectors * target.lanes)) * (-(-pixels // count) * turn + first)
