"""Paddings by their family."""

from __future__ import annotations

import math
from struct import pack, unpack
from typing import Any

import numpy as np
import torch
from torch import Tensor

from svertka import spec
from svertka.engine.launch import Launch
from svertka.engine.layout import channels_last, empty
from svertka.kernels.pad import PAD, Pad
from svertka.window import OUTSIDE, Window

_MOST = 2**31  # what a table's int32 can count
_TASK = 1 << 15  # numbers that a task writes, about


def prepare_pad(operation: spec.Pad, x: Tensor) -> Any:
    """A runner for a padding of x, or why there is none."""
    operation.output_size(x.shape[2:])  # raises where all would be cut off
    if max(x.shape[2:]) >= _MOST:
        return "an axis is longer than a table can count"
    return _Runner(operation, x)


class _Runner:
    """A padding of inputs of one shape."""

    def __init__(self, operation: spec.Pad, x: Tensor) -> None:
        self.shape = (*x.shape[:2], *operation.output_size(x.shape[2:]))
        self.last = channels_last(x)
        missing = 3 - operation.ndim
        windows, size = (Window(1),) * missing + operation.windows, (1,) * missing + tuple(x.shape[2:])
        sources = [window.sources(n)[:, 0] for window, n in zip(windows, size, strict=True)]
        self.tables = [torch.from_numpy(line).int() for line in sources]
        self.sources = [table.data_ptr() for table in self.tables]
        depths, heights, columns = (len(line) for line in sources)
        first, last = _neighbours(windows[-1], size[-1])
        unit, planes = (x.shape[1], x.shape[0]) if self.last else (1, x.shape[0] * x.shape[1])
        columns_in_task = min(max(_TASK // unit, 1), columns)
        rows_in_task = max(_TASK // (columns_in_task * unit), 1)
        rows, column_tasks = planes * depths * heights, -(-columns // columns_in_task)
        self.launch = Launch(
            PAD,
            Pad(unit == 1),
            None,
            -(-rows // rows_in_task) * column_tasks,
            value=unpack("i", pack("f", operation.value))[0],
            unit=unit,
            plane=math.prod(size) * unit,
            rows=rows,
            depths=depths,
            heights=heights,
            in_heights=size[1],
            in_columns=size[2],
            columns=columns,
            inner_first=first,
            inner_last=last,
            shift=int(sources[-1][first]) - first,
            rows_in_task=rows_in_task,
            column_tasks=column_tasks,
            columns_in_task=columns_in_task,
        )
        self.detail = "pad, all channels of a place together" if self.last else "pad, channel by channel"

    def __call__(self, x: Tensor) -> Tensor:
        x = x if self.last else x.contiguous()
        y = empty(self.shape, self.last)
        self.launch(x.data_ptr(), *self.sources, y.data_ptr())
        return y


def _neighbours(window: Window, n: int) -> tuple[int, int]:
    """(first, last + 1) of the outputs that are the input itself; (0, 0) if none."""
    sources = window.sources(n)
    inner = np.flatnonzero((sources == window.places(n)) & (sources != OUTSIDE))
    return (int(inner[0]), int(inner[-1]) + 1) if len(inner) else (0, 0)
