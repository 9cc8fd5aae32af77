"""How everything looks, in one place: colours for light and dark, sizes, and numbers as text.

The colours are Okabe & Ito's, which the colour-blind can tell apart, and tints of them. No role is told by its colour
alone: the window and what is chosen have thick outlines, padding is hatched, outputs to come are dotted.
"""

from __future__ import annotations

import math

CELL = 44  # side of a cell; all lengths are in pixels of the undistorted drawing
GAP = 28  # between two panels
MARGIN = 24  # around the drawing
TEXT = 17  # height of the numbers
SMALL = 11  # height of corner marks
CAPTION = 13  # height of captions above panels
HEADING = 18  # height of the title
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', sans-serif"

LIGHT = {
    "paper": "#ffffff",
    "ink": "#1b1f24",
    "faint": "#5f6b7a",
    "line": "#c5ccd6",
    "input": "#f3f5f8",
    "padding": "#ffffff",
    "window": "#fde6b0",
    "window-line": "#b86e00",
    "kernel": "#f8e6f0",
    "kernel-line": "#cc79a7",
    "weight": "#97356c",
    "output": "#d9ebf8",
    "output-line": "#56a8dc",
    "current": "#0072b2",
    "on-current": "#ffffff",
    "accent": "#009e73",
    "warning": "#d55e00",
}
DARK = {
    "paper": "#14171c",
    "ink": "#e9ebee",
    "faint": "#9aa5b3",
    "line": "#414a57",
    "input": "#1f252e",
    "padding": "#14171c",
    "window": "#5c4108",
    "window-line": "#e69f00",
    "kernel": "#43253a",
    "kernel-line": "#cc79a7",
    "weight": "#f0b0d2",
    "output": "#14374f",
    "output-line": "#3f8fc2",
    "current": "#56b4e9",
    "on-current": "#0d1116",
    "accent": "#2cc295",
    "warning": "#f08a3c",
}

# What each kind of box and text looks like: fill, outline, width of the outline, dashes.
BOXES = {
    "input": ("input", "line", 1.0, ""),
    "padding": ("padding", "line", 1.0, "4 3"),
    "nothing": ("paper", "line", 1.0, "2 3"),
    "window": ("window", "window-line", 1.0, ""),
    "window-padding": ("window", "window-line", 1.0, "4 3"),
    "window-nothing": ("paper", "window-line", 1.0, "2 3"),
    "frame": ("", "window-line", 3.0, ""),
    "chosen": ("", "ink", 2.5, ""),
    "kernel": ("kernel", "kernel-line", 1.0, ""),
    "idle": ("paper", "kernel-line", 1.0, "2 3"),
    "output": ("output", "output-line", 1.0, ""),
    "to-come": ("paper", "output-line", 1.0, "2 3"),
    "current": ("current", "current", 3.0, ""),
    "plain": ("", "line", 1.0, ""),
    "paper": ("paper", "", 0.0, ""),
}
TEXTS = {
    "ink": "ink",
    "faint": "faint",
    "weight": "weight",
    "on-current": "on-current",
    "accent": "accent",
    "warning": "warning",
    "window": "window-line",
    "current": "current",
}
LINES = {"line": ("line", 1.0), "arrow": ("faint", 1.5), "window": ("window-line", 1.5), "weight": ("kernel-line", 1.5)}

MINUS = "\u2212"
_ROUNDING = 1e-12  # what float64 sums may be off by, relatively


def number(value: float, digits: int = 3, decimals: int = 4) -> str:
    """A number as people write it: whole ones without a point, others to about `digits` digits, a real minus.

    There are `decimals` places after the point at most; very small and very large ones have an exponent.

    A number that only this rounding makes whole keeps its point ("2.0"), so that it isn't taken for exact.
    """
    if math.isnan(value):
        return "NaN"
    sign, magnitude = MINUS if value < 0 else "", abs(value)
    if math.isinf(magnitude):
        return sign + "∞"
    whole = round(magnitude)
    if abs(magnitude - whole) <= _ROUNDING * magnitude and whole < 10**6:
        return sign + str(whole)
    if not 10**-3 <= magnitude < 10**6:
        mantissa, exponent = f"{magnitude:.1e}".split("e")
        return f"{sign}{mantissa.removesuffix('.0')}e{int(exponent)}".replace("-", MINUS)
    places = 0 if magnitude >= 1000 else min(max(1, digits - 1 - math.floor(math.log10(magnitude))), decimals)
    text = f"{magnitude:.{places}f}"
    shortened = text.rstrip("0") if places else text
    return sign + (f"{shortened}0" if shortened.endswith(".") else shortened)


def factor(value: float, digits: int = 3) -> str:
    """A number as a factor or a term: negative ones in brackets, as in 1·(−1) + 2·0."""
    text = number(value, digits)
    return f"({text})" if text.startswith(MINUS) else text


def width(text: str, size: float) -> float:
    """About how wide a text of that height is; the estimate is for digits, which are wider than most letters."""
    return 0.6 * size * len(text)


def fitting(text: str, room: float, size: float = TEXT) -> float:
    """The height at which a text fits into `room`: `size`, or less for a long one."""
    needed = width(text, size)
    return size if needed <= room else round(size * room / needed, 1)


def css(scope: str = ".svertka") -> str:
    """The style sheet of all drawings: variables for light and dark, a class for each role.

    Args:
        scope: selector of the element that holds the drawing, so that a page around it is left alone.
    """
    variables = [
        "".join(f"--{name}:{colour};" for name, colour in palette.items()) for palette in (LIGHT, DARK)
    ]  # fmt: skip
    rules = [
        f"{scope}{{{variables[0]}font-family:{FONT};font-variant-numeric:tabular-nums}}",
        f"@media (prefers-color-scheme:dark){{{scope}{{{variables[1]}}}}}",
        f"{scope} text{{dominant-baseline:central}}",
    ]
    for role, (fill, stroke, thickness, dashes) in BOXES.items():
        rule = f"fill:{_variable(fill)};stroke:{_variable(stroke)};stroke-width:{thickness:g}"
        rules.append(f"{scope} .b-{role}{{{rule}{f';stroke-dasharray:{dashes}' if dashes else ''}}}")
    rules += [f"{scope} .t-{role}{{fill:{_variable(colour)}}}" for role, colour in TEXTS.items()]
    rules += [
        f"{scope} .l-{role}{{stroke:{_variable(colour)};stroke-width:{thickness:g};fill:none}}"
        for role, (colour, thickness) in LINES.items()
    ]
    rules += [
        f"{scope} .hatch{{stroke:var(--line);stroke-width:1}}",
        f"{scope} .head{{fill:var(--faint);stroke:none}}",
    ]
    return "".join(rules)


def _variable(colour: str) -> str:
    return f"var(--{colour})" if colour else "none"
