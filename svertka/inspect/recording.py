"""What happens inside a network on real numbers: its layers in the order of the calls, and what they give.

The names are those of `svertka.summary`: a layer's own; of a function that a forward method calls, its module's and its
own. So a network needs no preparation, and branches, skips and functions are seen as well as modules.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from svertka import functional
from svertka.errors import GeometryError
from svertka.explain import receptive
from svertka.explain.operations import operation_of
from svertka.explain.receptive import AxisField
from svertka.explain.tracing import Listener, copied, name_of, shared, trace

_INDEPENDENT = "it does not depend on the input"
_NONLINEAR = (
    "relu", "elu", "gelu", "silu", "swish", "mish", "sigmoid", "tanh", "softplus", "softsign", "softshrink",
    "hardshrink", "clamp",
)  # fmt: skip
_ROLES = (
    ("pool", ("pool",)),
    ("norm", ("norm",)),
    ("convolution", ("conv", "unshared")),
    ("nonlinearity", _NONLINEAR),
    ("scores", ("softmax",)),
    ("dense", ("linear",)),
    ("sum", ("add", "sub", "cat", "stack", "mul")),
    ("same", ("flatten", "dropout", "identity", "pad")),
)


@dataclass(frozen=True)
class Layer:
    """One call of a layer or function in a network.

    Args:
        name: the layer's name in the network; of a function, that of the module which calls it and its own.
        number: how many calls of this name there were before.
        kind: the layer's class or the function's name.
        output: shape of its output without the batch, (channels, *size).
        field: what an output sees of the input, for each spatial axis; None if there is no one size.
        reason: why there is none; else empty.
        role: what it does: convolution, dense, norm, nonlinearity, pool, sum, scores, same (nothing to the values) or
            other.
    """

    name: str
    number: int
    kind: str
    output: tuple[int, ...]
    field: tuple[AxisField, ...] | None = None
    reason: str = ""
    role: str = "other"

    @property
    def title(self) -> str:
        """The name, and which call it is if there are several."""
        return self.name if not self.number else f"{self.name} (call {self.number + 1})"

    @property
    def has_maps(self) -> bool:
        """Whether its output has places: (channels, *size) with more than one of them."""
        return len(self.output) > 1 and any(n > 1 for n in self.output[1:])

    def seen_by(self, place: Sequence[int], size: Sequence[int]) -> tuple[tuple[int, int], ...] | None:
        """(first, last) place of the input on each axis that the output at `place` sees, cut to an input of `size`.

        None if it is not known, or if it sees padding only.
        """
        if self.field is None:
            return None
        steps = [*place, *[0] * (len(self.field) - len(place))]
        told = [axis.seen_by(i) for axis, i in zip(self.field, steps, strict=True)]
        inside = tuple((max(first, 0), min(last, n - 1)) for (first, last), n in zip(told, size, strict=True))
        return inside if all(first <= last for first, last in inside) else None


def layers(model: nn.Module, size: Sequence[int]) -> tuple[Layer, ...]:
    """The layers of a network in the order of their calls.

    Args:
        model: any that takes one tensor [N, channels, *size].
        size: (channels, *size) of the input.

    Raises:
        GeometryError: if it cannot take such an input.
    """
    found, modules = [], dict(model.named_modules())
    for call in trace(model, tuple(size)).calls:
        if len(call.shape) < 2 or call.shape[0] != 1:
            continue  # what has no batch is of no picture
        told = _INDEPENDENT if call.field is None else receptive.described(call.field, tuple(size)[1:])
        field, reason = (None, told) if isinstance(told, str) else (told, "")
        role = _role(call.kind, modules.get(call.name))
        found.append(Layer(call.name, call.number, call.kind, call.shape[1:], field, reason, role))
    return tuple(found)


def named(found: Sequence[Layer], name: str) -> Layer:
    """The last call of the layer of that name.

    Raises:
        GeometryError: if there is none; the sentence lists those there are.
    """
    layer = next((layer for layer in reversed(found) if name in (layer.name, layer.title)), None)
    if layer is None:
        names = list(dict.fromkeys(layer.name for layer in found))
        some = ", ".join(names if len(names) < 13 else [*names[:6], "…", *names[-5:]])
        raise GeometryError(f"the model calls no layer {name!r}: choose one of {some}")
    return layer


def before_nonlinearities(found: Sequence[Layer]) -> tuple[Layer, ...]:
    """The layers whose outputs are a unit's excitation: before each nonlinearity, and the last one.

    In a network without any, the layers with weights.
    """
    calls = dict.fromkeys(
        before for before, after in pairwise(found) if after.role == "nonlinearity" and before.output == after.output
    )
    weighted = [layer for layer in found if layer.role in ("convolution", "dense")]
    chosen = list(calls) or weighted
    last = next((layer for layer in reversed(found) if len(layer.output) == 1 and layer.role != "scores"), None)
    if last is not None and last not in chosen:
        chosen.append(last)
    return tuple(chosen)


def private(model: nn.Module) -> nn.Module:
    """A copy in evaluation mode that shares the weights: the user's network is left alone.

    Nothing in it works in place, so that what a layer gave can still be read after the next one.
    """
    own = copied(getattr(model, "_orig_mod", model), shared).eval()
    for module in own.modules():
        if getattr(module, "inplace", False) is True:
            module.inplace = False  # type: ignore[assignment]
    return own


def record(
    model: nn.Module, x: Tensor, wanted: Sequence[Layer], keep: Callable[[Layer, Tensor], Any] | None = None
) -> dict[Layer, Any]:
    """Run `model` on x and give what the wanted layers gave, each [N, channels, *size]; of complex numbers the lengths.

    Args:
        model: in evaluation mode; best what `private` gives.
        x: [N, channels, *size].
        wanted: of `layers(model, …)`.
        keep: makes of an output what is to be kept of it; by default a copy. The run ends behind the last of them.

    Raises:
        GeometryError: if the run doesn't come to one of them, since numbers decide what is called.
    """
    recorder = _Recorder(model, wanted, keep or (lambda _, output: output.clone()))
    with suppress(_Enough):
        recorder.listen_to(x)
    if recorder.left:
        raise GeometryError(
            f"on this input the model does not call {next(iter(recorder.left))[0]}: choose another layer"
        )
    return recorder.kept


def batches_of(pictures: Any) -> Iterator[tuple[Tensor, Tensor]]:
    """(pictures [N, C, *size], their numbers [N]) of what gives batches: tensors, or batches of `svertka.vision`.

    A tensor is one batch. Numbers are the batch's indices if it has some, else counted from 0.
    """
    count = 0
    for batch in [pictures] if isinstance(pictures, Tensor) else pictures:
        if isinstance(batch, Tensor):
            yield batch, torch.arange(count, count + len(batch))
            count += len(batch)
        else:
            yield batch.images, batch.indices


def _role(kind: str, module: nn.Module | None) -> str:
    """By the operation that the module is; else by the name of its class or of the function."""
    operation = None if module is None else operation_of(module)
    words = (kind if operation is None else type(operation).__name__).lower().replace("_", "")
    return next((role for role, parts in _ROLES if any(part in words for part in parts)), "other")


class _Enough(Exception):  # noqa: N818 - it is no error
    """All that is wanted was recorded."""


class _Recorder(Listener):
    """Keeps the outputs of the wanted calls."""

    def __init__(self, model: nn.Module, wanted: Sequence[Layer], keep: Callable[[Layer, Tensor], Any]) -> None:
        super().__init__(model)
        self.left = {(layer.name, layer.number): layer for layer in wanted}
        self.keep, self.kept = keep, dict[Layer, Any]()
        self.totals = Counter[str]()

    def end(self, module: nn.Module, inputs: Any, output: Any) -> None:
        """Called after the forward method of a module that is one row."""
        del inputs
        self._take(self.names[module], output)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Carries out one function that the model calls, and keeps its result if it is wanted."""
        del types
        result = func(*args, **(kwargs or {}))
        if self.leaf is None:
            self._take(self.scoped(_called(func, args)), result)
        return result

    def _take(self, name: str, output: Any) -> None:
        layer = self.left.pop((name, self.number(name)), None)
        if layer is None:
            return
        with torch._C.DisableTorchFunction():
            tensor = _first_tensor(output)
            self.kept[layer] = self.keep(layer, tensor.abs() if tensor.is_complex() else tensor)
        if not self.left:
            raise _Enough


def _called(func: Any, args: Any) -> str:
    return type(args[0]).__name__.lower() if func is functional.run else name_of(func)


def _first_tensor(output: Any) -> Tensor:
    while not isinstance(output, Tensor):
        output = next(iter(output.values() if isinstance(output, dict) else output))
    return output
