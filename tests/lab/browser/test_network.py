"""Room 5 with real clicks: a digit is drawn, numbers are chosen, and what the page says is what the library says."""

import base64
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from playwright.sync_api import expect

from svertka import inspect, models
from svertka.inspect import attribution
from svertka.lab.networks import Networks
from svertka.vision.datasets import load
from svertka.vision.modelfile import MODEL_FILE, TrainedModel, save_model
from svertka.vision.pictures import Preprocessing

Open = Callable[..., Any]


def settled(page: Any) -> None:
    expect(page.locator("main [aria-busy=true]")).to_have_count(0)


def number(text: str) -> float:
    return float(text.replace("−", "-").replace(",", "."))


def sample(trained: TrainedModel, digit: int) -> torch.Tensor:
    """The first test picture of a digit, as the network gets it."""
    test = load("digits").test
    assert test is not None
    assert test.pixels is not None
    pixels = test.pixels[int((test.labels == digit).nonzero()[0, 0])]
    return trained.preprocessing.normalise(trained.preprocessing.from_pixels(pixels[0].numpy())[None])[0]


def maps_of(page: Any, layer: str) -> Any:
    return page.get_by_role("application", name=f"Maps of {layer}. ")


def test_the_answer_to_each_digit(opened: Open, trained: TrainedModel) -> None:
    page = opened("network")
    for digit in (0, 4, 7):
        page.get_by_role("button", name=f"Digit {digit}").click()
        expect(page.get_by_test_id("answer")).to_have_text(str(digit))
        settled(page)
        with torch.no_grad():
            shares = trained.model(sample(trained, digit)[None]).softmax(1)[0]
        for label, share in enumerate(shares.tolist()):
            shown = page.get_by_test_id(f"probability-{label}").inner_text()
            assert number(shown.removesuffix("%")) == pytest.approx(100 * share, abs=0.51)
    assert "picture=7" in page.url


def test_a_number_is_chosen_by_a_click_and_moved_by_arrows(opened: Open, trained: TrainedModel) -> None:
    page = opened("network")
    maps = maps_of(page, "features.0.conv")
    maps.locator("canvas").click(position={"x": 3 * 10 + 2, "y": 3 * 5 + 2})  # 3 pixels for a number of the first map
    values = inspect.feature_maps(trained.model, sample(trained, 3))["features.0.conv"].values

    def shown(channel: int, row: int, column: int) -> None:
        note = page.locator("aside .note").first
        expect(note).to_contain_text(f"channel {channel + 1}, row {row + 1}, column {column + 1}")
        expect(page.get_by_test_id("value")).not_to_be_empty()
        settled(page)
        value = float(values[channel, row, column])
        assert number(page.get_by_test_id("value").inner_text()) == pytest.approx(value, rel=2e-3, abs=2e-4)
        assert number(page.get_by_test_id("total").inner_text()) == pytest.approx(value, rel=2e-3, abs=2e-4)

    shown(0, 5, 10)
    page.keyboard.press("ArrowDown")  # the maps have the focus, which a click gave
    shown(0, 6, 10)
    page.keyboard.press("Shift+ArrowRight")
    shown(1, 6, 10)
    assert "at=features.0.conv%2C1%2C6%2C10" in page.url
    page.reload()
    shown(1, 6, 10)


def test_the_terms_add_up(opened: Open, trained: TrainedModel) -> None:
    page = opened("network?at=features.1.conv,5,3,4")
    page.get_by_test_id("total").wait_for()
    settled(page)
    rows = page.locator("aside .row b").all_inner_texts()
    *terms, total = map(number, rows)
    assert len(terms) == 8 + 1 + 1  # channels, all others together, the bias
    assert sum(terms) == pytest.approx(total, abs=0.02 * max(map(abs, terms)) + 1e-3)  # each is told to three digits
    expected = inspect.feature_maps(trained.model, sample(trained, 3))["features.1.conv"].values[5, 3, 4]
    assert total == pytest.approx(float(expected), rel=2e-3)


def test_a_field_is_framed_on_the_picture(opened: Open) -> None:
    page = opened("network?at=features.0.conv,0,5,10")
    frame = page.locator(".framed i")
    frame.wait_for()
    style = frame.get_attribute("style") or ""
    found = {name: float(value) for name, value in re.findall(r"(\w+): ([\d.]+)%", style)}
    expected = {"top": 3, "left": 8, "height": 5, "width": 5}  # 5 × 5 around (5, 10) of 16 × 16
    assert found == {name: pytest.approx(100 * n / 16, abs=0.01) for name, n in expected.items()}


def test_a_digit_is_drawn_and_read(opened: Open) -> None:
    page = opened("network")
    pad = page.get_by_test_id("pad")
    pad.scroll_into_view_if_needed()
    box = pad.bounding_box()
    strokes = ([(0.5, 0.12), (0.5, 0.88)],)
    for stroke in strokes:
        places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in stroke]
        page.mouse.move(*places[0])
        page.mouse.down()
        for place in places[1:]:
            page.mouse.move(*place, steps=8)
        page.mouse.up()
    expect(page.get_by_test_id("answer")).to_have_text("1")
    settled(page)
    assert "picture=" not in page.url
    shares = [page.get_by_test_id(f"probability-{digit}").inner_text() for digit in range(10)]
    for again in (opened(page.url.split("#/")[1]), page):  # somebody else who was sent the address, and the same page
        again.reload()
        expect(again.get_by_test_id("answer")).to_have_text("1")
        settled(again)
        assert [again.get_by_test_id(f"probability-{digit}").inner_text() for digit in range(10)] == shares
        assert again.get_by_text("Draw a digit").count() == 0
    assert pad.evaluate("canvas => canvas.getContext('2d').getImageData(140, 140, 1, 1).data[0]") == 255
    page.get_by_role("button", name="Clear").click()
    assert "drawn=" not in page.url
    page.get_by_role("button", name="Digit 5").click()
    expect(page.get_by_test_id("answer")).to_have_text("5")


def test_an_address_with_half_a_drawing_shows_the_first_digit(opened: Open) -> None:
    page = opened("network?drawn=700a")
    expect(page.get_by_test_id("answer")).to_have_text("3")
    assert "drawn=" not in page.url


def test_all_maps_of_a_large_layer_are_shown_on_request(opened: Open, networks: Networks, tmp_path: Path) -> None:
    frame = Preprocessing(1, (128, 128))
    model = models.create("lenet", 1, 2, size=(128, 128), widths=[64, 8], hidden=8)
    arguments = {"widths": [64, 8], "hidden": 8}
    save_model(tmp_path / MODEL_FILE, model, name="lenet", arguments=arguments, classes=("a", "b"), preprocessing=frame)
    name = networks.add("large", tmp_path)
    page = opened(f"network?model={name}")
    layer = page.locator("article").filter(has=page.get_by_role("heading", name="features.0.conv"))
    expect(layer.get_by_role("heading")).to_contain_text("the 6 with the largest values")
    before = layer.locator("canvas").bounding_box()
    layer.get_by_role("button", name="Show all 64").click()
    expect(layer.get_by_role("heading")).to_have_text("features.0.conv Conv2d · 64 × 128×128", timeout=60_000)
    assert layer.locator("canvas").bounding_box()["height"] > 5 * before["height"]
    x = frame.normalise(frame.decode(Path(__file__).parents[3] / "svertka/lab/static/cat.png")[None])[0]
    values = inspect.feature_maps(networks.get(name).model, x, wanted=["features.0.conv"])["features.0.conv"].values
    place = (int(np.abs(values).reshape(64, -1).max(axis=1).argmin()), 7, 9)  # of a channel that is not told at first
    page.goto(f"{page.url.split('#')[0]}#/network?model={name}&at=features.0.conv,{','.join(map(str, place))}")
    page.reload()
    expect(layer.get_by_role("button", name="Show fewer")).to_be_visible(
        timeout=60_000
    )  # the chosen one is not among the first
    note = layer.locator(".note").first
    expect(note).to_contain_text(f"channel {place[0] + 1}, row 8, column 10: ")
    shown = number(note.inner_text().rpartition(": ")[2])
    assert shown == pytest.approx(float(values[place]), rel=1e-2, abs=1e-3)


def test_it_is_said_that_a_number_is_being_counted(opened: Open) -> None:
    page = opened("network")
    page.route("**/api/network/number*", lambda _: None)  # never answered
    maps_of(page, "features.0.conv").locator("canvas").click(position={"x": 30, "y": 30})
    expect(page.get_by_text("Counting…")).to_be_visible()


def test_a_picture_is_dropped(opened: Open, trained: TrainedModel, tmp_path: Path) -> None:
    pixels = np.zeros((40, 40), np.uint8)
    pixels[4:36, 18:24] = 255
    Image.fromarray(pixels).save(tmp_path / "one.png")
    content = base64.b64encode((tmp_path / "one.png").read_bytes()).decode()
    page = opened("network")
    page.evaluate(
        """content => {
            const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
            const carried = new DataTransfer();
            carried.items.add(new File([bytes], "one.png", {type: "image/png"}));
            document.querySelector(".network").dispatchEvent(
                new DragEvent("drop", {dataTransfer: carried, bubbles: true, cancelable: true}));
        }""",
        content,
    )
    frame = trained.preprocessing
    x = frame.normalise(frame.decode(tmp_path / "one.png")[None])
    with torch.no_grad():
        expected = trained.model(x).softmax(1)[0]
    expect(page.get_by_test_id("answer")).to_have_text(str(int(expected.argmax())))
    page.get_by_role("switch", name="Negative").check()
    settled(page)
    with torch.no_grad():
        expected = trained.model(frame.normalise(255 - frame.decode(tmp_path / "one.png")[None])).softmax(1)[0]
    expect(page.get_by_test_id("answer")).to_have_text(str(int(expected.argmax())))


def test_a_file_that_is_no_picture_is_said(opened: Open, tmp_path: Path) -> None:
    (tmp_path / "note.png").write_text("no picture")
    page = opened("network")
    page.locator("input[type=file]").set_input_files(tmp_path / "note.png")
    expect(page.get_by_role("alert").first).to_contain_text("can’t be opened as a picture")


def test_attribution_filters_and_excitations(opened: Open, trained: TrainedModel) -> None:
    page = opened("network")
    told = page.get_by_test_id("attribution")
    x = sample(trained, 3)
    for label, method in (("Occlusion", "occlusion"), ("Grad-CAM", "Grad-CAM")):
        page.get_by_label(label, exact=True).check()
        settled(page)
        found = attribution.METHODS[method](trained.model, x, 3)
        numbers = [number(text) for text in re.findall(r"is (−?[\d.]+(?:e−?\d+)?)[;.]", told.inner_text())]
        assert numbers[0] == pytest.approx(float(np.abs(found.map).max()), rel=1e-2)
        assert numbers[1] == pytest.approx(found.score, rel=1e-2)
    assert "features.1" in told.inner_text()
    assert page.get_by_test_id("filters").locator("canvas").count() == 32
    page.get_by_label("features.1.conv", exact=True).check()
    page.get_by_role("slider", name="Filter").fill("7")
    settled(page)
    assert page.get_by_test_id("filters").locator("canvas").count() == 32  # one for each channel of the input
    page.get_by_role("button", name="Draw for the classes").click()
    made = page.get_by_test_id("made")
    made.wait_for(timeout=60_000)
    assert made.locator("img").count() == 10


def test_another_network_by_its_address(opened: Open, networks: Networks, tmp_path: Path) -> None:
    frame = Preprocessing(3, (20, 20))
    model = models.create("linear", 3, 2, size=(20, 20))
    save_model(tmp_path / MODEL_FILE, model, name="linear", arguments={}, classes=("cat", "dog"), preprocessing=frame)
    name = networks.add("pets", tmp_path)
    page = opened(f"network?model={name}")
    expect(page.get_by_role("combobox", name="Network")).to_have_value(name)
    with torch.no_grad():
        static = Path(__file__).parents[3] / "svertka/lab/static/cat.png"
        scores = model.eval()(frame.normalise(frame.decode(static)[None]))[0]
    expect(page.get_by_test_id("answer")).to_have_text(("cat", "dog")[int(scores.argmax())])
    expect(page.get_by_role("heading", name="Templates of the classes")).to_be_visible()
    assert page.get_by_test_id("pad").count() == 0
    page.get_by_role("combobox", name="Network").select_option("digits")
    expect(page.get_by_test_id("answer")).to_have_text("3")
    page.goto(page.url.split("#")[0] + "#/network?model=unknown")
    expect(page.get_by_role("alert")).to_have_text("There is no such network here.")


def test_training_is_shown_until_it_is_done(browser: Any, tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from svertka.cli import main; main()", "lab", "--no-browser", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().split()[-1]
            page = browser.new_page(locale="en-GB")
            page.goto(f"{address}#/network")
            expect(page.get_by_role("heading", name="A network is learning to read digits")).to_be_visible()
            expect(page.get_by_role("progressbar")).to_have_attribute("max", "12")
            expect(page.get_by_test_id("answer")).to_have_text("3", timeout=120_000)
            page.close()
        finally:
            process.terminate()


def test_the_number_stands_by_its_layer_on_a_narrow_page(opened: Open) -> None:
    page = opened("network?at=features.0.pool,2,1,1", "ru", "light", 390)
    inline = page.locator("article", has_text="features.0.pool").get_by_test_id("value")
    inline.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
