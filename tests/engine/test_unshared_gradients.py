import math

import pytest
import torch
from comparing import numbers
from engine.bounds import agrees, sum_bound
from geometries import geometries
from guarded import guarded
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from svertka import explain, functional, nn, portable, spec
from svertka.engine import unshared_gradients
from svertka.engine.dispatch import using
from svertka.engine.layout import CHANNELS_LAST
from svertka.engine.step import Saved
from svertka.window import MODES

FLOAT = torch.float32


def operands(operation, images, inputs, outputs, size, kernel, last=False):
    """[x, weight, bias] with so many channels for each group."""
    room, groups = operation.output_size(size), operation.groups
    x = numbers((images, inputs * groups, *size), 0, FLOAT)
    x = x.contiguous(memory_format=CHANNELS_LAST[x.ndim]) if last and x.ndim in CHANNELS_LAST else x
    return [
        x,
        numbers((*room, outputs * groups, inputs, *kernel), 1, FLOAT),
        numbers((*room, outputs * groups), 2, FLOAT),
    ]


def gradients(operation, tensors, dy, engine):
    leaves = [t.clone(memory_format=torch.preserve_format).requires_grad_() for t in tensors]
    with using(engine):
        return torch.autograd.grad(functional.run(operation, *leaves), leaves, dy)


def expected_of(operation, tensors, dy):
    leaves = [t.double().requires_grad_() for t in tensors]
    return torch.autograd.grad(portable.run(operation, *leaves), leaves, dy.double())


def check(operation, tensors):
    x, weight, _ = tensors
    dy = numbers((len(x), weight.shape[operation.ndim], *operation.output_size(x.shape[2:])), 3, FLOAT)
    found = gradients(operation, tensors, dy, "kernels")
    expected, magnitudes = (
        expected_of(operation, ts, d) for ts, d in ((tensors, dy), ([t.abs() for t in tensors], dy.abs()))
    )
    terms = math.prod(weight.shape[operation.ndim :]) + len(x)
    bounds = [sum_bound(terms, magnitude.numpy()) for magnitude in magnitudes]
    for ours, true, bound in zip(found, expected, bounds, strict=True):
        assert agrees(ours, true, bound)
    assert found[0].stride() == x.stride()
    return found, expected, bounds


@given(data=st.data())
@settings(max_examples=30, deadline=None, derandomize=True, database=None)
def test_the_gradients_are_those_of_the_definition(data):
    geometry = data.draw(geometries())
    operation = spec.Unshared(geometry.windows, data.draw(st.sampled_from((1, 2))))
    assume(math.prod(operation.output_size(geometry.size)) < 200)
    inputs, outputs = data.draw(st.sampled_from(((1, 1), (3, 5), (9, 4))))
    images, last = data.draw(st.integers(1, 3)), data.draw(st.booleans())
    check(operation, operands(operation, images, inputs, outputs, geometry.size, geometry.kernel_size, last))


@pytest.mark.parametrize("images", (1, 3, 4, 5, 31, 32, 33, 70))
def test_blocks_of_images_may_be_full_or_not(images):
    operation = spec.Unshared(spec.windows(2, 3, 1, 1))
    check(operation, operands(operation, images, 3, 5, (4, 3), (3, 3)))


@pytest.mark.parametrize("terms", (1, 15, 16, 17, 63, 64, 65, 131))
def test_rows_may_be_whole_vectors_or_not(terms):
    operation = spec.Unshared(spec.windows(1, 1))
    check(operation, operands(operation, 5, terms, 3, (5,), (1,)))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("last", (False, True))
@pytest.mark.parametrize("at_end", (False, True))
def test_no_byte_outside_is_touched(mode, last, at_end, monkeypatch):
    operation = spec.Unshared(spec.windows(2, 3, 2, 2, mode=mode), 2)
    tensors = [guarded(t, at_end=at_end) for t in operands(operation, 3, 3, 5, (5, 6), (3, 3), last)]
    step = unshared_gradients.prepare_unshared_step(operation, *tensors)
    (y,), _ = step.forward(*tensors)
    for name in ("empty", "scratch_floats"):
        real = getattr(unshared_gradients, name)
        guarding = lambda *arguments, real=real: guarded(real(*arguments), at_end=at_end)  # noqa: E731
        monkeypatch.setattr(unshared_gradients, name, guarding)
    step.backward(guarded(torch.randn_like(y), at_end=at_end), Saved((True,) * 3, tensors[0], tensors[1:], ()))


def test_the_same_bits_for_any_number_of_threads():
    operation = spec.Unshared(spec.windows(2, 3, 1, 1))
    tensors = operands(operation, 5, 8, 16, (9, 9), (3, 3))
    dy, before, results = numbers((5, 16, 9, 9), 3, FLOAT), torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(gradients(operation, tensors, dy, "kernels"))
    finally:
        torch.set_num_threads(before)
    for one in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(one, results[0], strict=True))


def test_the_matrix_turned_round_gives_the_gradient():
    layer, x = (
        nn.LocallyConnected2d(2, 3, 3, (5, 6), padding=1, padding_mode="reflect"),
        numbers((1, 2, 5, 6), 1, FLOAT),
    )
    leaf = x.clone().requires_grad_()
    with using("kernels"):
        y = layer(leaf)
        dy = numbers(tuple(y.shape), 2, FLOAT)
        (dx,) = torch.autograd.grad(y, leaf, dy)
    matrix, dy = explain(layer, x).matrix(), dy.double().numpy().reshape(-1)
    assert agrees(dx.reshape(-1), matrix.T @ dy, sum_bound(60, abs(matrix.T) @ abs(dy)))


def test_the_comparison_fails_on_a_wrong_gradient():
    operation = spec.Unshared(spec.windows(1, 3, 1, 1))
    found, expected, bounds = check(operation, operands(operation, 2, 4, 5, (9,), (3,)))
    for ours, true, bound in zip(found, expected, bounds, strict=True):
        assert not agrees(ours.flip(0), true, bound)
        assert not agrees(ours + 3 * torch.from_numpy(bound).float() + 1e-6, true, bound)


def test_only_the_gradients_that_are_needed():
    operation = spec.Unshared(spec.windows(2, 3))
    for chosen in range(3):
        tensors = operands(operation, 2, 2, 3, (5, 5), (3, 3))
        leaves = [t.requires_grad_(i == chosen) for i, t in enumerate(tensors)]
        with using("kernels"):
            functional.run(operation, *leaves).sum().backward()
        assert [leaf.grad is not None for leaf in leaves] == [i == chosen for i in range(3)]


def test_gradients_of_gradients():
    operation = spec.Unshared(spec.windows(1, 2))
    tensors, results = operands(operation, 2, 2, 3, (5,), (2,))[:2], []
    for engine in ("kernels", "portable"):
        leaves = [t.clone().requires_grad_() for t in tensors]
        with using(engine):
            y = functional.run(operation, *leaves, None)
            (dx,) = torch.autograd.grad(y.pow(3).sum(), leaves[0], create_graph=True)
            results.append(torch.autograd.grad(dx.square().sum(), leaves))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)
