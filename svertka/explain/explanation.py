"""One object that shows how each number of a layer's output comes to be."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from svertka import spec
from svertka.explain import inputs, steps
from svertka.explain.draw.titles import title
from svertka.explain.operations import Array, Bound, bound

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console
    from scipy.sparse import csr_array

    from svertka.explain.connections import Connections
    from svertka.explain.cost import Costs
    from svertka.explain.draw.frames import Frames
    from svertka.explain.draw.terminal import View
    from svertka.explain.fields import ReceptiveField


def explain(what: Any, input: Any, weight: Any = None, bias: Any = None, *, flip: bool = False) -> Explanation:
    """Explains an operation on an input.

    Args:
        what: a convolution, pooling or padding layer of svertka.nn or torch.nn, or a `spec.Operation`.
        input: tensor, array or nested lists, [*size] (one channel), [C, *size] or [1, C, *size].
        weight: the weights of a spec, shaped as in `svertka.functional`, or one kernel [*kernel size].
        bias: its bias.
        flip: turn the kernel round: convolution as mathematics has it, instead of cross-correlation.

    Raises:
        GeometryError: if the operation can't be done on the input.
        DataError: if the input or the weights are ragged, empty, not finite or no numbers.
    """
    operation = inputs.with_weights(bound(what), weight, bias, flip)
    x = inputs.with_channels(inputs.numbers(input, "input"), operation.operation.ndim)
    inputs.check(operation, x)
    return Explanation(operation, x, flip)


class Explanation:
    """An operation on one input: its steps, its matrix and its drawings, all from one index map.

    Args:
        bound: the operation with its weights.
        x: float64 [C, *size].
        flip: whether the kernel has been turned round.
    """

    def __init__(self, bound: Bound, x: Array, flip: bool = False) -> None:
        self.bound, self.x = bound, x
        self.steps = steps.Steps(bound, x)
        self.title = title(bound, x.shape, self.output.shape, flip)

    @property
    def output(self) -> Array:
        """float64 [C', *output size]; of a stochastic pooling its evaluation."""
        return self.steps.output

    def __repr__(self) -> str:
        return f"Explanation({self.title})"

    def at(self, *output: int) -> steps.Step:
        """The step of the output at (channel, *position)."""
        return self.steps.at(output)

    def to_dict(self) -> dict[str, Any]:
        """Everything in plain types, for JSON."""
        return {
            "title": self.title,
            "input": self.x.tolist(),
            "output": self.output.tolist(),
            "steps": [step.to_dict() for step in self.steps],
        }

    @property
    def cost(self) -> Costs:
        """Parameters, multiply-adds and bytes, beside those of other layers of the same shape."""
        from svertka.explain.cost import costs

        return costs(self.bound, self.x.shape)

    @property
    def path(self) -> str:
        """Who computes the layer on float32 tensors like this one, without gradients: a kernel, or torch and why."""
        import torch

        from svertka.engine import dispatch

        operation = self.bound.operation
        arrays: list[Array | None] = [] if self.bound.weight is None else [self.bound.weight]
        if not isinstance(operation, spec.WeightedPool) and arrays:
            arrays.append(self.bound.bias)
        tensors = [None if a is None else torch.from_numpy(a).float() for a in arrays]
        with torch.no_grad():
            call = dispatch.path(operation, torch.from_numpy(self.x[None]).float(), *tensors)
        return f"{call.path}: {call.detail}"

    def connections(self) -> Connections:
        """Which outputs see which inputs, and through which weights."""
        from svertka.explain.connections import Connections

        return Connections(self.bound, self.x.shape)

    def receptive_field(self, at: Sequence[int] | None = None) -> ReceptiveField:
        """What an output of the layer sees: (*position) or (channel, *position) of it; the middle one if None."""
        from svertka.explain.fields import of_layer

        return of_layer(self.bound, self.x.shape, at)

    def matrix(self) -> csr_array:
        """The operation as a SciPy sparse matrix; see `svertka.explain.matrix`."""
        from svertka.explain.matrix import matrix

        return matrix(self.steps)

    def matrix_names(self) -> list[list[str]]:
        """The matrix with the names of the weights, k11 … as on the lecture's slide."""
        from svertka.explain.matrix import names

        return names(self.steps)

    def frames(self, channel: int = 0, at: Sequence[int] | None = None) -> Frames:
        """The frames of the animation: one for each output of a channel, in row-major order.

        Args:
            channel: of the output.
            at: a position of the output that must be among them, where the input is too large to be drawn in full.
        """
        from svertka.explain.draw.frames import Frames

        return Frames(self.steps, self.title, channel, at)

    def svg(self, number: int = 0, channel: int = 0) -> str:
        """One frame as a whole SVG."""
        from svertka.explain.draw.animate import still

        return still(self.frames(channel), number)

    def animate(self, path: str | Path, seconds: float = 0.8, channel: int = 0) -> None:
        """Writes the animation to a file: .svg or .gif, which play by themselves, or .html, a page with a player.

        Args:
            path: its ending says which kind.
            seconds: how long each frame stands.
            channel: of the output.
        """
        from svertka.explain.draw.animate import write

        write(self.frames(channel), Path(path), seconds)

    def print(self, console: Console | None = None, at: Sequence[int] | None = None) -> None:
        """Prints one number and all that it is made of.

        Args:
            console: rich's; a new one if None.
            at: (channel, *position) of the output; the first one if None.
        """
        from rich.console import Console

        (console or Console()).print(self._terminal(at))

    def __rich__(self) -> View:
        return self._terminal(None)

    def _terminal(self, at: Sequence[int] | None) -> View:
        from svertka.explain.draw.terminal import view

        return view(self.steps, self.title, at or (0,) * self.output.ndim)

    def _repr_html_(self) -> str:
        from svertka.explain.draw.animate import embedded

        return embedded(self.frames())
