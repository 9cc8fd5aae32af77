"""Layer norm over the innermost axes."""

from __future__ import annotations

import torch
from torch import Tensor

from svertka.engine.launch import Launch, address
from svertka.kernels.layer_norm import LAYER_NORM, LayerNorm

_TASK = 1 << 14  # numbers in a task, about


def prepare_layer_norm(x: Tensor, columns: int, eps: float, scale: bool, shift: bool) -> LayerNormRunner:
    """A runner of (x, γ, β) for x, contiguous, that norms each `columns` neighbours, see `kernels.layer_norm`."""
    return LayerNormRunner(LayerNorm(eps, scale, shift), x.numel() // columns, columns)


class LayerNormRunner:
    """Layer norm of matrices of one size."""

    detail = "layer norm"

    def __init__(self, spec: LayerNorm, rows: int, columns: int) -> None:
        part = min(max(_TASK // columns, 1), rows)
        self.launch = Launch(LAYER_NORM, spec, None, -(-rows // part), rows=rows, columns=columns, rows_in_task=part)

    def __call__(self, x: Tensor, gamma: Tensor | None = None, beta: Tensor | None = None) -> Tensor:
        y = torch.empty_like(x)
        self.launch(address(x), address(gamma), address(beta), address(y))
        return y
