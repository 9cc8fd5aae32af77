"""What a network consists of and what its numbers come from: data first, then drawn.

    e = svertka.explain(svertka.nn.Conv1d(1, 1, 3), [[1, 2, 3, 4]])
    e.print(); e.animate("conv.svg")

The package itself can be called; it is `svertka.explain.explanation.explain`.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from svertka.explain.connections import Connections
    from svertka.explain.cost import Costs, costs
    from svertka.explain.explanation import Explanation
    from svertka.explain.fields import ReceptiveField, receptive_field
    from svertka.explain.summaries import Row, Summary, summary

__all__ = [
    "Connections", "Costs", "Explanation", "ReceptiveField", "Row", "Summary", "costs", "receptive_field", "summary",
]  # fmt: skip

_ROOMS = {
    "Connections": "connections",
    "Costs": "cost",
    "Explanation": "explanation",
    "ReceptiveField": "fields",
    "costs": "cost",
    "receptive_field": "fields",
}


class _Callable(ModuleType):
    """The package as a function."""

    def __call__(
        self, what: Any, input: Any, weight: Any = None, bias: Any = None, *, flip: bool = False
    ) -> "Explanation":
        """See `svertka.explain.explanation.explain`."""
        from svertka.explain.explanation import explain

        return explain(what, input, weight, bias, flip=flip)


sys.modules[__name__].__class__ = _Callable


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module(f"svertka.explain.{_ROOMS.get(name, 'summaries')}"), name)
    if name == "gallery":
        return import_module("svertka.explain.gallery")
    raise AttributeError(f"module 'svertka.explain' has no attribute {name!r}")
