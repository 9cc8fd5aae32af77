"""Filters, templates, feature maps and what excites units, drawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from svertka.explain.draw.titles import times
from svertka.inspect.draw.looks import (
    HEADING,
    SMALL,
    TEXT,
    WIDTH,
    Array,
    Sheet,
    around_grey,
    mosaic,
    pixels_of,
    short,
    signed,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from svertka.inspect.excitement import Excitement
    from svertka.inspect.maps import FeatureMaps, LayerMaps
    from svertka.inspect.synthesis import Synthesised
    from svertka.inspect.weights import Filters, Templates

_TOP = HEADING + 20  # where what stands under a heading begins
_LABEL = 190  # width of what names a row


def filters(bank: Filters, most: int = 64) -> Figure:
    """Filters as tiles: of pixels one each, as colours or signed; else a table, outputs in rows, inputs in columns.

    A table shows the strongest 8 outputs on at most 16 inputs; connections that a grouped convolution lacks stay empty.

    Args:
        bank: of `svertka.inspect.filters`.
        most: tiles at most, where there is one for each filter.
    """
    count, _, height, width = bank.weight.shape
    size = times((height, width))
    if bank.kind in ("RGB", "grey", "depthwise"):
        chosen = bank.strongest(most)
        tiles = [_tile(bank, int(output)) for output in chosen]
        some = f"the {len(chosen)} strongest of {count}" if len(chosen) < count else f"{count}"
        on = {"RGB": "on red, green and blue", "grey": "on grey", "depthwise": "one for each channel"}[bank.kind]
        return _tiles(f"{bank.layer}: {some} filters {size}, {on}", tiles, bank.kind != "RGB", bank.scale)
    return _table(bank, size)


def templates(found: Templates) -> Figure:
    """The weights of each class, back in the shape of a picture, with the class's name."""
    scale, rgb = float(np.abs(found.weight).max()), found.weight.shape[1] == 3
    tiles = [around_grey(w, scale) if rgb else signed(w.mean(0), scale) for w in found.weight]
    title = f"{found.layer}: the template of each class"
    return _tiles(title, tiles, not rgb, scale, [short(name, 14) for name in found.names], columns=5)


def feature_maps(
    maps: FeatureMaps, picture: Array, stages: Sequence[int] | None = None, channels: int = 8, title: str = ""
) -> Figure:
    """A picture on its way through the network, stage by stage: the same channels before and after each step.

    Left of each stage stands the picture with a frame around what the chosen place sees. White is 0, blue positive,
    orange negative; a channel has one scale throughout its stage (before a norm, one of its own).

    Args:
        maps: of `svertka.inspect.feature_maps`.
        picture: uint8 [1 or 3, height, width].
        stages: which of `maps.stages`, from 0; None: at most four, evenly spread, the first and the last among them.
        channels: how many, those that are strongest at the end of the stage.
        title: stands above.
    """
    every = maps.stages
    chosen = [every[i] for i in (evenly(len(every), 4) if stages is None else stages)]
    side, gap, room = 68, 6, 30
    heights = [max(len(stage), 2) * (side + gap) + room for stage in chosen]
    sheet = Sheet(_LABEL + 80 + channels * (side + gap), _TOP + 6 + sum(heights), title or "From layer to layer")
    y: float = _TOP + 6
    for stage, height in zip(chosen, heights, strict=True):
        _stage(sheet, stage, picture, y, side, gap, channels)
        y += height
    return sheet.figure


def exciting(
    found: Excitement,
    picture_of: Callable[[int], Array],
    units: Sequence[int],
    *,
    made: Mapping[int, Synthesised] | None = None,
    names: Sequence[str] = (),
    columns: int = 9,
) -> Figure:
    """For each unit a row: the picture that was made for it, and what excites it most in the data set.

    Args:
        found: of `svertka.inspect.exciting`.
        picture_of: gives picture i of the stream, uint8 [1 or 3, height, width].
        units: which.
        made: by unit, of `svertka.inspect.synthesise`.
        names: of the units, such as the classes.
        columns: pictures in a row, at most.
    """
    side, gap = 72, 5
    made = made or {}
    ranks = min(columns, found.values.shape[1])
    start = _LABEL + (side + 22 if made else 0)
    title = f"{found.layer.name}: what excites its units most"
    sheet = Sheet(start + ranks * (side + gap), _TOP + 20 + len(units) * (side + gap), title)
    if made:
        sheet.text(_LABEL, _TOP + 6, "made for it", SMALL, "faint")
    sheet.text(start, _TOP + 6, f"of {found.count} pictures", SMALL, "faint")
    for row, unit in enumerate(units):
        y = _TOP + 20 + row * (side + gap)
        name = short(names[unit], 22) if names else f"unit {unit}"
        sheet.text(0, y + side / 2 - 9, name, TEXT, bold=True)
        span = f"up to {found.values[unit, 0]:.3g}; mean {found.mean[unit]:.2g}".replace("-", "−")
        sheet.text(0, y + side / 2 + 10, span, SMALL, "faint")
        if unit in made:
            sheet.picture(pixels_of(_seen(found, unit, None, made[unit].picture)), _LABEL, y, side, side)
        for rank in range(ranks):
            patch = _seen(found, unit, rank, picture_of(int(found.pictures[unit, rank])))
            sheet.picture(pixels_of(patch), start + rank * (side + gap), y, side, side)
    return sheet.figure


def evenly(count: int, most: int) -> list[int]:
    """At most so many of 0 … count − 1, evenly spread, with both ends."""
    if count <= most:
        return list(range(count))
    return sorted({round(i * (count - 1) / (most - 1)) for i in range(most)})


def _seen(found: Excitement, unit: int, rank: int | None, picture: Array) -> Array:
    """The part of the picture that excites the unit; of one made for it (no rank), the middle of that size."""
    size = picture.shape[1:]
    if rank is not None:
        seen = found.seen(unit, rank, size)
    else:
        seen = found.layer.seen_by(tuple(n // 2 for n in found.layer.output[1:]), size)
    if seen is None or len(seen) != 2:
        return picture
    (top, bottom), (left, right) = seen
    sides = [axis.size for axis in found.layer.field or ()]
    if any(side > 0.8 * n for side, n in zip(sides, size, strict=True)):
        return picture
    patch = picture[:, top : bottom + 1, left : right + 1]
    lacking = [side - n for side, n in zip(sides, patch.shape[1:], strict=True)]
    if any(lacking):  # at the edge: the field goes on over padding
        blank = np.full((len(patch), *sides), 128, np.uint8)
        y, x = lacking[0] if top == 0 else 0, lacking[1] if left == 0 else 0
        blank[:, y : y + patch.shape[1], x : x + patch.shape[2]] = patch
        return blank
    return patch


def _stage(
    sheet: Sheet, stage: Sequence[LayerMaps], picture: Array, y: float, side: int, gap: int, channels: int
) -> None:
    last = stage[-1]
    order = last.strongest[:channels]
    start = _LABEL + 80
    room = 2 * side + gap
    height, width = picture.shape[1:]
    tall, wide = (room * height / max(height, width), room * width / max(height, width))
    scale = min(1.0, 120 / wide)
    tall, wide = tall * scale, wide * scale
    sheet.picture(pixels_of(picture), 0, y, wide, tall)
    if last.seen is not None and len(last.seen) == 2:
        (top, bottom), (left, right) = last.seen
        ky, kx = tall / height, wide / width
        sheet.box(left * kx, top * ky + y, (right - left + 1) * kx, (bottom - top + 1) * ky, "warning", thick=2)
    for column, channel in enumerate(order):
        sheet.text(start + column * (side + gap) + side / 2, y - 11, str(channel), SMALL, "faint", "center")

    def shown(maps: LayerMaps) -> Sequence[LayerMaps]:
        """The steps on one scale: what stands before a norm has its own."""
        norm = next((i for i, step in enumerate(stage) if step.layer.role == "norm"), 0)
        return stage[:norm] if maps in stage[:norm] else stage[norm:]

    for row, maps in enumerate(stage):
        above = y + row * (side + gap)
        sheet.text(start - 12, above + side / 2 - 9, maps.layer.kind, TEXT, anchor="right", bold=True)
        sheet.text(start - 12, above + side / 2 + 9, _sizes(maps), SMALL, "faint", "right")
        for column, channel in enumerate(order):
            # After a nonlinearity small values are of interest: what is cut off before it may be deeper than the scale.
            deepest = max(float(np.abs(step.values[channel]).max()) for step in stage if step in shown(maps))
            scale = max(float(np.abs(shown(maps)[-1].values[channel]).max()), 0.35 * deepest)
            values = maps.values[channel].reshape(maps.values.shape[1], -1)
            sheet.picture(signed(values, scale), start + column * (side + gap), above, side, side)


def _sizes(maps: LayerMaps) -> str:
    channels, *size = maps.layer.output
    return f"{channels} × {times(size)}"


def _tile(bank: Filters, output: int) -> Array:
    weight = bank.weight[output]
    return around_grey(weight, bank.scale) if bank.kind == "RGB" else signed(weight[0], bank.scale)


def _tiles(
    title: str, tiles: Sequence[Array], is_signed: bool, scale: float, names: Sequence[str] = (), columns: int = 16
) -> Figure:
    height, width = tiles[0].shape[:2]
    columns = min(columns, len(tiles))
    side = min(WIDTH // columns - 6, 110 if names else 54)
    tall = side * height / width
    step_x, step_y = side + (24 if names else 6), tall + (26 if names else 6)
    rows = -(-len(tiles) // columns)
    total = max(columns * step_x, 8.2 * len(title))
    sheet = Sheet(total, _TOP + rows * step_y + (26 if is_signed else 0), title)
    for i, tile in enumerate(tiles):
        x, y = i % columns * step_x, _TOP + i // columns * step_y
        sheet.picture(tile, x, y, side, tall)
        if names:
            sheet.text(x + side / 2, y + tall + 11, names[i], SMALL, anchor="center")
    if is_signed:
        scale_bar(sheet, 0, _TOP + rows * step_y + 8, scale)
    return sheet.figure


def scale_bar(sheet: Sheet, x: float, y: float, scale: float) -> None:
    """What the colours of `signed` mean: from −scale to +scale."""
    sheet.picture(signed(np.linspace(-1, 1, 41)[None], 1.0), x + 52, y, 140, 12)
    sheet.text(x + 46, y + 6, f"−{scale:.2g}", SMALL, "faint", "right")
    sheet.text(x + 198, y + 6, f"+{scale:.2g}", SMALL, "faint")


def _table(bank: Filters, size: str) -> Figure:
    """Outputs in rows, inputs in columns."""
    count, share, height, width = bank.weight.shape
    rows = bank.strongest(8)
    if bank.groups > 1:  # of each group alike many, so that the blocks are seen
        rows = np.array(evenly(count, 16))
    seen = sorted({i for output in rows for i in bank.inputs_of(int(output))})
    columns = [seen[i] for i in evenly(len(seen), 16)]
    side, gap, left = min(46, (WIDTH - 60) // max(len(columns), 1) - 4), 4, 54
    top = _TOP + 26
    tall = side * height / width
    what = f"{count} filters {size} on {share * bank.groups} channels"
    groups = f" in {bank.groups} groups" if bank.groups > 1 else ""
    some = f", {len(rows)} × {len(columns)} of them" if len(rows) < count or len(columns) < len(seen) else ""
    title = f"{bank.layer}: {what}{groups}{some}"
    sheet_width = max(left + len(columns) * (side + gap), 8.2 * len(title))
    sheet = Sheet(sheet_width, top + len(rows) * (tall + gap) + 28, title)
    sheet.text(0, top - 10, "out \\ in", SMALL, "faint")
    for column, channel in enumerate(columns):
        sheet.text(left + column * (side + gap) + side / 2, top - 10, str(channel), SMALL, "faint", "center")
    scale: Any = float(np.abs(bank.weight[rows]).max()) or 1.0
    for row, output in enumerate(rows.tolist()):
        y = top + row * (tall + gap)
        sheet.text(left - 10, y + tall / 2, str(output), SMALL, "faint", "right")
        own = bank.inputs_of(output)
        blank = np.full((height, width, 3), 255, np.uint8)
        tiles = [signed(bank.weight[output, c - own.start], scale) if c in own else blank for c in columns]
        for column, (channel, tile) in enumerate(zip(columns, tiles, strict=True)):
            if channel in own:
                sheet.picture(tile, left + column * (side + gap), y, side, tall)
            else:
                sheet.text(left + column * (side + gap) + side / 2, y + tall / 2, "·", TEXT, "line", "center")
    scale_bar(sheet, 0, top + len(rows) * (tall + gap) + 10, scale)
    return sheet.figure


__all__ = ["exciting", "feature_maps", "filters", "mosaic", "templates"]
