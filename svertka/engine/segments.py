"""Poolings of the parts that boundaries cut sequences into, by their family."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from svertka import spec
from svertka.engine.launch import Launch
from svertka.kernels.segments import SEGMENTS, Parts
from svertka.kernels.target import host


def prepare_segments(operation: spec.SegmentPool, x: Tensor, boundaries: Tensor) -> Any:
    """A runner for the pooling of the parts of x [N, C, L] between boundaries, int64 [N, S − 1]."""
    return _Runner(operation, x, boundaries.shape[1] + 1)


class _Runner:
    """A pooling of as many parts of inputs of one shape."""

    def __init__(self, operation: spec.SegmentPool, x: Tensor, count: int) -> None:
        images, channels, length = x.shape
        self.shape = (images, channels, count)
        groups = -(-channels // host().lanes)
        self.launch = Launch(
            SEGMENTS,
            Parts(operation.kind == "average"),
            None,
            images * groups,
            channels=channels,
            length=length,
            segments=count,
            groups=groups,
        )
        self.detail = "segments, channels side by side"

    def __call__(self, x: Tensor, boundaries: Tensor) -> Tensor:
        x, boundaries, y = x.contiguous(), boundaries.long().contiguous(), torch.empty(self.shape)
        self.launch(x.data_ptr(), boundaries.data_ptr(), y.data_ptr())
        return y
