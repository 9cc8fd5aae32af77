"""What a decision rests on, drawn on the picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from svertka.inspect.draw.looks import HEADING, SMALL, TEXT, Array, Sheet, overlaid, pixels_of, short

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from svertka.inspect.attribution import Attribution, Sanity

_TOP, _SIDE, _GAP = HEADING + 20, 128, 14
_LABEL = 170


@dataclass(frozen=True, eq=False)
class MistakenPicture:
    """A picture that was given the wrong class.

    Args:
        name: of the picture.
        picture: uint8 [1 or 3, height, width].
        true, answer: the classes.
        confidence: the answer's probability.
        for_answer, for_true: what speaks for either.
    """

    name: str
    picture: Array
    true: str
    answer: str
    confidence: float
    for_answer: Attribution
    for_true: Attribution


def attributions(
    picture: Array,
    found: Sequence[Sequence[Attribution]],
    classes: Sequence[str],
    probabilities: Sequence[float] = (),
    checks: Sequence[Sanity] = (),
    title: str = "",
) -> Figure:
    """The picture, and for each class (in rows) what each method (in columns) shows: blue for it, orange against it.

    Args:
        picture: uint8 [1 or 3, height, width].
        found: for each class, the methods' maps.
        classes: names of all classes.
        probabilities: of all classes.
        checks: of the methods, written below the columns.
        title: stands above.
    """
    columns = len(found[0])
    height = _TOP + 24 + len(found) * (_SIDE + _GAP) + (24 if checks else 0)
    sheet = Sheet(_LABEL + (columns + 1) * (_SIDE + _GAP), height, title or "What the decision rests on")
    sheet.text(_LABEL + _SIDE / 2, _TOP + 8, "the picture", SMALL, "faint", "center")
    for column, one in enumerate(found[0], start=1):
        sheet.text(_LABEL + column * (_SIDE + _GAP) + _SIDE / 2, _TOP + 8, one.method, SMALL, "faint", "center")
    for row, maps in enumerate(found):
        y, target = _TOP + 22 + row * (_SIDE + _GAP), maps[0].target
        sheet.text(0, y + _SIDE / 2 - 20, "for" if row == 0 else "and for", SMALL, "faint")
        sheet.text(0, y + _SIDE / 2, short(classes[target], 20), TEXT, bold=True)
        if len(probabilities):
            sheet.text(0, y + _SIDE / 2 + 20, f"{100 * probabilities[target]:.1f} %", SMALL, "faint")
        for column, pixels in enumerate([pixels_of(picture), *(overlaid(picture, one.map) for one in maps)]):
            _fit(sheet, pixels, _LABEL + column * (_SIDE + _GAP), y)
    for column, check in enumerate(checks, start=1):
        verdict = "passes" if check.passed else "fails"
        told = f"{verdict}: {check.correlation:+.2f}".replace("-", "−")
        x = _LABEL + column * (_SIDE + _GAP) + _SIDE / 2
        sheet.text(x, height - 12, told, SMALL, "accent" if check.passed else "warning", "center", bold=True)
    if checks:
        sheet.text(0, height - 12, "likeness to the maps of random networks", SMALL, "faint")
    return sheet.figure


def mistakes(found: Sequence[MistakenPicture], columns: int = 2) -> Figure:
    """Pictures with the wrong answer: what speaks for that, and what for the true class.

    Args:
        found: the worst first.
        columns: how many in a row.
    """
    side, gap, card = 104, 8, 446
    rows = -(-len(found) // columns)
    step = side + 58
    sheet = Sheet(columns * card, _TOP + rows * step, "What speaks for the answer, and what for the true class")
    for i, one in enumerate(found):
        x, y = i % columns * card, _TOP + i // columns * step
        told = f"{short(one.true, 16)} taken for {short(one.answer, 16)}, {100 * one.confidence:.0f} %"
        sheet.text(x, y + 8, told, TEXT, bold=True)
        panels = (
            (pixels_of(one.picture), _end(one.name, 18)),
            (overlaid(one.picture, one.for_answer.map), f"for {short(one.answer, 13)}"),
            (overlaid(one.picture, one.for_true.map), f"for {short(one.true, 13)}"),
        )
        for column, (pixels, caption) in enumerate(panels):
            left = x + column * (side + gap + 20)
            _fit(sheet, pixels, left, y + 24, side)
            sheet.text(left, y + side + 34, caption, SMALL, "faint")
    return sheet.figure


def _end(name: str, most: int) -> str:
    """The name, or its end: folders stand first."""
    return name if len(name) <= most else "…" + name[1 - most :]


def _fit(sheet: Sheet, pixels: Array, x: float, y: float, side: float = _SIDE) -> None:
    """The picture as large as fits into a square."""
    height, width = pixels.shape[:2]
    scale = side / max(height, width)
    tall, wide = height * scale, width * scale
    sheet.picture(pixels, x + (side - wide) / 2, y + (side - tall) / 2, wide, tall)
