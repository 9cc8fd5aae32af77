"""Rounding errors of the algorithms for convolutions, against float64: `make bench-error`; see README.md."""

from __future__ import annotations

import argparse
import itertools
import math

import torch
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional as F

from svertka import spec
from svertka.engine.dense import DIRECT, prepare_convolution
from svertka.engine.precision import PRODUCTS
from svertka.kernels.winograd import WinogradSchedule
from svertka.kernels.winograd_schedule import tile_sizes

CHANNELS = (16, 64, 256, 1024, 2048)
OUTPUTS, SIZE = 32, 24


def data(kind: str, channels: int, kernel: int) -> tuple[Tensor, Tensor]:
    """Inputs, Gaussian or as after a ReLU, and Gaussian weights that keep their variance."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, channels, SIZE, SIZE, generator=generator)
    weight = torch.randn(OUTPUTS, channels, kernel, kernel, generator=generator) / math.sqrt(channels * kernel**2)
    return x.relu() if kind == "ReLU" else x, weight


def errors(kind: str, channels: int, kernel: int, stride: int, products: int) -> dict[str, float]:
    """The root mean square error of each algorithm, relative to the results'."""
    x, weight = data(kind, channels, kernel)
    operation = spec.Convolution(spec.windows(2, kernel, stride, kernel // 2))
    true = F.conv2d(x.double(), weight.double(), stride=stride, padding=kernel // 2)
    schedules = {"direct": DIRECT}
    for tile in tile_sizes((kernel, kernel), products, (stride, stride)):
        schedules[f"F({tile[0]}×{tile[1]})"] = WinogradSchedule(tile, 4, 2, 4, 1)
    return {
        name: float(
            (prepare_convolution(operation, x, weight, None, schedule=schedule)(x, weight) - true).square().mean()
        )
        ** 0.5
        / float(true.square().mean()) ** 0.5
        for name, schedule in schedules.items()
    }


def main() -> None:
    """Prints a table for each kernel size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kernels", type=int, nargs="+", default=[3, 5], help="kernel sizes (default: 3 5)")
    parser.add_argument("--strides", type=int, nargs="+", default=[1, 2], choices=[1, 2], help="default: 1 2")
    parser.add_argument("--products", type=int, default=PRODUCTS["fast"], help="of a tile on an axis, at most")
    arguments = parser.parse_args()
    console = Console(highlight=False)
    for kernel, stride in itertools.product(arguments.kernels, arguments.strides):
        name = f"{kernel}×{kernel}{'' if stride == 1 else f', stride {stride}'}"
        title = f"{name}: the direct sum's error relative to the result, and the others' as multiples of it"
        table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", title_style="bold", pad_edge=False)
        for kind in ("Gaussian", "ReLU"):
            for channels in CHANNELS:
                found = errors(kind, channels, kernel, stride, arguments.products)
                if not table.columns:
                    for heading in ("data", "channels", *found):
                        table.add_column(heading, justify="left" if heading == "data" else "right")
                direct = found.pop("direct")
                multiples = [f"{error / direct:.2f}" for error in found.values()]
                table.add_row(kind, str(channels), f"{direct:.1e}", *multiples)
        console.print(table)


if __name__ == "__main__":
    with torch.no_grad():
        main()
