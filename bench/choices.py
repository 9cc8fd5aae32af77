"""How near the schedules that the rules choose are to the best ones: `make bench-choices`; see README.md."""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Iterator
from typing import Any

import torch
from layer_rows import ROWS
from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table

import svertka
from svertka import spec
from svertka.engine import dense, dispatch
from svertka.engine.tuning import Tuned, has_schedules, measure

MACS = 1e6, 1e9  # of a random layer
GOAL = 1.1

Layer = tuple[str, spec.Convolution, int, tuple[int, ...], int]  # name, operation, batch, [C, *size], outputs


def given() -> Iterator[Layer]:
    """The convolutions of the table of layers."""
    for row in ROWS:
        if row.kind == "conv":
            windows = spec.windows(row.ndim, row.kernel, row.stride, row.padding, row.dilation, row.mode)
            for batch in row.batches:
                shape = (row.inputs, *row.size)
                yield row.name, spec.Convolution(windows, row.groups), batch, shape, row.outputs


def drawn(count: int, seed: int) -> Iterator[Layer]:
    """So many layers at random: channels and sizes as networks have them, and others."""
    draw = random.Random(seed)
    while count:
        kernel, batch, groups = draw.choice((1, 3, 3, 3, 5, 7)), draw.choice((1, 1, 2, 8)), draw.choice((1, 1, 1, 2, 4))
        inputs, outputs = (groups * round(2 ** draw.uniform(3, 9) / groups) for _ in range(2))
        size = tuple(round(2 ** draw.uniform(2.5, 6.5)) for _ in range(2))
        windows = spec.windows(2, kernel, draw.choice((1, 1, 2)), kernel // 2)
        operation = spec.Convolution(windows, groups)
        places = batch * math.prod(operation.output_size(size))
        if MACS[0] <= places * inputs * outputs // groups * kernel**2 <= MACS[1]:
            count -= 1
            stride = f"/{windows[0].stride}" if windows[0].stride > 1 else ""
            shared = f", {groups} groups" if groups > 1 else ""
            name = f"{kernel}×{kernel}{stride} {size[0]}×{size[1]} {inputs}→{outputs}{shared}"
            yield name, operation, batch, (inputs, *size), outputs


def measured(layer: Layer) -> Tuned | str:
    """The rules' schedule and the best one, or why there is no choice."""
    _, operation, batch, shape, outputs = layer
    x = torch.randn(batch, *shape)
    x = x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x
    weight = torch.randn(outputs, shape[0] // operation.groups, *(window.size for window in operation.windows))
    runner: Any = dense.prepare_convolution(operation, x, weight, None)
    if not has_schedules(runner):
        return "there is one schedule"
    return measure(operation, runner, [x, weight])


def main() -> None:
    """Prints a table, the worst choices first."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--random", type=int, default=40, help="layers drawn at random (default: 40)")
    parser.add_argument("--seed", type=int, default=0, help="of the draw (default: 0)")
    parser.add_argument("--only-random", action="store_true", help="not the layers of bench-layers")
    arguments = parser.parse_args()
    console = Console(highlight=False)
    layers = [*([] if arguments.only_random else given()), *drawn(arguments.random, arguments.seed)]
    found, passed = [], 0
    with dispatch.using("kernels"):
        for layer in track(layers, "measuring", console=console, transient=True):
            tuned = measured(layer)
            if isinstance(tuned, str):
                passed += 1
            else:
                found.append((tuned.seconds_before / tuned.seconds_after, layer, tuned))
    table = Table("layer", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("batch", "ms", "best, ms", "ratio"):
        table.add_column(name, justify="right")
    for name in ("chosen", "best"):
        table.add_column(name)
    found.sort(key=lambda entry: -entry[0])
    for ratio, (name, _, batch, *_), tuned in found:
        best = "the same" if tuned.after == tuned.before else str(tuned.after)
        times = (f"{1e3 * seconds:.3f}" for seconds in (tuned.seconds_before, tuned.seconds_after))
        table.add_row(name, str(batch), *times, f"{ratio:.2f}", str(tuned.before), best)
    console.print(table)
    near = sum(ratio <= GOAL for ratio, *_ in found)
    console.print(
        f"{near} of {len(found)} choices take at most {GOAL} times the best one's time, by the policy "
        f"{svertka.get_precision()} on {torch.get_num_threads()} threads; {passed} layers leave no choice."
    )


if __name__ == "__main__":
    main()
