"""Training by both precisions: a small residual network on Fashion-MNIST, the same seeds and batches for each.

    python bench/train_precision.py [--images 12000] [--epochs 3] [--seeds 3] [--precision fast]

Convolutions and their gradients are computed by the kernels; the policy decides whether by large Winograd tiles.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

import torch
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F

import svertka
from svertka.engine.report import report
from svertka.vision.idx import read_idx

FOLDER = Path("/usr/share/datasets/fashion-mnist")
BATCH = 128


class Residual(nn.Module):
    """Two 3×3 convolutions with batch norm, and what goes past them."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = svertka.nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.second = svertka.nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(outputs) for _ in range(2))
        self.past = svertka.nn.Conv2d(inputs, outputs, 1, stride, bias=False) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, height, width] → [N, outputs, …], smaller by the stride."""
        y = F.relu(self.norms[0](self.first(x)))
        return F.relu(self.norms[1](self.second(y)) + self.past(x))


def network() -> nn.Module:
    """The plan of ResNet-18 with a quarter of its channels, for pictures of 28 × 28."""
    stages = [(32, 32, 1), (32, 32, 1), (32, 64, 2), (64, 64, 1), (64, 128, 2), (128, 128, 1)]
    return nn.Sequential(
        svertka.nn.Conv2d(1, 32, 3, padding=1, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.MaxPool2d(2),
        *(Residual(*stage) for stage in stages),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(128, 10),
    ).to(memory_format=torch.channels_last)


def data(part: str, count: int) -> tuple[Tensor, Tensor]:
    """So many pictures, normalised, and their classes."""
    images = torch.from_numpy(read_idx(FOLDER / f"{part}-images-idx3-ubyte.gz", 3)[:count].copy())
    labels = torch.from_numpy(read_idx(FOLDER / f"{part}-labels-idx1-ubyte.gz", 1)[:count].copy()).long()
    images = (images[:, None].float() / 255 - 0.286) / 0.353
    return images.contiguous(memory_format=torch.channels_last), labels


def train(
    seed: int, epochs: int, images: Tensor, labels: Tensor, tests: Tensor, answers: Tensor
) -> tuple[float, float]:
    """(the last epoch's mean loss, the share of test pictures that are told right)."""
    torch.manual_seed(seed)
    model = network().train()
    steps = epochs * (len(images) // BATCH)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=steps)
    for _ in range(epochs):
        order, losses = torch.randperm(len(images)), []
        for batch in order[: len(order) // BATCH * BATCH].split(BATCH):
            loss = F.cross_entropy(model(images[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.detach())
    model.eval()
    with torch.no_grad():
        right = sum(
            int((model(x).argmax(1) == y).sum()) for x, y in zip(tests.split(500), answers.split(500), strict=True)
        )
    return float(torch.stack(losses).mean()), right / len(tests)


def main() -> None:
    """Trains and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=12_000)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--precision", nargs="+", choices=("strict", "fast"), default=["strict", "fast"])
    arguments = parser.parse_args()
    sets = *data("train", arguments.images), *data("t10k", 10_000)
    table = Table("precision", "seed", "loss", "right, %", box=box.SIMPLE_HEAD, pad_edge=False)
    console = Console(highlight=False)
    for name in arguments.precision:
        found = []
        report(reset=True)
        for seed in range(arguments.seeds):
            with svertka.using("kernels"), svertka.precision(name):
                found.append(train(seed, arguments.epochs, *sets))
            table.add_row(name, str(seed), f"{found[-1][0]:.4f}", f"{100 * found[-1][1]:.2f}")
        losses, right = zip(*found, strict=True)
        table.add_row(
            name, "mean", f"{statistics.mean(losses):.4f}", f"{100 * statistics.mean(right):.2f}", end_section=True
        )
        tiles = sorted({call.detail.split(", tile")[0] for call in report() if call.detail.startswith("winograd")})
        console.print(f"{name}: {'; '.join(tiles) or 'no Winograd'}")
    console.print(table)


if __name__ == "__main__":
    main()
