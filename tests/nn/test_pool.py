"""Pooling layers beside torch.nn's: results, gradients and errors; then what torch lacks."""

import copy
import math
import pickle

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from comparing import KINDS, assert_norms_near, numbers
from geometries import SEEDS, drawn
from hypothesis import given
from twins import assert_twins, twins

from svertka import functional as F
from svertka import nn, reference
from svertka.errors import GeometryError
from svertka.spec import windows

MAX = {
    1: (nn.MaxPool1d, torch.nn.MaxPool1d),
    2: (nn.MaxPool2d, torch.nn.MaxPool2d),
    3: (nn.MaxPool3d, torch.nn.MaxPool3d),
}
AVERAGE = {
    1: (nn.AvgPool1d, torch.nn.AvgPool1d),
    2: (nn.AvgPool2d, torch.nn.AvgPool2d),
    3: (nn.AvgPool3d, torch.nn.AvgPool3d),
}
LP = {1: (nn.LPPool1d, torch.nn.LPPool1d), 2: (nn.LPPool2d, torch.nn.LPPool2d), 3: (nn.LPPool3d, torch.nn.LPPool3d)}
SIZES = {1: (9,), 2: (7, 8), 3: (5, 6, 4)}


@st.composite
def torch_pools(draw):
    """(number of axes, the arguments that all of torch's pools take): padding up to half the kernel."""
    ndim = draw(st.integers(1, 3))
    kernel = draw(st.integers(1, 4) | st.tuples(*[st.integers(1, 4)] * ndim) if ndim > 1 else st.integers(1, 4))
    return ndim, {
        "kernel_size": kernel,
        "stride": draw(st.none() | st.integers(1, 3)),
        "padding": draw(st.integers(0, (kernel if isinstance(kernel, int) else min(kernel)) // 2)),
        "ceil_mode": draw(st.booleans()),
    }


@drawn
@given(torch_pools(), SEEDS, st.integers(1, 2), st.booleans(), st.sampled_from(KINDS))
def test_maximum_is_torchs(case, seed, dilation, return_indices, kind) -> None:
    ndim, arguments = case
    if dilation == 2:
        arguments["kernel_size"] = 2
        arguments["padding"] = min(arguments["padding"], 1)
    layers = twins(*MAX[ndim], seed, **arguments, dilation=dilation, return_indices=return_indices)
    assert_twins(*layers, numbers((2, 3, *SIZES[ndim]), seed, torch.float32, kind))


@drawn
@given(torch_pools(), SEEDS, st.booleans(), st.none() | st.integers(1, 9), st.sampled_from(KINDS))
def test_average_is_torchs(case, seed, count_include_pad, divisor, kind) -> None:
    ndim, arguments = case
    arguments["count_include_pad"] = count_include_pad
    if ndim > 1:
        arguments["divisor_override"] = divisor
    x = numbers((2, 3, *SIZES[ndim]), seed, torch.float32, kind)
    assert_twins(*twins(*AVERAGE[ndim], seed, **arguments), x)


@drawn
@given(torch_pools(), SEEDS, st.sampled_from((1, 2, 3)))
def test_norm_of_positive_input_is_torchs(case, seed, p) -> None:
    ndim, arguments = case
    arguments = {**arguments, "ceil_mode": False}  # torch scales the sum of a window that overhangs by all its taps
    del arguments["padding"]
    ours, theirs = twins(*LP[ndim], seed, p, **arguments)
    x = numbers((2, 3, *SIZES[ndim]), seed, torch.float32).abs() + 0.1
    assert isinstance(ours, type(theirs))
    assert torch.allclose(ours(x), theirs(x), rtol=1e-5)
    assert torch.allclose(ours(x[0]), ours(x)[0], rtol=1e-6)


@pytest.mark.parametrize("p", [0.5, 1, 2, 3, 3.3, math.inf])
def test_norm_is_right_for_signed_input_where_torchs_is_not(p) -> None:
    x = numbers((2, 3, 8, 8), 0, torch.float32)
    expected = reference.lp_pool(x, windows(2, 2, 2), p)
    assert_norms_near(nn.LPPool2d(p, 2)(x), expected, 4, p)
    if p == 3:
        assert not np.allclose(torch.nn.LPPool2d(p, 2)(x), expected, equal_nan=True)


ARGUMENT_ERRORS = {
    "padding name": ({"padding": "full"}, "'full'"),
    "mode": ({"padding_mode": "wrap"}, "circular"),
    "negative padding": ({"padding": -1}, "padding=-1"),
    "stride 0": ({"stride": 0}, "stride=0"),
    "stride 0 on an axis": ({"stride": (1, 0)}, "width: stride=0"),
    "kernel size 0": ({"kernel_size": 0}, "size=0"),
    "dilation 0": ({"dilation": 0}, "dilation=0"),
    "number of kernel sizes": ({"kernel_size": (2, 2, 2)}, "kernel_size=(2, 2, 2)"),
    "same with stride": ({"padding": "same", "stride": 2}, "same_upper"),
}


def assert_one_sentence(error: BaseException, names: str) -> None:
    message = str(error)
    assert names in message
    assert "\n" not in message
    assert ". " not in message


@pytest.mark.parametrize("kind", [nn.MaxPool2d, nn.AvgPool2d, nn.WeightedAvgPool2d, nn.StochasticPool2d])
@pytest.mark.parametrize(("arguments", "names"), ARGUMENT_ERRORS.values(), ids=ARGUMENT_ERRORS)
def test_bad_arguments_are_errors_of_the_constructor(kind, arguments, names) -> None:
    with pytest.raises(GeometryError) as caught:
        kind(**{"kernel_size": 2, **arguments})
    assert_one_sentence(caught.value, names)


@pytest.mark.parametrize("p", [0, -1, math.nan])
def test_orders_that_make_no_norm_are_refused(p) -> None:
    for make in (
        lambda: nn.LPPool2d(p, 2),
        lambda: nn.AdaptiveLPPool2d(p, 2),
        lambda: F.lp_pool2d(torch.zeros(1, 1, 2, 2), p, 2),
    ):
        with pytest.raises(GeometryError, match="norm_type") as caught:
            make()
        assert_one_sentence(caught.value, str(p))


@pytest.mark.parametrize(
    ("layer", "shape", "names"),
    [
        (nn.MaxPool2d(3), (1, 4, 8, 2), "width: a kernel of 3 taps"),
        (nn.MaxPool2d(3, padding=((0, 0), (1, 0)), padding_mode="reflect"), (1, 4, 2, 8), "height: a kernel of 3"),
        (nn.AvgPool2d(3), (1, 4, 8, 2), "width: a kernel of 3 taps"),
        (nn.AvgPool1d(3), (1, 4, 2), "a kernel of 3 taps"),
        (nn.LPPool2d(2, 3), (1, 4, 8, 2), "width: a kernel of 3 taps"),
        (nn.StochasticPool2d(3), (1, 4, 8, 2), "width: a kernel of 3 taps"),
        (nn.WeightedAvgPool2d(3), (1, 4, 8, 2), "width: a kernel of 3 taps"),
        (nn.WeightedAvgPool2d(2, channels=3), (1, 4, 8, 8), "3 channels"),
        (nn.MaxPool2d(2), (8, 8), "[8, 8]"),
        (nn.AvgPool2d(2), (1, 1, 1, 8, 8), "[1, 1, 1, 8, 8]"),
    ],
)  # fmt: skip
def test_bad_input_is_a_runtime_error_of_the_call(layer, shape, names) -> None:
    with pytest.raises(RuntimeError) as caught:
        layer(torch.zeros(shape))
    assert_one_sentence(caught.value, names)


def test_a_divisor_of_zero_is_refused() -> None:
    with pytest.raises(RuntimeError, match="divisor"):
        nn.AvgPool2d(2, divisor_override=0)(torch.zeros(1, 1, 4, 4))


def test_attributes_changed_after_construction_count() -> None:
    x = numbers((1, 2, 6, 6), 0, torch.float32)
    layer = nn.MaxPool2d(2)
    layer(x)
    layer.kernel_size, layer.stride, layer.padding, layer.padding_mode = 3, 1, "same", "circular"
    assert torch.equal(layer(x), F.max_pool2d(x, 3, 1, "same", padding_mode="circular"))
    norm = nn.LPPool2d(2, 2)
    norm(x)
    norm.norm_type = math.inf
    assert torch.equal(norm(x), F.max_pool2d(x.abs(), 2))


def test_whole_numbers_pool_as_in_torch() -> None:
    x = torch.arange(-8, 8).view(1, 1, 4, 4)
    for dtype in (torch.uint8, torch.int32, torch.int64):
        y = x.to(dtype)
        assert torch.equal(nn.MaxPool2d(2)(y), torch.nn.MaxPool2d(2)(y))
        wide = nn.MaxPool2d(2, 4, padding=2)(y)  # every window lies on the padding or touches one corner
        assert wide.dtype == dtype
    assert torch.equal(nn.AvgPool2d(2)(x), torch.nn.AvgPool2d(2)(x))
    assert torch.equal(nn.AvgPool2d(2, divisor_override=3)(x), torch.nn.AvgPool2d(2, divisor_override=3)(x))
    assert nn.AvgPool2d(3, padding="same_upper", padding_mode="circular")(x).dtype == torch.int64
    assert torch.equal(nn.LPPool2d(1, 2)(x), nn.LPPool2d(1, 2)(x.float()))
    assert torch.equal(nn.MaxPool2d(2, padding=((2, 0), 0))(x)[0, 0, 0], torch.full((2,), torch.iinfo(torch.int64).min))


def test_complex_numbers() -> None:
    x = torch.randn(1, 2, 4, 4, dtype=torch.complex64)
    assert torch.allclose(nn.LPPool2d(3, 2)(x), nn.LPPool2d(3, 2)(x.abs()))
    for padding in (0, "same_upper"):
        layer = nn.AvgPool2d(2, 1, padding, dilation=2, padding_mode="reflect")
        assert torch.allclose(layer(x), torch.complex(layer(x.real), layer(x.imag)))
    with pytest.raises(RuntimeError):
        nn.MaxPool2d(2)(x)
    with pytest.raises(RuntimeError):
        nn.MaxPool2d(2, padding=2)(x)


def test_windows_on_nothing() -> None:
    x = torch.ones(1, 1, 2)
    far = {"padding": 4}
    assert nn.MaxPool1d(2, **far)(x).tolist() == [[[-math.inf, -math.inf, 1, -math.inf, -math.inf]]]
    assert nn.MaxPool1d(2, return_indices=True, **far)(x)[1].tolist() == [[[-1, -1, 0, -1, -1]]]
    assert nn.AvgPool1d(2, **far)(x).tolist() == [[[0, 0, 1, 0, 0]]]
    assert nn.AvgPool1d(2, count_include_pad=False, **far)(x).isnan().tolist() == [[[True, True, False, True, True]]]
    for p in (0.5, 2, math.inf):
        assert nn.LPPool1d(p, 2, **far)(x)[0, 0, ::4].tolist() == [0, 0]
    for training in (True, False):
        assert nn.StochasticPool1d(2, **far).train(training)(x).tolist() == [[[0, 0, 1, 0, 0]]]


def test_the_only_window_lies_before_the_input() -> None:
    x = torch.ones(1, 1, 1)
    far = {"kernel_size": 1, "stride": 3, "padding": ((2, 0),)}
    assert nn.AvgPool1d(**far)(x).tolist() == [[[0]]]
    assert nn.AvgPool1d(**far, ceil_mode=True)(x).tolist() == [[[0]]]
    assert nn.LPPool1d(2, **far)(x).tolist() == [[[0]]]
    assert nn.WeightedAvgPool1d(**far)(x).tolist() == [[[0]]]
    assert nn.Conv1d(1, 1, **far, bias=False)(x).tolist() == [[[0]]]
    assert nn.Pad1d((3, -2), value=2.0)(x).tolist() == [[[2, 2]]]
    assert nn.Pad1d((-2, 3), value=2.0)(x).tolist() == [[[2, 2]]]


def test_gaps_wider_than_the_input_read_nothing() -> None:
    """torch's own maximum names the place 1 of an input of 1 here, and its gradient goes there."""
    x = torch.ones(2, 1, 1, requires_grad=True)
    y, index = nn.MaxPool1d(2, 1, 1, dilation=2, return_indices=True)(x)
    assert y.tolist() == [[[-math.inf]], [[-math.inf]]]
    assert index.tolist() == [[[-1]], [[-1]]]
    y.sum().backward()
    assert x.grad.tolist() == [[[0]], [[0]]]


def test_weights_that_are_given() -> None:
    x = numbers((1, 2, 6, 6), 0, torch.float32)
    tent = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]])
    layer = nn.WeightedAvgPool2d(3, 2, 1, weight=tent)
    assert not list(layer.parameters())
    assert torch.allclose(layer.weight, tent / 16)
    expected = reference.weighted_avg_pool(x, tent[None], windows(2, 3, 2, 1))
    assert np.allclose(layer(x), expected, atol=1e-6)
    own = torch.stack([tent, tent.flip(0).sqrt()])
    expected = reference.weighted_avg_pool(x, own, windows(2, 3, 2, 1), count_include_pad=False)
    assert np.allclose(nn.WeightedAvgPool2d(3, 2, 1, False, weight=own)(x), expected, atol=1e-6)
    other = nn.WeightedAvgPool2d(3, 2, 1, weight=torch.ones(3, 3))
    other.load_state_dict(layer.state_dict(), strict=True)
    assert torch.equal(other(x), layer(x))
    assert torch.allclose(nn.WeightedAvgPool1d(2, weight=[1, 3]).weight, torch.tensor([[0.25, 0.75]]))


def test_weights_that_are_learned_start_as_a_mean() -> None:
    x = numbers((1, 2, 6, 6), 0, torch.float32)
    layer = nn.WeightedAvgPool2d(2, channels=2)
    assert torch.allclose(layer(x), nn.AvgPool2d(2)(x), atol=1e-6)
    layer(x)[:, :1].sum().backward()
    assert (layer.logits.grad[0] != 0).all()
    assert (layer.logits.grad[1] == 0).all()
    assert layer.weight.shape == (2, 2, 2)
    assert torch.allclose(layer.weight.sum((1, 2)), torch.ones(2))


@pytest.mark.parametrize(
    "weight", [torch.ones(3), torch.ones(2, 3), -torch.ones(2, 2), torch.zeros(2, 2), torch.full((2, 2), math.nan)]
)
def test_weights_that_are_none(weight) -> None:
    with pytest.raises(GeometryError, match="weight of a weighted pooling") as caught:
        nn.WeightedAvgPool2d(2, weight=weight)
    assert_one_sentence(caught.value, "kernel_size=(2, 2)")


def test_stochastic_pooling_draws_in_training_and_averages_in_evaluation() -> None:
    x = numbers((4, 3, 8, 8), 0, torch.float32)
    layer = nn.StochasticPool2d(2)
    torch.manual_seed(0)
    first = layer(x)
    assert not torch.equal(layer(x), first)
    torch.manual_seed(0)
    assert torch.equal(layer(x), first)
    quads = x.clamp(min=0).unfold(2, 2, 2).unfold(3, 2, 2).flatten(-2)
    assert (quads == first[..., None]).any(-1).all()
    layer.eval()
    assert torch.allclose(layer(x), (quads * quads).sum(-1) / quads.sum(-1).clamp(min=1e-30))


def test_stochastic_pooling_from_a_generator_of_its_own() -> None:
    x = numbers((4, 3, 8, 8), 0, torch.float32)
    results = []
    for _ in range(2):
        layer = nn.StochasticPool2d(2, generator=torch.Generator().manual_seed(1))
        state = torch.random.get_rng_state()
        results.append(layer(x))
        assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(*results)
    for copied in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        before = layer.generator.get_state()
        expected = layer(x)
        layer.generator.set_state(before)
        assert torch.equal(copied(x), expected)


def test_arguments_are_shown() -> None:
    assert repr(nn.MaxPool2d(3, 2, "same_upper", padding_mode="reflect", return_indices=True)) == (
        "MaxPool2d(kernel_size=3, stride=2, padding='same_upper', dilation=1, ceil_mode=False, "
        "padding_mode='reflect', return_indices=True)"
    )
    for layer, names in {
        nn.AvgPool1d(2, count_include_pad=False): ("count_include_pad=False",),
        nn.AvgPool3d(2, divisor_override=3): ("divisor_override=3",),
        nn.LPPool2d(3.3, 2): ("norm_type=3.3", "kernel_size=2"),
        nn.WeightedAvgPool2d(2, count_include_pad=False): ("kernel_size=(2, 2)", "count_include_pad=False"),
        nn.StochasticPool2d(2, padding=((1, 0), 0)): ("padding=((1, 0), 0)",),
    }.items():
        assert all(name in repr(layer) for name in names)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (nn.MaxPool2d(3, 2, 1), torch.nn.MaxPool2d(3, 2, 1)),
        (nn.AvgPool2d(2), torch.nn.AvgPool2d(2)),
        (nn.AvgPool2d(2, divisor_override=3), torch.nn.AvgPool2d(2, divisor_override=3)),
        (nn.LPPool2d(2, 2), torch.nn.LPPool2d(2, 2)),
    ],
)
def test_channels_last_goes_in_and_comes_out(ours, theirs) -> None:
    x = numbers((2, 4, 6, 5), 0, torch.float32).abs().contiguous(memory_format=torch.channels_last)
    y = ours(x)
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(y, theirs(x), rtol=1e-6)
    assert torch.allclose(ours(x.mT.contiguous().mT), y, rtol=1e-6)
