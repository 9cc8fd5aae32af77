"""Under torchrun, a process that is killed or stopped in an epoch costs the steps since the last checkpoint."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from svertka.vision.run import train

NORMED = f"{Path(__file__).parent / 'normed_model.py'}:build"
GIVEN = {"model": NORMED, "model_arguments": {"norm": False}, "epochs": 10, "batch_size": 24, "threads": 1, "seed": 2}
OPTIONS = ["--model", NORMED, "--model-arg", "norm=false", "--epochs=10", "--batch-size=24", "--threads=1", "--seed=2"]
DEADLINE = 180


def _started(processes: int, out: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command += ["--max-restarts=2", "-m", "svertka", "train", "digits", *OPTIONS, "--save-every=0.05", "--workers=0"]
    with (out.parent / "stderr").open("wb") as err:
        return subprocess.Popen([*command, "--out", str(out), "--resume"], stdout=subprocess.DEVNULL, stderr=err)


def _workers(launcher: subprocess.Popen[bytes]) -> list[int]:
    """The processes that torchrun has started, by rank."""
    found = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split()
    environments = {pid: Path(f"/proc/{pid}/environ").read_bytes().split(b"\0") for pid in map(int, found)}
    ranks = {
        int(entry[5:]): pid
        for pid, environment in environments.items()
        for entry in environment
        if entry.startswith(b"RANK=")
    }
    return [ranks[rank] for rank in sorted(ranks)]


def _wait_for(what: Path, launcher: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not what.exists():
        assert launcher.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)


def _curve(folder: Path) -> list[list[float]]:
    records = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [[record["train_loss"], record["val_loss"]] for record in records]


def test_one_is_killed_and_one_is_stopped(tmp_path: Path) -> None:
    launcher = _started(2, tmp_path / "run")
    try:
        _wait_for(tmp_path / "run" / "checkpoint", launcher)
        first = _workers(launcher)
        os.kill(first[0], signal.SIGSTOP)  # the other waits for it, until it goes on
        time.sleep(0.5)
        os.kill(first[0], signal.SIGCONT)
        os.kill(first[1], signal.SIGKILL)
        assert launcher.wait(DEADLINE) == 0, (tmp_path / "stderr").read_text()
    finally:
        if launcher.poll() is None:
            launcher.terminate()
            launcher.wait(DEADLINE)
    text = (tmp_path / "stderr").read_text()
    assert "Traceback" not in text and text.count("has lost the others") <= 1 and "exitcode: -9" in text
    train(GIVEN, out=tmp_path / "alone", workers=0)
    np.testing.assert_allclose(_curve(tmp_path / "run"), _curve(tmp_path / "alone"), rtol=0.02)
