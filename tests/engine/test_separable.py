"""Depthwise and 1×1 convolutions as one kernel, against the reference."""

import math

import numpy as np
import pytest
import torch
from engine.bounds import agrees, sum_bound
from geometries import geometries
from guarded import guarded
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from svertka import reference, spec
from svertka.engine import separable
from svertka.engine.dense import prepare_block
from svertka.engine.separable import SeparableBlock, prepare_separable
from svertka.errors import GeometryError
from svertka.kernels.dense import DenseSchedule
from svertka.kernels.separable import SeparableSchedule
from svertka.kernels.target import host
from svertka.spec import Activation
from svertka.window import MODES, Window

RELU = Activation("relu")


def numbers(seed, *shape):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def laid(x):
    """x with neighbouring channels."""
    return x.movedim(1, -1).contiguous().movedim(-1, 1)


def blocks(windows, channels, activation=RELU):
    pointwise = spec.ConvolutionBlock((Window(1),) * len(windows), 1, activation)
    return SeparableBlock(spec.ConvolutionBlock(tuple(windows), channels, activation), pointwise)


def tensors(channels, outputs, kernel_size, biased=True):
    weight, product = numbers(1, channels, 1, *kernel_size), numbers(3, outputs, channels, *(1 for _ in kernel_size))
    return [weight, numbers(2, channels) if biased else None, product, numbers(4, outputs) if biased else None]


def schedule(channels, rows=1, pixels=1, product=(2, 1), room=1 << 12):
    lanes = min(host().lanes, max(4, 1 << (channels.bit_length() - 1)))
    return SeparableSchedule(lanes, pixels, 1, rows, product=DenseSchedule(*product), room=room)


def exact(block, x, weight, bias, product, product_bias, residual=None):
    """In float64 (what both give, how far it may be off)."""
    arrays = [None if t is None else t.numpy() for t in (x, weight, bias, product, product_bias)]
    x, weight, bias, product, product_bias = arrays
    first = block.depthwise.convolution
    z = np.maximum(reference.run(first, x, weight, bias), 0)
    size = reference.run(first, abs(x), abs(weight), None if bias is None else abs(bias))
    z_error = sum_bound(weight[0].size + 1, size)
    matrix = product.reshape(product.shape[:2]).astype(np.float64)
    y, y_size, y_error = (
        np.einsum("dc,nc...->nd...", m, a)
        for m, a in ((matrix, z), (abs(matrix), size + z_error), (abs(matrix), z_error))
    )
    lines = (1, -1, *(1 for _ in first.windows))
    for line in (product_bias,) if product_bias is not None else ():
        y, y_size = y + line.reshape(lines), y_size + abs(line.reshape(lines))
    if residual is not None:
        y, y_size = y + residual.numpy(), y_size + abs(residual.numpy())
    return np.maximum(y, 0), sum_bound(len(matrix[0]) + 2, y_size) + y_error


def check(block, x, given, forced, residual=None):
    runner = prepare_separable(block, x, *given, residual, schedule=forced)
    assert not isinstance(runner, str), runner
    result = runner(x, *given, residual).numpy()
    expected, bound = exact(block, x, *given, residual)
    assert agrees(result, expected, bound)
    return result, expected, bound


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_every_geometry_is_the_reference(data):
    geometry = data.draw(geometries())
    channels, outputs = data.draw(st.sampled_from(((2, 3), (5, 17), (8, 16), (17, 33), (33, 5))))
    block = blocks(geometry.windows, channels)
    try:
        places = math.prod(block.depthwise.output_size(geometry.size))
    except GeometryError:
        assume(False)
    assume(places < 300)
    x = laid(numbers(0, data.draw(st.integers(1, 2)), channels, *geometry.size))
    given_ = tensors(channels, outputs, geometry.kernel_size, data.draw(st.booleans()))
    check(
        block, x, given_, schedule(channels, product=data.draw(st.sampled_from(((1, 1), (3, 1), (4, 2)))), room=1 << 14)
    )


@pytest.mark.parametrize("places", (1, 2, 3, 4, 5, 6, 7, 11, 12, 13))
@pytest.mark.parametrize("stride", (1, 2))
@pytest.mark.parametrize("outputs", (15, 16, 17))
def test_tiles_may_be_full_or_not(places, stride, outputs):
    block = blocks(spec.windows(2, 3, stride, 1), 16)
    x = laid(numbers(0, 2, 16, 5 * stride, stride * places))
    rows = 2 if stride == 1 else 1
    for product in ((6, 1), (3, 2)):
        check(block, x, tensors(16, outputs, (3, 3)), schedule(16, rows, min(2, places), product, room=2 * 16 * places))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("stride", (1, 2))
@pytest.mark.parametrize("at_end", (False, True))
def test_no_byte_outside_is_touched(mode, stride, at_end, monkeypatch):
    windows = spec.windows(2, 3, stride, 1)
    block = blocks([Window(3, stride, 1, 1, mode) for _ in windows], 19)
    x = guarded(laid(numbers(0, 2, 19, 7, 9)), at_end=at_end)
    given_ = [guarded(t, at_end=at_end) for t in tensors(19, 21, (3, 3))]
    shape = (2, 21, *block.depthwise.output_size((7, 9)))
    residual = guarded(laid(numbers(5, *shape)), at_end=at_end)
    empty = separable.empty
    monkeypatch.setattr(separable, "empty", lambda *asked: guarded(empty(*asked), at_end=at_end))
    check(block, x, given_, None, residual)


def test_what_the_rules_choose_has_the_same_bits_as_both_apart():
    block = blocks(spec.windows(2, 3, 1, 1), 40)
    x, given_ = laid(numbers(0, 2, 40, 19, 23)), tensors(40, 48, (3, 3))
    weight, bias, product, product_bias = given_
    runner = prepare_separable(block, x, *given_)
    z = prepare_block(block.depthwise, x, weight, bias)(x, weight, bias)
    y = prepare_block(block.pointwise, z, product, product_bias)(z, product, product_bias)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3, 8):
            torch.set_num_threads(threads)
            results.append(runner(x, *given_))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(y, result) for result in results)


def test_what_is_not_a_number_spreads_as_in_the_reference():
    block = blocks(spec.windows(2, 3, 1, 1), 8)
    x = laid(numbers(0, 1, 8, 6, 6))
    x[0, 1, 2, 2] = math.nan
    runner = prepare_separable(block, x, *tensors(8, 4, (3, 3)), schedule=schedule(8))
    found = runner(x, *tensors(8, 4, (3, 3))).isnan()
    inside = torch.zeros(6, 6, dtype=torch.bool)
    inside[1:4, 1:4] = True
    assert torch.equal(found, inside.expand(1, 4, 6, 6))


def test_the_comparison_fails_on_a_wrong_kernel():
    block = blocks(spec.windows(2, 3, 1, 1), 8)
    x = laid(numbers(0, 1, 8, 6, 6))
    result, expected, bound = check(block, x, tensors(8, 4, (3, 3)), schedule(8))
    wrong = result.copy()
    wrong[0, 2, 3, 3] += 4 * bound[0, 2, 3, 3]
    assert not agrees(wrong, expected, bound)
    assert not agrees(result[:, :, ::-1], expected, bound)


def test_what_is_better_apart_is_refused_with_a_reason():
    def reason(channels, outputs, size, **changed):
        block = blocks(spec.windows(2, 3, 1, 1), channels)
        x = torch.empty_strided((1, channels, *size), (0, 1, size[1] * channels, channels)).expand(1, -1, -1, -1)
        given_ = tensors(channels, outputs, (3, 3))
        return prepare_separable(changed.get("block", block), changed.get("x", x), *given_)

    assert "read too often" in reason(256, 512, (7, 7))
    assert "doesn't stay in the cache" in reason(64, 64, (4, 4096))
    assert "isn't depthwise" in reason(8, 8, (9, 9), block=blocks(spec.windows(2, 3, 1, 1), 4))
    wide = SeparableBlock(spec.ConvolutionBlock(spec.windows(2, 3, 1, 1), 8), spec.ConvolutionBlock(spec.windows(2, 3)))
    assert "isn't 1×1" in reason(8, 8, (9, 9), block=wide)
    assert "aren't neighbours" in reason(8, 8, (9, 9), x=torch.empty(1, 8, 9, 9))
    with pytest.raises(ValueError, match="no room"):
        prepare_separable(
            blocks(spec.windows(2, 3, 1, 1), 8),
            laid(torch.empty(1, 8, 9, 9)),
            *tensors(8, 8, (3, 3)),
            schedule=schedule(8, room=64),
        )
