"""Elementwise operations, as far as one kernel goes: neighbours in the graph become one formula."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from svertka.compiler.blocks import FxNode, activation_of, is_node, only_user
from svertka.compiler.held import Constant, Derived, Source
from svertka.compiler.recorder import NotRecordable
from svertka.engine.layout import channels_last, empty
from svertka.kernels.elementwise import MOST, Formula

if TYPE_CHECKING:
    from svertka.compiler.lower import Lowering

aten = torch.ops.aten
_BINARY: dict[Any, str] = {
    aten.add.Tensor: "add", aten.sub.Tensor: "sub", aten.mul.Tensor: "mul", aten.div.Tensor: "div",
    aten.add.Scalar: "add", aten.sub.Scalar: "sub", aten.mul.Scalar: "mul", aten.div.Scalar: "div",
    aten.maximum.default: "maximum", aten.minimum.default: "minimum",
}  # fmt: skip
_UNARY: dict[Any, str] = {
    aten.neg.default: "neg", aten.abs.default: "abs", aten.sqrt.default: "sqrt", aten.exp.default: "exp",
}  # fmt: skip


def is_formula(node: Any) -> bool:
    """Whether a node is an operation on single numbers that the kernels know."""
    if not is_node(node) or node.op != "call_function":
        return False
    like = node.meta.get("val")
    if not isinstance(like, Tensor) or like.dtype is not torch.float32:
        return False
    if node.target is aten.threshold_backward.default:
        return node.args[2] == 0 and all(map(_is_operand, node.args[:2]))
    if node.target in _BINARY:
        return not set(node.kwargs) - {"alpha"} and all(map(_is_operand, node.args))
    return (node.target in _UNARY and _is_operand(node.args[0])) or (
        activation_of(node) is not None and _is_operand(node.args[0])
    )


def _is_operand(argument: Any) -> bool:
    if is_node(argument):
        like = argument.meta.get("val")
        return isinstance(like, Tensor) and like.dtype is torch.float32
    return isinstance(argument, (int, float)) and not isinstance(argument, bool)


def goes_on(node: FxNode, apart: Callable[[FxNode], bool]) -> bool:
    """Whether a formula is a part of its only user's; `apart` are nodes that belong to other kernels."""
    user = only_user(node)
    if user is None or apart(user) or not is_formula(user):
        return False
    return bool(user.meta["val"].shape == node.meta["val"].shape)


def record(low: Lowering, node: FxNode) -> tuple[Any, str, int]:
    """A formula with all that was left to it."""
    operands: list[FxNode] = []
    formula = _formula(low, node, operands)
    xs = [_tensor(low, operand) for operand in operands]
    return record_formula(low, formula, xs, node.meta["val"].shape), "elementwise", 0


def _formula(low: Lowering, node: Any, operands: list[FxNode]) -> Formula:
    if not is_node(node):
        return ("number", float(node))
    if node in low.env:
        if node not in operands:
            operands.append(node)
        if len(operands) > MOST:
            raise NotRecordable(f"a formula has {MOST} operands at most")
        return ("x", operands.index(node))
    activation = activation_of(node)
    if activation is not None:
        return (activation.name, activation.slope, _formula(low, node.args[0], operands))
    if node.target in _UNARY:
        return (_UNARY[node.target], _formula(low, node.args[0], operands))
    a, b = (_formula(low, part, operands) for part in node.args[:2])
    if node.target is aten.threshold_backward.default:
        return ("relu_gradient", b, a)
    if node.kwargs.get("alpha", 1) != 1:
        b = ("mul", ("number", float(node.kwargs["alpha"])), b)
    return (_BINARY[node.target], a, b)


def _tensor(low: Lowering, node: FxNode) -> Tensor:
    value = low.env[node]
    if isinstance(value, (Source, Derived, Constant)):
        if node in low.changing:
            raise NotRecordable("one of its operands is changed by the network")
        tensor = low.weights.ready(value, None, low.recorder.tensors)
        low.recorder.kept.append(tensor)
        return tensor
    return low.tensor(node)


def record_formula(low: Lowering, formula: Formula, xs: Sequence[Tensor], shape: Sequence[int]) -> Tensor:
    """A formula's launch; the result lies like its first operand of the same shape."""
    return low.recorder.formula(formula, xs, _room(xs, shape))


def _room(xs: Sequence[Tensor], shape: Sequence[int]) -> Tensor:
    """Memory for a result."""
    alike = [x for x in xs if tuple(x.shape) == tuple(shape)]
    if any(map(channels_last, alike)):
        return empty(shape, True)
    for x in alike:
        if torch.empty_like(x).stride() == x.stride():  # without gaps or repetitions
            return torch.empty_like(x)
    return empty(shape, False)
