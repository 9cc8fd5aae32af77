"""`svertka explain`: any layer on the user's own numbers, and any number of a trained network."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from svertka.commands import pictures
from svertka.commands.cost import cost
from svertka.commands.model import model
from svertka.errors import DataError

if TYPE_CHECKING:
    from svertka import spec
    from svertka.commands.showing import Wanted


class _CommandOrModel(TyperGroup):
    """A first word that is no command is a trained model's path."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in self.commands:
            if not Path(args[0]).exists():
                known = ", ".join(self.commands)
                raise DataError(f"{args[0]} is neither a trained model's path nor one of {known}: correct it")
            args = ["model", *args]
        return super().resolve_command(ctx, args)


_HELP = """Show how each number of a layer comes to be, on your own input or in a trained network.

For example: svertka explain conv --input "1 2 3; 3 4 5; 1 0 2" --kernel "0 1; 1 -1" --at 0,1

Or: svertka explain MODEL --layer NAME --at C,Y,X --picture FILE
"""
app = typer.Typer(cls=_CommandOrModel, no_args_is_help=True, help=_HELP)

_window = partial(typer.Option, rich_help_panel="Window")
_shown = partial(typer.Option, rich_help_panel="What is shown")
_picture = partial(typer.Option, rich_help_panel="If the input is a picture")

Input = Annotated[
    str,
    typer.Option(
        "--input",
        metavar="MATRIX|FILE",
        help='Such as "1 2 3; 3 4 5" (rows by ;  planes by ;;  channels by |), a .csv, .tsv, .txt, .npy or a picture.',
    ),
]
Kernels = Annotated[
    list[str],
    typer.Option(
        "--kernel",
        metavar="MATRIX|FILE",
        help="Written like the input, a part for each input channel by |; again for each further output channel.",
    ),
]
Bias = Annotated[str | None, typer.Option(metavar="B[,B…]", help="A number for each output channel.")]
Stride = Annotated[str | None, _window(metavar="N[,N…]", help="One for all axes, or one for each.")]
Padding = Annotated[
    str,
    _window(
        metavar="PAD[,PAD…]",
        help="A number, before:after, valid, same, same_upper or same_lower; one for all axes, or one for each.",
    ),
]
Mode = Annotated[str, _window(help="Of the padding: zeros, replicate, reflect, symmetric or circular.")]
Dilation = Annotated[str, _window(metavar="N[,N…]", help="Places from one tap to the next.")]
Groups = Annotated[int, typer.Option(help="Parts of the channels that don't see each other.")]
Flip = Annotated[bool, typer.Option("--flip", help="Turn the kernel round: mathematics' convolution.")]
At = Annotated[
    list[str] | None,
    _shown(metavar="[C,]Y,X", help="Show how the output at this place comes to be, from 0; may be repeated."),
]
Everything = Annotated[bool, _shown("--all", help="Show how every output comes to be.")]
Matrix = Annotated[bool, _shown("--matrix", help="Show the operation as a matrix.")]
Gradient = Annotated[bool, _shown("--gradient", help="Show the gradient of the sum of the outputs.")]
Animate = Annotated[
    Path | None, _shown(metavar="FILE", help="Write an animation: .svg, .gif, or .html (with a player).")
]
AsJson = Annotated[bool, _shown("--json", help="Print JSON, whole.")]
Channels = Annotated[int, _picture(help="1 (grey) or 3 (RGB).")]
Region = Annotated[
    str | None, _picture(metavar="Y:Y,X:X", help="Rows and columns; by default at most 12 × 12 in the middle.")
]


@app.command()
def conv(
    input: Input,
    kernel: Kernels,
    bias: Bias = None,
    stride: Stride = "1",
    padding: Padding = "0",
    mode: Mode = "zeros",
    dilation: Dilation = "1",
    groups: Groups = 1,
    flip: Flip = False,
    at: At = None,
    everything: Everything = False,
    matrix: Matrix = False,
    gradient: Gradient = False,
    animate: Animate = None,
    as_json: AsJson = False,
    channels: Channels = 1,
    region: Region = None,
) -> None:
    """Convolution, as all deep learning has it: cross-correlation (see --flip).

    For example, with padding: svertka explain conv --input "1 2 3 4 5" --kernel "-1 0 2 0 -1" --padding same --all
    """
    from svertka import spec
    from svertka.commands import requests
    from svertka.explain import parsing

    x, note = requests.read_input(input, channels, region)
    weight = requests.filters(kernel, x, groups)
    windows = spec.windows(
        x.ndim - 1,
        weight.shape[2:],
        parsing.sizes(stride, "--stride"),
        parsing.padding(padding, x.ndim - 1),
        parsing.sizes(dilation, "--dilation"),
        mode,
    )
    operation = spec.Convolution(windows, groups)
    wanted = _wanted(at, everything, matrix, gradient, animate, as_json)
    if not flip and requests.turns(weight):
        note = f"{note}\nCross-correlation, as layers have it; --flip turns the kernel round.".lstrip()
    _explain(operation, x, weight, requests.biases(bias, len(weight)), flip, wanted, note)


@app.command()
def transposed(
    input: Input,
    kernel: Kernels,
    bias: Bias = None,
    stride: Stride = "1",
    padding: Padding = "0",
    output_padding: Annotated[str, _window(metavar="N[,N…]", help="Places added at the end.")] = "0",
    dilation: Dilation = "1",
    groups: Groups = 1,
    flip: Flip = False,
    at: At = None,
    everything: Everything = False,
    matrix: Matrix = False,
    gradient: Gradient = False,
    animate: Animate = None,
    as_json: AsJson = False,
    channels: Channels = 1,
    region: Region = None,
) -> None:
    """Transposed convolution: each input spreads the kernel over the output."""
    from svertka import spec
    from svertka.commands import requests
    from svertka.explain import parsing

    x, note = requests.read_input(input, channels, region)
    weight = requests.transposed_filters(kernel, x, groups)
    windows = spec.transposed_windows(
        x.ndim - 1,
        weight.shape[2:],
        parsing.sizes(stride, "--stride"),
        parsing.padding(padding, x.ndim - 1),
        parsing.sizes(output_padding, "--output-padding"),
        parsing.sizes(dilation, "--dilation"),
    )
    operation = spec.TransposedConvolution(windows, groups)
    wanted = _wanted(at, everything, matrix, gradient, animate, as_json)
    _explain(operation, x, weight, requests.biases(bias, weight.shape[1] * groups), flip, wanted, note)


@app.command()
def local(
    input: Input,
    kernel: Kernels,
    bias: Bias = None,
    stride: Stride = "1",
    padding: Padding = "0",
    mode: Mode = "zeros",
    dilation: Dilation = "1",
    groups: Groups = 1,
    flip: Flip = False,
    at: At = None,
    everything: Everything = False,
    matrix: Matrix = False,
    gradient: Gradient = False,
    animate: Animate = None,
    as_json: AsJson = False,
    channels: Channels = 1,
    region: Region = None,
) -> None:
    """Unshared convolution: --kernel again for each place of the output, row by row (one alone serves all)."""
    from svertka import spec
    from svertka.commands import requests
    from svertka.explain import parsing

    x, note = requests.read_input(input, channels, region)
    kernels = requests.filters(kernel, x, groups)
    size = kernels.shape[-(x.ndim - 1) :]
    windows = spec.windows(
        x.ndim - 1,
        size,
        parsing.sizes(stride, "--stride"),
        parsing.padding(padding, x.ndim - 1),
        parsing.sizes(dilation, "--dilation"),
        mode,
    )
    operation = spec.Unshared(windows, groups)
    weight = requests.at_each_place(kernels, operation.output_size(x.shape[1:]))
    bias_values = requests.biases(bias, 1, weight.shape[: x.ndim])
    _explain(operation, x, weight, bias_values, flip, _wanted(at, everything, matrix, gradient, animate, as_json), note)


@app.command()
def pool(
    input: Input,
    kind: Annotated[
        str,
        typer.Option(
            help="max, average, lp, weighted, stochastic, kmax, dynamic-max, dynamic-average, adaptive-max, "
            "adaptive-average or adaptive-lp."
        ),
    ] = "max",
    size: Annotated[
        str | None,
        typer.Option(metavar="N[,N…]", help="Of the window; adaptive and dynamic pools: of the output; kmax: k."),
    ] = None,
    weights: Annotated[
        str | None, typer.Option("--kernel", metavar="MATRIX|FILE", help="Of weighted pooling, in place of --size.")
    ] = None,
    p: Annotated[float, typer.Option("-p", "--p", help="Of lp pooling; inf is the largest magnitude.")] = 2.0,
    sample: Annotated[bool, typer.Option("--sample", help="Stochastic pooling: draw, too, as in training.")] = False,
    seed: Annotated[int, typer.Option(help="Decides the draw.")] = 0,
    stride: Stride = None,
    padding: Padding = "0",
    mode: Mode = "zeros",
    dilation: Dilation = "1",
    ceil: Annotated[bool, _window("--ceil", help="Round the output size up.")] = False,
    count_pad: Annotated[
        bool, _window("--count-pad/--no-count-pad", help="Whether zeros on the padding count in a mean.")
    ] = True,
    at: At = None,
    everything: Everything = False,
    matrix: Matrix = False,
    gradient: Gradient = False,
    animate: Animate = None,
    as_json: AsJson = False,
    channels: Channels = 1,
    region: Region = None,
) -> None:
    """Pooling of any kind; the stride is the window's size unless it is given."""
    from svertka.commands import requests
    from svertka.explain import parsing

    x, note = requests.read_input(input, channels, region)
    weight = None if weights is None else requests.pool_weights(weights, x.ndim - 1)
    window = requests.PoolWindow(
        parsing.sizes(size, "--size"),
        parsing.sizes(stride, "--stride"),
        parsing.padding(padding, x.ndim - 1),
        parsing.sizes(dilation, "--dilation"),
        mode,
        ceil,
    )
    operation = requests.pool(kind, x.ndim - 1, window, weight, p, count_pad)
    extra = requests.drawn(operation, x, seed, gradient) if sample else {}
    wanted = _wanted(at, everything, matrix, gradient and not sample, animate, as_json)
    _explain(operation, x, weight, None, False, wanted, note, extra)


@app.command()
def pad(
    input: Input,
    padding: Padding = "1",
    mode: Mode = "zeros",
    value: Annotated[float, _window(help="What stands outside in mode zeros.")] = 0.0,
    at: At = None,
    everything: Everything = False,
    matrix: Matrix = False,
    gradient: Gradient = False,
    animate: Animate = None,
    as_json: AsJson = False,
    channels: Channels = 1,
    region: Region = None,
) -> None:
    """The padded input: 1, or 1:2 (before:after), or 1:2,0 (rows, columns); negative numbers cut off."""
    from svertka import spec
    from svertka.commands import requests
    from svertka.explain import parsing
    from svertka.window import Window

    x, note = requests.read_input(input, channels, region)
    sides = spec.per_axis(parsing.padding(padding, x.ndim - 1), x.ndim - 1, "padding")
    windows = spec.on_each_axis(lambda side: Window(1, padding=side, mode=mode), sides)
    wanted = _wanted(at, everything, matrix, gradient, animate, as_json)
    _explain(spec.Pad(windows, value), x, None, None, False, wanted, note)


app.command()(cost)
app.command()(model)
app.command()(pictures.picture)
app.command()(pictures.compare)


def _wanted(
    at: list[str] | None, everything: bool, matrix: bool, gradient: bool, animate: Path | None, as_json: bool
) -> Wanted:
    from svertka.commands.showing import Wanted

    return Wanted(tuple(at or ()), everything, matrix, gradient, animate, as_json)


def _explain(
    operation: spec.Operation[Any],
    x: Any,
    weight: Any,
    bias: Any,
    flip: bool,
    wanted: Wanted,
    note: str,
    extra: dict[str, Any] | None = None,
) -> None:
    from svertka.commands.showing import check_size, show
    from svertka.explain.explanation import explain

    check_size(operation, x)
    show(explain(operation, x, weight, bias, flip=flip), wanted, note, extra)
