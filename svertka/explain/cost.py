"""What an operation costs, counted in multiply-adds.

The convention everywhere: one multiply-add (MAC) for each weight that meets an input, those on the padding too; biases,
sums, comparisons and normalisation are not counted. FLOPs in the other common convention are twice the MACs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from svertka import spec


def multiply_adds(operation: spec.Operation[Any], x: Tensor, result: Tensor, weight: Tensor | None = None) -> int:
    """The multiply-adds of one call of an operation.

    Args:
        operation: what was done.
        x: its input, [N, C, *size] or [C, *size].
        result: its output.
        weight: its weight, if it has one; shapes as in `svertka.functional`.
    """
    if weight is None:
        return 0
    if isinstance(operation, spec.Unshared):
        return weight.numel() * (result.numel() // math.prod(weight.shape[: operation.ndim + 1]))
    if isinstance(operation, spec.WeightedPool):
        return result.numel() * weight[0].numel()
    # A tap for each output and input channel of its group; the transpose has one for each input and output channel.
    places = x if isinstance(operation, spec.TransposedConvolution) else result
    return places.numel() * weight[0].numel()


def counted_by_torch(call: Callable[[], Any]) -> tuple[Any, int]:
    """The result of a call, and the multiply-adds of all matrix products and convolutions that torch does in it."""
    with FlopCounterMode(display=False) as counter:
        result = call()
    return result, counter.get_total_flops() // 2
