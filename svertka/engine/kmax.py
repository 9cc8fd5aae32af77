"""k-max pooling by its families."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from svertka import spec
from svertka.engine.launch import Launch
from svertka.kernels.kmax import FEW_LARGEST, MANY_LARGEST, MOST_FEW, FewLargest, ManyLargest
from svertka.kernels.target import host

_TASK = 1 << 14  # numbers that a task reads, about
_LONG = 512  # a row by itself


def prepare_k_max(operation: spec.KMaxPool, x: Tensor, *, kernel: FewLargest | ManyLargest | None = None) -> Any:
    """A runner for a k-max pooling of x; `kernel` forces a way."""
    if kernel is None:
        few = operation.k <= MOST_FEW
        kernel = FewLargest(operation.k) if few else ManyLargest(x.shape[-1] >= _LONG)
    return _Runner(operation.k, x, kernel)


class _Runner:
    """A k-max pooling of inputs of one shape."""

    def __init__(self, k: int, x: Tensor, kernel: FewLargest | ManyLargest) -> None:
        few, height = isinstance(kernel, FewLargest), host().lanes
        if kernel == ManyLargest(True):
            height = 1
        rows, length = math.prod(x.shape[:-1]), x.shape[-1]
        groups, groups_in_task = -(-rows // height), max(_TASK // (length * height), 1)
        self.shape = (*x.shape[:-1], k)
        self.launch = Launch(
            FEW_LARGEST if few else MANY_LARGEST,
            kernel,
            None,
            -(-groups // groups_in_task),
            rows=rows,
            length=length,
            k=k,
            groups=groups,
            groups_in_task=groups_in_task,
        )
        self.detail = "k-max, the largest so far in registers" if few else "k-max, the k-th largest bit by bit"

    def __call__(self, x: Tensor) -> Tensor:
        x, y = x.contiguous(), torch.empty(self.shape)
        self.launch(x.data_ptr(), y.data_ptr())
        return y
