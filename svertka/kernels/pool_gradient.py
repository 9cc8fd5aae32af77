"""The gradients of maximum and average pooling.

    maximum  dx[i] = Σ dy[o] over the outputs o that read input i and whose maximum stands there: places[o] = i
    average  dx[i] = Σ share(i, o) · dy[o] over the outputs o that read input i

On neighbouring channels each input gathers from its readers, a list of outputs, in vectors of channels: no sum is
shared by two threads, and no pass is needed that fills dx with zeros. On contiguous planes, where neighbours have
readers of their own, an average gathers number by number, and a maximum scatters: a plane belongs to one task, and its
outputs are added in order.
"""

from __future__ import annotations

from dataclasses import dataclass

from llvmlite import ir

from svertka.kernels.emit import I32, I64, Arguments, Emitter, Value
from svertka.kernels.family import Family

POINTERS = ("dy", "places", "dx", "starts", "readers", "shares")
NUMBERS = ("inputs", "outputs", "images", "parts", "part")


@dataclass(frozen=True)
class PoolGradient:
    """What is computed.

    Args:
        maximum: of a maximum, by int64 `places` like dy; else of an average, by float `shares` of each reader.
        channels: neighbours at one place; 0 if planes are contiguous, and `images` counts planes.
    """

    maximum: bool
    channels: int = 0


@dataclass(frozen=True)
class PoolGradientSchedule:
    """`vectors` of channels are gathered side by side."""

    vectors: int = 1


class _Writer:
    def __init__(self, spec: PoolGradient, schedule: PoolGradientSchedule, e: Emitter) -> None:
        self.spec, self.schedule, self.e = spec, schedule, e
        self.numbers = ir.VectorType(I64, e.lanes)

    def write(self, slots: Value, task: Value, _worker: Value) -> None:
        """Task image · parts + part of the inputs; a maximum on planes takes whole planes, and `part` of them."""
        e = self.e
        self.a = a = Arguments(e, slots, POINTERS, NUMBERS)
        image, part = e.divmod(task, a.parts)
        if not self.spec.channels and self.spec.maximum:
            first = e.mul(task, a.part)
            e.loop(first, e.min(e.add(first, a.part), a.images), self._scatter)
            return
        first = e.mul(part, a.part)
        last = e.min(e.add(first, a.part), a.inputs)
        step = self.spec.channels or 1
        self.dy = e.at(a.dy, e.mul(image, e.mul(a.outputs, step)))
        self.places = e.at(a.places, e.mul(image, e.mul(a.outputs, step)), I64)
        self.dx = e.at(a.dx, e.mul(image, e.mul(a.inputs, step)))
        e.loop(first, last, self._channels if self.spec.channels else self._number)

    def _readers(self, i: Value) -> tuple[Value, Value]:
        return tuple(self.e.b.sext(self.e.load(self.a.starts, self.e.add(i, k), I32), I64) for k in (0, 1))

    def _reader(self, r: Value) -> Value:
        return self.e.b.sext(self.e.load(self.a.readers, r, I32), I64)

    def _number(self, i: Value) -> None:
        """One input of a plane, of an average."""
        e = self.e

        def add(r: Value, total: Value) -> list[Value]:
            return [e.fma(e.load(self.a.shares, r), e.load(self.dy, self._reader(r)), total)]

        e.store(e.loop(*self._readers(i), add, [e.f32(0.0)])[0], self.dx, i)

    def _channels(self, i: Value) -> None:
        """All channels of one input."""
        e, channels = self.e, self.spec.channels
        width = self.schedule.vectors * e.lanes
        whole = channels // width * width
        first, last = self._readers(i)

        def block(c: Value, count: int) -> None:
            counts = [min(e.lanes, count - v * e.lanes) for v in range(-(-count // e.lanes))]

            def add(r: Value, *sums: Value) -> list[Value]:
                here = e.add(e.mul(self._reader(r), channels), c)
                return [self._added(i, r, e.add(here, v * e.lanes), lanes, sums[v]) for v, lanes in enumerate(counts)]

            sums = e.loop(first, last, add, [e.splat(0.0)] * len(counts))
            place = e.add(e.mul(i, channels), c)
            for v, lanes in enumerate(counts):
                e.store_vector(sums[v], self.dx, e.add(place, v * e.lanes), lanes)

        if whole:
            e.loop(0, whole, lambda c: block(c, width), step=width)
        if channels > whole:
            block(e.i64(whole), channels - whole)

    def _added(self, i: Value, r: Value, here: Value, lanes: int, total: Value) -> Value:
        e = self.e
        dy = e.load_vector(self.dy, here, lanes)
        if not self.spec.maximum:
            return e.fma(e.splat(e.load(self.a.shares, r)), dy, total)
        places = e.load_vector(self.places, here, lanes, self.numbers)
        stands = e.b.icmp_signed("==", places, e._splat(i, self.numbers))
        return e.b.select(stands, e.b.fadd(total, dy), total)

    def _scatter(self, plane: Value) -> None:
        """One plane of a maximum."""
        e, a = self.e, self.a
        dx, outputs = e.at(a.dx, e.mul(plane, a.inputs)), e.mul(plane, a.outputs)
        dy, places = e.at(a.dy, outputs), e.at(a.places, outputs, I64)
        whole = e.mul(e.divmod(a.inputs, e.lanes)[0], e.lanes)
        e.loop(0, whole, lambda i: e.store_vector(e.splat(0.0), dx, i), step=e.lanes)
        e.loop(whole, a.inputs, lambda i: e.store(e.f32(0.0), dx, i))

        def one(o: Value) -> None:
            place = e.load(places, o, I64)

            def add() -> None:
                e.store(e.b.fadd(e.load(dx, place), e.load(dy, o)), dx, place)

            e.when(e.b.icmp_signed(">=", place, e.i64(0)), add)

        e.loop(0, a.outputs, one)


def _write(
    spec: PoolGradient, schedule: PoolGradientSchedule, e: Emitter, slots: Value, task: Value, worker: Value
) -> None:
    _Writer(spec, schedule, e).write(slots, task, worker)


POOL_GRADIENT = Family("pool gradient", POINTERS, NUMBERS, _write)
