"""Elementwise operations, as far as one kernel goes: neighbours in the graph become one formula."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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

_GRADIENTS: dict[Any, Callable[[Formula, Formula], Formula]] = {
    aten.sigmoid_backward.default: lambda dy, y: ("mul", dy, ("mul", y, ("sub", ("number", 1.0), y))),
    aten.tanh_backward.default: lambda dy, y: ("mul", dy, ("sub", ("number", 1.0), ("mul", y, y))),
    aten.silu_backward.default: lambda dy, x: ("mul", dy, _silu_slope(x, ("sigmoid", 0.0, x))),
    aten.gelu_backward.default: lambda dy, x: ("mul", dy, ("add", ("normal", x), ("mul", x, _density(x)))),
}  # of (dy, what was saved): sigmoid and tanh save their result, the others what they were given


def _silu_slope(x: Formula, sigmoid: Formula) -> Formula:
    """(x·σ)′ = σ + x·σ·(1 − σ)."""
    return ("mul", sigmoid, ("add", ("number", 1.0), ("mul", x, ("sub", ("number", 1.0), sigmoid))))


def _density(x: Formula) -> Formula:
    """Of normal numbers: e^(−x²/2) / √2π."""
    power: Formula = ("exp", ("mul", ("number", -0.5), ("mul", x, x)))
    return ("mul", ("number", 1 / math.sqrt(2 * math.pi)), power)


def is_formula(node: Any) -> bool:
    """Whether a node is an operation on single numbers that the kernels know."""
    if not is_node(node) or node.op != "call_function":
        return False
    like = node.meta.get("val")
    if not isinstance(like, Tensor) or like.dtype is not torch.float32:
        return False
    if node.target is aten.threshold_backward.default:
        return node.args[2] == 0 and all(map(_is_operand, node.args[:2]))
    if node.target in _GRADIENTS:
        return node.kwargs.get("approximate", "none") == "none" and all(map(_is_operand, node.args))
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


@dataclass(eq=False)
class Expression:
    """A value that is computed where it is needed.

    Args:
        formula, operands, shape: what it is.
    """

    formula: Formula
    operands: list[Tensor]
    shape: tuple[int, ...]

    def recorded(self, low: Lowering) -> Tensor:
        """The value itself."""
        return record_formula(low, self.formula, self.operands, self.shape)


def record(low: Lowering, node: FxNode) -> tuple[Any, str, int]:
    """A formula with all that was left to it."""
    operands: list[Tensor] = []
    formula = _formula(low, node, operands)
    return record_formula(low, formula, operands, node.meta["val"].shape), "elementwise", 0


def _formula(low: Lowering, node: Any, operands: list[Tensor]) -> Formula:
    if not is_node(node):
        return ("number", float(node))
    if node in low.env:
        value = low.env[node]
        if isinstance(value, Expression):
            return _replaced(value.formula, [_operand(tensor, operands) for tensor in value.operands])
        return _operand(_tensor(low, node), operands)
    activation = activation_of(node)
    if activation is not None:
        return (activation.name, activation.slope, _formula(low, node.args[0], operands))
    if node.target in _UNARY:
        return (_UNARY[node.target], _formula(low, node.args[0], operands))
    a, b = (_formula(low, part, operands) for part in node.args[:2])
    if node.target is aten.threshold_backward.default:
        return ("relu_gradient", b, a)
    if node.target in _GRADIENTS:
        return _GRADIENTS[node.target](a, b)
    if node.kwargs.get("alpha", 1) != 1:
        b = ("mul", ("number", float(node.kwargs["alpha"])), b)
    return (_BINARY[node.target], a, b)


def _operand(tensor: Tensor, operands: list[Tensor]) -> Formula:
    place = next((i for i, known in enumerate(operands) if known is tensor), len(operands))
    if place == len(operands):
        operands.append(tensor)
    if place >= MOST:
        raise NotRecordable(f"a formula has {MOST} operands at most")
    return ("x", place)


def _replaced(formula: Formula, operands: list[Formula]) -> Formula:
    """The formula with other operands."""
    if formula[0] == "x":
        return operands[formula[1]]
    return (formula[0], *(_replaced(part, operands) if isinstance(part, tuple) else part for part in formula[1:]))


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
