"""Feature maps: what each layer makes of one picture, and what a place in them sees of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from svertka.errors import GeometryError
from svertka.inspect.recording import Layer, layers, private, record

Array = npt.NDArray[np.float32]
_STEPS = ("convolution", "norm", "sum", "nonlinearity", "pool")
_STARTS = ("convolution", "sum")


@dataclass(frozen=True, eq=False)
class LayerMaps:
    """What one layer made of the picture.

    Args:
        layer: which one.
        values: float32 [channels, *size], or [features] of a dense layer.
        place: the position in the maps that was chosen; () without places.
        seen: (first, last) row and column of the picture that this place sees; None if it is not known.
    """

    layer: Layer
    values: Array
    place: tuple[int, ...]
    seen: tuple[tuple[int, int], ...] | None

    @property
    def strongest(self) -> npt.NDArray[np.int64]:
        """The channels, the one with the largest value first."""
        peaks = self.values.reshape(len(self.values), -1).max(axis=1)
        return np.argsort(-peaks, kind="stable")


@dataclass(frozen=True, eq=False)
class FeatureMaps:
    """A picture on its way through a network; `layers` are in the order of the calls."""

    input_size: tuple[int, ...]
    layers: tuple[LayerMaps, ...]

    def __getitem__(self, name: str) -> LayerMaps:
        """The last call of the layer of that name."""
        found = next((maps for maps in reversed(self.layers) if name in (maps.layer.name, maps.layer.title)), None)
        if found is None:
            raise GeometryError(f"there are no maps of a layer {name!r}: choose one of {', '.join(self.names)}")
        return found

    @property
    def names(self) -> tuple[str, ...]:
        """All that `[name]` takes."""
        return tuple(dict.fromkeys(maps.layer.title for maps in self.layers))

    @property
    def stages(self) -> tuple[tuple[LayerMaps, ...], ...]:
        """The lecture's layers: each convolution or sum of branches with the norm, nonlinearity, pool behind it."""
        stages: list[list[LayerMaps]] = []
        for maps in self.layers:
            role = maps.layer.role
            if role not in _STEPS or not maps.layer.has_maps:
                if role != "same":
                    stages.append([])
                continue
            if stages and stages[-1] and np.array_equal(stages[-1][-1].values, maps.values):
                continue  # it did nothing
            fits = stages and stages[-1] and stages[-1][-1].layer.output[0] == maps.layer.output[0]
            if role in _STARTS or not fits:
                stages.append([])
            stages[-1].append(maps)
        return tuple(tuple(stage) for stage in stages if stage)


def feature_maps(
    model: nn.Module, picture: Tensor, at: tuple[float, ...] | None = None, wanted: Sequence[str] | None = None
) -> FeatureMaps:
    """What each layer of a network makes of a picture.

    Args:
        model: any that takes one tensor [N, channels, *size].
        picture: [channels, *size] as the model gets it (normalised).
        at: the place whose receptive field is told, as shares of the height and width (0 … 1); the middle if None.
        wanted: names of layers; None: all.
    """
    size = tuple(picture.shape)
    found = [layer for layer in layers(model, size) if wanted is None or {layer.name, layer.title} & set(wanted)]
    if not found:
        raise GeometryError("none of the layers asked for is called: choose some that `svertka summary` lists")
    with torch.no_grad():
        outputs = record(private(model), picture[None], found, lambda _, output: output[0].float().cpu().numpy().copy())
    return FeatureMaps(size, tuple(_maps(layer, outputs[layer], at, size) for layer in found))


def _maps(layer: Layer, values: Array, at: tuple[float, ...] | None, size: tuple[int, ...]) -> LayerMaps:
    shares = at or (0.5,) * (values.ndim - 1)
    place = tuple(min(int(n * share), n - 1) for n, share in zip(values.shape[1:], shares, strict=False))
    return LayerMaps(layer, values, place, layer.seen_by(place, size[1:]))
