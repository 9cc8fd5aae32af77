"""Pooling and padding layers; one N-d class under each 1d, 2d and 3d."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from svertka import arguments, spec
from svertka import functional as F
from svertka.errors import GeometryError
from svertka.functional import Padding, Sizes


class _Pool(nn.Module):
    """The windows that every pooling layer has; `_details` is what its spec adds to them."""

    _ndim: int
    _kind: type[spec.Operation[Any]]
    kernel_size: Any
    stride: Any
    padding: Any = 0
    dilation: Any = 1
    ceil_mode: bool = False
    padding_mode: str = "zeros"

    def _details(self) -> tuple[Any, ...]:
        return ()

    @property
    def operation(self) -> spec.Operation[Any]:
        """The layer's spec, from its attributes as they are now."""
        return arguments.pool_spec(
            self._kind, self._ndim, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode,
            self.padding_mode, *self._details(),
        )  # fmt: skip

    def _set(self, padding: Any, dilation: Any, padding_mode: str) -> None:
        """Sets what torch's constructor doesn't know, and raises for arguments that make no window."""
        self.padding, self.dilation, self.padding_mode = padding, dilation, padding_mode
        if self.stride is None:
            self.stride = self.kernel_size
        self.operation  # noqa: B018

    def forward(self, input: Tensor) -> Any:
        """[N, C, *size] → [N, C, *output size]."""
        return F.run(self.operation, input)

    def extra_repr(self) -> str:
        """The arguments that describe the window, for `print(layer)`."""
        names = [
            "norm_type", "kernel_size", "stride", "padding", "dilation", "ceil_mode", "padding_mode",
            "return_indices", "count_include_pad", "divisor_override", "generator",
        ]  # fmt: skip
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in names if hasattr(self, name))


class _MaxPool(_Pool):
    """torch.nn's maximum pooling with all padding modes, named paddings, and padding of any width.

    Args:
        kernel_size, stride, dilation, return_indices, ceil_mode: as in torch.nn.
        padding: a number, a name, or one of these or a pair (before, after) for each axis.
        padding_mode: "zeros" (the padding takes no part), "replicate", "reflect", "symmetric" or "circular".
    """

    _kind = spec.MaxPool

    def __init__(
        self,
        kernel_size: Sizes,
        stride: Sizes | None = None,
        padding: Padding = 0,
        dilation: Sizes = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
        *,
        padding_mode: str = "zeros",
    ) -> None:
        super().__init__(kernel_size, stride, 0, dilation, return_indices, ceil_mode)
        self._set(padding, dilation, padding_mode)

    def forward(self: Any, input: Tensor) -> Any:
        """[N, C, *size] → [N, C, *output size], or a pair of it and the indices."""
        return F.run(self.operation, input, return_indices=self.return_indices)


class MaxPool1d(_MaxPool, nn.MaxPool1d):
    """Maximum pooling of [N, C, length]; arguments as in `_MaxPool`."""

    _ndim = 1


class MaxPool2d(_MaxPool, nn.MaxPool2d):
    """Maximum pooling of [N, C, height, width]; arguments as in `_MaxPool`."""

    _ndim = 2


class MaxPool3d(_MaxPool, nn.MaxPool3d):
    """Maximum pooling of [N, C, depth, height, width]; arguments as in `_MaxPool`."""

    _ndim = 3


class _AvgPool(_Pool):
    """torch.nn's average pooling with all padding modes, named paddings, dilation, and padding of any width.

    Args:
        kernel_size, stride, ceil_mode, count_include_pad, divisor_override: as in torch.nn.
        padding: a number, a name, or one of these or a pair (before, after) for each axis.
        padding_mode: "zeros", "replicate", "reflect", "symmetric" or "circular".
    """

    _kind = spec.AveragePool
    divisor_override: Any
    count_include_pad: bool

    def __init__(
        self,
        kernel_size: Sizes,
        stride: Sizes | None = None,
        padding: Padding = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: float | None = None,
        *,
        dilation: Sizes = 1,
        padding_mode: str = "zeros",
    ) -> None:
        nn.Module.__init__(self)
        self.kernel_size, self.stride, self.ceil_mode = kernel_size, stride, ceil_mode
        self.count_include_pad, self.divisor_override = count_include_pad, divisor_override
        self._set(padding, dilation, padding_mode)

    def _details(self) -> tuple[Any, ...]:
        return self.count_include_pad, self.divisor_override


class AvgPool1d(_AvgPool, nn.AvgPool1d):
    """Average pooling of [N, C, length]; arguments as in `_AvgPool`."""

    _ndim = 1


class AvgPool2d(_AvgPool, nn.AvgPool2d):
    """Average pooling of [N, C, height, width]; arguments as in `_AvgPool`."""

    _ndim = 2


class AvgPool3d(_AvgPool, nn.AvgPool3d):
    """Average pooling of [N, C, depth, height, width]; arguments as in `_AvgPool`."""

    _ndim = 3


class _LPPool(_Pool):
    """(Σ |x|^p)^(1/p) of each window, for any p > 0 and ∞, right for signed input.

    Args:
        norm_type: p.
        kernel_size, stride, ceil_mode: as in torch.nn.
        padding, dilation, padding_mode: as in the other pools.
    """

    _kind = spec.LpPool
    norm_type: float

    def __init__(
        self,
        norm_type: float,
        kernel_size: Sizes,
        stride: Sizes | None = None,
        ceil_mode: bool = False,
        *,
        padding: Padding = 0,
        dilation: Sizes = 1,
        padding_mode: str = "zeros",
    ) -> None:
        super().__init__(norm_type, kernel_size, stride, ceil_mode)
        self._set(padding, dilation, padding_mode)

    def _details(self) -> tuple[Any, ...]:
        return (self.norm_type,)


class LPPool1d(_LPPool, nn.LPPool1d):
    """Lp pooling of [N, C, length]; arguments as in `_LPPool`."""

    _ndim = 1


class LPPool2d(_LPPool, nn.LPPool2d):
    """Lp pooling of [N, C, height, width]; arguments as in `_LPPool`."""

    _ndim = 2


class LPPool3d(_LPPool, nn.LPPool3d):
    """Lp pooling of [N, C, depth, height, width]; arguments as in `_LPPool`."""

    _ndim = 3


class _WeightedAvgPool(_Pool):
    """Σ w·x / Σ w of each window: weights that are given, or learned.

    Args:
        kernel_size, stride, padding, dilation, padding_mode, count_include_pad: as in average pooling.
        weight: [*kernel_size], or [channels, *kernel_size] for weights of each channel's own; not negative, with a
            positive sum. It is kept as a buffer. None learns the weights: they are the softmax of the parameter
            `logits`, which starts at 0, where the layer is an average pooling.
        channels: number of channels with learned weights of their own; 1 shares them.
    """

    _kind = spec.WeightedPool
    count_include_pad: bool

    def __init__(
        self,
        kernel_size: Sizes,
        stride: Sizes | None = None,
        padding: Padding = 0,
        count_include_pad: bool = True,
        *,
        weight: Any = None,
        channels: int = 1,
        dilation: Sizes = 1,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.kernel_size = spec.per_axis(kernel_size, self._ndim, "kernel_size")
        self.stride, self.count_include_pad = stride, count_include_pad
        self._set(padding, dilation, padding_mode)
        if weight is None:
            self.logits = nn.Parameter(torch.zeros(channels, *self.kernel_size, device=device, dtype=dtype))
        else:
            self.register_buffer("given", self._normalised(torch.as_tensor(weight, device=device, dtype=dtype)))

    def _normalised(self, weight: Tensor) -> Tensor:
        weight = weight if weight.is_floating_point() else weight.to(torch.get_default_dtype())
        weight = weight[None] if weight.ndim == self._ndim else weight
        sums = weight.sum(tuple(range(1, weight.ndim)), keepdim=True)
        if weight.shape[1:] != self.kernel_size or (weight < 0).any() or not (sums > 0).all():
            raise GeometryError(
                f"the weight of a weighted pooling must be [*kernel_size] or [channels, *kernel_size] with "
                f"kernel_size={self.kernel_size}, not negative and of positive sum, but got shape "
                f"{list(weight.shape)} with values {weight.min().item():g} … {weight.max().item():g}"
            )
        return weight / sums

    @property
    def weight(self) -> Tensor:
        """[channels or 1, *kernel_size], the sum of each channel 1."""
        if "given" in self._buffers:
            return self.given  # type: ignore[return-value]
        return self.logits.flatten(1).softmax(1).view_as(self.logits)

    def _details(self) -> tuple[Any, ...]:
        return (self.count_include_pad,)

    def forward(self, input: Tensor) -> Any:
        """[N, C, *size] → [N, C, *output size]."""
        return F.run(self.operation, input, self.weight)


class WeightedAvgPool1d(_WeightedAvgPool):
    """Weighted average pooling of [N, C, length]; arguments as in `_WeightedAvgPool`."""

    _ndim = 1


class WeightedAvgPool2d(_WeightedAvgPool):
    """Weighted average pooling of [N, C, height, width]; arguments as in `_WeightedAvgPool`."""

    _ndim = 2


class WeightedAvgPool3d(_WeightedAvgPool):
    """Weighted average pooling of [N, C, depth, height, width]; arguments as in `_WeightedAvgPool`."""

    _ndim = 3


class _StochasticPool(_Pool):
    """In training a draw from each window with probability ∝ max(x, 0); in evaluation the mean weighted by it.

    Zeiler & Fergus 2013, "Stochastic pooling for regularization of deep convolutional neural networks", section 3.

    Args:
        kernel_size, stride, padding, dilation, ceil_mode, padding_mode: as in maximum pooling.
        generator: draws from it instead of torch's default one.
    """

    _kind = spec.StochasticPool

    def __init__(
        self,
        kernel_size: Sizes,
        stride: Sizes | None = None,
        padding: Padding = 0,
        dilation: Sizes = 1,
        ceil_mode: bool = False,
        *,
        padding_mode: str = "zeros",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.kernel_size, self.stride, self.ceil_mode, self.generator = kernel_size, stride, ceil_mode, generator
        self._set(padding, dilation, padding_mode)

    def _details(self) -> tuple[Any, ...]:
        return (self.training,)

    def forward(self, input: Tensor) -> Any:
        """[N, C, *size] → [N, C, *output size]."""
        return F.run(self.operation, input, generator=self.generator)


class StochasticPool1d(_StochasticPool):
    """Stochastic pooling of [N, C, length]; arguments as in `_StochasticPool`."""

    _ndim = 1


class StochasticPool2d(_StochasticPool):
    """Stochastic pooling of [N, C, height, width]; arguments as in `_StochasticPool`."""

    _ndim = 2


class StochasticPool3d(_StochasticPool):
    """Stochastic pooling of [N, C, depth, height, width]; arguments as in `_StochasticPool`."""

    _ndim = 3
