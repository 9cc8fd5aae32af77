"""A trained model in one file that is enough to predict.

The file is safetensors: the weights under the names of the model's state_dict, and under the key "svertka" of its
header a JSON object with the format version, the model's name and arguments, the classes and the preprocessing. Reading
one never runs code that the file names, and a file that contradicts itself is refused before memory is taken for it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from svertka import models
from svertka.errors import DataError, SvertkaError
from svertka.files import write_tensors
from svertka.vision.pictures import Preprocessing

MODEL_FILE = "model.safetensors"
_FORMAT = 1
_HEADER = "svertka"
_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


@dataclass(frozen=True)
class TrainedModel:
    """A network in evaluation mode and all that is needed to feed it pictures and to name its answers."""

    model: torch.nn.Module
    name: str
    arguments: dict[str, Any]
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    extra: dict[str, Any]
    path: Path


def is_code(name: str) -> bool:
    """Whether a model's name points to a factory in a user's own file, as in "nets/my.py:build"."""
    return ".py:" in name


def save_model(
    path: str | Path,
    model: torch.nn.Module,
    *,
    name: str,
    arguments: Mapping[str, Any],
    classes: Sequence[str],
    preprocessing: Preprocessing,
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write `model` with its classes and preprocessing to one file, in place of an older one in a single move.

    `name` and `arguments` are those for `svertka.models.create`; `extra` is any JSON-able note on how it was trained.
    DataError if a weight is NaN or infinite.
    """
    tensors = contiguous_copies(model.state_dict())
    for key, tensor in tensors.items():
        if not _is_finite(tensor):
            raise DataError(f"{path} was not written, {key} holds NaN or infinite numbers: train with a lower --lr")
    header = {
        "format": _FORMAT,
        "model": name,
        "arguments": dict(arguments),
        "classes": list(classes),
        "preprocessing": preprocessing.to_dict(),
        "extra": dict(extra or {}),
    }
    write_tensors(Path(path), tensors, {_HEADER: json.dumps(header)})


def load_model(path: str | Path, code: str | None = None) -> TrainedModel:
    """Read a model from a file that `save_model` wrote, or from the run folder that holds one.

    A model built by a user's own file needs that file named again in `code` ("nets/my.py:build"), which is then run:
    a model file by itself never decides what code runs. DataError says what is wrong with a file that cannot be used.
    """
    file = find_model_file(path)
    header, shapes, tensors = _read(file)
    name, arguments, classes, preprocessing = _parse_header(file, header)
    if is_code(name) and code is None:
        raise DataError(
            f"{file} holds a model that a user's own code builds ({name}); a model file never runs code by itself,"
            f" so if you trust that code, name it: --model-code {name}"
        )
    if code is not None and not is_code(name):
        raise DataError(f"{file} holds a {name}, which svertka builds itself: leave --model-code away")
    model = _build(file, code or name, arguments, classes, preprocessing, shapes)
    damaged = [key for key, tensor in tensors.items() if not _is_finite(tensor)]
    if damaged:
        raise DataError(f"{file} holds NaN or infinite numbers in {damaged[0]}: copy it again or train again")
    model.load_state_dict(tensors)
    return TrainedModel(
        model.eval(), name, arguments, classes, preprocessing, _expect(file, header, "extra", dict), file
    )


def build_model(
    name: str, arguments: Mapping[str, Any], classes: int, preprocessing: Preprocessing, seed: int = 0
) -> torch.nn.Module:
    """A new model with weights drawn from `seed`, tried out: it turns a batch of pictures into a score for each class.

    The global random state is left as it was. DataError if the factory fails, or the scores are not float [n, classes].
    """
    height, width = preprocessing.size
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = create_model(name, arguments, preprocessing.channels, preprocessing.size, classes)
        try:
            with torch.no_grad():
                scores = model.eval()(torch.zeros(2, preprocessing.channels, height, width))
        except RuntimeError as error:
            reason = str(error).splitlines()[0].rstrip(".")
            raise DataError(
                f"the model {name} cannot take pictures of {height}x{width} with {preprocessing.channels} channels"
                f" ({reason}): choose another --size or model"
            ) from error
    if not isinstance(scores, torch.Tensor) or scores.shape != (2, classes) or not scores.is_floating_point():
        found = list(scores.shape) if isinstance(scores, torch.Tensor) else type(scores).__name__
        raise DataError(
            f"the model {name} turns 2 pictures into {found}: it must give float scores of shape [2, {classes}]"
        )
    return model


def create_model(
    name: str, arguments: Mapping[str, Any], channels: int, size: tuple[int, ...], classes: int
) -> torch.nn.Module:
    """What `svertka.models.create` gives; whatever a factory raises becomes a DataError in one sentence."""
    try:
        model: torch.nn.Module = models.create(name, channels, classes, size=size, **arguments)
    except SvertkaError:
        raise
    except Exception as error:  # a factory may raise anything, and the arguments may come from a damaged file
        reason = f"{type(error).__name__}: {error}".splitlines()[0].rstrip(".")
        raise DataError(f"the model {name} could not be built with {dict(arguments)}: {reason}") from error
    return model


def find_model_file(path: str | Path) -> Path:
    """The model file that `path` names: itself, or the one in the run folder `path`."""
    file = Path(path)
    if file.is_dir():
        file = file / MODEL_FILE
    if not file.is_file():
        raise DataError(f"there is no model at {file}: give a run folder or a {MODEL_FILE} that svertka train wrote")
    return file


def contiguous_copies(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Copies that safetensors accepts: contiguous, and none sharing memory with another."""
    return {key: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for key, tensor in tensors.items()}


def _is_finite(tensor: torch.Tensor) -> bool:
    return not tensor.is_floating_point() or bool(torch.isfinite(tensor).all())


def _read(file: Path) -> tuple[dict[str, Any], dict[str, tuple[str, list[int]]], dict[str, torch.Tensor]]:
    """The header, and dtype with shape of each tensor, and the tensors (memory-mapped: untouched ones cost nothing)."""
    try:
        with safe_open(file, framework="pt") as opened:
            text = (opened.metadata() or {}).get(_HEADER)
            slices = {key: opened.get_slice(key) for key in opened.keys()}  # noqa: SIM118 - it is no mapping
            shapes = {key: (part.get_dtype(), list(part.get_shape())) for key, part in slices.items()}
            tensors = {key: opened.get_tensor(key) for key in shapes}
    except (SafetensorError, ValueError, TypeError) as error:
        raise DataError(f"{file} is not a whole safetensors file ({error}): copy it again or train again") from error
    if text is None:
        raise DataError(
            f"{file} was not written by svertka: its header names no model: give a {MODEL_FILE} of svertka train"
        )
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file} has a damaged header ({error}): copy it again or train again") from error
    if not isinstance(header, dict) or header.get("format") != _FORMAT:
        version = header.get("format") if isinstance(header, dict) else None
        raise DataError(
            f"{file} has format {version!r} and this svertka reads {_FORMAT}: use the svertka that wrote it"
        )
    return header, shapes, tensors


def _parse_header(file: Path, header: dict[str, Any]) -> tuple[str, dict[str, Any], tuple[str, ...], Preprocessing]:
    name = _expect(file, header, "model", str)
    arguments = _expect(file, header, "arguments", dict)
    classes = tuple(_expect(file, header, "classes", list))
    if not classes or not all(isinstance(label, str) for label in classes) or len(set(classes)) != len(classes):
        raise DataError(f"{file} lists {list(classes)[:5]} as its classes, which must be different names: train again")
    try:
        preprocessing = Preprocessing.from_dict(_expect(file, header, "preprocessing", dict))
    except DataError as error:
        raise DataError(f"{file} has a preprocessing that cannot be used: {error}") from error
    return name, arguments, classes, preprocessing


def _expect(file: Path, header: dict[str, Any], key: str, kind: type) -> Any:
    value = header.get(key)
    if not isinstance(value, kind):
        raise DataError(f"{file} has a header whose {key!r} is {value!r} and not a {kind.__name__}: train again")
    return value


def _build(
    file: Path,
    name: str,
    arguments: dict[str, Any],
    classes: tuple[str, ...],
    preprocessing: Preprocessing,
    shapes: dict[str, tuple[str, list[int]]],
) -> torch.nn.Module:
    """Build the model that the header names, first without memory, so that a lie about its size costs nothing."""
    if not is_code(name):
        try:
            with torch.device("meta"):
                outline = create_model(name, arguments, preprocessing.channels, preprocessing.size, len(classes))
        except SvertkaError as error:
            raise DataError(f"{file} names a model that does not exist: {error}") from error
        _compare(file, outline, shapes)
    model = build_model(name, arguments, len(classes), preprocessing)
    _compare(file, model, shapes)
    return model


def _compare(file: Path, model: torch.nn.Module, found: dict[str, tuple[str, list[int]]]) -> None:
    expected = {key: (_DTYPES.get(t.dtype, str(t.dtype)), list(t.shape)) for key, t in model.state_dict().items()}
    for key in [*expected, *found]:
        if key not in found:
            raise DataError(f"{file} lacks the weights {key} of its model: copy it again or train again")
        if key not in expected:
            raise DataError(f"{file} holds weights {key} that its model does not have: copy it again or train again")
        if found[key] != expected[key]:
            (dtype, shape), (true_dtype, true_shape) = found[key], expected[key]
            raise DataError(
                f"{file} holds {key} as {dtype} {shape} where its model has {true_dtype} {true_shape}:"
                " copy it again or train again"
            )
