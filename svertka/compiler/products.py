"""Matrix products and sums of what is computed: dense layers in training, whose weights come in with each step.

    y = x·w + b        dx = dy·wᵀ        dw = dyᵀ·x,  db = Σ dy over the rows

How the first operand lies tells which of them a product is. By rows it is a dense layer on these rows, the other
operand being packed as its weight. By columns it is the gradient to a weight, a sum over many rows, as of a 1×1
convolution over as many places; the sum of dy, if somebody asks for it, comes along.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from svertka import spec
from svertka.compiler.blocks import FxNode, is_node
from svertka.compiler.layers import float32, runner
from svertka.compiler.recorder import NotRecordable
from svertka.engine import dense, dense_gradients, pools

if TYPE_CHECKING:
    from svertka.compiler.lower import Lowering

aten = torch.ops.aten
_FEW_ROWS = 32  # with fewer, packing the weight takes longer than the product
_LARGE, _MANY_ROWS = 1 << 21, 512  # numbers of a weight that takes more rows to be worth it


def product(low: Lowering, node: FxNode) -> tuple[Any, str, int]:
    """a·b, plus a line if there is one."""
    *line, a_node, b_node = node.args
    a, b = low.tensor(a_node), low.tensor(b_node)
    if node.kwargs:
        raise NotRecordable("its operands are scaled")
    (rows, inner), outputs = a.shape, b.shape[1]
    by_columns = a.stride() == (1, rows) and b.stride() == (outputs, 1) and not line
    summed, weight = (inner, rows * outputs) if by_columns else (rows, inner * outputs)
    if summed < _FEW_ROWS or (weight > _LARGE and summed < _MANY_ROWS):
        raise NotRecordable("there are too few rows for a weight that is packed at each step")
    macs = rows * inner * outputs
    if by_columns:
        return (*_weight_gradient(low, node, a.t(), b), macs)
    x, w = a.contiguous(), b.t()
    bias = low.tensor(line[0]) if line else None
    if bias is not None and tuple(bias.shape) != (outputs,):
        raise NotRecordable("its bias isn't a line")
    run = runner(low, dense.prepare_block, spec.ConvolutionBlock(()), x, w, bias, changing=True)
    return run(x, w, bias), run.detail, macs


def _weight_gradient(low: Lowering, node: FxNode, dy: Tensor, x: Tensor) -> tuple[Tensor, str]:
    """dyᵀ·x, of matrices [rows, outputs] and [rows, inputs]."""
    outputs, inputs = dy.shape[1], x.shape[1]
    total, shape, strides = _sum_of_rows(low, node.args[-2]), (outputs, inputs), (inputs, 1)
    if inputs >= 2 * outputs:  # the wider one along the vectors
        x, dy, total, shape, strides = dy, x, None, shape[::-1], strides[::-1]
    operation = spec.Convolution(spec.windows(2, 1))
    like = torch.empty_strided((*shape, 1, 1), (*strides, 1, 1))
    x, dy = _as_places(x), _as_places(dy)
    run = runner(low, dense_gradients.prepare_weight_gradient, operation, x, like, dy, bias=total is not None)
    dw, db = run(x, dy)
    if total is not None:
        low.sums[total] = db
    dw = dw.view(shape)
    return dw if shape == (outputs, inputs) else dw.t(), run.detail


def _as_places(x: Tensor) -> Tensor:
    """[rows, columns] as an image's places and channels."""
    return x.t()[None, :, :, None]


def _sum_of_rows(low: Lowering, turned: FxNode) -> FxNode | None:
    """The node that adds up the rows of what a node is the transpose of, if it is still to come."""
    if not is_node(turned) or len(turned.all_input_nodes) != 1:
        return None
    for user in turned.args[0].users:
        if user.target is aten.sum.dim_IntList and user not in low.env and not user.kwargs and _over_rows(user):
            return user
    return None


def _over_rows(node: FxNode) -> bool:
    x = node.args[0].meta["val"]
    return x.ndim == 2 and list(node.args[1]) == [0] and x.dtype is torch.float32


def total(low: Lowering, node: FxNode) -> tuple[Any, str, int]:
    """A sum over all axes but one."""
    shape = tuple(node.meta["val"].shape)
    if node in low.sums:
        return low.sums[node].view(shape), "summed up with the weight's gradient", 0
    x = low.tensor(node.args[0])
    axes = {axis % x.ndim for axis in node.args[1]}
    kept = [axis for axis in range(x.ndim) if axis not in axes]
    if node.kwargs or len(kept) != 1 or not axes:
        raise NotRecordable("only sums over all axes but one are kernels")
    x = _as_places(float32(x).movedim(kept[0], -1).contiguous().reshape(-1, x.shape[kept[0]]))
    whole = spec.AveragePool(spec.segments(2, 1), divisor=1.0)
    run = runner(low, pools.prepare_pool, whole, x)
    return run(x).reshape(shape), f"sum, {run.detail}", 0
