import math
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from engine.bounds import UNIT, agrees, sum_bound, winograd_bound
from guarded import guarded
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import svertka
from svertka import arguments, functional, reference, spec
from svertka.engine import dense, precision, winograd, winograd_gradient
from svertka.engine.dispatch import using
from svertka.engine.report import report
from svertka.errors import GeometryError, SvertkaError
from svertka.kernels.epilogue import Epilogue
from svertka.kernels.target import host
from svertka.kernels.winograd import Winograd, WinogradSchedule
from svertka.kernels.winograd_schedule import Direct, candidates_winograd, choose_winograd, tile_sizes
from svertka.window import MODES, Window

# (tiles, vectors, sets, blocks, apart), for a tile of any size.
WAYS = ((1, 1, 1, 1, False), (4, 1, 2, 2, True), (3, 2, 1, 1, False), (6, 2, 3, 2, True), (5, 3, 8, 1, False))
KERNELS = ((3, 3), (5, 5), (1, 3), (3, 1), (3, 5), (7, 7), (3,), (5,))


def numbers(seed, *shape):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def compare(operation, x, weight, schedule):
    runner = dense.prepare_convolution(operation, x, weight, None, schedule=schedule)
    result = runner(x, weight).numpy()
    expected = reference.run(operation, x.numpy(), weight.numpy(), None)
    return result, expected, winograd_bound(operation, x.numpy(), weight.numpy(), schedule.tile)


def check(*arguments):
    assert agrees(*compare(*arguments))


def schedules(draw, kernel, stride, inputs):
    kernel, stride = ((1,) * (2 - len(kernel)) + tuple(numbers) for numbers in (kernel, stride))
    tiles = tile_sizes(kernel, 9, stride)
    at_a_time = draw(st.sampled_from((0, 16))) if inputs % 16 == 0 else 0
    return WinogradSchedule(draw(st.sampled_from(tiles)), *draw(st.sampled_from(WAYS)), at_a_time)


@given(data=st.data())
@settings(max_examples=120, deadline=None, derandomize=True)
def test_each_schedule_computes_the_reference(data):
    kernel = data.draw(st.sampled_from(KERNELS))
    size = tuple(data.draw(st.integers(1, 17)) for _ in kernel)
    padding = tuple((data.draw(st.integers(0, 3)), data.draw(st.integers(0, 3))) for _ in kernel)
    dilation = data.draw(st.sampled_from((1, 1, 2, 3)))
    stride = tuple(data.draw(st.sampled_from((1, 2))) for _ in kernel)
    windows = spec.windows(len(kernel), kernel, stride, padding, dilation, data.draw(st.sampled_from(MODES)))
    operation = spec.Convolution(windows, data.draw(st.sampled_from((1, 2))))
    try:
        outputs = math.prod(operation.output_size(size))
    except GeometryError:
        assume(False)
    assume(outputs < 300)
    inputs, width = data.draw(st.sampled_from(((1, 1), (3, 5), (9, 17), (16, 33), (48, 20), (33, 48))))
    x = numbers(0, data.draw(st.integers(1, 2)), inputs * operation.groups, *size)
    weight = numbers(1, width * operation.groups, inputs, *kernel)
    check(operation, x, weight, schedules(data.draw, kernel, stride, inputs))


@pytest.mark.parametrize("tile", (2, 4, 6))
@pytest.mark.parametrize("rest", (-1, 0, 1))
@pytest.mark.parametrize("stride", (1, 2))
def test_tiles_may_be_full_or_not(tile, rest, stride):
    operation = spec.Convolution(spec.windows(2, 3, stride, 1))
    size = stride * (tile + rest), stride * (2 * tile + rest)
    x, weight = numbers(0, 1, 17, *size), numbers(1, 31, 17, 3, 3)
    assert operation.output_size(size) == (tile + rest, 2 * tile + rest)
    check(operation, x, weight, WinogradSchedule((tile, tile), 3, 2, 1, 1, rest == 0))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("at_end", (False, True))
@pytest.mark.parametrize("last", (False, True))
@pytest.mark.parametrize("apart", (False, True))
@pytest.mark.parametrize("stride", (1, 2))
def test_no_byte_outside_is_touched(mode, at_end, last, apart, stride):
    memory_format = torch.channels_last if last else torch.contiguous_format
    x = guarded(numbers(0, 2, 18, 5, 7).contiguous(memory_format=memory_format), at_end=at_end)
    weight, bias = guarded(numbers(1, 19, 18, 3, 3), at_end=at_end), guarded(numbers(2, 19), at_end=at_end)
    operation = arguments.block_spec(2, (3, 3), stride, 1, 1, 1, mode, "relu", 0.0, None)
    residual = numbers(3, 2, 19, *operation.output_size((5, 7))).contiguous(memory_format=memory_format)
    residual = guarded(residual, at_end=at_end)
    schedule = WinogradSchedule((4, 4), 3, 1, 1, 1, apart)
    runner = dense.prepare_block(operation, x, weight, bias, None, residual, schedule=schedule)
    runner.tables = tuple(guarded(table, at_end=at_end) for table in runner.tables)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("empty", "scratch_floats"):
            make = getattr(winograd, name)
            patch.setattr(winograd, name, lambda *a, make=make: guarded(make(*a), at_end=at_end))
        packed = winograd.packed_weight
        patch.setattr(winograd, "packed_weight", lambda *a: guarded(packed(*a), at_end=at_end))
        runner(x, weight, bias, None, residual)


@pytest.mark.parametrize("activation", (None, "leaky_relu", "silu"))
@pytest.mark.parametrize("last", (False, True))
def test_a_block_is_its_parts_one_after_the_other(activation, last):
    memory_format = torch.channels_last if last else torch.contiguous_format
    x, weight = numbers(0, 2, 24, 9, 11).contiguous(memory_format=memory_format), numbers(1, 40, 24, 3, 3)
    bias, scale, residual = numbers(2, 40), numbers(3, 40), numbers(4, 2, 40, 9, 11)
    operation = arguments.block_spec(2, (3, 3), 1, 1, 1, 1, "zeros", activation, 0.2, None)
    schedule = WinogradSchedule((4, 4), 4, 2, 2, 1)
    with torch.no_grad():
        tensors = (x, weight, bias, scale, residual)
        result = dense.prepare_block(operation, *tensors, schedule=schedule)(*tensors)
    assert result.is_contiguous(memory_format=memory_format)
    conv = operation.convolution
    sums = torch.from_numpy(reference.run(conv, x.numpy(), weight.numpy(), None))
    y = sums * scale[:, None, None] + bias[:, None, None] + residual
    does = {None: lambda y: y, "leaky_relu": lambda y: F.leaky_relu(y, 0.2), "silu": F.silu}[activation]
    # Of all these activations the slope is at most 1.1.
    bound = 1.1 * winograd_bound(conv, x.numpy(), weight.numpy(), (4, 4)) * abs(scale.numpy())[:, None, None]
    bound += 8 * UNIT * (abs(sums * scale[:, None, None]) + abs(bias)[:, None, None] + abs(residual)).numpy()
    assert agrees(result.numpy(), does(y).numpy(), bound)


def test_the_comparison_fails_on_a_wrong_kernel():
    operation = spec.Convolution(spec.windows(2, 3, 1, 1))
    result, expected, bound = compare(
        operation, numbers(0, 1, 16, 8, 8), numbers(1, 16, 16, 3, 3), WinogradSchedule((4, 4), 4, 1, 1, 1)
    )
    wrong = result.copy()
    wrong[0, 2, 3, 3] += 2 * bound[0, 2, 3, 3]
    assert not agrees(wrong, expected, bound)
    assert not agrees(result[:, :, ::-1], expected, bound)


@pytest.mark.parametrize("stride", (1, 2))
def test_the_same_bits_for_any_number_of_threads(stride):
    x, weight = numbers(0, 2, 64, 19, 23), numbers(1, 64, 64, 3, 3)
    operation = spec.ConvolutionBlock(spec.windows(2, 3, stride, 1, mode="circular"))
    before = torch.get_num_threads()
    for apart in (False, True):
        runner = dense.prepare_block(operation, x, weight, schedule=WinogradSchedule((4, 4), 6, 2, 2, 1, apart))
        results = []
        try:
            for threads in (1, 2, 3, 8):
                torch.set_num_threads(threads)
                results.append(runner(x, weight))
        finally:
            torch.set_num_threads(before)
        assert all(torch.equal(results[0], result) for result in results)


def check_input_gradient(operation, size, inputs, outputs, kernel):
    x, weight = numbers(0, 2, inputs * operation.groups, *size), numbers(1, outputs * operation.groups, inputs, *kernel)
    dy = numbers(2, 2, len(weight), *operation.output_size(size))
    run = winograd.prepare_adjoint(operation, x, weight, dy)
    assert isinstance(run, winograd.Runner), run
    before = x.double().requires_grad_()
    pads = tuple(window.pads(n)[0] for window, n in zip(operation.windows, size, strict=True))
    dilations = tuple(window.dilation for window in operation.windows)
    y = F.conv2d(before, weight.double(), None, 1, pads, dilations, operation.groups)
    (expected,) = torch.autograd.grad(y, before, dy.double())
    tiles = run.launches[0].schedule.tile
    adjoint = spec.Convolution(
        tuple(
            Window(w.size, 1, w.dilation, w.extent - 1 - pad) for w, pad in zip(operation.windows, pads, strict=True)
        ),
        operation.groups,
    )
    mirrored = weight.reshape(operation.groups, outputs, inputs, *kernel).transpose(1, 2).flip(-1, -2)
    bound = winograd_bound(adjoint, dy.numpy(), mirrored.reshape(-1, outputs, *kernel).numpy(), tiles)
    assert agrees(run(dy, weight).numpy(), expected.numpy(), bound)


@pytest.mark.parametrize("padding, dilation, groups", ((0, 1, 1), (1, 1, 1), (2, 2, 1), (3, 1, 2), (5, 1, 1)))
def test_the_gradient_to_the_input_is_a_convolution_by_mirrored_weights(padding, dilation, groups):
    operation = spec.Convolution(spec.windows(2, 3, 1, padding, dilation), groups)
    with precision.precision("fast"):
        check_input_gradient(operation, (24, 31), 48, 64, (3, 3))


def test_training_steps_use_it():
    torch.manual_seed(0)
    layer, x = svertka.nn.Conv2d(64, 64, 3, padding=1), numbers(0, 2, 64, 28, 28).requires_grad_()
    report(reset=True)
    found = []
    for engine in ("kernels", "portable"):
        with using(engine), precision.precision("fast"):
            layer(x).square().mean().backward()
        found.append((x.grad, layer.weight.grad, layer.bias.grad))
        x.grad = None
        layer.zero_grad()
    assert next(iter(report(reset=True))).detail.startswith("winograd F(")
    for ours, torchs in zip(*found, strict=True):
        torch.testing.assert_close(ours, torchs, rtol=1e-4, atol=1e-5 * float(torchs.abs().max()))


def spoilt(value, tile, stride=1):
    x, weight = numbers(0, 1, 16, 12, 12), numbers(1, 16, 16, 3, 3)
    x[0, 3, 5, 6] = value
    operation = spec.Convolution(spec.windows(2, 3, stride, 1))
    runner = dense.prepare_convolution(operation, x, weight, None, schedule=WinogradSchedule((tile, tile), 4, 1, 1, 1))
    expected = reference.run(operation, x.numpy(), weight.numpy(), None)
    return ~np.isfinite(runner(x, weight).numpy()), ~np.isfinite(expected)


@pytest.mark.parametrize("value", (math.nan, math.inf, -math.inf))
@pytest.mark.parametrize("stride", (1, 2))
def test_in_small_tiles_what_is_not_finite_stays_in_its_windows(value, stride):
    found, expected = spoilt(value, 2, stride)
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("value", (math.nan, math.inf))
@pytest.mark.parametrize("stride", (1, 2))
def test_in_large_tiles_what_is_not_finite_spreads_over_the_tiles_that_read_it(value, stride):
    found, expected = spoilt(value, 4, stride)
    tiles = np.zeros_like(expected)
    for i, j in np.argwhere(expected.any((0, 1))) // 4 * 4:
        tiles[:, :, i : i + 4, j : j + 4] = True
    assert (found >= expected).all() and (found <= tiles).all() and found.sum() > expected.sum()


def error(operation, x, weight, schedule, expected):
    result = dense.prepare_convolution(operation, x, weight, None, schedule=schedule)(x, weight).numpy()
    return math.sqrt(((result - expected) ** 2).mean())


@pytest.mark.parametrize("relu", (False, True))
@pytest.mark.parametrize("channels", (32, 64, 256))
@pytest.mark.parametrize("kernel, stride", ((3, 1), (3, 2), (5, 2)))
def test_strict_algorithms_err_no_more_than_the_direct_sum(relu, channels, kernel, stride):
    operation = spec.Convolution(spec.windows(2, kernel, stride, kernel // 2))
    x, weight = numbers(0, 1, channels, 12 * stride, 12 * stride), numbers(1, 32, channels, kernel, kernel)
    sizes = [tile_sizes((kernel, kernel), precision.PRODUCTS[name], (stride, stride)) for name in ("strict", "fast")]
    x = x.clamp(min=0) if relu else x
    expected = reference.run(operation, x.numpy(), weight.numpy(), None)
    direct = error(operation, x, weight, dense.DIRECT, expected)
    for tile in sizes[0]:
        assert error(operation, x, weight, WinogradSchedule(tile, 4, 2, 4, 1), expected) <= direct
    for tile in sizes[1]:
        assert error(operation, x, weight, WinogradSchedule(tile, 4, 2, 4, 1), expected) <= 13 * direct


def detail(x, weight, **options):
    report(reset=True)
    with torch.no_grad(), using("kernels"):
        result = functional.conv2d(x, weight, padding=1, **options)
    return next(iter(report(reset=True))).detail, result


def test_the_policy_decides():
    x, weight = numbers(0, 1, 64, 56, 56), numbers(1, 64, 64, 3, 3)
    with svertka.precision("strict"):
        name, strict = detail(x, weight)
        assert name.startswith("winograd F(2×2, 3×3), ")
        with svertka.precision("fast"):
            assert svertka.get_precision() == "fast"
            name, fast = detail(x, weight)
        assert name.startswith("winograd F(") and not name.startswith("winograd F(2×2")
        assert svertka.get_precision() == "strict"
    assert not torch.equal(strict, fast)
    expected = F.conv2d(x.double(), weight.double(), padding=1)
    magnitude = F.conv2d(x.double().abs(), weight.double().abs(), padding=1).numpy()
    assert agrees(strict.numpy(), expected.numpy(), sum_bound(576, magnitude))


@pytest.mark.parametrize("name", ("exact", "", None))
def test_an_unknown_policy_is_named(name):
    with pytest.raises(SvertkaError, match=f"{name!r} is no precision: choose one of fast, strict"):
        svertka.set_precision(name)


def test_the_environment_sets_the_policy():
    code = "import svertka; print(svertka.get_precision())"
    for name, expected in (("fast", "fast"), ("loose", "SVERTKA_PRECISION=loose is no precision")):
        environment = {**os.environ, "SVERTKA_PRECISION": name}
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
        )
        assert expected in done.stdout + done.stderr


def pooled(operation, x, weight, bias, schedule):
    """A block with a pooling beside what its parts give, and how far it may be off."""
    runner = dense.prepare_block(operation, x, weight, bias, schedule=schedule)
    assert "winograd" in runner.detail
    result = runner(x, weight, bias)
    conv, pool = operation.convolution, spec.MaxPool(operation.pool)
    sums = reference.run(conv, x.numpy(), weight.numpy(), None) + bias.numpy().reshape(-1, *(1,) * operation.ndim)
    does = {"relu": F.relu, "silu": F.silu}[operation.activation.name]
    expected = reference.run(pool, does(torch.from_numpy(sums)).numpy())
    # Neither the activation (whose slope is at most 1.1) nor a maximum makes a difference larger.
    bound = 1.1 * winograd_bound(conv, x.numpy(), weight.numpy(), schedule.tile) + 8 * UNIT * abs(sums)
    return result, expected, reference.run(pool, bound)


@pytest.mark.parametrize("activation", ("relu", "silu"))
@pytest.mark.parametrize("at_end", (False, True))
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("tile", "pool"), ((2, 2), (4, 2), (6, 2), (6, 3), (4, (1, 2)), (4, (4, 1))))
def test_poolings_of_a_tile(tile, pool, mode, at_end, activation):
    memory_format = torch.channels_last if at_end else torch.contiguous_format
    x = guarded(numbers(0, 2, 17, 7, 10).contiguous(memory_format=memory_format), at_end=at_end)
    weight, bias = guarded(numbers(1, 19, 17, 3, 3), at_end=at_end), guarded(numbers(2, 19), at_end=at_end)
    operation = arguments.block_spec(2, (3, 3), 1, 1, 1, 1, mode, activation, 0.0, pool)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("empty", "scratch_floats"):
            make = getattr(winograd, name)
            patch.setattr(winograd, name, lambda *a, make=make: guarded(make(*a), at_end=at_end))
        result, expected, bound = pooled(operation, x, weight, bias, WinogradSchedule((tile, tile), 3, 1, 2, 1))
    assert result.is_contiguous(memory_format=memory_format)
    assert agrees(result.numpy(), expected, bound)
    assert not agrees(result.numpy(), np.roll(expected, 1, axis=-1), bound)


def test_poolings_on_one_axis():
    x, weight, bias = numbers(0, 2, 20, 31), numbers(1, 33, 20, 5), numbers(2, 33)
    operation = arguments.block_spec(1, (5,), 1, 2, 1, 1, "zeros", "relu", 0.0, 2)
    result, expected, bound = pooled(operation, x, weight, bias, WinogradSchedule((1, 4), 3, 2, 2, 1))
    assert agrees(result.numpy(), expected, bound)


def test_what_is_not_a_number_is_the_largest():
    x, weight = numbers(0, 1, 32, 8, 8), numbers(1, 32, 32, 3, 3)
    x[0, 3, 4, 4] = math.nan
    operation = arguments.block_spec(2, (3, 3), 1, 1, 1, 1, "zeros", "relu", 0.0, 2)
    result = dense.prepare_block(operation, x, weight, schedule=WinogradSchedule((2, 2), 3, 1, 2, 1))(x, weight)
    assert (result.isnan().sum((0, 1)) == 32 * (F.max_pool2d(F.conv2d(x, weight, padding=1), 2).isnan()[0, 0])).all()


def test_pooling_windows_that_no_tile_holds_are_left_to_others():
    x, weight = numbers(0, 1, 32, 12, 12), numbers(1, 32, 32, 3, 3)
    for dilation, pool in ((2, spec.windows(2, 2, 2)), (1, spec.windows(2, 2, 2, 1)), (1, spec.windows(2, 2, 3))):
        operation = spec.ConvolutionBlock(spec.windows(2, 3, 1, 1, dilation), 1, None, pool)
        reason = winograd.prepare_winograd(operation, x, weight, Epilogue())
        assert "side by side" in reason
    operation = spec.ConvolutionBlock(spec.windows(2, 3, 1, 1), 1, None, spec.windows(2, 2, 2))
    with pytest.raises(ValueError, match="not whole windows of 2×2"):
        winograd.prepare_winograd(operation, x, weight, Epilogue(), WinogradSchedule((3, 3), 3, 1, 2, 1))


def test_changed_weights_are_seen():
    x, weight = numbers(0, 1, 16, 12, 12), numbers(1, 16, 16, 3, 3)
    operation = spec.Convolution(spec.windows(2, 3, 1, 1))
    runner = dense.prepare_convolution(operation, x, weight, None, schedule=WinogradSchedule((4, 4), 3, 1, 3, 1))
    for change in (lambda: None, lambda: weight.mul_(2), lambda: weight.data[3, 5].add_(1)):
        change()
        torch.testing.assert_close(runner(x, weight), F.conv2d(x, weight, padding=1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "arguments",
    ({"stride": 3}, {"kernel": (1, 1)}, {"kernel": (4, 4)}, {"inputs": 8}, {"outputs": 8}),
    ids=str,
)
def test_what_the_family_does_not_suit(arguments):
    kernel = arguments.get("kernel", (3, 3))
    operation = spec.ConvolutionBlock(spec.windows(2, kernel, arguments.get("stride", 1), 1))
    weight = torch.empty(arguments.get("outputs", 32), arguments.get("inputs", 32), *kernel)
    assert not winograd.suits(operation, weight)


def test_gradients_of_strided_ones_are_left_to_others():
    operation = spec.Convolution(spec.windows(2, 3, 2, 1))
    x, weight, dy = torch.empty(2, 64, 28, 28), torch.empty(64, 64, 3, 3), torch.empty(2, 64, 14, 14)
    assert winograd.suits(spec.ConvolutionBlock(operation.windows), weight)
    assert winograd.prepare_adjoint(operation, x, weight, dy) == "the family doesn't suit"
    assert winograd_gradient.prepare_weight_gradient(operation, x, weight, dy, False) == "the family doesn't suit"


def test_the_rules_prefer_winograd_where_there_is_much_to_do_and_nothing_where_there_is_little():
    large, small = Winograd(64, 64, (3, 3), Epilogue()), Winograd(16, 16, (3, 3), Epilogue())
    assert isinstance(choose_winograd(large, host(), 8, 1, 56, 56, 8, 0), WinogradSchedule)
    assert choose_winograd(small, host(), 1, 1, 4, 4, 8, 0) == Direct()
    found = candidates_winograd(large, host(), 8, 1, 56, 56, 8, 0)
    assert Direct() in found and {schedule.tile[0] for schedule in found if schedule != Direct()} == {2, 3, 4, 5, 6}
