"""Figures of what `svertka.inspect` finds: each function takes data and gives a matplotlib Figure.

`save` writes one as PNG, SVG or PDF. Needs the extra: pip install 'svertka[inspect]'.
"""

from svertka.inspect.draw.decisions import attributions, mistakes
from svertka.inspect.draw.learnt import exciting, feature_maps, filters, templates
from svertka.inspect.draw.looks import save, svg
from svertka.inspect.draw.measured import accuracy_by_shift, equivariance, sharing
from svertka.inspect.draw.training import confusion, curves

__all__ = [
    "accuracy_by_shift", "attributions", "confusion", "curves", "equivariance", "exciting", "feature_maps", "filters",
    "mistakes", "save", "sharing", "svg", "templates",
]  # fmt: skip
