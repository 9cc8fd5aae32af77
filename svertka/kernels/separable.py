"""A depthwise convolution and the 1×1 convolution after it as one: what is between them never leaves the cache.

    y[q, d] = epilogue₂(Σ_c  z[q, c] · v[c, d]),    z[q, c] = epilogue₁(Σ_t  x[source(q, t), c] · w[t, c])

q runs over places of the output, c over the inputs, d over the outputs. A task takes a few rows of places: their z goes
to room on the stack, by the code of the channelwise family, and is at once multiplied with v by that of the dense one.
Since a 1×1 convolution reads each place for itself, no z is computed twice.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from svertka.kernels import channelwise
from svertka.kernels.channelwise import Channelwise, ChannelwiseKernel, ChannelwiseSchedule
from svertka.kernels.dense import Dense, DenseKernel, DenseSchedule
from svertka.kernels.emit import Arguments, Emitter, Value
from svertka.kernels.family import Family
from svertka.kernels.tall import TallKernel

_OF_PRODUCT = ("product_w", "product_bias", "product_scale", "residual")
POINTERS = (*(name for name in channelwise.POINTERS if name not in _OF_PRODUCT), *_OF_PRODUCT)
NUMBERS = channelwise.NUMBERS


@dataclass(frozen=True)
class Separable(Channelwise):
    """What is computed: the depthwise convolution, and the product of what it gives.

    Args:
        product: with as many inputs as there are channels.
    """

    product: Dense = field(default_factory=lambda: Dense(1, 1))


@dataclass(frozen=True)
class SeparableSchedule(ChannelwiseSchedule):
    """How it is computed.

    Args:
        product: the register tile of the product; its sums aren't split.
        room: floats of z in a task, at most.
    """

    product: DenseSchedule = field(default_factory=lambda: DenseSchedule(1, 1))
    room: int = 1 << 15


class _Rows:
    """Rows of a task whose outputs begin where the task's room begins."""

    first_row: Value

    def _begin(self: Any, row: Value) -> None:
        super()._begin(row)  # type: ignore[misc]
        self.first_output = self.e.mul(self.e.sub(row, self.first_row), self.a.columns)


class _SingleRows(_Rows, ChannelwiseKernel):
    """Row by row."""


class _TallRows(_Rows, TallKernel):
    """By tiles of several rows."""


class _Product(DenseKernel):
    """The product of a task's z, whose places are counted from the task's first one."""

    z: Value

    def _sources(self, _: Value, pixel: Value) -> list[Value]:
        inputs = self.spec.inputs
        first = self.e.at(self.z, self.e.mul(pixel, inputs))
        return [self.e.at(first, p * inputs) for p in range(self.schedule.pixels)]

    def _place(self, output: Value) -> Value:
        return self.e.mul(output, self.spec.outputs)

    def write_product(self, places: Value) -> None:
        """All blocks of the outputs at so many places."""
        self.e.loop(0, self.blocks, lambda block: self._parts(block, self.e.i64(0), places))


def _write(spec: Separable, schedule: SeparableSchedule, e: Emitter, slots: Value, task: Value, _worker: Value) -> None:
    """Task: some rows, counted through all images."""
    product = _Product(spec.product, schedule.product, e)
    lanes, vector, indices = e.lanes, e.vector, e.indices
    rows: Any = (_TallRows if schedule.rows > 1 else _SingleRows)(spec, schedule, e)  # with lanes of its own
    a = Arguments(e, slots, POINTERS, NUMBERS)
    # The last tile of the product reads places that there are not, and stores nothing of them.
    z = e.array(schedule.room + (schedule.product.pixels - 1) * spec.channels)
    first = e.mul(task, a.rows_in_task)
    last = e.min(e.add(first, a.rows_in_task), a.rows)
    rows.a = SimpleNamespace(**{**vars(a), "y": z, "residual": None})
    rows.seed, rows.first_row, rows.channels = None, first, (0, spec.channels)
    rows._rows(first, last)
    e.lanes, e.vector, e.indices = lanes, vector, indices
    product.a = SimpleNamespace(
        w=a.product_w, y=a.y, bias=a.product_bias, scale=a.product_scale, residual=a.residual, taps=1
    )  # type: ignore[assignment]
    product.z, product.first, product.group_block = z, e.i64(0), e.i64(0)
    product.image_place = e.mul(e.mul(first, a.columns), spec.product.outputs)
    product.write_product(e.mul(e.sub(last, first), a.columns))


SEPARABLE = Family("separable", POINTERS, NUMBERS, _write)
