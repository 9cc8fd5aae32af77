"""Equivariance, accuracy against shift, and counts of connections, drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from svertka.explain.draw.style import LIGHT
from svertka.explain.draw.titles import times
from svertka.inspect.draw.learnt import evenly
from svertka.inspect.draw.looks import HEADING, SMALL, TEXT, Sheet, short

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from svertka.inspect.motivation import Equivariance, LayerEquivariance, Sharing, ShiftAccuracy

_TOP = HEADING + 24


def equivariance(found: Equivariance, most: int = 16) -> Figure:
    """A table: the error of each layer after shifts, a flip and a quarter turn; 0 is exact, 1 unrelated.

    Args:
        found: of `svertka.inspect.equivariance`.
        most: layers; of more, evenly spread ones.
    """
    rows = _different(found.layers)
    rows = [rows[i] for i in evenly(len(rows), most)]
    left, cell, high, gap = 312, 46, 26, 22
    count = len(found.shifts)
    starts = [left, left + count * cell + gap, left + 2 * (count * cell + gap)]
    width, top = starts[2] + 2 * 66, _TOP + 44
    sheet = Sheet(width, top + len(rows) * high + 8, "Do the maps follow the picture?")
    heads = ("shifted by … pixels, all places", "away from the edges", "flipped, turned")
    for start, head in zip(starts, heads, strict=True):
        sheet.text(start, _TOP + 4, head, SMALL, "faint")
    for i, shift in enumerate(found.shifts):
        for start in starts[:2]:
            sheet.text(start + (i + 0.5) * cell, _TOP + 26, str(shift), SMALL, "ink", "center", bold=True)
    for i, word in enumerate(("flip", "¼ turn")):
        sheet.text(starts[2] + (i + 0.5) * 66, _TOP + 26, word, SMALL, "ink", "center", bold=True)
    for number, row in enumerate(rows):
        y = top + number * high
        sheet.text(0, y + high / 2, short(row.layer.title, 25), SMALL)
        sheet.text(left - 10, y + high / 2, _words(row), SMALL, "faint", "right")
        for start, values in zip(starts[:2], (row.shift, row.inside), strict=True):
            for i, value in enumerate(values):
                _cell(sheet, start + i * cell, y, cell, high, value)
        for i, value in enumerate((row.flip, row.rotation)):
            _cell(sheet, starts[2] + i * 66, y, 66, high, value)
    return sheet.figure


def accuracy_by_shift(found: ShiftAccuracy) -> Figure:
    """Accuracy of pictures that were shifted by more and more pixels."""
    sheet = Sheet(430, 270, "Accuracy when the picture is shifted")
    axes = sheet.chart(52, 44, 360, 170)
    percent = [100 * accuracy for accuracy in found.accuracy]
    axes.plot(found.shifts, percent, color=LIGHT["current"], linewidth=2, marker="o", markersize=5)
    axes.set(ylim=(0, 104), xlabel="shift, pixels", ylabel="right, %")
    axes.set_xticks(found.shifts)
    for shift, value in zip(found.shifts, percent, strict=True):
        if shift in (found.shifts[0], found.shifts[-1]):
            label = f"{value:.1f}"
            axes.annotate(
                label, (shift, value), (0, -14), textcoords="offset points", ha="center", fontsize=8, color=LIGHT["ink"]
            )
    return sheet.figure


def sharing(found: Sequence[Sharing], most: int = 12) -> Figure:
    """For each layer three bars on a logarithmic scale: possible connections, those there are, weights.

    Args:
        found: of `svertka.inspect.sharing`.
        most: layers; of more, evenly spread ones.
    """
    rows = [found[i] for i in evenly(len(found), most)]
    high, left = 46, 190
    width = 470
    sheet = Sheet(left + width + 240, _TOP + 24 + len(rows) * high + 34, "Sparse connections, shared weights")
    axes = sheet.chart(left, _TOP + 16, width, len(rows) * high)
    names = ("if every output saw every input", "connections there are", "weights")
    for i, (name, colour) in enumerate(zip(names, ("line", "current", "warning"), strict=True)):
        values = [(row.dense, row.connections, row.weights)[i] for row in rows]
        places = [number + (i - 1) * 0.26 for number in range(len(rows))]
        axes.barh(places, values, 0.24, color=LIGHT[colour], label=name)
    axes.set_xscale("log")
    axes.set(ylim=(len(rows) - 0.5, -0.5), yticks=[])
    axes.grid(False, axis="y")
    for number, row in enumerate(rows):
        y = _TOP + 16 + (number + 0.5) * high
        sheet.text(0, y, short(row.layer, 25), SMALL)
        sheet.text(left + width + 14, y - 8, f"{_percent(row.sparsity)} of all connections", SMALL)
        sheet.text(left + width + 14, y + 8, _used(row.uses), SMALL, "faint")
    axes.legend(
        loc="upper left", bbox_to_anchor=(0, 1 + 26 / (len(rows) * high)), ncols=3, frameon=False, fontsize=8,
        labelcolor=LIGHT["ink"],
        borderpad=0, handlelength=1, columnspacing=1.4, borderaxespad=0,
    )  # fmt: skip
    return sheet.figure


def _different(rows: Sequence[LayerEquivariance]) -> list[LayerEquivariance]:
    """Without layers that did nothing to the maps."""
    kept = list(rows[:1])
    for row in rows[1:]:
        before = kept[-1]
        if (row.shift, row.flip, row.layer.output) != (before.shift, before.flip, before.layer.output):
            kept.append(row)
    return kept


def _words(row: LayerEquivariance) -> str:
    kind = row.layer.kind
    size = times(row.layer.output[1:])
    return f"{short(kind, 14)}, {size}"


def _cell(sheet: Sheet, x: float, y: float, width: float, high: float, value: float | None) -> None:
    """One number; the larger, the deeper its ground."""
    middle = x + width / 2, y + high / 2
    if value is None:
        sheet.text(*middle, "–", SMALL, "line", "center")
        return
    if value == 0:
        sheet.text(*middle, "0", TEXT, "accent", "center", bold=True)
        return
    share = min(value, 1.0)
    sheet.box(x + 1, y + 1, width - 2, high - 2, fill="warning", alpha=0.75 * share)
    sheet.text(*middle, f"{value:.2f}" if value >= 0.005 else "<0.01", SMALL, "ink", "center")


def _used(uses: float) -> str:
    return "each weight is used once" if uses == 1 else f"each weight is used {_short(uses)} times"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.1 else f"{100 * share:.2g} %"


def _short(number: float) -> str:
    return f"{number:.0f}" if number >= 10 or number == round(number) else f"{number:.1f}"
