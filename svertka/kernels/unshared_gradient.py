"""Gradients of unshared convolutions, o an output's place, d its channel, i an input's place, c its channel, t a tap.

    weight   dw[o, d, c, t] = Σ_n dy[n, d, o] · x[n, c, source(o, t)]
    patches  p[n, o, c, t] = Σ_d w[o, d, c, t] · dy[n, d, o]
    input    dx[n, c, i] = Σ p[n, o, c, t] over the pairs (o, t) that read i

Each weight is read or written once, which is the work. The patches of a place's windows, and dy there, are gathered
into scratch memory first. The gradient to the input takes two steps, so that no two tasks add to the same number.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from svertka.kernels.emit import I32, I64, Arguments, Emitter, Value
from svertka.kernels.family import Family
from svertka.kernels.target import Target

POINTERS = ("x", "sources", "dy", "w", "result")
NUMBERS = (
    "images", "places", "groups", "x_image", "x_channel", "x_place", "y_image", "y_channel", "y_place",
    "places_in_task",
)  # fmt: skip
SCRATCH = 16384  # floats of the patches, and of dy


@dataclass(frozen=True)
class UnsharedGradient:
    """What is computed, for one group.

    Args:
        inputs, taps, outputs: c, t and d.
    """

    inputs: int
    taps: int
    outputs: int

    @property
    def terms(self) -> int:
        """Weights of one output."""
        return self.inputs * self.taps


@dataclass(frozen=True)
class UnsharedGradientSchedule:
    """Tiles of `rows` outputs or images and `vectors` of terms; `block` images have room in scratch memory."""

    rows: int
    vectors: int
    block: int


def choose_unshared_gradient(spec: UnsharedGradient, target: Target) -> UnsharedGradientSchedule:
    """The schedule; its block is 0 if not one image has room."""
    vectors = 4 if target.registers >= 32 else 2
    room = SCRATCH // max(-(-spec.terms // target.lanes) * target.lanes, spec.outputs)
    return UnsharedGradientSchedule(4, min(vectors, -(-spec.terms // target.lanes)), min(room, 32))


class _Place:
    """What both steps at the places of outputs share: task place block · groups + group."""

    def __init__(
        self, spec: UnsharedGradient, schedule: UnsharedGradientSchedule, e: Emitter, slots: Value, task: Value
    ) -> None:
        self.spec, self.schedule, self.e = spec, schedule, e
        self.a = a = Arguments(e, slots, POINTERS, NUMBERS)
        self.gradients = e.array(spec.outputs * schedule.block)
        block, self.group = e.divmod(task, a.groups)
        first = e.mul(block, a.places_in_task)
        self.prepare()
        e.loop(first, e.min(e.add(first, a.places_in_task), a.places), self._images)

    def prepare(self) -> None:
        """Before the first place."""

    def at_place(self, place: Value, first: Value, count: Value) -> None:
        """What is done with `count` images from the first on, when their dy is in scratch memory."""
        raise NotImplementedError

    def _images(self, place: Value) -> None:
        e, a, spec = self.e, self.a, self.spec

        def images(first: Value) -> None:
            count = e.min(e.sub(a.images, first), self.schedule.block)

            def image(n: Value) -> None:
                dy = e.at(a.dy, e.add(e.mul(e.add(first, n), a.y_image), e.mul(place, a.y_place)))
                dy = e.at(dy, e.mul(self.group, e.mul(a.y_channel, spec.outputs)))
                to = e.at(self.gradients, e.mul(n, spec.outputs))
                e.loop(0, spec.outputs, lambda d: e.store(e.load(dy, e.mul(d, a.y_channel)), to, d))

            e.loop(0, count, image)
            self.at_place(place, first, count)

        e.loop(0, a.images, images, step=self.schedule.block)

    def matrix(self, place: Value) -> Value:
        """The first number of the place's and group's weights."""
        e, spec = self.e, self.spec
        return e.mul(e.add(e.mul(place, self.a.groups), self.group), spec.outputs * spec.terms)

    def term_blocks(self, block: Callable[[Value, Any], None]) -> None:
        """block(first term, [lanes of each vector]) over all terms of an output."""
        e, terms, width = self.e, self.spec.terms, self.schedule.vectors * self.e.lanes
        whole = terms // width * width
        if whole:
            e.loop(0, whole, lambda term: block(term, [e.lanes] * self.schedule.vectors), step=width)
        if whole < terms:
            rest = terms - whole
            block(e.i64(whole), [min(e.lanes, rest - at) for at in range(0, rest, e.lanes)])

    def row_blocks(self, count: Value | int, block: Callable[[Value, Any], None]) -> None:
        """block(first row, rows) over so many: tiles, and then single ones."""
        e, rows = self.e, self.schedule.rows
        whole = count // rows * rows if isinstance(count, int) else e.mul(e.divmod(count, rows)[0], rows)
        e.loop(0, whole, lambda row: block(row, rows), step=rows)
        e.loop(whole, count, lambda row: block(row, 1))


class _Weight(_Place):
    """dw, of which each task writes some places' matrices."""

    def prepare(self) -> None:
        """Room for patches, whose ends past the terms are never used."""
        self.room = -(-self.spec.terms // self.e.lanes) * self.e.lanes
        self.patches = self.e.array(self.room * self.schedule.block)

    def at_place(self, place: Value, first: Value, count: Value) -> None:
        """Adds so many images' products, or begins with them."""
        e, spec = self.e, self.spec
        self._gather(place, first, count)
        matrix = e.at(self.a.result, self.matrix(place))
        begins = e.b.icmp_signed("==", first, e.i64(0))

        def rows(row: Value, tile: int) -> None:
            def terms(term: Value, lanes: list[int]) -> None:
                starts = [e.add(e.mul(e.add(row, i), spec.terms), term) for i in range(tile)]
                places = [(e.add(at, v * e.lanes), n) for at in starts for v, n in enumerate(lanes)]

                def zeros() -> list[Value]:
                    return [e.splat(0.0) for _ in places]

                def stored() -> list[Value]:
                    return [e.load_vector(matrix, at, n) for at, n in places]

                def image(n: Value, *sums: Value) -> list[Value]:
                    patch = e.add(e.mul(n, self.room), term)
                    values = [e.load_vector(self.patches, e.add(patch, v * e.lanes)) for v in range(len(lanes))]
                    dy = e.add(e.mul(n, spec.outputs), row)
                    factors = [e.splat(e.load(self.gradients, e.add(dy, i))) for i in range(tile)]
                    products = [(factor, value) for factor in factors for value in values]
                    return [e.fma(f, value, total) for (f, value), total in zip(products, sums, strict=True)]

                sums = e.loop(0, count, image, e.choose(begins, zeros, stored))
                for total, (at, n) in zip(sums, places, strict=True):
                    e.store_vector(total, matrix, at, n)

            self.term_blocks(terms)

        self.row_blocks(spec.outputs, rows)

    def _gather(self, place: Value, first: Value, count: Value) -> None:
        """The patches of `count` images from the first on, 0 outside."""
        e, a, taps, inputs = self.e, self.a, self.spec.taps, self.spec.inputs
        x = e.at(a.x, e.add(e.mul(first, a.x_image), e.mul(self.group, e.mul(a.x_channel, inputs))))

        def tap(t: Value) -> None:
            source = e.b.sext(e.load(a.sources, e.add(e.mul(place, taps), t), I32), I64)

            def image(n: Value) -> None:
                here = e.at(x, e.add(e.mul(n, a.x_image), e.mul(source, a.x_place)))
                patch = e.at(self.patches, e.add(e.mul(n, self.room), t))
                e.loop(0, inputs, lambda c: e.store(e.load(here, e.mul(c, a.x_channel)), patch, e.mul(c, taps)))

            def nothing(n: Value) -> None:
                patch = e.at(self.patches, e.add(e.mul(n, self.room), t))
                e.loop(0, inputs, lambda c: e.store(e.f32(0.0), patch, e.mul(c, taps)))

            def read() -> tuple[()]:
                e.loop(0, count, image)
                return ()

            def clear() -> tuple[()]:
                e.loop(0, count, nothing)
                return ()

            e.choose(e.b.icmp_signed(">=", source, e.i64(0)), read, clear)

        e.loop(0, taps, tap)


class _Patches(_Place):
    """p [images, places, groups, terms]."""

    def at_place(self, place: Value, first: Value, count: Value) -> None:
        """A product of vector and matrix for each image."""
        e, a, spec = self.e, self.a, self.spec
        matrix = e.at(a.w, self.matrix(place))

        def images(image: Value, tile: int) -> None:
            def terms(term: Value, lanes: list[int]) -> None:
                def output(d: Value, *sums: Value) -> list[Value]:
                    at = e.add(e.mul(d, spec.terms), term)
                    values = [e.load_vector(matrix, e.add(at, v * e.lanes), n) for v, n in enumerate(lanes)]
                    dy = e.add(e.mul(image, spec.outputs), d)
                    factors = [e.splat(e.load(self.gradients, e.add(dy, i * spec.outputs))) for i in range(tile)]
                    products = [(factor, value) for factor in factors for value in values]
                    return [e.fma(f, value, total) for (f, value), total in zip(products, sums, strict=True)]

                sums = e.loop(0, spec.outputs, output, [e.splat(0.0)] * (tile * len(lanes)))
                for i in range(tile):
                    number = e.add(e.add(first, image), i)
                    at = e.add(e.mul(e.add(e.mul(number, a.places), place), a.groups), self.group)
                    at = e.add(e.mul(at, spec.terms), term)
                    for v, n in enumerate(lanes):
                        e.store_vector(sums[i * len(lanes) + v], a.result, e.add(at, v * e.lanes), n)

            self.term_blocks(terms)

        self.row_blocks(count, images)


def _write_weight(
    spec: UnsharedGradient, schedule: UnsharedGradientSchedule, e: Emitter, slots: Value, task: Value, _worker: Value
) -> None:
    _Weight(spec, schedule, e, slots, task)


def _write_patches(
    spec: UnsharedGradient, schedule: UnsharedGradientSchedule, e: Emitter, slots: Value, task: Value, _worker: Value
) -> None:
    _Patches(spec, schedule, e, slots, task)


UNSHARED_WEIGHT = Family("unshared weight gradient", POINTERS, NUMBERS, _write_weight)
UNSHARED_PATCHES = Family("unshared patches", POINTERS, NUMBERS, _write_patches)

INPUT_POINTERS = ("patches", "starts", "readers", "dx")
INPUT_NUMBERS = ("image", "channels", "x_channel", "x_place", "inputs", "parts", "part")


def _write_input(spec: UnsharedGradient, _: None, e: Emitter, slots: Value, task: Value, _worker: Value) -> None:
    """Task image · parts + part of the inputs; a reader is the place of its number of the first channel."""
    a = Arguments(e, slots, INPUT_POINTERS, INPUT_NUMBERS)
    image, part = e.divmod(task, a.parts)
    patches = e.at(a.patches, e.mul(image, a.image))
    dx = e.at(a.dx, e.mul(image, e.mul(a.inputs, a.channels)))
    first = e.mul(part, a.part)

    def place(i: Value) -> None:
        begin, end = (e.b.sext(e.load(a.starts, e.add(i, k), I32), I64) for k in (0, 1))

        def channel(c: Value) -> None:
            own = e.at(patches, e.mul(c, spec.taps))

            def reader(r: Value, total: Value) -> list[Value]:
                return [e.b.fadd(total, e.load(own, e.load(a.readers, r, I64)))]

            (total,) = e.loop(begin, end, reader, [e.f32(0.0)])
            e.store(total, dx, e.add(e.mul(c, a.x_channel), e.mul(i, a.x_place)))

        e.loop(0, a.channels, channel)

    e.loop(first, e.min(e.add(first, a.part), a.inputs), place)


UNSHARED_INPUT = Family("unshared input gradient", INPUT_POINTERS, INPUT_NUMBERS, _write_input)
