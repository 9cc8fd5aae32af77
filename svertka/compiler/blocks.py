"""Blocks: which operations of a graph one kernel does together.

A block begins with a convolution or a dense layer and takes along what follows as long as nobody else needs what is
between: batch norm, the addition of a residual, a nonlinearity, a maximum pooling. A padding with zeros before a
convolution is the convolution's own.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import torch
from torch import fx

from svertka.spec import Activation

aten = torch.ops.aten
FxNode: TypeAlias = Any  # `torch.fx.Node`, whose arguments are of too many types
CONVOLUTION = aten.convolution.default
RESHAPES = (aten.view.default, aten._unsafe_view.default, aten.reshape.default)
DENSE = (aten.addmm.default, aten.mm.default)
NORMS = (
    aten.native_batch_norm.default,
    aten._native_batch_norm_legit.default,
    aten._native_batch_norm_legit_no_training.default,
)
MAX_POOLS = (aten.max_pool2d_with_indices.default, aten.max_pool3d_with_indices.default)


@dataclass(eq=False)
class Block:
    """One kernel's operations.

    Args:
        base: the convolution or dense layer.
        x: what it reads.
        pad: the padding before it, a node of its own in the graph.
        norm, residual, activation, pool: what follows; of a residual the other summand.
        last: the node whose result the block gives.
        taken: all nodes but the last one.
        first: the depthwise block that computes x for a 1×1 convolution alone: one kernel may do both.
    """

    base: FxNode
    x: FxNode
    last: FxNode
    pad: FxNode | None = None
    norm: FxNode | None = None
    residual: FxNode | None = None
    activation: Activation | None = None
    pool: FxNode | None = None
    taken: set[FxNode] = field(default_factory=set)
    first: Block | None = None

    def take(self, *nodes: FxNode) -> None:
        """Goes on by some nodes, the last of which gives what the block gives now."""
        self.taken |= {self.last, *nodes[:-1]}
        self.last = nodes[-1]


def is_node(value: Any) -> bool:
    """Whether a value is a node of a graph."""
    return isinstance(value, fx.Node)


def activation_of(node: FxNode) -> Activation | None:
    """The nonlinearity that a node is, if it is one that kernels know."""
    plain = {
        aten.relu.default: "relu", aten.silu.default: "silu", aten.sigmoid.default: "sigmoid",
        aten.tanh.default: "tanh", aten.hardsigmoid.default: "hardsigmoid", aten.hardswish.default: "hardswish",
    }  # fmt: skip
    if node.target in plain:
        return Activation(plain[node.target])
    arguments = node.args[1:]
    if node.target is aten.leaky_relu.default:
        return Activation("leaky_relu", float(arguments[0]) if arguments else 0.01)
    if node.target is aten.gelu.default and node.kwargs.get("approximate", "none") == "none":
        return Activation("gelu")
    if node.target in (aten.hardtanh.default, aten.clamp.default):
        limits = {(-1.0, 1.0): "hardtanh", (0.0, 6.0): "relu6"}
        given = tuple(arguments) if arguments or node.target is aten.clamp.default else (-1.0, 1.0)
        name = limits.get(given)
        return Activation(name) if name else None
    return None


def is_inference_norm(node: FxNode) -> bool:
    """Whether a node is a batch norm by statistics that it was given."""
    if node.target is aten._native_batch_norm_legit_no_training.default:
        return True
    return node.target in NORMS and node.args[5] is False and is_node(node.args[3])


def only_user(node: FxNode) -> FxNode | None:
    """The one node that uses another's result, once; of several results, who uses the first."""
    users = [user for user in node.users if user.users or user.op == "output" or user.target is not operator.getitem]
    if len(users) != 1 or users[0].op != "call_function":
        return None
    return users[0] if users[0].all_input_nodes.count(node) == 1 and _times(users[0], node) == 1 else None


def _times(user: FxNode, node: FxNode) -> int:
    return sum(argument is node for argument in user.args)


def find(graph: fx.Graph, held: Callable[[Any], bool]) -> dict[FxNode, Block]:
    """The blocks of a graph by their last node; `held` tells whether a node's value is held (a weight, for example)."""
    order = {node: index for index, node in enumerate(graph.nodes)}
    blocks: dict[FxNode, Block] = {}
    taken: set[FxNode] = set()
    for node in graph.nodes:
        if node.op == "call_function" and (node.target is CONVOLUTION or node.target in DENSE):
            block = _block(node, held)
            if block is None:
                continue
            _grow(block, held, order, taken)
            taken |= block.taken | {block.last}
            blocks[block.last] = block
    for block in list(blocks.values()):
        first = blocks.get(block.x)
        if first is not None and _are_separable(first, block):
            del blocks[first.last]
            block.first, block.taken = first, block.taken | first.taken | {first.last}
    return blocks


def _are_separable(first: Block, block: Block) -> bool:
    """Whether a depthwise convolution is read by a 1×1 one alone."""
    if first.base.target is not CONVOLUTION or block.base.target is not CONVOLUTION:
        return False
    channels, (_, inputs, *size) = first.base.args[8], block.base.args[1].meta["val"].shape
    depthwise = tuple(first.base.args[1].meta["val"].shape[:2]) == (channels, 1) and channels > 1
    pointwise = set(size) == {1} and inputs == channels and block.pad is None
    plain = not (first.base.args[6] or block.base.args[6] or first.residual or first.pool or block.pool)
    return depthwise and pointwise and plain and only_user(first.last) is block.base


def apart(block: Block) -> tuple[Block, Block]:
    """The two blocks that a block with a `first` one is made of."""
    assert block.first is not None
    return block.first, replace(block, first=None, taken=block.taken - block.first.taken - {block.first.last})


def _block(base: FxNode, held: Callable[[Any], bool]) -> Block | None:
    arguments = base.args
    if base.target is not CONVOLUTION:
        matrix = arguments[-1]
        x = arguments[-2]
        line = arguments[0] if base.target is aten.addmm.default else None
        if base.kwargs or held(x) or not held(matrix) or not (line is None or held(line)):
            return None
        return Block(base, x, base)
    x = arguments[0]
    if held(x):
        return None
    block = Block(base, x, base)
    if is_node(x) and x.target is aten.constant_pad_nd.default and not arguments[6]:
        value = x.args[2] if len(x.args) > 2 else 0
        pads = x.args[1]
        fits = len(pads) <= 2 * (base.meta["val"].ndim - 2) and min(pads, default=0) >= 0
        if only_user(x) is base and value == 0 and fits:
            block.pad, block.x = x, x.args[0]
            block.taken.add(x)
    return block


def _grow(
    block: Block,
    held: Callable[[Any], bool],
    order: dict[FxNode, int],
    taken: set[FxNode],
) -> None:
    """Takes along what follows."""
    convolution = block.base.target is CONVOLUTION
    transposed = convolution and bool(block.base.args[6])
    while True:
        user = only_user(block.last)
        if user is None or user in taken:
            return
        if (
            convolution
            and block.last is block.base
            and all(part is None or held(part) for part in block.base.args[1:3])
            and is_inference_norm(user)
            and all(part is None or held(part) for part in user.args[1:5])
        ):
            first = next((node for node in user.users if node.args[1] == 0), None)
            if first is None or any(node.users for node in user.users if node is not first):
                return
            block.norm = user
            block.take(user, first)
            block.taken |= {node for node in user.users if node is not first}
            continue
        if transposed:  # there is no kernel that goes on
            return
        if user.target is aten.add.Tensor and block.residual is None and block.activation is None and not user.kwargs:
            other = user.args[1] if user.args[0] is block.last else user.args[0]
            if not is_node(other) or held(other) or not _alike(other, block.last):
                return
            if order[other] > order[block.base] and _from_later_base(other, order, block.base):
                return  # whose kernel is the later one may take it
            block.residual = other
            block.take(user)
            continue
        activation = activation_of(user)
        if activation is not None and block.activation is None:
            block.activation = activation
            block.take(user)
            continue
        if convolution and user.target in MAX_POOLS and block.residual is None and _pool_fits(user, block):
            first = next((node for node in user.users if node.args[1] == 0), None)
            if first is not None and not any(node.users for node in user.users if node is not first):
                block.pool = user
                block.take(user, first)
                block.taken |= {node for node in user.users if node is not first}
        return


def _from_later_base(node: FxNode, order: dict[FxNode, int], base: FxNode) -> bool:
    """Whether a node is a convolution after `base`, or its batch norm, that nobody else needs."""
    while node.target is operator.getitem or node.target in NORMS:
        node = node.args[0]
    return (node.target is CONVOLUTION or node.target in DENSE) and order[node] > order[base]


def _alike(a: FxNode, b: FxNode) -> bool:
    one, other = a.meta["val"], b.meta["val"]
    return isinstance(one, torch.Tensor) and one.shape == other.shape and one.dtype == other.dtype


def _pool_fits(pool: FxNode, block: Block) -> bool:
    """Whether a pooling is within a convolution's reach: windows of at most 4 places that don't overlap."""
    size = list(pool.args[1])
    stride = list(pool.args[2]) if len(pool.args) > 2 and pool.args[2] else size
    padding = list(pool.args[3]) if len(pool.args) > 3 else [0]
    dilation = list(pool.args[4]) if len(pool.args) > 4 else [1]
    ceil = len(pool.args) > 5 and pool.args[5]
    taps = 1
    for n in size:
        taps *= n
    weight = block.base.args[1].meta["val"]
    depthwise = block.base.args[8] != 1 and weight.shape[1] == 1
    return not (ceil or any(padding) or set(dilation) - {1} or stride != size or taps > 4 or depthwise)
