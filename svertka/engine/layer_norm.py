"""Layer norm over the innermost axes, and its gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from svertka.engine.launch import Launch, address
from svertka.engine.layout import scratch_floats
from svertka.kernels.layer_norm import LAYER_NORM, LAYER_NORM_GRADIENT, LayerNorm, LayerNormGradient
from svertka.kernels.moments import TOGETHER, Moments

_TASK = 1 << 14  # numbers in a task, about


def prepare_layer_norm(
    x: Tensor, columns: int, eps: float, scale: bool, shift: bool, statistics: bool = False
) -> LayerNormRunner:
    """A runner of (x, γ, β) for x, contiguous, that norms each `columns` neighbours, see `kernels.layer_norm`.

    With `statistics` it gives (y, mean, 1 / √(variance + ε)), the latter with a number for each row.
    """
    return LayerNormRunner(LayerNorm(eps, scale, shift, statistics), x.numel() // columns, columns)


class LayerNormRunner:
    """Layer norm of matrices of one size."""

    detail = "layer norm"

    def __init__(self, spec: LayerNorm, rows: int, columns: int) -> None:
        part = min(max(_TASK // columns, 1), rows)
        self.rows, self.statistics = rows, spec.statistics
        self.launch = Launch(LAYER_NORM, spec, None, -(-rows // part), rows=rows, columns=columns, rows_in_task=part)

    def __call__(self, x: Tensor, gamma: Tensor | None = None, beta: Tensor | None = None) -> Any:
        y = torch.empty_like(x)
        mean, inverse = (torch.empty(self.rows) if self.statistics else None for _ in range(2))
        self.launch(*map(address, (x, gamma, beta, y, mean, inverse)))
        return (y, mean, inverse) if self.statistics else y


def prepare_layer_norm_gradient(
    x: Tensor, columns: int, scale: bool, lines: bool, wants_x: bool
) -> LayerNormGradientRunner:
    """A runner of (dy, x, γ, mean, 1 / √(variance + ε)) → (dx, dγ, dβ), all contiguous; what isn't wanted is None."""
    return LayerNormGradientRunner(LayerNormGradient(scale, lines, wants_x), x.numel() // columns, columns)


class LayerNormGradientRunner:
    """The gradients of layer norm of matrices of one size."""

    detail = "layer norm gradient"

    def __init__(self, spec: LayerNormGradient, rows: int, columns: int) -> None:
        part = min(max(_TASK // columns, 1), rows)
        tasks = -(-rows // part)
        self.spec, self.columns, self.room = spec, columns, 2 * tasks * columns
        self.launch = Launch(LAYER_NORM_GRADIENT, spec, None, tasks, rows=rows, columns=columns, rows_in_task=part)
        self.together = Launch(TOGETHER, Moments(True), None, 1, rows=rows, columns=columns, chunk=part, chunks=tasks)

    def __call__(
        self, dy: Tensor, x: Tensor, gamma: Tensor | None, mean: Tensor, inverse: Tensor
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        dx = torch.empty_like(x) if self.spec.x else None
        sums = scratch_floats(self.room, "sums") if self.spec.lines else None
        self.launch(*map(address, (dy, x, gamma, mean, inverse, dx, sums)))
        if sums is None:
            return dx, None, None
        d_gamma, d_beta = torch.empty(self.columns), torch.empty(self.columns)
        self.together(address(sums), address(d_beta), address(d_gamma))
        return dx, d_gamma, d_beta
