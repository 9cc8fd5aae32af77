"""From IR to a function: verified, optimised, compiled to an object, kept, loaded."""

from __future__ import annotations

import ctypes
import time
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

import llvmlite
import llvmlite.binding as llvm

from svertka.jit import cache
from svertka.kernels.target import Target

_lock = Lock()
_ready = False
_loaded: list[Any] = []  # machine code lives as long as the process
RUN = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_int64)
OPTIONS = "speed=2 codegen=3 unroll=off vectorize=off"


@dataclass
class Loaded:
    """A kernel in memory.

    Args:
        run: `run(arguments, threads)`, see `parallel`; releases the GIL while it runs.
        share: the address of `share(frame)`.
        from_cache: whether its object came from the disk.
        seconds: what it took to compile or to load.
    """

    run: Any
    share: int
    from_cache: bool
    seconds: float
    name: str = field(default="")


def versions() -> str:
    """The versions of all that turns IR into an object."""
    return f"llvmlite {llvmlite.__version__}, LLVM {'.'.join(map(str, llvm.llvm_version_info))}"


def compile_object(text: str, target: Target) -> bytes:
    """The object file of a module's IR.

    Raises:
        RuntimeError: LLVM's message, if the IR is not well formed.
    """
    with _lock:
        _initialize()
        machine = _machine(target)
        module = llvm.parse_assembly(text)
        module.verify()
        tuning = llvm.create_pipeline_tuning_options(speed_level=2)
        tuning.loop_unrolling = tuning.loop_vectorization = tuning.slp_vectorization = False
        builder = llvm.create_pass_builder(machine, tuning)
        builder.getModulePassManager().run(module, builder)
        return bytes(machine.emit_object(module))


def assembly(text: str, target: Target) -> str:
    """The optimised machine code of a module's IR, as text to read."""
    with _lock:
        _initialize()
        machine = _machine(target)
        module = llvm.parse_assembly(text)
        module.verify()
        tuning = llvm.create_pipeline_tuning_options(speed_level=2)
        tuning.loop_unrolling = tuning.loop_vectorization = tuning.slp_vectorization = False
        builder = llvm.create_pass_builder(machine, tuning)
        builder.getModulePassManager().run(module, builder)
        return str(machine.emit_assembly(module))


def load(text: str, target: Target, name: str = "kernel") -> Loaded:
    """The kernel of a module's IR; its object is taken from the cache, or compiled and put there."""
    begin = time.perf_counter()
    key = cache.key(text, target.triple, target.cpu, target.features, OPTIONS, versions())
    binary = cache.read(key)
    found = binary is not None
    if binary is None:
        binary = compile_object(text, target)
        cache.write(key, binary)
    with _lock:
        _initialize()
        run, share = _link(binary, f"{name}-{len(_loaded)}")
    return Loaded(run, share, found, time.perf_counter() - begin, name)


def _initialize() -> None:
    global _ready
    if not _ready:
        llvm.initialize_all_targets()
        llvm.initialize_all_asmprinters()
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        _ready = True


def _machine(target: Target) -> Any:
    return llvm.Target.from_triple(target.triple).create_target_machine(
        cpu=target.cpu, features=target.features, opt=3, reloc="pic", codemodel="small"
    )


_compiler: Any = None


def _link(binary: bytes, name: str) -> tuple[Any, int]:
    global _compiler
    if _compiler is None:
        _compiler = llvm.create_lljit_compiler()
    library = llvm.JITLibraryBuilder().add_object_img(binary).export_symbol("run").export_symbol("share")
    tracker = library.add_current_process().link(_compiler, name)
    _loaded.append(tracker)
    return RUN(tracker["run"]), tracker["share"]
