"""Room 4 with real clicks; the numbers on the page are the library's."""

from collections.abc import Callable
from typing import Any

import torch
from playwright.sync_api import expect

from svertka import functional as F
from svertka import nn
from svertka.explain.cost import costs

Open = Callable[..., Any]


def settled(page: Any) -> None:
    expect(page.locator("main [aria-busy=true]")).to_have_count(0)


def whole(text: str) -> int:
    return int("".join(c for c in text if c.isdecimal()))


MODES = {
    "Zeros": "zeros", "The edge repeated": "replicate", "Mirrored": "symmetric",
    "Mirrored, without the edge": "reflect", "Cyclic": "circular",
}  # fmt: skip


def check_paddings(page: Any, signal: list[float], before: int, after: int) -> None:
    kernel = torch.tensor([[[-1.0, 0, 2, 0, -1]]])
    for label, mode in MODES.items():
        buttons = page.get_by_role("table", name=f"Output: {label}", exact=True).locator("button")
        shown = [float(text.replace("\u2212", "-")) for text in buttons.all_inner_texts()]
        padding: Any = ((before, after),)
        assert (
            shown
            == F.conv1d(torch.tensor([signal], dtype=torch.float32), kernel, padding=padding, padding_mode=mode)
            .ravel()
            .tolist()
        )


def test_five_paddings(opened: Open) -> None:
    page = opened("layers")
    settled(page)
    check_paddings(page, [1, 2, 3, 4, 5], 2, 2)
    page.get_by_role("textbox", name="Input: Cyclic, 1, 7", exact=True).fill("9")
    page.keyboard.press("Enter")
    settled(page)
    check_paddings(page, [1, 2, 3, 4, 9], 2, 2)


def test_padding_follows_the_sliders(opened: Open) -> None:
    page = opened("layers")
    page.get_by_role("slider", name="Pad before").fill("4")
    page.get_by_role("slider", name="Pad after").fill("1")
    settled(page)
    check_paddings(page, [1, 2, 3, 4, 5], 4, 1)


def test_costs(opened: Open) -> None:
    page = opened("layers")
    settled(page)
    assert whole(page.get_by_test_id("macs-regular").inner_text()) == 352_800
    page.get_by_role("link", name="128×128×3 → 16").click()
    settled(page)
    assert whole(page.get_by_test_id("weights-regular").inner_text()) == 432
    assert whole(page.get_by_test_id("weights-separable").inner_text()) == 75
    assert whole(page.get_by_test_id("macs-separable").inner_text()) == 1_228_800
    page.get_by_role("link", name="256×256×3 → 3").click()
    page.get_by_role("switch", name="Show the dense layer").check()
    settled(page)
    assert whole(page.get_by_test_id("weights-dense").inner_text()) == 196_608**2
    page.get_by_role("link", name="four groups").click()
    settled(page)
    expected = costs(nn.Conv2d(16, 16, 3, padding="same", groups=4), (16, 56, 56))
    assert whole(page.get_by_test_id("weights-grouped").inner_text()) == expected.weights
    assert whole(page.get_by_test_id("macs-grouped").inner_text()) == expected.macs
    sides = []
    for kind in ("regular", "grouped"):
        square = page.get_by_test_id(f"macs-{kind}").locator("..").locator(".square")
        sides.append(square.evaluate("square => parseFloat(square.style.width)"))
    assert abs((sides[0] / sides[1]) ** 2 - 4) < 1e-4  # a style has six digits


def test_who_sees_whom(opened: Open) -> None:
    page = opened("layers")
    settled(page)
    for name, count in (("Full", 25), ("Local", 15), ("Convolution", 3)):
        expect(page.get_by_role("img", name=f"{name}: {count} weights")).to_have_count(1)
    figure = page.get_by_role("img", name="Convolution: 3 weights")
    assert figure.locator("line").count() == 13  # 15 less two on the padding
    figure.locator("circle.output").nth(2).hover()
    assert figure.locator("line.lit").count() == 3
    page.get_by_role("slider", name="Input", exact=True).fill("7")
    settled(page)
    expect(page.get_by_role("img", name="Full: 49 weights")).to_have_count(1)


def test_the_address_holds_the_state(opened: Open) -> None:
    page = opened("layers")
    page.get_by_role("slider", name="Channels in").fill("8")
    settled(page)
    again = opened(page.url.split("#/")[1])
    settled(again)
    assert whole(again.get_by_test_id("weights-regular").inner_text()) == 8 * 6 * 25
