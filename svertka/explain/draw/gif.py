"""The animation as a GIF, painted by Pillow in the light colours."""

from __future__ import annotations

import io
from collections.abc import Iterable
from functools import lru_cache

from PIL import Image, ImageDraw, ImageFont

from svertka.explain.draw import style
from svertka.explain.draw.sheets import Sheet
from svertka.explain.draw.svg import Box, Line, Shape, Text, moved

# Fonts with all the signs that are used, by the names they have on Linux, Windows and macOS; bold beside regular.
_FONTS = (("DejaVuSans.ttf", "DejaVuSans-Bold.ttf"), ("arial.ttf", "arialbd.ttf"), ("Arial.ttf", "Arial Bold.ttf"))
# What stands for the signs that Pillow's own font lacks.
_PLAIN = {style.MINUS: "-", "×": "x", "∞": "inf", "→": "->", "∗": "*", "√": "root "} | {
    raised: f"^{digit}" for digit, raised in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")
}
_HUNDREDTHS = 100


def animated(drawn: Sheet, seconds: float) -> bytes:
    """The whole animation; it starts again when it has stood at its end for three frames' time."""
    images = _images(drawn)
    pause = max(2, round(seconds * _HUNDREDTHS)) * 10  # milliseconds, in the format's steps of 10
    durations = [pause] * (len(images) - 1) + [3 * pause]
    buffer = io.BytesIO()
    images[0].save(
        buffer, "GIF", save_all=True, append_images=images[1:], duration=durations, loop=0, disposal=1, optimize=False
    )
    return buffer.getvalue()


def _images(drawn: Sheet) -> list[Image.Image]:
    """All frames, in one palette."""
    lasting = Image.new("RGB", (round(drawn.width), round(drawn.height)), style.LIGHT["paper"])
    full = []
    for number in range(drawn.count):
        # What is seen for one frame alone is painted on a copy; all else stays until the next frame paints over it.
        starting = [t for t in drawn.tracks if t.start == number]
        seen = [t for t in drawn.seen(number) if t.stop == t.start + 1]
        for track in starting:
            if track.stop > number + 1 or drawn.count == 1:
                _paint(lasting, moved(track.shapes, drawn.slots[track.slot].x, drawn.slots[track.slot].y))
        image = lasting.copy()
        for track in seen:
            _paint(image, moved(track.shapes, drawn.slots[track.slot].x, drawn.slots[track.slot].y))
        full.append(image)
    palette = full[-1].quantize(256, dither=Image.Dither.NONE)
    return [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in full]


def _paint(image: Image.Image, shapes: Iterable[Shape]) -> None:
    draw = ImageDraw.Draw(image)
    for shape in shapes:
        match shape:
            case Box():
                _box(draw, shape)
            case Text():
                anchor = {"start": "lm", "middle": "mm", "end": "rm"}[shape.anchor]
                font, complete = _font(round(shape.size), shape.bold)
                text = _written(shape.text, complete)
                draw.text((shape.x, shape.y), text, style.LIGHT[style.TEXTS[shape.role]], font, anchor)
                if shape.tail:
                    x = shape.x + font.getlength(text + " ")
                    bold, complete = _font(round(shape.size), True)
                    draw.text((x, shape.y), _written(shape.tail, complete), style.LIGHT["current"], bold, anchor)
            case Line():
                colour, thickness = style.LINES[shape.role]
                draw.line((shape.x, shape.y, shape.to_x, shape.to_y), style.LIGHT[colour], max(1, round(thickness)))
                if shape.arrow:
                    x, y = shape.to_x, shape.to_y
                    draw.polygon([(x, y), (x - 8, y - 4), (x - 8, y + 4)], style.LIGHT[colour])


def _written(text: str, complete: bool) -> str:
    return text if complete else "".join(_PLAIN.get(sign, sign) for sign in text)


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
def _font(size: int, bold: bool) -> tuple[ImageFont.FreeTypeFont | ImageFont.ImageFont, bool]:
    """(a font, whether it has all signs)."""
    for names in _FONTS:
        try:
            return ImageFont.truetype(names[bold], round(size * 0.94)), True
        except OSError:
            continue
    return ImageFont.load_default(size), False
