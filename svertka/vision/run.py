"""One training run from its data to its model file: started, resumed, interrupted and finished."""

import os
import shlex
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from rich.console import Console
from torch import nn

from svertka.errors import DataError, SvertkaError
from svertka.files import remove_parts
from svertka.vision.augment import Augmentation
from svertka.vision.batches import Batches, usable_cores
from svertka.vision.checkpoint import (
    CHECKPOINT_FILE,
    State,
    put_back,
    read_state,
    restore,
    save_checkpoint,
    tensors_of,
)
from svertka.vision.datasets import Dataset, Split, load
from svertka.vision.metrics import Evaluation
from svertka.vision.modelfile import MODEL_FILE, build_model, is_code, load_model, save_model
from svertka.vision.pictures import Preprocessing
from svertka.vision.prediction import evaluate
from svertka.vision.runfolder import (
    check_folder,
    make_folder,
    read_config,
    versions,
    write_config,
    write_evaluation,
    write_metrics,
)
from svertka.vision.settings import Settings, code_digest, fingerprint, refuse_changes, refuse_other_data, settings_for
from svertka.vision.syncnorm import synchronise_norms
from svertka.vision.tables import TrainingProgress, show_start
from svertka.vision.team import Team
from svertka.vision.training import make_criterion, make_optimizer, step_learning_rate, train_epoch, using_threads


class Interrupted(SvertkaError):  # noqa: N818 - the user asked for it
    """Training was stopped between two steps by the signal `number`, and the checkpoint in `folder` saved."""

    def __init__(self, number: int, folder: Path) -> None:
        super().__init__(f"stopped, and saved: go on with svertka train --resume --out {shlex.quote(str(folder))}")
        self.exit_code, self.folder = 128 + number, folder


@dataclass(frozen=True)
class Outcome:
    """A finished run.

    `epoch` is the one, from 1, whose model was kept. `evaluation` is of that model on the `split` "test", or
    "validation" if there are no test pictures; None if there are neither, or if the run was finished before. `skipped`
    are the training and validation pictures that could not be read, with the reasons.
    """

    folder: Path
    settings: Settings
    epoch: int
    finished_before: bool
    evaluation: Evaluation | None = None
    split: str = ""
    skipped: Mapping[str, str] = field(default_factory=dict)


class Watcher:
    """Is told how a training goes, in the process that leads. This one does nothing."""

    def begins(self, training: "Training") -> None:
        """The first step is about to be taken, or the next one of a run that goes on."""

    def step(self, training: "Training", loss: float) -> None:
        """A step was taken; `training.state` has counted it."""

    def epoch(self, record: Mapping[str, Any], evaluation: Evaluation | None) -> None:
        """An epoch is done and saved: its line of metrics.jsonl, and the answers on the validation pictures."""


def train(
    given: Mapping[str, Any],
    *,
    out: Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    workers: int | None = None,
    save_every: float = 60.0,
    console: Console | None = None,
    team: Team | None = None,
    watcher: Watcher | None = None,
) -> Outcome:
    """Train as `given` says (fields of `Settings`; the others are chosen to suit) and keep everything in a run folder.

    `out` is that folder, by default a fresh one under runs/. A checkpoint is saved at the end of each epoch, and in a
    long one each `save_every` seconds. DataError says in one sentence what cannot be used.

    All processes of a `team` call this alike; only its leader reads and writes the folder, and tells the `watcher`.
    """
    console, team = console or Console(quiet=True), team or Team()
    if team.leads:
        check_folder(out, resume, overwrite)
    config = team.tell(read_config(out) if team.leads and resume and out else None)
    if out and config:
        folder = out
        settings, state = _position(out, config, given, team)
        if state.finished(settings.epochs, settings.early_stopping):
            return Outcome(folder, settings, state.kept_epoch(settings.early_stopping), finished_before=True)
        dataset = _load_data(vars(settings), team)
        refuse_other_data(fingerprint(dataset), config["data"], settings.data)
        if team.leads:
            remove_parts(folder)
        if versions() != config["versions"]:
            console.print(f"note    begun with {config['versions']}: the last bits may differ.", soft_wrap=True)
    else:
        if resume:
            console.print(f"{out} holds nothing to resume yet: starting from the beginning.", soft_wrap=True)
        dataset, state = _load_data(given, team), State()
        threads = torch.get_num_threads() if team.alone else usable_cores()  # torchrun allows a process but one
        settings = settings_for(given, dataset, threads)
        settings = Settings.from_dict(team.tell(settings.to_dict()))
    model = build_model(
        settings.model, settings.model_arguments, len(dataset.classes), dataset.preprocessing, settings.seed
    )
    if not config:
        folder = Path(team.tell(str(make_folder(out, settings)) if team.leads else None))
        config = write_config(folder, settings, dataset) if team.leads else {}
    show_start(console, settings, dataset, sum(parameter.numel() for parameter in model.parameters()), folder)
    if not team.alone:
        console.print(f"team    {team.size} processes, each with its share of a batch", soft_wrap=True)
    threads = settings.threads if team.alone else min(settings.threads, team.cores)
    with torch.random.fork_rng(devices=[]), using_threads(threads):
        training = Training(
            folder, settings, config, dataset, state, model, workers, save_every, console, team, watcher or Watcher()
        )
        training.run()
        evaluation, split = training.final_evaluation()
    kept = state.kept_epoch(settings.early_stopping)
    if team.leads and evaluation is not None:
        write_evaluation(folder, evaluation, split, kept)
    return Outcome(folder, settings, kept, False, evaluation, split, state.skipped)


@dataclass
class Training:
    """A run that is under way; `run` trains it to its end."""

    folder: Path
    settings: Settings
    config: dict[str, Any]
    dataset: Dataset
    state: State
    model: nn.Module
    workers: int | None
    save_every: float
    console: Console
    team: Team = field(default_factory=Team)
    watcher: Watcher = field(default_factory=Watcher)

    def __post_init__(self) -> None:
        self.skips_told = 0
        self.model.to(self.settings.device)
        if self.settings.sync_batch_norm and not self.team.alone:
            self.model = synchronise_norms(self.model, self.team)
        if not is_code(self.settings.model):  # code of the user's may view() its maps, which this would break
            self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = make_optimizer(self.model, self.settings)
        self.criterion = make_criterion(self.settings, self.dataset.train.labels, len(self.dataset.classes))
        self.batches = self._batches(self.dataset.train, self.state.skipped, shuffle=True)
        self.validation = None
        if self.dataset.validation:
            self.validation = self._batches(self.dataset.validation, self.state.skipped)
        if self.team.leads and (self.folder / CHECKPOINT_FILE).exists():
            restore(self.folder / CHECKPOINT_FILE, self.model, self.optimizer)
            write_metrics(self.folder, self.state.history)
        self._agree()

    def run(self) -> None:
        """Train until the settings say that it is enough; Interrupted after a checkpoint if a signal asks for it."""
        state, settings, steps = self.state, self.settings, len(self.batches)
        done = state.epoch * steps + state.step
        self.saved = self.clock = time.monotonic()
        with (
            _signals_noted(forgiving=not self.team.alone) as self.signals,
            TrainingProgress(self.console, settings.epochs, steps, done, self.validation is not None) as self.progress,
        ):
            if self.team.leads:
                self.watcher.begins(self)
            while not state.finished(settings.epochs, settings.early_stopping):
                train_epoch(
                    self.model,
                    self.optimizer,
                    self.criterion,
                    self.batches,
                    settings,
                    state,
                    self._after_step,
                    self.team,
                )
                self._end_epoch()

    def final_evaluation(self) -> tuple[Evaluation | None, str]:
        """How the model in the folder does on the test split, or without one on validation; and which one it was."""
        split = self.dataset.test or self.dataset.validation
        if not split:
            return None, ""
        settings, team, model = self.settings, self.team, self.model
        if team.leads:
            model = load_model(self.folder, settings.model if is_code(settings.model) else None).model
            model = model.to(settings.device)
        if not team.alone:
            model.load_state_dict(team.tell_tensors(model.state_dict()))
        evaluation = evaluate(model, self._batches(split, {}), split, self.dataset.classes, team=team)
        return evaluation, "test" if self.dataset.test else "validation"

    def _batches(self, split: Split, skipped: dict[str, str], shuffle: bool = False) -> Batches:
        s = self.settings
        return Batches(
            split,
            self.dataset.preprocessing,
            s.batch_size,
            shuffle=shuffle,
            seed=s.seed,
            share=(self.team.rank, self.team.size),
            augmentation=Augmentation(s.shift, s.flip, s.crop, s.contrast) if shuffle else None,
            workers=self.team.cores if self.workers is None else self.workers,
            skipped=skipped,
            strict=s.strict,
        )

    def _after_step(self, loss: float) -> None:
        self.progress.step(self.state.epoch, loss)
        if self.team.leads:
            self.watcher.step(self, loss)
        self._pause()
        if time.monotonic() - self.saved >= self.save_every:
            self._save_checkpoint()

    def _pause(self) -> None:
        """Between two steps: count the time, tell what was skipped, and stop if a signal asks for it in any process."""
        now = time.monotonic()
        self.state.seconds += now - self.clock
        self.clock = now
        skipped = self.state.skipped
        signal_number, news = self.team.highest(self.signals[0] if self.signals else 0, len(skipped) - self.skips_told)
        if news:
            for theirs in self.team.gather(skipped):
                skipped.update(theirs)
            self.skips_told = len(skipped)
        if signal_number:
            self._save_checkpoint()
            self.team.highest(0)  # nobody leaves before it is saved
            raise Interrupted(signal_number, self.folder)

    def _agree(self) -> None:
        """Give all the leader's tensors: batch norm's averages differ, and the roundings of unlike machines."""
        if not self.team.alone:
            put_back(self.team.tell_tensors(tensors_of(self.model, self.optimizer)), self.model, self.optimizer)

    def _end_epoch(self) -> None:
        self._agree()
        state = self.state
        if not state.seen:
            raise DataError(f"none of the training pictures in {self.settings.data} could be read: give others")
        record = {
            "epoch": state.epoch + 1,
            "lr": step_learning_rate(self.settings, len(self.batches), state.epoch, len(self.batches) - 1),
            "train_loss": state.loss_sum / state.seen,
            "train_accuracy": state.correct / state.seen,
        }
        result = None
        if self.validation and self.dataset.validation:
            split, classes = self.dataset.validation, self.dataset.classes
            result = evaluate(self.model, self.validation, split, classes, self._pause, self.team)
            record |= {"val_loss": result.loss, "val_accuracy": result.accuracy}
        self._pause()
        record["seconds"] = round(state.seconds, 3)
        state.close_epoch(self.team.tell(record))
        if self.team.leads:
            if state.kept_epoch(self.settings.early_stopping) == state.epoch:
                self._save_model()
            write_metrics(self.folder, state.history)
        self._save_checkpoint()
        self.progress.epoch(record)
        if self.team.leads:
            self.watcher.epoch(record, result)

    def _save_model(self) -> None:
        save_model(
            self.folder / MODEL_FILE,
            self.model,
            name=self.settings.model,
            arguments=self.settings.model_arguments,
            classes=self.dataset.classes,
            preprocessing=self.dataset.preprocessing,
            extra={"epoch": self.state.epoch, "epochs": self.settings.epochs},
        )

    def _save_checkpoint(self) -> None:
        if self.team.leads:
            save_checkpoint(self.folder / CHECKPOINT_FILE, self.model, self.optimizer, self.state, self.config)
        self.saved = time.monotonic()


def _position(folder: Path, config: dict[str, Any], given: Mapping[str, Any], team: Team) -> tuple[Settings, State]:
    """The settings of the run in `folder` and where it stands; DataError if `given` wants something else."""
    settings = Settings.from_dict(config["settings"])
    refuse_changes(given, settings, folder)
    settings = replace(settings, data=given.get("data", settings.data), model=given.get("model", settings.model))
    if code_digest(settings.model) != config.get("model code"):
        raise DataError(f"{settings.model} was changed since the run in {folder} began: restore it, or start a new run")
    path = folder / CHECKPOINT_FILE
    state = read_state(path, config) if team.leads and path.exists() else State()
    if settings.early_stopping and not all("val_accuracy" in record for record in state.history):
        raise DataError(f"{path} has epochs without validation: start again with --overwrite")
    return settings, State(**team.tell(asdict(state)))


def _load_data(wanted: Mapping[str, Any], team: Team) -> Dataset:
    """The data; only the leader of a team measures it, and DataError if another process finds something else there."""
    names = ("size", "channels", "fit", "validation", "seed", "strict")
    data, options = wanted.get("data", "digits"), {name: wanted[name] for name in names if name in wanted}
    if team.alone:
        return load(data, **options)
    if team.leads:
        dataset = load(data, **options)
        team.tell([dataset.preprocessing.to_dict(), fingerprint(dataset)])
        return dataset
    told: list[Any] = []

    def measured() -> Preprocessing:
        told.extend(team.tell(None))
        return Preprocessing.from_dict(told[0])

    dataset = load(data, **options, measured=measured)
    if fingerprint(dataset) != told[1]:
        raise DataError(f"process {team.rank} finds other pictures in {data} than process 0: give all the same")
    return dataset


@contextmanager
def _signals_noted(forgiving: bool = False) -> Iterator[list[int]]:
    """Note Ctrl-C and SIGTERM in a list instead of breaking off amid a step; a second one does, unless `forgiving`.

    torchrun sends a second one to all as soon as one process has ended, and kills those that do not end in time.
    """
    noted: list[int] = []
    owner = os.getpid()

    def note(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        if os.getpid() != owner:
            return  # a forked worker goes on until the step is done
        if noted and not forgiving:
            raise KeyboardInterrupt
        noted.append(number)

    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield noted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
