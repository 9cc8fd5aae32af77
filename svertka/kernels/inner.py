"""Inner products: a dense layer of few images, whose weights are read once, and as they lie.

    y[m, j] = epilogue(Σ_k x[m, k] · w[j, k])

w is [outputs, inputs], row by row, as torch has it: where each weight is needed for a few images alone, putting them in
an order for the kernel would cost as much as the product, and as much memory again.

The register tile is all images × `rows` of w; each sum is a vector, whose lanes are added up at the end. Sums go to
the stack, and the epilogue is done to vectors of neighbouring outputs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from svertka.kernels.emit import Arguments, Emitter, Value
from svertka.kernels.epilogue import NOTHING, Epilogue, activate
from svertka.kernels.family import Family
from svertka.kernels.target import Target

POINTERS = ("x", "w", "y", "bias", "scale", "residual")
_ROWS = (8, 4, 3, 2, 1)  # of a register tile
_AHEAD = 512  # floats of a row, across whose pages the hardware's own prefetching doesn't reach


@dataclass(frozen=True)
class Inner:
    """What is computed.

    Args:
        inputs, outputs, images: sizes; the images are few.
        epilogue: its lines have a number for each output.
    """

    inputs: int
    outputs: int
    images: int
    epilogue: Epilogue = NOTHING


@dataclass(frozen=True)
class InnerSchedule:
    """How it is computed.

    Args:
        rows: of w in the register tile.
        vectors: of outputs in a task.
        ahead: the weights so many floats on are asked for in advance.
    """

    rows: int
    vectors: int
    ahead: int = 0


def choose_inner(spec: Inner, target: Target) -> InnerSchedule:
    """As many rows as have their sums in registers, beside a vector of each and one of x; tasks of whole tiles."""
    most = min((target.registers - 1) // (spec.images + 1), spec.outputs)
    rows = next((rows for rows in _ROWS if rows <= most), 1)
    far = 4 * spec.inputs * spec.outputs > target.l2
    return InnerSchedule(rows, -(-rows // math.gcd(rows, target.lanes)), _AHEAD if far else 0)


class InnerKernel:
    """Writes the task of a spec and a schedule."""

    def __init__(self, spec: Inner, schedule: InnerSchedule, e: Emitter) -> None:
        self.spec, self.schedule, self.e = spec, schedule, e
        self.width = schedule.vectors * e.lanes
        self.before = schedule.rows  # the last task's tile may begin before it, so that it ends with the last row
        self.room = self.before + self.width  # of an image's sums

    def write(self, slots: Value, task: Value, _worker: Value) -> None:
        """Task outputs."""
        e, spec, rows = self.e, self.spec, self.schedule.rows
        self.a = Arguments(e, slots, POINTERS, ())
        self.sums = e.array(self.room * spec.images)
        first = e.mul(task, self.width)
        last = e.min(e.add(first, self.width), spec.outputs)

        def tile(row: Value) -> None:
            row = e.min(row, e.sub(last, rows))
            self._tile(row, e.sub(row, first))

        e.loop(first, last, tile, step=rows)
        e.loop(0, spec.images, lambda image: self._finish(image, first, last))

    def _tile(self, row: Value, place: Value) -> None:
        """The sums of all images with `rows` rows of w, of which the first is the task's `place`-th."""
        e, spec, rows, lanes = self.e, self.spec, self.schedule.rows, self.e.lanes
        lines = [e.at(self.a.w, e.mul(e.add(row, r), spec.inputs)) for r in range(rows)]
        whole = spec.inputs // lanes * lanes

        def products(k: int | Value, acc: list[Value], count: int) -> list[Value]:
            weights = [e.load_vector(line, k, count) for line in lines]
            result: list[Value] = []
            for m in range(spec.images):
                x = e.load_vector(self.a.x, e.add(k, m * spec.inputs), count)
                result += [e.fma(x, weights[r], acc[m * rows + r]) for r in range(rows)]
            return result

        def turn(k: Value, *acc: Value) -> list[Value]:
            for line in lines if self.schedule.ahead else ():
                for part in range(0, lanes, 16):
                    e.prefetch(line, e.add(k, part + self.schedule.ahead))
            return products(k, list(acc), lanes)

        acc = e.loop(0, whole, turn, [e.splat(0.0)] * (spec.images * rows), step=lanes)
        if whole < spec.inputs:
            acc = products(whole, acc, spec.inputs - whole)
        for m in range(spec.images):
            for r in range(rows):
                at = e.add(place, self.before + m * self.room + r)
                e.store(e.across(acc[m * rows + r], e.b.fadd), self.sums, at)

    def _finish(self, image: Value, first: Value, last: Value) -> None:
        """Epilogue and store of an image's outputs."""
        e, outputs, lanes = self.e, self.spec.outputs, self.e.lanes
        sums = e.at(self.sums, e.add(e.mul(image, self.room), self.before))
        start = e.mul(image, outputs)

        def vector(channel: Value) -> None:
            def stored(count: int) -> tuple[()]:
                value = e.load_vector(sums, e.sub(channel, first))
                self._store(value, e.add(start, channel), channel, count)
                return ()

            rest = outputs % lanes
            if outputs < lanes or not rest:
                stored(min(outputs, lanes))
            else:
                inside = e.b.icmp_signed("<=", channel, e.i64(outputs - lanes))
                e.choose(inside, lambda: stored(lanes), lambda: stored(rest))

        e.loop(first, last, vector, step=lanes)

    def _store(self, value: Value, place: Value, channel: Value, count: int) -> None:
        e, epilogue = self.e, self.spec.epilogue
        bias = e.load_vector(self.a.bias, channel, count) if epilogue.bias else None
        if epilogue.scale:
            scale = e.load_vector(self.a.scale, channel, count)
            value = e.fma(value, scale, bias) if epilogue.bias else e.b.fmul(value, scale)
        elif epilogue.bias:
            value = e.b.fadd(value, bias)
        if epilogue.residual:
            value = e.b.fadd(value, e.load_vector(self.a.residual, place, count))
        e.store_vector(activate(e, epilogue.activation, value), self.a.y, place, count)


def _write(spec: Inner, schedule: InnerSchedule, e: Emitter, slots: Value, task: Value, worker: Value) -> None:
    InnerKernel(spec, schedule, e).write(slots, task, worker)


INNER = Family("inner", POINTERS, (), _write)
