"""Every operation against its float64 definition, on windows drawn at random."""

import math
from functools import partial

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from comparing import KINDS, assert_near, assert_norms_near, assert_sums_near, numbers
from geometries import SEEDS, Geometry, drawn, geometries
from hypothesis import assume, given

from svertka import functional as F
from svertka import reference, spec
from svertka.errors import GeometryError

CONV = (F.conv1d, F.conv2d, F.conv3d)
CONV_TRANSPOSE = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)
LOCALLY_CONNECTED = (F.locally_connected1d, F.locally_connected2d, F.locally_connected3d)
MAX = (F.max_pool1d, F.max_pool2d, F.max_pool3d)
AVERAGE = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)
LP = (F.lp_pool1d, F.lp_pool2d, F.lp_pool3d)
WEIGHTED = (F.weighted_avg_pool1d, F.weighted_avg_pool2d, F.weighted_avg_pool3d)
STOCHASTIC = (F.stochastic_pool1d, F.stochastic_pool2d, F.stochastic_pool3d)
ADAPTIVE_MAX = (F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d)
ADAPTIVE_AVERAGE = (F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d)
ADAPTIVE_LP = (F.adaptive_lp_pool1d, F.adaptive_lp_pool2d, F.adaptive_lp_pool3d)
PAD = (F.pad1d, F.pad2d, F.pad3d)

ORDERS = st.sampled_from((0.5, 1, 2, 3.3, math.inf))
dtypes = st.sampled_from((torch.float64, torch.float32))
kinds = st.sampled_from(KINDS)
few = st.integers(1, 2)


@st.composite
def inputs(draw: st.DrawFn, size: tuple[int, ...], channels: int | None = None) -> torch.Tensor:
    """[N, C, *size] of either dtype and every kind of numbers."""
    shape = (draw(few), channels or draw(few), *size)
    return numbers(shape, draw(SEEDS), draw(dtypes), draw(kinds))


def fits(windows, size: tuple[int, ...]) -> bool:
    try:
        return all(window.output_size(n) for window, n in zip(windows, size, strict=True))
    except GeometryError:
        return False


def output_size(geometry: Geometry) -> tuple[int, ...]:
    return tuple(window.output_size(n) for window, n in zip(geometry.windows, geometry.size, strict=True))


@drawn
@given(geometries(), few, few, few, st.booleans(), st.data())
def test_convolution(geometry, groups, inner, outer, biased, data) -> None:
    x = data.draw(inputs(geometry.size, groups * inner))
    weight = numbers((groups * outer, inner, *geometry.kernel_size), 1, x.dtype)
    bias = numbers((groups * outer,), 2, x.dtype) if biased else None
    found = CONV[geometry.ndim - 1](
        x, weight, bias, geometry.stride, geometry.padding, geometry.dilation, groups, padding_mode=geometry.mode
    )
    definition = partial(reference.conv, windows=geometry.windows, groups=groups)
    assert_sums_near(found, definition, x, weight, bias, roundings=geometry.taps * inner + 2)


@drawn
@given(geometries(modes=("zeros",), numeric=True), few, few, few, st.booleans(), st.data())
def test_transposed_convolution(geometry, groups, inner, outer, biased, data) -> None:
    limits = [max(s, d) - 1 for s, d in zip(geometry.stride, geometry.dilation, strict=True)]
    extra = tuple(data.draw(st.integers(0, limit)) for limit in limits)
    windows = spec.transposed_windows(
        geometry.ndim, geometry.kernel_size, geometry.stride, geometry.padding, extra, geometry.dilation
    )
    assume(fits(windows, geometry.size))
    x = data.draw(inputs(geometry.size, groups * inner))
    weight = numbers((groups * inner, outer, *geometry.kernel_size), 1, x.dtype)
    bias = numbers((groups * outer,), 2, x.dtype) if biased else None
    found = CONV_TRANSPOSE[geometry.ndim - 1](
        x, weight, bias, geometry.stride, geometry.padding, extra, groups, geometry.dilation
    )
    definition = partial(reference.conv_transpose, windows=windows, groups=groups)
    assert_sums_near(found, definition, x, weight, bias, roundings=geometry.taps * inner + 2)


@drawn
@given(geometries(), few, few, few, st.booleans(), st.data())
def test_locally_connected(geometry, groups, inner, outer, biased, data) -> None:
    x = data.draw(inputs(geometry.size, groups * inner))
    weight = numbers((*output_size(geometry), groups * outer, inner, *geometry.kernel_size), 1, x.dtype)
    bias = numbers((*output_size(geometry), groups * outer), 2, x.dtype) if biased else None
    found = LOCALLY_CONNECTED[geometry.ndim - 1](
        x, weight, bias, geometry.stride, geometry.padding, geometry.dilation, groups, padding_mode=geometry.mode
    )
    definition = partial(reference.locally_connected, windows=geometry.windows, groups=groups)
    assert_sums_near(found, definition, x, weight, bias, roundings=geometry.taps * inner + 2)


@drawn
@given(geometries(ceil=True), st.data())
def test_max_pool(geometry, data) -> None:
    x = data.draw(inputs(geometry.size))
    arguments = geometry.kernel_size, geometry.stride, geometry.padding, geometry.dilation, geometry.ceil_mode
    found, places = MAX[geometry.ndim - 1](x, *arguments, return_indices=True, padding_mode=geometry.mode)
    assert_places(x, found, places, geometry.windows)
    assert_near(MAX[geometry.ndim - 1](x, *arguments, padding_mode=geometry.mode), found)


def assert_places(x, found, places, windows) -> None:
    values, expected = reference.max_pool(x, windows)
    assert_near(found, values)
    several_nan = torch.isnan(found)  # torch's own pooling takes the last NaN of a window, the definition the first
    assert_near(places.masked_fill(several_nan, 0), np.where(several_nan, 0, expected))
    flat = x.flatten(2)
    read = flat.gather(2, places.flatten(2).clamp(min=0)).view_as(found)
    assert torch.equal(read.isnan() & (places >= 0), several_nan)


@drawn
@given(geometries(ceil=True), st.booleans(), st.none() | st.sampled_from((1, 3, 2.5)), st.data())
def test_average_pool(geometry, count_include_pad, divisor, data) -> None:
    x = data.draw(inputs(geometry.size))
    found = AVERAGE[geometry.ndim - 1](
        x, geometry.kernel_size, geometry.stride, geometry.padding, geometry.ceil_mode, count_include_pad, divisor,
        dilation=geometry.dilation, padding_mode=geometry.mode,
    )  # fmt: skip
    definition = partial(
        reference.avg_pool, windows=geometry.windows, count_include_pad=count_include_pad, divisor=divisor
    )
    assert_sums_near(found, definition, x, roundings=geometry.taps + 3)


@drawn
@given(geometries(ceil=True), ORDERS, st.data())
def test_lp_pool(geometry, p, data) -> None:
    x = data.draw(inputs(geometry.size))
    found = LP[geometry.ndim - 1](
        x, p, geometry.kernel_size, geometry.stride, geometry.ceil_mode,
        padding=geometry.padding, dilation=geometry.dilation, padding_mode=geometry.mode,
    )  # fmt: skip
    assert_norms_near(found, reference.lp_pool(x, geometry.windows, p), geometry.taps, p)


@drawn
@given(geometries(), st.booleans(), st.booleans(), st.data())
def test_weighted_average_pool(geometry, own, count_include_pad, data) -> None:
    x = data.draw(inputs(geometry.size))
    weight = numbers((x.shape[1] if own else 1, *geometry.kernel_size), 1, x.dtype).abs() + 0.01
    found = WEIGHTED[geometry.ndim - 1](
        x, weight, geometry.stride, geometry.padding, count_include_pad,
        dilation=geometry.dilation, padding_mode=geometry.mode,
    )  # fmt: skip
    definition = partial(reference.weighted_avg_pool, windows=geometry.windows, count_include_pad=count_include_pad)
    assert_sums_near(found, definition, x, weight, roundings=2 * geometry.taps + 4)


@drawn
@given(geometries(ceil=True), st.data())
def test_stochastic_pool_in_evaluation(geometry, data) -> None:
    x = data.draw(inputs(geometry.size))
    found = stochastic(geometry, x, training=False)
    assert_norms_near(found, reference.stochastic_pool(x, geometry.windows), 2 * geometry.taps, 1)


@drawn
@given(geometries(ceil=True), SEEDS, kinds, SEEDS)
def test_stochastic_pool_in_training(geometry, seed, kind, draws) -> None:
    x = numbers((2, 2, *geometry.size), seed, torch.float64, kind)
    found = stochastic(geometry, x, training=True, generator=torch.Generator().manual_seed(draws))
    draw = torch.rand(found.shape, generator=torch.Generator().manual_seed(draws), dtype=torch.float64)
    assert_near(found, reference.stochastic_pool(x, geometry.windows, draw))


def stochastic(geometry, x, training, generator=None) -> torch.Tensor:
    return STOCHASTIC[geometry.ndim - 1](
        x, geometry.kernel_size, geometry.stride, geometry.padding, training, dilation=geometry.dilation,
        ceil_mode=geometry.ceil_mode, padding_mode=geometry.mode, generator=generator,
    )  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_stochastic_pool_draws_in_proportion_to_the_values(dtype) -> None:
    values = torch.tensor([1.0, -3.0, 4.0, 0.0, 2.0, 3.0], dtype=dtype)
    samples = 50_000
    x = values.expand(samples, 1, 6)
    drawn_values = F.stochastic_pool1d(x, 6, generator=torch.Generator().manual_seed(0)).flatten()
    for value, share in ((1, 0.1), (2, 0.2), (3, 0.3), (4, 0.4)):
        count = (drawn_values == value).sum().item()
        assert abs(count - share * samples) < 5 * math.sqrt(samples * share * (1 - share))
    assert (drawn_values > 0).all()


def test_stochastic_pool_of_half_precision_sums_in_full() -> None:
    x = torch.full((1, 1, 64), 5000.0, dtype=torch.float16)  # the sum, 320 000, is no float16
    for training in (True, False):
        assert F.stochastic_pool1d(x, 64, training=training).item() == 5000


@st.composite
def adaptive_cases(draw: st.DrawFn) -> tuple[torch.Tensor, list[int | None], tuple]:
    """Input, output size and windows; some axes keep their size, some grow."""
    ndim = draw(st.integers(1, 3))
    x = draw(inputs(tuple(draw(st.integers(1, 7 if ndim < 3 else 5)) for _ in range(ndim))))
    size = [draw(st.none() | st.integers(1, 8 if ndim < 3 else 5)) for _ in range(ndim)]
    return x, size, spec.segments(ndim, size)


@drawn
@given(adaptive_cases())
def test_adaptive_max_pool(case) -> None:
    x, size, windows = case
    found, places = ADAPTIVE_MAX[len(size) - 1](x, size, return_indices=True)
    assert_places(x, found, places, windows)
    assert_near(ADAPTIVE_MAX[len(size) - 1](x, size), found)


@drawn
@given(adaptive_cases(), ORDERS)
def test_adaptive_average_and_lp_pool(case, p) -> None:
    x, size, windows = case
    terms = math.prod(x.shape[2:])
    found = ADAPTIVE_AVERAGE[len(size) - 1](x, size)
    assert_sums_near(found, partial(reference.avg_pool, windows=windows), x, roundings=terms + 2)
    found = ADAPTIVE_LP[len(size) - 1](x, p, size)
    assert_norms_near(found, reference.lp_pool(x, windows, p), terms, p)


@drawn
@given(geometries(), st.sampled_from((0.0, -1.5, math.inf)), st.data())
def test_pad(geometry, value, data) -> None:
    x = data.draw(inputs(geometry.size))
    sides = [data.draw(st.integers(-(n // 3), 9)) for n in reversed(geometry.size) for _ in range(2)]
    found = PAD[geometry.ndim - 1](x, sides, geometry.mode, value)
    assert_near(found, reference.pad(x, spec.pad_windows(geometry.ndim, sides, geometry.mode), value))


@drawn
@given(st.data(), st.integers(1, 9))
def test_k_max_pool(data, length) -> None:
    x = data.draw(inputs((length,)))
    k = data.draw(st.integers(1, length))
    assert_near(F.k_max_pool1d(x, k), reference.k_max_pool(x, k))


@drawn
@given(st.data(), st.integers(1, 9), st.sampled_from(("max", "average")))
def test_dynamic_pool(data, length, kind) -> None:
    x = data.draw(inputs((length,)))
    cuts = st.lists(st.integers(0, length), min_size=2, max_size=2).map(sorted)
    boundaries = torch.tensor([data.draw(cuts) for _ in range(len(x))])
    definition = partial(reference.dynamic_pool, boundaries=boundaries, kind=kind)
    found = F.dynamic_pool1d(x, boundaries=boundaries, kind=kind)
    assert_sums_near(found, definition, x, roundings=length + 1 if kind == "average" else 0)
    segments = data.draw(st.integers(1, 10))
    windows = spec.segments(1, segments, overlap=False)
    found = F.dynamic_pool1d(x, segments, kind=kind)
    if kind == "max":
        assert_near(found, reference.max_pool(x, windows)[0])
    else:
        assert_sums_near(found, partial(reference.avg_pool, windows=windows), x, roundings=length + 1)


def test_unbatched_and_empty_input() -> None:
    x = numbers((2, 3, 5, 6), 0)
    weight, own = numbers((4, 3, 2, 2), 1), numbers((4, 5, 4, 3, 2, 2), 2)
    for operation in (
        lambda x: F.conv2d(x, weight, padding=((1, 0), (0, 1)), padding_mode="reflect"),
        lambda x: F.conv_transpose2d(x, weight.transpose(0, 1), padding=((1, 0), (0, 1))),
        lambda x: F.locally_connected2d(x, own),
        lambda x: F.max_pool2d(x, 2, padding=2),
        lambda x: F.max_pool2d(x, 2, padding=1, return_indices=True)[1],
        lambda x: F.avg_pool2d(x, 2, padding=3, count_include_pad=False),
        lambda x: F.lp_pool2d(x, 3, 2),
        lambda x: F.weighted_avg_pool2d(x, weight[:1, 0].abs()),
        lambda x: F.stochastic_pool2d(x, 2, training=False),
        lambda x: F.adaptive_max_pool2d(x, (2, None)),
        lambda x: F.adaptive_avg_pool2d(x, (None, 9)),
        lambda x: F.adaptive_lp_pool2d(x, 2, 2),
        lambda x: F.pad2d(x, 3, "circular"),
        lambda x: F.k_max_pool1d(x, 2),
        lambda x: F.dynamic_pool1d(x.flatten(-2), 3),
    ):
        whole = operation(x)
        assert torch.equal(operation(x[0]).nan_to_num(), whole[0].nan_to_num())
        assert operation(x[:0]).shape == (0, *whole.shape[1:])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_comparison_refuses_wrong_results(dtype) -> None:
    x, weight = numbers((1, 2, 6, 6), 0, dtype), numbers((3, 2, 3, 3), 1, dtype)
    definition = partial(reference.conv, windows=spec.windows(2, 3, padding=1), groups=1)
    right = F.conv2d(x, weight, padding=1)
    roundings = 3 * 3 * 2 + 2
    assert_sums_near(right, definition, x, weight, None, roundings=roundings)
    scaled = (1 + 100 * roundings * torch.finfo(dtype).eps) * right
    one_off, one_nan, one_infinite = right.clone(), right.clone(), right.clone()
    one_off[0, 1, 2, 3] += 100 * roundings * torch.finfo(dtype).eps * abs(x).max() * abs(weight).max()
    one_nan[0, 0, 0, 0], one_infinite[0, 0, 0, 0] = math.nan, math.inf
    wrong = {
        "another mode": F.conv2d(x, weight, padding=1, padding_mode="circular"),
        "another side": F.conv2d(x, weight, padding=((2, 0), 1)),
        "flipped": F.conv2d(x, weight.flip(2, 3), padding=1),
        "transposed": right.mT,
        "another size": right[..., 1:],
        "scaled": scaled,
        "one off": one_off,
        "one NaN": one_nan,
        "one infinite": one_infinite,
    }
    for result in wrong.values():
        with pytest.raises(AssertionError):
            assert_sums_near(result, definition, x, weight, None, roundings=roundings)


def test_comparison_of_norms_and_of_exact_results_refuses_wrong_ones() -> None:
    x = numbers((1, 1, 8), 0, torch.float32)
    windows = spec.windows(1, 2, 2)
    for p in (0.5, 1, 2, 3.3, math.inf):
        right = F.lp_pool1d(x, p, 2)
        assert_norms_near(right, reference.lp_pool(x, windows, p), 2, p)
        with pytest.raises(AssertionError):
            assert_norms_near(right * (1 + 1e-4), reference.lp_pool(x, windows, p), 2, p)
    with pytest.raises(AssertionError):  # torch's own, whose odd powers keep the sign
        assert_norms_near(torch.nn.functional.lp_pool1d(x, 3.0, 2), reference.lp_pool(x, windows, 3), 2, 3)
    with pytest.raises(AssertionError):
        assert_near(torch.tensor([1.0, -math.inf]), [1.0, math.inf])
    with pytest.raises(AssertionError):
        assert_near(torch.tensor([1.0, 2.0]), [1.0, math.nan])
    with pytest.raises(AssertionError):
        assert_near(torch.tensor([1.0]), [1.0 + 1e-7])
