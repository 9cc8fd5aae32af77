"""Dense layers of few images, whose weights are read as they lie, against float64."""

import itertools

import pytest
import torch
from engine.bounds import agrees, sum_bound
from guarded import guarded

from svertka import spec
from svertka.engine import inner
from svertka.engine.dense import prepare_block
from svertka.kernels.epilogue import Epilogue
from svertka.kernels.inner import Inner, InnerSchedule, choose_inner
from svertka.kernels.target import TARGETS, host

SIZES = ((1, 16, 16), (1, 37, 5), (2, 64, 33), (3, 7, 1), (5, 40, 10), (8, 50, 35))  # images, inputs, outputs
SCHEDULES = (InnerSchedule(1, 1), InnerSchedule(2, 2, 64), InnerSchedule(3, 3, 512), InnerSchedule(4, 1))


def given(images, inputs, outputs):
    g = torch.Generator().manual_seed(inputs)
    shapes = (images, inputs), (outputs, inputs), (outputs,), (outputs,), (images, outputs)
    return [torch.randn(shape, generator=g) for shape in shapes]


def exact(x, weight, bias, scale, residual):
    """(the result, the sum of what was added up, by size)."""
    parts = [part.double() for part in (x, weight, bias, scale, residual)]
    x, weight, bias, scale, residual = parts
    result = (x @ weight.t()) * scale + bias + residual
    return result, (x.abs() @ weight.t().abs()) * scale.abs() + bias.abs() + residual.abs()


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
@pytest.mark.parametrize("sizes", SIZES)
def test_sums_agree(sizes, schedule):
    if schedule.rows > sizes[2]:
        pytest.skip("a tile has no more rows than there are")
    x, weight, bias, scale, residual = given(*sizes)
    run = inner.Runner(x, weight, Epilogue(True, True, True), schedule)
    y = run(x, weight, bias, scale, residual)
    expected, size = exact(x, weight, bias, scale, residual)
    bound = sum_bound(sizes[1] + 3, size)
    assert agrees(y, expected, bound)
    assert not agrees(run(x, weight + 1e-3, bias, scale, residual), expected, bound)
    plain = inner.Runner(x, weight, Epilogue(activation=spec.Activation("relu")), schedule)(x, weight)
    expected = (x.double() @ weight.double().t()).clamp(min=0)
    assert agrees(plain, expected, sum_bound(sizes[1], x.double().abs() @ weight.double().t().abs()))


@pytest.mark.parametrize("at_end", (False, True))
@pytest.mark.parametrize("sizes", SIZES)
def test_no_byte_outside_is_touched(sizes, at_end):
    x, weight, bias, scale, residual = (guarded(tensor, at_end=at_end) for tensor in given(*sizes))
    run = inner.Runner(x, weight, Epilogue(True, True, True))
    y = guarded(torch.zeros(sizes[0], sizes[2]), at_end=at_end)
    run.launch(*(tensor.data_ptr() for tensor in (x, weight, y, bias, scale, residual)))
    assert torch.equal(y, run(x, weight, bias, scale, residual))


def test_what_is_no_number_spoils_what_reads_it_alone():
    x, weight, *_ = given(2, 37, 9)
    x[0, 36], weight[4, 3] = float("inf"), float("nan")
    y = inner.Runner(x, weight, Epilogue())(x, weight)
    expected = torch.nn.functional.linear(x, weight)
    assert torch.equal(y.isnan(), expected.isnan())
    assert torch.equal(y.isinf(), expected.isinf())


def test_threads_make_no_difference():
    x, weight, *_ = given(3, 300, 100)
    run, threads, found = inner.Runner(x, weight, Epilogue()), torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            found.append(run(x, weight))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(one, other) for one, other in itertools.pairwise(found))


def test_few_images_and_long_rows_that_lie_in_order_are_taken():
    layer, long = spec.ConvolutionBlock(()), 16 * host().lanes

    def taken(images, inputs, change=lambda x, w: (x, w)):
        x, weight = change(torch.randn(images, inputs), torch.randn(20, inputs))
        return isinstance(prepare_block(layer, x, weight), inner.Runner)

    assert taken(1, long)
    assert taken(inner.FEW, long + 3)
    assert not taken(inner.FEW + 1, long)
    assert not taken(1, long - 1)
    assert not taken(1, long, lambda x, w: (x, w.t().contiguous().t()))
    assert not taken(2, long, lambda x, w: (x.t().contiguous().t(), w))


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_tiles_fit_into_registers_and_tasks(target):
    for images, outputs in itertools.product(range(1, inner.FEW + 1), (1, 2, 10, 4096)):
        chosen = choose_inner(Inner(4096, outputs, images), target)
        assert images * chosen.rows + chosen.rows + 1 <= target.registers
        assert chosen.rows <= outputs
        assert chosen.vectors * target.lanes % chosen.rows == 0
