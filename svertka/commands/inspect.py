"""`svertka inspect` and `svertka report`: what a network has learnt, as one page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from svertka.errors import DataError

if TYPE_CHECKING:
    from rich.console import Console
    from torch import Tensor

    from svertka.vision.modelfile import TrainedModel

Code = Annotated[
    str | None, typer.Option("--model-code", metavar="FILE.py:FACTORY", help="Code that builds the model.")
]
Workers = Annotated[int | None, typer.Option(min=0, help="Decode pictures in so many at a time.")]
_MOST = 24  # pictures on a page


def inspect(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A run folder, or the model.safetensors in one.")],
    pictures: Annotated[
        list[str], typer.Argument(help="Files, patterns such as '*.png', folders with all below them.")
    ],
    out: Annotated[Path, typer.Option(metavar="FILE.html", help="Where the page goes.")] = Path("inspect.html"),
    class_: Annotated[
        list[str] | None,
        typer.Option("--class", metavar="NAME", help="A class to explain beside the answer; may be repeated."),
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Labelled pictures, in which to look for what excites the units.")
    ] = None,
    model_code: Code = None,
) -> None:
    """Show what a trained network makes of pictures: a page with maps, what the answer rests on, filters and more."""
    from svertka.inspect.extras import need
    from svertka.vision.datasets import load_for
    from svertka.vision.modelfile import load_model
    from svertka.vision.report.runs import of_pictures

    need("matplotlib", "the page")
    trained = load_model(model, model_code)
    classes = [_class(trained, name) for name in class_ or ()]
    split = None if data is None else load_for(data, trained.classes, trained.preprocessing)
    chosen, notes = _pictures(trained, pictures)
    console = _console()
    path = of_pictures(trained, chosen, out, classes=classes, data=split, console=console, notes=notes)
    console.print(f"The page is {path}.", markup=False, soft_wrap=True)


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN…", help="Folders that svertka train wrote to.")],
    out: Annotated[Path, typer.Option(metavar="FILE.html", help="Of several runs, where the comparison goes.")] = Path(
        "compare.html"
    ),
    model_code: Code = None,
    workers: Workers = None,
) -> None:
    """Write a run's report.html anew, or compare several runs on one page."""
    from svertka.inspect.extras import need
    from svertka.vision.report.runs import compare, of_run, read_run

    need("matplotlib", "the report")
    console = _console()
    read = [read_run(folder, model_code if _needs_code(folder) else None, workers) for folder in runs]
    path = of_run(read[0], console, workers) if len(read) == 1 else compare(read, out)
    console.print(f"The report is {path}.", markup=False, soft_wrap=True)


def _needs_code(folder: Path) -> bool:
    from svertka.vision.modelfile import is_code
    from svertka.vision.runfolder import read_config

    config = read_config(folder) if folder.is_dir() else None
    return config is not None and is_code(str(config["settings"].get("model", "")))


def _class(trained: TrainedModel, name: str) -> int:
    if name not in trained.classes:
        raise DataError(f"the model knows no class {name}: choose among {', '.join(trained.classes)}")
    return trained.classes.index(name)


def _pictures(trained: TrainedModel, names: list[str]) -> tuple[list[tuple[str, Tensor]], list[str]]:
    """Names and pixels of those that can be read, and sentences on the others."""
    from svertka.vision.pictures import PictureError, printable
    from svertka.vision.prediction import find_pictures

    read: list[tuple[str, Tensor]] = []
    notes: list[str] = []
    left = 0
    for path in find_pictures(names):
        if len(read) == _MOST:
            left += 1
            continue
        try:
            read.append((printable(path.name), trained.preprocessing.decode(path)))
        except PictureError as error:
            notes.append(str(error))
            typer.echo(f"svertka: {str(error).rstrip('.')}.", err=True)
    if not read:
        raise DataError(f"there are no pictures to show in {', '.join(names)}: give picture files or folders with some")
    if left:
        notes.append(f"only the first {_MOST} pictures are shown, {left} are not")
        typer.echo(f"svertka: {notes[-1]}.", err=True)
    return read, notes


def _console() -> Console:
    from rich.console import Console

    return Console(highlight=False)
