"""The kernels' schedules, and the tables and formats that they read."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from engine.bounds import agrees, sum_bound

from svertka import reference, spec
from svertka.engine import pools
from svertka.kernels.channelwise import Channelwise, ChannelwiseSchedule, choose_channelwise
from svertka.kernels.combine import Average, Maximum, Norm, ProportionalDraw, WeightedSum
from svertka.kernels.epilogue import Epilogue
from svertka.kernels.target import TARGETS, host

LANES = host().lanes
SCHEDULES = (
    ChannelwiseSchedule(4),
    ChannelwiseSchedule(4, 3, 2),
    ChannelwiseSchedule(LANES, 5),
    ChannelwiseSchedule(LANES, 8, 1),
    ChannelwiseSchedule(LANES, 2, 2),
)
TALL = (
    ChannelwiseSchedule(4, 1, 1, 2),
    ChannelwiseSchedule(LANES, 2, 2, 2),
    ChannelwiseSchedule(LANES, 4, 1, 3),
)


def numbers(seed, *shape):
    values = torch.from_numpy(np.random.default_rng(seed).normal(size=shape).astype(np.float32))
    return values.contiguous(memory_format=torch.channels_last) if len(shape) == 4 else values


def check(channels, columns, window, schedule, rows=3):
    """A depthwise convolution of so many rows and columns."""
    windows = spec.windows(2, **window)
    operation = spec.Convolution(windows, channels)
    x = numbers(0, 2, channels, rows, columns)
    weight = numbers(1, channels, 1, *(w.size for w in windows))
    runner = pools.prepare_depthwise(operation, x, weight, schedule=schedule)
    result, arrays = runner(x, weight).numpy(), (x.numpy(), weight.numpy(), None)
    bound = sum_bound(weight[0].numel(), reference.run(operation, *map(abs, arrays[:2]), None))
    expected = reference.run(operation, *arrays)
    assert agrees(result, expected, bound)
    return result, expected, bound


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
@pytest.mark.parametrize("mode", ["zeros", "reflect"])
def test_tiles_may_be_full_or_not(schedule, mode):
    width = schedule.vectors * schedule.lanes
    window = {"kernel_size": (1, 3), "padding": (0, 1), "mode": mode}
    for columns in {schedule.pixels, schedule.pixels + 1, 2 * schedule.pixels + 2, 23} - {1}:
        check(width, columns, window, schedule)
    for channels in (width + 1, 2 * width - 1, 2 * width, 61):
        check(channels, 11, window, schedule)


@pytest.mark.parametrize("mode", ["zeros", "circular"])
@pytest.mark.parametrize("schedule", TALL, ids=str)
def test_tall_tiles_give_the_bits_of_single_rows(schedule, mode, monkeypatch):
    width = schedule.vectors * schedule.lanes
    for per_task in (1, 5, 100):
        for rows, columns, size in ((1, 7, 3), (schedule.rows + 2, 9, 3), (11, 6, (3, 2)), (12, 13, (2, 5)), (3, 8, 5)):
            window = {"kernel_size": size, "padding": "same", "mode": mode}
            taps = math.prod(spec.per_axis(size, 2, "kernel_size"))
            monkeypatch.setattr(pools, "_TASK", per_task * taps * columns * (width + 3))
            result, expected, bound = check(width + 3, columns, window, schedule, rows)
            single, *_ = check(width + 3, columns, window, replace(schedule, rows=1), rows)
            assert np.array_equal(result, single)
    assert not agrees(result, np.roll(expected, 1, axis=2), bound)


@pytest.mark.parametrize("channels", [1, 2, 3, 5, LANES - 1, LANES, LANES + 1])
def test_few_channels_take_short_vectors(channels):
    check(channels, 9, {"kernel_size": 3, "padding": 1, "stride": 2}, None)


@pytest.mark.parametrize("taps", [7, 8, 9, 17, 19])
@pytest.mark.parametrize("schedule", [ChannelwiseSchedule(4, 3), ChannelwiseSchedule(4, 6)], ids=str)
def test_long_rows_of_taps_are_looped_over(taps, schedule):
    for columns, stride, dilation in ((40, 1, 1), (21, 1, 1), (40, 2, 1), (60, 1, 2)):
        window = {"kernel_size": (1, taps), "padding": (0, taps // 2), "stride": (1, stride), "dilation": (1, dilation)}
        result, expected, bound = check(4, columns, window, schedule)
    assert not agrees(result, np.roll(expected, 1, axis=-1), bound)


def test_a_tile_larger_than_the_row_or_its_channels_is_refused():
    for schedule in (ChannelwiseSchedule(4, 12), ChannelwiseSchedule(4, 1, 2)):
        with pytest.raises(ValueError, match="larger than a row of 11 outputs of 4 channels"):
            check(4, 11, {"kernel_size": (1, 1)}, schedule)


@pytest.mark.parametrize("window", [{"kernel_size": (1, 3)}, {"kernel_size": 3, "stride": 2}], ids=str)
def test_tall_tiles_of_rows_that_share_nothing_are_refused(window):
    with pytest.raises(ValueError, match="rows that share no inputs"):
        check(4, 11, window, ChannelwiseSchedule(4, 1, 1, 2))


@pytest.mark.parametrize("target", TARGETS.values(), ids=list(TARGETS))
def test_chosen_tiles_fit(target):
    for combination in (WeightedSum(), Maximum(), Maximum("source"), Average(), Norm(2.5), ProportionalDraw()):
        for channels in (1, 3, 4, 15, 16, 31, 64, 100):
            for columns in (1, 2, 7, 14, 56, 112):
                for taps in (0, 1, 3, 31):
                    rows = taps if combination == WeightedSum() else 0
                    kernel = Channelwise(combination, channels, Epilogue(), taps, rows=rows)
                    schedule = choose_channelwise(kernel, target, columns)
                    assert 1 <= schedule.pixels <= (columns if taps else 1)
                    assert schedule.lanes <= target.lanes
                    assert schedule.vectors * min(schedule.lanes, channels) <= channels
                    sums = schedule.rows * schedule.pixels * schedule.vectors
                    assert sums * combination.states <= target.registers
