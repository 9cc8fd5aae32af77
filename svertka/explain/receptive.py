"""Receptive fields: what the elements of a tensor inside a network see of the network's input.

A `Field` has a view for each spatial axis of the input. It is carried from a function's arguments to its result:
windows compose, branches that meet unite, a dense layer or a mean sees all that its inputs see. In numbers (`View`) it
is one piece, a window on each axis; place by place (`Sight`) it is the union of several where branches have met. What a
function reads is told by its own arguments, so that a field is known or is said to be unknown, with the reason; it is
never guessed. The field is where an output may look: zero weights, the dead side of a ReLU and the losers of a maximum
are counted in, and (in numbers) places outside the input are padding of any mode.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from svertka import spec
from svertka.explain.pieces import Field, Piece, broadcast, concatenated, joined, mixed, starts_of, united
from svertka.explain.views import Picked, Shape, Sight, Unknown, View, covers, sights
from svertka.window import OUTSIDE, Window


@dataclass(frozen=True)
class AxisField:
    """The receptive field along one axis of the input, in places of the input.

    Args:
        size: from the first input seen to the last, both counted.
        stride: places from one output's field to the next one's; None if all outputs see the same.
        offset: the place that output 0 looks at first; negative on the padding.
        whole: all outputs see the whole axis.
    """

    size: int
    stride: int | None
    offset: int
    whole: bool = False

    def seen_by(self, output: int) -> tuple[int, int]:
        """(first, last) place that an output sees, both counted."""
        first = self.offset + output * (self.stride or 0)
        return first, first + self.size - 1


def of_input(shape: Shape, exact: bool = False) -> Field:
    """The field of the network's input [N, C, *size]: every element sees itself.

    Args:
        shape: the input's.
        exact: place by place; else in numbers.
    """
    return (sights(shape[2:]) if exact else tuple(View(Window(1), dim) for dim in range(2, len(shape))),)


def described(field: Field, size: Shape) -> tuple[AxisField, ...] | str:
    """The field (in numbers) on an input of this spatial size, or why there are none."""
    if isinstance(field, Unknown):
        return field.reason
    views = [view for view in field[0] if isinstance(view, View)]
    reasons = dict.fromkeys(view.uneven for view in views if view.uneven)
    if reasons:
        return "; ".join(reasons)
    return tuple(_axis_field(view, n) for view, n in zip(views, size, strict=True))


def reach(field: Field) -> tuple[tuple[int, int], ...] | None:
    """For each axis: places from the first input that an element sees to the last, (fewest, most); None if unknown."""
    if isinstance(field, Unknown):
        return None
    found = []
    for axis in zip(*field, strict=True):
        views = [view for view in axis if isinstance(view, Sight)]
        if len({view.dim for view in views}) > 1 and len(views) > 1:
            return None
        seen = np.unpackbits(np.bitwise_or.reduce([view.bits for view in views]), axis=1)
        seen = seen[seen.any(axis=1)]
        extents = seen.shape[1] - seen[:, ::-1].argmax(axis=1) - seen.argmax(axis=1)
        if not len(extents):
            return None
        found.append((int(extents.min()), int(extents.max())))
    return tuple(found)


def _axis_field(view: View, n: int) -> AxisField:
    window = view.window
    if view.dim is not None:
        return AxisField(window.extent, window.stride, window.offset)
    if covers(window, Window(n)):
        return AxisField(n, None, 0, whole=True)
    return AxisField(window.extent, None, window.offset)


def followed(
    name: str, args: Sequence[Any], kwargs: dict[str, Any], inputs: Sequence[tuple[Tensor, Field]], shape: Shape
) -> Field | None:
    """The field of a torch function's result; None if the result doesn't depend on the inputs' values.

    Args:
        name: the function's, without underscores at its ends.
        args, kwargs: what it was called with.
        inputs: the tensors among its arguments that depend on the network's input, with their fields.
        shape: the result's (each result's, if they are several).
    """
    if name in _CONSTANT or not inputs:
        return None
    for _, field in inputs:
        if isinstance(field, Unknown):
            return field
    fields = [(field, tensor.shape) for tensor, field in inputs if not isinstance(field, Unknown)]
    if name in _ELEMENTWISE or (name in ("max", "min") and len(inputs) > 1):
        return united(fields, shape)
    if name in _JOINING:
        return concatenated(fields, shape, starts_of(args[0], inputs), *args[1:], **kwargs)
    if name == "gather":
        alike = [(tuple(mixed(piece, own, (args[1],)) for piece in field), own) for field, own in fields]
        return united(alike, shape)
    rule = _RULES.get(name)
    if rule is None:
        return Unknown(f"what {name} reads is not known")
    subject, *rest = args or (kwargs["input"],)
    if len(fields) > 1 or subject is not inputs[0][0]:
        return Unknown(f"{name} depends on the input through other arguments than its first")
    named = {key: value for key, value in kwargs.items() if key != "input"}
    try:
        return _each(fields[0][0], lambda piece: rule(piece, fields[0][1], shape, *rest, **named), shape)
    except (TypeError, ValueError, LookupError):
        return Unknown(f"how {name} was called is not understood")


def is_known(name: str) -> bool:
    """Whether `followed` knows the function of this name; of those, "linear" alone multiplies by weights."""
    return any(name in names for names in (_ELEMENTWISE, _CONSTANT, _RULES, _JOINING)) or name == "gather"


def through(operation: spec.Operation[Any], field: Field, shape: Shape) -> Field:
    """The field behind an operation with windows, on an input [N, C, *size] or [C, *size] of this shape."""
    if isinstance(field, Unknown):
        return field
    mixing = isinstance(operation, (spec.Convolution, spec.TransposedConvolution, spec.Unshared))
    channels = (len(shape) - operation.ndim - 1,) if mixing else ()
    return _each(field, lambda piece: _windowed(mixed(piece, shape, channels), shape, operation.windows), shape)


def _each(field: tuple[Piece, ...], rule: Callable[[Piece], Piece | Unknown], shape: Shape) -> Field:
    """The rule on each piece."""
    pieces = []
    for piece in field:
        after = rule(piece)
        if isinstance(after, Unknown):
            return after
        pieces.append(after)
    return joined(pieces, shape)


def _windowed(piece: Piece, shape: Shape, windows: Sequence[Any]) -> Piece | Unknown:
    """Windows on the last dimensions."""
    views, dims = [], [view.dim for view in piece]
    for view in piece:
        axis = -1 if view.dim is None else view.dim - len(shape) + len(windows)
        after = view if axis < 0 else view.through(windows[axis], shape)
        if isinstance(after, Unknown):
            return after
        if isinstance(after, Sight) and after.dim is not None and dims.count(after.dim) > 1:
            after = replace(after, rough=True)  # merged axes: their taps go together, and are taken apart here
        views.append(after)
    return tuple(views)


def _indexed(field: Piece, shape: Shape, _: Shape, index: Any) -> Piece | Unknown:
    index = list(index) if isinstance(index, tuple) else [index]
    if not all(part is None or part is ... or isinstance(part, (int, slice)) for part in index):
        return Unknown("an index picks single places")
    used = sum(part is not None and part is not ... for part in index)
    gap = index.index(...) if ... in index else len(index)
    index[gap : gap + 1] = [slice(None)] * (len(shape) - used)
    views, dims, source = dict(enumerate(field)), 0, 0
    for part in index:
        for axis, view in enumerate(field):
            if part is None or view.dim != source:
                continue
            n = shape[source]
            start, stop, step = part.indices(n) if isinstance(part, slice) else (part % n, part % n + 1, 1)
            after = view.through(Window(1, step, padding=(-start, stop - n)), shape)
            if isinstance(after, Unknown):
                return after
            views[axis] = replace(after, dim=dims) if isinstance(part, slice) else replace(after, dim=None)
        source += part is not None
        dims += not isinstance(part, int)
    return tuple(views.values())


def _linear(field: Piece, shape: Shape, _: Shape, *__: Any, **___: Any) -> Piece | Unknown:
    return mixed(field, shape, (-1,))


def _same(field: Piece, shape: Shape, result: Shape, *_: Any, **__: Any) -> Piece | Unknown:
    return broadcast(field, shape, result)


def _statistics(first: int) -> Callable[..., Piece | Unknown]:
    """Norms that measure the map itself: every element depends on all from the dimension `first` on."""

    def rule(field: Piece, shape: Shape, _: Shape, *__: Any, **___: Any) -> Piece | Unknown:
        return mixed(field, shape, range(first, len(shape)))

    return rule


def _batch_norm(
    field: Piece,
    shape: Shape,
    _: Shape,
    running_mean: Any = None,
    *rest: Any,
    training: Any = None,
    **__: Any,
) -> Piece | Unknown:
    """Element by element, unless it measures this very batch."""
    training = rest[3] if training is None and len(rest) > 3 else training
    return mixed(field, shape, range(2, len(shape))) if training or running_mean is None else field


def _layer_norm(field: Piece, shape: Shape, _: Shape, normalized_shape: Shape, *__: Any, **___: Any) -> Piece | Unknown:
    return mixed(field, shape, range(-len(normalized_shape), 0))


def _along(field: Piece, shape: Shape, _: Shape, dim: int = -1, *__: Any, **___: Any) -> Piece | Unknown:
    """Softmax and its like: every element depends on all others along one dimension."""
    return mixed(field, shape, (dim,))


def _topk(field: Piece, shape: Shape, _: Shape, k: int, dim: int = -1, *__: Any, **___: Any) -> Piece | Unknown:
    del k
    return mixed(field, shape, (dim,))


def _normalize(field: Piece, shape: Shape, _: Shape, p: float = 2.0, dim: int = 1, **__: Any) -> Piece | Unknown:
    del p
    return mixed(field, shape, (dim,) if isinstance(dim, int) else dim)


def _reduced(
    field: Piece, shape: Shape, result: Shape, dim: Any = None, *_: Any, axis: Any = None, **__: Any
) -> Piece | Unknown:
    """Means and sums over some dimensions, or all."""
    dim = axis if dim is None or isinstance(dim, bool) else dim
    dims = range(len(shape)) if dim is None else [dim] if isinstance(dim, int) else dim
    gone = {d % len(shape) for d in dims}
    field = mixed(field, shape, gone)
    return field if len(result) == len(shape) else _renumbered(field, [d for d in range(len(shape)) if d not in gone])


def _renumbered(field: Piece, order: Sequence[int]) -> Piece | Unknown:
    """Dimension i of the result is dimension order[i] of the argument."""
    place = {dim: i for i, dim in enumerate(order)}
    return tuple(view if view.dim is None else replace(view, dim=place[view.dim]) for view in field)


def _permuted(field: Piece, shape: Shape, _: Shape, *dims: Any, **named: Any) -> Piece | Unknown:
    order = named.get("dims", dims[0] if dims and not isinstance(dims[0], int) else dims)
    return _renumbered(field, [dim % len(shape) for dim in order])


def _transposed(field: Piece, shape: Shape, _: Shape, dim0: int = -1, dim1: int = -2) -> Piece | Unknown:
    order = list(range(len(shape)))
    order[dim0], order[dim1] = order[dim1], order[dim0]
    return _renumbered(field, order)


def _reshaped(field: Piece, shape: Shape, result: Shape, *_: Any, **__: Any) -> Piece | Unknown:
    """A dimension goes over to the one of the result that holds it; merged with others it has no stride any more."""
    views = []
    for view in field:
        if view.dim is None or shape[view.dim] == 1:
            views.append(view if len(shape) == len(result) else view.fixed(shape))
            continue
        inner, outer = _span(shape, view.dim)
        holding = [d for d in range(len(result)) if _span(result, d)[0] <= inner and _span(result, d)[1] >= outer]
        if not holding:
            return Unknown("a reshape cuts an axis of the picture apart")
        dim = holding[0]
        if _span(result, dim) == (inner, outer):
            views.append(replace(view, dim=dim))
        else:
            (low, high), n = _span(result, dim), shape[view.dim]
            table = np.tile(np.repeat(np.arange(n), inner // low), high // outer)
            after = view.through(Picked(table[:, None], "each element keeps the field of its own place"), shape)
            if isinstance(after, Unknown):
                return after
            views.append(replace(after, dim=dim))
    return tuple(views)


def _span(shape: Shape, dim: int) -> tuple[int, int]:
    """(step of the dimension, step of the one before it) in the row-major order of elements."""
    inner = math.prod(shape[dim + 1 :])
    return inner, inner * shape[dim]


def _parts(position: int, default: int = 0) -> Callable[..., Piece | Unknown]:
    """Functions that take a tensor apart along the dimension that stands at `position` of their arguments, or `dim`."""

    def rule(
        field: Piece, shape: Shape, result: Shape, *args: Any, dim: int | None = None, **_: Any
    ) -> Piece | Unknown:
        if dim is None:
            dim = args[position] if position < len(args) else default
        dim %= len(shape)
        if any(view.dim == dim for view in field):
            return Unknown("the map is cut apart along an axis of the picture")
        kept = [d for d in range(len(shape)) if d != dim or len(result) == len(shape)]
        return _renumbered(field, kept)

    return rule


def _interpolated(field: Piece, shape: Shape, result: Shape, size: Any = None, *args: Any, **kwargs: Any) -> Any:
    """What torch reads, by its own account: interpolation of the unit vectors, on one axis after the other."""
    ndim = len(shape) - 2
    named = dict(zip(("scale_factor", "mode", "align_corners"), args, strict=False)) | kwargs
    factors = spec.per_axis(named.pop("scale_factor", None), ndim, "scale_factor")
    windows = []
    for axis, n in enumerate(shape[2:]):
        lengths = [1] * ndim
        lengths[axis] = n
        units = torch.eye(n, dtype=torch.float64, device="cpu").reshape(1, n, *lengths)
        given: dict[str, Any]
        if size is None:
            given = {"scale_factor": [factor if i == axis else 1.0 for i, factor in enumerate(factors)]}
        else:
            given = {"size": [m if i == axis else 1 for i, m in enumerate(result[2:])]}
        read = torch.nn.functional.interpolate(units, **given, **named).reshape(n, -1).T != 0
        taps = int(read.sum(1).max())
        table = read.to(torch.int8).topk(taps, dim=1).indices  # distinct ones first; the rest repeats what is read
        table = torch.where(read.gather(1, table), table, OUTSIDE)
        windows.append(Picked(table.numpy(), "upsampled places share the window that they come from"))
    return _windowed(field, shape, windows)


def _shuffled(field: Piece, shape: Shape, _: Shape, upscale_factor: int) -> Piece | Unknown:
    reason = "upsampled places share the window that they come from"
    tables = (np.repeat(np.arange(n), upscale_factor)[:, None] for n in shape[-2:])
    return _windowed(field, shape, [Picked(table, reason) for table in tables])


def _unshuffled(field: Piece, shape: Shape, _: Shape, downscale_factor: int) -> Piece | Unknown:
    return _windowed(field, shape, (Window(downscale_factor, downscale_factor),) * 2)


def _padded(field: Piece, shape: Shape, _: Shape, pad: Sequence[int], *__: Any, **___: Any) -> Piece | Unknown:
    sides = list(pad)
    return _windowed(field, shape, spec.pad_windows(len(sides) // 2, sides))


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Element by element, with broadcasting.
_ELEMENTWISE = _names("""
    abs absolute neg negative positive sign sgn square sqrt rsqrt reciprocal exp exp2 expm1 log log2 log10 log1p
    pow rpow float_power sin cos tanh atan erf round floor ceil trunc nan_to_num clamp clip clamp_min clamp_max
    sigmoid logit relu relu6 leaky_relu rrelu elu celu selu gelu silu mish hardswish hardsigmoid hardtanh hardshrink
    softshrink tanhshrink threshold softplus softsign logsigmoid prelu
    dropout dropout1d dropout2d dropout3d alpha_dropout feature_dropout feature_alpha_dropout
    to type type_as float double half bfloat16 cpu cuda contiguous clone detach alias requires_grad data real
    add sub subtract rsub mul rmul multiply div rdiv divide true_divide truediv rtruediv floor_divide floordiv remainder
    fmod maximum minimum fmax fmin where lerp addcmul addcdiv masked_fill eq ne lt le gt ge isnan isinf isfinite
    logical_and logical_or logical_not logical_xor and or xor invert
""")

# Their results depend on the shape only.
_CONSTANT = _names("""
    zeros_like ones_like full_like empty_like rand_like randn_like new_zeros new_ones new_full new_empty new_tensor
""")

_JOINING = _names("cat concat concatenate")


_RULES: dict[str, Callable[..., Piece | Unknown]] = {
    "getitem": _indexed,
    "linear": _linear,
    "batch_norm": _batch_norm,
    "instance_norm": _statistics(2),
    "group_norm": _statistics(1),
    "layer_norm": _layer_norm,
    "rms_norm": _layer_norm,
    "local_response_norm": _same,
    "channel_shuffle": _same,
    "expand": _same,
    "broadcast_to": _same,
    "softmax": _along,
    "log_softmax": _along,
    "softmin": _along,
    "cumsum": _along,
    "sort": _along,
    "topk": _topk,
    "normalize": _normalize,
    **dict.fromkeys(("mean", "sum", "amax", "amin", "max", "min", "std", "var", "logsumexp", "prod"), _reduced),
    **dict.fromkeys(("reshape", "view", "flatten", "unflatten", "squeeze", "unsqueeze", "ravel"), _reshaped),
    "permute": _permuted,
    **dict.fromkeys(("transpose", "swapaxes", "swapdims", "mT"), _transposed),
    **dict.fromkeys(("chunk", "split", "tensor_split", "split_with_sizes"), _parts(1)),
    **dict.fromkeys(("unbind", "select", "narrow", "index_select"), _parts(0)),
    "glu": _parts(0, default=-1),
    "interpolate": _interpolated,
    "upsample": _interpolated,
    "pixel_shuffle": _shuffled,
    "pixel_unshuffle": _unshuffled,
    "pad": _padded,
}
