"""Room 3 with real clicks, and a camera that Chromium pretends to have."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from playwright.sync_api import expect

from svertka.explain import gallery

Open = Callable[..., Any]
PIXELS = np.random.default_rng(1).integers(0, 256, (60, 80), dtype=np.uint8)


def settled(page: Any) -> None:
    expect(page.locator("main [aria-busy=true]")).to_have_count(0)


def painted(page: Any) -> Any:
    """The grey values of the response on the page."""
    flat = page.get_by_test_id("after").evaluate(
        "c => Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data).filter((_, i) => i % 4 === 0)"
    )
    width = page.get_by_test_id("after").evaluate("c => c.width")
    return np.array(flat).reshape(-1, width)


def expected(name: str) -> Any:
    (one,) = gallery.chosen([name])
    return np.array(gallery.pictured(gallery.apply(PIXELS, [name])[name], one.shown, 80))


def with_picture(opened: Open, tmp_path: Path) -> Any:
    Image.fromarray(PIXELS).save(tmp_path / "noise.png")
    page = opened("filters")
    page.locator("input[type=file]").set_input_files(tmp_path / "noise.png")
    expect(page.get_by_test_id("after")).to_have_js_property("width", 80)
    settled(page)
    return page


def test_the_gallery_on_a_picture(opened: Open, tmp_path: Path) -> None:
    page = with_picture(opened, tmp_path)
    assert np.array_equal(painted(page), expected("sobel-x"))
    for label, name in (("Edges", "edges"), ("Sharpen", "sharpen"), ("Corners", "corners")):
        page.get_by_role("button", name=label).first.click()
        settled(page)
        assert np.array_equal(painted(page), expected(name))
    assert "f=corners" in page.url


def test_an_edited_kernel_answers(opened: Open, tmp_path: Path) -> None:
    page = with_picture(opened, tmp_path)
    for row in (1, 2, 3):
        page.get_by_role("textbox", name=f"Kernel, {row}, 1", exact=True).fill("0")
        page.keyboard.press("Enter")
        page.get_by_role("textbox", name=f"Kernel, {row}, 3", exact=True).fill("0")
        page.keyboard.press("Enter")
    page.get_by_role("textbox", name="Kernel, 2, 2", exact=True).fill("1")
    page.keyboard.press("Enter")
    settled(page)
    assert np.array_equal(painted(page), PIXELS)
    page.get_by_label("5×5").check()
    settled(page)
    assert np.array_equal(painted(page), PIXELS)
    page.get_by_role("textbox", name="Divide by").fill("2")
    page.keyboard.press("Enter")
    settled(page)
    assert abs(painted(page) - PIXELS / 2).max() <= 0.5
    assert page.get_by_role("table", name="Kernel").locator("input").count() == 25


def test_a_camera_is_live(opened: Open) -> None:
    page = opened("filters")
    page.get_by_role("button", name="Camera").click()
    rate = page.get_by_test_id("rate")
    rate.wait_for(timeout=30_000)
    assert int(rate.inner_text().split()[0]) >= 1  # docs/lab.md has the measured rate
    assert page.get_by_test_id("after").evaluate("c => c.width") == 320
    page.get_by_role("button", name="Camera").click()
    settled(page)
    expect(rate).to_have_count(0)


def test_x_against_x(opened: Open) -> None:
    page = opened("filters")
    expect(page.get_by_test_id("differing")).to_have_text("16")
    expect(page.get_by_test_id("shared")).to_have_text("5")
    assert page.locator("td.best").all_inner_texts() == ["0.78", "1", "0.78"]
    page.get_by_role("slider", name="Shift →").fill("2")
    expect(page.get_by_test_id("shared")).not_to_have_text("5")
    assert page.locator("td.best").all_inner_texts() == ["0.78", "1", "0.78"]
    page.get_by_role("slider", name="Shift →").fill("0")
    expect(page.get_by_test_id("shared")).to_have_text("5")
    page.get_by_role("group", name="The second").get_by_role("button", name="9, 9").click()
    expect(page.get_by_test_id("differing")).to_have_text("17")
