"""Convolutional networks for PyTorch that you can see through.

`svertka.nn` and `svertka.functional` are the layers, `svertka.models` the networks, `svertka.reference` the
definitions, `svertka.window` the geometry under all of them; `use` chooses who computes, `report` tells who did.
Submodules are loaded when they are first used, so that the command line answers before torch is imported.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from svertka.errors import DataError, GeometryError, SvertkaError

if TYPE_CHECKING:
    from svertka import explain, functional, inspect, models, nn, reference, spec, vision, window
    from svertka.compiler.model import compile  # noqa: A004
    from svertka.engine.dispatch import use, using
    from svertka.engine.packing import forget_weights
    from svertka.engine.precision import get_precision, precision, set_precision
    from svertka.engine.report import report
    from svertka.explain.summaries import summary
    from svertka.window import Window

__version__ = "0.1.0"
__all__ = [
    "DataError", "GeometryError", "SvertkaError", "Window", "compile", "explain", "forget_weights", "functional",
    "get_precision", "inspect", "models", "nn", "precision", "reference", "report", "set_precision", "spec", "summary",
    "use", "using", "vision", "window",
]  # fmt: skip
_ELSEWHERE = {
    "Window": "svertka.window",
    "compile": "svertka.compiler.model",
    "forget_weights": "svertka.engine.packing",
    "get_precision": "svertka.engine.precision",
    "precision": "svertka.engine.precision",
    "report": "svertka.engine.report",
    "set_precision": "svertka.engine.precision",
    "summary": "svertka.explain.summaries",
    "use": "svertka.engine.dispatch",
    "using": "svertka.engine.dispatch",
}


def __getattr__(name: str) -> Any:
    if name in _ELSEWHERE:
        return getattr(import_module(_ELSEWHERE[name]), name)
    if name in __all__:
        return import_module(f"svertka.{name}")
    raise AttributeError(f"module 'svertka' has no attribute {name!r}")
