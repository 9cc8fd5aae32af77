"""Small networks of many kinds, with statistics that aren't plain, and what a compiled one may differ by."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from svertka import models

EPS = torch.finfo(torch.float32).eps


def conv(inputs: int, outputs: int, size: int = 3, **more: Any) -> nn.Sequential:
    padding = more.pop("padding", size // 2)
    norm = nn.BatchNorm2d(outputs)
    return nn.Sequential(nn.Conv2d(inputs, outputs, size, padding=padding, bias=False, **more), norm, nn.ReLU(True))


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down, self.middle = conv(3, 8), conv(8, 16)
        self.up = nn.ConvTranspose2d(16, 8, 2, stride=2)
        self.end, self.head = conv(16, 8), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.down(x)
        b = self.up(self.middle(F.max_pool2d(a, 2)))
        return self.head(self.end(torch.cat([a, b], 1)))


class DenseNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.norms = nn.ModuleList(nn.BatchNorm2d(8 + 4 * i) for i in range(4))
        self.convs = nn.ModuleList(nn.Conv2d(8 + 4 * i, 4, 3, padding=1) for i in range(3))
        self.head = nn.Linear(20, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for norm, layer in zip(self.norms, self.convs, strict=False):
            x = torch.cat([x, layer(F.relu(norm(x)))], 1)
        return self.head(F.adaptive_avg_pool2d(F.relu(self.norms[-1](x)), 1).flatten(1))


class ConvNeXt(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 4, stride=4)
        self.mix, self.norm = nn.Conv2d(16, 16, 7, padding=3, groups=16), nn.LayerNorm(16)
        self.wide, self.narrow = nn.Linear(16, 64), nn.Linear(64, 16)
        self.gamma = nn.Parameter(torch.full((16,), 0.5))
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.norm(self.mix(x).permute(0, 2, 3, 1))
        y = self.gamma * self.narrow(F.gelu(self.wide(y)))
        x = x + y.permute(0, 3, 1, 2)
        return self.head(x.mean((-2, -1)))


class Squeeze(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.less, self.more = conv(3, 16), nn.Conv2d(16, 4, 1), nn.Conv2d(4, 16, 1)
        self.act, self.end = nn.SiLU(), conv(16, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        gate = torch.sigmoid(self.more(self.act(self.less(F.adaptive_avg_pool2d(x, 1)))))
        return self.end(F.hardswish(x * gate))


class Inception(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = conv(3, 4, 1), nn.Sequential(conv(3, 4, 1), conv(4, 6)), conv(3, 4, 5)
        self.d = nn.Sequential(nn.MaxPool2d(3, 1, 1), conv(3, 4, 1))
        self.e = nn.Sequential(nn.AvgPool2d(3, 2, 1, count_include_pad=False), conv(18, 8, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.e(torch.cat([self.a(x), self.b(x), self.c(x), self.d(x)], 1))


class Heads(nn.Module):
    """Several results of two scales, in a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = conv(3, 8, stride=2), conv(8, 16, stride=2)
        self.boxes = nn.ModuleList(nn.Conv2d(n, 8, 3, padding=1) for n in (8, 16))
        self.kinds = nn.ModuleList(nn.Conv2d(n, 6, 3, padding=1) for n in (8, 16))

    def forward(self, x: Tensor) -> dict[str, Any]:
        a = self.first(x)
        b = self.second(a)
        boxes = [_rows(head(x), 4) for head, x in zip(self.boxes, (a, b), strict=True)]
        kinds = [_rows(head(x), 3) for head, x in zip(self.kinds, (a, b), strict=True)]
        return {"boxes": torch.cat(boxes, 1), "kinds": torch.cat(kinds, 1), "maps": [a, b]}


def _rows(maps: Tensor, length: int) -> Tensor:
    return maps.permute(0, 2, 3, 1).reshape(maps.shape[0], -1, length)


class Shared(nn.Module):
    """One layer twice, and its weight once more."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.conv(x)))
        return F.conv2d(self.conv(x), self.conv.weight, dilation=2)


class Unknown(nn.Module):
    """Parts that kernels don't know, between others, on views of all sorts."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = conv(3, 8), nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect")
        self.norm = nn.GroupNorm(2, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cumsum(self.a(x), 2)
        x = F.elu(self.norm(self.b(x)))
        a, b = x.chunk(2, 1)
        x = torch.stack([a, b], 2).flatten(1, 2)  # channels shuffled
        return F.softmax(F.interpolate(x, scale_factor=2, mode="bilinear")[:, :, 1:, ::2], 1) - x.mean()


def sequence() -> nn.Module:
    layers: list[nn.Module] = [nn.Conv1d(4, 8, 5, padding=2), nn.BatchNorm1d(8), nn.LeakyReLU(0.2), nn.MaxPool1d(2)]
    layers += [nn.Conv1d(8, 8, 4, groups=2), nn.GELU(), nn.AvgPool1d(2), nn.ConvTranspose1d(8, 4, 4, 2, 1)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool1d(3), nn.Flatten(), nn.Linear(12, 3))


def volume() -> nn.Module:
    layers: list[nn.Module] = [nn.Conv3d(2, 8, 3, padding=1), nn.BatchNorm3d(8), nn.ReLU(), nn.MaxPool3d(2)]
    layers += [nn.Conv3d(8, 8, 3, stride=2), nn.Hardtanh(), nn.AdaptiveAvgPool3d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(8, 3))


def _model(name: str, channels: int, **more: Any) -> Callable[[], nn.Module]:
    return lambda: models.create(name, channels, 5, **more)


# name: (the network, the input's shape, its depth in layers with weights)
NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int]] = {
    "linear": (_model("linear", 3, size=(8, 8)), (2, 3, 8, 8), 1),
    "lenet": (_model("lenet", 1, norm=True, widths=(8, 12), hidden=32), (3, 1, 28, 28), 4),
    "alexnet": (_model("alexnet", 3, widths=(8, 16, 16, 16, 8), hidden=16), (2, 3, 80, 70), 8),
    "vgg11": (_model("vgg11", 3, width=8, hidden=16), (1, 3, 40, 33), 11),
    "resnet18": (_model("resnet18", 3, width=8), (2, 3, 64, 64), 18),
    "resnet50": (_model("resnet50", 3, width=8), (1, 3, 40, 40), 50),
    "mobilenet": (_model("mobilenet", 3, width=0.25), (2, 3, 48, 48), 28),
    "unet": (UNet, (2, 3, 16, 20), 5),
    "densenet": (DenseNet, (2, 3, 9, 11), 5),
    "convnext": (ConvNeXt, (2, 3, 32, 32), 5),
    "squeeze": (Squeeze, (2, 3, 12, 10), 4),
    "inception": (Inception, (2, 3, 12, 12), 3),
    "heads": (Heads, (2, 3, 16, 16), 3),
    "shared": (Shared, (2, 3, 16, 16), 3),
    "unknown": (Unknown, (2, 3, 8, 8), 3),
    "sequence": (sequence, (2, 4, 37), 4),
    "volume": (volume, (2, 2, 8, 9, 10), 3),
}


def made(name: str, seed: int = 0) -> tuple[nn.Module, Tensor]:
    """The network in evaluation, and an input."""
    torch.manual_seed(seed)
    make, shape, _ = NETWORKS[name]
    model = make().eval()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.running_mean.normal_(0, 0.3)
                module.running_var.uniform_(0.5, 2)
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.3)
    return model, torch.randn(shape)


def in_double(model: nn.Module, *inputs: Tensor) -> Any:
    """What the model gives in float64; the model stays as it is."""
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with torch.no_grad():
        result = model.double()(*(x.double() for x in inputs))
    model.float().load_state_dict(state)
    return result


def tolerance(name: str, model: nn.Module) -> float:
    """The error of each layer's sums grows with the root of their terms, and from layer to layer adds up.

    Relative to the largest number of the result: 4 · depth · √terms · ε.
    """
    terms = max(weight[0].numel() for weight in model.parameters() if weight.ndim > 1)
    return 4 * NETWORKS[name][2] * terms**0.5 * EPS
