"""Threads: those of the OpenMP runtime that the process has loaded already, or fresh ones.

Machine code calls `fork(function, data, threads, flags)` as OpenMP's GOMP_parallel is called: function(data) runs in so
many threads at once, one of them the caller, and then all have ended. libgomp, libomp and Intel's runtime export it;
a second runtime is never loaded, since its threads would fight with the first one's for the cores. Where there is none,
and in a forked child, whose runtime waits forever for the parent's threads, `fork` starts threads and waits for their
end: some 10 µs for each, but nothing that is left over, or shared with anybody.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path
from typing import Any

from llvmlite import ir

from svertka.jit import engine
from svertka.kernels.emit import I32, I64, POINTER, VOID, Emitter
from svertka.kernels.target import Target, host

_NAMES = ("libgomp", "libomp", "libiomp")
_MOST = 1024  # threads of one call


class Team(ctypes.Structure):
    """The addresses of `fork`, and of what tells a thread its number among those that were forked, or 0."""

    _fields_ = (("fork", ctypes.c_void_p), ("number", ctypes.c_void_p))


_team: Team | None = None
_address = 0  # of _team
_teams: list[Team] = []  # machine code that was given an address may read there as long as the process lives
_in_child = False


def team() -> Team:
    """What forks; without a `fork` if there is none (all is then done by the caller alone)."""
    global _team, _address
    if _team is None:
        with engine.alone():  # else two first callers would have two teams
            if _team is None:
                found = Team() if _in_child else _openmp()
                found = found if found.fork else _own()
                _teams.append(found)
                _address = ctypes.addressof(found)
                _team = found  # last: who sees it may use the address
    return _team


def team_address() -> int:
    """Where the team's two addresses stand, for machine code."""
    if _team is None:
        team()
    return _address


def usable(threads: int) -> int:
    """How many of so many threads a call can use."""
    return threads if team().fork else 1


def description() -> str:
    """Whose threads they are: the runtime's file, or how else."""
    address = team().fork
    if not address:
        return "none: all is done by one thread"
    return _file_of(address) or "fresh ones for each call"


def runtimes() -> list[str]:
    """The files of all OpenMP runtimes in the process."""
    return [] if sys.platform == "win32" else [path for path in _loaded_files() if Path(path).name.startswith(_NAMES)]


def _forked() -> None:
    global _team, _in_child
    _team, _in_child = None, True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


def _openmp() -> Team:
    """GOMP_parallel and omp_get_thread_num of a runtime that is loaded, if one is."""
    if sys.platform == "win32":
        return Team()
    # As the linker does for torch's own calls: what is preloaded comes first, then what its library depends on.
    torch = [path for path in _loaded_files() if Path(path).name.startswith("libtorch_cpu.")]
    for path in (None, *torch, *sorted(runtimes())):
        try:
            library = ctypes.CDLL(path, mode=os.RTLD_NOLOAD | os.RTLD_NOW)
            functions = library.GOMP_parallel, library.omp_get_thread_num
            return Team(*(ctypes.cast(function, ctypes.c_void_p).value for function in functions))
        except (OSError, AttributeError):
            continue
    return Team()


class _File(ctypes.Structure):
    """The beginning of dl_iterate_phdr's record of a loaded file."""

    _fields_ = (("base", ctypes.c_void_p), ("name", ctypes.c_char_p))


def _loaded_files() -> list[str]:
    """The shared libraries in the process."""
    names: list[bytes] = []
    process = ctypes.CDLL(None)
    if sys.platform == "darwin":
        process._dyld_get_image_name.restype = ctypes.c_char_p
        names = [process._dyld_get_image_name(i) or b"" for i in range(process._dyld_image_count())]
    elif hasattr(process, "dl_iterate_phdr"):

        def note(file: Any, _size: int, _data: Any) -> int:
            names.append(file.contents.name or b"")
            return 0

        process.dl_iterate_phdr(_VISITOR(note), None)
    return [os.fsdecode(name) for name in names if name]


_VISITOR = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(_File), ctypes.c_size_t, ctypes.c_void_p)


class _Place(ctypes.Structure):
    """dladdr's answer: the file and the symbol that an address belongs to."""

    _fields_ = (
        ("file", ctypes.c_char_p),
        ("base", ctypes.c_void_p),
        ("symbol", ctypes.c_char_p),
        ("address", ctypes.c_void_p),
    )


def _file_of(address: int) -> str:
    place = _Place()
    process = ctypes.CDLL(None)
    if not hasattr(process, "dladdr") or not process.dladdr(ctypes.c_void_p(address), ctypes.byref(place)):
        return ""
    return os.fsdecode(place.file or b"")


def _own() -> Team:
    """A `fork` of our own, but not where there are no POSIX threads."""
    if sys.platform == "win32" or not hasattr(ctypes.CDLL(None), "pthread_create"):
        return Team()
    target = host()
    return Team(engine.addresses(str(_fork_module(target)), target, "fork", ("fork",))["fork"])


def _fork_module(target: Target) -> ir.Module:
    """`fork` by the C library's threads, whose handles have a pointer's size."""
    module = ir.Module("fork")
    module.triple = target.triple
    create = ir.Function(module, ir.FunctionType(I32, [POINTER, POINTER, POINTER, POINTER]), "pthread_create")
    join = ir.Function(module, ir.FunctionType(I32, [I64, POINTER]), "pthread_join")
    _write_fork(module, target, _write_start(module, target), create, join)
    return module


def _write_start(module: ir.Module, target: Target) -> ir.Function:
    """What a thread begins with: start({function, data}) calls function(data)."""
    start = ir.Function(module, ir.FunctionType(POINTER, [POINTER]), "start")
    start.linkage = "internal"
    e = Emitter(start, target)
    (pair,) = start.args
    e.call_address(e.load(pair, 0, POINTER), ir.FunctionType(VOID, [POINTER]), e.load(pair, 1, POINTER))
    e.b.ret(ir.Constant(POINTER, None))
    return start


def _write_fork(module: ir.Module, target: Target, start: ir.Function, create: ir.Function, join: ir.Function) -> None:
    fork = ir.Function(module, ir.FunctionType(VOID, [POINTER, POINTER, I32, I32]), "fork")
    e = Emitter(fork, target)
    function, data, threads, _ = fork.args
    null = ir.Constant(POINTER, None)
    pair, handles = e.array(2, POINTER), e.array(_MOST, I64)
    e.store(function, pair)
    e.store(data, pair, 1)

    def begin(_: Any, started: Any) -> list[Any]:
        # A thread that can't be had is done without: the others take its tasks.
        failed = e.b.call(create, [e.at(handles, started, I64), null, e.address_of(start), pair])
        return [e.b.add(started, e.b.zext(e.b.icmp_signed("==", failed, ir.Constant(I32, 0)), I64))]

    wanted = e.min(e.b.sext(threads, I64), _MOST)
    (started,) = e.loop(1, wanted, begin, [e.i64(0)])
    e.call_address(function, ir.FunctionType(VOID, [POINTER]), data)

    def end(index: Any) -> None:
        e.b.call(join, [e.load(handles, index, I64), null])

    e.loop(0, started, end)
    e.b.ret_void()
