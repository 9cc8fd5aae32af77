"""Room 2 with real clicks; the numbers on the page are the library's."""

from collections.abc import Callable
from typing import Any

import torch
from playwright.sync_api import expect

from svertka import functional as F

Open = Callable[..., Any]
X = [
    [1, 1, 2, 0, 0, 1],
    [5, 6, 3, 2, 1, 0],
    [2, 1, 0, 1, 3, 2],
    [0, 2, 7, 4, 1, 1],
    [1, 0, 2, 3, 0, 2],
    [3, 1, 1, 0, 4, 1],
]
INPUT = torch.tensor([X], dtype=torch.float64)


def settled(page: Any) -> None:
    page.locator("main [aria-busy=false]").first.wait_for()


def shown(page: Any, kind: str) -> list[float]:
    buttons = page.get_by_role("table", name=f"Output: {kind}", exact=True).locator("button")
    return [float(text.strip().replace("\u2212", "-")) for text in buttons.all_inner_texts()]


def as_shown(values: torch.Tensor) -> list[float]:
    """To three digits, as the page shows numbers."""
    return [float(f"{value:.3g}") for value in values.ravel().tolist()]


def slide(page: Any, name: str, value: int) -> None:
    page.get_by_role("slider", name=name, exact=True).fill(str(value))
    settled(page)


def test_all_kinds(opened: Open) -> None:
    page = opened("pooling")
    assert shown(page, "Maximum") == F.max_pool2d(INPUT, 2).ravel().tolist()
    assert shown(page, "Average") == as_shown(F.avg_pool2d(INPUT, 2))
    weight = torch.tensor([[[1.0, 2], [2, 4]]], dtype=torch.float64)
    assert shown(page, "Weighted average") == as_shown(F.weighted_avg_pool2d(INPUT, weight))
    assert shown(page, "Lp norm") == as_shown(F.lp_pool2d(INPUT, 2, 2))
    assert shown(page, "Stochastic pooling") == as_shown(F.stochastic_pool2d(INPUT, 2, training=False))
    slide(page, "Order p", 9)
    assert shown(page, "Lp norm") == F.max_pool2d(INPUT, 2).ravel().tolist()
    slide(page, "Window", 3)
    slide(page, "Stride", 1)
    slide(page, "Padding", 1)
    assert shown(page, "Average") == as_shown(F.avg_pool2d(INPUT, 3, 1, padding=1))


def test_pointing_spells_it_out_and_shows_the_gradient(opened: Open) -> None:
    page = opened("pooling")
    page.get_by_role("table", name="Output: Average", exact=True).get_by_role("button", name="1, 2: 1.75").hover()
    assert page.get_by_label("Average", exact=True).locator(".formula").inner_text() == "(2 + 0 + 3 + 2) / 4 = 1.75"
    assert page.get_by_label("Maximum", exact=True).locator(".formula").inner_text() == "max(2, 0, 3, 2) = 3"
    x = INPUT.clone().requires_grad_()
    F.max_pool2d(x, 2)[0, 0, 1].backward()
    figure = page.get_by_role("img", name="Gradient: Maximum")
    places = [i for i, value in enumerate(x.grad.ravel().tolist()) if value]
    squares = figure.locator("rect.more").all()
    cell = float(figure.locator("rect.base").first.get_attribute("width"))
    assert [
        int(float(s.get_attribute("y")) / cell) * 6 + int(float(s.get_attribute("x")) / cell) for s in squares
    ] == places


def test_a_shift_is_counted(opened: Open) -> None:
    page = opened("pooling")
    page.get_by_role("link", name="a shift").click()
    settled(page)
    assert "4 of 4 unchanged" in page.get_by_label("Maximum", exact=True).inner_text()
    slide(page, "Shift →", 3)
    assert "4 of 4 unchanged" not in page.get_by_label("Maximum", exact=True).inner_text()
    assert page.locator(".said").inner_text().startswith("The input was moved:")


def test_a_draw_and_another(opened: Open) -> None:
    page = opened("pooling")
    page.get_by_role("switch", name="Draw the stochastic pooling").check()
    settled(page)
    for seed in (1, 2):
        drawn = F.stochastic_pool2d(INPUT, 2, generator=torch.Generator().manual_seed(seed))
        assert shown(page, "Stochastic pooling") == drawn.ravel().tolist()
        page.get_by_role("button", name="Once more").click()
        settled(page)


def test_signals_and_given_sizes(opened: Open) -> None:
    page = opened("pooling")
    page.get_by_role("link", name="a signal").click()
    settled(page)
    signal = torch.tensor([[1.0, 5, 2, 4, 3, 3, 1, 6, 0]])
    assert shown(page, "k largest") == F.k_max_pool1d(signal, 3).ravel().tolist()
    assert shown(page, "By parts") == F.dynamic_pool1d(signal[None], 3).ravel().tolist()
    page.get_by_role("link", name="a given size").click()
    settled(page)
    expect(page.get_by_label("Weighted average", exact=True)).to_have_count(0)
    assert shown(page, "Average") == as_shown(torch.nn.functional.adaptive_avg_pool2d(INPUT, 4))


def test_numbers_change_and_the_address_keeps_them(opened: Open) -> None:
    page = opened("pooling")
    page.get_by_role("textbox", name="Input, 1, 1", exact=True).fill("20")
    page.keyboard.press("Enter")
    settled(page)
    changed = INPUT.clone()
    changed[0, 0, 0] = 20
    assert shown(opened(page.url.split("#/")[1]), "Maximum") == F.max_pool2d(changed, 2).ravel().tolist()
