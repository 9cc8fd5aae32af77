"""Single layers, ours beside the peers: `make bench-layers`, or `python bench/layers.py --help`; see README.md."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from layer_rows import ROWS, Row, arrays, chosen
from layer_table import HEADS, Result, as_data, markdown, show
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

DEFAULT = ("ours", "ours-nchw", "torch", "torch-last", "onnxruntime", "openvino", "mnn", "ncnn")
HERE = Path(__file__).parent
PATIENCE = 300.0  # seconds for an answer


class WorkerError(Exception):
    """A worker's process ended, or gave no answer."""


class Process:
    """A peer's process. It is stopped while it is not asked, so that its threads don't disturb the others."""

    def __init__(self, peer: str, threads: int, scratch: Path, worker: str = "worker.py") -> None:
        self.worker = worker
        self.peer, self.threads, self.scratch = peer, threads, scratch / peer
        self.process: subprocess.Popen[str] | None = None
        self.version = self._start()

    def _start(self) -> str:
        self.scratch.mkdir(exist_ok=True)
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": str(self.threads),
            "SVERTKA_CACHE": str(self.scratch / "cache"),
            "PYTHONWARNINGS": "ignore",
        }
        command = [sys.executable, str(HERE / self.worker), self.peer, str(self.threads), str(self.scratch)]
        with (self.scratch / "log").open("a") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environment,
                start_new_session=True,  # Ctrl-C is for us
            )
        answer = self._read()
        if "reason" in answer:
            raise WorkerError(answer["reason"])
        self._stop()
        return str(answer["version"])

    def ask(self, **request: Any) -> dict[str, Any]:
        """The answer to a request.

        Raises:
            WorkerError: if there is none; the next request goes to a new process.
        """
        if self.process is None:
            self._start()
        assert self.process is not None and self.process.stdin is not None
        self.process.send_signal(signal.SIGCONT)
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        answer = self._read()
        self._stop()
        return answer

    def _read(self) -> dict[str, Any]:
        assert self.process is not None and self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], PATIENCE)
        line = self.process.stdout.readline() if ready else ""
        if line:
            return json.loads(line)  # type: ignore[no-any-return]
        if not ready:
            self.end()
            raise WorkerError(f"it gave no answer in {PATIENCE:.0f} seconds")
        code = self.process.wait()
        self.process = None
        said = (self.scratch / "log").read_text().strip().splitlines()[-1:]
        how = signal.Signals(-code).name if code < 0 else f"code {code}"
        raise WorkerError(f"its process ended with {how}: {' '.join(said)[:120]}")

    def _stop(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def end(self) -> None:
        """Ends the process."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


@contextmanager
def processes(
    peers: Sequence[str], threads: int, console: Console, worker: str = "worker.py"
) -> Iterator[dict[str, Process]]:
    """The peers' processes and the reference's; a peer that can't start is told of and left out."""
    started: dict[str, Process] = {}
    with tempfile.TemporaryDirectory(prefix="layers-") as folder:
        try:
            for peer in ("reference", *peers):
                with console.status(f"starting {peer}"):
                    try:
                        started[peer] = Process(peer, threads, Path(folder), worker)
                    except WorkerError as problem:
                        console.print(f"{peer} is left out: {problem}", highlight=False, markup=False)
            yield started
        finally:
            for process in started.values():
                process.end()


def measure(row: Row, batch: int, started: dict[str, Process], options: argparse.Namespace) -> Result:
    """One row at one batch size: all peers are checked first, then timed in turn, each round beginning with another."""
    reference, *peers = started
    file = str(started[reference].scratch / "reference.npy")
    number, numbers = ROWS.index(row), arrays(row, batch)
    shape = started[reference].ask(load=number, batch=batch, reference=file)["shape"]
    places, outputs = 1, batch * shape[1]
    for size in shape[2:]:
        places *= size
    moved = 4 * (sum(array.size for array in numbers.values()) + outputs * places)
    result = Result(row, batch, row.macs(batch, places), moved)
    for peer in peers:
        try:
            answer = started[peer].ask(load=number, batch=batch, reference=file)
        except WorkerError as problem:
            answer = {"reason": str(problem)}
        if "reason" in answer:
            result.reasons[peer] = answer["reason"]
        result.facts[peer] = answer
    peers = [peer for peer in peers if peer not in result.reasons]
    for turn in range(options.rounds):
        for peer in (*peers[turn % len(peers) :], *peers[: turn % len(peers)]) if peers else ():
            try:
                spent = started[peer].ask(time=options.seconds)["fastest" if options.fastest else "median"]
            except WorkerError as problem:
                others = {name: process for name, process in started.items() if name != peer}
                again = measure(row, batch, others, options)
                again.reasons[peer] = str(problem)
                return again
            result.seconds.setdefault(peer, []).append(spent)
    return result


def usable_threads() -> int:
    """The processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def parsed() -> argparse.Namespace:
    """The command line's options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--rows", default="", metavar="PATTERN", help="only rows with this in 'group: name'")
    parser.add_argument("--batch", type=int, nargs="+", help="only these batch sizes of each row's own")
    parser.add_argument("--peers", nargs="+", choices=HEADS, default=list(DEFAULT), help="who takes part")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.04, help="of calls for each peer in each round")
    parser.add_argument("--fastest", action="store_true", help="a round's number is its fastest call, not the median")
    parser.add_argument("--threads", type=int, default=usable_threads())
    parser.add_argument("--json", type=Path, metavar="FILE", help="all that was measured")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="the table as text")
    parser.add_argument("--list", action="store_true", help="list the rows and stop")
    return parser.parse_args()


def main() -> None:
    """Measure and print."""
    options, console = parsed(), Console(width=100 if not sys.stdout.isatty() else None)
    work = [
        (row, batch)
        for row in chosen(options.rows)
        for batch in row.batches
        if options.batch is None or batch in options.batch
    ]
    if options.list or not work:
        for row, batch in work:
            console.print(f"{row.group}: {row.name}, batch {batch}", highlight=False, markup=False)
        sys.exit(None if work else f"no row has {options.rows!r} in its name and such a batch: see --list")
    results: list[Result] = []
    with processes(options.peers, options.threads, console) as started:
        machine = started["reference"].ask(machine=True)
        versions = {peer: process.version for peer, process in started.items()}
        about = described(versions, options)
        console.print(about, highlight=False)
        with progress(console) as bar, contextlib.suppress(KeyboardInterrupt):
            task = bar.add_task("", total=len(work))
            for row, batch in work:
                bar.update(task, description=f"{row.name} by {batch}")
                results.append(measure(row, batch, started, options))
                bar.advance(task)
                if not console.is_terminal:
                    print(f"{len(results)} of {len(work)}: {row.name} by {batch}", file=sys.stderr)
            again = started["reference"].ask(machine=True)
            machine = {name: max(value, again[name]) for name, value in machine.items()}
    peers = [peer for peer in options.peers if peer in versions]
    if not results:
        sys.exit("interrupted before the first row was done")
    show(console, results, peers, machine)
    if options.markdown:
        options.markdown.write_text(markdown(results, peers, machine, about))
    if options.json:
        data = {"about": about, "machine": machine, "versions": versions, "rows": as_data(results)}
        options.json.write_text(json.dumps(data, indent=1) + "\n")


def progress(console: Console) -> Progress:
    """A bar with the time that is left."""
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        TextColumn("left"), TimeRemainingColumn(),
    )  # fmt: skip
    return Progress(*columns, console=console, transient=True, speed_estimate_period=600)


def described(versions: dict[str, str], options: argparse.Namespace) -> str:
    """The conditions of the measurement."""
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
        peers = ", ".join(f"{peer} {version}" for peer, version in versions.items() if peer != "reference")
        return (
            f"{model or platform.machine()}, {options.threads} threads, float32, {options.rounds} rounds of "
            f"{'the fastest' if options.fastest else 'the median'} call; "
            f"{platform.system()}, Python {platform.python_version()}; {peers}."
        )
    return platform.platform()


if __name__ == "__main__":
    main()
