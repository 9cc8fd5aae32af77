"""Targets: what a kernel needs to know of the machine it is written for."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache

import llvmlite.binding as llvm

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


_X86 = "x86_64-unknown-linux-gnu"
_AVX2 = "+avx,+avx2,+fma,+bmi,+bmi2,+popcnt,+sse4.2,+lzcnt,+f16c,+movbe"
_AVX512 = _AVX2 + ",+avx512f,+avx512dq,+avx512bw,+avx512vl,+avx512cd"
TARGETS = {
    "avx512": Target("avx512", 16, 32, _X86, "x86-64-v4", _AVX512, True, 48 << 10, 1 << 20),
    "avx2": Target("avx2", 8, 16, _X86, "x86-64-v3", _AVX2),
    "neon": Target("neon", 4, 32, "aarch64-unknown-linux-gnu", "generic", "+neon", True, 64 << 10),
    "generic": Target("generic", 4, 16, _X86, "x86-64", "+sse2"),
}


@lru_cache(maxsize=1)
def host() -> Target:
    """This machine's target, or the lesser one that the variable SVERTKA_TARGET names.

    Raises:
        SvertkaError: if SVERTKA_TARGET names no target, or one that this machine can't run.
    """
    best = _detected()
    name = os.environ.get(VARIABLE, best)
    if name not in TARGETS:
        raise SvertkaError(f"{VARIABLE}={name} is no target: choose one of {', '.join(TARGETS)}")
    able = list(TARGETS)[list(TARGETS).index("avx512") :]
    x86 = best != "neon" and name != "neon"
    if name != best and not (x86 and able.index(name) > able.index(best)):
        raise SvertkaError(f"{VARIABLE}={name} can't run here: this machine's target is {best}")
    return _on_this_machine(TARGETS[name])


def _on_this_machine(target: Target) -> Target:
    triple = llvm.get_process_triple()
    caches = _cache_sizes()
    return Target(
        target.name,
        target.lanes,
        target.registers,
        triple,
        target.cpu,
        target.features,
        target.broadcasts,
        caches.get(1, target.l1),
        caches.get(2, target.l2),
    )


def _detected() -> str:
    if llvm.get_process_triple().startswith(("aarch64", "arm64")):
        return "neon"
    features = llvm.get_host_cpu_features()
    for name in ("avx512", "avx2"):
        needed = (feature[1:] for feature in TARGETS[name].features.split(","))
        if all(features.get(feature, False) for feature in needed):
            return name
    return "generic"


def _cache_sizes() -> dict[int, int]:
    """Bytes of data cache by level, where the system tells."""
    from pathlib import Path

    sizes: dict[int, int] = {}
    for folder in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"):
        try:
            kind, level, size = ((folder / name).read_text().strip() for name in ("type", "level", "size"))
        except OSError:
            continue
        if kind != "Instruction" and size.endswith("K"):
            sizes[int(level)] = int(size[:-1]) << 10
    return sizes
