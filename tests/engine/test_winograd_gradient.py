import itertools
import math

import numpy as np
import pytest
import torch
from engine.bounds import UNIT, absolute, agrees, sum_bound
from guarded import guarded
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from svertka import arguments, portable, spec
from svertka.engine import dense_gradients, layout, packing, precision, winograd_gradient
from svertka.engine.winograd import axis_tiles
from svertka.errors import GeometryError
from svertka.kernels.target import host
from svertka.kernels.winograd_gradient import (
    WinogradGradient,
    WinogradGradientSchedule,
    choose_winograd_gradient,
    scratch_floats,
)
from svertka.kernels.winograd_points import transforms
from svertka.kernels.winograd_schedule import tile_sizes
from svertka.window import MODES, Window

KERNELS = ((3, 3), (5, 5), (1, 3), (3, 1), (3, 5), (7, 7), (3,), (5,))


def numbers(seed, *shape):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def by_torch(operation, x, weight, dy):
    """The weight's and the bias' gradient in float64."""
    leaves = [t.double().requires_grad_() for t in (weight, torch.zeros(dy.shape[1]))]
    return torch.autograd.grad(portable.run(operation, x.double(), *leaves), leaves, dy.double())


def bound(operation, x, weight, dy, tile):
    """|G_yᵀ| (Σ_tiles |A_yᵀ||dY||A_x| ⊙ |B_y||X||B_xᵀ|) |G_x| times u times the roundings on the way.

    These are the number of tiles for the sum, and at most n, m and n in each of the two passes of the transforms of
    inputs, of gradients and back (an even and an odd half, each scaled, make one or two more).
    """
    windows = (Window(1),) * (2 - operation.ndim) + operation.windows
    lift = (1,) * (2 - operation.ndim)
    x, dy = (abs(t.numpy().reshape(*t.shape[:2], *lift, *t.shape[2:])).astype(np.float64) for t in (x, dy))
    taps = tuple(window.size for window in windows)
    down, across = (transforms(m, r) for m, r in zip(tile, taps, strict=True))
    (rows, y_rows), (columns, y_columns) = (
        axis_tiles(window, n, m) for window, n, m in zip(windows, x.shape[2:], tile, strict=True)
    )

    def tiled(x, rows, columns, groups):
        padded = np.pad(x, ((0, 0), (0, 0), (0, 1), (0, 1)))  # the last row and column stand for OUTSIDE, which is −1
        tiles = padded[:, :, rows][..., columns]
        return tiles.reshape(len(x), groups, -1, *tiles.shape[2:])  # [N, groups, C, down, n_y, across, n_x]

    given_x = np.einsum(
        "ia,ngcxayb,jb->ngcxiyj", absolute(down.B), tiled(x, rows, columns, operation.groups), absolute(across.B)
    )
    given_dy = np.einsum(
        "ai,ngoxayb,bj->ngoxiyj", absolute(down.A), tiled(dy, y_rows, y_columns, operation.groups), absolute(across.A)
    )
    sums = np.einsum("ngcxiyj,ngoxiyj->gocij", given_x, given_dy, optimize=True)
    dw = np.einsum("ia,gocij,jb->gocab", absolute(down.G), sums, absolute(across.G))
    n = len(down.B) + len(across.B)
    roundings = len(x) * len(rows) * len(columns) + 2 * (n + 2) + sum(tile) + 2 + 5
    return roundings * UNIT / (1 - roundings * UNIT) * dw.reshape(weight.shape)


def compare(operation, x, weight, dy, schedule):
    run = winograd_gradient.prepare_weight_gradient(operation, x, weight, dy, True, schedule)
    alone = winograd_gradient.prepare_weight_gradient(operation, x, weight, dy, False, schedule)
    found, expected = run(x, dy), by_torch(operation, x, weight, dy)
    assert torch.equal(alone(x, dy)[0], found[0])
    assert found[0].stride() == weight.stride()
    bounds = (
        bound(operation, x, weight, dy, schedule.tile),
        sum_bound(dy[:, 0].numel(), dy.abs().sum((0, *range(2, dy.ndim)))),
    )
    return found, expected, bounds


def check(*arguments):
    for found, expected, limit in zip(*compare(*arguments), strict=True):
        assert agrees(found, expected, limit + 1e-30)


def some_schedule(draw, kernel, inputs, outputs):
    lanes = host().lanes
    kernel = (1,) * (2 - len(kernel)) + kernel
    vectors = -(-outputs // lanes)
    size = draw(st.sampled_from([n for n in (1, 2, 3) if vectors % n == 0]))
    part = draw(st.sampled_from([n for n in range(lanes, inputs, lanes) if inputs % n == 0] + [inputs]))
    tile = draw(st.sampled_from(tile_sizes(kernel, 9)))
    blocks = draw(st.integers(1, vectors // size))
    return WinogradGradientSchedule(tile, draw(st.integers(1, 5)), size, draw(st.sampled_from((1, 3, 8))), part, blocks)


@given(data=st.data())
@settings(max_examples=50, deadline=None, derandomize=True)
def test_each_schedule_computes_the_reference(data):
    kernel = data.draw(st.sampled_from(KERNELS))
    size = tuple(data.draw(st.integers(1, 15)) for _ in kernel)
    padding = tuple((data.draw(st.integers(0, 3)), data.draw(st.integers(0, 3))) for _ in kernel)
    dilation = data.draw(st.sampled_from((1, 1, 2, 3)))
    groups = data.draw(st.sampled_from((1, 1, 2)))
    operation = spec.Convolution(
        spec.windows(len(kernel), kernel, 1, padding, dilation, data.draw(st.sampled_from(MODES))), groups
    )
    try:
        places = operation.output_size(size)
    except GeometryError:
        assume(False)
    inputs, outputs = data.draw(st.sampled_from(((1, 1), (3, 17), (32, 33), (17, 64))))
    x, weight = numbers(0, 2, inputs * groups, *size), numbers(1, outputs * groups, inputs, *kernel)
    dy = numbers(2, 2, outputs * groups, *places)
    check(operation, x, weight, dy, some_schedule(data.draw, kernel, inputs, outputs))


@pytest.mark.parametrize("last", (False, True))
def test_it_is_chosen_where_it_pays(last):
    operation = arguments.convolution_spec(2, (3, 3), 1, 1, 1, 1, "zeros")
    form = torch.channels_last if last else torch.contiguous_format
    x, weight, dy = (
        t.contiguous(memory_format=form)
        for t in (numbers(0, 4, 32, 14, 14), numbers(1, 64, 32, 3, 3), numbers(2, 4, 64, 14, 14))
    )
    run = dense_gradients.prepare_weight_gradient(operation, x, weight, dy, True)
    assert isinstance(run, winograd_gradient.Runner)
    schedule = run.launch.schedule
    check(operation, x, weight, dy, schedule)
    with precision.precision("strict"):
        strict = dense_gradients.prepare_weight_gradient(operation, x, weight, dy, True)
        assert not isinstance(strict, winograd_gradient.Runner) or strict.launch.schedule.tile == (2, 2)
    stepping = arguments.convolution_spec(2, (3, 3), 2, 1, 1, 1, "zeros")
    assert "doesn't suit" in winograd_gradient.prepare_weight_gradient(stepping, x, weight, dy[..., ::2, ::2], True)


def test_the_choice_is_the_best_of_the_model():
    spec_ = WinogradGradient(256, 256, (3, 3))
    chosen = choose_winograd_gradient(spec_, host(), 8, 14, 14, 8)
    assert chosen is not None
    assert max(m + 2 for m in chosen.tile) <= 8
    assert 256 % chosen.part == 0
    assert 4 * scratch_floats(spec_, chosen, host()) <= 2 * host().l2
    assert choose_winograd_gradient(WinogradGradient(3, 64, (3, 3)), host(), 8, 14, 14, 8) is None
    assert choose_winograd_gradient(spec_, host(), 1, 1, 1, 8) is None


@pytest.mark.parametrize("at_end", (False, True))
def test_no_byte_outside_is_touched(at_end, monkeypatch):
    operation = arguments.convolution_spec(2, (3, 3), 1, 1, 1, 2, "reflect")
    x, weight = guarded(numbers(0, 2, 66, 5, 7), at_end=at_end), guarded(numbers(1, 38, 33, 3, 3), at_end=at_end)
    x = guarded(x.contiguous(memory_format=torch.channels_last), at_end=at_end)
    dy = guarded(numbers(2, 2, 38, 5, 7).contiguous(memory_format=torch.channels_last), at_end=at_end)
    made = ((winograd_gradient, "scratch_floats"), (layout, "scratch_floats"), (packing, "scratch_floats"))
    for module, name in (*made, (torch, "empty_strided"), (torch, "empty")):
        real = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *a, real=real, **k: guarded(real(*a, **k), at_end=at_end))
    for tile, vectors in itertools.product(((2, 2), (4, 4)), (1,)):
        schedule = WinogradGradientSchedule(tile, 4, vectors, 3, 33, 1)
        winograd_gradient.prepare_weight_gradient(operation, x, weight, dy, True, schedule)(x, dy)


def test_the_comparison_fails_on_a_wrong_gradient():
    operation = arguments.convolution_spec(1, (3,), 1, 1, 1, 1, "zeros")
    x, weight, dy = numbers(0, 2, 16, 9), numbers(1, 16, 16, 3), numbers(2, 2, 16, 9)
    schedule = WinogradGradientSchedule((1, 4), 4, 1, 8, 16, 1)
    for found, true, limit in zip(*compare(operation, x, weight, dy, schedule), strict=True):
        assert agrees(found, true, limit)
        assert not agrees(found.flip(0), true, limit)
        assert not agrees(found + 3 * torch.from_numpy(limit).float(), true, limit)


def test_the_same_bits_for_any_number_of_threads():
    operation = arguments.convolution_spec(2, (3, 3), 1, 1, 1, 1, "zeros")
    x, weight, dy = numbers(0, 8, 32, 14, 14), numbers(1, 48, 32, 3, 3), numbers(2, 8, 48, 14, 14)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3, 8):
            torch.set_num_threads(threads)
            run = winograd_gradient.prepare_weight_gradient(operation, x, weight, dy, True)
            assert run.launch.tasks > 1
            results.append(run(x, dy))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for result in results for a, b in zip(results[0], result, strict=True))


def test_a_nan_stays_with_its_channels():
    operation = arguments.convolution_spec(2, (3, 3), 1, 1, 1, 1, "zeros")
    x, weight, dy = numbers(0, 2, 32, 8, 8), numbers(1, 32, 32, 3, 3), numbers(2, 2, 32, 8, 8)
    x[1, 5, 4, 4] = math.nan
    dw, db = winograd_gradient.prepare_weight_gradient(operation, x, weight, dy, True)(x, dy)
    assert dw[:, 5].isnan().all()
    assert not dw[:, :5].isnan().any()
    assert not dw[:, 6:].isnan().any()
    assert not db.isnan().any()
