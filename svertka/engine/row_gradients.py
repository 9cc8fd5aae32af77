"""k-max pooling and poolings between boundaries with their gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from svertka import spec
from svertka.engine.kmax import prepare_k_max
from svertka.engine.launch import Launch
from svertka.engine.segments import prepare_segments
from svertka.engine.step import Saved, Step
from svertka.kernels.row_gradients import ROW_GRADIENT, RowGradient

_TASK = 1 << 14  # numbers in a task, about


def prepare_k_max_step(operation: spec.KMaxPool, x: Tensor) -> Step | str:
    """A k-max pooling and its gradient, or why there is none."""
    return _Rows("k-max", prepare_k_max(operation, x), x, operation.k)


def prepare_segments_step(operation: spec.SegmentPool, x: Tensor, boundaries: Tensor) -> Step | str:
    """A pooling of the parts between boundaries and its gradient, or why there is none."""
    return _Rows(operation.kind, prepare_segments(operation, x, boundaries), x, boundaries.shape[1] + 1)


class _Rows(Step):
    """An operation on whole rows of inputs of one shape."""

    def __init__(self, kind: str, runner: Any, x: Tensor, outputs: int) -> None:
        self.runner, self.detail, self.shape = runner, runner.detail, tuple(x.shape)
        rows, length = x.shape[0] * x.shape[1], x.shape[2]
        rows_in_task = max(_TASK // length, 1)
        self.launch = Launch(
            ROW_GRADIENT,
            RowGradient(kind),
            None,
            -(-rows // rows_in_task),
            rows=rows,
            rows_in_task=rows_in_task,
            length=length,
            outputs=outputs,
            channels=x.shape[1],
        )

    def forward(self, x: Tensor, *tensors: Tensor | None, **_: Any) -> tuple[tuple[Tensor, ...], list[Tensor]]:
        y = self.runner(x, *tensors)
        return (y,), [y]

    def backward(self, dy: Tensor, saved: Saved) -> Sequence[Tensor | None]:
        x, (y,), dy = saved.x.contiguous(), saved.kept, dy.contiguous()
        boundaries = [b.long().contiguous() for b in saved.tensors if b is not None]
        dx = torch.empty(self.shape)
        cuts = boundaries[0].data_ptr() if boundaries else 0
        self.launch(x.data_ptr(), y.data_ptr(), dy.data_ptr(), dx.data_ptr(), cuts)
        return [dx, *(None for _ in saved.tensors)]
