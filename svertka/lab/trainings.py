"""Trainings that the lab starts: one at a time, each in a process of its own that writes an ordinary run folder.

Pages come and go; what is known of the training under way stays here, and each page is told what it has not seen yet.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from svertka.errors import SvertkaError
from svertka.files import read_json
from svertka.lab.answers import answers
from svertka.lab.api import LabError
from svertka.lab.datafolder import DataFolder
from svertka.models import MODELS
from svertka.vision.modelfile import MODEL_FILE
from svertka.vision.runfolder import CONFIG_FILE, METRICS_FILE, read_evaluation, read_metrics

Phase = Literal["none", "starting", "running", "stopping", "stopped", "finished", "failed"]

RUNS = Path("runs/lab")
_MOST_RUNS = 30
_MOST_POINTS = 400
_PATIENCE = 60.0  # seconds that the end of the server waits for a checkpoint


@dataclass(frozen=True)
class Kept:
    """A run folder that the lab has made, now or earlier."""

    name: str
    folder: Path
    model: str
    data: str
    epochs: int
    history: list[dict[str, Any]]
    has_model: bool

    @property
    def finished(self) -> bool:
        """Whether all epochs are done."""
        return len(self.history) >= self.epochs and self.has_model


@dataclass
class Followed:
    """All that is known of the run in hand.

    Args:
        name, model, data: of the run; `data` is a name that pages know.
        epochs: that it shall have.
        phase: "starting", "running", "stopping", "stopped", "finished" or "failed".
        begun: what the process told when it began; None before.
        done, first: steps that were taken, and that were taken before it went on.
        points: (epochs that have passed, loss) between the epochs' ends; neighbours are joined when there are many.
        joined: how often they were.
        history: a line of metrics.jsonl for each epoch.
        answers: what was taken for what, the last time that it was measured.
        end: the phase that it is in when its process has ended.
        why: the sentence, if it failed.
        skipped: pictures that could not be read.
    """

    name: str
    model: str
    data: str
    epochs: int
    phase: Phase = "starting"
    begun: dict[str, Any] | None = None
    done: int = 0
    first: int = 0
    since: float = 0.0
    points: list[tuple[float, float]] = field(default_factory=list)
    joined: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    answers: dict[str, Any] | None = None
    end: Phase | None = None
    why: str = ""
    skipped: int = 0

    @property
    def busy(self) -> bool:
        """Whether its process is there."""
        return self.phase in ("starting", "running", "stopping")

    def hear(self, told: dict[str, Any]) -> None:
        """Takes in what the process tells."""
        match told["tells"]:
            case "begun":
                self.begun, self.done, self.first = told, told["done"], told["done"]
                self.history, self.since = told["epochs"], time.monotonic()
                self.phase = "running" if self.phase == "starting" else self.phase
            case "step":
                self.done = told["done"]
                self._point(told["done"], told["loss"])
            case "epoch":
                self.history = [*self.history, told["record"]]
                self.done = len(self.history) * self.steps
            case "answers":
                self.answers = told
            case "finished":
                self.end, self.skipped = "finished", told["skipped"]
            case "stopped":
                self.end = "stopped"
            case "failed":
                self.end, self.why = "failed", told["message"]

    def ended(self, code: int) -> None:
        """The process is no more: the next one may begin."""
        if self.end is None and self.phase != "stopping":  # that had not begun, and had nothing to say
            self.why = f"the training has ended with exit code {code}: the lab's terminal may tell why"
        self.phase = self.end or ("failed" if self.why else "stopped")

    @property
    def steps(self) -> int:
        """In an epoch."""
        return self.begun["steps"] if self.begun else 0

    @property
    def seconds_left(self) -> float | None:
        """By the speed until now; None if nothing can be said yet."""
        passed = self.done - self.first
        if self.phase != "running" or not passed:
            return None
        return (time.monotonic() - self.since) / passed * (self.epochs * self.steps - self.done)

    def _point(self, done: int, loss: float) -> None:
        self.points.append((done / self.steps, loss))
        if len(self.points) > _MOST_POINTS:
            pairs = zip(self.points[::2], self.points[1::2], strict=False)
            self.points = [(later, (one + other) / 2) for (_, one), (later, other) in pairs]
            self.joined += 1


class Trainings:
    """The training in hand, and the run folders of earlier ones; safe to use from several threads.

    Args:
        data: what may be trained on.
        runs: the folder with the run folders.
    """

    def __init__(self, data: DataFolder | None = None, runs: Path = RUNS) -> None:
        self.data, self.runs = data or DataFolder(), runs
        self.closing = False
        self._lock = threading.RLock()
        self._followed: Followed | None = None
        self._changes = 0
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None

    def look(self) -> tuple[int, Followed | None]:
        """The number of changes until now, and the run in hand. Read it under `locked` only."""
        return self._changes, self._followed

    @property
    def locked(self) -> threading.RLock:
        """Nothing changes while it is held."""
        return self._lock

    def start(self, given: Mapping[str, Any], data: str) -> str:
        """Starts a training with these settings of `svertka train`, on the data of that name; gives the run's name.

        Raises:
            LabError: "train-busy" if another is under way.
        """
        with self._lock:
            self._check_free()
            name = self._fresh_name(given["model"], data)
            self._begin(Followed(name, given["model"], data, given["epochs"]), given, resume=False)
            return name

    def resume(self, name: str) -> None:
        """Goes on with a run that was stopped.

        Raises:
            LabError: "train-busy"; "no-run"; "train-finished"; "train-elsewhere" if its data are not among ours.
        """
        with self._lock:
            self._check_free()
            run = self.run(name)
            if run.finished:
                raise LabError("train-finished", f"the run {name} has all its {run.epochs} epochs", run.epochs)
            names = {path: known for known, path in self.data.sets().items()}
            if run.data not in names:
                raise LabError(
                    "train-elsewhere",
                    f"the run {name} was trained on {run.data}, which this lab does not have: start it with --data",
                )
            followed = Followed(name, run.model, names[run.data], run.epochs, history=run.history)
            if self._followed is not None and self._followed.name == name:
                followed.answers, followed.points = self._followed.answers, self._followed.points
                followed.joined = self._followed.joined + 1
            self._begin(followed, {}, resume=True)

    def stop(self) -> None:
        """Has the training under way save its checkpoint and end; nothing if there is none."""
        with self._lock:
            if self._process is None or self._followed is None or not self._followed.busy:
                return
            self._followed.phase = "stopping"
            self._changes += 1
            _close_input(self._process)

    def run(self, name: str) -> Kept:
        """The run folder of that name.

        Raises:
            LabError: "no-run".
        """
        for kept in self.kept():
            if kept.name == name:
                return kept
        raise LabError("no-run", f"there is no run {name!r} in {self.runs}")

    def told(self, name: str) -> Followed:
        """All that is known of the run of that name: of the one in hand as it stands, of others what is in its folder.

        Raises:
            LabError: "no-run".
            DataError: if a file in the folder is damaged.
        """
        with self._lock:
            if self._followed is not None and self._followed.name == name:
                return self._followed
            run = self.run(name)
            names = {path: known for known, path in self.data.sets().items()}
            data = names.get(run.data) or Path(run.data).name
            found = Followed(name, run.model, data, run.epochs, "finished" if run.finished else "stopped")
            found.history, evaluated = run.history, read_evaluation(run.folder)
            if evaluated is not None:
                found.answers = answers(*evaluated)
            return found

    def kept(self) -> list[Kept]:
        """The run folders that there are, the newest first; what can't be read as one is left out."""
        if not self.runs.is_dir():
            return []
        folders = [path for path in self.runs.iterdir() if path.is_dir() and not path.name.startswith(".")]
        folders.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        return [kept for folder in folders[:_MOST_RUNS] if (kept := _kept(folder))]

    @property
    def under_way(self) -> Path | None:
        """The folder of the run that is being trained."""
        if self._process is None or self._followed is None:
            return None
        return self.runs / self._followed.name

    def close(self) -> None:
        """Ends the training under way, with its checkpoint; one whose step takes very long ends by itself later."""
        self.closing = True
        self.stop()
        if self._reader is not None:
            self._reader.join(_PATIENCE)

    def _check_free(self) -> None:
        if self.under_way:
            raise LabError("train-busy", "the lab trains one network at a time: wait for it, or stop it first")

    def _fresh_name(self, model: str, data: str) -> str:
        stem = f"{model}-{re.sub(r'[^0-9A-Za-z]+', '-', data).strip('-') or 'data'}-{datetime.now():%Y%m%d-%H%M%S}"
        number, name = 1, stem
        while (self.runs / name).exists():
            number += 1
            name = f"{stem}-{number}"
        return name

    def _begin(self, followed: Followed, given: Mapping[str, Any], resume: bool) -> None:
        process = subprocess.Popen(
            [sys.executable, "-m", "svertka.lab.trainee"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is for the server, which then ends the training
        )
        assert process.stdin is not None
        asked = {"given": dict(given), "out": str(self.runs / followed.name), "resume": resume}
        with suppress(BrokenPipeError):  # the end of its output says that it has fallen
            process.stdin.write(json.dumps(asked) + "\n")
            process.stdin.flush()
        self._process, self._followed = process, followed
        self._changes += 1
        self._reader = threading.Thread(target=self._read, args=(process, followed), daemon=True)
        self._reader.start()

    def _read(self, process: subprocess.Popen[str], followed: Followed) -> None:
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                with self._lock:
                    followed.hear(json.loads(line))
                    self._changes += 1
        code = process.wait()
        with self._lock:
            _close_input(process)
            self._process = None
            followed.ended(code)
            self._changes += 1


def _kept(folder: Path) -> Kept | None:
    try:
        settings = read_json(folder / CONFIG_FILE)["settings"]
        model, data, epochs = settings["model"], settings["data"], settings["epochs"]
        metrics = folder / METRICS_FILE
        history = read_metrics(metrics) if metrics.exists() else []
    except (SvertkaError, OSError, ValueError, KeyError, TypeError):
        return None
    if model not in MODELS or not isinstance(data, str) or not isinstance(epochs, int):
        return None  # code of the user's own is never run by a request
    return Kept(folder.name, folder, model, data, epochs, history, (folder / MODEL_FILE).is_file())


def _close_input(process: subprocess.Popen[str]) -> None:
    if process.stdin is not None and not process.stdin.closed:
        with suppress(BrokenPipeError):
            process.stdin.close()
