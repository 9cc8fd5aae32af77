"""What bookkeeping costs: Svertka's training loop beside a bare torch loop, same model, same optimizer, same batches.

    python bench/train_loop.py [--rounds 7] [--steps 150] [--model lenet]

On Fashion-MNIST if Debian's package dataset-fashion-mnist is installed, else on the digits. Ours is all of it: loading,
augmentation, progress on a terminal, running loss and accuracy; model, metrics and checkpoint at the end of the epoch.
The bare loop finds its batches ready in memory and keeps no count. Each measurement is a process of its own, in turn;
ratios are taken within a round, and their median is the result.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from rich import box
from rich.console import Console
from rich.table import Table

from svertka.vision.checkpoint import State
from svertka.vision.datasets import load
from svertka.vision.modelfile import build_model
from svertka.vision.run import Training
from svertka.vision.settings import settings_for
from svertka.vision.training import make_optimizer

FASHION = Path("/usr/share/datasets/fashion-mnist")
LOOPS = {
    "bare": "bare torch loop",
    "ours": "svertka's loop",
    "contiguous": "bare torch loop, torch's default memory format",
}
WARM_UP = 10


def main() -> None:
    """Measure all loops in turn and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--model", default="lenet")
    parser.add_argument("--loop", choices=LOOPS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.loop:
        print(json.dumps(measure(arguments.loop, arguments.model, arguments.steps)))
        return
    times: dict[str, list[float]] = {loop: [] for loop in LOOPS}
    for _ in range(arguments.rounds):
        for loop in LOOPS:
            command = [
                sys.executable,
                __file__,
                "--loop",
                loop,
                "--model",
                arguments.model,
                "--steps",
                str(arguments.steps),
            ]
            times[loop].append(json.loads(subprocess.run(command, check=True, capture_output=True).stdout))
    show(times, arguments.model)


def show(times: dict[str, list[float]], model: str) -> None:
    """Print ms per step and the ratio to the bare loop: medians, and the range."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False)
    for head in (f"{model}, {FASHION.name if FASHION.is_dir() else 'digits'}", "ms per step", "range", "ratio to bare"):
        table.add_column(head, justify="left" if not table.columns else "right")
    for loop, values in times.items():
        ratio = statistics.median(value / bare for value, bare in zip(values, times["bare"], strict=True))
        milliseconds = [1000 * value for value in values]
        spread = f"{min(milliseconds):.2f} – {max(milliseconds):.2f}"
        table.add_row(LOOPS[loop], f"{statistics.median(milliseconds):.2f}", spread, f"{ratio:.3f}")
    Console().print(table)


def measure(loop: str, model: str, steps: int) -> float:
    """Seconds per step of one loop, after a warm-up."""
    with tempfile.TemporaryDirectory() as folder, Path(os.devnull).open("w") as nowhere:
        console = Console(file=nowhere, force_terminal=True)
        run_through(prepared(model, WARM_UP, Path(folder) / "warm up", console), loop)
        return run_through(prepared(model, steps, Path(folder) / "run", console), loop) / steps


def prepared(model: str, steps: int, folder: Path, console: Console) -> Training:
    """A training run of one epoch of so many steps."""
    dataset = load(str(FASHION) if FASHION.is_dir() else "digits", validation=0)
    settings = settings_for({"model": model, "epochs": 1}, dataset, torch.get_num_threads())
    indices = torch.arange(steps * settings.batch_size) % len(dataset.train)
    part = replace(dataset, train=dataset.train.subset(indices))
    network = build_model(model, {}, len(dataset.classes), dataset.preprocessing)
    folder.mkdir()
    return Training(folder, settings, {}, part, State(), network, None, 60.0, console)


def run_through(training: Training, loop: str) -> float:
    """Seconds for the epoch."""
    if loop == "ours":
        start = time.perf_counter()
        training.run()
        return time.perf_counter() - start
    layout = torch.contiguous_format if loop == "contiguous" else torch.channels_last
    model = training.model.to(memory_format=layout).train()
    optimizer = make_optimizer(model, training.settings)
    batches = [(batch.images, batch.labels) for batch in training.batches.epoch(0)]
    start = time.perf_counter()
    for images, labels in batches:
        loss = torch.nn.functional.cross_entropy(
            model(images), labels, label_smoothing=training.settings.label_smoothing
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
