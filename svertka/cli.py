"""The command line, a thin face of the library; torch is imported inside the commands only, so that help is quick."""

import json
import shlex
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import typer

from svertka.commands import deploy, engine, explain, inspect, lab, pictures, profile
from svertka.errors import DataError, SvertkaError

if TYPE_CHECKING:
    from rich.console import Console
    from torch.nn import Module

    from svertka.vision.run import Outcome

app = typer.Typer(pretty_exceptions_enable=False, add_completion=False, no_args_is_help=True)
app.add_typer(explain.app, name="explain")

_data = partial(typer.Option, rich_help_panel="Data")
_optimisation = partial(typer.Option, rich_help_panel="Optimisation")
_augmentation = partial(typer.Option, rich_help_panel="Augmentation (by default what suits the data)")
_machine = partial(typer.Option, rich_help_panel="Machine")

ModelPath = Annotated[str, typer.Argument(metavar="MODEL", help="A run folder, or the model.safetensors in one.")]
Code = Annotated[
    str | None,
    typer.Option(
        "--model-code",
        metavar="FILE.py:FACTORY",
        help="Run this code to build a model that was trained from your own code.",
    ),
]
Workers = Annotated[int | None, _machine(min=0, help="Decode pictures in so many at a time; by default one per core.")]
Threads = Annotated[int | None, _machine(min=1, help="Compute with so many threads; by default one per core.")]
ModelArguments = Annotated[
    list[str] | None, typer.Option(metavar="KEY=VALUE", help="An argument for the model; may be repeated.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.callback(invoke_without_command=True)
def _svertka(version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False) -> None:
    """Convolutional networks for PyTorch that you can see through."""
    if version:
        from importlib.metadata import version as version_of

        print(f"svertka {version_of('svertka')}")
        raise typer.Exit


@app.command()
def train(
    data: Annotated[
        str | None,
        typer.Argument(help='"digits" (the default), a folder with a folder for each class, or a folder of IDX files.'),
    ] = None,
    model: Annotated[str | None, typer.Option(help="lenet by default; or FILE.py:FACTORY, code of yours.")] = None,
    model_arg: ModelArguments = None,
    out: Annotated[Path | None, typer.Option(help="The run's folder; by default a fresh one under runs/.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run in --out.")] = False,
    size: Annotated[str | None, _data(metavar="HxW", help="Scale pictures to this size; by default theirs.")] = None,
    channels: Annotated[int | None, _data(help="1 (grey) or 3 (RGB); by default theirs.")] = None,
    fit: Annotated[
        Literal["crop", "stretch", "pad"] | None, _data(help="What to do with another shape; crop by default.")
    ] = None,
    validation: Annotated[
        float | None, _data(help="Share of training to check by, unless there is a val folder; 0.1 by default.")
    ] = None,
    strict: Annotated[bool | None, _data("--strict", help="Stop at the first picture that cannot be read.")] = None,
    epochs: Annotated[int | None, _optimisation(help="How often each picture is shown.")] = None,
    batch_size: Annotated[int | None, _optimisation(help="Pictures in a step, of all processes together.")] = None,
    optimizer: Annotated[Literal["sgd", "adamw"] | None, _optimisation(help="Who takes the steps.")] = None,
    lr: Annotated[float | None, _optimisation(help="The highest learning rate.")] = None,
    schedule: Annotated[
        Literal["onecycle", "cosine", "constant"] | None, _optimisation(help="How the learning rate goes.")
    ] = None,
    weight_decay: Annotated[float | None, _optimisation(help="Pull of the weights towards 0.")] = None,
    label_smoothing: Annotated[float | None, _optimisation(help="Probability that is spread over all classes.")] = None,
    class_weights: Annotated[
        bool | None, _optimisation("--class-weights", help="Let rare classes count as much as common ones.")
    ] = None,
    early_stopping: Annotated[
        int | None,
        _optimisation(
            help="Stop after so many epochs without a better validation accuracy; keep the best, not the last."
        ),
    ] = None,
    sync_batch_norm: Annotated[
        bool | None,
        _optimisation("--sync-batch-norm", help="Of several processes: normalise over the whole batch, not by shares."),
    ] = None,
    seed: Annotated[int | None, _optimisation(help="Decides all chance; 0 by default.")] = None,
    shift: Annotated[int | None, _augmentation(help="Shift by up to so many pixels.")] = None,
    flip: Annotated[bool | None, _augmentation("--flip/--no-flip", help="Exchange left and right.")] = None,
    crop: Annotated[float | None, _augmentation(help="Cut off up to this share of the sides.")] = None,
    contrast: Annotated[float | None, _augmentation(help="Change the contrast by up to this share.")] = None,
    save_every: Annotated[float, _machine(help="Seconds between checkpoints in long epochs.")] = 60.0,
    device: Annotated[str | None, _machine(help="cpu by default.")] = None,
    autocast: Annotated[
        bool | None,
        _machine("--autocast/--no-autocast", help="Sums of products in bfloat16; by default on GPUs that have it."),
    ] = None,
    threads: Threads = None,
    workers: Workers = None,
    report: Annotated[
        bool, _machine("--report/--no-report", help="End with report.html in the run's folder: what was learnt.")
    ] = True,
) -> None:
    """Train a network on DATA and keep it in a run folder.

    What is left away is chosen to suit the model and the data.

    Ctrl-C saves a checkpoint. With --resume and --out a run goes on from there, or from a
    kill at any moment, to the same weights bit for bit.

    "torchrun --nproc-per-node 2 -m svertka train …" trains in two processes, each with its
    share of every batch, to the same weights but for rounding.
    """
    options = locals()
    for name in ("model_arg", "out", "resume", "overwrite", "save_every", "workers", "report"):
        del options[name]
    given = {name: value for name, value in options.items() if value is not None}
    if size is not None:
        given["size"] = _sizes(size, 2, "--size", "28x28")
    if model_arg:
        given["model_arguments"] = _model_arguments(model_arg)
    from svertka.vision import run
    from svertka.vision.team import gathered

    with gathered(lambda error: _say(_sentence(error))) as team:
        console = _console(quiet=not team.leads)
        outcome = run.train(
            given,
            out=out,
            resume=resume,
            overwrite=overwrite,
            workers=workers,
            save_every=save_every,
            console=console,
            team=team,
        )
        _show_outcome(console, outcome)
    if report and team.leads and not outcome.finished_before:
        _report(console, outcome, workers)


@app.command()
def evaluate(
    model: ModelPath,
    data: Annotated[str, typer.Argument(help='"digits", a folder of class folders, or a folder of IDX files.')],
    split: Annotated[
        Literal["train", "validation", "test"], typer.Option(help="Which pictures, if the data has such splits.")
    ] = "test",
    as_json: AsJson = False,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first picture that cannot be read.")] = False,
    model_code: Code = None,
    threads: Threads = None,
    workers: Workers = None,
) -> None:
    """Measure a trained model on labelled pictures: accuracy, scores by class, confusion, worst mistakes."""
    from svertka.vision.batches import Batches
    from svertka.vision.datasets import load_for
    from svertka.vision.modelfile import load_model
    from svertka.vision.prediction import evaluate as measure
    from svertka.vision.tables import show_evaluation

    _use_threads(threads)
    trained = load_model(model, model_code)
    pictures = load_for(data, trained.classes, trained.preprocessing, split=split, strict=strict)
    batches = Batches(pictures, trained.preprocessing, 128, shuffle=False, seed=0, workers=workers, strict=strict)
    result = measure(trained.model, batches, pictures, trained.classes)
    for note in pictures.notes:
        _say(note)
    if as_json:
        print(json.dumps({"model": str(trained.path), "data": data, "split": split, **result.to_dict()}))
    else:
        show_evaluation(_console(), result, f"{data}, {split}" if data == "digits" else data)


@app.command()
def predict(
    model: ModelPath,
    pictures: Annotated[
        list[str], typer.Argument(help="Files, patterns such as '*.png', folders with all below them.")
    ],
    top: Annotated[int, typer.Option(min=1, help="How many classes to name for each picture.")] = 1,
    as_json: AsJson = False,
    out: Annotated[
        Path | None, typer.Option(help="Keep the answers in this folder, and go on with it if it holds some.")
    ] = None,
    model_code: Code = None,
    threads: Threads = None,
    workers: Workers = None,
) -> None:
    """Classify pictures: a line for each, in their order; with --json a JSON object on each line.

    With --out they go to FOLDER/predictions.jsonl instead. What is done is not done again after
    a kill, and "torchrun --nproc-per-node 2 -m svertka predict …" shares the pictures out.

    Exit code: 0 if all could be read, 1 if some could not (each is named), 2 if none could.
    """
    from svertka.vision.modelfile import load_model
    from svertka.vision.prediction import find_pictures
    from svertka.vision.prediction import predict as classify

    if out is not None:
        _predict_into(out, model, pictures, top, model_code, threads, workers)
        return
    _use_threads(threads)
    trained = load_model(model, model_code)
    counts = {"read": 0, "unreadable": 0}
    for prediction in classify(trained, find_pictures(pictures), top, workers=workers):
        counts["read" if prediction.error is None else "unreadable"] += 1
        if as_json:
            print(json.dumps(prediction.to_dict()))
        elif prediction.error is None:
            print(prediction.line(max(map(len, trained.classes))))
        if prediction.error is not None:
            _say(prediction.error)
    if not sum(counts.values()):
        raise _no_pictures(pictures)
    _tell_unreadable(counts["unreadable"], sum(counts.values()))


@app.command()
def summary(
    model: Annotated[
        str, typer.Argument(help="A model of svertka, FILE.py:FACTORY, a run folder or a model.safetensors.")
    ],
    input_size: Annotated[
        str | None, typer.Option("--input", metavar="CxHxW", help="Such as 3x224x224; a trained model knows its own.")
    ] = None,
    classes: Annotated[int, typer.Option(min=1, help="Of a model that is not trained.")] = 1000,
    model_arg: ModelArguments = None,
    time: Annotated[
        bool, typer.Option("--time", help="Also run it: time by layer, held against this machine's measured peak.")
    ] = False,
    as_json: AsJson = False,
    model_code: Code = None,
) -> None:
    """Show a model layer by layer: shapes, parameters, multiply-adds, memory, receptive field; and the totals."""
    size = None if input_size is None else _sizes(input_size, 3, "--input", "3x224x224")
    from svertka import explain

    network, size = _network(model, _model_arguments(model_arg), size, classes, model_code)
    result = explain.summary(network, size, time=time, name=model)
    if as_json:
        print(json.dumps(result.to_dict()))
    else:
        _console().print(result.table())


@app.command()
def tune(
    model: Annotated[
        str, typer.Argument(help="A model of svertka, FILE.py:FACTORY, a run folder or a model.safetensors.")
    ],
    input_size: Annotated[
        str | None, typer.Option("--input", metavar="CxHxW", help="Such as 3x224x224; a trained model knows its own.")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Pictures at a time.")] = 1,
    threads: Threads = None,
    classes: Annotated[int, typer.Option(min=1, help="Of a model that is not trained.")] = 1000,
    model_arg: ModelArguments = None,
    model_code: Code = None,
) -> None:
    """Measure the schedules of a model's convolutions on this machine, and keep the best for later runs."""
    size = None if input_size is None else _sizes(input_size, 3, "--input", "3x224x224")
    _use_threads(threads)
    network, size = _network(model, _model_arguments(model_arg), size, classes, model_code)
    engine.show_tuning(network, size, batch)


@app.command("profile")
def profile_model(
    model: Annotated[
        str, typer.Argument(help="A model of svertka, FILE.py:FACTORY, a run folder or a model.safetensors.")
    ],
    input_size: Annotated[
        str | None, typer.Option("--input", metavar="CxHxW", help="Such as 3x224x224; a trained model knows its own.")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Pictures at a time.")] = 1,
    trace: Annotated[
        Path | None, typer.Option(metavar="FILE.json", help="Write the run as a trace for ui.perfetto.dev.")
    ] = None,
    as_json: AsJson = False,
    threads: Threads = None,
    classes: Annotated[int, typer.Option(min=1, help="Of a model that is not trained.")] = 1000,
    model_arg: ModelArguments = None,
    model_code: Code = None,
) -> None:
    """Compile a model into one native call and tell how long each part of it takes on this machine."""
    size = None if input_size is None else _sizes(input_size, 3, "--input", "3x224x224")
    _use_threads(threads)
    network, size = _network(model, _model_arguments(model_arg), size, classes, model_code)
    profile.show_profile(network, size, batch, trace, as_json)


@app.command()
def export(
    model: Annotated[
        str, typer.Argument(help="A model of svertka, FILE.py:FACTORY, a run folder or a model.safetensors.")
    ],
    onnx: Annotated[Path, typer.Option("--onnx", metavar="FILE.onnx", help="Where to write it.")],
    fixed_size: Annotated[
        bool, typer.Option("--fixed-size", help="Take pictures of the model's own size only: a simpler graph.")
    ] = False,
    input_size: Annotated[
        str | None, typer.Option("--input", metavar="CxHxW", help="Such as 3x224x224; a trained model knows its own.")
    ] = None,
    classes: Annotated[int, typer.Option(min=1, help="Of a model that is not trained.")] = 1000,
    model_arg: ModelArguments = None,
    as_json: AsJson = False,
    model_code: Code = None,
) -> None:
    """Write a model as ONNX, with its classes and normalisation, once ONNX Runtime has computed the same with it.

    The number of pictures and, where the network allows it, their size stay open.
    """
    size = None if input_size is None else _sizes(input_size, 3, "--input", "3x224x224")
    deploy.write_onnx(model, _model_arguments(model_arg), size, classes, model_code, onnx, fixed_size, as_json)


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE.onnx", help="A convolutional network as ONNX.")],
    out: Annotated[Path | None, typer.Option(help="The folder for the model; by default one under runs/.")] = None,
    input_size: Annotated[
        str | None, typer.Option("--input", metavar="CxHxW", help="Where the file leaves the size open.")
    ] = None,
    classes: Annotated[
        str | None, typer.Option(metavar="FILE.txt", help="The classes' names, one on each line.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Read a network from ONNX and keep it as a model, once ONNX Runtime has computed the same.

    A node that can't be read is named.
    """
    size = None if input_size is None else _sizes(input_size, 3, "--input", "3x224x224")
    deploy.read_onnx(file, out, size, classes, as_json)


app.command("filter")(pictures.filters)
app.command()(lab.lab)
app.command()(inspect.inspect)
app.command()(inspect.report)
app.command()(engine.doctor)
app.add_typer(engine.cache_app, name="cache")


def main() -> NoReturn:
    """Run the command line: bad input ends in one sentence and exit code 2, Ctrl-C in 130, a closed pipe in silence."""
    try:
        app()
    except (SvertkaError, OSError) as error:
        if sentence := _sentence(error):
            _say(sentence)
        sys.exit(getattr(error, "exit_code", 2))
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "can't allocate memory" not in str(error):
            raise
        _say(_sentence(MemoryError()))
        sys.exit(2)
    sys.exit(0)


def _say(sentence: str) -> None:
    """To stderr, so that what goes to a pipe is results only."""
    print(f"svertka: {sentence.rstrip('.')}.", file=sys.stderr)


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError):
        name = "" if error.filename is None else f"{error.filename}: "
        return f"{name}{error.strerror or error}: free space, correct the path or change its permissions"
    if isinstance(error, MemoryError):
        return "the memory is used up: take a smaller --batch-size or --size"
    return str(error)


def _console(quiet: bool = False) -> "Console":
    from rich.console import Console

    return Console(highlight=False, quiet=quiet)


def _use_threads(threads: int | None) -> None:
    if threads is not None:
        import torch

        torch.set_num_threads(threads)


def _sizes(text: str, count: int, name: str, example: str) -> tuple[int, ...]:
    parts = text.lower().split("x")
    if len(parts) != count or not all(part.isdecimal() and int(part) for part in parts):
        raise DataError(f"{name} {text} is no size: write it like {example}")
    return tuple(map(int, parts))


def _model_arguments(texts: list[str] | None) -> dict[str, Any]:
    """From key=value, the value read as JSON where it is some: width=2, norm=true, widths=[8,16], stem=3x3."""
    arguments: dict[str, Any] = {}
    for text in texts or ():
        key, equals, value = text.partition("=")
        if not key.isidentifier() or not equals:
            raise DataError(f"--model-arg {text} is no argument: write it like width=2")
        try:
            arguments[key] = json.loads(value)
        except ValueError:
            arguments[key] = value
    return arguments


def _predict_into(
    out: Path, model: str, pictures: list[str], top: int, code: str | None, threads: int | None, workers: int | None
) -> None:
    """Keep predictions in a folder; one process of many ends well even if pictures were unreadable."""
    from svertka.vision.modelfile import load_model
    from svertka.vision.prediction import find_pictures
    from svertka.vision.results import RESULT_FILE, predict_into
    from svertka.vision.team import Team, place

    team = Team(*place())
    _use_threads(threads or (None if team.alone else team.cores))
    found = list(find_pictures(pictures))
    if not found:
        raise _no_pictures(pictures)
    workers = workers or (None if team.alone else team.cores)
    result = predict_into(out, load_model(model, code), found, top=top, share=(team.rank, team.size), workers=workers)
    if result.missing:
        _say(f"process {team.rank} is done with its share: {result.missing} of {result.total} pictures are others'")
        return
    print(f"{out / RESULT_FILE} has the answers to {result.total} pictures, {result.fresh} of them from this process.")
    if team.alone:
        _tell_unreadable(result.unreadable, result.total)


def _no_pictures(arguments: list[str]) -> DataError:
    return DataError(f"there are no pictures in {', '.join(arguments)}: give picture files or folders with some")


def _tell_unreadable(unreadable: int, total: int) -> None:
    """Say how many could not be read and end with 1, or 2 if it was none that could."""
    if unreadable:
        _say(f"{unreadable} of {total} pictures could not be read")
        raise typer.Exit(1 if unreadable < total else 2)


def _show_outcome(console: "Console", outcome: "Outcome") -> None:
    """The tables at the end of training, where everything is, and what to type next."""
    from svertka.vision.tables import show_evaluation, show_skipped

    folder = outcome.folder
    if outcome.finished_before:
        console.print(f"The run in {folder} is finished: nothing is left to do.", soft_wrap=True)
    elif outcome.evaluation is None:
        console.print("There are neither test nor validation pictures to evaluate the model on.")
    else:
        show_evaluation(console, outcome.evaluation, outcome.split)
    show_skipped(console, outcome.skipped, "training and validation")
    console.print(f"\nThe model of epoch {outcome.epoch} is in {folder}/model.safetensors. Next:", soft_wrap=True)
    code = f" --model-code {outcome.settings.model}" if ".py:" in outcome.settings.model else ""
    console.print(f"  svertka predict {shlex.quote(str(folder))} PICTURE…{code}", soft_wrap=True)


def _report(console: "Console", outcome: "Outcome", workers: int | None) -> None:
    """Make report.html; whatever keeps it from being made is told, and the run is none the worse."""
    from svertka.vision.modelfile import is_code
    from svertka.vision.report.runs import of_run, read_run

    code = outcome.settings.model if is_code(outcome.settings.model) else None
    try:
        path = of_run(read_run(outcome.folder, code, workers, outcome), console, workers)
    except (SvertkaError, OSError) as error:
        _say(f"the report was left out: {_sentence(error)}")
    else:
        console.print(f"What it has learnt is in {path}", soft_wrap=True)


def _network(
    name: str, arguments: dict[str, Any], size: tuple[int, ...] | None, classes: int, code: str | None
) -> tuple["Module", tuple[int, ...]]:
    """The network that `summary` is asked for, and the input size (channels, height, width)."""
    from svertka.models import MODELS
    from svertka.vision.modelfile import create_model, load_model

    if name not in MODELS and Path(name).exists():
        trained = load_model(name, code)
        return trained.model, size or (trained.preprocessing.channels, *trained.preprocessing.size)
    if size is None:
        raise DataError(f"the model {name} needs an input size: add --input 3x224x224")
    return create_model(name, arguments, size[0], size[1:], classes), size


if __name__ == "__main__":
    main()
