"""Weights as pictures: the class templates of a linear model, and the filters of any convolution as they connect."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from svertka import spec
from svertka.errors import GeometryError
from svertka.explain.operations import operation_of
from svertka.inspect.recording import Layer, layers

Array = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Filters:
    """The filters of one convolution.

    Args:
        layer: its name.
        weight: float32 [outputs, inputs of a group, height, width]; one axis lies as a row, and the planes of a volume
            stand one after the other as channels do.
        groups: the output o of group g sees the inputs of group g only.
        of_pixels: whether its inputs are the picture's own channels.
        turned: whether it is a transposed convolution: then a filter is what one input paints into an output.
    """

    layer: str
    weight: Array
    groups: int
    of_pixels: bool
    turned: bool = False

    @property
    def kind(self) -> str:
        """ "RGB" and "grey" of a picture's channels, "depthwise" (a filter for each channel), "grouped" or "full"."""
        inputs = self.weight.shape[1]
        if self.of_pixels and inputs in (1, 3) and self.groups == 1:
            return "RGB" if inputs == 3 else "grey"
        if self.groups == 1:
            return "full"
        return "depthwise" if inputs == 1 else "grouped"

    @property
    def scale(self) -> float:
        """The largest absolute weight, which pictures are scaled by."""
        return float(np.abs(self.weight).max(initial=0)) or 1.0

    def strongest(self, most: int) -> npt.NDArray[np.int64]:
        """Which filters to show: at most so many, those of the largest norm, in their own order."""
        norms = np.linalg.norm(self.weight.reshape(len(self.weight), -1), axis=1)
        return np.sort(np.argsort(-norms, kind="stable")[:most])

    def inputs_of(self, output: int) -> range:
        """The input channels that an output sees."""
        share = self.weight.shape[1]
        group = output * self.groups // len(self.weight)
        return range(group * share, (group + 1) * share)


@dataclass(frozen=True, eq=False)
class Templates:
    """The weights of a dense layer that sees the pixels themselves, as a picture for each of its outputs.

    A score is Σ template · picture + bias: where the template is positive, light pixels speak for the class.

    Args:
        layer: its name.
        names: what each output stands for.
        weight: float32 [outputs, channels, height, width].
    """

    layer: str
    names: tuple[str, ...]
    weight: Array


def filters(model: nn.Module, size: Sequence[int]) -> tuple[Filters, ...]:
    """The filters of all convolutions of a network, in the order of the calls.

    Args:
        model: any.
        size: (channels, *size) of its input, by which it is told which convolution sees the picture.
    """
    modules, found = dict(model.named_modules()), dict[str, Filters]()
    seen: list[Layer] = []
    for layer in layers(model, size):
        module = modules.get(layer.name)
        operation = None if module is None else operation_of(module)
        if module is not None and layer.name not in found and isinstance(operation, _CONVOLUTIONS):
            of_pixels = not any(before.role not in ("same", "norm") for before in seen)
            found[layer.name] = _filters(layer.name, module, operation, of_pixels)
        seen.append(layer)
    return tuple(found.values())


def filters_of(model: nn.Module, size: Sequence[int], layer: str) -> Filters:
    """The filters of one convolution.

    Raises:
        GeometryError: if no convolution has that name; the sentence lists those there are.
    """
    found = {bank.layer: bank for bank in filters(model, size)}
    if layer not in found:
        raise GeometryError(f"the model has no convolution {layer!r}: choose one of {', '.join(found) or 'none'}")
    return found[layer]


def templates(model: nn.Module, size: Sequence[int], classes: Sequence[str] = ()) -> Templates | None:
    """The templates of the first layer with weights, if it is dense and sees all pixels; else None.

    Args:
        model: any.
        size: (channels, height, width) of its input.
        classes: names of its outputs, if these are the network's.
    """
    modules = dict(model.named_modules())
    for layer in layers(model, size):
        module = modules.get(layer.name)
        if isinstance(module, nn.Linear) and module.in_features == math.prod(size) and len(size) == 3:
            weight = module.weight.detach().cpu().float().numpy().reshape(-1, *size)
            known = len(classes) == len(weight)
            return Templates(layer.name, tuple(classes) if known else tuple(map(str, range(len(weight)))), weight)
        if layer.role != "same":
            return None
    return None


_CONVOLUTIONS = (spec.Convolution, spec.TransposedConvolution)


def _filters(name: str, module: nn.Module, operation: Any, of_pixels: bool) -> Filters:
    weight = module.weight.detach().cpu().float().numpy()  # type: ignore[operator]
    groups = int(operation.groups)
    turned = isinstance(operation, spec.TransposedConvolution)
    if turned:  # [inputs, outputs of a group, …] → [outputs, inputs of a group, …]
        inputs, outputs, *taps = weight.shape
        parts = weight.reshape(groups, inputs // groups, outputs, *taps)
        weight = np.ascontiguousarray(parts.swapaxes(1, 2)).reshape(groups * outputs, inputs // groups, *taps)
    outputs, inputs, *taps = weight.shape
    planes = [1, *taps] if len(taps) == 1 else taps
    flat = weight.reshape(outputs, inputs * math.prod(planes[:-2]), *planes[-2:])
    return Filters(name, flat, groups, of_pixels and len(taps) < 3, turned)
