"""Convolutions in groups of few channels by the grouped family."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from svertka import spec
from svertka.engine.layout import channels_last
from svertka.engine.packing import same
from svertka.engine.pools import ChannelwiseRunner, inner_outputs
from svertka.kernels.channelwise import ChannelwiseSchedule
from svertka.kernels.combine import WeightedSum
from svertka.kernels.epilogue import Epilogue
from svertka.kernels.grouped import GROUPED, Grouped, choose_grouped
from svertka.kernels.target import host


@dataclass(frozen=True)
class GroupedPacking:
    """Weights as the kernel reads them: [taps, turns, outputs], w[t, g·D + d, (d + turn) mod C], and `room` behind."""

    of_group: tuple[int, int]
    room: int

    def __call__(self, weight: Tensor) -> Tensor:
        inputs, outputs = self.of_group
        rows = weight.reshape(-1, outputs, inputs, weight[0, 0].numel())  # [groups, D, C, taps]
        own, turn = torch.arange(outputs)[:, None], torch.arange(inputs)
        turned = rows[:, own, (own + turn) % inputs]
        packed = weight.new_zeros(weight.numel() + self.room)
        packed[: weight.numel()] = turned.permute(3, 2, 0, 1).reshape(-1)
        return packed


def prepare_grouped(
    operation: spec.ConvolutionBlock,
    x: Tensor,
    weight: Tensor,
    epilogue: Epilogue,
    schedule: ChannelwiseSchedule | None = None,
) -> Any:
    """A runner for a convolution block, or why another family is better."""
    if operation.groups == 1 or operation.pool or not operation.windows:
        return "it is none in groups, or one that is pooled"
    row, n = operation.windows[-1], x.shape[-1]
    of_group = weight.shape[1], weight.shape[0] // operation.groups
    kernel = Grouped(
        WeightedSum(),
        weight.shape[0],
        epilogue,
        row.size,
        row.stride,
        row.dilation,
        operation.ndim == 3,
        of_group=of_group,
    )
    first, last = inner_outputs(row, n)
    schedule = schedule or choose_grouped(kernel, host(), last - first)
    if schedule is None:
        return "a vector would hold one group"
    groups = kernel.in_vector(schedule.lanes)
    if schedule.vectors > 1 or not groups or schedule.pixels > max(last - first, 1):
        raise ValueError(f"{schedule} is larger than a row with {last - first} outputs inside, or than the channels")
    packing, neighbours = same(GroupedPacking(of_group, host().lanes)), channels_last(x) or channels_last(weight)
    width = groups * of_group[1]
    return ChannelwiseRunner(operation, kernel, schedule, x, neighbours, packing, GROUPED, width)
