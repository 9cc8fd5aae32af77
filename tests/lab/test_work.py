"""Work in threads, given up when its page goes."""

import asyncio
import threading
import time
from typing import Any

import pytest

from svertka.lab.work import Check, GivenUpError, Workers


class Page:
    """A request whose page goes when it is told to."""

    def __init__(self) -> None:
        self.gone = asyncio.Event()

    async def receive(self) -> dict[str, str]:
        await self.gone.wait()
        return {"type": "http.disconnect"}


def test_a_result_comes_back() -> None:
    async def scene() -> Any:
        return await Workers().run(Page(), lambda _: 6 * 7)  # type: ignore[arg-type]

    assert asyncio.run(scene()) == 42


def test_running_work_stops_when_the_page_goes() -> None:
    started, ended = threading.Event(), threading.Event()

    def endless(check: Check) -> None:
        started.set()
        try:
            while True:
                check()
                time.sleep(0.001)
        finally:
            ended.set()

    async def scene() -> None:
        page, workers = Page(), Workers(1)
        work = asyncio.ensure_future(workers.run(page, endless))  # type: ignore[arg-type]
        await asyncio.to_thread(started.wait, 5)
        page.gone.set()
        with pytest.raises(GivenUpError):
            await work

    asyncio.run(scene())
    assert ended.wait(5)


def test_waiting_work_never_begins_when_the_page_goes() -> None:
    begun = []
    release = threading.Event()

    async def scene() -> None:
        first, second, workers = Page(), Page(), Workers(1)
        slow = asyncio.ensure_future(workers.run(first, lambda _: release.wait(5)))  # type: ignore[arg-type]
        waiting = asyncio.ensure_future(workers.run(second, lambda _: begun.append(1)))  # type: ignore[arg-type]
        await asyncio.sleep(0.05)
        second.gone.set()
        await asyncio.sleep(0.05)
        release.set()
        await slow
        with pytest.raises(GivenUpError):
            await waiting

    asyncio.run(scene())
    assert not begun


def test_errors_come_through() -> None:
    async def scene() -> None:
        await Workers().run(Page(), lambda _: 1 / 0)  # type: ignore[arg-type]

    with pytest.raises(ZeroDivisionError):
        asyncio.run(scene())
