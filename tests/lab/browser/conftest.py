"""A real browser on a real server: Debian's Chromium, driven by Playwright."""

import os
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from svertka.lab.api import LabError
from svertka.lab.app import create_app
from svertka.lab.guard import Door
from svertka.lab.networks import Networks
from svertka.lab.trainings import Trainings

CHROMIUM = os.environ.get("SVERTKA_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
AXE = Path(__file__).parents[3] / "web/node_modules/axe-core/axe.min.js"


@pytest.hookimpl(tryfirst=True)  # before the marks are selected by
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests of this folder drive the browser; without one they are skipped."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)
            if CHROMIUM is None:
                item.add_marker(pytest.mark.skip(reason="there is no Chromium: apt-get install chromium"))


@pytest.fixture(scope="session")
def networks() -> Networks:
    """What the lab in this process knows: closed by its server."""
    return Networks()


@pytest.fixture(scope="session")
def trained(networks: Networks) -> Any:
    """Our network, once it is trained: a busy machine takes longer than a page waits for in a test."""
    end = time.monotonic() + 180
    while True:
        try:
            return networks.get()
        except LabError:
            assert time.monotonic() < end
            time.sleep(0.1)


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the lab keeps what it trains."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="session")
def address(networks: Networks, runs: Path) -> Iterator[str]:
    """Of a lab that runs in this process."""
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    app = create_app(Door(port=port, requests=1e6, bytes=1e12), networks, Trainings(runs=runs))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    yield f"http://127.0.0.1:{port}/"
    server.should_exit = True
    thread.join()
    listening.close()


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium, without its own sandbox where that can't run (as root)."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=[
                "--no-sandbox",
                "--force-device-scale-factor=1",
                "--use-fake-device-for-media-stream",
                "--use-fake-ui-for-media-stream",
            ],
        )
        yield launched
        launched.close()


@pytest.fixture
def opened(browser: Any, address: str, request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    """Opens a room; a page that reports an error, or breaks its content policy, fails the test."""
    contexts, faults = [], []

    def open_room(
        room: str, language: str = "en", theme: str = "light", width: int = 1440, height: int = 900, **options: Any
    ) -> Any:
        if room.startswith(("network", "lecture")):
            request.getfixturevalue("trained")
        locale = {"en": "en-GB", "ru": "ru-RU"}[language]
        context = browser.new_context(
            viewport={"width": width, "height": height}, locale=locale, color_scheme=theme, **options
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda message: message.type == "error" and faults.append(message.text))
        page.goto(f"{address}#/{room}")
        page.locator("main [aria-busy=false]").first.wait_for()
        return page

    yield open_room
    for context in contexts:
        context.close()
    assert not [fault for fault in faults if "422" not in fault]


@pytest.fixture
def axe() -> Callable[[Any], list[str]]:
    """Serious faults that axe-core finds on a page, each in a line."""
    if not AXE.is_file():
        pytest.skip("axe-core is not installed: python web/build.py")

    def run(page: Any) -> list[str]:
        page.evaluate(AXE.read_text() + "; null")
        found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        return [
            f"{fault['id']} ({fault['impact']}): {node['target']} {node['failureSummary']}"
            for fault in found["violations"] if fault["impact"] in ("serious", "critical") for node in fault["nodes"]
        ]  # fmt: skip

    return run
