"""Convolutions in groups of few channels, several groups side by side in each vector.

    y[o, g·D + d] = epilogue(Σ_t Σ_c  x[source(o, t), g·C + c] · w[t, g·D + d, c])

C inputs and D outputs in each of the groups g, as many of which as there is room for make a vector. The sum over c goes
round: in turn r each output takes input (d + r) mod C of its group, so that a turn is one permutation of the vectors of
inputs, the same for all, and a multiply-add for each tap that reads a place. Depthwise convolutions with several
outputs for each channel are the case C = 1.

Rows, tables and tiles are those of the channelwise family; outputs near the ends of a row go one by one. Weights are
[taps][turns][outputs], with a vector's room at the end.
"""

# ruff: noqa: ARG002 (a step is told more than it needs)

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from llvmlite import ir

from svertka.kernels.channelwise import (
    NUMBERS,
    POINTERS,
    UNROLLED,
    Channelwise,
    ChannelwiseKernel,
    ChannelwiseSchedule,
)
from svertka.kernels.combine import State
from svertka.kernels.emit import I32, Emitter, Value, shuffle
from svertka.kernels.family import Family
from svertka.kernels.target import Target

_TURNS = 4  # so few are written out,
_CODE = 24  # with so many taps · turns at a time
_PIXELS = 14  # and so many pixels in a tile


@dataclass(frozen=True)
class Grouped(Channelwise):
    """What is computed, a weighted sum; `channels` are those of the output.

    Args:
        of_group: inputs and outputs of a group.
    """

    of_group: tuple[int, int] = (1, 1)

    def in_vector(self, lanes: int) -> int:
        """Groups side by side in a vector with so many lanes."""
        return min(lanes // max(self.of_group), self.channels // self.of_group[1])


def choose_grouped(spec: Grouped, target: Target, inner: int) -> ChannelwiseSchedule | None:
    """The schedule for rows with so many outputs whose taps are all inside; None if a vector would hold one group."""
    lanes = target.lanes
    if spec.in_vector(lanes) < 2:
        return None
    while lanes > 4 and spec.channels // spec.of_group[1] * max(spec.of_group) <= lanes // 2:
        lanes //= 2
    if _written_out(spec, target):
        most = min(target.registers - 3 - min(spec.of_group[0] * spec.taps, target.registers // 3), _PIXELS)
    else:
        most = target.registers - 3 - min(spec.taps, UNROLLED)  # the weights of a turn, its order, an input
    return ChannelwiseSchedule(lanes, max(-(-inner // max(-(-inner // most), 1)), 1))


def _written_out(spec: Grouped, target: Target) -> bool:
    """Whether turns are written out, and an input is loaded once for all of them: weights take the registers."""
    return spec.of_group[0] <= _TURNS or not target.permutes


class GroupedKernel(ChannelwiseKernel):
    """Writes the task of a spec and a schedule of one vector."""

    spec: Grouped

    def __init__(self, spec: Grouped, schedule: ChannelwiseSchedule, e: Emitter) -> None:
        super().__init__(spec, schedule, e)
        inputs, outputs = spec.of_group
        groups = spec.in_vector(e.lanes)
        self.lanes_used, self.lanes_read = groups * outputs, groups * inputs
        self.inputs = spec.channels // outputs * inputs
        self.written_out = _written_out(spec, e.target)
        self.unrolled = min(max(_CODE // inputs, 1), UNROLLED) if self.written_out else UNROLLED
        places = [divmod(lane, outputs) if lane < self.lanes_used else (0, 0) for lane in range(e.lanes)]
        self.orders = [[group * inputs + (d + turn) % inputs for group, d in places] for turn in range(inputs)]

    def write(self, slots: Value, task: Value, worker: Value) -> None:
        """As there, with the orders of the turns at hand."""
        e = self.e
        if not self.written_out:
            self.table = e.array(len(self.orders) * e.lanes, I32)
            for turn, order in enumerate(self.orders):
                e.store_vector(ir.Constant(e.indices, order), self.table, turn * e.lanes)
        super().write(slots, task, worker)

    def _tiles(self) -> None:
        """Tiles are whole: there is none if less than one lies inside."""
        e, a, pixels = self.e, self.a, self.schedule.pixels
        back = e.sub(a.inner_last, pixels)
        e.loop(0, a.inner_first, self._single)
        e.loop(
            a.inner_first,
            a.inner_last,
            lambda pixel: self._blocks(lambda channel: self._inside(e.min(pixel, back), channel)),
            step=pixels,
        )
        e.loop(a.inner_last, a.columns, self._single)

    def _input(self, place: Value, channel: Value) -> Value:
        inputs, outputs = self.spec.of_group
        group, _ = self.e.divmod(channel, outputs)
        return self.e.at(self.x, self.e.add(self.e.mul(place, self.inputs), self.e.mul(group, inputs)))

    def _loaded(self, place: Value, channel: Value, offset: int) -> Value:
        """The inputs for outputs from a channel on, `offset` places further."""
        x = self._input(place, channel)
        return self.e.load_vector(x, offset * self.inputs, self.lanes_read)

    def _weights(self, tap: Value, turn: Any, channel: Value, taps: int) -> list[Value]:
        """The weights of a turn for some taps and the outputs from a channel on."""
        e, turns, channels = self.e, len(self.orders), self.spec.channels
        first = e.at(self.a.w, e.add(e.mul(e.add(e.mul(tap, turns), turn), channels), channel))
        return [e.load_vector(first, t * turns * channels) for t in range(taps)]

    def _steps(self, turn: int, place: Value, tap: Value, taps: list[int], channel: Value, state: State) -> State:
        """One input of one output: its group's sum first, which waits for no other."""
        sums = self._sum({0: [(0, 0)]}, place, tap, 1, channel, [self.e.splat(0.0)])
        return [self.e.b.fadd(state[0], sums[0])]

    def _unrolled(self, turn: int, taps: int, place: Value, tap: Value, channel: Value, state: State) -> State:
        spec = self.spec
        readers: dict[int, list[tuple[int, int]]] = {}
        for p in range(self.schedule.pixels):
            for t in range(taps):
                readers.setdefault(p * spec.stride + t * spec.dilation, []).append((p, t))
        return self._sum(readers, place, tap, taps, channel, state)

    def _sum(
        self,
        readers: dict[int, list[tuple[int, int]]],
        place: Value,
        tap: Value,
        taps: int,
        channel: Value,
        state: State,
    ) -> State:
        """Adds up all inputs at the places of `readers`: which pixels read each, and by which tap."""
        e = self.e
        if self.written_out:
            weights = [self._weights(tap, turn, channel, taps) for turn in range(len(self.orders))]
            result = list(state)
            for offset, pixels in sorted(readers.items()):
                value = self._loaded(place, channel, offset)
                for order, weight in zip(self.orders, weights, strict=True):
                    turned = shuffle(e, value, value, order)
                    for p, t in pixels:
                        result[p] = e.fma(turned, weight[t], result[p])
            return result

        def turn(number: Value, *state: Value) -> State:
            weight, result = self._weights(tap, number, channel, taps), list(state)
            order = e.load_vector(self.table, e.mul(number, e.lanes), kind=e.indices)
            for offset, pixels in sorted(readers.items()):
                turned = e.permuted(self._loaded(place, channel, offset), order)
                for p, t in pixels:
                    result[p] = e.fma(turned, weight[t], result[p])
            return result

        return e.loop(0, len(self.orders), turn, state)


def _write(spec: Grouped, schedule: ChannelwiseSchedule, e: Emitter, slots: Value, task: Value, worker: Value) -> None:
    GroupedKernel(spec, schedule, e).write(slots, task, worker)


GROUPED = Family("grouped", POINTERS, NUMBERS, _write)
