"""Dense layers of few images read the model's own weights: no copy of them is kept."""

import pytest
import torch
from torch import nn

import svertka
from svertka.compiler import layers

LONG = 16 * 16  # inputs, from which on it is done on every target


def same(compiled, model, x):
    with torch.no_grad():
        return torch.allclose(compiled(x), model(x), rtol=1e-4, atol=1e-4)


@pytest.fixture
def pair():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(LONG, 300), nn.ReLU(), nn.Linear(300, 5)).eval()
    return model, svertka.compile(model)


def test_nothing_is_packed(pair):
    model, compiled = pair
    assert same(compiled, model, torch.randn(2, LONG))
    (found,) = svertka.report(compiled)
    assert not found.fallbacks
    assert found.weight_bytes == sum(layer.bias.nbytes for layer in (model[0], model[2]))
    assert same(compiled, model, torch.randn(9, LONG))  # of more images weights are packed
    assert svertka.report(compiled)[0].weight_bytes > model[0].weight.nbytes


def test_weights_may_change_in_every_way(pair):
    model, compiled = pair
    x = torch.randn(2, LONG)
    assert same(compiled, model, x)
    with torch.no_grad():
        model[0].weight.mul_(0.5)
    assert same(compiled, model, x)
    model[0].weight.data.mul_(-1)  # which nobody counts
    assert same(compiled, model, x)
    model[0].weight.data = torch.randn(300, LONG) * 0.1
    assert same(compiled, model, x)
    model[2].weight = nn.Parameter(torch.randn(5, 300) * 0.1)
    assert same(compiled, model, x)
    model[0].weight.data = (torch.randn(LONG, 300) * 0.1).t()  # in another order: of this a copy is kept
    assert same(compiled, model, x)
    assert svertka.report(compiled)[0].weight_bytes > model[0].weight.nbytes


@pytest.mark.parametrize("dynamo", (False, True))
def test_maps_are_turned_before_large_weights(dynamo, monkeypatch):
    monkeypatch.setattr(layers, "_TURNED", 0)
    torch.compiler.reset()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 40, 3), nn.ReLU(), nn.Flatten(), nn.Linear(40 * 16, 20, bias=False)).eval()
    compiled = torch.compile(model, backend="svertka") if dynamo else svertka.compile(model)
    assert same(compiled, model, torch.randn(2, 3, 6, 6))
    (found,) = svertka.report(compiled)
    assert found.calls == 1
    assert found.weight_bytes < model[3].weight.nbytes


def test_a_weight_that_is_computed_is_kept():
    class Squared(nn.Module):
        def __init__(self):
            super().__init__()
            self.matrix = nn.Parameter(torch.randn(LONG, 8))

        def forward(self, x):
            return x @ (self.matrix * self.matrix)

    model = Squared().eval()
    compiled = svertka.compile(model)
    assert same(compiled, model, torch.randn(1, LONG))
    with torch.no_grad():
        model.matrix.mul_(2)
    assert same(compiled, model, torch.randn(1, LONG))
    (found,) = svertka.report(compiled)
    assert not found.fallbacks
    assert found.weight_bytes == model.matrix.nbytes
