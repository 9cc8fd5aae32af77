from functools import partial

import pytest
import torch

import svertka
from svertka import functional, spec
from svertka.engine import autograd
from svertka.engine.report import report


@pytest.fixture
def x():
    torch.manual_seed(0)
    return torch.randn(2, 3, 6, 6, requires_grad=True)


def reasons(call):
    report(reset=True)
    call()
    return [(found.path, found.detail) for found in report(reset=True)]


def test_gradients_of_gradients_are_reported(x):
    def twice():
        with svertka.using("kernels"):
            y = functional.max_pool2d(x, 2)
            (dx,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
            dx.square().sum().backward()

    (forward, _), second = reasons(twice)
    assert forward == "kernel"
    assert second == ("portable", "it needs gradients of gradients")


@pytest.mark.parametrize("pool", (functional.max_pool2d, functional.avg_pool2d))
def test_gradients_in_a_batch_are_torchs(x, pool):
    directions = torch.randn(4, 2, 3, 3, 3)

    def jacobian(engine):
        with svertka.using(engine):
            y = pool(x, 2)
            return torch.autograd.grad(y, x, directions, is_grads_batched=True)[0]

    expected = jacobian("portable")
    assert ("portable", "gradients come in a batch") in reasons(lambda: jacobian("kernels"))
    torch.testing.assert_close(jacobian("kernels"), expected)


def test_each_kind_is_switched_on_by_itself(x, monkeypatch):
    for automatic, path in ((False, "portable"), (True, "kernel")):
        for kind, gradient in list(autograd.GRADIENTS.items()):
            monkeypatch.setitem(
                autograd.GRADIENTS, kind, autograd.Gradient(gradient.prepare, lambda *_, a=automatic: a)
            )
        assert reasons(lambda: functional.max_pool2d(x, 2))[0][0] == path


def test_indices_have_no_gradient(x):
    with svertka.using("kernels"):
        y, places = functional.max_pool2d(x, 2, return_indices=True)
        assert y.requires_grad
        assert not places.requires_grad
        y.sum().backward()
    assert x.grad.sum() == y.numel()


@pytest.mark.parametrize("last", (False, True))
def test_what_is_large_trains_on_kernels(last):
    memory_format = torch.channels_last if last else torch.contiguous_format
    for size, path in ((8, "portable"), (96, "kernel")):
        x = torch.randn(2, 32, size, size).contiguous(memory_format=memory_format).requires_grad_()
        for pool in (functional.max_pool2d, functional.avg_pool2d):
            assert reasons(lambda pool=pool, x=x: pool(x, 2))[0][0] == path
        assert reasons(lambda x=x: functional.adaptive_max_pool2d(x, 3))[0][0] == "portable"


def test_which_convolutions_train_on_kernels():
    cases = (3, 1, 3, "kernel"), (8, 1, 3, "portable"), (8, 8, 2, "portable"), (8, 8, 3, "kernel")
    for channels, groups, kernel, path in cases:
        x = torch.randn(2, channels, 9, 9).contiguous(memory_format=torch.channels_last)
        weight = torch.randn(8, channels // groups, kernel, kernel, requires_grad=True)
        for given, expected in ((x, path), (x.contiguous(), "portable")):
            call = partial(functional.conv2d, given, weight, groups=groups)
            assert reasons(call)[0][0] == expected


def test_what_winograds_algorithm_takes_trains_on_kernels():
    def automatic(operation, last=True, images=16):
        x = torch.empty(images, 32, 14, 14, memory_format=torch.channels_last if last else torch.contiguous_format)
        return autograd.automatic(operation, x)

    def convolution(size=3, stride=1, mode="zeros", groups=1):
        return spec.Convolution(spec.windows(2, size, stride, 1, 1, mode), groups)

    block = spec.ConvolutionBlock(convolution().windows, 1, spec.Activation("relu"), spec.windows(2, 2, 2))
    assert automatic(convolution())
    assert automatic(convolution(5))
    assert automatic(block)
    others = (convolution(1), convolution(4), convolution(3, 2), convolution(mode="reflect"), convolution(groups=2))
    assert not any(map(automatic, others))
    assert not automatic(convolution(), last=False)
    assert not automatic(convolution(), images=1)
    with svertka.precision("strict"):
        assert not automatic(convolution())
