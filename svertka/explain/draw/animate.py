"""The animation as a file: SVG that plays by itself, a page with a player, a GIF."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

from svertka.errors import DataError
from svertka.explain.draw import svg
from svertka.explain.draw.frames import Frames
from svertka.explain.draw.sheets import Sheet, Track, sheet

_REST = 2  # frames' time that the end stands longer before all starts again


def write(frames: Frames, path: Path, seconds: float) -> None:
    """Writes the animation; the file is whole or not there.

    Args:
        frames: what to show.
        path: its ending says how: .svg, .html or .gif.
        seconds: how long each frame stands.

    Raises:
        DataError: for another ending, a folder that isn't there or a time that isn't positive.
    """
    from svertka.explain.draw.gif import painted
    from svertka.explain.draw.page import whole
    from svertka.files import written_beside

    makers: dict[str, Callable[[Sheet, float], str | bytes]] = {".svg": animated, ".html": whole, ".gif": painted}
    make = makers.get(path.suffix.lower())
    if make is None:
        raise DataError(f"an animation can't be written as {path.name!r}: give a name that ends in .svg, .html or .gif")
    if not (math.isfinite(seconds) and seconds > 0):
        raise DataError(f"seconds={seconds} is no time for a frame to stand: give a positive number")
    if not path.parent.is_dir():
        raise DataError(f"there is no folder {path.parent} to write {path.name} to: make it first")
    content = make(sheet(frames), seconds)
    with written_beside(path) as beside:
        beside.write_bytes(content if isinstance(content, bytes) else content.encode())


def still(frames: Frames, number: int) -> str:
    """One frame as a whole SVG."""
    one = sheet(frames, number)
    return _document(one, "".join(_group(one, track) for track in one.tracks), "")


def animated(drawn: Sheet, seconds: float) -> str:
    """The whole animation as an SVG that plays by itself; it stands still at the end where motion is unwelcome."""
    total = drawn.count + _REST
    spans = {(t.start, t.stop) for t in drawn.tracks if (t.start, t.stop) != (0, drawn.count)}
    rules = ["@media (prefers-reduced-motion:reduce){.svertka g{animation:none!important}}"]
    for start, stop in sorted(spans):
        name = f"f{start}_{stop}"
        last = "visible" if stop == drawn.count else "hidden"
        rules.append(f".{name}{{visibility:{last};animation:{name} {seconds * total:g}s step-end infinite}}")
        rules.append(f"@keyframes {name}{{{_keyframes(start / total, stop / total if stop < drawn.count else 1)}}}")
    body = "".join(
        _group(drawn, t, f"f{t.start}_{t.stop}" if (t.start, t.stop) in spans else "") for t in drawn.tracks
    )  # fmt: skip
    return _document(drawn, body, "".join(rules))


def embedded(frames: Frames) -> str:
    """The player alone, to be put into another page, such as a notebook."""
    from svertka.explain.draw.page import player

    return player(sheet(frames))


def _keyframes(start: float, stop: float) -> str:
    """Hidden before `start`, visible, hidden again from `stop` on; both as shares of the whole time."""
    steps = {0.0: "hidden", start: "visible"}
    if stop < 1:
        steps[stop] = "hidden"
    return "".join(f"{100 * share:.6g}%{{visibility:{seen}}}" for share, seen in steps.items())


def _group(drawn: Sheet, track: Track, name: str = "") -> str:
    slot = drawn.slots[track.slot]
    named = f' class="{name}"' if name else ""
    return f'<g{named} transform="translate({slot.x:g} {slot.y:g})">{svg.elements(track.shapes)}</g>'


def _document(drawn: Sheet, body: str, css: str) -> str:
    return svg.document(body, drawn.width, drawn.height, drawn.title, css)
