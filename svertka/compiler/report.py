"""What became of a compiled network: of each operation, by whom it is computed and why, and how long it takes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

from svertka.compiler.compiled import Compiled, compiled_of
from svertka.compiler.lower import KERNEL, TORCH, Node
from svertka.compiler.model import CompiledModel
from svertka.compiler.plan import Plan
from svertka.errors import SvertkaError
from svertka.files import write_text

_SECONDS, _ROUNDS = 0.5, 5  # of measuring, at least


@dataclass(frozen=True)
class NodeReport:
    """An operation of the graph, or several that are one kernel.

    Args:
        name: the layer's, or the operation's.
        path: "kernel", "torch", "view" (nothing to do) or "copy".
        detail: the kernel and its schedule, or why it is left to torch.
        fused: the operations that are one with it.
        shape: of the result.
        kernels: how many launches it is.
        macs: multiply-adds of a convolution or dense layer.
        seconds, of_peak: if measured: what it took, and its arithmetic as a share of what the processor can do.
    """

    name: str
    path: str
    detail: str
    fused: tuple[str, ...]
    shape: tuple[int, ...]
    kernels: int
    macs: int
    seconds: float | None = None
    of_peak: float | None = None


@dataclass(frozen=True)
class PlanReport:
    """A compiled graph for inputs of some shapes.

    Args:
        inputs: their shapes; numbers among them as they are.
        nodes: in the order they run in.
        reason: why there is no plan, and the function runs as it is; "" if there is one.
        calls: native calls of a run: one more than there are operations of torch between kernels, or less.
        arena_bytes, unshared_bytes: memory for what lives within, and what it would be without sharing.
        weight_bytes: packed weights, of all plans of the network together.
        seconds: of a whole run, if measured.
    """

    inputs: tuple[Any, ...]
    nodes: tuple[NodeReport, ...]
    reason: str = ""
    calls: int = 0
    arena_bytes: int = 0
    unshared_bytes: int = 0
    weight_bytes: int = 0
    seconds: float | None = None

    @property
    def fallbacks(self) -> tuple[NodeReport, ...]:
        """What torch computes."""
        return tuple(node for node in self.nodes if node.path == TORCH)

    def __str__(self) -> str:
        if self.reason:
            return f"{_shapes(self.inputs)}: no plan, since {self.reason}"
        kernels = sum(node.kernels for node in self.nodes if node.path == KERNEL)
        by_torch, arena = len(self.fallbacks), self.arena_bytes / 2**20
        what = f"{kernels} kernels in {self.calls} calls, {by_torch} operations of torch, arena {arena:.2f} MiB"
        lines = [f"{_shapes(self.inputs)}: {what}"]
        for node in self.nodes:
            what = " + ".join(node.fused) or node.name
            time = "" if node.seconds is None else f"{node.seconds * 1e6:9.1f} µs  "
            lines.append(f"  {time}{node.path:7}{node.name}: {what} → {list(node.shape)}  {node.detail}".rstrip())
        return "\n".join(lines)


def report(compiled: Any, *, measure: bool = False) -> list[PlanReport]:
    """What became of a network, a report for each shape of inputs that it was called with.

    Args:
        compiled: what `torch.compile` with the backend "svertka" or `svertka.compile` gave.
        measure: also run each plan, on random inputs, and tell the time of each node.
    """
    peak = _peak() if measure else 0.0
    return [_of_plan(part, key, planned, peak) for part, key, planned in plans(compiled)]


def plans(compiled: Any) -> Iterator[tuple[Compiled, Any, Any]]:
    """(what was compiled, the inputs' layouts, the plan and its nodes or the reason why there is none)."""
    if isinstance(compiled, CompiledModel):
        parts = [part for part, _ in compiled.kinds.values()]
    elif isinstance(compiled, nn.Module):
        parts = compiled_of(getattr(compiled, "_orig_mod", compiled))
    else:
        raise SvertkaError(
            "svertka.report tells of what torch.compile or svertka.compile made of a torch.nn.Module, "
            f"but got an object of type {type(compiled).__name__}"
        )
    for part in parts:
        if part.reason:
            yield part, (), part.reason
        for (_, *layouts), planned in list(part.plans.items()):
            yield part, tuple(layouts), planned


def _of_plan(part: Compiled, key: Any, planned: Any, peak: float) -> PlanReport:
    inputs = tuple(tuple(entry[0]) if isinstance(entry, tuple) else entry for entry in key)
    if isinstance(planned, str):
        return PlanReport(inputs, (), planned)
    plan, nodes = planned
    times = item_times(part, key, plan) if peak else []
    segments = sum(hasattr(item, "widest") for item in plan.items)
    return PlanReport(
        inputs,
        tuple(_of_node(node, times, peak) for node in nodes),
        "",
        segments,
        plan.arena_bytes,
        plan.separate_bytes,
        part.weights.bytes,
        sum(times) if peak else None,
    )


def _of_node(node: Node, times: list[float], peak: float) -> NodeReport:
    first, last = node.items
    kernels = last - first if node.path == KERNEL else 0
    seconds = sum(times[first:last]) if peak else None
    share = 2 * node.macs / (seconds * peak) if seconds and node.macs else None
    return NodeReport(node.name, node.path, node.detail, node.fused, node.shape, kernels, node.macs, seconds, share)


def item_times(part: Compiled, key: Any, plan: Plan) -> list[float]:
    """Seconds of each item of a plan: the median of several runs on random inputs."""
    inputs = [_random(*entry) if isinstance(entry, tuple) else entry for entry in key]
    held = [owner() for owner in part.owners]
    if any(tensor is None for tensor in held):
        raise SvertkaError("the network whose plan is to be measured isn't there any more: keep a reference to it")
    with torch.no_grad():
        plan(inputs, held)  # type: ignore[arg-type]
        rounds: list[list[float]] = []
        start = perf_counter()
        while len(rounds) < _ROUNDS or perf_counter() - start < _SECONDS:
            rounds.append(plan.times(inputs, held))  # type: ignore[arg-type]
    return [median(times) for times in zip(*rounds, strict=True)]


def _random(shape: Any, stride: Any, dtype: torch.dtype, device: torch.device) -> Tensor:
    tensor = torch.empty_strided(shape, stride, dtype=dtype, device=device)
    return tensor.normal_() if dtype.is_floating_point else tensor.zero_()


def _peak() -> float:
    from svertka.engine.speed import peak

    return peak(torch.get_num_threads())


def _shapes(inputs: tuple[Any, ...]) -> str:
    return ", ".join("×".join(map(str, shape)) if isinstance(shape, tuple) else str(shape) for shape in inputs)


def write_trace(path: Path, reported: PlanReport) -> None:
    """One run as a trace that Perfetto (ui.perfetto.dev) and Chrome show: each node with its place and duration."""
    events: list[dict[str, Any]] = [
        {"name": "process_name", "ph": "M", "pid": 1, "args": {"name": f"svertka {_shapes(reported.inputs)}"}}
    ]
    now = 0.0
    for node in reported.nodes:
        if not node.seconds:
            continue
        details: dict[str, Any] = {
            "operations": " + ".join(node.fused),
            "detail": node.detail,
            "shape": list(node.shape),
        }
        if node.macs:
            details |= {"multiply-adds": node.macs, "of peak": node.of_peak}
        duration = node.seconds * 1e6
        events.append(
            {"name": node.name, "cat": node.path, "ph": "X", "ts": now, "dur": duration, "pid": 1, "tid": 1}
            | {"args": details}
        )
        now += duration
    write_text(path, json.dumps({"displayTimeUnit": "ms", "traceEvents": events}))
