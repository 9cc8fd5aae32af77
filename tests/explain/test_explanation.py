"""svertka.explain on the user's own numbers: what comes out, and what is said about what can't be explained."""

import subprocess
import sys

import numpy as np
import pytest
import torch

import svertka
from svertka import nn, spec
from svertka.errors import DataError, GeometryError
from svertka.window import Window

PICTURE = [[3, 3, 2, 1, 0], [0, 0, 1, 3, 1], [3, 1, 2, 2, 3], [2, 0, 0, 2, 2], [2, 0, 0, 0, 1]]
OTHER = [[1, 2, 3, 1, 0], [3, 4, 5, 2, 1], [1, 0, 2, 3, 4], [0, 1, 3, 1, 2], [1, 2, 4, 2, 3]]
KERNEL = [[0, 1, 2], [2, 2, 0], [0, 1, 2]]


def convolution(kernel, *arguments, **named):
    weight = torch.tensor(kernel, dtype=torch.float64)
    layer = getattr(nn, f"Conv{weight.ndim}d")(1, 1, tuple(weight.shape), *arguments, bias=False, **named)
    layer.weight.data = weight[None, None]
    return layer


@pytest.mark.parametrize(
    ("layer", "x", "expected"),
    [
        (convolution([-1, 0, 1]), [1, 2, 3, 4, 5, 5, 4, 3, 2, 1], [2, 2, 2, 1, -1, -2, -2, -2]),
        (convolution([-1, 0, 2, 0, -1], padding="same"), [1, 2, 3, 4, 5], [-1, 0, 0, 6, 7]),
        (convolution([-1, 0, 2, 0, -1], padding=2, padding_mode="replicate"), [1, 2, 3, 4, 5], [-2, -1, 0, 1, 2]),
        (convolution([-1, 0, 2, 0, -1], padding=2, padding_mode="symmetric"), [1, 2, 3, 4, 5], [-3, -1, 0, 1, 3]),
        (convolution([-1, 0, 2, 0, -1], padding=2, padding_mode="circular"), [1, 2, 3, 4, 5], [-5, -5, 0, 5, 5]),
        (convolution([[0, 1], [1, -1]]), [[1, 2, 3], [3, 4, 5], [1, 0, 2]], [[1, 2], [5, 3]]),
        (convolution(KERNEL), PICTURE, [[12, 12, 17], [10, 17, 19], [9, 6, 14]]),
        (convolution(KERNEL, 2, 1), PICTURE, [[6, 17, 3], [8, 17, 13], [6, 4, 4]]),
        (convolution([[0, 1, 0], [1, 0, -1], [0, -1, 0]], 2), OTHER, [[0, 2], [-5, 2]]),
    ],
)
def test_the_lectures_numbers_are_spelled_out(layer, x, expected):
    e = svertka.explain(layer, x)
    assert e.output[0].tolist() == expected
    assert [step.result for step in e.steps] == np.ravel(expected).tolist()
    assert [frame.formula[-1] for frame in e.frames()] == [f"= {n}".replace("-", "−") for n in np.ravel(expected)]


def test_one_object_has_the_steps_the_matrix_and_the_frames():
    e = svertka.explain(convolution([-1, 0, 1]), torch.tensor([[[1.0, 2, 3, 5]]]))
    assert e.x.shape == (1, 4) and e.output.tolist() == [[2, 3]]
    assert (e.matrix() @ e.x.ravel()).tolist() == [2, 3]
    assert e.matrix_names() == [["k1", "k2", "k3", "0"], ["0", "k1", "k2", "k3"]]
    assert e.at(0, 1) == e.steps[1] and e.at(0, 1).result == 3
    assert e.to_dict()["steps"][0]["terms"][0] == {
        "channel": 0, "tap": (0,), "place": (0,), "source": (0,), "value": 1, "weight": -1, "product": -1,
        "chosen": False,
    }  # fmt: skip
    assert [frame.step for frame in e.frames()] == list(e.steps)
    assert e.svg(1).startswith("<svg") and "player" in e._repr_html_()
    assert e.title in repr(e)


def test_flip_is_true_convolution_and_says_so():
    kernel, x = [1.0, 2, 4], [1.0, 0, 0, 3, 5]
    e = svertka.explain(convolution(kernel), x, flip=True)
    assert e.output[0].tolist() == np.convolve(x, kernel, "valid").tolist()
    assert "true convolution" in e.title
    assert e.output.tolist() != svertka.explain(convolution(kernel), x).output.tolist()
    with pytest.raises(GeometryError, match="no kernel to flip"):
        svertka.explain(nn.MaxPool1d(2), x, flip=True)


def test_a_spec_is_explained_with_a_kernel_of_one_channel():
    window = Window(3, padding=(1, 1))
    e = svertka.explain(spec.Convolution((window,)), [1, 2, 3], weight=[1, 0, -1], bias=10)
    assert e.output.tolist() == [[8, 8, 12]]
    assert e.frames()[0].formula == ("0·1", "+ 1·0", "+ 2·(−1)", "+ 10 [bias]", "= 8")
    assert svertka.explain(spec.WeightedPool((Window(2),)), [1, 2, 5], weight=[1, 3]).output.tolist() == [[1.75, 4.25]]


TITLES = {
    "Conv2d 3×3, stride 2, padding (1, 1) symmetric, 5×5 → 3×3": (
        nn.Conv2d(1, 1, 3, 2, 1, padding_mode="symmetric"), (5, 5)
    ),
    "Conv2d 3×1, stride 1 × 2, dilation 2 × 1, 2 groups, 2×5×5 → 4×1×3": (
        nn.Conv2d(2, 4, (3, 1), (1, 2), dilation=(2, 1), groups=2), (2, 5, 5)
    ),
    "Conv1d kernel 3, stride 2, padding same_upper, 5 → 3": (nn.Conv1d(1, 1, 3, 2, "same_upper"), (5,)),
    "ConvTranspose1d kernel 3, stride 2, padding (1, 1), output padding 1, 4 → 8": (
        torch.nn.ConvTranspose1d(1, 1, 3, 2, 1, output_padding=1), (4,)
    ),
    "AvgPool1d kernel 3, stride 2, padding (1, 1), rounded up, padding not counted, 6 → 4": (
        nn.AvgPool1d(3, 2, padding=1, ceil_mode=True, count_include_pad=False), (6,)
    ),
    "LPPool1d kernel 2, stride 2, p = 3, 4 → 2": (nn.LPPool1d(3, 2), (4,)),
    "AdaptiveMaxPool2d, 5×5 → 2×3": (nn.AdaptiveMaxPool2d((2, 3)), (5, 5)),
    "KMaxPool1d, the 2 largest, their order kept, 5 → 2": (nn.KMaxPool1d(2), (5,)),
    "Pad1d, padding (2, −1), value 7, 5 → 6": (nn.Pad1d((2, -1), value=7), (5,)),
}  # fmt: skip


@pytest.mark.parametrize("title", TITLES)
def test_the_title_says_what_it_is(title):
    layer, size = TITLES[title]
    assert svertka.explain(layer, np.ones(size)).title == title


@pytest.mark.parametrize(
    ("x", "error", "words"),
    [
        ([[1, 2, 3], [4, 5], [6, 7, 8]], DataError, "the input is ragged: row 2 has 2 entries where the others have 3"),
        ([[[1, 2, 3]] * 3, [[1, 2, 3], [1, 2], [1, 2, 3]]], DataError, "row 2 of part 2 has 2 entries"),
        ([1, [2, 3]], DataError, "mixes numbers and rows"),
        ([], DataError, "is empty"),
        (np.zeros((1, 0, 3)), DataError, r"\(1, 0, 3\) is empty"),
        ([[1, "two", 3]] * 3, DataError, "is no number"),
        ([[1.0, float("nan"), 3]] * 3, DataError, r"nan at \(0, 1\): give finite numbers"),
        (torch.full((3, 3), torch.inf), DataError, r"inf at \(0, 0\)"),
        (torch.zeros(3, 3, dtype=torch.complex64), DataError, "complex"),
        ([1, 2, 3], GeometryError, "does not fit an operation on 2 spatial axes"),
        (torch.zeros(2, 1, 3, 3), GeometryError, "give one picture"),
        (torch.zeros(2, 3, 3), GeometryError, "Conv2d expects 1 channel, but the input has 2 channels"),
        (torch.zeros(2, 2), GeometryError, "height: a kernel of 3 taps .* is larger than the padded input"),
    ],
)
def test_input_that_cannot_be_explained_is_told_in_one_sentence(x, error, words):
    with pytest.raises(error, match=words) as told:
        svertka.explain(nn.Conv2d(1, 1, 3), x)
    assert "\n" not in str(told.value)


def test_weights_that_do_not_fit_are_told():
    conv = spec.Convolution((Window(3),))
    with pytest.raises(GeometryError, match="Convolution has no weights: give"):
        svertka.explain(conv, [1, 2, 3])
    with pytest.raises(GeometryError, match="a kernel of 2 does not fit windows of 3"):
        svertka.explain(conv, [1, 2, 3], weight=[1, 2])
    with pytest.raises(GeometryError, match="bias of shape"):
        svertka.explain(conv, [1, 2, 3], weight=[1, 2, 3], bias=[1, 2])
    with pytest.raises(DataError, match="the kernel is ragged"):
        svertka.explain(spec.Convolution((Window(2), Window(2))), np.ones((3, 3)), weight=[[1, 2], [3]])
    with pytest.raises(GeometryError, match="leave weight and bias out"):
        svertka.explain(nn.MaxPool1d(2), [1, 2], weight=[1])
    with pytest.raises(GeometryError, match="groups"):
        svertka.explain(spec.Convolution((Window(1),), groups=2), np.ones((2, 3)), weight=np.ones((3, 1, 1)))
    local = nn.LocallyConnected1d(1, 1, 2, input_size=4)
    with pytest.raises(GeometryError, match="the layer's own size"):
        svertka.explain(local, [1, 2, 3, 4, 5])
    with pytest.raises(GeometryError, match="ReLU is not one operation"):
        svertka.explain(torch.nn.ReLU(), [1])
    with pytest.raises(GeometryError, match="no output channel 1"):
        svertka.explain(nn.MaxPool1d(2), [1, 2]).frames(channel=1)


def test_importing_the_package_does_not_import_torch():
    code = "import sys, svertka.explain; assert callable(svertka.explain) and 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_path_tells_who_computes() -> None:
    line = [[1, 2, 3, 4]]
    assert svertka.explain(nn.Conv1d(1, 1, 3), line).path.startswith("kernel: few channels")
    assert svertka.explain(nn.WeightedAvgPool1d(2), line).path.startswith("kernel: ")
    with svertka.using("portable"):
        assert svertka.explain(nn.Conv1d(1, 1, 3), line).path == "portable: the portable engine was asked for"
