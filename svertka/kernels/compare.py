"""Whether two arrays hold the same bits: all of them, or as many lines as are asked for, evenly spread.

different = OR over lines l of OR over lanes i of a[l · step + i] XOR b[l · step + i]
"""

from __future__ import annotations

from svertka.kernels.emit import I32, Arguments, Emitter, Value
from svertka.kernels.family import Family

POINTERS = ("a", "b", "different")
NUMBERS = ("lines", "step", "rest", "count")
LINE = 16  # numbers, whatever the target's lanes: a line of the cache


def _write(_: None, __: None, e: Emitter, slots: Value, _task: Value, _worker: Value) -> None:
    """The only task: `lines` lines, `step` numbers apart, and the numbers rest … count − 1."""
    a = Arguments(e, slots, POINTERS, NUMBERS)

    def line(index: Value, *found: Value) -> list[Value]:
        at = e.mul(index, a.step)
        result = []
        for part, before in enumerate(found):
            here = e.add(at, part * e.lanes)
            x, y = (e.load_vector(array, here, kind=e.indices) for array in (a.a, a.b))
            result.append(e.b.or_(before, e.b.xor(x, y)))
        return result

    parts = e.loop(0, a.lines, line, [e.splat_index(0)] * (LINE // e.lanes))
    lanes = e.array(LINE, I32)
    for part, value in enumerate(parts):
        e.store_vector(value, lanes, part * e.lanes)

    def number(index: Value, found: Value) -> list[Value]:
        return [e.b.or_(found, e.b.xor(e.load(a.a, index, I32), e.load(a.b, index, I32)))]

    (found,) = e.loop(a.rest, a.count, number, [e.load(lanes, 0, I32)])
    (found,) = e.loop(0, LINE, lambda i, found: [e.b.or_(found, e.load(lanes, i, I32))], [found])
    e.store(found, a.different)


COMPARE = Family("compare", POINTERS, NUMBERS, _write)
