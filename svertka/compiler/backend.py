"""The backend of `torch.compile`."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from svertka.compiler.compiled import Compiled


def backend(module: fx.GraphModule, examples: Sequence[Any], **_: Any) -> Callable[..., Any]:
    """What `torch.compile(model, backend="svertka")` calls: a graph and its inputs → a function of such inputs."""
    names = [_held_name(node) for node in module.graph.nodes if node.op == "placeholder"]
    if torch.is_grad_enabled() and any(isinstance(x, Tensor) and x.requires_grad for x in examples):
        return Compiled(module.forward, names).without_plan("it needs gradients")
    return Compiled(module.forward, names)


def _held_name(node: fx.Node) -> str | None:
    """A parameter's or buffer's name; None of other inputs."""
    if "_dynamo_static_input_type" not in node.meta.get("tensor_dict", {}):
        return None
    name = re.sub(r"^[lL]_+\w+?_+modules_|^[lL]_+self_+", "", node.name).strip("_")
    return re.sub(r"_(modules|parameters|buffers)_", ".", name)
