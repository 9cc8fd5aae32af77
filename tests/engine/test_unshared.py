import math

import numpy as np
import pytest
import torch
from engine.bounds import agrees, sum_bound
from geometries import geometries
from guarded import guarded
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from svertka import functional, reference, spec
from svertka.engine import unshared
from svertka.engine.dispatch import using
from svertka.kernels.unshared import UnsharedSchedule
from svertka.window import MODES

SHAPES = ((1, 1), (3, 5), (9, 4))  # inputs, outputs of a group


def numbers(seed, *shape):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def operands(operation, n, inputs, outputs, size, kernel, biased=True):
    """(x, weight, bias) with so many channels for each group."""
    room, groups = operation.output_size(size), operation.groups
    x, weight = numbers(0, n, inputs * groups, *size), numbers(1, *room, outputs * groups, inputs, *kernel)
    return x, weight, numbers(2, *room, outputs * groups) if biased else None


def check(operation, x, weight, bias, schedule=None):
    runner = unshared.prepare_unshared(operation, x, weight, bias, schedule=schedule)
    assert not isinstance(runner, str), runner
    result = runner(x, weight, bias).numpy()
    arrays = [None if t is None else t.numpy() for t in (x, weight, bias)]
    expected = reference.run(operation, *arrays)
    terms = math.prod(weight.shape[operation.ndim + 1 :])
    bound = sum_bound(terms, reference.run(operation, *(a if a is None else abs(a) for a in arrays)))
    assert agrees(result, expected, bound)
    return result, expected, bound


@given(data=st.data())
@settings(max_examples=40, deadline=None, derandomize=True, database=None)
def test_every_window_computes_the_reference(data):
    geometry = data.draw(geometries())
    operation = spec.Unshared(geometry.windows, data.draw(st.sampled_from((1, 2))))
    assume(math.prod(operation.output_size(geometry.size)) < 200)
    inputs, outputs = data.draw(st.sampled_from(SHAPES))
    check(
        operation,
        *operands(operation, data.draw(st.integers(1, 3)), inputs, outputs, geometry.size, geometry.kernel_size),
    )


@pytest.mark.parametrize("images", (1, 7, 8, 9, 15, 17))
@pytest.mark.parametrize("schedule", (None, UnsharedSchedule(2, 4), UnsharedSchedule(3, 2), UnsharedSchedule(17, 17)))
def test_blocks_of_images_may_be_full_or_not(images, schedule):
    operation = spec.Unshared(spec.windows(2, 3, 1, 1))
    check(operation, *operands(operation, images, 3, 5, (4, 3), (3, 3), images % 2), schedule)


@pytest.mark.parametrize("terms", (1, 15, 16, 17, 32, 33))
def test_rows_may_be_whole_vectors_or_not(terms):
    operation = spec.Unshared(spec.windows(1, 1))
    check(operation, *operands(operation, 9, terms, 3, (5,), (1,)))


def test_rows_are_shared_out_where_places_are_few():
    operation = spec.Unshared(spec.windows(1, 5), 2)
    x, weight, bias = operands(operation, 2, 200, 101, (5,), (5,))
    check(operation, x, weight, bias)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("at_end", (False, True))
@pytest.mark.parametrize("last", (False, True))
def test_no_byte_outside_is_touched(mode, at_end, last, monkeypatch):
    memory_format = torch.channels_last if last else torch.contiguous_format
    operation = spec.Unshared(spec.windows(2, 3, 2, (4, 1), 1, mode))
    x, weight, bias = operands(operation, 9, 3, 5, (5, 4), (3, 3))
    x = x.contiguous(memory_format=memory_format)
    empty = unshared.empty
    monkeypatch.setattr(unshared, "empty", lambda *arguments: guarded(empty(*arguments), at_end=at_end))
    result, *_ = check(operation, *(guarded(tensor, at_end=at_end) for tensor in (x, weight, bias)))
    assert torch.from_numpy(result).is_contiguous(memory_format=memory_format)


def test_what_is_not_a_number_spreads_as_in_the_reference():
    operation = spec.Unshared(spec.windows(2, 3, 1, 1))
    x, weight, bias = operands(operation, 9, 3, 5, (5, 4), (3, 3))
    x[0, 1, 2, 2], x[8, 0, 4, 3] = math.nan, math.inf
    weight[0, 0, 1, 2, 0, 0] = math.inf  # on the padding, where it is multiplied with 0
    weight[2, 1, 3, 0, 2, 2] = math.nan
    check(operation, x, weight, bias)


def test_the_comparison_fails_on_a_wrong_kernel():
    operation = spec.Unshared(spec.windows(2, 3, 1, 1))
    result, expected, bound = check(operation, *operands(operation, 2, 3, 5, (5, 4), (3, 3)))
    wrong = result.copy()
    wrong[1, 2, 3, 3] += 4 * bound[1, 2, 3, 3]
    assert not agrees(wrong, expected, bound)
    assert not agrees(result[:, ::-1], expected, bound)


def test_the_same_bits_for_any_number_of_threads():
    operation = spec.Unshared(spec.windows(2, 3, 1, 1))
    x, weight, bias = operands(operation, 9, 16, 24, (9, 7), (3, 3))
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3, 8):
            torch.set_num_threads(threads)
            results.append(unshared.prepare_unshared(operation, x, weight, bias)(x, weight, bias))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(results[0], result) for result in results)


def test_operands_may_lie_anyhow():
    operation = spec.Unshared(spec.windows(2, 3, 1, 1))
    x, weight, bias = operands(operation, 2, 3, 5, (5, 4), (3, 3))
    with torch.no_grad(), using("kernels"):
        expected = functional.locally_connected2d(x, weight, bias, padding=1)
        turned = [t.movedim(-1, 0).contiguous().movedim(0, -1) for t in (x, weight, bias)]
        found = functional.locally_connected2d(*turned, padding=1)
        assert torch.equal(functional.locally_connected2d(x[1], weight, bias, padding=1), expected[1])
    assert torch.equal(found, expected)
    assert found.is_contiguous()


def test_what_cannot_be_done_is_refused():
    operation = spec.Unshared(spec.windows(1, 1))
    x, weight, _ = operands(operation, 1, 3, 5, (4,), (1,))
    assert unshared.prepare_unshared(operation, x[..., :3], weight) == "its sizes don't fit"
    assert unshared.prepare_unshared(operation, x[:, :2], weight) == "its sizes don't fit"
    assert "too large" in unshared.prepare_unshared(operation, *operands(operation, 1, 16385, 1, (1,), (1,)))
