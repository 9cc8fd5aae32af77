"""Work for a page: in threads of its own, a few at a time, and given up when the page no longer waits for it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from starlette.requests import Request

from svertka.memory import give_back

Result = TypeVar("Result")
Check = Callable[[], None]

_LONG = 0.3  # seconds: what takes less has not taken much memory, either


class GivenUpError(Exception):
    """Nobody waits for the result any more."""


class Workers:
    """A pool of threads for all pages.

    Args:
        threads: how many things are computed at a time; the rest waits in order, or goes when its page goes.
    """

    def __init__(self, threads: int = 2) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="svertka-lab")

    async def run(self, request: Request, function: Callable[[Check], Result]) -> Result:
        """The result of `function`, which is handed a check to call now and then: it raises GivenUpError when to stop.

        The request's body must have been read.
        """
        gone = threading.Event()

        def check() -> None:
            if gone.is_set():
                raise GivenUpError

        def work() -> Result:
            check()
            start = time.monotonic()
            try:
                return function(check)
            finally:
                if time.monotonic() - start > _LONG:
                    give_back()

        loop = asyncio.get_running_loop()
        working = loop.run_in_executor(self._pool, work)
        watching = asyncio.ensure_future(_until_gone(request))
        try:
            both: set[asyncio.Future[Any]] = {working, watching}
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                gone.set()
            return await working
        finally:
            gone.set()
            watching.cancel()

    def close(self) -> None:
        """Waits for nothing that has not begun."""
        self._pool.shutdown(wait=False, cancel_futures=True)


async def _until_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
