"""Training steps through torch.compile: gradients against float64, and that all of autograd's ways go on working."""

import copy

import pytest
import torch
import torch.nn.functional as F
from networks import EPS, NETWORKS, made
from torch import nn
from torch.utils import _pytree as pytree

import svertka
from svertka.compiler import backend


@pytest.fixture(autouse=True)
def fresh():
    torch.compiler.reset()


def compiled(model):
    return torch.compile(model, backend=backend)


def loss_of(result):
    return sum(part.square().mean() for part in pytree.tree_leaves(result))


def gradients(model, run, x):
    """Of the parameters and the input, after one step."""
    model.zero_grad()
    x = x.clone().requires_grad_()
    loss_of(run(x)).backward()
    return [x.grad, *(parameter.grad for parameter in model.parameters())]


def far(found, exact, allowed):
    """How many gradients are further from float64 than allowed, relative to the largest of all numbers."""
    size = max(float(grad.abs().max()) for grad in exact)
    return sum(not float((a - b).abs().max()) <= allowed * size for a, b in zip(found, exact, strict=True))


def without_dropout(model):
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model


@pytest.mark.parametrize("name", ("lenet", "resnet18", "unet", "densenet", "convnext", "squeeze", "heads", "sequence"))
def test_gradients_are_those_of_float64(name):
    model, x = made(name)
    model = without_dropout(model.train())
    exact = copy.deepcopy(model).double()
    run = compiled(model)
    terms = max(weight[0].numel() for weight in model.parameters() if weight.ndim > 1) * x[0, 0].numel()
    allowed = 4 * NETWORKS[name][2] * terms**0.5 * EPS
    for _ in range(2):
        found, expected = gradients(model, run, x), gradients(exact, exact, x.double())
        assert far(found, expected, allowed) == 0
    wrong = [grad * 1.05 for grad in found]
    assert far(wrong, expected, allowed) > 0
    for a, b in zip(model.buffers(), exact.buffers(), strict=True):
        assert torch.allclose(a.double(), b.double(), rtol=1e-4, atol=1e-5)


def test_kernels_compute_forward_and_backward():
    model, x = made("inception")
    run = compiled(model.train())
    loss_of(run(x)).backward()
    forward, backward = svertka.report(run)
    left = {node.name for node in (*forward.fallbacks, *backward.fallbacks)}
    assert left <= {"add", "linear", "sum"}, left  # `add` counts batches
    assert not forward.reason + backward.reason


def test_steps_of_an_optimizer():
    model, x = made("lenet")
    model = without_dropout(model.train())
    other = copy.deepcopy(model)
    target = torch.tensor([0, 1, 2])
    losses = []
    for net, run in ((model, compiled(model)), (other, other)):
        optimizer = torch.optim.SGD(net.parameters(), 0.05, momentum=0.9)
        losses.append([])
        for _ in range(5):
            optimizer.zero_grad()
            loss = F.cross_entropy(run(x), target)
            loss.backward()
            optimizer.step()
            losses[-1].append(loss.item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    assert losses[0][-1] < losses[0][0]


def test_frozen_layers_hooks_and_no_grad():
    model, x = made("lenet")
    model.features.requires_grad_(False)
    seen = []
    model.dense[0].weight.register_hook(lambda grad: seen.append(grad.shape))
    run = compiled(model)
    loss_of(run(x)).backward()
    assert seen == [model.dense[0].weight.shape]
    assert model.features[0].conv.weight.grad is None
    with torch.no_grad():
        assert not run(x).requires_grad
    assert run(x).requires_grad


def test_several_losses_and_gradients_that_add_up():
    model, x = made("heads")
    run, other = compiled(model), copy.deepcopy(model)
    for call in (run, other):
        found = call(x)
        found["boxes"].sum().backward(retain_graph=True)
        found["kinds"].square().sum().backward()
        call(x)["boxes"].mean().backward()
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.allclose(a.grad, b.grad, rtol=1e-3, atol=1e-3)


def test_autocast_is_left_to_torch():
    model, x = made("lenet")
    run = compiled(model)
    with torch.autocast("cpu", torch.bfloat16):
        y = run(x)
        assert y.dtype == model(x).dtype
        assert torch.allclose(y, model(x), rtol=0.1, atol=0.1)
    y.float().sum().backward()
    assert [part.reason for part in svertka.report(run)] == ["autocast is on"]
