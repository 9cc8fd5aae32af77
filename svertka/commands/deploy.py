"""`svertka export` and `svertka import`: networks to and from other runtimes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from svertka.errors import DataError

if TYPE_CHECKING:
    from svertka.deploy.export import Exported
    from svertka.deploy.reading import Imported
    from svertka.vision.pictures import Preprocessing


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


def read_onnx(file: Path, out: Path | None, size: tuple[int, ...] | None, classes: str | None, as_json: bool) -> None:
    """Reads an ONNX file, compares the network with ONNX Runtime, and keeps it as a model file in the folder `out`."""
    from svertka.commands.showing import print_json
    from svertka.deploy.export import compared_with_file
    from svertka.deploy.reading import import_onnx
    from svertka.vision.modelfile import MODEL_FILE, save_model

    imported = import_onnx(file, size)
    notes = list(imported.notes)
    error = compared_with_file(imported.network, file, imported.size, imported.fixed_batch)
    names = _classes(imported, classes, notes)
    preprocessing = _preprocessing(imported, notes)
    folder = out or Path("runs") / file.stem
    folder.mkdir(parents=True, exist_ok=True)
    arguments = {"steps": imported.steps, "output": imported.output}
    save_model(
        folder / MODEL_FILE, imported.network, name="onnx", arguments=arguments, classes=names,
        preprocessing=preprocessing, extra={"from": file.name},
    )  # fmt: skip
    if as_json:
        found = {"path": str(folder / MODEL_FILE), "steps": len(imported.steps), "input": imported.size, "notes": notes}
        print_json({**found, "difference": error.theirs, "ours": error.ours, "tolerance": error.tolerance})
        return
    shape = "×".join(map(str, imported.size))
    print(f"{folder / MODEL_FILE}: {len(imported.steps)} layers, pictures of {shape}, {len(names)} classes")
    print(
        f"Largest difference from float64: ONNX Runtime {error.theirs:.1e}, the network {error.ours:.1e}; "
        f"up to {error.tolerance:.1e} would be rounding."
    )
    for note in notes:
        print(f"Note: {note.rstrip('.')}.")


def _classes(imported: Imported, file: str | None, notes: list[str]) -> list[str]:
    """The names of the scores: from a text file with one on each line, or from the ONNX file; else numbers."""
    import torch

    with torch.no_grad():
        scores = imported.network(torch.zeros(imported.fixed_batch or 2, *imported.size))
    if scores.ndim != 2:
        raise DataError(f"the network gives {list(scores.shape)} and not [N, classes]: use svertka.deploy in Python")
    given = imported.file.metadata("svertka.classes")
    if file is not None:
        given = Path(file).read_text(encoding="utf-8").splitlines()
    if given is None:
        notes.append("the file names no classes, so they are numbers: add --classes FILE.txt with a name on each line")
        return [str(i) for i in range(scores.shape[1])]
    if not isinstance(given, list) or len(given) != scores.shape[1] or not all(isinstance(n, str) for n in given):
        raise DataError(f"the network gives {scores.shape[1]} scores, but there are not as many names of classes")
    return given


def _preprocessing(imported: Imported, notes: list[str]) -> Preprocessing:
    from svertka.vision.pictures import Preprocessing

    channels, *size = imported.size
    if len(size) != 2:
        raise DataError(f"the network takes inputs with {len(size)} axes, not pictures: use svertka.deploy in Python")
    given = imported.file.metadata("svertka.preprocessing")
    if given is not None:
        return Preprocessing.from_dict({**given, "size": size} if isinstance(given, dict) else given)
    notes.append("the file has no normalisation: pictures are given from 0 to 1")
    return Preprocessing(channels, (size[0], size[1]))
