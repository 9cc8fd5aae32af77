"""From a traced graph to a plan: each block and each operation is recorded by the engine's own runners.

Values of the graph are tensors of untouched memory that the recorder knows, or held values. What the runners can't do
becomes a call of torch, with the reason noted.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from svertka.compiler import blocks, formulas, layers
from svertka.compiler.blocks import FxNode, is_node
from svertka.compiler.held import Constant, Derived, Source, Weights, frozen
from svertka.compiler.layers import Flat
from svertka.compiler.plan import Output, Plan
from svertka.compiler.recorder import ARENA, EXTERNAL, INPUT, OUTPUT, Buffer, NotRecordable, Recorder
from svertka.compiler.sinking import sink
from svertka.engine.launch import not_recording
from svertka.engine.precision import as_noted
from svertka.errors import GeometryError

aten = torch.ops.aten
KERNEL, TORCH, VIEW, HELD = "kernel", "torch", "view", "held"
_INTO = {aten.mm.default: aten.mm.out, aten.addmm.default: aten.addmm.out}
_RANDOM = torch.Tag.nondeterministic_seeded


@dataclass(eq=False)
class Node:
    """What became of an operation, or of several as one.

    Args:
        name: the layer's, if it has parameters, else the operation's.
        path: "kernel", "torch", "view" (nothing to do at run time) or "held" (computed once from the weights).
        detail: the kernel and its schedule, or why torch computes it.
        shape: of the result.
        fused: the operations that are one with it.
        items: (first, last + 1) of the plan's items.
        macs: multiply-adds, if it is a convolution or a dense layer.
    """

    name: str
    path: str
    detail: str
    shape: tuple[int, ...]
    fused: tuple[str, ...]
    items: tuple[int, int]
    macs: int = 0


@dataclass(frozen=True)
class Role:
    """What a placeholder is: "held" and "input" by their index, "value" (no tensor) itself."""

    kind: str
    value: Any


class Lowering:
    """A graph on its way to a plan.

    Args:
        module: traced, with a role for each placeholder.
        weights, tensors: what is held, and its sources as they are.
        formatted: so many results have torch's memory format (None: all); of the others, saved for the backward graph,
            it doesn't matter. 0: they are gradients, each in memory of its own.
    """

    def __init__(
        self,
        module: fx.GraphModule,
        roles: Sequence[Role],
        weights: Weights,
        tensors: Sequence[Tensor],
        formatted: int | None = None,
    ) -> None:
        self.module, self.roles, self.weights, self.formatted = module, roles, weights, formatted
        self.recorder = Recorder(weights, tensors)
        self.env: dict[FxNode, Any] = {}
        self.nodes: list[Node] = []
        self.changing = _changing(module.graph)
        self.sums: dict[FxNode, Tensor] = {}  # that came along with something else
        self.laid: dict[int, Tensor] = {}  # tensors by the id of what they are a copy of, with neighbouring channels
        self._kept: list[Any] = []
        self._held_nodes: dict[FxNode, bool] = {}

    def plan(self) -> Plan:
        """The plan."""
        placeholders = [node for node in self.module.graph.nodes if node.op == "placeholder"]
        for node, role in zip(placeholders, self.roles, strict=True):
            self.env[node] = self._given(node, role)
        sink(self.module.graph, self._is_held)
        found = blocks.find(self.module.graph, self._is_held)
        taken = {node for block in found.values() for node in block.taken}
        self.apart = {*taken, *found}
        with self.recorder:
            for node in self.module.graph.nodes:
                if node.op == "get_attr":
                    self.env[node] = self._constant(node)
                elif node in found:
                    with as_noted(found[node].base.meta):
                        self._block(node, found[node])
                elif node.op == "call_function" and node not in taken:
                    with as_noted(node.meta):
                        self._operation(node)
                elif node.op == "output":
                    outputs, shapes = self._outputs(node)
        return Plan(self.recorder, outputs, shapes)

    # What values are

    def _given(self, node: FxNode, role: Role) -> Any:
        if role.kind == "held":
            return Source(role.value)
        like = node.meta["val"]
        if not like.numel():  # the statistics that a batch norm by given ones didn't compute
            return torch.empty_strided(like.shape, like.stride(), dtype=like.dtype)
        if like.dtype in (torch.uint8, torch.int8, torch.int16, torch.int32):
            return self.recorder.with_room(like, role.value)
        return self.recorder.new(like.shape, like.stride(), like.dtype, INPUT, role.value)

    def _constant(self, node: FxNode) -> Constant:
        tensor = getattr(self.module, str(node.target))
        if isinstance(tensor, torch.nn.Parameter):
            raise NotRecordable("it uses a parameter that none of its modules has")
        return Constant(tensor)

    def _is_held(self, node: Any) -> bool:
        """Whether a node's value follows from parameters and buffers alone."""
        if not is_node(node):
            return not isinstance(node, (list, tuple)) or all(map(self._is_held, node))
        if node not in self._held_nodes:
            self._held_nodes[node] = self._finds_held(node)
        return self._held_nodes[node]

    def _finds_held(self, node: FxNode) -> bool:
        if node in self.changing:
            return False
        if node.op == "placeholder":
            return isinstance(self.env.get(node), Source)
        if node.op == "get_attr":
            return True
        if node.op != "call_function":
            return False
        if isinstance(node.target, torch._ops.OpOverload) and (
            _RANDOM in node.target.tags or node.target._schema.is_mutable or node.target in blocks.NORMS
        ):
            return False
        return all(map(self._is_held, node.all_input_nodes))

    def value(self, argument: Any) -> Any:
        """An argument's value, with lists and tuples as tuples; of a held one what stands for it."""
        if is_node(argument):
            return self.env[argument]
        if isinstance(argument, (list, tuple)):
            return tuple(map(self.value, argument))
        return argument

    def tensor(self, node: Any) -> Tensor:
        """The recorded tensor of a node.

        Raises:
            NotRecordable: if it is held.
        """
        value = self.env[node] if is_node(node) else node
        if isinstance(value, Flat):
            value = self.env[node] = value.turned()
        if isinstance(value, formulas.Expression):
            value = self.env[node] = value.recorded(self)
        if not isinstance(value, Tensor):
            raise NotRecordable("one of its operands is a parameter")
        return value

    def line(self, node: Any) -> Any:
        """The held value of a node, None of none.

        Raises:
            NotRecordable: if it isn't held.
        """
        value = self.value(node)
        if value is None or isinstance(value, (Source, Derived, Constant)):
            return value
        raise NotRecordable("its weight isn't a parameter")

    def parameter(self, node: Any) -> Any:
        """The held value of a node, None of none, or its tensor if it is computed."""
        value = self.value(node)
        return value if isinstance(value, Tensor) else self.line(node)

    def prepared(self, prepare: Callable[..., Any], *arguments: Any) -> Any:
        """A runner, kept alive by the plan."""
        with not_recording():
            runner = prepare(*arguments)
        self.recorder.kept.append(runner)
        return runner

    def for_us_alone(self, node: FxNode) -> bool:
        """Whether the second result of a node is but saved for the backward graph."""
        (output,) = (user for user in self.module.graph.nodes if user.op == "output")
        second = [user for user in node.users if user.args[1] == 1]
        return self.formatted is not None and all(
            list(part.users) == [output] and part not in output.args[0][: self.formatted] for part in second
        )

    def with_neighbours(self, x: Tensor) -> Tensor:
        """x with neighbouring channels: converted once, whoever needs it."""
        if id(x) not in self.laid:
            self._kept.append(x)
            self.laid[id(x)] = layers.with_neighbours(x)
        return self.laid[id(x)]

    # What nodes become

    def _block(self, node: FxNode, block: blocks.Block) -> None:
        def record() -> Any:
            return layers.record_block(self, block)

        self._recorded(node, record, block)

    def _operation(self, node: FxNode) -> None:
        if self._is_held(node):
            self.env[node] = self._derived(node)
            return
        if node.target is operator.getitem:
            value = self.env[node.args[0]]
            self.env[node] = value[node.args[1]]
            return
        handler = layers.HANDLERS.get(node.target)
        if handler is None and formulas.is_formula(node):
            if formulas.goes_on(node, self.apart.__contains__):
                return  # a part of its user's formula
            handler = formulas.record
        if handler is None and getattr(node.target, "is_view", False):
            handler = layers.view
        if handler is None:
            self._torch(node, "there is no kernel for it")
            return
        self._recorded(node, lambda: handler(self, node))

    def _recorded(self, node: FxNode, record: Callable[[], Any], block: blocks.Block | None = None) -> None:
        mark, known = len(self.recorder.items), self.env.copy()
        try:
            value, detail, macs = record()
            if self.recorder.reads_stand_in(mark):
                raise NotRecordable("its kernel reads the weight as it is")
        except (NotRecordable, GeometryError) as reason:
            self.recorder.undo(mark)
            self.env = known  # what was computed on the way isn't any more
            self.laid.clear()
            if block is None:
                self._torch(node, str(reason))
            else:
                self._apart(node, block, str(reason))
            return
        self.env[node] = value
        end = len(self.recorder.items)
        path = KERNEL if end > mark else VIEW
        fused = tuple(_title(part) for part in _parts(block)) if block else ()
        self._note(block.base if block else node, value, path, detail, fused, (mark, end), macs)

    def _apart(self, node: FxNode, block: blocks.Block, reason: str) -> None:
        """A block that there is no kernel for: as two, shorter, or operation by operation."""
        if block.first is not None:
            for part in blocks.apart(block):
                self._block(part.last, part)
            return
        shorter = layers.shortened(block)
        parts = [part for part in self.module.graph.nodes if part in block.taken or part is node]
        if shorter is None:
            for part in parts:
                if part.target in (blocks.CONVOLUTION, *blocks.DENSE):
                    self._torch(part, reason)
                else:
                    self._operation(part)
            return
        self._block(shorter.last, shorter)
        for part in parts:
            if part is not shorter.last and part not in shorter.taken:
                self._operation(part)

    def _derived(self, node: FxNode) -> Any:
        arguments = frozen(self.value(node.args))
        keywords = tuple((name, frozen(self.value(value))) for name, value in node.kwargs.items())
        return Derived(node.target, arguments, keywords)

    def _torch(self, node: FxNode, reason: str) -> None:
        """A call of torch."""
        like = node.meta["val"]
        several = isinstance(like, (tuple, list))
        for part in node.all_input_nodes:
            if part not in self.env:  # left to a formula that there is no kernel for
                self._torch(part, reason)
        mark = len(self.recorder.items)
        arguments, keywords = self._for_torch(node.args), {k: self._for_torch(v) for k, v in node.kwargs.items()}
        self.env[node] = self._called(node, arguments, keywords, like, several)
        end = len(self.recorder.items)
        self._note(node, like, TORCH, reason, (), (mark, end))

    def _called(self, node: FxNode, arguments: Any, keywords: Any, like: Any, several: bool) -> Any:
        """A call's result. In training that of a matrix product has its place as those of kernels have."""
        if self.formatted is not None and node.target in _INTO and like.dtype is torch.float32:
            room = torch.empty(like.shape)
            self.recorder.call(_INTO[node.target], arguments, {**keywords, "out": room}, [None])
            return room
        # Its operand may lie otherwise than torch's own.
        function = aten.reshape.default if node.target in blocks.RESHAPES else node.target
        results = self.recorder.call(function, arguments, keywords, like if several else [like])
        return tuple(results) if several else results[0]

    def _for_torch(self, argument: Any) -> Any:
        if is_node(argument):
            lazy = isinstance(self.env[argument], (Flat, formulas.Expression))
            return self.tensor(argument) if lazy else self.env[argument]
        if isinstance(argument, (list, tuple)):
            return tuple(map(self._for_torch, argument))
        return argument

    def _note(
        self, node: FxNode, value: Any, path: str, detail: str, fused: tuple[str, ...], items: Any, macs: int = 0
    ) -> None:
        if isinstance(value, Flat):
            value = value.tensor
        value = value[0] if isinstance(value, (tuple, list)) and value else value
        shape = tuple(value.shape) if isinstance(value, Tensor) else ()
        self.nodes.append(Node(self._name(node), path, detail, shape, fused, items, macs))

    def _name(self, node: FxNode) -> str:
        """A layer's name from its parameters', or the operation's."""
        for argument in node.args:
            value = self.env.get(argument) if is_node(argument) else None
            while isinstance(value, Derived) and value.arguments:
                value = value.arguments[0]
            if isinstance(value, Source):
                return self.weights.names[value.index].rpartition(".")[0] or _title(node)
        return _title(node)

    # What comes out

    def _outputs(self, node: FxNode) -> tuple[list[Output], list[Any]]:
        arguments = node.args[0]
        outputs: list[Output] = []
        shapes: list[Any] = []
        for index, argument in enumerate(arguments if isinstance(arguments, (list, tuple)) else [arguments]):
            formatted = self.formatted is None or index < self.formatted
            outputs.append(self._output(argument, shapes, formatted))
        return outputs, shapes

    def _output(self, argument: Any, shapes: list[Any], formatted: bool) -> Output:
        value = self.env[argument] if is_node(argument) else argument
        if isinstance(value, (Source, Derived, Constant)):
            return Output("held", value)
        if isinstance(value, (Flat, formulas.Expression)):
            value = self.tensor(argument)
        if not isinstance(value, Tensor):
            return Output("value", value)
        if not value.numel():
            shapes.append((tuple(value.shape), value.stride(), value.dtype))
            return Output("new", len(shapes) - 1)
        buffer = self.recorder.buffer_of(value)
        assert buffer is not None, f"tensors that the recorder doesn't know are held, but not {argument}"
        if buffer.kind == INPUT and (value is buffer.tensor or buffer.origin):
            return Output("input", buffer.index)
        if buffer.kind == EXTERNAL and (buffer.tensor is value or (self.formatted and not formatted)):
            return Output("external", self.recorder.view(value))
        like = argument.meta["val"]
        if self.formatted == 0 and buffer.kind == ARENA and self._is_whole(value, buffer):
            like = value  # a gradient: autograd has it as its parameter lies, which is how kernels write it
        elif not formatted and self.formatted and buffer.kind in (ARENA, OUTPUT):
            if buffer.kind == ARENA:
                buffer.kind, buffer.index = OUTPUT, len(shapes)
                shapes.append(((buffer.bytes // value.element_size(),), (1,), value.dtype))
            return Output("view", (buffer.index, tuple(value.shape), value.stride(), int(value.storage_offset())))
        if buffer.kind == ARENA and self._is_whole(value, buffer) and _same_order(value, like):
            shapes.append((tuple(like.shape), like.stride(), value.dtype))
            buffer.kind, buffer.index = OUTPUT, len(shapes) - 1
        else:
            shapes.append((tuple(like.shape), like.stride(), value.dtype))
            y = self.recorder.new(like.shape, like.stride(), value.dtype, OUTPUT, len(shapes) - 1)
            mark = len(self.recorder.items)
            if value.dtype is torch.float32:
                self.recorder.copy(value, y)
                self._note(argument, value, KERNEL, "copied to the format of the result", (), (mark, mark + 1))
            else:
                self.recorder.call(aten.copy_.default, (y, value), {}, [None])
                self._note(argument, value, TORCH, "copied", (), (mark, mark + 1))
        return Output("new", len(shapes) - 1)

    @staticmethod
    def _is_whole(value: Tensor, buffer: Buffer) -> bool:
        return value.numel() * value.element_size() == buffer.bytes and not value.storage_offset()


def _same_order(a: Tensor, b: Tensor) -> bool:
    """Whether the strides are the same where they matter."""
    return all(n == 1 or s == t for n, s, t in zip(a.shape, a.stride(), b.stride(), strict=True))


def _changing(graph: fx.Graph) -> set[FxNode]:
    """The placeholders that the graph changes."""
    found: set[FxNode] = set()
    for node in graph.nodes:
        if not isinstance(node.target, torch._ops.OpOverload):
            continue
        if node.target in blocks.NORMS and not blocks.is_inference_norm(node):
            found |= {part for part in node.args[3:5] if is_node(part)}
        for argument, declared in zip(node.args, node.target._schema.arguments, strict=False):
            if declared.alias_info is not None and declared.alias_info.is_write and is_node(argument):
                found.add(argument)
    return found


def _parts(block: blocks.Block) -> list[FxNode]:
    order = {node: index for index, node in enumerate(block.base.graph.nodes)}
    parts = [node for node in (*block.taken, block.last) if node.target is not operator.getitem]
    return sorted(parts, key=lambda node: order[node])


def _title(node: FxNode) -> str:
    name = str(node.target).removeprefix("aten.").partition(".")[0]
    return {
        "native_batch_norm": "batch_norm", "max_pool2d_with_indices": "max_pool2d", "addmm": "linear", "mm": "linear",
        "max_pool3d_with_indices": "max_pool3d", "add": "add",
    }.get(name, name)  # fmt: skip
