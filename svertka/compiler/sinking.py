"""What stands between a dense layer and what its kernel could take along: views, and lines of the layer's own.

    act(view(dense(x)))        → view(act(dense(x)))
    view(dense(x)) + line      → view(dense(x) with the bias)
    view(dense(x)) · line      → view(dense(x) with other weights), as of a layer's scale
    other + view(dense(x))     → view(view⁻¹(other) + dense(x)), as of a residual in another order of axes

A view here is a chain of reshapes and permutations that nobody else reads; a line is held, a number for each output.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from svertka.compiler.blocks import DENSE, RESHAPES, FxNode, activation_of, is_node, only_user

aten = torch.ops.aten
Held = Callable[[Any], bool]


def sink(graph: fx.Graph, held: Held) -> None:
    """Has dense layers' kernels take along what they can; `held` tells what follows from weights alone."""
    nodes: list[FxNode] = list(graph.nodes)
    for node in nodes:
        if node.op == "call_function" and node.target in DENSE and held(node.args[-1]) and not held(node.args[-2]):
            dense: FxNode | None = node
            while dense is not None:
                dense = _with_next(graph, dense, held)


def _with_next(graph: fx.Graph, base: FxNode, held: Held) -> FxNode | None:
    """What took the place of a dense layer, or a sum with one, and of what comes after its views; None at the end."""
    views: list[FxNode] = []
    user = only_user(base)
    while user is not None and (user.target in RESHAPES or _inverse_order(user)):
        views.append(user)
        user = only_user(user)
    if user is None or user.op != "call_function":
        return None
    summed = base.target not in DENSE
    if activation_of(user) is not None:
        if views:
            _put(graph, user, views, lambda: _call(graph, user.target, (base, *user.args[1:]), base, user.kwargs))
        return None
    if user.target not in (aten.add.Tensor, aten.mul.Tensor) or user.kwargs or summed:
        return None
    last = views[-1] if views else base
    other = user.args[1] if user.args[0] is last else user.args[0]
    if not is_node(other) or not _same_kind(user, last):
        return None
    if held(other):
        return _with_line(graph, base, views, user, other, held) if _is_line(other, base, views) else None
    if views and user.target is aten.add.Tensor and _same_kind(other, last):
        return _put(graph, user, views, lambda: _with_residual(graph, base, views, other))
    return None


def _with_line(
    graph: fx.Graph, base: FxNode, views: list[FxNode], user: FxNode, line: FxNode, held: Held
) -> FxNode | None:
    bias = base.args[0] if base.target is aten.addmm.default else None
    x, weight = base.args[-2:]
    adds = user.target is aten.add.Tensor
    if base.kwargs or (bias is not None and (adds or not held(bias) or bias.meta["val"].ndim != 1)):
        return None

    def dense() -> FxNode:
        flat = _call(graph, aten.reshape.default, (line, [-1]), line.meta["val"].reshape(-1))
        if adds:
            return _call(graph, aten.addmm.default, (flat, x, weight), base)
        scaled = _call(graph, aten.mul.Tensor, (weight, flat), weight)
        if bias is None:
            return _call(graph, aten.mm.default, (x, scaled), base)
        return _call(graph, aten.addmm.default, (_call(graph, aten.mul.Tensor, (bias, flat), bias), x, scaled), base)

    new = _put(graph, user, views, dense)
    graph.erase_node(base)
    return new


def _with_residual(graph: fx.Graph, base: FxNode, views: list[FxNode], other: FxNode) -> FxNode:
    for view in reversed(views):
        before = view.args[0].meta["val"]
        order = _inverse_order(view)
        if order:
            other = _call(graph, aten.permute.default, (other, order), before)
        else:
            other = _call(graph, aten.reshape.default, (other, list(before.shape)), before)
    return _call(graph, aten.add.Tensor, (base, other), base)


def _put(graph: fx.Graph, user: FxNode, views: list[FxNode], make: Callable[[], FxNode]) -> FxNode:
    """Puts what `make` makes in the place of the user, and the views, anew, after it."""
    with graph.inserting_before(user):
        value = made = make()
        for view in views:
            value = _call(graph, view.target, (value, *view.args[1:]), view, view.kwargs)
    user.replace_all_uses_with(value)
    graph.erase_node(user)
    for view in reversed(views):
        if not view.users:
            graph.erase_node(view)
    return made


def _call(graph: fx.Graph, target: Any, arguments: tuple[Any, ...], like: Any, keywords: Any = None) -> FxNode:
    """A new node that gives what a node, or a tensor, is like."""
    node = graph.call_function(target, arguments, keywords or {})
    node.meta = {"val": like} if isinstance(like, Tensor) else dict(like.meta)
    return node


def _inverse_order(view: FxNode) -> list[int]:
    """The permutation that undoes a view, if it is one itself."""
    if view.target is aten.permute.default:
        order = [axis % len(view.args[1]) for axis in view.args[1]]
        return sorted(range(len(order)), key=order.__getitem__)
    if view.target is aten.transpose.int:
        order = list(range(view.meta["val"].ndim))
        one, other = view.args[1:]
        order[one], order[other] = order[other], order[one]
        return order
    return []


def _is_line(line: FxNode, base: FxNode, views: Sequence[FxNode]) -> bool:
    """Whether a held value has a number for each output of a dense layer, whose views leave the outputs last."""
    like, outputs = line.meta["val"], base.meta["val"].shape[-1]
    return (
        all(view.target in RESHAPES and view.meta["val"].shape[-1] == outputs for view in views)
        and like.ndim > 0
        and like.shape[-1] == outputs == math.prod(like.shape)
    )


def _same_kind(a: FxNode, b: FxNode) -> bool:
    one, other = a.meta["val"], b.meta["val"]
    return isinstance(one, Tensor) and one.shape == other.shape and one.dtype == other.dtype == torch.float32
