import math

import pytest
import torch
from engine.bounds import agrees
from guarded import guarded
from torch import nn as theirs

from svertka import functional, models, nn
from svertka.engine import autograd, batch_norm
from svertka.engine.dispatch import using
from svertka.engine.report import report
from svertka.engine.step import Saved
from svertka.errors import GeometryError

EPSILON = torch.finfo(torch.float32).eps
SHAPES = [
    (4, 5, 7, 9),
    (8, 64, 14, 14),
    (3, 70, 5, 5),
    (6, 37),
    (2, 16, 33),
    (2, 3, 4, 5, 6),
    (2, 1, 3, 3),
    (70, 130, 1, 1),
]


def kinds(shape):
    axes = max(len(shape) - 2, 1)
    return getattr(nn, f"BatchNorm{axes}d"), getattr(theirs, f"BatchNorm{axes}d")


def pair(shape, **options):
    """Ours, and torch's in float64 with the same weights."""
    own, other = (kind(shape[1], **options) for kind in kinds(shape))
    with torch.no_grad():
        for parameter in own.parameters():
            parameter.normal_()
    other.load_state_dict(own.state_dict())
    return own, other.double()


def gradients(y, leaves, dy):
    return [y.detach(), *torch.autograd.grad(y, leaves, dy.to(y.dtype))]


def compared(shape, last=False, activation=None, offset=100.0):
    """(found, expected, bounds) of y, dx, dγ and dβ.

    x̂ = (x − mean) / σ is off by ε · (offset / σ) as x itself is rounded, and by ε for each halving of a sum of M parts
    (sums in blocks); sums over dy by as much for each of their terms, |x̂| ≤ 3 of most.
    """
    torch.manual_seed(0)
    own, other = pair(shape)
    x = (torch.randn(shape) * 3 + offset).contiguous(
        memory_format=torch.channels_last if last else torch.contiguous_format
    )
    ours, true = x.clone().requires_grad_(), x.double().requires_grad_()
    with using("kernels"):
        y = own.normalised(ours, activation)
    expected = other(true)
    dy = torch.randn(shape)
    # Where y is 0 within its rounding, either sign is right.
    dy[(expected.abs() < 1e-4)] = 0
    expected = expected.relu() if activation else expected
    with using("kernels"):
        found = gradients(y, [ours, own.weight, own.bias], dy)
    wanted = gradients(expected, [true, other.weight, other.bias], dy)
    count = x.numel() // shape[1]
    unit = 4 * EPSILON * (1 + abs(offset) / 3 + math.log2(count))
    scale = 1 + float(other.weight.detach().abs().max())
    passed = float(dy.abs().sum()) / shape[1] * 4
    sizes = [4 * scale, 4 * scale * float(dy.abs().max()), 3 * passed, passed]
    return found, wanted, [torch.full(t.shape, unit * size).numpy() for t, size in zip(wanted, sizes, strict=True)]


@pytest.mark.parametrize("activation", (None, "relu"))
@pytest.mark.parametrize("shape", SHAPES)
def test_values_and_gradients(shape, activation):
    for last in (False, True) if len(shape) == 4 else (False,):
        for ours, true, bound in zip(*compared(shape, last, activation), strict=True):
            assert agrees(ours, true, bound)


def test_the_comparison_fails_on_a_wrong_gradient():
    for ours, true, bound in zip(*compared((8, 5, 7, 9)), strict=True):
        assert not agrees(ours + 3 * torch.from_numpy(bound).float(), true, bound)
        assert not agrees(ours.flip(-1), true, bound)


@pytest.mark.parametrize("options", [{}, {"momentum": None}, {"momentum": 0.3, "eps": 0.1}, {"affine": False},
                                     {"track_running_stats": False}])  # fmt: skip
def test_running_statistics_are_torchs(options):
    own, other = pair((6, 3, 5, 5), **options)
    with using("kernels"):
        for _ in range(3):
            x = torch.randn(6, 3, 5, 5) + 2
            torch.testing.assert_close(own(x.requires_grad_()), other(x.double()).float(), rtol=1e-4, atol=1e-5)
    for name, value in own.state_dict().items():
        torch.testing.assert_close(value.double(), other.state_dict()[name].double(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(own.eval()(x), other.eval()(x.double()).float(), rtol=1e-4, atol=1e-5)


def test_torchs_errors_and_names():
    with pytest.raises(ValueError, match="more than 1 value"):
        nn.BatchNorm2d(3)(torch.randn(1, 3, 1, 1))
    with pytest.raises(GeometryError, match="'relu' or None"):
        functional.batch_norm(torch.randn(2, 3), None, None, training=True, activation="gelu")
    assert isinstance(nn.BatchNorm2d(3), theirs.BatchNorm2d)


@pytest.mark.parametrize("last", (False, True))
@pytest.mark.parametrize("at_end", (False, True))
def test_no_byte_outside_is_touched(at_end, last, monkeypatch):
    memory_format = torch.channels_last if last else torch.contiguous_format
    x, dy = (guarded(torch.randn(2, 19, 5, 7).contiguous(memory_format=memory_format), at_end=at_end) for _ in "xy")
    weight, bias = (guarded(torch.randn(19), at_end=at_end) for _ in "wb")
    for module, name in ((batch_norm, "scratch_floats"), (torch, "empty")):
        real = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *a, real=real, **k: guarded(real(*a, **k), at_end=at_end))
    operation = functional.arguments.batch_norm_spec(2, 1e-5, "relu")
    step = autograd.GRADIENTS[type(operation)].prepare(operation, x, weight, bias)
    _, kept = step.forward(x, weight, bias)
    step.backward(dy, Saved((True,) * 3, x, (weight, bias), kept))


def test_the_same_bits_for_any_number_of_threads():
    before, results = torch.get_num_threads(), []
    x = torch.randn(8, 32, 14, 14).contiguous(memory_format=torch.channels_last).requires_grad_()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            with using("kernels"):
                y = functional.batch_norm(x, None, None, training=True)
                results.append((y.detach(), *torch.autograd.grad(y, x, x.detach())))
    finally:
        torch.set_num_threads(before)
    for result in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(result, results[0], strict=True))


def test_blocks_take_norm_and_relu_together_unless_someone_watches():
    torch.manual_seed(0)
    model = models.resnet18(width=4, classes=3, size=(16, 16)).to(memory_format=torch.channels_last)
    x = torch.randn(4, 3, 16, 16).contiguous(memory_format=torch.channels_last)
    outputs, shared = [], []
    state = {name: value.clone() for name, value in model.state_dict().items()}
    for watch in (False, True):
        model.load_state_dict(state)
        seen = []
        if watch:
            model.features[0].activation.register_forward_hook(lambda *_: seen.append(1))  # noqa: B023
        report(reset=True)
        outputs.append(model(x))
        calls = report(reset=True).items()
        shared.append(sum(count for call, count in calls if getattr(call.operation, "activation", None)))
        assert len(seen) == watch
    assert shared[0] == shared[1] + 1
    torch.testing.assert_close(*outputs, rtol=1e-4, atol=1e-4)


def test_is_traced_symbolically():
    model = models.lenet(norm=True).eval()
    x = torch.randn(2, 1, 28, 28)
    layer = nn.BatchNorm2d(1).eval()
    torch.testing.assert_close(torch.fx.symbolic_trace(layer)(x), layer(x))
    assert {"running_mean", "running_var", "num_batches_tracked"} < set(model.features[0].norm.state_dict())
