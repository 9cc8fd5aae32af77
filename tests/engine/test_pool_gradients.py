"""Gradients of poolings and paddings by the kernels, against torch's in float64."""

import math

import pytest
import torch
from comparing import KINDS, numbers
from engine.bounds import agrees, sum_bound
from geometries import SEEDS, geometries
from guarded import guarded
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from svertka import explain, functional, models, nn, portable, reference, spec
from svertka.engine import gathering, pools
from svertka.engine.autograd import GRADIENTS
from svertka.engine.dispatch import using
from svertka.engine.layout import CHANNELS_LAST
from svertka.engine.report import report
from svertka.engine.step import Saved
from svertka.errors import GeometryError
from svertka.kernels.target import host
from svertka.window import MODES, Segments

CHANNELS = (1, 3, 19)


def laid(x, last):
    return x.contiguous(memory_format=CHANNELS_LAST[x.ndim]) if last and x.ndim in CHANNELS_LAST else x


def dy_like(y, seed=1):
    return numbers(tuple(y.shape), seed, torch.float32)


def by_kernels(operation, x, dy=None):
    """(dx, dy) by the kernels."""
    leaf = x.clone(memory_format=torch.preserve_format).requires_grad_()
    with using("kernels"):
        y = functional.run(operation, leaf)
        dy = dy_like(y) if dy is None else dy
        (dx,) = torch.autograd.grad(y, leaf, dy)
    assert dx.stride() == x.stride()
    return dx, dy


def by_torch(operation, x, dy):
    leaf = x.double().requires_grad_()
    return torch.autograd.grad(portable.run(operation, leaf), leaf, dy.double())[0]


def readings(operation, x, dy):
    """Σ |dy| of all outputs that read an input: what bounds the rounding of a sum of some of them."""
    if isinstance(operation, spec.Pad):
        return by_torch(operation, x.nan_to_num(0, 0, 0), dy.abs())
    return by_torch(spec.AveragePool(operation.windows, divisor=1.0), x.nan_to_num(0, 0, 0), dy.abs())


def check(operation, x):
    """The gradient against torch's, of an operation whose factors are at most 1."""
    dx, dy = by_kernels(operation, x)
    expected = by_torch(operation, x, dy)
    bound = sum_bound(60, readings(operation, x, dy).numpy())
    assert agrees(dx, expected, bound), (operation, x.shape)
    return dx, expected, bound


@st.composite
def cases(draw, ceil=True, kinds=KINDS):
    """(windows, x) in either memory format, where at least one window fits."""
    geometry = draw(geometries(ceil=ceil))
    try:
        spec.MaxPool(geometry.windows).output_size(geometry.size)
    except GeometryError:
        assume(False)
    shape = (draw(st.integers(1, 2)), draw(st.sampled_from(CHANNELS)), *geometry.size)
    x = numbers(shape, draw(SEEDS), torch.float32, draw(st.sampled_from(kinds)))
    return geometry.windows, laid(x, draw(st.booleans()))


few = settings(max_examples=25, deadline=None, derandomize=True, database=None)


@few
@given(cases())
def test_maximum(case):
    """It goes where the reference says: of several NaN to the first, too, and of nothing but −∞."""
    windows, x = case
    operation = spec.MaxPool(windows)
    dx, dy = by_kernels(operation, x)
    _, places = reference.max_pool(x, windows)
    places = torch.from_numpy(places).flatten(2)
    expected = torch.zeros(x.flatten(2).shape, dtype=torch.float64)
    expected.scatter_add_(2, places.clamp(min=0), torch.where(places < 0, 0.0, dy.double().flatten(2)))
    assert agrees(dx, expected.view(x.shape), sum_bound(60, readings(operation, x, dy).numpy()))


@few
@given(cases())
def test_maximum_with_zero(case):
    """It goes where the maximum's goes, if that is above 0 or NaN, as a ReLU's does."""
    windows, x = case
    operation = spec.RectifiedMaxPool(windows)
    dx, dy = by_kernels(operation, x)
    largest, places = (torch.from_numpy(table).flatten(2) for table in reference.max_pool(x, windows))
    through = torch.where((places < 0) | (largest <= 0), 0.0, dy.double().flatten(2))
    expected = torch.zeros(x.flatten(2).shape, dtype=torch.float64)
    expected.scatter_add_(2, places.clamp(min=0), through)
    bound = sum_bound(60, readings(operation, x, dy).numpy())
    assert agrees(dx, expected.view(x.shape), bound)
    wrong = expected.scatter_add(2, places.clamp(min=0), dy.double().flatten(2) - through).view(x.shape)
    assert agrees(wrong, expected.view(x.shape), bound) == bool((wrong == expected.view(x.shape)).all())
    with using("kernels"):
        y = functional.run(operation, x)
        assert torch.equal(y.nan_to_num(), functional.run(operation, x.clone().requires_grad_()).detach().nan_to_num())
    assert agrees(y, reference.run(operation, x), 0.0)


def test_blocks_pool_and_rectify_in_one_pass():
    """Where the convolution is torch's; else it is in that pass, too, see `test_block_gradients`."""
    torch.manual_seed(0)
    block = models.Block(nn.Conv2d(8, 16, 3, padding=1), None, torch.nn.ReLU(inplace=True), nn.MaxPool2d(2))
    x = torch.randn(4, 8, 64, 64).contiguous(memory_format=torch.channels_last)
    results = []
    for engine in ("auto", "portable"):
        report(reset=True)
        with using(engine):
            results.append(torch.autograd.grad(block(x).square().sum(), list(block.parameters())))
        joined = any(isinstance(call.operation, spec.RectifiedMaxPool) for call in report())
        assert joined == (engine == "auto")
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-3)


@few
@given(cases(kinds=("normal",)), st.booleans(), st.sampled_from((None, 3.0, -4.0)))
def test_average(case, count_include_pad, divisor):
    windows, x = case
    check(spec.AveragePool(windows, count_include_pad, divisor), x)


@few
@given(cases(kinds=("normal", "ties", "nan")), st.sampled_from((1, 1.5, 2, 3, 5.5, math.inf)))
def test_norm(case, p):
    windows, x = case
    operation = spec.LpPool(windows, p)
    dx, dy = by_kernels(operation, x)
    # |x| ≤ y, so that factors are at most 1; a power's error is its exponent times the roundings before it.
    terms = math.prod(window.size for window in windows)
    bound = sum_bound(100 + 8 * terms, readings(operation, x, dy).numpy()) * (p if p < math.inf else 1)
    assert agrees(dx, by_torch(operation, x, dy), bound)


@few
@given(cases(kinds=("normal", "ties"), ceil=False))
def test_a_mean_weighted_by_the_values(case):
    windows, x = case
    operation = spec.StochasticPool(windows, sample=False)
    dx, dy = by_kernels(operation, x)
    # |2 x − y| ≤ 2 s, but where it cancels it is as far off as y's own roundings.
    assert agrees(dx, by_torch(operation, x, dy), 4 * sum_bound(100, readings(operation, x, dy).numpy()))


@few
@given(cases(kinds=("normal", "ties"), ceil=False), SEEDS)
def test_a_draw_gets_what_it_was_drawn_for(case, seed):
    windows, x = case
    operation, generator = spec.StochasticPool(windows), torch.Generator().manual_seed(seed)
    leaf = x.clone(memory_format=torch.preserve_format).requires_grad_()
    with using("kernels"):
        y = functional.run(operation, leaf, generator=generator)
        dy = dy_like(y)
        (dx,) = torch.autograd.grad(y, leaf, dy, retain_graph=True)
        (again,) = torch.autograd.grad(y, leaf, dy, create_graph=True)
    # The drawn numbers tell the places, if no two are the same.
    values, index = portable.gather(x.clamp(min=0), windows, -1.0)
    if len(x.unique()) == x.numel():
        source = index.expand(*values.shape).gather(-1, (values == y[..., None]).int().argmax(-1, keepdim=True))[..., 0]
        source = torch.where(y > 0, source, 0)
        expected = torch.zeros(x.flatten(2).shape, dtype=torch.float64)
        expected.scatter_add_(2, source.flatten(2), torch.where(y > 0, dy, 0).double().flatten(2))
        assert agrees(dx, expected.view(x.shape), sum_bound(60, readings(operation, x, dy).numpy()))
    assert agrees(again, dx, sum_bound(60, readings(operation, x, dy).numpy()))


@settings(few, max_examples=10)
@given(cases(kinds=("normal",), ceil=False), st.booleans(), st.booleans())
def test_weighted_mean(case, count_include_pad, shared):
    windows, x = case
    sizes = [window.size for window in windows]
    weight = numbers((1 if shared else x.shape[1], *sizes), 5, torch.float32).abs() + 0.5
    operation = spec.WeightedPool(windows, count_include_pad)
    results = []
    for kind in (torch.float32, torch.float64):
        leaves = [t.detach().to(kind).requires_grad_() for t in (x, weight)]
        with using("kernels" if kind is torch.float32 else "portable"):
            y = functional.run(operation, *leaves)
            dy = dy_like(y).to(kind)
            results.append(torch.autograd.grad(y, leaves, dy))
    # Shares are at most 1; the weight's is a difference of sums of |dy · x| and |dy · y| over all places and images.
    size = x.abs().max()
    to_x = readings(operation, x, dy).numpy()
    to_weight = dy.abs().sum().item() * 2 * size.item() / 0.5
    terms = x.numel() + math.prod(sizes) + 50
    for (ours, true), bound in zip(zip(*results, strict=True), (to_x, to_weight), strict=True):
        assert agrees(ours, true, sum_bound(terms, bound))


@pytest.mark.parametrize("last", (False, True))
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("padding", ((3, 2, 1, 0), (-1, 2, 0, -2), (11, 9, 8, 13)))
def test_padding(mode, padding, last):
    for shape in ((2, 3, 5, 6), (1, 17, 9, 8)):
        check(spec.Pad(spec.pad_windows(2, padding, mode), 2.0), laid(numbers(shape, 3, torch.float32), last))
    check(spec.Pad(spec.pad_windows(1, padding[:2], mode)), numbers((2, 3, 5), 3, torch.float32))


@pytest.mark.parametrize("kind", (spec.MaxPool, spec.AveragePool, spec.LpPool))
@pytest.mark.parametrize("last", (False, True))
def test_segments_and_whole_images(kind, last):
    for segments in ((3, 1), (1, 1), (7, 10), (2, 3), (9, 4)):
        check(kind(tuple(map(Segments, segments))), laid(numbers((2, 19, 7, 9), 4, torch.float32), last))
    x = laid(numbers((1, 9, 18, 20), 5, torch.float32), last)  # more than 255 taps
    check(kind((Segments(1), Segments(1))), x)
    check(kind((Segments(3), Segments(1, overlap=False))), x)


@pytest.mark.parametrize("kind", (spec.MaxPool, spec.AveragePool))
@pytest.mark.parametrize("last", (False, True))
def test_sizes_around_the_vectors(kind, last):
    lanes = host().lanes
    for size, stride in ((2, 2), (3, 2), (3, 1), (2, 3), (5, 4), (9, 1)):
        for n in (1, 2, 3, lanes - 1, lanes, lanes + 1, 2 * lanes - 1, 2 * lanes, 2 * lanes + 1):
            windows = spec.windows(2, (1, size), (1, stride), (0, size // 2))
            check(kind(windows), laid(numbers((1, 3, 2, n), n, torch.float32), last))
    for channels in (lanes - 1, lanes, lanes + 1, 8 * lanes - 1, 8 * lanes + 1):
        check(kind(spec.windows(2, 3, 2, 1)), laid(numbers((1, channels, 5, 6), 6, torch.float32), last))
    check(kind(spec.windows(1, 3, 2, 1)), numbers((1, 2, 5000), 6, torch.float32))


@pytest.mark.parametrize("last", (False, True))
def test_the_first_maximum_has_it_and_nan_wins(last):
    nan, inf = math.nan, math.inf
    rows = [[1, 1, 1], [-inf, -inf, -inf], [2, nan, nan], [nan, inf, 1], [-0.0, 0.0, 0.0], [-inf, 2, 2]]
    x = laid(torch.tensor(rows).view(1, 6, 1, 3).expand(1, 6, 2, 3).contiguous(), last)
    dx, _ = by_kernels(spec.MaxPool(spec.windows(2, (1, 3))), x, torch.ones(1, 6, 2, 1))
    assert dx.sum(2).argmax(-1).flatten().tolist() == [0, 0, 1, 0, 0, 1]
    assert dx.sum() == 12


@pytest.mark.parametrize(
    "operation",
    [
        spec.MaxPool(spec.windows(2, 3, 2, 1)),
        spec.MaxPool((Segments(2), Segments(3))),
        spec.AveragePool(spec.windows(2, 3, 2, 1, mode="reflect")),
        spec.AveragePool((Segments(2), Segments(3))),
        spec.AveragePool((Segments(1), Segments(1))),
        spec.Pad(spec.pad_windows(2, 2, "circular")),
    ],
    ids=str,
)
@pytest.mark.parametrize("last", (False, True))
@pytest.mark.parametrize("at_end", (False, True))
def test_no_byte_outside_is_touched(operation, last, at_end, monkeypatch):
    x = laid(numbers((2, 19, 5, 7), 7, torch.float32), last)
    step = GRADIENTS[type(operation)].prepare(operation, x)
    (y,), kept = step.forward(x)
    dy = guarded(torch.randn_like(y), at_end=at_end)
    kept = [guarded(taps, at_end=at_end) for taps in kept]
    empty = gathering.empty
    monkeypatch.setattr(gathering, "empty", lambda *arguments: guarded(empty(*arguments), at_end=at_end))
    step.backward(dy, Saved((True,), x, (), kept))
    monkeypatch.setattr(pools, "empty", lambda *arguments: guarded(empty(*arguments), at_end=at_end))
    room = pools.room_for_taps
    monkeypatch.setattr(pools, "room_for_taps", lambda *arguments: guarded(room(*arguments), at_end=at_end))
    step.forward(guarded(x, at_end=at_end))


@pytest.mark.parametrize("kind", (spec.MaxPool, spec.AveragePool))
@pytest.mark.parametrize("last", (False, True))
def test_the_same_bits_for_any_number_of_threads(kind, last):
    x = laid(numbers((3, 33, 40, 41), 8, torch.float32), last)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(by_kernels(kind(spec.windows(2, 3, 2, 1)), x)[0])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(results[0], result) for result in results)


@pytest.mark.parametrize("mode", MODES)
def test_the_matrix_turned_round_gives_the_gradient(mode):
    x = numbers((1, 2, 5, 6), 9, torch.float32)
    for layer in (nn.AvgPool2d(3, 2, 1, padding_mode=mode), nn.AdaptiveAvgPool2d((2, 4))):
        leaf = x.clone().requires_grad_()
        with using("kernels"):
            y = layer(leaf)
            dy = dy_like(y)
            (dx,) = torch.autograd.grad(y, leaf, dy)
        matrix = explain(layer, x).matrix()
        expected = matrix.T @ dy.double().numpy().reshape(-1)
        assert agrees(dx.reshape(-1), expected, sum_bound(20, abs(matrix.T) @ dy.abs().double().numpy().reshape(-1)))


def test_the_comparison_fails_on_a_wrong_gradient():
    for kind in (spec.MaxPool, spec.AveragePool, spec.LpPool):
        dx, expected, bound = check(kind(spec.windows(2, 2, 2)), torch.randn(1, 3, 6, 6))
        assert not agrees(dx.flip(-1), expected, bound)
        assert not agrees(dx + 3 * torch.from_numpy(bound).float() + 1e-6, expected, bound)


@pytest.mark.parametrize("kind", (spec.MaxPool, spec.AveragePool, spec.LpPool))
def test_gradients_of_gradients(kind):
    results = []
    x = torch.randn(1, 2, 6, 6)
    for engine in ("kernels", "portable"):
        leaf = x.clone().requires_grad_()
        with using(engine):
            y = functional.run(kind(spec.windows(2, 2)), leaf)
            (dx,) = torch.autograd.grad(y.pow(3).sum(), leaf, create_graph=True)
            results.append(torch.autograd.grad(dx.square().sum(), leaf)[0])
    torch.testing.assert_close(*results, rtol=1e-3, atol=1e-3)


def test_places_and_their_gradient():
    x = torch.randn(2, 3, 7, 9, requires_grad=True)
    with using("kernels"):
        y, places = functional.max_pool2d(x, 3, 2, 1, return_indices=True)
        (dx,) = torch.autograd.grad(y.sum(), x)
    expected = torch.zeros(2, 3, 63).scatter_add_(2, places.flatten(2), torch.ones_like(y).flatten(2))
    assert torch.equal(dx.flatten(2), expected)
