"""`svertka.compile`: a model as plans, without Dynamo."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from itertools import chain, repeat
from operator import attrgetter, is_, is_not
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from svertka.compiler.compiled import Compiled
from svertka.errors import SvertkaError
from svertka.jit import engine

_KINDS = 8  # of calls that are told apart: arrangements of arguments and modes of the modules

_HOOKS, _PRE_HOOKS, _TRAINING = map(attrgetter, ("_forward_hooks", "_forward_pre_hooks", "training"))


def compile(model: nn.Module, *example: Any) -> CompiledModel:  # noqa: A001 (torch's name for it)
    """The model as plans for inference: what it does with inputs of a shape is traced once, and then one native call.

    The model stays as it is; changes of its weights and modules are noticed. Calls that need gradients, and those of
    models with hooks, go to the model itself. What it does depending on values (not shapes) of its inputs can't be
    traced; the call goes to the model then, too, and the report says so. What depends on anything else in Python is
    done once.

    Args:
        model: any module.
        example: inputs, for which it is compiled at once.

    Returns:
        A function like the model; `svertka.report` tells what became of each operation.
    """
    if not isinstance(model, nn.Module):
        raise SvertkaError(
            f"svertka.compile compiles a torch.nn.Module, but got an object of type {type(model).__name__}"
        )
    compiled = CompiledModel(model)
    if example:
        with torch.no_grad():
            compiled(*example)
    return compiled


class CompiledModel:
    """A model as plans: called like the model."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.kinds: OrderedDict[Any, tuple[Compiled, list[Any]]] = OrderedDict()
        self._look()

    def _look(self) -> None:
        """Notes of which modules, parameters and buffers the model is made."""
        model = self.model
        self.kinds.clear()
        self._modules = list(model.modules())
        self._children = [module._modules for module in self._modules]
        self._found = list(chain.from_iterable(map(dict.values, self._children)))
        kinds: list[Any] = [*(m._parameters for m in self._modules), *(m._buffers for m in self._modules)]
        places = [(owner, name) for owner in kinds for name in owner]
        self._owners = kinds
        self._there = [owner[name] is not None for owner, name in places]
        names = {id(owner): prefix for prefix, module in model.named_modules() for owner in _owners(module)}
        seen: set[int] = set()
        self._places: list[tuple[Any, str]] = []
        self._names: list[str] = []
        for owner, name in places:
            if owner[name] is not None and id(owner[name]) not in seen:
                seen.add(id(owner[name]))
                self._places.append((owner, name))
                self._names.append(f"{names[id(owner)]}.{name}".removeprefix("."))

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        """What the model gives."""
        if torch.compiler.is_compiling():  # by Dynamo, as a part of another
            return self.model(*arguments, **keywords)
        if self._is_another():
            with engine.alone():
                self._look()
        held = [owner[name] for owner, name in self._places]
        plain = not keywords and all(type(argument) is Tensor for argument in arguments)
        leaves, form = (arguments, len(arguments)) if plain else pytree.tree_flatten((arguments, keywords))
        reason = self._unfit(held, leaves)
        if reason:
            return self.model(*arguments, **keywords)
        key = (form, *map(_TRAINING, self._modules))
        found = self.kinds.get(key)
        if found is None:
            with engine.alone():
                found = self.kinds.get(key) or self._compiled(form)
                self.kinds[key] = found
                if len(self.kinds) > _KINDS:
                    self.kinds.popitem(last=False)
        compiled, results = found
        flat = compiled(*held, *leaves)
        return flat[0] if results[0] is None else pytree.tree_unflatten(flat, results[0])

    def _is_another(self) -> bool:
        """Whether modules, or places of parameters and buffers, aren't those that were there."""
        found = list(chain.from_iterable(map(dict.values, self._children)))
        if len(found) != len(self._found) or not all(map(is_, found, self._found)):
            return True
        return list(map(is_not, chain.from_iterable(map(dict.values, self._owners)), repeat(None))) != self._there

    def _unfit(self, held: list[Tensor], leaves: Any) -> str:
        """Why a call goes to the model itself; "" if it doesn't."""
        if torch.is_grad_enabled() and any(
            isinstance(x, Tensor) and x.requires_grad for part in (leaves, held) for x in part
        ):
            return "it needs gradients"
        if any(map(_HOOKS, self._modules)) or any(map(_PRE_HOOKS, self._modules)):
            return "it has hooks"
        if torch.is_autocast_enabled("cpu"):
            return "autocast is on"
        if torch._C._len_torch_dispatch_stack():
            return "it is being traced, as a part of another"
        return ""

    def _compiled(self, form: Any) -> tuple[Compiled, list[Any]]:
        """(what is compiled, the form of its results once it was called: None of a single tensor).

        `form` is that of the arguments, or the number of tensors that they are.
        """
        results: list[Any] = []
        count = len(self._places)

        def function(*values: Any, on: Callable[[], nn.Module] = self._twin) -> list[Any]:
            given = values[count:]
            arguments, keywords = (given, {}) if isinstance(form, int) else pytree.tree_unflatten(given, form)
            if torch._C._len_torch_dispatch_stack():  # it is traced
                held = dict(zip(self._names, values[:count], strict=True))
                result = torch.func.functional_call(on(), held, arguments, keywords)
            else:
                result = self.model(*arguments, **keywords)
            if isinstance(result, Tensor):
                results[:] = [None]
                return [result]
            flat, result_form = pytree.tree_flatten(result)
            results[:] = [result_form]
            return flat

        leaves = form if isinstance(form, int) else form.num_leaves
        names = [*self._names, *[None] * leaves]
        return Compiled(function, names, otherwise=partial(function, on=lambda: self.model)), results

    def _twin(self) -> nn.Module:
        """The model's modules anew, with the same tensors: other threads may call the model while this is traced.

        What can't be copied is traced as it is.
        """
        tensors = (*self.model.parameters(), *self.model.buffers())
        try:
            return copy.deepcopy(self.model, {id(tensor): tensor for tensor in tensors})
        except Exception:  # a model may hold anything
            return self.model

    def __repr__(self) -> str:
        return f"svertka.compile({self.model!r})"


def _owners(module: nn.Module) -> tuple[Any, Any]:
    return module._parameters, module._buffers
