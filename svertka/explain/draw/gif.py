"""The animation as a GIF, painted by Pillow in the light colours."""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Iterable
from functools import lru_cache

from PIL import Image, ImageColor, ImageDraw, ImageFont

from svertka.errors import DataError
from svertka.explain.draw import style
from svertka.explain.draw.sheets import Sheet, Slot, Track
from svertka.explain.draw.svg import Box, Line, Shape, Text, moved

# What stands for the signs that a font lacks.
_PLAIN = {style.MINUS: "-", "×": "x", "∞": "inf", "→": "->", "∗": "*", "√": "root "} | {
    raised: f"^{digit}" for digit, raised in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")
}
# (regular, bold, what is replaced), by the names that fonts have on Linux, Windows and macOS; the last is Pillow's own.
_FONTS: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf", {}),
    ("arial.ttf", "arialbd.ttf", {"∗": "*"}),
    ("Arial.ttf", "Arial Bold.ttf", {"∗": "*"}),
)
_GROUNDS, _INKS = ("paper", "input", "window", "kernel", "output"), ("ink", "faint", "weight", "current")
_HUNDREDTHS = 100
_MOST = 1 << 28  # pixels of all frames together, which lie in memory, a byte each


def painted(drawn: Sheet, seconds: float) -> bytes:
    """The whole animation; it starts again when it has stood at its end for three frames' time.

    DataError if its frames would have more than 2²⁸ pixels together.
    """
    if drawn.count * round(drawn.width) * round(drawn.height) > _MOST:
        raise DataError(
            f"a GIF of {drawn.count} frames of {round(drawn.width)}×{round(drawn.height)} pixels would take too much "
            "memory: write .svg or .html, or take a smaller input"
        )
    images = _images(drawn)
    pause = max(2, round(seconds * _HUNDREDTHS)) * 10  # milliseconds, in the format's steps of 10
    durations = [pause] * (len(images) - 1) + [3 * pause]
    buffer = io.BytesIO()
    images[0].save(
        buffer, "GIF", save_all=True, append_images=images[1:], duration=durations, loop=0, disposal=1, optimize=True
    )
    return buffer.getvalue()


def _images(drawn: Sheet) -> list[Image.Image]:
    """All frames, in one palette.

    What changes is little: it is painted in full colours on one canvas, brought into the palette there alone, and taken
    off again if it is seen for one frame only.
    """
    palette = _palette()
    canvas = Image.new("RGB", (round(drawn.width), round(drawn.height)), style.LIGHT["paper"])
    lasting = canvas.quantize(palette=palette, dither=Image.Dither.NONE)
    images = []
    for number in range(drawn.count):
        covered = []
        for slot in {t.slot for t in drawn.tracks if t.stop == number and t.stop > t.start + 1}:  # another slice comes
            canvas.paste(style.LIGHT["paper"], _around(drawn.slots[slot], canvas))
        for track in [t for t in drawn.tracks if t.start == number and t.stop > number + 1]:
            _paint(canvas, _placed(drawn, track))
            _settle(canvas, lasting, _extent(drawn, track, canvas), palette)
        image = lasting.copy()
        for track in [t for t in drawn.tracks if t.start == number and t.stop == number + 1]:
            extent = _extent(drawn, track, canvas)
            covered.append((extent, canvas.crop(extent)))
            _paint(canvas, _placed(drawn, track))
            _settle(canvas, image, extent, palette)
        for extent, before in reversed(covered):
            canvas.paste(before, extent)
        images.append(image)
    return images


def _placed(drawn: Sheet, track: Track) -> list[Shape]:
    slot = drawn.slots[track.slot]
    return moved(track.shapes, slot.x, slot.y)


def _extent(drawn: Sheet, track: Track, canvas: Image.Image) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of all that a track paints: of its boxes, or of its slot if text stands above them."""
    slot, placed = drawn.slots[track.slot], _placed(drawn, track)
    boxes = [shape for shape in placed if isinstance(shape, Box)]
    top = min((box.y for box in boxes), default=math.inf)
    if any(isinstance(shape, Text) and shape.y < top for shape in placed):
        return _around(slot, canvas)
    left, right = min(box.x for box in boxes), max(box.x + box.width for box in boxes)
    bottom = max(box.y + box.height for box in boxes)
    return _around(Slot(left, top, right - left, bottom - top), canvas)


def _around(slot: Slot, canvas: Image.Image) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of a part of the sheet with the outlines that overhang it."""
    return (
        max(0, int(slot.x) - 4), max(0, int(slot.y) - 4),
        min(canvas.width, int(slot.x + slot.width) + 5), min(canvas.height, int(slot.y + slot.height) + 5),
    )  # fmt: skip


def _settle(
    canvas: Image.Image, image: Image.Image, extent: tuple[int, int, int, int], palette: Image.Image
) -> None:  # fmt: skip
    """Brings a part of the canvas into the palette."""
    image.paste(canvas.crop(extent).quantize(palette=palette, dither=Image.Dither.NONE), extent)


def _palette() -> Image.Image:
    """The light colours, and the shades between each text and what it stands on."""
    colours = {ImageColor.getrgb(colour): None for colour in style.LIGHT.values()}
    pairs = [*itertools.product(_GROUNDS, _INKS), ("current", "on-current")]
    for ground, ink in pairs:
        between = list(zip(*(ImageColor.getrgb(style.LIGHT[name]) for name in (ground, ink)), strict=True))
        for share in range(1, 8):
            red, green, blue = ((a * (8 - share) + b * share) // 8 for a, b in between)
            colours[red, green, blue] = None
    flat = [value for colour in list(colours)[:255] for value in colour]
    image = Image.new("P", (1, 1))
    image.putpalette(flat)
    return image


def _paint(image: Image.Image, shapes: Iterable[Shape]) -> None:
    draw = ImageDraw.Draw(image)
    for shape in shapes:
        match shape:
            case Box():
                _box(draw, shape)
            case Text():
                end = _write(image, shape, shape.text, style.TEXTS[shape.role], shape.x, shape.bold)
                if shape.tail:
                    _write(image, shape, shape.tail, "current", end + shape.size / 3, True)
            case Line():
                colour, thickness = style.LINES[shape.role]
                draw.line((shape.x, shape.y, shape.to_x, shape.to_y), style.LIGHT[colour], max(1, round(thickness)))
                if shape.arrow:
                    x, y = shape.to_x, shape.to_y
                    draw.polygon([(x, y), (x - 8, y - 4), (x - 8, y + 4)], style.LIGHT[colour])


def _write(image: Image.Image, shape: Text, text: str, colour: str, x: float, bold: bool) -> float:
    """Writes a text; returns where it ends."""
    mask, length, top = _glyphs(text, round(shape.size), bold)
    left = x - {"start": 0.0, "middle": length / 2, "end": length}[shape.anchor]
    image.paste(style.LIGHT[colour], (round(left), round(shape.y + top)), mask)
    return left + length


@lru_cache(maxsize=4096)
def _glyphs(text: str, size: int, bold: bool) -> tuple[Image.Image, float, float]:
    """(the text as a mask, its length, how far its upper edge is below the middle of the line)."""
    font, replaced = _font(size, bold)
    text = "".join(replaced.get(sign, sign) for sign in text)
    length, (_, top, _, bottom) = font.getlength(text), font.getbbox(text, anchor="lm")
    mask = Image.new("L", (max(1, math.ceil(length) + 2), max(1, math.ceil(bottom - top))))
    ImageDraw.Draw(mask).text((0, -top), text, 255, font, "lm")
    return mask, length, top


def _box(draw: ImageDraw.ImageDraw, box: Box) -> None:
    fill, outline, thickness, dashes = style.BOXES[box.role]
    left, top, right, bottom = (round(v) for v in (box.x, box.y, box.x + box.width, box.y + box.height))
    if fill:
        draw.rectangle((left, top, right, bottom), style.LIGHT[fill])
    if box.hatched:
        for offset in range(10 - (bottom - top), right - left, 10):
            start, stop = max(offset, 0), min(offset + bottom - top, right - left)
            line = (left + start, bottom - (start - offset), left + stop, bottom - (stop - offset))
            draw.line(line, style.LIGHT["line"])
    if outline and not dashes:
        draw.rectangle((left, top, right, bottom), None, style.LIGHT[outline], round(thickness))
    elif outline:
        on, off = map(int, dashes.split())
        for x in range(left, right, on + off):
            for y in (top, bottom):
                draw.line((x, y, min(x + on - 1, right), y), style.LIGHT[outline])
        for y in range(top, bottom, on + off):
            for x in (left, right):
                draw.line((x, y, x, min(y + on - 1, bottom)), style.LIGHT[outline])


@lru_cache(maxsize=64)
def _font(size: int, bold: bool) -> tuple[ImageFont.FreeTypeFont | ImageFont.ImageFont, dict[str, str]]:
    """(a font, what stands for the signs that it lacks)."""
    for regular, heavy, replaced in _FONTS:
        try:
            return ImageFont.truetype(heavy if bold else regular, round(size * 0.94)), replaced
        except OSError:
            continue
    return ImageFont.load_default(size), _PLAIN
