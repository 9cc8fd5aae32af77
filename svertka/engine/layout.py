"""Memory formats: which one a result has, and the tables that tell the kernels where things lie."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from svertka.engine.launch import Launch, recorder
from svertka.kernels.target import host
from svertka.kernels.transpose import TRANSPOSE, Transpose, TransposeSchedule
from svertka.window import OUTSIDE

CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


def channels_last(x: Tensor) -> bool:
    """Whether x [N, C, *size] lies in torch's channels_last format, by torch's rule for results."""
    memory_format = CHANNELS_LAST.get(x.ndim)
    if memory_format is None or x.stride(1) != 1 or not x.is_contiguous(memory_format=memory_format):
        return False
    return x.stride(-1) >= x.shape[1]  # else all of size 1, which lies both ways


class _Scratch(threading.local):
    """Each thread's room, by slots; `passing` is the slot that the first result of `empty` lies in, if any."""

    passing = ""


_scratch = _Scratch()
_KEPT = 16 << 20  # floats; larger ones are given back


def scratch(shape: Sequence[int], slot: str) -> Tensor:
    """Room for what lies with neighbouring channels [N, C, *size] and lives no longer than the call.

    Each thread keeps one for each slot: pages fresh from the system cost as much as the work on them.
    """
    return scratch_floats(math.prod(shape), slot).view(shape[0], *shape[2:], shape[1]).movedim(-1, 1)


def scratch_floats(count: int, slot: str) -> Tensor:
    """So many floats of a slot's room."""
    if recorder():  # which gives each its place in a plan's memory
        return torch.empty(count)
    kept: Tensor | None = getattr(_scratch, slot, None)
    if kept is None or kept.numel() < count:
        kept = torch.empty(count)
        if count <= _KEPT:
            setattr(_scratch, slot, kept)
    return kept[:count]


def neighbours(x: Tensor) -> bool:
    """Whether x lies as `with_channels_last` gives it."""
    return x.movedim(1, -1).is_contiguous()


def with_channels_last(x: Tensor, slot: str = "") -> Tensor:
    """x, moved if need be, so that x[n, :, place] are neighbours and places follow each other in row-major order.

    With a `slot` the copy lies in `scratch`.
    """
    if x.is_contiguous() and x.dtype is torch.float32 and x.shape[1] > 1:
        places = math.prod(x.shape[2:])
        if places == 1:
            return x
        return turned(x, scratch(x.shape, slot) if slot else empty(x.shape, True), x.shape[1], places)
    if x.ndim in CHANNELS_LAST:
        return x.contiguous(memory_format=CHANNELS_LAST[x.ndim])
    return x.movedim(1, -1).contiguous().movedim(-1, 1)


def contiguous(x: Tensor) -> Tensor:
    """Of x as `with_channels_last` gives it, float32, a contiguous copy."""
    return turned(x, torch.empty(x.shape), math.prod(x.shape[2:]), x.shape[1])


def turned(x: Tensor, result: Tensor, rows: int, columns: int) -> Tensor:
    """Each image of x, float32, a matrix [rows, columns] in memory, turned into the result."""
    panels = -(-rows // (_SCHEDULE.blocks * host().lanes))
    launch = _transposition(x.shape[0], rows, columns, panels)
    launch(x.data_ptr(), result.data_ptr())
    return result


_SCHEDULE = TransposeSchedule()


@lru_cache(maxsize=4096)
def _transposition(images: int, rows: int, columns: int, panels: int) -> Launch:
    return Launch(TRANSPOSE, Transpose(), _SCHEDULE, images * panels, rows=rows, columns=columns, panels=panels)


def empty(shape: Sequence[int], last: bool, dtype: torch.dtype = torch.float32) -> Tensor:
    """Room for a result [N, C, *size], with neighbouring channels or contiguous."""
    if _scratch.passing:
        slot, _scratch.passing = _scratch.passing, ""
        return scratch(shape, slot) if last else scratch_floats(math.prod(shape), slot).view(*shape)
    return torch.empty_strided(shape, strides(tuple(shape), last), dtype=dtype)


@lru_cache(maxsize=4096)
def strides(shape: tuple[int, ...], last: bool) -> tuple[int, ...]:
    """Of [N, C, *size] without gaps, with neighbouring channels or contiguous."""
    order = [0, *range(2, len(shape)), 1] if last else range(len(shape))
    found, step = [0] * len(shape), 1
    for axis in reversed(order):
        found[axis], step = step, step * shape[axis]
    return tuple(found)


@contextmanager
def passing(slot: str) -> Iterator[None]:
    """The first result of `empty` lies in `scratch`: it is used up before the slot is asked for again."""
    _scratch.passing = slot
    try:
        yield
    finally:
        _scratch.passing = ""


@dataclass(frozen=True)
class Tables:
    """What the dense family reads of the index map.

    Args:
        offsets: int32 [taps, stored outputs]: where each tap's numbers begin, OUTSIDE if it reads nothing.
        places: int32 [outputs]: where each output's channels begin.
        gathers: int32 [lines, inputs]: the places of a run's numbers, where they aren't neighbours.
    """

    offsets: Tensor
    places: Tensor
    gathers: Tensor | None = None


def tables(sources: Any, places: Any, channels: int, out_channels: int, multiple: int, pooled: int = 1) -> Tables:
    """The tables of an index map.

    Args:
        sources: int64 [outputs, taps], OUTSIDE where a tap reads nothing.
        places: int64 [outputs]: where each output stands among all; None if they are all, in order.
        channels, out_channels: neighbours at one place of the input and of the output.
        multiple: outputs are filled up to a multiple of this.
        pooled: so many outputs in a row go to one place.
    """
    offsets = np.where(sources == OUTSIDE, OUTSIDE, sources * channels)
    count = len(sources) // pooled
    return Tables(_stored(offsets, multiple), _places(places, count, out_channels))


def run_tables(
    sources: Any, row: int, channels: int, plane: int, out_channels: int, multiple: int, pooled: int = 1
) -> Tables:
    """The tables of an index map whose taps of a row are read as one.

    Args:
        sources: int64 [outputs, taps], the taps in rows of `row`.
        channels: of the input.
        plane: places of the input, if its channels come first, and each has rows of its own; 0 if they come last.
        out_channels, multiple, pooled: as in `tables`.
    """
    channel_step, place_step = (plane, 1) if plane else (1, channels)
    read = sources.reshape(len(sources), -1, row, 1)
    read = np.where(read == OUTSIDE, OUTSIDE, read * place_step + np.arange(channels) * channel_step)
    if plane:  # [outputs, channels, rows, row], else [outputs, rows, row, channels]
        read = read.transpose(0, 3, 1, 2)
    read = read.reshape(len(sources), -1, row if plane else row * channels)
    neighbours = (read[..., :1] != OUTSIDE) & (read == read[..., :1] + np.arange(read.shape[-1]))
    whole, outside = neighbours.all(-1), (read == OUTSIDE).all(-1)
    mixed = ~(whole | outside)
    lines, which = np.unique(read[mixed], axis=0, return_inverse=True)
    offsets = np.where(whole, read[..., 0], OUTSIDE)
    offsets[mixed] = -2 - which.reshape(-1)
    gathers = torch.from_numpy(lines.astype(np.int32)) if len(lines) else None
    return Tables(_stored(offsets, multiple), _places(None, len(sources) // pooled, out_channels), gathers)


def _stored(offsets: Any, multiple: int) -> Tensor:
    """int32 [taps, outputs], filled up with OUTSIDE to a multiple of outputs."""
    stored = torch.full((offsets.shape[1], -(-len(offsets) // multiple) * multiple), OUTSIDE, dtype=torch.int32)
    stored[:, : len(offsets)] = torch.from_numpy(np.ascontiguousarray(offsets.T))
    return stored


def _places(places: Any, count: int, out_channels: int) -> Tensor:
    here = torch.arange(count) if places is None else torch.from_numpy(np.ascontiguousarray(places))
    return (here * out_channels).int()
