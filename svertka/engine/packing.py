"""Weights as the kernels read them, kept while they stay the same."""

from __future__ import annotations

import ctypes
import weakref
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_post_hook

from svertka.engine.launch import Launch
from svertka.kernels.compare import COMPARE, LINE


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

    def of_line(self) -> Packing:
        """The packing of what has one number for each output channel, such as the bias."""
        return same(Packing(self.groups, self.blocks, self.width, (), line=True))

    def __call__(self, weight: Tensor) -> Tensor:
        room = self.blocks * self.width
        if self.line:
            line = weight.new_zeros(self.groups, room)
            line[:, : weight.numel() // self.groups] = weight.view(self.groups, -1)
            return line
        if self.runs:
            weight = weight.movedim(1, -1)
            weight = weight.reshape(weight.shape[0], -1, weight.shape[-2] * weight.shape[-1]).transpose(1, 2)
        weight = weight.reshape(self.groups, weight.shape[0] // self.groups, weight.shape[1], -1)
        weight = weight.transpose(1, 2) if self.transposed else weight
        if self.taps != tuple(range(weight.shape[3])):
            weight = weight[..., list(self.taps)]
        outputs, inputs = weight.shape[1:3]
        padded = weight.new_zeros(self.groups, room, inputs, len(self.taps))
        padded[:, :outputs] = weight
        return padded.view(self.groups, self.blocks, self.width, inputs, -1).permute(0, 1, 4, 3, 2).contiguous()


_packings: dict[Packing, Packing] = {}


def same(packing: Packing) -> Packing:
    """The one object that stands for all equal packings, so that a weight is packed once for inputs of all sizes."""
    return _packings.setdefault(packing, packing)


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
_steps = 0  # of all optimizers: the fused ones change weights without torch's counting it


def _count_step(*_: Any) -> None:
    global _steps
    _steps += 1


register_optimizer_step_post_hook(_count_step)


def packed_weight(weight: Tensor, pack: Any) -> Tensor:
    """`pack(weight)`, remembered for as long as the weight lives and is the same; `pack` is known by its identity.

    Changes that torch counts are noticed, and so are the steps of torch's optimizers. For edits through `.data`, which
    are neither, it is compared with a copy: all of it up to COMPARED numbers, else PROBED lines, evenly spread.
    """
    key = (id(weight), id(pack))
    found = _packed.get(key)
    version = 0 if weight.is_inference() else weight._version
    state = (version, _steps, weight.data_ptr(), weight.shape, weight.stride())
    if found is not None and found.state == state and found.holds(weight):
        return found.packed
    if found is None:
        weakref.finalize(weight, _packed.pop, key, None)
    _packed[key] = found = _Kept(weight, pack, state)
    return found.packed


def forget_weights() -> None:
    """Packs all weights anew when they are next used: after edits of single numbers through `.data`."""
    _packed.clear()


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
