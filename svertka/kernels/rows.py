"""Rows side by side, one in each lane of a vector: what is done along them is done to vectors, in order."""

from __future__ import annotations

from typing import Any

from svertka.kernels.emit import I64, Emitter, Value
from svertka.kernels.transpose import transposed

SCRATCH = 16384  # numbers that there is room for


class Rows:
    """A group of rows of x, one in each lane; those that are missing at the end are the last one.

    Args:
        x, length: a matrix with rows of so many numbers.
        first: the first row.
        rows: there are so many; the group ends with them, if not before.
        positions: so many of each row have room in scratch.
    """

    def __init__(self, e: Emitter, x: Value, length: Value, first: Value, rows: Value, positions: int) -> None:
        self.e, self.first, self.room = e, first, positions
        self.count = e.min(e.sub(rows, first), e.lanes)
        self.scratch = e.array(positions * e.lanes)
        self._x, self._starts = x, e.array(e.lanes, I64)
        for lane in range(e.lanes):
            row = e.add(first, e.min(lane, e.sub(self.count, 1)))
            e.store(e.mul(row, length), self._starts, lane)

    def row(self, lane: Value) -> Value:
        """The address of a row."""
        return self.e.at(self._x, self.e.load(self._starts, lane, I64))

    def fetch(self, first: Value, last: Value) -> None:
        """Brings positions [first, last) of all rows to scratch: position i to vector i − first."""
        e = self.e

        def block(position: Value) -> None:
            position = e.min(position, e.sub(last, e.lanes))  # the last one may overlap the one before
            rows = [e.load_vector(self.row(e.i64(lane)), position) for lane in range(e.lanes)]
            for i, vector in enumerate(transposed(e, rows)):
                e.store_vector(vector, self.scratch, e.mul(e.add(e.sub(position, first), i), e.lanes))

        def single(lane: Value) -> None:
            row = self.row(lane)

            def position(i: Value) -> None:
                e.store(e.load(row, i), self.scratch, e.add(e.mul(e.sub(i, first), e.lanes), lane))

            e.loop(first, last, position)

        def blocks() -> tuple[()]:
            e.loop(first, last, block, step=e.lanes)
            return ()

        def singles() -> tuple[()]:
            e.loop(0, e.lanes, single)
            return ()

        e.choose(e.b.icmp_signed(">=", e.sub(last, first), e.i64(e.lanes)), blocks, singles)

    def vector(self, i: Value, kind: Any = None) -> Value:
        """The i-th vector in scratch."""
        return self.e.load_vector(self.scratch, self.e.mul(i, self.e.lanes), kind=kind)
