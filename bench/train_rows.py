"""What `train.py` measures: single layers forward and backward, and whole steps of networks. Rows are data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Args:
        group: "layers" or "steps".
        name: as the table tells it.
        batch: pictures.
        shape: of one input, [C, *size].
        build: makes the module, of Svertka's layers; its input needs a gradient if it is a layer that isn't the first.
    """

    group: str
    name: str
    batch: int
    shape: tuple[int, ...]
    build: Callable[[], nn.Module]
    first: bool = False


class ConvNeXtLike(nn.Module):
    """A block of 7×7 depthwise, norm, 1×1 to four times the channels, GELU, 1×1, residual (Liu et al. 2022)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        from svertka.nn import Conv2d

        self.branch = nn.Sequential(
            Conv2d(channels, channels, 7, padding=3, groups=channels),
            nn.BatchNorm2d(channels),
            Conv2d(channels, 4 * channels, 1),
            nn.GELU(),
            Conv2d(4 * channels, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, height, width] → the same shape."""
        y: Tensor = x + self.branch(x)
        return y


def convnext(widths: Sequence[int] = (96, 192, 384, 768), depths: Sequence[int] = (1, 1, 3, 1)) -> nn.Module:
    """A network of such blocks: a stem of 4×4 patches, 2×2 patches between the stages."""
    from svertka.nn import Conv2d, GlobalAvgPool2d

    layers: list[nn.Module] = []
    inputs = 3
    for width, depth in zip(widths, depths, strict=True):
        size = 4 if inputs == 3 else 2
        layers += [Conv2d(inputs, width, size, stride=size), nn.BatchNorm2d(width)]
        layers += [ConvNeXtLike(width) for _ in range(depth)]
        inputs = width
    return nn.Sequential(*layers, GlobalAvgPool2d(), nn.Flatten(), nn.Linear(inputs, 1000))


def _conv(*arguments: Any, transposed: bool = False, **named: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        from svertka import nn as layers

        kind: Any = layers.ConvTranspose2d if transposed else layers.Conv2d
        return kind(*arguments, **named)  # type: ignore[no-any-return]

    return build


def _layer(name: str, *arguments: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        from svertka import nn as layers

        return getattr(layers, name, None)(*arguments) if hasattr(layers, name) else getattr(nn, name)(*arguments)  # type: ignore[no-any-return,misc]

    return build


def _model(name: str, **arguments: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        from svertka import models

        return models.create(name, arguments.pop("channels", 3), arguments.pop("classes", 1000), **arguments)

    return build


ROWS = (
    Row("layers", "5×5 28² 1→32", 64, (1, 28, 28), _conv(1, 32, 5, padding=2), first=True),
    Row("layers", "5×5 14² 32→64", 64, (32, 14, 14), _conv(32, 64, 5, padding=2)),
    Row("layers", "7×7/2 224² 3→64", 8, (3, 224, 224), _conv(3, 64, 7, 2, 3), first=True),
    Row("layers", "3×3 56² 64→64", 8, (64, 56, 56), _conv(64, 64, 3, padding=1)),
    Row("layers", "3×3/2 56² 64→128", 8, (64, 56, 56), _conv(64, 128, 3, 2, 1)),
    Row("layers", "3×3 28² 128→128", 8, (128, 28, 28), _conv(128, 128, 3, padding=1)),
    Row("layers", "3×3 14² 256→256", 8, (256, 14, 14), _conv(256, 256, 3, padding=1)),
    Row("layers", "3×3 7² 512→512", 8, (512, 7, 7), _conv(512, 512, 3, padding=1)),
    Row("layers", "1×1 56² 64→256", 8, (64, 56, 56), _conv(64, 256, 1)),
    Row("layers", "1×1 56² 256→64", 8, (256, 56, 56), _conv(256, 64, 1)),
    Row("layers", "1×1 7² 512→2048", 8, (512, 7, 7), _conv(512, 2048, 1)),
    Row("layers", "5×5 2 groups 27² 96→256", 8, (96, 27, 27), _conv(96, 256, 5, padding=2, groups=2)),
    Row("layers", "3×3 56² ×128", 8, (128, 56, 56), _conv(128, 128, 3, padding=1, groups=128)),
    Row("layers", "3×3/2 56² ×128", 8, (128, 56, 56), _conv(128, 128, 3, 2, 1, groups=128)),
    Row("layers", "3×3 14² ×512", 8, (512, 14, 14), _conv(512, 512, 3, padding=1, groups=512)),
    Row("layers", "7×7 56² ×96", 8, (96, 56, 56), _conv(96, 96, 7, padding=3, groups=96)),
    Row("layers", "31×31 28² ×64", 4, (64, 28, 28), _conv(64, 64, 31, padding=15, groups=64)),
    Row("layers", "transposed 4×4/2 28² 128→64", 8, (128, 28, 28), _conv(128, 64, 4, 2, 1, transposed=True)),
    Row("layers", "max 2×2/2 56² ×64", 8, (64, 56, 56), _layer("MaxPool2d", 2)),
    Row("layers", "average 2×2/2 56² ×64", 8, (64, 56, 56), _layer("AvgPool2d", 2)),
    Row("layers", "batch norm 56² ×64", 8, (64, 56, 56), _layer("BatchNorm2d", 64)),
    Row("layers", "batch norm 14² ×256", 8, (256, 14, 14), _layer("BatchNorm2d", 256)),
    Row("steps", "LeNet", 64, (1, 28, 28), _model("lenet", channels=1, classes=10, size=(28, 28))),
    Row("steps", "LeNet", 256, (1, 28, 28), _model("lenet", channels=1, classes=10, size=(28, 28))),
    Row("steps", "AlexNet", 8, (3, 224, 224), _model("alexnet")),
    Row("steps", "VGG-11", 4, (3, 224, 224), _model("vgg11")),
    Row("steps", "ResNet-18", 8, (3, 224, 224), _model("resnet18")),
    Row("steps", "ResNet-50", 4, (3, 224, 224), _model("resnet50")),
    Row("steps", "MobileNet", 8, (3, 224, 224), _model("mobilenet")),
    Row("steps", "ConvNeXt-like", 8, (3, 224, 224), convnext),
)


def torchs_own(module: nn.Module) -> nn.Module:
    """The same network of torch's layers wherever torch has the layer; blocks are sequences of their layers."""
    from svertka.models import Block
    from svertka.nn import GlobalAvgPool2d

    for name, part in list(module.named_children()):
        if isinstance(part, Block):
            layers = (part.conv, part.norm, part.activation, part.pool)
            setattr(module, name, nn.Sequential(*(layer for layer in layers if layer is not None)))
        if isinstance(part, GlobalAvgPool2d):
            setattr(module, name, nn.AdaptiveAvgPool2d(1))
    for part in module.children():
        torchs_own(part)
    kind = type(module)
    if kind.__module__.startswith("svertka.nn") and hasattr(nn, kind.__name__):
        module.__class__ = getattr(nn, kind.__name__)
    return module


def runner(row: Row, last: bool, own: bool, compiled: bool) -> Callable[[], Tensor]:
    """A function that does what the row says once and gives the loss.

    Args:
        last: channels_last.
        own: Svertka's layers, else torch's.
        compiled: by Inductor.
    """
    torch.manual_seed(0)
    memory_format: Any = torch.channels_last if last else torch.contiguous_format
    module = row.build()
    module = (module if own else torchs_own(module)).to(memory_format=memory_format).train()
    x = torch.randn(row.batch, *row.shape).contiguous(memory_format=memory_format)
    run: Any = torch.compile(module) if compiled else module
    if row.group == "layers":
        if not row.first:
            x.requires_grad_()
        wanted = [*([] if row.first else [x]), *module.parameters()]
        with torch.no_grad():
            dy = torch.randn_like(module(x))

        def layer() -> Tensor:
            y: Tensor = run(x)
            torch.autograd.grad(y, wanted, dy)
            return y.detach()

        return layer
    optimizer = torch.optim.SGD(module.parameters(), 1e-3, momentum=0.9, fused=True)
    classes = next(part.out_features for part in reversed(list(module.modules())) if isinstance(part, nn.Linear))
    targets = torch.randint(classes, (row.batch,))

    def step() -> Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(run(x), targets)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return loss.detach()

    return step
