"""Poolings and depthwise convolutions by the kernels, against the reference."""

import math

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from comparing import KINDS, assert_near, assert_norms_near, assert_sums_near, numbers, places_of
from geometries import SEEDS, drawn, geometries
from guarded import guarded
from hypothesis import assume, given, settings

from svertka import functional as F
from svertka import reference, spec
from svertka.engine import pools
from svertka.engine.dispatch import using
from svertka.engine.layout import CHANNELS_LAST
from svertka.engine.report import report
from svertka.errors import GeometryError
from svertka.window import MODES

CHANNELS = (1, 3, 8, 19)
FLOAT = torch.float32
few = settings(drawn, max_examples=50)


def last(x):
    return x.contiguous(memory_format=CHANNELS_LAST[x.ndim]) if x.ndim in CHANNELS_LAST else x


def prepared(operation, x, *tensors, **options):
    """The result of the channelwise kernels, in their own format."""
    prepare = pools.prepare_depthwise if isinstance(operation, spec.Convolution) else pools.prepare_pool
    runner = prepare(operation, x, *tensors, **options)
    assert not isinstance(runner, str), runner
    return runner(x, *tensors, **{name: value for name, value in options.items() if name != "taps"})


@st.composite
def cases(draw, kinds=KINDS):
    """(windows, x in channels_last) where at least one window fits and the output is small."""
    geometry = draw(geometries(ceil=True))
    try:
        outputs = math.prod(spec.MaxPool(geometry.windows).output_size(geometry.size))
    except GeometryError:
        assume(False)
    assume(outputs < 500)
    shape = (draw(st.integers(1, 2)), draw(st.sampled_from(CHANNELS)), *geometry.size)
    return geometry.windows, last(numbers(shape, draw(SEEDS), FLOAT, draw(st.sampled_from(kinds))))


def weights(windows, *leading):
    sizes = [window.size for window in windows]
    return numbers((*leading, *sizes), 1, FLOAT).abs() + 0.1


@few
@given(cases(), st.booleans())
def test_maximum(case, return_indices):
    windows, x = case
    found = prepared(spec.MaxPool(windows), x, return_indices=return_indices)
    values, places = reference.max_pool(x, windows)
    assert_near(found[0] if return_indices else found, values)
    if return_indices:
        assert found[1].dtype is torch.int64
        assert_near(found[1], places)
        y, taps = prepared(spec.MaxPool(windows), x, taps=True)
        assert_near(places_of(pools.taps_like(taps, y.shape, y.stride()), windows, x.shape[2:]), places)


@few
@given(cases(), st.booleans(), st.sampled_from((None, 3, -4.0)))
def test_average(case, count_include_pad, divisor):
    windows, x = case
    operation = spec.AveragePool(windows, count_include_pad, divisor)
    taps = math.prod(window.size for window in windows)

    def definition(x):
        return reference.run(operation, x)

    if divisor is not None and divisor < 0:
        magnitude = abs(definition(abs(x)))
        assert_near(prepared(operation, x), definition(x), (taps + 2) * np.nan_to_num(magnitude, posinf=0) * 2**-23)
    else:
        assert_sums_near(prepared(operation, x), definition, x, roundings=taps + 2)


@few
@given(cases(), st.sampled_from((0.5, 1, 2, 3, math.inf)))
def test_norm(case, p):
    windows, x = case
    taps = math.prod(window.size for window in windows)
    assert_norms_near(prepared(spec.LpPool(windows, p), x), reference.lp_pool(x, windows, p), taps, p)


@few
@given(cases(), st.booleans(), st.booleans())
def test_weighted_mean(case, count_include_pad, shared):
    windows, x = case
    weight = weights(windows, 1 if shared else x.shape[1])
    operation = spec.WeightedPool(windows, count_include_pad)
    assert_sums_near(
        prepared(operation, x, weight),
        lambda x, weight: reference.run(operation, x, weight),
        x, weight, roundings=2 * weight[0].numel() + 4,
    )  # fmt: skip


@few
@given(cases(), st.booleans())
def test_depthwise_convolution(case, biased):
    windows, x = case
    operation = spec.Convolution(windows, x.shape[1])
    weight, bias = weights(windows, x.shape[1], 1), numbers((x.shape[1],), 2, FLOAT) if biased else None
    assert_sums_near(
        prepared(operation, x, weight, bias),
        lambda *arrays: reference.run(operation, *arrays),
        x, weight, bias, roundings=weight[0].numel() + 2,
    )  # fmt: skip


@few
@given(cases())
def test_mean_weighted_by_the_values(case):
    windows, x = case
    expected = reference.stochastic_pool(x, windows)
    taps = math.prod(window.size for window in windows)
    finite = np.where(np.isfinite(expected), expected, 0)
    assert_near(prepared(spec.StochasticPool(windows, False), x), expected, (2 * taps + 6) * finite * 2**-23)


@few
@given(st.integers(1, 3), st.booleans(), st.sampled_from(CHANNELS), st.sampled_from(KINDS), SEEDS, st.data())
def test_windows_of_varying_length(ndim, overlap, channels, kind, seed, data):
    size = tuple(data.draw(st.integers(1, (11, 7, 4)[ndim - 1])) for _ in range(ndim))
    counts = tuple(data.draw(st.none() | st.integers(1, 5)) for _ in range(ndim))
    windows = spec.segments(ndim, counts, overlap)
    x = last(numbers((2, channels, *size), seed, FLOAT, kind))
    values, places = prepared(spec.MaxPool(windows), x, return_indices=True)
    expected = reference.max_pool(x, windows)
    assert_near(values, expected[0])
    assert_near(places, expected[1])
    mean = spec.AveragePool(windows)
    assert_sums_near(prepared(mean, x), lambda x: reference.run(mean, x), x, roundings=math.prod(size) + 2)


@pytest.mark.parametrize(("channels", "parts"), [(3, 8), (64, 8), (70, 4), (513, 1)])
@pytest.mark.parametrize("kind", ["normal", "nan"])
def test_large_images_are_reduced_in_parts(channels, parts, kind):
    x = last(numbers((1, channels, 47, 4096 // channels * 8), 0, FLOAT, kind))
    windows = spec.segments(2, 1)
    runner = pools.prepare_pool(spec.MaxPool(windows), x)
    assert f"{parts} parts" in runner.detail or parts == 1
    assert_near(runner(x), reference.max_pool(x, windows)[0])
    for divisor in (None, 7):
        mean = spec.AveragePool(windows, divisor=divisor)
        assert_sums_near(
            prepared(mean, x), lambda x, mean=mean: reference.run(mean, x), x, roundings=x[0, 0].numel() + 4
        )


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_window_of_one_tap_may_lie_on_the_padding(axis):
    padding = tuple((1, 2) if a == axis else (0, 0) for a in range(3))
    windows, x = spec.windows(3, 1, 1, padding), last(numbers((2, 5, 1, 2, 3), 0, FLOAT))
    assert_near(prepared(spec.MaxPool(windows), x), reference.max_pool(x, windows)[0])


def test_the_comparison_notices_a_wrong_kernel():
    x, windows = last(numbers((2, 8, 9, 9), 0, FLOAT)), spec.windows(2, 3, 2, 1)
    shifted = spec.windows(2, 3, 2, ((0, 2), (1, 1)))
    with pytest.raises(AssertionError):
        assert_near(prepared(spec.MaxPool(windows), x), reference.max_pool(x, shifted)[0])
    with pytest.raises(AssertionError):
        expected = reference.avg_pool(x, windows, False)
        assert_near(prepared(spec.AveragePool(windows), x), expected, 1e-5)


class watched_results:  # noqa: N801
    """Lets the engine write its results between guard pages."""

    def __init__(self, at_end):
        self.at_end, self.empty = at_end, pools.empty

    def __enter__(self):
        pools.empty = lambda *arguments: guarded(self.empty(*arguments), at_end=self.at_end)

    def __exit__(self, *_):
        pools.empty = self.empty


@pytest.mark.parametrize("at_end", [False, True])
@pytest.mark.parametrize("channels", [3, 19])
@pytest.mark.parametrize("mode", MODES)
def test_no_byte_outside_is_touched(mode, channels, at_end):
    def kept(tensor):
        return guarded(tensor, at_end=at_end)

    x = kept(last(numbers((2, channels, 6, 11), 0, FLOAT)))
    windows = spec.windows(2, 3, 1, 2, 1, mode)
    weight, bias = kept(weights(windows, channels, 1)), kept(numbers((channels,), 1, FLOAT))
    with watched_results(at_end):
        prepared(spec.MaxPool(windows), x, return_indices=True)
        prepared(spec.Convolution(windows, channels), x, weight, bias)
        prepared(spec.WeightedPool(windows, False), x, kept(weight[:, 0]))
        prepared(spec.StochasticPool(windows), x, generator=torch.Generator().manual_seed(0))
        prepared(spec.AveragePool(spec.segments(2, (4, 3))), x)


def test_an_epilogue_follows_the_sum():
    x, windows = last(numbers((2, 19, 6, 9), 0, FLOAT)), spec.windows(2, 3, 1, 1)
    weight = weights(windows, 19, 1)
    bias, scale = (numbers((19,), seed, FLOAT) for seed in (1, 2))
    residual = numbers((2, 19, 6, 9), 3, FLOAT)
    for activation in (None, spec.Activation("relu6")):
        block = spec.ConvolutionBlock(windows, 19, activation)
        runner = pools.prepare_depthwise(block, x, weight, bias, scale, residual)
        plain = torch.nn.functional.conv2d(x.double(), weight.double(), padding=1, groups=19)
        expected = plain * scale[:, None, None] + bias[:, None, None] + residual
        expected = expected if activation is None else expected.clamp(0, 6)
        assert_near(runner(x, weight, bias, scale, residual), expected, 2e-5)


def draws(x, seed, *, threads=1, **arguments):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.no_grad(), using("kernels"):
            return F.stochastic_pool2d(x, 2, generator=torch.Generator().manual_seed(seed), **arguments)
    finally:
        torch.set_num_threads(before)


def test_draws_come_from_the_seed_alone():
    x = numbers((3, 24, 40, 40), 0, FLOAT)
    found = draws(last(x), 1)
    assert torch.equal(found, draws(last(x), 1, threads=3))
    assert torch.equal(found, draws(x, 1))
    assert not torch.equal(found, draws(last(x), 2))
    torch.manual_seed(5)
    with torch.no_grad(), using("kernels"):
        one, other = F.stochastic_pool2d(last(x), 2), F.stochastic_pool2d(last(x), 2)
        torch.manual_seed(5)
        again = F.stochastic_pool2d(last(x), 2)
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_draws_fall_as_often_as_they_should():
    shares = torch.tensor([0.1, 0.2, 0.3, 0.4])
    x = last(shares.view(2, 2).repeat(64, 64).expand(2, 16, 128, 128))
    found = draws(x, 0)
    count = found.numel()
    for share in shares:
        hits = int((found == share).sum())
        assert abs(hits - share * count) < 5 * math.sqrt(count * share * (1 - share))


OPERATIONS = {
    "max": lambda x: F.max_pool2d(x, 3, 2, 1),
    "max with indices": lambda x: F.max_pool2d(x, 3, 2, 1, return_indices=True)[1],
    "average": lambda x: F.avg_pool2d(x, 3, 2, 1),
    "adaptive": lambda x: F.adaptive_avg_pool2d(x, 4),
    "global": lambda x: F.adaptive_avg_pool2d(x, 1),
    "norm": lambda x: F.lp_pool2d(x, 2, 3),
    "depthwise": lambda x: F.conv2d(x, torch.ones(x.shape[1], 1, 3, 3), groups=x.shape[1]),
}


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("channels_last", [False, True])
def test_results_have_the_format_that_torch_gives(name, channels_last):
    x = numbers((2, 5, 9, 9), 0, FLOAT)
    x = last(x) if channels_last else x
    with torch.no_grad():
        with using("portable"):
            expected = OPERATIONS[name](x)
        report(reset=True)
        with using("kernels"):
            found = OPERATIONS[name](x)
    assert found.stride() == expected.stride()
    assert torch.allclose(found, expected, rtol=1e-5, atol=1e-5)
    (call,) = report()
    assert call.path == "kernel"


def test_the_bits_are_the_same_for_any_number_of_threads():
    x = last(numbers((4, 40, 60, 60), 0, FLOAT))
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            with torch.no_grad(), using("kernels"):
                results.append([OPERATIONS[name](x) for name in ("average", "global", "depthwise")])
    finally:
        torch.set_num_threads(before)
    for found in results[1:]:
        assert all(torch.equal(*pair) for pair in zip(found, results[0], strict=True))


def test_what_the_kernels_refuse_has_a_reason():
    x = numbers((1, 4, 5, 5), 0, FLOAT)
    assert "order 1000" in pools.prepare_pool(spec.LpPool(spec.windows(2, 2), 1000), x)
    assert "several outputs" in pools.prepare_depthwise(
        spec.Convolution(spec.windows(2, 2), 4), x, torch.ones(12, 1, 2, 2)
    )
    assert "fit" in pools.prepare_pool(spec.WeightedPool(spec.windows(2, 2)), x, torch.ones(3, 2, 2))
