"""Groups of few channels beside the reference: every schedule, size of group, window and mode, and the bytes around."""

import math

import llvmlite.binding as llvm
import numpy as np
import pytest
import torch
from comparing import assert_near
from engine.bounds import agrees, sum_bound
from geometries import geometries
from guarded import guarded
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from svertka import functional, reference, spec
from svertka.engine import dense, pools
from svertka.engine.dispatch import using
from svertka.engine.launch import kernel_text
from svertka.errors import GeometryError
from svertka.jit import engine
from svertka.kernels.channelwise import ChannelwiseSchedule
from svertka.kernels.combine import WeightedSum
from svertka.kernels.epilogue import Epilogue
from svertka.kernels.grouped import GROUPED, Grouped, choose_grouped
from svertka.kernels.target import TARGETS, host
from svertka.window import MODES

LANES = host().lanes
OF_GROUP = ((1, 2), (1, 3), (2, 2), (3, 3), (4, 4), (4, 2), (3, 5), (6, 6), (8, 8))


def numbers(seed, *shape):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def last(x):
    return x.contiguous(memory_format=torch.channels_last)


def check(operation, x, weight, bias=None, schedule=None):
    block = spec.ConvolutionBlock(operation.windows, operation.groups)
    runner = dense.prepare_block(block, x, weight, bias, schedule=schedule)
    result = runner(x, weight, bias).numpy()
    arrays = [None if t is None else t.numpy() for t in (x, weight, bias)]
    magnitude = reference.run(operation, *(None if a is None else abs(a) for a in arrays))
    bound, expected = sum_bound(weight[0].numel() + 1, magnitude), reference.run(operation, *arrays)
    assert agrees(result, expected, bound)
    return runner, result, expected, bound


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_groups_of_every_size_by_any_window(data):
    geometry = data.draw(geometries())
    (inputs, outputs), groups = data.draw(st.sampled_from(OF_GROUP)), data.draw(st.sampled_from((2, 3, 5, 8, 19)))
    operation = spec.Convolution(geometry.windows, groups)
    try:
        places = math.prod(operation.output_size(geometry.size))
    except GeometryError:
        assume(False)
    assume(places < 300)
    x = numbers(0, data.draw(st.integers(1, 2)), groups * inputs, *geometry.size)
    weight = numbers(1, groups * outputs, inputs, *geometry.kernel_size)
    bias = numbers(2, len(weight)) if data.draw(st.booleans()) else None
    check(operation, last(x) if x.ndim == 4 else x, weight, bias)


@pytest.mark.parametrize("of_group", OF_GROUP)
@pytest.mark.parametrize("lanes", sorted({8, LANES}))
def test_tiles_may_be_full_or_not(of_group, lanes):
    inputs, outputs = of_group
    for groups, columns, pixels in ((8, 9, 5), (9, 17, 4), (17, 9, 7), (8, 3, 1)):
        if max(of_group) <= lanes <= LANES:
            operation = spec.Convolution(spec.windows(2, 3, 1, 1), groups)
            x, weight = last(numbers(0, 1, groups * inputs, 4, columns)), numbers(1, groups * outputs, inputs, 3, 3)
            runner, result, expected, bound = check(operation, x, weight, None, ChannelwiseSchedule(lanes, pixels))
            assert "grouped" in runner.detail
    assert not agrees(result, np.roll(expected, 1, axis=1), bound)
    assert not agrees(result, np.roll(expected, 1, axis=-1), bound)


@pytest.mark.parametrize("taps", [7, 9, 25])
@pytest.mark.parametrize("of_group", [(2, 2), (5, 5)])
def test_long_rows_of_taps_are_looped_over(taps, of_group):
    operation = spec.Convolution(spec.windows(2, (1, taps), 1, (0, taps // 2)), 4)
    check(operation, last(numbers(0, 1, 4 * of_group[0], 2, 40)), numbers(1, 4 * of_group[1], of_group[0], 1, taps))


@pytest.mark.parametrize("at_end", [False, True])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("groups", "of_group"), [(5, (3, 3)), (8, (1, 3)), (3, (6, 5)), (8, (4, 4))])
def test_no_byte_outside_is_touched(groups, of_group, mode, at_end, monkeypatch):
    def kept(tensor):
        return guarded(tensor, at_end=at_end)

    inputs, outputs = of_group
    empty = pools.empty
    monkeypatch.setattr(pools, "empty", lambda *arguments: kept(empty(*arguments)))
    x, residual = (kept(last(numbers(i, 2, groups * n, 5, 7))) for i, n in enumerate((inputs, outputs)))
    weight, bias = kept(numbers(2, groups * outputs, inputs, 3, 3)), kept(numbers(3, groups * outputs))
    block = spec.ConvolutionBlock(spec.windows(2, 3, 1, 1, 1, mode), groups)
    runner = dense.prepare_block(block, x, weight, bias, None, residual)
    runner(x, weight, bias, None, residual)
    assert "grouped" in runner.detail or max(of_group) * 2 > LANES


def test_an_epilogue_follows_the_sum():
    x, windows, weight = last(numbers(0, 2, 20, 6, 9)), spec.windows(2, 3, 1, 1), numbers(1, 10, 4, 3, 3)
    bias, scale, residual = numbers(2, 10), numbers(3, 10), last(numbers(4, 2, 10, 6, 9))
    for activation in (None, spec.Activation("relu6")):
        block = spec.ConvolutionBlock(windows, 5, activation)
        runner = dense.prepare_block(block, x, weight, bias, scale, residual)
        plain = torch.nn.functional.conv2d(x.double(), weight.double(), padding=1, groups=5)
        expected = plain * scale[:, None, None] + bias[:, None, None] + residual
        expected = expected if activation is None else expected.clamp(0, 6)
        assert_near(runner(x, weight, bias, scale, residual), expected, 2e-5)


def test_what_is_not_a_number_stays_in_its_group():
    x = last(numbers(0, 1, 16, 6, 20))
    x[0, 5, 2, 9], x[0, 10, 3, 0] = math.nan, math.inf
    _, result, _, _ = check(spec.Convolution(spec.windows(2, 3, 1, 1), 4), x, numbers(1, 16, 4, 3, 3))
    assert np.isnan(result[0, 4:8, 1:4, 8:11]).all()
    assert not np.isnan(result[0, [0, 1, 2, 3, 12, 13, 14, 15]]).any()


@pytest.mark.parametrize("channels_last", [False, True])
def test_results_lie_as_torchs_do_with_the_same_bits_for_any_number_of_threads(channels_last):
    x, weight = numbers(0, 4, 64, 40, 40), numbers(1, 64, 4, 3, 3)
    x = last(x) if channels_last else x
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            with torch.no_grad(), using("kernels"):
                results.append(functional.conv2d(x, weight, padding=1, groups=16))
    finally:
        torch.set_num_threads(before)
    assert results[0].stride() == torch.nn.functional.conv2d(x, weight, padding=1, groups=16).stride()
    assert all(torch.equal(found, results[0]) for found in results)


@pytest.mark.parametrize("name", TARGETS)
def test_kernels_for_every_target_assemble_and_fit(name):
    target = TARGETS[name]
    for of_group in OF_GROUP:
        for columns in (0, 1, 5, 26, 54):
            kernel = Grouped(WeightedSum(), 24 * of_group[1], Epilogue(bias=True), 3, of_group=of_group)
            schedule = choose_grouped(kernel, target, columns)
            assert (schedule is None) == (2 * max(of_group) > target.lanes)
            if schedule is not None:
                assert 1 <= schedule.pixels <= max(columns, 1)
                assert schedule.pixels < target.registers
                assert max(of_group) <= schedule.lanes <= target.lanes
        if schedule is not None:
            text = kernel_text(GROUPED, kernel, schedule, target)
            llvm.parse_assembly(text).verify()
            if of_group in ((2, 2), (8, 8)):
                assert engine.compile_object(text, target).startswith(b"\x7fELF")


def test_a_schedule_that_does_not_fit_is_refused():
    x, weight = last(numbers(0, 1, 8, 3, 9)), numbers(1, 8, 4, 3, 3)
    operation = spec.Convolution(spec.windows(2, 3, 1, 1), 2)
    for schedule in (ChannelwiseSchedule(4, 8), ChannelwiseSchedule(4, 1, 2)):
        with pytest.raises(ValueError, match="larger than a row with 7 outputs inside"):
            check(operation, x, weight, None, schedule)
