"""k-max pooling and poolings between boundaries: gradients against torch's in float64."""

import math

import pytest
import torch
from comparing import KINDS, numbers
from guarded import guarded
from hypothesis import given, settings
from hypothesis import strategies as st

from svertka import functional, portable, reference, spec
from svertka.engine import row_gradients
from svertka.engine.dispatch import using
from svertka.engine.step import Saved
from svertka.window import Segments

WHOLE = (Segments(1),)
FLOAT = torch.float32
few = settings(max_examples=60, deadline=None, derandomize=True, database=None)


def gradient(operation, x, *tensors):
    """(dx by the kernels, dy)."""
    leaf = x.clone().requires_grad_()
    with using("kernels"):
        y = functional.run(operation, leaf, *tensors)
        dy = numbers(tuple(y.shape), 1, FLOAT)
        return torch.autograd.grad(y, leaf, dy)[0], dy


def by_torch(operation, x, dy, *tensors):
    leaf = x.double().requires_grad_()
    return torch.autograd.grad(portable.run(operation, leaf, *tensors), leaf, dy.double())[0]


@few
@given(st.integers(1, 2), st.integers(1, 5), st.integers(1, 40), st.sampled_from(KINDS), st.data())
def test_k_max(images, channels, length, kind, data):
    operation = spec.KMaxPool(WHOLE, data.draw(st.integers(1, length)))
    x = numbers((images, channels, length), data.draw(st.integers(0, 99)), FLOAT, kind)
    dx, dy = gradient(operation, x)
    assert torch.equal(dx.double(), by_torch(operation, x, dy))
    assert not torch.equal(dx.flip(0, 1, 2) + 1, by_torch(operation, x, dy).float())


@few
@given(st.sampled_from(("max", "average")), st.integers(1, 3), st.integers(1, 20), st.sampled_from(KINDS), st.data())
def test_parts_between_boundaries(kind, channels, length, numbers_kind, data):
    cuts = data.draw(st.lists(st.integers(0, length), min_size=1, max_size=4).map(sorted))
    boundaries = torch.tensor([cuts, sorted(length - cut for cut in cuts)])
    x = numbers((2, channels, length), data.draw(st.integers(0, 99)), FLOAT, numbers_kind)
    dx, dy = gradient(spec.SegmentPool(WHOLE, kind), x, boundaries)
    expected = torch.zeros_like(x)
    for n, edges in enumerate(boundaries.tolist()):
        for s, (first, last) in enumerate(zip([0, *edges], [*edges, length], strict=True)):
            if first == last:
                continue
            part = x[n, :, first:last]
            if kind == "average":
                expected[n, :, first:last] = dy[n, :, s, None] / (last - first)
                continue
            _, places = reference.max_pool(part[None], (Segments(1),))
            expected[n, torch.arange(channels), first + torch.from_numpy(places)[0, :, 0]] = dy[n, :, s]
    assert torch.equal(dx, expected)


@pytest.mark.parametrize("kind", ("max", "average"))
def test_parts_are_torchs(kind):
    x, boundaries = numbers((2, 3, 17), 4, FLOAT), torch.tensor([[3, 9], [5, 16]])
    operation = spec.SegmentPool(WHOLE, kind)
    dx, dy = gradient(operation, x, boundaries)
    torch.testing.assert_close(dx.double(), by_torch(operation, x, dy, boundaries), rtol=1e-6, atol=1e-6)


def test_equal_numbers_are_taken_in_order():
    x = torch.tensor([[[1.0, 3.0, -0.0, 3.0, 0.0, math.nan, 1.0]]])
    dx, dy = gradient(spec.KMaxPool(WHOLE, 4), x)
    assert torch.equal((dx != 0).flatten(), torch.tensor([1, 1, 0, 1, 0, 1, 0]).bool())
    assert torch.equal(dx[dx != 0], dy.flatten())


@pytest.mark.parametrize("at_end", (False, True))
@pytest.mark.parametrize("k_max", (True, False))
def test_no_byte_outside_is_touched(at_end, k_max, monkeypatch):
    x = guarded(torch.randn(2, 3, 11), at_end=at_end)
    if k_max:
        step, tensors = row_gradients.prepare_k_max_step(spec.KMaxPool(WHOLE, 4), x), []
    else:
        tensors = [guarded(torch.tensor([[2, 5], [0, 11]]), at_end=at_end)]
        step = row_gradients.prepare_segments_step(spec.SegmentPool(WHOLE), x, *tensors)
    (y,), _ = step.forward(x, *tensors)
    real = torch.empty
    monkeypatch.setattr(row_gradients.torch, "empty", lambda *arguments: guarded(real(*arguments), at_end=at_end))
    y, dy = guarded(y, at_end=at_end), guarded(torch.ones_like(y), at_end=at_end)
    step.backward(dy, Saved((True, False), x, tensors, [y]))


def test_the_same_bits_for_any_number_of_threads():
    x, before, results = numbers((4, 50, 400), 5, FLOAT), torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(gradient(spec.KMaxPool(WHOLE, 5), x)[0])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(results[0], result) for result in results)
