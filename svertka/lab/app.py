"""The server: the page's files, the API, and the guard before both."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from svertka.lab import api
from svertka.lab.guard import Door, Guard
from svertka.lab.networks import Networks
from svertka.lab.rooms import ENDPOINTS
from svertka.lab.trainings import Trainings
from svertka.lab.work import Workers

STATIC = Path(__file__).parent / "static"
"""The built page; its source is web/."""


class _Files(StaticFiles):
    """The page's files: those with a hash in their name never change, the others are asked for again."""

    def file_response(self, *arguments: object, **options: object) -> Response:
        response = super().file_response(*arguments, **options)  # type: ignore[arg-type]
        kept = "/assets/" in str(arguments[0])
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable" if kept else "no-cache"
        return response


def create_app(door: Door, networks: Networks | None = None, trainings: Trainings | None = None) -> Starlette:
    """The lab as an ASGI application; what its rooms share is in its `state`.

    Args:
        door: what lets requests in.
        networks: that the server knows; they are closed with it.
        trainings: that it makes; the one under way is saved and ended with it.
    """
    workers, networks, trainings = Workers(), networks or Networks(), trainings or Trainings()

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        workers.close()
        networks.close()
        await asyncio.to_thread(trainings.close)

    async def openapi(_: Request) -> Response:
        return Response(api.written(ENDPOINTS), media_type="application/json")

    app = Starlette(
        routes=[
            Route("/api/openapi.json", openapi),
            *(endpoint.route(workers) for endpoint in ENDPOINTS),
            Mount("/", _Files(directory=STATIC, html=True)),
        ],
        middleware=[Middleware(Guard, door=door), Middleware(GZipMiddleware, minimum_size=1000, compresslevel=5)],
        lifespan=lifespan,
    )
    app.state.networks, app.state.trainings = networks, trainings
    return app
