"""The frame around a kernel: a function of one task becomes a function of all tasks, shared out among threads.

A kernel writes `task(arguments, task, worker)`: `arguments` points to 8-byte slots, `task` counts from 0, and `worker`
tells apart those that run at the same time (each below the number of threads). Which tasks there are is a matter of
shapes alone; who runs one is left to chance, so that results can't depend on the number of threads.

`run(arguments, threads)` does all tasks: slot FORK holds the address of GOMP_parallel, slot TASKS their number.
`share(frame)` is one thread's part; `frame` is {arguments, next task, next worker}.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from svertka.kernels.emit import FORK, I32, I64, POINTER, TASKS, VOID, Emitter
from svertka.kernels.target import Target

FRAME = 3  # words


def parallel_module(name: str, target: Target, write_task: Callable[[Emitter, Any, Any, Any], None]) -> ir.Module:
    """A module with `run` and `share` around the task that `write_task(emitter, arguments, task, worker)` writes."""
    module = ir.Module(name)
    module.triple = target.triple
    task = ir.Function(module, ir.FunctionType(VOID, [POINTER, I64, I64]), "task")
    task.linkage = "internal"
    for argument in task.args:
        argument.add_attribute("noundef")
    emitter = Emitter(task, target)
    write_task(emitter, *task.args)
    emitter.b.ret_void()
    share = _share(module, target, task)
    _run(module, target, share)
    return module


def _share(module: ir.Module, target: Target, task: ir.Function) -> ir.Function:
    """Takes one task after the other until none is left."""
    share = ir.Function(module, ir.FunctionType(VOID, [POINTER]), "share")
    e = Emitter(share, target)
    frame = share.args[0]
    arguments = e.load(frame, 0, POINTER)
    count = e.load(arguments, TASKS, I64)
    counter = e.at(frame, 1, I64)
    worker = e.b.atomic_rmw("add", e.at(frame, 2, I64), e.i64(1), "monotonic")
    loop, inside, done = (share.append_basic_block(label) for label in ("next", "work", "done"))
    e.b.branch(loop)
    e.b.position_at_end(loop)
    index = e.b.atomic_rmw("add", counter, e.i64(1), "monotonic")
    e.b.cbranch(e.b.icmp_signed("<", index, count), inside, done)
    e.b.position_at_end(inside)
    e.b.call(task, [arguments, index, worker])
    e.b.branch(loop)
    e.b.position_at_end(done)
    e.b.ret_void()
    return share


def _run(module: ir.Module, target: Target, share: ir.Function) -> None:
    run = ir.Function(module, ir.FunctionType(VOID, [POINTER, I64]), "run")
    e = Emitter(run, target)
    arguments, threads = run.args
    frame = e.array(FRAME, I64)
    e.b.store(arguments, frame)
    for word in (1, 2):
        e.store(e.i64(0), frame, word)
    alone = e.b.icmp_signed("<=", threads, e.i64(1))

    def fork() -> tuple[()]:
        kind = ir.FunctionType(VOID, [POINTER, POINTER, I32, I32])
        address = e.load(arguments, FORK, POINTER)
        e.call_address(address, kind, e.address_of(share), frame, e.b.trunc(threads, I32), ir.Constant(I32, 0))
        return ()

    def work() -> tuple[()]:
        e.b.call(share, [frame])
        return ()

    e.choose(alone, work, fork)
    e.b.ret_void()
