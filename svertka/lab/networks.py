"""The networks that the server knows, by name: the one it was started with, one of ours, and those trained in the lab.

A name is looked up in a table and never becomes a path: a request can reach no folder but those that were added.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from svertka.lab.api import LabError
from svertka.vision.modelfile import TrainedModel, load_model
from svertka.vision.runfolder import METRICS_FILE

DIGITS = "digits"
"""The name of our LeNet, which is trained on first use."""

SIZE = (16, 16)
"""Of its pictures: the digits of 8 × 8 are scaled, so that there is more to be seen of its maps."""

EPOCHS = 12


class Networks:
    """Trained networks by name; safe to use from several threads.

    Args:
        model: a run folder or a model file, known by its folder's name; it comes first.
        code: what builds it, if that is the user's own code: "nets/my.py:build".

    Raises:
        DataError: if the model can't be used.
    """

    def __init__(self, model: str | Path | None = None, code: str | None = None) -> None:
        self._lock = threading.RLock()
        self._known: dict[str, TrainedModel] = {}
        self._digits = _Digits()
        self._first = None if model is None else self.add(_name(Path(model)), model, code)

    def names(self) -> tuple[str, ...]:
        """All names: what the server was started with, ours, then the others in the order in which they came."""
        with self._lock:
            first = () if self._first is None else (self._first,)
            return tuple(dict.fromkeys((*first, DIGITS, *self._known)))

    def get(self, name: str | None = None) -> TrainedModel:
        """The network of that name, by default the first.

        Raises:
            LabError: "no-network" if there is none; of ours "training" with (epochs done, epochs) until it is trained.
        """
        with self._lock:
            name = name or self.names()[0]
            if name == DIGITS:
                return self._digits.get()
            if name not in self._known:
                raise LabError("no-network", f"there is no network {name!r}: choose one of {', '.join(self.names())}")
            return self._known[name]

    def add(self, name: str, folder: str | Path, code: str | None = None) -> str:
        """Makes a finished run known, in place of an older model from the same folder; gives the name that it gets.

        Args:
            name: what it shall be called; a number is added if another has that name.
            folder: the run's, or its model file.
            code: what builds the model, if that is the user's own code.

        Raises:
            DataError: if there is no model to be read.
        """
        trained = load_model(folder, code)
        with self._lock:
            chosen, number = name, 1
            while chosen == DIGITS or (chosen in self._known and self._known[chosen].path != trained.path):
                number += 1
                chosen = f"{name}-{number}"
            self._known[chosen] = trained
            return chosen

    def close(self) -> None:
        """Stops what is being trained and removes it."""
        with self._lock:
            self._digits.close()


class _Digits:
    """A LeNet trained on the embedded digits by `svertka train`, in a process of its own: pages stay responsive."""

    def __init__(self) -> None:
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._trained: TrainedModel | None = None

    def get(self) -> TrainedModel:
        if self._trained is not None:
            return self._trained
        if self._process is None:
            self._begin()
        assert self._process is not None
        code = self._process.poll()
        if code is None:
            done = self._done()
            raise LabError("training", f"the network is being trained: {done} of {EPOCHS} epochs", done, EPOCHS)
        if code:
            said = self._said.read_text(errors="replace").strip().splitlines()
            self.close()  # whoever asks again has it tried again
            raise LabError("training-failed", f"the network could not be trained: {said[-1] if said else code}")
        self._trained = load_model(self._run)
        self.close()
        return self._trained

    @property
    def _run(self) -> Path:
        assert self._folder is not None
        return Path(self._folder.name) / "run"

    @property
    def _said(self) -> Path:
        return self._run.with_name("errors")

    def _begin(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="svertka-lab-", ignore_cleanup_errors=True)
        # One thread: it is as quick on so small a network, and leaves the other cores to the pages.
        command = ["svertka", "train", "digits", "--model", "lenet", "--size", "x".join(map(str, SIZE))]
        command += ["--epochs", str(EPOCHS), "--threads", "1", "--no-report", "--out", str(self._run)]
        with self._said.open("wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", *command],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors,
            )  # fmt: skip

    def _done(self) -> int:
        try:
            lines = (self._run / METRICS_FILE).read_text().splitlines()
            return int(json.loads(lines[-1])["epoch"])
        except (FileNotFoundError, IndexError):
            return 0

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        if self._folder is not None:
            self._folder.cleanup()
        self._process = self._folder = None


def _name(path: Path) -> str:
    """The run folder's name, whichever of its two ways it was given."""
    path = path.absolute()
    return (path.parent if path.suffix == ".safetensors" else path).name or "model"
