"""A process that trains for one peer: requests come in on stdin and answers go out on stdout, JSON by the line.

{"load": row number}  →  {"megabytes": peak, "first": peak, "result": number, "paths": …} or {"reason": …}
{"time": seconds}     →  {"median": …, "fastest": …}, seconds of a call
"""

from __future__ import annotations

import gc
import json
import os
import statistics
import sys
from typing import Any

import torch
from peers import durations
from train_rows import ROWS, runner
from worker import _end_with_parent, _memory, _own, _short, _trim

PEERS = {  # (channels_last, Svertka's layers, compiled, engine)
    "ours": (True, True, False, "auto"),
    "ours-nchw": (False, True, False, "auto"),
    "kernels": (True, True, False, "kernels"),
    "torch": (False, False, False, "portable"),
    "torch-last": (True, False, False, "portable"),
    "inductor": (True, False, True, "portable"),
}


_STEPS = 3  # in which memory is watched


def load(number: int, peer: str) -> tuple[dict[str, Any], Any]:
    """Prepares a row: (what to tell, the function to time)."""
    import svertka

    last, ours, compiled, engine = PEERS[peer]
    svertka.use(engine)
    gc.collect()
    _trim()
    before, own = _memory("VmRSS"), _own("VmRSS")
    try:
        run = runner(ROWS[number], last, ours, compiled)
        result = float(run().double().square().mean())
        run()
    except Exception as problem:
        return {"reason": _short(problem)}, None
    first = _memory("VmHWM") - before
    gc.collect()
    _trim()
    for _ in range(_STEPS):
        run()
    peak = _own("VmHWM") - own
    calls = svertka.report(reset=True)
    paths = {path: sum(n for call, n in calls.items() if call.path == path) for path in ("kernel", "portable")}
    return {"megabytes": peak / 1024, "first": first / 1024, "result": result, "paths": paths}, run


def main() -> None:
    """Serves the peer named on the command line: name, threads, folder."""
    _end_with_parent()
    peer, threads = sys.argv[1], int(sys.argv[2])
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is not an answer
    torch.set_num_threads(threads)
    print(json.dumps({"version": torch.__version__}), file=answers)
    run = None
    for line in sys.stdin:
        request = json.loads(line)
        if "load" in request:
            run = None
            answer, run = load(request["load"], peer)
        else:
            durations(run, request["time"] / 4, 2)  # type: ignore[arg-type]
            spent = durations(run, request["time"])  # type: ignore[arg-type]
            answer = {"median": statistics.median(spent), "fastest": min(spent)}
        print(json.dumps(answer), file=answers)


if __name__ == "__main__":
    main()
