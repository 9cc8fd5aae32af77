"""The gradients of transposed convolutions: to the input a convolution, to the weight that of a convolution.

y = Cᵀ x  ⇒  dx = C dy,  and dw is that of the convolution C whose input is dy and whose output has the gradient x.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from svertka import spec
from svertka.engine.dense import prepare_convolution, prepare_transposed
from svertka.engine.dense_gradients import ConvolutionStep, prepare_weight_gradient
from svertka.engine.step import Step


def prepare_transposed_step(
    operation: spec.TransposedConvolution, x: Tensor, weight: Tensor, bias: Tensor | None = None
) -> Step | str:
    """A transposed convolution and its gradients, or why there are none."""
    runner = prepare_transposed(operation, x, weight, bias)
    if isinstance(runner, str):
        return runner
    forward = spec.Convolution(tuple(window.window for window in operation.windows), operation.groups)
    size = operation.output_size(x.shape[2:])
    if forward.output_size(size) != tuple(x.shape[2:]):
        return "it needs gradients, and its output padding makes room for more inputs than there are"
    return _TransposedStep(forward, runner)


class _TransposedStep(ConvolutionStep):
    def input_gradient(self, x: Tensor, weight: Tensor, dy: Tensor) -> Any:  # noqa: ARG002
        return prepare_convolution(self.operation, dy, weight, None, changing=True)

    def weight_gradient(self, x: Tensor, weight: Tensor, dy: Tensor, bias: bool) -> Any:  # noqa: ARG002
        run = prepare_weight_gradient(self.operation, dy, weight, x, False)
        return lambda x, dy: run(dy, x)
