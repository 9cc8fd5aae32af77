"""What a network has learnt: data first, then figures. For networks of svertka and any other torch module.

    maps = svertka.inspect.feature_maps(model, picture)          # dataclasses of arrays
    figure = svertka.inspect.draw.feature_maps(maps, picture)    # a matplotlib Figure

`pip install 'svertka[inspect]'` brings matplotlib and captum, which figures and attribution need.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from svertka.inspect import draw
    from svertka.inspect.attribution import (
        Attribution,
        Sanity,
        attributions,
        grad_cam,
        integrated_gradients,
        occlusion,
        occlusions,
        randomised,
        sanity,
    )
    from svertka.inspect.excitement import Excitement, exciting
    from svertka.inspect.maps import FeatureMaps, LayerMaps, feature_maps
    from svertka.inspect.motivation import (
        Equivariance,
        Sharing,
        ShiftAccuracy,
        accuracy_by_shift,
        equivariance,
        sharing,
    )
    from svertka.inspect.recording import Layer, layers
    from svertka.inspect.synthesis import Synthesised, Unit, statistics, synthesise
    from svertka.inspect.weights import Filters, Templates, filters, filters_of, templates

_ROOMS = {
    "attribution": (
        "Attribution",
        "Sanity",
        "attributions",
        "grad_cam",
        "integrated_gradients",
        "occlusion",
        "occlusions",
        "randomised",
        "sanity",
    ),
    "motivation": ("Equivariance", "Sharing", "ShiftAccuracy", "accuracy_by_shift", "equivariance", "sharing"),
    "excitement": ("Excitement", "exciting"),
    "maps": ("FeatureMaps", "LayerMaps", "feature_maps"),
    "recording": ("Layer", "layers"),
    "synthesis": ("Synthesised", "Unit", "statistics", "synthesise"),
    "weights": ("Filters", "Templates", "filters", "filters_of", "templates"),
}
_HOME = {name: room for room, names in _ROOMS.items() for name in names}

__all__ = [
    "Attribution", "Equivariance", "Excitement", "FeatureMaps", "Filters", "Layer", "LayerMaps", "Sanity", "Sharing",
    "ShiftAccuracy", "Synthesised", "Templates", "Unit", "accuracy_by_shift", "attributions", "draw", "equivariance",
    "exciting", "feature_maps", "filters", "filters_of", "grad_cam", "integrated_gradients", "layers", "occlusion",
    "occlusions", "randomised", "sanity", "sharing", "statistics", "synthesise", "templates",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"svertka.inspect.{_HOME[name]}"), name)
    if name == "draw":
        return import_module("svertka.inspect.draw")
    raise AttributeError(f"module 'svertka.inspect' has no attribute {name!r}")
