"""Training steps through torch.compile: gradients against float64, and that all of autograd's ways go on working."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from networks import EPS, NETWORKS, made
from torch import nn
from torch.utils import _pytree as pytree

import svertka
from svertka.compiler import backend
from svertka.compiler.compiled import Compiled, compiled_of


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


def test_depthwise_gradients_are_kernels_too():
    model, x = made("mobilenet")
    run = compiled(model.train())
    loss_of(run(x)).backward()
    for part in svertka.report(run):
        assert not [node for node in part.fallbacks if "convolution" in node.name]


def test_a_convnext_is_kernels_forward_and_backward():
    model, x = made("convnext")
    run = compiled(model.train())
    for rows in (1, 40):  # pictures: of the last layer the rows
        loss_of(run(x[:1].repeat(rows, 1, 1, 1))).backward()
    for part in svertka.report(run)[-2:]:
        assert {node.name for node in part.fallbacks} <= {"new_zeros", "copy", "as_strided_scatter"}, part
    for part in svertka.report(run)[:2]:
        reasons = {node.detail for node in part.fallbacks if node.name == "linear"}
        assert reasons == {"there are too few rows for a weight that is packed at each step"}


class Lines(nn.Module):
    """Dense layers of all kinds on rows: wide and narrow, without a bias, with frozen parts, with layer norm."""

    def __init__(self, activation):
        super().__init__()
        self.wide, self.narrow, self.last = nn.Linear(6, 50), nn.Linear(50, 7, bias=False), nn.Linear(7, 5)
        self.norm, self.plain, self.scale = (
            nn.LayerNorm(7),
            nn.LayerNorm(50, elementwise_affine=False),
            nn.Parameter(torch.randn(7)),
        )
        self.activation = activation
        self.last.bias.requires_grad_(False)
        self.norm.weight.requires_grad_(False)

    def forward(self, x):
        y = self.plain(self.activation(self.wide(x)))
        return self.last(self.norm(self.narrow(y)) * self.scale)


@pytest.mark.parametrize("rows", (1, 31, 32, 100))
@pytest.mark.parametrize("activation", (F.gelu, F.silu, torch.sigmoid, torch.tanh, F.relu))
def test_dense_layers_on_rows(activation, rows):
    torch.manual_seed(0)
    model, x = Lines(activation), torch.randn(rows, 6)
    exact, run = copy.deepcopy(model).double(), compiled(model)
    wanted = [parameter.requires_grad for parameter in model.parameters()]
    found, expected = gradients(model, run, x), gradients(exact, exact, x.double())
    assert [grad is not None for grad in found[1:]] == wanted
    found, expected = ([grad for grad in grads if grad is not None] for grads in (found, expected))
    assert far(found, expected, 4 * 8 * max(rows, 50) ** 0.5 * EPS) == 0
    assert far([grad * 1.05 for grad in found], expected, 4 * 8 * max(rows, 50) ** 0.5 * EPS) > 0
    by_torch = {node.name for part in svertka.report(run) for node in part.fallbacks}
    assert by_torch <= ({"linear"} if rows < 32 else set())


def test_results_of_calls_are_given_back_as_soon_as_nobody_needs_them():
    model, x = (
        nn.Sequential(*(nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.Softsign()) for _ in range(6))),
        torch.rand(1, 4, 9, 9),
    )
    run = compiled(model)
    loss_of(run(x)).backward()
    plans = [planned[0] for part in compiled_of(run._orig_mod) for planned in part.plans.values()]
    assert any(plan.externals for plan in plans)
    for plan in plans:
        kept = {output.value.buffer.index for output in plan.outputs if output.kind == "external"}
        assert kept.isdisjoint(index for spent in plan.spent for index in spent)
        assert len(kept) + sum(map(len, plan.spent)) == plan.externals


class Pooled(nn.Module):
    """ReLU and maximum pooling, with windows apart and overlapping; what is pooled twice goes another way, too."""

    def __init__(self, ndim):
        super().__init__()
        conv, self.pool = (nn.Conv2d, F.max_pool2d) if ndim == 2 else (nn.Conv3d, F.max_pool3d)
        self.convs = nn.ModuleList(conv(n, 6, 3, padding=1) for n in (3, 6, 6))

    def forward(self, x):
        x = self.pool(F.relu(self.convs[0](x)), 2)
        x = self.pool(F.relu(self.convs[1](x)), 3, 2, 1)
        x = F.relu(self.convs[2](x))
        return self.pool(x, 2), x.mean()


@pytest.mark.parametrize("last", (False, True))
@pytest.mark.parametrize("ndim", (2, 3))
def test_what_is_pooled_after_a_relu_is_not_kept(ndim, last):
    torch.manual_seed(0)
    model, x = Pooled(ndim), torch.randn(2, 3, *[16] * ndim)
    form = (torch.channels_last if ndim == 2 else torch.channels_last_3d) if last else torch.contiguous_format
    exact, run = copy.deepcopy(model).double(), compiled(model.to(memory_format=form))
    found = gradients(model, run, x.to(memory_format=form))
    expected = gradients(exact, exact, x.double())
    assert far(found, expected, 4 * 6 * 1000**0.5 * EPS) == 0
    assert far([grad * 1.05 for grad in found], expected, 4 * 6 * 1000**0.5 * EPS) > 0
    (forward,), (backward,) = (part.plans.values() for part in compiled_of(run._orig_mod))
    kept = [tuple(shape) for shape, *_ in forward[0].rooms.shapes]
    first, third = (6 * 2 * n**ndim for n in (16, 4))
    sizes = [math.prod(shape) for shape in kept]
    assert first not in sizes, "the first layer's result is kept"
    assert sizes.count(third) >= 2, "what goes two ways is"
    assert not [node for node in backward[1] if node.path == "torch" and "pool" in node.name]


def test_gradients_lie_as_their_parameters_and_share_no_memory():
    model, x = made("resnet18")
    run = compiled(model.train())
    for _ in range(2):
        loss_of(run(x)).backward()
        grads = [parameter.grad for parameter in model.parameters()]
        assert len({grad.untyped_storage().data_ptr() for grad in grads}) == len(grads)
        for parameter in model.parameters():
            assert parameter.grad.stride() == parameter.stride()


class Sum(nn.Module):
    """Two parameters whose gradients are the same numbers, and one weight in two layers."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Parameter(torch.randn(2, 4, 8, 8)), nn.Parameter(torch.randn(2, 4, 8, 8))
        self.conv = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x):
        return self.conv(F.relu(self.conv(x + self.a + self.b)))


def test_gradients_that_are_equal_are_two_and_shared_weights_have_one():
    torch.manual_seed(0)
    model, x = Sum(), torch.randn(2, 4, 8, 8)
    run, other = compiled(model), copy.deepcopy(model)
    for call in (run, other):
        loss_of(call(x)).backward()
        loss_of(call(x)).backward()
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.allclose(a.grad, b.grad, rtol=1e-4, atol=1e-5)


def test_other_sizes_and_accumulated_steps():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3)).train()
    run, other = compiled(model), copy.deepcopy(model)
    for shape in ((2, 3, 80, 80), (3, 3, 80, 80), (2, 3, 64, 96), (2, 3, 80, 80)):
        x = torch.randn(shape)
        for call in (run, other):
            loss_of(call(x)).backward()
        kept = run(x)  # whose backward graph never runs
        again = loss_of(run(x * 2))
        loss_of(other(x)), loss_of(other(x * 2)).backward()
        again.backward()
        for a, b in zip(model.parameters(), other.parameters(), strict=True):
            assert torch.allclose(a.grad, b.grad, rtol=1e-3, atol=1e-4)
        del kept


@pytest.mark.parametrize("planned", (True, False))
def test_batch_norm_by_given_statistics_trains(planned, monkeypatch):
    """And a backward graph without a plan, which torch computes, knows the taps that the forward plan saved."""
    if not planned:
        plan = Compiled._plan
        monkeypatch.setattr(
            Compiled, "_plan", lambda part, *more: "not now" if part.title == "backward" else plan(part, *more)
        )
    model, x = made("resnet18")
    exact, run = copy.deepcopy(model).double(), compiled(model)
    allowed = 4 * NETWORKS["resnet18"][2] * 5000**0.5 * EPS
    found, expected = gradients(model, run, x), gradients(exact, exact, x.double())
    assert far(found, expected, allowed) == 0
    _, backward = (part for part in svertka.report(run) if part.inputs)
    assert backward.reason == ("" if planned else "not now")


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
