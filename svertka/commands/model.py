"""`svertka explain MODEL`: one number inside a trained network, with all its terms."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from svertka.errors import DataError

if TYPE_CHECKING:
    import torch
    from rich.console import Console

    from svertka.explain.explanation import Explanation
    from svertka.explain.receptive import AxisField
    from svertka.explain.steps import Step
    from svertka.vision.modelfile import TrainedModel


def model(
    path: Annotated[str, typer.Argument(metavar="MODEL", help="A run folder, or the model.safetensors in one.")],
    picture: Annotated[str, typer.Option(metavar="FILE", help="What the network looks at.")],
    layer: Annotated[str, typer.Option(metavar="NAME", help="A convolution, pooling or padding in the network.")],
    at: Annotated[str, typer.Option(metavar="C,Y,X", help="Channel and place in the layer's output, from 0.")],
    terms: Annotated[int, typer.Option(min=1, help="How many terms to show; the rest is summed up.")] = 20,
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

    trained = load_model(path, model_code)
    chosen = _layer(trained, layer)
    pixels = trained.preprocessing.decode(picture)
    given, computed, calls = _activations(trained, chosen, pixels)
    e = explain(chosen, given)
    place = parsing.position(at, e.output.shape)
    step, field = e.at(*place), _receptive_field(trained, layer, place)
    itself = float(computed[place])
    if as_json:
        seen = field if isinstance(field, str) else [{"first": a, "last": b} for a, b in field]
        result = {"layer": layer, "title": e.title, "computed": itself, "receptive_field": seen}
        print(json.dumps({**result, "step": step.to_dict()}, ensure_ascii=False))
        return
    out = showing.console()
    _print_number(out, layer, e, step, itself, terms)
    if calls > 1:
        out.print(f"The network calls {layer} {calls} times: this is the first call.")
    _print_field(out, pixels.numpy(), field)


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
        calls.append((inputs[0].detach()[0], (output[0] if isinstance(output, tuple) else output).detach()[0]))

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
    return [_seen(axis, i) for axis, i in zip(row.receptive_field, place[1:], strict=True)]


def _seen(axis: AxisField, output: int) -> tuple[int, int]:
    first = axis.offset + output * (axis.stride or 0)
    return first, first + axis.size - 1


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
    inside = [(max(a, 0), min(b, n - 1)) for (a, b), n in zip(field, (height, width), strict=True)]
    out.print(
        f"\nIt sees rows {inside[0][0]}–{inside[0][1]} and columns {inside[1][0]}–{inside[1][1]} of the picture as the "
        f"network gets it, {width} × {height} pixels" + (" (the rest is padding)" if inside != field else "")
    )
    (top, bottom), (left, right) = inside
    if top <= bottom and left <= right:
        showing.print_array(out, pixels[:, top : bottom + 1, left : right + 1].astype(float))
