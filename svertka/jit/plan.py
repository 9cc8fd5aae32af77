"""Plans: many kernels one after the other, in one call and one parallel region.

`run(frame, threads)` does steps, each of which is {task function, its arguments, number of tasks}. A step begins when
all tasks of the one before are done. Each worker takes tasks of its own range first and then of the others', as in
`parallel`; who does one is left to chance, and results can't depend on it.

A step is over when its tasks are done, not when so many threads have arrived: an OpenMP runtime may give fewer threads
than it was asked for, or give them late. Those who wait pause, and then give way to other programs.

`frame` is {team, steps, number of steps, threads, counters, times, next worker}. `counters` has a row of words for each
worker, with the number of tasks taken of its range of each step, and a row with the tasks done of each step; they begin
at 0. `times`, unless null, gets the clock's nanoseconds at the start and at the end of each step, from whoever ends it.
"""

from __future__ import annotations

import ctypes
import sys
from functools import lru_cache
from typing import Any

from llvmlite import ir

from svertka.jit import engine
from svertka.jit.parallel import LINE, worker_number
from svertka.kernels.emit import I32, I64, POINTER, VOID, Emitter
from svertka.kernels.target import Target

TEAM, STEPS, COUNT, THREADS, COUNTERS, TIMES, ARRIVED, FRAME = range(8)  # words of the frame; how many
STEP = 3  # words of a step
_PATIENCE = 200  # pauses until the processor is left to others
_MONOTONIC = 6 if sys.platform == "darwin" else 1  # the clock's number


@lru_cache(maxsize=4)
def walker(target: Target) -> Any:
    """`run(frame, threads)`; releases the GIL while it runs."""
    return engine.RUN(engine.addresses(str(plan_module(target)), target, "plan", ("run",))["run"])


def row_words(steps: int) -> int:
    """Words of a row of counters: whole lines of the cache, so that workers don't share any."""
    return -(-steps // LINE) * LINE


def posix() -> bool:
    """Whether the C library has the clock and the scheduler's call that POSIX has."""
    return sys.platform != "win32" and all(
        hasattr(ctypes.CDLL(None), name) for name in ("sched_yield", "clock_gettime")
    )


def plan_module(target: Target) -> ir.Module:
    """A module with `run`."""
    module = ir.Module("plan")
    module.triple = target.triple
    is_posix = posix()
    share = _share(module, target, is_posix)
    run = ir.Function(module, ir.FunctionType(VOID, [POINTER, I64]), "run")
    e = Emitter(run, target)
    frame, threads = run.args
    threads = e.b.select(e.b.icmp_signed(">", threads, e.i64(1)), threads, e.i64(1))
    e.store(threads, frame, THREADS)
    e.store(e.i64(0), frame, ARRIVED)
    counters = e.load(frame, COUNTERS, POINTER)
    words = e.mul(_row(e, e.load(frame, COUNT, I64)), e.add(threads, 1))
    e.loop(0, words, lambda word: e.store(e.i64(0), counters, word))
    times = e.load(frame, TIMES, POINTER)
    if is_posix:
        e.when(_is_there(e, times), lambda: _note_time(e, times, e.i64(0)))

    def fork() -> tuple[()]:
        kind = ir.FunctionType(VOID, [POINTER, POINTER, I32, I32])
        address = e.load(e.load(frame, TEAM, POINTER), 0, POINTER)
        e.call_address(address, kind, e.address_of(share), frame, e.b.trunc(threads, I32), ir.Constant(I32, 0))
        return ()

    def alone() -> tuple[()]:
        e.b.call(share, [frame])
        return ()

    e.choose(e.b.icmp_signed("==", threads, e.i64(1)), alone, fork)
    e.b.ret_void()
    return module


def _is_there(e: Emitter, pointer: Any) -> Any:
    return e.b.icmp_unsigned("!=", e.b.ptrtoint(pointer, I64), e.i64(0))


def _row(e: Emitter, steps: Any) -> Any:
    return e.b.and_(e.add(steps, LINE - 1), e.i64(-LINE))


def _share(module: ir.Module, target: Target, is_posix: bool) -> ir.Function:
    """One thread's part of all steps."""
    share = ir.Function(module, ir.FunctionType(VOID, [POINTER]), "share")
    share.linkage = "internal"
    e = Emitter(share, target)
    frame = share.args[0]
    steps, count, threads = e.load(frame, STEPS, POINTER), e.load(frame, COUNT, I64), e.load(frame, THREADS, I64)
    counters, times = e.load(frame, COUNTERS, POINTER), e.load(frame, TIMES, POINTER)
    (worker,) = worker_number(e, e.load(frame, TEAM, POINTER), threads, e.at(frame, ARRIVED, I64))
    row = _row(e, count)
    done = e.at(counters, e.mul(row, threads), I64)
    timed = _is_there(e, times)

    def step(index: Any) -> None:
        here = e.mul(index, STEP)
        task, arguments = e.load(steps, here, POINTER), e.load(steps, e.add(here, 1), POINTER)
        tasks = e.load(steps, e.add(here, 2), I64)

        def do(other: Any, did: Any) -> list[Any]:
            start, _ = e.divmod(e.mul(tasks, other), threads)
            end, _ = e.divmod(e.mul(tasks, e.add(other, 1)), threads)
            taken = e.at(counters, e.add(e.mul(other, row), index), I64)
            return [_do_range(e, taken, (start, end), (task, arguments, worker), did)]

        def help_out(distance: Any, did: Any) -> list[Any]:
            other = e.b.add(worker, distance)
            return do(e.b.select(e.b.icmp_signed("<", other, threads), other, e.b.sub(other, threads)), did)

        (did,) = e.loop(0, threads, help_out, [e.i64(0)])
        finished = e.at(done, index, I64)

        def add() -> None:
            before = e.b.atomic_rmw("add", finished, did, "acq_rel")
            ends = e.b.icmp_signed("==", e.b.add(before, did), tasks)
            if is_posix:
                e.when(e.b.and_(ends, timed), lambda: _note_time(e, times, e.add(index, 1)))

        e.when(e.b.icmp_signed(">", did, e.i64(0)), add)
        goes_on = e.b.icmp_signed("<", e.add(index, 1), count)
        e.when(goes_on, lambda: _wait(e, finished, tasks, is_posix))

    e.loop(0, count, step)
    e.b.ret_void()
    return share


def _do_range(e: Emitter, taken: Any, of: tuple[Any, Any], call: tuple[Any, Any, Any], did: Any) -> Any:
    """Takes tasks of a range (start, end) until none is left; gives how many were done, added to `did`."""
    task, arguments, worker = call
    begin = e.b.block
    loop, inside, after = (e.function.append_basic_block(label) for label in ("next", "work", "done"))
    e.b.branch(loop)
    e.b.position_at_end(loop)
    total = e.b.phi(I64)
    total.add_incoming(did, begin)
    index = e.b.add(of[0], e.b.atomic_rmw("add", taken, e.i64(1), "monotonic"))
    e.b.cbranch(e.b.icmp_signed("<", index, of[1]), inside, after)
    e.b.position_at_end(inside)
    e.call_address(task, ir.FunctionType(VOID, [POINTER, I64, I64]), arguments, index, worker)
    total.add_incoming(e.b.add(total, e.i64(1)), e.b.block)
    e.b.branch(loop)
    e.b.position_at_end(after)
    return total


def _wait(e: Emitter, finished: Any, tasks: Any, is_posix: bool) -> None:
    """Until all tasks are done."""
    begin = e.b.block
    look, wait, after = (e.function.append_basic_block(label) for label in ("look", "wait", "arrived"))
    e.b.branch(look)
    e.b.position_at_end(look)
    turns = e.b.phi(I64)
    turns.add_incoming(e.i64(0), begin)
    now = e.b.load_atomic(finished, "acquire", 8, typ=I64)
    e.b.cbranch(e.b.icmp_signed("<", now, tasks), wait, after)
    e.b.position_at_end(wait)
    _pause(e)
    if is_posix:
        give_way = e.b.icmp_signed(">", turns, e.i64(_PATIENCE))
        e.when(give_way, lambda: e.b.call(_declared(e, "sched_yield", I32, []), []) and None)
    turns.add_incoming(e.b.add(turns, e.i64(1)), e.b.block)
    e.b.branch(look)
    e.b.position_at_end(after)


def _pause(e: Emitter) -> None:
    """Tells the processor that the thread waits."""
    if e.target.triple.startswith(("x86_64", "amd64", "i686")):
        e.b.call(_declared(e, "llvm.x86.sse2.pause", VOID, []), [])
    elif e.target.triple.startswith(("aarch64", "arm64")):
        e.b.call(_declared(e, "llvm.aarch64.hint", VOID, [I32]), [ir.Constant(I32, 1)])


def _note_time(e: Emitter, times: Any, index: Any) -> None:
    """times[index] = nanoseconds of the steady clock."""
    pair = e.array(2, I64)
    e.b.call(_declared(e, "clock_gettime", I32, [I32, POINTER]), [ir.Constant(I32, _MONOTONIC), pair])
    nanoseconds = e.b.add(e.mul(e.load(pair, 0, I64), 1_000_000_000), e.load(pair, 1, I64))
    e.store(nanoseconds, times, index)


def _declared(e: Emitter, name: str, result: Any, arguments: list[Any]) -> Any:
    module = e.function.module
    return module.globals.get(name) or ir.Function(module, ir.FunctionType(result, arguments), name)
