"""What the page shows, as a few lines of Python to be copied and run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from svertka.explain.explanation import Explanation
from svertka.lab.rooms.asking import per_axis

if TYPE_CHECKING:
    from svertka.lab.rooms.convolution import ConvolutionAsked


def convolution_code(asked: ConvolutionAsked, shown: Explanation, kernel: Any) -> str:
    """The layer, its kernel as it was given, the input and the call; torch's own layer where it has this one."""
    ndim = shown.x.ndim - 1
    padding, theirs = _padding(asked, ndim)
    arguments = [str(len(shown.x)), str(len(shown.output)), alike(kernel.shape[-ndim:])]
    for name, values in (("stride", asked.stride), ("dilation", asked.dilation)):
        if set(per_axis(values, ndim)) != {1}:
            arguments.append(f"{name}={alike(per_axis(values, ndim))}")
    arguments += padding
    if asked.transposed and asked.output_padding:
        arguments.append(f"output_padding={asked.output_padding}")
    if asked.groups > 1:
        arguments.append(f"groups={asked.groups}")
    if asked.bias is None:
        arguments.append("bias=False")
    kind = f"{'ConvTranspose' if asked.transposed else 'Conv'}{ndim}d"
    turned = f".flip({', '.join(map(str, range(-ndim, 0)))})" if asked.flip else ""
    lines = [
        "import torch",
        "from torch import nn" if theirs else "from svertka import nn",
        "",
        f"layer = nn.{kind}({', '.join(arguments)})",
        "with torch.no_grad():",
        f"    layer.weight.copy_(torch.tensor({literal(kernel)}){turned})",
        *([] if asked.bias is None else [f"    layer.bias.fill_({_entry(asked.bias)})"]),
        "",
        f"x = torch.tensor({literal(shown.x)})",
        "print(layer(x).detach())",
    ]
    return "\n".join(lines) + "\n"


def _padding(asked: ConvolutionAsked, ndim: int) -> tuple[list[str], bool]:
    """The arguments that say the padding, and whether torch's own layers understand them."""
    if isinstance(asked.padding, str):
        if asked.padding == "valid":
            return [], True
        arguments, theirs = [f'padding="{asked.padding}"'], False
    else:
        sides = per_axis(asked.padding, ndim)
        if not any(map(any, sides)):
            return [], True
        theirs = all(before == after for before, after in sides)
        arguments = [f"padding={alike([before for before, _ in sides]) if theirs else sides}"]
    if asked.mode == "zeros":
        return arguments, theirs
    return [*arguments, f'padding_mode="{asked.mode}"'], False


def alike(values: Sequence[int]) -> str:
    """One number for all axes where they are equal."""
    return str(int(values[0])) if len(set(values)) == 1 else str(tuple(map(int, values)))


def literal(values: Any) -> str:
    """Nested lists of floats, as short as they can be."""
    if np.ndim(values) == 0:
        return _entry(float(values))
    return f"[{', '.join(map(literal, values))}]"


def _entry(value: float) -> str:
    return f"{int(value)}." if value == int(value) and abs(value) < 1e15 else repr(value)
