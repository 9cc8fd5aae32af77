"""`svertka profile`: how long each part of a compiled network takes."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from rich.table import Table

    from svertka.compiler.report import PlanReport


def show_profile(
    network: torch.nn.Module, size: tuple[int, ...], batch: int, trace: Path | None, as_json: bool
) -> None:
    """Compiles a network for pictures [channels, height, width], runs it, and prints the time of each part."""
    import torch
    from rich.console import Console

    from svertka.commands.showing import print_json
    from svertka.compiler import CompiledModel
    from svertka.compiler.report import report, write_trace
    from svertka.errors import SvertkaError

    compiled = CompiledModel(network.eval())
    with torch.no_grad():
        compiled(torch.randn(batch, *size))
    (reported,) = report(compiled, measure=True)
    if reported.reason:
        raise SvertkaError(f"there is no plan of the network to measure: {reported.reason}")
    if trace is not None:
        write_trace(trace, reported)
    if as_json:
        print_json(asdict(reported))
        return
    console = Console(highlight=False)
    console.print(_table(reported))
    console.print(_summary(reported))
    if trace is not None:
        console.print(f"The trace is in {trace}: open it at ui.perfetto.dev.")


def _table(reported: PlanReport) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading, side in (("layer", "left"), ("operations", "left"), ("result", "left"), ("µs", "right")):
        table.add_column(heading, justify=side, overflow="fold")  # type: ignore[arg-type]
    table.add_column("of all", justify="right")
    table.add_column("of peak", justify="right")
    table.add_column("computed by", overflow="fold")
    total = reported.seconds or 0.0
    for node in reported.nodes:
        if not node.seconds:
            continue
        peak = "" if node.of_peak is None else f"{node.of_peak:.0%}"
        by = f"torch: {node.detail}" if node.path == "torch" else node.detail
        table.add_row(
            node.name,
            " + ".join(node.fused) or node.name,
            "×".join(map(str, node.shape)),
            f"{node.seconds * 1e6:.0f}",
            f"{node.seconds / total:.0%}",
            peak,
            by,
            style="yellow" if node.path == "torch" else None,
        )
    return table


def _summary(reported: PlanReport) -> str:
    macs = sum(node.macs for node in reported.nodes)
    seconds = reported.seconds or 0.0
    count = len(reported.fallbacks)
    torchs = {0: "nothing is left to torch", 1: "1 operation is left to torch"}.get(
        count, f"{count} operations are left to torch"
    )
    return (
        f"{seconds * 1e3:.2f} ms for {macs / 1e6:.1f} million multiply-adds, {2 * macs / seconds / 1e9:.0f} GFLOP/s. "
        f"{sum(node.kernels for node in reported.nodes)} kernels in {_calls(reported.calls)}; {torchs}. "
        f"Memory: {reported.arena_bytes / 2**20:.1f} MiB for what is between the layers "
        f"({reported.unshared_bytes / 2**20:.1f} without sharing), {reported.weight_bytes / 2**20:.1f} MiB of weights."
    )


def _calls(number: int) -> str:
    return "1 native call" if number == 1 else f"{number} native calls"
