import math

import numpy as np
import pytest
import torch
from engine.bounds import agrees, sum_bound
from guarded import guarded

from svertka import arguments, functional, reference
from svertka.engine import segments
from svertka.engine.dispatch import using


def numbers(seed, *shape):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def cuts(seed, samples, count, length):
    """Rising boundaries [samples, count]; some parts are empty."""
    return torch.from_numpy(np.sort(np.random.default_rng(seed).integers(0, length + 1, (samples, count))))


def check(x, boundaries, kind):
    runner = segments.prepare_segments(arguments.segment_pool_spec(kind), x, boundaries)
    result, arrays = runner(x, boundaries).numpy(), (x.numpy(), boundaries.numpy())
    expected = reference.dynamic_pool(*arrays, kind)
    magnitude = reference.dynamic_pool(abs(arrays[0]), arrays[1], kind)
    bound = sum_bound(x.shape[-1] + 1, magnitude) if kind == "average" else 0.0
    assert agrees(result, expected, bound)
    return result, expected, bound


@pytest.mark.parametrize("kind", ("max", "average"))
@pytest.mark.parametrize("channels", (1, 15, 16, 17))
def test_parts_of_every_length(kind, channels):
    for length in (1, 5, 15, 16, 17, 64, 100):
        for count in (1, 2, 7):
            check(numbers(length, 3, channels, length), cuts(count, 3, count, length), kind)


@pytest.mark.parametrize("kind", ("max", "average"))
@pytest.mark.parametrize("length", (1024, 1025, 4096, 5000))
def test_long_rows_come_in_pieces(kind, length):
    check(numbers(0, 2, 3, length), torch.tensor([[7, 7, 1030], [0, length - 3, length]]).clamp(max=length), kind)


@pytest.mark.parametrize("kind", ("max", "average"))
@pytest.mark.parametrize("at_end", (False, True))
@pytest.mark.parametrize("length", (3, 16, 21, 1030))
def test_no_byte_outside_is_touched(kind, at_end, length, monkeypatch):
    empty = torch.empty
    x, boundaries = guarded(numbers(0, 2, 19, length), at_end=at_end), guarded(cuts(0, 2, 4, length), at_end=at_end)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "empty", lambda shape: guarded(empty(shape), at_end=at_end))
        check(x, boundaries, kind)


@pytest.mark.parametrize("kind", ("max", "average"))
def test_what_is_not_a_number_stays_in_its_part(kind):
    x = numbers(0, 2, 17, 40)
    x[0, 3, 5], x[0, 4, 20], x[1, 16, 39], x[1, 0, 0] = math.nan, math.inf, math.nan, -math.inf
    check(x, torch.tensor([[10, 30], [1, 20]]), kind)


@pytest.mark.parametrize("kind", ("max", "average"))
def test_boundaries_that_do_not_rise_or_lie_outside_are_torchs(kind):
    x, boundaries = numbers(0, 2, 3, 20), torch.tensor([[12, 5, -3], [25, 40, 7]])
    with torch.no_grad(), using("kernels"):
        found = functional.dynamic_pool1d(x, boundaries=boundaries, kind=kind)
    with torch.no_grad(), using("portable"):
        expected = functional.dynamic_pool1d(x, boundaries=boundaries, kind=kind)
    torch.testing.assert_close(found, expected, equal_nan=True)


def test_the_comparison_fails_on_a_wrong_kernel():
    result, expected, bound = check(numbers(0, 2, 3, 20), torch.tensor([[3, 10], [5, 6]]), "average")
    wrong = result.copy()
    wrong[1, 2, 1] += 4 * bound[1, 2, 1]
    assert not agrees(wrong, expected, bound)
    assert not agrees(result[..., ::-1], expected, bound)


def test_the_same_bits_for_any_number_of_threads():
    x, boundaries = numbers(0, 8, 40, 100), cuts(0, 8, 5, 100)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3, 8):
            torch.set_num_threads(threads)
            results.append(check(x, boundaries, "average")[0])
    finally:
        torch.set_num_threads(before)
    assert all(np.array_equal(results[0], result, equal_nan=True) for result in results)


def test_boundaries_of_other_kinds_are_left_to_torch():
    x, boundaries = numbers(0, 2, 3, 20), torch.tensor([[3, 10], [5, 6]])
    expected = functional.dynamic_pool1d(x, boundaries=boundaries)
    with torch.no_grad():
        assert torch.equal(functional.dynamic_pool1d(x, boundaries=boundaries.int()), expected)
        assert torch.equal(functional.dynamic_pool1d(x, boundaries=boundaries[:, :0]), x.amax(-1, keepdim=True))
