"""Layer norm against float64."""

import pytest
import torch
from engine.bounds import UNIT
from guarded import guarded

from svertka.engine import layer_norm
from svertka.engine.layer_norm import prepare_layer_norm

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
    runner.launch(x.data_ptr(), gamma.data_ptr(), beta.data_ptr(), y.data_ptr())
    assert torch.equal(y, runner(x, gamma, beta))
