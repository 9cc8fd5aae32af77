"""The networks of `make bench-nets`: those of svertka.models, and small relatives of ConvNeXt, U-Net and DenseNet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Net:
    """A network and what it is measured on.

    Args:
        build: makes it, with random weights.
        shape: of one input.
        batches: sizes for inference; `trained` for a training step.
    """

    name: str
    build: Callable[[], Any]
    shape: tuple[int, ...]
    batches: tuple[int, ...]
    trained: int


def _model(name: str, channels: int = 3, classes: int = 1000) -> Callable[[], Any]:
    def build() -> Any:
        from svertka import models

        return models.create(name, channels, classes)

    return build


def convnext(channels: int = 3, classes: int = 1000) -> Any:
    """ConvNeXt's first two stages in half their width (Liu et al. 2022): 7×7 depthwise, layer norm, wide 1×1, GELU."""
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.mix, self.norm = nn.Conv2d(width, width, 7, padding=3, groups=width), nn.LayerNorm(width)
            self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
            self.gamma = nn.Parameter(torch.full((width,), 0.5))

        def forward(self, x: Any) -> Any:
            y = self.norm(self.mix(x).permute(0, 2, 3, 1))
            y = self.gamma * self.narrow(nn.functional.gelu(self.wide(y)))
            return x + y.permute(0, 3, 1, 2)

    layers: list[nn.Module] = [nn.Conv2d(channels, 48, 4, stride=4), *(Block(48) for _ in range(3))]
    layers += [nn.Conv2d(48, 96, 2, stride=2), *(Block(96) for _ in range(3))]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(96, classes))


def unet(channels: int = 3, classes: int = 2) -> Any:
    """U-Net with three scales from 32 channels on (Ronneberger et al. 2015), with batch norm."""
    import torch
    from torch import nn

    def pair(inputs: int, outputs: int) -> nn.Sequential:
        layers: list[nn.Module] = []
        for n in (inputs, outputs):
            layers += [nn.Conv2d(n, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
        return nn.Sequential(*layers)

    class UNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.down = nn.ModuleList([pair(channels, 32), pair(32, 64), pair(64, 128)])
            self.up = nn.ModuleList([nn.ConvTranspose2d(128, 64, 2, 2), nn.ConvTranspose2d(64, 32, 2, 2)])
            self.join = nn.ModuleList([pair(128, 64), pair(64, 32)])
            self.head = nn.Conv2d(32, classes, 1)

        def forward(self, x: Any) -> Any:
            passed = []
            for stage in self.down[:-1]:
                passed.append(stage(x))
                x = nn.functional.max_pool2d(passed[-1], 2)
            x = self.down[-1](x)
            for up, join in zip(self.up, self.join, strict=True):
                x = join(torch.cat([passed.pop(), up(x)], 1))
            return self.head(x)

    return UNet()


def densenet(channels: int = 3, classes: int = 1000) -> Any:
    """Two dense blocks of six layers that each add 32 channels (Huang et al. 2017), a transition between."""
    import torch
    from torch import nn

    class Layer(nn.Module):
        def __init__(self, inputs: int) -> None:
            super().__init__()
            self.norm1, self.conv1 = nn.BatchNorm2d(inputs), nn.Conv2d(inputs, 128, 1, bias=False)
            self.norm2, self.conv2 = nn.BatchNorm2d(128), nn.Conv2d(128, 32, 3, padding=1, bias=False)

        def forward(self, x: Any) -> Any:
            y = self.conv1(nn.functional.relu(self.norm1(x)))
            return torch.cat([x, self.conv2(nn.functional.relu(self.norm2(y)))], 1)

    layers: list[nn.Module] = [nn.Conv2d(channels, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True)]
    layers += [nn.MaxPool2d(3, 2, 1), *(Layer(64 + 32 * i) for i in range(6))]
    layers += [nn.BatchNorm2d(256), nn.ReLU(inplace=True), nn.Conv2d(256, 128, 1, bias=False), nn.AvgPool2d(2)]
    layers += [*(Layer(128 + 32 * i) for i in range(6)), nn.BatchNorm2d(320), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(320, classes))


BIG = (3, 224, 224)
NETS = (
    Net("LeNet", _model("lenet", channels=1, classes=10), (1, 28, 28), (1, 64), 64),
    Net("AlexNet", _model("alexnet"), BIG, (1, 8), 8),
    Net("VGG-11", _model("vgg11"), BIG, (1, 4), 4),
    Net("ResNet-18", _model("resnet18"), BIG, (1, 8), 8),
    Net("ResNet-50", _model("resnet50"), BIG, (1, 8), 4),
    Net("MobileNet", _model("mobilenet"), BIG, (1, 8), 8),
    Net("ConvNeXt-like", convnext, BIG, (1, 8), 4),
    Net("U-Net-like", unet, (3, 128, 128), (1, 8), 4),
    Net("DenseNet-like", densenet, BIG, (1, 8), 4),
)


def made(net: Net) -> Any:
    """The network, the same each time, with statistics of batch norm that aren't plain."""
    import torch

    torch.manual_seed(0)
    model = net.build().eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            with torch.no_grad():
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
    return model


def inputs(net: Net, batch: int) -> np.ndarray:
    """So many inputs, the same each time."""
    return np.random.default_rng(1).normal(size=(batch, *net.shape)).astype(np.float32)
