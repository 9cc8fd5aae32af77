"""Receptive fields held against gradients: which inputs have a non-zero gradient where all weights are positive."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from svertka import models
from svertka import nn as ours
from svertka.explain import Row, summary
from svertka.explain.receptive import AxisField


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


def seen(output: Tensor, x: Tensor, place: tuple[int, ...]) -> list[tuple[int, int]] | None:
    """(first, last) input on each axis that the output at this place depends on; None if on none."""
    (gradient,) = torch.autograd.grad(output[(0, slice(None), *place)].sum(), x, retain_graph=True)
    axes = range(2, x.ndim)
    lines = [gradient.abs().sum([d for d in range(x.ndim) if d != axis]).nonzero().flatten() for axis in axes]
    return [(int(line[0]), int(line[-1])) for line in lines] if len(lines[0]) else None


def told(field: tuple[AxisField, ...], place: tuple[int, ...]) -> list[tuple[int, int]]:
    """The same from the summary's numbers, padding included."""
    starts = [axis.offset + p * (axis.stride or 0) for axis, p in zip(field, place, strict=True)]
    return [(start, start + axis.size - 1) for axis, start in zip(field, starts, strict=True)]


def agree(actual: list[tuple[int, int]] | None, expected: list[tuple[int, int]], size: tuple[int, ...]) -> bool:
    """Equal where the field lies in the input; elsewhere (taps may fall on inner padding) not beyond it."""
    inside = [bounds[0] >= 0 and bounds[1] < n for bounds, n in zip(expected, size, strict=True)]
    if actual is None:
        return not all(inside)
    return all(
        pair == bounds if whole else bounds[0] <= pair[0] and pair[1] <= bounds[1]
        for pair, bounds, whole in zip(actual, expected, inside, strict=True)
    )


def outputs(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """The last output of every module."""
    found: dict[str, Tensor] = {}
    for name, module in model.named_modules():
        module.register_forward_hook(lambda _, __, y, name=name: found.__setitem__(name, y.clone()))
    model(x)
    return found


def places(shape: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """The first, the middle and the last."""
    for share in (0, 0.5, 1):
        yield tuple(int(share * (n - 1)) for n in shape)


def check(model: nn.Module, size: tuple[int, ...], kinds: str = "") -> list[Row]:
    """Holds every row whose output is a map against the gradient; gives those rows."""
    model = positive(model)
    x = torch.ones(1, *size, dtype=torch.float64, requires_grad=True)
    rows = [row for row in summary(model, size).rows if row.receptive_field and len(row.output) == len(size)]
    rows = [row for row in rows if not kinds or row.kind in kinds.split()]
    found = outputs(model, x)
    for row in rows:
        if row.name in found:  # functions have no hooks
            y = found[row.name]
            for place in places(tuple(y.shape[2:])):
                assert agree(seen(y, x, place), told(row.receptive_field or (), place), size[1:]), (row, place)
    return rows


def test_lenet() -> None:
    rows = check(models.lenet(widths=(2, 2), hidden=4), (1, 28, 28))
    assert [row.receptive_field[0].size for row in rows] == [5, 5, 6, 14, 14, 16, 16]


def test_resnet18_through_its_branches_on_a_long_input() -> None:
    rows = check(models.resnet18(width=1, classes=2), (3, 700, 5), "ReLU MaxPool2d")
    assert rows[-1].receptive_field == (AxisField(435, 32, -217), AxisField(435, 32, -217))
    assert rows[-1].name == "features.8.activation"


def test_resnet50_through_its_branches() -> None:
    check(models.resnet50(width=1, classes=2), (3, 500, 3), "ReLU")


def test_mobilenet_and_alexnet() -> None:
    check(models.mobilenet(width=0.04, classes=2), (3, 350, 3), "ReLU")
    check(models.alexnet(1, 2, widths=(2, 2, 2, 2, 2), hidden=4), (1, 230, 67), "Conv2d ReLU MaxPool2d")


class Pyramid(nn.Module):
    """Dilations side by side, as in DeepLab, with functions and torch's own layers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 2, 3, stride=2, padding=1)
        self.branches = nn.ModuleList(nn.Conv2d(2, 2, 3, padding=d, dilation=d) for d in (1, 2, 5))
        self.mix = nn.Conv2d(8, 2, (1, 4), padding=(0, 3))
        self.last = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        x = torch.cat([F.relu(branch(x)) for branch in self.branches] + [F.avg_pool2d(x, 3, 1, 1)], dim=1)
        x = self.mix(x)
        return self.last(F.pad(x[:, :, 1::2, :-1], (2, 1)) + 1)


def test_dilations_side_by_side() -> None:
    rows = check(Pyramid(), (1, 70, 64))
    assert rows[-1].kind == "Identity"
    assert rows[-1].receptive_field == (AxisField(23, 4, -9), AxisField(29, 2, -21))


class Rearranged(nn.Module):
    """ConvNeXt's change of the layout and ShuffleNet's of the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 4, (4, 2), (4, 2))
        self.depthwise = nn.Conv2d(4, 4, 5, padding=2, groups=4)
        self.norm, self.dense = nn.LayerNorm(4), nn.Linear(4, 4)
        self.last = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.dense(self.norm(self.depthwise(x).permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
        x = x + y
        n, c, h, w = x.shape
        x = x.view(n, 2, c // 2, h, w).transpose(1, 2).flatten(1, 2)
        left, right = x.chunk(2, 1)
        return self.last(torch.cat((left, right * left), 1))


def test_changes_of_layout() -> None:
    rows = check(Rearranged(), (2, 48, 40), "Identity Conv2d")
    assert rows[-1].receptive_field == (AxisField(20, 4, -8), AxisField(10, 2, -4))


def test_three_axes_and_one() -> None:
    check(nn.Sequential(nn.Conv3d(1, 2, (3, 2, 1), (1, 2, 1)), nn.AvgPool3d(2, 1)), (1, 6, 9, 5))
    check(ours.SeparableConv1d(2, 3, 4, stride=2, padding="same_upper"), (2, 19))


@st.composite
def stacks(draw: st.DrawFn) -> nn.Module:
    """Convolutions and pools of random geometry, some with a branch that goes another way to the same place."""
    layers: list[nn.Module] = []
    for _ in range(draw(st.integers(1, 3))):
        size, stride, gap = draw(st.integers(1, 4)), draw(st.integers(1, 3)), draw(st.integers(1, 3))
        padding = [(draw(st.integers(0, 4)), draw(st.integers(0, 4)))]
        layers.append(ours.Conv1d(1, 1, size, stride, padding, gap))
        reach = draw(st.integers(0, 3))
        branch = ours.Conv1d(1, 1, 2 * reach + 1, padding=reach)
        layers.append(draw(st.sampled_from([nn.Identity(), models.Residual(branch, None)])))
    return nn.Sequential(*layers)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(stacks())
def test_random_geometries(stack: nn.Module) -> None:
    rows = check(nn.Sequential(stack, nn.Identity()), (1, 400))
    assert rows


def test_the_comparison_itself_fails_on_a_wrong_field() -> None:
    model = positive(nn.Sequential(nn.Conv2d(1, 1, 3, 2, 1)))
    x = torch.ones(1, 1, 16, 16, dtype=torch.float64, requires_grad=True)
    y, (row,) = model(x), summary(model, (1, 16, 16)).rows
    (axis, _), place = row.receptive_field, (3, 3)
    assert agree(seen(y, x, place), told((axis, axis), place), (16, 16))
    for wrong in (AxisField(4, 2, -1), AxisField(3, 1, -1), AxisField(3, 2, 0)):
        assert not agree(seen(y, x, place), told((axis, wrong), place), (16, 16))


def last_row(forward: Any, size: tuple[int, ...] = (4, 12, 12), *layers: nn.Module) -> Row:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(layers)

        def forward(self, x: Tensor) -> Tensor:
            return forward(x, *self.layers)

    return summary(Net(), size).rows[-1]


WHOLE = (AxisField(12, None, 0, whole=True),) * 2


@pytest.mark.parametrize(
    "forward",
    [
        lambda x: F.adaptive_avg_pool2d(x, 1),
        lambda x: x.mean((2, 3)),
        lambda x: x.mean(dim=(-2, -1), keepdim=True) * x,  # squeeze and excitation
        lambda x: torch.amax(x, (2, 3)),
        lambda x: F.linear(x.flatten(1), torch.ones(2, 4 * 144)),
        lambda x: F.linear(F.adaptive_avg_pool2d(x, 7).reshape(1, -1), torch.ones(2, 4 * 49)),
        lambda x: F.instance_norm(x),
        lambda x: F.group_norm(x, 2),
        lambda x: F.batch_norm(x, None, None, training=True),
        lambda x: F.batch_norm(x, torch.zeros(4), torch.ones(4), None, None, True),
        lambda x: F.layer_norm(x, x.shape[1:]),
        lambda x: x.sum(),
    ],
)
def test_what_sees_the_whole_input(forward: Any) -> None:
    assert last_row(forward).receptive_field == WHOLE


def test_what_is_left_out_is_not_counted_as_seen() -> None:
    strided = nn.Conv2d(4, 2, 3, stride=2)  # 12 → 5: the last line is read by none
    row = last_row(lambda x, conv: F.adaptive_max_pool2d(conv(x), 1), (4, 12, 12), strided)
    assert row.receptive_field == (AxisField(11, None, 0),) * 2
    row = last_row(lambda x: x[:, :, 3, 2:5].mean(2))
    assert row.receptive_field == (AxisField(1, None, 3), AxisField(3, None, 2))


def test_batch_norm_with_known_statistics_sees_single_places() -> None:
    row = last_row(lambda x: F.batch_norm(x, torch.zeros(4), torch.ones(4)))
    assert row.receptive_field == (AxisField(1, 1, 0),) * 2


def test_softmax_sees_along_its_dimension_only() -> None:
    assert last_row(lambda x: x.softmax(1)).receptive_field == (AxisField(1, 1, 0),) * 2
    assert last_row(lambda x: x.softmax(-1)).receptive_field == (AxisField(1, 1, 0), WHOLE[0])


@pytest.mark.parametrize(
    ("forward", "reason"),
    [
        (lambda x: F.max_pool2d(x, 2) + x[:, :, 3:9, 3:9], "branches with strides 2 and 1"),
        (lambda x: F.interpolate(x, scale_factor=2) + 1, "upsampled places share the window"),
        (lambda x: F.conv_transpose2d(x, torch.ones(4, 1, 2, 2), stride=2), "transposed convolution"),
        (lambda x: F.adaptive_avg_pool2d(x, 5), "adaptive pooling of 12 places to 5 uses uneven windows"),
        (lambda x: x.flatten(1), "each element keeps the field of its own place"),
        (lambda x: torch.cat([x, x], 2), "side by side"),
        (lambda x: x + x.transpose(2, 3), "different axes"),
        (lambda x: x @ x, "what matmul reads is not known"),
        (lambda x: torch.fft.fft2(x).real, "what fft_fft2 reads is not known"),
        (lambda x: x.view(1, 4, 2, 6, 12), "cuts an axis of the picture apart"),
        (lambda x: x.chunk(2, 3)[0], "cut apart along an axis of the picture"),
        (lambda x: x[:, :, [0, 3]], "an index picks single places"),
        (lambda x: F.conv2d(x, x[:, :, :3, :3]), "the weights depend on the input"),
        (lambda x: F.linear(x, x[0, 0]), "linear depends on the input through other arguments than its first"),
        (lambda x: F.adaptive_avg_pool2d(x, 5)[:, :, 1:], "and some places are read by none"),
        (lambda x: F.interpolate(x, size=6), "some places are read by none"),
    ],
)
def test_what_cannot_be_known_is_said(forward: Any, reason: str) -> None:
    row = last_row(forward)
    assert row.receptive_field is None
    assert reason in row.reason


def test_writing_to_a_part_of_a_tensor_is_said() -> None:
    def forward(x: Tensor) -> Tensor:
        y = torch.zeros(1, 4, 12, 12)
        y[:, :, 2:] = x[:, :, 2:]
        return F.relu(y)

    assert "part by part" in last_row(forward).reason


def test_a_u_net_tells_where_its_fields_become_uneven() -> None:
    class UNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.down, self.deep = nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(2, 4, 3, padding=1)
            self.up, self.out = nn.ConvTranspose2d(4, 2, 2, 2), nn.Conv2d(4, 1, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            x = F.relu(self.down(x))
            return self.out(torch.cat([x, self.up(F.relu(self.deep(F.max_pool2d(x, 2))))], 1)).mean((2, 3))

    rows = {row.name: row for row in summary(UNet(), (1, 16, 16)).rows}
    assert rows["deep"].receptive_field == (AxisField(8, 2, -3),) * 2
    assert all("transposed" in rows[name].reason for name in ("up", "cat", "out"))
    assert rows["mean"].receptive_field == (AxisField(16, None, 0, whole=True),) * 2
