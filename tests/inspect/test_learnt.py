"""Filters, templates, feature maps and exciting pictures hold the numbers that the network has."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small_networks import PREPROCESSING, Unusual, pasted, trained
from torch import nn

from svertka import inspect, models
from svertka.errors import DataError, GeometryError
from svertka.inspect import Unit
from svertka.inspect.recording import layers, named, private
from svertka.inspect.synthesis import _Ascent, usual_statistics


def test_filters_of_pixels_depthwise_grouped_and_full() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 6, 5), nn.Conv2d(6, 6, 3, groups=6), nn.Conv2d(6, 4, 3, groups=2), nn.Conv2d(4, 5, 1)
    )
    found = inspect.filters(model, (3, 16, 16))
    assert [bank.kind for bank in found] == ["RGB", "depthwise", "grouped", "full"]
    assert [list(found[2].inputs_of(i)) for i in range(4)] == [[0, 1, 2], [0, 1, 2], [3, 4, 5], [3, 4, 5]]
    assert np.array_equal(found[3].weight, model[3].weight.detach().numpy())
    norms = np.linalg.norm(found[0].weight.reshape(6, -1), axis=1)
    assert set(found[0].strongest(2)) == set(np.argsort(norms)[-2:])
    assert inspect.filters(nn.Conv2d(1, 2, 3), (1, 8, 8))[0].kind == "grey"


def test_a_transposed_filter_is_what_one_input_paints() -> None:
    layer = nn.ConvTranspose2d(4, 6, 3, groups=2, bias=False)
    bank = inspect.filters(layer, (4, 5, 5))[0]
    assert bank.turned and bank.weight.shape == (6, 2, 3, 3)
    for channel in range(4):
        one = torch.zeros(1, 4, 1, 1)
        one[0, channel] = 1
        painted = layer(one)[0].detach().numpy()
        for output in range(6):
            seen = channel in bank.inputs_of(output)
            own = bank.weight[output, channel - bank.inputs_of(output).start] if seen else np.zeros((3, 3))
            assert np.allclose(painted[output], own, atol=1e-6)


def test_one_and_three_axes_are_laid_flat() -> None:
    assert inspect.filters(nn.Conv1d(2, 3, 5), (2, 9))[0].weight.shape == (3, 2, 1, 5)
    assert inspect.filters(nn.Conv3d(2, 3, (2, 3, 4)), (2, 6, 6, 6))[0].weight.shape == (3, 4, 3, 4)


def test_templates_are_the_weights_of_each_class_as_a_picture() -> None:
    model = models.linear(1, 3, size=(4, 5))
    found = inspect.templates(model, (1, 4, 5), ("a", "b", "c"))
    assert found is not None and found.names == ("a", "b", "c")
    picture = torch.randn(1, 1, 4, 5)
    scores = (torch.from_numpy(found.weight) * picture).sum((1, 2, 3)) + model[1].bias
    assert torch.allclose(scores, model(picture)[0], atol=1e-5)
    assert inspect.templates(models.lenet(), (1, 28, 28)) is None


def test_feature_maps_are_the_layers_outputs_and_stages_the_lecture_s_layers() -> None:
    model, x = trained(), PREPROCESSING.normalise(pasted(1, 5)[0])
    maps = inspect.feature_maps(model, x[0])
    assert np.allclose(maps["2"].values, F.max_pool2d(F.relu(model[0](x)), 2)[0].detach().numpy(), atol=1e-5)
    kinds = [[step.layer.kind for step in stage] for stage in maps.stages]
    assert kinds == [
        ["Conv2d", "ReLU", "MaxPool2d"], ["Conv2d", "BatchNorm2d", "ReLU", "MaxPool2d"], ["Conv2d", "ReLU"]
    ]  # fmt: skip
    assert maps["0"].place == (12, 12) and maps["0"].seen == ((10, 14), (10, 14))
    assert inspect.feature_maps(model, x[0], at=(0, 0.99))["0"].seen == ((0, 2), (21, 23))
    with pytest.raises(GeometryError, match="no maps of a layer 'x'"):
        maps["x"]


def test_an_unusual_network_gives_maps_and_says_what_is_not_known() -> None:
    maps = inspect.feature_maps(Unusual(), torch.randn(3, 12, 12))
    assert maps["same (call 2)"].values.shape == (4, 12, 12)
    assert any(step.seen is None and step.layer.reason for step in maps.layers)
    assert [bank.layer for bank in inspect.filters(Unusual(), (3, 12, 12))] == ["stem", "same"]


def test_what_excites_is_what_a_sort_of_everything_finds() -> None:
    model, x = trained(), PREPROCESSING.normalise(pasted(50, 1)[0])
    found = {e.layer.name: e for e in inspect.exciting(model, x.split(16), ["0", "11"], most=4)}
    with torch.no_grad():
        maps, scores = model[0](x), model(x)
    best = maps.flatten(2).max(2).values.T
    order = best.argsort(dim=1, descending=True, stable=True)[:, :4]
    assert np.array_equal(found["0"].pictures, order.numpy())
    assert np.allclose(found["0"].values, best.gather(1, order).numpy(), atol=1e-5)
    y, x_ = found["0"].places[2, 1]
    assert torch.isclose(maps[order[2, 1], 2, y, x_], best[2, order[2, 1]], atol=1e-5)
    assert np.allclose(found["11"].mean, scores.double().mean(0).numpy(), atol=1e-5)
    assert np.allclose(found["11"].std, scores.double().std(0, correction=0).numpy(), atol=1e-5)
    assert found["0"].count == 50 and found["11"].places.shape == (3, 4, 0)


def test_what_excites_does_not_depend_on_batches_and_ties_go_to_the_first() -> None:
    x = PREPROCESSING.normalise(pasted(12, 2)[0])
    x = torch.cat([x, x])
    one, many = (inspect.exciting(trained(), x.split(n), ["11"], most=3)[0] for n in (24, 5))
    assert np.array_equal(one.pictures, many.pictures) and (one.pictures[:, 0] < 12).all()
    with pytest.raises(DataError, match="no pictures"):
        inspect.exciting(trained(), [])


def test_a_synthesised_picture_excites_more_than_99_per_cent_of_the_data_set() -> None:
    model, pictures = trained(), pasted(1000, 3)[0]
    units = [*(Unit("11", i) for i in range(3)), *(Unit("7", i) for i in range(0, 24, 4)), Unit("4", 1), Unit("0", 5)]
    made = inspect.synthesise(model, units, PREPROCESSING, pictures[:200], steps=100)
    against: dict[str, dict[int, float]] = {}
    for one in made:
        assert one.picture.shape == (3, 24, 24) and one.picture.dtype == np.uint8
        against.setdefault(one.unit.layer, {})[one.unit.channel] = one.excitation
    stream = PREPROCESSING.normalise(pictures).split(100)
    for found in inspect.exciting(model, stream, list(against), against=against):
        for unit, share in found.beaten.items():
            alive = found.values[unit, 0] - found.mean[unit] > 1e-3
            assert share > 0.99 or not alive, (found.layer.name, unit, share)


def test_a_synthesised_picture_is_decided_by_the_seed_and_by_its_unit_alone() -> None:
    units = [Unit("11", 0), Unit("11", 2)]
    both = inspect.synthesise(trained(), units, PREPROCESSING, steps=4)
    again = inspect.synthesise(trained(), units, PREPROCESSING, steps=4)
    other = inspect.synthesise(trained(), units[:1], PREPROCESSING, steps=4, seed=1)
    assert all(np.array_equal(a.picture, b.picture) for a, b in zip(both, again, strict=True))
    assert not np.array_equal(other[0].picture, both[0].picture)
    assert 4 < len(both[0].path) <= 8, "with nothing to compare with it goes on once"


def test_a_network_that_has_learnt_nothing_is_excited_more_than_by_the_pictures_too() -> None:
    model, pictures = inspect.randomised(trained(), 2), pasted(300, 5)[0]
    units = [*(Unit("11", i) for i in range(3)), *(Unit("7", i) for i in range(0, 24, 6))]
    made = inspect.synthesise(model, units, PREPROCESSING, pictures[:100], steps=40)
    with torch.no_grad():
        scores = model(PREPROCESSING.normalise(pictures))
    for one in made[:3]:
        assert (scores[:, one.unit.channel] < one.excitation).float().mean() > 0.99
    alone = inspect.synthesise(model, units[1:2], PREPROCESSING, pictures[:100], steps=40)
    assert np.array_equal(alone[0].picture, made[1].picture), "whichever others are made with it"


@pytest.mark.parametrize("brightness", (1000.0, -1000.0))
def test_a_picture_that_is_all_white_or_black_can_be_left(brightness: float) -> None:
    model, size = private(trained()), (PREPROCESSING.channels, *PREPROCESSING.size)
    basis = usual_statistics(size[0], PREPROCESSING.size)
    ascent = _Ascent(model, named(layers(model, size), "11"), [Unit("11", 0)], PREPROCESSING, basis, 0)
    theta = torch.zeros_like(ascent.theta[0])
    theta[:, 0, 0, 0] = brightness
    picture = ascent._pictures(theta.requires_grad_()[None])
    assert ((picture if brightness > 0 else 1 - picture) > 0.9).all()
    (slope,) = torch.autograd.grad(picture[0, 0, 3, 4], theta)
    assert slope.abs().max() > 1e-4


def test_a_place_of_a_channel_can_be_excited_and_units_that_are_not_there_are_refused() -> None:
    one = inspect.synthesise(trained(), [Unit("0", 1, (3, 4))], PREPROCESSING, steps=10)[0]
    with torch.no_grad():
        value = trained()[0](PREPROCESSING.normalise(torch.from_numpy(one.picture)[None]))[0, 1, 3, 4]
    assert np.isclose(one.excitation, float(value), atol=1e-4)
    with pytest.raises(GeometryError, match="has the units 0 to 2, not 3"):
        inspect.synthesise(trained(), [Unit("11", 3)], PREPROCESSING)
    with pytest.raises(GeometryError, match="without a place"):
        inspect.synthesise(trained(), [Unit("0", 1, (3, 99))], PREPROCESSING)
