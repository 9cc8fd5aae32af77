"""A process that computes for one peer: requests come in on stdin and answers go out on stdout, JSON by the line.

{"load": row number, "batch": n, "reference": file}  →  {"way": …, "tried": […], "error": …, …} or {"reason": …}
{"time": seconds}                                    →  {"median": …, "fastest": …}, seconds of a call
{"machine": true}                                    →  peaks, of the reference alone
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib.metadata
import json
import os
import signal
import statistics
import sys
from pathlib import Path
from typing import Any

import numpy as np
from checking import error, fault
from layer_rows import ROWS, arrays
from ncnn_runtime import Ncnn
from peers import (
    NOT_HERE,
    Call,
    CannotError,
    Inductor,
    Ours,
    OursContiguous,
    Peer,
    Reference,
    Torch,
    TorchLast,
    durations,
    fastest,
)
from runtimes import RUNTIMES

PEERS = {
    "reference": Reference,
    "ours": Ours,
    "ours-nchw": OursContiguous,
    "torch": Torch,
    "torch-last": TorchLast,
    "inductor": Inductor,
    **RUNTIMES,
    "ncnn": Ncnn,
}
TRIAL, WARM_UP = 0.02, 0.01  # seconds


class Worker:
    """Answers requests for one peer."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.call: Call | None = None
        self.idle = _memory("VmRSS")

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """The answer to one request."""
        if "machine" in request:
            return self.peer.machine()  # type: ignore[attr-defined,no-any-return]
        if "time" in request:
            assert self.call is not None
            durations(self.call.run, WARM_UP)
            spent = durations(self.call.run, request["time"])
            return {"median": statistics.median(spent), "fastest": min(spent)}
        return self.load(request["load"], request["batch"], Path(request["reference"]))

    def load(self, number: int, batch: int, reference: Path) -> dict[str, Any]:
        """Prepares a row: all ways are tried, the fastest of those that are right is kept."""
        self.call = None
        gc.collect()
        _trim()
        row = ROWS[number]
        numbers = arrays(row, batch)
        try:
            ways = list(self.peer.ways(row, numbers))
        except CannotError as reason:
            return {"reason": str(reason)}
        if isinstance(self.peer, Reference):
            result = self.peer.facts(ways[0][1])["result"]
            np.save(reference, result)
            return {"shape": result.shape}
        expected = np.load(reference)
        tried, best = [], None
        for name, build in ways:
            try:
                facts = self.peer.facts(build)
                call = build()
                result = call.result(call.run()).copy()
                stuck = row.kind == "stochastic" and np.array_equal(result, call.result(call.run()))
            except Exception as problem:
                tried.append({"way": name, "reason": _short(problem)})
                continue
            reason = "it draws the same each time" if stuck else fault(row, numbers, result, expected)
            off = error(row, result, expected)
            seconds = fastest(call.run, TRIAL)
            tried.append({"way": name, "seconds": seconds, "error": off, "reason": reason})
            if not reason and (best is None or seconds < best[0]):
                best, self.call = (seconds, name, {"error": off, **facts}), call
        if best is None:
            reasons = dict.fromkeys(way["reason"] for way in tried if way["reason"] != NOT_HERE)
            return {"reason": "; ".join(reasons), "tried": tried}
        memory = max(0, _memory("VmHWM") - self.idle)
        return {"way": best[1], "tried": tried, "megabytes": memory / 1024, **best[2]}


def _short(problem: Exception) -> str:
    """The first line of an error that says something."""
    lines = [line.strip() for line in str(problem).splitlines() if line.strip()]
    said = next((line for line in reversed(lines) if not line.startswith(("at ", "Check "))), "")
    said = said if len(lines) > 1 and "OpenVINO" not in said else (lines[0] if lines else "")
    return said if isinstance(problem, CannotError) else f"{type(problem).__name__}: {said[:160]}"


def _memory(name: str) -> int:
    """A number of this process's status in KB; 0 where there is none."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(name + ":"):
                return int(line.split()[1])
    return 0


def _own(name: str) -> int:
    """A number of resident KB without the pages of files, such as libraries, which the system can drop."""
    return _memory(name) - _memory("RssFile")


def _trim() -> None:
    """Gives memory back and forgets the peak."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")


def _end_with_parent() -> None:
    """Lets the system end this process with the one that started it, also while it is stopped."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def main() -> None:
    """Serves the peer named on the command line: name, threads, folder."""
    _end_with_parent()
    name, threads, scratch = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is not an answer
    try:
        worker = Worker(PEERS[name](threads, scratch))
        version = importlib.metadata.version(worker.peer.distribution)
    except (ImportError, CannotError) as problem:
        print(json.dumps({"reason": _short(problem)}), file=answers)
        return
    print(json.dumps({"version": version}), file=answers)
    for line in sys.stdin:
        print(json.dumps(worker.answer(json.loads(line))), file=answers)


if __name__ == "__main__":
    main()
