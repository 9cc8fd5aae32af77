"""What the machine can do at best: multiply-adds in registers, and reading memory."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

import numpy as np

from svertka.jit import engine, threads
from svertka.jit.parallel import parallel_module
from svertka.kernels.emit import FIRST, I64, POINTER, Emitter, Value
from svertka.kernels.target import host

_SUMS = 12  # that don't wait for each other: two units with five steps each, and some to spare
_SECONDS = 0.3  # of measuring, in rounds so short that other programs leave some of them alone
_TASKS = 64
_TURNS = 2_000
_BYTES = 512 << 20  # more than a core's share of any cache


def peak(number: int) -> float:
    """Floating-point operations in a second (a multiply-add is two) on so many threads."""
    lanes = host().lanes

    def task(e: Emitter, slots: Value, task: Value, _: Value) -> None:
        numbers, sums = (e.load(slots, FIRST + i, POINTER) for i in range(2))
        factor, term = e.splat(e.load(numbers, 0)), e.splat(e.load(numbers, 1))

        def turn(_: Value, *acc: Value) -> list[Value]:
            once = [e.fma(factor, value, term) for value in acc]
            return [e.fma(factor, value, term) for value in once]

        acc = e.loop(0, _TURNS, turn, [e.splat(float(i)) for i in range(_SUMS)])
        _store_sum(e, acc, sums, task)

    numbers, sums = np.array([0.5, 1.0], np.float32), np.empty((_TASKS, lanes), np.float32)
    return _TASKS * _TURNS * 2 * _SUMS * lanes * 2 / _seconds("peak", task, (numbers, sums), (), number)


def bandwidth(number: int) -> float:
    """Bytes in a second that so many threads read of memory.

    Raises:
        MemoryError: if there is no room for the array that is read.
    """
    lanes = host().lanes

    def task(e: Emitter, slots: Value, task: Value, _: Value) -> None:
        data, sums = (e.load(slots, FIRST + i, POINTER) for i in range(2))
        each = e.load(slots, FIRST + 2, I64)
        part = e.at(data, e.mul(task, each))

        def turn(index: Value, *acc: Value) -> list[Value]:
            return [e.b.fadd(value, e.load_vector(part, e.add(index, i * lanes))) for i, value in enumerate(acc)]

        acc = e.loop(0, each, turn, [e.splat(0.0)] * 4, step=4 * lanes)
        _store_sum(e, acc, sums, task)

    data = np.ones(_BYTES // 4, np.float32)
    sums = np.empty((_TASKS, lanes), np.float32)
    return data.nbytes / _seconds("bandwidth", task, (data, sums), (data.size // _TASKS,), number)


def _store_sum(e: Emitter, acc: list[Value], sums: Value, task: Value) -> None:
    total = acc[0]
    for value in acc[1:]:
        total = e.b.fadd(total, value)
    e.store_vector(total, sums, e.mul(task, e.lanes))


def _seconds(
    name: str, task: Callable[..., None], arrays: tuple[Any, ...], numbers: tuple[int, ...], number: int
) -> float:
    """Of the fastest round."""
    target = host()
    kernel = engine.load(str(parallel_module(name, target, task)), target, name)
    slots = np.array([threads.team_address(), _TASKS, *(a.ctypes.data for a in arrays), *numbers], np.int64)
    best, start = float("inf"), perf_counter()
    while perf_counter() - start < _SECONDS:
        begin = perf_counter()
        kernel.run(slots.ctypes.data, threads.usable(number))
        best = min(best, perf_counter() - begin)
    return best
