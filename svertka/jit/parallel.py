"""The frame around a kernel: a function of one task becomes a function of all tasks, shared out among threads.

A kernel writes `task(arguments, task, worker)`: `arguments` points to 8-byte slots, `task` counts from 0, and `worker`
tells apart those that run at the same time (each below the number of threads). Which tasks there are is a matter of
shapes alone; who runs one is left to chance, so that results can't depend on the number of threads.

Each worker has a range of the tasks for its own, and when that is done helps the next worker with what is left of its:
neighbouring tasks, which read and write neighbouring lines, stay in the caches of one core, from call to call.

`run(arguments, threads)` does all tasks: slot TEAM holds the address of {GOMP_parallel, omp_get_thread_num or 0}, slot
TASKS the number of tasks. `share(frame)` is one thread's part; `frame` is {arguments, threads, next worker} and from
word LINE on, for each worker, a line with {next task, end of its range}. `task` can be called from outside, too: by
plans, which are many kernels (see `plan`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from svertka.kernels.emit import I32, I64, POINTER, TASKS, TEAM, VOID, Emitter
from svertka.kernels.target import Target

LINE = 8  # words of a cache line


def parallel_module(name: str, target: Target, write_task: Callable[[Emitter, Any, Any, Any], None]) -> ir.Module:
    """A module with `run` and `share` around the task that `write_task(emitter, arguments, task, worker)` writes."""
    module = ir.Module(name)
    module.triple = target.triple
    task = ir.Function(module, ir.FunctionType(VOID, [POINTER, I64, I64]), "task")
    task.attributes.add("noinline")  # it is there once, for `share` and for plans
    for argument in task.args:
        argument.add_attribute("noundef")
    emitter = Emitter(task, target)
    write_task(emitter, *task.args)
    emitter.b.ret_void()
    share = _share(module, target, task)
    _run(module, target, share)
    return module


def _share(module: ir.Module, target: Target, task: ir.Function) -> ir.Function:
    """Does the tasks of one worker after the other, its own first."""
    share = ir.Function(module, ir.FunctionType(VOID, [POINTER]), "share")
    e = Emitter(share, target)
    frame = share.args[0]
    arguments, threads = e.load(frame, 0, POINTER), e.load(frame, 1, I64)
    (worker,) = worker_number(e, e.load(arguments, TEAM, POINTER), threads, e.at(frame, 2, I64))

    def help_out(distance: Any) -> None:
        other = e.b.add(worker, distance)
        other = e.b.select(e.b.icmp_signed("<", other, threads), other, e.b.sub(other, threads))
        _do_range(
            e, e.at(frame, e.mul(e.add(other, 1), LINE), I64), lambda index: e.b.call(task, [arguments, index, worker])
        )

    e.loop(0, threads, help_out)
    e.b.ret_void()
    return share


def worker_number(e: Emitter, team: Any, threads: Any, arrived_at: Any) -> list[Any]:
    """This thread's number: the runtime's, if it tells, else in order of arrival, counted at an address."""
    number = e.load(team, 1, POINTER)

    def told() -> list[Any]:
        return [e.b.sext(e.call_address(number, ir.FunctionType(I32, [])), I64)]

    def arrived() -> list[Any]:
        return [e.b.atomic_rmw("add", arrived_at, e.i64(1), "monotonic")]

    alone = e.b.icmp_signed("==", threads, e.i64(1))
    known = e.b.icmp_unsigned("!=", e.b.ptrtoint(number, I64), e.i64(0))
    return e.choose(alone, lambda: [e.i64(0)], lambda: e.choose(known, told, arrived))


def _do_range(e: Emitter, line: Any, do: Callable[[Any], Any]) -> None:
    """Takes tasks of the range {next, end} until none is left."""
    end = e.load(line, 1, I64)
    loop, inside, done = (e.function.append_basic_block(label) for label in ("next", "work", "done"))
    e.b.branch(loop)
    e.b.position_at_end(loop)
    index = e.b.atomic_rmw("add", line, e.i64(1), "monotonic")
    e.b.cbranch(e.b.icmp_signed("<", index, end), inside, done)
    e.b.position_at_end(inside)
    do(index)
    e.b.branch(loop)
    e.b.position_at_end(done)


def _run(module: ir.Module, target: Target, share: ir.Function) -> None:
    run = ir.Function(module, ir.FunctionType(VOID, [POINTER, I64]), "run")
    e = Emitter(run, target)
    arguments, threads = run.args
    threads = e.b.select(e.b.icmp_signed(">", threads, e.i64(1)), threads, e.i64(1))
    frame = e.b.alloca(I64, e.mul(e.add(threads, 1), LINE))
    frame.align, frame.type = 64, POINTER
    e.store(arguments, frame)
    e.store(threads, frame, 1)
    e.store(e.i64(0), frame, 2)
    tasks = e.load(arguments, TASKS, I64)

    def give(worker: Any, start: Any) -> list[Any]:
        end, _ = e.divmod(e.mul(tasks, e.add(worker, 1)), threads)
        line = e.at(frame, e.mul(e.add(worker, 1), LINE), I64)
        e.store(start, line)
        e.store(end, line, 1)
        return [end]

    e.loop(0, threads, give, [e.i64(0)])

    def fork() -> tuple[()]:
        kind = ir.FunctionType(VOID, [POINTER, POINTER, I32, I32])
        address = e.load(e.load(arguments, TEAM, POINTER), 0, POINTER)
        e.call_address(address, kind, e.address_of(share), frame, e.b.trunc(threads, I32), ir.Constant(I32, 0))
        return ()

    def work() -> tuple[()]:
        e.b.call(share, [frame])
        return ()

    e.choose(e.b.icmp_signed("==", threads, e.i64(1)), work, fork)
    e.b.ret_void()
