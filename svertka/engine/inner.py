"""Dense layers of few images by the family of inner products, whose weights need no packing."""

from __future__ import annotations

import torch
from torch import Tensor

from svertka import spec
from svertka.engine.launch import Launch, address
from svertka.kernels.epilogue import Epilogue
from svertka.kernels.inner import INNER, Inner, InnerSchedule, choose_inner
from svertka.kernels.target import host

FEW = 8  # images, whose sums have room in registers
_LONG = 16  # vectors of a row, at least


def suits_sizes(images: int, inputs: int) -> bool:
    """Whether a dense layer is for the family: of few images, with rows beside which adding up lanes is little."""
    return 1 <= images <= FEW and inputs >= _LONG * host().lanes


def suits(operation: spec.ConvolutionBlock, x: Tensor, weight: Tensor, *rest: Tensor | None) -> bool:
    """Whether a block is such a layer, all of whose tensors lie in order."""
    if operation.windows or operation.groups > 1 or operation.pool or not suits_sizes(x.shape[0], weight.shape[1]):
        return False
    return all(part is None or part.is_contiguous() for part in (x, weight, *rest))


class Runner:
    """A dense layer on so many images.

    Args:
        x, weight: like the input and the weight.
        epilogue: what is done to each sum.
        schedule: forces one.
    """

    def __init__(self, x: Tensor, weight: Tensor, epilogue: Epilogue, schedule: InnerSchedule | None = None) -> None:
        kernel = Inner(weight.shape[1], weight.shape[0], x.shape[0], epilogue)
        schedule = schedule or choose_inner(kernel, host())
        tasks = -(-kernel.outputs // (schedule.vectors * host().lanes))
        self.shape = (x.shape[0], weight.shape[0])
        self.launch = Launch(INNER, kernel, schedule, tasks)
        self.detail = f"inner products of {schedule.rows} rows"

    def __call__(
        self,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        scale: Tensor | None = None,
        residual: Tensor | None = None,
    ) -> Tensor:
        y = torch.empty(self.shape)
        self.launch(
            x.data_ptr(), weight.data_ptr(), y.data_ptr(), address(bias), address(scale), address(residual)
        )  # fmt: skip
        return y
