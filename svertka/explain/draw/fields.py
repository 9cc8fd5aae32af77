"""A receptive field drawn on the input: a grid, or the picture with all that isn't seen behind a veil."""

from __future__ import annotations

import base64
import io
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from svertka.errors import DataError
from svertka.explain.draw import style, svg
from svertka.explain.draw.titles import times
from svertka.explain.inputs import numbers

if TYPE_CHECKING:
    from svertka.explain.fields import Mask, ReceptiveField

Picture = Any  # a path, a tensor or an array
_SIDE = 400  # of the picture, at most
_WIDTH = 56  # letters of a caption, at most
_STRIP = 40  # height of an input with one axis
_CSS = (
    ".svertka .veil{fill:var(--paper);opacity:.72}"
    ".svertka .seen{fill:var(--window)}"
    ".svertka .edge{fill:none;stroke:var(--window-line);stroke-width:2;stroke-linejoin:round;stroke-linecap:round}"
    ".svertka .places{stroke:var(--line);stroke-width:1;fill:none}"
    ".svertka .told{fill:none;stroke:var(--faint);stroke-width:1.5;stroke-dasharray:6 4}"
)


def drawing(field: ReceptiveField, picture: Picture | None = None) -> str:
    """The field as a whole SVG; see `fields.ReceptiveField.svg`."""
    mask = field.seen
    flat = mask if mask.ndim < 3 else mask.any(axis=0)
    plane = np.atleast_2d(flat)
    rows, columns = plane.shape
    cell = min(style.CELL, _SIDE / max(rows, columns))
    tall = _STRIP if mask.ndim == 1 else cell
    width, height = columns * cell, rows * tall
    (before, after), (above, below) = _overhang(field, -1, cell), _overhang(field, -2, cell)
    left, top = style.MARGIN + before, style.MARGIN + 48 + above
    body = [_panel(plane, cell, tall, None if picture is None else _image(picture, field, width, height))]
    told = _told(field, cell, tall)
    captions = _captions(field)
    total = max(left + width + after + style.MARGIN, 12 + 7.3 * max(map(len, captions)))
    texts: list[svg.Shape] = [svg.Text(style.MARGIN, style.MARGIN + 4, captions[0], 16, anchor="start", bold=True)]
    texts.append(svg.Text(style.MARGIN, style.MARGIN + 27, captions[1], style.CAPTION, "faint", "start"))
    bottom = top + height + below
    for line, caption in enumerate(captions[2:]):
        texts.append(svg.Text(style.MARGIN, bottom + 22 + 19 * line, caption, style.CAPTION, "faint", "start"))
    placed = f'<g transform="translate({left:g} {top:g})">{"".join(body)}{told}</g>'
    end = bottom + 10 + 19 * len(captions[2:]) + 12
    return svg.document(svg.elements(texts) + placed, round(total), round(end), str(field), _CSS)


def _panel(mask: Mask, cell: float, tall: float, image: str | None) -> str:
    """The input with what is seen of it."""
    rows, columns = mask.shape
    width, height = columns * cell, rows * tall
    frame = f'<rect width="{width:g}" height="{height:g}" class="b-{"plain" if image else "input"}"/>'
    if image is None:
        parts = [frame, f'<path d="{_filled(mask, cell, tall)}" class="seen"/>']
        if max(rows, columns) <= 32:
            lines = "".join(f"M{x * cell:g} 0V{height:g}" for x in range(1, columns))
            lines += "".join(f"M0 {y * tall:g}H{width:g}" for y in range(1, rows))
            parts.append(f'<path d="{lines}" class="places"/>')
    else:
        parts = [image, f'<path d="{_filled(~mask, cell, tall)}" class="veil"/>', frame]
    return "".join([*parts, f'<path d="{_outline(mask, cell, tall)}" class="edge"/>'])


def _filled(mask: Mask, cell: float, tall: float) -> str:
    """A path over the cells of a mask: a rectangle for each run, over all rows that are alike."""
    return "".join(
        f"M{start * cell:g} {first * tall:g}H{(end + 1) * cell:g}V{(last + 1) * tall:g}H{start * cell:g}Z"
        for first, last in _alike(mask)
        for start, end in _runs(mask[first])
    )


def _outline(mask: Mask, cell: float, tall: float) -> str:
    """A path along all edges between what is marked and what isn't."""
    bordered = np.pad(mask, 1)
    flat, upright = bordered[1:] != bordered[:-1], (bordered[:, 1:] != bordered[:, :-1]).T
    lines = [
        f"M{(start - 1) * cell:g} {y * tall:g}H{end * cell:g}"
        for y, line in enumerate(flat)
        for start, end in _runs(line)
    ]
    lines += [
        f"M{x * cell:g} {(start - 1) * tall:g}V{end * tall:g}"
        for x, line in enumerate(upright)
        for start, end in _runs(line)
    ]
    return "".join(lines)


def _alike(mask: Mask) -> Iterator[tuple[int, int]]:
    """(first, last) of neighbouring rows that are equal."""
    changes = np.flatnonzero((mask[1:] != mask[:-1]).any(axis=1)) + 1
    starts = [0, *changes.tolist()]
    yield from zip(starts, [*(start - 1 for start in starts[1:]), len(mask) - 1], strict=True)


def _runs(line: Mask) -> list[tuple[int, int]]:
    from svertka.explain.fields import runs

    return runs(line)


def _sides(field: ReceptiveField, axis: int) -> tuple[int, int] | None:
    """(first place, size) of the field that numbers tell for the output, padding included."""
    if field.numbers is None or len(field.numbers) < -axis:
        return None
    numbers = field.numbers[axis]
    if numbers.whole or (numbers.stride is not None and len(field.at) < -axis):
        return None
    return numbers.offset + (numbers.stride or 0) * (field.at[axis] if numbers.stride else 0), numbers.size


def _overhang(field: ReceptiveField, axis: int, cell: float = 1.0) -> tuple[float, float]:
    """Pixels that the field reaches over the input's two edges, where that is little enough to be drawn."""
    sides = _sides(field, axis)
    if sides is None or len(field.input_size) - 1 < -axis or _far(field):
        return 0, 0
    first, size = sides
    return max(0, -first) * cell, max(0, first + size - field.input_size[axis]) * cell


def _far(field: ReceptiveField) -> bool:
    """Whether the field reaches so far over the input's edges that it isn't drawn there."""
    for axis in range(-min(2, len(field.input_size) - 1), 0):
        sides, n = _sides(field, axis), field.input_size[axis]
        if sides is None or max(-sides[0], sides[0] + sides[1] - n) > max(2, 0.25 * n):
            return True
    return False


def _told(field: ReceptiveField, cell: float, tall: float) -> str:
    """A dashed frame around the field with its padding, where it reaches over the edge."""
    if _far(field) or not any(any(_overhang(field, axis)) for axis in (-1, -2)):
        return ""
    x, width = _sides(field, -1) or (0, 1)
    y, height = (_sides(field, -2) or (0, 1)) if len(field.input_size) > 2 else (0, 1)
    return f'<rect x="{x * cell:g}" y="{y * tall:g}" width="{width * cell:g}" height="{height * tall:g}" class="told"/>'


def _captions(field: ReceptiveField) -> list[str]:
    """A heading, what is seen, and the numbers."""
    where = f" at ({', '.join(map(str, field.at))})" if field.at else ""
    share = field.seen.mean()
    lines = [f"{field.layer}{where}", str(field).partition(" sees ")[2] or "sees nothing of the input"]
    lines[1] = f"sees {lines[1]}, {share:.0%}" if 0.005 < share < 1 else f"sees {lines[1]}"
    if field.numbers and any(axis.stride for axis in field.numbers):
        sizes = times([axis.size for axis in field.numbers])
        steps = [axis.stride or 0 for axis in field.numbers]
        stride = times(steps[:1] if len(set(steps)) == 1 else steps)
        lines.append(f"field {sizes}, stride {stride}, padding counted in")
    elif field.reason:
        lines += textwrap.wrap(field.reason, _WIDTH)
    if len(field.input_size) == 4:
        lines.append("depth, height, width; drawn as seen from the front")
    if field.rough:
        lines.append("at most these: some may not be seen")
    return lines


def _image(picture: Picture, field: ReceptiveField, width: float, height: float) -> str:
    size = field.input_size[1:]
    if len(size) != 2:
        raise DataError(f"a picture lies under an input with two axes only, not under one of {times(size)}")
    stream = io.BytesIO()
    _pixels(picture, (size[0], size[1])).save(stream, "PNG")
    data = base64.b64encode(stream.getvalue()).decode()
    coarse = ' style="image-rendering:pixelated"' if max(size) < 100 else ""
    return (
        f'<image width="{width:g}" height="{height:g}" preserveAspectRatio="none"{coarse} '
        f'href="data:image/png;base64,{data}"/>'
    )


def _pixels(picture: Picture, size: tuple[int, int]) -> Image.Image:
    """The picture in the input's size."""
    if isinstance(picture, (str, Path)):
        from svertka.vision.pictures import Preprocessing

        reader = Preprocessing(channels=3, size=size, fit="stretch", mean=(0.0,) * 3, std=(1.0,) * 3)
        return Image.fromarray(np.ascontiguousarray(reader.decode(picture).numpy().transpose(1, 2, 0)))
    values = numbers(picture, "picture")
    values = values[None] if values.ndim == 2 else values
    if values.ndim != 3 or len(values) not in (1, 3):
        raise DataError(f"the picture has the shape {values.shape}: give [height, width] or [1 or 3, height, width]")
    scale = 255 if values.max(initial=0) <= 1 else 1
    pixels = (values * scale).clip(0, 255).round().astype(np.uint8).transpose(1, 2, 0)
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else np.ascontiguousarray(pixels))
    return image.convert("RGB").resize((size[1], size[0]))
