"""Weights in the order that kernels read, and sums of gradients in the weight's own order.

    packed[g, b, k, l] = w[g · group_step + (b · width + l) · step + source[k]]          (0 where b · width + l ≥ lines)
    w[…] = Σ_s packed[s, g, b, k, l], and bias[g · lines + b · width + l] = Σ_s packed[s, g, b, numbers, l]

l runs over the channels that lie in a vector (the outputs of a convolution, or the inputs of its gradient), k over
taps and the other channels. Two tables tell where in the weight each k stands, and which k: they are sorted by the
first, so that the weight is walked from its begin to its end. The s parts are added up in order, whoever computed them.

Where source[k] = k in that order, and the vector's channels are far apart, blocks of lanes × lanes numbers are turned
in registers: each line of the cache is read or written as a whole, and not once for each of its numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from llvmlite import ir

from svertka.kernels.emit import I32, I64, POINTER, Arguments, Emitter, Value
from svertka.kernels.family import Family
from svertka.kernels.lines import first_lanes, load_first, store_first
from svertka.kernels.transpose import transposed

NUMBERS = ("blocks", "lines", "step", "group_step", "count", "part", "parts")


@dataclass(frozen=True)
class Weights:
    """What is moved.

    Args:
        neighbours: the vector's channels are neighbours in the weight.
        vectors: to a block.
        bias: there is one number more for each channel, after all k.
        turned: each channel's numbers are neighbours, in the tables' order.
    """

    neighbours: bool
    vectors: int
    bias: bool = False
    turned: bool = False


class _Mover:
    """Where a task's numbers are: task (group · blocks + block) · parts + part of the table."""

    def __init__(self, spec: Weights, e: Emitter, slots: Value, task: Value, pointers: Any, numbers: Any) -> None:
        self.spec, self.e = spec, e
        self.a = a = Arguments(e, slots, pointers, numbers)
        self.width = spec.vectors * e.lanes
        self.block_number, self.part = e.divmod(task, a.parts)
        self.group, self.block = e.divmod(self.block_number, a.blocks)
        self.first = e.mul(self.part, a.part)
        self.last = e.min(e.add(self.first, a.part), a.count)
        self.w = e.at(a.w, e.add(e.mul(self.group, a.group_step), e.mul(e.mul(self.block, self.width), a.step)))
        self.left = e.sub(a.lines, e.mul(self.block, self.width))

    def each(self, body: Any, block: Any) -> None:
        """body(place in the weight, number of the vector's row) for the task's k.

        Where the weight is turned, block(place, where the rows begin) for as many as a vector has lanes.
        """
        e, a = self.e, self.a

        def row(index: Value) -> Value:
            return e.b.sext(e.load(a.rows, index, I32), I64)

        def one(index: Value) -> None:
            body(e.at(self.w, e.b.sext(e.load(a.sources, index, I32), I64)), row(index))

        first = self.first
        if self.spec.turned:
            first = e.sub(self.last, e.divmod(e.sub(self.last, self.first), e.lanes)[1])

            def several(index: Value) -> None:
                block(e.at(self.w, index), [e.mul(row(e.add(index, i)), self.width) for i in range(e.lanes)])

            e.loop(self.first, first, several, step=e.lanes)
        e.loop(first, self.last, one)

    def each_channel(self, place: Value, v: Value, body: Any) -> None:
        """body(place of its first number, lane) for the channels that there are of vector v."""
        e, a = self.e, self.a
        here = e.at(place, e.mul(a.step, e.mul(v, e.lanes)))
        count = e.min(e.sub(self.left, e.mul(v, e.lanes)), e.lanes)
        e.loop(0, count, lambda lane: body(e.at(here, e.mul(lane, a.step)), lane))


def _pack(spec: Weights, _: Any, e: Emitter, slots: Value, task: Value, _worker: Value) -> None:
    m = _Mover(spec, e, slots, task, PACK.pointers, NUMBERS)
    packed = e.at(m.a.packed, e.mul(e.mul(m.block_number, m.a.count), m.width))

    def one(source: Value, k: Value) -> None:
        for v in range(spec.vectors):
            left = e.sub(m.left, v * e.lanes)
            here = e.at(source, e.mul(m.a.step, v * e.lanes))
            value = load_first(e, here, 0, left) if spec.neighbours else _gather(e, here, m.a.step, left)
            e.store_vector(value, packed, e.add(e.mul(k, m.width), v * e.lanes))

    lines = e.array(e.lanes * e.lanes) if spec.turned else None

    def block(source: Value, rows: list[Value]) -> None:
        def vector(v: Value) -> None:
            e.loop(0, e.lanes, lambda i: e.store_vector(e.splat(0.0), lines, e.mul(i, e.lanes)))
            m.each_channel(
                source, v, lambda here, lane: e.store_vector(e.load_vector(here), lines, e.mul(lane, e.lanes))
            )
            values = transposed(e, [e.load_vector(lines, i * e.lanes) for i in range(e.lanes)])
            for row, value in zip(rows, values, strict=True):
                e.store_vector(value, packed, e.add(row, e.mul(v, e.lanes)))

        e.loop(0, spec.vectors, vector)

    m.each(one, block)


def _gather(e: Emitter, pointer: Value, step: Value, count: Value) -> Value:
    """Numbers `step` apart, zeros from `count` on."""
    lanes = ir.VectorType(I64, e.lanes)
    zero = ir.Constant(lanes, ir.Undefined)
    one = e.b.insert_element(zero, step, ir.Constant(I32, 0))
    steps = e.b.shuffle_vector(one, zero, ir.Constant(ir.VectorType(I32, e.lanes), [0] * e.lanes))
    offsets = e.b.mul(steps, ir.Constant(lanes, list(range(e.lanes))))
    addresses = e.b.gep(pointer, [offsets], source_etype=ir.FloatType())
    addresses.type = ir.VectorType(POINTER, e.lanes)
    mask = first_lanes(e, count)
    name = f"llvm.masked.gather.v{e.lanes}f32.v{e.lanes}p0"
    kind = ir.FunctionType(e.vector, [addresses.type, I32, mask.type, e.vector])
    module = e.function.module
    function = module.globals.get(name) or ir.Function(module, kind, name)
    return e.b.call(function, [addresses, ir.Constant(I32, 4), mask, ir.Constant(e.vector, None)])


def _unpack(spec: Weights, _: Any, e: Emitter, slots: Value, task: Value, _worker: Value) -> None:
    m = _Mover(spec, e, slots, task, UNPACK.pointers, UNPACK.numbers)
    a = m.a
    rows = e.add(a.count, int(spec.bias))
    packed = e.at(a.packed, e.mul(e.mul(m.block_number, rows), m.width))

    def total(k: Value, v: int) -> Value:
        here = e.at(packed, e.add(e.mul(k, m.width), v * e.lanes))

        def add(split: Value, sums: Value) -> list[Value]:
            return [e.b.fadd(sums, e.load_vector(here, e.mul(split, a.split_step)))]

        return e.loop(1, a.splits, add, [e.load_vector(here)])[0]

    def one(target: Value, k: Value) -> None:
        for v in range(spec.vectors):
            left = e.sub(m.left, v * e.lanes)
            here = e.at(target, e.mul(a.step, v * e.lanes))
            if spec.neighbours:
                store_first(e, total(k, v), here, 0, left)
            else:
                _scatter(e, total(k, v), here, a.step, left)

    lines = e.array(e.lanes * e.lanes) if spec.turned else None

    def block(target: Value, rows: list[Value]) -> None:
        def vector(v: Value) -> None:
            here = e.at(packed, e.mul(v, e.lanes))

            def add(split: Value, *sums: Value) -> list[Value]:
                part = e.at(here, e.mul(split, a.split_step))
                return [e.b.fadd(value, e.load_vector(part, row)) for value, row in zip(sums, rows, strict=True)]

            values = e.loop(1, a.splits, add, [e.load_vector(here, row) for row in rows])
            for i, value in enumerate(transposed(e, values)):
                e.store_vector(value, lines, i * e.lanes)
            m.each_channel(target, v, lambda to, lane: e.store_vector(e.load_vector(lines, e.mul(lane, e.lanes)), to))

        e.loop(0, spec.vectors, vector)

    m.each(one, block)
    if spec.bias:
        target = e.at(a.bias, e.add(e.mul(m.group, a.lines), e.mul(m.block, m.width)))

        def line() -> None:
            for v in range(spec.vectors):
                store_first(e, total(a.count, v), target, v * e.lanes, e.sub(m.left, v * e.lanes))

        e.when(e.b.icmp_signed("==", m.part, e.i64(0)), line)


def _scatter(e: Emitter, value: Value, pointer: Value, step: Value, count: Value) -> None:
    """Numbers `step` apart, those below `count`."""

    def all_of_them() -> tuple[()]:
        place = pointer
        for lane in range(e.lanes):
            e.store(e.b.extract_element(value, ir.Constant(I32, lane)), place)
            place = e.at(place, step)
        return ()

    def some() -> tuple[()]:
        line = e.array(e.lanes)
        e.store_vector(value, line)
        e.loop(0, count, lambda lane: e.store(e.load(line, lane), pointer, e.mul(lane, step)))
        return ()

    e.choose(e.b.icmp_signed(">=", count, e.i64(e.lanes)), all_of_them, some)


PACK = Family("packing of weights", ("w", "packed", "sources", "rows"), NUMBERS, _pack)
UNPACK = Family(
    "unpacking of weights",
    ("w", "packed", "sources", "rows", "bias"),
    (*NUMBERS, "splits", "split_step"),
    _unpack,
)
