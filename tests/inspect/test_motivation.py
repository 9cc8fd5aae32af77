"""Equivariance is exactly 0 where theory says so, and not where it says otherwise; counts are counted."""

import pytest
import torch
from small_networks import PREPROCESSING, Unusual, pasted, trained
from torch import nn

from svertka import inspect
from svertka import nn as ours
from svertka.errors import DataError, GeometryError
from svertka.inspect.motivation import shifted

PICTURES = torch.randn(3, 2, 16, 16, generator=torch.Generator().manual_seed(0))


def _circular(**arguments: int) -> nn.Module:
    return ours.Conv2d(2, 4, 3, padding=1, padding_mode="circular", **arguments)


def test_stride_1_and_circular_padding_follow_a_shift_exactly() -> None:
    model = nn.Sequential(
        _circular(), nn.ReLU(), ours.MaxPool2d(3, 1, 1, padding_mode="circular"), nn.BatchNorm2d(4), nn.Sigmoid()
    )
    found = inspect.equivariance(model, PICTURES, (1, 2, 7))
    assert [row.shift for row in found.layers] == [(0.0, 0.0, 0.0)] * 5
    assert min(found.layers[0].change) > 0.5, "the maps do move"


def test_a_stride_follows_its_multiples_exactly_and_nothing_between() -> None:
    model = nn.Sequential(_circular(), nn.MaxPool2d(2))
    pool = inspect.equivariance(model, PICTURES, (1, 2, 3, 4)).layers[1]
    assert pool.stride == 2
    assert pool.shift[1] == pool.shift[3] == 0.0 and min(pool.shift[0], pool.shift[2]) > 0.05


def test_zero_padding_spoils_the_edges_and_only_them() -> None:
    row = inspect.equivariance(nn.Conv2d(2, 4, 5, padding=2), PICTURES, (1, 2)).layers[0]
    assert min(row.shift) > 0.05 and row.inside == (0.0, 0.0)
    wide = inspect.equivariance(nn.Conv2d(2, 4, 15, padding=7), PICTURES, (2,)).layers[0]
    assert wide.inside == (None,)


def test_a_local_layer_without_shared_weights_does_not_follow() -> None:
    row = inspect.equivariance(ours.LocallyConnected2d(2, 4, 3, 16, padding=1), PICTURES, (1,)).layers[0]
    assert row.shift[0] > 0.5 and row.inside[0] is not None and row.inside[0] > 0.5


def test_symmetric_kernels_follow_flips_and_turns() -> None:
    layer = nn.Conv2d(2, 3, 3, padding=1, bias=False)
    other = inspect.equivariance(layer, PICTURES, (1,)).layers[0]
    assert min(other.flip or 0, other.rotation or 0) > 0.2
    with torch.no_grad():
        middle, side, corner = torch.randn(3, 3, 2).unbind()
        layer.weight.copy_(
            torch.stack([corner, side, corner, side, middle, side, corner, side, corner], -1).view(3, 2, 3, 3)
        )
    row = inspect.equivariance(layer, PICTURES, (1,)).layers[0]
    assert row.flip == row.rotation == 0.0


def test_a_global_mean_behind_circular_layers_makes_the_answer_invariant() -> None:
    model = nn.Sequential(_circular(), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    found = inspect.equivariance(model, PICTURES, (1, 5))
    assert found.same_answer == (1.0, 1.0) and found.count == 3
    assert inspect.equivariance(nn.Conv2d(2, 1, 3), PICTURES, (1,)).same_answer == ()


def test_unusual_networks_are_measured_and_bad_requests_refused() -> None:
    found = inspect.equivariance(Unusual(), torch.randn(2, 3, 12, 12), (2,))
    assert any("max_pool2d" in row.layer.name for row in found.layers)
    with pytest.raises(GeometryError, match="shifts"):
        inspect.equivariance(_circular(), PICTURES, (16,))
    with pytest.raises(GeometryError, match="can't be turned"):
        inspect.equivariance(nn.Conv1d(2, 2, 3), torch.randn(2, 2, 16))


def test_shifting_repeats_the_edge() -> None:
    x = torch.arange(6.0).view(1, 1, 2, 3)
    assert shifted(x, 0, 1)[0, 0].tolist() == [[0, 0, 1], [3, 3, 4]]
    assert shifted(x, -1, -2)[0, 0].tolist() == [[5, 5, 5], [5, 5, 5]]
    assert shifted(x, 0, 0) is x


def test_accuracy_against_shift_is_that_of_shifted_pictures() -> None:
    pictures, labels, _ = pasted(40, 4)
    x = PREPROCESSING.normalise(pictures)
    found = inspect.accuracy_by_shift(trained(), [(x[:25], labels[:25]), (x[25:], labels[25:])], (0, 3))
    moves = [(3, 0), (-3, 0), (0, 3), (0, -3)]
    with torch.no_grad():
        right = [(trained()(shifted(x, *move)).argmax(1) == labels).double().mean() for move in moves]
        itself = (trained()(x).argmax(1) == labels).double().mean()
    assert found.accuracy == (pytest.approx(float(itself)), pytest.approx(float(sum(right) / 4)))
    assert found.count == 40
    with pytest.raises(DataError, match="no pictures"):
        inspect.accuracy_by_shift(trained(), [])


def test_connections_are_counted() -> None:
    model = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1, groups=2), nn.Flatten(), nn.Linear(64, 5))
    conv, dense = inspect.sharing(model, (2, 4, 4))
    inside = 10 * 10  # 4 places of each axis see 2, 3, 3, 2 inputs
    assert (conv.inputs, conv.outputs, conv.dense) == (32, 64, 2048)
    assert (conv.connections, conv.weights) == (inside * 4, 36)
    assert conv.sparsity == 400 / 2048 and conv.uses == 400 / 36
    assert (dense.connections, dense.weights, dense.sparsity, dense.uses) == (320, 320, 1.0, 1.0)
