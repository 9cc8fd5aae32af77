"""Numbers as text, and colours that can be read and told apart."""

import itertools

import numpy as np
import pytest

from svertka.explain.draw import style, svg

# Machado, Oliveira & Fernandes 2009, severity 1: what the two common kinds of the colour-blind see, in linear RGB.
BLIND = {
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "nobody": np.eye(3),
}


def linear(colour):
    channels = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def contrast(one, other):
    """WCAG's contrast ratio."""
    low, high = sorted(float(linear(colour) @ [0.2126, 0.7152, 0.0722]) for colour in (one, other))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("palette", [style.LIGHT, style.DARK], ids=["light", "dark"])
def test_all_texts_can_be_read_on_what_they_stand_on(palette):
    pairs = [*itertools.product(("ink",), ("paper", "input", "window", "kernel", "output"))]
    pairs += [("faint", "paper"), ("weight", "window"), ("on-current", "current"), ("current", "paper")]
    too_faint = {pair: contrast(*(palette[name] for name in pair)) for pair in pairs}
    assert min(too_faint.values()) >= 4.5, too_faint
    outlines = {name: contrast(palette[name], palette["paper"]) for name in ("window-line", "current", "ink")}
    assert min(outlines.values()) >= 3, outlines
    assert contrast("#ffffff", "#dddddd") < 3  # it can fail


@pytest.mark.parametrize("kind", BLIND)
@pytest.mark.parametrize("palette", [style.LIGHT, style.DARK], ids=["light", "dark"])
def test_the_colour_blind_can_tell_the_roles_apart(palette, kind):
    seen = {name: np.clip(np.array(BLIND[kind]) @ linear(palette[name]), 0, 1) ** (1 / 2.2)
            for name in ("window-line", "kernel-line", "current")}  # fmt: skip
    nearest = min(np.linalg.norm(seen[a] - seen[b]) for a, b in itertools.combinations(seen, 2))
    assert nearest > 0.15
    red, green = (np.array(BLIND["deuteranopia"]) @ linear(c) for c in ("#b06a00", "#8a8a00"))
    assert np.linalg.norm(np.clip(red, 0, 1) ** (1 / 2.2) - np.clip(green, 0, 1) ** (1 / 2.2)) < 0.15  # it can fail


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"), (-0.0, "0"), (3.0, "3"), (-3, "−3"), (2.0000000000000004, "2"), (0.5, "0.5"), (1 / 3, "0.333"),
        (-2 / 3, "−0.667"), (1.9999, "2.0"), (12.345, "12.3"), (123.456, "123.5"), (1234.56, "1235"), (99999, "99999"),
        (1e6, "1e6"), (-1.55e7, "−1.6e7"), (0.00986, "0.0099"), (0.00012, "1.2e−4"), (np.inf, "∞"), (-np.inf, "−∞"),
        (np.nan, "NaN"), (1e300, "1e300"), (5e-324, "4.9e−324"),
    ],
)  # fmt: skip
def test_numbers_are_written_as_people_write_them(value, text):
    assert style.number(value) == text


def test_factors_have_brackets_where_they_need_them():
    assert [style.factor(v) for v in (1, -1, 0.5, -np.inf)] == ["1", "(−1)", "0.5", "(−∞)"]


def test_long_numbers_are_set_smaller():
    assert style.fitting("12", 36) == style.TEXT
    assert style.width("−0.12345", style.fitting("−0.12345", 36)) <= 36.5


def test_what_users_write_is_escaped():
    drawing = svg.document([svg.Text(0, 0, "<b>&\"'"), *svg.grid([["1", "<"], ["", "−4"]])], 9, 9, title='"><script>')
    assert "<script>" not in drawing and "<b>" not in drawing
    assert svg.moved([svg.Line(1, 1, 2, 2)], 3, 4) == [svg.Line(4, 5, 5, 6)]
