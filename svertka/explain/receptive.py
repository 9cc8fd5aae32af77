"""Receptive fields: what the elements of a tensor inside a network see of the network's input.

A `Field` has a `View` for each spatial axis of the input. It is carried from a function's arguments to its result:
windows compose (`Window.then`), branches that meet unite (`Window.union`), a dense layer or a mean sees all that its
inputs see. What a function reads is told by its own arguments, so that a field is known or is said to be unknown, with
the reason; it is never guessed. The field is where an output may look: zero weights, the dead side of a ReLU and the
losers of a maximum are counted in, and places outside the input are padding (of any mode).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor

from svertka import spec
from svertka.errors import GeometryError
from svertka.window import Segments, TransposedWindow, Window

Shape = Sequence[int]


@dataclass(frozen=True)
class View:
    """What the elements of a tensor see of one axis of the network's input.

    Args:
        window: how far they look: the window of the element at place 0 and the stride to the next.
        dim: the dimension of the tensor along which the window moves; None if all elements see the same.
        uneven: why the elements along `dim` see windows of different sizes or strides; `window` is then what they see
            together. Empty if they don't.
    """

    window: Window
    dim: int | None
    uneven: str = ""

    def together(self, shape: Shape) -> Window:
        """What all elements of a tensor of this shape see together, as a window of stride 1."""
        if self.dim is None or self.uneven:
            return self.window
        return replace(self.window.then(Window(shape[self.dim])), stride=1)

    def fixed(self, shape: Shape) -> View:
        """The view of elements that depend on all elements of a tensor of this shape."""
        return View(self.together(shape), None)


@dataclass(frozen=True)
class Unknown:
    """A field that cannot be told, and why."""

    reason: str


Field = tuple[View, ...] | Unknown


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


def of_input(shape: Shape) -> Field:
    """The field of the network's input [N, C, *size]: every element sees itself."""
    return tuple(View(Window(1), dim) for dim in range(2, len(shape)))


def described(field: Field, size: Shape) -> tuple[AxisField, ...] | str:
    """The field on an input of this spatial size in numbers, or why there are none."""
    if isinstance(field, Unknown):
        return field.reason
    reasons = dict.fromkeys(view.uneven for view in field if view.uneven)
    if reasons:
        return "; ".join(reasons)
    return tuple(_axis_field(view, n) for view, n in zip(field, size, strict=True))


def _axis_field(view: View, n: int) -> AxisField:
    window = view.window
    if view.dim is not None:
        return AxisField(window.extent, window.stride, window.offset)
    if _covers(window, Window(n)):
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
        return _united(fields, shape)
    if name in _JOINING:
        return _concatenated(fields, shape, *args[1:], **kwargs)
    if name == "gather":
        return _united([(_mixed(field, own, (args[1],)), own) for field, own in fields], shape)
    rule = _RULES.get(name)
    if rule is None:
        return Unknown(f"what {name} reads is not known")
    subject, *rest = args or (kwargs["input"],)
    if len(fields) > 1 or subject is not inputs[0][0]:
        return Unknown(f"{name} depends on the input through other arguments than its first")
    try:
        return rule(*fields[0], shape, *rest, **{key: value for key, value in kwargs.items() if key != "input"})
    except (TypeError, ValueError, LookupError):
        return Unknown(f"how {name} was called is not understood")


def is_known(name: str) -> bool:
    """Whether `followed` knows the function of this name; of those, "linear" alone multiplies by weights."""
    return any(name in names for names in (_ELEMENTWISE, _CONSTANT, _RULES, _JOINING)) or name == "gather"


def through(operation: spec.Operation[Any], field: Field, shape: Shape) -> Field:
    """The field behind an operation with windows, on an input [N, C, *size] or [C, *size] of this shape."""
    if isinstance(field, Unknown):
        return field
    if isinstance(operation, (spec.Convolution, spec.TransposedConvolution, spec.Unshared)):
        field = _mixed(field, shape, (len(shape) - operation.ndim - 1,))
    return _windowed(field, shape, operation.windows)


def _windowed(field: tuple[View, ...], shape: Shape, windows: Sequence[Any]) -> Field:
    """Windows on the last dimensions."""
    views = []
    for view in field:
        axis = -1 if view.dim is None else view.dim - len(shape) + len(windows)
        after = view if axis < 0 else _view_through(windows[axis], view, shape)
        if isinstance(after, Unknown):
            return after
        views.append(after)
    return tuple(views)


def _view_through(window: Any, view: View, shape: Shape) -> View | Unknown:
    assert view.dim is not None
    n = shape[view.dim]
    if isinstance(window, Segments):
        regular = _regular(window, n)
        if window.count == 1:
            return view.fixed(shape)
        if regular is None:
            return _unevenly(
                window, view, shape, f"adaptive pooling of {n} places to {window.count} uses uneven windows"
            )
        window = regular
    if isinstance(window, TransposedWindow):
        return _unevenly(window, view, shape, "the outputs of a transposed convolution see windows of different sizes")
    if not isinstance(window, Window):
        return Unknown(f"what a {type(window).__name__} reads is not composed")
    if view.uneven:
        return view if window == Window(1) else _unevenly(window, view, shape, view.uneven)
    return replace(view, window=view.window.then(window.at(n)))


def _regular(segments: Segments, n: int) -> Window | None:
    """The window that all segments are, if they are one."""
    starts, ends = segments.bounds(n)
    sizes, strides = set(map(int, ends - starts)), set(map(int, np.diff(starts)))
    if len(sizes) == 1 and len(strides) == 1 and min(strides) > 0:
        return Window(sizes.pop(), strides.pop())
    return None


def _unevenly(window: Any, view: View, shape: Shape, reason: str) -> View | Unknown:
    """A view that has no one size: what all see together stays, if all places are read."""
    assert view.dim is not None
    n = shape[view.dim]
    if not np.isin(np.arange(n), window.sources(n)).all():
        return Unknown(f"{reason}, and some places are read by none")
    return View(view.together(shape), view.dim, reason)


def _covers(window: Window, other: Window) -> bool:
    """Whether one window reaches as far as another on both sides."""
    return window.union(other).extent == window.extent


def _mixed(field: tuple[View, ...], shape: Shape, dims: Iterable[int]) -> tuple[View, ...]:
    """Every element depends on all others along these dimensions."""
    wanted = {dim % len(shape) for dim in dims}
    return tuple(view.fixed(shape) if view.dim in wanted else view for view in field)


def _united(fields: Sequence[tuple[tuple[View, ...], Shape]], shape: Shape) -> Field:
    """Element by element, with broadcasting: tensors that meet."""
    views = []
    for axis in zip(*(_broadcast(field, own, shape) for field, own in fields), strict=True):
        first, *others = axis
        for other in others:
            both = _union(first, other, shape)
            if isinstance(both, Unknown):
                return both
            first = both
        views.append(first)
    return tuple(views)


def _broadcast(field: tuple[View, ...], own: Shape, shape: Shape) -> tuple[View, ...]:
    shift, views = len(shape) - len(own), []
    for view in field:
        if view.dim is None or (own[view.dim] == 1 and shape[view.dim + shift] != 1):
            views.append(view.fixed(own))
        else:
            views.append(replace(view, dim=view.dim + shift))
    return tuple(views)


def _union(one: View, other: View, shape: Shape) -> View | Unknown:
    if one == other:
        return one
    hull = one.together(shape).union(other.together(shape))
    if one.dim is None or other.dim is None:
        moving, fixed = (one, other) if other.dim is None else (other, one)
        if moving.dim is None or _covers(fixed.window, moving.together(shape)):
            return View(hull, None)
        return View(hull, moving.dim, "one branch sees the same from all places and the other one does not")
    if one.dim != other.dim:
        return Unknown("branches meet that run along different axes of the input")
    if one.uneven or other.uneven:
        return View(hull, one.dim, one.uneven or other.uneven)
    try:
        return View(one.window.union(other.window), one.dim)
    except GeometryError as error:
        return View(hull, one.dim, str(error))


def _concatenated(fields: Sequence[tuple[tuple[View, ...], Shape]], shape: Shape, dim: int = 0, **_: Any) -> Field:
    dim %= len(shape)
    if any(view.dim == dim for views, _ in fields for view in views):
        return Unknown("maps are joined side by side along an axis of the picture")
    return _united([(field, [*own[:dim], shape[dim], *own[dim + 1 :]]) for field, own in fields], shape)


def _indexed(field: tuple[View, ...], shape: Shape, _: Shape, index: Any) -> Field:
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
            after = _view_through(Window(1, step, padding=(-start, stop - n)), view, shape)
            if isinstance(after, Unknown):
                return after
            views[axis] = replace(after, dim=dims) if isinstance(part, slice) else replace(after, dim=None)
        source += part is not None
        dims += not isinstance(part, int)
    return tuple(views.values())


def _linear(field: tuple[View, ...], shape: Shape, _: Shape, *__: Any, **___: Any) -> Field:
    return _mixed(field, shape, (-1,))


def _same(field: tuple[View, ...], shape: Shape, result: Shape, *_: Any, **__: Any) -> Field:
    return _united([(field, shape)], result)


def _statistics(first: int) -> Callable[..., Field]:
    """Norms that measure the map itself: every element depends on all from the dimension `first` on."""

    def rule(field: tuple[View, ...], shape: Shape, _: Shape, *__: Any, **___: Any) -> Field:
        return _mixed(field, shape, range(first, len(shape)))

    return rule


def _batch_norm(
    field: tuple[View, ...],
    shape: Shape,
    _: Shape,
    running_mean: Any = None,
    *rest: Any,
    training: Any = None,
    **__: Any,
) -> Field:
    """Element by element, unless it measures this very batch."""
    training = rest[3] if training is None and len(rest) > 3 else training
    return _mixed(field, shape, range(2, len(shape))) if training or running_mean is None else field


def _layer_norm(
    field: tuple[View, ...], shape: Shape, _: Shape, normalized_shape: Shape, *__: Any, **___: Any
) -> Field:
    return _mixed(field, shape, range(-len(normalized_shape), 0))


def _along(field: tuple[View, ...], shape: Shape, _: Shape, dim: int = -1, *__: Any, **___: Any) -> Field:
    """Softmax and its like: every element depends on all others along one dimension."""
    return _mixed(field, shape, (dim,))


def _topk(field: tuple[View, ...], shape: Shape, _: Shape, k: int, dim: int = -1, *__: Any, **___: Any) -> Field:
    del k
    return _mixed(field, shape, (dim,))


def _normalize(field: tuple[View, ...], shape: Shape, _: Shape, p: float = 2.0, dim: int = 1, **__: Any) -> Field:
    del p
    return _mixed(field, shape, (dim,) if isinstance(dim, int) else dim)


def _reduced(
    field: tuple[View, ...], shape: Shape, result: Shape, dim: Any = None, *_: Any, axis: Any = None, **__: Any
) -> Field:
    """Means and sums over some dimensions, or all."""
    dim = axis if dim is None or isinstance(dim, bool) else dim
    dims = range(len(shape)) if dim is None else [dim] if isinstance(dim, int) else dim
    gone = {d % len(shape) for d in dims}
    field = _mixed(field, shape, gone)
    return field if len(result) == len(shape) else _renumbered(field, [d for d in range(len(shape)) if d not in gone])


def _renumbered(field: tuple[View, ...], order: Sequence[int]) -> Field:
    """Dimension i of the result is dimension order[i] of the argument."""
    place = {dim: i for i, dim in enumerate(order)}
    return tuple(view if view.dim is None else replace(view, dim=place[view.dim]) for view in field)


def _permuted(field: tuple[View, ...], shape: Shape, _: Shape, *dims: Any, **named: Any) -> Field:
    order = named.get("dims", dims[0] if dims and not isinstance(dims[0], int) else dims)
    return _renumbered(field, [dim % len(shape) for dim in order])


def _transposed(field: tuple[View, ...], shape: Shape, _: Shape, dim0: int = -1, dim1: int = -2) -> Field:
    order = list(range(len(shape)))
    order[dim0], order[dim1] = order[dim1], order[dim0]
    return _renumbered(field, order)


def _reshaped(field: tuple[View, ...], shape: Shape, result: Shape, *_: Any, **__: Any) -> Field:
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
            reason = view.uneven or "each element keeps the field of its own place"
            views.append(View(view.together(shape), dim, reason))
    return tuple(views)


def _span(shape: Shape, dim: int) -> tuple[int, int]:
    """(step of the dimension, step of the one before it) in the row-major order of elements."""
    inner = math.prod(shape[dim + 1 :])
    return inner, inner * shape[dim]


def _parts(position: int, default: int = 0) -> Callable[..., Field]:
    """Functions that take a tensor apart along the dimension that stands at `position` of their arguments, or `dim`."""

    def rule(
        field: tuple[View, ...], shape: Shape, result: Shape, *args: Any, dim: int | None = None, **_: Any
    ) -> Field:
        if dim is None:
            dim = args[position] if position < len(args) else default
        dim %= len(shape)
        if any(view.dim == dim for view in field):
            return Unknown("the map is cut apart along an axis of the picture")
        kept = [d for d in range(len(shape)) if d != dim or len(result) == len(shape)]
        return _renumbered(field, kept)

    return rule


def _upsampled(field: tuple[View, ...], shape: Shape, result: Shape, *_: Any, **__: Any) -> Field:
    if any(after < before for before, after in zip(shape[2:], result[2:], strict=True)):
        return Unknown("interpolation to a smaller size may leave places out")
    reason = "upsampled places share the window that they come from"
    return tuple(view if view.dim is None else View(view.together(shape), view.dim, reason) for view in field)


def _unshuffled(field: tuple[View, ...], shape: Shape, _: Shape, downscale_factor: int) -> Field:
    return _windowed(field, shape, (Window(downscale_factor, downscale_factor),) * 2)


def _padded(field: tuple[View, ...], shape: Shape, _: Shape, pad: Sequence[int], *__: Any, **___: Any) -> Field:
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


_RULES: dict[str, Callable[..., Field]] = {
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
    "interpolate": _upsampled,
    "upsample": _upsampled,
    "pixel_shuffle": _upsampled,
    "pixel_unshuffle": _unshuffled,
    "pad": _padded,
}
