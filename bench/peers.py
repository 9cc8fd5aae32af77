"""Who computes a layer: Svertka and torch; the runtimes that read ONNX are in `runtimes`.

A peer offers one or more ways to compute a row. All that are right are tried, and the fastest is timed.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from layer_rows import Arrays, Row

CACHE = "SVERTKA_CACHE"  # where machine code is kept: the worker gets a folder of its own
NOT_HERE = "it has no such way here"


class CannotError(Exception):
    """Says why a peer can't compute a row."""


@dataclass(frozen=True)
class Call:
    """A layer with its input ready in the peer's layout.

    Args:
        run: what is timed; gives something that `result` knows.
        result: the output as float array [N, C, *size].
    """

    run: Callable[[], Any]
    result: Callable[[Any], np.ndarray]


Ways = Iterator[tuple[str, Callable[[], Call]]]


class Peer:
    """One who computes.

    Args:
        threads: how many it may use.
        scratch: a folder for its files.
    """

    distribution = "torch"

    def __init__(self, threads: int, scratch: Path) -> None:
        self.threads, self.scratch = threads, scratch

    def ways(self, row: Row, arrays: Arrays) -> Ways:
        """(name, function that prepares the call) of each way.

        Raises:
            CannotError: if there is none.
        """
        raise NotImplementedError

    def facts(self, build: Callable[[], Call]) -> dict[str, Any]:
        """What else is told of a row."""
        del build
        return {}


class Torch(Peer):
    """torch's own operations, one after the other."""

    last = False
    dtype = "float32"

    def __init__(self, threads: int, scratch: Path) -> None:
        import torch

        super().__init__(threads, scratch)
        self.torch = torch
        torch.set_num_threads(threads)
        torch.set_grad_enabled(False)

    def tensors(self, arrays: Arrays) -> dict[str, Any]:
        """Tensors of this peer's type and layout."""
        tensors = {
            name: self.torch.tensor(value, dtype=getattr(self.torch, self.dtype)) for name, value in arrays.items()
        }
        if not self.last:
            return tensors
        formats = {4: self.torch.channels_last, 5: self.torch.channels_last_3d}
        if tensors["x"].ndim not in formats:
            raise CannotError("torch has no channels_last for it")
        return {
            name: value.to(memory_format=formats[value.ndim]) if value.ndim == tensors["x"].ndim else value
            for name, value in tensors.items()
        }

    def call(self, function: Callable[..., Any], arrays: Arrays) -> Call:
        """`function(x, weight, bias)` on tensors."""
        tensors = self.tensors(arrays)
        x, weight, bias = tensors["x"], tensors.get("weight"), tensors.get("bias")
        return Call(lambda: function(x, weight, bias), lambda y: y.numpy())

    def ways(self, row: Row, arrays: Arrays) -> Ways:
        for name, function in torch_ways(row).items():
            yield name, lambda function=function: self.call(function, arrays)


class TorchLast(Torch):
    """The same in torch's format channels_last."""

    last = True


class Reference(Torch):
    """torch in float64, whose results all others are held against."""

    dtype = "float64"

    def ways(self, row: Row, arrays: Arrays) -> Ways:
        if row.kind == "stochastic":  # the draws' expectation: Σ x² / Σ x
            average = self.torch.nn.functional.avg_pool2d

            def mean(x: Any, *_: Any) -> Any:
                return average(x * x, row.kernel, row.stride) / average(x, row.kernel, row.stride)

            yield "Σ x² / Σ x", lambda: self.call(mean, arrays)
            return
        yield next(super().ways(row, arrays))

    def facts(self, build: Callable[[], Call]) -> dict[str, Any]:
        return {"result": build().run().numpy()}

    def machine(self) -> dict[str, float]:
        """This machine's peaks, as measured: 10⁹ FLOP/s of a matrix product, 10⁹ bytes/s that a sum reads."""
        torch, flops, read = self.torch, 0.0, 0.0
        for side in (512, 1024, 2048):
            a, b = torch.rand(side, side), torch.rand(side, side)
            flops = max(flops, 2 * side**3 / fastest(lambda a=a, b=b: torch.mm(a, b), 0.5))
        line = torch.ones(2**24)
        read = 4 * line.numel() / fastest(line.sum, 0.5)
        return {"gflops": flops / 1e9, "bandwidth": read / 1e9}


class Inductor(Torch):
    """torch.compile with frozen weights; needs a C++ compiler, and seconds for each row."""

    def __init__(self, threads: int, scratch: Path) -> None:
        super().__init__(threads, scratch)
        import torch._inductor.config as config

        if not any(map(shutil.which, ("g++", "clang++"))):
            raise CannotError("torch.compile needs a C++ compiler")
        config.freezing = True
        self.torch._dynamo.config.recompile_limit = 10_000

    def ways(self, row: Row, arrays: Arrays) -> Ways:
        for last in (False, True):
            for name, function in torch_ways(row).items():
                yield (
                    f"{name} {'channels_last' if last else 'contiguous'}".strip(),
                    lambda function=function, last=last: self.compiled(function, arrays, last),
                )

    def compiled(self, function: Callable[..., Any], arrays: Arrays, last: bool) -> Call:
        """The function with its weights as a module's constants."""
        self.last = last
        tensors = self.tensors(arrays)
        torch, x = self.torch, tensors.pop("x")

        class Layer(torch.nn.Module):  # type: ignore[misc,name-defined]
            def __init__(self) -> None:
                super().__init__()
                self.weight = self.bias = None
                for name, value in tensors.items():
                    delattr(self, name)
                    self.register_parameter(name, torch.nn.Parameter(value, requires_grad=False))

            def forward(self, x: Any) -> Any:
                return function(x, self.weight, self.bias)

        layer = torch.compile(Layer().eval(), dynamic=False)
        return Call(lambda: layer(x), lambda y: y.numpy())


def torch_ways(row: Row) -> dict[str, Callable[..., Any]]:
    """The layer as functions of (x, weight, bias) made of torch's operations, where torch lacks it the best known."""
    import torch.nn.functional as F

    convolution = getattr(F, f"conv{max(row.ndim, 1)}d")

    def conv(x: Any, weight: Any, bias: Any) -> Any:
        if row.mode == "zeros":
            return convolution(x, weight, bias, row.stride, row.padding, row.dilation, row.groups)
        # torch has no symmetric padding; of width 1 it is the same as replication.
        mode = "replicate" if row.mode == "symmetric" and row.padding == 1 else row.mode
        padded = F.pad(x, [row.padding] * (2 * row.ndim), mode)
        return convolution(padded, weight, bias, row.stride, 0, row.dilation, row.groups)

    def unshared(x: Any, weight: Any, bias: Any) -> Any:
        places = weight.shape[0] * weight.shape[1]
        columns = F.unfold(x, row.kernel, padding=row.padding)
        y = torch_einsum("nkl,lok->nol", columns, weight.view(places, row.outputs, -1))
        return (y + bias.view(places, row.outputs).T).unflatten(2, row.size)

    def stochastic(x: Any, *_: Any) -> Any:
        k = row.kernel
        windows = x.unfold(2, k, k).unfold(3, k, k).flatten(4)
        # The smallest of exponential variables with rates p is at place i with probability p_i / Σ p.
        drawn = (windows / windows.new_empty(windows.shape).exponential_()).argmax(-1, keepdim=True)
        return windows.gather(-1, drawn)[..., 0]

    def k_max(x: Any, *_: Any) -> Any:
        return x.gather(-1, x.topk(row.kernel, sorted=False).indices.sort(-1).values)

    from torch import einsum as torch_einsum

    sizes = (row.kernel, row.stride, row.padding)
    functions: dict[str, dict[str, Callable[..., Any]]] = {
        "conv": {"": conv},
        "block": {"": lambda x, w, b: F.max_pool2d(F.relu_(conv(x, w, b)), row.pool)},
        "transposed": {"": lambda x, w, b: F.conv_transpose2d(x, w, b, row.stride, row.padding)},
        "unshared": {"unfold, einsum": unshared},
        "linear": {"": F.linear},
        "max": {"": lambda x, *_: F.max_pool2d(x, *sizes)},
        "average": {"": lambda x, *_: F.avg_pool2d(x, *sizes)},
        "global average": {
            "adaptive": lambda x, *_: F.adaptive_avg_pool2d(x, 1),
            "mean": lambda x, *_: x.mean((2, 3), keepdim=True),
        },
        "lp": {
            "lp_pool2d": lambda x, *_: F.lp_pool2d(x, 2.0, row.kernel, row.stride),
            "√(4·mean x²)": lambda x, *_: F.avg_pool2d(x * x, *sizes).mul_(row.taps).sqrt_(),
        },
        "weighted": {"depthwise": lambda x, w, _: F.conv2d(x, w[:, None], None, row.stride, groups=row.inputs)},
        "stochastic": {"exponential race": stochastic},
        "k-max": {"topk, sort, gather": k_max},
    }
    return functions[row.kind]


class Ours(TorchLast):
    """Svertka, its input in channels_last, or as it comes where torch has no such format."""

    distribution = "svertka"

    def ways(self, row: Row, arrays: Arrays) -> Ways:
        self.last = type(self).last and row.ndim >= 2
        if not type(self).last and row.ndim < 2:
            raise CannotError("it has but one layout: see ours")
        yield "", lambda: self.call(our_function(row), arrays)

    def facts(self, build: Callable[[], Call]) -> dict[str, Any]:
        """The path taken, and the seconds of a first call: kernels compiled, and read from the disk."""
        from svertka.engine.report import report

        shutil.rmtree(os.environ[CACHE], ignore_errors=True)
        seconds = []
        for _ in range(2):
            forget()
            call = build()
            report(reset=True)
            start = time.perf_counter()
            call.run()
            seconds.append(time.perf_counter() - start)
        calls = list(report(reset=True))
        path = " + ".join(dict.fromkeys(call.path for call in calls)) or "portable"
        detail = "; ".join(dict.fromkeys(call.detail for call in calls)) or "it is not in the engine's report"
        return {"path": path, "detail": detail, "compiled": seconds[0], "cached": seconds[1]}


class OursContiguous(Ours):
    """Svertka, its input in torch's default format."""

    last = False


def forget() -> None:
    """Empties all that Svertka remembers of earlier calls."""
    dispatch = importlib.import_module("svertka.engine.dispatch")
    dispatch.forget()
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] == "svertka":
            for value in list(vars(module).values()):
                with contextlib.suppress(AttributeError, TypeError):
                    value.cache_clear()


def our_function(row: Row) -> Callable[..., Any]:
    """The layer as a function of (x, weight, bias), by Svertka."""
    from svertka import functional as F

    convolution = getattr(F, f"conv{max(row.ndim, 1)}d")
    places = (row.stride, row.padding, row.dilation, row.groups)
    sizes = (row.kernel, row.stride, row.padding)
    functions: dict[str, Callable[..., Any]] = {
        "conv": lambda x, w, b: convolution(x, w, b, *places, padding_mode=row.mode),
        "block": lambda x, w, b: F.conv_block2d(x, w, b, *places, activation="relu", pool_size=row.pool),
        "transposed": lambda x, w, b: F.conv_transpose2d(x, w, b, row.stride, row.padding),
        "unshared": lambda x, w, b: F.locally_connected2d(x, w, b, *places),
        "max": lambda x, *_: F.max_pool2d(x, *sizes),
        "average": lambda x, *_: F.avg_pool2d(x, *sizes),
        "global average": lambda x, *_: F.adaptive_avg_pool2d(x, 1),
        "lp": lambda x, *_: F.lp_pool2d(x, 2.0, row.kernel, row.stride),
        "weighted": lambda x, w, _: F.weighted_avg_pool2d(x, w, row.stride),
        "stochastic": lambda x, *_: F.stochastic_pool2d(x, row.kernel, row.stride),
        "k-max": lambda x, *_: F.k_max_pool1d(x, row.kernel),
        "linear": F.linear,
    }
    return functions[row.kind]


def fastest(run: Callable[[], Any], seconds: float) -> float:
    """Seconds of the fastest of the calls that fit into the given time, or of three."""
    run()
    return min(durations(run, seconds))


def durations(run: Callable[[], Any], seconds: float, most: int = 5000) -> list[float]:
    """Seconds of each of the calls that fit into the given time; at least three, unless they are very slow."""
    spent: list[float] = []
    begin = time.perf_counter()
    while True:
        start = time.perf_counter()
        run()
        end = time.perf_counter()
        spent.append(end - start)
        late = end - begin
        if late > 30 * seconds or (late > seconds and len(spent) >= 3) or len(spent) >= most:
            return spent
