import pytest
import torch
from engine.bounds import agrees, sum_bound
from geometries import geometries
from guarded import guarded
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from svertka import arguments, portable, spec
from svertka.engine import autograd, depthwise_gradients, layout, packing
from svertka.engine.step import Saved
from svertka.errors import GeometryError
from svertka.kernels.depthwise_gradient import DepthwiseWeightSchedule
from svertka.window import MODES, Window

LAST = torch.channels_last


def by_torch(operation, dy, *tensors):
    leaves = [tensor.double().requires_grad_() for tensor in tensors]
    return torch.autograd.grad(portable.run(operation, *leaves), leaves, dy.double())


def check(operation, x, weight, bias, last=False):
    """All gradients by the step of the operation: (found, expected, bounds)."""
    dy = torch.randn(portable.run(operation, x, weight, bias).shape)
    dy = dy.contiguous(memory_format=LAST) if last else dy
    tensors = x, weight, bias
    step = autograd.GRADIENTS[type(operation)].prepare(operation, *tensors)
    found = step.backward(dy, Saved((True,) * 3, x, (weight, bias), []))
    expected = by_torch(operation, dy, *tensors)
    magnitudes = by_torch(operation, dy.abs(), *(tensor.abs() for tensor in tensors))
    terms = weight.numel() * 4, dy[:, 0].numel(), dy[:, 0].numel()
    bounds = [sum_bound(n, m.numpy()) + 1e-30 for n, m in zip(terms, magnitudes, strict=True)]
    for gradient, true, bound, tensor in zip(found, expected, bounds, tensors, strict=True):
        assert gradient.shape == tensor.shape
        assert agrees(gradient, true, bound)
    return found, expected, bounds


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_depthwise_gradients_are_the_adjoint(data):
    geometry = data.draw(geometries())
    channels = data.draw(st.sampled_from((2, 5, 16, 21, 48)))
    multiplier = data.draw(st.sampled_from((1, 1, 2, 3)))
    operation = spec.Convolution(geometry.windows, channels)
    try:
        operation.output_size(geometry.size)
    except GeometryError:
        assume(False)
    last = geometry.ndim == 2 and data.draw(st.booleans())
    x = torch.randn(2, channels, *geometry.size)
    weight = torch.randn(channels * multiplier, 1, *geometry.kernel_size)
    if last:
        x, weight = (tensor.contiguous(memory_format=LAST) for tensor in (x, weight))
    check(operation, x, weight, torch.randn(len(weight)), last)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kernel", (3, 7, 31))
def test_wide_kernels(mode, kernel):
    operation = arguments.convolution_spec(2, (kernel, kernel), 1, kernel // 2, 1, 18, mode)
    check(operation, torch.randn(1, 18, 12, 33), torch.randn(18, 1, kernel, kernel), torch.randn(18))


@pytest.mark.parametrize("schedule", [(1, 1, 1), (3, 1, 1), (2, 2, 1), (1, 1, 2), (1, 2, 3)])
def test_every_schedule(schedule, monkeypatch):
    chosen = DepthwiseWeightSchedule(*schedule)
    monkeypatch.setattr(depthwise_gradients, "choose_depthwise_weight", lambda *_: chosen)
    operation = arguments.convolution_spec(2, (5, 5), 2, 2, 1, 40, "reflect")
    check(operation, torch.randn(2, 40, 9, 11), torch.randn(40, 1, 5, 5), torch.randn(40))


@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_transposed_gradients_are_the_adjoint(data):
    geometry = data.draw(geometries(modes=("zeros",), numeric=True))
    groups, inner, outer = (data.draw(st.sampled_from((1, 2, 9))) for _ in range(3))
    try:
        windows = spec.transposed_windows(
            geometry.ndim, geometry.kernel_size, geometry.stride, geometry.padding, dilation=geometry.dilation
        )
        operation = spec.TransposedConvolution(windows, groups)
        operation.output_size(geometry.size)
    except GeometryError:
        assume(False)
    x = torch.randn(2, groups * inner, *geometry.size)
    check(operation, x, torch.randn(groups * inner, outer, *geometry.kernel_size), torch.randn(groups * outer))


def test_transposed_with_output_padding():
    x, weight = torch.randn(2, 4, 5, 6), torch.randn(4, 3, 3, 3)
    check(arguments.transposed_spec(2, (3, 3), 2, 1, 1, 1, 1), x, weight, torch.randn(3))
    step = autograd.GRADIENTS[spec.TransposedConvolution].prepare(
        arguments.transposed_spec(2, (3, 3), 1, 1, 1, 1, 2), x, weight
    )
    assert "output padding" in step


def test_the_comparison_fails_on_a_wrong_gradient():
    operation = arguments.convolution_spec(2, (3, 3), 1, 1, 1, 8, "zeros")
    for found, true, bound in zip(
        *check(operation, torch.randn(2, 8, 6, 6), torch.randn(8, 1, 3, 3), torch.randn(8)), strict=True
    ):
        assert not agrees(found.flip(-1), true, bound)
        assert not agrees(found + 3 * torch.from_numpy(bound).float(), true, bound)


@pytest.mark.parametrize("at_end", (False, True))
@pytest.mark.parametrize(("stride", "mode"), [(1, "zeros"), (2, "circular")])
def test_no_byte_outside_is_touched(at_end, stride, mode, monkeypatch):
    operation = arguments.convolution_spec(2, (3, 3), stride, 1, 1, 19, mode)
    x, weight, bias = torch.randn(2, 19, 5, 7), torch.randn(19, 1, 3, 3), torch.randn(19)
    dy = torch.randn(portable.run(operation, x, weight, bias).shape).contiguous(memory_format=LAST)
    x, weight, bias, dy = (guarded(t, at_end=at_end) for t in (x.contiguous(memory_format=LAST), weight, bias, dy))
    for module, name in (
        (depthwise_gradients, "scratch_floats"), (layout, "scratch_floats"), (packing, "scratch_floats"),
        (depthwise_gradients, "constant_line"), (torch, "empty_strided"), (torch, "empty"),
    ):  # fmt: skip
        real = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *a, real=real, **k: guarded(real(*a, **k), at_end=at_end))
    step = depthwise_gradients.prepare_depthwise_step(operation, x, weight, bias)
    step.backward(dy, Saved((True,) * 3, x, (weight, bias), []))


def test_the_same_bits_for_any_number_of_threads():
    operation = arguments.convolution_spec(2, (5, 5), 1, 2, 1, 32, "zeros")
    x, weight, dy = torch.randn(8, 32, 14, 14), torch.randn(32, 1, 5, 5), torch.randn(8, 32, 14, 14)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3, 8):
            torch.set_num_threads(threads)
            dw, _ = depthwise_gradients.prepare_weight_gradient(operation, x, weight, dy, False)(x, dy)
            results.append((depthwise_gradients.prepare_input_gradient(operation, x, weight, dy)(dy, weight), dw))
    finally:
        torch.set_num_threads(before)
    for result in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(result, results[0], strict=True))


def test_a_turned_window_reads_what_reads_an_input():
    for padding, dilation, size in ((0, 1, 3), (2, 2, 3), (5, 1, 2)):
        window, n = Window(size, 1, dilation, (padding, padding + 1)), 6
        turned = window.turned(n)
        found = turned.sources(window.output_size(n))[:, ::-1]
        assert (found == window.readers(n)[..., 0]).all()
    assert Window(3, 2).turned(7) is None
    assert Window(3, mode="reflect").turned(7) is None
