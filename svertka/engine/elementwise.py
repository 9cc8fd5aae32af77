"""Formulas of single numbers on tensors: operands that are broadcast, results in any memory format, copies."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from svertka.engine.launch import Launch
from svertka.kernels.elementwise import APART, ELEMENTWISE, MOST, NEIGHBOURS, REPEATED, Elementwise, Formula, operands

_TASK = 1 << 14  # numbers in a task, about
IDENTITY: Formula = ("x", 0)
Strides = list[list[int]]


def prepare_elementwise(formula: Formula, xs: Sequence[Tensor], y: Tensor) -> ElementwiseRunner | str:
    """A runner of (*xs, y) that writes y = formula(*xs), or why there is none.

    Of the tensors it looks at shapes and strides; xs are broadcast to y's shape, whose numbers must not overlap.
    """
    if len(xs) > MOST or operands(formula) > MOST:
        return f"a formula has {MOST} operands at most"
    if any(tensor.dtype is not torch.float32 for tensor in (*xs, y)):
        return "formulas are computed in float32"
    sizes, strides = _merged(y.shape, [list(x.expand(y.shape).stride()) for x in xs] + [list(y.stride())])
    if len(sizes) > 4:
        return "its operands lie in too many different ways"
    return ElementwiseRunner(formula, sizes, strides)


def _merged(shape: Sequence[int], strides: Strides) -> tuple[list[int], Strides]:
    """Sizes and strides of the axes, outermost in y (the last tensor) first; axes that can be walked as one are one."""
    axes = [axis for axis in range(len(shape)) if shape[axis] != 1]
    axes.sort(key=lambda axis: -strides[-1][axis])
    sizes: list[int] = []
    merged: Strides = [[] for _ in strides]
    for axis in axes:
        if sizes and all(to[-1] == of[axis] * shape[axis] for to, of in zip(merged, strides, strict=True)):
            sizes[-1] *= shape[axis]
            for to, of in zip(merged, strides, strict=True):
                to[-1] = of[axis]
            continue
        sizes.append(shape[axis])
        for to, of in zip(merged, strides, strict=True):
            to.append(of[axis])
    return sizes, merged


class ElementwiseRunner:
    """A formula on tensors of some shapes and strides."""

    def __init__(self, formula: Formula, sizes: list[int], strides: Strides) -> None:
        missing = 4 - len(sizes)
        sizes = [1] * missing + sizes
        strides = [[0] * missing + line for line in strides]
        *lines, result = strides
        kinds = tuple(_kind(line[3], sizes[3]) for line in lines)
        first, second, third, columns = sizes
        rows = first * second * third
        columns_in_task = min(columns, _TASK)
        rows_in_task = max(_TASK // columns_in_task, 1)
        column_tasks = math.ceil(columns / columns_in_task)
        self.count = len(lines)
        table = [*lines, *([[0] * 4] * (MOST - len(lines))), result]
        self.strides = torch.tensor(table, dtype=torch.int64)
        self.launch = Launch(
            ELEMENTWISE,
            Elementwise(formula, kinds, _kind(result[3], columns)),
            None,
            math.ceil(rows / rows_in_task) * column_tasks,
            rows=rows,
            second=second,
            third=third,
            columns=columns,
            rows_in_task=rows_in_task,
            columns_in_task=columns_in_task,
            column_tasks=column_tasks,
        )
        self.detail = "elementwise"

    def __call__(self, *tensors: Tensor) -> Tensor:
        *xs, y = tensors
        places = [x.data_ptr() for x in xs] + [0] * (MOST - self.count)
        self.launch(*places, y.data_ptr(), self.strides.data_ptr())
        return y


def _kind(step: int, columns: int) -> str:
    if columns == 1 or step == 1:
        return NEIGHBOURS
    return APART if step else REPEATED
