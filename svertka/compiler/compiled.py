"""Compiled functions: a plan for each shape of the inputs, made when it first comes."""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import count
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor

from svertka.compiler.held import Weights
from svertka.compiler.lower import Lowering, Node, Role
from svertka.compiler.plan import Plan
from svertka.compiler.recorder import NotRecordable
from svertka.compiler.trace import constants, trace
from svertka.engine.precision import products

Planned = tuple[Plan, list[Node]] | str  # or why there is none
_PLANS = 32  # that are kept; of those that were used longest ago memory is given back


_numbers = count()  # in the order in which they were made
_everyone: weakref.WeakSet[Compiled] = weakref.WeakSet()
_noting = threading.Lock()


def _forked() -> None:
    """A child's other threads aren't there to unlock anything."""
    global _noting
    _noting = threading.Lock()
    for part in list(_everyone):
        part.alone()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


def compiled_of(module: torch.nn.Module) -> list[Compiled]:
    """What was compiled of a module: all that holds one of its parameters or buffers."""
    own = {id(tensor) for tensor in (*module.parameters(), *module.buffers())}
    with _noting:
        everyone = list(_everyone)
    found = [part for part in everyone if any(id(owner()) in own for owner in part.owners)]
    return sorted(found, key=lambda part: part.number)


def _like(x: Tensor) -> Any:
    """What decides whether a plan fits a tensor."""
    if x.layout is not torch.strided:
        return x.layout
    return x.shape, x.stride(), x.dtype, x.device


def _picker(places: list[int]) -> Callable[[Sequence[Any]], Sequence[Any]]:
    """What gives the values at some places."""
    if len(places) > 1:
        return itemgetter(*places)
    return lambda values: [values[place] for place in places]


class Compiled:
    """function(*arguments) → a list of tensors, by plans.

    Args:
        function: of tensors and numbers; traced for each shape of them.
        names: of the held arguments, the parameters and buffers; None where an argument is an input.
        title: "", "forward" or "backward".
        formatted: so many results have torch's memory format; of others, which only we read, it doesn't matter.
        otherwise: what is traced instead, if the function turns out to read held tensors that weren't handed to it.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        names: Sequence[str | None],
        title: str = "",
        formatted: int | None = None,
        otherwise: Callable[..., Any] | None = None,
    ) -> None:
        self.function, self.title, self.names, self.formatted = function, title, names, formatted
        self.otherwise = otherwise
        self.as_is = function  # what is called where there is no plan
        self._tensors = _picker([index for index, name in enumerate(names) if name is not None])
        self._inputs = _picker([index for index, name in enumerate(names) if name is None])
        self.weights = Weights([name for name in names if name is not None])
        self.plans: OrderedDict[Any, Planned] = OrderedDict()
        self.reason = ""  # why there are no plans
        self._lock = threading.RLock()  # of who makes one
        self.owners: list[weakref.ref[Tensor]] = []
        self.number = next(_numbers)
        with _noting:
            _everyone.add(self)

    def __call__(self, *arguments: Any) -> Any:
        """The function's results."""
        inputs, tensors = self._inputs(arguments), self._tensors(arguments)
        if self.reason:
            self.owners = self.owners or [weakref.ref(tensor) for tensor in tensors]
            return self.as_is(*arguments)
        # By the precision, and by what the inputs are like.
        key = products(), *[_like(x) if isinstance(x, Tensor) else x for x in inputs]
        found = self.plans.get(key)
        if found is None:
            found = self._planned(key, arguments, inputs, tensors)
        if isinstance(found, str):
            if self.weights.alike(tensors):
                return self.as_is(*arguments)
            self._begin_anew(self.weights)
            return self(*arguments)
        weights = found[0].weights
        if not weights.enter(tensors):
            self._begin_anew(weights)
            return self(*arguments)
        try:
            return found[0](inputs, tensors)
        finally:
            weights.leave()
            if len(self.plans) > _PLANS // 2:
                with contextlib.suppress(KeyError):  # another thread may have let it go
                    self.plans.move_to_end(key)

    def _begin_anew(self, weights: Weights) -> None:
        """Forgets the plans for weights that aren't of these shapes and types any more."""
        with self._lock:
            if self.weights is weights:  # else another thread has done it
                self.plans.clear()
                self.weights = Weights(weights.names)

    def alone(self) -> None:
        """In a forked child."""
        self._lock = threading.RLock()
        self.weights.alone()

    def belongs_to(self, tensors: Sequence[Tensor]) -> None:
        """Notes whose parameters it works with, so that a report finds it, and when they are gone."""
        me = weakref.ref(self)

        def gone(_: Any) -> None:
            compiled = me()
            if compiled is not None and all(owner() is None for owner in compiled.owners):
                compiled.forget()

        self.owners = [weakref.ref(tensor, gone) for tensor in tensors]

    def forget(self) -> None:
        """Gives the memory of plans and weights back: their model isn't there any more, though torch keeps its code."""
        self.plans.clear()
        self.weights = Weights(self.weights.names)

    def without_plan(self, reason: str) -> Compiled:
        """The function as it is, and why."""
        self.reason = reason
        return self

    def _planned(self, key: Any, arguments: Sequence[Any], inputs: Any, tensors: Sequence[Tensor]) -> Any:
        with self._lock, torch.no_grad():
            found = self.plans.get(key)
            if found is None:
                if not self.weights.enter(tensors):
                    self._begin_anew(self.weights)
                    self.weights.enter(tensors)
                try:
                    if tensors:
                        self.belongs_to(tensors)
                    found = self.plans[key] = self._plan(arguments, inputs, tensors)
                finally:
                    self.weights.leave()
                if len(self.plans) > _PLANS:
                    self.plans.popitem(last=False)
            return found

    def _plan(self, arguments: Sequence[Any], inputs: Any, tensors: Sequence[Tensor]) -> Planned:
        """The plan and what it is of, or why there is none."""
        for x in (*inputs, *tensors):
            if isinstance(x, Tensor) and (not x.is_cpu or x.layout is not torch.strided):
                return f"there is a tensor on {x.device.type}, {str(x.layout).removeprefix('torch.')}"
            if isinstance(x, Tensor) and not x.numel() and not (self.formatted == 0 and x.ndim == 1):
                return "there is an empty tensor"
        roles = []
        places = {"held": iter(range(len(tensors))), "input": iter(range(len(inputs)))}
        for argument, name in zip(arguments, self.names, strict=True):
            kind = "input" if name is None else "held"
            place = next(places[kind])
            if isinstance(argument, Tensor):
                roles.append(Role(kind, place))
        try:
            graph = trace(self.function, arguments)
            if self.otherwise and not constants(graph).isdisjoint(map(id, tensors)):
                graph = trace(self.otherwise, arguments)
        except Exception as error:  # whatever it is, the function itself will say it, or do without
            return f"it can't be traced: {error}".partition("\n")[0]
        try:
            lowering = Lowering(graph, roles, self.weights, tensors, self.formatted)
            return lowering.plan(), lowering.nodes
        except NotRecordable as reason:
            return str(reason)
