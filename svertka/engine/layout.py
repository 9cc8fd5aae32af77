"""Memory formats: which one a result has, and the tables that tell the kernels where things lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from svertka import window as geometry
from svertka.window import OUTSIDE

CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


def channels_last(x: Tensor) -> bool:
    """Whether x [N, C, *size] lies in torch's channels_last format, by torch's rule for results."""
    memory_format = CHANNELS_LAST.get(x.ndim)
    if memory_format is None or x.stride(1) != 1 or not x.is_contiguous(memory_format=memory_format):
        return False
    return x.stride(-1) >= x.shape[1]  # else all of size 1, which lies both ways


def with_channels_last(x: Tensor) -> Tensor:
    """x, moved if need be, so that x[n, :, place] are neighbours and places follow each other in row-major order."""
    if x.ndim in CHANNELS_LAST:
        return x.contiguous(memory_format=CHANNELS_LAST[x.ndim])
    return x.movedim(1, -1).contiguous().movedim(-1, 1)


def empty(shape: Sequence[int], last: bool) -> Tensor:
    """Room for a result [N, C, *size], with neighbouring channels or contiguous."""
    if not last:
        return torch.empty(shape)
    if len(shape) in CHANNELS_LAST:
        return torch.empty(shape, memory_format=CHANNELS_LAST[len(shape)])
    return torch.empty((shape[0], *shape[2:], shape[1])).movedim(-1, 1)


@lru_cache(maxsize=256)
def offset_table(windows: Any, size: tuple[int, ...], channels: int, multiple: int) -> Tensor:
    """int32 [taps, outputs]: the source of tap t of output o times `channels`, −1 outside.

    Outputs are filled up to a multiple with −1.
    """
    sources = geometry.sources(windows, size)
    sources = sources.reshape(-1, sources.shape[-1])
    table = torch.full((sources.shape[1], -(-len(sources) // multiple) * multiple), OUTSIDE, dtype=torch.int32)
    places = torch.from_numpy(sources.T.copy())
    table[:, : len(sources)] = torch.where(places == OUTSIDE, OUTSIDE, places * channels).int()
    return table


@dataclass(frozen=True)
class Tables:
    """What the dense family reads of the index map: int32 offsets [taps, stored outputs], int32 places [outputs]."""

    offsets: Tensor
    places: Tensor


def tables(sources: Any, places: Any, channels: int, out_channels: int, multiple: int, pooled: int = 1) -> Tables:
    """The tables of an index map.

    Args:
        sources: int64 [outputs, taps], OUTSIDE where a tap reads nothing.
        places: int64 [outputs]: where each output stands among all; None if they are all, in order.
        channels, out_channels: neighbours at one place of the input and of the output.
        multiple: outputs are filled up to a multiple of this.
        pooled: so many outputs in a row go to one place.
    """
    count, taps = sources.shape
    stored = -(-count // multiple) * multiple
    offsets = torch.full((taps, stored), OUTSIDE, dtype=torch.int32)
    read = torch.from_numpy(np.ascontiguousarray(sources.T))
    offsets[:, :count] = torch.where(read == OUTSIDE, OUTSIDE, read * channels).int()
    here = torch.arange(count // pooled) if places is None else torch.from_numpy(np.ascontiguousarray(places))
    return Tables(offsets, (here * out_channels).int())
