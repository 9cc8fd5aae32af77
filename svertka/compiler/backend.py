"""The backend of `torch.compile`: inference as it is, training by torch's AOTAutograd."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from svertka import spec
from svertka import window as geometry
from svertka.compiler.blocks import RESHAPES
from svertka.compiler.compiled import Compiled
from svertka.compiler.joint import POOL_GRADIENTS, rewrite
from svertka.jit import engine

_MODELS = 8  # of a class that have weights of their own packed


def backend(module: fx.GraphModule, examples: Sequence[Any], **_: Any) -> Callable[..., Any]:
    """What `torch.compile(model, backend="svertka")` calls: a graph and its inputs → a function of such inputs."""
    names = [_held_name(node) for node in module.graph.nodes if node.op == "placeholder"]
    if torch.is_autocast_enabled("cpu"):
        return Compiled(module.forward, names).without_plan("autocast is on")
    if torch.is_grad_enabled() and any(isinstance(x, Tensor) and x.requires_grad for x in examples):
        return _trained(module, examples, names)
    return _EachModel(module.forward, names)


class _EachModel:
    """A graph, and what was compiled of it for each model: torch has one code for all models of a class and shape.

    A model is known by its first parameter or buffer. One whose others have all gone is taken to have new weights.
    """

    def __init__(self, function: Callable[..., Any], names: Sequence[str | None]) -> None:
        self.function, self.names = function, names
        self.held = [place for place, name in enumerate(names) if name is not None]
        self.models: list[Compiled] = []
        if not self.held:
            self.models.append(Compiled(function, names))

    def __call__(self, *arguments: Any) -> Any:
        """The graph's results."""
        models = self.models
        if not self.held:
            return models[0](*arguments)
        first = arguments[self.held[0]]
        for model in models:
            if model.owners[0]() is first:
                return model(*arguments)
        return self._of([arguments[place] for place in self.held])(*arguments)

    def _of(self, tensors: Sequence[Tensor]) -> Compiled:
        """The model whose tensors some of these are, or whose own aren't there any more; else a new one."""
        with engine.alone():
            own = set(map(id, tensors))
            for model in self.models:
                there = [id(owner()) for owner in model.owners if owner() is not None]
                if not there or not own.isdisjoint(there):
                    model.belongs_to(tensors)
                    return model
            model = Compiled(self.function, self.names)
            model.belongs_to(tensors)
            self.models = [*self.models, model][-_MODELS:]
            return model


def _trained(module: fx.GraphModule, examples: Sequence[Any], names: Sequence[str | None]) -> Callable[..., Any]:
    """The forward graph and the backward graph, each compiled by itself.

    All that comes in changes from step to step, so that nothing is held. What the forward graph saves for the backward
    one it gives as it lies.
    """
    from functorch.compile import make_boxed_func, min_cut_rematerialization_partition  # type: ignore[import-untyped]
    from torch._dynamo.backends.common import aot_autograd

    owners = [name is not None for name in names]

    def forward(graph: fx.GraphModule, inputs: Sequence[Any]) -> Any:
        compiled = Compiled(graph.forward, [None] * len(inputs), "forward", _results_of_forward())
        parts.append(compiled)
        return make_boxed_func(compiled)

    def backward(graph: fx.GraphModule, inputs: Sequence[Any]) -> Any:
        for node in graph.graph.nodes:  # what was saved lies as it lies
            node.target = torch.ops.aten.reshape.default if node.target in RESHAPES else node.target
        graph.recompile()
        compiled = Compiled(graph.forward, [None] * len(inputs), "backward", formatted=0)
        compiled.as_is = _ByTorch(graph).run
        compiled.owners = parts[0].owners  # it may be compiled late
        parts.append(compiled)
        return make_boxed_func(compiled)

    parts: list[Compiled] = []

    def cut(joint: fx.GraphModule, inputs: Any, **more: Any) -> Any:
        rewrite(joint)
        return min_cut_rematerialization_partition(joint, inputs, **more)

    compile_both = aot_autograd(fw_compiler=forward, bw_compiler=backward, partition_fn=cut)
    run = compile_both(module, examples)

    def call(*arguments: Any) -> Any:
        result = run(*arguments)
        for part in parts:
            if not part.owners:
                part.belongs_to([x for x, own in zip(arguments, owners, strict=True) if own])
        return result

    return call


class _ByTorch(fx.Interpreter):
    """A backward graph that has no plan, though the forward one had, whose poolings saved taps in place of indices."""

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        """What torch gives."""
        if target in POOL_GRADIENTS and args[-1].dtype is not torch.int64:
            _, x, size, stride, padding, dilation, ceil, taps = args
            windows = spec.windows(len(size), size, stride or size, padding, dilation, "zeros", ceil)
            table = torch.from_numpy(geometry.sources(windows, x.shape[2:]))
            table = table.reshape(-1, table.shape[-1])
            places = table[torch.arange(len(table)), taps.flatten(2).long()].view(taps.shape)
            args = (*args[:-1], places)
        return super().call_function(target, args, kwargs)


def _results_of_forward() -> int:
    """How many of the forward graph's results are the model's; the others are saved for the backward graph."""
    context = torch._guards.TracingContext.try_get()
    assert context is not None and context.fw_metadata is not None, "AOTAutograd tells it while it compiles"
    return int(context.fw_metadata.num_forward_returns)


def _held_name(node: fx.Node) -> str | None:
    """A parameter's or buffer's name; None of other inputs."""
    if "_dynamo_static_input_type" not in node.meta.get("tensor_dict", {}):
        return None
    name = re.sub(r"^[lL]_+\w+?_+modules_|^[lL]_+self_+", "", node.name).strip("_")
    return re.sub(r"_(modules|parameters|buffers)_", ".", name)
