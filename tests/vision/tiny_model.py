"""A user's own model file: small enough to train in a test, with batch norm and dropout: state and chance."""

from torch import nn


def build(channels: int, classes: int, width: int = 4) -> nn.Module:
    """8x8 pictures → scores; the dense layer takes its size from the first batch."""
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.LazyLinear(classes),
    )
