"""A torch network → one ONNX file that has been held against ONNX Runtime before it is put in place.

The network is traced by torch.export with its batch size open and, where it allows that, its spatial sizes; torch's
exporter writes the graph down; ONNX Runtime computes it on random inputs of several sizes, and a file that differs by
more than rounding is not written.
"""

from __future__ import annotations

import json
import logging
import operator
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from importlib.metadata import version
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from svertka.deploy.compose import Composed
from svertka.errors import SvertkaError
from svertka.files import written_beside

if TYPE_CHECKING:
    from svertka.vision.pictures import Preprocessing

OPSET = 20
_AXES: dict[int, tuple[str, ...]] = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}
_LARGEST = 2**31 - 2**20  # of one message of protobuf, the format under ONNX
_LIBRARIES = ("torch", "onnx", "onnxscript", "onnx_ir")
_IDLE = ("torchvision is not installed", "Failed to reduce inequalities")  # the graph lacks nothing for either
_SLACK = 16  # by how much the error of another order of sums may exceed this one's: four bits


@dataclass(frozen=True)
class Exported:
    """What was written, and how well ONNX Runtime agrees with it.

    Attributes:
        path: the file.
        opset: the version of ONNX's operators that it uses.
        input, output: their names and shapes; what is open is a name ("batch", "height", …).
        difference: the largest difference of ONNX Runtime's result from that of the network in float64.
        ours: the largest one of the network itself, which computes in its own precision.
        tolerance: the difference that would still have been rounding.
        tried: the shapes of input that were compared.
        notes: what is not as asked, and what torch's exporter said.
    """

    path: Path
    opset: int
    input: tuple[str, tuple[int | str, ...]]
    output: tuple[str, tuple[int | str, ...]]
    difference: float
    ours: float
    tolerance: float
    tried: tuple[tuple[int, ...], ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values."""
        return {**vars(self), "path": str(self.path), "tried": [list(shape) for shape in self.tried]}


def export_onnx(
    model: nn.Module,
    example: Tensor,
    file: str | Path,
    *,
    fixed_size: bool = False,
    name: str | None = None,
    classes: Sequence[str] = (),
    preprocessing: Preprocessing | None = None,
) -> Exported:
    """Write `model`, as it is in evaluation, to an ONNX file, in place of an older one in a single move.

    Args:
        model: a module that takes one tensor [N, C, *size] and gives one or several.
        example: such a tensor, in the type that the file shall take. The batch size stays open.
        fixed_size: fix the spatial size to the example's; otherwise it is left open if the network allows it.
        name: of the model; it goes into the file with the two following.
        classes: what the scores stand for, in their order.
        preprocessing: how a picture becomes the input.

    Raises:
        SvertkaError: if torch's exporter can't write the network down, or ONNX Runtime computes something else.
    """
    _require_packages()
    if example.ndim < 3 or not example.is_floating_point():
        raise SvertkaError(
            f"the example for ONNX has the shape {list(example.shape)} and the type {example.dtype}: "
            "give a float tensor [N, C, *size]"
        )
    label = name or type(model).__name__
    with _evaluating(model), torch.no_grad():
        proto, tried, notes = _first_that_holds(model, example.detach(), fixed_size, label)
    _describe(proto, label, classes, preprocessing)
    content = proto.SerializeToString()
    with written_beside(Path(file)) as beside:
        beside.write_bytes(content)
    return Exported(
        Path(file),
        OPSET,
        _named_shape(proto.graph.input[0]),
        _named_shape(proto.graph.output[0]),
        max(error.theirs for error in tried),
        max(error.ours for error in tried),
        max(error.tolerance for error in tried),
        tuple(error.shape for error in tried),
        tuple(notes),
    )


def _require_packages() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError:
        raise SvertkaError("ONNX files are written with onnx and its kin: pip install 'svertka[onnx]'") from None


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """The model in evaluation mode; afterwards each of its parts in the mode that it had."""
    before = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in before:
            module.training = training


def _first_that_holds(model: nn.Module, example: Tensor, fixed_size: bool, label: str) -> Any:
    """The graph with as much left open as the network allows, what was compared, and notes on what was not allowed."""
    spatial = _AXES.get(example.ndim - 2, ())
    everything = {0: "batch"} | dict(enumerate(spatial, start=2))
    choices = [everything, {0: "batch"}, {}] if not fixed_size and spatial else [{0: "batch"}, {}]
    notes: list[str] = []
    for open_axes in choices:
        said: list[str] = []
        try:
            proto = _written(model, example, open_axes, said)
            tried = _compared(model, proto, example, open_axes)
        except Exception as error:  # torch's exporter raises anything
            if not open_axes:
                raise SvertkaError(f"{label} can't be written as ONNX: {_reason(error)}") from error
            kept = set(open_axes) - ({0} if 2 in open_axes else set())
            names, sizes = [open_axes[axis] for axis in sorted(kept)], [example.shape[axis] for axis in sorted(kept)]
            fixed = ", ".join(f"{axis} {n}" for axis, n in zip(names, sizes, strict=True))
            notes.append(f"fixed in the file: {fixed}; left open, it would not hold ({_reason(error)})")
        else:
            return proto, tried, notes + said
    raise AssertionError("the last choice returns or raises")


def _written(model: nn.Module, example: Tensor, open_axes: Mapping[int, str], said: list[str]) -> Any:
    """The ONNX model; what torch's exporter says of it is added to `said`, each sentence once."""
    example = _unlikely(example, open_axes)
    shapes = (dict.fromkeys(open_axes, torch.export.Dim.DYNAMIC),)
    with _heard(said), Composed():
        program = torch.export.export(model, (example,), dynamic_shapes=shapes, strict=False)
    with _heard(said):
        written = torch.onnx.export(
            program,
            (),
            dynamo=True,
            verbose=False,
            opset_version=OPSET,
            input_names=["input"],
            custom_translation_table=_translations(),
        )
    assert written is not None, "dynamo=True gives a program"
    symbols: Any = written.model.graph.inputs[0].shape
    written.rename_axes({str(symbols[axis]): axis_name for axis, axis_name in open_axes.items()})
    proto = written.model_proto
    if proto.ByteSize() > _LARGEST:
        raise SvertkaError(
            f"its {proto.ByteSize() / 2**30:.1f} GiB are more than the 2 GiB that one ONNX file can hold"
        )
    return proto


def _unlikely(example: Tensor, open_axes: Mapping[int, str]) -> Tensor:
    """An example of odd sizes: what a network does at its own size alone must not be traced for all sizes."""
    shape = list(example.shape)
    for axis in open_axes:
        shape[axis] = 3 if axis == 0 else 2 * shape[axis] + 1 + 4 * axis
    return torch.zeros(shape, dtype=example.dtype)


def _translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """Operations of sizes that torch's exporter refuses, or divides towards zero where Python divides downwards."""
    from onnxscript import opset20 as op

    def remainder(self: Any, other: Any) -> Any:
        return op.Mod(self, other)

    def floor_division(self: Any, other: Any) -> Any:
        return op.Div(op.Sub(self, op.Mod(self, other)), other)

    return {torch.ops.aten.remainder.Scalar: remainder, operator.floordiv: floor_division}


@contextmanager
def _heard(said: list[str]) -> Iterator[None]:
    """What libraries print, warn and log inside goes to `said`: the first line of each, once, but for what is idle."""
    printed, log = StringIO(), _Log()
    loggers = [
        logger
        for name, logger in logging.root.manager.loggerDict.items()
        if name.partition(".")[0] in _LIBRARIES and isinstance(logger, logging.Logger)
    ]
    before = [(logger, logger.handlers, logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.handlers, logger.propagate = [log], False
    try:
        with warnings.catch_warnings(record=True) as warned, redirect_stdout(printed), redirect_stderr(printed):
            warnings.simplefilter("always")
            yield
    finally:
        for logger, handlers, propagate in before:
            logger.handlers, logger.propagate = handlers, propagate
        texts = [str(w.message) for w in warned if not issubclass(w.category, DeprecationWarning | FutureWarning)]
        for text in [*texts, *log.texts, *printed.getvalue().splitlines()]:
            line = text.strip().partition("\n")[0]
            if line and line not in said and not any(idle in line for idle in _IDLE):
                said.append(line)


class _Log(logging.Handler):
    """Keeps warnings and worse."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


@dataclass(frozen=True)
class Error:
    """The largest differences from the float64 result for an input of one shape."""

    shape: tuple[int, ...]
    theirs: float
    ours: float
    tolerance: float


def _compared(model: nn.Module, proto: Any, example: Tensor, open_axes: Mapping[int, str]) -> list[Error]:
    """ONNX Runtime beside the network on random inputs: of the example's shape, and of others where sizes are open.

    Raises:
        SvertkaError: if they differ by more than rounding.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what it says is raised, too
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    tried = []
    for shape in _shapes(tuple(example.shape), open_axes):
        x = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=example.dtype)
        try:
            expected = _results(model(x))
        except RuntimeError:
            if shape == tuple(example.shape):
                raise
            continue  # the network itself takes no such size
        found = [torch.from_numpy(part) for part in session.run(None, {session.get_inputs()[0].name: x.numpy()})]
        tried.append(_error(shape, found, expected, _exact(model, x)))
    return tried


def compared_with_file(model: nn.Module, file: Path, size: Sequence[int], batch: int) -> Error:
    """ONNX Runtime on the file beside the network that was read from it.

    Raises:
        SvertkaError: if they differ by more than rounding.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    x = torch.randn(batch or 2, *size, generator=torch.Generator().manual_seed(0))
    try:
        session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        found = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    except Exception as error:  # of its own classes
        raise SvertkaError(f"ONNX Runtime can't compute {file}, so nothing was compared: {_reason(error)}") from error
    with torch.no_grad():
        return _error(tuple(x.shape), [torch.from_numpy(part) for part in found], _results(model(x)), _exact(model, x))


def _shapes(shape: tuple[int, ...], open_axes: Mapping[int, str]) -> Iterator[tuple[int, ...]]:
    """The example's shape; another batch; sizes a little above and below it on each open axis."""
    yield shape
    batch = 5 if 0 in open_axes else shape[0]
    if 0 in open_axes:
        yield (1, *shape[1:])
    for step in (-2, -1, 1, 2, 3) if 2 in open_axes else (0,) if 0 in open_axes else ():
        sizes = [n + step * axis if axis in open_axes else n for axis, n in enumerate(shape[2:], start=2)]
        if min(sizes) > 0:
            yield (batch if abs(step) < 2 else 2, shape[1], *sizes)


def _results(result: Any) -> list[Tensor]:
    return [part.detach() for part in (result if isinstance(result, tuple | list) else (result,))]


def _exact(model: nn.Module, x: Tensor) -> list[Tensor] | None:
    """What the model gives in float64; None if it computes in float32 by itself."""
    state = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    doubled = {key: value.double() if value.is_floating_point() else value for key, value in state.items()}
    try:
        return _results(torch.func.functional_call(model, doubled, (x.double(),)))
    except RuntimeError:
        return None


def _error(shape: tuple[int, ...], found: list[Tensor], ours: list[Tensor], exact: list[Tensor] | None) -> Error:
    """The tolerance is 16 times our own error, or 16 ε of the largest number if that is more.

    Both are float32 sums of the same products in another order, so both err alike from the sum in float64; where that
    is not to be had, from the network's own result, by 256 ε of its largest number.

    Raises:
        SvertkaError: if the difference is larger, or something else but numbers stands where there are none.
    """
    theirs = mine = tolerance = 0.0
    for a, b, c in zip(found, ours, exact or ours, strict=True):
        if a.shape != b.shape:
            raise SvertkaError(f"ONNX Runtime gives {list(a.shape)} for {list(shape)}, the network {list(b.shape)}")
        epsilon = torch.finfo(b.dtype).eps if b.is_floating_point() else 0.0
        a, b, c = a.double(), b.double(), c.double()
        finite = c.isfinite() & b.isfinite()
        if not torch.equal(a[~finite].nan_to_num(), b[~finite].nan_to_num()):
            raise SvertkaError(f"ONNX Runtime gives other infinite numbers or NaN for {list(shape)} than the network")
        a, b, c = a[finite], b[finite], c[finite]
        if not a.numel():
            continue
        difference, error, scale = (float(d.abs().max()) for d in (a - c, b - c, c))
        allowed = _SLACK * max(error, epsilon * scale * (1 if exact else 16))
        if not difference <= allowed:
            raise SvertkaError(
                f"ONNX Runtime's result differs by {difference:.2g} for an input of {list(shape)}, where rounding "
                f"explains {allowed:.2g}"
            )
        theirs, mine, tolerance = max(theirs, difference), max(mine, error), max(tolerance, allowed)
    return Error(shape, theirs, mine, tolerance)


def _reason(error: Exception) -> str:
    """One line of what may be many."""
    if isinstance(error, SvertkaError):
        return str(error)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    for marker in ("target=", "inferred a static shape", "Could not guard", "Constraints violated"):
        for line in lines:
            if marker in line:
                part = line.partition("target=")[2].partition("]")[0] if marker == "target=" else line.lstrip("- ")
                return f"there is no ONNX for {part}" if marker == "target=" else part[:200].rstrip(". ")
    return (lines[0] if lines else type(error).__name__)[:200].rstrip(". ")


def _describe(proto: Any, name: str, classes: Sequence[str], preprocessing: Preprocessing | None) -> None:
    """What a user of the file must know, in its own header; lists and objects as JSON."""
    del proto.graph.value_info[:]  # formulas of sizes, which every runtime finds for itself
    for value in proto.graph.output:
        dims = value.type.tensor_type.shape.dim
        for axis, dim in zip(("batch", "channels", *_AXES.get(len(dims) - 2, ())), dims, strict=False):
            if dim.dim_param and not dim.dim_param.isidentifier():
                dim.dim_param = f"output_{axis}"
    proto.producer_name, proto.producer_version = "svertka", version("svertka")
    entries = {"svertka.model": name}
    if classes:
        entries["svertka.classes"] = json.dumps(list(classes), ensure_ascii=False)
    if preprocessing is not None:
        entries["svertka.preprocessing"] = json.dumps(preprocessing.to_dict())
        proto.doc_string = (
            "input = (picture / 255 - mean) / std by channel; the metadata svertka.preprocessing has them"
        )
    for key, value in entries.items():
        entry = proto.metadata_props.add()
        entry.key, entry.value = key, value


def _named_shape(value: Any) -> tuple[str, tuple[int | str, ...]]:
    dims = value.type.tensor_type.shape.dim
    return value.name, tuple(dim.dim_param or dim.dim_value for dim in dims)
