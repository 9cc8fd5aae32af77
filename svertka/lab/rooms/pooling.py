"""Room 2: all kinds of pooling side by side on one input, with their gradients and what a shift does to them."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from svertka import arguments, spec
from svertka import functional as F
from svertka.explain.explanation import explain
from svertka.explain.matrix import derivative
from svertka.lab.api import Answered, Asked, Endpoint, LabError
from svertka.lab.rooms.asking import Mode, Pads, Smalls, Text, check_sizes, numbers, per_axis, planes, tensor
from svertka.lab.rooms.stage import Stage, staged
from svertka.lab.work import Check

Kind = Literal["max", "average", "weighted", "norm", "stochastic", "kmax", "dynamic"]
Shift = Annotated[int, Field(ge=-16, le=16)]
Count = Annotated[int, Field(ge=1, le=32)]


class PoolingAsked(Asked):
    """Poolings of one input.

    Args:
        input: a signal "1 2 3" or a matrix "1 2; 3 4", its channels between bars.
        size: of the window, for each axis.
        stride, padding, mode: of the window; a stride of None is the size.
        outputs: pool to this output size instead (maximum, average and norm only).
        weights: of the weighted average, as many as the window has taps; None for a pyramid.
        p: order of the norm; None for infinity.
        seed: draw from the stochastic pooling's windows; None for its evaluation.
        k: of the k largest (signals only).
        segments: of dynamic pooling (signals only).
        shift: by how many places the input is moved along each axis before; zeros move in.
    """

    input: Text
    size: Smalls = Field([2])
    stride: Smalls | None = None
    padding: Pads = Field([(0, 0)])
    mode: Mode = "zeros"
    outputs: Smalls | None = None
    weights: Text | None = None
    p: Annotated[float, Field(gt=0, le=100)] | None = 2.0
    seed: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    k: Count = 3
    segments: Count = 3
    shift: Annotated[list[Shift], Field(min_length=1, max_length=2)] = Field([0])


class Pooled(Answered):
    """One kind of pooling.

    Args:
        kind: which.
        stage: what is drawn.
        slopes: of each term: how fast the output grows with it.
        gradient: with respect to each input, of the sum of all outputs.
        before: the output values without the shift.
        kept: how many of them the shift left as they were.
    """

    kind: Kind
    stage: Stage
    slopes: list[float | None]
    gradient: list[float | None]
    before: list[float | None]
    kept: int


class PoolingAnswer(Answered):
    """All kinds.

    Args:
        input: the numbers that were read and moved, [channels, rows, columns].
        weights: of the weighted average, [1, rows, columns].
        kept: how many numbers of the input itself the shift left as they were.
        count: numbers of the input.
        pooled: kind by kind; those that take no such windows are left out.
    """

    input: list[list[list[float]]]
    weights: list[list[list[float]]]
    kept: int
    count: int
    pooled: list[Pooled]


def pool(asked: PoolingAsked, check: Check) -> PoolingAnswer:
    """All kinds of pooling on one input, with gradients, and what a shift changes."""
    still = numbers(asked.input, "the input")
    ndim = still.ndim - 1
    x = _moved(still, per_axis(asked.shift, ndim))
    size = per_axis(asked.size, ndim)
    weights = _weights(asked, size)
    pooled = []
    for kind in _kinds(asked, ndim, x.shape[-1]):
        check()
        operation = _operation(kind, asked, ndim)
        check_sizes(operation, x.shape[1:])
        pooled.append(_pooled(kind, operation, still, x, weights, asked.seed, check))
    return PoolingAnswer(
        input=planes(x, ndim), weights=planes(weights, ndim), kept=int((x == still).sum()), count=x.size, pooled=pooled
    )


def _kinds(asked: PoolingAsked, ndim: int, length: int) -> list[Kind]:
    if asked.outputs is not None:
        return ["max", "average", "norm"]
    kinds: list[Kind] = ["max", "average", "weighted", "norm", "stochastic"]
    if ndim == 1:
        kinds += ["kmax"] if asked.k <= length else []
        kinds += ["dynamic"] if asked.segments <= length else []
    return kinds


def _operation(kind: Kind, asked: PoolingAsked, ndim: int) -> spec.Operation[Any]:
    if kind == "kmax":
        return arguments.k_max_spec(asked.k)
    if kind == "dynamic":
        return arguments.segments_spec(spec.MaxPool, asked.segments)
    details: dict[Kind, tuple[type[spec.Operation[Any]], tuple[Any, ...]]] = {
        "max": (spec.MaxPool, ()),
        "average": (spec.AveragePool, ()),
        "weighted": (spec.WeightedPool, ()),
        "norm": (spec.LpPool, (math.inf if asked.p is None else asked.p,)),
        "stochastic": (spec.StochasticPool, (False,)),
    }
    pooling, more = details[kind]
    if asked.outputs is not None:
        return arguments.adaptive_spec(pooling, ndim, per_axis(asked.outputs, ndim), *more)
    size = per_axis(asked.size, ndim)
    stride = size if asked.stride is None else per_axis(asked.stride, ndim)
    return arguments.pool_spec(
        pooling, ndim, size, stride, per_axis(asked.padding, ndim), 1, False, asked.mode, *more
    )  # fmt: skip


def _pooled(
    kind: Kind, operation: spec.Operation[Any], still: Any, x: Any, weights: Any, seed: int | None, check: Check
) -> Pooled:
    weight = weights if kind == "weighted" else None
    shown = explain(operation, x, weight)
    stage = staged(shown, check)
    slopes: list[float | None] = [
        _known(derivative(operation, step, term)) for step in shown.steps for term in step.terms
    ]
    run = _sampling(operation, seed) if kind == "stochastic" and seed is not None else _running(operation, weight)
    values = tensor(x).requires_grad_()
    output = run(values)
    if kind == "stochastic" and seed is not None:
        stage, slopes = _drawn(stage, values, output)
    (gradient,) = torch.autograd.grad(output.sum(), values)
    before = run(tensor(still)).ravel()
    return Pooled(
        kind=kind,
        stage=stage,
        slopes=slopes,
        gradient=[_known(v) for v in gradient.ravel().tolist()],
        before=[_known(v) for v in before.tolist()],
        kept=int((before == output.detach().ravel()).sum()),
    )


def _running(operation: spec.Operation[Any], weight: Any) -> Any:
    """The library's own layer: [C, *size] → [C, *output size]."""
    if weight is None:
        return lambda x: F.run(operation, x)
    given = tensor(weight)[None]
    return lambda x: F.run(operation, x, given)


def _sampling(operation: spec.Operation[Any], seed: int) -> Any:
    training = spec.StochasticPool(operation.windows, True)
    return lambda x: F.run(training, x, generator=torch.Generator().manual_seed(seed))


def _drawn(stage: Stage, x: Tensor, output: Tensor) -> tuple[Stage, list[float | None]]:
    """The stage of a draw: its values, and the term that was drawn in each window, which gets the whole gradient."""
    starts, cells = stage.terms.starts, stage.terms.cells
    chosen, slopes = [0] * len(cells), [0.0] * len(cells)
    for number, value in enumerate(output.ravel()):
        (gradient,) = torch.autograd.grad(value, x, retain_graph=True)
        flat = gradient.ravel()
        for term in range(starts[number], starts[number + 1]):
            source = stage.drawn.sources[cells[term]]
            if source >= 0 and flat[source]:
                chosen[term], slopes[term] = 1, 1.0
                break
    values = [_known(v) for v in output.detach().ravel().tolist()]
    drawn = stage.model_copy(
        update={
            "output": stage.output.model_copy(update={"values": values}),
            "terms": stage.terms.model_copy(update={"chosen": chosen}),
        }
    )
    return drawn, list(slopes)


def _moved(x: Any, shift: tuple[int, ...]) -> Any:
    """Moved along each axis; zeros stand where nothing came."""
    axes = tuple(range(1, x.ndim))
    moved = np.roll(x, shift, axes)
    for axis, by in zip(axes, shift, strict=True):
        index = np.arange(x.shape[axis])
        came = (index - by >= 0) & (index - by < x.shape[axis])
        moved = moved * came.reshape([-1 if a == axis else 1 for a in range(x.ndim)])
    return moved


def _weights(asked: PoolingAsked, size: tuple[int, ...]) -> Any:
    """float64 [*size], as they were given or a pyramid: 1 2 1, its product along the axes; 1 2 for two."""
    if asked.weights is not None:
        given = numbers(asked.weights, "the weights")[0]
        if given.shape == size:
            if given.min() < 0 or given.sum() <= 0:
                raise LabError("pool-weights", "the weights of an average must not be negative, and not all 0")
            return given
    pyramid = np.ones(())
    for n in size:
        line = np.arange(1.0, 3.0) if n == 2 else np.minimum(np.arange(n), np.arange(n)[::-1]) + 1.0
        pyramid = np.multiply.outer(pyramid, line)
    return pyramid


def _known(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


ENDPOINTS = (Endpoint("/api/pooling", PoolingAsked, PoolingAnswer, pool),)
