"""Convolutional networks for PyTorch that you can see through.

`svertka.nn` and `svertka.functional` are the layers, `svertka.models` the networks, `svertka.reference` the
definitions, `svertka.window` the geometry under all of them. Submodules are loaded when they are first used, so that
the command line answers before torch is imported.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from svertka.errors import DataError, GeometryError, SvertkaError

if TYPE_CHECKING:
    from svertka import explain, functional, models, nn, reference, spec, vision, window
    from svertka.explain.summaries import summary
    from svertka.window import Window

__version__ = "0.1.0"
__all__ = [
    "DataError", "GeometryError", "SvertkaError", "Window", "explain", "functional", "models", "nn", "reference",
    "spec", "summary", "vision", "window",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name == "Window":
        return import_module("svertka.window").Window
    if name == "summary":
        return import_module("svertka.explain.summaries").summary
    if name in __all__:
        return import_module(f"svertka.{name}")
    raise AttributeError(f"module 'svertka' has no attribute {name!r}")
