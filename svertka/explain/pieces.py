"""Fields of tensors that meet: the union of what each of them sees.

A field is a union of pieces, and a piece has what is seen of each axis of the network's input: all combinations of
places that its views see. Numbers need one piece, the smallest windows that cover what all branches see. Place by place
several are kept: the union of two rectangles is no rectangle.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor

from svertka.explain.views import Shape, Sight, Unknown, View

AxisView = View | Sight
Piece = tuple[AxisView, ...]
Field = tuple[Piece, ...] | Unknown
_MOST_PIECES = 24


def mixed(field: Piece, shape: Shape, dims: Iterable[int]) -> Piece:
    """Every element depends on all others along these dimensions."""
    wanted = {dim % len(shape) for dim in dims}
    return tuple(view.fixed(shape) if view.dim in wanted else view for view in field)


def united(fields: Sequence[tuple[tuple[Piece, ...], Shape]], shape: Shape) -> Field:
    """Element by element, with broadcasting: tensors that meet."""
    return joined([broadcast(piece, own, shape) for field, own in fields for piece in field], shape)


def broadcast(piece: Piece, own: Shape, shape: Shape) -> Piece:
    shift, views = len(shape) - len(own), []
    for view in piece:
        if view.dim is None or (own[view.dim] == 1 and shape[view.dim + shift] != 1):
            views.append(view.fixed(own))
        else:
            views.append(replace(view, dim=view.dim + shift))
    return tuple(views)


def joined(pieces: Sequence[Piece], shape: Shape) -> Field:
    """The union of pieces of a tensor of this shape."""
    if len(pieces) == 1 or not pieces[0]:
        return (pieces[0],)
    if isinstance(pieces[0][0], Sight):
        distinct = _distinct(pieces)
        return distinct if len(distinct) <= _MOST_PIECES else _merged(distinct)
    views = []
    for first, *others in zip(*pieces, strict=True):
        for other in others:
            both = first.union(other, shape)
            if isinstance(both, Unknown):
                return both
            first = both
        views.append(first)
    return (tuple(views),)


def _distinct(pieces: Sequence[Any]) -> tuple[Piece, ...]:
    """Those that are not within another one."""
    kept: list[Any] = []
    for piece in pieces:
        if any(all(a.within(b) for a, b in zip(piece, other, strict=True)) for other in kept):
            continue
        kept = [other for other in kept if not all(a.within(b) for a, b in zip(other, piece, strict=True))]
        kept.append(piece)
    return tuple(kept)


def _merged(pieces: Sequence[Any]) -> tuple[Piece, ...]:
    """One piece for all that run along the same dimensions: more than their union, and marked so."""
    alike: dict[Any, list[Any]] = {}
    for piece in pieces:
        alike.setdefault(tuple(view.dim for view in piece), []).append(piece)
    return tuple(
        tuple(
            Sight(np.bitwise_or.reduce([view.bits for view in axis]), axis[0].dim, rough=True)
            for axis in zip(*group, strict=True)
        )
        for group in alike.values()
    )


def starts_of(tensors: Sequence[Tensor], inputs: Sequence[tuple[Tensor, Field]]) -> Callable[[int], list[int]]:
    """For a dimension: where each of the inputs begins when the tensors are joined along it."""

    def starts(dim: int) -> list[int]:
        ends = list(itertools.accumulate(tensor.shape[dim] for tensor in tensors))
        return [
            end - tensor.shape[dim]
            for tensor, end in zip(tensors, ends, strict=True)
            if any(tensor is known for known, _ in inputs)
        ]

    return starts


def concatenated(
    fields: Sequence[tuple[tuple[Piece, ...], Shape]],
    shape: Shape,
    starts: Callable[[int], list[int]],
    dim: int = 0,
    **_: Any,
) -> Field:
    dim %= len(shape)
    if not any(view.dim == dim for field, _ in fields for piece in field for view in piece):
        return united([(field, [*own[:dim], shape[dim], *own[dim + 1 :]]) for field, own in fields], shape)
    pieces = []
    for (field, own), start in zip(fields, starts(dim), strict=True):
        for piece in field:
            axis = next((i for i, view in enumerate(piece) if view.dim == dim), 0)
            view = piece[axis]
            if not isinstance(view, Sight) or view.dim not in (dim, None):
                return Unknown("maps are joined side by side along an axis of the picture")
            pieces.append((*piece[:axis], view.placed(dim, start, own[dim], shape[dim]), *piece[axis + 1 :]))
    return joined(pieces, shape)
