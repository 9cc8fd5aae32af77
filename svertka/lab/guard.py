"""Who may ask: every request passes here before anything else sees it.

A page of another site can send requests to a server on this machine, and by DNS rebinding even read the answers. So the
`Host` must be a name of this server, a request that comes from a page must come from our own (`Origin`,
`Sec-Fetch-Site`), bodies have the two types that a plain form can't send, and they are bounded in bytes and in rate.
Where the server listens to other machines, each must bring the token, too.
"""

from __future__ import annotations

import ipaddress
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.cookies import SimpleCookie
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY = 16 * 2**20
"""Bytes of one request; a photograph from a telephone has 3 to 8 million."""

_TYPES = ("application/json", "application/octet-stream")
_COOKIE = "svertka-lab"
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; connect-src 'self'; "
        "img-src 'self' data: blob:; media-src 'self' blob:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
}


@dataclass(frozen=True)
class Door:
    """What lets a request in.

    Args:
        host: the address that the server listens on.
        port: its port.
        token: what each request must bring; None on this machine alone.
        requests: how many with a body each address may send in a second, for some seconds.
        bytes: how many bytes in a second.
    """

    host: str = "127.0.0.1"
    port: int = 8765
    token: str | None = None
    requests: float = 200.0
    bytes: float = 48 * 2.0**20

    def knows(self, host: str) -> bool:
        """Whether a `Host` header names this server: a rebound name does not, a number can't be rebound."""
        try:
            parts = urlsplit(f"//{host}")
            name, port = parts.hostname or "", parts.port
        except ValueError:
            return False
        if (port or 80) != self.port or parts.username is not None or parts.path:
            return False
        if name in ("localhost", "127.0.0.1", "::1", self.host.lower()):
            return True
        return self.token is not None and _is_address(name)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class RefusedError(Exception):
    """A request that is not let in: the status, and a sentence."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Guard:
    """ASGI middleware that lets in what the door lets in, and gives every answer the headers of `_HEADERS`."""

    def __init__(self, app: ASGIApp, door: Door, clock: Callable[[], float] = time.monotonic) -> None:
        self.app, self.door, self.rates = app, door, Rates(door, clock)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return  # no other protocol is spoken here
        headers = Headers(scope=scope)

        async def protected(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        try:
            entering = self._checked(scope, headers)
            if entering is None:
                client = (scope.get("client") or ("",))[0]
                await self.app(scope, self._bounded(receive, client), protected)
                return
        except RefusedError as refused:
            entering = JSONResponse({"kind": "refused", "message": str(refused)}, refused.status)
        await entering(scope, receive, protected)

    def _checked(self, scope: Scope, headers: Headers) -> Response | None:
        """None for a request that is let in; where it brings the token in its address, a way back without it."""
        host = headers.get("host", "")
        if not self.door.knows(host):
            raise RefusedError(421, f"this server is not called {host!r}: use the address that it printed")
        method = scope["method"]
        if method not in ("GET", "HEAD", "POST"):
            raise RefusedError(405, f"{method} is not answered here: use GET or POST")
        origin = headers.get("origin")
        if origin is not None and origin != f"{scope.get('scheme', 'http')}://{host}":
            raise RefusedError(403, f"requests from pages of {origin!r} are not answered: open the lab's own page")
        if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none") and not _navigates(headers):
            raise RefusedError(403, "requests from pages of other sites are not answered: open the lab's own page")
        if method == "POST" and headers.get("content-type", "").split(";")[0].strip() not in _TYPES:
            raise RefusedError(415, f"a body must be {' or '.join(_TYPES)}: set its Content-Type")
        return self._with_token(scope, headers)

    def _with_token(self, scope: Scope, headers: Headers) -> Response | None:
        token = self.door.token
        if token is None:
            return None
        query = parse_qs(scope["query_string"].decode("latin-1"))
        if scope["path"] == "/" and _same(query.get("token", [""])[0], token):
            response = RedirectResponse("/", 303)
            response.set_cookie(_COOKIE, token, httponly=True, samesite="strict")
            return response
        cookie = SimpleCookie(headers.get("cookie", "")).get(_COOKIE)
        bearer = headers.get("authorization", "").removeprefix("Bearer ")
        if not (_same(bearer, token) or (cookie is not None and _same(cookie.value, token))):
            raise RefusedError(401, "the token is missing: open the address with the token that the server printed")
        return None

    def _bounded(self, receive: Receive, client: str) -> Receive:
        """Receives no more than the bounds allow."""
        total = 0

        async def bounded() -> Message:
            nonlocal total
            message = await receive()
            if message["type"] == "http.request" and message.get("body"):
                size = len(message["body"])
                self.rates.spend(client, 0 if total else 1, size)
                total += size
                if total > MAX_BODY:
                    raise RefusedError(413, f"the request has over {MAX_BODY // 2**20} MiB: send a smaller picture")
            return message

        return bounded


class Rates:
    """Requests and bytes that each address may still send: they grow with time, up to what three seconds give."""

    burst = 3.0

    def __init__(self, door: Door, clock: Callable[[], float]) -> None:
        self.rates, self.clock = (door.requests, door.bytes), clock
        self.left: dict[str, tuple[float, float, float]] = {}

    def spend(self, client: str, requests: int, size: int) -> None:
        """Raises RefusedError if the address has no more to spend."""
        now = self.clock()
        if len(self.left) > 1000:  # addresses that had all their rest have it again
            self.left = {name: entry for name, entry in self.left.items() if now - entry[2] < self.burst}
        full = tuple(rate * self.burst for rate in self.rates)
        first, second, before = self.left.get(client, (*full, now))
        left = [
            min(most, rest + rate * (now - before)) - cost
            for rest, rate, most, cost in zip((first, second), self.rates, full, (requests, size), strict=True)
        ]
        self.left[client] = (max(left[0], 0.0), max(left[1], 0.0), now)
        if min(left) < 0:
            raise RefusedError(429, "too much was sent in too short a time: wait a second")


def _navigates(headers: Headers) -> bool:
    """A link on another site may lead to the page itself."""
    return headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"


def _same(given: str, token: str) -> bool:
    return secrets.compare_digest(given.encode(), token.encode())
