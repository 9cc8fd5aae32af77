"""Plans: all tasks of a step before the next, each once, on any number of threads, however few there really are."""

import ctypes

import numpy as np
import pytest

from svertka.jit import engine, plan, threads
from svertka.jit.parallel import LINE, parallel_module
from svertka.kernels.emit import FIRST, I64, POINTER
from svertka.kernels.target import TARGETS, host


@pytest.fixture(scope="module")
def doubling():
    """y[task] = 2 · (x[0] + … + x[n − 1]) + task, so that a step needs all of the one before."""

    def task(e, slots, task, _):
        x, y = (e.load(slots, FIRST + i, POINTER) for i in range(2))
        count = e.load(slots, FIRST + 2, I64)
        (total,) = e.loop(0, count, lambda i, acc: [e.b.add(acc, e.load(x, i, I64))], [e.i64(0)])
        e.store(e.b.add(e.mul(total, 2), task), y, task)

    return engine.load(str(parallel_module("doubling", host(), task)), host(), "doubling")


class Walk:
    """Steps that each read what the step before wrote."""

    def __init__(self, kernel, tasks):
        self.tasks = tasks
        self.arrays = [np.ones(1, np.int64), *(np.full(n, -1, np.int64) for n in tasks)]
        team = threads.team_address()
        self.slots = [
            np.array([team, n, x.ctypes.data, y.ctypes.data, len(x)], np.int64)
            for n, x, y in zip(tasks, self.arrays, self.arrays[1:], strict=False)
        ]
        self.steps = np.array(
            [[kernel.task, slots.ctypes.data, n] for slots, n in zip(self.slots, tasks, strict=True)], np.int64
        )

    def __call__(self, number, times=None, team=None):
        counters = np.full((number + 1) * plan.row_words(len(self.tasks)) + LINE, 99, np.int64)
        frame = np.zeros(plan.FRAME, np.int64)
        frame[[plan.TEAM, plan.STEPS, plan.COUNT, plan.COUNTERS]] = (
            team or threads.team_address(), self.steps.ctypes.data, len(self.tasks), counters.ctypes.data,
        )  # fmt: skip
        frame[plan.TIMES] = 0 if times is None else times.ctypes.data
        plan.walker(host())(frame.ctypes.data, number)
        return self.arrays[1:]

    def expected(self):
        x, results = np.ones(1, np.int64), []
        for n in self.tasks:
            x = (2 * x.sum(dtype=np.int64) + np.arange(n)).astype(np.int64)
            results.append(x)
        return results


@pytest.mark.parametrize("number", (1, 2, 3, 16))
def test_each_step_waits_for_the_one_before(doubling, number):
    walk = Walk(doubling, [5, 1, 33, 2, 100, 7, 3, 1, 1, 64])
    for _ in range(20):
        for y in walk.arrays[1:]:
            y.fill(-1)
        for found, expected in zip(walk(number), walk.expected(), strict=True):
            assert np.array_equal(found, expected)


def test_fewer_threads_than_asked_for_do_all(doubling):
    """As in a parallel region of OpenMP's, where another one has a single thread."""
    alone = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_int)(
        lambda function, data, *_: ctypes.CFUNCTYPE(None, ctypes.c_void_p)(function)(data)
    )
    team = threads.Team(ctypes.cast(alone, ctypes.c_void_p).value, None)
    walk = Walk(doubling, [9, 30, 4])
    found = walk(4, team=ctypes.addressof(team))
    assert all(map(np.array_equal, found, walk.expected()))


def test_steps_are_timed(doubling):
    walk = Walk(doubling, [3, 50, 2])
    times = np.zeros(4, np.int64)
    walk(2, times)
    assert (np.diff(times) >= 0).all()
    assert times[0] > 0


@pytest.mark.parametrize("name", TARGETS)
def test_every_target_can_walk(name):
    assert engine.compile_object(str(plan.plan_module(TARGETS[name])), TARGETS[name]).startswith(b"\x7fELF")
