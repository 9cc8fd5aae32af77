"""Specs of every kind, drawn at random, by the kernels, against the reference."""

import math
import re

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from comparing import KINDS, assert_near, assert_norms_near, assert_sums_near, numbers
from engine.bounds import winograd_bound
from fuzz.amount import drawn
from geometries import SEEDS, geometries
from hypothesis import assume, given

import svertka
from svertka import functional, reference, spec
from svertka.engine.layout import CHANNELS_LAST
from svertka.errors import GeometryError
from svertka.window import Segments

EPS = float(torch.finfo(torch.float32).eps)
MOST = 60_000  # terms of an operation
CHANNELS = st.sampled_from((1, 1, 2, 3, 5, 8, 16, 33))
LAYOUTS = ("contiguous", "channels last", "gaps")
SUMS = ("convolution", "block", "transposed", "unshared", "average", "weighted")
OTHERS = ("max", "norm", "stochastic", "k-max", "adaptive", "segments", "pad", "batch norm")


def laid(x, layout):
    """x with other strides."""
    if layout == "channels last" and x.ndim in CHANNELS_LAST:
        return x.contiguous(memory_format=CHANNELS_LAST[x.ndim])
    return torch.stack([x, x], -1)[..., 0] if layout == "gaps" else x


def pooled(draw, geometry):
    """A pooling over windows, by its kind."""
    windows = geometry.windows
    return {
        "max": lambda: spec.MaxPool(windows),
        "average": lambda: spec.AveragePool(windows, draw(st.booleans()), draw(st.sampled_from((None, 3.0)))),
        "norm": lambda: spec.LpPool(windows, draw(st.sampled_from((1.0, 2.0, 3.0, math.inf)))),
        "weighted": lambda: spec.WeightedPool(windows, draw(st.booleans())),
        "stochastic": lambda: spec.StochasticPool(windows, sample=False),
    }


def whole_axes(draw, kind):
    """(operation, size) of what sees whole axes."""
    ndim = draw(st.integers(1, 3)) if kind == "adaptive" else 1
    size = tuple(draw(st.integers(1, 9)) for _ in range(ndim))
    if kind == "k-max":
        return spec.KMaxPool((Segments(1),), draw(st.integers(1, size[0]))), size
    if kind == "segments":
        return spec.SegmentPool((Segments(1),), draw(st.sampled_from(("max", "average")))), size
    windows = tuple(Segments(draw(st.integers(1, 5)), draw(st.booleans())) for _ in size)
    return draw(st.sampled_from((spec.MaxPool, spec.AveragePool)))(windows), size


def summed(draw, kind, geometry):
    """(operation, channels, shape of the weight, outputs) of a sum over channels."""
    groups, inner, outer = draw(st.integers(1, 3)), draw(CHANNELS), draw(CHANNELS)
    taps = geometry.kernel_size
    if kind == "transposed":
        windows = spec.transposed_windows(
            geometry.ndim, taps, geometry.stride, geometry.padding, dilation=geometry.dilation
        )
        return spec.TransposedConvolution(windows, groups), groups * inner, (groups * inner, outer, *taps)
    if kind == "block":
        pool = spec.windows(geometry.ndim, 2, 2) if draw(st.booleans()) else ()
        operation = spec.ConvolutionBlock(geometry.windows, groups, spec.Activation("relu"), pool)
    else:
        operation = (spec.Convolution if kind == "convolution" else spec.Unshared)(geometry.windows, groups)
    return operation, groups * inner, (groups * outer, inner, *taps)


@st.composite
def cases(draw, kinds):
    """(kind, operation, x, the other tensors)."""
    kind, seed = draw(st.sampled_from(kinds)), draw(SEEDS)
    values = draw(st.sampled_from(KINDS))
    shape_of_weight, tensors = None, []
    if kind in ("k-max", "adaptive", "segments"):
        (operation, size), channels = whole_axes(draw, kind), draw(CHANNELS)
    else:
        plain = kind == "transposed"
        modes = {"modes": ("zeros",)} if plain else {}
        geometry = draw(geometries(numeric=plain, ceil=kind in ("max", "average", "norm"), **modes))
        size, channels = geometry.size, draw(CHANNELS)
        if kind in ("convolution", "block", "transposed", "unshared"):
            operation, channels, shape_of_weight = summed(draw, kind, geometry)
        elif kind == "pad":
            sides = [draw(st.integers(-1, 4)) for _ in range(2 * geometry.ndim)]
            operation = spec.Pad(
                spec.pad_windows(geometry.ndim, sides, geometry.mode), draw(st.sampled_from((0.0, 2.5)))
            )
        elif kind == "batch norm":
            operation = spec.BatchNorm((svertka.Window(1),) * geometry.ndim)
        else:
            operation = pooled(draw, geometry)[kind]()
    try:
        outputs = operation.output_size(size)
    except GeometryError:
        assume(False)
    assume(all(n > 0 for n in outputs))
    if shape_of_weight:
        places = operation.convolution.output_size(size) if kind == "block" else outputs
        assume(math.prod(places) * math.prod(shape_of_weight) <= MOST)
        out = shape_of_weight[1] * operation.groups if kind == "transposed" else shape_of_weight[0]
        weight = numbers((*(outputs if kind == "unshared" else ()), *shape_of_weight), seed + 1, torch.float32)
        bias = numbers((*(outputs if kind == "unshared" else ()), out), seed + 2, torch.float32)
        tensors = [weight, bias if draw(st.booleans()) else None]
    shape = (draw(st.integers(1, 3)), channels, *size)
    if kind == "weighted":
        taps = tuple(window.size for window in operation.windows)
        tensors = [numbers((draw(st.sampled_from((1, channels))), *taps), seed + 1, torch.float32).abs() + 0.1]
    if kind == "segments":
        cuts = draw(st.lists(st.integers(0, size[0]), min_size=1, max_size=3))
        tensors = [torch.tensor([sorted(cuts)] * shape[0])]
    if kind == "batch norm":
        assume(shape[0] * math.prod(size) > 1)  # one number for each channel has no variance, and is refused
        values = "normal"
        tensors = [numbers((channels,), seed + i, torch.float32) for i in (1, 2)]
    x = laid(numbers(shape, seed, torch.float32, values), draw(st.sampled_from(LAYOUTS)))
    return kind, operation, x, tensors


def by_kernels(operation, x, tensors):
    """(the result, the kernels' detail)."""
    svertka.report(reset=True)
    with torch.no_grad(), svertka.using("kernels"):
        try:
            y = functional.run(operation, x, *tensors)
        except svertka.SvertkaError as error:
            assume(
                "of at most 4 places that don't overlap" not in str(error)
            )  # the one thing that blocks leave to torch
            raise
    calls = list(svertka.report(reset=True))
    assert [call.path for call in calls] == ["kernel"], calls
    return y[0] if isinstance(y, tuple) else y, calls[0].detail


def block(operation, x, weight, bias):
    y = reference.conv(x, weight, bias, operation.windows, operation.groups)
    y = np.where(np.isnan(y), y, np.maximum(y, 0))
    return reference.max_pool(y, operation.pool)[0] if operation.pool else y


@drawn(300, 0.6)
@given(cases(SUMS))
def test_sums(case):
    kind, operation, x, tensors = case
    y, detail = by_kernels(operation, x, tensors)
    if kind == "block":
        terms = math.prod(tensors[0].shape[1:]) + 3
        sums = spec.Convolution(operation.windows, operation.groups)
        magnitude = reference.run(sums, abs(x), *(None if t is None else abs(t) for t in tensors))
        tolerance = terms * EPS * np.nan_to_num(magnitude, posinf=0.0, nan=0.0)
        if "winograd" in detail:
            assume(bool(torch.isfinite(x).all()))
            tolerance = tolerance + of_winograd(sums, x, tensors[0], detail)
        if operation.pool:
            tolerance = reference.max_pool(tolerance, operation.pool)[0]
        assert_near(y, block(operation, x, *tensors), tolerance)
    elif "winograd" in detail:
        assume(bool(torch.isfinite(x).all()))
        magnitude = reference.run(operation, abs(x), *(None if t is None else abs(t) for t in tensors))
        tolerance = of_winograd(operation, x, tensors[0], detail) + 4 * EPS * magnitude
        assert_near(y, reference.run(operation, x, *tensors), tolerance)
    else:
        taps = tensors[0][0].numel() if tensors else math.prod(window.size for window in operation.windows)
        roundings = 2 * taps + 4 if kind == "weighted" else taps * (len(x[0]) if kind == "transposed" else 1) + 4
        if kind == "unshared":
            roundings = math.prod(tensors[0].shape[operation.ndim + 1 :]) + 4
        assert_sums_near(y, lambda *given: reference.run(operation, *given), x, *tensors, roundings=roundings)


def of_winograd(operation, x, weight, detail):
    tile = tuple(map(int, re.search(r"F\(([\d×]+),", detail)[1].split("×")))
    return winograd_bound(operation, x.numpy(), weight.numpy(), tile)


@drawn(200, 0.4)
@given(cases(OTHERS))
def test_what_is_no_sum(case):
    kind, operation, x, tensors = case
    y, _ = by_kernels(operation, x, tensors)
    if kind == "segments":
        expected = reference.dynamic_pool(x, tensors[0], operation.kind)
        largest = float(abs(x[torch.isfinite(x)]).max()) if torch.isfinite(x).any() else 0.0
        assert_near(y, expected, 0.0 if operation.kind == "max" else x.shape[-1] * EPS * largest)
        return
    if kind == "batch norm":
        assert_near(y, reference.run(operation, x, *tensors), norm_tolerance(operation, x, *tensors))
        return
    expected = reference.run(operation, x, *tensors)
    if kind == "norm":
        assert_norms_near(y, expected, math.prod(window.size for window in operation.windows), operation.p)
    elif kind == "stochastic":
        taps = math.prod(window.size for window in operation.windows)
        assert_near(y, expected, (3 * taps + 8) * EPS * np.nan_to_num(abs(expected), posinf=0, nan=0))
    elif isinstance(operation, spec.AveragePool):
        assert_sums_near(y, lambda x: reference.run(operation, x), x, roundings=x[0, 0].numel() + 4)
    else:
        assert_near(y, expected)


def norm_tolerance(operation, x, weight, bias):
    """The roundings of the moments' sums and of the formula, times the magnitudes of what is added."""
    values = x.double().numpy()
    axes, line = (0, *range(2, x.ndim)), (-1, *(1 for _ in x.shape[2:]))
    scale, shift = (abs(t.double().numpy()).reshape(line) for t in (weight, bias))
    deviation = np.sqrt(values.var(axes, keepdims=True) + operation.eps)
    centre = abs(values).mean(axes, keepdims=True)
    spread = (abs(values) + centre) / deviation
    return (values.size // x.shape[1] + 16) * EPS * ((spread + spread * (centre / deviation) ** 2) * scale + shift)


def test_wrong_results_would_be_seen(monkeypatch):
    """One number of a result, off by a thousandth of the largest."""
    run = functional.run

    def wrong(operation, x, *tensors):
        y = run(operation, x, *tensors)
        y[0] if isinstance(y, tuple) else y.view(-1)[-1].add_(1e-3 * float(y.abs().max() + 1))
        return y

    monkeypatch.setattr(functional, "run", wrong)
    x, weight = torch.randn(2, 6, 7, 8), torch.randn(4, 6, 3, 3)
    window = spec.windows(2, 3, 2, 1)
    for test, case in (
        (test_sums, ("convolution", spec.Convolution(window), x, [weight, None])),
        (test_sums, ("average", spec.AveragePool(window), x, [])),
        (test_what_is_no_sum, ("norm", spec.LpPool(window, 2.0), x, [])),
        (test_what_is_no_sum, ("stochastic", spec.StochasticPool(window, False), x, [])),
    ):
        with pytest.raises(AssertionError, match="differ"):
            test.hypothesis.inner_test(case)
