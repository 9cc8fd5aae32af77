"""Training on separate hosts, and what may happen to them: three network namespaces on one bridge, as three machines.

    sudo python bench/hosts.py [--processes 3] [--stop 60]

Each host has an address and a loopback of its own, and shares no memory or port with the others; the run's folder is a
disk that all see. Undisturbed first; then one rank is killed −9; then one is stopped; then a host's link is cut, and
restored after some seconds. A fault is survived if the run ends by itself (torchrun --max-restarts) with the losses of
an undisturbed run, to a fiftieth. It costs the seconds by which the run took longer than the undisturbed one;
throughput kept is what is left of an hour in which it happens once: 1 − lost / 3600. Root is needed to make network
namespaces; all that is made is removed again.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

SECONDS = 400
NORMED = Path(__file__).resolve().parent.parent / "tests" / "vision" / "normed_model.py"
TRAIN = [
    "-m", "svertka", "train", "digits", f"--model={NORMED}:build", "--model-arg=norm=false", "--epochs=30",
    "--batch-size=24", "--threads=1", "--workers=0", "--save-every=0.5", "--no-report", "--resume",
]  # fmt: skip


def ip(*arguments: str) -> None:
    """The command of that name."""
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


class Hosts:
    """So many namespaces on a bridge, 10.77.0.1 and on; a context manager."""

    def __init__(self, count: int) -> None:
        self.names = [f"svertka{number}" for number in range(count)]

    def __enter__(self) -> Hosts:
        self.__exit__()
        ip("link", "add", "svertka-br", "type", "bridge")
        ip("link", "set", "svertka-br", "up")
        for number, name in enumerate(self.names):
            ip("netns", "add", name)
            ip("link", "add", f"{name}-out", "type", "veth", "peer", "name", "eth0", "netns", name)
            ip("link", "set", f"{name}-out", "master", "svertka-br", "up")
            ip("-n", name, "address", "add", f"10.77.0.{number + 1}/24", "dev", "eth0")
            ip("-n", name, "link", "set", "eth0", "up")
            ip("-n", name, "link", "set", "lo", "up")
        return self

    def __exit__(self, *_: object) -> None:
        for name in self.names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True)
        subprocess.run(["ip", "link", "del", "svertka-br"], capture_output=True)

    def link(self, number: int, state: str) -> None:
        """Cuts ("down") or restores ("up") a host's link."""
        ip("link", "set", f"{self.names[number]}-out", state)


class Run:
    """A training run on all hosts."""

    def __init__(self, hosts: Hosts, out: Path, patience: int) -> None:
        self.hosts, self.out, self.begin = hosts, out, time.monotonic()
        environment = {
            **os.environ, "GLOO_SOCKET_IFNAME": "eth0", "OMP_NUM_THREADS": "1", "SVERTKA_PATIENCE": str(patience),
        }  # fmt: skip
        torchrun = [sys.executable, "-m", "torch.distributed.run", f"--nnodes={len(hosts.names)}", "--nproc-per-node=1"]
        torchrun += ["--master-addr=10.77.0.1", "--master-port=29777", "--max-restarts=5"]
        self.logs = [out.parent / f"{out.name}-{name}.log" for name in hosts.names]
        self.launchers = [
            subprocess.Popen(
                ["ip", "netns", "exec", name, *torchrun, f"--node-rank={rank}", *TRAIN, "--out", str(out)],
                env=environment, stdout=subprocess.DEVNULL, stderr=log.open("wb"),
            )
            for rank, (name, log) in enumerate(zip(hosts.names, self.logs, strict=True))
        ]  # fmt: skip

    def worker(self, number: int) -> int:
        """The process that trains on a host: torchrun's child."""
        pid = self.launchers[number].pid  # `ip netns exec` has become torchrun
        found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        ranked = [int(child) for child in found if b"\0RANK=" in Path(f"/proc/{child}/environ").read_bytes()]
        if not ranked:
            raise AssertionError("there is no worker to do something to")
        return ranked[0]

    def wait_for_epochs(self, count: int) -> None:
        """Until so many are finished."""
        metrics = self.out / "metrics.jsonl"
        while not metrics.exists() or len(metrics.read_text().splitlines()) < count:
            if time.monotonic() - self.begin > SECONDS or any(x.poll() is not None for x in self.launchers):
                raise AssertionError("it ended, or has not come so far: " + self.last_words())
            time.sleep(0.05)

    def end(self) -> float:
        """Seconds from the start to the end."""
        try:
            for launcher in self.launchers:
                code = launcher.wait(max(SECONDS - (time.monotonic() - self.begin), 1))
                if code:
                    raise AssertionError(f"exit code {code}: {self.last_words()}")
        except subprocess.TimeoutExpired:
            raise AssertionError(f"not done after {SECONDS} s: {self.last_words()}") from None
        finally:
            for launcher in self.launchers:
                if launcher.poll() is None:
                    launcher.terminate()
                    launcher.wait(60)
        return time.monotonic() - self.begin

    def last_words(self) -> str:
        """What the hosts said last."""
        return " | ".join(" ".join(log.read_text(errors="replace").split())[-150:] for log in self.logs)

    def curve(self) -> list[float]:
        """The losses."""
        return [json.loads(line)["train_loss"] for line in (self.out / "metrics.jsonl").read_text().splitlines()]


def nothing(_: Run) -> None:
    """No fault."""


def killed(run: Run) -> None:
    """The last rank is killed −9."""
    os.kill(run.worker(len(run.launchers) - 1), signal.SIGKILL)


def stopped(seconds: float) -> Callable[[Run], None]:
    """The last rank stands still for so long."""

    def stop(run: Run) -> None:
        pid = run.worker(len(run.launchers) - 1)
        os.kill(pid, signal.SIGSTOP)
        time.sleep(seconds)
        os.kill(pid, signal.SIGCONT)

    return stop


def cut(seconds: float) -> Callable[[Run], None]:
    """The last host's link is cut for so long."""

    def cut_off(run: Run) -> None:
        last = len(run.hosts.names) - 1
        run.hosts.link(last, "down")
        time.sleep(seconds)
        run.hosts.link(last, "up")

    return cut_off


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=3)
    parser.add_argument("--stop", type=float, default=60, help="seconds that a rank stands still")
    parser.add_argument("--cut", type=float, default=10, help="seconds that a link is cut")
    options = parser.parse_args()
    if os.geteuid():
        print("network namespaces are made by root alone: run it as root (sudo), on a machine where that is yours")
        return 2
    faults: dict[str, Callable[[Run], None]] = {
        "none": nothing,
        "a rank is killed −9": killed,
        f"a rank stands still for {options.stop:g} s": stopped(options.stop),
        f"a host's link is cut for {options.cut:g} s": cut(options.cut),
    }
    plain, curve, failed = 0.0, list[float](), 0
    print(f"{options.processes} hosts\n\n{'fault':36} survived  seconds  lost, s  kept of an hour", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, fault) in enumerate(faults.items()):
            try:
                with Hosts(options.processes) as hosts:
                    run = Run(hosts, Path(folder) / f"run{number}", patience=300)
                    try:
                        run.wait_for_epochs(3)
                        fault(run)
                    finally:
                        seconds = run.end()
                plain, curve = (plain or seconds), (curve or run.curve())
                near = all(abs(a - b) <= 0.02 * abs(b) for a, b in zip(run.curve(), curve, strict=True))
                found = "" if near else "other losses"
            except (AssertionError, OSError, subprocess.SubprocessError) as error:
                found, seconds = str(error), 0.0
            failed += bool(found)
            lost = max(0.0, seconds - plain)
            cost = f"{lost:7.1f}  {1 - lost / 3600:15.2%}" if seconds else f"{'–':>7}  {'–':>15}"
            print(f"{name:36} {'no' if found else 'yes':8} {seconds:8.1f}  {cost}  {found[:400]}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
