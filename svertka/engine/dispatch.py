"""Whether the kernels take a call: what they can't do, they refuse with a reason."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import cache
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from svertka import spec
from svertka.engine import precision
from svertka.engine.choice import Choice
from svertka.engine.report import KERNEL, PORTABLE, Call, Tally, tally
from svertka.errors import SvertkaError

VARIABLE = "SVERTKA_ENGINE"
ENGINES = ("auto", "kernels", "portable")
Prepare = Callable[..., Any]


def _from(module: str, name: str) -> Prepare:
    """`prepare_x` of an engine's module, which is imported when first asked: what writes kernels takes time to load."""

    def prepare(operation: Any, x: Tensor, *tensors: Tensor | None, **options: Any) -> Any:
        return getattr(import_module(f"svertka.engine.{module}"), name)(operation, x, *tensors, **options)

    return prepare


# `prepare(operation, x, *tensors, **options)` gives a runner `run(x, *tensors, **options)`, which has a `detail` for
# the report, or a string: why the kernels can't do it. Of the tensors it looks at shapes and strides alone.
PREPARE: dict[type[spec.Operation[Any]], Prepare] = {
    spec.Convolution: _from("dense", "prepare_convolution"),
    spec.ConvolutionBlock: _from("dense", "prepare_block"),
    spec.TransposedConvolution: _from("dense", "prepare_transposed"),
    spec.MaxPool: _from("pools", "prepare_pool"),
    spec.RectifiedMaxPool: _from("pools", "prepare_pool"),
    spec.AveragePool: _from("pools", "prepare_pool"),
    spec.LpPool: _from("pools", "prepare_pool"),
    spec.WeightedPool: _from("pools", "prepare_pool"),
    spec.StochasticPool: _from("pools", "prepare_pool"),
    spec.KMaxPool: _from("kmax", "prepare_k_max"),
    spec.SegmentPool: _from("segments", "prepare_segments"),
    spec.Unshared: _from("unshared", "prepare_unshared"),
    spec.Pad: _from("pad", "prepare_pad"),
    spec.BatchNorm: _from("batch_norm", "prepare_batch_norm"),
}

_REMEMBERED = 4096
_LARGEST = 256 << 20  # bytes of all their tables together
_runners: OrderedDict[Any, tuple[Any, Any, Tally]] = OrderedDict()
_sizes: dict[Any, int] = {}  # of each, in bytes
_held = 0  # the sum of these
_lock = threading.Lock()

if hasattr(os, "register_at_fork"):  # a child must not inherit a lock that is held
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)

_choice = Choice("engine", VARIABLE, ENGINES)


def engine() -> str:
    """Which engine is in use in this thread: "auto", "kernels" or "portable"."""
    return _choice.get()


def use(name: str) -> None:
    """Chooses who computes, in all threads.

    Args:
        name: "auto": the kernels what they can, torch's operations the rest and most of what needs gradients;
            "portable": torch's operations all; "kernels": the kernels, with gradients, and errors for what they can't.

    Raises:
        SvertkaError: for another name.
    """
    _choice.set(name)


def using(name: str) -> AbstractContextManager[None]:
    """`use` for a `with` block, in this thread alone: others may be in the middle of their calls."""
    return _choice.held(name)


def attempt(operation: Any, x: Tensor, tensors: tuple[Tensor | None, ...], options: dict[str, Any]) -> Any:
    """The operation's result by a kernel, or NotImplemented; x is [N, C, *size], and torch.compile doesn't look on."""
    chosen = _choice.get()
    reason = "the portable engine was asked for" if chosen == "portable" else _unfit(operation, x, tensors)
    needed = not reason and torch.is_grad_enabled() and _needs_gradients(x, tensors)
    if needed and chosen == "auto" and not _autograd().automatic(operation, x):
        reason = "it needs gradients"
    if not reason:
        runner, _, entry = _remembered(operation, needed, x, tensors, options)
        if runner.__class__ is not str:
            entry.count += 1
            return runner(x, *tensors, **options)
        reason = runner
    if chosen == "kernels":
        raise SvertkaError(f"the kernels can't do {operation} on an input of shape {list(x.shape)}: {reason}")
    tally(Call(operation, tuple(x.shape), PORTABLE, reason)).count += 1
    return NotImplemented


def _remember(key: Any, entry: tuple[Any, Any, Tally]) -> None:
    """Keeps what was prepared, up to so many, and to so many bytes of tables; what was prepared first goes first."""
    global _held
    size = bytes_of(entry[0])
    with _lock:
        if key in _runners:  # by another thread
            return
        _runners[key], _sizes[key] = entry, size
        _held += size
        while len(_runners) > _REMEMBERED or (_held > _LARGEST and len(_runners) > 1):
            gone, _ = _runners.popitem(last=False)
            _held -= _sizes.pop(gone)


def _remembered(
    operation: Any, needed: bool, x: Tensor, tensors: tuple[Tensor | None, ...], options: dict[str, Any]
) -> tuple[Any, Any, Tally]:
    """`_prepared`, once for each operation and layout."""
    settings = tuple(options.items()) if options else ()
    if "generator" in options:
        settings = tuple(item for item in settings if item[0] != "generator")
    products = precision.products() if tensors else 0  # what has no weights has no products
    key: tuple[Any, ...] = (id(operation), needed, settings, products, x.shape, x.stride())
    for tensor in tensors:
        key += (None,) if tensor is None else (tensor.shape, tensor.stride())
    found = _runners.get(key)
    if found is None:
        found = _prepared(operation, needed, x, tensors, options)
        _remember(key, found)
    return found


def trains(operation: Any, x: Tensor, *tensors: Tensor | None) -> bool:
    """Whether gradients are needed, and the kernels take the operation on x [N, C, *size] with them."""
    chosen = engine()
    if chosen == "portable" or not (torch.is_grad_enabled() and _needs_gradients(x, tensors)):
        return False
    if unfit(operation, x, tensors) or (chosen == "auto" and not _autograd().automatic(operation, x)):
        return False
    return not isinstance(_remembered(operation, True, x, tensors, {})[0], str)


def forget() -> None:
    """Forgets all that was prepared, so that it is prepared anew."""
    global _held
    with _lock:
        _runners.clear()
        _sizes.clear()
        _held = 0


def bytes_of(runner: Any) -> int:
    """The memory of all tensors that something holds: of a runner, its tables of the index map."""
    seen: dict[int, int] = {}
    waiting = [runner]
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen[id(value)] = value.untyped_storage().nbytes() if isinstance(value, Tensor) else 0
        if isinstance(value, (list, tuple)):
            waiting += value
        elif type(value).__module__.startswith("svertka.engine."):
            waiting += getattr(value, "__dict__", {}).values()
    return sum(seen.values())


def prepared() -> list[tuple[Any, Any, list[Any]]]:
    """What was prepared: (operation, runner or reason, random tensors like those it was prepared for)."""
    found = []
    for (_, _, _, _, *layouts), (runner, operation, _) in list(_runners.items()):
        tensors: list[Any] = []
        rest = iter(layouts)
        for shape in rest:
            tensors.append(None if shape is None else torch.empty_strided(shape, next(rest)).normal_())
        found.append((operation, runner, tensors))
    return found


def path(operation: Any, x: Tensor, *tensors: Tensor | None) -> Call:
    """Which path a call with these tensors takes, without making it."""
    reason = "the portable engine was asked for" if engine() == "portable" else unfit(operation, x, tensors)
    if reason:
        return Call(operation, tuple(x.shape), PORTABLE, reason)
    return _prepared(operation, False, x, tensors, {})[2].call


def _prepared(operation: Any, gradients: bool, x: Tensor, tensors: Any, options: Any) -> tuple[Any, Any, Tally]:
    """(runner or reason, the operation itself, so that its id stays its own, what to count)."""
    prepare = _autograd().prepare if gradients else PREPARE.get(type(operation))
    runner = "there is no kernel for it" if prepare is None else prepare(operation, x, *tensors, **options)
    path, detail = (PORTABLE, runner) if isinstance(runner, str) else (KERNEL, runner.detail)
    call = Call(operation, tuple(x.shape), path, detail)
    return runner, operation, tally(call)


def _needs_gradients(x: Tensor, tensors: tuple[Tensor | None, ...]) -> bool:
    return x.requires_grad or any(tensor is not None and tensor.requires_grad for tensor in tensors)


@cache
def _autograd() -> Any:
    return import_module("svertka.engine.autograd")


def unfit(operation: Any, x: Tensor, tensors: Sequence[Tensor | None]) -> str:
    """Why the kernels can't take these tensors; "" if they can."""
    return _TRACED if torch.compiler.is_compiling() else _unfit(operation, x, tensors)


def _unfit(operation: Any, x: Tensor, tensors: Sequence[Tensor | None]) -> str:
    """The same where torch.compile doesn't look on. All calls go through here: each look-up counts."""
    if _tracing_state() is not None:
        return _TRACED
    if _modes() or _transform() is not None:
        return "a mode or a function transform of torch is active"
    if _autocast("cpu"):
        return "autocast is on"
    for tensor in (x, *tensors):
        if tensor is None:
            continue
        if tensor.dtype is not _FLOAT and (tensor is x or tensor.dtype is not _BESIDE.get(type(operation))):
            return f"{str(tensor.dtype).removeprefix('torch.')} is computed by torch"
        if not tensor.is_cpu:
            return f"it is on {tensor.device.type}"
        if type(tensor) not in _PLAIN or tensor.layout is not _STRIDED:
            return "it is a tensor of a kind of its own"
        if not tensor.numel():
            return "it is empty"
    if _forward_ad._current_level >= 0:
        return "forward-mode gradients are on"
    return ""


_TRACED = "it is being traced"
_BESIDE = {spec.SegmentPool: torch.int64}  # what may stand beside x, if not float32
_FLOAT, _PLAIN, _STRIDED = torch.float32, (Tensor, torch.nn.Parameter), torch.strided
_tracing_state, _modes = torch._C._get_tracing_state, torch._C._len_torch_dispatch_stack
_transform, _autocast = torch._C._functorch.peek_interpreter_stack, torch.is_autocast_enabled
_forward_ad = torch.autograd.forward_ad
