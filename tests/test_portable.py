"""Gradients of every operation, and what else the torch path owes: dtypes, layouts, transforms."""

import math
from collections.abc import Callable

import pytest
import torch
from comparing import assert_near, numbers
from geometries import Geometry, drawn, geometries
from hypothesis import assume, given
from test_functional import CONV, CONV_TRANSPOSE, fits, output_size
from torch.autograd import gradcheck, gradgradcheck

from svertka import functional as F
from svertka import spec
from svertka.window import MODES

Tensor = torch.Tensor


def distinct(*shape: int, seed: int = 0) -> Tensor:
    """Numbers that are all at least 0.1 apart and from 0: no kinks nearby."""
    count = math.prod(shape)
    values = torch.randperm(count, generator=torch.Generator().manual_seed(seed)).double() - count / 2 + 0.25
    return (values / 5).reshape(shape)


def checked(operation: Callable[..., Tensor], *tensors: Tensor, twice: bool = True) -> None:
    tensors = tuple(tensor.clone().requires_grad_() for tensor in tensors)
    assert gradcheck(operation, tensors)
    if twice:
        assert gradgradcheck(operation, tensors, fast_mode=True)


WIDE = ((2, 0), (0, 5))
PADDED = [("zeros", 1), ("zeros", "same_upper"), ("reflect", "same_lower"), *((mode, WIDE) for mode in MODES)]


@pytest.mark.parametrize(("mode", "padding"), PADDED)
def test_gradients_of_convolutions(mode, padding) -> None:
    x, weight, bias = distinct(1, 2, 3, 4), distinct(2, 1, 2, 2, seed=1), distinct(2, seed=2)
    options = {"stride": (2, 1), "padding": padding, "dilation": (1, 2), "groups": 2, "padding_mode": mode}
    checked(lambda x, w, b: F.conv2d(x, w, b, **options), x, weight, bias)
    outputs = F.conv2d(x, weight, **options).shape[2:]
    own = distinct(*outputs, *weight.shape, seed=3)
    checked(lambda x, w, b: F.locally_connected2d(x, w, b, **options), x, own, distinct(*outputs, 2), twice=False)


@pytest.mark.parametrize("padding", [0, 1, ((1, 0), (0, 2))])
def test_gradients_of_transposed_convolutions(padding) -> None:
    x, weight, bias = distinct(1, 2, 3, 4), distinct(2, 1, 2, 3, seed=1), distinct(2, seed=2)
    checked(lambda x, w, b: F.conv_transpose2d(x, w, b, (2, 3), padding, 1, 2, (2, 1)), x, weight, bias)


@pytest.mark.parametrize(("mode", "padding"), PADDED)
def test_gradients_of_pools(mode, padding) -> None:
    x, weight = distinct(1, 1, 3, 4), distinct(1, 2, 2).abs()
    options = {"stride": (2, 1), "padding": padding, "padding_mode": mode}
    checked(lambda x: F.max_pool2d(x, 2, **options).clamp(min=-99), x)  # −∞, of a window on nothing, has no slope
    checked(lambda x: F.avg_pool2d(x, 2, divisor_override=3, ceil_mode=True, **options), x)
    checked(lambda x: F.avg_pool2d(x, 2, dilation=2, **options), x)
    checked(lambda x, w: F.weighted_avg_pool2d(x, w, **options), x, weight)
    checked(lambda x: F.stochastic_pool2d(x, 2, training=False, **options), x)
    for p in (0.5, 3.3, math.inf):
        checked(lambda x, p=p: F.lp_pool2d(x, p, 2, **options), x)


@pytest.mark.parametrize("padding", [0, 1, ((1, 0), (0, 1))])
def test_gradients_of_pools_that_count_inputs_only(padding) -> None:
    x = distinct(1, 2, 3, 4)
    checked(lambda x: F.avg_pool2d(x, 2, padding=padding, count_include_pad=False), x)
    checked(lambda x, w: F.weighted_avg_pool2d(x, w, 1, padding, False), x, distinct(2, 2, 2).abs())
    for p in (1, 2):
        checked(lambda x, p=p: F.lp_pool2d(x, p, 2, padding=padding), x)


@pytest.mark.parametrize("mode", MODES)
def test_gradients_of_padding(mode) -> None:
    checked(lambda x: F.pad2d(x, (5, 0, 1, -1), mode, 2.0), distinct(1, 2, 3, 2))


@pytest.mark.parametrize("size", [2, (3, None), (5, 1)])
def test_gradients_of_pooling_to_a_size(size) -> None:
    x = distinct(1, 2, 4, 3)
    checked(lambda x: F.adaptive_max_pool2d(x, size), x)
    checked(lambda x: F.adaptive_avg_pool2d(x, size), x)
    for p in (0.5, 2, 3.3, math.inf):
        checked(lambda x, p=p: F.adaptive_lp_pool2d(x, p, size), x)


def test_gradients_of_sequence_pools() -> None:
    x = distinct(2, 2, 6)
    cuts = torch.tensor([[1, 4], [2, 3]])
    checked(lambda x: F.k_max_pool1d(x, 3), x)
    for kind in ("max", "average"):
        checked(lambda x, kind=kind: F.dynamic_pool1d(x, 4, kind=kind), x)
        checked(lambda x, kind=kind: F.dynamic_pool1d(x, boundaries=cuts, kind=kind), x)


@pytest.mark.parametrize("ndim", [1, 3])
def test_gradients_on_other_numbers_of_axes(ndim) -> None:
    name, size = f"{ndim}d", (5,) if ndim == 1 else (3, 2, 3)
    x, weight = distinct(1, 1, *size), distinct(1, 1, *(2,) * ndim, seed=1)
    one_sided = ((1, 0),) * ndim
    checked(lambda x, w: getattr(F, f"conv{name}")(x, w, padding=one_sided, padding_mode="reflect"), x, weight)
    checked(lambda x, w: getattr(F, f"conv_transpose{name}")(x, w, padding=one_sided), x, weight)
    checked(lambda x: getattr(F, f"max_pool{name}")(x, 2, padding=one_sided), x)
    checked(lambda x: getattr(F, f"avg_pool{name}")(x, 2, padding=one_sided), x)
    checked(lambda x: getattr(F, f"lp_pool{name}")(x, 3, 2, padding=one_sided), x)
    checked(lambda x: getattr(F, f"stochastic_pool{name}")(x, 2, training=False), x)


def gradient(operation: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    return torch.autograd.grad(operation(x).sum(), x)[0]


def test_the_first_of_equal_maxima_takes_the_gradient() -> None:
    x = torch.tensor([[[0.0, 2, 1, 2, 2, 2, -1, 1]]], dtype=torch.float64)
    for pool in (F.max_pool1d, lambda x, *a, **o: F.lp_pool1d(x, math.inf, *a, **o)):
        assert gradient(lambda x, pool=pool: pool(x, 4), x).tolist() == [[[0, 1, 0, 0, 1, 0, 0, 0]]]
        assert gradient(lambda x, pool=pool: pool(x, 3, 5, padding=1), x).tolist() == [[[0, 1, 0, 0, 1, 0, 0, 0]]]
        assert gradient(lambda x, pool=pool: pool(x, 4, padding=((4, 0),)), x).tolist() == [[[0, 1, 0, 0, 1, 0, 0, 0]]]
        mirrored = gradient(lambda x, pool=pool: pool(x, 4, padding=((2, 0),), padding_mode="reflect"), x)
        assert mirrored.tolist() == [[[0, 1, 0, 1, 0, 0, 0, 0]]]
    assert gradient(lambda x: F.adaptive_max_pool1d(x, 2), x).tolist() == [[[0, 1, 0, 0, 1, 0, 0, 0]]]
    assert gradient(lambda x: F.adaptive_lp_pool1d(x, math.inf, 2), x).tolist() == [[[0, 1, 0, 0, 1, 0, 0, 0]]]
    assert gradient(lambda x: F.dynamic_pool1d(x, 2), x).tolist() == [[[0, 1, 0, 0, 1, 0, 0, 0]]]
    assert gradient(lambda x: F.k_max_pool1d(x, 2), x).tolist() == [[[0, 1, 0, 1, 0, 0, 0, 0]]]


def test_a_drawn_place_takes_the_gradient() -> None:
    x = torch.tensor([[[1.0, 2, 3, 0, -1, 5, 0, 0, 0, -1, -2, 0]]], dtype=torch.float64)
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        leaf = x.clone().requires_grad_()
        pooled = F.stochastic_pool1d(leaf, 3, generator=generator)
        pooled.sum().backward()
        assert (
            leaf.grad.sum() == 2
        )  # one place in each of the first two windows, none in those without a positive value
        assert torch.equal((leaf.grad * x).view(4, 3).sum(1), pooled.flatten().detach())


@pytest.mark.parametrize("p", [0.5, 1, 2, 3.3, math.inf])
def test_the_gradient_of_a_norm_of_zeros_is_zero(p) -> None:
    x = torch.zeros(1, 1, 4)
    assert gradient(lambda x: F.lp_pool1d(x, p, 2, padding=1), x).tolist() == [[[0, 0, 0, 0]]]


@drawn
@given(geometries(modes=("zeros",), numeric=True))
def test_transposed_convolution_is_the_transpose_of_the_convolution(geometry: Geometry) -> None:
    size = output_size(geometry)
    arguments = geometry.kernel_size, geometry.stride, geometry.padding
    smallest = spec.transposed_windows(geometry.ndim, *arguments, 0, geometry.dilation)
    assume(fits(smallest, size))
    extra = tuple(n - w.output_size(m) for w, n, m in zip(smallest, geometry.size, size, strict=True))
    weight = numbers((4, 1, *geometry.kernel_size), 0)
    count = 2 * math.prod(geometry.size)
    units = torch.eye(count, dtype=torch.float64).view(count, 2, *geometry.size)
    forward = CONV[geometry.ndim - 1](units, weight, None, geometry.stride, geometry.padding, geometry.dilation, 2)
    matrix = forward.reshape(count, -1)
    units = torch.eye(matrix.shape[1], dtype=torch.float64).view(-1, *forward.shape[1:])
    back = CONV_TRANSPOSE[geometry.ndim - 1](
        units, weight, None, geometry.stride, geometry.padding, extra, 2, geometry.dilation
    )
    assert back.shape[2:] == geometry.size
    assert_near(back.reshape(matrix.T.shape), matrix.T.numpy(), 1e-15)
