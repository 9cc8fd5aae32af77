"""Convolution layers beside torch.nn's: the same weights, results, state_dict and errors; then what torch lacks."""

import copy
import io
import math
import pickle
from functools import partial

import hypothesis.strategies as st
import pytest
import torch
from comparing import numbers
from geometries import SEEDS, drawn
from hypothesis import assume, given
from torch.nn.parameter import UninitializedParameter
from torch.nn.utils import parametrizations, parametrize
from twins import assert_twins, twins

from svertka import functional as F
from svertka import nn
from svertka.engine.dispatch import using
from svertka.errors import GeometryError

CONV = {1: (nn.Conv1d, torch.nn.Conv1d), 2: (nn.Conv2d, torch.nn.Conv2d), 3: (nn.Conv3d, torch.nn.Conv3d)}
CONV_TRANSPOSE = {
    1: (nn.ConvTranspose1d, torch.nn.ConvTranspose1d),
    2: (nn.ConvTranspose2d, torch.nn.ConvTranspose2d),
    3: (nn.ConvTranspose3d, torch.nn.ConvTranspose3d),
}
LOCAL = {1: nn.LocallyConnected1d, 2: nn.LocallyConnected2d, 3: nn.LocallyConnected3d}
SIZES = {1: (9,), 2: (7, 9), 3: (5, 7, 6)}


@st.composite
def torch_convolutions(draw):
    """(number of axes, keyword arguments) that torch.nn's convolutions take."""
    ndim = draw(st.integers(1, 3))
    groups = draw(st.integers(1, 2))
    per_axis = lambda low, high: st.integers(low, high) | st.tuples(*[st.integers(low, high)] * ndim)  # noqa: E731
    padding = draw(per_axis(0, 3) | st.sampled_from(("valid", "same")))
    return ndim, {
        "in_channels": groups * draw(st.integers(1, 2)),
        "out_channels": groups * draw(st.integers(1, 2)),
        "kernel_size": draw(per_axis(1, 3)),
        "stride": 1 if padding == "same" else draw(per_axis(1, 3)),
        "padding": padding,
        "dilation": draw(per_axis(1, 2)),
        "groups": groups,
        "bias": draw(st.booleans()),
        "padding_mode": draw(st.sampled_from(("zeros", "reflect", "replicate", "circular"))),
        "dtype": draw(st.sampled_from((torch.float32, torch.float64))),
    }


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@drawn
@given(torch_convolutions(), SEEDS)
def test_convolution_is_torchs(case, seed) -> None:
    ndim, arguments = case
    layers = twins(*CONV[ndim], seed, **arguments)
    x = numbers((2, arguments["in_channels"], *SIZES[ndim]), seed, arguments["dtype"])
    assert_twins(*layers, x, exact_gradients=arguments["padding_mode"] == "zeros")
    assert torch.allclose(layers[0](x[0]), layers[0](x)[0], atol=1e-5)


@drawn
@given(torch_convolutions(), SEEDS, st.data())
def test_transposed_convolution_is_torchs(case, seed, data) -> None:
    ndim, arguments = case
    arguments["padding_mode"] = "zeros"
    arguments["output_padding"] = data.draw(st.integers(0, 1))
    strides, dilations = (torch.zeros(ndim) + torch.tensor(arguments[name]) for name in ("stride", "dilation"))
    assume((torch.maximum(strides, dilations) > arguments["output_padding"]).all())
    arguments["padding"] = data.draw(st.integers(0, 2))
    arguments["kernel_size"] = data.draw(st.integers(2, 3))
    layers = twins(*CONV_TRANSPOSE[ndim], seed, **arguments)
    x = numbers((2, arguments["in_channels"], *SIZES[ndim]), seed, arguments["dtype"])
    assert_twins(*layers, x)
    size = [n + data.draw(st.integers(0, int(s) - 1)) for n, s in zip(layers[0](x).shape[2:], strides, strict=True)]
    size = [n - arguments["output_padding"] for n in size]
    with using("portable"):
        assert torch.equal(layers[0](x, size), layers[1](x, size))


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_one_sided_padding_pads_one_side(ndim) -> None:
    x = numbers((1, 2, *SIZES[ndim]), 0)
    for mode in ("reflect", "replicate", "circular", "zeros"):
        layer = CONV[ndim][0](2, 3, 3, padding=((2, 1),) * ndim, padding_mode=mode, dtype=torch.float64)
        mode = {"zeros": "constant"}.get(mode, mode)
        padded = torch.nn.functional.pad(x, (2, 1) * ndim, mode)
        bare = CONV[ndim][1](2, 3, 3, dtype=torch.float64)
        bare.load_state_dict(layer.state_dict())
        assert torch.equal(layer(x), bare(padded))


ARGUMENT_ERRORS = {
    "padding name": ({"padding": "full"}, "'full'"),
    "mode": ({"padding_mode": "mirror"}, "symmetric"),
    "negative padding": ({"padding": -1}, "padding=-1"),
    "negative padding on a side": ({"padding": ((1, 1), (0, -2))}, "width: padding=(0, -2)"),
    "stride 0": ({"stride": 0}, "stride=0"),
    "stride 0 on an axis": ({"stride": (0, 1)}, "height: stride=0"),
    "dilation 0": ({"dilation": 0}, "dilation=0"),
    "kernel size 0": ({"kernel_size": 0}, "size=0"),
    "half a stride": ({"stride": 1.5}, "stride=1.5"),
    "number of strides": ({"stride": (1, 1, 1)}, "stride=(1, 1, 1)"),
    "groups and input": ({"groups": 3}, "in_channels"),
    "groups and output": ({"groups": 2, "out_channels": 3}, "out_channels"),
    "no groups": ({"groups": 0}, "groups"),
    "same with stride": ({"padding": "same", "stride": 2}, "same_upper"),
}


def assert_one_sentence(error: BaseException, names: str) -> None:
    message = str(error)
    assert names in message
    assert "\n" not in message
    assert ". " not in message


@pytest.mark.parametrize("kind", [nn.Conv2d, nn.LocallyConnected2d])
@pytest.mark.parametrize(("arguments", "names"), ARGUMENT_ERRORS.values(), ids=ARGUMENT_ERRORS)
def test_bad_arguments_are_value_errors_of_the_constructor(kind, arguments, names) -> None:
    arguments = {"in_channels": 4, "out_channels": 4, "kernel_size": 3, **arguments}
    with pytest.raises(ValueError) as caught:
        kind(**arguments)
    assert_one_sentence(caught.value, names)


@pytest.mark.parametrize("name", [name for name in ARGUMENT_ERRORS if "groups" not in name and "kernel" not in name])
def test_bad_arguments_are_runtime_errors_of_the_call(name) -> None:
    arguments, names = ARGUMENT_ERRORS[name]
    with pytest.raises(RuntimeError) as caught:
        F.conv2d(torch.zeros(1, 4, 8, 8), torch.zeros(4, 4, 3, 3), **arguments)
    assert_one_sentence(caught.value, names)


@pytest.mark.parametrize(
    ("layer", "shape", "names"),
    [
        (nn.Conv2d(4, 2, 3), (1, 4, 8, 2), "width: a kernel of 3 taps"),
        (nn.Conv2d(4, 2, 3, dilation=3), (1, 4, 2, 8), "height: a kernel of 3 taps (extent 7)"),
        (nn.Conv1d(4, 2, 3, padding=((1, 0),), padding_mode="reflect"), (1, 4, 1), "a kernel of 3 taps"),
        (nn.Conv2d(4, 2, 3), (1, 3, 8, 8), "4 channels"),
        (nn.Conv2d(4, 2, 3, padding="same_upper", stride=2, padding_mode="symmetric"), (1, 3, 8, 8), "4 channels"),
        (nn.Conv2d(4, 2, 3), (8, 8), "[8, 8]"),
        (nn.Conv2d(4, 2, 3), (1, 1, 4, 8, 8), "[1, 1, 4, 8, 8]"),
        (nn.Conv2d(4, 2, 1, padding=1, padding_mode="circular"), (1, 4, 0, 3), "padding mode 'circular' needs"),
        (nn.ConvTranspose2d(4, 2, 3), (1, 3, 8, 8), "4 channels"),
        (nn.ConvTranspose2d(4, 2, 3, padding=3), (1, 4, 2, 8), "height: padding (3, 3)"),
        (nn.SeparableConv2d(4, 2, 3), (1, 3, 8, 8), "4 channels"),
        (nn.LocallyConnected2d(4, 2, 3, 8), (1, 3, 8, 8), "4 channels"),
        (nn.LocallyConnected2d(4, 2, 3, 8), (1, 4, 8, 9), "[8, 9]"),
        (nn.LocallyConnected2d(4, 2, 3, 8), (8, 8), "[8, 8]"),
    ],
)  # fmt: skip
def test_bad_input_is_a_runtime_error_of_the_call(layer, shape, names) -> None:
    with pytest.raises(RuntimeError) as caught:
        layer(torch.zeros(shape))
    assert_one_sentence(caught.value, names)


def test_a_stride_that_equals_a_good_one_is_still_refused() -> None:
    x, weight = torch.zeros(1, 1, 3, 3), torch.zeros(1, 1, 1, 1)
    F.conv2d(x, weight, stride=2)
    with pytest.raises(GeometryError, match=r"stride=2\.0"):
        F.conv2d(x, weight, stride=2.0)


def test_attributes_changed_after_construction_count() -> None:
    x = numbers((1, 2, 8, 8), 0, torch.float32)
    layer = nn.Conv2d(2, 3, 3, stride=2)
    layer(x)
    layer.stride, layer.padding, layer.dilation, layer.padding_mode = (1, 1), ((2, 2), "same"), (2, 2), "circular"
    expected = F.conv2d(x, layer.weight, layer.bias, 1, ((2, 2), "same"), 2, padding_mode="circular")
    assert torch.equal(layer(x), expected)
    layer.bias = None
    assert layer(x).shape == (1, 3, 8, 8)
    back = nn.ConvTranspose2d(2, 3, 3, stride=2)
    back(x)
    back.stride = (1, 1)
    assert back(x).shape == (1, 3, 10, 10)


def test_subclasses_with_weights_of_their_own_making_keep_the_window() -> None:
    class Standardised(nn.Conv2d):
        def forward(self, input):
            weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
            return self._conv_forward(input, weight, self.bias)

    x = numbers((1, 2, 5, 5), 0, torch.float32)
    layer = Standardised(2, 3, 3, padding=((2, 0), 1), padding_mode="symmetric")
    weight = layer.weight - layer.weight.mean((1, 2, 3), keepdim=True)
    assert torch.equal(layer(x), F.conv2d(x, weight, layer.bias, 1, ((2, 0), 1), padding_mode="symmetric"))


def test_parametrized_weights() -> None:
    x = numbers((1, 2, 5, 5), 0, torch.float32)
    layer = parametrizations.weight_norm(nn.Conv2d(2, 3, 3, padding_mode="reflect", padding=1))
    before = layer(x)
    with torch.no_grad():
        layer.parametrizations.weight.original0.mul_(2)
    bias = layer.bias.view(-1, 1, 1)
    assert torch.allclose(layer(x) - bias, 2 * (before - bias), atol=1e-6)
    parametrize.remove_parametrizations(layer, "weight")
    assert torch.allclose(layer(x) - bias, 2 * (before - bias), atol=1e-6)


@pytest.mark.parametrize("mode", ["zeros", "circular", "symmetric"])
def test_channels_last_goes_in_and_comes_out(mode) -> None:
    x = numbers((2, 4, 6, 5), 0, torch.float32)
    layer = nn.Conv2d(4, 8, 3, padding=((1, 0), 2), padding_mode=mode)
    expected = layer(x)
    y = layer(x.contiguous(memory_format=torch.channels_last))
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(y, expected, atol=1e-5)
    assert torch.allclose(layer(x.mT.contiguous().mT), expected, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.complex64, torch.complex128])
def test_other_dtypes(dtype) -> None:
    torch.manual_seed(0)
    x, wide = torch.randn(2, 2, 5, 5, dtype=dtype), torch.complex128 if dtype.is_complex else torch.float64
    for make in (
        partial(nn.Conv2d, 2, 3, 2, padding=((1, 0), "same"), padding_mode="reflect"),
        partial(nn.Conv2d, 2, 3, 2, padding=1),
        partial(nn.ConvTranspose2d, 2, 3, 2, 2, padding=((1, 0), 1)),
        partial(nn.SeparableConv2d, 2, 3, 2),
        partial(nn.LocallyConnected2d, 2, 3, 2, 5, padding=1, padding_mode="circular"),
    ):
        layer, exact = make(dtype=dtype), make(dtype=wide)
        exact.load_state_dict(layer.state_dict())
        y = layer(x)
        assert y.dtype == dtype
        assert torch.allclose(y.to(wide), exact(x.to(wide)), rtol=0, atol=40 * torch.finfo(dtype).eps)


def test_autocast_lowers_convolutions_as_it_does_torchs() -> None:
    x = torch.randn(2, 2, 5, 5)
    with torch.autocast("cpu", torch.bfloat16):
        for layer in (
            torch.nn.Conv2d(2, 3, 2),
            nn.Conv2d(2, 3, 2, padding="same_lower", padding_mode="reflect"),
            nn.ConvTranspose2d(2, 3, 2),
            nn.LocallyConnected2d(2, 3, 2, 5),
        ):
            assert layer(x).dtype == torch.bfloat16


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_separable_convolution_is_its_two_convolutions(ndim) -> None:
    kind = {1: nn.SeparableConv1d, 2: nn.SeparableConv2d, 3: nn.SeparableConv3d}[ndim]
    layer = kind(4, 6, 3, 2, "same_upper", depth_multiplier=2, padding_mode="reflect")
    x = numbers((2, 4, *SIZES[ndim]), 0, torch.float32)
    convolve = (F.conv1d, F.conv2d, F.conv3d)[ndim - 1]
    inner = convolve(x, layer.depthwise.weight, None, 2, "same_upper", groups=4, padding_mode="reflect")
    assert torch.equal(layer(x), convolve(inner, layer.pointwise.weight, layer.pointwise.bias))
    assert layer.depthwise.bias is None
    assert sum(p.numel() for p in layer.parameters()) == 4 * 2 * 3**ndim + 8 * 6 + 6
    assert sum(p.numel() for p in kind(4, 6, 3, bias=False).parameters()) == 4 * 3**ndim + 4 * 6


def test_a_unit_kernel_is_a_linear_layer_at_every_pixel() -> None:
    layer = nn.Conv2d(3, 5, 1)
    x = numbers((2, 3, 4, 4), 0, torch.float32)
    linear = torch.nn.functional.linear(x.movedim(1, -1), layer.weight.flatten(1), layer.bias).movedim(-1, 1)
    assert torch.allclose(layer(x), linear, atol=1e-6)


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_equal_weights_at_each_place_make_a_convolution(ndim) -> None:
    arguments = {"stride": 2, "padding": 1, "groups": 2, "padding_mode": "circular", "dtype": torch.float64}
    shared = CONV[ndim][0](4, 6, 3, **arguments)
    x = numbers((2, 4, *SIZES[ndim]), 0)
    local = LOCAL[ndim](4, 6, 3, SIZES[ndim], **arguments)
    with torch.no_grad():
        local.weight.copy_(shared.weight.expand_as(local.weight))
        local.bias.copy_(shared.bias.expand_as(local.bias))
    assert torch.allclose(local(x), shared(x), atol=1e-12)


def test_locally_connected_weights_start_as_a_convolutions_do() -> None:
    torch.manual_seed(0)
    layer = nn.LocallyConnected2d(4, 8, 3, 12, groups=2)
    bound = 1 / math.sqrt(2 * 9)
    assert layer.weight.abs().max() <= bound
    assert layer.weight.abs().max() > 0.99 * bound
    torch.manual_seed(0)
    assert torch.equal(nn.LocallyConnected2d(4, 8, 3, 12, groups=2).weight, layer.weight)
    assert nn.LocallyConnected2d(4, 8, 3, 12, bias=False).bias is None


def lazy(**arguments):
    return nn.LocallyConnected2d(2, 3, 2, padding=1, **arguments)


def test_lazy_layer_takes_its_size_from_the_first_batch() -> None:
    layer, x = lazy(), torch.randn(2, 2, 4, 5)
    assert isinstance(layer.weight, UninitializedParameter)
    assert "LocallyConnected2d(2, 3" in repr(layer)
    torch.manual_seed(0)
    y = layer(x)
    assert layer.weight.shape == (5, 6, 3, 2, 2, 2)
    assert y.shape == (2, 3, 5, 6)
    torch.manual_seed(0)
    assert torch.equal(nn.LocallyConnected2d(2, 3, 2, (4, 5), padding=1)(x), y)
    with pytest.raises(RuntimeError, match="fits one input size"):
        layer(torch.randn(2, 2, 5, 4))


def test_lazy_layer_takes_its_size_from_loaded_weights() -> None:
    known, x = nn.LocallyConnected2d(2, 3, 2, (4, 5), padding=1), torch.randn(2, 2, 4, 5)
    layer = lazy()
    layer.load_state_dict(known.state_dict(), strict=True)
    assert not layer.has_uninitialized_params()
    assert torch.equal(layer(x), known(x))
    known.load_state_dict(layer.state_dict(), strict=True)
    bare = lazy()
    assert isinstance(bare.state_dict()["weight"], UninitializedParameter)


def test_lazy_layer_is_copied_pickled_and_cast_before_it_knows_its_size() -> None:
    x = torch.randn(2, 2, 4, 5, dtype=torch.float64)
    for copied in (copy.deepcopy(lazy()), pickle.loads(pickle.dumps(lazy())), lazy()):
        torch.manual_seed(0)
        y = copied.double()(x)
        torch.manual_seed(0)
        assert torch.equal(lazy(dtype=torch.float64)(x), y)
    original = lazy()
    copied = copy.deepcopy(original)
    copied.double()(x)
    assert original.has_uninitialized_params()


def test_weights_survive_a_file() -> None:
    layer, buffer = nn.Conv2d(2, 3, 3), io.BytesIO()
    torch.save(layer.state_dict(), buffer)
    buffer.seek(0)
    other = torch.nn.Conv2d(2, 3, 3)
    other.load_state_dict(torch.load(buffer, weights_only=True))
    assert torch.equal(other.weight, layer.weight)
