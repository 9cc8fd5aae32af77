"""Animations as files: well-formed, complete in themselves, showing each frame at its time, and never half-written."""

import itertools
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from geometries import drawn
from hypothesis import given, settings
from operations import explained
from PIL import Image

import svertka
from svertka import nn
from svertka.errors import DataError
from svertka.explain.draw import animate, gif, page
from svertka.explain.draw.frames import Frames
from svertka.explain.draw.sheets import sheet
from svertka.explain.steps import Steps

KINDS = ("svg", "html", "gif")


@pytest.fixture
def e():
    return svertka.explain(nn.Conv2d(1, 1, 3, 2, 1, padding_mode="reflect"), torch.rand(5, 5))


@settings(drawn, max_examples=25)
@given(explained())
def test_every_operation_is_drawn_well_formed_and_on_its_sheet(case):
    bound, x = case
    frames = Frames(Steps(bound, x), "a <title> & more")
    whole = sheet(frames)
    root = ElementTree.fromstring(animate.animated(whole, 0.5))
    assert root.get("aria-label") == "a <title> & more"
    ElementTree.fromstring(animate.still(frames, len(frames) - 1))
    Balanced().feed(page.whole(whole, 0.5))
    for slot in whole.slots.values():
        assert slot.x + slot.width <= whole.width and slot.y + slot.height <= whole.height
    assert all(0 <= track.start < track.stop <= len(frames) for track in whole.tracks)


class Balanced(HTMLParser):
    """Fails at a closing tag that closes nothing, or the wrong thing, and at what reaches out of the page."""

    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attrs):
        assert not {"src", "href"} & {name for name, _ in attrs}
        if tag not in ("meta", "br", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_check_of_pages_can_fail():
    with pytest.raises(AssertionError):
        Balanced().feed("<p><b></p>")
    with pytest.raises(AssertionError):
        Balanced().feed('<img src="https://example.org/x.png">')


def test_each_number_of_the_output_appears_in_its_frame_and_stays(e):
    whole = sheet(e.frames())
    results = [cell.text for cell in e.frames()[0].output.cells]
    for number, result in enumerate(results):
        texts = [
            shape.text for track in whole.seen(number, "output") for shape in track.shapes if hasattr(shape, "text")
        ]
        assert texts == ["Output", *results[: number + 1], result]
    formulas = [track for track in whole.tracks if track.slot == "formula"]
    assert [(track.start, track.stop) for track in formulas] == [(i, i + 1) for i in range(9)]


def test_the_svg_plays_by_itself_in_light_and_dark_and_rests_where_motion_is_unwelcome(e, tmp_path):
    e.animate(tmp_path / "a.svg", seconds=0.5)
    text = (tmp_path / "a.svg").read_text()
    assert "prefers-color-scheme:dark" in text and "prefers-reduced-motion" in text and "<script" not in text
    assert len(re.findall(r"@keyframes f(\d+)_\1?\d+", text)) == len(set(re.findall(r"@keyframes (\w+)", text))) > 9
    # 9 frames of half a second, and the end stands for two more
    assert set(re.findall(r"animation:\w+ (\S+)s step-end infinite", text)) == {"5.5"}
    third = re.search(r"@keyframes f3_4\{(.*?)\}\}", text)[1]
    assert third == "0%{visibility:hidden}27.2727%{visibility:visible}36.3636%{visibility:hidden"
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")


def test_the_page_needs_nothing_but_itself(e, tmp_path):
    e.animate(tmp_path / "a.html")
    text = (tmp_path / "a.html").read_text()
    assert text.startswith("<!doctype html>") and 'name="viewport"' in text
    assert not re.search(r"https?:(?!//www\.w3\.org/2000/svg)|@import|url\((?!#)", text)
    for control in ('type="range"', 'data-do="play"', 'data-do="on"', "ArrowRight"):
        assert control in text
    # Without scripts the first frame is seen: one sum, one current output.
    assert len(re.findall(r'<p data-a="\d+" data-b="\d+">', text)) == 1
    assert "<html" not in e._repr_html_() and 'class="svertka player"' in e._repr_html_()


def test_the_gif_has_a_picture_for_each_frame(e, tmp_path):
    e.animate(tmp_path / "a.gif", seconds=0.5)
    with Image.open(tmp_path / "a.gif") as image:
        assert image.n_frames == 9 and image.info["loop"] == 0
        pictures, durations = [], []
        for number in range(9):
            image.seek(number)
            durations.append(image.info["duration"])
            pictures.append(np.asarray(image.convert("RGB")).copy())
    assert durations == [500] * 8 + [1500]
    assert all((a != b).any() for a, b in itertools.pairwise(pictures))
    assert (pictures[0][0, 0] == 255).all()
    current = np.array([int("0072b2"[i : i + 2], 16) for i in (0, 2, 4)])
    assert all((abs(picture - current) <= 4).all(-1).sum() > 500 for picture in pictures)  # the current output


def test_a_gif_that_would_flood_the_memory_is_refused(e, tmp_path, monkeypatch):
    whole = sheet(e.frames())
    monkeypatch.setattr(gif, "_MOST", whole.count * round(whole.width) * round(whole.height))
    e.animate(tmp_path / "a.gif")
    monkeypatch.setattr(gif, "_MOST", gif._MOST - 1)
    with pytest.raises(
        DataError, match=rf"a GIF of {whole.count} frames .* write .svg or .html, or take a smaller input"
    ):
        e.animate(tmp_path / "b.gif")
    assert [path.name for path in tmp_path.iterdir()] == ["a.gif"]


def test_the_gif_shows_what_painting_all_of_a_frame_shows():
    """Only what changes is painted; slices that change with the depth, captions too, are among it."""
    whole = sheet(svertka.explain(nn.Conv3d(1, 1, 2), torch.rand(1, 4, 2, 3)).frames())
    for number, image in enumerate(gif._images(whole)):
        canvas = Image.new("RGB", image.size, "#ffffff")
        for track in whole.seen(number):
            gif._paint(canvas, gif._placed(whole, track))
        off = abs(np.asarray(image.convert("RGB")).astype(int) - np.asarray(canvas)).max(-1)
        assert (off > 48).sum() == 0  # the palette's shades are near, a missing digit is not


def test_without_a_font_of_the_system_the_signs_are_replaced(e, monkeypatch):
    monkeypatch.setattr(gif, "_FONTS", ())
    gif._font.cache_clear(), gif._glyphs.cache_clear()
    try:
        assert gif.painted(sheet(e.frames()), 0.5).startswith(b"GIF89a")
        minus, hyphen = (gif._glyphs(sign, 20, False)[0] for sign in ("−1×√", "-1xroot "))
        assert minus.tobytes() == hyphen.tobytes()
    finally:
        gif._font.cache_clear(), gif._glyphs.cache_clear()


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_is_whole_or_as_it_was(e, kind, tmp_path, monkeypatch):
    path = tmp_path / f"a.{kind}"
    path.write_text("before")
    monkeypatch.setattr(type(path), "write_bytes", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        e.animate(path)
    assert [p.name for p in tmp_path.iterdir()] == [path.name] and path.read_text() == "before"


@pytest.mark.parametrize(
    ("name", "seconds", "words"),
    [
        ("a.mp4", 1, r"'a.mp4': give a name that ends in .svg, .html or .gif"),
        ("a", 1, "give a name that ends in"),
        ("missing/a.svg", 1, "there is no folder"),
        ("a.svg", 0, "seconds=0 is no time"),
        ("a.svg", float("nan"), "seconds=nan is no time"),
    ],
)
def test_what_cannot_be_written_is_told(e, tmp_path, name, seconds, words):
    with pytest.raises(DataError, match=words):
        e.animate(tmp_path / name, seconds=seconds)
    assert not list(tmp_path.iterdir())
