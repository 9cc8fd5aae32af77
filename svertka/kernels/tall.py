"""Channelwise sums by tiles of several rows, which share the inputs that they read.

    y[o, c] = epilogue(Σ_j Σ_t  x[line(o) + j, t, c] · w[j, t, c])

The windows of neighbouring rows overlap: `rows` rows of outputs see rows + taps − 1 lines of inputs, each of which is
loaded once for all of them. That counts, as the rows under a window of a wide layer don't fit into the first cache.

Tiles are tall where all of their taps lie inside. All else is done row by row, as by the channelwise kernel, with the
additions in the same order: the results have the same bits.
"""

from __future__ import annotations

from svertka.kernels.channelwise import NUMBERS, POINTERS, Channelwise, ChannelwiseKernel, ChannelwiseSchedule
from svertka.kernels.emit import I32, I64, Emitter, Value
from svertka.kernels.family import Family


class TallKernel(ChannelwiseKernel):
    """Writes the task of a spec of a weighted sum whose rows follow each other, and a schedule of several `rows`."""

    def _rows(self, first: Value, last: Value) -> None:
        """Row by row; where tall tiles can begin, these come first, and their rows are then `done` but for the ends."""
        e, a, rows = self.e, self.a, self.schedule.rows

        def row(row: Value, done: Value) -> list[Value]:
            _, height = e.divmod(row, a.heights)
            # The last tile of a task or an image is moved back, and computes some rows twice.
            over = e.max(e.sub(e.add(row, rows), last), e.sub(e.add(height, rows), a.inner_bottom))
            back = e.max(over, 0)
            begin = e.sub(row, back)
            inside = e.b.icmp_signed("<", height, a.inner_bottom)
            inside = e.b.and_(inside, e.b.icmp_signed(">=", e.sub(height, back), a.inner_top))
            inside = e.b.and_(inside, e.b.icmp_signed(">=", begin, first))

            def tall() -> list[Value]:
                self._tall_tiles(begin)
                return [e.add(begin, rows)]

            begins = e.b.and_(inside, e.b.icmp_signed(">=", row, done))
            (done,) = e.choose(begins, tall, lambda: [done])
            self.done = e.b.icmp_signed("<", row, done)
            self._row(row)
            return [done]

        e.loop(first, last, row, [first])

    def _inner(self, pixel: Value) -> None:
        self.e.when(self.e.b.not_(self.done), lambda: super(TallKernel, self)._inner(pixel))

    def _tall_tiles(self, row: Value) -> None:
        """All tiles of the rows from this one on that lie inside."""
        e, a, pixels = self.e, self.a, self.schedule.pixels
        self._begin(row)
        outer = e.b.sext(e.load(self.depth_line, 0, I32), I64)
        entries = [e.b.sext(e.load(self.height_line, tap, I32), I64) for tap in range(2)]
        place, step = e.add(outer, entries[0]), e.sub(entries[1], entries[0])
        back = e.sub(a.columns, pixels)

        def tile(pixel: Value) -> None:
            pixel = e.min(pixel, back)
            column = e.add(e.mul(pixel, self.spec.stride), a.start)
            here = e.add(place, column)
            e.when(self._is_inner(pixel), lambda: self._blocks(lambda channel: self._tall(pixel, here, step, channel)))

        e.loop(0, a.columns, tile, step=pixels)

    def _tall(self, pixel: Value, place: Value, step: Value, channel: Value) -> None:
        """A tile whose first output's first tap reads `place`; from line to line it is `step` places."""
        e, spec, tile = self.e, self.spec, self.schedule
        cells = [(r, p, v) for r in range(tile.rows) for p in range(tile.pixels) for v in range(tile.vectors)]
        sums = {cell: e.splat(0.0) for cell in cells}
        weights = e.at(self.a.w, channel)
        for line in range(tile.rows + spec.rows - 1):
            x = self._input(e.add(place, e.mul(step, line)), channel)
            loaded: dict[tuple[int, int], Value] = {}
            for r in range(max(line - spec.rows + 1, 0), min(line + 1, tile.rows)):
                for t in range(spec.taps):
                    tap = (line - r) * spec.taps + t
                    own = [self._load(weights, tap * spec.channels, v) for v in range(tile.vectors)]
                    for p in range(tile.pixels):
                        at = p * spec.stride + t * spec.dilation
                        for v in range(tile.vectors):
                            if (at, v) not in loaded:
                                loaded[at, v] = self._load(x, at * self.inputs, v)
                            sums[r, p, v] = e.fma(loaded[at, v], own[v], sums[r, p, v])
        factors = self._epilogue_lines(channel, tile.vectors)
        for r, p, v in cells:
            output = e.add(e.add(self.first_output, e.mul(self.a.columns, r)), e.add(pixel, p))
            at = e.add(e.add(e.mul(output, spec.channels), channel), v * e.lanes)
            e.store_vector(self._epilogue(sums[r, p, v], at, factors, v), self.a.y, at, self.lanes_used)


def _write(
    spec: Channelwise, schedule: ChannelwiseSchedule, e: Emitter, slots: Value, task: Value, worker: Value
) -> None:
    kind = TallKernel if schedule.rows > 1 else ChannelwiseKernel
    kind(spec, schedule, e).write(slots, task, worker)


CHANNELWISE = Family("channelwise", POINTERS, NUMBERS, _write)
