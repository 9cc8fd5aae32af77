"""What is better said of a network's forward and backward graph as one, before they are cut apart.

    relu′(pool′(dy), r) → pool′(relu′(dy, p)),  p = pool(r) the maxima of r = relu(x)

A window's gradient goes to the place of its maximum, where r is positive just if p is: the smaller one is as good, and
r, of which pool′ asks only how large it is, needn't be kept for the backward graph.
"""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx

from svertka.compiler.blocks import MAX_POOLS, FxNode, is_node

aten = torch.ops.aten
POOL_GRADIENTS = (
    aten.max_pool2d_with_indices_backward.default,
    aten.max_pool3d_with_indices_backward.default,
)
SHAPE_ALONE = aten.empty_strided.default  # stands for a tensor whose numbers nobody reads


def rewrite(joint: fx.GraphModule) -> None:
    """Rewrites the joint graph in place."""
    nodes: list[FxNode] = list(joint.graph.nodes)
    for node in nodes:
        if node.target is aten.threshold_backward.default and node.args[2] == 0:
            _threshold_first(joint.graph, node)
    joint.recompile()


def _threshold_first(graph: fx.Graph, node: FxNode) -> None:
    gradient, rectified = node.args[0], _source(node.args[1])
    if not is_node(gradient) or gradient.target not in POOL_GRADIENTS or len(gradient.users) != 1:
        return
    indices = _source(gradient.args[-1])
    pool: FxNode = indices.args[0] if is_node(indices) and indices.target is operator.getitem else None
    if not is_node(pool) or pool.target not in MAX_POOLS or rectified.target is not aten.relu.default:
        return
    maxima = next((user for user in pool.users if user.args[1] == 0), None)
    if maxima is None or _source(pool.args[0]) is not rectified or _source(gradient.args[1]) is not rectified:
        return
    dy, like = gradient.args[0], rectified.meta["val"]
    with graph.inserting_before(gradient):
        passed = graph.call_function(aten.threshold_backward.default, (dy, maxima, 0))
        shape = graph.call_function(
            SHAPE_ALONE, (list(like.shape), list(like.stride())), {"dtype": like.dtype, "device": like.device}
        )
    passed.meta = {**dy.meta, "val": maxima.meta["val"]}
    shape.meta = {**rectified.meta, "val": like}
    gradient.args = (passed, shape, *gradient.args[2:])
    node.replace_all_uses_with(gradient)
    graph.erase_node(node)


def _source(node: Any) -> Any:
    """What a node is another name of."""
    while is_node(node) and node.target in (aten.detach.default, aten.alias.default):
        node = node.args[0]
    return node
