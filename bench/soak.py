"""Training and predicting with changing shapes for a long time: memory must not grow, the cache must stay bounded.

    python bench/soak.py [--seconds 3600] [--json FILE]

Each round a network is called, compiled and trained on pictures of another size and number, its weights are replaced
now and then, and an operation of a kind that was never met before is called. Every tenth result is held against
torch's. Memory is the process' resident set, looked at each second: its median in the last quarter may be larger than
that in the second quarter by at most GROWTH, and by what the machine code of so many new kernels takes (which lives as
long as the process, about KERNEL each). The C library keeps freed memory between pieces that are in use, some hundred
MiB where sizes always change; it is made to give it back before each look, and what it kept is told, too. The cache has
a folder of its own with a limit of its own, so that it is full after minutes. Exit code 1 if a bound was broken or a
result was wrong.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

import svertka
from svertka import functional, models
from svertka.engine import dispatch, launch, packing
from svertka.jit import cache

GROWTH = 32 << 20  # bytes: the allocator's own fragments among them
KERNEL = 192 << 10  # bytes of machine code and of what its loader keeps
CACHE = 1 << 20  # bytes that the cache may take, and an eighth more: what is written between two looks, and an entry
LONGEST = 72  # pixels on a side


def resident() -> int:
    """The process' memory in bytes."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def give_back() -> None:
    """Has the C library give free memory back to the system, where it can."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim:
        trim(0)


class Rounds:
    """What is done again and again, always with other shapes."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.model = models.create("lenet", 3, 10, size=(32, 32), norm=True).eval()
        self.plain = torch.nn.Sequential(
            svertka.nn.Conv2d(3, 32, 3, padding="same", padding_mode="reflect"), torch.nn.ReLU(),
            svertka.nn.Conv2d(32, 32, 3, padding=1), svertka.nn.MaxPool2d(2), svertka.nn.GlobalAvgPool2d(),
            torch.nn.Flatten(), torch.nn.Linear(32, 10),
        )  # fmt: skip
        self.optimizer = torch.optim.SGD(self.plain.parameters(), 1e-3, momentum=0.9)
        self.compiled = svertka.compile(self.model)
        self.chance = torch.Generator().manual_seed(0)
        self.count = self.compared = self.wrong = 0

    def draw(self, low: int, high: int) -> int:
        """A whole number, low ≤ n ≤ high."""
        return int(torch.randint(low, high + 1, (), generator=self.chance))

    def pictures(self, side: int = 0) -> torch.Tensor:
        """A batch of another size; channels last in half of them."""
        height, width = (side, side) if side else (self.draw(9, LONGEST), self.draw(9, LONGEST))
        x = torch.randn(self.draw(1, 8), 3, height, width)
        return x.contiguous(memory_format=torch.channels_last) if self.count % 2 else x

    def __call__(self) -> None:
        """A round."""
        self.count += 1
        x = self.pictures()
        with torch.no_grad():
            self.compare(self.plain.eval(), x)
            self.compare(self.compiled, self.pictures(32), self.model)
            self.new_operation()
            if self.count % 50 == 0:
                layer = self.plain[2]
                layer.weight = torch.nn.Parameter(layer.weight.clone())
                self.optimizer = torch.optim.SGD(self.plain.parameters(), 1e-3, momentum=0.9)
        loss = self.plain.train()(x).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def new_operation(self) -> None:
        """A convolution that was probably never met before, once in ten rounds."""
        if self.count % 10:
            return
        channels, outputs = self.draw(1, 24), self.draw(1, 24)
        x, weight = torch.randn(2, channels, 12, 12), torch.randn(outputs, channels, self.draw(1, 5), self.draw(1, 5))
        stride = self.draw(1, 2)
        self.compare(lambda x: functional.conv2d(x, weight, None, stride, 1), x)

    def compare(self, function: Any, x: torch.Tensor, exact: Any = None) -> None:
        """The function's result, and each tenth time whether torch's operations give the same."""
        y = function(x)
        if self.count % 10 == 0:
            with svertka.using("portable"):
                expected = (exact or function)(x)
            self.compared += 1
            self.wrong += not torch.allclose(y, expected, rtol=1e-3, atol=1e-3)


def soak(seconds: float) -> dict[str, Any]:
    """The figures of a run of so many seconds."""
    cache.LIMIT = CACHE
    rounds, samples, largest, kept = Rounds(), [], 0, 0
    start = told = time.monotonic()
    while (now := time.monotonic()) - start < seconds:
        rounds()
        if not samples or now - samples[-1][0] >= 1:
            kept = max(kept, resident())
            give_back()
            samples.append((now, resident(), len(launch._kernels)))
            largest = max(largest, cache.state().size)
        if now - told > max(10.0, seconds / 20):
            told = now
            print(
                f"{now - start:6.0f} s  {rounds.count:7} rounds  {samples[-1][1] / 2**20:6.0f} MiB  "
                f"{samples[-1][2]} kernels  cache {cache.state().size / 2**20:.1f} MiB  "
                f"{len(dispatch._runners)} calls remembered  {len(packing._packed)} packed weights",
                flush=True,
            )
    quarter = max(len(samples) // 4, 1)
    second, last = samples[quarter : 2 * quarter] or samples, samples[-quarter:]
    kernels = last[-1][2] - second[0][2]
    grown = statistics.median(s[1] for s in last) - statistics.median(s[1] for s in second)
    allowed = GROWTH + kernels * KERNEL
    return {
        "seconds": round(time.monotonic() - start, 1), "rounds": rounds.count, "compared": rounds.compared,
        "wrong": rounds.wrong, "grown": int(grown), "allowed": allowed, "new_kernels": kernels,
        "resident": samples[-1][1], "most_before_giving_back": kept,
        "cache_largest": largest, "cache_allowed": CACHE * 9 // 8,
        "sound": not rounds.wrong and grown <= allowed and largest <= CACHE * 9 // 8,
    }  # fmt: skip


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ[cache.VARIABLE] = f"{folder}/cache"
        found = soak(options.seconds)
    print(
        f"{found['rounds']} rounds in {found['seconds']} s\n"
        f"{found['compared']} results compared, {found['wrong']} wrong\n"
        f"memory grew by {found['grown'] / 2**20:.1f} MiB where {found['allowed'] / 2**20:.1f} were allowed "
        f"({found['new_kernels']} new kernels among it), to {found['resident'] / 2**20:.0f} MiB; "
        f"before giving back {found['most_before_giving_back'] / 2**20:.0f} MiB at most\n"
        f"the cache took {found['cache_largest'] / 2**20:.2f} of {found['cache_allowed'] / 2**20:.2f} MiB allowed\n"
        f"{'sound' if found['sound'] else 'NOT SOUND'}"
    )
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0 if found["sound"] else 1


if __name__ == "__main__":
    sys.exit(main())
