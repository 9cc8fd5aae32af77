"""Pooling to a given size, k-max and dynamic pooling, and padding, beside torch.nn's where it has them."""

import math

import hypothesis.strategies as st
import pytest
import torch
from comparing import KINDS, numbers
from geometries import SEEDS, drawn
from hypothesis import given
from twins import assert_twins, twins

from svertka import functional as F
from svertka import nn
from svertka.errors import GeometryError

MAX = (
    (nn.AdaptiveMaxPool1d, torch.nn.AdaptiveMaxPool1d),
    (nn.AdaptiveMaxPool2d, torch.nn.AdaptiveMaxPool2d),
    (nn.AdaptiveMaxPool3d, torch.nn.AdaptiveMaxPool3d),
)
AVERAGE = (
    (nn.AdaptiveAvgPool1d, torch.nn.AdaptiveAvgPool1d),
    (nn.AdaptiveAvgPool2d, torch.nn.AdaptiveAvgPool2d),
    (nn.AdaptiveAvgPool3d, torch.nn.AdaptiveAvgPool3d),
)
SIZES = ((9,), (7, 8), (5, 6, 4))


@st.composite
def sizes(draw):
    """(number of axes − 1, output size)."""
    axis = draw(st.integers(0, 2))
    several = st.tuples(*[st.none() | st.integers(1, 9)] * (axis + 1)) if axis else st.integers(1, 9)
    return axis, draw(st.integers(1, 9) | several)


@drawn
@given(sizes(), SEEDS, st.booleans(), st.sampled_from(KINDS))
def test_maximum_is_torchs(case, seed, return_indices, kind) -> None:
    axis, size = case
    layers = twins(*MAX[axis], seed, size, return_indices)
    assert_twins(*layers, numbers((2, 3, *SIZES[axis]), seed, torch.float32, kind))


@drawn
@given(sizes(), SEEDS, st.sampled_from(KINDS))
def test_average_is_torchs(case, seed, kind) -> None:
    axis, size = case
    layers = twins(*AVERAGE[axis], seed, size)
    x = numbers((2, 3, *SIZES[axis]), seed, torch.float32, kind)
    assert_twins(*layers, x)
    assert torch.equal(layers[0](x[0]).nan_to_num(), layers[0](x)[0].nan_to_num())


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_global_pools(ndim) -> None:
    x = numbers((2, 3, *SIZES[ndim - 1]), 0, torch.float32)
    axes, shape = tuple(range(2, 2 + ndim)), (2, 3) + (1,) * ndim
    made = {name: getattr(nn, f"Global{name}Pool{ndim}d") for name in ("Max", "Avg", "LP")}
    assert torch.equal(made["Max"]()(x), x.amax(axes).view(shape))
    assert torch.allclose(made["Avg"]()(x), x.mean(axes).view(shape), atol=1e-6)
    for p in (0.5, 1, 2, 3.3, math.inf):
        norm = torch.linalg.vector_norm(x, p, axes).view(shape)
        assert torch.allclose(made["LP"](p)(x), norm, rtol=1e-5)
    assert isinstance(made["Max"](), getattr(torch.nn, f"AdaptiveMaxPool{ndim}d"))


def test_k_max_keeps_the_order() -> None:
    x = torch.tensor([[[3.0, 1, 4, 1, 5, 9, 2, 6]]])
    assert nn.KMaxPool1d(3)(x).tolist() == [[[5, 9, 6]]]
    assert nn.KMaxPool1d(8)(x).tolist() == x.tolist()
    assert nn.KMaxPool1d(2)(torch.tensor([[7.0, 7, 7, 8]])).tolist() == [[7, 8]]


def test_dynamic_k_max_follows_the_length() -> None:
    first, last = nn.DynamicKMaxPool1d(3, 1, 3), nn.DynamicKMaxPool1d(3, 3, 3)
    assert [first.k(length) for length in (18, 17, 3)] == [12, 12, 3]  # Kalchbrenner 2014: 12 = ⌈2/3 · 18⌉
    assert [last.k(length) for length in (18, 3)] == [3, 3]
    x = numbers((2, 3, 20), 0, torch.float32)
    assert first(x).shape == (2, 3, 14)
    assert first(x, 18).shape == (2, 3, 12)


def test_dynamic_pools_cut_each_sequence() -> None:
    x = torch.tensor([[[1.0, 5, 2, 4, 3]], [[1, 5, 2, 4, 3]]])
    cuts = torch.tensor([[2, 3], [1, 4]])
    assert nn.DynamicPool1d()(x, cuts).tolist() == [[[5, 2, 4]], [[1, 5, 3]]]
    assert nn.DynamicPool1d(kind="average")(x, cuts).tolist() == [[[3, 2, 3.5]], [[1, pytest.approx(11 / 3), 3]]]
    assert nn.DynamicPool1d(2)(x[:1]).tolist() == [[[5, 4]]]
    assert nn.DynamicPool1d(2, "average")(x[:1]).tolist() == [[[3, 3]]]
    assert nn.DynamicPool1d(2)(x, cuts).shape == (2, 1, 3)  # boundaries that come along count more
    assert nn.DynamicPool1d(2)(x[0]).tolist() == [[5, 4]]


@pytest.mark.parametrize(
    ("call", "names"),
    [
        (lambda x: nn.AdaptiveMaxPool2d(0)(x), "output_size=0"),
        (lambda x: nn.AdaptiveAvgPool2d((2, 2, 2))(x), "output_size=(2, 2, 2)"),
        (lambda x: nn.AdaptiveLPPool2d(2, (2, -1))(x), "output_size=-1"),
        (lambda x: nn.AdaptiveAvgPool2d(2)(x[0, 0]), "[4, 5]"),
        (lambda x: nn.AdaptiveLPPool2d(2, 2)(x[..., :0]), "width"),
        (lambda x: nn.AdaptiveMaxPool2d(2)(x[..., :0]), "width"),
        (lambda x: nn.KMaxPool1d(6)(x[0]), "k=6"),
        (lambda x: nn.KMaxPool1d(0)(x[0]), "k=0"),
        (lambda x: nn.KMaxPool1d(2.5)(x[0]), "k=2.5"),
        (lambda x: nn.DynamicKMaxPool1d(2, 4, 3)(x[0]), "layer=4"),
        (lambda x: nn.DynamicPool1d()(x[0]), "segments or boundaries"),
        (lambda x: nn.DynamicPool1d(0)(x[0]), "output_size=0"),
        (lambda x: nn.DynamicPool1d(2, "median")(x[0]), "median"),
        (lambda x: nn.DynamicPool1d()(x[0], torch.zeros(2, 1, dtype=torch.int64)), "[2, 1]"),
        (lambda x: nn.Pad2d((1, 2, 3))(x), "padding=(1, 2, 3)"),
        (lambda x: nn.Pad2d(1, "wrap")(x), "circular"),
        (lambda x: nn.Pad2d((0, 0, -2, -2))(x), "height: a kernel of 1 taps"),
        (lambda x: nn.Pad2d(1, "reflect")(x[:, :, :0]), "reflect"),
    ],
)
def test_what_cannot_be_is_told(call, names) -> None:
    with pytest.raises(GeometryError) as caught:
        call(numbers((1, 3, 4, 5), 0, torch.float32))
    message = str(caught.value)
    assert names in message
    assert "\n" not in message
    assert ". " not in message


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_padding_is_torchs(ndim) -> None:
    x = numbers((2, 3, *SIZES[ndim - 1]), 0)
    sides = tuple(range(1, 1 + 2 * ndim))[::-1]
    ours = getattr(nn, f"Pad{ndim}d")
    sides = tuple(min(side, 3) for side in sides)
    for mode, kind in (
        ("reflect", "Reflection"),
        ("replicate", "Replication"),
        ("circular", "Circular"),
        ("zeros", "Zero"),
    ):
        theirs = getattr(torch.nn, f"{kind}Pad{ndim}d")
        for padding in (2, sides):
            assert torch.equal(ours(padding, mode)(x), theirs(padding)(x))
        assert torch.equal(ours(1, mode)(x[0]), theirs(1)(x[0]))
    constant = getattr(torch.nn, f"ConstantPad{ndim}d")
    assert torch.equal(ours(sides, value=2.5)(x), constant(sides, 2.5)(x))
    assert torch.equal(ours(-1)(x), constant(-1, 0.0)(x))


@pytest.mark.parametrize("dtype", [torch.complex64, torch.int64, torch.bool, torch.float16])
def test_padding_of_other_dtypes(dtype) -> None:
    x = numbers((1, 2, 3), 0).to(dtype)
    assert nn.Pad1d(2, "symmetric")(x)[0, 0].tolist() == x[0, 0, [1, 0, 0, 1, 2, 2, 1]].tolist()
    assert torch.equal(nn.Pad1d((1, 0))(x), torch.nn.functional.pad(x, (1, 0)))


def test_attributes_changed_after_construction_count() -> None:
    x = numbers((1, 2, 6, 6), 0, torch.float32)
    layer = nn.AdaptiveAvgPool2d(2)
    layer(x)
    layer.output_size = (None, 3)
    assert torch.equal(layer(x), F.adaptive_avg_pool2d(x, (None, 3)))
    pad = nn.Pad2d(1)
    pad.mode = "circular"
    assert torch.equal(pad(x), F.pad2d(x, 1, "circular"))


def test_arguments_are_shown() -> None:
    for layer, text in {
        nn.KMaxPool1d(3): "KMaxPool1d(k=3)",
        nn.DynamicKMaxPool1d(3, 1, 2): "DynamicKMaxPool1d(k_top=3, layer=1, layers=2)",
        nn.DynamicPool1d(2, "average"): "DynamicPool1d(segments=2, kind='average')",
        nn.AdaptiveLPPool2d(2, (3, None)): "AdaptiveLPPool2d(norm_type=2.0, output_size=(3, None))",
        nn.GlobalLPPool1d(3): "GlobalLPPool1d(norm_type=3.0, output_size=1)",
        nn.GlobalAvgPool2d(): "GlobalAvgPool2d(output_size=1)",
        nn.Pad2d((1, 2, 3, 4), "symmetric"): "Pad2d(padding=(1, 2, 3, 4), mode='symmetric', value=0.0)",
    }.items():
        assert repr(layer) == text
