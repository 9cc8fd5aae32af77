"""The nodes of convolutional networks, each as a layer: a function (reader, node) for every operator of ONNX."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np


class UnableError(Exception):
    """Why a node can't be read: goes on "it …"."""


def _window(node: Any, ndim: int, keep: str = "stride") -> dict[str, Any]:
    """Stride, dilation and padding of a convolution or pooling, in torch's words."""
    auto = node.get("auto_pad", "NOTSET")
    pads = node.get("pads") or [0] * (2 * ndim)
    strides, dilations = node.get("strides") or [1] * ndim, node.get("dilations") or [1] * ndim
    if len(pads) != 2 * ndim or len(strides) != ndim or len(dilations) != ndim:
        raise UnableError(f"has pads {pads}, strides {strides} and dilations {dilations} for {ndim} axes")
    padding: Any = [[before, after] for before, after in zip(pads[:ndim], pads[ndim:], strict=True)]
    if auto != "NOTSET":
        padding = {"SAME_UPPER": "same_upper", "SAME_LOWER": "same_lower", "VALID": 0}.get(auto)
        if padding is None:
            raise UnableError(f"has the unknown auto_pad {auto!r}")
    return {keep: strides, "dilation": dilations, "padding": padding}


def _convolution(reader: Any, node: Any) -> None:
    reader.activation(node)
    weight, bias = reader.weight(node, 1), reader.tensor(node, 2)
    ndim, groups = weight.ndim - 2, node.get("group", 1)
    transposed = node.op == "ConvTranspose"
    outputs, inputs = weight.shape[:2]
    inputs, outputs = (outputs, inputs * groups) if transposed else (inputs * groups, outputs)
    arguments = {
        "in_channels": inputs, "out_channels": outputs, "kernel_size": list(weight.shape[2:]), "groups": groups,
        "bias": bias is not None, **_window(node, ndim),
    }  # fmt: skip
    if transposed:
        if node.get("output_shape") is not None or isinstance(arguments["padding"], str):
            raise UnableError("chooses its padding by the output's shape")
        arguments["output_padding"] = node.get("output_padding") or [0] * ndim
        if arguments["padding"] == 0:
            arguments["padding"] = [[0, 0]] * ndim
    weights = {"weight": weight} | ({} if bias is None else {"bias": bias})
    reader.add(node, f"{node.op}{ndim}d", arguments, weights)


def _pool(reader: Any, node: Any) -> None:
    ndim = reader.activation(node).ndim - 2
    kernel = node.get("kernel_shape")
    arguments = {"kernel_size": kernel, **_window(node, ndim), "ceil_mode": bool(node.get("ceil_mode", 0))}
    kind = {"MaxPool": "MaxPool", "AveragePool": "AvgPool", "LpPool": "LPPool"}[node.op]
    if node.op == "AveragePool":
        arguments["count_include_pad"] = bool(node.get("count_include_pad", 0))
    if node.op == "LpPool":
        arguments["norm_type"] = node.get("p", 2)
    reader.add(node, f"{kind}{ndim}d", arguments)


def _global(reader: Any, node: Any) -> None:
    ndim = reader.activation(node).ndim - 2
    kind = {"GlobalMaxPool": "GlobalMaxPool", "GlobalAveragePool": "GlobalAvgPool", "GlobalLpPool": "GlobalLPPool"}
    arguments = {"norm_type": node.get("p", 2)} if node.op == "GlobalLpPool" else {}
    reader.add(node, f"{kind[node.op]}{ndim}d", arguments)


def _pad(reader: Any, node: Any) -> None:
    rank = reader.activation(node).ndim
    pads = reader.integers(node, "pads", 1)
    axes = reader.tensor(node, 3)
    axes = list(range(rank)) if axes is None else [int(axis) % rank for axis in axes]
    pairs = dict(zip(axes, zip(pads[: len(axes)], pads[len(axes) :], strict=True), strict=True))
    if any(pairs.get(axis, (0, 0)) != (0, 0) for axis in (0, 1)):
        raise UnableError("pads the batch or the channels")
    modes = {"constant": "zeros", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}
    mode = modes.get(node.get("mode", "constant"))
    if mode is None or rank < 3:
        raise UnableError(f"pads {rank} axes in the mode {node.get('mode')!r}")
    value = reader.tensor(node, 2)
    value = node.get("value", 0.0) if value is None else float(np.reshape(value, -1)[0])
    padding = [side for axis in range(rank - 1, 1, -1) for side in pairs.get(axis, (0, 0))]
    if mode == "zeros" and not math.isfinite(value):
        raise UnableError(f"pads with {value}")
    reader.add(node, f"Pad{rank - 2}d", {"padding": padding, "mode": mode, "value": value})


def _batch_norm(reader: Any, node: Any) -> None:
    ndim = max(1, reader.activation(node).ndim - 2)
    scale, bias, mean, variance = (reader.weight(node, place) for place in (1, 2, 3, 4))
    if node.get("training_mode", 0):
        raise UnableError("is in training mode")
    weights = {"weight": scale, "bias": bias, "running_mean": mean, "running_var": variance}
    reader.add(node, f"BatchNorm{ndim}d", {"num_features": len(scale), "eps": node.get("epsilon", 1e-5)}, weights)


def _gemm(reader: Any, node: Any) -> None:
    if node.get("transA", 0):
        raise UnableError("transposes its input")
    weight = reader.weight(node, 1) * np.float32(node.get("alpha", 1.0))
    weight = weight if node.get("transB", 0) else weight.T
    bias = reader.tensor(node, 2)
    weights = {"weight": weight}
    if bias is not None:
        if bias.size not in (1, len(weight)):
            raise UnableError(f"adds {list(bias.shape)} to {len(weight)} features")
        weights["bias"] = np.broadcast_to(np.reshape(bias, -1) * np.float32(node.get("beta", 1.0)), (len(weight),))
    sizes = {"in_features": weight.shape[1], "out_features": weight.shape[0]}
    reader.add(node, "Linear", {**sizes, "bias": bias is not None}, weights)


def _matmul(reader: Any, node: Any) -> None:
    weight = reader.tensors.get(node.inputs[1])
    if weight is None or weight.ndim != 2:
        reader.add(
            node, "Calculation", {"function": "matmul"}, inputs=[reader.operand(node, 0), reader.operand(node, 1)]
        )
        return
    reader.activation(node)
    sizes = {"in_features": weight.shape[0], "out_features": weight.shape[1]}
    reader.add(node, "Linear", {**sizes, "bias": False}, {"weight": weight.T})


def _calculated(function: str, **attributes: Any) -> Callable[[Any, Any], None]:
    def read(reader: Any, node: Any) -> None:
        arguments = {name: node.get(attribute, default) for name, (attribute, default) in attributes.items()}
        inputs = [reader.operand(node, place) for place in range(len(node.inputs))]
        reader.add(node, "Calculation", {"function": function, **arguments}, inputs=inputs)

    return read


def _layer(kind: str, **attributes: Any) -> Callable[[Any, Any], None]:
    def read(reader: Any, node: Any) -> None:
        reader.activation(node)
        reader.add(
            node, kind, {name: node.get(attribute, default) for name, (attribute, default) in attributes.items()}
        )

    return read


def _gelu(reader: Any, node: Any) -> None:
    reader.activation(node)
    reader.add(node, "GELU", {"approximate": node.get("approximate", "none")})


def _hard_sigmoid(reader: Any, node: Any) -> None:
    reader.activation(node)
    alpha, beta = node.get("alpha", 0.2), node.get("beta", 0.5)
    if abs(alpha - 1 / 6) < 1e-7 and beta == 0.5:
        reader.add(node, "Hardsigmoid", {})
    else:
        reader.add(node, "Calculation", {"function": "hardsigmoid", "alpha": alpha, "beta": beta})


def _clip(reader: Any, node: Any) -> None:
    reader.activation(node)
    low, high = (
        float(np.reshape(value, -1)[0]) if value is not None else node.get(name)
        for name, value in (("min", reader.tensor(node, 1)), ("max", reader.tensor(node, 2)))
    )
    if (low, high) == (0.0, 6.0):
        reader.add(node, "ReLU6", {})
    elif low is None and high is None:
        reader.add(node, "Identity", {})
    else:
        reader.add(node, "Calculation", {"function": "clip", "low": low, "high": high})


def _prelu(reader: Any, node: Any) -> None:
    x, slope = reader.activation(node), reader.weight(node, 1)
    if slope.size not in (1, x.shape[1]) or (slope.size > 1 and slope.shape != (x.shape[1], *(1,) * (x.ndim - 2))):
        raise UnableError(f"has slopes of the shape {list(slope.shape)}, not one for each channel")
    reader.add(node, "PReLU", {"num_parameters": slope.size}, {"weight": slope.reshape(-1)})


def _softmax(reader: Any, node: Any) -> None:
    rank, old = reader.activation(node).ndim, reader.file.opset < 13
    axis = node.get("axis", 1 if old else -1) % rank
    if old and axis != rank - 1:
        raise UnableError("takes several axes together")
    reader.add(node, "Softmax", {"dim": axis})


def _flatten(reader: Any, node: Any) -> None:
    if node.get("axis", 1) % max(1, reader.activation(node).ndim) != 1:
        raise UnableError(f"flattens from the axis {node.get('axis')}, not from 1")
    reader.add(node, "Flatten", {})


def _reshape(reader: Any, node: Any) -> None:
    x, entries = reader.activation(node), reader._entries(node.inputs[1])
    if entries is None or (node.get("allowzero", 0) and 0 in entries):
        raise UnableError("has a shape that is neither constant nor made of sizes")
    inputs: list[str] = [node.inputs[0]]
    shape: list[Any] = []
    for entry in entries:
        if isinstance(entry, int):
            shape.append(entry)
        else:
            if entry[0] not in inputs:
                inputs.append(entry[0])
            shape.append([inputs.index(entry[0]), entry[1]])
    if reader.fixed_batch and shape and shape[0] == reader.fixed_batch == x.shape[0] and shape.count(0) == 0:
        shape[0] = 0
        note = f"the batch size {reader.fixed_batch} of the file is left open"
        if note not in reader.notes:
            reader.notes.append(note)
    reader.add(node, "Calculation", {"function": "reshape", "shape": shape}, inputs=inputs)


def _transpose(reader: Any, node: Any) -> None:
    rank = reader.activation(node).ndim
    reader.add(node, "Calculation", {"function": "transpose", "axes": node.get("perm") or list(range(rank))[::-1]})


def _squeeze(reader: Any, node: Any) -> None:
    reader.activation(node)
    axes = reader.integers(node, "axes", 1)
    if axes is None:
        raise UnableError("names no axes")
    reader.add(node, "Calculation", {"function": node.op.lower(), "axes": axes})


def _mean(reader: Any, node: Any) -> None:
    rank = reader.activation(node).ndim
    axes = reader.integers(node, "axes", 1) or list(range(rank))
    keep = bool(node.get("keepdims", 1))
    if keep and 3 <= rank <= 5 and sorted(axis % rank for axis in axes) == list(range(2, rank)):
        reader.add(node, f"GlobalAvgPool{rank - 2}d", {})
    else:
        reader.add(node, "Calculation", {"function": "mean", "axes": axes, "keepdim": keep})


def _concat(reader: Any, node: Any) -> None:
    inputs = [reader.operand(node, place) for place in range(len(node.inputs))]
    reader.add(node, "Calculation", {"function": "concat", "axis": node.get("axis")}, inputs=inputs)


def _lrn(reader: Any, node: Any) -> None:
    reader.activation(node)
    size = node.get("size")
    if not size or size % 2 == 0:
        raise UnableError(f"normalises over {size} channels, not over an odd number")
    arguments = {"alpha": node.get("alpha", 1e-4), "beta": node.get("beta", 0.75), "k": node.get("bias", 1.0)}
    reader.add(node, "LocalResponseNorm", {"size": size, **arguments})


def _resize(reader: Any, node: Any) -> None:
    rank = reader.activation(node).ndim
    scales = reader.tensor(node, 1 if node.op == "Upsample" or reader.file.opset < 11 else 2)
    scales = node.get("scales") if scales is None else [float(scale) for scale in scales]
    mode, where, nearest = (
        node.get(key, default)
        for key, default in (("mode", "nearest"), ("coordinate_transformation_mode", "half_pixel"),
                             ("nearest_mode", "round_prefer_floor"))
    )  # fmt: skip
    whole = scales is not None and len(scales) == rank and all(scale == int(scale) >= 1 for scale in scales)
    repeats = reader.file.opset < 11 or (where, nearest) in {
        ("asymmetric", "floor"), ("half_pixel", "round_prefer_floor"), ("half_pixel", "round_prefer_ceil"),
        ("pytorch_half_pixel", "round_prefer_floor"),
    }  # fmt: skip
    if mode != "nearest" or not whole or not repeats or list(scales[:2]) != [1.0, 1.0]:
        raise UnableError(f"resizes by {scales} ({mode}, {where}, {nearest}); whole numbers and 'nearest' are read")
    reader.add(node, "Upsample", {"scale_factor": [int(scale) for scale in scales[2:]], "mode": "nearest"})


READERS: dict[str, Callable[[Any, Any], None]] = {
    "Conv": _convolution, "ConvTranspose": _convolution, "Pad": _pad, "BatchNormalization": _batch_norm,
    "MaxPool": _pool, "AveragePool": _pool, "LpPool": _pool,
    "GlobalMaxPool": _global, "GlobalAveragePool": _global, "GlobalLpPool": _global,
    "Gemm": _gemm, "MatMul": _matmul, "Flatten": _flatten, "Reshape": _reshape, "Transpose": _transpose,
    "Squeeze": _squeeze, "Unsqueeze": _squeeze, "Concat": _concat, "ReduceMean": _mean, "LRN": _lrn,
    "Resize": _resize, "Upsample": _resize, "Softmax": _softmax, "PRelu": _prelu, "Clip": _clip,
    "HardSigmoid": _hard_sigmoid, "Gelu": _gelu,
    "Relu": _layer("ReLU"), "Sigmoid": _layer("Sigmoid"), "Tanh": _layer("Tanh"), "HardSwish": _layer("Hardswish"),
    "LeakyRelu": _layer("LeakyReLU", negative_slope=("alpha", 0.01)), "Elu": _layer("ELU", alpha=("alpha", 1.0)),
    "Dropout": _layer("Identity"), "Identity": _layer("Identity"),
    **{name: _calculated(name.lower()) for name in
       ("Add", "Sub", "Mul", "Div", "Pow", "Sqrt", "Exp", "Erf", "Neg", "Abs", "Max", "Min")},
}  # fmt: skip
