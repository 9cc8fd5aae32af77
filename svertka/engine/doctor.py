"""The state of the engine on this machine: what it found, what it reaches, whether its results are right.

Each finding says what to do about it, if anything should be done.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor

from svertka import functional, reference, spec
from svertka.engine import dispatch
from svertka.engine.report import KERNEL, report
from svertka.engine.speed import bandwidth, peak
from svertka.jit import cache, engine, threads
from svertka.kernels import target as targets
from svertka.kernels.target import detected, host
from svertka.window import Segments

_FEATURES = (
    "sse4.2", "avx", "f16c", "fma", "avx2", "avxvnni", "avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl",
    "avx512vnni", "avx512bf16", "avx512fp16", "amx-tile", "neon", "sve",
)  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """Something about the machine or its settings, and what to do about it ("" if nothing)."""

    topic: str
    found: str
    advice: str = ""


@dataclass(frozen=True)
class Trial:
    """An operation held against the reference.

    Args:
        operation: its name and the input's layout.
        path: "kernel" or "portable".
        detail: the kernel, or why there is none.
        fault: what is wrong with the result; "" if nothing.
        seconds: of the first call: with compiling or loading.
    """

    operation: str
    path: str
    detail: str
    fault: str
    seconds: float


@dataclass(frozen=True)
class Examination:
    """All findings and trials."""

    findings: tuple[Finding, ...]
    trials: tuple[Trial, ...]

    @property
    def sound(self) -> bool:
        """Whether all results were right."""
        return not any(trial.fault for trial in self.trials)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "sound": self.sound}


def examine() -> Examination:
    """Looks at everything; takes a few seconds."""
    looks = (_processor, _target, _versions, _engine, _threads, _cache, _arithmetic, _memory)
    return Examination(tuple(look() for look in looks), self_test())


def _processor() -> Finding:
    try:
        names = re.findall(r"^model name\s*: (.*)", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        names = []
    name = names[0] if names else platform.processor() or platform.machine()
    features = targets.features()
    return Finding("processor", f"{name}: {', '.join(one for one in _FEATURES if features.get(one))}")


def _target() -> Finding:
    best, chosen = detected(), host()
    found = (
        f"{chosen.name}: {chosen.lanes} floats in a vector, {chosen.registers} registers, "
        f"{chosen.l1 >> 10} KiB L1, {chosen.l2 >> 10} KiB L2"
    )
    advice = f"unset {targets.VARIABLE} to compute with {best}" if chosen.name != best else ""
    if best == "generic":
        advice = "nothing helps: without AVX2 and FMA the kernels reach a fraction of their speed"
    return Finding("target", found, advice)


def _versions() -> Finding:
    return Finding("versions", f"{engine.versions()}, torch {torch.__version__}")


def _engine() -> Finding:
    chosen = dispatch.engine()
    advice = {
        "auto": "",
        "kernels": "what the kernels can't do is an error: use auto for torch's operations in their place",
        "portable": f"no kernel is used: unset {dispatch.VARIABLE}, or call svertka.use('auto')",
    }
    return Finding("engine", chosen, advice[chosen])


def _threads() -> Finding:
    used, cores = torch.get_num_threads(), _cores()
    runtimes = threads.runtimes()
    advice = ""
    if used > cores:
        advice = f"set OMP_NUM_THREADS={cores}: more threads than cores wait for each other"
    elif used < cores:
        idle = "1 core is" if cores - used == 1 else f"{cores - used} cores are"
        advice = f"{idle} idle: set OMP_NUM_THREADS={cores} if nothing else needs them"
    elif len(runtimes) > 1:
        advice = f"{len(runtimes)} OpenMP runtimes are loaded, whose threads get in each other's way: load one only"
    return Finding("threads", f"{used} on {cores} cores, by {Path(threads.description()).name}", advice)


def _cores() -> int:
    """Of those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cache() -> Finding:
    state = cache.state()
    if state.folder is None:
        return Finding("cache", f"none, {state.finding}", "each process compiles its kernels anew")
    found = f"{state.folder}: {state.entries} entries, {state.size / 2**20:.1f} of {state.limit >> 20} MiB"
    if state.finding:
        return Finding("cache", f"{state.folder} is not used: {state.finding}", cache.remedy(state.folder))
    return Finding("cache", found)


def _arithmetic() -> Finding:
    number = torch.get_num_threads()
    one, all_of_them = peak(1), peak(number)
    found = f"{one / 1e9:.0f} GFLOP/s on one thread, {all_of_them / 1e9:.0f} on {number}"
    slow = number > 1 and all_of_them < 0.6 * number * one
    return Finding("arithmetic", found, "other programs use the cores, or two threads share one" if slow else "")


def _memory() -> Finding:
    try:
        read = bandwidth(torch.get_num_threads())
    except MemoryError:
        return Finding("memory", "not measured", "free half a gigabyte to measure it")
    return Finding("memory", f"read at {read / 1e9:.1f} GB/s")


@dataclass(frozen=True)
class _Case:
    """An operation, the shape of its input, tensors or the shapes of random ones, how often a result is rounded."""

    operation: Any
    shape: tuple[int, ...]
    tensors: tuple[Any, ...] = ()
    roundings: int = 64


def _cases() -> list[_Case]:
    """One for each kind of spec."""
    window, whole = spec.windows(2, 3, 2, 1), spec.segments(1, 1)
    transposed = spec.TransposedConvolution(spec.transposed_windows(2, 3, 2, 1))
    pooled = spec.ConvolutionBlock(
        spec.windows(2, 3, 1, "same", mode="reflect"), 1, spec.Activation("relu"), spec.windows(2, 2, 2)
    )
    return [
        _Case(spec.Convolution(window), (2, 40, 9, 8), ((7, 40, 3, 3), (7,))),
        _Case(spec.Convolution(window), (2, 3, 9, 8), ((7, 3, 3, 3), (7,))),
        _Case(spec.Convolution(spec.windows(2, 3, 1, 1)), (2, 64, 16, 15), ((64, 64, 3, 3), (64,)), 640),
        _Case(spec.Convolution(window, 6), (2, 6, 9, 8), ((6, 1, 3, 3), (6,))),
        _Case(pooled, (2, 5, 9, 8), ((7, 5, 3, 3), (7,))),
        _Case(transposed, (2, 5, 9, 8), ((5, 7, 3, 3), (7,))),
        _Case(spec.Unshared(window), (2, 3, 9, 8), ((5, 4, 7, 3, 3, 3), (5, 4, 7))),
        _Case(spec.MaxPool(window), (2, 5, 9, 8), (), 0),
        _Case(spec.MaxPool(spec.segments(2, 3)), (2, 5, 9, 8), (), 0),
        _Case(spec.RectifiedMaxPool(window), (2, 5, 9, 8), (), 0),
        _Case(spec.AveragePool(window, count_include_pad=False), (2, 5, 9, 8)),
        _Case(spec.LpPool(window, 3.0), (2, 5, 9, 8)),
        _Case(spec.WeightedPool(window), (2, 5, 9, 8), ((5, 3, 3),)),
        _Case(spec.StochasticPool(window, sample=False), (2, 5, 9, 8)),
        _Case(spec.KMaxPool(whole, 3), (2, 5, 11), (), 0),
        _Case(spec.SegmentPool(whole, "average"), (2, 5, 11), (torch.tensor([[1, 4], [6, 9]]),)),
        _Case(spec.BatchNorm(spec.windows(2, 1), activation=spec.Activation("relu")), (2, 5, 9, 8), ((5,), (5,))),
        _Case(spec.Pad(spec.pad_windows(2, (1, 2, 3, 0), "circular")), (2, 5, 9, 8), (), 0),
    ]


def self_test() -> tuple[Trial, ...]:
    """A small case of each operation in both layouts, held against the definition in float64."""
    layouts = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last}
    return tuple(
        _try(case, torch.Generator().manual_seed(index), name, layout)
        for index, case in enumerate(_cases())
        for name, layout in layouts.items()
        if len(case.shape) == 4 or name == "contiguous"
    )


def _try(case: _Case, generator: torch.Generator, layout: str, memory_format: torch.memory_format) -> Trial:
    x = torch.randn(case.shape, generator=generator).contiguous(memory_format=memory_format)
    # Weights of a mean are positive.
    draw: Callable[..., Tensor] = torch.rand if isinstance(case.operation, spec.WeightedPool) else torch.randn
    tensors = [t if isinstance(t, Tensor) else draw(t, generator=generator) for t in case.tensors]
    name = _name(case.operation)
    before, begin, fault = report(), perf_counter(), ""
    try:
        with torch.no_grad(), dispatch.using("auto"):
            result = functional.run(case.operation, x, *tensors)
            result = result[0] if isinstance(result, tuple) else result  # beside means and variances
        fault = _fault(result, case, x, tensors)
    except Exception as error:  # whatever goes wrong is what is asked for
        fault = f"{type(error).__name__}: {error}"
    seconds = perf_counter() - begin
    calls = [call for call, count in report().items() if count > before.get(call, 0)]
    path, detail = (calls[0].path, calls[0].detail) if calls else (KERNEL, "")
    return Trial(f"{name}, {layout}", path, detail, fault, seconds)


def _name(operation: Any) -> str:
    """In words: MaxPool is a "max pool", or an "adaptive max pool"."""
    name = re.sub(r"(?<!^)(?=[A-Z])", " ", type(operation).__name__).lower()
    if getattr(operation, "groups", 1) > 1:
        return f"depthwise {name}"
    adaptive = isinstance(operation, spec.MaxPool) and isinstance(operation.windows[0], Segments)
    return f"adaptive {name}" if adaptive else name


def _fault(result: Tensor, case: _Case, x: Tensor, tensors: Sequence[Tensor]) -> str:
    """What is wrong with a result: a sum's rounding errors are at most ε · their number · the sum of magnitudes."""
    expected = _defined(case.operation, x, *tensors)
    if isinstance(case.operation, spec.BatchNorm):
        magnitude = _norm_magnitude(case.operation, x, *tensors)
    else:
        magnitude = _defined(case.operation, abs(x), *map(abs, tensors))
    tolerance = case.roundings * np.finfo(np.float32).eps * magnitude
    found = result.numpy()
    if found.shape != expected.shape:
        return f"shape {list(found.shape)} in place of {list(expected.shape)}"
    wrong = ~(abs(found - expected) <= tolerance)
    if not wrong.any():
        return ""
    worst = np.nanmax(abs(found - expected)) if np.isfinite(found).any() else np.inf
    return f"{wrong.sum()} of {wrong.size} numbers are wrong, by up to {worst:.2g}"


def _defined(operation: Any, x: Tensor, *tensors: Tensor) -> Any:
    if isinstance(operation, spec.SegmentPool):
        return reference.dynamic_pool(x, tensors[0], operation.kind)
    if not isinstance(operation, spec.ConvolutionBlock):
        return reference.run(operation, x, *tensors)
    y = np.maximum(reference.run(operation.convolution, x, *tensors), 0)
    return reference.run(spec.MaxPool(operation.pool), y)


def _norm_magnitude(operation: spec.BatchNorm, x: Tensor, weight: Tensor, bias: Tensor) -> Any:
    """The sum of the magnitudes of what batch norm adds."""
    values = x.double().numpy()
    scale, shift = (abs(t.double().numpy())[:, None, None] for t in (weight, bias))
    deviation = np.sqrt(values.var((0, 2, 3), keepdims=True) + operation.eps)
    return (abs(values) + abs(values.mean((0, 2, 3), keepdims=True))) / deviation * scale + shift
