"""Convolutions of few channels: every window, tile and cut against the reference."""

import math

import pytest
import torch
from engine.bounds import agrees, sum_bound
from engine.test_dense import magnitude, numbers
from geometries import geometries
from guarded import guarded
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from svertka import arguments, functional, reference, spec
from svertka.engine import dense, few
from svertka.engine.dispatch import using
from svertka.errors import GeometryError
from svertka.kernels.few import FewSchedule
from svertka.window import MODES

SCHEDULES = (FewSchedule(1, 1, 1), FewSchedule(2, 2, 3), FewSchedule(4, 1, 2), FewSchedule(5, 1, 40))


def block(x, weight, *others, schedule=None, **arguments_):
    """(result, operation) of a block by the kernel for few channels."""
    options = {"stride": 1, "padding": 0, "mode": "zeros", "activation": None, "pool": None, **arguments_}
    operation = arguments.block_spec(
        x.ndim - 2, tuple(weight.shape[2:]), options["stride"], options["padding"], 1, 1, options["mode"],
        options["activation"], 0.0, options["pool"],
    )  # fmt: skip
    runner = dense.prepare_block(operation, x, weight, *others, schedule=schedule)
    assert isinstance(runner, few.Runner), runner
    return runner(x, weight, *others), operation


def check(result, operation, x, weight, bias=None):
    arrays = [None if t is None else t.numpy() for t in (x, weight, bias)]
    convolution = operation.convolution
    bound = sum_bound(weight[0].numel() + 1, magnitude(convolution, *arrays))
    expected = reference.run(convolution, *arrays)
    assert agrees(result.numpy(), expected, bound)
    return expected, bound


@pytest.mark.parametrize("schedule", (None, *SCHEDULES), ids=str)
@given(data=st.data())
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
def test_each_schedule_computes_the_reference(schedule, data):
    geometry = data.draw(geometries(dilated=False))
    operation = spec.ConvolutionBlock(geometry.windows)
    try:
        places = operation.output_size(geometry.size)
    except GeometryError:
        assume(False)
    assume(math.prod(places) < 500)
    channels, width = data.draw(st.sampled_from(((1, 1), (3, 5), (2, 17), (7, 33))))
    x = numbers(0, data.draw(st.integers(1, 2)), channels, *geometry.size)
    if data.draw(st.booleans()):
        x = x.movedim(1, -1).contiguous().movedim(-1, 1)
    assume(few.suits(operation, x))
    weight = numbers(1, width, channels, *geometry.kernel_size)
    bias = numbers(2, width) if data.draw(st.booleans()) else None
    runner = dense.prepare_block(operation, x, weight, bias, schedule=schedule)
    if places[-1] < (schedule.pixels if schedule else 1):
        assert runner == "a tile of its lines has no room on the stack"
        return
    check(runner(x, weight, bias), operation, x, weight, bias)


@pytest.mark.parametrize("places", (1, 3, 4, 5, 7, 8, 9, 13))
@pytest.mark.parametrize("width", (1, 15, 16, 17, 33))
@pytest.mark.parametrize("last", (False, True))
def test_tiles_divide_a_line_or_not(places, width, last):
    x = numbers(0, 1, 2, 3, places).contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
    weight, bias = numbers(1, width, 2, 3, 3), numbers(2, width)
    schedule = FewSchedule(min(places, 4), 2, 2)
    check(*block(x, weight, bias, schedule=schedule, padding=1), x, weight, bias)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("last", (False, True))
def test_lines_that_are_too_long_are_cut(mode, last):
    x = numbers(0, 2, 3, 5, 2011).contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
    weight = numbers(1, 4, 3, 3, 5)
    result, operation = block(x, weight, mode=mode, padding=(1, 2), stride=(1, 2))
    check(result, operation, x, weight)


def test_lines_of_which_nothing_has_room_go_another_way():
    x, weight = numbers(0, 1, 7, 1, 5001), numbers(1, 1, 7, 1, 5001)
    operation = spec.ConvolutionBlock(spec.windows(2, (1, 5001)))
    assert isinstance(dense.prepare_block(operation, x, weight), dense.Runner)


@pytest.mark.parametrize("pool", (2, (1, 2), (2, 1), (4, 1), (1, 4)))
@pytest.mark.parametrize("last", (False, True))
def test_the_maximum_of_whole_windows(pool, last):
    x = numbers(0, 3, 1, 13, 15).contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
    weight, bias = numbers(1, 20, 1, 4, 4), numbers(2, 20)
    weight = weight.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
    size = (pool, pool) if isinstance(pool, int) else pool
    result, operation = block(x, weight, bias, activation="relu", pool=size)
    convolved, bound = check(functional.conv2d(x, weight, bias), operation, x, weight, bias)
    pools = [torch.nn.functional.max_pool2d(torch.from_numpy(t), size) for t in (convolved.clip(0), bound)]
    assert agrees(result.numpy(), *(t.numpy() for t in pools))


def test_scale_residual_and_activation():
    x, weight = numbers(0, 2, 3, 9, 11), numbers(1, 20, 3, 3, 3)
    bias, scale, residual = numbers(2, 20), numbers(3, 20), numbers(4, 2, 20, 9, 11)
    result, _ = block(x, weight, bias, scale, residual, padding=1, activation="tanh")
    y = torch.nn.functional.conv2d(x.double(), weight.double(), padding=1) * scale.double()[:, None, None]
    sums = torch.nn.functional.conv2d(x.double().abs(), weight.double().abs(), padding=1) * scale.abs()[:, None, None]
    bound = sum_bound(30, (sums + bias.abs()[:, None, None] + residual.abs()).numpy()) + 2.0**-21
    assert agrees(result.numpy(), (y + bias.double()[:, None, None] + residual).tanh().numpy(), bound)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("at_end", (False, True))
@pytest.mark.parametrize("last", (False, True))
@pytest.mark.parametrize("channels", (1, 3))
def test_no_byte_outside_is_touched(mode, at_end, last, channels, monkeypatch):
    memory_format = torch.channels_last if last else torch.contiguous_format
    x = guarded(numbers(0, 2, channels, 5, 19).contiguous(memory_format=memory_format), at_end=at_end)
    weight = guarded(numbers(1, 19, channels, 3, 3), at_end=at_end)
    residual = guarded(numbers(3, 2, 19, 5, 19).contiguous(memory_format=torch.channels_last), at_end=at_end)
    empty = few.empty
    monkeypatch.setattr(few, "empty", lambda shape, last: guarded(empty(shape, last), at_end=at_end))
    block(x, weight, None, None, residual, padding=1, mode=mode)


def test_what_is_not_a_number_spreads_as_in_the_reference():
    x, weight = numbers(0, 1, 3, 6, 6), numbers(1, 4, 3, 3, 3)
    x[0, 1, 2, 2], x[0, 0, 5, 5] = math.nan, math.inf
    check(*block(x, weight, padding=1), x, weight)


def test_the_comparison_fails_on_a_wrong_kernel():
    x, weight = numbers(0, 1, 3, 6, 6), numbers(1, 4, 3, 3, 3)
    result, operation = block(x, weight, padding=1)
    _, bound = check(result, operation, x, weight)
    result[0, 2, 3, 3] += 4 * float(bound[0, 2, 3, 3])
    with pytest.raises(AssertionError):
        check(result, operation, x, weight)


def test_the_same_bits_for_any_number_of_threads():
    x, weight = numbers(0, 2, 3, 19, 23), numbers(1, 48, 3, 3, 3)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3, 8):
            torch.set_num_threads(threads)
            with torch.no_grad(), using("kernels"):
                results.append(functional.conv2d(x, weight, padding=1, padding_mode="circular"))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(results[0], result) for result in results)
