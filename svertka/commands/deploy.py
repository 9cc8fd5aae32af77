"""`svertka export`: networks for other runtimes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer



def export(
    model: Annotated[
        str, typer.Argument(help="A run folder, a model.safetensors, a model of svertka or FILE.py:FACTORY.")
    ],
    onnx: Annotated[Path, typer.Option(metavar="FILE.onnx", help="Where to write it.")],
    fixed_size: Annotated[
        bool, typer.Option("--fixed-size", help="Take pictures of the model's own size only; the graph is simpler.")
    ] = False,
    input_size: Annotated[
        str | None, typer.Option("--input", metavar="CxHxW", help="Such as 3x224x224; a trained model knows its own.")
    ] = None,
    classes: Annotated[int, typer.Option(min=1, help="Of a model that is not trained.")] = 1000,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    model_code: Annotated[
        str | None, typer.Option("--model-code", metavar="FILE.py:FACTORY", help="Code that builds the model.")
    ] = None,
) -> None:
    """Write a model as ONNX, compared with ONNX Runtime before it is kept; classes and normalisation go along.

    Batch size and, where the network allows it, picture size stay open.
    """
    import torch

    from svertka.cli import sizes
    from svertka.deploy.export import export_onnx
    from svertka.models import MODELS
    from svertka.vision.modelfile import create_model, load_model

    size = None if input_size is None else sizes(input_size, 3, "--input", "3x224x224")
    about: dict[str, Any] = {"name": model}
    if model not in MODELS and Path(model).exists():
        trained = load_model(model, model_code)
        network, size = trained.model, size or (trained.preprocessing.channels, *trained.preprocessing.size)
        about = {"name": trained.name, "classes": trained.classes, "preprocessing": trained.preprocessing}
    else:
        from svertka.errors import DataError

        if size is None:
            raise DataError(f"the model {model} needs an input size: add --input 3x224x224")
        network = create_model(model, {}, size[0], size[1:], classes)
    written = export_onnx(network, torch.zeros(2, *size), onnx, fixed_size=fixed_size, **about)
    if as_json:
        showing.print_json(written.to_dict())
        return
    print(f"{written.path}: opset {written.opset}, {_signature(*written.input)} → {_signature(*written.output)}")
    shapes = ", ".join("×".join(map(str, shape)) for shape in written.tried)
    print(
        f"ONNX Runtime differs from float64 by at most {written.difference:.1e}, the network itself by "
        f"{written.ours:.1e}; up to {written.tolerance:.1e} is rounding. Compared on {shapes}."
    )
    for note in written.notes:
        print(f"Note: {note.rstrip('.')}.")


def _signature(name: str, shape: tuple[int | str, ...]) -> str:
    return f"{name} [{', '.join(map(str, shape))}]"
