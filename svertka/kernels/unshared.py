"""Unshared convolutions: y[n, d, o] = b[o, d] + Σ_c Σ_t w[o, d, c, t] · x[n, c, source(o, t)].

Each weight is used once for each image, so reading the weights is the work. At a place they are a matrix [outputs,
channels · taps] in row-major order, as torch keeps them. The patches of a block of images, gathered through the index
map into scratch in the same order, are multiplied with one row after the other, several images at the same time:
vectors along (c, t), summed up at the end. A task is some places, one group and some rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from llvmlite import ir

from svertka.kernels.emit import I32, I64, Arguments, Emitter, Value, shuffle
from svertka.kernels.family import Family
from svertka.kernels.target import Target

POINTERS = ("x", "sources", "weight", "bias", "y")
NUMBERS = (
    "images", "places", "groups", "x_image", "x_channel", "x_place", "y_image", "y_channel", "y_place",
    "places_in_task", "row_tasks", "rows_in_task",
)  # fmt: skip
SCRATCH = 16384  # floats of the patches
_UNROLLED = 4  # channels


@dataclass(frozen=True)
class Unshared:
    """What is computed, for one group.

    Args:
        inputs, taps, outputs: c, t and d.
        bias: whether there is one.
    """

    inputs: int
    taps: int
    outputs: int
    bias: bool

    @property
    def terms(self) -> int:
        """Of a sum."""
        return self.inputs * self.taps


@dataclass(frozen=True)
class UnsharedSchedule:
    """A row is multiplied with the patches of `images` at the same time; `block` images have patches in scratch."""

    images: int
    block: int


def choose_unshared(spec: Unshared, target: Target) -> UnsharedSchedule:
    """The schedule; its block is 0 if not one patch has room."""
    images = 8
    room = min(SCRATCH // (-(-spec.terms // target.lanes) * target.lanes), 4 * images)
    return UnsharedSchedule(images, room - room % images if room > images else room)


def sums(e: Emitter, vectors: Sequence[Value]) -> Value:
    """The sum of each of at most as many vectors as one has lanes, in the first lanes of one."""
    vectors, width = list(vectors), e.lanes  # a vector holds several sums, each still spread over `width` lanes
    count = 1 << (len(vectors) - 1).bit_length()
    vectors += [vectors[-1]] * (count - len(vectors))
    while width > 1:
        half = width // 2
        low = [first + i for first in range(0, 2 * e.lanes, width) for i in range(half)]
        pairs = [(v, v) for v in vectors] if len(vectors) == 1 else zip(vectors[::2], vectors[1::2], strict=True)
        vectors = [e.b.fadd(shuffle(e, a, b, low), shuffle(e, a, b, [i + half for i in low])) for a, b in pairs]
        width = half
    return vectors[0]


class _Task:
    """Task (place block · groups + group) · row_tasks + row block."""

    def __init__(self, spec: Unshared, schedule: UnsharedSchedule, e: Emitter, slots: Value, task: Value) -> None:
        self.spec, self.schedule, self.e = spec, schedule, e
        self.a = a = Arguments(e, slots, POINTERS, NUMBERS)
        self.room = -(-spec.terms // e.lanes) * e.lanes
        self.patches = e.array(self.room * schedule.block)
        block, rows = e.divmod(task, a.row_tasks)
        block, self.group = e.divmod(block, a.groups)
        self.first_row = e.mul(rows, a.rows_in_task)
        self.last_row = e.min(e.add(self.first_row, a.rows_in_task), spec.outputs)
        first = e.mul(block, a.places_in_task)
        last = e.min(e.add(first, a.places_in_task), a.places)
        self._clear_ends()
        e.loop(first, last, self._place)

    def _clear_ends(self) -> None:
        """The weights past a row's end are read as 0; what they are multiplied with must be a number."""
        for image in range(self.schedule.block if self.room > self.spec.terms else 0):
            self.e.store_vector(self.e.splat(0.0), self.patches, (image + 1) * self.room - self.e.lanes)

    def _place(self, place: Value) -> None:
        e, a = self.e, self.a

        def images(first: Value) -> None:
            count = e.min(e.sub(a.images, first), self.schedule.block)
            self._gather(place, first, count)
            self._multiply(place, first, count)

        e.loop(0, a.images, images, step=self.schedule.block)

    def _gather(self, place: Value, first: Value, count: Value) -> None:
        """The patches of `count` images from the first on."""
        e, a, taps, inputs = self.e, self.a, self.spec.taps, self.spec.inputs
        x = e.at(a.x, e.add(e.mul(first, a.x_image), e.mul(self.group, e.mul(a.x_channel, inputs))))

        def tap(t: Value) -> None:
            source = e.b.sext(e.load(a.sources, e.add(e.mul(place, taps), t), I32), I64)

            def images(fill: bool) -> tuple[()]:
                def image(n: Value) -> None:
                    here = e.at(x, e.add(e.mul(n, a.x_image), e.mul(source, a.x_place)))
                    patch = e.at(self.patches, e.add(e.mul(n, self.room), t))

                    def channels(first: Any, count: int) -> None:
                        for c in range(count):
                            value = e.f32(0.0) if fill else e.load(here, e.mul(e.add(first, c), a.x_channel))
                            e.store(value, patch, e.mul(e.add(first, c), taps))

                    step = 1 if fill else _UNROLLED
                    whole = inputs // step * step
                    e.loop(0, whole, lambda c: channels(c, step), step=step)
                    channels(whole, inputs - whole)

                e.loop(0, count, image)
                return ()

            e.choose(e.b.icmp_signed(">=", source, e.i64(0)), lambda: images(False), lambda: images(True))

        e.loop(0, taps, tap)

    def _multiply(self, place: Value, first: Value, count: Value) -> None:
        e, a, spec, wide = self.e, self.a, self.spec, self.schedule.images
        channel = e.mul(self.group, spec.outputs)  # the group's first
        matrix = e.add(e.mul(place, e.mul(a.groups, spec.outputs)), channel)
        y = e.add(e.mul(first, a.y_image), e.add(e.mul(channel, a.y_channel), e.mul(place, a.y_place)))

        def row(number: Value) -> None:
            def tile(image: Value, width: int) -> None:
                self._tile(e.add(matrix, number), e.add(y, e.mul(number, a.y_channel)), image, width)

            whole = e.mul(e.divmod(count, wide)[0], wide)
            e.loop(0, whole, lambda image: tile(image, wide), step=wide)
            e.loop(whole, count, lambda image: tile(image, 1))

        e.loop(self.first_row, self.last_row, row)

    def _tile(self, row: Value, y: Value, image: Value, width: int) -> None:
        """A row of the weight, counted among all, times the patches of `width` images of the block."""
        e, a, spec = self.e, self.a, self.spec
        weight = e.at(a.weight, e.mul(row, spec.terms))
        patches = e.at(self.patches, e.mul(image, self.room))
        whole = spec.terms // e.lanes * e.lanes

        def step(term: Value, *acc: Value, count: int | None = None) -> list[Value]:
            left = e.load_vector(weight, term, count)
            right = [e.load_vector(patches, e.add(i * self.room, term)) for i in range(width)]
            return [e.fma(left, value, total) for value, total in zip(right, acc, strict=True)]

        acc = e.loop(0, whole, step, [e.splat(0.0)] * width, step=e.lanes)
        if whole < spec.terms:
            acc = step(e.i64(whole), *acc, count=spec.terms - whole)
        bias = e.load(a.bias, row) if spec.bias else None
        totals = [sums(e, acc[first : first + e.lanes]) for first in range(0, width, e.lanes)]
        for i in range(width):
            value = e.b.extract_element(totals[i // e.lanes], ir.Constant(I32, i % e.lanes))
            value = value if bias is None else e.b.fadd(value, bias)
            e.store(value, a.y, e.add(y, e.mul(e.add(image, i), a.y_image)))


def _write(spec: Unshared, schedule: UnsharedSchedule, e: Emitter, slots: Value, task: Value, _worker: Value) -> None:
    _Task(spec, schedule, e, slots, task)


UNSHARED = Family("unshared", POINTERS, NUMBERS, _write)
