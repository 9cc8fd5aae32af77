"""From a function of tensors to a graph of torch's basic operations, for inputs of given shapes.

The graph is functional: what the function does in place is written back at its end (`aten.copy_`). Sizes are numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx
from torch._subclasses import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.traceback import preserve_node_meta

from svertka.engine.dispatch import using
from svertka.jit import engine


def constants(graph: fx.GraphModule) -> set[int]:
    """The ids of the tensors that are written in a graph."""
    return {id(getattr(graph, str(node.target), None)) for node in graph.graph.nodes if node.op == "get_attr"}


def trace(function: Callable[..., Any], arguments: Sequence[Any]) -> fx.GraphModule:
    """The graph of function(*arguments) → tensors; placeholders are the arguments in order, those not tensors, too.

    Of the tensors shapes, strides and types matter. Each node's `meta["val"]` is what it gives.
    """
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    fakes = [mode.from_tensor(x, static_shapes=True) if isinstance(x, Tensor) else x for x in arguments]
    tensors = [x for x in fakes if isinstance(x, Tensor)]

    def of_tensors(*given: Any) -> Any:
        rest = iter(given)
        return function(*(next(rest) if isinstance(x, Tensor) else x for x in fakes))

    owner = getattr(function, "__self__", None)
    if isinstance(owner, fx.GraphModule):
        function = fx.Interpreter(owner).run  # node by node, so that what is noted with each stays with it
    functional = torch.func.functionalize(of_tensors, remove="mutations")
    # alone: make_fx exchanges parts of torch meanwhile
    with engine.alone(), torch.no_grad(), mode, using("portable"), preserve_node_meta():
        graph: fx.GraphModule = make_fx(functional)(*tensors)
    graph.graph.eliminate_dead_code()
    return graph
