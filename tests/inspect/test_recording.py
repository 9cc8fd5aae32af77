"""Every layer's output is what the layer gave, whatever the network is made of, and the network is left alone."""

import pytest
import torch
from small_networks import Unusual
from torch import nn

from svertka import models
from svertka.errors import GeometryError
from svertka.explain import summary
from svertka.inspect.recording import before_nonlinearities, layers, named, private, record


@pytest.mark.parametrize(
    "model, size",
    [
        (models.lenet(classes=3, widths=(2, 3), hidden=5), (1, 28, 28)),
        (models.resnet18(width=2, classes=3, size=(32, 32)), (3, 32, 32)),
        (Unusual(), (3, 12, 12)),
        (nn.Sequential(nn.Conv1d(2, 3, 3), nn.Tanh(), nn.MaxPool1d(2)), (2, 20)),
    ],
)
def test_layers_are_the_summary_s_rows_and_all_can_be_recorded(model: nn.Module, size: tuple[int, ...]) -> None:
    found = layers(model, size)
    assert [(layer.name, layer.output) for layer in found] == [
        (row.name, row.output) for row in summary(model, size).rows
    ]
    outputs = record(private(model), torch.randn(2, *size), found)
    assert {layer: tuple(outputs[layer].shape[1:]) for layer in found} == {layer: layer.output for layer in found}


def test_outputs_are_kept_as_they_were_before_the_next_layer_worked_in_place() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(inplace=True))
    x = torch.randn(1, 1, 8, 8)
    first, second = layers(model, (1, 8, 8))
    outputs = record(private(model), x, [first, second])
    assert torch.allclose(outputs[first], model[0](x), atol=1e-6)
    assert (outputs[first] < 0).any() and (outputs[second] >= 0).all()


def test_the_network_is_left_as_it_was() -> None:
    model = models.lenet(classes=3, widths=(2, 2), hidden=4).train()
    record(private(model), torch.randn(1, 1, 28, 28), layers(model, (1, 28, 28)))
    assert model.training
    assert all(module.inplace for module in model.modules() if isinstance(module, nn.ReLU))
    assert not any(module._forward_hooks for module in model.modules())


def test_the_run_ends_behind_the_last_layer_that_is_wanted() -> None:
    class Never(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            assert x.is_meta, "called in vain"
            return x

    model = nn.Sequential(nn.Conv2d(1, 1, 3), Never())
    first = layers(model, (1, 6, 6))[0]
    assert record(private(model), torch.randn(1, 1, 6, 6), [first])[first].shape == (1, 1, 4, 4)


def test_a_unit_s_excitation_is_before_the_nonlinearity() -> None:
    found = layers(models.resnet18(width=2, classes=3, size=(32, 32)), (3, 32, 32))
    names = [layer.name for layer in before_nonlinearities(found)]
    assert names[:3] == ["features.0.norm", "features.1.branch.0.norm", "features.1.add"]
    assert names[-1] == "dense.0"
    linear = layers(models.linear(1, 4, size=(8, 8)), (1, 8, 8))
    assert [layer.name for layer in before_nonlinearities(linear)] == ["1"]


def test_calls_of_one_layer_are_told_apart_and_unknown_names_are_listed() -> None:
    found = layers(Unusual(), (3, 12, 12))
    assert named(found, "same (call 2)").number == named(found, "same").number == 1
    with pytest.raises(GeometryError, match="no layer 'fog': choose one of stem"):
        named(found, "fog")


def test_a_field_is_cut_to_the_picture() -> None:
    layer = layers(nn.Conv2d(1, 1, 3, padding=1), (1, 6, 6))[0]
    assert layer.seen_by((0, 5), (6, 6)) == ((0, 1), (4, 5))
    lost = next(layer for layer in layers(Unusual(), (3, 12, 12)) if "fft" in layer.kind)
    assert lost.seen_by((0, 0), (12, 12)) is None and "not known" in lost.reason
