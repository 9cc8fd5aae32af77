"""Starts the server, says where it is, and opens the browser."""

from __future__ import annotations

import secrets
import socket
import webbrowser
from pathlib import Path

import uvicorn

from svertka.errors import SvertkaError
from svertka.lab.app import create_app
from svertka.lab.datafolder import DataFolder
from svertka.lab.guard import Door
from svertka.lab.networks import Networks
from svertka.lab.trainings import Trainings

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def serve(
    host: str = "127.0.0.1",
    port: int | None = None,
    browser: bool = True,
    model: str | None = None,
    code: str | None = None,
    data: Path | None = None,
) -> None:
    """Serves the lab until Ctrl-C.

    Args:
        host: the address to listen on; any but this machine's own loopback needs a token, which is printed.
        port: None for 8765, or the next that is free; 0 for any.
        browser: open the page.
        model: a run folder or model file, which the network room opens; `code` builds it if it is the user's own.
        code: such as "nets/my.py:build".
        data: a folder that may be trained on.

    Raises:
        SvertkaError: if there is no port to be had.
        DataError: if there is nothing to train on in the folder.
    """
    networks, trainings = Networks(model, code), Trainings(DataFolder(data))
    listening = _listen(host, port)
    port = listening.getsockname()[1]
    token = None if host in _LOOPBACK else secrets.token_urlsafe(24)
    shown = f"[{host}]" if ":" in host else host
    address = f"http://{shown}:{port}/" + (f"?token={token}" if token else "")

    class Server(uvicorn.Server):
        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            trainings.closing = True  # pages that follow one let go
            if run := trainings.under_way:
                print(f"The training in {run} is saved: the lab can go on with it another time.", flush=True)
            await super().shutdown(sockets)

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            print(f"The lab is at {address}\nCtrl-C stops it.", flush=True)
            if browser and not webbrowser.open(address):
                print("There is no browser to open here: open the address yourself.", flush=True)

    app = create_app(Door(host, port, token), networks, trainings)
    config = uvicorn.Config(
        app, log_level="warning", server_header=False, proxy_headers=False,
        access_log=False, limit_concurrency=200, timeout_graceful_shutdown=1,
    )  # fmt: skip
    try:
        Server(config).run([listening])
    finally:
        listening.close()


def _listen(host: str, port: int | None) -> socket.socket:
    """A socket on the first port that is free."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    ports = range(8765, 8785) if port is None else (port,)
    for number in ports:
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, number))
            return listening
        except OSError as error:
            listening.close()
            reason = error.strerror
    which = f"port {port}" if port is not None else f"a port from {ports[0]} to {ports[-1]}"
    raise SvertkaError(f"the lab can't listen on {host}, {which} ({reason}): choose others by --host and --port")
