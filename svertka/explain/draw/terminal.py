"""One step in the terminal: the input with the window marked, the kernel, the output, the sum spelled out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from svertka.explain.draw.frames import Cell, Frame, Frames, Panel
from svertka.explain.steps import Steps

_MOST = (24, 14, 6)  # places that are drawn on each axis of 1, 2 or 3
_BETWEEN = 3  # columns between two panels
_STYLES = {
    "padding": "dim",
    "nothing": "dim",
    "window": "bold yellow",
    "window-padding": "yellow",
    "window-nothing": "yellow",
    "kernel": "magenta",
    "idle": "dim magenta",
    "output": "blue",
    "current": "bold reverse blue",
    "to-come": "dim",
}
_MARKS = {
    "padding": ("(", ")"),
    "window": ("[", "]"),
    "window-padding": ("[", "]"),
    "window-nothing": ("[", "]"),
    "current": ("[", "]"),
}  # told by signs as well as by colour
_CHOSEN = ("»", "«")


@dataclass(frozen=True)
class View:
    """One frame, laid out for the width that there is; panels are cut around the window if they are too wide."""

    title: str
    frame: Frame

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        frame, width = self.frame, options.max_width
        yield Text(self.title, "bold")
        for group in self._groups(width):
            grid = Table.grid(padding=(0, _BETWEEN))
            for _ in group:
                grid.add_column(vertical="middle", no_wrap=True)
            grid.add_row(*group)
            yield Padding(grid, (1, 0, 0, 0))
        place = ", ".join(map(str, frame.step.output[1:]))
        *pieces, result = frame.formula
        yield Text(f"\nOutput at {place}:", "dim")
        yield Text.assemble(" ".join(pieces), " ", (result, "bold blue"))
        marks = ["[ ] window"] + ["( ) padding"] * self._has("padding") + ["» « chosen"] * self._chosen()
        yield Text(", ".join(marks), "dim")
        for note in frame.notes:
            yield Text(note, "dim")

    def _has(self, role: str) -> bool:
        return any(cell.role == role for panel in self.frame.inputs for cell in panel.cells)

    def _chosen(self) -> bool:
        return any(cell.marked for panel in self.frame.inputs for cell in panel.active)

    def _groups(self, width: int) -> Iterator[list[Text]]:
        """Panels that stand side by side: each slice with its kernel, and the output beside them if there is room."""
        frame = self.frame
        is_line = frame.inputs[0].rows == 1 and not (frame.kernels and frame.kernels[0].cells)
        wide = _wide(*frame.inputs, *frame.kernels) if is_line else None  # so that weights stand under their inputs
        rows = [[_block(panel, width, wide)] for panel in frame.inputs]
        for row, kernel in zip(rows, frame.kernels, strict=False):
            row.append(_block(kernel, width, wide))
        cells = {(c.row, c.column): c for c in frame.output.cells[: frame.done]}
        known = tuple(
            cells.get((c.row, c.column), Cell(c.row, c.column, "·", "to-come")) for c in frame.output.cells
        )  # fmt: skip
        current = frame.output.active[0]
        around = (current.row, current.column, 1, 1)
        output = _block(
            Panel(frame.output.caption, frame.output.rows, frame.output.columns, known, (current,), around), width
        )
        if len(rows) == 1 and len(output.plain.splitlines()) > 2:
            rows[0].append(output)
        else:
            rows.append([output])
        for row in rows:
            line: list[Text] = []
            for block in row:
                taken = sum(_width(other) + _BETWEEN for other in line)
                # A kernel of one line is to stand under the window that it lies on.
                if line and (taken + _width(block) > width or len(block.plain.splitlines()) == 2):
                    yield line
                    line = []
                line.append(block)
            yield line


def view(steps: Steps, title: str, output: Sequence[int]) -> View:
    """The step of one output, (channel, *position)."""
    channel, *position = steps.at(tuple(output)).output  # which says so if there is no such output
    frames = Frames(steps, title, channel, position, _MOST)
    return View(title, frames[frames.number_of(position)])


def _width(block: Text) -> int:
    return max(cell_len(line) for line in block.plain.splitlines())


def _wide(*panels: Panel) -> int:
    """The width of a cell."""
    return max(cell_len(_written(cell)) for panel in panels for cell in (*panel.cells, *panel.active)) + 1


def _block(panel: Panel, room: int, wide: int | None = None) -> Text:
    """The caption and the cells of a panel, each `wide` if that is given."""
    cells = {(cell.row, cell.column): cell for cell in (*panel.cells, *panel.active)}
    wide = wide or _wide(panel)
    first, stop = _part(panel, max(1, room // wide))
    caption = panel.caption
    if (first, stop) != (0, panel.columns):
        caption += f" (columns {first + 1} … {stop} of {panel.columns} drawn)"
    block = Text(caption, "dim")
    for row in range(panel.rows):
        block.append("\n")
        for column in range(first, stop):
            cell = cells.get((row, column))
            text = _written(cell) if cell else ""
            # Numbers stay in line whether they are marked or not.
            block.append(text.rjust(wide), _STYLES.get(cell.role, "") if cell else "")
    return block


def _written(cell: Cell) -> str:
    left, right = _CHOSEN if cell.marked else _MARKS.get(cell.role, (" ", " "))
    return f"{left}{cell.text or '·'}{right}"


def _part(panel: Panel, most: int) -> tuple[int, int]:
    """(first, stop) of the columns that are drawn: all, or as many as fit around the window."""
    if panel.columns <= most:
        return 0, panel.columns
    used = [cell.column for cell in panel.active] or [0]
    middle = (min(used) + max(used)) // 2
    first = min(max(0, middle - most // 2), panel.columns - most)
    return first, first + most
