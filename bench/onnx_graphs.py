"""The layers as ONNX graphs, for the runtimes that read them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from layer_rows import Arrays, Row
from onnx import TensorProto, helper, numpy_helper

OPSET, IR = 19, 9
PAD_MODES = {"replicate": "edge", "reflect": "reflect", "symmetric": "edge", "circular": "wrap"}


class Graph:
    """Nodes in the order they are added; each is known by its output's name."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, value: np.ndarray) -> str:
        """A tensor that is part of the graph."""
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def numbers(self, *values: int) -> str:
        """A constant int64 vector."""
        return self.constant(np.array(values, dtype=np.int64))

    def add(self, kind: str, *inputs: str, outputs: int = 1, **attributes: object) -> str:
        """A node; the name of its last output."""
        names = [f"n{len(self.nodes)}.{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, **attributes))
        return names[-1]

    def model(self, x: np.ndarray, result: str) -> bytes:
        """The model that maps "x" to "y"."""
        self.nodes.append(helper.make_node("Identity", [result], ["y"]))
        if self.nodes[-2].output[-1] == result:
            self.nodes.pop()
            self.nodes[-1].output[-1] = "y"
        graph = helper.make_graph(
            self.nodes,
            "layer",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * x.ndim)],
            self.constants,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)
        model = onnx.shape_inference.infer_shapes(model, strict_mode=True)
        onnx.checker.check_model(model)
        return bytes(model.SerializeToString())


def ways(row: Row) -> dict[str, Callable[[Row, Arrays], bytes]]:
    """How the layer can be written, the direct way first."""
    if row.kind == "lp":
        return {"LpPool": lambda r, a: _model(_lp_pool, r, a), "√(4·mean x²)": lambda r, a: _model(_root_mean, r, a)}
    if row.mode == "circular":
        return {"Pad": lambda r, a: _model(_convolution, r, a), "Slice, Concat": lambda r, a: _model(_wrapped, r, a)}
    build = {
        "conv": _convolution,
        "block": _block,
        "transposed": _transposed,
        "unshared": _unshared,
        "linear": _linear,
        "max": _max,
        "average": _average,
        "global average": lambda g, _, __, x: g.add("GlobalAveragePool", x),
        "weighted": _weighted,
        "stochastic": _stochastic,
        "k-max": _k_max,
    }[row.kind]
    return {"": lambda r, a: _model(build, r, a)}


def _model(build: Callable[[Graph, Row, Arrays, str], str], row: Row, arrays: Arrays) -> bytes:
    graph = Graph()
    return graph.model(arrays["x"], build(graph, row, arrays, "x"))


def _convolution(g: Graph, row: Row, arrays: Arrays, x: str, padded: bool = False) -> str:
    padding = row.padding
    if row.mode != "zeros":
        around = (0, 0, *(padding,) * row.ndim) * 2
        x = x if padded else g.add("Pad", x, g.numbers(*around), mode=PAD_MODES[row.mode])
        padding = 0
    return g.add(
        "Conv",
        x,
        g.constant(arrays["weight"]),
        g.constant(arrays["bias"]),
        kernel_shape=[row.kernel] * row.ndim,
        strides=[row.stride] * row.ndim,
        pads=[padding] * (2 * row.ndim),
        dilations=[row.dilation] * row.ndim,
        group=row.groups,
    )


def _wrapped(g: Graph, row: Row, arrays: Arrays, x: str) -> str:
    for axis, size in enumerate(row.size, 2):
        ends = [g.add("Slice", x, g.numbers(a), g.numbers(b), g.numbers(axis)) for a, b in
                ((size - row.padding, size), (0, row.padding))]  # fmt: skip
        x = g.add("Concat", ends[0], x, ends[1], axis=axis)
    return _convolution(g, row, arrays, x, padded=True)


def _block(g: Graph, row: Row, arrays: Arrays, x: str) -> str:
    y = g.add("Relu", _convolution(g, row, arrays, x))
    return g.add("MaxPool", y, kernel_shape=[row.pool] * row.ndim, strides=[row.pool] * row.ndim)


def _transposed(g: Graph, row: Row, arrays: Arrays, x: str) -> str:
    return g.add(
        "ConvTranspose",
        x,
        g.constant(arrays["weight"]),
        g.constant(arrays["bias"]),
        kernel_shape=[row.kernel] * row.ndim,
        strides=[row.stride] * row.ndim,
        pads=[row.padding] * (2 * row.ndim),
    )


def _unshared(g: Graph, row: Row, arrays: Arrays, x: str) -> str:
    """Slices of the padded input side by side, then for each place a matrix product of its own."""
    batch, (height, width) = arrays["x"].shape[0], row.size
    x = g.add("Pad", x, g.numbers(0, 0, row.padding, row.padding, 0, 0, row.padding, row.padding), mode="constant")
    taps = [
        g.add("Slice", x, g.numbers(i, j), g.numbers(i + height, j + width), g.numbers(2, 3))
        for i in range(row.kernel)
        for j in range(row.kernel)
    ]
    columns = g.add("Reshape", g.add("Concat", *taps, axis=1), g.numbers(batch, -1, height * width))
    weight = np.moveaxis(arrays["weight"], 3, 5)  # [height, width, outputs, *kernel, inputs]
    weight = weight.reshape(height * width, row.outputs, -1).transpose(0, 2, 1)
    y = g.add("MatMul", g.add("Transpose", columns, perm=[2, 0, 1]), g.constant(weight))
    y = g.add("Add", y, g.constant(arrays["bias"].reshape(height * width, 1, row.outputs)))
    return g.add("Reshape", g.add("Transpose", y, perm=[1, 2, 0]), g.numbers(batch, row.outputs, height, width))


def _linear(g: Graph, row: Row, arrays: Arrays, x: str) -> str:
    del row
    return g.add("Gemm", x, g.constant(arrays["weight"]), g.constant(arrays["bias"]), transB=1)


def _window(row: Row) -> dict[str, object]:
    pads = [row.padding] * (2 * row.ndim)
    return {"kernel_shape": [row.kernel] * row.ndim, "strides": [row.stride] * row.ndim, "pads": pads}


def _max(g: Graph, row: Row, arrays: Arrays, x: str) -> str:
    del arrays
    return g.add("MaxPool", x, **_window(row))


def _average(g: Graph, row: Row, arrays: Arrays, x: str) -> str:
    del arrays
    return g.add("AveragePool", x, **_window(row))


def _lp_pool(g: Graph, row: Row, arrays: Arrays, x: str) -> str:
    del arrays
    return g.add("LpPool", x, p=2, **_window(row))


def _root_mean(g: Graph, row: Row, arrays: Arrays, x: str) -> str:
    mean = _average(g, row, arrays, g.add("Mul", x, x))
    return g.add("Sqrt", g.add("Mul", mean, g.constant(np.float32(row.taps))))


def _weighted(g: Graph, row: Row, arrays: Arrays, x: str) -> str:
    return g.add("Conv", x, g.constant(arrays["weight"][:, None]), group=row.inputs, **_window(row))


def _stochastic(g: Graph, row: Row, arrays: Arrays, x: str) -> str:
    """The smallest of exponential variables −log u / x, which is at each place with probability ∝ x."""
    batch, channels, height, width = arrays["x"].shape
    k, rows, columns = row.kernel, height // row.kernel, width // row.kernel
    windows = g.add("Reshape", x, g.numbers(batch, channels, rows, k, columns, k))
    windows = g.add("Transpose", windows, perm=[0, 1, 2, 4, 3, 5])
    windows = g.add("Reshape", windows, g.numbers(batch, channels, rows, columns, k * k))
    waiting = g.add("Neg", g.add("Log", g.add("RandomUniformLike", windows)))
    drawn = g.add("ArgMax", g.add("Div", windows, waiting), axis=-1, keepdims=1)
    y = g.add("GatherElements", windows, drawn, axis=-1)
    return g.add("Reshape", y, g.numbers(batch, channels, rows, columns))


def _k_max(g: Graph, row: Row, arrays: Arrays, x: str) -> str:
    """The places of the k largest, put in order, and what stands there."""
    del arrays
    places = g.add("TopK", x, g.numbers(row.kernel), outputs=2, axis=-1)
    g.nodes.append(helper.make_node("TopK", [places, g.numbers(row.kernel)], ["sorted", "order"], axis=-1, largest=0))
    return g.add("GatherElements", x, "sorted", axis=-1)
