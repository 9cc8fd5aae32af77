"""`svertka explain cost`: what a layer costs before there is one, beside other layers of the same shape."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from svertka.errors import DataError

if TYPE_CHECKING:
    from svertka.explain.operations import Bound


def cost(
    shape: Annotated[str, typer.Argument(metavar="CxHxW", help="Of the input, such as 3x32x32; one to three sizes.")],
    filters: Annotated[int, typer.Option(min=1, help="Channels of the output.")],
    size: Annotated[str, typer.Option(metavar="N[,N…]", help="Of the kernel.")],
    stride: Annotated[str, typer.Option(metavar="N[,N…]", help="One for all axes, or one for each.")] = "1",
    padding: Annotated[
        str, typer.Option(metavar="PAD[,PAD…]", help="A number, before:after, valid, same, same_upper or same_lower.")
    ] = "0",
    dilation: Annotated[str, typer.Option(metavar="N[,N…]", help="Places from one tap to the next.")] = "1",
    groups: Annotated[int, typer.Option(help="Parts of the channels that don't see each other.")] = 1,
    bias: Annotated[bool, typer.Option("--bias/--no-bias", help="Whether the layers have biases.")] = True,
    connections: Annotated[
        Path | None, typer.Option(metavar="FILE.svg", help="Draw which outputs see which inputs.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what a convolution costs, beside an unshared, a dense and a separable layer of the same shape.

    For example: svertka explain cost 3x32x32 --filters 6 --size 5
    """
    from rich.console import Console

    from svertka.explain import cost as costs

    parts = shape.lower().split("x")
    if not 2 <= len(parts) <= 4 or not all(part.isdecimal() and int(part) for part in parts):
        raise DataError(f"the shape {shape} is none: write channels and sizes like 3x32x32")
    channels, *sizes = map(int, parts)
    if connections is not None and connections.suffix != ".svg":
        raise DataError(f"--connections {connections} is no SVG file: let its name end in .svg")
    layer = _layer(channels, len(sizes), filters, size, stride, padding, dilation, groups, bias)
    found = costs.costs(layer, (channels, *sizes))
    if as_json:
        print(json.dumps(found.to_dict()))
    else:
        Console(highlight=False).print(found)
    if connections is not None:
        from svertka.explain.connections import Connections
        from svertka.files import write_text

        write_text(connections, Connections(layer, (channels, *sizes)).svg())
        typer.echo(f"The connections are in {connections}.", err=True)


def _layer(
    channels: int,
    ndim: int,
    filters: int,
    size: str,
    stride: str,
    padding: str,
    dilation: str,
    groups: int,
    bias: bool,
) -> Bound:
    """The convolution, with weights that are all 0 and take no memory."""
    import numpy as np

    from svertka import spec
    from svertka.explain import parsing
    from svertka.explain.operations import Bound
    from svertka.window import integer

    if channels % integer(groups, "--groups", 1) or filters % groups:
        raise DataError(f"{channels} input channels and {filters} filters must divide by --groups {groups}")
    windows = spec.windows(
        ndim,
        parsing.sizes(size, "--size"),
        parsing.sizes(stride, "--stride"),
        parsing.padding(padding, ndim),
        parsing.sizes(dilation, "--dilation"),
    )
    weight = np.broadcast_to(0.0, (filters, channels // groups, *(window.size for window in windows)))
    return Bound(
        spec.Convolution(windows, groups), weight, np.broadcast_to(0.0, filters) if bias else None, "convolution"
    )
