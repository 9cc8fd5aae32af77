"""The lecture's layer as a module: convolution → norm → nonlinearity → pooling."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor, nn

from svertka import functional as F
from svertka import spec
from svertka import window as geometry
from svertka.engine.dispatch import trains
from svertka.nn import BatchNorm2d, Conv2d, MaxPool2d
from svertka.window import Window

Size = Sequence[int]


class Block(nn.Module):
    """Convolution → norm → nonlinearity → pooling; whatever is None is left out.

    An input too small for a window of the convolution or of the pooling gets zeros after its end until one fits.

    Shapes:
        [N, C, height, width] → [N, out_channels, *output_size((height, width))].
    """

    def __init__(
        self,
        conv: Conv2d,
        norm: nn.Module | None = None,
        activation: nn.Module | None = None,
        pool: MaxPool2d | None = None,
    ) -> None:
        super().__init__()
        self.conv, self.norm, self.activation, self.pool = conv, norm, activation, pool

    def forward(self, input: Tensor) -> Tensor:
        """[N, C, height, width] → [N, out_channels, *output size]."""
        x = fitted(input, self.conv)
        block = self._as_one(x)
        if block is not None:
            return F.run(block, x, self.conv.weight, self.conv.bias)  # type: ignore[no-any-return]
        x = self.conv(x)
        if isinstance(self.norm, BatchNorm2d) and self.training and _unwatched(self.norm, self.activation):
            x = self.norm.normalised(x, "relu")
        else:
            x = x if self.norm is None else self.norm(x)
            rectified = self._rectified_pool(x)
            if rectified is not None:
                return F.run(rectified, x)  # type: ignore[no-any-return]
            x = x if self.activation is None else self.activation(x)
        if self.pool is not None:
            x = self.pool(fitted(x, self.pool))
        return x

    def _as_one(self, x: Tensor) -> spec.ConvolutionBlock | None:
        """The spec of the block, if kernels train it as one: then nothing between its parts is kept."""
        if self.norm is not None or type(self.conv) is not Conv2d or torch.compiler.is_compiling():
            return None
        operation = self.conv.operation
        windows = self._pool_after(self.conv, x, operation.output_size(x.shape[2:]))
        if not windows:
            return None
        block = _block_spec(operation, windows)
        return block if trains(block, x, self.conv.weight, self.conv.bias) else None

    def _rectified_pool(self, x: Tensor) -> spec.RectifiedMaxPool | None:
        """The spec of activation and pooling, if kernels train them as one: only the taps that it took are kept."""
        windows = self._pool_after(None, x, x.shape[2:])
        return _rectified_spec(windows) if windows and trains(_rectified_spec(windows), x) else None

    def _pool_after(self, part: nn.Module | None, x: Tensor, size: Size) -> tuple[Window, ...]:
        """The windows of a maximum pooling, if it and a ReLU follow; () if not, or if anybody looks on."""
        pool = self.pool
        if not isinstance(pool, MaxPool2d) or pool.return_indices or x.ndim != 4 or torch.compiler.is_compiling():
            return ()
        if not (_unwatched(pool, self.activation) and _unwatched(part, self.activation)):
            return ()
        windows: tuple[Window, ...] = pool.operation.windows
        return () if any(window.missing(n) for window, n in zip(windows, size, strict=True)) else windows

    def output_size(self, size: Size) -> tuple[int, ...]:
        """(height, width) of the output for an input of this (height, width)."""
        for layer in (self.conv, self.pool):
            if layer is None:
                continue
            windows = layer.operation.windows
            size = [w.output_size(n + w.missing(n)) for w, n in zip(windows, size, strict=True)]
        return tuple(size)


@cache
def _block_spec(operation: spec.Convolution, pool: tuple[Window, ...]) -> spec.ConvolutionBlock:
    return spec.ConvolutionBlock(operation.windows, operation.groups, spec.Activation("relu"), pool)


@cache
def _rectified_spec(windows: tuple[Window, ...]) -> spec.RectifiedMaxPool:
    return spec.RectifiedMaxPool(windows)


def _unwatched(norm: nn.Module | None, activation: nn.Module | None) -> bool:
    """Whether the activation is a ReLU, and no hook would miss a call of the two."""
    hooks = torch.nn.modules.module
    watched = (hooks._global_forward_hooks, hooks._global_forward_pre_hooks, hooks._global_backward_hooks)
    own = [
        getattr(part, name)
        for part in (norm, activation)
        for name in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
        if part is not None
    ]
    return type(activation) is nn.ReLU and not any((*watched, *own))


def fitted(x: Tensor, layer: Conv2d | MaxPool2d) -> Tensor:
    """`x` itself, or with as many zeros after its end as it lacks for one window of a layer."""
    axes = [spec.per_axis(value, 2, "size") for value in (layer.kernel_size, layer.dilation, layer.padding)]
    if all(
        pad.__class__ is int and pad >= 0 and n >= geometry.extent(taps, gap)
        for n, taps, gap, pad in zip(x.shape[-2:], *axes, strict=True)
    ):
        return x  # as nearly always; it spares torch.compile to follow how windows are made
    windows: Sequence[Window] = layer.operation.windows
    high, wide = (window.missing(n) for window, n in zip(windows, x.shape[-2:], strict=True))
    return F.pad2d(x, (0, wide, 0, high)) if high or wide else x
