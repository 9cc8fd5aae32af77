"""`svertka doctor` and `svertka cache`: the state of the engine, and of the compiled kernels on disk."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import torch
    from rich.table import Table

    from svertka.engine.doctor import Examination

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

cache_app = typer.Typer(invoke_without_command=True)


@cache_app.callback()
def cache(context: typer.Context, as_json: AsJson = False) -> None:
    """Show where compiled kernels are kept, how many there are, and how much room they take.

    The variable SVERTKA_CACHE names another folder, or switches the cache "off".
    """
    if context.invoked_subcommand is None:
        _show_cache(as_json)


@cache_app.command()
def clear() -> None:
    """Remove all compiled kernels: those that are needed are compiled again."""
    from svertka.jit import cache

    state = cache.clear()
    where = f"there is no cache, {state.finding}" if state.folder is None else f"removed from {state.folder}"
    print(f"{_entries(state.entries)}, {state.size / 2**20:.1f} MiB: {where}.")


def doctor(as_json: AsJson = False) -> None:
    """Examine the engine on this machine: what it found, what it reaches, whether its results are right.

    Each finding says what to do about it. Exit code: 0 if all results are right, 1 if not.
    """
    from svertka.engine.doctor import examine

    examination = examine()
    if as_json:
        print(json.dumps(examination.to_dict()))
    else:
        _show(examination)
    if not examination.sound:
        raise typer.Exit(1)


def _show_cache(as_json: bool) -> None:
    from svertka.jit import cache

    state = cache.state()
    if as_json:
        folder = None if state.folder is None else str(state.folder)
        print(json.dumps({**vars(state), "folder": folder, "used": not state.finding}))
        return
    if state.folder is None:
        print(f"There is no cache, {state.finding}: each process compiles its kernels anew.")
        return
    print(f"Compiled kernels are kept in {state.folder}:")
    print(f"{_entries(state.entries)}, {state.size / 2**20:.1f} of {state.limit >> 20} MiB.")
    if state.finding:
        print(f"But the folder is not used: {state.finding}. Do {cache.remedy(state.folder)}.")


def _entries(number: int) -> str:
    return "1 entry" if number == 1 else f"{number} entries"


def _show(examination: Examination) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    table = _table("", "found", "what to do")
    for finding in examination.findings:
        table.add_row(finding.topic, finding.found, finding.advice)
    console.print(table)
    console.print()
    table = _table("operation", "by", "result")
    for trial in examination.trials:
        by = trial.detail if trial.path == "kernel" else f"portable: {trial.detail}"
        table.add_row(trial.operation, by, trial.fault or "right", style="red" if trial.fault else None)
    console.print(table)
    wrong = sum(bool(trial.fault) for trial in examination.trials)
    if wrong:
        console.print(
            f"\n{wrong} of {len(examination.trials)} results are wrong. Set SVERTKA_ENGINE=portable to compute without "
            "the kernels, and report what is printed above."
        )
    else:
        console.print(f"\nAll {len(examination.trials)} results are right.")


def _table(*headings: str) -> Table:
    from rich import box
    from rich.table import Table

    table: Any = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table  # type: ignore[no-any-return]


def show_tuning(network: torch.nn.Module, size: tuple[int, ...], batch: int) -> None:
    """Tunes the convolutions of a network for pictures [channels, height, width] and prints what was gained."""
    import torch
    from rich.console import Console

    from svertka.engine.tuning import tune

    console = Console(highlight=False)
    table = _table("convolution, input by weight", "schedule before", "after", "µs before", "after", "gain")
    total = [0.0, 0.0]
    with console.status("Measuring schedules …") as status:
        for number, tuned in enumerate(tune(network, torch.randn(batch, *size)), start=1):
            status.update(f"Measuring schedules … {number} convolutions done")
            before, after = tuned.seconds_before * 1e6, tuned.seconds_after * 1e6
            total[0], total[1] = total[0] + before, total[1] + after
            tiles = [str(schedule) for schedule in (tuned.before, tuned.after)]
            table.add_row(tuned.layer, *tiles, f"{before:.0f}", f"{after:.0f}", f"{before / after:.2f}")
    if not total[1]:
        console.print("The network has no convolution that the kernels compute: there is nothing to tune.")
        return
    console.print(table)
    console.print(f"All of them together: {total[0]:.0f} µs before, {total[1]:.0f} µs after. The schedules are kept.")
