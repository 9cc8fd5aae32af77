"""Operations inside a window, on one vector of outputs: against the reference, and what only they promise."""

import ctypes
import math

import numpy as np
import pytest

from svertka import reference
from svertka.jit import engine
from svertka.jit.parallel import parallel_module
from svertka.kernels.combine import (
    Average,
    Given,
    Maximum,
    Norm,
    ProportionalDraw,
    ProportionalMean,
    WeightedMean,
    WeightedSum,
    power,
    uniform,
)
from svertka.kernels.emit import FIRST, I64, POINTER
from svertka.kernels.target import host
from svertka.window import Window

LANES = host().lanes
TAPS = 5
WINDOW = (Window(TAPS),)


def called(write, *arrays, numbers=()):
    """Runs write(e, *pointers, *numbers) on arrays."""

    def task(e, slots, _task, _worker):
        pointers = [e.load(slots, FIRST + i, POINTER) for i in range(len(arrays))]
        write(e, *pointers, *(e.load(slots, FIRST + len(arrays) + i, I64) for i in range(len(numbers))))

    run = engine.load(str(parallel_module("test", host(), task)), host(), "test").run
    slots = ctypes.c_int64 * (FIRST + len(arrays) + len(numbers))
    run(slots(0, 1, *(array.ctypes.data for array in arrays), *numbers), 1)


def combined(combination, x, weight=None, count=1.0, draw=None, outside=()):
    """The results for windows x [taps, lanes]; the taps `outside` are told as such."""

    def write(e, x, weight, count, draw, values, places):
        given = Given(e.splat_index(0), e.splat(e.load(count)), e.load_vector(draw))
        state = []
        for turn in range(combination.turns):
            state = combination.start(e, turn, state, given)
            for tap in range(TAPS):
                value, factor = (e.load_vector(rows, tap * e.lanes) for rows in (x, weight))
                if tap in outside:
                    value, factor = e.splat(combination.identity), e.splat(0.0)
                source = e.splat_index(-1 if tap in outside else tap)
                state = combination.step(e, turn, state, value, source, factor)
        results = combination.finish(e, state, given)
        assert len(results) == combination.results
        e.store_vector(results[0], values)
        if len(results) == 2:
            e.store_vector(results[1], places)

    values, places = np.empty(LANES, np.float32), np.empty(LANES, np.int32)
    weight = np.ones((TAPS, LANES), np.float32) if weight is None else weight
    draw = np.zeros(LANES, np.float32) if draw is None else draw
    called(write, x, weight, np.array([count], np.float32), draw, values, places)
    return values, places


def inputs(seed, special=True):
    x = np.random.default_rng(seed).normal(size=(TAPS, LANES)).astype(np.float32)
    if special:
        x[1, 0], x[3, 1], x[2, 2], x[:, 3] = np.nan, np.inf, -np.inf, -np.inf
    return x


def rows(x):
    """[taps, lanes] as an input of one sample, its channels the lanes."""
    return np.ascontiguousarray(x.T)[None]


def near(found, expected, tolerance):
    np.testing.assert_allclose(found, np.asarray(expected).reshape(-1), rtol=tolerance, atol=tolerance)


EPS = float(np.finfo(np.float32).eps)


@pytest.mark.parametrize("indices", ["", "source"])
def test_the_first_maximum(indices):
    for x in (inputs(0), inputs(1, special=False).round()):
        values, places = combined(Maximum(indices), x)
        expected = reference.max_pool(rows(x), WINDOW)
        np.testing.assert_array_equal(values, expected[0].reshape(-1))
        if indices:
            np.testing.assert_array_equal(places, expected[1].reshape(-1))
    x[:] = [[-0.0], [0.0], [-1.0], [-0.0], [0.0]]
    assert np.signbit(combined(Maximum(indices), x)[0]).all()


@pytest.mark.parametrize("p", [0.3, 1, 2, 2.5, 3, 17, math.inf])
def test_norms(p):
    x = inputs(2)
    near(combined(Norm(p), x)[0], reference.lp_pool(rows(x), WINDOW, p), 4 * TAPS * EPS * max(1, 1 / p))


def test_sums_and_means():
    x, weight = inputs(3), abs(inputs(4, special=False)) + 0.1
    windows, kernel = rows(x), np.ascontiguousarray(weight.T)
    near(combined(Average(), x, count=TAPS)[0], reference.avg_pool(windows, WINDOW), 2 * TAPS * EPS)
    near(combined(Average(True), x, count=0.25)[0], reference.avg_pool(windows, WINDOW, True, 4), 2 * TAPS * EPS)
    expected = reference.conv(windows, kernel[:, None], None, WINDOW, LANES)
    near(combined(WeightedSum(), x, weight)[0], expected, 20 * TAPS * EPS)
    expected = reference.weighted_avg_pool(windows, kernel, WINDOW)
    near(combined(WeightedMean(), x, weight)[0], expected, 4 * TAPS * EPS)
    x = inputs(3, special=False)
    expected = reference.weighted_avg_pool(rows(x), kernel, WINDOW)
    with pytest.raises(AssertionError):
        near(combined(WeightedMean(), x, weight)[0], expected * 1.0001, 4 * TAPS * EPS)


@pytest.mark.parametrize("scale", [1.0, 1e-38, 1e-20, 1e20, 1e37])
def test_a_mean_weighted_by_the_values_holds_for_all_sizes(scale):
    x = inputs(5, special=scale == 1.0) * np.float32(scale)
    x[:, -1] = -abs(x[:, -1])
    expected = reference.stochastic_pool(rows(x), WINDOW)
    near(combined(ProportionalMean(), x)[0] / scale, expected / scale, 8 * TAPS * EPS)


def test_a_draw_falls_where_the_reference_says():
    x, draw = inputs(6), np.linspace(0, 1 - 2.0**-24, LANES, dtype=np.float32)
    x[:, -2] = -abs(x[:, -2])
    expected = reference.stochastic_pool(rows(x), WINDOW, draw[None, :, None])
    np.testing.assert_array_equal(combined(ProportionalDraw(), x, draw=draw)[0], expected.reshape(-1))


@pytest.mark.parametrize(
    "combination", [Maximum("source"), Norm(0.5), Norm(), WeightedMean(), ProportionalMean(), ProportionalDraw()]
)
def test_taps_outside_change_nothing(combination):
    x, draw = inputs(7), np.full(LANES, 0.7, np.float32)
    found = combined(combination, x, draw=draw, outside=(0, 3))
    assert np.isnan(found[0][0]) and np.isfinite(found[0][5:]).all()
    x[[0, 3]] = np.nan
    again = combined(combination, x, draw=draw, outside=(0, 3))
    np.testing.assert_array_equal(found[0], again[0])
    if combination.results == 2:
        np.testing.assert_array_equal(found[1], again[1])


@pytest.mark.parametrize("p", [1 / 3, 0.01, 0.5, 1.0, 2.2, 40.0])
def test_powers(p):
    x = np.geomspace(1e-45, 3e38, 64 * LANES).astype(np.float32)
    x[:6] = [0.0, np.inf, np.nan, 1.0, 2.0, 0.5]
    y = np.empty_like(x)

    def write(e, x, y):
        e.loop(0, 64 * e.lanes, lambda i: e.store_vector(power(e, e.load_vector(x, i), p), y, i), step=e.lanes)

    called(write, x, y)
    with np.errstate(over="ignore"):
        expected = (x.astype(np.float64) ** p).astype(np.float32)
    np.testing.assert_allclose(y, expected, rtol=3 * EPS * max(1, p), atol=2.0**-126)
    assert y[3] == 1.0


def drawn(seed, image, count=4096):
    place, found = np.arange(count, dtype=np.int32), np.empty(count, np.float32)

    def write(e, place, found, seed, image):
        def part(i):
            e.store_vector(uniform(e, seed, image, e.load_vector(place, i, kind=e.indices)), found, i)

        e.loop(0, count, part, step=e.lanes)

    called(write, place, found, numbers=(seed, image))
    return found


def test_random_numbers_are_uniform_and_unlike_their_neighbours():
    count = 1 << 16
    lines = [drawn(seed, image, count) for seed, image in ((1, 0), (1, 1), (2, 0), (1 << 32, 0), (0, 0), (-1, 7))]
    for line in lines:
        assert line.min() >= 0 and line.max() < 1
        filled = np.histogram(line, 256, (0, 1))[0] - count / 256
        assert 128 < (filled**2).sum() / (count / 256) < 420  # χ² of 255 degrees of freedom: 255 ± 23
    for one in range(len(lines)):
        for other in range(one + 1, len(lines)):
            assert abs(np.corrcoef(lines[one], lines[other])[0, 1]) < 6 / math.sqrt(count)
        for lag in (1, 2, 16, 64, 4096):
            assert abs(np.corrcoef(lines[one][lag:], lines[one][:-lag])[0, 1]) < 6 / math.sqrt(count)
