"""Writing IR with Python as the meta-language: a loop is a function of its body, an unrolled loop is a Python loop.

Values are llvmlite's; indices and sizes are i64, strides and offsets count elements of 4 bytes unless said. A vector
has the target's lanes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, TypeAlias

from llvmlite import ir

from svertka.kernels.target import Target

Value: TypeAlias = Any  # llvmlite has no types
Body: TypeAlias = Callable[..., Sequence[Value] | None]

I1, I32, I64, F32 = ir.IntType(1), ir.IntType(32), ir.IntType(64), ir.FloatType()
POINTER = ir.PointerType()
VOID = ir.VoidType()
TEAM, TASKS, FIRST = 0, 1, 2  # argument slots of every kernel; its own begin at FIRST


class Arguments:
    """A kernel's arguments by name, each loaded from its slot where it is first asked for.

    Args:
        names: in the order of the slots, pointers in `pointers`, the others i64.
    """

    def __init__(self, e: Emitter, slots: Value, pointers: Sequence[str], numbers: Sequence[str]) -> None:
        for slot, name in enumerate((*pointers, *numbers), start=FIRST):
            setattr(self, name, e.load(slots, slot, POINTER if name in pointers else I64))

    def __getattr__(self, name: str) -> Value:
        raise AttributeError(f"the kernel has no argument {name!r}")


class Emitter:
    """A function under construction: `b` is llvmlite's builder, the methods are what kernels say often."""

    def __init__(self, function: ir.Function, target: Target) -> None:
        self.function, self.target, self.lanes = function, target, target.lanes
        self.b: Any = ir.IRBuilder(function.append_basic_block("entry"))
        self.vector, self.indices = ir.VectorType(F32, target.lanes), ir.VectorType(I32, target.lanes)
        self._entry: Any = function.entry_basic_block

    # Constants

    def i64(self, value: int) -> Value:
        """An i64 constant."""
        return ir.Constant(I64, value)

    def value(self, value: Any) -> Value:
        """An i64: a Python number or what is one already."""
        return self.i64(value) if isinstance(value, int) else value

    def f32(self, value: float) -> Value:
        """A float constant, rounded to single precision."""
        return ir.Constant(F32, struct.unpack("f", struct.pack("f", value))[0])

    def splat(self, value: Any) -> Value:
        """A vector with the same float in each lane: of a Python number, or of a scalar."""
        if isinstance(value, (int, float)):
            return _Written(self.vector, f"splat (float {self.f32(value).get_reference()})")
        return self._splat(value, self.vector)

    def splat_index(self, value: Any) -> Value:
        """A vector with the same i32 in each lane."""
        if isinstance(value, int):
            return _Written(self.indices, f"splat (i32 {value})")
        return self._splat(value, self.indices)

    def _splat(self, value: Value, kind: Any) -> Value:
        one = self.b.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(I32, 0))
        zeros = ir.Constant(ir.VectorType(I32, self.lanes), [0] * self.lanes)
        return self.b.shuffle_vector(one, ir.Constant(kind, ir.Undefined), zeros)

    # Arithmetic on i64; Python numbers are folded

    def add(self, a: Any, b: Any) -> Value:
        """a + b."""
        if isinstance(b, int) and b == 0:
            return a
        if isinstance(a, int) and a == 0:
            return b
        return a + b if isinstance(a, int) and isinstance(b, int) else self.b.add(self.value(a), self.value(b))

    def sub(self, a: Any, b: Any) -> Value:
        """a − b."""
        return a - b if isinstance(a, int) and isinstance(b, int) else self.b.sub(self.value(a), self.value(b))

    def mul(self, a: Any, b: Any) -> Value:
        """a · b."""
        for one, other in ((a, b), (b, a)):
            if isinstance(one, int) and one == 1:
                return other
        return a * b if isinstance(a, int) and isinstance(b, int) else self.b.mul(self.value(a), self.value(b))

    def divmod(self, a: Value, b: Any) -> tuple[Value, Value]:
        """(⌊a / b⌋, a mod b) of numbers that are not negative."""
        quotient = self.b.udiv(self.value(a), self.value(b))
        return quotient, self.b.sub(self.value(a), self.mul(quotient, b))

    def min(self, a: Any, b: Any) -> Value:
        """The smaller."""
        a, b = self.value(a), self.value(b)
        return self.b.select(self.b.icmp_signed("<", a, b), a, b)

    def max(self, a: Any, b: Any) -> Value:
        """The larger."""
        a, b = self.value(a), self.value(b)
        return self.b.select(self.b.icmp_signed(">", a, b), a, b)

    def sum(self, values: Sequence[Value]) -> Value:
        """The sum of numbers or vectors, from the first to the last."""
        return reduce(self.b.fadd, values)

    def across(self, value: Value, merge: Callable[[Value, Value], Value]) -> Value:
        """One number of all lanes of a vector: each half is merged with the other, until one lane is left."""
        width = self.lanes // 2
        while width:
            turned = shuffle(self, value, value, [(lane + width) % self.lanes for lane in range(self.lanes)])
            value = merge(value, turned)
            width //= 2
        return self.b.extract_element(value, self.i64(0))

    # Memory

    def at(self, pointer: Value, offset: Any, kind: Any = F32) -> Value:
        """The address of element `offset`."""
        if isinstance(offset, int) and offset == 0:
            return pointer
        return self.b.gep(pointer, [self.value(offset)], inbounds=True, source_etype=kind)

    def load(self, pointer: Value, offset: Any = 0, kind: Any = F32) -> Value:
        """One element."""
        return self.b.load(self.at(pointer, offset, kind), typ=kind, align=_alignment(kind))

    def prefetch(self, pointer: Value, offset: Any = 0, level: int = 1) -> None:
        """Asks for the line at element `offset`, which needs not exist, to come into the cache of a level, 1 to 3."""
        module = self.function.module
        kind = ir.FunctionType(VOID, [POINTER, I32, I32, I32])
        fetch = module.globals.get("llvm.prefetch.p0") or ir.Function(module, kind, "llvm.prefetch.p0")
        address = self.b.gep(pointer, [self.value(offset)], source_etype=F32)  # not inbounds: it may lie outside
        self.b.call(fetch, [address, *(ir.Constant(I32, number) for number in (0, 4 - level, 1))])

    def store(self, value: Value, pointer: Value, offset: Any = 0) -> None:
        """One element."""
        kind = value.type
        self.b.store(value, self.at(pointer, offset, kind), align=_alignment(kind))

    def load_vector(self, pointer: Value, offset: Any = 0, count: int | None = None, kind: Any = None) -> Value:
        """A vector of neighbours, anywhere; only the first `count` are read, the other lanes are 0."""
        kind = kind or self.vector
        address = self.at(pointer, offset, kind.element)
        if count is None or count == self.lanes:
            return self.b.load(address, typ=kind, align=_packed(kind))
        if self._masked(kind, count):
            none = ir.Constant(kind, [kind.element(0)] * self.lanes)
            return self._masked_call("load", kind, address, self._first_lanes(count), none)
        result = ir.Constant(kind, [kind.element(0)] * self.lanes)
        for first, size in _powers(count, self.lanes):
            place, some = self.at(address, first, kind.element), ir.VectorType(kind.element, size)
            part = self.b.load(place, typ=some, align=_packed(kind))
            wide = self.b.shuffle_vector(part, ir.Constant(part.type, ir.Undefined), _lanes(range(self.lanes), size))
            picks = [self.lanes + i - first if first <= i < first + size else i for i in range(self.lanes)]
            result = self.b.shuffle_vector(result, wide, _lanes(picks))
        return result

    def store_vector(self, value: Value, pointer: Value, offset: Any = 0, count: int | None = None) -> None:
        """A vector to neighbours, anywhere; only the first `count` lanes are written."""
        address = self.at(pointer, offset, value.type.element)
        if count is None or count == self.lanes:
            self.b.store(value, address, align=_packed(value.type))
            return
        if self._masked(value.type, count):
            self._masked_call("store", value.type, value, address, self._first_lanes(count))
            return
        for first, size in _powers(count, self.lanes):
            part = self.b.shuffle_vector(
                value, ir.Constant(value.type, ir.Undefined), _lanes(range(first, first + size))
            )
            self.b.store(part, self.at(address, first, value.type.element), align=_packed(value.type))

    def _masked(self, kind: Any, count: int) -> bool:
        """Whether the first `count` lanes go by a mask: where the target has them, and there is more than one piece."""
        return self.target.masks and kind.element in (F32, I32) and count & (count - 1) != 0

    def _first_lanes(self, count: int) -> Value:
        return ir.Constant(ir.VectorType(I1, self.lanes), [I1(int(lane < count)) for lane in range(self.lanes)])

    def _masked_call(self, what: str, kind: Any, *arguments: Value) -> Value:
        """llvm.masked.load(pointer, alignment, mask, otherwise) or store(value, pointer, alignment, mask)."""
        given = list(arguments)
        given.insert(1 if what == "load" else 2, ir.Constant(I32, _packed(kind)))
        name = f"llvm.masked.{what}.v{kind.count}{_SUFFIX[str(kind.element)].format('')}.p0"
        function = ir.FunctionType(kind if what == "load" else VOID, [argument.type for argument in given])
        declared = self.function.module.globals.get(name) or ir.Function(self.function.module, function, name)
        return self.b.call(declared, given)

    def array(self, count: int, kind: Any = F32) -> Value:
        """Room for `count` elements on the stack, made once on entry, on a cache line's boundary."""
        with self.b.goto_block(self._entry):
            if self._entry.is_terminated:
                self.b.position_before(self._entry.terminator)
            place = self.b.alloca(ir.ArrayType(kind, count))
        place.align, place.type = 64, POINTER
        return place

    # Control

    def loop(self, start: Any, stop: Any, body: Body, carried: Sequence[Value] = (), step: int = 1) -> list[Value]:
        """for i in range(start, stop, step): carried = body(i, *carried); gives what is carried at the end."""
        before = self.b.block
        head, inside, after = (self.function.append_basic_block(name) for name in ("loop", "body", "after"))
        self.b.branch(head)
        self.b.position_at_end(head)
        index = self.b.phi(I64)
        index.add_incoming(self.value(start), before)
        values = []
        for value in carried:
            phi = self.b.phi(value.type)
            phi.add_incoming(value, before)
            values.append(phi)
        self.b.cbranch(self.b.icmp_signed("<", index, self.value(stop)), inside, after)
        self.b.position_at_end(inside)
        results = list(body(index, *values) or ())
        if len(results) != len(values):
            raise ValueError(f"a loop carries {len(values)} values, but its body gives {len(results)}")
        index.add_incoming(self.b.add(index, self.value(step)), self.b.block)
        for phi, value in zip(values, results, strict=True):
            phi.add_incoming(value, self.b.block)
        self.b.branch(head)
        self.b.position_at_end(after)
        return values

    def when(self, condition: Value, body: Callable[[], None]) -> None:
        """if condition: body()."""
        inside, after = (self.function.append_basic_block(name) for name in ("then", "after"))
        self.b.cbranch(condition, inside, after)
        self.b.position_at_end(inside)
        body()
        self.b.branch(after)
        self.b.position_at_end(after)

    def choose(
        self, condition: Value, then: Callable[[], Sequence[Value]], otherwise: Callable[[], Sequence[Value]]
    ) -> list[Value]:
        """then() if condition else otherwise(): values of the same types."""
        blocks = [self.function.append_basic_block(name) for name in ("then", "else", "after")]
        self.b.cbranch(condition, blocks[0], blocks[1])
        ends: list[tuple[Any, Sequence[Value]]] = []
        for block, branch in zip(blocks[:2], (then, otherwise), strict=True):
            self.b.position_at_end(block)
            values = branch()
            ends.append((self.b.block, values))
            self.b.branch(blocks[2])
        self.b.position_at_end(blocks[2])
        results = []
        for first, second in zip(ends[0][1], ends[1][1], strict=True):
            phi = self.b.phi(first.type)
            phi.add_incoming(first, ends[0][0])
            phi.add_incoming(second, ends[1][0])
            results.append(phi)
        return results

    # Vectors (and scalars) of floats

    def fma(self, a: Value, b: Value, c: Value) -> Value:
        """a · b + c, rounded once where the target can."""
        return self.call("llvm.fmuladd", a, b, c)

    def call(self, intrinsic: str, *arguments: Value) -> Value:
        """An intrinsic that is overloaded on the type of its first argument."""
        kind, module = arguments[0].type, self.function.module
        name = f"{intrinsic}.{_SUFFIX[str(_element(kind))].format(_count(kind))}"
        declared = module.globals.get(name) or ir.Function(
            module, ir.FunctionType(kind, [argument.type for argument in arguments]), name
        )
        return self.b.call(declared, arguments)

    def permuted(self, value: Value, order: Value) -> Value:
        """The lanes value[order[lane]], on targets that can do this (`permutes`)."""
        name = {4: "llvm.x86.avx.vpermilvar.ps", 8: "llvm.x86.avx2.permps", 16: "llvm.x86.avx512.permvar.sf.512"}
        module = self.function.module
        kind = ir.FunctionType(value.type, [value.type, order.type])
        declared = module.globals.get(name[self.lanes]) or ir.Function(module, kind, name[self.lanes])
        return self.b.call(declared, [value, order])

    def address_of(self, function: ir.Function) -> Value:
        """A function's address, as a value."""
        return _Written(POINTER, function.get_reference())

    def call_address(self, address: Value, kind: Any, *arguments: Value) -> Value:
        """The function of type `kind` that stands at an address."""
        return self.b.call(_Callee(address.get_reference(), kind), arguments)

    def maximum(self, acc: Value, x: Value) -> Value:
        """The larger; NaN if either is."""
        take = self.b.or_(self.b.fcmp_ordered(">", x, acc), self.b.fcmp_unordered("uno", x, x))
        return self.b.select(take, x, acc)


@dataclass(frozen=True)
class _Callee:
    """All that llvmlite asks of what it calls."""

    reference: str
    function_type: Any

    def get_reference(self) -> str:
        return self.reference


class _Written(ir.Constant):  # type: ignore[misc]
    """A constant as LLVM's assembler reads it."""

    def __init__(self, kind: Any, text: str) -> None:
        super().__init__(kind, ir.Undefined)
        self.text = text

    def get_reference(self) -> str:
        return self.text


_SUFFIX = {"float": "{}f32", "i32": "{}i32", "i64": "{}i64"}


def _element(kind: Any) -> Any:
    return kind.element if isinstance(kind, ir.VectorType) else kind


def _count(kind: Any) -> str:
    return f"v{kind.count}" if isinstance(kind, ir.VectorType) else ""


def _alignment(kind: Any) -> int:
    return 8 if kind in (I64, POINTER) else min(4, getattr(kind, "width", 32) // 8)


def _packed(kind: Any) -> int:
    """The alignment of a vector that lies anywhere."""
    return min(4, _alignment(kind.element))


def shuffle(e: Emitter, a: Value, b: Value, picks: Sequence[int]) -> Value:
    """Lanes picked from a (0 … n − 1) and b (n … 2n − 1)."""
    return e.b.shuffle_vector(a, b, _lanes(picks))


def _powers(count: int, lanes: int) -> list[tuple[int, int]]:
    """(first, size) of the powers of two that make up `count` ≤ lanes."""
    parts, first, size = [], 0, lanes
    while size:
        if count & size:
            parts.append((first, size))
            first += size
        size //= 2
    return parts


def _lanes(picks: Any, size: int | None = None) -> Value:
    """A shuffle's lanes; those from `size` on don't matter."""
    numbers = list(picks)
    kind = ir.VectorType(I32, len(numbers))
    return ir.Constant(kind, [ir.Constant(I32, i if size is None or i < size else 0) for i in numbers])
