"""Batch norm in training, in passes over x [images, C, places] with neighbouring channels or plane by plane.

    y = (x − mean) · invstd · γ + β, then perhaps max(y, 0)         invstd = 1 / √(var + ε), over M numbers of a channel
    dβ = Σ dy      dγ = invstd · Σ dy · (x − mean)      dx = γ · invstd · (dy − dβ / M − (x − mean) · invstd · dγ / M)

x is cut into parts: blocks of places (`planes` false) or single planes. Of each part, with its first number k, the mean
k + Σ (x − k) / n and M₂ = Σ (x − k)² − (Σ (x − k))² / n are taken in one pass, so that a mean that is large beside the
deviation costs no digits; parts are put together in order, mean = m₀ + Σ n (m − m₀) / M and var · M = Σ M₂ +
n (m − mean)² (Chan, Golub & LeVeque, "Algorithms for computing the sample variance", 1983). Backward, where a maximum
with 0 let nothing through, dy counts as 0: y's sign is computed again, from the same numbers, and is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from llvmlite import ir

from svertka.kernels.emit import F32, I32, Arguments, Emitter, Value
from svertka.kernels.family import Family
from svertka.kernels.lines import first_lanes, load_first, store_first

POINTERS = ("x", "y", "dy", "weight", "bias", "stats", "parts", "results")
NUMBERS = ("channels", "rows", "part", "count", "total", "last_count")
MEAN, VARIANCE, INVSTD = 0, 1, 2  # lines of `stats`
VECTORS = 4  # of neighbouring channels at a time


@dataclass(frozen=True)
class BatchNorm:
    """What one pass does.

    Args:
        does: "moments", "normalise", "sums" (of the gradient), "gradient"; "join moments", "join sums": of all parts.
        planes: x is [images · channels, places], else [places, channels].
        relu: max(y, 0) follows.
        epsilon: added to the variance.
    """

    does: str
    planes: bool
    relu: bool = False
    epsilon: float = 0.0


class _Writer:
    def __init__(self, spec: BatchNorm, e: Emitter, slots: Value, task: Value) -> None:
        self.spec, self.e, self.task = spec, e, task
        self.a = Arguments(e, slots, POINTERS, NUMBERS)

    def line(self, pointer: Value, number: Any, channel: Value) -> Value:
        """Where a channel's number stands in line `number` of [lines, channels]."""
        return self.e.at(pointer, self.e.add(self.e.mul(number, self.a.channels), channel))

    def pass_over(self, begin: Callable[[Any, Any], Any]) -> None:
        """The task's part of x, all its channels.

        Args:
            begin: `begin(known, first)` gives what is carried at first, `step(place, left, carried)` for one vector, of
                which only the first `left` lanes count if that is no None, and `end(carried, count)`, the numbers to
                keep of each channel. `known(pointer, line)` is what is known of the channels, `first()` the part's
                first number of each.
        """
        if self.spec.planes:
            self._plane(begin)
        else:
            self._rows(begin)

    def _rows(self, begin: Callable[[Any, Any], Any]) -> None:
        e, a = self.e, self.a
        first = e.mul(self.task, a.part)
        last = e.min(e.add(first, a.part), a.rows)

        def block(channel: Value, vectors: int, left: Value | None) -> None:
            def one(v: int) -> Any:
                here = e.add(channel, v * e.lanes)
                place = e.add(e.mul(first, a.channels), here)
                return begin(
                    lambda pointer, line: self.load(self.line(pointer, line, here), 0, left),
                    lambda: self.load(a.x, place, left),
                )

            parts = [one(v) for v in range(vectors)]
            size = len(parts[0][0])

            def row(number: Value, *acc: Value) -> list[Value]:
                place, result = e.add(e.mul(number, a.channels), channel), []
                for v, (_, step, _) in enumerate(parts):
                    result += step(e.add(place, v * e.lanes), left, acc[v * size : (v + 1) * size])
                return result

            acc = e.loop(first, last, row, [value for start, _, _ in parts for value in start])
            for v, (_, _, end) in enumerate(parts):
                for number, value in enumerate(end(acc[v * size : (v + 1) * size], e.sub(last, first))):
                    line = e.add(e.mul(self.task, 2), number)
                    self.store(value, self.line(a.parts, line, e.add(channel, v * e.lanes)), 0, left)

        width = VECTORS * e.lanes
        whole = e.mul(e.divmod(a.channels, width)[0], width)
        e.loop(0, whole, lambda channel: block(channel, VECTORS, None), step=width)
        e.loop(whole, a.channels, lambda channel: block(channel, 1, e.sub(a.channels, channel)), step=e.lanes)

    def _plane(self, begin: Callable[[Any, Any], Any]) -> None:
        e, a = self.e, self.a
        image, channel = e.divmod(self.task, a.channels)
        place = e.mul(self.task, a.part)
        start, step, end = begin(
            lambda pointer, line: e.splat(e.load(self.line(pointer, line, channel))),
            lambda: e.splat(e.load(a.x, place)),
        )
        whole = e.mul(e.divmod(a.part, e.lanes)[0], e.lanes)
        acc = e.loop(0, whole, lambda i, *acc: step(e.add(place, i), None, acc), start, step=e.lanes)
        left = e.sub(a.part, whole)
        acc = e.choose(e.b.icmp_signed(">", left, e.i64(0)), lambda: step(e.add(place, whole), left, acc), lambda: acc)
        for number, value in enumerate(end([self._across(value) for value in acc], self.e.value(a.part))):
            one = e.b.extract_element(value, ir.Constant(I32, 0))
            e.store(one, self.line(a.parts, e.add(e.mul(image, 2), number), channel))

    def _across(self, value: Value) -> Value:
        """The sum of a vector's lanes, in each lane."""
        e = self.e
        total = e.b.extract_element(value, ir.Constant(I32, 0))
        for lane in range(1, e.lanes):
            total = e.b.fadd(total, e.b.extract_element(value, ir.Constant(I32, lane)))
        return e.splat(total)

    def load(self, pointer: Value, place: Any, left: Value | None) -> Value:
        """A vector; the lanes from `left` on are 0."""
        e = self.e
        return e.load_vector(pointer, place) if left is None else load_first(e, pointer, place, left)

    def store(self, value: Value, pointer: Value, place: Any, left: Value | None) -> None:
        """Stores a vector, or its lanes below `left`."""
        if left is None:
            self.e.store_vector(value, pointer, place)
        else:
            store_first(self.e, value, pointer, place, left)

    def moments(self) -> None:
        """[parts, 2, channels]: the mean and M₂ of each part."""
        e = self.e
        zero = e.splat(0.0)

        def begin(_: Any, first: Any) -> Any:
            shift = first()

            def step(place: Value, left: Value | None, acc: Sequence[Value]) -> list[Value]:
                d = self._centred(place, left, shift)
                d = d if left is None else e.b.select(first_lanes(e, left), d, zero)
                return [e.b.fadd(acc[0], d), e.fma(d, d, acc[1])]

            def end(acc: Sequence[Value], count: Value) -> list[Value]:
                d = e.b.fdiv(acc[0], e.splat(e.b.sitofp(count, F32)))
                m2 = e.b.fsub(acc[1], e.b.fmul(acc[0], d))
                return [e.b.fadd(shift, d), e.b.select(e.b.fcmp_ordered("<", m2, zero), zero, m2)]

            return [zero, zero], step, end

        self.pass_over(begin)

    def _centred(self, place: Value, left: Value | None, mean: Value) -> Value:
        return self.e.b.fsub(self.load(self.a.x, place, left), mean)

    def normalise(self) -> None:
        """y."""
        e, a = self.e, self.a

        def begin(known: Any, _: Any) -> Any:
            mean, scale, bias = self._factors(known)

            def step(place: Value, left: Value | None, _: Sequence[Value]) -> list[Value]:
                y = e.fma(self._centred(place, left, mean), scale, bias)
                if self.spec.relu:
                    y = e.b.select(e.b.fcmp_ordered("<", y, e.splat(0.0)), e.splat(0.0), y)
                self.store(y, a.y, place, left)
                return []

            return [], step, lambda *_: []

        self.pass_over(begin)

    def _factors(self, known: Any) -> tuple[Value, Value, Value]:
        a = self.a
        scale = self.e.b.fmul(known(a.stats, INVSTD), known(a.weight, 0))
        return known(a.stats, MEAN), scale, known(a.bias, 0)

    def _gradient(self, place: Value, left: Value | None, centred: Value, scale: Value, bias: Value) -> Value:
        """dy, where it went through the maximum."""
        e = self.e
        dy = self.load(self.a.dy, place, left)
        if not self.spec.relu:
            return dy
        y = e.fma(centred, scale, bias)
        return e.b.select(e.b.fcmp_ordered("<=", y, e.splat(0.0)), e.splat(0.0), dy)

    def sums(self) -> None:
        """[parts, 2, channels]: Σ dy and Σ dy · (x − mean)."""
        e = self.e

        def begin(known: Any, _: Any) -> Any:
            mean, scale, bias = self._factors(known)

            def step(place: Value, left: Value | None, acc: Sequence[Value]) -> list[Value]:
                centred = self._centred(place, left, mean)
                dy = self._gradient(place, left, centred, scale, bias)
                return [e.b.fadd(acc[0], dy), e.fma(dy, centred, acc[1])]

            return [e.splat(0.0)] * 2, step, lambda acc, _: acc

        self.pass_over(begin)

    def gradient(self) -> None:
        """dx, to y."""
        e, a = self.e, self.a

        def begin(known: Any, _: Any) -> Any:
            mean, scale, bias = self._factors(known)
            n = e.splat(e.b.sitofp(a.total, F32))
            share = e.b.fdiv(known(a.results, 0), n)
            slope = e.b.fdiv(e.b.fmul(known(a.results, 1), known(a.stats, INVSTD)), n)

            def step(place: Value, left: Value | None, _: Sequence[Value]) -> list[Value]:
                centred = self._centred(place, left, mean)
                dy = self._gradient(place, left, centred, scale, bias)
                dx = e.b.fsub(e.b.fsub(dy, share), e.b.fmul(centred, slope))
                self.store(e.b.fmul(dx, scale), a.y, place, left)
                return []

            return [], step, lambda *_: []

        self.pass_over(begin)

    def join(self) -> None:
        """A vector of channels of all parts: `stats` of moments, [dβ, dγ] in `results` of sums."""
        e, a = self.e, self.a
        channel = e.mul(self.task, e.lanes)
        left = e.sub(a.channels, channel)

        def part(number: Value, line: int) -> Value:
            return self.load(self.line(a.parts, e.add(e.mul(number, 2), line), channel), 0, left)

        def float_of(number: Value) -> Value:
            return e.splat(e.b.sitofp(self.e.value(number), F32))

        def size(number: Value) -> Value:
            last = e.b.icmp_signed("==", number, e.sub(a.count, 1))
            return float_of(e.b.select(last, self.e.value(a.last_count), self.e.value(a.part)))

        total, zero = float_of(a.total), e.splat(0.0)
        if self.spec.does == "join sums":

            def add(number: Value, *acc: Value) -> list[Value]:
                return [e.b.fadd(acc[line], part(number, line)) for line in range(2)]

            shift, products = e.loop(0, a.count, add, [zero, zero])
            self.store(shift, self.line(a.results, 0, channel), 0, left)
            invstd = self.load(self.line(a.stats, INVSTD, channel), 0, left)
            self.store(e.b.fmul(products, invstd), self.line(a.results, 1, channel), 0, left)
            return
        origin = part(e.i64(0), 0)
        (moved,) = e.loop(1, a.count, lambda k, acc: [e.fma(size(k), e.b.fsub(part(k, 0), origin), acc)], [zero])
        mean = e.b.fadd(origin, e.b.fdiv(moved, total))

        def spread(k: Value, acc: Value) -> list[Value]:
            off = e.b.fsub(part(k, 0), mean)
            return [e.b.fadd(acc, e.fma(e.b.fmul(size(k), off), off, part(k, 1)))]

        variance = e.b.fdiv(e.loop(0, a.count, spread, [zero])[0], total)
        invstd = e.b.fdiv(e.splat(1.0), e.call("llvm.sqrt", e.b.fadd(variance, e.splat(self.spec.epsilon))))
        for line, value in ((MEAN, mean), (VARIANCE, variance), (INVSTD, invstd)):
            self.store(value, self.line(a.stats, line, channel), 0, left)


def _write(spec: BatchNorm, _: None, e: Emitter, slots: Value, task: Value, _worker: Value) -> None:
    writer = _Writer(spec, e, slots, task)
    name = "join" if spec.does.startswith("join") else spec.does
    getattr(writer, name)()


BATCH_NORM = Family("batch norm", POINTERS, NUMBERS, _write)
