"""How long each layer takes, and how fast this machine can be at most: measured, not looked up."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from svertka import functional
from svertka.errors import GeometryError
from svertka.explain.tracing import Listener, copied, input_of, name_of, shared

_ROUNDS, _SECONDS = 20, 3.0  # at most; three rounds in any case
_SIDE, _COPIED = 512, 2**26


@dataclass(frozen=True)
class Machine:
    """What this machine reached at best, with so many threads, in float32.

    Args:
        threads: torch's.
        gflops: 10⁹ FLOP/s of a matrix product, 512 × 512 by the same.
        bandwidth: 10⁹ bytes/s read and written by a copy of 64 MB.
    """

    threads: int
    gflops: float
    bandwidth: float

    def roof(self, flops: float, moved: float) -> float:
        """Seconds that so many FLOPs and bytes take at least (the roofline model)."""
        return max(flops / self.gflops, moved / self.bandwidth) / 1e9


def machine() -> Machine:
    """Measures this machine; takes a second."""
    matrix, line = torch.ones(_SIDE, _SIDE), torch.ones(_COPIED // 4)
    product, copy = torch.empty_like(matrix), torch.empty_like(line)
    multiplying = _best(lambda: torch.mm(matrix, matrix, out=product))
    copying = _best(lambda: copy.copy_(line))
    return Machine(torch.get_num_threads(), 2 * _SIDE**3 / multiplying / 1e9, 2 * _COPIED / copying / 1e9)


def seconds(model: nn.Module, example: Sequence[int] | Tensor) -> dict[tuple[str, int], float]:
    """Seconds of each call of a layer or function, in evaluation mode on the CPU, without gradients.

    The fastest of several rounds, which other programs have disturbed least.

    Args:
        model: as in `tracing.trace`.
        example: the input [N, channels, *size], or its size (channels, *size).

    Returns:
        By the call's name and number, as `tracing.Call` has them.

    Raises:
        GeometryError: if the model's weights have no numbers.
    """
    model = getattr(model, "_orig_mod", model)
    if any(p.device.type != "cpu" or isinstance(p, UninitializedParameter) for p in model.parameters()):
        raise GeometryError("only a model whose weights are on the CPU can be timed: move it there with model.cpu()")
    model, fastest = copied(model, shared).eval(), dict[tuple[str, int], float]()
    x, start = input_of(model, example), time.perf_counter()
    with torch.inference_mode(), torch.random.fork_rng(devices=[]):
        model(x)
        for number in range(_ROUNDS):
            watch = _Stopwatch(model)
            watch.listen_to(x)
            for call, spent in watch.seconds.items():
                fastest[call] = min(spent, fastest.get(call, spent))
            if number >= 2 and time.perf_counter() - start > _SECONDS:
                break
    return fastest


class _Stopwatch(Listener):
    """Sums up the time of the functions that are one row."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self.seconds: dict[tuple[str, int], float] = {}
        self.spent = self.start = 0.0

    def begin(self) -> None:
        """Called before the forward method of a module that is one row."""
        self.spent, self.start = 0.0, time.perf_counter()

    def end(self, module: nn.Module, _: Any, __: Any) -> None:
        """Called after it."""
        name = self.names[module]
        whole = time.perf_counter() - self.start
        self.seconds[name, self.number(name)] = self.spent or whole  # TorchScript tells nothing of its functions

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Times one function that the model calls."""
        del types
        start = time.perf_counter()
        result = func(*args, **(kwargs or {}))
        spent = time.perf_counter() - start
        self.spent += spent
        if self.leaf is None:
            name = self.scoped(type(args[0]).__name__.lower() if func is functional.run else name_of(func))
            self.seconds[name, self.number(name)] = spent
        return result


def _best(call: Callable[[], Any]) -> float:
    """Seconds of the fastest of the calls that fit into half a second, or of three."""
    call()
    spent: list[float] = []
    while len(spent) < 3 or sum(spent) < 0.5:
        start = time.perf_counter()
        call()
        spent.append(time.perf_counter() - start)
    return min(spent)
