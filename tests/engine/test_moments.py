"""Means, variances and the sums of batch norm's gradient against float64."""

import pytest
import torch
from engine.bounds import UNIT
from guarded import guarded

from svertka.engine import moments
from svertka.engine.moments import prepare_moments

SHAPES = ((2, 3, 4, 5), (3, 70, 9, 7), (33, 5), (2, 16, 1, 1), (1, 100, 40, 3))


def numbers(shape, seed):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 2 + 3
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x


def over(x):
    return (0, *range(2, x.ndim))


@pytest.mark.parametrize("chunk", (16, 1 << 15))
@pytest.mark.parametrize("shape", SHAPES)
def test_moments_and_sums(shape, chunk, monkeypatch):
    monkeypatch.setattr(moments, "_CHUNK", chunk)
    x, dy = numbers(shape, 0), numbers(shape, 1)
    mean, variance = prepare_moments(False, x)(x)
    exact, count = x.double(), x.numel() // x.shape[1]
    size = exact.abs().mean(over(x))
    assert ((mean - exact.mean(over(x))).abs() <= (count + 4) * UNIT * size).all()
    true = exact.var(over(x), unbiased=False)
    assert ((variance - true).abs() <= 4 * (count + 4) * UNIT * (true + size**2 * count * UNIT)).all()
    total, product = prepare_moments(True, x)(x, dy, mean)
    terms = dy.double() * (exact - mean.double().view(-1, *(1 for _ in shape[2:])))
    assert ((total - dy.double().sum(over(x))).abs() <= count * UNIT * dy.double().abs().sum(over(x))).all()
    bound = (count + 2) * UNIT * terms.abs().sum(over(x))
    assert ((product - terms.sum(over(x))).abs() <= bound).all()
    assert ((product * 1.01 + 0.1 - terms.sum(over(x))).abs() > bound).any()


@pytest.mark.parametrize("at_end", (False, True))
@pytest.mark.parametrize("shape", SHAPES)
def test_no_byte_outside_is_touched(shape, at_end):
    x, dy = (guarded(numbers(shape, seed), at_end=at_end) for seed in (0, 1))
    mean, _ = prepare_moments(False, x)(x)
    prepare_moments(True, x)(x, dy, guarded(mean, at_end=at_end))
