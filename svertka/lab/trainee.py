"""A training in a process of its own, as `svertka train` does it: python -m svertka.lab.trainee.

A line of JSON comes in, {"given": settings, "out": run folder, "resume": …}; lines of JSON go out, and each "tells" one
thing. The input stays open as long as the training shall go on: when it ends, because the lab wishes it or because
the lab itself has ended in any way, the checkpoint is saved, and the process ends.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from svertka.errors import SvertkaError
from svertka.lab.answers import answers
from svertka.vision.metrics import Evaluation
from svertka.vision.run import Interrupted, Training, Watcher, train

_PAUSE = 0.1  # seconds between two words about steps


def tell(what: str, **more: Any) -> None:
    """A line for the lab; if nobody listens any more, the end of the input tells it, too."""
    try:
        print(json.dumps({"tells": what, **more}), flush=True)
    except BrokenPipeError:
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - until the process ends


class Telling(Watcher):
    """Tells the lab how it goes: single steps a few times a second, and of each step that was not told the mean."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.told = 0.0

    def begins(self, training: Training) -> None:
        """What is trained on what, and where it stands."""
        data, state, steps = training.dataset, training.state, len(training.batches)
        height, width = data.preprocessing.size
        tell(
            "begun",
            steps=steps,
            done=state.epoch * steps + state.step,
            epochs=state.history,
            parameters=sum(parameter.numel() for parameter in training.model.parameters()),
            pictures=[len(split) if split else 0 for split in (data.train, data.validation, data.test)],
            picture=[data.preprocessing.channels, height, width],
        )

    def step(self, training: Training, loss: float) -> None:
        """The mean loss since it was told last."""
        self.losses.append(loss)
        now = time.monotonic()
        if now - self.told >= _PAUSE:
            state = training.state
            mean = sum(self.losses) / len(self.losses)
            tell("step", done=state.epoch * len(training.batches) + state.step, loss=mean)
            self.losses, self.told = [], now

    def epoch(self, record: Mapping[str, Any], evaluation: Evaluation | None) -> None:
        """An epoch's line, and what was taken for what."""
        tell("epoch", record=dict(record))
        if evaluation is not None:
            tell("answers", **answers(evaluation, "validation", record["epoch"]))


def _end_with_input() -> None:
    """As Ctrl-C does: it saves first, and where nothing has begun it ends at once."""
    while os.read(0, 1):  # not through sys.stdin: workers that are forked meanwhile would find it locked
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> int:
    """Trains; the exit code is 0 unless the process fell."""
    asked = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_input, daemon=True).start()
    if hasattr(os, "nice"):
        os.nice(5)  # the pages go first
    try:
        outcome = train(asked["given"], out=Path(asked["out"]), resume=asked["resume"], watcher=Telling())
    except Interrupted:
        tell("stopped")
    except SvertkaError as error:
        tell("failed", message=str(error))
    except OSError as error:
        tell("failed", message=f"{error.filename or 'a file'} can't be used ({error.strerror or error}): free space")
    except MemoryError:
        tell("failed", message="the memory is used up: take a smaller batch or model")
    else:
        if outcome.evaluation is not None:
            tell("answers", **answers(outcome.evaluation, outcome.split, outcome.epoch))
        tell("finished", skipped=len(outcome.skipped))
    return 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # all is written; to take torch down in order would keep the next training waiting
