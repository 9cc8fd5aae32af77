"""Whole networks, ours beside the peers: `make bench-nets`, or `python bench/nets.py --help`; see README.md."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from layers import Process, WorkerError, described, processes, usable_threads
from net_rows import NETS
from rich import box
from rich.console import Console
from rich.table import Table

OURS = "ours"
HEADS = {
    "ours": "ours", "ours-ahead": "ahead", "torch": "torch", "torch-last": "t.last", "inductor": "induct",
    "onnxruntime": "ORT", "openvino": "OpenV", "mnn": "MNN",
}  # fmt: skip
TRAIN = ("ours", "torch", "torch-last", "inductor")


@dataclass
class Result:
    """What was measured of a network at one batch size: seconds of a call by peer, one for each round."""

    net: str
    batch: int
    train: bool
    seconds: dict[str, list[float]] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    facts: dict[str, dict[str, float]] = field(default_factory=dict)

    def median(self, peer: str) -> float | None:
        """Seconds of a call."""
        return statistics.median(self.seconds[peer]) if self.seconds.get(peer) else None

    def ratio(self, peer: str) -> float:
        """The median over rounds of the peer's time / ours; above 1 we are faster."""
        return statistics.median(a / b for a, b in zip(self.seconds[peer], self.seconds[OURS], strict=True))

    def best(self) -> tuple[str, float] | None:
        """The peer with the smallest ratio, and the ratio."""
        peers = [peer for peer in self.seconds if not peer.startswith(OURS) and self.seconds[peer]]
        if not peers or not self.seconds.get(OURS):
            return None
        best = min(peers, key=self.ratio)
        return best, self.ratio(best)


def measure(number: int, batch: int, started: dict[str, Process], options: argparse.Namespace) -> Result:
    """One network at one batch size: all peers are checked, then timed in turn, each round beginning with another."""
    reference, *peers = started
    file = str(started[reference].scratch / "reference.npy")
    request = {"load": number, "batch": batch, "reference": file, "train": options.train}
    started[reference].ask(**request)
    result = Result(NETS[number].name, batch, options.train)
    for peer in peers:
        try:
            answer = started[peer].ask(**request)
        except WorkerError as problem:
            answer = {"reason": str(problem)}
        if "reason" in answer:
            result.reasons[peer] = answer["reason"]
        else:
            result.facts[peer] = answer
    peers = [peer for peer in peers if peer not in result.reasons]
    for turn in range(options.rounds):
        for peer in (*peers[turn % len(peers) :], *peers[: turn % len(peers)]) if peers else ():
            result.seconds.setdefault(peer, []).append(started[peer].ask(time=options.seconds)["median"])
    return result


def rows(results: list[Result], peers: list[str]) -> list[list[str]]:
    """The table's lines: times in ms, the best peer's marked, and its ratio to ours."""
    lines = []
    for result in results:
        best = result.best()
        line = [result.net, str(result.batch)]
        for peer in peers:
            median = result.median(peer)
            mark = "*" if best and best[0] == peer else ""
            line.append("–" if median is None else f"{_digits(median * 1e3)}{mark}")
        lines.append([*line, f"{best[1]:.2f}" if best else "–"])
    return lines


def facts(results: list[Result], peers: list[str], name: str, scale: float) -> list[list[str]]:
    """A table's lines of something else that peers tell."""
    lines = []
    for result in results:
        told = [result.facts.get(peer, {}).get(name) for peer in peers]
        lines.append([result.net, str(result.batch), *("–" if n is None else _digits(n * scale) for n in told)])
    return lines


def _digits(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}" if value >= 10 else f"{value:.2f}"


def tables(results: list[Result], peers: list[str]) -> list[tuple[str, list[str], list[list[str]]]]:
    """(title, headings, lines) of all tables."""
    heads = [HEADS[peer] for peer in peers]
    watched = any("step" in told for result in results for told in result.facts.values())
    steps = [("a step, MB", ["N", *heads], facts(results, peers, "step", 1.0))] if watched else []
    return [
        ("ms", ["N", *heads, "ratio"], rows(results, peers)),
        ("first call, s", ["N", *heads], facts(results, peers, "first", 1.0)),
        ("memory, MB", ["N", *heads], facts(results, peers, "megabytes", 1.0)),
        *steps,
    ]


def markdown(results: list[Result], peers: list[str], about: str) -> str:
    """The tables as text."""
    parts = [about]
    for title, heads, lines in tables(results, peers):
        parts.append("\n".join([_line([title, *heads]), _line([":--", *["--:"] * len(heads)]), *map(_line, lines)]))
    return "\n\n".join([*parts, *_missing(results)]) + "\n"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _missing(results: list[Result]) -> list[str]:
    found: dict[str, list[str]] = {}
    for result in results:
        for peer, reason in result.reasons.items():
            found.setdefault(f"{HEADS[peer]}: {reason}", []).append(f"{result.net} by {result.batch}")
    return [f"{reason} ({', '.join(where)})" for reason, where in found.items()]


def show(console: Console, results: list[Result], peers: list[str]) -> None:
    """Prints the tables."""
    for title, heads, lines in tables(results, peers):
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column(title)
        for head in heads:
            table.add_column(head, justify="right")
        for line in lines:
            table.add_row(*line)
        console.print(table)
    for line in _missing(results):
        console.print(line, highlight=False, markup=False)


def parsed() -> argparse.Namespace:
    """The command line's options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--nets", default="", metavar="PATTERN", help="only networks whose name begins so")
    parser.add_argument("--batch", type=int, nargs="+", help="only these batch sizes")
    parser.add_argument("--train", action="store_true", help="training steps instead of inference")
    parser.add_argument("--peers", nargs="+", choices=HEADS, default=list(HEADS), help="who takes part")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.3, help="of calls for each peer in each round")
    parser.add_argument("--threads", type=int, default=usable_threads())
    parser.add_argument("--json", type=Path, metavar="FILE", help="add what is measured to what stands in the file")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="the tables, of all in the file, as text")
    options = parser.parse_args()
    options.fastest = False
    if options.train:
        options.peers = [peer for peer in options.peers if peer in TRAIN]
    return options


def main() -> None:
    """Measure and print."""
    options, console = parsed(), Console(width=110 if not sys.stdout.isatty() else None)
    results: list[Result] = []
    with processes(options.peers, options.threads, console, "net_worker.py") as started:
        about = described({peer: process.version for peer, process in started.items()}, options)
        for number, net in enumerate(NETS):
            for batch in (net.trained,) if options.train else net.batches:
                if net.name.lower().startswith(options.nets.lower()) and (
                    options.batch is None or batch in options.batch
                ):
                    results.append(measure(number, batch, started, options))
                    print(f"{net.name} by {batch} is done", file=sys.stderr)
    peers = [peer for peer in HEADS if peer in options.peers and peer in started]
    show(console, results, peers)
    _keep(results, about, options)


def _keep(results: list[Result], about: str, options: argparse.Namespace) -> None:
    data: dict[str, Any] = {"about": about, "results": []}
    if options.json:
        if options.json.exists():
            data["results"] = json.loads(options.json.read_text())["results"]
        new = {(result.net, result.batch, result.train) for result in results}
        data["results"] = [old for old in data["results"] if (old["net"], old["batch"], old["train"]) not in new]
        data["results"] += [asdict(result) for result in results]
        options.json.write_text(json.dumps(data, indent=1) + "\n")
        names = [net.name for net in NETS]
        results = [Result(**entry) for entry in data["results"] if entry["train"] == options.train]
        results.sort(key=lambda result: (names.index(result.net), result.batch))
    if options.markdown:
        peers = [peer for peer in HEADS if any(peer in result.seconds for result in results)]
        options.markdown.write_text(markdown(results, peers, about))


if __name__ == "__main__":
    main()
