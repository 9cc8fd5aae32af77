"""Networks that are trained in seconds, and unusual ones, to look into."""

import functools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from svertka import nn as ours
from svertka.vision.pictures import Preprocessing

SIDE, OBJECT = 24, 8
PREPROCESSING = Preprocessing(3, (SIDE, SIDE), mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
CLASSES = ("cross", "square", "stripes")


def pasted(count: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """uint8 [n, 3, 24, 24] noise with an object of 8 × 8 on it; its class [n]; its top left corner [n, 2]."""
    draw = torch.Generator().manual_seed(seed)
    shapes = torch.zeros(3, OBJECT, OBJECT)
    shapes[0, 3:5], shapes[0, :, 3:5] = 1, 1
    shapes[1] = 1
    shapes[1, 2:6, 2:6] = 0
    shapes[2, ::2] = 1
    pictures = (torch.rand(count, 3, SIDE, SIDE, generator=draw) * 100 + 60).to(torch.uint8)
    labels = torch.randint(0, 3, (count,), generator=draw)
    corners = torch.randint(0, SIDE - OBJECT + 1, (count, 2), generator=draw)
    colours = torch.tensor([[255, 40, 40], [40, 255, 40], [250, 250, 60]], dtype=torch.uint8)
    inks = torch.randint(0, 3, (count,), generator=draw)
    for i, (label, (y, x)) in enumerate(zip(labels.tolist(), corners.tolist(), strict=True)):
        patch = pictures[i, :, y : y + OBJECT, x : x + OBJECT]
        patch[:] = torch.where(shapes[label] > 0, colours[inks[i]].view(3, 1, 1), patch)
    return pictures, labels, corners


@functools.cache
def trained() -> nn.Module:
    """A network that tells the pasted objects apart."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(3, 12, 5, padding=2), nn.ReLU(inplace=True), nn.MaxPool2d(2),
            nn.Conv2d(12, 24, 3, padding=1), nn.BatchNorm2d(24), nn.ReLU(inplace=True), nn.MaxPool2d(2),
            nn.Conv2d(24, 24, 3, padding=1), nn.ReLU(inplace=True), nn.AdaptiveMaxPool2d(1), nn.Flatten(),
            nn.Linear(24, 3),
        )  # fmt: skip
        pictures, labels, _ = pasted(1024, 0)
        x = PREPROCESSING.normalise(pictures)
        optimiser = torch.optim.AdamW(model.parameters(), 4e-3)
        for _ in range(6):
            for part in torch.randperm(len(x)).split(64):
                optimiser.zero_grad()
                F.cross_entropy(model(x[part]), labels[part]).backward()
                optimiser.step()
    return model.eval()


class Unusual(nn.Module):
    """Functions instead of modules, one layer called twice, a module that gives two tensors, work in place."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.same = ours.Conv2d(4, 4, 3, padding=1, padding_mode="symmetric", groups=2)
        self.two = _Two()
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        """[N, 3, h, w] → [N, 3]."""
        x = F.relu_(self.stem(x))
        x = F.max_pool2d(self.same(self.same(x)), 2)
        x, _ = self.two(x)
        x = torch.fft.fft2(x).abs()  # what it sees is known to no rule
        scores: Tensor = self.head(x.amax((2, 3)))
        return scores


class _Two(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Any]:
        """[…] → the same, and something else."""
        return x * 2, {"mean": x.mean()}
