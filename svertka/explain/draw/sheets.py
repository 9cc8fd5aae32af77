"""Frames laid out on a sheet: shapes, where they stand, and from which frame to which they are to be seen.

The animated SVG, the page with a player and the GIF are three ways to show the same sheet.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from svertka.explain.draw import style, titles
from svertka.explain.draw.frames import Cell, Frame, Frames, Panel
from svertka.explain.draw.svg import Box, Line, Shape, Text

_CAPTION = 26  # height of the line above a panel
_EDGE = 3  # room around a panel for thick outlines
_OPERATOR = 64  # width of the room for what happens between two panels
_FORMULA = 15  # height of the formula's text
_NARROWEST = 460


@dataclass(frozen=True)
class Track:
    """Shapes of a slot that are seen in the frames start … stop − 1."""

    slot: str
    start: int
    stop: int
    shapes: tuple[Shape, ...]


@dataclass(frozen=True)
class Slot:
    """A part of the sheet; the shapes in it count from its corner."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Sheet:
    """All that an animation shows.

    Args:
        title: one line.
        width, height: in pixels.
        slots: by name; "input 0", "kernel 0", …, "output" are panels.
        tracks: what is seen, and when; the first at the bottom.
        count: number of frames.
        side: of a cell.
        frames: what is drawn.
    """

    title: str
    width: float
    height: float
    slots: dict[str, Slot]
    tracks: tuple[Track, ...]
    count: int
    side: float
    frames: Sequence[Frame]

    def seen(self, number: int, slot: str | None = None) -> list[Track]:
        """The tracks that are seen at a frame, in a slot or in all."""
        return [t for t in self.tracks if t.start <= number < t.stop and slot in (None, t.slot)]


def sheet(source: Frames, only: int | None = None) -> Sheet:
    """The sheet of all frames, or of one."""
    frames = list(source) if only is None else [source[only]]
    side = _side(frames)
    slots, (right, bottom) = (_lines if source.is_line else _side_by_side)(frames, side)
    width = max(right, _NARROWEST) + style.MARGIN
    heading = _wrapped(titles.unbroken(source.title).split(" "), width - 2 * style.MARGIN, style.HEADING)
    top = style.MARGIN + 24 * len(heading) + 8
    slots = {name: Slot(slot.x, slot.y + top, slot.width, slot.height) for name, slot in slots.items()}
    tracks = [Track("sheet", 0, len(frames), (*_set(heading, 12, 24, style.HEADING, bold=True),))]
    tracks += _panels(frames, side, slots)
    below = top + bottom + 14
    room = width - 2 * style.MARGIN
    lines = [_formula(frame, room) for frame in frames]
    tracks += [Track("formula", i, i + 1, (*shapes,)) for i, (shapes, _) in enumerate(lines)]
    height = max(height for _, height in lines)
    slots["formula"] = Slot(style.MARGIN, below, room, height)
    notes = [line for note in source.notes for line in _wrapped(note.split(" "), room, style.CAPTION)]
    if notes:
        tracks.append(Track("notes", 0, len(frames), (*_set(notes, 9, 18, style.CAPTION, "faint"),)))
        slots["notes"] = Slot(style.MARGIN, below + height + 6, room, 18 * len(notes))
        height += 6 + 18 * len(notes)
    slots["sheet"] = Slot(style.MARGIN, style.MARGIN, room, top)
    return Sheet(
        source.title, width, below + height + style.MARGIN, slots, tuple(tracks), len(frames), side, frames
    )  # fmt: skip


def _side(frames: Sequence[Frame]) -> float:
    """The side of a cell: larger where numbers are long and the panels small."""
    first = frames[0]
    panels = (*first.inputs, *first.kernels, first.output)
    longest = max((len(cell.text) for panel in panels for cell in (*panel.cells, *panel.active)), default=1)
    across = max(panel.columns for panel in panels)
    return style.CELL if longest <= 4 or across > 12 else style.CELL + 10


def _size(panel: Panel, side: float) -> tuple[float, float]:
    return panel.columns * side + 2 * _EDGE, panel.rows * side + _CAPTION + 2 * _EDGE


def _side_by_side(frames: Sequence[Frame], side: float) -> tuple[dict[str, Slot], tuple[float, float]]:
    """Slices below each other, each with its kernel beside it, and the output to the right of them all."""
    first = max(frames, key=lambda frame: len(frame.inputs))
    slots, y, x = {}, 0.0, float(style.MARGIN)
    right = x + max(_size(panel, side)[0] for panel in first.inputs)
    kernel_width = max((_size(panel, side)[0] for panel in first.kernels), default=0.0)
    for i, panel in enumerate(first.inputs):
        width, height = _size(panel, side)
        slots[f"input {i}"] = Slot(x, y, width, height)
        if first.kernels:
            wide, high = _size(first.kernels[i], side)
            centre = y + _CAPTION / 2 + height / 2
            slots[f"times {i}"] = Slot(right, centre - 16, _OPERATOR, 32)
            slots[f"kernel {i}"] = Slot(right + _OPERATOR, y + (height - high) / 2, wide, high)
        y += height + 8
    if first.kernels:
        right += _OPERATOR + kernel_width
    width, height = _size(first.output, side)
    bottom = max(y - 8, height)
    slots["becomes"] = Slot(right, (bottom + _CAPTION) / 2 - 16, _OPERATOR, 32)
    slots["output"] = Slot(right + _OPERATOR, (bottom - height) / 2, width, height)
    return slots, (right + _OPERATOR + width, bottom)


def _lines(frames: Sequence[Frame], side: float) -> tuple[dict[str, Slot], tuple[float, float]]:
    """One below the other: each channel with the kernel under the window that it lies on, then the output."""
    first, slots, y, x = frames[0], {}, 0.0, float(style.MARGIN)
    width = max(_size(panel, side)[0] for panel in (first.inputs[0], first.output))
    height = _size(first.output, side)[1]
    for i in range(len(first.inputs)):
        slots[f"input {i}"] = Slot(x, y, width, height)
        y += height
        if first.kernels:
            slots[f"kernel {i}"] = Slot(x, y, width, height)
            y += height
        y += 6
    slots["output"] = Slot(x, y, width, height)
    return slots, (x + width, y + height)


def _panels(frames: Sequence[Frame], side: float, slots: dict[str, Slot]) -> list[Track]:
    """The tracks of all panels, page by page."""
    tracks: list[Track] = []
    count = len(frames)
    for start, stop in _pages(frames):
        page = frames[start:stop]
        for kind in ("input", "kernel"):
            for i in range(len(page[0].inputs if kind == "input" else page[0].kernels)):
                panels = [(frame.inputs if kind == "input" else frame.kernels)[i] for frame in page]
                tracks += _panel_tracks(f"{kind} {i}", panels, side, start)
        tracks += _output_tracks(page, side, start)
    if "becomes" in slots:
        tracks.append(Track("becomes", 0, count, tuple(_operator(frames[0]))))
    tracks += [
        Track(name, 0, count, (Text(_OPERATOR / 2, 16, "∗", 26, "faint"),)) for name in slots if name[:5] == "times"
    ]  # fmt: skip
    return tracks


def _pages(frames: Sequence[Frame]) -> list[tuple[int, int]]:
    """(start, stop) of each run of frames whose resting cells are the same."""
    bounds = [0]
    for _, group in itertools.groupby(frames, key=lambda frame: frame.page):
        bounds.append(bounds[-1] + len(list(group)))
    return list(itertools.pairwise(bounds))


def _panel_tracks(slot: str, panels: Sequence[Panel], side: float, start: int) -> list[Track]:
    size = _text_size(panels, side)
    resting = [_caption(panels[0]), *_cells(panels[0].cells, side, size)]
    tracks = [Track(slot, start, start + len(panels), tuple(resting))]
    for i, panel in enumerate(panels):
        shapes = _cells(panel.active, side, size)
        if panel.outline:
            row, column, rows, columns = panel.outline
            shapes.append(Box(*_corner(row, column, side), columns * side, rows * side, "frame"))
        if shapes:
            tracks.append(Track(slot, start + i, start + i + 1, tuple(shapes)))
    return tracks


def _output_tracks(page: Sequence[Frame], side: float, start: int) -> list[Track]:
    """Outputs to come, then each with its number from its frame on, then the current one on top."""
    panel, stop = page[0].output, start + len(page)
    size = _text_size([panel], side)
    coming = [Box(*_corner(cell.row, cell.column, side), side, side, "to-come") for cell in panel.cells]
    tracks = [Track("output", start, stop, (_caption(panel), *coming))]
    if len(page) < len(panel.cells):  # one frame alone: what came before it
        tracks.append(Track("output", start, stop, tuple(_cells(panel.cells[: page[0].done], side, size))))
    for i, frame in enumerate(page):
        tracks.append(Track("output", start + i, stop, tuple(_cells([panel.cells[frame.done]], side, size))))
    for i, frame in enumerate(page):
        tracks.append(Track("output", start + i, start + i + 1, tuple(_cells(frame.output.active, side, size))))
    return tracks


def _corner(row: int, column: int, side: float) -> tuple[float, float]:
    return _EDGE + column * side, _CAPTION + _EDGE + row * side


def _text_size(panels: Sequence[Panel], side: float) -> float:
    """One height for all numbers of a panel, such that the longest fits."""
    cells = {cell.text for panel in panels for cell in (*panel.cells, *panel.active)}
    return min((style.fitting(text, side - 8) for text in cells), default=style.TEXT)


def _caption(panel: Panel) -> Text:
    return Text(_EDGE, _CAPTION / 2, panel.caption, style.CAPTION, "faint", "start")


def _cells(cells: Iterable[Cell], side: float, size: float) -> list[Shape]:
    shapes: list[Shape] = []
    for cell in cells:
        x, y = _corner(cell.row, cell.column, side)
        shapes.append(Box(x, y, side, side, cell.role, cell.note, hatched="padding" in cell.role))
        role = {"current": "on-current", "padding": "faint", "idle": "faint"}.get(cell.role, "ink")
        if cell.text:
            lift = 0.06 * side if cell.corner else 0.0
            shapes.append(Text(x + side / 2, y + side / 2 - lift, cell.text, size, role, bold=cell.marked))
        if cell.corner:
            small = style.fitting(cell.corner, side - 6, style.SMALL)
            shapes.append(Text(x + side - 3, y + side - 8, cell.corner, small, "weight", "end", bold=True))
        if cell.origin:
            shapes.append(Text(x + 3, y + 7, cell.origin, style.SMALL - 2, "faint", "start"))
        if cell.marked:
            shapes.append(Box(x + 4, y + 4, side - 8, side - 8, "chosen"))
    return shapes


def _operator(frame: Frame) -> list[Shape]:
    if frame.kernels:
        return [Text(_OPERATOR / 2, 16, "=", 24, "faint")]
    arrow = Line(12, 16, _OPERATOR - 12, 16, "arrow", arrow=True)
    return [arrow, Text(_OPERATOR / 2, 3, frame.operator, style.CAPTION, "faint")]


def _formula(frame: Frame, room: float) -> tuple[list[Text], float]:
    """The result spelled out, and the height that it takes."""
    place = ", ".join(map(str, frame.step.output[1:]))
    shapes = [Text(0, 10, f"Output at {place}", style.CAPTION, "faint", "start")]
    *pieces, result = frame.formula
    lines = _wrapped(pieces, room - style.width(f" {result}", _FORMULA), _FORMULA)
    shapes += _set(lines, 34, 24, _FORMULA)
    shapes[-1] = replace(shapes[-1], tail=result)
    return shapes, 22 + 24 * len(lines)


def _set(lines: Sequence[str], y: float, step: float, size: float, role: str = "ink", bold: bool = False) -> list[Text]:
    return [Text(0, y + i * step, line, size, role, "start", bold) for i, line in enumerate(lines)]


def _wrapped(pieces: Sequence[str], room: float, size: float) -> list[str]:
    """Pieces joined by spaces into lines that are no wider than `room`, if a piece alone isn't."""
    lines: list[str] = []
    for piece in pieces:
        if lines and style.width(f"{lines[-1]} {piece}", size) <= room:
            lines[-1] += f" {piece}"
        else:
            lines.append(piece)
    return lines
