"""ONNX → a network of layers (`svertka.deploy.graph`), node by node, or one sentence on the node that can't be done.

Each step is run on a tensor without memory as soon as it is known, so that ranks and sizes are at hand, and a network
that would take too much memory is refused at the node that would take it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from svertka.deploy.folding import FOLDED, folded
from svertka.deploy.graph import INPUT, KINDS, LARGEST, Network
from svertka.deploy.nodes import READERS, UnableError
from svertka.deploy.onnxfile import OnnxFile
from svertka.errors import DataError

Entry = int | tuple[str, int]  # of a shape: a number, or (result, axis), the size of that


@dataclass(frozen=True)
class Imported:
    """A network from an ONNX file.

    Attributes:
        network: in evaluation mode.
        steps, output: what it is built of.
        size: (channels, *size) of its input.
        fixed_batch: the batch size that the file fixes, 0 if it leaves it open.
        notes: what was taken otherwise than it stands in the file.
    """

    network: Network
    steps: list[dict[str, Any]]
    output: str
    size: tuple[int, ...]
    fixed_batch: int
    notes: tuple[str, ...]
    file: OnnxFile


def import_onnx(file: str | Path, size: Sequence[int] | None = None) -> Imported:
    """Read a convolutional network from an ONNX file.

    Args:
        file: with its tensors inside, or in files of the same folder.
        size: (channels, *size) of the input, where the file leaves it open.

    Raises:
        DataError: one sentence that names the node, tensor or size that can't be read.
    """
    return _Reader(OnnxFile(file), size).read()


class Node:
    """A node with its attributes as Python values."""

    def __init__(self, proto: Any, file: OnnxFile) -> None:
        self.op, self.name, self.inputs, self.outputs = proto.op_type, proto.name, list(proto.input), list(proto.output)
        if proto.domain not in ("", "ai.onnx"):
            raise UnableError(f"is of the domain {proto.domain!r}, which is not ONNX's own")
        self._attributes = {a.name: _value(a, file) for a in proto.attribute}

    def get(self, name: str, default: Any = None) -> Any:
        """The attribute, or the default."""
        return self._attributes.get(name, default)


def _value(attribute: Any, file: OnnxFile) -> Any:
    match attribute.type:
        case 1:
            return attribute.f
        case 2:
            return attribute.i
        case 3:
            return attribute.s.decode("utf-8", "replace")
        case 4:
            return file.array(attribute.t)
        case 6:
            return list(attribute.floats)
        case 7:
            return list(attribute.ints)
    return None  # graphs and the like, whose nodes are refused


class _Reader:
    """Steps, weights and results without memory, as they grow node by node."""

    def __init__(self, file: OnnxFile, size: Sequence[int] | None) -> None:
        self.file, self.notes = file, list[str]()
        self.tensors: dict[str, Any] = dict(file.tensors)
        self.shapes: dict[str, list[Entry]] = {}
        self.steps: list[dict[str, Any]] = []
        self.weights: dict[str, Tensor] = {}
        self.results: dict[str, tuple[str, Tensor]] = {}  # ONNX's name → (step, a tensor without memory)
        inputs = [value for value in file.graph.input if value.name not in self.tensors]
        if len(inputs) != 1:
            raise file.error(f"has {len(inputs)} inputs, where one is read")
        self.size = self._input_size(inputs[0], size)
        self.fixed_batch = inputs[0].type.tensor_type.shape.dim[0].dim_value
        if not 0 <= self.fixed_batch * math.prod(self.size) <= LARGEST:
            raise file.error(f"has an input of {self.fixed_batch} pictures at a time")
        self.results[inputs[0].name] = (INPUT, torch.empty(self.fixed_batch or 2, *self.size, device="meta"))

    def _input_size(self, value: Any, size: Sequence[int] | None) -> tuple[int, ...]:
        dims, kind = value.type.tensor_type.shape.dim, value.type.tensor_type.elem_type
        if kind != 1 or not 3 <= len(dims) <= 5:
            raise self.file.error(
                f"has an input of {len(dims)} axes and the data type {kind}, not float32 [N, C, *size]"
            )
        given = list(size) if size is not None else self._told_size(len(dims) - 1)
        if len(given) != len(dims) - 1:
            raise DataError(f"the input size {given} does not fit the {len(dims) - 1} axes of {self.file.path}")
        sizes = []
        for dim, wanted in zip(dims[1:], given, strict=True):
            if wanted and dim.dim_value > 0 and wanted != dim.dim_value:
                raise DataError(f"the input size {given} is not that of {self.file.path}, where it is {dim.dim_value}")
            sizes.append(dim.dim_value if dim.dim_value > 0 else wanted)
        if min(sizes) < 1:
            raise DataError(f"{self.file.path} leaves the size of its input open: add --input 3x224x224")
        if math.prod(sizes) > LARGEST:
            raise DataError(f"the input size {sizes} is more than {LARGEST} numbers: give a smaller one")
        return tuple(sizes)

    def _told_size(self, axes: int) -> list[int]:
        """The size that the metadata tell, for what the file leaves open; zeros if they tell none."""
        told = self.file.metadata("svertka.preprocessing")
        told = told if isinstance(told, dict) else {}
        size = told.get("size")
        found = [told.get("channels"), *(size if isinstance(size, list) else ())]
        sound = len(found) == axes and all(type(n) is int and n > 0 for n in found)
        return [int(n) for n in found] if sound else [0] * axes

    def read(self) -> Imported:
        for place, proto in enumerate(self.file.graph.node):
            try:
                node = Node(proto, self.file)
                with np.errstate(all="ignore"):  # weights may be infinite, or no numbers
                    self._read(node)
            except (UnableError, ValueError, TypeError, KeyError, IndexError, RuntimeError, OverflowError) as error:
                if isinstance(error, DataError) and str(self.file.path) in str(error):
                    raise
                name = proto.name or (proto.output[0] if proto.output else f"number {place}")
                reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
                link = ", it" if isinstance(error, UnableError) else ":"
                raise DataError(
                    f"{self.file.path}: the node {name} ({proto.op_type}) can't be read{link} {reason}"
                ) from error
        outputs = self.file.graph.output
        if len(outputs) != 1 or outputs[0].name not in self.results:
            raise self.file.error(f"has {len(outputs)} outputs, where one, computed from the input, is read")
        output = self.results[outputs[0].name][0]
        network = Network(self.steps, output)
        network.load_state_dict(self.weights, strict=True)
        return Imported(network.eval(), self.steps, output, self.size, self.fixed_batch, tuple(self.notes), self.file)

    def _read(self, node: Node) -> None:
        if any(node.outputs[1:]) and node.op not in ("Dropout", "BatchNormalization"):
            used = {name for proto in self.file.graph.node for name in proto.input} | {
                value.name for value in self.file.graph.output
            }
            if used & set(filter(None, node.outputs[1:])):
                raise UnableError("has a second result that is used")
        if node.op == "Constant":
            self.tensors[node.outputs[0]] = _constant(node)
            return
        if node.op == "Identity" and node.inputs[0] in self.tensors:
            self.tensors[node.outputs[0]] = self.tensors[node.inputs[0]]
            return
        if self._shape(node) or self._fold(node):
            return
        if node.op not in READERS:
            raise UnableError("is of a kind that is not read")
        READERS[node.op](self, node)

    # What readers of nodes ask for.

    def weight(self, node: Node, place: int) -> Any:
        """The constant at this place, which there must be."""
        found = self.tensor(node, place)
        if found is None:
            raise UnableError(f"lacks its input number {place}")
        if not found.size:
            raise UnableError(f"has an input {node.inputs[place]!r} of the shape {list(found.shape)}, without numbers")
        return found

    def activation(self, node: Node, place: int = 0) -> Tensor:
        """What the input at this place is like; it must be computed from the network's input."""
        if place >= len(node.inputs):
            raise UnableError(f"lacks its input number {place}")
        if node.inputs[place] not in self.results:
            raise UnableError(f"reads {node.inputs[place]!r}, which no node before it computes from the input")
        return self.results[node.inputs[place]][1]

    def tensor(self, node: Node, place: int) -> Any:
        """The constant at this place; None if there is none."""
        if place >= len(node.inputs) or not node.inputs[place]:
            return None
        if node.inputs[place] not in self.tensors:
            raise UnableError(f"computes its input {node.inputs[place]!r}, which must be a constant")
        return self.tensors[node.inputs[place]]

    def integers(self, node: Node, attribute: str, place: int, default: Any = None) -> Any:
        """Integers that newer opsets pass as a constant and older ones as an attribute."""
        given = node.get(attribute)
        if given is None:
            found = self.tensor(node, place)
            return default if found is None else [int(v) for v in np.atleast_1d(found)[:64]]
        return given

    def add(
        self, node: Node, kind: str, arguments: dict[str, Any], weights: dict[str, Any] | None = None,
        inputs: Sequence[str] | None = None,
    ) -> None:  # fmt: skip
        """A step for this node, on its first input or on these; tried without memory at once."""
        names = list(node.inputs[:1] if inputs is None else inputs)
        given = [self.results[name] for name in names]
        with torch.device("meta"), torch.no_grad():
            layer = KINDS[kind](**arguments).eval()
            result = layer(*(x for _, x in given))
        if result.numel() > LARGEST:
            raise UnableError(f"gives {list(result.shape)}, more than {LARGEST} numbers")
        name = self._name(node)
        self.steps.append({"name": name, "kind": kind, "arguments": arguments, "inputs": [step for step, _ in given]})
        self._keep(name, layer, weights or {})
        self.results[node.outputs[0]] = (name, result)

    def _keep(self, name: str, layer: nn.Module, weights: dict[str, Any]) -> None:
        for key, expected in layer.state_dict().items():
            if key == "num_batches_tracked":
                self.weights[f"{name}.{key}"] = torch.zeros((), dtype=torch.int64)
                continue
            value = torch.from_numpy(np.ascontiguousarray(weights[key], np.float32).copy())
            if value.shape != expected.shape:
                raise UnableError(f"has a {key} of {list(value.shape)}, not {list(expected.shape)}")
            self.weights[f"{name}.{key}"] = value

    def _name(self, node: Node) -> str:
        stem: str = re.sub(r"\W+", "_", node.name or node.outputs[0]).strip("_")[-40:] or "step"
        taken = (
            {step["name"] for step in self.steps}
            | {INPUT}
            | set(dir(nn.Module))
            | {"steps", "output", "run", "training"}
        )
        name: str = stem if not stem[0].isdigit() else f"n{stem}"
        while name in taken:
            name = f"{stem}_{len(self.steps)}"
        return name

    def operand(self, node: Node, place: int) -> str:
        """The name of a result: of a computed one, or of a constant that becomes a step of its own."""
        name = node.inputs[place]
        if name not in self.results:
            value = np.asarray(self.tensor(node, place))
            if value.dtype != np.float32:
                raise UnableError(f"reads the constant {name!r} of the type {value.dtype}, not float32")
            constant = Node.__new__(Node)
            constant.name, constant.inputs, constant.outputs = name, [], [name]
            self.add(constant, "Constant", {"shape": list(value.shape)}, {"value": value})
        return str(name)

    # Shapes, which older exporters compute by nodes.

    def _entries(self, name: str) -> list[Entry] | None:
        if name in self.shapes:
            return self.shapes[name]
        value = self.tensors.get(name)
        if value is None or value.dtype.kind != "i" or value.size > 64 or value.ndim > 1:
            return None
        return [int(v) for v in np.atleast_1d(value)]

    def _shape(self, node: Node) -> bool:
        """Whether the node computes shapes: done here, without a step."""
        if node.op == "Shape" and node.inputs[0] in self.results:
            name, x = node.inputs[0], self.results[node.inputs[0]][1]
            axes: list[Entry] = [(name, axis) for axis in range(x.ndim)]
            self.shapes[node.outputs[0]] = axes[node.get("start", 0) : node.get("end")]
            return True
        entries = [self._entries(name) for name in node.inputs if name]
        if not entries or not any(name in self.shapes for name in node.inputs) or None in entries:
            return False
        first, *rest = [entry for entry in entries if entry is not None]
        match node.op:
            case "Cast" | "Identity" | "Unsqueeze" | "Squeeze":
                result = first
            case "Concat":
                result = [entry for part in (first, *rest) for entry in part][:65]
            case "Gather":
                result = [first[index] for index in rest[0] if isinstance(index, int)]
            case "Slice" if all(isinstance(v, int) for part in rest for v in part):
                numbers: Any = rest
                result = first[numbers[0][0] : numbers[1][0] : numbers[3][0] if len(rest) > 3 else 1]
            case _:
                return False
        if len(result) > 64:
            raise UnableError("makes a shape of more than 64 axes")
        self.shapes[node.outputs[0]] = result
        return True

    def _number(self, name: str) -> Any:
        """A constant, or sizes that are known as the size of pictures is; None for what depends on the batch."""
        if name not in self.shapes:
            return self.tensors.get(name)
        entries = self.shapes[name]
        if any(not isinstance(entry, int) and entry[1] == 0 for entry in entries):
            return None
        sizes = [e if isinstance(e, int) else self.results[e[0]][1].shape[e[1]] for e in entries]
        return np.array(sizes[0] if len(sizes) == 1 else sizes, np.int64)

    def _fold(self, node: Node) -> bool:
        """Whether the node computes numbers from sizes alone: done here, for pictures of this size."""
        given = [self._number(name) for name in node.inputs if name]
        if node.op not in FOLDED or not given or any(value is None for value in given):
            return False
        self.tensors[node.outputs[0]] = np.asarray(folded(node.op, node.get, given))
        note = f"what it computes from sizes is taken as it is for pictures of {'×'.join(map(str, self.size))}"
        if any(name in self.shapes for name in node.inputs) and note not in self.notes:
            self.notes.append(note)
        return True


def _constant(node: Node) -> Any:
    for name, kind in (("value", None), ("value_float", np.float32), ("value_floats", np.float32),
                       ("value_int", np.int64), ("value_ints", np.int64)):  # fmt: skip
        value = node.get(name)
        if value is not None:
            return value if kind is None else np.asarray(value, kind)
    raise UnableError("holds no numbers")
