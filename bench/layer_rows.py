"""The layers that are timed: data, and the numbers they are timed on."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Row:
    """A layer on inputs of one size.

    Args:
        group, name: for the table.
        kind: "conv", "block" (convolution + bias → ReLU → maximum pooling), "transposed", "unshared", "linear",
            "max", "average", "global average", "lp" (the 2-norm), "weighted" (an average), "stochastic", "k-max".
        inputs: channels of the input.
        size: the input's spatial size.
        outputs: channels of the output, if the layer has weights.
        kernel: its size on each axis; for "k-max" it is k.
        stride, padding, dilation: on every axis.
        groups: of channels.
        mode: of padding.
        pool: size and stride of the pooling of a "block".
        batches: inputs at a time.
    """

    group: str
    name: str
    kind: str
    inputs: int
    size: tuple[int, ...]
    outputs: int = 0
    kernel: int = 1
    stride: int = 1
    padding: int = 0
    dilation: int = 1
    groups: int = 1
    mode: str = "zeros"
    pool: int = 1
    batches: tuple[int, ...] = (1, 8)

    @property
    def ndim(self) -> int:
        """Spatial axes."""
        return len(self.size)

    @property
    def taps(self) -> int:
        """Of a window."""
        return int(self.kernel**self.ndim)

    def macs(self, batch: int, places: int) -> int:
        """Multiply-adds of a layer with weights, padding counted; `places` are its output's, on all axes together."""
        match self.kind:
            case "conv" | "block" | "unshared" | "linear":
                return batch * places * self.pool**self.ndim * self.outputs * self.inputs // self.groups * self.taps
            case "transposed":
                return batch * math.prod(self.size) * self.inputs * self.outputs // self.groups * self.taps
        return 0


def _row(group: str, name: str, kind: str, inputs: int, size: int, **numbers: object) -> Row:
    return Row(group, name, kind, inputs, (size, size), **numbers)  # type: ignore[arg-type]


def _square(inputs: int, outputs: int, size: int, kernel: int) -> Row:
    """A convolution that keeps the size."""
    name = f"{kernel}×{kernel} {size}² {inputs}→{outputs}"
    return _row(f"{kernel}×{kernel}", name, "conv", inputs, size, outputs=outputs, kernel=kernel, padding=kernel // 2)


def _depthwise(channels: int, size: int, kernel: int, stride: int = 1) -> Row:
    name = f"{kernel}×{kernel}{f'/{stride}' if stride > 1 else ''} {size}² ×{channels}"
    numbers = {"outputs": channels, "kernel": kernel, "stride": stride, "padding": kernel // 2, "groups": channels}
    return _row("depthwise", name, "conv", channels, size, **numbers)


def _groups(inputs: int, outputs: int, groups: int, size: int) -> Row:
    name = f"3×3 {groups} groups {size}² {inputs}→{outputs}"
    return _row("groups", name, "conv", inputs, size, outputs=outputs, kernel=3, padding=1, groups=groups)


def _pool(name: str, kind: str, channels: int, size: int, kernel: int = 2, stride: int = 2, padding: int = 0) -> Row:
    name = f"{name} {size}² ×{channels}"
    return _row("pooling", name, kind, channels, size, kernel=kernel, stride=stride, padding=padding)


ROWS: tuple[Row, ...] = (
    _row("first layers", "7×7/2 224² 3→64", "conv", 3, 224, outputs=64, kernel=7, stride=2, padding=3),
    _row("first layers", "11×11/4 224² 3→64", "conv", 3, 224, outputs=64, kernel=11, stride=4, padding=2),
    _row("first layers", "5×5 28² 1→32", "conv", 1, 28, outputs=32, kernel=5, padding=2),
    _square(64, 64, 56, 3),
    _square(128, 128, 28, 3),
    _square(256, 256, 14, 3),
    _square(512, 512, 7, 3),
    _square(64, 256, 56, 1),
    _square(256, 64, 56, 1),
    _square(512, 2048, 7, 1),
    _row("5×5", "5×5 14² 32→64", "conv", 32, 14, outputs=64, kernel=5, padding=2),
    _row("5×5", "5×5 2 groups 27² 96→256", "conv", 96, 27, outputs=256, kernel=5, padding=2, groups=2),
    *(_depthwise(c, n, 3, s) for c, n in ((128, 56), (32, 112)) for s in (1, 2)),
    _depthwise(96, 56, 7),
    _depthwise(64, 28, 31),
    *(_groups(*numbers) for numbers in ((128, 128, 32, 56), (256, 256, 32, 28), (128, 128, 64, 56), (32, 96, 32, 56))),
    _row("others", "transposed 4×4/2 28² 128→64", "transposed", 128, 28, outputs=64, kernel=4, stride=2, padding=1),
    _row("others", "3×3 dilated 2 28² 128→128", "conv", 128, 28, outputs=128, kernel=3, padding=2, dilation=2),
    _row("others", "unshared 3×3 14² 32→32", "unshared", 32, 14, outputs=32, kernel=3, padding=1),
    Row("others", "1-D 9 1024 64→64", "conv", 64, (1024,), outputs=64, kernel=9, padding=4),
    Row("others", "3-D 3×3×3 16·28² 16→16", "conv", 16, (16, 28, 28), outputs=16, kernel=3, padding=1),
    Row("others", "linear 512→1000", "linear", 512, (), outputs=1000, batches=(1, 64)),
    *(
        _row("padding modes", f"3×3 {mode} 56² 64→64", "conv", 64, 56, outputs=64, kernel=3, padding=1, mode=mode)
        for mode in ("zeros", "replicate", "reflect", "symmetric", "circular")
    ),
    *(
        row
        for channels, size in ((64, 56), (64, 112))
        for row in (
            _pool("max 2×2/2", "max", channels, size),
            _pool("max 3×3/2", "max", channels, size, 3, padding=1),
            _pool("average 2×2/2", "average", channels, size),
            _pool("global average", "global average", channels, size),
            _pool("Lp 2 2×2/2", "lp", channels, size),
            _pool("weighted 2×2/2", "weighted", channels, size),
            _pool("stochastic 2×2/2", "stochastic", channels, size),
        )
    ),
    Row("pooling", "k-max 5 of 256 ×64", "k-max", 64, (256,), kernel=5),
    _row("conv+ReLU+max 2×2", "LeNet 1 5×5 28² 1→20", "block", 1, 28, outputs=20, kernel=5, pool=2),
    _row("conv+ReLU+max 2×2", "LeNet 2 5×5 12² 20→50", "block", 20, 12, outputs=50, kernel=5, pool=2),
    _row("conv+ReLU+max 2×2", "block 3×3 56² 64→64", "block", 64, 56, outputs=64, kernel=3, padding=1, pool=2),
)


def chosen(pattern: str) -> list[Row]:
    """The rows in whose group and name, written "group: name", the pattern stands; all for ""."""
    return [row for row in ROWS if pattern.lower() in f"{row.group}: {row.name}".lower()]


def arrays(row: Row, batch: int) -> Arrays:
    """Input "x" [batch, inputs, *size] and, if the layer has them, "weight" and "bias": the same on every run.

    Weights are scaled so that outputs are about as large as inputs. Layouts are torch's; of an unshared layer
    [*size, outputs, inputs, *kernel], of a weighted pooling [inputs, *kernel] with sum 1.
    """
    random = np.random.default_rng(0)
    x = random.standard_normal((batch, row.inputs, *row.size), dtype=np.float32)
    if row.kind == "stochastic":  # draws from positive numbers
        x = np.abs(x)
    kernel, per_group = (row.kernel,) * row.ndim, row.inputs // row.groups
    shapes = {
        "transposed": (row.inputs, row.outputs // row.groups, *kernel),
        "unshared": (*row.size, row.outputs, row.inputs, *kernel),
        "weighted": (row.inputs, *kernel),
    }
    if row.kind == "weighted":
        weight = random.random(shapes[row.kind], dtype=np.float32) + 0.5
        return {"x": x, "weight": weight / weight.reshape(row.inputs, -1).sum(1).reshape(-1, *(1 for _ in kernel))}
    if not row.outputs:
        return {"x": x}
    weight = random.standard_normal(shapes.get(row.kind, (row.outputs, per_group, *kernel)), dtype=np.float32)
    bias = (*row.size, row.outputs) if row.kind == "unshared" else (row.outputs,)
    return {
        "x": x,
        "weight": weight / np.float32(math.sqrt(per_group * row.taps)),
        "bias": random.standard_normal(bias, dtype=np.float32),
    }
