"""The oracle itself, held against loops that know nothing of index maps."""

import itertools
import math

import numpy as np
import pytest
import torch

from svertka import reference, spec
from svertka.window import Segments, Window

MODES = {"replicate": "edge", "reflect": "reflect", "symmetric": "symmetric", "circular": "wrap", "zeros": "constant"}
random = np.random.default_rng(0)


def loop(x, windows, inside):
    """inside(values [C, *kernel_size]) for each output of each sample; x padded by numpy.pad."""
    pads = [window.pads(n) for window, n in zip(windows, x.shape[2:], strict=True)]
    line = np.pad(x, [(0, 0), (0, 0), *pads], mode=MODES[windows[0].mode])
    sizes = [window.output_size(n) for window, n in zip(windows, x.shape[2:], strict=True)]
    samples = []
    for sample in line:
        results = []
        for output in itertools.product(*map(range, sizes)):
            cuts = [
                slice(o * w.stride, o * w.stride + w.extent, w.dilation) for o, w in zip(output, windows, strict=True)
            ]
            results.append(inside(output, sample[(slice(None), *cuts)]))
        samples.append(np.stack(results, axis=-1))
    return np.stack(samples).reshape(len(x), -1, *sizes)


GEOMETRIES = [
    (spec.windows(1, 3, 2, ((2, 1),), 2, "circular"), (7,)),
    (spec.windows(2, (3, 2), (2, 1), ((1, 2), (0, 4)), (1, 2), "reflect"), (5, 4)),
    (spec.windows(2, 3, 1, 1), (4, 6)),
    (spec.windows(2, 2, 3, "same_upper", 1, "symmetric"), (5, 7)),
    (spec.windows(3, (1, 2, 2), 1, 1, 1, "replicate"), (2, 3, 3)),
]


@pytest.mark.parametrize(("windows", "size"), GEOMETRIES)
@pytest.mark.parametrize("groups", [1, 2])
def test_convolutions(windows, size, groups):
    kernel = tuple(window.size for window in windows)
    x = random.normal(size=(2, 4, *size))
    weight, bias = random.normal(size=(6, 4 // groups, *kernel)), random.normal(size=6)

    def shared(_, values):
        parts = np.split(values, groups)
        return bias + [(weight[d] * parts[d * groups // 6]).sum() for d in range(6)]

    expected = loop(x, windows, shared)
    np.testing.assert_allclose(reference.conv(x, weight, bias, windows, groups), expected, rtol=1e-12, atol=1e-12)

    own = random.normal(size=(*expected.shape[2:], *weight.shape))
    own_bias = random.normal(size=(*expected.shape[2:], 6))

    def unshared(output, values):
        parts = np.split(values, groups)
        return own_bias[output] + [(own[output][d] * parts[d * groups // 6]).sum() for d in range(6)]

    expected = loop(x, windows, unshared)
    result = reference.locally_connected(x, own, own_bias, windows, groups)
    np.testing.assert_allclose(result, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("windows", "size"), GEOMETRIES)
def test_pools(windows, size):
    x, ndim = random.normal(size=(2, 3, *size)), len(windows)
    weight = random.random(size=(3, *(window.size for window in windows)))

    def over(function):
        return loop(x, windows, lambda _, values: [function(channel) for channel in values])

    if windows[0].mode != "zeros":  # there the padding takes part in a mean, not in a maximum
        np.testing.assert_array_equal(reference.max_pool(x, windows)[0], over(np.max))
    np.testing.assert_allclose(reference.avg_pool(x, windows), over(np.mean), rtol=1e-12)
    for p in (0.5, 1, 3, math.inf):
        expected = over(lambda v, p=p: abs(v).max() if p == math.inf else (abs(v) ** p).sum() ** (1 / p))
        np.testing.assert_allclose(reference.lp_pool(x, windows, p), expected, rtol=1e-12)
    expected = loop(x, windows, lambda _, v: (v * weight).reshape(3, -1).sum(1) / weight.reshape(3, -1).sum(1))
    np.testing.assert_allclose(reference.weighted_avg_pool(x, weight, windows), expected, rtol=1e-9, atol=1e-12)
    expected = over(lambda v: (v[v > 0] ** 2).sum() / v[v > 0].sum() if (v > 0).any() else 0.0)
    np.testing.assert_allclose(reference.stochastic_pool(x, windows), expected, rtol=1e-12)
    np.testing.assert_array_equal(reference.stochastic_pool(x, windows, np.zeros(expected.shape)), over(first_positive))
    one_tap = tuple(Window(1, padding=(2, 1), mode=windows[0].mode) for _ in range(ndim))
    expected = np.pad(x, [(0, 0), (0, 0), *[(2, 1)] * ndim], mode=MODES[windows[0].mode])
    np.testing.assert_array_equal(reference.pad(x, one_tap), expected)


def first_positive(values):
    positive = values[values > 0]
    return positive[0] if positive.size else 0.0


def test_the_loop_can_disagree():
    windows, size = GEOMETRIES[2]
    x = random.normal(size=(1, 1, *size))
    wrong = loop(x, windows, lambda _, values: [values.sum()])
    assert not np.allclose(reference.avg_pool(x, windows), wrong, rtol=1e-6)


def test_transposed_convolution_is_the_transposed_jacobian():
    windows = spec.transposed_windows(2, (3, 2), (2, 1), (1, 0), (1, 0), (1, 2))
    weight = random.normal(size=(4, 3, 3, 2))
    size = (3, 4)
    full = tuple(window.output_size(n) for window, n in zip(windows, size, strict=True))
    forward = tuple(window.window for window in windows)
    # Columns of the forward convolution's matrix: what it makes of each unit picture.
    units = np.eye(2 * 3 * math.prod(full)).reshape(-1, 2 * 3, *full)
    outputs = reference.conv(units, weight.reshape(4, 3, 3, 2), None, forward, groups=2)[..., : size[0], : size[1]]
    matrix = outputs.reshape(len(units), -1)
    x = random.normal(size=(1, 4, *size))
    result = reference.conv_transpose(x, weight, None, windows, groups=2)
    np.testing.assert_allclose(result.reshape(-1), matrix @ x.reshape(-1), rtol=1e-12, atol=1e-12)


def test_maximum_takes_the_first_of_equals_and_nan_and_says_where():
    windows = spec.windows(1, 3, 3, ((3, 0),))
    values, places = reference.max_pool([[[1.0, 5, 5, -np.inf, -np.inf, -np.inf, 2, np.nan, 9]]], windows)
    np.testing.assert_array_equal(values, [[[-np.inf, 5, -np.inf, np.nan]]])
    assert places.tolist() == [[[-1, 1, 3, 7]]]
    _, places = reference.max_pool([[[-np.inf, -np.inf]]], spec.windows(1, 3, 1, 1))
    assert places.tolist() == [[[0, 0]]]


def test_averages_count_what_they_are_told_to():
    x = [[[6.0, 3, 3]]]
    padded = spec.windows(1, 2, 2, ((1, 2),))
    assert reference.avg_pool(x, padded)[0, 0].tolist() == [3, 3, 0]
    inside = reference.avg_pool(x, padded, count_include_pad=False)[0, 0]
    np.testing.assert_array_equal(inside, [6, 3, np.nan])
    assert reference.avg_pool(x, padded, divisor=3)[0, 0].tolist() == [2, 2, 0]
    rounded_up = spec.windows(1, 2, 2, 0, 1, "zeros", True)
    assert reference.avg_pool(x, rounded_up)[0, 0].tolist() == [4.5, 3]
    assert reference.avg_pool(x, (Segments(2),))[0, 0].tolist() == [4.5, 3]
    assert reference.weighted_avg_pool(x, [[1.0, 3]], padded, False)[0, 0, :2].tolist() == [6, 3]


def test_stochastic_pooling_of_what_is_not_ordinary():
    windows = spec.windows(1, 2, 2)
    x = [[[-1.0, -2, np.inf, 1, np.nan, 1, 1, 3]]]
    drawn = reference.stochastic_pool(x, windows, np.full((1, 1, 4), 0.9))[0, 0]
    np.testing.assert_array_equal(drawn, [0, np.inf, np.nan, 3])
    assert reference.stochastic_pool(x, windows)[0, 0, [0, 3]].tolist() == [0, 2.5]


def test_sequences():
    x = np.array([[[3.0, 5, 5, 1, 4]]])
    assert reference.k_max_pool(x, 3).tolist() == [[[5, 5, 4]]]
    assert reference.k_max_pool([[[2.0, 2, 2]]], 2).tolist() == [[[2, 2]]]
    assert reference.dynamic_pool(x, [[1, 3]]).tolist() == [[[3, 5, 4]]]
    assert reference.dynamic_pool(x, [[1, 3]], "average").tolist() == [[[3, 5, 2.5]]]
    assert reference.dynamic_pool(x, [[0, 3]])[0, 0, 0] == -np.inf


def test_what_has_no_definition_is_told():
    with pytest.raises(TypeError, match="no definition of Operation"):
        reference.run(spec.Operation(()), np.zeros((1, 1)))


def test_batch_norm_is_torchs():
    x, weight, bias = torch.randn(3, 5, 4, 6).double(), torch.randn(5).double(), torch.randn(5).double()
    expected = torch.nn.functional.batch_norm(x, None, None, weight, bias, True, 0.0, 1e-3).relu()
    operation = spec.BatchNorm(spec.windows(2, 1), 1e-3, spec.Activation("relu"))
    torch.testing.assert_close(torch.from_numpy(reference.run(operation, x, weight, bias)), expected)
    plain = torch.nn.functional.batch_norm(x, None, None, None, None, True, 0.0, 1e-5)
    torch.testing.assert_close(torch.from_numpy(reference.run(spec.BatchNorm(spec.windows(2, 1)), x)), plain)
