"""Schedules found by measurement, for those who have the time: kept beside the compiled kernels, as plain JSON.

What is kept changes only the speed, and only by schedules that the rules, too, could have chosen: whatever else the
file says is passed over.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from svertka import files, spec
from svertka.jit import cache
from svertka.kernels.dense import Dense, DenseSchedule
from svertka.kernels.few import Few, FewSchedule
from svertka.kernels.schedule import candidates, candidates_few, choose_dense, choose_few
from svertka.kernels.target import Target
from svertka.kernels.winograd import Winograd, WinogradSchedule
from svertka.kernels.winograd_schedule import Choice, Direct, candidates_winograd, choose_winograd

FILE = "schedules.json"
_BETTER = 0.97  # of the time with the rules' schedule: what is less of a gain may be noise
_ROUNDS, _LEAST = 7, 2e-3  # rounds, and seconds that a schedule runs in each


@dataclass(frozen=True)
class Tuned:
    """What measurement gave for one convolution.

    Args:
        layer: the shapes of its input and its weight.
        before, after: the schedules that the rules and measurement chose.
        seconds_before, seconds_after: of one call with each.
    """

    layer: str
    before: DenseSchedule | FewSchedule | Choice
    after: DenseSchedule | FewSchedule | Choice
    seconds_before: float
    seconds_after: float


def _winograd(**kept: Any) -> Choice:
    """No fields stand for the direct kernels; JSON has lists only."""
    return WinogradSchedule(**{**kept, "tile": tuple(kept["tile"])}) if kept else Direct()


# By the kind of kernel: its schedule from what is kept, which are worth measuring, which the rules choose.
_RULES: dict[type, tuple[Any, Any, Any]] = {
    Dense: (DenseSchedule, candidates, choose_dense),
    Few: (FewSchedule, candidates_few, choose_few),
    Winograd: (_winograd, candidates_winograd, choose_winograd),
}


def schedule_for(kernel: Any, target: Target, *sizes: int) -> Any:
    """The schedule that measurement found, else the one that the rules choose; `sizes` as these ask for them."""
    kind, candidates, choose = _RULES[type(kernel)]
    fields = _kept().get(_key(kernel, target, *sizes))
    if fields is not None:
        with contextlib.suppress(TypeError, KeyError):
            found = kind(**fields)
            if found in candidates(kernel, target, *sizes):
                return found
    return choose(kernel, target, *sizes)


def tune(network: nn.Module, x: Tensor) -> Iterator[Tuned]:
    """Measures the schedules of all convolutions that a network runs on x, one after the other, and keeps the best."""
    from svertka.engine import dispatch

    dispatch.forget()
    with torch.no_grad(), dispatch.using("auto"):
        network.eval()(x)
    seen = set()
    for operation, runner, tensors in dispatch.prepared():
        if has_schedules(runner) and runner.question not in seen:
            seen.add(runner.question)
            tuned = measure(operation, runner, tensors)
            _keep(_key(*runner.question), asdict(tuned.after))
            yield tuned
    dispatch.forget()  # so that the next call takes what was found


def has_schedules(runner: Any) -> bool:
    """Whether a runner's schedule is one of several that can be measured."""
    from svertka.engine import dense, few, winograd

    return isinstance(runner, (few.Runner, winograd.Runner)) or (
        isinstance(runner, dense.Runner) and len(runner.parts) == 1
    )


def measure(operation: Any, runner: Any, tensors: list[Any]) -> Tuned:
    """Measures the schedules that could take the runner's place for an operation on such tensors."""
    from svertka.engine import dense

    if isinstance(operation, spec.Convolution):
        operation = spec.ConvolutionBlock(operation.windows, operation.groups)
    _, candidates, choose = _RULES[type(runner.question[0])]
    chosen = choose(*runner.question)
    best = {schedule: float("inf") for schedule in candidates(*runner.question)}
    calls = {schedule: dense.prepare_block(operation, *tensors, schedule=schedule) for schedule in best}
    with torch.no_grad():
        for _ in range(_ROUNDS):
            for schedule, call in calls.items():
                best[schedule] = min(best[schedule], _seconds(call, tensors))
            limit = 1.5 * min(best.values())
            calls = {s: call for s, call in calls.items() if best[s] <= limit or s == chosen}
    winner = min(best, key=lambda schedule: best[schedule])
    after = winner if best[winner] < _BETTER * best[chosen] else chosen
    shapes = " by ".join("×".join(map(str, t.shape)) for t in tensors[:2] if t is not None)
    return Tuned(shapes, chosen, after, best[chosen], best[after])


def _seconds(call: Any, tensors: list[Any]) -> float:
    call(*tensors)
    begin, count = time.perf_counter(), 0
    while True:
        call(*tensors)
        count += 1
        elapsed = time.perf_counter() - begin
        if elapsed >= _LEAST:
            return elapsed / count


def _key(kernel: Any, target: Target, *sizes: int) -> str:
    return f"{kernel} {sizes} {target.name} {target.l1} {target.l2}"


def _path() -> Path | None:
    state = cache.state()
    return None if state.folder is None or state.finding else state.folder / FILE


@lru_cache(maxsize=1)
def _kept() -> dict[str, Any]:
    path = _path()
    try:
        kept = json.loads(path.read_text(encoding="utf-8")) if path else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return kept if isinstance(kept, dict) else {}


def _keep(key: str, fields: dict[str, int]) -> None:
    path = _path()
    if path is None:
        return
    _kept.cache_clear()
    files.write_json(path, {**_kept(), key: fields})
    _kept.cache_clear()
