"""Room 7: every step of the lecture, with its numbers, in its order."""

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import expect

Open = Callable[..., Any]
STEPS = 21
# The lecture's own numbers, where its steps show a table of them.
OUTPUTS = {
    4: [2, 2, 2, 1, -1, -2, -2, -2],
    6: [1, 2, 5, 3],
    7: [12, 12, 17, 10, 17, 19, 9, 6, 14],
    8: [6, 17, 3, 8, 17, 13, 6, 4, 4],
    11: [1, 2, 5, 5, 3, 2, 0, 2, 0],  # the slide's 4 is a 2
    12: [0, 2, -5, 2],
    14: [1, 2, 5, 3],
}


def settled(page: Any) -> None:
    expect(page.locator("main [aria-busy=true]")).to_have_count(0)


def outputs(page: Any, name: str) -> list[float]:
    buttons = page.get_by_role("table", name=name, exact=True).locator("button")
    return [float(text.strip().replace("\u2212", "-").replace(",", ".")) for text in buttons.all_inner_texts()]


@pytest.mark.parametrize("language", ["en", "ru"])
def test_all_steps_in_their_order(opened: Open, language: str) -> None:
    page = opened("lecture", language)
    titles = page.locator("nav ol a").all_inner_texts()
    assert len(set(titles)) == STEPS
    for number, title in enumerate(titles, start=1):
        expect(page.locator("h1")).to_have_text(title)
        settled(page)
        assert f"{number} / {STEPS}" in page.locator(".slide").inner_text()
        assert page.evaluate("document.documentElement.scrollWidth") <= 1440
        assert not page.get_by_role("alert").count()
        if number in OUTPUTS:
            assert outputs(page, {"en": "Output", "ru": "Выход"}[language]) == OUTPUTS[number]
        if number < STEPS:
            page.locator(".turn .next").click()
    expect(page.locator(".turn .next")).to_have_count(0)


def test_nothing_overflows_on_a_telephone(opened: Open, axe: Callable[..., list[str]]) -> None:
    page = opened("lecture", "ru", "dark", 390, 844)
    for number in range(1, STEPS + 1):
        page.evaluate(f"location.hash = '#/lecture?step={number}'")
        expect(page.locator(".slide")).to_contain_text(f"{number} / {STEPS}")
        settled(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, number
        inside = "[...document.querySelectorAll('.figure table')].every(t => t.getBoundingClientRect().right <= 390)"
        assert page.evaluate(inside), number
        if number in (2, 3, 5, 10, 14, 15, 20):
            assert axe(page) == []


def test_the_numbers_of_the_other_figures(opened: Open) -> None:
    page = opened("lecture?step=16")
    settled(page)
    means = outputs(page, "Output: Average")
    assert [round(value, 1) for value in means] == [1.7, 1.7, 1.7, 1.0, 1.2, 1.8, 1.1, 0.8, 1.3]
    page = opened("lecture?step=5")
    settled(page)
    assert outputs(page, "Output: Mirrored") == [-3, -1, 0, 1, 3]
    for step, name, count in (
        (2, "weights-dense", 38_654_705_664),
        (19, "macs-regular", 352_800),
        (21, "weights-separable", 75),
    ):
        page = opened(f"lecture?step={step}")
        settled(page)
        assert int("".join(c for c in page.get_by_test_id(name).inner_text() if c.isdecimal())) == count


def test_keys_turn_and_a_step_opens_in_its_room(opened: Open) -> None:
    page = opened("lecture?step=7")
    settled(page)
    page.keyboard.press("PageDown")
    expect(page.locator("h1")).to_have_text("Step by step, with stride and padding")
    settled(page)
    page.get_by_role("link", name="Open it in the lab").click()
    expect(page.locator("h1")).to_have_text("Convolution")
    settled(page)
    assert outputs(page, "Output") == OUTPUTS[8]


def test_a_point_of_a_map_opens_in_the_network_room(opened: Open) -> None:
    page = opened("lecture?step=20")
    page.get_by_role("application").first.locator("canvas").click(position={"x": 3 * 10 + 2, "y": 3 * 5 + 2})
    expect(page.locator("h1")).to_have_text("Network")
    expect(page.locator("aside .note").first).to_contain_text("channel 1, row 6, column 11")
