"""What is done inside a window that keeps channels apart, whatever way its numbers lie in memory.

A kernel walks over the taps of its outputs and tells an operation what it reads; the operation holds a few vectors, the
state, for each vector of outputs:

    for turn in range(operation.turns):                             # most have one turn
        state = operation.start(e, turn, state, given)
        for each tap: state = operation.step(e, turn, state, value, source, weight)
    results = operation.finish(e, state, given)

Taps are told in row-major order. One that lies outside is left out, or told as value `identity`, source −1, weight 0,
which changes nothing. What an operation needs beyond the values, it says by `needs`, a set of these names:

    weight   of each tap: a vector (None if not needed)
    source   of each tap, and `first` in Given
    tap      in place of sources the taps' own numbers, and `first` is one
    count, draw   in Given

Results are float32, but for the maximum's second, the places or taps (int32, stored as integers of `bits`).
"""

# ruff: noqa: ARG002 (an operation is told more than it needs)

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

from llvmlite import ir

from svertka.kernels.emit import I32, Emitter, Value

State: TypeAlias = list[Value]


@dataclass(frozen=True)
class Given:
    """What is known of a vector of outputs before its taps are read.

    Args:
        first: int32, the first input that the window reads, or its tap; −1 if none.
        count: float, the number of taps that a mean divides by, or 1 / it (see `Average`).
        draw: uniform numbers in [0, 1), see `uniform`.
    """

    first: Value = None
    count: Value = None
    draw: Value = None


@dataclass(frozen=True)
class Combination:
    """An operation inside a window; the subclasses are the operations.

    `states` is the number of vectors that change from tap to tap, for each vector of outputs.
    """

    identity: ClassVar[float] = 0.0
    turns: ClassVar[int] = 1
    states: ClassVar[int] = 1
    needs: ClassVar[frozenset[str]] = frozenset()
    bits = 64

    @property
    def required(self) -> frozenset[str]:
        """The names of what it needs, see above."""
        return self.needs

    @property
    def results(self) -> int:
        """The number of vectors that `finish` gives."""
        return 1

    @property
    def separable(self) -> bool:
        """Whether it may be done on one axis after the other: states of one vector, which `lift` and `merge` make."""
        return False

    def lift(self, e: Emitter, value: Value) -> Value:
        """The state after one tap, of a separable operation."""
        return self.step(e, 0, self.start(e, 0, [], Given()), value, None, None)[0]

    def merge(self, e: Emitter, state: Value, other: Value) -> Value:
        """The state after the taps of both, of a separable operation."""
        return e.b.fadd(state, other)

    def start(self, e: Emitter, turn: int, before: State, given: Given) -> State:
        """The state before the first tap of a turn; `before` is that at the end of the last turn."""
        return [e.splat(0.0)]

    def step(self, e: Emitter, turn: int, state: State, value: Value, source: Value, weight: Value) -> State:
        """The state after one more tap."""
        raise NotImplementedError

    def finish(self, e: Emitter, state: State, given: Given) -> Sequence[Value]:
        """The results."""
        return state


@dataclass(frozen=True)
class WeightedSum(Combination):
    """Σ w · x."""

    needs = frozenset({"weight"})

    def step(self, e: Emitter, turn: int, state: State, value: Value, source: Value, weight: Value) -> State:
        return [e.fma(value, weight, state[0])]


@dataclass(frozen=True)
class WeightedMean(Combination):
    """Σ w · x / Σ w over the taps that read an input; 0 / 0 if there is none."""

    states = 2
    needs = frozenset({"weight"})

    def start(self, e: Emitter, turn: int, before: State, given: Given) -> State:
        return [e.splat(0.0), e.splat(0.0)]

    def step(self, e: Emitter, turn: int, state: State, value: Value, source: Value, weight: Value) -> State:
        return [e.fma(value, weight, state[0]), e.b.fadd(state[1], weight)]

    def finish(self, e: Emitter, state: State, given: Given) -> Sequence[Value]:
        return [e.b.fdiv(*state)]


@dataclass(frozen=True)
class Average(Combination):
    """Σ x / count.

    Args:
        reciprocal: the given counts are 1 / count, which is exact for powers of two.
    """

    reciprocal: bool = False
    needs = frozenset({"count"})

    @property
    def separable(self) -> bool:
        return True

    def step(self, e: Emitter, turn: int, state: State, value: Value, source: Value, weight: Value) -> State:
        return [e.b.fadd(state[0], value)]

    def finish(self, e: Emitter, state: State, given: Given) -> Sequence[Value]:
        return [(e.b.fmul if self.reciprocal else e.b.fdiv)(state[0], given.count)]


@dataclass(frozen=True)
class Maximum(Combination):
    """The first of the largest x, the first NaN above all; −∞ of nothing.

    Args:
        where: "source" gives its source, too, "tap" the tap that reads it: the window's first one if all are −∞, −1 if
            it reads no input.
        bits: that these are stored in.
        rectified: 0 is among the x, and taken before all of them: then nothing is taken, −1.
    """

    where: str = ""
    bits: int = 64
    rectified: bool = False
    identity = -math.inf

    @property
    def required(self) -> frozenset[str]:
        return frozenset({self.where}) if self.where else frozenset()

    @property
    def results(self) -> int:
        return 2 if self.where else 1

    @property
    def separable(self) -> bool:
        return not self.where

    def lift(self, e: Emitter, value: Value) -> Value:
        return value

    def merge(self, e: Emitter, state: Value, other: Value) -> Value:
        return larger(e, state, other)

    def start(self, e: Emitter, turn: int, before: State, given: Given) -> State:
        lowest = e.splat(0.0 if self.rectified else -math.inf)
        if not self.where:
            return [lowest]
        return [lowest, e.splat_index(-1) if self.rectified else given.first]

    def step(self, e: Emitter, turn: int, state: State, value: Value, source: Value, weight: Value) -> State:
        if not self.where:
            return [larger(e, state[0], value)]
        largest, place = state
        # Neither NaN is smaller: NaN takes the place of a number, but not of a NaN that came before.
        take = e.b.and_(e.b.fcmp_unordered(">", value, largest), e.b.fcmp_ordered("ord", largest, largest))
        return [e.b.select(take, value, largest), e.b.select(take, source, place)]

    def finish(self, e: Emitter, state: State, given: Given) -> Sequence[Value]:
        # Done by axes, or of nothing, the state didn't start with 0.
        return state if self.where or not self.rectified else [larger(e, e.splat(0.0), state[0])]


@dataclass(frozen=True)
class Norm(Combination):
    """(Σ |x|^p)^(1/p); max |x| for p = ∞."""

    p: float = 2.0

    @property
    def cheap(self) -> bool:
        """Whether a tap takes a few operations, not a power."""
        return self.p in (1, 2, 3, math.inf)

    @property
    def separable(self) -> bool:
        return True

    def merge(self, e: Emitter, state: Value, other: Value) -> Value:
        return larger(e, state, other) if self.p == math.inf else e.b.fadd(state, other)

    def step(self, e: Emitter, turn: int, state: State, value: Value, source: Value, weight: Value) -> State:
        if self.p == 2:
            return [e.fma(value, value, state[0])]
        size = e.call("llvm.fabs", value)
        if self.p == math.inf:
            return [larger(e, state[0], size)]
        if self.p == 3:
            return [e.fma(size, e.b.fmul(value, value), state[0])]
        return [e.b.fadd(state[0], size if self.p == 1 else power(e, size, self.p))]

    def finish(self, e: Emitter, state: State, given: Given) -> Sequence[Value]:
        if self.p in (1, math.inf):
            return state
        if self.p == 2:
            return [e.call("llvm.sqrt", state[0])]
        return [cube_root(e, state[0]) if self.p == 3 else power(e, state[0], 1 / self.p)]


@dataclass(frozen=True)
class ProportionalMean(Combination):
    """Σ x⁺ · x⁺ / Σ x⁺ with x⁺ = max(x, 0): the mean weighted by the values themselves; 0 if all are ≤ 0.

    The first turn finds the sum; the second scales by a power of two near its inverse, lest a square overflows.
    """

    turns = 2

    def start(self, e: Emitter, turn: int, before: State, given: Given) -> State:
        if turn == 0:
            return [e.splat(0.0)]
        exponent = e.b.lshr(e.b.bitcast(before[0], e.indices), e.splat_index(23))
        room = e.b.sub(e.splat_index(253), exponent)
        room = e.b.select(e.b.icmp_signed("<", room, e.splat_index(1)), e.splat_index(1), room)
        scale = e.b.bitcast(e.b.shl(room, e.splat_index(23)), e.vector)
        return [e.splat(0.0), e.b.fmul(before[0], scale), scale]

    def step(self, e: Emitter, turn: int, state: State, value: Value, source: Value, weight: Value) -> State:
        value = positive(e, value)
        if turn == 0:
            return [e.b.fadd(state[0], value)]
        total, divisor, scale = state
        return [e.fma(e.b.fmul(value, scale), value, total), divisor, scale]

    def finish(self, e: Emitter, state: State, given: Given) -> Sequence[Value]:
        total, divisor, _ = state
        return [e.b.select(e.b.fcmp_ordered("==", divisor, e.splat(0.0)), divisor, e.b.fdiv(total, divisor))]


@dataclass(frozen=True)
class ProportionalDraw(Combination):
    """x⁺ at the tap t where Σ_{s<t} x⁺ ≤ draw · Σ x⁺ < Σ_{s≤t} x⁺: a draw with probability ∝ x⁺ = max(x, 0).

    0 if all are ≤ 0; ∞ or NaN if that is the sum.

    Args:
        where: "tap" gives t, too, −1 where nothing was drawn.
        bits: that it is stored in.
    """

    where: str = ""
    bits: int = 8
    turns = 2

    @property
    def states(self) -> int:  # type: ignore[override]
        return 3 if self.where else 2

    @property
    def required(self) -> frozenset[str]:
        return frozenset({"draw", self.where}) if self.where else frozenset({"draw"})

    @property
    def results(self) -> int:
        return 2 if self.where else 1

    def start(self, e: Emitter, turn: int, before: State, given: Given) -> State:
        if turn == 0:
            return [e.splat(0.0)]
        state = [e.splat(0.0), e.splat(0.0), e.b.fmul(given.draw, before[0]), before[0]]
        return [*state, e.splat_index(-1)] if self.where else state

    def step(self, e: Emitter, turn: int, state: State, value: Value, source: Value, weight: Value) -> State:
        value = positive(e, value)
        if turn == 0:
            return [e.b.fadd(state[0], value)]
        drawn, running, goal, total, *tap = state
        take = e.b.fcmp_ordered("<=", running, goal)  # the last such tap is the one
        tap = [e.b.select(take, source, number) for number in tap]
        return [e.b.select(take, value, drawn), e.b.fadd(running, value), goal, total, *tap]

    def finish(self, e: Emitter, state: State, given: Given) -> Sequence[Value]:
        drawn, _, _, total, *tap = state
        finite = e.b.fcmp_ordered("<", total, e.splat(math.inf))
        some = e.b.and_(finite, e.b.fcmp_ordered(">", total, e.splat(0.0)))
        return [e.b.select(finite, drawn, total), *(e.b.select(some, t, e.splat_index(-1)) for t in tap)]


def resized(e: Emitter, numbers: Value, bits: int) -> Value:
    """A vector of int32 as integers of so many bits."""
    kind = ir.VectorType(ir.IntType(bits), numbers.type.count)
    return e.b.sext(numbers, kind) if bits > 32 else numbers if bits == 32 else e.b.trunc(numbers, kind)


def larger(e: Emitter, largest: Value, value: Value) -> Value:
    """The larger, the first of equal ones; NaN if either is."""
    taken = e.b.select(
        e.b.fcmp_ordered(">", value, largest), value, largest
    )  # one instruction; a NaN in `largest` stays
    return e.b.select(e.b.fcmp_unordered("uno", value, value), value, taken)


def positive(e: Emitter, value: Value) -> Value:
    """max(x, 0), NaN of NaN; one instruction."""
    return e.b.select(e.b.fcmp_ordered(">", e.splat(0.0), value), e.splat(0.0), value)


def cube_root(e: Emitter, x: Value) -> Value:
    """∛x of x ≥ 0 to 2 ulp, as x · r² with r = 1/∛x: Newton's r ← r + r (1 − x r³) / 3, from bits that are ⅓ of x's.

    A float's bits are about 2²³ (log₂ x + 127 − 0.045), so those of r are 4/3 of 2²³ (127 − 0.045), less ⅓ of x's.
    """
    tiny = e.b.fcmp_ordered("<", x, e.splat(2.0**-126))
    normal = e.b.select(tiny, e.b.fmul(x, e.splat(2.0**24)), x)
    bits = e.b.sitofp(e.b.bitcast(normal, e.indices), e.vector)
    bits = e.fma(bits, e.splat(-1 / 3), e.splat(2**23 * (127 - 0.045) * 4 / 3))
    r = e.b.bitcast(e.b.fptosi(bits, e.indices), e.vector)
    for _ in range(3):  # errors of 6 %, 0.7 %, 10⁻⁴, 2·10⁻⁸
        cube = e.b.fmul(e.b.fmul(e.b.fmul(normal, r), r), r)
        r = e.fma(r, e.b.fmul(e.b.fsub(e.splat(1.0), cube), e.splat(1 / 3)), r)
    y = e.b.fmul(e.b.fmul(normal, r), r)
    y = e.b.select(tiny, e.b.fmul(y, e.splat(2.0**-8)), y)
    return _ordinary(e, x, y)


def _ordinary(e: Emitter, x: Value, y: Value) -> Value:
    """y, but x where x is 0, ∞ or NaN: these are their own powers and roots."""
    ordinary = e.b.and_(e.b.fcmp_ordered(">", x, e.splat(0.0)), e.b.fcmp_ordered("<", x, e.splat(math.inf)))
    return e.b.select(ordinary, y, x)


def power(e: Emitter, x: Value, p: float) -> Value:
    """x^p of x ≥ 0, to a few ulp · max(1, p); NaN of NaN.

    x = 2ᵏ · m, √½ ≤ m < √2, and with n = round(p · log₂ x): x^p = 2ⁿ · 2^(p·k − n + p·log₂ m), where p·k − n is exact
    but for the last bits of p, which come on top.
    """
    tiny = e.b.fcmp_ordered("<", x, e.splat(2.0**-126))
    normal = e.b.select(tiny, e.b.fmul(x, e.splat(2.0**24)), x)
    bits = e.b.bitcast(normal, e.indices)
    exponent = e.b.ashr(e.b.sub(bits, e.splat_index(_ROOT_OF_HALF)), e.splat_index(23))
    m = e.b.bitcast(e.b.sub(bits, e.b.shl(exponent, e.splat_index(23))), e.vector)
    exponent = e.b.add(exponent, e.b.select(tiny, e.splat_index(-24), e.splat_index(0)))
    k, fraction = e.b.sitofp(exponent, e.vector), _log2(e, m)
    mantissa, order = math.frexp(p)
    high = math.ldexp(round(mantissa * 2**14), order - 14)  # times k it still fits into a float
    n = _clamp(e, e.b.fmul(e.splat(p), e.b.fadd(k, fraction)), 252.0)  # beyond, it is ∞ or 0 all the same
    n = e.call("llvm.roundeven", n)
    rest = e.b.fadd(e.fma(k, e.splat(high), e.b.fneg(n)), e.b.fmul(k, e.splat(p - high)))
    y = _exp2(e, _clamp(e, e.fma(fraction, e.splat(p), rest), 1.0))
    whole = e.b.fptosi(n, e.indices)
    half = e.b.ashr(whole, e.splat_index(1))
    for part in (half, e.b.sub(whole, half)):  # 2ⁿ in two steps, as n may lie beyond the exponents of floats
        scale = e.b.shl(e.b.add(part, e.splat_index(127)), e.splat_index(23))
        y = e.b.fmul(y, e.b.bitcast(scale, e.vector))
    return _ordinary(e, x, y)


_ROOT_OF_HALF = 0x3F3504F3  # √½ as a float's bits


def _log2(e: Emitter, m: Value) -> Value:
    """log₂ m = 2 / ln 2 · (s + s³/3 + s⁵/5 + …), s = (m − 1) / (m + 1), of √½ ≤ m < √2."""
    s = e.b.fdiv(e.b.fsub(m, e.splat(1.0)), e.b.fadd(m, e.splat(1.0)))
    square = e.b.fmul(s, s)
    series = e.splat(2 / math.log(2) / 11)
    for order in (9, 7, 5, 3, 1):
        series = e.fma(series, square, e.splat(2 / math.log(2) / order))
    return e.b.fmul(series, s)


def _exp2(e: Emitter, x: Value) -> Value:
    """2ˣ = Σ (x · ln 2)ⁱ / i!, of |x| ≤ 1, best for |x| ≤ ½."""
    y = e.splat(math.log(2) ** 8 / math.factorial(8))
    for i in range(7, -1, -1):
        y = e.fma(y, x, e.splat(math.log(2) ** i / math.factorial(i)))
    return y


def _clamp(e: Emitter, x: Value, limit: float) -> Value:
    """−limit … limit; NaN gives the upper limit."""
    x = e.b.select(e.b.fcmp_ordered("<", x, e.splat(limit)), x, e.splat(limit))
    return e.b.select(e.b.fcmp_ordered(">", x, e.splat(-limit)), x, e.splat(-limit))


def uniform(e: Emitter, seed: Value, image: Value, place: Value) -> Value:
    """Uniform numbers in [0, 1), multiples of 2⁻²⁴: a function of their arguments alone.

    Args:
        seed: i64.
        image: i64, the sample of the batch.
        place: vector of int32, [channel, *output size] in row-major order.
    """
    low, high = e.b.trunc(seed, I32), e.b.trunc(e.b.lshr(seed, e.i64(32)), I32)
    sample = e.b.mul(e.b.trunc(image, I32), ir.Constant(I32, 0x9E3779B1))
    word = _mixed(e, e.b.xor(place, e.splat_index(low)))
    word = _mixed(e, e.b.add(word, e.splat_index(e.b.add(high, sample))))
    return e.b.fmul(e.b.uitofp(e.b.lshr(word, e.splat_index(8)), e.vector), e.splat(2.0**-24))


def _mixed(e: Emitter, word: Value) -> Value:
    """A bijection of 32 bits after which each depends on all (the last steps of MurmurHash3, Appleby 2011)."""
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        word = e.b.xor(word, e.b.lshr(word, e.splat_index(shift)))
        word = e.b.mul(word, e.splat_index(factor - 2**32))
    return e.b.xor(word, e.b.lshr(word, e.splat_index(16)))
