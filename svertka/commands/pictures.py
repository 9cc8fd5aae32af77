"""Commands on the user's pictures: as a matrix, through the classic filters, and one against another."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from svertka.errors import DataError

if TYPE_CHECKING:
    from rich.console import Console

    from svertka.explain.gallery import Filter
    from svertka.explain.likeness import Found, Likeness

PicturePath = Annotated[str, typer.Argument(metavar="PICTURE", help="A picture file.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def picture(
    path: PicturePath,
    channels: Annotated[int | None, typer.Option(help="1 (grey) or 3 (RGB); by default the picture's own.")] = None,
    region: Annotated[
        str | None, typer.Option(metavar="Y:Y,X:X", help="Rows and columns; by default what fits, from the middle.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show a picture as the matrix of its pixel values, 0 (black) to 255 (white)."""
    from svertka.commands import requests, showing
    from svertka.explain import parsing

    values = parsing.read_picture(path, channels)
    out = showing.console()
    fitting = 24 if len(values) == 1 else 12, max(1, (out.width - 2 + 2) // 5)
    rows, columns = requests.cut(region, values.shape[1:], fitting)
    title, shown = requests.described(path, values, rows, columns), values[:, rows, columns].astype(float)
    if as_json:
        showing.print_json({"title": title, "pixels": shown.astype(int).tolist()})
        return
    out.print(title, style="bold", markup=False)
    for name, channel in zip(("red", "green", "blue") if len(values) == 3 else ("",), shown, strict=True):
        if name:
            out.print(name, style=name)
        showing.print_array(out, channel[None])


def compare(
    first: Annotated[str | None, typer.Argument(metavar="[A", help="A picture or matrix.")] = None,
    second: Annotated[str | None, typer.Argument(metavar="B]", help="Another one of the same size.")] = None,
    size: Annotated[int, typer.Option(min=1, help="Height and width of the filters.")] = 3,
    as_json: AsJson = False,
) -> None:
    """X against X: compare pixel by pixel, and by small filters that find a pattern wherever it stands.

    Without pictures: the lecture's two X.
    """
    import numpy as np

    from svertka.commands import showing
    from svertka.explain import likeness, parsing

    if (first is None) != (second is None):
        raise DataError("one picture was given to compare: give two, or none for the lecture's two X")
    if first is None or second is None:
        a, places = likeness.slides_x(), likeness.X_PATCHES if size == 3 else None
        b, names = likeness.slides_x(deformed=True), ("the lecture's X", "its deformed twin")
    else:
        a, b, places, names = *(_grey(parsing.parse(text, text)) for text in (first, second)), None, (first, second)
    found = likeness.compare(a, b, size, places)
    shifted = likeness.compare(a, np.roll(a, 1, axis=1), size, places)
    if as_json:
        showing.print_json({"second": found.to_dict(), "first_moved_by_one": shifted.to_dict()})
        return
    out = showing.console()
    out.print(f"A: {names[0]}, B: {names[1]}, {a.shape[0]} × {a.shape[1]} pixels", style="bold", markup=False)
    if max(a.shape) <= 16:
        showing.print_lines(out, _side_by_side(a, b))
    _print_likeness(out, found, shifted)


def filters(
    path: PicturePath,
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="NAME", help="This filter alone; may be repeated.")
    ] = None,
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where the figure goes.")] = Path("filters.png"),
    channels: Annotated[int | None, typer.Option(help="1 (grey) or 3 (RGB); by default the picture's own.")] = None,
    width: Annotated[int, typer.Option(min=32, max=4000, help="Of each picture in the figure, in pixels.")] = 280,
) -> None:
    """Show what the classic filters make of PICTURE: gradients, edges, blur, sharpening, corners, in one figure."""
    from svertka.commands import showing
    from svertka.explain import gallery, parsing
    from svertka.vision.pictures import printable, read_header

    chosen = gallery.chosen(only)
    values = parsing.read_picture(path, channels, gallery.MAX_PIXELS)
    gallery.save_figure(gallery.figure(values, only, width), out)
    console = showing.console()
    for each in chosen:
        _print_filter(console, each)
    if values.shape[1:] != read_header(path).size:
        console.print(f"{printable(path)} was scaled down to {values.shape[2]} × {values.shape[1]} pixels first.")
    console.print(f"The figure is in {printable(out)}.", markup=False, soft_wrap=True)


def _print_filter(console: Console, each: Filter) -> None:
    """The filter's kernels side by side under its name."""
    from svertka.commands import showing
    from svertka.explain import tables

    console.print(f"[bold]{each.name}[/bold]  {each.title}")
    blocks = []
    for name, kernel in each.kernels:
        lines = [line[2:] for line in tables.matrix_lines(kernel.double().numpy(), console.width)]
        blocks.append(_block(lines, f"{name} = " if name != "k" else ""))
    showing.print_lines(console, ["  " + "    ".join(parts).rstrip() for parts in _rows(blocks)])
    console.print()


def _block(lines: list[str], name: str) -> list[str]:
    middle = (len(lines) - 1) // 2
    width = max(map(len, lines))
    return [(name if i == middle else " " * len(name)) + line.ljust(width) for i, line in enumerate(lines)]


def _rows(blocks: list[list[str]]) -> list[list[str]]:
    """Blocks of lines side by side, each in the middle."""
    height = max(map(len, blocks))
    padded = []
    for block in blocks:
        above, blank = (height - len(block)) // 2, " " * len(block[0])
        padded.append([blank] * above + block + [blank] * (height - above - len(block)))
    return [list(row) for row in zip(*padded, strict=True)]


def _side_by_side(a: Any, b: Any) -> list[str]:
    from svertka.explain import tables

    blocks = [tables.matrix_lines(values, 10**6) for values in (a, b)]
    heads = "    ".join(f"  {name}".ljust(len(block[0])) for name, block in zip("AB", blocks, strict=True))
    return [heads.rstrip(), *("    ".join(row) for row in _rows(blocks))]


def _print_likeness(out: Console, found: Likeness, shifted: Likeness) -> None:
    from rich import box
    from rich.table import Table

    out.print(
        f"\nPixel by pixel: {found.differing} of {found.cells} differ; {found.ones[0]} are bright in A, "
        f"{found.ones[1]} in B, {found.shared} in both.\n"
        f"A moved right by one pixel: {shifted.differing} of {shifted.cells} differ from A, {shifted.shared} are "
        "bright in both.\n"
    )
    out.print("By filters, patches of A: the best response (1 is the very pattern) and where, row and column from 0.")
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("filter")
    for name in ("in A", "in B", "in A moved right"):
        table.add_column(name, justify="right", vertical="middle")
    for each, moved in zip(found.found, shifted.found, strict=True):
        results = [(each.best[0], each.at[0]), (each.best[1], each.at[1]), (moved.best[1], moved.at[1])]
        table.add_row(_patch(each), *(f"{best:.2f} at {at[0]}, {at[1]}" for best, at in results), end_section=True)
    out.print(table)


def _patch(found: Found) -> str:
    import numpy as np

    from svertka.explain import tables

    if len(found.patch) > 5:
        return f"{len(found.patch)} × {len(found.patch)} at {found.place[0]}, {found.place[1]}"
    lines = tables.matrix_lines(np.array(found.patch), 80)
    return "\n".join(line[2:] for line in lines)


def _grey(values: Any) -> Any:
    if len(values) != 1 or values.ndim != 3:
        raise DataError("what is compared must be a picture or a matrix with one channel: leave further channels away")
    return values[0]
