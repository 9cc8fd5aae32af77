"""The classic filters as layers with fixed weights, on the user's own picture, in one figure.

Each filter is a convolution of every channel by itself (`svertka.nn.Conv2d` with a group for each channel) whose
weights don't learn; the border is mirrored, so that it makes no edges. Magnitudes and the corner response are made of
such layers. All take and give [N, C, H, W] in any float dtype; pixel values are 0 … 255.

Sources: Sobel & Feldman 1968 (a 3×3 isotropic gradient operator); Harris & Stephens 1988, "A combined corner and edge
detector"; the lecture's gradients, image[:, :-2] − image[:, 2:].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn

from svertka.errors import DataError
from svertka.explain.likeness import Likeness, compare
from svertka.files import written_beside
from svertka.nn import Conv2d, Pad2d
from svertka.vision.pictures import printable

__all__ = [
    "Absolute", "Filter", "FixedConv2d", "HarrisCorners", "Likeness", "Magnitude", "apply", "chosen", "compare",
    "figure", "filters", "pictured", "save_figure",
]  # fmt: skip

MAX_PIXELS = 4_000_000
"""The command line scales pictures with more pixels down before it filters them."""

_SOBEL = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]])
_BINOMIAL = torch.tensor([1.0, 4, 6, 4, 1]) / 16
_GAUSSIAN = torch.outer(_BINOMIAL, _BINOMIAL)


class FixedConv2d(Conv2d):
    """Every channel by one kernel that doesn't learn: [N, channels, H, W] → the same.

    Args:
        channels: of the picture.
        kernel: [height, width].
        arguments: further ones of `Conv2d`; by default the size is kept and the edge mirrored.
    """

    def __init__(self, channels: int, kernel: Tensor, **arguments: Any) -> None:
        arguments = {"padding": "same", "padding_mode": "symmetric", **arguments}
        super().__init__(channels, channels, tuple(kernel.shape), groups=channels, bias=False, **arguments)
        self.weight.requires_grad_(False).copy_(kernel.expand(channels, 1, -1, -1))


class Magnitude(nn.Module):
    """√(a² + b²) of the responses of two layers; the length of a gradient, say."""

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] → the same."""
        return torch.hypot(self.first(x), self.second(x))


class Absolute(nn.Module):
    """|y| of a layer's response y."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] → the same."""
        response: Tensor = self.layer(x)
        return response.abs()


class HarrisCorners(nn.Module):
    """ab − c² − k(a + b)², from the smoothed products a = Σ gx², b = Σ gy², c = Σ gx·gy over a window and the channels.

    Positive at corners, negative along edges, 0 where it is flat. [N, C, H, W] → [N, 1, H, W].
    """

    k = 0.05

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gx, self.gy = FixedConv2d(channels, _SOBEL / 8), FixedConv2d(channels, _SOBEL.T / 8)
        self.smooth = FixedConv2d(1, _GAUSSIAN)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] → [N, 1, H, W]."""
        gx, gy = self.gx(x), self.gy(x)
        a, b, c = (self.smooth(product.sum(1, keepdim=True)) for product in (gx * gx, gy * gy, gx * gy))
        response: Tensor = a * b - c * c - self.k * (a + b) ** 2
        return response


@dataclass(frozen=True)
class Filter:
    """A classic filter.

    Args:
        name: short, for `--only`.
        title: what it does.
        layer: makes the layer for a number of channels.
        kernels: what it convolves with, by name, for printing; [height, width].
        shown: how the response becomes a picture: "pixels" (0 … 255 as it is), "signed" (0 is mid-grey), "strength" (0
            is black).
    """

    name: str
    title: str
    layer: Callable[[int], nn.Module]
    kernels: tuple[tuple[str, Tensor], ...]
    shown: str


def filters() -> tuple[Filter, ...]:
    """All filters of the gallery, in its order."""
    step = torch.tensor([[1.0, 0, -1]])
    x, y = _SOBEL, _SOBEL.T
    laplacian = torch.tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]])
    sobel = (("gx", x), ("gy", y))
    products = (("gx · 8", x), ("gy · 8", y), ("g · 256", _GAUSSIAN * 256))
    return (
        _slides("slide-x", "left - right, border 0", step, (1, 1, 0, 0)),
        _slides("slide-y", "above - below, border 0", step.T, (0, 0, 1, 1)),
        _plain("gradient-x", "right - left", -step, "signed"),
        _plain("gradient-y", "below - above", -step.T, "signed"),
        _plain("sobel-x", "smoothed right - left", x, "signed"),
        _plain("sobel-y", "smoothed below - above", y, "signed"),
        Filter("edges", "length of Sobel's gradient", _sobel_length, sobel, "strength"),
        _plain("laplacian", "neighbours - 4 × centre", laplacian, "signed"),
        Filter(
            "absolute-laplacian", "size of the Laplacian", lambda c: Absolute(FixedConv2d(c, laplacian)),
            (("|k|", laplacian),), "strength",
        ),
        _plain("box-blur", "mean of 5 × 5", torch.ones(5, 5) / 25, "pixels", 25),
        _plain("gaussian-blur", "binomial, sigma = 1", _GAUSSIAN, "pixels", 256),
        _plain("sharpen", "centre - Laplacian", torch.tensor([[0.0, -1, 0], [-1, 5, -1], [0, -1, 0]]), "pixels"),
        _plain("emboss", "lit from above left", torch.tensor([[-2.0, -1, 0], [-1, 1, 1], [0, 1, 2]]), "pixels"),
        Filter("corners", "Harris: corners light, edges dark", HarrisCorners, products, "signed"),
    )  # fmt: skip


def chosen(names: Sequence[str] | None) -> tuple[Filter, ...]:
    """The filters of these names, all for None. Raises DataError that lists the known ones."""
    known = {each.name: each for each in filters()}
    for name in names or ():
        if name not in known:
            raise DataError(f"there is no filter {printable(name)}: choose among {', '.join(known)}")
    return tuple(known[name] for name in names) if names else tuple(known.values())


def apply(picture: Any, names: Sequence[str] | None = None) -> dict[str, Tensor]:
    """The responses to a picture, by filter.

    Args:
        picture: [H, W] or [C, H, W], array or tensor, 0 … 255.
        names: of the filters; all for None.

    Returns:
        Tensors of the picture's float dtype (float32 for integers), [C, H, W]; the corner response has one channel.
    """
    values = _tensor(picture)
    with torch.no_grad():
        return {f.name: f.layer(len(values)).to(values.dtype)(values[None])[0] for f in chosen(names)}


def figure(picture: Any, names: Sequence[str] | None = None, width: int = 280) -> Image.Image:
    """The picture and the filters' responses in one figure, labelled.

    Args:
        picture: as in `apply`.
        names: of the filters; all for None.
        width: of each cell, in pixels; small pictures are enlarged by a whole number.
    """
    values = _tensor(picture)
    cells = [("picture", f"{values.shape[2]} × {values.shape[1]}", pictured(values, "pixels", width))]
    signed = False
    for f in chosen(names):
        response = apply(values, [f.name])[f.name]
        cells.append((f.name, f.title, pictured(response, f.shown, width)))
        signed |= f.shown == "signed"
    note = "Signed responses: mid-grey is 0, lighter is positive, darker negative." if signed else ""
    return _sheet(cells, width, note)


def save_figure(image: Image.Image, path: str | Path) -> None:
    """Write a figure, whole or not at all; the name's ending says the format."""
    path = Path(path)
    kind = Image.registered_extensions().get(path.suffix.lower())
    if kind not in ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP"):
        raise DataError(f"a figure cannot be written as {printable(path)}: give a name that ends in .png")
    with written_beside(path) as beside:
        image.save(beside, format=kind)


def _plain(name: str, title: str, kernel: Tensor, shown: str, times: int = 1) -> Filter:
    called = "k" if times == 1 else f"k · {times}"
    return Filter(name, title, lambda channels: FixedConv2d(channels, kernel), ((called, kernel * times),), shown)


def _slides(name: str, title: str, kernel: Tensor, border: tuple[int, ...]) -> Filter:
    def layer(channels: int) -> nn.Module:
        return nn.Sequential(FixedConv2d(channels, kernel, padding=0), Pad2d(border))

    return Filter(name, title, layer, (("k", kernel),), "signed")


def _sobel_length(channels: int) -> nn.Module:
    return Magnitude(FixedConv2d(channels, _SOBEL), FixedConv2d(channels, _SOBEL.T))


def _tensor(picture: Any) -> Tensor:
    values = torch.as_tensor(picture)
    values = values if values.is_floating_point() else values.float()
    values = values[None] if values.ndim == 2 else values
    if values.ndim != 3 or min(values.shape[1:]) < 3:
        raise DataError(
            f"the filters need a picture [channels, height, width] of 3 × 3 pixels or more, not {list(values.shape)}"
        )
    return values


def pictured(response: Tensor, shown: str, width: int) -> Image.Image:
    """A response as a picture that fits into a square: scaled down smoothly, up by whole pixels.

    Args:
        response: [channels, height, width].
        shown: as in `Filter`.
        width: side of the square.

    It is scaled before its range is measured, since opposite signs in one pixel cancel. The largest magnitudes, but for
    one in two hundred, reach black and white.
    """
    values = np.stack([_fitted(channel, width) for channel in response[:3].float().numpy()])
    if shown != "pixels":
        largest = float(np.quantile(abs(values), 0.995)) or float(abs(values).max()) or 1.0
        values = values * (127.5 / largest) + 127.5 if shown == "signed" else values * (255 / largest)
    pixels = values.round().clip(0, 255).astype(np.uint8)
    return Image.fromarray(pixels[0]) if len(pixels) == 1 else Image.fromarray(pixels.transpose(1, 2, 0).copy())


def _fitted(channel: Any, width: int) -> Any:
    picture, largest = Image.fromarray(channel), max(channel.shape)
    scale = width / largest if largest > width else width // largest
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    return np.asarray(picture.resize(size, Image.Resampling.BOX if scale >= 1 else Image.Resampling.LANCZOS))


def _sheet(cells: Sequence[tuple[str, str, Image.Image]], width: int, note: str) -> Image.Image:
    """Pictures in a grid, each under its two lines of text; the note stands at the end."""
    gap, label = 20, 46
    columns = min(len(cells), 5 if len(cells) % 5 == 0 or len(cells) > 8 else 4)
    rows = -(-len(cells) // columns)
    height = max(picture.height for *_, picture in cells)
    sheet = Image.new(
        "RGB",
        (gap + columns * (width + gap), gap + rows * (height + label + gap) + (gap + 8 if note else 0)),
        "white",
    )
    draw, bold, plain = ImageDraw.Draw(sheet), ImageFont.load_default(18), ImageFont.load_default(14)
    for number, (name, title, picture) in enumerate(cells):
        left, top = gap + number % columns * (width + gap), gap + number // columns * (height + label + gap)
        draw.text((left, top), name, "#1a1a1a", bold)
        draw.text((left, top + 22), title.replace("×", "x"), "#5f5f5f", plain)
        sheet.paste(picture.convert("RGB"), (left, top + label))
    if note:
        draw.text((gap, sheet.height - gap - 12), note, "#5f5f5f", plain)
    return sheet
