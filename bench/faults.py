"""What goes wrong around a run, tried for real: one table of fault, times tried, survived, and throughput kept.

    python bench/faults.py [--times 3] [--only WORD]

A run is survived if no traceback was printed, nothing half-written was left, and the same command with --resume ends
with the weights of a run that nothing happened to. Lost are the processor's seconds that this took beyond those of
that run, on the mean: restarts of Python, steps since the last checkpoint, kernels compiled anew. They are counted, not
clocked, so that other work on the machine hardly changes them. Throughput kept is what is left of an hour in which it
happens once: 1 − lost / 3600. Full and read-only disks are small file systems in memory where root may mount,
else a limit of the size of files. Machines that are cut off: see bench/hosts.py.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file

SVERTKA = [sys.executable, "-m", "svertka"]
TRAIN = [*SVERTKA, "train", "digits", "--model=lenet", "--epochs=3", "--threads=1", "--workers=1", "--save-every=0.5"]
PICTURES = Path(__file__).parent.parent / "docs" / "pictures" / "digits"
SECONDS = 300
NOBODY, MANY = 12_345, 1500


@dataclass
class Row:
    """A fault: how often it was tried and survived, and the processor's seconds that the survived ones took."""

    fault: str
    tried: int = 0
    survived: int = 0
    seconds: float = 0.0
    found: str = ""

    def line(self, plain: float) -> str:
        """The row of the table; `plain` is what it takes when nothing happens."""
        told = f"{self.fault:36} {self.tried:5} {self.survived:8}  "
        if not self.survived:
            return f"{told}{'–':>7}  {'–':>15}  {self.found[:300]}"
        lost = max(0.0, self.seconds / self.survived - plain)
        return f"{told}{lost:7.1f}  {1 - lost / 3600:15.2%}  {self.found[:300]}"


class Bench:
    """Runs commands in a folder of its own, and knows what an undisturbed run gives and takes."""

    def __init__(self, folder: Path, times: int) -> None:
        self.folder, self.times, self.chance = folder, times, random.Random(0)
        self.cache = folder / "cache"
        self.environment = {**os.environ, "SVERTKA_CACHE": str(self.cache), "OMP_NUM_THREADS": "1"}
        self.run(TRAIN, "warm")  # compiles the kernels
        clock = time.monotonic()
        self.training = spent(lambda: self.run(TRAIN, "plain"))
        self.seconds, self.weights = time.monotonic() - clock, digest(folder / "plain")
        self.predict = [*SVERTKA, "predict", str(folder / "plain"), str(many_pictures(folder)), "--threads=1"]
        self.predicting = spent(lambda: self.run(self.predict, "undisturbed"))

    def run(self, command: list[str], out: str | Path, ok: tuple[int, ...] = (0,), **options: Any) -> str:
        """What a command prints on standard error; AssertionError if it ends otherwise or with a traceback."""
        done = self.start(command, out, **options)
        said = done.communicate(timeout=SECONDS)[1]
        assert "Traceback" not in said, said[-600:]
        assert done.returncode in ok, (done.returncode, said[-300:])
        return said

    def start(
        self,
        command: list[str],
        out: str | Path,
        environment: Mapping[str, str | None] | None = None,
        before: Callable[[], None] | None = None,
    ) -> subprocess.Popen[str]:
        """The command, begun; variables that are None are left out."""
        given = {**self.environment, **(environment or {})}
        return subprocess.Popen(
            [*command, "--out", str(self.folder / out)],
            env={name: value for name, value in given.items() if value is not None},
            preexec_fn=before,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def fresh(self, name: str) -> Path:
        """A folder that isn't there."""
        shutil.rmtree(self.folder / name, ignore_errors=True)
        return self.folder / name

    def whole(self, out: Path) -> None:
        """The run is finished, with the weights it should have, and left nothing behind."""
        assert digest(out) == self.weights, "other weights"
        left = [path.name for path in out.iterdir() if path.name.startswith(".")]
        assert not left, left


def spent(work: Callable[[], object]) -> float:
    """The seconds that the processes which the work starts compute."""
    begin = resource.getrusage(resource.RUSAGE_CHILDREN)
    work()
    end = resource.getrusage(resource.RUSAGE_CHILDREN)
    return end.ru_utime + end.ru_stime - begin.ru_utime - begin.ru_stime


def many_pictures(folder: Path) -> Path:
    """A folder of MANY pictures."""
    many = folder / "pictures"
    many.mkdir()
    sources = sorted(PICTURES.glob("*.png"))
    for number in range(MANY):
        shutil.copy(sources[number % len(sources)], many / f"{number:05}.png")
    return many


def digest(run: Path) -> str:
    """Of a model's weights."""
    tensors = load_file(run / "model.safetensors")
    return hashlib.sha256(b"".join(tensors[name].tobytes() for name in sorted(tensors))).hexdigest()


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[bool]:
    """A small file system in memory there; False if this user may not mount one."""
    folder.mkdir(exist_ok=True)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True)
    try:
        yield done.returncode == 0
    finally:
        if done.returncode == 0:
            subprocess.run(["umount", "-l", str(folder)], check=True)


def no_files_over(size: int) -> Callable[[], None]:
    """Before a command: a limit of the size of files, whose signal is ignored so that the write fails."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return limit


def full_disk(b: Bench) -> None:
    """The run's disk is full; later there is room."""
    out = b.fresh("full")
    with mounted(out, "size=900k") as small:
        if small:
            said = b.run([*TRAIN, "--overwrite"], "full/run", ok=(2,))
            assert "No space left" in said and said.count("\n") <= 2, said
            subprocess.run(["mount", "-o", "remount,size=64m", str(out)], check=True)
        else:
            said = b.run(TRAIN, "full/run", ok=(2,), before=no_files_over(100_000))
        b.run([*TRAIN, "--resume"], "full/run")
        b.whole(out / "run")


def limited_files(b: Bench) -> None:
    """Every file over 100 kB fails in the middle of being written."""
    said = b.run(TRAIN, b.fresh("limited"), ok=(2,), before=no_files_over(100_000))
    assert "too large" in said, said
    b.run([*TRAIN, "--resume"], "limited")
    b.whole(b.folder / "limited")


def full_cache(b: Bench) -> None:
    """The cache's disk is full: all is compiled anew."""
    place = b.folder / "small"
    with mounted(place, "size=16k,mode=700"):
        b.run(TRAIN, b.fresh("run"), environment={"SVERTKA_CACHE": str(place)})
        b.whole(b.folder / "run")


def no_cache(b: Bench) -> None:
    """The cache is switched off."""
    b.run(TRAIN, b.fresh("run"), environment={"SVERTKA_CACHE": "off"})
    b.whole(b.folder / "run")


def read_only_home(b: Bench) -> None:
    """The home folder can't be written to, and the cache would be there."""
    home = b.folder / "home"
    with mounted(home, "ro,size=64k"):
        environment = {"HOME": str(home), "SVERTKA_CACHE": None, "XDG_CACHE_HOME": None}
        b.run(TRAIN, b.fresh("run"), environment=environment)
        b.whole(b.folder / "run")


def no_home(b: Bench) -> None:
    """HOME is unset, and the user is none that the system knows (as in some containers)."""
    environment = {"HOME": None, "SVERTKA_CACHE": None, "XDG_CACHE_HOME": None}
    unknown = ["unshare", "--user", f"--map-user={NOBODY}"]  # in a world of its own, with the same permissions
    possible = subprocess.run([*unknown, "true"], capture_output=True).returncode == 0
    b.run([*(unknown if possible else []), *TRAIN], b.fresh("run"), environment=environment)
    b.whole(b.folder / "run")


def damaged_cache(b: Bench) -> None:
    """Every entry of the cache is cut off or changed, and comes from the future."""
    cache = b.folder / "damaged"
    shutil.rmtree(cache, ignore_errors=True)
    shutil.copytree(b.cache, cache)
    for number, path in enumerate(sorted(cache.iterdir())):
        content = bytearray(path.read_bytes())
        if number % 2:
            content[len(content) // 2] ^= 0xFF
        path.write_bytes(content if number % 2 else content[: len(content) // 2])
        os.utime(path, (time.time() + 10**7,) * 2)
    b.run(TRAIN, b.fresh("run"), environment={"SVERTKA_CACHE": str(cache)})
    b.whole(b.folder / "run")


_CLOCK = """
import random, sys, time
true, chance = time.time, random.Random(0)
time.time = lambda: true() + chance.choice((-1e8, -3600.0, 0.0, 3600.0, 1e8))
sys.argv = ["svertka", *sys.argv[1:]]
from svertka.cli import main
main()
"""


def jumping_clock(b: Bench) -> None:
    """Each look at the clock finds another hour, or another year."""
    b.run([sys.executable, "-c", _CLOCK, *TRAIN[len(SVERTKA) :]], b.fresh("run"))
    b.whole(b.folder / "run")


def _signalled(b: Bench, number: int, stages: int) -> None:
    """Sends a signal after some time, in all phases from the start of Python to the report; then resumes."""
    out = b.fresh("signalled")
    for stage in range(stages):
        process = b.start([*TRAIN, "--resume"], out)
        try:
            process.wait(b.seconds * 1.1 * (stage + b.chance.random()) / stages)
        except subprocess.TimeoutExpired:
            process.send_signal(number)
        said = process.communicate(timeout=SECONDS)[1]
        allowed = (0, -number, 128 + number)
        assert process.returncode in allowed, (process.returncode, said[-300:])
        early = not out.exists()  # Python itself was starting: its traceback of an import is not ours
        assert early or "Traceback" not in said, said[-600:]
        if process.returncode == 128 + number:
            assert "go on with" in said, said
    b.run([*TRAIN, "--resume"], out)
    b.whole(out)


def sigterm(b: Bench) -> None:
    """SIGTERM at four moments of a run, taken up again each time."""
    _signalled(b, signal.SIGTERM, 4)


def sigkill(b: Bench) -> None:
    """SIGKILL at four moments of a run, taken up again each time."""
    _signalled(b, signal.SIGKILL, 4)


def killed_prediction(b: Bench) -> None:
    """SIGKILL while pictures are predicted; each has one answer in the end."""
    out = b.fresh("answers")
    for _ in range(2):
        process = b.start(b.predict, out)
        try:
            process.wait(3 + 3 * b.chance.random())
        except subprocess.TimeoutExpired:
            process.kill()
        process.communicate()
    b.run(b.predict, out)
    lines = (out / "predictions.jsonl").read_text().splitlines()
    assert len(lines) == len(set(lines)) == MANY, len(lines)


FAULTS: dict[str, Callable[[Bench], None]] = {
    "disk full, then not": full_disk,
    "files limited to 100 kB, then not": limited_files,
    "disk of the cache full": full_cache,
    "cache off": no_cache,
    "cache damaged, from the future": damaged_cache,
    "read-only home": read_only_home,
    "no home, unknown user": no_home,
    "clock jumps at each look": jumping_clock,
    "SIGTERM four times": sigterm,
    "SIGKILL four times": sigkill,
    "SIGKILL while predicting": killed_prediction,
}


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--only", default="", help="faults whose name holds one of these words, with commas between")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        bench = Bench(Path(folder), options.times)
        print(f"an undisturbed run: {bench.training:.1f} s of the processor, {bench.predicting:.1f} of predictions\n")
        print(f"{'fault':36} tried survived  lost, s  kept of an hour", flush=True)
        for name, fault in FAULTS.items():
            if not any(word in name for word in options.only.split(",")):
                continue
            row = Row(name)
            for _ in range(options.times):
                row.tried += 1
                try:
                    seconds = spent(partial(fault, bench))
                except (AssertionError, OSError, subprocess.SubprocessError) as error:
                    row.found = str(error)
                else:
                    row.survived += 1
                    row.seconds += seconds
            print(row.line(bench.predicting if "predicting" in name else bench.training), flush=True)
            rows.append(row)
    lost = sum(row.tried - row.survived for row in rows)
    print(f"\n{sum(row.tried for row in rows)} tried, {lost} not survived")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
