"""A depthwise convolution and the 1×1 convolution after it, by the separable family."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from svertka import spec
from svertka.engine.launch import address
from svertka.engine.layout import empty, neighbours, with_channels_last
from svertka.engine.packing import Packing, packed_weight, same
from svertka.engine.pools import ChannelwiseRunner, Normalised, channelwise
from svertka.kernels.combine import WeightedSum
from svertka.kernels.dense import Dense, blocks_of
from svertka.kernels.epilogue import Epilogue
from svertka.kernels.schedule import choose_separable, rows_of_task
from svertka.kernels.separable import SEPARABLE, Separable, SeparableSchedule
from svertka.kernels.target import host
from svertka.window import Window

_KEEP = Window(1)


@dataclass(frozen=True)
class SeparableBlock:
    """Two blocks, the second of which reads what the first one gives, and nobody else."""

    depthwise: spec.ConvolutionBlock
    pointwise: spec.ConvolutionBlock


def prepare_separable(
    operation: SeparableBlock,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    product_weight: Tensor,
    product_bias: Tensor | None,
    residual: Tensor | None = None,
    *,
    schedule: SeparableSchedule | None = None,
) -> Any:
    """A runner for both blocks, or why there is none.

    Args:
        x: with neighbouring channels.
        weight, bias: of the depthwise block, [C, 1, *kernel_size] and [C].
        product_weight, product_bias: of the pointwise one, [outputs, C, 1, …] and [outputs].
        residual: of the pointwise one.
    """
    depthwise, pointwise = operation.depthwise, operation.pointwise
    channels = x.shape[1]
    if not 1 < depthwise.groups == channels == weight.shape[0] or depthwise.pool:
        return "the first convolution isn't depthwise"
    plain = all(window.at(n) == _KEEP for window, n in zip(pointwise.windows, x.shape[2:], strict=True))
    if not plain or pointwise.groups > 1 or pointwise.pool or product_weight.shape[1] != channels:
        return "the second convolution isn't 1×1"
    if not neighbours(x):
        return "the input's channels aren't neighbours"
    if x[0].numel() >= 2**31:
        return "an image has more numbers than a table can count"
    first = Epilogue(bias=bias is not None, activation=depthwise.activation)
    second = Epilogue(product_bias is not None, False, residual is not None, pointwise.activation)
    size = depthwise.output_size(x.shape[2:])
    kernel = channelwise(depthwise, WeightedSum(), channels, first)
    product = Dense(channels, product_weight.shape[0], second)
    both = Separable(**vars(kernel), product=product)
    rows, columns = x.shape[0] * math.prod(size[:-1]), size[-1]
    chosen = schedule or choose_separable(both, host(), rows, columns)
    if isinstance(chosen, str):
        return chosen
    if rows_of_task(chosen, rows, columns * channels) * columns * channels > chosen.room:
        raise ValueError(f"{chosen} has no room for {chosen.rows} rows of {columns} places with {channels} channels")
    return SeparableRunner(operation, both, chosen, x)


class SeparableRunner(ChannelwiseRunner):
    """Both blocks on inputs of one shape."""

    def __init__(self, operation: SeparableBlock, kernel: Separable, schedule: SeparableSchedule, x: Tensor) -> None:
        packing = same(Normalised(kernel.channels, False))
        super().__init__(operation.depthwise, kernel, schedule, x, True, packing, SEPARABLE)
        self.shape = (x.shape[0], kernel.product.outputs, *self.shape[2:])
        target, tile = host(), schedule.product
        blocks = blocks_of(kernel.product, tile, target)
        self.product_packing = same(Packing(1, blocks, tile.vectors * target.lanes, (0,)))
        self.line_packing = self.product_packing.of_line()
        self.detail += f", product of {tile.pixels} pixels × {tile.vectors} vectors"

    def _task(self, kernel: Any, schedule: Any, rows: int, width: int) -> tuple[int, int]:  # noqa: ARG002
        return rows_of_task(schedule, rows, self.axes[-1].outputs * kernel.channels), kernel.channels

    def __call__(  # type: ignore[override]
        self,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        product_weight: Tensor,
        product_bias: Tensor | None,
        residual: Tensor | None = None,
    ) -> Tensor:
        residual = None if residual is None else with_channels_last(residual, "residual")
        bias = None if bias is None else bias.contiguous()
        packed = packed_weight(weight, self.packing)
        product = packed_weight(product_weight, self.product_packing)
        line = None if product_bias is None else packed_weight(product_bias, self.line_packing)
        y = empty(self.shape, True)
        self.launch(
            x.data_ptr(), packed.data_ptr(), y.data_ptr(), 0, *self.tables, address(bias), 0, 0,
            product.data_ptr(), address(line), 0, address(residual),
        )  # fmt: skip
        return y
