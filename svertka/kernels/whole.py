"""One output for each plane: what an operation makes of all of it.

    y[p] = finish(Σ_i  x[p, i])        Σ: what the combination does

p runs over planes [sample, channel], i over all places of a plane. Only operations whose parts may be merged
(`Combination.separable`): four vectors of them run along the plane, so that none waits for another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from svertka.kernels.combine import Combination, Given
from svertka.kernels.emit import Arguments, Emitter, Value
from svertka.kernels.family import Family
from svertka.kernels.lines import first_lanes, load_first, store_first

POINTERS = ("x", "y", "count")
NUMBERS = ("planes", "group", "places")


@dataclass(frozen=True)
class Whole:
    """What is computed."""

    combination: Combination


@dataclass(frozen=True)
class WholeSchedule:
    """How it is computed.

    Args:
        vectors: partial results.
        planes: of a task, at most.
    """

    vectors: int = 4
    planes: int = 256


class WholeKernel:
    """Writes the task of a spec and a schedule."""

    def __init__(self, spec: Whole, schedule: WholeSchedule, e: Emitter) -> None:
        self.does, self.schedule, self.e = spec.combination, schedule, e

    def write(self, slots: Value, task: Value, _worker: Value) -> None:
        """Task: a group of planes. Their sums first, then the results of all, a vector at a time."""
        e = self.e
        self.a = a = Arguments(e, slots, POINTERS, NUMBERS)
        first = e.mul(task, a.group)
        count = e.sub(e.min(e.add(first, a.group), a.planes), first)
        sums = e.array(self.schedule.planes + e.lanes)
        e.loop(0, count, lambda plane: e.store(self._sum(e.add(first, plane)), sums, plane))
        given = Given(count=e.splat(e.load(a.count))) if "count" in self.does.required else Given()

        def finish(plane: Value) -> None:
            # The last vector reads sums that there are not, and stores nothing of them.
            (result,) = self.does.finish(e, [e.load_vector(sums, plane)], given)
            store_first(e, result, a.y, e.add(first, plane), e.sub(count, plane))

        e.loop(0, count, finish, step=e.lanes)

    def _sum(self, plane: Value) -> Value:
        """The state of a plane, one number."""
        e, places, vectors = self.e, self.a.places, self.schedule.vectors
        x = e.at(self.a.x, e.mul(plane, places))
        identity = e.splat(self.does.identity)

        def several(place: Value, *sums: Value) -> Sequence[Value]:
            return [self._step(total, e.load_vector(x, e.add(place, i * e.lanes))) for i, total in enumerate(sums)]

        whole = e.sub(places, e.divmod(places, vectors * e.lanes)[1])
        sums = e.loop(0, whole, several, [identity] * vectors, step=vectors * e.lanes)

        def one(place: Value, total: Value) -> Sequence[Value]:
            left = e.sub(places, place)
            stepped = self._step(total, load_first(e, x, place, left))
            return [e.b.select(first_lanes(e, left), stepped, total)]

        sums[0] = e.loop(whole, places, one, [sums[0]], step=e.lanes)[0]
        total = sums[0]
        for other in sums[1:]:
            total = self.does.merge(e, total, other)
        return e.across(total, lambda one, other: self.does.merge(e, one, other))

    def _step(self, total: Value, value: Value) -> Value:
        return self.does.step(self.e, 0, [total], value, None, None)[0]


def _write(spec: Whole, schedule: WholeSchedule, e: Emitter, slots: Value, task: Value, worker: Value) -> None:
    WholeKernel(spec, schedule, e).write(slots, task, worker)


WHOLE = Family("whole", POINTERS, NUMBERS, _write)
