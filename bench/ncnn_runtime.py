"""ncnn as a peer: it reads a text of its own, a line for each layer, and a file with the weights."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
from layer_rows import Arrays, Row
from peers import NOT_HERE, Call, CannotError, Peer, Ways

PADDINGS = {"replicate": 1, "symmetric": 1, "reflect": 2}  # ncnn's numbers; symmetric of width 1 is replication


class Ncnn(Peer):
    """float32, one input after the other; channels as they are and in packets, with or without large Winograd tiles."""

    distribution = "ncnn"

    def __init__(self, threads: int, scratch: Path) -> None:
        import ncnn

        super().__init__(threads, scratch)
        self.ncnn = ncnn

    def ways(self, row: Row, arrays: Arrays) -> Ways:
        lines, weights = _layers(row, arrays)
        text = f"7767517\n{len(lines) + 1} {len(lines) + 1}\nInput x 0 1 b0\n" + "\n".join(lines) + "\n"
        tiles = (True, False) if row.kind in ("conv", "block") and row.kernel == 3 else (True,)
        for packed in (False, True):
            for largest in tiles:
                name = f"{'channel packets' if packed else 'channels first'}{'' if largest else ', smaller tiles'}"
                yield name, lambda p=packed, t=largest: self.load(text, len(lines), weights, arrays["x"], p, t)

    def load(self, text: str, last: int, weights: bytes, x: np.ndarray, packed: bool, largest: bool) -> Call:
        """The call of a net on x [N, C, *size]; `last` is the number of its last blob."""
        ncnn, file, output = self.ncnn, self.scratch / "weights", f"b{last}"
        net = ncnn.Net()
        net.opt.num_threads = self.threads
        for option in dir(net.opt):
            if option.startswith(("use_fp16", "use_bf16", "use_int8", "use_vulkan")):
                setattr(net.opt, option, False)
        net.opt.use_winograd63_convolution = largest
        file.write_bytes(weights)
        if net.load_param_mem(text) != 0 or net.load_model(str(file)) != 0:
            raise CannotError("ncnn can't load it")
        inputs = [ncnn.Mat(image).clone() for image in x]
        if packed:
            lanes = next((n for n in (16, 8, 4) if x.shape[1] % n == 0), 1)
            if lanes == 1 or x.ndim < 3:
                raise CannotError(NOT_HERE)
            inputs = [self._converted(image, lanes) for image in inputs]

        def run() -> list[Any]:
            answers = []
            for image in inputs:
                extractor = net.create_extractor()
                extractor.input("b0", image)
                answers.append(extractor.extract(output, int(packed)))
            return answers

        def result(answers: list[Any]) -> np.ndarray:
            if any(code != 0 for code, _ in answers):
                raise CannotError("ncnn can't compute it")
            y = np.stack([np.array(self._converted(image, 1).numpy()) for _, image in answers])
            return y.reshape(*y.shape, *(1,) * (x.ndim - y.ndim))  # a global average comes back as a line

        return Call(run, result)

    def _converted(self, image: Any, lanes: int) -> Any:
        """The same numbers with so many channels in a packet."""
        if image.elempack == lanes:
            return image
        converted = self.ncnn.Mat()
        self.ncnn.convert_packing(image, converted, lanes)
        return converted


def _layers(row: Row, arrays: Arrays) -> tuple[list[str], bytes]:
    """The net's lines, blob b0 the input, and its weights."""
    lines: list[str] = []

    def add(kind: str, **numbers: int) -> None:
        at = len(lines)
        of = " ".join(f"{name[1:]}={value}" for name, value in numbers.items())
        lines.append(f"{kind} l{at} 1 1 b{at} b{at + 1} {of}")

    weight, bias, weights = arrays.get("weight"), arrays.get("bias"), b""
    if weight is not None:
        # A transposed kernel is kept by outputs, too.
        order = np.swapaxes(weight, 0, 1) if row.kind == "transposed" else weight
        weights = (
            struct.pack("<I", 0) + np.ascontiguousarray(order).tobytes() + (b"" if bias is None else bias.tobytes())
        )
    window = {"_1": row.kernel, "_2": row.stride, "_3": row.padding}
    match row.kind:
        case "conv" | "block":
            padding = row.padding
            if row.mode in PADDINGS:
                add("Padding", **{f"_{side}": padding for side in range(4)}, _4=PADDINGS[row.mode])
                padding = 0
            elif row.mode != "zeros":
                raise CannotError(f"ncnn has no padding {row.mode!r}")
            numbers = _convolution(row, row.outputs, padding, weight.size, has_bias=1)
            kind = {1: "Convolution1D", 2: "Convolution", 3: "Convolution3D"}[row.ndim]
            if row.groups > 1:
                kind, numbers = "ConvolutionDepthWise", {**numbers, "_7": row.groups}
            if row.kind == "block":
                numbers["_9"] = 1  # ReLU
            add(kind, **numbers)
            if row.kind == "block":
                add("Pooling", _0=0, _1=row.pool, _2=row.pool, _5=1)
        case "transposed":
            add("Deconvolution", **_convolution(row, row.outputs, row.padding, weight.size, has_bias=1))
        case "weighted":
            numbers = _convolution(row, row.inputs, row.padding, weight.size, has_bias=0)
            add("ConvolutionDepthWise", **numbers, _7=row.inputs)
        case "linear":
            add("InnerProduct", _0=row.outputs, _1=1, _2=weight.size)
        case "max":
            add("Pooling", _0=0, **window, _5=1)
        case "average":
            add("Pooling", _0=1, **window, _5=1, _6=1)
        case "global average":
            add("Pooling", _0=1, _4=1)
        case _:
            raise CannotError("ncnn has no such layer")
    return lines, weights


def _convolution(row: Row, outputs: int, padding: int, size: int, has_bias: int) -> dict[str, int]:
    return {
        "_0": outputs,
        "_1": row.kernel,
        "_2": row.dilation,
        "_3": row.stride,
        "_4": padding,
        "_5": has_bias,
        "_6": size,
    }
