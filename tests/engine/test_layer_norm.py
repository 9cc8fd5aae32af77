"""Layer norm against float64."""

import pytest
import torch
from engine.bounds import UNIT
from guarded import guarded

from svertka.engine import layer_norm
from svertka.engine.layer_norm import prepare_layer_norm, prepare_layer_norm_gradient

SHAPES = ((2, 3, 4, 5), (5, 48), (3, 1), (7, 100), (1, 768), (40, 17))


def numbers(shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 2 + 3


def exact(x, gamma, beta, eps):
    x = x.double()
    off = x - x.mean(-1, keepdim=True)
    y = off / (off.square().mean(-1, keepdim=True) + eps).sqrt()
    y = y if gamma is None else y * gamma.double()
    return y if beta is None else y + beta.double()


def allowed(x, gamma, beta, eps):
    """The roundings of the two sums, of the difference and of what follows, times what they are roundings of.

    The mean is off by up to n units of mean |x|, which shifts all numbers alike, and hardly moves their variance.
    """
    count, size = x.shape[-1], x.double().abs().mean(-1, keepdim=True)
    off = (x.double() - x.double().mean(-1, keepdim=True)).abs()
    deviation = (off.square().mean(-1, keepdim=True) + eps).sqrt()
    shift = (count + 2) * UNIT * size
    bound = (shift + (count + 8) * UNIT * off + off * (shift / deviation) ** 2) / deviation
    bound = bound if gamma is None else bound * gamma.double().abs()
    return bound + 2 * UNIT * (0 if beta is None else beta.double().abs())


@pytest.mark.parametrize("task", (1, 1 << 14))
@pytest.mark.parametrize("lines", ((True, True), (True, False), (False, True), (False, False)))
@pytest.mark.parametrize("shape", SHAPES)
def test_rows_are_normed(shape, lines, task, monkeypatch):
    monkeypatch.setattr(layer_norm, "_TASK", task)
    x, eps = numbers(shape), 1e-5
    gamma, beta = (numbers(shape[-1:], seed) if there else None for seed, there in enumerate(lines, 1))
    y = prepare_layer_norm(x, shape[-1], eps, *lines)(x, gamma, beta)
    expected, bound = exact(x, gamma, beta, eps), allowed(x, gamma, beta, eps)
    assert ((y - expected).abs() <= bound).all()
    assert ((y * 1.001 + 0.001 - expected).abs() > bound).any()


def test_what_is_no_number_spoils_its_row_alone():
    x = numbers((4, 20))
    x[1, 3], x[2, 19] = float("nan"), float("inf")
    y = prepare_layer_norm(x, 20, 1e-5, False, False)(x)
    assert torch.equal(y.isnan(), torch.layer_norm(x, (20,)).isnan())
    assert y.isnan().any(1).tolist() == [False, True, True, False]


@pytest.mark.parametrize("at_end", (False, True))
@pytest.mark.parametrize("shape", SHAPES)
def test_no_byte_outside_is_touched(shape, at_end):
    x, gamma, beta = (guarded(numbers(size), at_end=at_end) for size in (shape, shape[-1:], shape[-1:]))
    runner = prepare_layer_norm(x, shape[-1], 1e-5, True, True)
    y = guarded(torch.empty(shape), at_end=at_end)
    runner.launch(x.data_ptr(), gamma.data_ptr(), beta.data_ptr(), y.data_ptr(), 0, 0)
    assert torch.equal(y, runner(x, gamma, beta))


def statistics(x, eps=1e-5):
    """Mean and 1 / √(variance + ε) of each row, in float64."""
    rows = x.double().reshape(-1, x.shape[-1])
    return rows.mean(1), 1 / (rows.var(1, unbiased=False) + eps).sqrt()


@pytest.mark.parametrize("shape", SHAPES)
def test_statistics_come_along(shape):
    x = numbers(shape)
    y, mean, inverse = prepare_layer_norm(x, shape[-1], 1e-5, False, False, True)(x)
    assert torch.equal(y, prepare_layer_norm(x, shape[-1], 1e-5, False, False)(x))
    exact_mean, exact_inverse = statistics(x)
    size = x.double().abs().reshape(-1, shape[-1]).mean(1)
    off = (shape[-1] + 2) * UNIT * size  # of a sum of so many numbers, each rounded
    assert ((mean - exact_mean).abs() <= off).all()
    assert ((mean * 1.001 - exact_mean).abs() > off).any()
    assert torch.allclose(
        inverse.double(), exact_inverse, rtol=(shape[-1] + 8) * UNIT + float((off * exact_inverse).max()) ** 2
    )
    assert not torch.allclose(inverse.double() * 1.001, exact_inverse, rtol=(shape[-1] + 8) * UNIT)


def gradients(dy, x, gamma, mean, inverse):
    """(dx, dγ, dβ) in float64, and for each how much a sum of so many rounded numbers may be off."""
    columns = x.shape[-1]
    dy, x, mean, inverse = (
        part.double().reshape(-1, n) for part, n in ((dy, columns), (x, columns), (mean, 1), (inverse, 1))
    )
    z = (x - mean) * inverse
    g = dy if gamma is None else dy * gamma.double()
    dx = inverse * (g - g.mean(1, keepdim=True) - z * (g * z).mean(1, keepdim=True))
    size = inverse * (g.abs() + g.abs().mean(1, keepdim=True) + z.abs() * (g * z).abs().mean(1, keepdim=True))
    # (x − m) is rounded once, but m as it was given: no digits are lost to it.
    return [
        (dx, (columns + 12) * UNIT * size),
        ((dy * z).sum(0), (len(x) + 6) * UNIT * (dy * z).abs().sum(0)),
        (dy.sum(0), (len(x) + 2) * UNIT * dy.abs().sum(0)),
    ]


@pytest.mark.parametrize("task", (1, 1 << 14))
@pytest.mark.parametrize("scale", (True, False))
@pytest.mark.parametrize("shape", SHAPES)
def test_gradients(shape, scale, task, monkeypatch):
    monkeypatch.setattr(layer_norm, "_TASK", task)
    x, dy, gamma = numbers(shape), numbers(shape, 1), numbers(shape[-1:], 2) if scale else None
    mean, inverse = (part.float() for part in statistics(x))
    expected = gradients(dy, x, gamma, mean, inverse)
    found = prepare_layer_norm_gradient(x, shape[-1], scale, True, True)(dy, x, gamma, mean, inverse)
    for result, (exact, bound) in zip(found, expected, strict=True):
        assert ((result.reshape(exact.shape) - exact).abs() <= bound).all()
        assert ((result.reshape(exact.shape) * 1.001 + 0.1 - exact).abs() > bound).any()
    (only_x, *none), (nothing, *lines) = (
        prepare_layer_norm_gradient(x, shape[-1], scale, lines, not lines)(dy, x, gamma, mean, inverse)
        for lines in (False, True)
    )
    assert torch.equal(only_x, found[0]) and none == [None, None] and nothing is None
    assert all(map(torch.equal, lines, found[1:]))


def test_gradients_are_those_of_torch():
    x, gamma, beta = (numbers(shape, i).requires_grad_() for i, shape in enumerate(((6, 50), (50,), (50,))))
    dy = numbers((6, 50), 5)
    torch.layer_norm(x, (50,), gamma, beta).backward(dy)
    with torch.no_grad():
        _, mean, inverse = prepare_layer_norm(x, 50, 1e-5, True, True, True)(x, gamma, beta)
        found = prepare_layer_norm_gradient(x, 50, True, True, True)(dy, x, gamma, mean, inverse)
    for a, b in zip(found, (x.grad, gamma.grad, beta.grad), strict=True):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("at_end", (False, True))
@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_touch_no_byte_outside(shape, at_end):
    columns, rows = shape[-1], numbers(shape).numel() // shape[-1]
    given = [numbers(size, i) for i, size in enumerate((shape, shape, (columns,), (rows,), (rows,)))]
    given = [guarded(part, at_end=at_end) for part in given]
    runner = prepare_layer_norm_gradient(given[1], columns, True, True, True)
    dx, sums = (guarded(torch.empty(size), at_end=at_end) for size in (shape, (runner.room,)))
    runner.launch(*(part.data_ptr() for part in (*given, dx, sums)))
    assert torch.equal(dx, runner(*given)[0])
