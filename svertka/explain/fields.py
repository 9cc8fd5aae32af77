"""The receptive field of one output of a layer or a whole network: as numbers, place by place, and as a picture."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from torch import nn

from svertka.errors import GeometryError
from svertka.explain import receptive
from svertka.explain.cost import costs
from svertka.explain.draw.titles import times
from svertka.explain.operations import Bound
from svertka.explain.pieces import Field
from svertka.explain.receptive import AxisField
from svertka.explain.tracing import Call, trace
from svertka.explain.views import Sight, Unknown
from svertka.window import integer

if TYPE_CHECKING:
    from svertka.explain.draw.fields import Picture

Mask = npt.NDArray[np.bool_]
_LONGEST = 16384  # places on an axis that are followed one by one


@dataclass(frozen=True, eq=False)
class ReceptiveField:
    """What one output may depend on.

    Args:
        layer: the layer's name.
        input_size: (channels, *size) of the input.
        output: shape of the layer's output without the batch.
        at: the output's position.
        numbers: size, stride and offset for each axis, the padding counted in; None if outputs differ in them.
        reason: why there are none; else empty.
        pieces: whose union is seen; each has bool [n] for each axis, and sees all combinations of the places marked.
        rough: whether some places are marked that are not seen (only in networks with very many or merged branches).
    """

    layer: str
    input_size: tuple[int, ...]
    output: tuple[int, ...]
    at: tuple[int, ...]
    numbers: tuple[AxisField, ...] | None
    reason: str
    pieces: tuple[tuple[Mask, ...], ...]
    rough: bool = False

    @property
    def seen(self) -> Mask:
        """bool [*size]: the inputs that are seen, whatever their channel."""
        seen = np.zeros(self.input_size[1:], dtype=bool)
        for piece in self.pieces:
            seen |= functools.reduce(np.logical_and.outer, piece)
        return seen

    @property
    def intervals(self) -> tuple[tuple[tuple[int, int], ...], ...]:
        """For each axis (first, last) of each unbroken run of places that are seen: several, if there are holes."""
        pieces = [piece for piece in self.pieces if all(line.any() for line in piece)]
        lines = [np.logical_or.reduce(axis) for axis in zip(*pieces, strict=True)] if pieces else []
        return tuple(tuple(runs(line)) for line in lines) or ((),) * (len(self.input_size) - 1)

    @property
    def bounds(self) -> tuple[tuple[int, int], ...] | None:
        """For each axis (first, last) place of the input that is seen; None if none is."""
        found = self.intervals
        return tuple((axis[0][0], axis[-1][1]) for axis in found) if all(found) else None

    def __str__(self) -> str:
        where = f" at ({', '.join(map(str, self.at))})" if self.at else ""
        if self.bounds is None:
            return f"{self.layer}{where} sees nothing of the input"
        names = {1: ("places",), 2: ("rows", "columns"), 3: ("planes", "rows", "columns")}[len(self.bounds)]
        places = ", ".join(
            f"{name} {first}–{last}" if first < last else f"{name.removesuffix('s')} {first}"
            for name, (first, last) in zip(names, self.bounds, strict=True)
        )
        holes = ", with holes" if not self.seen[np.ix_(*(range(a, b + 1) for a, b in self.bounds))].all() else ""
        return f"{self.layer}{where} sees {places} of {times(self.input_size[1:])}{holes}"

    def to_dict(self) -> dict[str, Any]:
        """Everything in plain types, for JSON; the places seen as `intervals`."""
        found = {name: value for name, value in asdict(self).items() if name != "pieces"}
        return found | {"intervals": [[list(run) for run in axis] for axis in self.intervals]}

    def svg(self, picture: Picture | None = None) -> str:
        """The input with the field on it.

        Args:
            picture: to be shown as the input, stretched to its size: a file, or a tensor or array [*size] or
                [channels, *size] with 1 or 3 channels, 0 … 1 or 0 … 255.
        """
        from svertka.explain.draw.fields import drawing

        return drawing(self, picture)

    def _repr_html_(self) -> str:
        return self.svg()


def receptive_field(
    model: nn.Module, input_size: Sequence[int], layer: str | None = None, at: Sequence[int] | None = None
) -> ReceptiveField:
    """What an output inside a network may depend on: through branches, skips, dilations and upsampling.

    Args:
        model: any torch model that takes one tensor [N, channels, *size].
        input_size: (channels, *size).
        layer: name of the layer, or of the function that `summary` has a row for; the last one if None.
        at: position of the output, (*position) or (channel, *position); the middle if None.

    Raises:
        GeometryError: if the model can't take such an input, has no such layer or output, or if it can't be known what
            it sees; the sentence says why.
    """
    size = tuple(integer(n, f"input_size[{axis}]", 1) for axis, n in enumerate(input_size))
    if len(size) < 2:
        raise GeometryError(f"input_size={size} has no spatial axes: give (channels, height, width)")
    if max(size[1:]) > _LONGEST:
        raise GeometryError(f"input_size={size} is too long to follow each place: at most {_LONGEST} on an axis")
    call = _named(trace(model, size, exact=True).calls, layer)
    known = _named(trace(model, size).calls, call.name).field
    return of_call(call, size, at, known)


def of_layer(layer: Bound, shape: Sequence[int], at: Sequence[int] | None = None) -> ReceptiveField:
    """What an output of one layer sees.

    Args:
        layer: `operations.bound` of it.
        shape: of its input, (channels, *size).
        at: position of the output, (*position) or (channel, *position); the middle if None.
    """
    batch, output = (1, *shape), (1, *costs(layer, shape).shapes[1])
    fields = [receptive.through(layer.operation, receptive.of_input(batch, exact), batch) for exact in (True, False)]
    return of_call(Call(layer.title, "", output, 0, 0, fields[0]), shape, at, fields[1])


def of_call(
    call: Call, size: Sequence[int], at: Sequence[int] | None = None, numbers: Field | None = None
) -> ReceptiveField:
    """What an output of one call sees, as an exact trace tells it.

    Args:
        call: of `trace(…, exact=True)`.
        size: (channels, *size) of what is looked at: the network's input, or the result of the call that was the start.
        at: position of the output, (*position) or (channel, *position); the middle if None.
        numbers: its field in numbers, if that is known.

    Raises:
        GeometryError: if it isn't known, or if there is no such output.
    """
    field = Unknown("it does not depend on the input") if call.field is None else call.field
    if isinstance(field, Unknown):
        raise GeometryError(f"what {call.name} sees of the input is not known: {field.reason}")
    sights: Any = field
    dims = sorted({view.dim for piece in sights for view in piece if view.dim is not None})
    position, place = _position(call.shape, dims, at)
    pieces = tuple(tuple(_line(view, n, place) for view, n in zip(piece, size[1:], strict=True)) for piece in sights)
    rough = any(view.rough for piece in sights for view in piece)
    told = "not known" if numbers is None else receptive.described(numbers, tuple(size)[1:])
    known, reason = (None, told) if isinstance(told, str) else (told, "")
    return ReceptiveField(call.name, tuple(size), call.shape[1:], position, known, reason, pieces, rough)


def runs(line: Mask) -> list[tuple[int, int]]:
    """(first, last) of each unbroken run of True."""
    edges = np.flatnonzero(np.diff(line.astype(np.int8), prepend=0, append=0))
    return [(int(first), int(end) - 1) for first, end in edges.reshape(-1, 2)]


def _named(calls: Sequence[Call], layer: str | None) -> Call:
    """The last call of a layer."""
    if not calls:
        raise GeometryError("the model calls no layer")
    call = next((call for call in reversed(calls) if layer in (None, call.name)), None)
    if call is None:
        names = list(dict.fromkeys(call.name for call in calls))
        some = ", ".join(names if len(names) < 9 else [*names[:4], "…", *names[-3:]])
        raise GeometryError(f"the model calls no layer {layer!r}: choose one of {some}")
    return call


def _line(view: Sight, n: int, place: dict[int, int]) -> Mask:
    row = view.bits[0 if view.dim is None else place[view.dim]]
    return np.unpackbits(row, count=n).astype(bool)


def _position(
    shape: tuple[int, ...], dims: Sequence[int], at: Sequence[int] | None
) -> tuple[tuple[int, ...], dict[int, int]]:
    """The position as it is told, and by dimension."""
    spatial = list(range(2, len(shape))) if all(dim > 1 for dim in dims) else list(dims)
    if at is None:
        place = {dim: shape[dim] // 2 for dim in spatial}
        return tuple(place.values()), place
    at = tuple(integer(i, "at", 0) for i in at)
    wanted = next((way for way in (spatial, dims, range(1, len(shape))) if len(way) == len(at)), None)
    if wanted is None or any(i >= shape[dim] for i, dim in zip(at, wanted, strict=True)):
        raise GeometryError(f"there is no output at {at}: the output has the shape {shape[1:]}, counted from 0")
    place = dict(zip(wanted, at, strict=True))
    if not all(dim in place for dim in dims):
        raise GeometryError(f"{at} does not tell the place in an output of the shape {shape[1:]}: give all of it")
    return at, place
