"""From IR to a function: verified, optimised, compiled to an object, kept, loaded."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache as once
from threading import RLock
from typing import Any, TypeVar

import llvmlite

import svertka
from svertka.jit import cache
from svertka.kernels.target import Target

R = TypeVar("R")
RUN = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)
# Kernels unroll their loops and write their vectors themselves. For the rest these few passes make code as fast as
# LLVM's own pipelines do, in half the time.
PASSES = ("simplify_cfg", "loop_rotate", "instruction_combine", "new_gvn", "loop_strength_reduce")
OPTIONS = f"passes={','.join(PASSES)} codegen=3"

_lock = RLock()
_loaded: list[Any] = []  # machine code lives as long as the process

if hasattr(os, "register_at_fork"):  # a child must not inherit a lock that is held, or LLVM in the middle of something
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)


def alone() -> AbstractContextManager[Any]:
    """One thread at a time, as for compiling, which it may do inside; a forked child never finds it occupied."""
    return _lock


@dataclass
class Loaded:
    """A kernel in memory.

    Args:
        run: `run(arguments, threads)`, see `parallel`; releases the GIL while it runs.
        share, task: the addresses of `share(frame)` and of `task(arguments, task, worker)`.
        from_cache: whether its object came from the disk.
        seconds: what it took to write and compile, or to load.
    """

    run: Any
    share: int
    task: int
    from_cache: bool
    seconds: float
    name: str = ""


@once
def versions() -> str:
    """The versions of all that turns a kernel into an object."""
    llvm = _llvm()
    numbers = ".".join(map(str, llvm.llvm_version_info))
    return f"svertka {svertka.__version__}, llvmlite {llvmlite.__version__}, LLVM {numbers}"


def compile_object(text: str, target: Target) -> bytes:
    """The object file of a module's IR.

    Raises:
        RuntimeError: LLVM's message, if the IR is not well formed.
    """
    with _lock:
        return _emitted(text, target, lambda machine, module: bytes(machine.emit_object(module)))


def assembly(text: str, target: Target) -> str:
    """The optimised machine code of a module's IR, as text to read."""
    with _lock:
        return _emitted(text, target, lambda machine, module: str(machine.emit_assembly(module)))


def load(text: str, target: Target, name: str = "kernel") -> Loaded:
    """The kernel of a module's IR; its object is taken from the cache, or compiled and put there."""
    begin = time.perf_counter()
    binary, found = _object(text, target)
    return _kernel(binary, found, name, begin)


def load_recipe(recipe: Callable[[], str], write: Callable[[], str], target: Target, name: str = "kernel") -> Loaded:
    """The kernel of IR that is written only if need be.

    Args:
        recipe: a digest of all that decides what `write` gives. It is asked again afterwards: what was written while
            it changed is not kept under it.
        write: gives the module's IR.
    """
    begin = time.perf_counter()
    before = recipe()
    entry = cache.key("recipe", before, *_circumstances(target))
    known = cache.read(entry)  # the key of the IR's object
    binary = None if known is None else cache.read(known.decode(errors="replace"))
    found = binary is not None
    if binary is None:
        text = write()
        binary, found = _object(text, target)
        if recipe() == before:
            cache.write(entry, _key(text, target).encode())
    return _kernel(binary, found, name, begin)


def addresses(text: str, target: Target, name: str, symbols: Sequence[str]) -> dict[str, int]:
    """Where a module's functions are, loaded from the cache or compiled."""
    return _link(_object(text, target)[0], name, symbols)


def _kernel(binary: bytes, found: bool, name: str, begin: float) -> Loaded:
    places = _link(binary, name, ("run", "share", "task"))
    return Loaded(RUN(places["run"]), places["share"], places["task"], found, time.perf_counter() - begin, name)


def _object(text: str, target: Target) -> tuple[bytes, bool]:
    """(the object, whether it was in the cache)."""
    key = _key(text, target)
    binary = cache.read(key)
    if binary is not None:
        return binary, True
    binary = compile_object(text, target)
    cache.write(key, binary)
    return binary, False


def _key(text: str, target: Target) -> str:
    return cache.key("object", text, *_circumstances(target))


def _circumstances(target: Target) -> tuple[str, ...]:
    return target.triple, target.cpu, target.features, OPTIONS, versions()


def _llvm() -> Any:
    """LLVM's binding, which takes a while to load: not before the first kernel is asked for."""
    import llvmlite.binding as llvm

    return llvm


@once
def _initialize(everything: bool) -> None:
    llvm = _llvm()
    if everything:
        llvm.initialize_all_targets()
        llvm.initialize_all_asmprinters()
    else:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()


def _machine(target: Target) -> Any:
    llvm = _llvm()
    _initialize(everything=target.triple != llvm.get_process_triple())
    return llvm.Target.from_triple(target.triple).create_target_machine(
        cpu=target.cpu, features=target.features, opt=3, reloc="pic", codemodel="small"
    )


def _emitted(text: str, target: Target, emit: Callable[[Any, Any], R]) -> R:
    """What `emit(machine, module)` makes of a module's IR, optimised.

    LLVM's objects end with this function: freeing them calls LLVM, too, and needs the lock.
    """
    llvm, machine = _llvm(), _machine(target)
    module = llvm.parse_assembly(text)
    module.verify()
    passes = llvm.create_new_module_pass_manager()
    for name in PASSES:
        getattr(passes, f"add_{name}_pass")()
    passes.run(module, llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=1)))
    return emit(machine, module)


@once
def _linker() -> Any:
    _initialize(everything=False)
    return _llvm().create_lljit_compiler()


def _link(binary: bytes, name: str, symbols: Sequence[str]) -> dict[str, int]:
    with _lock:
        tracker = _linked(binary, f"{name}-{len(_loaded)}", symbols)
        _loaded.append(tracker)
        return {symbol: int(tracker[symbol]) for symbol in symbols}


def _linked(binary: bytes, name: str, symbols: Sequence[str]) -> Any:
    library = _llvm().JITLibraryBuilder().add_object_img(binary).add_current_process()
    for symbol in symbols:
        library.export_symbol(symbol)
    return library.link(_linker(), name)
