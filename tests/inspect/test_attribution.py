"""The maps show what the decision rests on: the object, where it was pasted; and they pass or fail the sanity check."""

import copy

import numpy as np
import pytest
import torch
from small_networks import OBJECT, PREPROCESSING, Unusual, pasted, trained
from torch import nn

from svertka import inspect
from svertka.errors import GeometryError
from svertka.inspect.attribution import METHODS, _rank_correlation


def test_occlusion_finds_the_object_where_it_was_pasted() -> None:
    pictures, labels, corners = pasted(40, 7)
    x, hits = PREPROCESSING.normalise(pictures), 0
    for picture, label, (top, left) in zip(x, labels.tolist(), corners.tolist(), strict=True):
        y, x_ = inspect.occlusion(trained(), picture, label).peak
        hits += top <= y < top + OBJECT and left <= x_ < left + OBJECT
    assert hits / len(x) >= 0.9
    chance = (OBJECT / x.shape[-1]) ** 2
    assert chance < 0.2, "a blind guess must not pass"


def test_several_classes_cost_one_run_and_give_the_same() -> None:
    x = PREPROCESSING.normalise(pasted(1, 4)[0])[0]
    model, asked = copy.deepcopy(trained()), []
    model.register_forward_hook(lambda *_: asked.append(1))
    one = [inspect.occlusion(model, x, target) for target in (2, 0, 2)]
    alone, before = len(asked) // 3, len(asked)
    several = inspect.attributions("occlusion", model, x, (2, 0, 2))
    assert len(asked) - before == alone
    for ours, theirs in zip(several, one, strict=True):
        np.testing.assert_array_equal(ours.map, theirs.map)
        assert (ours.target, ours.score) == (theirs.target, theirs.score)
    assert not np.array_equal(several[0].map, several[1].map)
    for method in ("integrated gradients", "Grad-CAM"):
        assert [found.target for found in inspect.attributions(method, model, x, (1, 2))] == [1, 2]


def test_occlusion_is_the_fall_of_the_log_probability() -> None:
    x = PREPROCESSING.normalise(pasted(1, 8)[0])[0]
    found = inspect.occlusion(trained(), x, 1, side=24)
    blank = x.flatten(1).median(1).values[:, None, None].expand_as(x)
    with torch.no_grad():
        before, after = (trained()(p[None]).log_softmax(1)[0, 1] for p in (x, blank))
    assert np.allclose(found.map, float(before - after), atol=1e-4)


def test_integrated_gradients_add_up_to_the_score_s_difference() -> None:
    x = PREPROCESSING.normalise(pasted(1, 9)[0])[0]
    found = inspect.integrated_gradients(trained(), x, 0, steps=256)
    with torch.no_grad():
        ground = x.flatten(1).median(1).values[:, None, None].expand_as(x)
        blank = float(trained()(ground[None])[0, 0])
    assert found.gap is not None and found.gap < 0.02 * abs(found.score - blank)
    assert np.isclose(found.map.sum(), found.score - blank, atol=found.gap + 1e-3)


def test_grad_cam_weighs_the_last_maps_by_their_mean_gradients() -> None:
    model, x = trained(), PREPROCESSING.normalise(pasted(1, 10)[0])
    found = inspect.grad_cam(model, x[0], 2)
    assert found.layer == "8"
    maps = model[:9](x).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(model[9:](maps)[0, 2], maps)
    own = (gradient.mean((2, 3), keepdim=True) * maps).sum(1, keepdim=True).relu()
    large = nn.functional.interpolate(own, (24, 24), mode="bilinear")[0, 0].detach().numpy()
    assert np.allclose(found.map, large, atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_random_weights_change_the_map(method: str) -> None:
    pictures, labels, _ = pasted(4, 11)
    x = PREPROCESSING.normalise(pictures)
    found = [inspect.sanity(trained(), x[i], int(labels[i]), method) for i in range(4)]
    assert np.mean([check.correlation for check in found]) < 0.5
    assert all(len(check.correlations) == 3 for check in found)


def test_the_check_fails_on_a_map_that_shows_the_picture_only(monkeypatch: pytest.MonkeyPatch) -> None:
    def edges(_: nn.Module, picture: torch.Tensor, target: int) -> inspect.Attribution:
        return inspect.Attribution("edges", target, picture.diff(dim=2).abs().mean(0).numpy(), 0.0)

    monkeypatch.setitem(METHODS, "edges", edges)
    check = inspect.sanity(trained(), torch.randn(3, 24, 24), 0, "edges")
    assert check.correlation == pytest.approx(1) and not check.passed


def test_random_networks_have_other_weights_of_the_same_spread_and_ours_keeps_its_own() -> None:
    before = trained()[0].weight.clone()
    random = inspect.randomised(trained(), 1)
    assert not torch.allclose(random[0].weight, before)
    assert torch.allclose(random[0].weight.std(), before.std(), rtol=0.15)
    assert torch.equal(trained()[0].weight, before)
    assert torch.equal(inspect.randomised(trained(), 1)[0].weight, random[0].weight)


def test_unusual_networks_are_explained_and_others_refused_in_a_sentence() -> None:
    found = inspect.grad_cam(Unusual(), torch.randn(3, 12, 12), 1)
    assert found.layer == "stem" and found.map.shape == (12, 12)
    with pytest.raises(GeometryError, match="classes 0 to 2, not 5"):
        inspect.occlusion(Unusual(), torch.randn(3, 12, 12), 5)
    with pytest.raises(GeometryError, match="no scores"):
        inspect.occlusion(nn.Conv2d(3, 2, 3), torch.randn(3, 12, 12), 0)
    flat = nn.Sequential(nn.Flatten(), nn.Linear(48, 2))
    with pytest.raises(GeometryError, match="no layer with maps"):
        inspect.grad_cam(flat, torch.randn(3, 4, 4), 0)


def test_rank_correlation_is_scipy_s() -> None:
    from scipy.stats import spearmanr

    draw = np.random.default_rng(0)
    a, b = (draw.integers(0, 9, (6, 7)).astype(np.float32) for _ in range(2))
    assert _rank_correlation(a, b) == pytest.approx(float(spearmanr(a.ravel(), b.ravel()).statistic))
    assert _rank_correlation(a, np.zeros_like(a)) == 0.0
