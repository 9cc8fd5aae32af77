"""The gradients of blocks: convolution, ReLU, maximum pooling. What is between them is kept nowhere.

    y = max over a window of max(Σ w·x + b, 0)      forward keeps the tap that each y took, a byte, or none where y = 0

The convolution's result lies in scratch memory until it is pooled. Backward the gradient to the weight takes dy and the
taps as they are, if the windows don't overlap; the one to the input needs dy spread out first, in scratch memory, too,
and then the weight's takes it from there if it is by Winograd's algorithm.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from svertka import spec
from svertka import window as geometry
from svertka.engine import winograd_gradient
from svertka.engine.dense import prepare_convolution
from svertka.engine.dense_gradients import ConvolutionStep, WeightGradientRunner
from svertka.engine.gathering import prepare_gathering
from svertka.engine.layout import channels_last, empty, passing
from svertka.engine.packing import changing
from svertka.engine.pools import prepare_pool
from svertka.engine.step import Saved, Step
from svertka.window import OUTSIDE

_MOST_PLACES = 16  # of a window that is spread out in the cache
_SLOT = "block"


def prepare_block_step(
    operation: spec.ConvolutionBlock,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    scale: Tensor | None = None,
    residual: Tensor | None = None,
) -> Step | str:
    """A block and its gradients, or why there are none."""
    activation = operation.activation
    if (
        activation is None
        or activation.name != "relu"
        or not operation.pool
        or scale is not None
        or residual is not None
    ):
        return "it needs gradients, which blocks have that are a convolution, a ReLU and a maximum pooling"
    if 1 < operation.groups == x.shape[1]:
        return "it needs gradients, and channels are kept apart"
    runner = prepare_convolution(operation.convolution, x, weight, bias, changing=True)
    if isinstance(runner, str):
        return runner
    last = channels_last(x) or channels_last(weight)
    inner = empty((x.shape[0], weight.shape[0], *operation.convolution.output_size(x.shape[2:])), last)
    windows = operation.pool
    parts = (
        prepare_pool(spec.RectifiedMaxPool(windows), inner, taps=True),
        prepare_gathering("taken", windows, inner),
    )
    reason = next((part for part in parts if isinstance(part, str)), "")
    return reason or _BlockStep(operation, runner, *parts, inner)


class _BlockStep(ConvolutionStep):
    """`order`: the places of the convolution's result, window by window; None if windows overlap or stick out."""

    def __init__(self, operation: spec.ConvolutionBlock, runner: Any, pool: Any, spread: Any, inner: Tensor) -> None:
        super().__init__(operation.convolution, runner)
        self.pool, self.spread = pool, spread
        self.detail = f"{runner.detail}, then ReLU and maximum in one pass"
        order = geometry.sources(operation.pool, inner.shape[2:])
        order = order.reshape(-1, order.shape[-1])
        apart = (order != OUTSIDE).all() and len(np.unique(order)) == order.size
        self.inner = inner.stride()
        self.order: Any = order if apart and order.shape[-1] <= _MOST_PLACES and channels_last(inner) else None

    def forward(self, x: Tensor, *tensors: Tensor | None, **_: Any) -> tuple[tuple[Tensor, ...], list[Tensor]]:
        with changing(), passing(_SLOT):
            inner = self.runner(x, *tensors)
        y, taken = self.pool(inner)
        return (y,), [taken]

    def backward(self, dy: Tensor, saved: Saved) -> Sequence[Tensor | None]:
        (taken,) = saved.kept
        needed, needs_weight, needs_bias = (*saved.needs, False)[:3]
        if self.order is None or (needed and needs_weight and self._by_winograd(saved.x, saved.tensors[0], needs_bias)):
            return super().backward(self._spread_out(dy, taken), saved)
        x, weight, dx, dw, db = saved.x, saved.tensors[0], None, None, None
        assert weight is not None
        if needed:
            (dx, *_) = super().backward(self._spread_out(dy, taken), saved._replace(needs=(True, False, False)))
        if needs_weight or needs_bias:
            run = self.remembered(("pooled", needs_bias), lambda: self._pooled_gradient(x, weight, dy, needs_bias))
            dw, db = run(x, dy, taken)
        return [dx, dw, db][: len(saved.needs)]

    def _by_winograd(self, x: Tensor, weight: Any, bias: bool) -> bool:
        """Whether the gradient to the weight is by Winograd's algorithm, of dy as `_spread_out` gives it."""

        def prepared() -> Any:
            dy = empty((len(x), weight.shape[0], *self.operation.output_size(x.shape[2:])), True)
            return self.weight_gradient(x, weight, dy, bias)

        return isinstance(self.remembered(("weight", self.inner, bias), prepared), winograd_gradient.Runner)

    def _spread_out(self, dy: Tensor, taken: Tensor) -> Tensor:
        with passing(_SLOT):
            return self.spread(dy, taken)  # type: ignore[no-any-return]

    def _pooled_gradient(self, x: Tensor, weight: Tensor, dy: Tensor, bias: bool) -> Any:
        sources = geometry.sources(self.operation.windows, x.shape[2:])
        sources = sources.reshape(-1, sources.shape[-1])[self.order.reshape(-1)]
        return WeightGradientRunner(self.operation, sources, x, weight, dy, bias, pooled=self.order.shape[-1])
