"""Dense layers take along what comes after their views, and nothing that isn't theirs."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import svertka


class Mixed(nn.Module):
    """Maps [N, 12, 5, 5] through a dense layer on the channels of each place; `after` does the rest."""

    def __init__(self, after, bias=True) -> None:
        super().__init__()
        self.stem, self.dense, self.after = nn.Conv2d(3, 12, 3, padding=1), nn.Linear(12, 12, bias), after
        self.gamma, self.other = nn.Parameter(torch.randn(12)), nn.Parameter(torch.randn(5, 12))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.after(self, x, self.dense(x.permute(0, 2, 3, 1)))


def back(y: Tensor) -> Tensor:
    return y.permute(0, 3, 1, 2)


# ruff: noqa: ARG005 (each case needs some of the three)
CASES = {
    "activation": (lambda m, x, y: F.gelu(back(y)), ("linear", "gelu")),
    "scale": (lambda m, x, y: back(m.gamma * y), ("linear",)),
    "scale, residual": (lambda m, x, y: x + back(y * m.gamma), ("linear", "add")),
    "residual, activation": (lambda m, x, y: F.relu(back(y) + x), ("linear", "add", "relu")),
    "transposed residual": (lambda m, x, y: y.transpose(1, -1) + x.transpose(2, 3), ("linear", "add")),
    "scale after activation": (lambda m, x, y: back(m.gamma * F.relu(y)), ("linear", "relu")),
    "scale after residual": (lambda m, x, y: (y + x.permute(0, 2, 3, 1)) * m.gamma, ("linear", "add")),
    "scale of places": (lambda m, x, y: y * m.other, ("linear",)),
    "scale of columns": (lambda m, x, y: y.transpose(2, 3) * m.gamma[:5], ("linear",)),
    "read twice": (lambda m, x, y: back(y) + back(m.gamma * y), ("linear",)),
    "sum of two places": (lambda m, x, y: back(y) + x[:, :, :1], ("linear",)),
    "twice itself": (lambda m, x, y: y + y, ("linear",)),
    "shifted twice": (lambda m, x, y: y + m.gamma + m.gamma, ("linear",)),
}


@pytest.mark.parametrize("bias", (True, False))
@pytest.mark.parametrize("name", CASES)
def test_what_a_dense_layer_takes_along(name, bias):
    torch.manual_seed(0)
    after, fused = CASES[name]
    model, x = Mixed(after, bias).eval(), torch.randn(2, 3, 5, 5)
    compiled = svertka.compile(model, x)
    (found,) = svertka.report(compiled)
    assert not found.fallbacks
    assert tuple(next(node.fused for node in found.nodes if "linear" in node.fused)) == fused
    with torch.no_grad():
        for _ in range(2):
            expected = model.double()(x.double())
            model.float()
            largest = float(expected.abs().max())
            torch.testing.assert_close(compiled(x).double(), expected, rtol=0, atol=2e-6 * largest)
            for parameter in model.parameters():  # noticed, whatever the lines have become
                parameter.add_(0.1)


def test_layer_norms_are_kernels_with_statistics_too():
    torch.manual_seed(0)

    class Normed(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            y, mean, _ = torch.native_layer_norm(x, (5, 5), None, None, 1e-5)
            return y + mean

    x = torch.randn(2, 3, 5, 5)
    for model in (nn.LayerNorm((3, 5, 5)), nn.LayerNorm(5, bias=False), Normed()):
        compiled = svertka.compile(model.eval(), x)
        (found,) = svertka.report(compiled)
        assert not found.fallbacks
        with torch.no_grad():
            torch.testing.assert_close(compiled(x), model(x), rtol=1e-5, atol=1e-5)
