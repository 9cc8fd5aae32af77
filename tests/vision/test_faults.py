"""A disk without room: one sentence, nothing half-written, and the run goes on when there is some."""

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors import SafetensorError

from svertka.errors import DataError
from svertka.files import write_tensors

TRAIN = [
    sys.executable,
    "-m",
    "svertka",
    "train",
    "digits",
    "--model=lenet",
    "--epochs=1",
    "--threads=1",
    "--workers=0",
]


def _no_room() -> None:
    """Files of over 100 kB can't be written."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))


def test_a_run_without_room_goes_on_when_there_is_some(tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [*TRAIN, "--no-report", "--out", str(tmp_path / "run")]
    full = subprocess.run(
        command, preexec_fn=_no_room, env=environment, capture_output=True, text=True, timeout=120
    )  # the model has more than that
    assert full.returncode == 2 and "Traceback" not in full.stderr
    assert "can't be written" in full.stderr and "--resume" in full.stderr
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["config.json"]
    done = subprocess.run([*command, "--resume"], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "model.safetensors").exists()


def test_what_safetensors_says_becomes_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(DataError, match=r"can't be written \(I/O error: No space left"):
        write_tensors(tmp_path / "one", {}, {})
    assert not list(tmp_path.iterdir())
