"""Multiply-adds held against published figures, the lecture's, and torch's own counter."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from svertka import models
from svertka import nn as ours
from svertka.explain import summary


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("resnet18", 1_814_073_344),  # this and the next: torchvision's model pages, 1.814 and 4.089 G
        ("resnet50", 4_089_184_256),
        ("vgg11", 7_609_090_048),  # this and the next: torchvision's model pages, 7.609 and 15.470 G
        ("vgg16", 15_470_264_320),
        ("alexnet", 724_406_816),  # 724 M of Caffe's bvlc_alexnet with two groups
        ("mobilenet", 568_740_352),  # Howard et al. 2017, table 8: 569 M
    ],
)
def test_published_figures(name: str, expected: int) -> None:
    with torch.device("meta"):
        model = models.create(name, 3, 1000)
    assert summary(model, (3, 224, 224)).macs == expected


def test_the_lecture_s_figures() -> None:
    found = summary(ours.Conv2d(3, 6, 5), (3, 32, 32))
    assert (found.parameters, found.macs) == (456, 352_800)
    assert summary(nn.Linear(3072, 4704), (3072,)).parameters == 14_455_392
    regular = summary(ours.Conv2d(3, 16, 3, padding="same", bias=False), (3, 128, 128))
    assert (regular.parameters, regular.macs) == (432, 7_077_888)
    separable = summary(ours.SeparableConv2d(3, 16, 3, padding="same", bias=False), (3, 128, 128))
    assert (separable.parameters, separable.macs) == (75, 1_228_800)


def test_operations_that_torch_s_counter_does_not_see() -> None:
    unshared = ours.LocallyConnected2d(4, 6, 3, (7, 5), groups=2)
    assert summary(unshared, (4, 7, 5)).macs == unshared.weight.numel() == 5 * 3 * 6 * 2 * 9
    assert summary(ours.WeightedAvgPool2d(2), (3, 8, 8)).macs == 3 * 4 * 4 * 4


@pytest.mark.parametrize(
    ("model", "size"),
    [
        (nn.Conv1d(4, 6, 3, 2, padding=3, dilation=2, groups=2), (4, 20)),
        (nn.Conv2d(4, 4, (3, 2), padding=1, groups=4), (4, 9, 7)),
        (nn.Conv3d(2, 3, 2, bias=False), (2, 4, 5, 6)),
        (nn.ConvTranspose2d(4, 6, 3, 2, 1, groups=2), (4, 5, 6)),
        (nn.Linear(7, 5), (3, 7)),
    ],
)
def test_agrees_with_torch_s_counter(model: nn.Module, size: tuple[int, ...]) -> None:
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, *size))
    assert 0 < counter.get_total_flops() == 2 * summary(nn.Sequential(model), size).macs


def test_recurrent_and_attention_layers_are_counted_by_torch() -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.attention(x, x, x)[0]

    assert summary(nn.LSTM(4, 5, batch_first=True), (6, 4)).macs == 6 * 4 * (4 * 5 + 5 * 5)
    assert summary(Attention(), (3, 8)).macs == 3 * 8 * 24 + 2 * (3 * 3 * 8) + 3 * 8 * 8


@pytest.mark.parametrize(
    ("forward", "expected"),
    [
        (lambda x: x @ x, 4 * 6 * 6 * 6),
        (lambda x: torch.einsum("nchw,ncvw->nchv", x, x), 4 * 6 * 6 * 6),
        (lambda x: F.relu(x) + x * 2, 0),
    ],
)
def test_functions_in_the_forward_method_are_counted(forward: Callable[[Tensor], Tensor], expected: int) -> None:
    class Net(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return forward(x)

    assert summary(Net(), (4, 6, 6)).macs == expected
