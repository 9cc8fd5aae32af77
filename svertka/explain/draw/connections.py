"""Connections drawn as two rows of circles (after Goodfellow, Bengio & Courville, Deep Learning, figures 9.2–9.5)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from svertka.explain.connections import Connection
from svertka.explain.cost import grouped
from svertka.explain.draw import style, svg
from svertka.explain.draw.titles import times
from svertka.window import Window

if TYPE_CHECKING:
    from svertka.explain.connections import Connections

_MOST = 9  # circles in a row; what is more is cut off, and that is said
_RADIUS, _PITCH, _RISE, _LEFT = 14, 36, 84, 78
_COLOURS = ("current", "window-line", "accent", "weight", "warning", "faint")
_CSS = "".join(f".svertka .w{i}{{stroke:var(--{name});fill:var(--{name})}}" for i, name in enumerate(_COLOURS)) + (
    ".svertka .wire{stroke-width:2;fill:none}"
    ".svertka .thin{stroke:var(--faint);stroke-width:1.2;fill:none}"
    ".svertka .dashed{stroke-dasharray:4 4}.svertka .alt{stroke-dasharray:7 3}"
)


@dataclass(frozen=True)
class _Wire:
    """A line from a circle below to one above; `colour` numbers a shared weight, −1 is a weight of its own."""

    top: int
    bottom: int
    colour: int = -1
    dashed: bool = False


def drawing(found: Connections, compare: bool, channels: bool) -> str:
    """The whole SVG; see `Connections.svg`."""
    panels = [_places(found, kind) for kind in (found.weights if compare and found.weights else (found.kind,))]
    if channels:
        panels.append(_channels(found))
    body, y, width = [], style.MARGIN, 0.0
    for panel, wide, high in panels:
        body.append(f'<g transform="translate({style.MARGIN} {y})">{panel}</g>')
        y, width = y + round(high) + 30, max(width, wide)
    return svg.document("".join(body), round(width + 2 * style.MARGIN), y - 30 + style.MARGIN, repr(found), _CSS)


def _places(found: Connections, kind: str) -> tuple[str, float, float]:
    """(SVG, width, height) of the places of the last axis, connected in the way of a kind."""
    n, m = found.shape[-1], found.output[-1]
    seen = found.along()
    pads = _pads(seen, found)
    bottom = min(n, _MOST) + pads[0] + (pads[1] if n <= _MOST else 0)
    wires = [_Wire(c.output, place, c.tap, c.input is None) for c, place in _placed(seen, found, pads)]
    cut = {wire.top for wire in wires if wire.bottom >= bottom}
    top = range(1 + max((o for o in range(min(m, _MOST)) if o not in cut), default=min(m, _MOST) - 1))
    wires = [wire for wire in wires if wire.top in top and wire.bottom < bottom]
    xs = _positions(wires, len(top), bottom)
    names: list[str | None] = [str(i - pads[0]) if pads[0] <= i < pads[0] + n else "" for i in range(bottom)]
    if kind == "full":
        wires = [_Wire(o, i) for o in top for i, name in enumerate(names) if name]
        names = [name or None for name in names]
    elif kind != "convolutional":
        wires = [replace(wire, colour=-1) for wire in wires]
    lines = [_SAYINGS[kind].format(grouped(found.weights[kind]) if found.weights else "")]
    if len(found.shape) > 2 or max(found.shape[0], found.output[0]) > 1:
        shapes = f"{times(found.shape)} → {times(found.output)}"
        lines.append(f"in all, {shapes}; drawn: {'the last axis' if len(found.shape) > 2 else 'places'}")
    if len(top) < m or n > _MOST:
        lines.append(f"shown: {len(top)} of {m} outputs, {min(n, _MOST)} of {n} inputs")
    return _panel(lines, names, [str(o) for o in top], wires, xs, kind == found.kind)


def _positions(wires: Sequence[_Wire], top: int, bottom: int) -> tuple[list[float], list[float]]:
    """Where the circles above and below stand, in steps: the fewer of them in the middle of what they are wired to."""
    many, few = (bottom, top) if bottom >= top else (top, bottom)
    wired: list[list[int]] = [[] for _ in range(few)]
    for wire in wires:
        one, other = (wire.top, wire.bottom) if bottom >= top else (wire.bottom, wire.top)
        wired[one].append(other)
    middles = [(min(ends) + max(ends)) / 2 if ends else 0.0 for ends in wired]
    if any(later - earlier < 1 for earlier, later in itertools.pairwise(middles)):
        middles = [i + (many - few) / 2 for i in range(few)]
    line = [float(i) for i in range(many)]
    return (middles, line) if bottom >= top else (line, middles)


_SAYINGS = {
    "convolutional": "Convolutional: {} weights, shared by all places",
    "local": "Local: {} weights, own ones at each place",
    "full": "Full: {} weights, every output sees every input",
    "windows": "Windows without weights",
}


def _pads(seen: Sequence[Connection], found: Connections) -> tuple[int, int]:
    """Circles for zero padding before and after the inputs."""
    window = found.bound.operation.windows[-1]
    if not isinstance(window, Window) or all(c.input is not None for c in seen):
        return 0, 0
    places = window.places(found.shape[-1])
    return max(0, -int(places.min())), max(0, int(places.max()) - found.shape[-1] + 1)


def _placed(seen: Sequence[Connection], found: Connections, pads: tuple[int, int]) -> list[tuple[Connection, int]]:
    """The connections with the circle below; what reads nothing and has no circle is left out."""
    window = found.bound.operation.windows[-1]
    places = window.places(found.shape[-1]) if isinstance(window, Window) else None
    result = []
    for connection in seen:
        if connection.input is not None:
            result.append((connection, connection.input + pads[0]))
        elif places is not None:
            result.append((connection, int(places[connection.output, connection.tap]) + pads[0]))
    return result


def _channels(found: Connections) -> tuple[str, float, float]:
    """(SVG, width, height) of the channels."""
    table = found.channels[:_MOST, :_MOST]
    (outputs, inputs), groups = found.channels.shape, found.groups
    wires = [
        _Wire(o, i, o * groups // outputs if groups > 1 else -1)
        for o, row in enumerate(table)
        for i, sees in enumerate(row)
        if sees
    ]
    lines = ["Channels: every output sees every input" if groups == 1 else f"Channels: {groups} groups"]
    if groups == inputs > 1:
        lines = ["Channels: each by itself"]
    if max(outputs, inputs) > _MOST:
        lines.append(f"shown: {table.shape[0]} of {outputs} outputs, {table.shape[1]} of {inputs} inputs")
    names = [[str(i) for i in range(n)] for n in table.shape]
    count = max(table.shape)
    top, bottom = ([i + (count - n) / 2 for i in range(n)] for n in table.shape)
    return _panel(lines, names[1], names[0], wires, (top, bottom), True, key=False)


def _panel(
    lines: Sequence[str],
    bottom: Sequence[str | None],
    top: Sequence[str],
    wires: Sequence[_Wire],
    steps: tuple[Sequence[float], Sequence[float]],
    own: bool,
    key: bool = True,
) -> tuple[str, float, float]:
    """(SVG, width, height): captions, outputs above, inputs below.

    Args:
        lines: captions.
        bottom, top: names in the circles: "" is zero padding, None no circle.
        wires: what is connected.
        steps: where the circles above and below stand.
        own: whether it is the layer's own kind.
        key: whether to tell the colours of the weights.
    """
    first, *others = lines
    texts = [svg.Text(0, 8, first, 15, anchor="start", bold=own)]
    texts += [svg.Text(0, 28 + 20 * i, line, style.CAPTION, "faint", "start") for i, line in enumerate(others)]
    high = 20 * len(lines) + 12 + _RADIUS
    low = high + _RISE
    above, below = ([_LEFT + step * _PITCH for step in row] for row in steps)
    texts += [svg.Text(0, y, word, style.CAPTION, "faint", "start") for y, word in ((high, "outputs"), (low, "inputs"))]
    parts = [_wire(wire, below[wire.bottom], low - _RADIUS, above[wire.top], high + _RADIUS) for wire in wires]
    parts += [_circle(x, high, name, "output") for x, name in zip(above, top, strict=True)]
    parts += [_circle(x, low, name, "input") for x, name in zip(below, bottom, strict=True) if name is not None]
    end, colours = low + _RADIUS, len({wire.colour for wire in wires} - {-1})
    if key and colours > 1:
        parts += _key(colours, end + 18)
        end += 28
    width = max(*above, *below, 0) + _PITCH / 2
    parts.insert(0, svg.elements(texts))
    return "".join(parts), max(width, 8.4 * len(first), *(6.8 * len(line) for line in others), 0), end


def _wire(wire: _Wire, x: float, y: float, to_x: float, to_y: float) -> str:
    looks = "thin" if wire.colour < 0 else f"wire w{wire.colour % len(_COLOURS)}"
    looks += " dashed" if wire.dashed else " alt" if wire.colour >= len(_COLOURS) else ""
    return f'<path d="M{x:g} {y:g}L{to_x:g} {to_y:g}" class="{looks}"/>'


def _circle(x: float, y: float, name: str, role: str) -> str:
    circle = f'<circle cx="{x:g}" cy="{y:g}" r="{_RADIUS}" class="b-{role if name else "padding"}"/>'
    return circle + svg.element(svg.Text(x, y, name or "0", style.CAPTION, "ink" if name else "faint"))


def _key(weights: int, y: float) -> list[str]:
    """The colours of the weights."""
    parts = [svg.element(svg.Text(0, y, "weights", style.CAPTION, "faint", "start"))]
    for i in range(min(weights, _MOST)):
        x, alt = _LEFT - _RADIUS + i * _PITCH, " alt" if i >= len(_COLOURS) else ""
        parts.append(f'<path d="M{x:g} {y:g}h14" class="wire w{i % len(_COLOURS)}{alt}"/>')
        parts.append(svg.element(svg.Text(x + 18, y, f"{i + 1}", style.CAPTION, "ink", "start")))
    return parts
