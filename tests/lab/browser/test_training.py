"""Room 6 with real clicks; what the page tells is what stands in the run folder."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from svertka.vision.datasets import load_for
from svertka.vision.modelfile import load_model
from svertka.vision.run import train

Open = Callable[..., Any]
LONG = 60_000  # a busy machine


def settled(page: Any) -> None:
    page.locator("main .room[aria-busy=false]").first.wait_for()


def fill(page: Any, **fields: str) -> None:
    for name, text in fields.items():
        page.get_by_label(name.replace("_", " "), exact=True).fill(text)
    settled(page)


def phase(page: Any, text: str | re.Pattern[str]) -> None:
    expect(page.get_by_test_id("phase")).to_contain_text(text, timeout=LONG)


def log(runs: Path) -> tuple[Path, list[dict[str, Any]]]:
    """Of the newest run."""
    folder = max(runs.iterdir(), key=lambda path: path.stat().st_mtime)
    return folder, [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def heights(page: Any, title: str, kind: str, least: float, most: float) -> list[float]:
    """The values of a curve's points, read off the figure."""
    figure = page.get_by_role("img", name=title, exact=True)
    grid = [float(line.get_attribute("y1")) for line in figure.locator("line.grid").all()]
    found = [float(circle.get_attribute("cy")) for circle in figure.locator(f"circle.{kind}").all()]
    return [least + (grid[0] - y) / (grid[0] - grid[-1]) * (most - least) for y in found]


def ticks(page: Any, title: str) -> tuple[float, float]:
    """The lowest and the highest number beside a figure."""
    figure = page.get_by_role("img", name=title, exact=True)
    texts = figure.locator("text.tick").all_text_contents()[: figure.locator("line.grid").count()]
    return float(texts[0]), float(texts[-1])


def test_digits_for_two_epochs(opened: Open, runs: Path) -> None:
    page = opened("train")
    page.get_by_label("Model", exact=True).select_option("linear")
    fill(page, Epochs="2")
    page.get_by_role("button", name="Train", exact=True).click()
    phase(page, "Done: 2 of 2 epochs")
    folder, records = log(runs)
    last = records[-1]
    shown = page.get_by_role("figure").filter(has=page.get_by_role("img", name="Accuracy"))
    assert shown.get_by_test_id("validation").inner_text() == f"{100 * last['val_accuracy']:.1f}\u202f%"
    assert shown.get_by_test_id("training").inner_text() == f"{100 * last['train_accuracy']:.1f}\u202f%"
    figure = page.get_by_role("figure").filter(has=page.get_by_role("img", name="Loss"))
    assert figure.get_by_test_id("validation").inner_text() == f"{last['val_loss']:.2f}"
    least, most = ticks(page, "Loss")
    for kind, key in (("training", "train_loss"), ("validation", "val_loss")):
        found = heights(page, "Loss", kind, least, most)
        assert found == pytest.approx([record[key] for record in records], abs=0.01 * most)
    page.get_by_text("Numbers by epoch").click()
    cells = page.get_by_role("region", name="Numbers by epoch").locator("tbody td").all_inner_texts()
    assert cells[0] == f"{records[0]['train_loss']:.4f}" and cells[7] == f"{last['val_loss']:.4f}"

    trained = load_model(folder)
    test = load_for("digits", trained.classes, trained.preprocessing)
    scores = trained.model(trained.preprocessing.normalise(test.pixels))
    right = int((scores.argmax(1) == test.labels).sum())
    assert f"{right} of {len(test)} right" in page.get_by_test_id("answers").inner_text()
    matrix = page.get_by_role("region", name="What it takes for what").locator("tbody td").all_inner_texts()
    counts = [int(text or 0) for text in matrix]
    assert sum(counts[::11]) == right and sum(counts) == len(test)


def test_a_finished_run_is_drawn_again_after_a_new_start(browser: Any, runs: Path, tmp_path: Path) -> None:
    folder = runs / "an-earlier-one"
    outcome = train({"model": "linear", "epochs": 3}, out=folder)
    train({"model": "linear", "epochs": 1, "seed": 5}, out=runs / "the-newest")
    assert outcome.evaluation is not None
    command = [sys.executable, "-c", "from svertka.cli import main; main()", "lab", "--no-browser", "--port", "0"]
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/lab").symlink_to(runs)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().split()[-1]
            page = browser.new_page(locale="en-GB")
            page.goto(f"{address}#/train")
            phase(page, "Done: 1 of 1 epoch")  # the newest
            page.get_by_role("button", name="Curves and errors: an-earlier-one").click()
            for _ in range(2):
                phase(page, "Done: 3 of 3 epochs")
                records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
                figure = page.get_by_role("figure").filter(has=page.get_by_role("img", name="Loss"))
                assert figure.get_by_test_id("validation").inner_text() == f"{records[-1]['val_loss']:.2f}"
                matrix = page.get_by_role("region", name="What it takes for what").locator("tbody td")
                counts = [int(text or 0) for text in matrix.all_inner_texts()]
                assert counts == outcome.evaluation.confusion.ravel().tolist()
                page.reload()  # the address holds which one it was
            page.close()
        finally:
            process.terminate()


def test_stop_reload_go_on_and_look_into_it(opened: Open, runs: Path) -> None:
    page = opened("train?model=lenet&epochs=1000")  # more than it has time for
    page.get_by_role("button", name="Train", exact=True).click()
    phase(page, re.compile(r"Epoch ([3-9]|\d{2,}) of 1000"))  # whichever the page comes to show
    expect(page.get_by_role("button", name="Train", exact=True)).to_be_disabled()
    assert "one at a time" in page.get_by_role("complementary").inner_text()
    page.reload()
    settled(page)
    phase(page, " of 1000")  # the page finds it again
    other = opened("train", "ru")
    expect(other.get_by_test_id("phase")).to_contain_text("из 1000", timeout=LONG)
    page.get_by_role("button", name="Stop", exact=True).click()
    phase(page, "Stopped, and all is saved")
    done = len(log(runs)[1])
    assert 2 <= done < 1000 and f"{done} of 1000" in page.get_by_test_id("phase").inner_text()
    expect(other.get_by_test_id("phase")).to_contain_text("Остановлено", timeout=LONG)
    page.get_by_role("button", name="Go on", exact=True).click()
    phase(page, "Epoch")
    page.get_by_role("button", name="Stop", exact=True).click()
    phase(page, "Stopped, and all is saved")
    folder, records = log(runs)
    page.get_by_text("Numbers by epoch").click()
    rows = page.get_by_role("region", name="Numbers by epoch").locator("tbody th").all_inner_texts()
    assert rows == [str(record["epoch"]) for record in records]
    page.get_by_role("button", name="Look into the network", exact=True).click()
    page.wait_for_url(f"**/#/network?model={folder.name}*")


def test_what_cannot_be_used_is_said_at_its_field(opened: Open) -> None:
    page = opened("train", "ru")
    for field, text, sentence in (
        ("Эпохи", "0", "Число эпох — целое, от 1 до 1000."),
        ("Эпохи", "две", "Число эпох — целое, от 1 до 1000."),
        ("Размер батча", "2,5", "Размер батча — целое число от 1 до 4096."),
        ("Скорость обучения", "-1", "Скорость обучения — число больше нуля, но не больше 10."),
    ):
        box = page.get_by_label(field, exact=True)
        box.fill(text)
        expect(page.get_by_role("alert")).to_have_text(sentence)
        described = box.get_attribute("aria-describedby")
        expect(page.locator(f"[id='{described}']")).to_have_text(sentence)
        expect(page.get_by_role("button", name="Начать обучение")).to_be_disabled()
        box.fill("")
        expect(page.get_by_role("alert")).to_have_count(0)


def test_the_plan_and_the_address(opened: Open) -> None:
    page = opened("train")
    assert page.get_by_test_id("parameters").inner_text() == "188\u202f810 parameters."
    page.get_by_label("Model", exact=True).select_option("resnet18")
    page.get_by_label("your own", exact=True).check()
    fill(page, Epochs="3", Learning_rate="0.1")
    page.get_by_label("Crop, %", exact=True).fill("20")
    page.get_by_text("The same in a terminal").click()
    command = "svertka train digits --model resnet18 --epochs 3 --lr 0.1 --shift 0 --no-flip --crop 0.2 --contrast 0.0"
    expect(page.locator("pre")).to_have_text(command)
    again = opened(page.url.split("#/")[1])
    again.get_by_text("The same in a terminal").click()
    expect(again.locator("pre")).to_have_text(command)


def test_no_serious_fault_with_curves_and_matrix(opened: Open, axe: Callable[..., list[str]], runs: Path) -> None:
    page = opened("train?model=linear&epochs=1")
    page.get_by_role("button", name="Train", exact=True).click()
    phase(page, "Done: 1 of 1 epoch")
    assert len(log(runs)[1]) == 1
    assert axe(page) == []
    for language, theme, width in (("ru", "dark", 390), ("en", "dark", 1440)):
        other = opened("train", language, theme, width)
        expect(other.get_by_test_id("answers")).to_have_count(1)
        assert other.evaluate("document.documentElement.scrollWidth") <= width
        assert axe(other) == []
