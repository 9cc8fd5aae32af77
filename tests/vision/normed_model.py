"""A user's own model file without chance in it, with batch norm or without: several processes must train it alike."""

import torch
from torch import nn


class Net(nn.Module):
    """8x8 pictures → scores; one layer is not used, and must be left as it is."""

    def __init__(self, channels: int, classes: int, norm: bool) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(channels, 4, 3, padding=1), nn.BatchNorm2d(4) if norm else nn.Identity()
        self.dense, self.idle = nn.Linear(64, classes), nn.Linear(2, 2)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """[B, C, 8, 8] → [B, classes]."""
        maps = nn.functional.max_pool2d(self.norm(self.conv(pictures)).relu(), 2)
        return self.dense(maps.flatten(1))


def build(channels: int, classes: int, norm: bool = True) -> nn.Module:
    """The factory."""
    return Net(channels, classes, norm)
