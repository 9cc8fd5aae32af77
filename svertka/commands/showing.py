"""What `svertka explain` prints of an explanation: the result first, then what was asked for."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from svertka import spec
from svertka.errors import DataError
from svertka.explain import parsing, tables
from svertka.explain.draw.terminal import view
from svertka.vision.pictures import printable
from svertka.window import Segments

if TYPE_CHECKING:
    from rich.console import Console

    from svertka.explain.explanation import Explanation

_ALL = 400  # steps that `--all` prints at most
_READS = 10_000_000  # values that all windows may read together: as much memory as an explanation takes
_ENTRIES = 50_000  # of a matrix that is printed, or turned into a gradient


@dataclass(frozen=True)
class Wanted:
    """What to show: `at` as the user wrote it, each a place of the output."""

    at: tuple[str, ...] = ()
    everything: bool = False
    matrix: bool = False
    gradient: bool = False
    animate: Path | None = None
    as_json: bool = False


def check_size(operation: spec.Operation[Any], x: Any) -> None:
    """A DataError if an explanation of this operation on x [C, *size] would not fit into memory."""
    reads = len(x) * _reads(operation, x.shape[1:])
    if reads > _READS:
        raise DataError(f"all windows together read {reads} values, over the {_READS} allowed: give a smaller input")


def _reads(operation: spec.Operation[Any], size: Sequence[int]) -> int:
    """Outputs × taps of one channel, by arithmetic alone."""
    taps = (w.longest(n) if isinstance(w, Segments) else w.size for w, n in zip(operation.windows, size, strict=True))
    return math.prod(operation.output_size(size)) * math.prod(taps)


def print_json(value: Any) -> None:
    """JSON on one line; what isn't finite becomes null, since JSON has no word for it."""
    print(json.dumps(_finite(value), ensure_ascii=False, allow_nan=False))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def show(e: Explanation, wanted: Wanted, note: str = "", extra: dict[str, Any] | None = None) -> None:
    """Prints an explanation.

    Args:
        e: the explanation.
        wanted: what was asked for.
        note: a sentence on the input, such as which region of a picture it is.
        extra: more results to print, by title: arrays like the output.
    """
    places = _places(e, wanted)
    entries = len(e.x) * e.output.shape[0] * _reads(e.bound.operation, e.x.shape[1:])
    if (wanted.matrix or wanted.gradient) and (entries > _ENTRIES or e.output.size * e.x.size > 20 * _ENTRIES):
        raise DataError(f"a matrix of {e.output.size} × {e.x.size} is too large to be shown: give a smaller input")
    if wanted.animate is not None:
        e.animate(wanted.animate)
    if wanted.as_json:
        print_json(_plain(e, wanted, places, note, extra or {}))
    else:
        _print(e, wanted, places, note, extra or {})
    if wanted.animate is not None and not wanted.as_json:
        print(f"The animation is in {printable(wanted.animate)}.")


def console() -> Console:
    """Without rich's own colours for numbers."""
    from rich.console import Console

    return Console(highlight=False)


def print_array(out: Console, values: Any) -> None:
    """[C, *size], channel by channel, cut to the console."""
    for channel, part in enumerate(values):
        if len(values) > 1:
            out.print(f"[dim]channel {channel}[/dim]")
        print_lines(out, tables.matrix_lines(part, out.width))


def print_lines(out: Console, lines: list[str]) -> None:
    """Lines that are to stay as they are."""
    for line in lines:
        out.print(line, markup=False, no_wrap=True, overflow="ignore", crop=False)


def gradient(e: Explanation) -> Any:
    """The gradient of the sum of all outputs with respect to the input, [C, *size]: the matrix's transpose."""
    return (e.matrix().T @ np.ones(e.output.size)).reshape(e.x.shape)


def _places(e: Explanation, wanted: Wanted) -> list[tuple[int, ...]]:
    asked = [parsing.position(text, e.output.shape) for text in wanted.at]
    if not wanted.everything:
        return asked
    if e.output.size > _ALL and not wanted.as_json:
        raise DataError(f"--all would print {e.output.size} steps: give --at, --json or a smaller input")
    return [tuple(int(i) for i in place) for place in np.ndindex(*e.output.shape)]


def _plain(
    e: Explanation, wanted: Wanted, places: list[tuple[int, ...]], note: str, extra: dict[str, Any]
) -> dict[str, Any]:
    values: dict[str, Any] = {"title": e.title, "input": e.x.tolist(), "output": e.output.tolist()}
    for name in ("weight", "bias"):
        array = getattr(e.bound, name)
        values |= {} if array is None else {name: array.tolist()}
    values |= {"note": note} if note else {}
    values |= {title: array.tolist() for title, array in extra.items()}
    values |= {"steps": [e.at(*place).to_dict() for place in places]} if places else {}
    if wanted.matrix:
        values["matrix"], values["matrix_names"] = e.matrix().toarray().tolist(), e.matrix_names()
    if wanted.gradient:
        values["gradient"] = gradient(e).tolist()
    return values


def _print(e: Explanation, wanted: Wanted, places: list[tuple[int, ...]], note: str, extra: dict[str, Any]) -> None:
    out = console()
    out.print(e.title, style="bold", markup=False)
    if note:
        out.print(note, style="dim", markup=False)
    print_array(out, e.output)
    for title, array in extra.items():
        out.print(f"\n{title}", markup=False)
        print_array(out, array)
    for place in places:
        out.print(view(e.steps, "", place))  # the title stands above all
    if wanted.matrix:
        _print_matrix(out, e)
    if wanted.gradient:
        out.print("\nGradient of the sum of the outputs with respect to the input")
        print_array(out, gradient(e))


def _print_matrix(out: Console, e: Explanation) -> None:
    """The matrix with the weights' names between the names of outputs and inputs, and with its numbers."""
    shape = (e.output.size, e.x.size)
    inputs, outputs = _entry_names("x", e.x.shape), _entry_names("y", e.output.shape)[: tables.MAX_ROWS]
    named = e.bound.weight is not None and not isinstance(e.bound.operation, spec.Unshared)  # one kernel for all rows
    rows = e.matrix_names()[: tables.MAX_ROWS] if named else None
    numbers = tables.aligned(e.matrix()[: tables.MAX_ROWS].toarray())
    curved = isinstance(e.bound.operation, (spec.MaxPool, spec.LpPool, spec.StochasticPool, spec.KMaxPool))
    what = "The matrix of derivatives at this input" if curved else "The matrix"
    out.print(f"\n{what}, {shape[0]} outputs × {shape[1]} inputs")
    tables_shown = [entries for entries in (rows, numbers) if entries is not None]
    for number, entries in enumerate(tables_shown):
        if number:
            out.print()
        print_lines(out, tables.text_lines(entries, shape, out.width, heads=(outputs, inputs)))


def _entry_names(letter: str, shape: tuple[int, ...]) -> list[str]:
    """x11, x12 … from 1, as on the lecture's slide; with the channel in brackets if there are several."""
    names = []
    for channel, *place in np.ndindex(*shape):
        digits = [str(i + 1) for i in place]
        joined = "".join(digits) if max(shape[1:]) < 10 else ",".join(digits)
        names.append(f"{letter}{f'({channel + 1})' if shape[0] > 1 else ''}{joined}")
    return names
