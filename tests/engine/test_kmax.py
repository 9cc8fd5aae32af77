import math

import numpy as np
import pytest
import torch
from guarded import guarded

from svertka import arguments, functional, portable
from svertka.engine import kmax
from svertka.engine.dispatch import using
from svertka.kernels.kmax import MOST_FEW, FewLargest, ManyLargest

LENGTHS = (1, 2, 3, 15, 16, 17, 33, 127, 128, 129, 200)
WAYS = ("few", "across", "along")
COUNTS = (1, 2, 3, MOST_FEW)


def numbers(seed, *shape):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def with_ties(seed, *shape):
    """Few different numbers, both zeros, infinities and NaN among them."""
    random = np.random.default_rng(seed)
    values = np.array([0.0, -0.0, 1.0, -1.0, 2.5, math.inf, -math.inf, math.nan], np.float32)
    return torch.from_numpy(random.choice(values, shape))


KINDS = {
    "different": numbers,
    "ties": with_ties,
    "two": lambda seed, *shape: numbers(seed, *shape).sign(),
    "zeros": lambda seed, *shape: numbers(seed, *shape).sign() * 0.0,
    "nothing": lambda _, *shape: torch.full(shape, -math.inf),
    "rising": lambda _, *shape: torch.arange(math.prod(shape), dtype=torch.float32).reshape(shape),
}


def pooled(x, k, way):
    kernel = FewLargest(k) if way == "few" else ManyLargest(way == "along")
    return kmax.prepare_k_max(arguments.k_max_spec(k), x, kernel=kernel)(x)


def definition(x, k):
    """By torch's own stable sort, which keeps the sign of a zero, too."""
    return portable.run(arguments.k_max_spec(k), x)


def same(result, expected):
    """Numbers are copied, so that each is the very same."""
    return torch.equal(result.view(torch.int32), expected.view(torch.int32))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("rows", (1, 5, 37))
def test_each_way_takes_what_a_sort_takes(kind, way, rows):
    for length in LENGTHS:
        x = KINDS[kind](length, rows, 1, length)
        for k in {min(k, length) for k in (*COUNTS, *(() if way == "few" else (length - 1 or 1, length)))}:
            assert same(pooled(x, k, way), definition(x, k)), (length, k)


@pytest.mark.parametrize("way, length", [*((w, n) for w in WAYS for n in (1024, 1025, 4097)), ("along", 16385)])
def test_long_rows_come_in_parts(way, length):
    for kind in KINDS:
        x = KINDS[kind](0, 2, 3, length)
        k = 3 if way == "few" else 100
        assert same(pooled(x, k, way), definition(x, k))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("at_end", (False, True))
@pytest.mark.parametrize("length", (3, 16, 21, 130))
def test_no_byte_outside_is_touched(way, at_end, length, monkeypatch):
    empty = torch.empty
    for rows in (1, 16, 19):
        x = guarded(with_ties(0, rows, 1, length), at_end=at_end)
        with monkeypatch.context() as patch:
            patch.setattr(torch, "empty", lambda shape: guarded(empty(shape), at_end=at_end))
            result = pooled(x, 3, way)
        assert same(result, definition(x, 3))


def test_the_comparison_fails_on_a_wrong_kernel():
    x = with_ties(0, 4, 3, 20)
    expected = definition(x, 5)
    assert not same(expected.flip(-1), expected)
    assert not same(x[..., :5].contiguous(), expected)
    zeros = torch.zeros(1, 1, 2)
    assert not same(zeros, -zeros)


def test_the_same_bits_for_any_number_of_threads():
    x = numbers(0, 16, 64, 100)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3, 8):
            torch.set_num_threads(threads)
            results += [pooled(x, 3, way) for way in WAYS]
    finally:
        torch.set_num_threads(before)
    assert all(same(result, results[0]) for result in results)


def test_all_that_torch_takes():
    x = numbers(0, 2, 3, 20)
    with torch.no_grad(), using("kernels"):
        for k in (2, 15):
            assert same(functional.k_max_pool1d(x, k), definition(x, k))
            assert same(functional.k_max_pool1d(x[0], k), definition(x, k)[0])
            turned = x.transpose(0, 2).contiguous().transpose(0, 2)
            assert same(functional.k_max_pool1d(turned, k), definition(x, k))
