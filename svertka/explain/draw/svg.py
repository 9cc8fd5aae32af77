"""A tiny SVG writer: boxes, texts and lines with roles, whose looks are in `style`.

A drawing is a list of shapes in pixels. The same list is written as SVG here and painted by Pillow for a GIF.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from html import escape as _escape

from svertka.explain.draw import style


@dataclass(frozen=True)
class Box:
    """A rectangle: left, top, width, height; `role` is one of style.BOXES; `note` is shown by browsers on hovering."""

    x: float
    y: float
    width: float
    height: float
    role: str
    note: str = ""
    hatched: bool = False


@dataclass(frozen=True)
class Text:
    """One line of text, centred vertically on y.

    Args:
        anchor: start, middle or end of the text is at x.
        role: one of style.TEXTS.
        tail: what follows after a space, bold and in the colour of results.
    """

    x: float
    y: float
    text: str
    size: float = style.TEXT
    role: str = "ink"
    anchor: str = "middle"
    bold: bool = False
    tail: str = ""


@dataclass(frozen=True)
class Line:
    """A straight line, with a head at its end if it is an arrow; `role` is one of style.LINES."""

    x: float
    y: float
    to_x: float
    to_y: float
    role: str = "line"
    arrow: bool = False


Shape = Box | Text | Line


def grid(
    texts: Sequence[Sequence[str]], x: float = 0, y: float = 0, role: str = "input", cell: float = style.CELL
) -> list[Shape]:
    """A table of texts in square cells, all in one size that fits; `role` as in `Box`."""
    size = min((style.fitting(text, cell - 6) for row in texts for text in row), default=style.TEXT)
    shapes: list[Shape] = []
    for i, row in enumerate(texts):
        for j, text in enumerate(row):
            shapes.append(Box(x + j * cell, y + i * cell, cell, cell, role))
            if text:
                shapes.append(Text(x + (j + 0.5) * cell, y + (i + 0.5) * cell, text, size))
    return shapes


def moved(shapes: Iterable[Shape], x: float, y: float) -> list[Shape]:
    """The shapes, `x` further right and `y` further down."""
    result: list[Shape] = []
    for shape in shapes:
        if isinstance(shape, Line):
            shape = replace(shape, to_x=shape.to_x + x, to_y=shape.to_y + y)
        result.append(replace(shape, x=shape.x + x, y=shape.y + y))
    return result


def element(shape: Shape) -> str:
    """One shape as SVG."""
    match shape:
        case Box():
            size = f'x="{shape.x:g}" y="{shape.y:g}" width="{shape.width:g}" height="{shape.height:g}"'
            note = f"><title>{escape(shape.note)}</title></rect>" if shape.note else "/>"
            hatch = f'<rect {size} fill="url(#hatch)"/>' if shape.hatched else ""
            return f'<rect {size} rx="2" class="b-{shape.role}"{note}{hatch}'
        case Text():
            bold = ' font-weight="700"' if shape.bold else ""
            tail = f' <tspan class="t-current" font-weight="700">{escape(shape.tail)}</tspan>' if shape.tail else ""
            return (
                f'<text x="{shape.x:g}" y="{shape.y:g}" font-size="{shape.size:g}" text-anchor="{shape.anchor}" '
                f'class="t-{shape.role}"{bold}>{escape(shape.text)}{tail}</text>'
            )
    head = ' marker-end="url(#head)"' if shape.arrow else ""
    return f'<path d="M{shape.x:g} {shape.y:g}L{shape.to_x:g} {shape.to_y:g}" class="l-{shape.role}"{head}/>'


def elements(shapes: Iterable[Shape]) -> str:
    """Shapes as SVG, the first at the bottom."""
    return "".join(map(element, shapes))


def document(
    body: str | Iterable[Shape], width: float, height: float, title: str = "", css: str = "", styled: bool = True
) -> str:
    """A whole SVG element on its own paper, as wide as its surroundings allow but no wider than `width`.

    The paper follows the viewer's theme, as the ink does: on a page that doesn't, the drawing stays readable.

    Args:
        body: shapes, or what `elements` made of them.
        width, height: in pixels.
        title: read out by screen readers.
        css: rules beside those of `style`.
        styled: whether it brings the style sheet along; a page with several drawings holds it once.
    """
    content = body if isinstance(body, str) else elements(body)
    sheet = f"<style>{style.css() if styled else ''}{css}</style>" if styled or css else ""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="svertka" viewBox="0 0 {width:g} {height:g}" '
        f'width="{width:g}" style="max-width:100%;height:auto" role="img" aria-label="{escape(title)}">'
        f'{sheet}<defs>{_DEFS}</defs><rect width="{width:g}" height="{height:g}" rx="{style.MARGIN / 3:g}" '
        f'class="b-paper"/>{content}</svg>'
    )


def escape(text: str) -> str:
    """Text that may stand in SVG or HTML, in attributes, too."""
    return _escape(text, quote=True)


_DEFS = (
    '<pattern id="hatch" width="7" height="7" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
    '<path d="M0 0V7" class="hatch"/></pattern>'
    '<marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    '<path d="M0 0L8 4L0 8Z" class="head"/></marker>'
)
