"""`svertka export`: networks for other runtimes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from svertka.errors import DataError

if TYPE_CHECKING:
    from svertka.deploy.export import Exported


def write_onnx(
    model: str,
    arguments: dict[str, Any],
    size: tuple[int, ...] | None,
    classes: int,
    code: str | None,
    file: Path,
    fixed_size: bool,
    as_json: bool,
) -> None:
    """Writes a trained model, or a new one of that name, to `file` and prints how well ONNX Runtime agrees."""
    import torch

    from svertka.commands.showing import print_json
    from svertka.deploy.export import export_onnx
    from svertka.models import MODELS
    from svertka.vision.modelfile import create_model, load_model

    about: dict[str, Any] = {"name": model}
    if model not in MODELS and Path(model).exists():
        trained = load_model(model, code)
        network, size = trained.model, size or (trained.preprocessing.channels, *trained.preprocessing.size)
        about = {"name": trained.name, "classes": trained.classes, "preprocessing": trained.preprocessing}
    elif size is None:
        raise DataError(f"the model {model} needs an input size: add --input 3x224x224")
    else:
        network = create_model(model, arguments, size[0], size[1:], classes)
    written = export_onnx(network, torch.zeros(2, *size), file, fixed_size=fixed_size, **about)
    if as_json:
        print_json(written.to_dict())
    else:
        _print(written)


def _print(written: Exported) -> None:
    print(f"{written.path}: opset {written.opset}, {_signature(*written.input)} → {_signature(*written.output)}")
    shapes = ", ".join("×".join(map(str, shape)) for shape in written.tried)
    print(f"Compared with ONNX Runtime on {shapes}.")
    print(
        f"Largest difference from float64: ONNX Runtime {written.difference:.1e}, the network itself "
        f"{written.ours:.1e}; up to {written.tolerance:.1e} would be rounding."
    )
    for note in written.notes:
        print(f"Note: {note.rstrip('.')}.")


def _signature(name: str, shape: tuple[int | str, ...]) -> str:
    return f"{name} [{', '.join(map(str, shape))}]"
