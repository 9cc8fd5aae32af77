"""How single operations and blocks of a graph are recorded, by the runners that the eager engine uses, too."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from svertka import spec
from svertka.compiler import blocks
from svertka.compiler.blocks import RESHAPES, FxNode, is_node
from svertka.compiler.held import Derived, norm_scale, norm_shift, scaled, with_places_first
from svertka.compiler.joint import SHAPE_ALONE
from svertka.compiler.recorder import ARENA, EXTERNAL, INPUT, NotRecordable
from svertka.engine import dense, few, inner, pools
from svertka.engine.autograd import GRADIENTS
from svertka.engine.layout import channels_last, empty, neighbours, with_channels_last
from svertka.engine.pad import prepare_pad
from svertka.engine.pool_gradients import prepare_average, prepare_maximum
from svertka.engine.precision import products
from svertka.engine.separable import SeparableBlock, prepare_separable
from svertka.engine.step import Saved
from svertka.window import Window

if TYPE_CHECKING:
    from svertka.compiler.lower import Lowering

aten = torch.ops.aten
Recorded = tuple[Any, str, int]  # the value, the kernel's description, multiply-adds
_ONE = Window(1)
_TURNED = 1 << 24  # bytes of a weight from which on maps are turned before it, rather than a copy of it once


@dataclass(eq=False)
class Flat:
    """Maps [N, C, *size] made vectors, whose numbers lie place by place, not channel by channel.

    Args:
        maps: with neighbouring channels.
    """

    maps: Tensor

    @property
    def tensor(self) -> Tensor:
        """[N, places · C], channels innermost."""
        return self.maps.movedim(1, -1).reshape(self.maps.shape[0], -1)

    def turned(self) -> Tensor:
        """[N, C · places], as torch has it."""
        return self.maps.reshape(self.maps.shape[0], -1)


def with_neighbours(x: Tensor) -> Tensor:
    """x with neighbouring channels."""
    return x if channels_last(x) else with_channels_last(x)


def lifted(x: Tensor) -> Tensor:
    """A sequence [N, C, L] as an image of one row: memory formats know images."""
    return x.unsqueeze(2) if x.ndim == 3 else x


def lifted_windows(windows: Sequence[Any]) -> tuple[Any, ...]:
    """The windows on what `lifted` gives."""
    return (_ONE, *windows) if len(windows) == 1 else tuple(windows)


def float32(x: Tensor) -> Tensor:
    """The tensor itself, if kernels compute it; else NotRecordable."""
    if x.dtype is not torch.float32:
        raise NotRecordable(f"{str(x.dtype).removeprefix('torch.')} is computed by torch")
    return x


def runner(low: Lowering, prepare: Callable[..., Any], operation: Any, *tensors: Tensor | None, **options: Any) -> Any:
    """The runner for an operation on tensors, kept alive by the plan.

    Raises:
        NotRecordable: if there is none.
    """
    for tensor in tensors:
        if tensor is not None:
            float32(tensor)
    layouts = tuple(None if t is None else (tuple(t.shape), t.stride()) for t in tensors)
    found = _prepared(prepare, operation, layouts, tuple(options.items()), products())
    if isinstance(found, str):
        raise NotRecordable(found)
    low.recorder.kept.append(found)
    return found


def _layouts_prepared(prepare: Callable[..., Any], operation: Any, *tensors: Tensor) -> Any:
    return _prepared(prepare, operation, tuple((tuple(t.shape), t.stride()) for t in tensors), (), products())


@lru_cache(maxsize=1024)
def _prepared(prepare: Callable[..., Any], operation: Any, layouts: tuple[Any, ...], options: Any, _: int) -> Any:
    with _disable_current_modes():
        tensors = [None if layout is None else torch.empty_strided(*layout) for layout in layouts]
        return prepare(operation, *tensors, **dict(options))


# Convolutions and dense layers


def record_block(low: Lowering, block: blocks.Block) -> Recorded:
    """A block as one kernel."""
    if block.first is not None:
        return _separable(low, block.first, block)
    return _convolution(low, block) if block.base.target is blocks.CONVOLUTION else _dense(low, block)


def shortened(block: blocks.Block) -> blocks.Block | None:
    """The block without its pooling, if that is what there is no kernel for."""
    if block.pool is None:
        return None
    before = block.pool.args[0]
    assert is_node(before)
    taken = {node for node in block.taken if node is not before and node is not block.pool}
    return replace(block, pool=None, last=before, taken=taken)


def _convolution(low: Lowering, block: blocks.Block) -> Recorded:
    weight, bias, shape = _folded(low, block)
    transposed = block.base.args[6]
    x, residual = lifted(low.tensor(block.x)), _residual(low, block)
    operation, prepare = _operation(block)
    if transposed or not few.suits(operation, x):
        x = low.with_neighbours(x)
    w, b = _stand_ins(low, weight, bias, shape)
    # A weight in channels_last makes a result in channels_last, whatever x is.
    rest = (b,) if transposed else (b, None, residual)
    changing = {} if transposed else {"changing": isinstance(weight, Tensor)}
    run = runner(low, prepare, operation, x, empty(shape, True), *rest, **changing)
    y = run(x, w, *rest)
    places = math.prod((x if transposed else block.base.meta["val"]).shape[2:]) * x.shape[0]
    return _as_laid(y, block), run.detail, places * math.prod(shape)


def _separable(low: Lowering, first: blocks.Block, second: blocks.Block) -> Recorded:
    """A depthwise block and the pointwise one after it as one kernel."""
    tensors: list[Any] = []
    macs = 0
    for block in (first, second):
        weight, bias, shape = _folded(low, block)
        if isinstance(weight, Tensor) or isinstance(bias, Tensor):
            raise NotRecordable("its weights aren't held")
        tensors += _stand_ins(low, weight, bias, shape)
        images, _, *size = block.base.meta["val"].shape
        macs += images * math.prod(size) * math.prod(shape)
    operations = (_operation(block)[0] for block in (first, second))
    x, residual = low.with_neighbours(lifted(low.tensor(first.x))), _residual(low, second)
    run = runner(low, prepare_separable, SeparableBlock(*operations), x, *tensors, residual)
    return _as_laid(run(x, *tensors, residual), second), run.detail, macs


def _folded(low: Lowering, block: blocks.Block) -> tuple[Any, Any, tuple[int, ...]]:
    """A convolution's weight and bias with the batch norm after it, and the weight's shape: of one axis as of two."""
    weight_node, bias_node, groups = block.base.args[1], block.base.args[2], block.base.args[8]
    weight, bias = low.parameter(weight_node), low.parameter(bias_node)
    shape = tuple(weight_node.meta["val"].shape)
    if block.norm is not None:
        gamma, beta, mean, variance = (low.line(part) for part in block.norm.args[1:5])
        eps = block.norm.args[7] if block.norm.target in blocks.NORMS[:2] else block.norm.args[6]
        weight = Derived(scaled, (weight, gamma, variance, eps, block.base.args[6], groups))
        bias = Derived(norm_shift, (bias, gamma, beta, mean, variance, eps))
    if len(shape) == 3:
        weight = weight.unsqueeze(2) if isinstance(weight, Tensor) else Derived(torch.unsqueeze, (weight, 2))
        shape = (*shape[:2], 1, *shape[2:])
    return weight, bias, shape


def _stand_ins(low: Lowering, weight: Any, bias: Any, shape: tuple[int, ...]) -> tuple[Tensor, Tensor | None]:
    w = weight if isinstance(weight, Tensor) else low.recorder.stand_in(weight, shape)
    b = bias if bias is None or isinstance(bias, Tensor) else low.recorder.stand_in(bias, ())
    return w, b


def _residual(low: Lowering, block: blocks.Block) -> Tensor | None:
    return None if block.residual is None else low.with_neighbours(lifted(low.tensor(block.residual)))


def _as_laid(y: Tensor, block: blocks.Block) -> Tensor:
    """What a block gives, without the axis that `lifted` added."""
    return y.squeeze(2) if block.base.meta["val"].ndim == 3 else y


def _operation(block: blocks.Block) -> tuple[Any, Callable[..., Any]]:
    """The block's spec and who prepares it."""
    _, weight, _, stride, padding, dilation, transposed, output_padding, groups = block.base.args
    shape = weight.meta["val"].shape
    ndim = len(shape) - 2
    if transposed:
        windows: Any = spec.transposed_windows(ndim, shape[2:], stride, padding, output_padding, dilation)
        if ndim == 1:
            windows = (spec.transposed_windows(1, 1)[0], *windows)
        return spec.TransposedConvolution(windows, groups), dense.prepare_transposed
    pads = [(n, n) for n in (padding if len(padding) == ndim else [*padding] * ndim)]
    if block.pad is not None:
        sides = block.pad.args[1]
        for axis in range(len(sides) // 2):
            before, after = sides[2 * axis], sides[2 * axis + 1]
            pads[-1 - axis] = (pads[-1 - axis][0] + before, pads[-1 - axis][1] + after)
    windows = lifted_windows(spec.windows(ndim, shape[2:], stride, pads, dilation))
    pool: tuple[Any, ...] = ()
    if block.pool is not None:
        pool = spec.windows(ndim, block.pool.args[1], block.pool.args[1])
    return spec.ConvolutionBlock(windows, groups, block.activation, pool), dense.prepare_block


def _dense(low: Lowering, block: blocks.Block) -> Recorded:
    matrix = block.base.args[-1]
    weight = low.line(matrix)
    # The layer's own weight is what was transposed.
    weight = weight.arguments[0] if _is_transposition(weight) else Derived(torch.t, (weight,))
    bias = low.line(block.base.args[0]) if block.base.target is aten.addmm.default else None
    inputs, outputs = matrix.meta["val"].shape
    if bias is not None and tuple(block.base.args[0].meta["val"].shape) != (outputs,):
        raise NotRecordable("its bias isn't a line")
    value = low.env[block.x]
    reads_as_is = inner.suits_sizes(block.base.meta["val"].shape[0], inputs)
    if isinstance(value, Flat) and reads_as_is and 4 * inputs * outputs >= _TURNED:
        x = value.turned()
    elif isinstance(value, Flat):
        weight = Derived(with_places_first, (weight, value.maps.shape[1]))
        x = value.tensor
    else:
        x = low.tensor(block.x)
    residual = None if block.residual is None else low.tensor(block.residual).contiguous()
    x = x.contiguous()
    w = low.recorder.stand_in(weight, (outputs, inputs), as_is=True)
    b = None if bias is None else low.recorder.stand_in(bias, (outputs,))
    operation = spec.ConvolutionBlock((), activation=block.activation)
    run = runner(low, dense.prepare_block, operation, x, w, b, None, residual)
    return run(x, w, b, None, residual), run.detail, x.shape[0] * inputs * outputs


def _is_transposition(held: Any) -> bool:
    if not isinstance(held, Derived):
        return False
    return held.function is aten.t.default or (
        held.function in (aten.permute.default, aten.transpose.int)
        and held.arguments[1:] in (((1, 0),), (0, 1), (1, 0))
    )


# Poolings


def _max_pool(low: Lowering, node: FxNode) -> Recorded:
    x, *rest = node.args
    ndim = 3 if node.target is aten.max_pool3d_with_indices.default else 2
    size, stride, padding, dilation, ceil = _filled(rest, [None, [], 0, 1, False])
    windows = spec.windows(ndim, size, stride or size, padding, dilation, "zeros", ceil)
    return _with_places(low, node, spec.MaxPool(windows), low.tensor(x))


def _with_places(low: Lowering, node: FxNode, operation: Any, x: Tensor) -> Recorded:
    """A maximum pooling, with the places of the maxima if somebody asks for them."""
    if x.ndim != operation.ndim + 2:
        raise NotRecordable("it has no batch")
    wanted = any(user.args[1] == 1 and user.users for user in node.users)
    if wanted and low.for_us_alone(node):  # for the backward graph: which tap it was, a byte, instead of int64 places
        if isinstance(_layouts_prepared(prepare_maximum, operation, x), str):
            raise NotRecordable("there is no kernel for its gradient")
        run = runner(low, pools.prepare_pool, operation, x, taps=True)
        y, taken = run(x)
        return (y, pools.taps_like(taken, y.shape, y.stride())), run.detail, 0
    run = runner(low, pools.prepare_pool, operation, x, return_indices=wanted)
    result = run(x, return_indices=wanted)
    return result if wanted else (result, None), run.detail, 0


def _pool(low: Lowering, operation: Any, x: Tensor) -> Recorded:
    if x.ndim != operation.ndim + 2:
        raise NotRecordable("it has no batch")
    windows = lifted_windows(operation.windows)
    run = runner(low, pools.prepare_pool, replace(operation, windows=windows), lifted(x))
    y = run(lifted(x))
    return y.squeeze(2) if x.ndim == 3 else y, run.detail, 0


def _average_pool(low: Lowering, node: FxNode) -> Recorded:
    x, *rest = node.args
    ndim = {aten.avg_pool1d.default: 1, aten.avg_pool2d.default: 2, aten.avg_pool3d.default: 3}[node.target]
    size, stride, padding, ceil, include, divisor = _filled(rest, [None, [], 0, False, True, None])
    windows = spec.windows(ndim, size, stride or size, padding, 1, "zeros", ceil)
    return _pool(low, spec.AveragePool(windows, include, divisor), low.tensor(x))


def _adaptive_average(low: Lowering, node: FxNode) -> Recorded:
    x = low.tensor(node.args[0])
    return _pool(low, spec.AveragePool(spec.segments(x.ndim - 2, node.args[1])), x)


def _adaptive_maximum(low: Lowering, node: FxNode) -> Recorded:
    x = low.tensor(node.args[0])
    return _with_places(low, node, spec.MaxPool(spec.segments(x.ndim - 2, node.args[1])), x)


def _mean(low: Lowering, node: FxNode) -> Recorded:
    """The mean over all places, or their maximum."""
    x = low.tensor(node.args[0])
    dims, keep = _filled(node.args[1:], [None, False])
    wanted = sorted(dim % x.ndim for dim in dims or ())
    if x.ndim < 3 or wanted != list(range(2, x.ndim)) or node.kwargs:
        raise NotRecordable("only the whole of all places is reduced by kernels")
    kind = spec.AveragePool if node.target is aten.mean.dim else spec.MaxPool
    y, detail, macs = _pool(low, kind(spec.segments(x.ndim - 2, 1)), x)
    return y if keep else y.reshape(y.shape[:2]), detail, macs


def _filled(given: Sequence[Any], defaults: list[Any]) -> list[Any]:
    return [*given, *defaults[len(given) :]]


# Layout


def view(low: Lowering, node: FxNode) -> Recorded:
    value = low.env[node.args[0]]
    if isinstance(value, Flat) and node.target in (aten.alias.default, aten.detach.default):
        return value, "", 0
    x = low.tensor(node.args[0])
    if node.target in RESHAPES:
        if x.ndim > 2 and not x.is_contiguous() and neighbours(x) and _flattens(node, x):
            return Flat(x), "", 0
        return x.reshape(node.args[1]), "", 0
    result = node.target(x, *node.args[1:], **node.kwargs)
    return tuple(result) if isinstance(result, (list, tuple)) else result, "", 0


def _as_strided(low: Lowering, node: FxNode) -> Recorded:
    """The same memory seen otherwise, once it lies as torch has it."""
    x, like = low.tensor(node.args[0]), node.args[0].meta["val"]
    if x.stride() != like.stride():
        room = low.recorder.new(like.shape, like.stride(), like.dtype, ARENA)
        x = low.recorder.copy(x, room)
    size, stride, start = _filled(node.args[1:], [None, None, None])
    start = x.storage_offset() + (0 if start is None else start - like.storage_offset())
    return x.as_strided(size, stride, start), "", 0


def _flattens(node: FxNode, x: Tensor) -> bool:
    """Whether a view makes vectors of maps, for dense layers alone."""
    if tuple(node.meta["val"].shape) != (x.shape[0], math.prod(x.shape[1:])):
        return False
    users = list(node.users)
    for user in users:
        while user.target in (aten.alias.default, aten.detach.default) and len(user.users) == 1:
            (user,) = user.users
        if user.target not in blocks.DENSE or user.args[-2] is None or user.args[-1] is node:
            return False
    return bool(users)


def _clone(low: Lowering, node: FxNode) -> Recorded:
    x, buffer = low.tensor(node.args[0]), None
    buffer = low.recorder.buffer_of(x)
    if buffer is not None and buffer.kind in (INPUT, EXTERNAL):
        return low.recorder.copy(x, torch.empty_like(x)), "copied", 0
    return x, "", 0  # nobody changes it


def _cat(low: Lowering, node: FxNode) -> Recorded:
    dim = node.args[1] if len(node.args) > 1 else 0
    parts = [low.tensor(part) for part in node.args[0] if part.meta["val"].numel()]
    if any(part.dtype is not torch.float32 for part in parts):
        raise NotRecordable("only float32 is copied by kernels")
    like = node.meta["val"]
    last = any(channels_last(part) for part in parts)
    y = torch.empty(like.shape)
    if last:
        y = torch.empty(like.shape, memory_format=torch.channels_last if like.ndim == 4 else torch.channels_last_3d)
    start = 0
    for part in parts:
        low.recorder.copy(part, y.narrow(dim, start, part.shape[dim]))
        start += part.shape[dim]
    return y, "copied side by side", 0


def _pad(low: Lowering, node: FxNode) -> Recorded:
    x, sides = low.tensor(node.args[0]), list(node.args[1])
    value = float(node.args[2]) if len(node.args) > 2 else 0.0
    ndim = x.ndim - 2
    if ndim < 1 or len(sides) > 2 * ndim:
        raise NotRecordable("only places are padded by kernels")
    sides += [0] * (2 * ndim - len(sides))
    windows = lifted_windows(spec.pad_windows(ndim, sides))
    run = runner(low, prepare_pad, spec.Pad(windows, value), lifted(x))
    y = run(lifted(x))
    return y.squeeze(2) if ndim == 1 else y, run.detail, 0


# Numbers by themselves


def _norm(low: Lowering, node: FxNode) -> Recorded:
    """A batch norm that no convolution takes along."""
    from svertka.compiler.formulas import Expression
    from svertka.compiler.norms import joins

    if not blocks.is_inference_norm(node):
        raise NotRecordable("it computes its statistics")
    x = low.tensor(node.args[0])
    gamma, beta, mean, variance = (low.line(part) for part in node.args[1:5])
    eps = node.args[7] if node.target in blocks.NORMS[:2] else node.args[6]
    scale = low.recorder.stand_in(Derived(_as_float, (Derived(norm_scale, (gamma, variance, eps)),)), ())
    shift = low.recorder.stand_in(Derived(norm_shift, (None, gamma, beta, mean, variance, eps)), ())
    lines = [line.view(-1, *(1 for _ in x.shape[2:])) for line in (scale, shift)]
    y = Expression(("add", ("mul", ("x", 0), ("x", 1)), ("x", 2)), [x, *lines], tuple(x.shape))
    if joins(low, node):
        return (y, None, None), "a part of what follows", 0
    return (y.recorded(low), None, None), "elementwise", 0


def _as_float(x: Tensor) -> Tensor:
    return x.float()


# Gradients


def _convolution_backward(low: Lowering, node: FxNode) -> Recorded:
    """The gradients to a convolution's input, weight and bias."""
    dy, x, weight, _, stride, padding, dilation, transposed, output_padding, groups, wanted = node.args
    ndim = weight.meta["val"].ndim - 2
    base = _Arguments((x, weight, None, stride, padding, dilation, transposed, output_padding, groups))
    operation, _ = _operation(blocks.Block(base, x, base))
    if not transposed:
        operation = operation.convolution
    w = low.parameter(weight)
    if not isinstance(w, Tensor):
        raise NotRecordable("its weight doesn't change")
    w = w.unsqueeze(2) if ndim == 1 else w
    x, dy = (low.with_neighbours(lifted(low.tensor(part))) for part in (x, dy))
    step = runner(low, GRADIENTS[type(operation)].prepare, operation, x, w)
    dx, dw, db = step.backward(dy, Saved(wanted, x, (w, None), ()))
    low.recorder.kept += [step, *step.remembered._found.values()]
    if ndim == 1:
        dx, dw = (None if part is None else part.squeeze(2) for part in (dx, dw))
    results = [part if want else None for part, want in zip((dx, dw, db), wanted, strict=True)]
    return tuple(results), step.detail, 0


@dataclass(eq=False)
class _Arguments:
    """A node as far as `_operation` looks at it."""

    args: tuple[Any, ...]


def _max_pool_backward(low: Lowering, node: FxNode) -> Recorded:
    dy, x, size, stride, padding, dilation, ceil, places = node.args
    windows = spec.windows(len(size), size, stride or size, padding, dilation, "zeros", ceil)
    dy, taken = low.tensor(dy), low.tensor(places)
    if taken.dtype is torch.int64:
        raise NotRecordable("it was not pooled by a kernel")
    # Of x only the shape counts, and that it lies as the taps do.
    x = empty(x.meta["val"].shape, channels_last(taken)) if x.target is SHAPE_ALONE else low.tensor(x)
    taken = low.recorder.room_of(taken)
    step = runner(low, prepare_maximum, spec.MaxPool(windows), x)
    (dx,) = step.backward(dy, Saved((True,), x, (), (taken,)))
    return dx, step.detail, 0


def _average_pool_backward(low: Lowering, node: FxNode) -> Recorded:
    dy, x, size, stride, padding, ceil, include, divisor = node.args
    windows = spec.windows(len(size), size, stride or size, padding, 1, "zeros", ceil)
    return _average_gradient(low, spec.AveragePool(windows, include, divisor), dy, x)


def _adaptive_average_backward(low: Lowering, node: FxNode) -> Recorded:
    dy, x = node.args
    size = dy.meta["val"].shape[2:]
    return _average_gradient(low, spec.AveragePool(spec.segments(len(size), tuple(size))), dy, x)


def _average_gradient(low: Lowering, operation: Any, dy: FxNode, x: FxNode) -> Recorded:
    x, dy = low.tensor(x), low.tensor(dy)
    step = runner(low, prepare_average, operation, x)
    (dx,) = step.backward(dy, Saved((True,), x, (), ()))
    return dx, step.detail, 0


def _layer_norm(low: Lowering, node: FxNode) -> Recorded:
    from svertka.compiler import norms

    backward = node.target is aten.native_layer_norm_backward.default
    return norms.of_layer_backward(low, node) if backward else norms.of_layer(low, node)


def _product(low: Lowering, node: FxNode) -> Recorded:
    from svertka.compiler import products

    return products.product(low, node)


def _sum(low: Lowering, node: FxNode) -> Recorded:
    from svertka.compiler import products

    return products.total(low, node)


def _normed(low: Lowering, node: FxNode) -> Recorded:
    from svertka.compiler import norms

    backward = node.target is aten.native_batch_norm_backward.default
    return norms.backward(low, node) if backward else norms.forward(low, node)


HANDLERS: dict[Any, Callable[[Lowering, FxNode], Recorded]] = {
    **dict.fromkeys(blocks.MAX_POOLS, _max_pool),
    **dict.fromkeys((aten.avg_pool1d.default, aten.avg_pool2d.default, aten.avg_pool3d.default), _average_pool),
    **dict.fromkeys((aten._adaptive_avg_pool2d.default, aten._adaptive_avg_pool3d.default), _adaptive_average),
    **dict.fromkeys((aten.adaptive_max_pool2d.default, aten.adaptive_max_pool3d.default), _adaptive_maximum),
    aten.mean.dim: _mean,
    aten.amax.default: _mean,
    **dict.fromkeys(blocks.NORMS, _norm),
    **dict.fromkeys((aten.native_layer_norm.default, aten.native_layer_norm_backward.default), _layer_norm),
    **dict.fromkeys(blocks.DENSE, _product),
    aten.sum.dim_IntList: _sum,
    **dict.fromkeys(RESHAPES, view),
    **dict.fromkeys((aten.as_strided.default, aten.as_strided_.default), _as_strided),
    aten.clone.default: _clone,
    aten.cat.default: _cat,
    aten._native_batch_norm_legit_functional.default: _normed,
    aten.native_batch_norm_backward.default: _normed,
    aten.convolution_backward.default: _convolution_backward,
    aten.max_pool2d_with_indices_backward.default: _max_pool_backward,
    aten.max_pool3d_with_indices_backward.default: _max_pool_backward,
    aten.avg_pool2d_backward.default: _average_pool_backward,
    aten.avg_pool3d_backward.default: _average_pool_backward,
    aten._adaptive_avg_pool2d_backward.default: _adaptive_average_backward,
    aten.constant_pad_nd.default: _pad,
}
