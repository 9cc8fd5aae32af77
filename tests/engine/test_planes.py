"""The planes family against the reference: contiguous tensors, vectors along their rows."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from comparing import places_of
from engine.bounds import UNIT, agrees, sum_bound
from geometries import drawn, geometries
from guarded import guarded
from hypothesis import assume, given
from hypothesis import strategies as st

from svertka import reference, spec
from svertka.engine import layout, planes
from svertka.engine.planes import prepare_planes
from svertka.engine.pools import taps_like
from svertka.errors import GeometryError
from svertka.kernels.planes import PlanesSchedule
from svertka.kernels.target import host
from svertka.window import MODES

ROLLED = PlanesSchedule(1, 2048)
TILED = PlanesSchedule(4, 4096)
WIDE = PlanesSchedule(4, 8192, (False, True), vectors=2)
INF = math.inf


def numbers(seed, *shape):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def prepared(operation, x, *tensors, **options):
    chosen = {name: options.pop(name) for name in ("schedule", "where") if name in options}
    runner = prepare_planes(operation, x, *tensors, **chosen)
    assert not isinstance(runner, str), runner
    return runner(x, *tensors, **options)


def bound_of(operation, x, *tensors):
    """How far each result may be from the true one."""
    taps = math.prod(getattr(window, "size", 0) or max(x.shape[2:]) for window in operation.windows)
    match operation:
        case spec.MaxPool():
            return 0.0
        case spec.AveragePool():
            return sum_bound(taps + 3, abs(reference.run(operation, abs(x))))
        case spec.LpPool():
            # A power costs a few units for each of its order, the root as many of the sum's relative error.
            return (taps + 16) * max(1, operation.p if operation.p < INF else 1) * UNIT * reference.run(operation, x)
        case spec.WeightedPool():
            return sum_bound(3 * taps + 8, reference.run(operation, abs(x), *tensors))
        case spec.StochasticPool():
            return (3 * taps + 16) * UNIT * reference.run(operation, x)
    weight, bias = tensors
    return sum_bound(taps + 2, reference.conv(abs(x), abs(weight), abs(bias), operation.windows, operation.groups))


def expected_of(operation, x, *tensors):
    if isinstance(operation, spec.ConvolutionBlock):
        return reference.conv(x, *tensors, operation.windows, operation.groups)
    return reference.run(operation, x, *tensors)


def check(operation, x, *tensors, schedule=None):
    result = prepared(operation, x, *tensors, schedule=schedule)
    assert result.is_contiguous()
    arrays = [tensor.numpy() for tensor in (x, *tensors)]
    expected, bound = expected_of(operation, *arrays), bound_of(operation, *arrays)
    assert agrees(result.numpy(), expected, bound), (operation, x.shape)


def check_places(operation, x, schedule=None):
    values, places = prepared(operation, x, where="source", schedule=schedule)
    expected, where = reference.max_pool(x.numpy(), operation.windows)
    again, taps = prepared(operation, x, where="tap", schedule=schedule)
    assert torch.equal(again.nan_to_num(), values.nan_to_num())
    assert torch.equal(
        places_of(taps_like(taps, values.shape, values.stride()), operation.windows, x.shape[2:]), places
    )
    np.testing.assert_array_equal(values.numpy(), expected.astype(np.float32))
    np.testing.assert_array_equal(places.numpy(), where)
    assert places.dtype is torch.int64


def depthwise(windows, channels, multiple=1):
    kernel = tuple(window.size for window in windows)
    operation = spec.ConvolutionBlock(windows, channels)
    return operation, numbers(7, channels * multiple, 1, *kernel), numbers(8, channels * multiple)


def poolings(windows, average_counts=(True, False)):
    """One of each kind of pooling."""
    yield spec.MaxPool(windows)
    for include in average_counts:
        yield spec.AveragePool(windows, include)
    for p in (1.0, 2.0, 3.5, INF):
        yield spec.LpPool(windows, p)
    yield spec.StochasticPool(windows, False)


def all_operations(windows, x, schedule=None, tiled=None):
    """Checks each operation on one geometry."""
    for operation in poolings(windows):
        check(operation, x, schedule=schedule)
    check_places(spec.MaxPool(windows), x, schedule)
    kernel = tuple(window.size for window in windows)
    for channels, include in ((1, True), (x.shape[1], False)):
        weight = abs(numbers(6, channels, *kernel)) + 0.1
        if not windows[0].ceil_mode:
            check(spec.WeightedPool(windows, include), x, weight, schedule=schedule)
    for multiple, chosen in ((1, schedule), (2, tiled or schedule)):
        operation, weight, bias = depthwise(windows, x.shape[1], multiple)
        if not windows[0].ceil_mode:
            check(operation, x, weight, bias, schedule=chosen)


@given(data=st.data())
@drawn
def test_every_geometry_by_tables(data):
    geometry = data.draw(geometries(ceil=True))
    try:
        outputs = math.prod(spec.MaxPool(geometry.windows).output_size(geometry.size))
    except GeometryError:
        assume(False)
    assume(outputs < 500)
    x = numbers(0, data.draw(st.integers(1, 2)), data.draw(st.integers(1, 3)), *geometry.size)
    all_operations(geometry.windows, x, ROLLED, TILED)


UNROLLED = (
    # size, kernel size, stride, padding, dilation, mode, ceil_mode
    ((7, 9), 3, 2, 1, 1, "zeros", False),
    ((8, 34), 2, 2, 0, 1, "zeros", True),
    ((6, 33), (3, 5), 1, (1, 2), 1, "reflect", False),
    ((5, 19), 3, 3, 2, 2, "circular", False),
    ((37,), 3, 2, 4, 1, "symmetric", False),
    ((5, 4, 21), 2, (1, 2, 1), 1, 1, "replicate", False),
)


@pytest.mark.parametrize("size, kernel, stride, padding, dilation, mode, ceil", UNROLLED)
def test_unrolled_windows(size, kernel, stride, padding, dilation, mode, ceil):
    windows = spec.windows(len(size), kernel, stride, padding, dilation, mode, ceil)
    all_operations(windows, numbers(0, 2, 3, *size))


@pytest.mark.parametrize("schedule", (None, TILED, WIDE, PlanesSchedule(3, vectors=3)), ids=str)
def test_large_windows_slide(schedule):
    for kernel, size in (((9, 3), (14, 70)), ((4, 5), (4, 33)), ((11, 11), (5, 7))):
        windows = spec.windows(2, kernel, 1, [side // 2 for side in kernel], 1, "symmetric")
        operation, *tensors = depthwise(windows, 2)
        check(operation, numbers(0, 1, 2, *size), *tensors, schedule=schedule)


@pytest.mark.parametrize("stride", (1, 2, 3, 4, 5))
def test_rows_of_every_length(stride):
    lanes = host().lanes
    windows = (spec.windows(1, 1)[0], spec.windows(1, 3, stride, 1)[0])
    for width in (1, 2, 3, lanes - 1, lanes, lanes + 1, 2 * lanes - 1, 2 * lanes + 1, 4 * lanes + 3, 97):
        x = numbers(width, 1, 2, 3, width)
        check(spec.MaxPool(windows), x)
        check_places(spec.MaxPool(windows), x, ROLLED)


@pytest.mark.parametrize("mode", MODES)
def test_rows_longer_than_the_scratch_are_cut(mode):
    small = PlanesSchedule(1, 512)
    for kernel, stride, padding in ((3, 1, 1), (3, 2, 4), (7, 5, 3)):
        windows = spec.windows(1, kernel, stride, padding, 1, mode)
        for length in (1501, 1039):
            x = numbers(0, 1, 2, length)
            check(spec.MaxPool(windows), x, schedule=small)
            check_places(spec.MaxPool(windows), x, small)
            check(spec.AveragePool(windows, False), x, schedule=small)


@pytest.mark.parametrize("count", ((1, 1), (3, 5), (7, 7), (9, 40)))
@pytest.mark.parametrize("overlap", (True, False))
def test_adaptive_windows(count, overlap):
    windows = spec.segments(2, count, overlap)
    x = numbers(0, 2, 3, 8, 23)
    for operation in (spec.MaxPool(windows), spec.AveragePool(windows), spec.LpPool(windows, 2.0)):
        check(operation, x)
    check_places(spec.MaxPool(windows), x)


def test_windows_too_large_for_the_scratch_are_refused():
    operation, *tensors = depthwise(spec.windows(2, 400), 1)
    assert "scratch" in prepare_planes(operation, numbers(0, 1, 1, 401, 402), *tensors)


def test_what_is_not_a_number_spreads_as_in_the_reference():
    x = numbers(0, 1, 2, 9, 21)
    x[0, 0, 2, 2], x[0, 0, 5, 17], x[0, 1, 4, 4], x[0, 1, 8, 20] = math.nan, INF, -INF, math.nan
    x[0, 1, :3, :9] = -INF
    windows = spec.windows(2, 3, 2, 1)
    for operation in (spec.MaxPool(windows), spec.AveragePool(windows), spec.LpPool(windows, 2.0)):
        check(operation, x)
    check(spec.StochasticPool(windows, False), x)
    check_places(spec.MaxPool(windows), x)
    operation, *tensors = depthwise(windows, 2)
    check(operation, x, *tensors)


def test_ties_go_to_the_first():
    x = torch.zeros(1, 1, 6, 40)
    x[..., ::7] = 1.0
    for windows in (spec.windows(2, 3, 1, 1), spec.windows(2, 2, 2)):
        check_places(spec.MaxPool(windows), x)


def test_windows_that_read_nothing():
    windows = spec.windows(1, 2, 1, 5)
    x = numbers(0, 1, 1, 4)
    check(spec.MaxPool(windows), x)
    check_places(spec.MaxPool(windows), x)
    check(spec.AveragePool(windows, False), x)
    check(spec.WeightedPool(windows, False), x, torch.ones(1, 2))


def test_draws_come_from_the_window_in_proportion():
    x = torch.tensor([0.0, 1.0, 3.0, -2.0]).repeat(2, 8, 500).reshape(2, 8, 2000)
    operation = spec.StochasticPool(spec.windows(1, 4, 4))
    generator = torch.Generator().manual_seed(3)
    first = prepared(operation, x, generator=generator)
    assert set(first.unique().tolist()) == {1.0, 3.0}
    # 8000 draws: the share of threes has a standard deviation of 0.0048.
    assert abs((first == 3.0).double().mean().item() - 0.75) < 0.03
    assert not torch.equal(first, prepared(operation, x, generator=generator))
    assert torch.equal(first, prepared(operation, x, generator=torch.Generator().manual_seed(3)))


def test_the_end_of_a_block():
    x, residual = numbers(0, 2, 3, 6, 19), numbers(3, 2, 6, 6, 19)
    operation, weight, bias = depthwise(spec.windows(2, 3, 1, 1), 3, 2)
    operation = replace(operation, activation=spec.Activation("relu"))
    scale = numbers(4, 6)
    result = prepared(operation, x, weight, bias, scale, residual).numpy()
    arrays = [tensor.numpy().astype(np.float64) for tensor in (x, weight, bias, scale, residual)]
    x64, w64, b64, s64, r64 = arrays
    column = (slice(None), None, None)
    expected = reference.conv(x64, w64, None, operation.windows, 3) * s64[column] + b64[column] + r64
    bound = reference.conv(abs(x64), abs(w64), None, operation.windows, 3) * abs(s64[column])
    bound = sum_bound(12, bound + abs(b64[column]) + abs(r64))
    assert agrees(result, np.maximum(expected, 0), bound)


@pytest.mark.parametrize("at_end", (False, True))
@pytest.mark.parametrize("mode", ("zeros", "circular"))
def test_no_byte_outside_is_touched(monkeypatch, mode, at_end):
    guard = lambda tensor: guarded(tensor, at_end=at_end)  # noqa: E731
    empty = layout.empty
    monkeypatch.setattr(planes, "empty", lambda *arguments: guard(empty(*arguments)))
    for size, kernel, stride in (((5, 7), 3, 1), ((6, 35), 2, 2), ((4, 50), 3, 3), ((3, 16), 1, 5)):
        windows = spec.windows(2, kernel, stride, kernel // 2, 1, mode)
        x = guard(numbers(0, 2, 3, *size))
        for schedule in (None, ROLLED):
            check(spec.MaxPool(windows), x, schedule=schedule)
            check(spec.AveragePool(windows, False), x, schedule=schedule)
            operation, weight, bias = depthwise(windows, 3)
            check(operation, x, guard(weight), guard(bias), schedule=schedule and TILED)
        shape = (2, 3, *operation.output_size(size))
        residual = guard(numbers(5, *shape))
        prepared(operation, x, guard(weight), guard(bias), guard(numbers(4, 3)), residual)
        check_places(spec.MaxPool(windows), x)


def test_the_same_bits_for_any_number_of_threads():
    x = numbers(0, 3, 7, 31, 45)
    operation, weight, bias = depthwise(spec.windows(2, 3, 1, 1, 1, "circular"), 7)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results.append((prepared(operation, x, weight, bias), prepared(spec.LpPool(operation.windows, 3.5), x)))
    finally:
        torch.set_num_threads(before)
    for pair in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(pair, results[0], strict=True))


def test_the_comparison_fails_on_a_wrong_kernel():
    x = numbers(0, 1, 2, 6, 20)
    operation, weight, bias = depthwise(spec.windows(2, 3, 1, 1), 2)
    check(operation, x, weight, bias)
    result = prepared(operation, x, weight, bias).numpy()
    arrays = x.numpy(), weight.numpy(), bias.numpy()
    expected, bound = expected_of(operation, *arrays), bound_of(operation, *arrays)
    wrong = result.copy()
    wrong[0, 1, 3, 3] += 3 * bound[0, 1, 3, 3]
    assert not agrees(wrong, expected, bound)
    assert not agrees(np.roll(result, 1, -1), expected, bound)
    other = spec.ConvolutionBlock(spec.windows(2, 3, 1, 1, 1, "reflect"), 2)
    with pytest.raises(AssertionError):
        assert agrees(result, expected_of(other, *arrays), bound)


def whole_poolings(ndim):
    windows = spec.segments(ndim, 1)
    yield spec.MaxPool(windows)
    yield spec.AveragePool(windows)
    yield from (spec.LpPool(windows, p) for p in (2.0, INF))


@pytest.mark.parametrize("operation", list(whole_poolings(2)), ids=str)
def test_planes_as_a_whole(operation):
    for planes_, height, width in ((1, 1, 1), (5, 1, 17), (7, 3, 5), (300, 7, 7), (33, 13, 5), (3, 31, 41)):
        x = numbers(0, 1, planes_, height, width)
        for at_end in (False, True):
            check(operation, guarded(x, at_end=at_end))
    x[0, 0, 3, 3], x[0, 1, 0, 0] = math.nan, -INF
    check(operation, x)


def test_windows_as_large_as_the_input_see_planes_as_a_whole():
    x = numbers(0, 2, 3, 6, 7)
    operation = spec.AveragePool(spec.windows(2, (6, 7)))
    assert "whole" in prepare_planes(operation, x).detail
    check(operation, x)
    check(spec.AveragePool(operation.windows, True, 5.0), x)
    padded = spec.AveragePool(spec.windows(2, (8, 9), 1, 1))
    assert "whole" not in prepare_planes(padded, x).detail
    check(padded, x)
