"""Gradients of blocks in whole numbers, where float32 has no rounding: they are torch's in float64, bit for bit."""

import pytest
import torch
from engine import test_dense_gradients as dense
from geometries import geometries
from guarded import guarded
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from svertka import blocks, functional, nn, portable, spec
from svertka.engine import block_gradients, dense_gradients, layout, packing
from svertka.engine.dispatch import using
from svertka.engine.precision import precision
from svertka.engine.report import report
from svertka.errors import GeometryError

RELU = spec.Activation("relu")


def whole(shape, seed, most=3):
    return torch.randint(-most, most + 1, shape, generator=torch.Generator().manual_seed(seed)).float()


def laid(x, last):
    return x.contiguous(memory_format=layout.CHANNELS_LAST[x.ndim]) if last and x.ndim in layout.CHANNELS_LAST else x


def tensors_for(operation, shape, outputs, kernel_size, last=False):
    x = laid(whole(shape, 0), last)
    weight = laid(whole((outputs, shape[1] // operation.groups, *kernel_size), 1), last)
    return x, weight, whole((outputs,), 2)


def by_torch(operation, tensors, dy):
    leaves = [tensor.double().requires_grad_() for tensor in tensors]
    y = portable.run(operation, *leaves)
    return [y.detach(), *torch.autograd.grad(y, leaves, dy.double())]


def by_kernels(operation, tensors, dy, wanted=(True, True, True)):
    leaves = [
        tensor.clone(memory_format=torch.preserve_format).requires_grad_(want)
        for tensor, want in zip(tensors, wanted, strict=True)
    ]
    with using("kernels"), precision("strict"):  # whose tiles of Winograd's algorithm don't round whole numbers, either
        y = functional.run(operation, *leaves)
        y.backward(dy)
    return [y.detach(), *(leaf.grad for leaf in leaves)]


def check(operation, tensors):
    dy = whole((tensors[0].shape[0], len(tensors[1]), *operation.output_size(tensors[0].shape[2:])), 3)
    expected = by_torch(operation, tensors, dy)
    for wanted in ((True, True, True), (False, True, True), (False, True, False), (True, False, False)):
        found = by_kernels(operation, tensors, dy, wanted)
        for ours, theirs in zip(found, expected, strict=True):
            assert ours is None or torch.equal(ours.double(), theirs)
        assert [gradient is not None for gradient in found[1:]] == list(wanted)
    return expected


@given(data=st.data())
@settings(max_examples=30, deadline=None, derandomize=True, database=None)
def test_blocks_of_any_geometry(data):
    geometry, pool = data.draw(geometries()), data.draw(st.integers(2, 3))
    stride, groups = data.draw(st.sampled_from((1, pool, pool + 1))), data.draw(st.sampled_from((1, 2)))
    windows = spec.windows(len(geometry.windows), pool, stride)
    operation = spec.ConvolutionBlock(geometry.windows, groups, RELU, windows)
    try:
        operation.output_size(geometry.size)
    except GeometryError:
        assume(False)
    inputs, outputs = data.draw(st.sampled_from(((1, 3), (3, 5), (9, 19))))
    shape = (2, inputs * groups, *geometry.size)
    check(operation, tensors_for(operation, shape, outputs * groups, geometry.kernel_size, data.draw(st.booleans())))


@pytest.mark.parametrize("last", (False, True))
@pytest.mark.parametrize(("inputs", "kernel", "size"), ((1, 5, 28), (3, 3, 17), (32, 5, 14), (16, 3, 12)))
def test_the_networks_blocks(last, inputs, kernel, size):
    operation = spec.ConvolutionBlock(spec.windows(2, kernel, 1, kernel // 2), 1, RELU, spec.windows(2, 2, 2))
    expected = check(operation, tensors_for(operation, (3, inputs, size, size), 20, (kernel, kernel), last))
    assert all(gradient.abs().max() > 0 for gradient in expected)


def test_the_comparison_fails_on_a_wrong_tap(monkeypatch):
    operation = spec.ConvolutionBlock(spec.windows(2, 3, 1, 1), 1, RELU, spec.windows(2, 2, 2))
    tensors = tensors_for(operation, (2, 4, 8, 8), 16, (3, 3), True)
    real = dense_gradients.first_tap
    monkeypatch.setattr(dense_gradients, "first_tap", lambda taken: real(taken) + 1)
    with pytest.raises(AssertionError):
        check(operation, tensors)


@pytest.mark.parametrize("at_end", (False, True))
@pytest.mark.parametrize("channels", (1, 16))
def test_no_byte_outside_is_touched(at_end, channels, monkeypatch):
    operation = spec.ConvolutionBlock(spec.windows(2, 3, 1, 1, 1, "reflect"), 1, RELU, spec.windows(2, 2, 2))
    tensors = [guarded(t, at_end=at_end) for t in tensors_for(operation, (2, channels, 7, 9), 19, (3, 3), True)]
    dy = guarded(laid(whole((2, 19, 3, 4), 3), True), at_end=at_end)
    made = ((layout, "scratch_floats"), (packing, "scratch_floats"), (dense_gradients, "scratch_floats"))
    for module, name in (*made, (torch, "empty_strided"), (torch, "empty")):
        real = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *a, real=real, **k: guarded(real(*a, **k), at_end=at_end))
    by_kernels(operation, tensors, dy)


def test_the_same_bits_for_any_number_of_threads():
    operation = spec.ConvolutionBlock(spec.windows(2, 3, 1, 1), 1, RELU, spec.windows(2, 2, 2))
    tensors, dy = [dense.random(9, 3, 30, 30), dense.random(24, 3, 3, 3), dense.random(24)], dense.random(9, 24, 15, 15)
    tensors[0] = laid(tensors[0], True)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3, 8):
            torch.set_num_threads(threads)
            results.append(by_kernels(operation, tensors, dy))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for result in results for a, b in zip(result, results[0], strict=True))


def test_what_other_blocks_need_is_said():
    x, weight = torch.randn(1, 3, 8, 8), torch.randn(4, 3, 3, 3, requires_grad=True)
    for options in ({}, {"activation": "tanh", "pool_size": 2}, {"activation": "relu"}):
        with using("auto"):
            report(reset=True)
            functional.conv_block2d(x, weight, **options)
        assert [call.path for call in report()] == ["portable"]
    block = spec.ConvolutionBlock(spec.windows(2, 3), 1, RELU, spec.windows(2, 2, 2))
    refused = block_gradients.prepare_block_step(block, x, weight, None, torch.ones(4))
    assert "a ReLU and a maximum pooling" in refused


def test_gradients_of_gradients_are_torchs():
    operation = spec.ConvolutionBlock(spec.windows(2, 3, 1, 1), 1, RELU, spec.windows(2, 2, 2))
    results = []
    for engine in ("kernels", "portable"):
        leaves = [t.requires_grad_() for t in tensors_for(operation, (1, 2, 6, 6), 4, (3, 3))]
        with using(engine):
            y = functional.run(operation, *leaves)
            (dx,) = torch.autograd.grad(y.pow(3).sum(), leaves[0], create_graph=True)
            results.append(torch.autograd.grad(dx.square().sum(), leaves[:2]))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("engine", ("kernels", "auto", "portable"))
def test_modules_train_first_layers_as_one(engine):
    torch.manual_seed(0)
    block = blocks.Block(nn.Conv2d(3, 16, 3, padding=1), None, torch.nn.ReLU(inplace=True), nn.MaxPool2d(2))
    x = torch.randn(4, 3, 64, 64).contiguous(memory_format=torch.channels_last)
    results, watched = [], []
    for chosen in (engine, "portable"):
        report(reset=True)
        with using(chosen):
            results.append(torch.autograd.grad(block(x).square().sum(), list(block.parameters())))
        joined = any(isinstance(call.operation, spec.ConvolutionBlock) for call in report())
        assert joined == (chosen != "portable")
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-3)
    hook = block.conv.register_forward_hook(lambda *_: watched.append("convolution"))
    with using(engine):
        block(x)
        hook.remove()
        block.activation.register_forward_hook(lambda *_: watched.append("activation"))
        block(x)
    assert watched == ["convolution", "activation"]
