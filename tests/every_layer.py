"""One instance of each layer of `svertka.nn`, with arguments that torch's layers don't have, and an input for it."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from svertka import nn

CHANNELS = 4
SIZES = {1: (7,), 2: (6, 7), 3: (4, 5, 6)}


def _of_ndim(ndim: int) -> dict[str, Callable[[], torch.nn.Module]]:
    def layer(name: str) -> Callable[..., torch.nn.Module]:
        return getattr(nn, f"{name}{ndim}d")

    one_sided, several = ((1, 0),) * ndim, tuple(range(2, 2 + ndim))
    cases: dict[str, Callable[[], torch.nn.Module]] = {
        "Conv": lambda: layer("Conv")(CHANNELS, 6, 3, 2, 1, groups=2),
        "Conv reflect": lambda: layer("Conv")(CHANNELS, 6, 3, 2, "same_upper", padding_mode="reflect"),
        "Conv one-sided": lambda: layer("Conv")(CHANNELS, 6, 2, padding=one_sided),
        "ConvTranspose": lambda: layer("ConvTranspose")(CHANNELS, 6, 3, 2, 1, 1),
        "SeparableConv": lambda: layer("SeparableConv")(CHANNELS, 6, 3, padding="same", padding_mode="symmetric"),
        "LocallyConnected": lambda: layer("LocallyConnected")(CHANNELS, 6, 2, SIZES[ndim], 2, groups=2),
        "MaxPool": lambda: layer("MaxPool")(3, 2, 1),
        "MaxPool wide": lambda: layer("MaxPool")(2, padding=3, padding_mode="circular"),
        "MaxPool indices": lambda: layer("MaxPool")(2, padding=one_sided, return_indices=True),
        "AvgPool": lambda: layer("AvgPool")(2),
        "AvgPool wide": lambda: layer("AvgPool")(3, padding="same_lower", count_include_pad=False),
        "LPPool": lambda: layer("LPPool")(3, 2, ceil_mode=True),
        "LPPool infinite": lambda: layer("LPPool")(math.inf, 2),
        "WeightedAvgPool": lambda: layer("WeightedAvgPool")(2, padding=1, channels=CHANNELS),
        "WeightedAvgPool given": lambda: layer("WeightedAvgPool")(2, weight=torch.arange(1.0, 1 + 2**ndim).view((2,) * ndim)),  # noqa: E501
        "StochasticPool": lambda: layer("StochasticPool")(2, padding=one_sided).eval(),
        "AdaptiveMaxPool": lambda: layer("AdaptiveMaxPool")(several),
        "AdaptiveAvgPool": lambda: layer("AdaptiveAvgPool")(several),
        "AdaptiveLPPool": lambda: layer("AdaptiveLPPool")(2, several),
        "GlobalMaxPool": lambda: layer("GlobalMaxPool")(),
        "GlobalAvgPool": lambda: layer("GlobalAvgPool")(),
        "GlobalLPPool": lambda: layer("GlobalLPPool")(3),
        "Pad": lambda: layer("Pad")(tuple(range(2 * ndim)), "symmetric"),
        "Pad zeros": lambda: layer("Pad")(2, value=1.5),
    }  # fmt: skip
    if ndim == 1:
        cases["KMaxPool"] = lambda: nn.KMaxPool1d(3)
        cases["DynamicKMaxPool"] = lambda: nn.DynamicKMaxPool1d(2, 1, 3)
        cases["DynamicPool"] = lambda: nn.DynamicPool1d(3, "average")
    return cases


LAYERS = {f"{name} {ndim}d": (ndim, make) for ndim in SIZES for name, make in _of_ndim(ndim).items()}


def build(case: str) -> tuple[torch.nn.Module, Tensor]:
    """The layer of that name and an input [2, CHANNELS, *size] for it, the same ones each time."""
    ndim, make = LAYERS[case]
    torch.manual_seed(0)
    layer = make()
    return layer, torch.randn(2, CHANNELS, *SIZES[ndim])
