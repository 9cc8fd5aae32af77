"""Follows an input through a network: which functions are called, by which module, what they cost and see.

The network is copied without its weights and run on tensors that have a shape but no numbers (torch's device "meta"):
nothing is computed, and the user's network is not touched. torch tells a `TorchFunctionMode` about every function
that is called, its arguments included: no graph is needed, and branches of the forward method are followed as they are
taken for the given input size.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from svertka import functional, spec
from svertka.errors import GeometryError
from svertka.explain import receptive
from svertka.explain.cost import counted_by_torch, multiply_adds
from svertka.explain.pieces import Field
from svertka.explain.views import Unknown

# torch's names for what `svertka.functional` does with the same arguments: called there, they tell their windows.
_OURS = {
    f"{name}{ndim}d": getattr(functional, f"{name}{ndim}d")
    for name in (
        "conv", "conv_transpose", "max_pool", "avg_pool", "lp_pool", "adaptive_max_pool", "adaptive_avg_pool"
    )
    for ndim in (1, 2, 3)
}  # fmt: skip
_OURS |= {f"{name}_with_indices": partial(_OURS[name], return_indices=True) for name in _OURS if "max_pool" in name}

_RECURRENT = ("lstm", "gru", "rnn_tanh", "rnn_relu")

# Functions that only arrange elements: not worth a row, unless they end what is known of the field.
_ARRANGING = (
    "reshape", "view", "unflatten", "squeeze", "unsqueeze", "ravel", "permute", "transpose", "swapaxes",
    "swapdims", "mT", "T", "expand", "contiguous", "clone", "detach", "data", "to", "type_as", "float", "getitem",
    "chunk", "split", "unbind", "select", "narrow",
)  # fmt: skip


@dataclass(frozen=True)
class Call:
    """One call of a module or function.

    Args:
        name: of the module in the network; of a function, the module that calls it and the function's name.
        kind: the module's class or the function's name.
        shape: of the (first) result, with the batch.
        parameters: number of the parameters used here and in no earlier call.
        macs: multiply-adds.
        field: what the result sees of the input; None if it doesn't depend on it.
        memory: numbers in the results that lie in memory of their own: views and what is done in place need none.
        moved: numbers that are read and written: inputs, parameters and results, each once.
        number: how many calls of this name there were before.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    parameters: int
    macs: int
    field: Field | None
    memory: int = 0
    moved: int = 0
    number: int = 0


@dataclass(frozen=True)
class Trace:
    """All calls of a run, and what has to be said about it."""

    calls: tuple[Call, ...]
    parameters: int
    notes: tuple[str, ...]


Start = tuple[str, int]
"""Name and number of the call whose result is looked at in place of the network's input."""


def trace(model: nn.Module, example: Sequence[int] | Tensor, exact: bool = False, start: Start | None = None) -> Trace:
    """Follows one input through the model in evaluation mode.

    Args:
        model: any that takes one tensor.
        example: the input [N, channels, *size], or its size (channels, *size).
        exact: follow the fields place by place; else in numbers.
        start: the call from whose result on fields are followed; what doesn't come from it has none then.

    Raises:
        GeometryError: if the model cannot take such an input.
    """
    model = getattr(model, "_orig_mod", model)  # what torch.compile wraps
    try:
        return _run(copied(model, _without_numbers), example, "meta", exact, start)
    except Exception as error:  # whatever a forward method may raise where there are no numbers
        reason = _first_line(error)
    try:
        found = _run(copied(model, shared), example, "cpu", exact, start)
    except Exception as error:
        size = "×".join(map(str, example.shape[1:] if isinstance(example, Tensor) else example))
        raise GeometryError(f"the model cannot take an input of {size}: {_first_line(error)}") from error
    what = "your input" if isinstance(example, Tensor) else "zeros"
    note = (
        f"This network can't run without numbers ({reason}): it was run on {what}, "
        "and other pictures may go other ways."
    )
    return Trace(found.calls, found.parameters, (note, *found.notes))


def input_of(model: nn.Module, example: Sequence[int] | Tensor, device: str = "cpu") -> Tensor:
    """The example itself, or zeros [1, channels, *size] of the kind that the model's parameters are."""
    if isinstance(example, Tensor):
        return example.detach().to(device)
    like = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0, device=device))
    return torch.zeros(1, *example, dtype=like.dtype, device=like.device)


def _first_line(error: Exception) -> str:
    return f"{error}".strip().partition("\n")[0].rstrip(".") or type(error).__name__


def _run(
    model: nn.Module, example: Sequence[int] | Tensor, device: str, exact: bool, start: Start | None = None
) -> Trace:
    x = input_of(model, example, device)
    follower = _Follower(model.eval(), x, exact, start)
    with torch.no_grad(), torch.random.fork_rng(devices=[]), torch.device(x.device):
        follower.listen_to(x)
    total = sum(p.numel() for p in model.parameters())
    unused = total - sum(call.parameters for call in follower.calls)
    notes = [f"{unused:,} parameters are not used in the forward pass.".replace(",", " ")] if unused else []
    notes += [f"The multiply-adds of {name} can't be counted." for name in follower.uncounted]
    return Trace(tuple(follower.calls), total, tuple(notes))


def copied(model: nn.Module, stand_in: Callable[[Tensor], Tensor]) -> nn.Module:
    """A copy of the model whose tensors are `stand_in` of the model's: its state and hooks are its own."""
    tensors = [value for module in model.modules() for value in vars(module).values() if isinstance(value, Tensor)]
    tensors += [*model.parameters(), *model.buffers()]
    return copy.deepcopy(model, {id(tensor): stand_in(tensor) for tensor in tensors})


def _without_numbers(tensor: Tensor) -> Tensor:
    if isinstance(tensor, (UninitializedParameter, UninitializedBuffer)):  # its module learns the shape from the input
        make: Any = type(tensor)
        return make(device="meta", dtype=tensor.dtype)  # type: ignore[no-any-return]
    outline = torch.empty_like(tensor, device="meta")
    return nn.Parameter(outline, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else outline


def shared(tensor: Tensor) -> Tensor:
    return tensor if isinstance(tensor, nn.Parameter) else tensor.detach().clone()


class Listener(TorchFunctionMode):
    """Is told of every module and function that a network calls: a childless module's functions are one call of it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.names = {module: name for name, module in model.named_modules()}
        self.scopes = [""]
        self.leaf: nn.Module | None = None
        self._calls: Counter[str] = Counter()

    def listen_to(self, x: Tensor) -> None:
        """Runs the model on x."""
        hooks = [register_module_forward_pre_hook(self._enter), register_module_forward_hook(self._leave)]
        try:
            with self:
                self.model(x)
        finally:
            for hook in hooks:
                hook.remove()

    def number(self, name: str) -> int:
        """How many calls of this name there were before."""
        self._calls[name] += 1
        return self._calls[name] - 1

    def scoped(self, name: str) -> str:
        """A function's name with that of the module which calls it."""
        return f"{self.scopes[-1]}.{name}".lstrip(".")

    def begin(self) -> None:
        """Called before the forward method of a module that is one row."""

    def end(self, module: nn.Module, inputs: Any, output: Any) -> None:
        """Called after it."""

    def _enter(self, module: nn.Module, _: Any) -> None:
        if module not in self.names:
            return
        self.scopes.append(self.names[module])
        if self.leaf is None and self._is_leaf(module):
            self.leaf = module
            self.begin()

    def _leave(self, module: nn.Module, inputs: Any, output: Any) -> None:
        if module not in self.names:
            return
        self.scopes.pop()
        if module is self.leaf:
            self.leaf = None
            self.end(module, inputs, output)

    def _is_leaf(self, module: nn.Module) -> bool:
        """Whether the functions that the module calls are one row: if it has no children that could have rows."""
        children = [name for name, _ in module.named_children() if name != "parametrizations"]
        if children and not isinstance(module, (nn.MultiheadAttention, torch.jit.ScriptModule)):
            return False
        return module is not self.model or type(module).__module__.startswith(("torch.nn.", "svertka.nn"))


class _Follower(Listener):
    """Keeps the field of every tensor, and a list of calls."""

    def __init__(self, model: nn.Module, x: Tensor, exact: bool, start: Start | None = None) -> None:
        super().__init__(model)
        self.exact, self.start = exact, start
        self.calls: list[Call] = []
        self.fields: MutableMapping[Tensor, Field] = WeakTensorKeyDictionary()
        self.fields[x] = receptive.of_input(x.shape, exact)
        self.macs = 0
        self.counted: set[int] = set()
        self.uncounted: dict[str, None] = {}
        self.macs_before_leaf = 0
        self.alias = ""

    def begin(self) -> None:
        """Called before the forward method of a module that is one row."""
        self.macs_before_leaf = self.macs

    def end(self, module: nn.Module, inputs: Any, output: Any) -> None:
        """Called after it."""
        self._note_unseen(module, inputs, output)
        name, parameters = self.names[module], list(module.parameters())
        macs = self.macs - self.macs_before_leaf
        self._add(name, type(module).__name__, inputs, output, parameters, macs, self.number(name))

    def _note_unseen(self, module: nn.Module, inputs: Any, output: Any) -> None:
        """TorchScript tells nothing about the functions it calls."""
        if isinstance(module, torch.jit.ScriptModule) and any(t in self.fields for t in _tensors(inputs)):
            for tensor in _tensors(output):
                self.fields[tensor] = Unknown("what TorchScript calls is not seen")

    def _add(
        self, name: str, kind: str, inputs: Any, output: Any, parameters: Sequence[Tensor], macs: int, number: int
    ) -> None:
        new = {id(p): p.numel() for p in parameters if id(p) not in self.counted}
        self.counted.update(new)
        results, read = list(_tensors(output)), {id(t): t for t in (*_tensors(inputs), *parameters)}
        if not results:
            return
        if (name, number) == self.start:
            self.fields.clear()
            self.fields[results[0]] = receptive.of_input(results[0].shape, self.exact)
        occupied = {_storage(tensor) for tensor in read.values()}
        memory = sum(tensor.numel() for tensor in results if _storage(tensor) not in occupied)
        moved = sum(tensor.numel() for tensor in (*read.values(), *results))
        field = self.fields.get(results[0])
        shape = tuple(results[0].shape)
        self.calls.append(Call(name, kind, shape, sum(new.values()), macs, field, memory, moved, number))

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Carries out one function that the model calls, and takes note of it."""
        del types
        kwargs = kwargs or {}
        name = name_of(func)
        if name in _OURS:
            self.alias = name
            with self:  # it is off while it watches
                return _OURS[name](*args, **kwargs)
        result, macs = self._called(func, name, args, kwargs)
        inputs = [(t, self.fields[t]) for t in _tensors((args, kwargs)) if t in self.fields]
        if inputs:
            self._note_field(func, name, args, kwargs, inputs, result)
        self.macs += macs
        if func is functional.run:
            name, self.alias = self.alias or type(args[0]).__name__.lower(), ""
        if self.leaf is None:
            number = self.number(self.scoped(name))
            if self._is_worth_a_row(name, inputs, result):
                parameters = [t for t in _tensors((args, kwargs)) if isinstance(t, nn.Parameter)]
                self._add(self.scoped(name), name, (args, kwargs), result, parameters, macs, number)
        return result

    def _called(self, func: Any, name: str, args: Any, kwargs: Any) -> tuple[Any, int]:
        """The function's result and multiply-adds."""
        if func is not functional.run and name != "linear" and not receptive.is_known(name):
            result, macs = counted_by_torch(lambda: func(*args, **kwargs))
            if name in _RECURRENT:
                macs = _of_recurrent(args)
            elif any(not tensor.is_meta for tensor in _tensors((args, kwargs))):
                macs = self._counted_without_numbers(func, name, args, kwargs, result, macs)
            return result, macs
        result = _outline(func, name, args, kwargs)
        if result is None:
            result = func(*args, **kwargs)
        if func is functional.run:
            operation, x, *rest = args
            weight = rest[0].shape if rest and rest[0] is not None else None
            return result, multiply_adds(operation, x.shape, next(_tensors(result)).shape, weight)
        return result, result.numel() * args[0].shape[-1] if name == "linear" else 0

    def _counted_without_numbers(self, func: Any, name: str, args: Any, kwargs: Any, result: Any, macs: int) -> int:
        """What torch counts where it computes nothing: it doesn't see into the fused kernels that compute."""
        try:
            with torch.device("meta"):
                _, found = counted_by_torch(lambda: func(*_outlines(args), **_outlines(kwargs)))
        except Exception:
            if any(tensor.is_floating_point() for tensor in _tensors(result)):
                self.uncounted[name] = None
            return macs
        return max(macs, found)

    def _note_field(self, func: Any, name: str, args: Any, kwargs: Any, inputs: Any, result: Any) -> None:
        first = next(_tensors(result), None)
        field: Field | None
        if name == "setitem":
            self.fields[args[0]] = Unknown("a tensor is written to part by part")
        if first is None:
            return
        if func is not functional.run:
            field = receptive.followed(name, args, kwargs, inputs, first.shape)
        elif len(inputs) > 1 or inputs[0][0] is not args[1]:
            field = Unknown("the weights depend on the input")
        else:
            field = receptive.through(args[0], inputs[0][1], args[1].shape)
        for tensor in _tensors(result):
            if field is not None:
                self.fields[tensor] = field

    def _is_worth_a_row(self, name: str, inputs: Sequence[tuple[Tensor, Field]], result: Any) -> bool:
        field = next((self.fields.get(t) for t in _tensors(result)), None)
        lost = isinstance(field, Unknown) and not any(isinstance(before, Unknown) for _, before in inputs)
        return field is not None and (lost or name not in _ARRANGING)


def _of_recurrent(args: Any) -> int:
    """Every weight meets an input once in each step of each sequence; args as of torch.lstm and its like."""
    weights: list[Tensor] = next(part for part in args if isinstance(part, list))
    return sum(w.numel() for w in weights if w.ndim > 1) * int(args[0].numel() // args[0].shape[-1])


def _outline(func: Any, name: str, args: Any, kwargs: Any) -> Tensor | None:
    """The result where its shape is plain, so that torch need not load its compiler to tell it, which takes seconds."""
    x = args[1] if func is functional.run else args[0] if args else None
    if not isinstance(x, Tensor) or not x.is_meta or _in_place(func):
        return None
    if isinstance(args[0], spec.Operation):
        operation = args[0]
        if len(args) > 2 or kwargs or x.ndim <= operation.ndim:
            return None
        return x.new_empty((*x.shape[: -operation.ndim], *operation.output_size(x.shape[-operation.ndim :])))
    if name in ("relu", "relu6", "hardswish", "hardsigmoid", "silu", "gelu", "sigmoid"):
        return x if kwargs.get("inplace") else torch.empty_like(x)
    if name == "batch_norm":
        return torch.empty_like(x) if args[1] is not None and len(args[1]) == x.shape[1] else None
    if name == "linear":
        return x.new_empty((*x.shape[:-1], len(args[1]))) if args[1].shape[-1] == x.shape[-1] else None
    if name in ("add", "mul") and all(isinstance(y, Tensor) and y.is_meta and y.dtype == x.dtype for y in args):
        return torch.empty_like(torch.broadcast_tensors(*args)[0])  # type: ignore[no-untyped-call]
    return None


def _in_place(func: Any) -> bool:
    name = getattr(func, "__name__", "")
    return name.endswith("_") and not name.endswith("__")


def name_of(func: Any) -> str:
    """A function's name, without underscores at its ends."""
    name: str = getattr(func, "__name__", type(func).__name__)
    if name == "__get__":  # an attribute, such as x.T
        name = func.__self__.__name__
    return name.strip("_")


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)


def _outlines(value: Any) -> Any:
    """The same with tensors that have no numbers."""
    if isinstance(value, Tensor):
        return value.to("meta")
    if isinstance(value, dict):
        return {key: _outlines(item) for key, item in value.items()}
    return type(value)(map(_outlines, value)) if type(value) in (list, tuple) else value


def _storage(tensor: Tensor) -> int:
    return id(tensor) if tensor.layout != torch.strided else int(tensor.untyped_storage()._cdata)
