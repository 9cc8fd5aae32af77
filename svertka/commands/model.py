"""`svertka explain MODEL`: one number inside a trained network, with all its terms."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from svertka.errors import DataError

if TYPE_CHECKING:
    import torch
    from rich.console import Console

    from svertka.explain.explanation import Explanation
    from svertka.explain.steps import Step
    from svertka.vision.modelfile import TrainedModel


def model(
    path: Annotated[str, typer.Argument(metavar="MODEL", help="A run folder, or the model.safetensors in one.")],
    picture: Annotated[str, typer.Option(metavar="FILE", help="What the network looks at.")],
    layer: Annotated[str, typer.Option(metavar="NAME", help="A convolution, pooling or padding in the network.")],
    at: Annotated[str, typer.Option(metavar="C,Y,X", help="Channel and place in the layer's output, from 0.")],
    terms: Annotated[int, typer.Option(min=1, help="How many terms to show; the rest is summed up.")] = 20,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Write the picture with what the number sees framed.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with all terms.")] = False,
    model_code: Annotated[
        str | None, typer.Option("--model-code", metavar="FILE.py:FACTORY", help="Code that builds the model.")
    ] = None,
) -> None:
    """Show one number of a trained network: all terms it is made of, and what it sees of the picture.

    `svertka explain MODEL …` is the same.
    """
    from svertka.commands import showing
    from svertka.explain import parsing
    from svertka.explain.explanation import explain
    from svertka.vision.modelfile import load_model
    from svertka.vision.pictures import printable

    trained = load_model(path, model_code)
    chosen = _layer(trained, layer)
    pixels = trained.preprocessing.decode(picture)
    given, computed, calls = _activations(trained, chosen, pixels)
    e = explain(chosen, given)
    place = parsing.position(at, e.output.shape)
    step, field = e.at(*place), _receptive_field(trained, layer, place)
    itself = float(computed[place])
    if out is not None:
        _save_framed(pixels.numpy(), field, out)
    if as_json:
        seen = field if isinstance(field, str) else [{"first": a, "last": b} for a, b in field]
        result = {"layer": layer, "title": e.title, "computed": itself, "receptive_field": seen}
        showing.print_json({**result, "step": step.to_dict()})
        return
    console = showing.console()
    _print_number(console, layer, e, step, itself, terms)
    if calls > 1:
        console.print(f"The network calls {layer} {calls} times: this is the first call.")
    _print_field(console, pixels.numpy(), field)
    if out is not None:
        console.print(f"The picture with the frame is in {printable(out)}.", markup=False, soft_wrap=True)


def _layer(trained: TrainedModel, name: str) -> torch.nn.Module:
    from svertka.explain.operations import operation_of

    known: dict[str, torch.nn.Module] = {
        key: module for key, module in trained.model.named_modules() if operation_of(module) is not None
    }
    if name in known:
        return known[name]
    listed = ", ".join(known) or "none"
    if name in dict(trained.model.named_modules()):
        raise DataError(f"the layer {name} is not one operation with windows: choose among {listed}")
    raise DataError(f"the model has no layer {name}: choose among {listed}")


def _activations(trained: TrainedModel, layer: torch.nn.Module, pixels: torch.Tensor) -> tuple[Any, Any, int]:
    """What goes into the layer [C, *size], what it makes of it, and how often it is called."""
    import torch

    calls: list[tuple[torch.Tensor, torch.Tensor]] = []

    def keep(_: Any, inputs: Any, output: Any) -> None:
        values = output[0] if isinstance(output, tuple) else output
        calls.append((inputs[0][0].clone(), values[0].clone()))  # the next layer may work in place

    hook = layer.register_forward_hook(keep)
    try:
        with torch.no_grad():
            trained.model(trained.preprocessing.normalise(pixels[None]))
    finally:
        hook.remove()
    if not calls:
        raise DataError("the network never calls this layer on a picture: choose another one")
    return *calls[0], len(calls)


def _receptive_field(trained: TrainedModel, layer: str, place: tuple[int, ...]) -> list[tuple[int, int]] | str:
    """The first and last place that a number sees on each axis of the picture, or why that isn't known."""
    from svertka.explain.summaries import summary

    size = (trained.preprocessing.channels, *trained.preprocessing.size)
    row = next((row for row in summary(trained.model, size).rows if row.name == layer), None)
    if row is None or row.receptive_field is None:
        return "its receptive field is not known" + (f": {row.reason}" if row is not None else "")
    return [axis.seen_by(i) for axis, i in zip(row.receptive_field, place[1:], strict=True)]


def _print_number(out: Console, layer: str, e: Explanation, step: Step, itself: float, most: int) -> None:
    from svertka.explain import tables
    from svertka.explain.draw.style import number

    channel, *place = step.output
    out.print(f"{layer}: {e.title}", style="bold", markup=False)
    where = ", ".join(map(str, place))
    out.print(f"channel {channel}, place {where}: {number(step.result, 4)}", markup=False)
    table, sentence = tables.sum_of_terms(step, most)
    out.print()
    out.print(table)
    out.print(f"\n{sentence}\nThe network itself, in float32: {number(itself, 4)}", markup=False)


def _print_field(out: Console, pixels: Any, field: list[tuple[int, int]] | str) -> None:
    """What the number sees of the picture, and the pixels there."""
    from svertka.commands import showing

    if isinstance(field, str):
        out.print(f"\nOf the picture: {field}.", markup=False)
        return
    height, width = pixels.shape[1:]
    inside = _inside(field, (height, width))
    (top, bottom), (left, right) = inside
    out.print(
        f"\nIt sees rows {top}–{bottom} and columns {left}–{right} of the picture as the network gets it, {width} × "
        f"{height} pixels{' (the rest is padding)' if inside != field else ''}:"
        + (" mean of red, green and blue" if len(pixels) == 3 else "")
    )
    if top <= bottom and left <= right:
        showing.print_array(out, pixels[:, top : bottom + 1, left : right + 1].mean(0, keepdims=True).round())


def _inside(field: list[tuple[int, int]], size: tuple[int, int]) -> list[tuple[int, int]]:
    return [(max(first, 0), min(last, n - 1)) for (first, last), n in zip(field, size, strict=True)]


def _save_framed(pixels: Any, field: list[tuple[int, int]] | str, path: Path) -> None:
    """The picture, enlarged by a whole number, with a frame around what the number sees."""
    from PIL import Image, ImageDraw

    from svertka.explain.draw.style import LIGHT
    from svertka.explain.gallery import save_figure

    if isinstance(field, str):
        raise DataError(f"there is nothing to frame, {field}: leave --out away")
    picture = Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0).copy()).convert("RGB")
    times = max(1, 512 // max(picture.size))
    picture = picture.resize((picture.width * times, picture.height * times), Image.Resampling.NEAREST)
    (top, bottom), (left, right) = _inside(field, pixels.shape[1:])
    box = (left * times, top * times, (right + 1) * times - 1, (bottom + 1) * times - 1)
    ImageDraw.Draw(picture).rectangle(box, outline=LIGHT["warning"], width=max(1, times // 4, 3))
    save_figure(picture, path)
