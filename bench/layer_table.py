"""The arithmetic of the table of layers, and how it is shown."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from layer_rows import Row
from rich import box
from rich.console import Console
from rich.table import Table

OURS = "ours"
HEADS = {
    "ours": "ours",
    "ours-nchw": "nchw",
    "torch": "torch",
    "torch-last": "t.last",
    "inductor": "induct",
    "onnxruntime": "ORT",
    "openvino": "OpenV",
    "mnn": "MNN",
    "ncnn": "ncnn",
}


@dataclass
class Result:
    """What was measured of a row at one batch size.

    Args:
        macs: multiply-adds; 0 for layers without weights.
        moved: bytes of input, weights and output.
        seconds: of a call, by peer, one for each round.
        reasons: why a peer is missing.
        facts: what else the peers tell.
    """

    row: Row
    batch: int
    macs: int
    moved: int
    seconds: dict[str, list[float]] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)

    def median(self, peer: str) -> float:
        """Seconds of a call."""
        return statistics.median(self.seconds[peer])

    def ratio(self, peer: str) -> float:
        """The median over rounds of the peer's time / ours; above 1 we are faster."""
        return statistics.median(a / b for a, b in zip(self.seconds[peer], self.seconds[OURS], strict=True))

    def best(self) -> tuple[str, float] | None:
        """The peer with the smallest ratio, and the ratio; None without ours or without a peer."""
        peers = [peer for peer in self.seconds if not peer.startswith(OURS)]
        if OURS not in self.seconds or not peers:
            return None
        best = min(peers, key=self.ratio)
        return best, self.ratio(best)

    def spread(self) -> float:
        """(slowest round − fastest) / median of ours."""
        seconds = self.seconds[OURS]
        return (max(seconds) - min(seconds)) / self.median(OURS)

    def speed(self, machine: dict[str, float]) -> tuple[float, str, float]:
        """(number, unit, share of the machine's peak) of ours: arithmetic if there are weights, else traffic."""
        if self.macs:
            flops = 2 * self.macs / self.median(OURS) / 1e9
            return flops, "GFLOP/s", flops / machine["gflops"]
        bandwidth = self.moved / self.median(OURS) / 1e9
        return bandwidth, "GB/s", bandwidth / machine["bandwidth"]


def geometric_mean(values: Iterable[float]) -> float:
    """(Π v)^(1/n)."""
    return math.exp(statistics.mean(map(math.log, values)))


def milliseconds(seconds: float) -> str:
    """Down to a microsecond, in no more than six characters."""
    value = 1000 * seconds
    return f"{value:.3f}" if value < 10 else f"{value:.2f}" if value < 100 else f"{value:.0f}"


def digits(ratio: float) -> str:
    """Down to hundredths, in no more than four characters."""
    return f"{ratio:.2f}" if ratio < 10 else f"{ratio:.1f}" if ratio < 100 else f"{ratio:.0f}"


def summary(results: Sequence[Result]) -> str:
    """Over all rows: how often we are the fastest, and the mean ratio."""
    ratios = [best[1] for result in results if (best := result.best())]
    if not ratios:
        return "No row has both ours and a peer."
    ahead = sum(ratio >= 1 for ratio in ratios)
    return (
        f"Fastest in {ahead} of {len(ratios)} rows; ratio of the best peer's time to ours: "
        f"geometric mean {geometric_mean(ratios):.2f}, lowest {min(ratios):.2f}, highest {max(ratios):.2f}."
    )


def missing(results: Sequence[Result]) -> list[str]:
    """One line for each peer and reason: the rows that it concerns."""
    rows: dict[tuple[str, str], dict[str, list[int]]] = {}
    for result in results:
        for peer, reason in result.reasons.items():
            rows.setdefault((peer, reason), {}).setdefault(result.row.name, []).append(result.batch)
    return [
        f"{peer}: {reason} ({', '.join(f'{name} by {and_so(batches)}' for name, batches in names.items())})"
        for (peer, reason), names in rows.items()
    ]


def rejected(results: Sequence[Result]) -> list[str]:
    """One line for each way of a peer whose results were wrong, where another way of the same peer was right."""
    ways: dict[tuple[str, str, str], list[tuple[float, float]]] = {}
    for result in results:
        for peer in result.seconds:
            tried = result.facts.get(peer, {}).get("tried", ())
            timed = [way["seconds"] for way in tried if not way["reason"]]
            for way in tried:
                if way["reason"] and way.get("error"):
                    share = way["seconds"] / min(timed)
                    ways.setdefault((peer, way["way"], way["reason"]), []).append((way["error"], share))
    return [
        f"{peer}, {way}: {reason} in {len(of)} rows, by {min(e for e, _ in of):.0e} to {max(e for e, _ in of):.0e}, "
        f"in {geometric_mean(share for _, share in of):.2f} of the time of what is in the table"
        for (peer, way, reason), of in ways.items()
    ]


def notes(results: Sequence[Result]) -> list[str]:
    """What stands below the tables."""
    gaps = [f"no number for {line}" for line in missing(results)]
    return gaps + [f"not timed: {line}" for line in rejected(results)]


def and_so(numbers: Sequence[int]) -> str:
    """The numbers in words: "1 and 8"."""
    return " and ".join(map(str, numbers))


Line = tuple[str, ...]


def times(results: Sequence[Result], peers: Sequence[str]) -> tuple[Line, Iterator[tuple[str, Line]]]:
    """(heads, (group, line) of each result): milliseconds and the ratio, the best peer marked with a star."""

    def lines() -> Iterator[tuple[str, Line]]:
        for result in results:
            best = result.best()
            cells = [
                milliseconds(result.median(peer)) + ("*" if best and peer == best[0] else "")
                if peer in result.seconds
                else "–"
                for peer in peers
            ]
            ratio = digits(best[1]) if best else "–"
            yield result.row.group, (result.row.name, str(result.batch), *cells, ratio)

    return ("ms", "N", *(HEADS[peer] for peer in peers), "ratio"), lines()


def ours(results: Sequence[Result], machine: dict[str, float]) -> tuple[Line, Iterator[tuple[str, Line]]]:
    """(heads, (group, line) of each result): how ours were computed, and how near to the machine's peak."""

    def lines() -> Iterator[tuple[str, Line]]:
        for result in results:
            if OURS not in result.seconds:
                continue
            facts, (speed, unit, share) = result.facts[OURS], result.speed(machine)
            yield (
                result.row.group,
                (
                    result.row.name,
                    str(result.batch),
                    f"{speed:.0f} {unit}",
                    f"{share:.0%}",
                    f"{1000 * facts['compiled']:.0f}/{1000 * facts['cached']:.0f}",
                    f"{result.spread():.0%}",
                    facts["detail"] if facts["path"] == "kernel" else f"{facts['path']}: {facts['detail']}",
                ),
            )

    return ("ours", "N", "speed", "peak", "first", "±", "path"), lines()


LEGEND = (
    "ms: median over the rounds; * the best peer; ratio: its time / ours in the same round (median), above 1 we are "
    "faster. ours and t.last: channels_last; nchw and torch: contiguous. speed: of arithmetic, or of reading input "
    "and writing output; peak: of the {gflops:.0f} GFLOP/s that a matrix product reached, or the {bandwidth:.0f} GB/s "
    "that a sum read from memory (caches are faster). first: ms of a first call that compiles its kernel / "
    "finds it on disk; ±: (slowest round − fastest) / median; path: the kernel, or torch's operations and why."
)


def show(console: Console, results: Sequence[Result], peers: Sequence[str], machine: dict[str, float]) -> None:
    """Prints both tables, what is missing, and the summary."""
    for heads, lines in (times(results, peers), ours(results, machine)):
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=0, header_style="bold")
        for head in heads:
            table.add_column(head, justify="left" if head in (heads[0], "path") else "right", no_wrap=head != "path")
        group = ""
        for of, line in lines:
            if of != group:
                table.add_row(f"[bold]{of}[/]")
                group = of
            table.add_row(*(_styled(head, cell) for head, cell in zip(heads, line, strict=True)))
        console.print(table, "")
    for line in notes(results):
        console.print(line, style="dim", highlight=False, markup=False)
    console.print(LEGEND.format(**machine), style="dim", highlight=False)
    console.print(summary(results), style="bold", highlight=False)


def _styled(head: str, cell: str) -> str:
    if head == "ratio" and cell != "–":
        return f"[{'green' if float(cell) >= 1 else 'red'}]{cell}[/]"
    return f"[bold]{cell}[/]" if cell.endswith("*") else cell


def markdown(results: Sequence[Result], peers: Sequence[str], machine: dict[str, float], about: str) -> str:
    """The same as text."""
    parts = [about]
    for heads, lines in (times(results, peers), ours(results, machine)):
        rule = [":--" if head in (heads[0], "path") else "--:" for head in heads]
        body = [line for _, line in lines]
        parts.append("\n".join(f"| {' | '.join(line)} |" for line in (heads, rule, *body)))
    if remarks := notes(results):
        parts.append("\n".join(f"- {line}" for line in remarks))
    return "\n\n".join((*parts, LEGEND.format(**machine), summary(results))) + "\n"


def as_data(results: Sequence[Result]) -> list[dict[str, Any]]:
    """All that was measured, for a file."""
    return [
        {
            **asdict(result),
            "ratios": {peer: result.ratio(peer) for peer in result.seconds if OURS in result.seconds},
        }
        for result in results
    ]
