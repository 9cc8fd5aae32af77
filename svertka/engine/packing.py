"""Weights as the kernels read them, kept while they stay the same."""

from __future__ import annotations

import ctypes
import math
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_post_hook

from svertka.engine.launch import Launch, address, recorder
from svertka.engine.layout import scratch_floats
from svertka.kernels.compare import COMPARE, LINE
from svertka.kernels.target import host
from svertka.kernels.weights import PACK, UNPACK, Weights


@dataclass(frozen=True)
class Packing:
    """How a dense kernel reads weights: [groups, blocks, taps, inputs, width], zeros in place of missing outputs.

    Args:
        groups, blocks, width: `blocks` · `width` ≥ the outputs of one group.
        taps: which of the kernel's taps, in row-major order.
        transposed: the weight is [in_channels, out_channels / groups, *kernel_size].
        runs: the taps along a line are one, with more inputs: taps [lines], inputs [along the line, channels].
        line: not weights but one number for each output channel: [groups, blocks, width].
    """

    groups: int
    blocks: int
    width: int
    taps: tuple[int, ...]
    transposed: bool = False
    runs: bool = False
    line: bool = False

    @cached_property
    def room(self) -> int:
        """Numbers of a packed line."""
        return self.groups * self.blocks * self.width

    def of_line(self) -> Packing:
        """The packing of what has one number for each output channel, such as the bias."""
        return same(Packing(self.groups, self.blocks, self.width, (), line=True))

    def __call__(self, weight: Tensor, slot: str = "") -> Tensor:
        """The packed weight; with a `slot` it lies in `scratch`, and lives no longer than the call."""
        if self.line:
            line = weight.new_zeros(self.groups, self.blocks * self.width)
            line[:, : weight.numel() // self.groups] = weight.view(self.groups, -1)
            return line
        order = weight_order(self, weight.shape, weight.stride())
        room = self.groups * self.blocks * order.count * self.width
        packed = scratch_floats(room, slot) if slot else torch.empty(room)
        order.pack(address(weight), address(packed), *order.addresses)
        return packed


class WeightOrder:
    """Where the numbers of a weight with these strides stand in a packing, see `kernels.weights`."""

    def __init__(self, packing: Packing, shape: Sequence[int], strides: Sequence[int]) -> None:
        outputs = int(packing.transposed)  # their axis; the other of the two is the inputs'
        grouped = shape[0] // packing.groups
        each, channels = (shape[1], grouped) if packing.transposed else (grouped, shape[1])
        # Where the numbers of one output stand, from its first one on; a whole weight may have hundreds of millions.
        places: Any = sum(
            np.arange(n).reshape(-1, *[1] * (len(shape) - 2 - axis)) * step
            for axis, (n, step) in enumerate(
                ((channels, strides[1 - outputs]), *zip(shape[2:], strides[2:], strict=True))
            )
        )
        if packing.runs:
            places = np.moveaxis(places, 0, -1).reshape(math.prod(shape[2:-1]), -1).T
        else:
            places = places.reshape(channels, math.prod(shape[2:]))
        places = places[:, list(packing.taps)]
        line = places.T.reshape(-1) if each else np.zeros(0, np.int64)
        rows = np.argsort(line, kind="stable")
        self.packing, self.count = packing, len(line)
        self.tables = torch.from_numpy(line[rows].astype(np.int32)), torch.from_numpy(rows.astype(np.int32))
        self.addresses = tuple(address(table) for table in self.tables)
        self._step = strides[outputs] if self.count and each > 1 else 1
        self._turned = self._step != 1 and bool((line[rows] == np.arange(self.count)).all())
        parts = max(1, min(-(-_PACKED_TASKS // (packing.groups * packing.blocks)), self.count // _LEAST))
        part = -(-self.count // parts)
        self._tasks = packing.groups * packing.blocks * parts
        self._numbers = {
            "blocks": packing.blocks,
            "lines": each,
            "step": self._step,
            "group_step": grouped * strides[0] if self.count and packing.groups > 1 else 0,
            "count": self.count,
            "part": part,
            "parts": parts,
        }
        self.pack = Launch(PACK, self._spec(False), None, self._tasks, **self._numbers)

    def _spec(self, bias: bool) -> Weights:
        return Weights(self._step == 1, self.packing.width // host().lanes, bias, self._turned)

    def unpacking(self, splits: int, bias: bool) -> Launch:
        """The launch that adds up so many packed gradients, each of `room(bias)` numbers, to one of the weight."""
        return Launch(
            UNPACK,
            self._spec(bias),
            None,
            self._tasks,
            **self._numbers,
            splits=splits,
            split_step=self.room(bias),
        )

    def room(self, bias: bool) -> int:
        """Numbers of a packed gradient."""
        return self.packing.groups * self.packing.blocks * (self.count + bias) * self.packing.width


_PACKED_TASKS, _LEAST = 16, 64


@lru_cache(maxsize=1024)
def weight_order(packing: Packing, shape: Sequence[int], strides: Sequence[int]) -> WeightOrder:
    """The order of weights of one shape."""
    return WeightOrder(packing, shape, strides)


_packings: dict[Any, Any] = {}
P = TypeVar("P")


def same(packing: P) -> P:
    """The one object that stands for all equal packings, so that a weight is packed once for inputs of all sizes."""
    return _packings.setdefault(packing, packing)  # type: ignore[no-any-return]


class _Kept:
    """A weight in the kernel's order, and what tells whether it is still the same.

    Args:
        weight, pack: which is packed how; `pack` is held, so that its id stays its own.
        state: of the weight and the world, see `packed_weight`.
    """

    __slots__ = ("copy", "differs", "pack", "packed", "same_numbers", "state")

    def __init__(self, weight: Tensor, pack: Any, state: tuple[Any, ...]) -> None:
        self.state, self.pack = state, pack
        self.copy = weight.detach().clone()
        self.packed: Tensor = pack(self.copy)
        self.differs = ctypes.c_int32()
        self.same_numbers = self._comparison(weight)

    def _comparison(self, weight: Tensor) -> Any:
        """Looks, but for large weights not everywhere, whether the weight's numbers are the copy's; see `differs`."""
        count, copy = weight.numel(), self.copy
        gaps = weight.stride() != copy.stride()
        if gaps or (weight.is_inference() and count > COMPARED):  # whose changes torch doesn't count
            return None
        # While the state holds, so do the addresses: only the numbers behind them may change.
        return _comparison(count).bound(weight.data_ptr(), copy.data_ptr(), ctypes.addressof(self.differs))

    def holds(self, weight: Tensor) -> bool:
        """Whether the weight, which is where it was, has the numbers it had."""
        if self.same_numbers is None:
            return torch.equal(weight, self.copy)
        self.same_numbers()
        return not self.differs.value


_packed: dict[tuple[int, int], _Kept] = {}
_forgotten = 0
_steps = 0  # of all optimizers: the fused ones change weights without torch's counting it


def _count_step(*_: Any) -> None:
    global _steps
    _steps += 1


register_optimizer_step_post_hook(_count_step)


def epoch() -> tuple[int, int]:
    """What counts changes of weights that torch doesn't count: optimizers' steps, and how often to forget all."""
    return _steps, _forgotten


def packed_weight(weight: Tensor, pack: Any) -> Tensor:
    """`pack(weight)`, remembered for as long as the weight lives and is the same; `pack` is known by its identity.

    Changes that torch counts are noticed, and so are the steps of torch's optimizers. For edits through `.data`, which
    are neither, it is compared with a copy: all of it up to COMPARED numbers, else PROBED lines, evenly spread.
    Within `changing` it is packed anew.
    """
    plan = recorder()
    if plan:
        return plan.packed(weight, pack)  # type: ignore[no-any-return]
    line = pack.__class__ is Packing and pack.line and pack.room == weight.numel()
    if line and weight.is_contiguous():
        return weight  # as the kernel reads it
    if _training.now:
        if isinstance(pack, Packing) and not pack.line:
            return pack(weight.detach(), "packed")
        return pack(weight.detach())  # type: ignore[no-any-return]
    key = (id(weight), id(pack))
    found = _packed.get(key)
    version = 0 if weight.is_inference() else weight._version
    state = (version, _steps, _forgotten, weight.data_ptr(), weight.shape, weight.stride())
    if found is not None and found.state == state and found.holds(weight):
        return found.packed
    if found is None:
        weakref.finalize(weight, _packed.pop, key, None)
    _packed[key] = found = _Kept(weight, pack, state)
    return found.packed


class _Training(threading.local):
    """Whether this thread is in `changing`."""

    now = False


_training = _Training()


@contextmanager
def changing() -> Iterator[None]:
    """Weights that are trained change with each step: here none is kept packed."""
    before = _training.now
    _training.now = True
    try:
        yield
    finally:
        _training.now = before


def forget_weights() -> None:
    """Packs all weights anew when they are next used: after edits of single numbers through `.data`."""
    global _forgotten
    _forgotten += 1


COMPARED = 1 << 16
PROBED = 64  # lines of LINE numbers; each costs a walk to memory


@lru_cache(maxsize=1024)
def _comparison(count: int) -> Launch:
    """The comparison of so many numbers."""
    lines, step = count // LINE, LINE
    if count > COMPARED:
        lines = PROBED
        step = (count - LINE) // (lines - 1)
    rest = lines * LINE if step == LINE else count
    return Launch(COMPARE, None, None, 1, lines=lines, step=step, rest=rest, count=count)
