"""What single outputs see, place by place: held against gradients where all weights are positive."""

import copy
import json
import xml.etree.ElementTree as ET
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

import svertka
from svertka import models
from svertka import nn as ours
from svertka.errors import DataError, GeometryError
from svertka.explain import ReceptiveField, receptive_field


def positive(model: nn.Module) -> nn.Module:
    """A copy in which nothing cancels and nothing is chosen: positive weights, mean pooling for maximum pooling."""
    model = copy.deepcopy(model).eval().double()
    for parameter in model.parameters():
        parameter.data.abs_().add_(0.1)
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.MaxPool2d):
                pool = ours.AvgPool2d(child.kernel_size, child.stride, child.padding, child.ceil_mode)
                setattr(parent, name, pool)
    return model


class Map:
    """A network's result on an input of ones, whose gradients tell what each output depends on."""

    def __init__(self, model: nn.Module, size: tuple[int, ...], layer: str = "") -> None:
        self.x = torch.ones(1, *size, dtype=torch.float64, requires_grad=True)
        model, found = positive(model), []
        model.get_submodule(layer).register_forward_hook(lambda _, __, y: found.append(y.clone()))
        model(self.x)
        self.y: Tensor = found[-1]

    def seen(self, at: tuple[int, ...]) -> Any:
        """bool [*size]: the inputs with a gradient that is not zero."""
        (gradient,) = torch.autograd.grad(self.y[(0, slice(None), *at)].sum(), self.x, retain_graph=True)
        return (gradient[0] != 0).any(0).numpy()


class UNet(nn.Module):
    """Three levels, skips, and two ways up: one even, one with gaps that its kernel leaves."""

    def __init__(self, up: str) -> None:
        super().__init__()
        self.levels = nn.ModuleList([nn.Conv2d(c, 2, 3, padding=1) for c in (1, 2, 2)])
        self.up: Any = {
            "transposed": lambda: nn.ModuleList([nn.ConvTranspose2d(2, 2, 3, 2, 1, 1), nn.ConvTranspose2d(2, 2, 2, 3)]),
            "bilinear": lambda: nn.ModuleList([nn.Upsample(scale_factor=2, mode="bilinear"), nn.Upsample((21, 19))]),
            "shuffle": lambda: nn.ModuleList([nn.Sequential(nn.Conv2d(2, 8, 1), nn.PixelShuffle(2)) for _ in "ab"]),
        }[up]()
        self.joints = nn.ModuleList([nn.Conv2d(4, 2, 3, padding=1), nn.Conv2d(4, 1, (1, 3), padding=(0, 1))])

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for level in self.levels:
            x = F.relu(level(x))
            skips.append(x)
            x = F.avg_pool2d(x, 2)
        x = skips.pop()
        for up, joint in zip(self.up, self.joints, strict=True):
            x, skip = up(x), skips.pop()
            height, width = (min(a, b) for a, b in zip(x.shape[2:], skip.shape[2:], strict=True))
            x = joint(torch.cat([skip[..., :height, :width], x[..., :height, :width]], 1))
        return x


class Holes(nn.Module):
    """Dilations side by side, as in DeepLab, after a stride: what is seen has holes and is no rectangle."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 2, 3, stride=2, padding=1)
        self.branches = nn.ModuleList(nn.Conv2d(2, 2, 3, padding=d, dilation=d) for d in (1, 4, 7))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return torch.cat([branch(x) for branch in self.branches], 1)


@pytest.mark.parametrize("up", ["transposed", "bilinear", "shuffle"])
def test_every_output_of_a_u_net(up: str) -> None:
    model, size = UNet(up), (1, 24, 20)
    held = Map(model, size)
    sizes = set()
    for y in range(0, held.y.shape[2], 3):
        for x in (0, 7, 8, 9, held.y.shape[3] - 1):
            found = receptive_fields(model, size, (y, x))
            assert (found.seen == held.seen((y, x))).all(), (y, x)
            sizes.add(tuple(last - first for first, last in found.bounds or ()))
    assert len(sizes) > 4
    assert found.numbers is None
    assert found.reason


@cache
def traced(model: nn.Module, size: tuple[int, ...], layer: str | None) -> Any:
    from svertka.explain import fields
    from svertka.explain.tracing import trace

    call = fields._named(trace(model, size, exact=True).calls, layer)
    return call, fields._named(trace(model, size).calls, call.name).field


def receptive_fields(
    model: nn.Module, size: tuple[int, ...], at: tuple[int, ...], layer: str | None = None
) -> ReceptiveField:
    """As `receptive_field`, but for many positions the model is followed once."""
    from svertka.explain import fields

    call, numbers = traced(model, size, layer)
    return fields.of_call(call, size, at, numbers)


def test_what_dilations_leave_out() -> None:
    model, size = Holes(), (1, 48, 40)
    held = Map(model, size)
    for at in [(0, 0), (12, 10), (23, 19), (5, 12)]:
        found = receptive_fields(model, size, at)
        assert (found.seen == held.seen(at)).all()
    middle = receptive_field(model, size, at=(12, 10))
    assert len(middle.pieces) == 3
    assert middle.intervals[1] == ((5, 7), (11, 13), (17, 23), (27, 29), (33, 35))
    assert middle.numbers is not None
    assert [axis.size for axis in middle.numbers] == [31, 31]
    assert "with holes" in str(middle)


def test_resnet50_through_its_branches_and_at_its_edges() -> None:
    model, size = models.resnet50(width=1, classes=2), (3, 260, 3)
    held = Map(model, size, "features.14.activation")
    for y in (0, 4, held.y.shape[2] - 1):
        found = receptive_fields(model, size, (y, 0), "features.14.activation")
        assert (found.seen == held.seen((y, 0))).all()


class Various(nn.Module):
    """All padding modes, a crop, a layout with the channels last, side-by-side maps, and a pool of uneven segments."""

    def __init__(self) -> None:
        super().__init__()
        modes = ("replicate", "reflect", "symmetric", "circular")
        self.pads = nn.ModuleList(ours.Conv2d(1, 1, 3, padding=2, dilation=2, padding_mode=mode) for mode in modes)
        self.dense, self.pool = nn.Linear(4, 1), nn.AdaptiveAvgPool2d((5, 9))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([pad(x) for pad in self.pads], 1).permute(0, 2, 3, 1)
        x = self.dense(x).permute(0, 3, 1, 2)[:, :, 1:, ::2]
        return torch.cat([self.pool(x), x[:, :, :5, :3] + x[:, :, :1, :1]], 3)


def test_other_ways_to_arrange_maps() -> None:
    model, size = Various(), (1, 12, 13)
    held = Map(model, size)
    for at in np.ndindex(*held.y.shape[2:]):
        assert (receptive_fields(model, size, at).seen == held.seen(at)).all(), at


def test_a_picture_added_to_its_transpose() -> None:
    class Net(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + x.transpose(2, 3)

    seen = receptive_field(Net(), (1, 4, 4), at=(1, 3)).seen
    assert np.argwhere(seen).tolist() == [[1, 3], [3, 1]]


def test_the_comparison_with_the_gradient_can_fail() -> None:
    model, size = Holes(), (1, 48, 40)
    held = Map(model, size)
    assert (receptive_fields(model, size, (12, 10)).seen != held.seen((12, 11))).any()
    found = receptive_fields(model, size, (12, 10))
    hull = ReceptiveField("", size, (), (), None, "", (tuple(map(np.logical_or.reduce, zip(*found.pieces))),))  # noqa: B905
    assert (hull.seen != held.seen((12, 10))).any()


def test_one_layer_and_its_numbers() -> None:
    e = svertka.explain(ours.Conv2d(2, 3, 3, 2, padding=1), np.ones((2, 7, 9)))
    found = e.receptive_field((0, 1))
    assert str(found) == "Conv2d at (0, 1) sees rows 0–1, columns 1–3 of 7×9"
    assert found.bounds == ((0, 1), (1, 3))
    assert found.numbers == (svertka.explain.receptive.AxisField(3, 2, -1),) * 2
    assert e.receptive_field((2, 0, 1)).bounds == found.bounds
    step = e.at(0, 0, 1)
    assert {term.source for term in step.terms} - {None} == set(map(tuple, np.argwhere(found.seen).tolist()))
    assert svertka.explain(ours.KMaxPool1d(2), np.ones(5)).receptive_field().bounds == ((0, 4),)


def test_fields_go_through_json() -> None:
    found = receptive_field(models.lenet(), (1, 28, 28), "features.1.pool", (0, 3))
    read = json.loads(json.dumps(found.to_dict()))
    assert read["intervals"] == [[[0, 9]], [[6, 21]]]
    assert read["numbers"][0] == {"size": 16, "stride": 4, "offset": -6, "whole": False}
    assert receptive_field(models.lenet(), (1, 28, 28)).bounds == ((0, 27), (0, 27))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"layer": "nothing"}, "calls no layer 'nothing': choose one of features.0.conv"),
        ({"layer": "features.0.pool", "at": (14, 0)}, r"no output at \(14, 0\).*\(32, 14, 14\)"),
        ({"layer": "features.0.pool", "at": (1,)}, "no output"),
        ({"input_size": (28,)}, "no spatial axes"),
        ({"input_size": (1, 28, 99999)}, "too long"),
        ({"input_size": (2, 28, 28)}, "cannot take"),
    ],
)
def test_fields_that_do_not_exist(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(GeometryError, match=words):
        receptive_field(**{"model": models.lenet(), "input_size": (1, 28, 28)} | arguments)


def test_what_cannot_be_known_is_refused_with_the_reason() -> None:
    class Net(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x @ x

    with pytest.raises(GeometryError, match="what matmul reads is not known"):
        receptive_field(Net(), (1, 4, 4))


def test_the_drawing_covers_what_is_seen() -> None:
    found = receptive_fields(Holes(), (1, 48, 40), (12, 10))
    root = ET.fromstring(found.svg())
    (path,) = [e.get("d", "") for e in root.iter() if e.get("class") == "seen"]
    assert path.count("M") == 2 * 3 + 2 * 3 + 1 + 5 + 1 == path.count("Z")
    assert found.svg() == found._repr_html_()


def test_a_picture_lies_under_the_field(tmp_path: Path) -> None:
    found = receptive_field(models.lenet(), (1, 28, 28), "features.1.pool")
    path = tmp_path / "picture.png"
    Image.new("L", (50, 40)).save(path)
    for picture in (path, np.zeros((28, 28)), torch.ones(3, 60, 50)):
        assert "data:image/png;base64," in found.svg(picture)
    with pytest.raises(DataError, match=r"\(2, 28, 28\)"):
        found.svg(np.zeros((2, 28, 28)))
    line = svertka.explain(ours.Conv1d(1, 1, 3, padding=2, dilation=2), np.ones(9)).receptive_field((0,))
    assert "told" in line.svg()
    with pytest.raises(DataError, match="two axes"):
        line.svg(path)
    assert "front" in receptive_field(nn.Sequential(nn.Conv3d(1, 1, 3)), (1, 5, 6, 7)).svg()
