"""The numbers of the lecture's slides, out of the layers, out of the reference, and out of the index map.

Where a slide itself is wrong the right value stands here, and the slide's beside it.
"""

import numpy as np
import pytest
import torch
from torch.nn import Linear

from svertka import functional as F
from svertka import nn, reference, spec
from svertka.window import sources

STEPS = [[3, 3, 2, 1, 0], [0, 0, 1, 3, 1], [3, 1, 2, 2, 3], [2, 0, 0, 2, 2], [2, 0, 0, 0, 1]]
STEPS_KERNEL = [[0, 1, 2], [2, 2, 0], [0, 1, 2]]
SQUARE = [[1, 2, 3], [3, 4, 5], [1, 0, 2]]
SQUARE_KERNEL = [[0, 1], [1, -1]]


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)[None, None]


def convolve(values, kernel, **arguments):
    """The layer's result, after the reference has agreed with it."""
    x, weight = tensor(values), tensor(kernel)
    kind = (nn.Conv1d, nn.Conv2d)[x.ndim - 3]
    layer = kind(1, 1, tuple(weight.shape[2:]), bias=False, dtype=torch.float64, **arguments)
    layer.load_state_dict({"weight": weight})
    with torch.no_grad():
        result = layer(x)
    np.testing.assert_array_equal(result.numpy(), reference.run(layer.operation, x.numpy(), weight.numpy(), None))
    return result[0, 0].tolist()


def test_slide_3_too_many_parameters():
    pixels = 256 * 256 * 3
    assert pixels == 196_608
    dense = Linear(pixels, pixels, bias=False, device="meta")
    assert dense.weight.numel() == 38_654_705_664  # the slide's 3.9e9 is ten times too low
    assert sum(p.numel() for p in nn.Conv2d(3, 3, 3, padding=1).parameters()) == 84


def test_slide_5_convolution_in_one_dimension():
    signal = [1, 2, 3, 4, 5, 5, 4, 3, 2, 1]
    assert convolve(signal, [-1, 0, 1]) == [2, 2, 2, 1, -1, -2, -2, -2]
    # Cross-correlation: the flipped kernel gives the convolution of signal processing.
    assert convolve(signal, [1, 0, -1]) == np.convolve(signal, [-1, 0, 1], "valid").tolist()


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("zeros", [-1, 0, 0, 6, 7]),
        ("replicate", [-2, -1, 0, 1, 2]),  # the lecture's "constant"
        ("symmetric", [-3, -1, 0, 1, 3]),  # the lecture's mirror
        ("circular", [-5, -5, 0, 5, 5]),
        ("reflect", [-4, -2, 0, 2, 4]),
    ],
)
def test_slide_6_paddings(mode, expected):
    assert convolve([1, 2, 3, 4, 5], [-1, 0, 2, 0, -1], padding="same", padding_mode=mode) == expected


def test_slide_7_convolution_in_two_dimensions():
    assert convolve(SQUARE, SQUARE_KERNEL) == [[1, 2], [5, 3]]
    cube = tensor([SQUARE, SQUARE])
    weight = tensor([SQUARE_KERNEL, SQUARE_KERNEL])
    assert F.conv3d(cube, weight)[0, 0].tolist() == [[[2, 4], [10, 6]]]


def test_slide_8_convolution_step_by_step():
    assert convolve(STEPS, STEPS_KERNEL) == [[12, 12, 17], [10, 17, 19], [9, 6, 14]]
    assert convolve(STEPS, STEPS_KERNEL, stride=2, padding=1) == [[6, 17, 3], [8, 17, 13], [6, 4, 4]]


def test_slide_12_valid_and_same():
    assert convolve(SQUARE, SQUARE_KERNEL, padding="valid") == [[1, 2], [5, 3]]
    expected = [[1, 2, 5], [5, 3, 2], [0, 2, 0]]  # the slide prints a 4 in place of the second row's 2
    assert convolve(SQUARE, SQUARE_KERNEL, padding="same") == expected
    assert convolve(SQUARE, SQUARE_KERNEL, padding="same_upper") == expected


def test_slide_13_stride():
    values = [[1, 2, 3, 1, 0], [3, 4, 5, 2, 1], [1, 0, 2, 3, 4], [0, 1, 3, 1, 2], [1, 2, 4, 2, 3]]
    kernel = [[0, 1, 0], [1, 0, -1], [0, -1, 0]]
    assert convolve(values, kernel, stride=2) == [[0, 2], [-5, 2]]
    assert convolve(values, kernel, stride=(2, 1)) == convolve(values, kernel)[::2]


def test_slide_14_parameters_and_output_size():
    layer = nn.Conv2d(4, 6, (3, 5), stride=(2, 1), padding=(1, 2), dilation=(1, 2), groups=2, bias=True)
    assert layer.weight.shape == (6, 2, 3, 5)
    assert layer.bias.shape == (6,)
    height, width = 10, 12
    expected = ((height + 2 * 1 - 1 * (3 - 1) - 1) // 2 + 1, (width + 2 * 2 - 2 * (5 - 1) - 1) // 1 + 1)
    assert layer(torch.zeros(1, 4, height, width)).shape[2:] == expected == layer.operation.output_size((10, 12))


def test_slide_15_convolution_as_a_matrix():
    windows = spec.windows(2, 2)
    table = sources(windows, (3, 3)).reshape(4, 4)
    names = np.array(["k11", "k12", "k21", "k22"])
    matrix = np.full((4, 9), "0", dtype="<U3")
    np.put_along_axis(matrix, table, names[None], axis=1)
    assert matrix.tolist() == [
        ["k11", "k12", "0", "k21", "k22", "0", "0", "0", "0"],
        ["0", "k11", "k12", "0", "k21", "k22", "0", "0", "0"],
        ["0", "0", "0", "k11", "k12", "0", "k21", "k22", "0"],
        ["0", "0", "0", "0", "k11", "k12", "0", "k21", "k22"],
    ]
    kernel = np.array(SQUARE_KERNEL, dtype=float)
    numbers = np.zeros((4, 9))
    np.put_along_axis(numbers, table, kernel.reshape(1, 4), axis=1)
    x = tensor(SQUARE).requires_grad_()
    y = F.conv2d(x, tensor(SQUARE_KERNEL))
    # The vector is x11, x12, x13, x21, …: seven of the slide's indices are wrong (x21 for x12 and so on).
    assert (numbers @ np.array(SQUARE).reshape(-1)).tolist() == y.reshape(-1).tolist()
    y.backward(tensor([[1, 2], [3, 4]]))
    assert (numbers.T @ [1, 2, 3, 4]).tolist() == x.grad.reshape(-1).tolist()


def test_slide_17_average_pooling():
    result = nn.AvgPool2d(3, stride=1)(tensor(STEPS))[0, 0]
    assert np.round(result.numpy(), 1).tolist() == [[1.7, 1.7, 1.7], [1.0, 1.2, 1.8], [1.1, 0.8, 1.3]]
    assert nn.MaxPool2d(3, stride=1)(tensor(STEPS))[0, 0].tolist() == [[3, 3, 3], [3, 3, 3], [3, 2, 3]]


def test_slide_18_kinds_of_pooling():
    x = tensor([[1, 3], [-2, 2]])
    assert nn.WeightedAvgPool2d(2, weight=[[1, 2], [1, 0]], dtype=torch.float64)(x).item() == (1 + 6 - 2) / 4
    assert nn.LPPool2d(2, 2)(x).item() == pytest.approx(18**0.5)
    assert nn.LPPool2d(1, 2)(x).item() == 8  # the signed input does not cancel
    assert nn.StochasticPool2d(2).eval()(x).item() == pytest.approx((1 + 9 + 4) / 6)
    many = x.expand(1, 60_000, 2, 2)
    drawn = nn.StochasticPool2d(2, generator=torch.Generator().manual_seed(0))(many).flatten()
    shares = [(drawn == value).double().mean().item() for value in (1, 2, 3)]
    assert shares == pytest.approx([1 / 6, 2 / 6, 3 / 6], abs=0.01)  # five standard deviations
    assert sum(shares) == pytest.approx(1)
    sentence = torch.tensor([[[3.0, 1, 5, 4, 2]]])
    assert nn.KMaxPool1d(3)(sentence).tolist() == [[[3, 5, 4]]]
    assert nn.DynamicKMaxPool1d(k_top=2, layer=1, layers=2)(sentence).tolist() == [[[3, 5, 4]]]
    assert nn.DynamicPool1d(2)(sentence).tolist() == [[[3, 5]]]
    assert nn.DynamicPool1d()(sentence, torch.tensor([[3]])).tolist() == [[[5, 4]]]


def test_slide_19_gradients_of_pooling():
    def gradient(layer, values):
        x = tensor(values).requires_grad_()
        layer(x).sum().backward()
        return x.grad[0, 0].tolist()

    assert gradient(nn.MaxPool2d(2), [[1, 3], [3, 2]]) == [[0, 1], [0, 0]]  # the first maximum on ties
    assert gradient(nn.AvgPool2d(2), [[1, 3], [3, 2]]) == [[0.25, 0.25], [0.25, 0.25]]
    assert np.allclose(gradient(nn.LPPool2d(2, 2), [[3, 0], [0, -4]]), [[0.6, 0], [0, -0.8]], rtol=1e-15, atol=0)
    generator = torch.Generator().manual_seed(1)
    [[a, b], [c, d]] = gradient(nn.StochasticPool2d(2, generator=generator), [[1, 3], [-3, 2]])
    assert sorted([a, b, c, d]) == [0, 0, 0, 1]
    assert c == 0  # a negative value is never drawn


def test_slide_20_pooling_to_a_given_size():
    x = torch.arange(35.0).view(1, 1, 5, 7)
    assert nn.AdaptiveMaxPool2d((2, 3))(x)[0, 0].tolist() == [[16, 18, 20], [30, 32, 34]]
    assert nn.AdaptiveAvgPool2d(1)(x).item() == 17
    assert nn.MaxPool2d(2, stride=2)(torch.zeros(1, 1, 8, 6)).shape == (1, 1, 4, 3)
    for size in [(1, 1), (4, 9), (40, 23)]:
        assert nn.AdaptiveLPPool2d(2, (3, 2))(torch.ones(1, 2, *size)).shape == (1, 2, 3, 2)


def test_slide_23_from_tensor_to_tensor():
    layer = nn.Conv2d(3, 6, 5)
    assert layer(torch.zeros(1, 3, 32, 32)).shape == (1, 6, 28, 28)
    assert sum(p.numel() for p in layer.parameters()) == 456
    outputs, taps = sources(layer.operation.windows, (32, 32)).reshape(28 * 28, -1).shape
    assert outputs * taps * 3 * 6 == 352_800
    dense = Linear(32 * 32 * 3, 28 * 28 * 6, device="meta")
    assert sum(p.numel() for p in dense.parameters()) == 14_455_392


def test_slide_25_one_by_one_is_a_linear_layer_at_every_pixel():
    layer, x = nn.Conv2d(5, 3, 1, dtype=torch.float64), torch.randn(2, 5, 4, 6, dtype=torch.float64)
    linear = Linear(5, 3, dtype=torch.float64)
    linear.load_state_dict({"weight": layer.weight[:, :, 0, 0], "bias": layer.bias})
    torch.testing.assert_close(layer(x), linear(x.movedim(1, -1)).movedim(-1, 1), rtol=1e-14, atol=1e-14)


def test_slide_29_depthwise_separable():
    def multiply_adds(layer):
        outputs, taps = sources(layer.operation.windows, (128, 128)).reshape(128 * 128, -1).shape
        return outputs * taps * layer.weight.shape[0] * layer.weight.shape[1]

    regular = nn.Conv2d(3, 16, 3, padding="same", bias=False)
    separable = nn.SeparableConv2d(3, 16, 3, padding="same", bias=False)
    assert sum(p.numel() for p in regular.parameters()) == 432
    assert sum(p.numel() for p in separable.parameters()) == 75
    assert multiply_adds(regular) == 7_077_888
    assert multiply_adds(separable.depthwise) + multiply_adds(separable.pointwise) == 1_228_800
    x = torch.zeros(1, 3, 128, 128)
    assert regular(x).shape == separable(x).shape == (1, 16, 128, 128)
