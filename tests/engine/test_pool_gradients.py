import pytest
import torch
from engine.bounds import agrees, sum_bound
from geometries import geometries
from guarded import guarded
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from svertka import functional, portable, spec
from svertka.engine import pool_gradients
from svertka.engine.dispatch import using
from svertka.errors import GeometryError
from svertka.window import Segments

KINDS = (spec.MaxPool, spec.AveragePool)


def expected_gradient(operation, x, dy):
    leaf = x.double().requires_grad_()
    return torch.autograd.grad(portable.run(operation, leaf), leaf, dy.double())[0]


def check(operation, x):
    leaf = x.clone().requires_grad_()
    with using("kernels"):
        y = functional.run(operation, leaf)
        dy = torch.randn(y.shape)
        (dx,) = torch.autograd.grad(y, leaf, dy)
    expected = expected_gradient(operation, x, dy)
    bound = sum_bound(50, expected_gradient(spec.AveragePool(operation.windows, divisor=1.0), x, dy.abs()).numpy())
    assert agrees(dx, expected, bound)
    assert dx.stride() == x.stride()
    return dx, expected, bound


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("last", (False, True))
@given(data=st.data())
@settings(max_examples=12, deadline=None)
def test_the_gradient_is_that_of_the_definition(kind, last, data):
    geometry = data.draw(geometries(ceil=True))
    operation = kind(geometry.windows)
    try:
        operation.output_size(geometry.size)
    except GeometryError:
        assume(False)
    x = torch.randn(2, 5, *geometry.size)
    if last and x.ndim > 3:
        x = x.contiguous(memory_format={4: torch.channels_last, 5: torch.channels_last_3d}[x.ndim])
    check(operation, x)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("channels", (1, 15, 16, 17, 70))
@pytest.mark.parametrize("last", (False, True))
def test_channels_and_formats(kind, channels, last):
    memory_format = torch.channels_last if last else torch.contiguous_format
    x = torch.randn(2, channels, 7, 9).contiguous(memory_format=memory_format)
    check(kind(spec.windows(2, 3, 2, 1)), x)
    check(kind((Segments(3), Segments(1))), x)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("last", (False, True))
@pytest.mark.parametrize("at_end", (False, True))
def test_no_byte_outside_is_touched(kind, last, at_end, monkeypatch):
    memory_format = torch.channels_last if last else torch.contiguous_format
    x = torch.randn(2, 19, 5, 7).contiguous(memory_format=memory_format)
    operation = kind(spec.windows(2, 2, 2))
    y, places = functional.run(spec.MaxPool(operation.windows), x, return_indices=True)
    dy, places = guarded(torch.randn_like(y), at_end=at_end), guarded(places, at_end=at_end)
    empty = pool_gradients.empty
    monkeypatch.setattr(pool_gradients, "empty", lambda *arguments: guarded(empty(*arguments), at_end=at_end))
    pool_gradients.prepare_pool_gradient(operation, x)(dy, places if kind is spec.MaxPool else None)


def test_the_comparison_fails_on_a_wrong_gradient():
    for kind in KINDS:
        dx, expected, bound = check(kind(spec.windows(2, 2, 2)), torch.randn(1, 3, 6, 6))
        assert not agrees(dx.flip(-1), expected, bound)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_gradients(kind):
    results = []
    x = torch.randn(1, 2, 6, 6)
    for engine in ("kernels", "portable"):
        leaf = x.clone().requires_grad_()
        with using(engine):
            y = functional.run(kind(spec.windows(2, 2)), leaf)
            (dx,) = torch.autograd.grad(y.pow(3).sum(), leaf, create_graph=True)
            results.append(torch.autograd.grad(dx.square().sum(), leaf)[0])
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-4)
