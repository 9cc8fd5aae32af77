"""Windows that keep channels apart, on neighbouring channels: depthwise convolutions and poolings.

    y[o, c] = epilogue(combination over t of x[source(o, t), c])

Vectors run along the channels. A table for each axis tells the sources, and an output's place in the input is the sum
of three entries; a tap with an entry of −1 is left out. Each line of a table belongs to one output on that axis:

    places of the taps · (inputs on the axes behind), the first that isn't −1 (or its tap), the count as a float's bits

The register tile is `pixels` neighbours of a row × `vectors`; an input is loaded once for all the pixels that read it.
Tiles whose sources follow each other at the stride need one address; those near an edge look up each place of the line
that their windows lie on, which is the row with its padding: −1 or a source. Windows of varying length go one by one.
A last tile or vector that would stick out is moved back, and computes a few results twice.

Fewer axes than three are filled up with axes of one input. Weights are [taps][channels].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from llvmlite import ir

from svertka.kernels.combine import Combination, Given, Norm, State, resized, uniform
from svertka.kernels.emit import F32, I32, I64, Arguments, Emitter, Value
from svertka.kernels.epilogue import Epilogue, activate
from svertka.kernels.target import Target

POINTERS = (
    "x", "w", "y", "indices", "depth_table", "height_table", "column_table", "line", "bias", "scale", "residual",
    "seed",
)  # fmt: skip
NUMBERS = (
    "x_image", "rows", "depths", "heights", "columns", "depth_taps", "height_taps", "column_taps", "start",
    "inner_first", "inner_last", "rows_in_task", "channel_tasks", "channels_in_task", "inner_top", "inner_bottom",
)  # fmt: skip
EXTRA = 2  # entries of a table's line after the taps: the first place and the count
UNROLLED = 8  # taps or places of a row that are written out, not looped over


@dataclass(frozen=True)
class Channelwise:
    """What is computed: all of it that the machine code depends on.

    Args:
        combination: what is done inside a window.
        channels: of the output.
        epilogue: for weighted sums.
        taps, stride, dilation: of the windows along a row; 0 taps: their number varies.
        deep: there are three axes, the first of which may have more than one tap and padding.
        rows: taps of the rows, if neighbouring rows of outputs see all of these but one together; 0 if not.
    """

    combination: Combination
    channels: int
    epilogue: Epilogue
    taps: int = 0
    stride: int = 1
    dilation: int = 1
    deep: bool = False
    rows: int = 0


@dataclass(frozen=True)
class ChannelwiseSchedule:
    """How it is computed.

    Args:
        lanes: floats in a vector, at most the target's; more than there are channels only if these are less than 4.
        pixels, vectors: the register tile, at most as large as a row and its channels; windows of varying length take
            one pixel.
        rows: of outputs in a tile, see `tall`.
    """

    lanes: int
    pixels: int = 1
    vectors: int = 1
    rows: int = 1


def choose_channelwise(spec: Channelwise, target: Target, columns: int) -> ChannelwiseSchedule:
    """The schedule for rows of so many outputs."""
    lanes = min(target.lanes, max(4, 1 << (spec.channels.bit_length() - 1)))
    widest = next((count for count in (4, 2) if count * lanes <= spec.channels), 1)
    combination = spec.combination
    if isinstance(combination, Norm) and not combination.cheap:  # long as it is, it is written out a few times only
        return ChannelwiseSchedule(lanes, min(2, columns) if spec.taps else 1)
    if not spec.taps:
        return ChannelwiseSchedule(lanes, 1, widest)
    kept = (14 if spec.taps >= 7 and target.registers >= 32 else 8) // combination.states
    if "weight" not in combination.required:
        return ChannelwiseSchedule(lanes, min(max(kept // widest, 1), columns), widest)
    window = spec.rows * spec.taps
    if 0 < window <= 9 or (0 < window <= 25 and target.registers >= 32):  # two rows at a time, of eight vectors
        vectors = min(widest, 2) if window <= 9 else 1
        return ChannelwiseSchedule(lanes, min(4 // vectors, columns), vectors, 2)
    # Weights serve all pixels of a tile, so these come first; two vectors are read faster from afar than one.
    widths = (2, 1) if widest >= 2 else (1,)
    tiles = [(p, v) for v in widths for p in range(kept // v, max(kept // v // 2, 1) - 1, -1)]
    pixels, vectors = min(tiles, key=lambda tile: -(-columns // tile[0]) * (tile[0] + 3 / tile[1]))
    return ChannelwiseSchedule(lanes, min(pixels, columns), vectors)


class ChannelwiseKernel:
    """Writes the task of a spec and a schedule."""

    unrolled = UNROLLED

    def __init__(self, spec: Channelwise, schedule: ChannelwiseSchedule, e: Emitter) -> None:
        self.spec, self.schedule, self.e, self.combination = spec, schedule, e, spec.combination
        e.lanes, e.vector = schedule.lanes, ir.VectorType(F32, schedule.lanes)
        e.indices = ir.VectorType(I32, schedule.lanes)
        self.lanes_used = min(e.lanes, spec.channels)
        self.inputs = spec.channels  # neighbours at one place of x
        self.needs = self.combination.required

    def write(self, slots: Value, task: Value, _worker: Value) -> None:
        """Task rows' part · channel_tasks + channels' part."""
        e = self.e
        self.a = a = Arguments(e, slots, POINTERS, NUMBERS)
        self.seed = e.load(a.seed, 0, I64) if "draw" in self.needs else None
        row_task, channel_task = e.divmod(task, a.channel_tasks)
        self.channels = self._part(channel_task, a.channels_in_task, self.spec.channels)
        self._rows(*self._part(row_task, a.rows_in_task, a.rows))

    def _part(self, task: Value, size: Value, total: Value | int) -> tuple[Value, Value]:
        first = self.e.mul(task, size)
        return first, self.e.min(self.e.add(first, size), total)

    def _rows(self, first: Value, last: Value) -> None:
        self.e.loop(first, last, self._row)

    def _row(self, row: Value) -> None:
        """A row of outputs; rows are counted through all images."""
        self._begin(row)
        if self.spec.taps:
            self._tiles()
        else:
            self.e.loop(0, self.a.columns, self._single)

    def _begin(self, row: Value) -> None:
        e, a = self.e, self.a
        rest, height = e.divmod(row, a.heights)
        self.image, depth = e.divmod(rest, a.depths)
        self.x = e.at(a.x, e.mul(self.image, a.x_image))
        self.first_output = e.mul(row, a.columns)
        self.depth_line = self._line(a.depth_table, depth, a.depth_taps)
        self.height_line = self._line(a.height_table, height, a.height_taps)

    def _line(self, table: Value, output: Value, taps: Value) -> Value:
        return self.e.at(table, self.e.mul(output, self.e.add(taps, EXTRA)), I32)

    # Tiles

    def _tiles(self) -> None:
        e, pixels = self.e, self.schedule.pixels
        back = e.sub(self.a.columns, pixels)
        e.loop(0, self.a.columns, lambda pixel: self._tile(e.min(pixel, back)), step=pixels)

    def _tile(self, pixel: Value) -> None:
        """Outputs pixel … pixel + pixels − 1 of a row."""
        e, pixels = self.e, self.schedule.pixels
        places = e.at(self.a.line, e.mul(pixel, self.spec.stride), I32)

        def near_an_edge(channel: Value) -> None:
            def line(turn: int, place: Value, tap: Value, state: State) -> State:
                return self._by_places(turn, places, place, tap, channel, state)

            self._outputs(pixel, pixels, channel, line)

        def fast() -> tuple[()]:
            self._inner(pixel)
            return ()

        def careful() -> tuple[()]:
            self._blocks(near_an_edge)
            return ()

        e.choose(self._is_inner(pixel), fast, careful)

    def _is_inner(self, pixel: Value) -> Value:
        """Whether the taps of a tile's outputs along the row all lie inside."""
        e, a = self.e, self.a
        reaches = e.b.icmp_signed("<=", e.add(pixel, self.schedule.pixels), a.inner_last)
        return e.b.and_(e.b.icmp_signed(">=", pixel, a.inner_first), reaches)

    def _inner(self, pixel: Value) -> None:
        self._blocks(lambda channel: self._inside(pixel, channel))

    def _inside(self, pixel: Value, channel: Value) -> None:
        """A tile whose sources follow each other at the stride."""
        e = self.e
        column = e.add(e.mul(pixel, self.spec.stride), self.a.start)

        def line(turn: int, place: Value, tap: Value, state: State) -> State:
            return self._line_of_taps(turn, e.add(place, column), tap, channel, state)

        self._outputs(pixel, self.schedule.pixels, channel, line)

    def _by_places(self, turn: int, places: Value, place: Value, tap: Value, channel: Value, state: State) -> State:
        """One line of the taps of a tile, read place by place of the padded row."""
        e, spec, pixels = self.e, self.spec, self.schedule.pixels
        readers: dict[int, list[tuple[int, int]]] = {}
        for p in range(pixels):
            for t in range(spec.taps):
                readers.setdefault(p * spec.stride + t * spec.dilation, []).append((p, t))
        common = range((pixels - 1) * spec.stride, spec.taps if spec.dilation == 1 else 0)  # read by all pixels
        looped = common if len(common) > UNROLLED else range(0)
        for step in sorted(readers):
            if step not in looped:
                state = self._place(turn, places, e.i64(step), place, tap, readers[step], channel, state)
            elif step == looped.start:
                all_pixels = [(p, -p * spec.stride) for p in range(pixels)]

                def read_by_all(step: Value, *state: Value) -> State:
                    return self._place(turn, places, step, place, e.add(tap, step), all_pixels, channel, list(state))  # noqa: B023

                state = e.loop(looped.start, looped.stop, read_by_all, state)
        return state

    def _place(
        self,
        turn: int,
        places: Value,
        step: Value,
        place: Value,
        tap: Value,
        readers: list[tuple[int, int]],
        channel: Value,
        state: State,
    ) -> State:
        """What the pixels `readers`, each with its tap counted from `tap`, do with one place of the padded row."""
        e, vectors = self.e, self.schedule.vectors
        size = len(state) // (self.schedule.pixels * vectors)
        here = [(p * vectors + v) * size for p, _ in readers for v in range(vectors)]
        entry = e.b.sext(e.load(places, step, I32), I64)
        parts = [state[at + i] for at in here for i in range(size)]

        def read() -> State:
            taps = [t for _, t in readers]
            return self._steps(turn, e.add(place, entry), tap, taps, channel, parts)

        changed = self._unless_outside(entry, read, parts)
        result = list(state)
        for i, at in enumerate(here):
            result[at : at + size] = changed[i * size : (i + 1) * size]
        return result

    def _steps(self, turn: int, place: Value, tap: Value, taps: list[int], channel: Value, state: State) -> State:
        """The states of so many pixels after one input, which each reads with its tap, counted from `tap`."""
        e, spec, vectors = self.e, self.spec, self.schedule.vectors
        x = self._input(place, channel)
        values = [self._load(x, 0, v) for v in range(vectors)]
        source = e.splat_index(e.b.trunc(place, I32)) if "source" in self.needs else None
        own = e.splat_index(e.b.trunc(tap, I32)) if "tap" in self.needs else None
        w = e.at(self.a.w, e.add(e.mul(tap, spec.channels), channel)) if "weight" in self.needs else None
        size = len(state) // (len(taps) * vectors)
        result: State = []
        for i, t in enumerate(taps):
            source = source if own is None else e.b.add(own, e.splat_index(t))
            for v in range(vectors):
                weight = self._load(w, t * spec.channels, v) if w is not None else None
                at = (i * vectors + v) * size
                result += self.combination.step(e, turn, list(state[at : at + size]), values[v], source, weight)
        return result

    def _line_of_taps(self, turn: int, place: Value, tap: Value, channel: Value, state: State) -> State:
        """One line of the taps of a tile: the first looks at `place` for the first pixel."""
        taps, e, size = self.spec.taps, self.e, self.unrolled
        parts = taps // size if taps > size else 0

        def part(index: Value, *state: Value) -> State:
            first = e.mul(index, size)
            here = e.add(place, e.mul(first, self.spec.dilation))
            return self._unrolled(turn, size, here, e.add(tap, first), channel, list(state))

        if parts > 1:
            state = e.loop(0, parts, part, state)
        elif parts == 1:
            state = part(e.i64(0), *state)
        done = parts * size
        rest = taps - done
        if rest:
            here = e.add(place, done * self.spec.dilation)
            state = self._unrolled(turn, rest, here, e.add(tap, done), channel, state)
        return state

    def _unrolled(self, turn: int, taps: int, place: Value, tap: Value, channel: Value, state: State) -> State:
        e, spec, schedule = self.e, self.spec, self.schedule
        x = self._input(place, channel)
        w = e.at(self.a.w, e.add(e.mul(tap, spec.channels), channel)) if "weight" in self.needs else None
        base = e.splat_index(e.b.trunc(place, I32)) if "source" in self.needs else None
        own = e.splat_index(e.b.trunc(tap, I32)) if "tap" in self.needs else None
        loaded: dict[tuple[int, int], Value] = {}
        sources: dict[int, Value] = {}
        result = list(state)
        size = len(state) // (schedule.pixels * schedule.vectors)
        for t in range(taps):
            weights = [self._load(w, t * spec.channels, v) if w is not None else None for v in range(schedule.vectors)]
            number = None if own is None else e.b.add(own, e.splat_index(t))
            for p in range(schedule.pixels):
                step = p * spec.stride + t * spec.dilation
                if base is not None and step not in sources:
                    sources[step] = e.b.add(base, e.splat_index(step))
                for v in range(schedule.vectors):
                    if (step, v) not in loaded:
                        loaded[step, v] = self._load(x, step * self.inputs, v)
                    at = (p * schedule.vectors + v) * size
                    result[at : at + size] = self.combination.step(
                        e, turn, result[at : at + size], loaded[step, v], sources.get(step, number), weights[v]
                    )
        return result

    # Windows of varying length

    def _single(self, pixel: Value) -> None:
        """One output, by the table of the row."""
        e = self.e
        entries = self._line(self.a.column_table, pixel, self.a.column_taps)

        def block(channel: Value) -> None:
            def line(turn: int, place: Value, tap: Value, state: State) -> State:
                def column(t: Value, *state: Value) -> State:
                    entry = e.b.sext(e.load(entries, t, I32), I64)

                    def read() -> State:
                        return self._steps(turn, e.add(place, entry), e.add(tap, t), [0], channel, list(state))

                    return self._unless_outside(entry, read, list(state))

                return e.loop(0, self.a.column_taps, column, state)

            self._outputs(pixel, 1, channel, line)

        self._blocks(block)

    def _unless_outside(self, entry: Value, read: Callable[[], State], state: State) -> State:
        return self.e.choose(self.e.b.icmp_signed("<", entry, self.e.i64(0)), lambda: state, read)

    # Both

    def _blocks(self, block: Callable[[Value], None]) -> None:
        """block(channel) for all blocks of vectors; the last is moved back onto the channels."""
        width = self.schedule.vectors * self.lanes_used
        first, last = self.channels
        back = self.spec.channels - width
        self.e.loop(first, last, lambda channel: block(self.e.min(channel, back)), step=width)

    def _load(self, pointer: Value, offset: int, vector: int) -> Value:
        return self.e.load_vector(pointer, offset + vector * self.e.lanes, self.lanes_used)

    def _input(self, place: Value, channel: Value) -> Value:
        """Where the inputs for outputs from a channel on lie."""
        return self.e.at(self.x, self.e.add(self.e.mul(place, self.inputs), channel))

    def _outputs(
        self,
        pixel: Value,
        pixels: int,
        channel: Value,
        line: Callable[[int, Value, Value, State], State],
    ) -> None:
        """All turns over all lines of taps, each by line(turn, its place, its first tap, state), and the end of it."""
        e, combination, vectors = self.e, self.combination, self.schedule.vectors
        outputs = [(p, v) for p in range(pixels) for v in range(vectors)]
        given = self._given(pixel, pixels, channel, vectors)
        parts: list[State] = [[] for _ in outputs]
        for turn in range(combination.turns):
            parts = [combination.start(e, turn, part, known) for part, known in zip(parts, given, strict=True)]
            size, turned = len(parts[0]), turn
            flat = self._lines(
                lambda place, tap, state, turn=turned: line(turn, place, tap, state),  # type: ignore[misc]
                [value for part in parts for value in part],
            )
            parts = [flat[i * size : (i + 1) * size] for i in range(len(outputs))]
        place = e.add(e.mul(e.add(self.first_output, pixel), self.spec.channels), channel)
        factors = self._epilogue_lines(channel, vectors)
        for (p, v), part, known in zip(outputs, parts, given, strict=True):
            at = e.add(place, p * self.spec.channels + v * e.lanes)
            results = combination.finish(e, part, known)
            e.store_vector(self._epilogue(results[0], at, factors, v), self.a.y, at, self.lanes_used)
            if combination.results == 2:
                places = resized(e, results[1], combination.bits)
                e.store_vector(places, self.a.indices, at, self.lanes_used)

    def _lines(self, line: Callable[[Value, Value, State], State], state: State) -> State:
        """line(place, tap, state) for all lines of taps that lie inside on the outer axes."""
        e, a = self.e, self.a

        def height(i: Value, outer: Value, first: Value, state: State) -> State:
            entry = e.b.sext(e.load(self.height_line, i, I32), I64)

            def inside() -> State:
                tap = e.mul(e.add(first, i), a.column_taps)
                return line(e.add(outer, entry), tap, state)

            return self._unless_outside(entry, inside, state)

        def depth(i: Value, *state: Value) -> State:
            entry = e.b.sext(e.load(self.depth_line, i, I32), I64)

            def inside() -> State:
                first = e.mul(i, a.height_taps)
                return e.loop(0, a.height_taps, lambda j, *state: height(j, entry, first, list(state)), state)

            return self._unless_outside(entry, inside, list(state))

        if self.spec.deep:
            return e.loop(0, a.depth_taps, depth, state)
        outer = e.b.sext(e.load(self.depth_line, 0, I32), I64)
        return e.loop(0, a.height_taps, lambda j, *state: height(j, outer, e.i64(0), list(state)), state)

    def _given(self, pixel: Value, pixels: int, channel: Value, vectors: int) -> list[Given]:
        """What is known of each vector of outputs, pixel by pixel."""
        e, a, given = self.e, self.a, []
        for p in range(pixels):
            here = e.add(pixel, p)
            lines = (
                (self.depth_line, a.depth_taps),
                (self.height_line, a.height_taps),
                (self._line(a.column_table, here, a.column_taps), a.column_taps),
            )
            first = count = None
            if self.needs & {"source", "tap"}:
                entries = [e.load(line, taps, I32) for line, taps in lines]
                lowest = e.b.or_(e.b.or_(entries[0], entries[1]), entries[2])  # negative if one is
                total = e.b.add(e.b.add(entries[0], entries[1]), entries[2])
                none = e.b.icmp_signed("<", lowest, ir.Constant(I32, 0))
                first = e.splat_index(e.b.select(none, ir.Constant(I32, -1), total))
            if "count" in self.needs:
                counts = [e.load(line, e.add(taps, 1)) for line, taps in lines]
                count = e.splat(e.b.fmul(e.b.fmul(counts[0], counts[1]), counts[2]))
            for v in range(vectors):
                draw = self._draw(here, e.add(channel, v * e.lanes)) if "draw" in self.needs else None
                given.append(Given(first, count, draw))
        return given

    def _draw(self, pixel: Value, channel: Value) -> Value:
        """Random numbers for outputs that are told apart by their place in [channels, *output size]."""
        e, a = self.e, self.a
        outputs = e.mul(e.mul(a.depths, a.heights), a.columns)
        output = e.sub(e.add(self.first_output, pixel), e.mul(self.image, outputs))
        lanes = ir.Constant(e.indices, [ir.Constant(I32, i) for i in range(e.lanes)])
        channels = e.b.add(e.splat_index(e.b.trunc(channel, I32)), lanes)
        places = e.b.mul(channels, e.splat_index(e.b.trunc(outputs, I32)))
        return uniform(e, self.seed, self.image, e.b.add(places, e.splat_index(e.b.trunc(output, I32))))

    def _epilogue_lines(self, channel: Value, vectors: int) -> dict[str, list[Value]]:
        e, names = self.e, ("scale", "bias")
        return {
            name: [self._load(e.at(getattr(self.a, name), channel), 0, v) for v in range(vectors)]
            for name in names
            if getattr(self.spec.epilogue, name)
        }

    def _epilogue(self, value: Value, place: Value, factors: dict[str, list[Value]], vector: int) -> Value:
        e = self.e
        scale, bias = (factors[name][vector] if name in factors else None for name in ("scale", "bias"))
        if scale is not None:
            value = e.b.fmul(value, scale) if bias is None else e.fma(value, scale, bias)
        elif bias is not None:
            value = e.b.fadd(value, bias)
        if self.spec.epilogue.residual:
            value = e.b.fadd(value, e.load_vector(self.a.residual, place, self.lanes_used))
        return activate(e, self.spec.epilogue.activation, value)
