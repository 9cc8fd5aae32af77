"""A network as a list of steps: data that names layers, and so can be kept in a model file without any code.

A step is an object {"name", "kind", "arguments", "inputs"}: the layer KINDS[kind](**arguments), kept under `name`, on
results of earlier steps, or on "input". Weights stand in the state_dict as in every module.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from svertka import nn as ours
from svertka.errors import DataError

INPUT = "input"
LARGEST = 2**28  # numbers in one step's result: 1 GiB in float32


class Constant(nn.Module):
    """A tensor of the file; no inputs."""

    value: Tensor

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.register_buffer("value", torch.zeros(tuple(shape)))

    def forward(self) -> Tensor:
        """[*shape]."""
        return self.value


class Calculation(nn.Module):
    """An operation without weights: `function` of the inputs and the arguments."""

    def __init__(self, function: str, **arguments: Any) -> None:
        super().__init__()
        self.function, self.arguments = function, arguments

    def forward(self, *inputs: Tensor) -> Tensor:
        """What the function makes of the inputs."""
        return _FUNCTIONS[self.function](*inputs, **self.arguments)

    def extra_repr(self) -> str:
        """The arguments, for `print(network)`."""
        return ", ".join([self.function, *(f"{key}={value}" for key, value in self.arguments.items())])


def reshaped(x: Tensor, *sources: Tensor, shape: Sequence[Any]) -> Tensor:
    """`x` in the shape of ONNX's Reshape: −1 is what is left, 0 the size of x there, [i, axis] an input's."""
    sizes = [
        (x, *sources)[entry[0]].shape[entry[1]] if not isinstance(entry, int) else entry or x.shape[axis]
        for axis, entry in enumerate(shape)
    ]
    return x.reshape(sizes)


_FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "div": torch.div,
    "pow": torch.pow,
    "max": torch.maximum,
    "min": torch.minimum,
    "matmul": torch.matmul,
    "sqrt": torch.sqrt,
    "exp": torch.exp,
    "erf": torch.erf,
    "neg": torch.neg,
    "abs": torch.abs,
    "concat": lambda *inputs, axis: torch.cat(inputs, axis),
    "reshape": reshaped,
    "transpose": lambda x, axes: x.permute(axes),
    "squeeze": lambda x, axes: x.squeeze(tuple(axes)),
    "unsqueeze": lambda x, axes: x.reshape(_with_ones(x.shape, axes)),
    "mean": lambda x, axes, keepdim: x.mean(tuple(axes), keepdim),
    "clip": lambda x, low, high: x.clamp(low, high),
    "hardsigmoid": lambda x, alpha, beta: (alpha * x + beta).clamp(0, 1),
}


def _with_ones(shape: Sequence[int], axes: Sequence[int]) -> list[int]:
    sizes, rank = list(shape), len(shape) + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        sizes.insert(axis, 1)
    return sizes


def _transposed(kind: Callable[..., Any]) -> Callable[..., nn.Module]:
    def build(*, padding: Any = 0, **arguments: Any) -> nn.Module:
        layer: nn.Module = kind(**arguments)
        layer.padding = padding  # pairs, which torch's constructor would refuse
        return layer

    return build


_PLAIN = (
    "BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "Linear", "ReLU", "ReLU6", "LeakyReLU", "Sigmoid", "Tanh",
    "Hardsigmoid", "Hardswish", "ELU", "GELU", "PReLU", "Softmax", "Flatten", "Identity", "LocalResponseNorm",
)  # fmt: skip
_WINDOWS = ("Conv", "MaxPool", "AvgPool", "LPPool", "GlobalMaxPool", "GlobalAvgPool", "GlobalLPPool", "Pad")
KINDS: dict[str, Callable[..., nn.Module]] = {
    "Constant": Constant,
    "Calculation": Calculation,
    **{name: getattr(nn, name) for name in _PLAIN},
    "Upsample": lambda scale_factor, mode: nn.Upsample(scale_factor=tuple(scale_factor), mode=mode),
    **{f"{name}{ndim}d": getattr(ours, f"{name}{ndim}d") for name in _WINDOWS for ndim in (1, 2, 3)},
    **{f"ConvTranspose{ndim}d": _transposed(getattr(ours, f"ConvTranspose{ndim}d")) for ndim in (1, 2, 3)},
}


class Network(nn.Module):
    """The layers of a list of steps, in their order; the result is that of the step `output`.

    Raises:
        DataError: for steps that name unknown layers or results.
    """

    def __init__(self, steps: Sequence[Mapping[str, Any]], output: str) -> None:
        super().__init__()
        self.steps: list[tuple[str, tuple[str, ...]]] = []
        self.output = output
        known = {INPUT}
        for step in steps:
            name, inputs = step["name"], tuple(step["inputs"])
            missing = [needed for needed in inputs if needed not in known]
            if missing or name in known or step["kind"] not in KINDS:
                raise DataError(
                    f"the step {name!r} of the network is of an unknown kind, double, or reads what isn't there"
                )
            self.add_module(name, KINDS[step["kind"]](**step["arguments"]))
            self.steps.append((name, inputs))
            known.add(name)
        if output not in known:
            raise DataError(f"the network's output {output!r} is the result of none of its steps")
        last = {needed: i for i, (_, inputs) in enumerate(self.steps) for needed in inputs}
        self._spent = [
            [name for name, i in last.items() if i == place and name != output] for place in range(len(steps))
        ]

    def forward(self, input: Tensor) -> Tensor:
        """[N, C, *size] → what the step `output` gives."""
        return self.run(input)

    def run(self, input: Tensor, largest: float = math.inf) -> Tensor:
        """`forward`; a DataError if a step gives more than `largest` numbers."""
        results = {INPUT: input}
        for (name, inputs), spent in zip(self.steps, self._spent, strict=True):
            result = self.get_submodule(name)(*(results[needed] for needed in inputs))
            if largest < math.inf and result.numel() > largest:
                raise DataError(f"the step {name!r} gives {list(result.shape)}, more than {largest} numbers")
            results[name] = result
            for each in spent:
                del results[each]
        return results[self.output]


def build(
    channels: int, classes: int, *, size: Sequence[int], steps: Sequence[Mapping[str, Any]], output: str
) -> nn.Module:
    """The factory of `svertka.models.create("onnx", …)`: tried without memory before any is taken."""
    del classes
    with torch.device("meta"), torch.no_grad():
        Network(steps, output).eval().run(torch.empty(2, channels, *size), LARGEST)
    return Network(steps, output)
