"""Targets: what a kernel needs to know of the machine it is written for."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from svertka.errors import SvertkaError

VARIABLE = "SVERTKA_TARGET"


@dataclass(frozen=True)
class Target:
    """A kind of machine.

    Args:
        name: "avx512", "avx2", "neon" or "generic".
        lanes: floats in a vector register.
        registers: vector registers.
        triple, cpu, features: what LLVM compiles for.
        broadcasts: a multiply-add reads and broadcasts one float of memory itself, at no cost of a register.
        masks: a part of a vector is loaded and stored as quickly as all of it.
        permutes: a vector's lanes can be ordered by another vector.
        l1, l2: bytes of data cache that one core has to itself.
    """

    name: str
    lanes: int
    registers: int
    triple: str
    cpu: str = ""
    features: str = ""
    broadcasts: bool = False
    l1: int = 32 << 10
    l2: int = 512 << 10
    masks: bool = False
    permutes: bool = False


_X86 = "x86_64-unknown-linux-gnu"
_AVX2 = "+avx,+avx2,+fma,+bmi,+bmi2,+popcnt,+sse4.2,+lzcnt,+f16c,+movbe"
_AVX512 = _AVX2 + ",+avx512f,+avx512dq,+avx512bw,+avx512vl,+avx512cd"
TARGETS = {
    "avx512": Target("avx512", 16, 32, _X86, "x86-64-v4", _AVX512, True, 48 << 10, 1 << 20, True, True),
    "avx2": Target("avx2", 8, 16, _X86, "x86-64-v3", _AVX2, permutes=True),
    "neon": Target("neon", 4, 32, "aarch64-unknown-linux-gnu", "generic", "+neon", True, 64 << 10),
    "generic": Target("generic", 4, 16, _X86, "x86-64", "+sse2"),
}


@lru_cache(maxsize=1)
def host() -> Target:
    """This machine's target, or the lesser one that the variable SVERTKA_TARGET names.

    Raises:
        SvertkaError: if SVERTKA_TARGET names no target, or one that this machine can't run.
    """
    best = detected()
    name = os.environ.get(VARIABLE, best)
    if name not in TARGETS:
        raise SvertkaError(f"{VARIABLE}={name} is no target: choose one of {', '.join(TARGETS)}")
    if name not in runnable(best):
        raise SvertkaError(f"{VARIABLE}={name} can't run here: this machine's target is {best}")
    return on_this_machine(TARGETS[name])


def runnable(best: str) -> tuple[str, ...]:
    """The targets that a machine of a target can run, the best first."""
    if best == "neon":
        return ("neon",)
    x86 = ("avx512", "avx2", "generic")
    return x86[x86.index(best) :]


def on_this_machine(target: Target) -> Target:
    """A target with this machine's own triple and cache sizes."""
    caches = _cache_sizes()
    triple = _llvm().get_process_triple()
    if target.name == "generic" and not triple.startswith(("x86_64", "amd64")):
        target = replace(target, cpu="", features="")  # LLVM's plainest for a machine that isn't named above
    return replace(target, triple=triple, l1=caches.get(1, target.l1), l2=caches.get(2, target.l2))


def _llvm() -> Any:
    """LLVM's binding, which takes a while to load: not before a kernel is asked for."""
    import llvmlite.binding as llvm

    return llvm


def detected() -> str:
    """The name of this machine's best target."""
    if _llvm().get_process_triple().startswith(("aarch64", "arm64")):
        return "neon"
    able = features()
    for name in ("avx512", "avx2"):
        needed = (feature[1:] for feature in TARGETS[name].features.split(","))
        if all(able.get(feature, False) for feature in needed):
            return name
    return "generic"


def features() -> dict[str, bool]:
    """What this processor has, by LLVM's names; nothing where LLVM can't tell."""
    try:
        return dict(_llvm().get_host_cpu_features())
    except RuntimeError:
        return {}


def _cache_sizes() -> dict[int, int]:
    """Bytes of data cache by level, where the system tells."""
    sizes: dict[int, int] = {}
    for folder in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"):
        try:
            kind, level, size = ((folder / name).read_text().strip() for name in ("type", "level", "size"))
        except OSError:
            continue
        if kind != "Instruction" and size.endswith("K"):
            sizes[int(level)] = int(size[:-1]) << 10
    return sizes
