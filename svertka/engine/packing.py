"""Weights as the kernels read them, kept while they stay the same."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Packing:
    """How a dense kernel reads weights: [groups, blocks, taps, inputs, width], zeros in place of missing outputs.

    Args:
        groups, blocks, width: `blocks` · `width` ≥ the outputs of one group.
        taps: which of the kernel's taps, in row-major order.
        transposed: the weight is [in_channels, out_channels / groups, *kernel_size].
        runs: the taps of a row are one, with more inputs: "first" if channels come first in x (taps [channels, rows],
            inputs [row]), "last" if they come last (taps [rows], inputs [row, channels]).
        line: not weights but one number for each output channel: [groups, blocks, width].
    """

    groups: int
    blocks: int
    width: int
    taps: tuple[int, ...]
    transposed: bool = False
    runs: str = ""
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
        if self.runs == "first":
            weight = weight.reshape(weight.shape[0], -1, weight.shape[-1]).transpose(1, 2)
        elif self.runs == "last":
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


_packed: dict[tuple[int, int], tuple[Tensor, Tensor, Any]] = {}


def packed_weight(weight: Tensor, pack: Any) -> Tensor:
    """`pack(weight)`, remembered for as long as the weight lives and is the same; `pack` is known by its identity.

    Whether it is the same is found by comparing it with a copy. torch's count of a tensor's changes would be cheaper,
    but fused optimizers and edits through `.data` change a tensor without being counted.
    """
    key = (id(weight), id(pack))
    found = _packed.get(key)
    if found is not None and torch.equal(found[0], weight):
        return found[1]
    if found is None:
        weakref.finalize(weight, _packed.pop, key, None)
    copy = weight.detach().clone()
    packed: Tensor = pack(copy)
    _packed[key] = (copy, packed, pack)
    return packed
