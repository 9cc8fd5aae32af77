import itertools

import pytest
import torch
from engine.bounds import agrees, sum_bound
from geometries import geometries
from guarded import guarded
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from svertka import arguments, functional, portable, spec
from svertka.engine import dense_gradients, layout, packing
from svertka.engine.dispatch import using
from svertka.errors import GeometryError
from svertka.window import MODES, Window, readers, sources


def random(*shape):
    return torch.randn(shape)


def by_torch(operation, x, weight, dy):
    """All gradients in float64, and the sums of their terms' magnitudes."""

    def gradients(x, weight, dy):
        leaves = [t.double().requires_grad_() for t in (x, weight, torch.zeros(dy.shape[1]))]
        return torch.autograd.grad(portable.run(operation, *leaves), leaves, dy.double())

    return gradients(x, weight, dy), gradients(x.abs(), weight.abs(), dy.abs())


def check(operation, x, weight):
    dy = random(x.shape[0], weight.shape[0], *operation.output_size(x.shape[2:]))
    expected, magnitudes = by_torch(operation, x, weight, dy)
    dx = dense_gradients.prepare_input_gradient(operation, x, weight, dy)(dy, weight)
    dw, db = dense_gradients.prepare_weight_gradient(operation, x, weight, dy, True)(x, dy)
    alone, nothing = dense_gradients.prepare_weight_gradient(operation, x, weight, dy, False)(x, dy)
    assert torch.equal(alone, dw)
    assert nothing is None
    assert dw.stride() == weight.stride()
    terms = (weight[:, 0].numel() * 4, dy[:, 0].numel(), dy[:, 0].numel())
    for found, true, magnitude, count in zip((dx, dw, db), expected, magnitudes, terms, strict=True):
        assert agrees(found, true, sum_bound(count, magnitude.numpy()) + 1e-30)
    return (dx, dw, db), expected, magnitudes


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_gradients_are_the_adjoint(data):
    geometry = data.draw(geometries())
    groups = data.draw(st.sampled_from((1, 2)))
    operation = spec.Convolution(geometry.windows, groups)
    try:
        operation.output_size(geometry.size)
    except GeometryError:
        assume(False)
    inputs, outputs = data.draw(st.sampled_from(((1, 1), (3, 5), (9, 17))))
    x = random(2, inputs * groups, *geometry.size)
    check(operation, x, random(outputs * groups, inputs, *geometry.kernel_size))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("last", (False, True))
@pytest.mark.parametrize("channels", (3, 9))
def test_formats_and_modes(mode, last, channels):
    memory_format = torch.channels_last if last else torch.contiguous_format
    operation = arguments.convolution_spec(2, (3, 3), 2, 2, 1, 1, mode)
    x = random(2, channels, 7, 9).contiguous(memory_format=memory_format)
    weight = random(20, channels, 3, 3).contiguous(memory_format=memory_format)
    (dx, _, _), _, _ = check(operation, x, weight)
    assert dx.stride() == x.stride()


@pytest.mark.parametrize("at_end", (False, True))
@pytest.mark.parametrize("channels", (3, 16))
def test_no_byte_outside_is_touched(at_end, channels, monkeypatch):
    operation = arguments.convolution_spec(2, (3, 3), 1, 1, 1, 1, "reflect")
    x, weight = guarded(random(2, channels, 5, 7), at_end=at_end), guarded(random(19, channels, 3, 3), at_end=at_end)
    dy = random(2, 19, 5, 7).contiguous(memory_format=torch.channels_last)
    dy = guarded(dy, at_end=at_end)
    made = ((dense_gradients, "scratch_floats"), (layout, "scratch_floats"), (packing, "scratch_floats"))
    for module, name in (*made, (torch, "empty_strided"), (torch, "empty")):
        real = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *a, real=real, **k: guarded(real(*a, **k), at_end=at_end))
    dense_gradients.prepare_input_gradient(operation, x, weight, dy)(dy, weight)
    dense_gradients.prepare_weight_gradient(operation, x, weight, dy, True)(x, dy)


def test_the_comparison_fails_on_a_wrong_gradient():
    operation = arguments.convolution_spec(1, (3,), 1, 1, 1, 1, "zeros")
    x, weight = random(2, 4, 9), random(5, 4, 3)
    gradients, expected, magnitudes = check(operation, x, weight)
    for found, true, magnitude in zip(gradients, expected, magnitudes, strict=True):
        bound = sum_bound(40, magnitude.numpy())
        assert not agrees(found.flip(-1), true, bound)
        assert not agrees(found + 3 * torch.from_numpy(bound).float(), true, bound)


def test_readers_are_the_sources_turned_round():
    for mode, padding, stride, dilation in itertools.product(MODES, (0, 1, 5), (1, 2), (1, 2)):
        window = Window(3, stride, dilation, (padding, padding + 1), mode)
        n = 6
        table = window.sources(n)
        expected = sorted((int(i), t, o) for o, row in enumerate(table) for t, i in enumerate(row) if i >= 0)
        found = window.readers(n)
        assert (
            sorted((i, t, int(o)) for i, row in enumerate(found) for t, os in enumerate(row) for o in os if o >= 0)
            == expected
        )
    windows, size = (Window(3, 1, 1, (2, 2), "replicate"), Window(2, 2, 1, (1, 0), "circular")), (4, 5)
    table = sources(windows, size)
    pairs = sorted((int(i), t, o) for o, row in enumerate(table.reshape(-1, 6)) for t, i in enumerate(row) if i >= 0)
    found = [
        (i, t, int(o))
        for index in readers(windows, size)
        for i, row in enumerate(index.reshape(-1, 6))
        for t, o in enumerate(row)
        if o >= 0
    ]
    assert sorted(found) == pairs


def test_gradients_flow_through_layers():
    x, weight, bias = random(2, 3, 6, 6), random(4, 3, 3, 3), random(4)
    results = []
    for engine in ("kernels", "portable"):
        leaves = [t.clone().requires_grad_() for t in (x, weight, bias)]
        with using(engine):
            y = functional.conv2d(*leaves, padding=1, padding_mode="circular")
        results.append([y, *torch.autograd.grad(y.square().sum(), leaves)])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_only_the_gradients_that_are_needed():
    x, weight, bias = random(1, 3, 6, 6), random(4, 3, 3, 3), random(4)
    for chosen in range(3):
        leaves = [t.clone().requires_grad_(i == chosen) for i, t in enumerate((x, weight, bias))]
        with using("kernels"):
            functional.conv2d(*leaves).sum().backward()
        assert [leaf.grad is not None for leaf in leaves] == [i == chosen for i in range(3)]


def test_gradients_of_gradients():
    x, weight = random(1, 2, 5, 5), random(3, 2, 3, 3)
    results = []
    for engine in ("kernels", "portable"):
        leaves = [t.clone().requires_grad_() for t in (x, weight)]
        with using(engine):
            y = functional.conv2d(*leaves)
            (dx,) = torch.autograd.grad(y.pow(3).sum(), leaves[0], create_graph=True)
            results.append(torch.autograd.grad(dx.square().sum(), leaves))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


def test_the_same_bits_for_any_number_of_threads():
    operation = arguments.convolution_spec(2, (3, 3), 1, 1, 1, 1, "zeros")
    x, weight, dy = random(8, 16, 14, 14), random(24, 16, 3, 3), random(8, 24, 14, 14)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3, 8):
            torch.set_num_threads(threads)
            results.append(dense_gradients.prepare_weight_gradient(operation, x, weight, dy, False)(x, dy)[0])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(results[0], result) for result in results)
