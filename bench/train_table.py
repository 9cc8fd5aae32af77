"""The arithmetic of the table of training, and how it is shown."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from layer_table import digits, geometric_mean, milliseconds
from rich import box
from rich.console import Console
from rich.table import Table
from train_rows import Row

OURS = "ours"
HEADS = {
    "ours": "ours", "ours-nchw": "nchw", "kernels": "kernels", "torch": "torch", "torch-last": "t.last",
    "inductor": "induct",
}  # fmt: skip
LEGEND = (
    "ms: forward and backward of a layer, or a step (zero_grad, forward, loss, backward, fused SGD), median over the "
    "rounds; * the best peer; ratio: its time / ours in the same round (median), above 1 we are faster. MB: the peak "
    "of a step beyond what the process had before the network, libraries not counted, ours / the best peer's. ours, "
    "t.last and induct: channels_last; torch: contiguous. path: of ours, by kernels, by torch, or mixed."
)


@dataclass
class Result:
    """What was measured of a row: seconds of a call by peer, one for each round; what peers tell, or why they don't."""

    row: Row
    seconds: dict[str, list[float]] = field(default_factory=dict)
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)

    def ratio(self, peer: str) -> float:
        """The median over rounds of the peer's time / ours."""
        return statistics.median(a / b for a, b in zip(self.seconds[peer], self.seconds[OURS], strict=True))

    def best(self) -> tuple[str, float] | None:
        """The peer with the smallest ratio, and the ratio; None without ours or without a peer."""
        peers = [peer for peer in self.seconds if peer not in ("ours", "ours-nchw", "kernels")]
        if OURS not in self.seconds or not peers:
            return None
        best = min(peers, key=self.ratio)
        return best, self.ratio(best)

    def path(self) -> str:
        """Who computed ours."""
        paths = self.facts.get(OURS, {}).get("paths", {})
        used = [name for name in ("kernel", "portable") if paths.get(name)]
        return {(): "torch", ("kernel",): "kernels", ("portable",): "torch"}.get(tuple(used), "mixed")

    def as_data(self) -> dict[str, Any]:
        """All of it, for a file."""
        row = {"group": self.row.group, "name": self.row.name, "batch": self.row.batch}
        return {**row, "seconds": self.seconds, "facts": self.facts, "reasons": self.reasons}


Line = tuple[str, ...]


def lines(results: Sequence[Result], peers: Sequence[str]) -> tuple[Line, Iterator[tuple[str, Line]]]:
    """(heads, (group, line) of each result)."""

    def each() -> Iterator[tuple[str, Line]]:
        for result in results:
            best = result.best()
            cells = [
                milliseconds(statistics.median(result.seconds[peer])) + ("*" if best and peer == best[0] else "")
                if peer in result.seconds
                else "–"
                for peer in peers
            ]
            memory = "–"
            if best:
                memory = " / ".join(f"{result.facts[peer]['megabytes']:.0f}" for peer in (OURS, best[0]))
            ratio = digits(best[1]) if best else "–"
            yield result.row.group, (result.row.name, str(result.row.batch), *cells, ratio, memory, result.path())

    return ("ms", "N", *(HEADS[peer] for peer in peers), "ratio", "MB", "path"), each()


def summary(results: Sequence[Result]) -> list[str]:
    """For each group, how often we are the fastest, and the mean ratio."""
    found = []
    for group in dict.fromkeys(result.row.group for result in results):
        ratios = [best[1] for result in results if result.row.group == group and (best := result.best())]
        if ratios:
            ahead = sum(ratio >= 1 for ratio in ratios)
            found.append(
                f"{group}: fastest in {ahead} of {len(ratios)} rows; ratio: geometric mean "
                f"{geometric_mean(ratios):.2f}, lowest {min(ratios):.2f}, highest {max(ratios):.2f}."
            )
    return found or ["No row has both ours and a peer."]


def notes(results: Sequence[Result]) -> list[str]:
    """What is missing, and why."""
    rows: dict[tuple[str, str], list[str]] = {}
    for result in results:
        for peer, reason in result.reasons.items():
            rows.setdefault((peer, reason), []).append(f"{result.row.name} by {result.row.batch}")
    return [f"no number for {peer}: {reason} ({', '.join(names)})" for (peer, reason), names in rows.items()]


def show(console: Console, results: Sequence[Result], peers: Sequence[str], about: str) -> None:
    """Prints the table, what is missing, and the summary."""
    console.print(about, highlight=False)
    heads, body = lines(results, peers)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=0, header_style="bold")
    for head in heads:
        table.add_column(head, justify="left" if head in (heads[0], "path") else "right", no_wrap=True)
    group = ""
    for of, line in body:
        if of != group:
            table.add_row(f"[bold]{of}[/]")
            group = of
        table.add_row(*line)
    console.print(table, "")
    for line in (*notes(results), LEGEND):
        console.print(line, style="dim", highlight=False, markup=False)
    for line in summary(results):
        console.print(line, style="bold", highlight=False)


def markdown(results: Sequence[Result], peers: Sequence[str], about: str) -> str:
    """The same as text."""
    heads, body = lines(results, peers)
    rule = [":--" if head in (heads[0], "path") else "--:" for head in heads]
    table = "\n".join(f"| {' | '.join(line)} |" for line in (heads, rule, *(line for _, line in body)))
    remarks = "\n".join(f"- {line}" for line in notes(results))
    return "\n\n".join(part for part in (about, table, remarks, LEGEND, *summary(results)) if part) + "\n"
