"""The paper that figures are drawn on, in pixels from the top left corner, and colours; those of `explain.draw.style`.

A figure written as SVG follows the light or dark theme of the page it stands on.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from svertka.errors import DataError
from svertka.explain.draw.style import FONT, LIGHT, MINUS
from svertka.files import written_beside
from svertka.inspect.extras import need

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = npt.NDArray[Any]
DPI = 96  # so that a pixel of the drawing is one of a page
WIDTH = 920  # of a figure, at most
TEXT, SMALL, HEADING = 13, 11, 15
MARGIN = 8
LINES = ("current", "warning", "accent", "weight", "window-line", "faint")
# What is positive, speaks for, is right; what is negative, speaks against, is wrong: as in the lab.
FOR, AGAINST = "current", "warning"

_FORMATS = (".png", ".svg", ".pdf")
_THEMED = ("ink", "faint", "line", "input", "current", "on-current", "accent", "warning", "weight", "window-line")
_POINTS = 72 / DPI
_RC = {
    "svg.fonttype": "none",
    "svg.hashsalt": "svertka",
    "image.composite_image": False,
    "font.family": ["DejaVu Sans"],
    "axes.edgecolor": LIGHT["line"],
    "axes.labelcolor": LIGHT["faint"],
    "axes.unicode_minus": True,
    "xtick.color": LIGHT["faint"],
    "ytick.color": LIGHT["faint"],
    "text.color": LIGHT["ink"],
    "xtick.labelsize": SMALL * _POINTS,
    "ytick.labelsize": SMALL * _POINTS,
    "axes.labelsize": SMALL * _POINTS,
}


class Sheet:
    """A figure of so many pixels, on which pictures, texts and charts are laid; y grows downwards."""

    def __init__(self, width: float, height: float, title: str = "") -> None:
        self.matplotlib = need("matplotlib", "a figure")
        figures = need("matplotlib.figure", "a figure")
        self.width, self.height = width, height
        with self.matplotlib.rc_context(_RC):
            self.figure: Figure = figures.Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor="none")
            self.paper: Axes = self.figure.add_axes((0, 0, 1, 1))
        self.paper.set_axis_off()
        self.paper.set(xlim=(0, width), ylim=(height, 0))
        if title:
            self.text(0, HEADING / 2 + 2, title, HEADING, bold=True)

    def picture(self, pixels: Array, x: float, y: float, width: float, height: float) -> None:
        """uint8 [h, w, 3 or 4] or [h, w] in a rectangle, each pixel a sharp square."""
        with self.matplotlib.rc_context(_RC):
            rgb = _as_large_as_seen(pixels if pixels.ndim == 3 else np.repeat(pixels[:, :, None], 3, 2), height, width)
            extent = (x, x + width, y + height, y)
            self.paper.imshow(rgb, extent=extent, interpolation="none", aspect="auto", zorder=1)
        self.paper.set(xlim=(0, self.width), ylim=(self.height, 0))

    def text(
        self,
        x: float,
        y: float,
        text: str,
        size: float = TEXT,
        role: str = "ink",
        anchor: str = "left",
        bold: bool = False,
    ) -> None:
        """One line, centred vertically on y."""
        weight = "bold" if bold else "normal"
        with self.matplotlib.rc_context(_RC):
            self.paper.text(
                x, y, _plain(text), fontsize=size * _POINTS, color=LIGHT[role], ha=anchor, va="center_baseline",
                fontweight=weight, zorder=4,
            )  # fmt: skip

    def box(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        edge: str = "",
        fill: str = "",
        alpha: float = 1.0,
        thick: float = 1.5,
    ) -> None:
        """A rectangle; `edge` and `fill` are colours of the style, or nothing."""
        patches = need("matplotlib.patches", "a figure")
        self.paper.add_patch(
            patches.Rectangle(
                (x, y), width, height, edgecolor=LIGHT[edge] if edge else "none", linewidth=thick * _POINTS,
                facecolor=LIGHT[fill] if fill else "none", alpha=alpha, zorder=3 if edge else 0.5,
            )
        )  # fmt: skip

    def chart(self, x: float, y: float, width: float, height: float, title: str = "") -> Axes:
        """Axes for a chart in a rectangle; its labels stand outside."""
        with self.matplotlib.rc_context(_RC):
            axes = self.figure.add_axes(
                (x / self.width, 1 - (y + height) / self.height, width / self.width, height / self.height)
            )
            axes.set_facecolor("none")
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(True, color=LIGHT["line"], linewidth=0.5, alpha=0.6)
            axes.set_axisbelow(True)
            axes.tick_params(length=0)
        if title:
            self.text(x, y - 14, title, TEXT, bold=True)
        return axes


def svg(figure: Figure) -> str:
    """The figure as an SVG element that follows the page's theme, by the variables of `explain.draw.style.css`."""
    matplotlib, stream = need("matplotlib", "a figure"), io.StringIO()
    with matplotlib.rc_context(_RC):
        figure.savefig(stream, format="svg", metadata={"Date": None}, transparent=True)
    text = stream.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    used = set(re.findall(r"#([\w-]+)", text))
    text = re.sub(r' id="([^"]*)"', lambda match: match[0] if match[1] in used else "", text)
    for name in _THEMED:
        text = text.replace(LIGHT[name], f"var(--{name})")
    width, height = (round(side * DPI) for side in figure.get_size_inches())
    opening = re.sub(r' (width|height)="[^"]*"', "", text[: text.index(">")])
    text = f'{opening} width="{width}" height="{height}" style="min-width:{min(width, 640)}px"{text[text.index(">") :]}'
    text = text.replace("'DejaVu Sans'", FONT.replace('"', "'")).replace(
        'xmlns:xlink="http://www.w3.org/1999/xlink"', ""
    )
    return re.sub(r"\n\s*", "\n", text.replace("xlink:href", "href"))


def save(figure: Figure, path: str | Path) -> None:
    """Write a figure on white paper, whole or not at all; the name's ending says the format: .png, .svg or .pdf."""
    path = Path(path)
    if path.suffix.lower() not in _FORMATS:
        raise DataError(f"a figure cannot be written as {path}: give a name that ends in .png, .svg or .pdf")
    matplotlib = need("matplotlib", "a figure")
    with matplotlib.rc_context(_RC), written_beside(path) as beside:
        figure.savefig(beside, format=path.suffix[1:].lower(), facecolor="white", dpi=1.5 * DPI)


def pixels_of(picture: Array) -> Array:
    """uint8 [1 or 3, h, w] → [h, w, 3]."""
    rgb: Array = np.repeat(picture, 3, axis=0) if len(picture) == 1 else picture
    return np.ascontiguousarray(rgb.transpose(1, 2, 0))


def signed(values: Array, scale: float) -> Array:
    """Numbers as colours, uint8 [..., 3]: −scale orange, 0 white, +scale blue; in between evenly."""
    share = np.clip(np.nan_to_num(values) / (scale or 1.0), -1, 1)[..., None]
    ends = np.where(share >= 0, _rgb(FOR), _rgb(AGAINST))
    found: Array = np.rint(255 + (ends - 255) * np.abs(share)).astype(np.uint8)
    return found


def around_grey(values: Array, scale: float) -> Array:
    """RGB weights [3, h, w] as a picture, uint8 [h, w, 3]: 0 is mid-grey."""
    found: Array = np.rint(127.5 + 127.5 * np.clip(values / (scale or 1.0), -1, 1)).astype(np.uint8).transpose(1, 2, 0)
    return found


def overlaid(picture: Array, values: Array) -> Array:
    """A pale grey picture with a map on it, uint8 [h, w, 3]: blue speaks for the class, orange against it."""
    scale = float(np.quantile(np.abs(values), 0.995)) or float(np.abs(values).max()) or 1.0
    grey = picture.astype(np.float64).mean(0)[..., None]
    pale = 255 - 0.3 * (255 - grey)
    share = np.minimum(np.abs(values) / scale, 1)[..., None] ** 0.8 * 0.9
    colour = np.where(values[..., None] >= 0, _rgb(FOR), _rgb(AGAINST))
    found: Array = np.rint(pale * (1 - share) + colour * share).astype(np.uint8)
    return found


def mosaic(tiles: Sequence[Array], columns: int, gap: int = 1) -> Array:
    """Tiles of one size [h, w, 3] in rows, uint8 [.., .., 4], the gaps between them transparent."""
    height, width = tiles[0].shape[:2]
    rows = -(-len(tiles) // columns)
    sheet = np.zeros((rows * (height + gap) - gap, columns * (width + gap) - gap, 4), np.uint8)
    for i, tile in enumerate(tiles):
        y, x = i // columns * (height + gap), i % columns * (width + gap)
        sheet[y : y + height, x : x + width, :3] = tile
        sheet[y : y + height, x : x + width, 3] = 255
    return sheet


def short(text: str, most: int) -> str:
    """The text, or its beginning and an ellipsis."""
    return text if len(text) <= most else text[: most - 1] + "…"


def _as_large_as_seen(pixels: Array, height: float, width: float) -> Array:
    """Scaled down if there are twice as many pixels as are drawn: figures stay small."""
    if pixels.shape[0] <= 2 * height and pixels.shape[1] <= 2 * width:
        return pixels
    size = (max(1, round(1.25 * width)), max(1, round(1.25 * height)))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))


def _rgb(name: str) -> Array:
    code = LIGHT[name][1:]
    return np.array([int(code[i : i + 2], 16) for i in (0, 2, 4)], np.float64)


def _plain(text: str) -> str:
    """No $ that would begin a formula."""
    return text.replace("$", r"\$").replace("-", MINUS) if re.fullmatch(r"-?[\d.]+", text) else text.replace("$", r"\$")
