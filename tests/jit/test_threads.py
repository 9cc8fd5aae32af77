"""Forks of every kind do each task once; forked children, several callers and an OpenMP runtime get along."""

import ctypes
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from svertka import functional as F
from svertka.jit import engine, threads
from svertka.jit.parallel import LINE, parallel_module
from svertka.kernels.emit import FIRST, I64, POINTER
from svertka.kernels.target import host

TASKS = 100


@pytest.fixture(scope="module")
def counting():
    """A kernel: done[task] += 1, highest[task] = worker."""

    def task(e, slots, task, worker):
        done, workers = (e.load(slots, FIRST + i, POINTER) for i in range(2))
        e.store(e.b.add(e.load(done, task, I64), e.i64(1)), done, task)
        e.store(worker, workers, task)

    return engine.load(str(parallel_module("counting", host(), task)), host())


@pytest.fixture(scope="module")
def forks():
    """The runtime's that torch has loaded, and our own."""
    return {"openmp": threads._openmp(), "own": threads._own()}


def count(kernel, fork, wanted):
    done, workers = np.zeros(TASKS, np.int64), np.zeros(TASKS, np.int64)
    slots = np.array([ctypes.addressof(fork), TASKS, done.ctypes.data, workers.ctypes.data], np.int64)
    kernel.run(slots.ctypes.data, wanted)
    return done, workers


@pytest.mark.parametrize("kind", ["openmp", "own"])
@pytest.mark.parametrize("wanted", [1, 2, 3, 8, 200])
def test_each_task_is_done_once(counting, forks, kind, wanted):
    assert forks[kind].fork
    assert bool(forks[kind].number) == (kind == "openmp")
    for _ in range(20):
        done, workers = count(counting, forks[kind], wanted)
        assert (done == 1).all()
        assert set(workers) <= set(range(wanted))


def test_a_worker_does_its_own_range_and_then_helps():
    def task(e, slots, task, _worker):
        order, done = e.load(slots, FIRST, POINTER), e.load(slots, FIRST + 1, POINTER)
        count = e.load(done, 0, I64)
        e.store(count, order, task)
        e.store(e.b.add(count, e.i64(1)), done)

    kernel = engine.load(str(parallel_module("ordering", host(), task)), host())
    order, done, nobody = np.zeros(TASKS, np.int64), np.zeros(1, np.int64), threads.Team()
    slots = np.array([ctypes.addressof(nobody), TASKS, order.ctypes.data, done.ctypes.data], np.int64)
    frame = np.zeros((4, LINE), np.int64)
    frame[0, :3] = slots.ctypes.data, 3, 1  # the second of three to arrive
    frame[1:, :2] = (0, 20), (20, 50), (50, TASKS)
    ctypes.CFUNCTYPE(None, ctypes.c_void_p)(kernel.share)(frame.ctypes.data)
    assert order.tolist() == [*range(80, 100), *range(80)]


def test_more_threads_than_our_own_fork_starts(counting, forks):
    assert (count(counting, forks["own"], 5000)[0] == 1).all()


@pytest.mark.parametrize("kind", ["openmp", "own"])
def test_several_callers_at_once(counting, forks, kind):
    def call(_):
        return all((count(counting, forks[kind], 3)[0] == 1).all() for _ in range(50))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(call, range(8)))


def test_our_own_fork_really_starts_threads(forks):
    seen = set()
    libc = ctypes.CDLL(None)
    libc.pthread_self.restype = ctypes.c_void_p

    @ctypes.CFUNCTYPE(None, ctypes.c_void_p)
    def work(data):
        seen.add((libc.pthread_self(), data))

    fork = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_int)(forks["own"].fork)
    calls = []

    @ctypes.CFUNCTYPE(None, ctypes.c_void_p)
    def note(data):
        calls.append(data)

    fork(ctypes.cast(note, ctypes.c_void_p), 77, 4, 0)
    assert calls == [77] * 4
    fork(ctypes.cast(work, ctypes.c_void_p), 78, 1, 0)
    assert seen == {(libc.pthread_self(), 78)}


def test_the_runtime_is_torchs_and_no_second_one_is_loaded():
    before = {path for path in threads._loaded_files() if "omp" in path}
    assert threads.team().fork
    assert {path for path in threads._loaded_files() if "omp" in path} == before
    assert threads.description() in before | {path for path in threads._loaded_files() if "libtorch" in path}


def run(code):
    """Runs code in a fresh process, which must end in time and print "done"."""
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip().endswith("done"), result.stderr


def test_without_a_runtime_threads_are_our_own():
    run(
        """
        from svertka.jit import threads
        assert not threads._openmp().fork, threads._loaded_files()
        assert threads.usable(3) == 3
        assert threads.description() == "fresh ones for each call"
        print("done")
        """
    )


CONVOLUTION = """
import os, signal, sys, torch
from torch.utils.data import DataLoader
from svertka import functional as F
from svertka.engine.dispatch import use
from svertka.jit import threads
use("kernels")
torch.set_num_threads(3)
x, w = torch.arange(2 * 8 * 20 * 20).remainder(7).float().reshape(2, 8, 20, 20), torch.ones(16, 8, 3, 3)

def convolved():
    return F.conv2d(x, w, padding=1)

expected = convolved()
assert threads.description() != "fresh ones for each call"
"""


def test_a_forked_child_computes_and_so_does_its_child():
    run(
        CONVOLUTION
        + """
def child(depth):
    pid = os.fork()
    if pid:
        assert os.waitpid(pid, 0)[1] == 0
        return
    try:
        signal.alarm(30)  # instead of waiting forever
        assert bytes(convolved().numpy()) == bytes(expected.numpy())
        assert threads.description() == "fresh ones for each call"
        if depth:
            child(depth - 1)
        os._exit(0)
    finally:
        os._exit(1)

child(1)
assert convolved().equal(expected)
print("done")
"""
    )


def test_workers_of_a_loader_compute():
    run(
        CONVOLUTION
        + """
class Data(torch.utils.data.Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        torch.set_num_threads(2)  # a worker has one by default
        return convolved()

for batch in DataLoader(Data(), num_workers=2, multiprocessing_context="fork"):
    assert batch[0].equal(expected)
print("done")
"""
    )


def test_an_interrupt_between_calls_is_an_interrupt():
    run(
        CONVOLUTION
        + """
signal.signal(signal.SIGINT, signal.default_int_handler)  # shells start what runs behind with SIGINT ignored
signal.setitimer(signal.ITIMER_REAL, 0.2)
signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
try:
    while True:
        assert convolved().equal(expected)
except KeyboardInterrupt:
    pass
assert convolved().equal(expected)
print("done")
"""
    )


def test_the_same_bits_for_any_number_of_threads():
    x = torch.randn(2, 5, 23, 19, generator=torch.Generator().manual_seed(0))
    weight = torch.randn(24, 5, 3, 3, generator=torch.Generator().manual_seed(1))
    before, results = torch.get_num_threads(), set()
    try:
        for number in (1, 2, 3, 8):
            torch.set_num_threads(number)
            results.update(bytes(F.conv2d(x, weight, padding=1).numpy()) for _ in range(5))
    finally:
        torch.set_num_threads(before)
    assert len(results) == 1


def test_a_fork_in_the_middle_of_compiling_leaves_a_child_that_compiles():
    run(
        """
        import os, signal, threading
        os.environ["SVERTKA_CACHE"] = "off"
        from svertka.jit import engine
        from svertka.kernels.target import host
        text = "".join(f"define void @{name}(ptr %a) {{ ret void }}\\n" for name in ("run", "share", "task"))
        engine.load(text, host())
        going = True

        def compile_on():
            while going:
                engine.load(text, host())

        other = threading.Thread(target=compile_on)
        other.start()
        failed = 0
        for _ in range(8):
            pid = os.fork()
            if not pid:
                signal.alarm(5)  # instead of waiting forever
                engine.load(text, host())
                os._exit(0)
            failed += os.waitpid(pid, 0)[1] != 0
        going = False
        other.join()
        print(f"{failed} failed" if failed else "done")
        """
    )
