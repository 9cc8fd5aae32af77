import math
from contextlib import contextmanager

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from engine.bounds import UNIT, agrees, sum_bound
from geometries import geometries
from guarded import guarded
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from svertka import arguments, functional, reference, spec
from svertka.engine import dense
from svertka.engine.dispatch import using
from svertka.engine.report import report
from svertka.errors import GeometryError
from svertka.kernels.dense import DenseSchedule
from svertka.window import MODES

SCHEDULES = (
    DenseSchedule(1, 1),
    DenseSchedule(4, 1, tiles=2),
    DenseSchedule(3, 2, tiles=1, blocks=2),
    DenseSchedule(6, 2, tiles=3, block_taps=2),
    DenseSchedule(5, 1, tiles=2, block_taps=1, block_inputs=3),
)


def numbers(seed, *shape):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def magnitude(operation, x, weight, bias):
    return reference.run(operation, abs(x), abs(weight), None if bias is None else abs(bias))


def check(operation, x, weight, bias, schedule, prepare=dense.prepare_convolution):
    if prepare is dense.prepare_convolution:
        block = spec.ConvolutionBlock(operation.windows, operation.groups)
        runner = dense.prepare_block(block, x, weight, bias, schedule=schedule)
    else:
        runner = prepare(operation, x, weight, bias, schedule=schedule)
    assert not isinstance(runner, str), runner
    result = runner(x, weight, bias).numpy()
    arrays = [None if t is None else t.numpy() for t in (x, weight, bias)]
    terms = weight[0].numel() if prepare is dense.prepare_convolution else weight.shape[0] * weight[0, 0].numel()
    bound = sum_bound(terms, magnitude(operation, *arrays))
    expected = reference.run(operation, *arrays)
    assert agrees(result, expected, bound)
    return result, expected, bound


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
@given(data=st.data())
@settings(max_examples=12, deadline=None)
def test_each_schedule_computes_the_reference(schedule, data):
    geometry = data.draw(geometries())
    operation = spec.Convolution(geometry.windows, data.draw(st.sampled_from((1, 2))))
    try:
        outputs = math.prod(operation.output_size(geometry.size))
    except GeometryError:
        assume(False)
    assume(outputs < 500)
    inputs, width = data.draw(st.sampled_from(((1, 1), (3, 5), (9, 17), (5, 33))))
    x = numbers(0, data.draw(st.integers(1, 2)), inputs * operation.groups, *geometry.size)
    weight = numbers(1, width * operation.groups, inputs, *geometry.kernel_size)
    bias = numbers(2, len(weight)) if data.draw(st.booleans()) else None
    check(operation, x, weight, bias, schedule)


@pytest.mark.parametrize("pixels", (1, 2, 3, 5, 6, 7, 8, 23, 24, 25))
@pytest.mark.parametrize("width", (1, 15, 16, 17, 31, 32, 33))
def test_tiles_may_be_full_or_not(pixels, width):
    operation = spec.Convolution(spec.windows(1, 1))
    schedule = DenseSchedule(3, 2, tiles=4)
    check(operation, numbers(0, 1, 4, pixels), numbers(1, width, 4, 1), numbers(2, width), schedule)


@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_transposed_convolutions_phase_by_phase(data):
    ndim = data.draw(st.integers(1, 3))
    most = (12, 6, 3)[ndim - 1]
    size = [data.draw(st.integers(1, most)) for _ in range(ndim)]
    kernel = [data.draw(st.integers(1, 4)) for _ in range(ndim)]
    stride, dilation = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 2))
    padding, extra = data.draw(st.integers(0, 2)), data.draw(st.integers(0, max(stride, dilation) - 1))
    groups = data.draw(st.sampled_from((1, 2)))
    operation = spec.TransposedConvolution(
        spec.transposed_windows(ndim, kernel, stride, padding, extra, dilation), groups
    )
    try:
        operation.output_size(size)
    except GeometryError:
        assume(False)
    x, weight = numbers(0, 2, 3 * groups, *size), numbers(1, 3 * groups, 5, *kernel)
    bias = numbers(2, 5 * groups) if data.draw(st.booleans()) else None
    check(operation, x, weight, bias, data.draw(st.sampled_from(SCHEDULES)), dense.prepare_transposed)


@pytest.mark.parametrize("batch", (1, 5, 6, 7, 64))
def test_a_linear_layer_is_a_convolution_with_no_axes(batch):
    x, weight, bias = numbers(0, batch, 37), numbers(1, 53, 37), numbers(2, 53)
    check(spec.Convolution(()), x, weight, bias, None)
    with torch.no_grad(), using("kernels"):
        result = functional.linear(x[:, None], weight, bias)
    assert result.stride() == F.linear(x[:, None], weight, bias).stride()


@pytest.mark.parametrize("images", (1, 3))
def test_small_images_are_one_to_the_kernel(images):
    check(
        spec.Convolution(spec.windows(2, 3, 1, 1)), numbers(0, images, 40, 4, 4), numbers(1, 20, 40, 3, 3), None, None
    )


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("at_end", (False, True))
@pytest.mark.parametrize("last", (False, True))
@pytest.mark.parametrize("kernel, channels", ((3, 40), (1, 16)))
def test_no_byte_outside_is_touched(mode, at_end, last, kernel, channels):
    memory_format = torch.channels_last if last else torch.contiguous_format
    x = guarded(numbers(0, 2, channels, 5, 7).contiguous(memory_format=memory_format), at_end=at_end)
    weight = guarded(numbers(1, 19, channels, kernel, kernel), at_end=at_end)
    bias, residual = guarded(numbers(2, 19), at_end=at_end), numbers(3, 2, 19, 5, 7)
    residual = guarded(residual.contiguous(memory_format=torch.channels_last), at_end=at_end)
    operation = arguments.block_spec(2, (kernel, kernel), 1, kernel // 2, 1, 1, mode, "relu", 0.0, None)
    runner = dense.prepare_block(operation, x, weight, bias, None, residual)
    with watched_results(at_end):
        runner(x, weight, bias, None, residual)


@contextmanager
def watched_results(at_end):
    """Lets the engine write its results between guard pages."""
    with pytest.MonkeyPatch.context() as patch:
        empty = dense.empty
        patch.setattr(dense, "empty", lambda shape, last: guarded(empty(shape, last), at_end=at_end))
        yield


@pytest.mark.parametrize("name", spec.ACTIVATIONS)
def test_activations(name):
    x = torch.cat([torch.linspace(-30, 30, 4001), torch.linspace(-1, 1, 997), torch.tensor([0.0, -0.0])])
    extremes = torch.tensor([1e-30, -1e-30, 1e30, -1e30, math.inf, -math.inf, math.nan, 88.0, -88.0, -104.0])
    x = torch.cat([x, extremes])[None, None]
    with torch.no_grad(), using("kernels"):
        result = functional.conv_block1d(x, torch.ones(1, 1, 1), activation=name)
    torch_activation = {"sigmoid": torch.sigmoid, "tanh": torch.tanh}.get(name) or getattr(F, name)
    expected = torch_activation(x.double())
    # Units for the operations of e^x and the division; for gelu erf's own error of 1.5e-7 on top.
    own = 2e-7 * (1 + x.clamp(-8, 8).nan_to_num().abs().numpy()) * (name == "gelu")
    bound = 8 * UNIT * np.abs(expected.nan_to_num(0, 0, 0).numpy()) + own + 1e-36
    assert agrees(result.numpy(), expected.numpy(), bound)


def test_a_block_is_its_parts_one_after_the_other():
    x, weight = numbers(0, 2, 40, 12, 12), numbers(1, 20, 40, 3, 3)
    bias, scale, residual = numbers(2, 20), numbers(3, 20), numbers(4, 2, 20, 12, 12)
    arguments = {"padding": 1, "scale": scale, "residual": residual, "activation": "leaky_relu", "negative_slope": 0.2}
    with torch.no_grad(), using("kernels"):
        result = functional.conv_block2d(x, weight, bias, **arguments)
        pooled = functional.conv_block2d(x, weight, bias, padding=1, activation="relu", pool_size=2)
    y = F.conv2d(x.double(), weight.double(), padding=1) * scale.double()[:, None, None] + bias[:, None, None]
    expected = F.leaky_relu(y + residual, 0.2)
    sums = F.conv2d(x.double().abs(), weight.double().abs(), padding=1)
    bound = sum_bound(364, (sums * scale.abs()[:, None, None] + abs(bias)[:, None, None] + abs(residual)).numpy())
    assert agrees(result.numpy(), expected.numpy(), bound)
    expected = F.max_pool2d(F.relu(F.conv2d(x.double(), weight.double(), bias.double(), padding=1)), 2)
    bound = sum_bound(362, F.max_pool2d(sums + abs(bias)[:, None, None], 2).numpy())
    assert agrees(pooled.numpy(), expected.numpy(), bound)


def test_what_is_not_a_number_spreads_as_in_the_reference():
    x = numbers(0, 1, 40, 6, 6)
    x[0, 1, 2, 2], x[0, 0, 5, 5] = math.nan, math.inf
    operation = spec.Convolution(spec.windows(2, 3, 1, 1))
    check(operation, x, numbers(1, 4, 40, 3, 3), None, None)


def test_the_comparison_fails_on_a_wrong_kernel():
    operation = spec.Convolution(spec.windows(2, 3, 1, 1))
    x, weight = numbers(0, 1, 40, 6, 6), numbers(1, 4, 40, 3, 3)
    result, expected, bound = check(operation, x, weight, None, None)
    wrong = result.copy()
    wrong[0, 2, 3, 3] += 4 * bound[0, 2, 3, 3]
    assert not agrees(wrong, expected, bound)
    assert not agrees(result[:, :, ::-1], expected, bound)
    assert not agrees(np.where(result == result.max(), np.nan, result), expected, bound)


def test_the_same_bits_for_any_number_of_threads():
    x, weight, bias = numbers(0, 2, 40, 19, 23), numbers(1, 48, 40, 3, 3), numbers(2, 48)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3, 8):
            torch.set_num_threads(threads)
            with torch.no_grad(), using("kernels"):
                results.append(functional.conv2d(x, weight, bias, padding=1, padding_mode="circular"))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(results[0], result) for result in results)


def test_changed_weights_are_seen():
    x, weight, bias = numbers(0, 1, 4, 6, 6), numbers(1, 8, 4, 3, 3), numbers(2, 8)

    def holds():
        with torch.no_grad(), using("kernels"):
            torch.testing.assert_close(functional.conv2d(x, weight, bias), F.conv2d(x, weight, bias))

    holds()
    weight.mul_(2)
    bias[3] = 7
    holds()
    weight.data[0, 0, 0, 0] += 1
    holds()
    parameter = torch.nn.Parameter(weight)
    parameter.grad = torch.ones_like(weight)
    optimizer = torch.optim.AdamW([parameter], 0.1, fused=True)
    for _ in range(2):
        optimizer.step()
        with torch.no_grad(), using("kernels"):
            torch.testing.assert_close(functional.conv2d(x, parameter, bias), F.conv2d(x, parameter, bias))
    weight.data = numbers(5, 8, 4, 3, 3)
    holds()
    with torch.inference_mode():
        weight = numbers(6, 8, 4, 3, 3)
    holds()


def test_results_lie_as_torchs_do():
    for channels, out in ((3, 8), (1, 4), (8, 1), (40, 8), (40, 1)):
        x, weight = numbers(0, 2, channels, 7, 5), numbers(1, out, channels, 3, 3)
        for memory_format in (torch.contiguous_format, torch.channels_last):
            for weight_format in (torch.contiguous_format, torch.channels_last):
                a, b = x.contiguous(memory_format=memory_format), weight.contiguous(memory_format=weight_format)
                with torch.no_grad(), using("kernels"):
                    assert functional.conv2d(a, b).stride() == F.conv2d(a, b).stride()


def test_the_report_tells_who_computed():
    report(reset=True)
    x, weight = numbers(0, 1, 40, 5, 5), numbers(1, 3, 40, 3, 3)
    with torch.no_grad():
        functional.conv2d(x, weight)
        functional.conv2d(x.double(), weight.double())
    functional.lp_pool2d(x.requires_grad_(), 2.0, 2)
    paths = [(call.path, call.detail) for call in report()]
    assert paths[0][0] == "kernel" and paths[0][1].startswith("dense")
    assert paths[1:] == [
        ("portable", "float64 is computed by torch"),
        ("portable", "it needs gradients"),
    ]
