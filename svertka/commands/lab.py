"""The command that opens the lab."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from svertka.errors import SvertkaError


def lab(
    model: Annotated[
        str | None,
        typer.Argument(metavar="MODEL", help="What the network room opens: a run folder, or the model file in one."),
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Listen on this port; by default 8765 or the next free one.")
    ] = None,
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Listen to other machines on this address; they need a token.")
    ] = "127.0.0.1",
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Let the page train on this folder: of pictures, a folder for each class; or of such folders.",
        ),
    ] = None,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in the browser.")] = True,
    model_code: Annotated[
        str | None, typer.Option("--model-code", metavar="FILE.py:FACTORY", help="Code that builds the model.")
    ] = None,
) -> None:
    """Open the lab: convolution under your hands, in the browser.

    Without MODEL the network room trains a small one on handwritten digits.
    It listens to this machine alone, unless --host says otherwise, and works without a network.
    """
    try:
        from svertka.lab.serve import serve
    except ImportError as error:
        if error.name is None or error.name.partition(".")[0] not in (
            "starlette",
            "uvicorn",
            "pydantic",
            "scipy",
            "captum",
        ):
            raise
        raise SvertkaError(f"the lab needs {error.name}: pip install 'svertka[lab]'") from None
    serve(host, port, browser, model, model_code, data)
