"""Training, ours beside torch: `make bench-train`, or `python bench/train.py --help`; see README.md."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
from pathlib import Path

from layers import Process, WorkerError, described, progress
from rich.console import Console
from train_rows import ROWS, Row
from train_table import Result, markdown, show

DEFAULT = ("ours", "torch", "torch-last", "inductor")
PEERS = (*DEFAULT, "ours-nchw", "kernels")


def measure(row: Row, started: dict[str, Process], options: argparse.Namespace) -> Result:
    """One row: all peers load it, then are timed in turn, each round beginning with another."""
    result = Result(row)
    for peer, process in started.items():
        try:
            answer = process.ask(load=ROWS.index(row))
        except WorkerError as problem:
            answer = {"reason": str(problem)}
        (result.reasons if "reason" in answer else result.facts)[peer] = answer.get("reason", answer)
    peers = list(result.facts)
    for turn in range(options.rounds):
        for peer in (*peers[turn % len(peers) :], *peers[: turn % len(peers)]) if peers else ():
            answer = started[peer].ask(time=options.seconds)
            result.seconds.setdefault(peer, []).append(answer["fastest" if options.fastest else "median"])
    return result


def parsed() -> argparse.Namespace:
    """The command line's options."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--rows", default="", metavar="PATTERN", help="only rows with this in 'group: name'")
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(DEFAULT), help="who takes part")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.2, help="of calls for each peer in each round")
    parser.add_argument("--fastest", action="store_true", help="a round's number is its fastest call, not the median")
    parser.add_argument("--threads", type=int, default=usable)
    parser.add_argument("--json", type=Path, metavar="FILE", help="all that was measured")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="the table as text")
    return parser.parse_args()


def chosen(pattern: str) -> list[Row]:
    """The rows with the pattern in "group: name"."""
    return [row for row in ROWS if pattern in f"{row.group}: {row.name}"]


def main() -> None:
    """Measure and print."""
    options, console = parsed(), Console(width=100 if not sys.stdout.isatty() else None)
    rows = chosen(options.rows)
    if not rows:
        sys.exit(f"no row has {options.rows!r} in its name: {', '.join(dict.fromkeys(row.name for row in ROWS))}")
    results: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="train-") as folder:
        started = {peer: Process(peer, options.threads, Path(folder), "train_worker.py") for peer in options.peers}
        try:
            about = described({peer: process.version for peer, process in started.items()}, options)
            with progress(console) as bar, contextlib.suppress(KeyboardInterrupt):
                task = bar.add_task("", total=len(rows))
                for row in rows:
                    bar.update(task, description=f"{row.name} by {row.batch}")
                    results.append(measure(row, started, options))
                    bar.advance(task)
                    if not console.is_terminal:
                        print(f"{len(results)} of {len(rows)}: {row.name} by {row.batch}", file=sys.stderr)
        finally:
            for process in started.values():
                process.end()
    show(console, results, options.peers, about)
    if options.markdown:
        options.markdown.write_text(markdown(results, options.peers, about))
    if options.json:
        options.json.write_text(json.dumps([result.as_data() for result in results], indent=1) + "\n")


if __name__ == "__main__":
    main()
