"""One number inside a network: the sum that it is, and what it may depend on in each layer before it."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from svertka import spec
from svertka.errors import GeometryError
from svertka.explain.explanation import explain
from svertka.explain.fields import of_call
from svertka.explain.operations import Bound, bound, operation_of
from svertka.explain.steps import Term
from svertka.explain.tracing import Call, Start, trace
from svertka.inspect.recording import Layer, layers, private, record
from svertka.inspect.weights import Filters
from svertka.lab.api import Answered
from svertka.lab.work import Check

MAX_PLANES = 8
Place = tuple[int, ...]


class Plane(Answered):
    """What one input channel adds, tap by tap in row-major order; null where a tap reads nothing.

    Args:
        channel: of the input.
        total: of its products.
        rows, columns: of the window.
        inputs: what is read.
        weights: what it is multiplied by; all null in a maximum.
        products: what is added up; all null in a maximum.
        padding: 1 where padding is read.
        chosen: 1 where the result is this very value.
    """

    channel: int
    total: float
    rows: int
    columns: int
    inputs: list[float | None]
    weights: list[float | None]
    products: list[float | None]
    padding: list[int]
    chosen: list[int]


class Number(Answered):
    """One number of a layer.

    Args:
        value: as the network computed it, in float32.
        way: "sum" of products, "choice" (a maximum), or "function" of one number (`before`) or of many (null).
        result: as its terms make it, in float64; null where there are none.
        bias: that is added.
        planes: of the input channels that add most, the largest first.
        rest: what all others add together, and how many they are.
        before: what the function was given at this very place; null where there is no such number.
    """

    value: float
    way: str
    result: float | None = None
    bias: float | None = None
    planes: list[Plane] = Field(default=[])
    rest: tuple[float, int] = (0.0, 0)
    before: float | None = None


class Seen(Answered):
    """What a number may depend on in one layer before it, or in the picture (whose title is empty).

    Args:
        title: the layer's.
        rows, columns: (first, last) of each unbroken run of places; none of a dense layer.
        channels: which; null for all of them.
        reason: why it is not known; else empty.
    """

    title: str
    rows: list[tuple[int, int]]
    columns: list[tuple[int, int]]
    channels: list[int] | None
    reason: str = ""


def number_of(model: nn.Module, x: Tensor, layer: Layer, place: Place) -> Number:
    """A number of a layer and how it comes to be.

    Args:
        model: the network.
        x: the picture, [channels, height, width], normalised.
        layer: in which.
        place: (channel, row, column), or (unit,).
    """
    own = private(model)
    module = dict(own.named_modules()).get(layer.name)
    inputs: list[Tensor] = []
    hook = None
    if module is not None:
        hook = module.register_forward_pre_hook(lambda _, given: inputs.append(given[0].detach()[0].clone()))
    with torch.no_grad():
        output = record(own, x[None], [layer], lambda _, output: output[0].float().clone())[layer]
    if hook is not None:
        hook.remove()
    value, given = float(output[place]), inputs[layer.number] if len(inputs) > layer.number else None
    if given is None or module is None:
        return Number(value=value, way="function")
    if isinstance(module, nn.Linear) and given.ndim == 1:
        return _of_linear(module, given, place[0], value)
    if operation_of(module) is not None and given.ndim == len(layer.output):
        return _of_windows(bound(module), given.double().numpy(), place, value)
    before = float(given[place]) if given.shape == output.shape and layer.role in ("nonlinearity", "norm") else None
    return Number(value=value, way="function", before=before)


def _of_linear(module: nn.Linear, given: Tensor, unit: int, value: float) -> Number:
    """A dense layer is a convolution whose one window is the whole input: 1 × 1 on maps of one place."""
    weight = module.weight[unit : unit + 1, :, None, None].detach()
    bias = None if module.bias is None else module.bias[unit : unit + 1].detach()
    operation = spec.Convolution(spec.windows(2, 1))
    return _told(explain(operation, given[:, None, None], weight, bias).at(0, 0, 0), 0, (1, 1), value)


def _of_windows(operation: Bound, given: Any, place: Place, value: float) -> Number:
    """Only the channels that the number comes from are computed: the others would take long in a wide layer."""
    channel, first, what = place[0], 0, operation.operation
    if isinstance(what, spec.Convolution) and operation.weight is not None:
        share, per = operation.weight.shape[1], len(operation.weight) // what.groups
        first = channel // per * share
        given = given[first : first + share]
        operation = Bound(
            replace(what, groups=1),
            operation.weight[channel : channel + 1],
            None if operation.bias is None else operation.bias[channel : channel + 1],
            operation.title,
        )
        place = (0, *place[1:])
    elif isinstance(what, (spec.MaxPool, spec.AveragePool)):
        given, first, place = given[channel : channel + 1], channel, (0, *place[1:])
    shown = explain(operation.operation, given, operation.weight, operation.bias)
    step = shown.at(*place)
    taps = np.array([term.tap for term in step.terms])
    return _told(step, first, tuple((taps.max(axis=0) + 1).tolist()), value)


def _told(step: Any, first: int, size: Sequence[int], value: float) -> Number:
    rows, columns = (1, size[0]) if len(size) == 1 else (size[-2], size[-1])
    channels: dict[int, list[Term]] = {}
    for term in step.terms:
        channels.setdefault(term.channel, []).append(term)
    planes = [_plane(first + channel, terms, rows, columns) for channel, terms in channels.items()]
    planes.sort(key=lambda plane: -abs(plane.total))
    shown, others = planes[:MAX_PLANES], planes[MAX_PLANES:]
    choice = any(term.chosen for term in step.terms)
    return Number(
        value=value, way="choice" if choice else "sum", result=float(step.result), bias=step.bias, planes=shown,
        rest=(float(sum(plane.total for plane in others)), len(others)),
    )  # fmt: skip


def _plane(channel: int, terms: Sequence[Term], rows: int, columns: int) -> Plane:
    count = rows * columns
    told: dict[str, list[Any]] = {name: [None] * count for name in ("inputs", "weights", "products")}
    told |= {name: [0] * count for name in ("padding", "chosen")}
    for term in terms:
        at = term.tap[-1] + (term.tap[-2] * columns if len(term.tap) > 1 else 0)
        told["inputs"][at], told["weights"][at], told["products"][at] = term.value, term.weight, term.product
        told["padding"][at], told["chosen"][at] = int(term.on_padding), int(term.chosen)
    total = sum(term.product or 0.0 for term in terms)
    return Plane(channel=channel, total=total, rows=rows, columns=columns, **told)


def seen_by(model: nn.Module, size: Place, layer: Layer, place: Place, check: Check) -> list[Seen]:
    """What a number may depend on in the picture and in each layer before its own, in the order of the calls.

    Args:
        model: the network.
        size: (channels, height, width) of the picture.
        layer: in which the number is.
        place: (channel, row, column), or (unit,).
        check: called between layers, to stop.
    """
    found = _layers(model, size)
    last = found.index(layer)
    told = [_seen(_calls(model, size, None), size, "", layer, place, None)]
    for number, one in enumerate(found[:last]):
        check()
        if one.role == "same":
            continue
        calls = _calls(model, size, (one.name, one.number))
        if any(call.field is not None and (call.name, call.number) == (layer.name, layer.number) for call in calls):
            channels = _channels(model, found[number + 1 : last + 1], calls, one, place[0])
            told.append(_seen(calls, one.output, one.title, layer, place, channels))
    return told


def _seen(
    calls: Sequence[Call], size: Place, title: str, layer: Layer, place: Place, channels: list[int] | None
) -> Seen:
    call = next(call for call in calls if (call.name, call.number) == (layer.name, layer.number))
    if len(size) == 1:
        return Seen(title=title, rows=[], columns=[], channels=channels)
    try:
        runs = of_call(call, size, place).intervals
    except GeometryError as error:
        return Seen(title=title, rows=[], columns=[], channels=channels, reason=str(error))
    return Seen(title=title, rows=list(runs[0]), columns=list(runs[-1]), channels=channels)


def _channels(
    model: nn.Module, after: Sequence[Layer], calls: Sequence[Call], start: Layer, channel: int
) -> list[int] | None:
    """The channels of `start` that a channel of the last layer may depend on; None for all.

    It goes back through the calls that depend on `start`; where branches meet, all of them are gone through.
    """
    modules = dict(model.named_modules())
    dependent = {(call.name, call.number) for call in calls if call.field is not None}
    chosen = {channel}
    for layer in reversed([one for one in after if (one.name, one.number) in dependent]):
        module = modules.get(layer.name)
        operation = None if module is None else operation_of(module)
        if isinstance(operation, spec.Convolution) and module is not None:
            weight = module.weight.detach()
            bank = Filters(layer.name, weight.numpy(), operation.groups, False)
            chosen = {source for output in chosen for source in bank.inputs_of(output)}
        elif not _by_channel(layer, module, operation):
            return None
    return None if len(chosen) >= start.output[0] else sorted(chosen)


def _by_channel(layer: Layer, module: nn.Module | None, operation: spec.Operation[Any] | None) -> bool:
    """Whether channel c of the result depends on channel c of the input alone."""
    if operation is not None:
        return layer.role == "pool"
    batch_norm = isinstance(module, nn.modules.batchnorm._BatchNorm)
    return layer.role == "nonlinearity" or batch_norm or "dropout" in layer.kind.lower()


@functools.lru_cache(maxsize=32)
def _layers(model: nn.Module, size: Place) -> tuple[Layer, ...]:
    return layers(model, size)


@functools.lru_cache(maxsize=1024)
def _calls(model: nn.Module, size: Place, start: Start | None) -> tuple[Call, ...]:
    return trace(model, size, exact=True, start=start).calls
