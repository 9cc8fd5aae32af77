"""Costs held against published figures, the lecture's, brute force, and torch's own counter."""

import copy
import io
import json
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from rich.console import Console
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import svertka
from svertka import models
from svertka import nn as ours
from svertka.errors import GeometryError
from svertka.explain import summary
from svertka.explain.cost import costs


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


class Branches(nn.Module):
    """Joined and added branches, transposed, grouped and dilated convolutions, matrix products."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2))
        self.branches = nn.ModuleList(nn.Conv2d(8, 4, 3, padding=d, dilation=d, groups=4) for d in (1, 2))
        self.up, self.head = nn.ConvTranspose2d(8, 4, 2, 2), nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.down(x)
        x = self.up(torch.cat([branch(x) for branch in self.branches], 1) + x).flatten(2)
        return self.head((x @ x.mT).mean(1))


@pytest.mark.parametrize(
    ("model", "size"),
    [
        (models.lenet(widths=(4, 6), hidden=8), (1, 28, 28)),
        (models.resnet18(width=4, classes=3), (3, 40, 32)),
        (models.mobilenet(width=0.125, classes=3), (3, 32, 32)),
        (Branches(), (3, 20, 24)),
        (nn.Sequential(nn.Flatten(2), nn.TransformerEncoderLayer(16, 2, 8, batch_first=True)), (6, 4, 4)),
    ],
)
def test_networks_agree_with_torch_s_counter(model: nn.Module, size: tuple[int, ...]) -> None:
    with FlopCounterMode(display=False) as counter, torch.device("meta"):
        copied = copy.deepcopy(model).to("meta").train()  # in training attention has no fused kernel
        copied(torch.zeros(2, *size))
    assert 0 < counter.get_total_flops() == 2 * 2 * summary(model, size).macs


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize(
    "layer",
    [
        nn.LSTM(4, 5, num_layers=2, bidirectional=True, batch_first=True),
        nn.LSTM(4, 6, proj_size=3, batch_first=True),
        nn.GRU(4, 5, batch_first=True),
        nn.RNN(4, 5, nonlinearity="relu", batch_first=True),
        nn.MultiheadAttention(4, 2, batch_first=True),
    ],
)
def test_fused_kernels_are_counted_where_the_network_has_to_be_computed(layer: nn.Module) -> None:
    class Net(nn.Module):
        def __init__(self, looking: bool) -> None:
            super().__init__()
            self.layer, self.looking = layer, looking

        def forward(self, x: Tensor) -> Tensor:
            if self.looking and float(x.sum()) > 1e9:  # has no answer without numbers
                return x
            return self.layer(x, x, x)[0] if isinstance(self.layer, nn.MultiheadAttention) else self.layer(x)[0]

    computed, outlined = summary(Net(True), (6, 4)), summary(Net(False), (6, 4))
    assert "run on zeros" in computed.notes[0]
    assert computed.macs == outlined.macs > 0
    if not isinstance(layer, nn.MultiheadAttention):
        assert computed.macs == 6 * sum(p.numel() for p in layer.parameters() if p.ndim > 1)


def test_packed_sequences_are_counted_step_by_step() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(4, 5, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            packed = nn.utils.rnn.pack_padded_sequence(x, torch.tensor([4], device="cpu"), batch_first=True)
            return self.lstm(packed)[1][0]

    assert summary(Net(), (6, 4)).macs == 4 * 4 * (4 * 5 + 5 * 5)


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


def test_a_dense_layer_from_picture_to_picture_beside_a_convolution() -> None:
    found = costs(nn.Conv2d(3, 3, 3, padding=1, bias=False), (3, 256, 256))
    assert found.inputs == found.outputs == 196_608
    assert found.others["dense"].weights == 38_654_705_664


def test_from_tensor_to_tensor() -> None:
    found = costs(nn.Conv2d(3, 6, 5), (3, 32, 32))
    assert (found.weights, found.parameters, found.macs, found.flops) == (450, 456, 352_800, 705_600)
    assert found.others["dense"].parameters == 14_455_392
    assert found.others["unshared"].parameters == 28 * 28 * 456
    assert found.bytes == 4 * (3072 + 456 + 4704)
    assert found.intensity == 705_600 / found.bytes
    assert found.count(bias=True) == 352_800 + 4704
    assert found.count(flops=True, bias=True) == 705_600 + 4704


def test_regular_beside_separable() -> None:
    found = costs(ours.Conv2d(3, 16, 3, padding="same", bias=False), (3, 128, 128))
    separable = found.others["separable"]
    assert (found.weights, found.macs) == (432, 7_077_888)
    assert (separable.weights, separable.macs) == (75, 1_228_800)
    actual = summary(ours.SeparableConv2d(3, 16, 3, 2, "same_upper"), (3, 13, 9))
    separable = costs(ours.Conv2d(3, 16, 3, 2, "same_upper"), (3, 13, 9)).others["separable"]
    assert (separable.parameters, separable.macs) == (actual.parameters, actual.macs)


@pytest.mark.parametrize(
    "layer",
    [
        ours.Conv2d(4, 6, (3, 2), (2, 1), [(1, 0), (2, 3)], (1, 2), groups=2),
        ours.Conv2d(4, 6, 3, padding=2, padding_mode="circular"),
        ours.ConvTranspose2d(4, 6, 3, 2, 1, 1, groups=2),
        ours.LocallyConnected2d(4, 6, 3, (5, 7), padding=1),
        ours.WeightedAvgPool2d(3, 2, 1),
    ],
)
def test_taps_that_read_nothing_are_counted_by_the_steps(layer: nn.Module) -> None:
    """The steps list every term; the matrix that they make has none on the padding."""
    e = svertka.explain(layer, np.ones((4, 5, 7)))
    terms = [term for step in e.steps for term in step.terms]
    assert e.cost.macs_inside == e.cost.count(padding=False) == sum(term.source is not None for term in terms)
    if not isinstance(layer, ours.ConvTranspose2d):
        assert e.cost.macs == len(terms)
    if isinstance(layer, (ours.Conv2d, ours.LocallyConnected2d)):
        other = e.cost.others["unshared" if isinstance(layer, ours.Conv2d) else "convolution"]
        assert (other.macs, other.macs_inside) == (e.cost.macs, e.cost.macs_inside)


def test_layers_without_weights_multiply_nothing() -> None:
    found = costs(nn.MaxPool2d(2), (3, 8, 8))
    assert (found.parameters, found.macs, found.macs_inside, found.others) == (0, 0, 0, {})
    assert found.bytes == 4 * 3 * (64 + 16)
    assert costs(ours.KMaxPool1d(3), (2, 9)).outputs == 6


def test_costs_as_a_table_and_as_json() -> None:
    found = costs(nn.Conv2d(3, 6, 5), (3, 32, 32))
    stream = io.StringIO()
    Console(file=stream, width=80).print(found)
    shown = [" ".join(line.split()) for line in stream.getvalue().splitlines()]
    assert shown[0] == "3×32×32 → 6×28×28"
    assert "weights and biases 456 357 504 14 455 392 99" in shown
    read = json.loads(json.dumps(found.to_dict()))
    assert read["others"]["dense"]["parameters"] == 14_455_392
    assert math.prod(read["shapes"][1]) == read["outputs"] == 4704


@pytest.mark.parametrize(("shape", "words"), [((1, 9, 9), "takes 3 channels"), ((3, 9), "2 sizes"), ((3, 2, 9), "tap")])
def test_costs_of_what_does_not_fit(shape: tuple[int, ...], words: str) -> None:
    with pytest.raises(GeometryError, match=words):
        costs(nn.Conv2d(3, 6, 5), shape)
