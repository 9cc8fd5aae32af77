"""The end of Winograd's algorithm: from a tile's products to its outputs, the epilogue and a pooling.

y[:, :, d] = max over windows of epilogue(A_y · products[:, :, d] · A_xᵀ)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir

from svertka.kernels.emit import I32, I64, Value
from svertka.kernels.epilogue import COSTLY, activate
from svertka.kernels.linear_map import linear_map


class OutputTile:
    """Writes what becomes of the products of one tile and one vector of channels.

    Args:
        kernel: the WinogradKernel that it is a part of.
        padded: the vector's first channel among the bias's.
        count: channels of the vector that there are.
    """

    def __init__(self, kernel: Any, padded: Value, count: int) -> None:
        self.kernel, self.e, self.a, self.spec = kernel, kernel.e, kernel.a, kernel.spec
        self.count, self.temporary, self.schedule = count, kernel.temporary, kernel.schedule
        epilogue = self.spec.epilogue
        self.scale = self.e.load_vector(self.a.scale, padded) if epilogue.scale else None
        self.bias = self.e.load_vector(self.a.bias, padded) if epilogue.bias else None
        self.costly = epilogue.activation is not None and epilogue.activation.name in COSTLY

    def write(self, source: Value, y: Value, rows: Value, columns: Value) -> None:
        """From the products at `source` to y and there the places of the tables `rows` and `columns`."""
        e, kernel, pool = self.e, self.kernel, self.spec.pool
        down, across = kernel.down, kernel.across
        step = self.schedule.tiles * kernel.width

        def column(j: Value) -> None:
            begin = e.at(source, e.mul(j, step))
            values = [e.load_vector(begin, i * across * step) for i in range(down)]
            put = e.at(self.temporary, e.mul(j, e.lanes))
            for i, value in enumerate(linear_map(e, kernel.vertical.A, values)):
                e.store_vector(value, put, i * across * e.lanes)

        def line(i: Value) -> list[Value]:
            begin = e.at(self.temporary, e.mul(i, across * e.lanes))
            return linear_map(e, kernel.horizontal.A, [e.load_vector(begin, j * e.lanes) for j in range(across)])

        def row(i: Value) -> None:
            place = e.load(rows, i, I32)

            def inside() -> None:
                lines = [line(e.add(e.mul(i, pool[0]), k)) for k in range(pool[0])]
                here = e.add(y, e.b.sext(place, I64))
                if pool == (1, 1):
                    self._store_row(lines[0], here, columns)
                else:
                    self._store_largest(lines, here, columns)

            e.when(e.b.icmp_signed(">=", place, ir.Constant(I32, 0)), inside)

        e.loop(0, across, column)
        e.loop(0, self.schedule.tile[0] // pool[0], row)

    def _store_row(self, values: Sequence[Value], y: Value, columns: Value) -> None:
        e = self.e

        def store(j: int | Value, value: Value) -> None:
            def finish(place: Value) -> None:
                e.store_vector(self._finished(value, place), self.a.y, place, self.count)

            self._inside(columns, j, y, finish)

        if not self.costly:
            for j, value in enumerate(values):
                store(j, value)
            return
        line = self._kept(values)  # the code of a costly activation stands in a loop, once
        e.loop(0, len(values), lambda j: store(j, e.load_vector(line, e.mul(j, e.lanes))))

    def _store_largest(self, lines: Sequence[Sequence[Value]], y: Value, columns: Value) -> None:
        """A row of pooling windows, from the lines that they lie on."""
        e, across = self.e, self.spec.pool[1]
        if self.costly:
            kept = self._kept([value for line in lines for value in line])
            size = len(lines[0])

            def finish(i: Value) -> None:
                place = e.mul(i, e.lanes)
                e.store_vector(self._finished(e.load_vector(kept, place), None), kept, place)

            e.loop(0, len(lines) * size, finish)
            lines = [[e.load_vector(kept, (i * size + j) * e.lanes) for j in range(size)] for i in range(len(lines))]
        else:
            lines = [[self._finished(value, None) for value in line] for line in lines]
        for j in range(len(lines[0]) // across):
            largest, *others = [value for line in lines for value in line[j * across : (j + 1) * across]]
            for value in others:
                largest = e.maximum(largest, value)

            def store(place: Value, value: Value = largest) -> None:
                e.store_vector(value, self.a.y, place, self.count)

            self._inside(columns, j, y, store)

    def _inside(self, columns: Value, j: int | Value, y: Value, store: Any) -> None:
        """store(its place in y), if the tile's output j lies inside."""
        e, column = self.e, self.e.load(columns, j, I32)
        e.when(e.b.icmp_signed(">=", column, ir.Constant(I32, 0)), lambda: store(e.add(y, e.b.sext(column, I64))))

    def _kept(self, values: Sequence[Value]) -> Value:
        line = self.e.array(len(values) * self.e.lanes)
        for j, value in enumerate(values):
            self.e.store_vector(value, line, j * self.e.lanes)
        return line

    def _finished(self, value: Value, place: Value | None) -> Value:
        """After the epilogue; `place` is where a residual is read."""
        e, epilogue = self.e, self.spec.epilogue
        if self.scale is not None:
            value = e.fma(value, self.scale, self.bias) if self.bias is not None else e.b.fmul(value, self.scale)
        elif self.bias is not None:
            value = e.b.fadd(value, self.bias)
        if epilogue.residual:
            value = e.b.fadd(value, e.load_vector(self.a.residual, place, self.count))
        return activate(e, epilogue.activation, value)
