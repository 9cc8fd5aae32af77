"""What an operation is, in one line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from svertka import spec
from svertka.explain.draw import style
from svertka.explain.operations import Bound
from svertka.window import Segments, TransposedWindow, Window


def title(bound: Bound, input: Sequence[int], output: Sequence[int], flip: bool = False) -> str:
    """Such as "Conv2d 3×3, stride 2, padding (1, 1) symmetric, 5×5 → 3×3".

    Args:
        bound: the operation.
        input, output: (channels, *size); one channel is not mentioned.
        flip: whether the kernel has been turned round.
    """
    operation = bound.operation
    words = [f"{bound.title} {_kernel(operation)}".strip(), *_window_words(operation), *_own_words(operation)]
    if flip:
        words.append("kernel flipped (true convolution)")
    one = input[0] == output[0] == 1
    sizes = [shape[1:] if one else shape for shape in (input, output)]
    return ", ".join([*words, " → ".join(map(times, sizes))])


def times(sizes: Sequence[int]) -> str:
    """3×5."""
    return "×".join(map(str, sizes))


def unbroken(title: str) -> str:
    """The title with spaces that end no line within a pair and within the sizes."""
    return re.sub(r"\(\S+, \S+\)| → ", lambda match: match[0].replace(" ", "\u00a0"), title)


def _kernel(operation: spec.Operation[Any]) -> str:
    if isinstance(operation, (spec.KMaxPool, spec.Pad)) or any(isinstance(w, Segments) for w in operation.windows):
        return ""
    sizes = times([window.size for window in operation.windows])
    return f"kernel {sizes}" if operation.ndim == 1 else sizes


def _window_words(operation: spec.Operation[Any]) -> list[str]:
    if any(isinstance(window, Segments) for window in operation.windows):
        return []
    transposed = [w for w in operation.windows if isinstance(w, TransposedWindow)]
    windows = [w.window if isinstance(w, TransposedWindow) else w for w in operation.windows]
    words = []
    for name in ("stride", "dilation"):
        values = [getattr(window, name) for window in windows]
        if values != [1] * len(values):
            words.append(f"{name} {_same(values)}")
    if any(window.padding != (0, 0) for window in windows):
        words.append(f"padding {_same([window.padding for window in windows])}{_mode(windows[0])}")
    if any(window.output_padding for window in transposed):
        words.append(f"output padding {_same([window.output_padding for window in transposed])}")
    if any(window.ceil_mode for window in windows):
        words.append("rounded up")
    return words


def _mode(window: Window) -> str:
    return "" if window.mode == "zeros" else f" {window.mode}"


def _own_words(operation: spec.Operation[Any]) -> list[str]:
    match operation:
        case spec.KMaxPool():
            return [f"the {operation.k} largest, their order kept"]
        case spec.LpPool():
            return [f"p = {style.number(operation.p)}"]
        case spec.AveragePool(divisor=divisor) if divisor:
            return [f"divided by {style.number(divisor)}"]
        case spec.AveragePool(count_include_pad=False) | spec.WeightedPool(count_include_pad=False):
            return ["padding not counted"]
        case spec.Pad(value=value) if value:
            return [f"value {style.number(value)}"]
        case spec.Convolution() | spec.TransposedConvolution() | spec.Unshared() if operation.groups > 1:
            return [f"{operation.groups} groups"]
    return []


def _same(values: list[Any]) -> str:
    """One value for all axes where they agree; else one for each, joined by ×."""
    shown = [
        v if isinstance(v, str) else style.number(v) if isinstance(v, (int, float)) else _pair(v) for v in values
    ]  # fmt: skip
    return shown[0] if len(set(shown)) == 1 else " × ".join(shown)


def _pair(pair: tuple[int, int]) -> str:
    return f"({style.number(pair[0])}, {style.number(pair[1])})"
