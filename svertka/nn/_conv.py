"""Convolution layers: ordinary, transposed, separable, unshared; one N-d class under each 1d, 2d and 3d."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.parameter import UninitializedParameter

from svertka import arguments, spec
from svertka import functional as F
from svertka.engine.precision import noted, of_layer
from svertka.errors import GeometryError
from svertka.functional import Padding, Sizes
from svertka.window import integer


class _Conv:
    """torch.nn's convolution with all padding modes and named paddings.

    Args:
        in_channels, out_channels, kernel_size, stride, dilation, groups, bias, device, dtype: as in torch.nn.
        padding: a number, a name ("valid", "same", "same_upper", "same_lower"), or one of these or a pair
            (before, after) for each axis.
        padding_mode: "zeros", "replicate", "reflect", "symmetric" or "circular".

    Attributes:
        precision: "strict" or "fast" for this layer alone, see `svertka.set_precision`; None for what holds elsewhere.

    Shapes:
        input [N, in_channels, *size] or [in_channels, *size], output [N, out_channels, *output size];
        weight [out_channels, in_channels / groups, *kernel_size], bias [out_channels].

    Raises:
        GeometryError: (a ValueError) for arguments that make no window.
    """

    _ndim: int
    padding_mode: Any
    precision: str | None = None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Sizes,
        stride: Sizes = 1,
        padding: Padding = 0,
        dilation: Sizes = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        arguments.convolution_spec(self._ndim, kernel_size, stride, padding, dilation, groups, padding_mode)
        sizes = {"kernel_size": kernel_size, "stride": stride, "dilation": dilation}
        sizes = {name: spec.per_axis(value, self._ndim, name) for name, value in sizes.items()}
        # torch's constructor knows neither our paddings nor our modes, so they are set after it.
        super().__init__(in_channels, out_channels, **sizes, groups=groups, bias=bias, device=device, dtype=dtype)  # type: ignore[call-arg]
        self.padding = padding if isinstance(padding, str) else spec.per_axis(padding, self._ndim, "padding")
        self.padding_mode = padding_mode

    @property
    def operation(self: Any) -> spec.Convolution:
        """The layer's spec, from its attributes as they are now."""
        return arguments.convolution_spec(
            self._ndim, self.kernel_size, self.stride, self.padding, self.dilation, self.groups, self.padding_mode
        )

    def _conv_forward(self: Any, input: Tensor, weight: Tensor, bias: Tensor | None) -> Any:
        # torch's `forward` and its subclasses with weights of their own making end up here.
        if self.precision is None:
            return self._convolved(input, weight, bias)
        with (noted if torch.compiler.is_compiling() else of_layer)(self.precision):
            return self._convolved(input, weight, bias)

    def _convolved(self: Any, input: Tensor, weight: Tensor, bias: Tensor | None) -> Any:
        # torch.compile would follow, and check before each call, all that makes a spec of the layer's attributes.
        plain = self.padding_mode == "zeros" and self.padding.__class__ is tuple
        if torch.compiler.is_compiling() and plain and all(n.__class__ is int and n >= 0 for n in self.padding):
            return super()._conv_forward(input, weight, bias)  # type: ignore[misc]
        return F.run(self.operation, input, weight, bias)


class Conv1d(_Conv, nn.Conv1d):
    """Convolution of [N, C, length]; arguments as in `_Conv`."""

    _ndim = 1


class Conv2d(_Conv, nn.Conv2d):
    """Convolution of [N, C, height, width]; arguments as in `_Conv`."""

    _ndim = 2


class Conv3d(_Conv, nn.Conv3d):
    """Convolution of [N, C, depth, height, width]; arguments as in `_Conv`."""

    _ndim = 3


class _ConvTranspose:
    """torch.nn's transposed convolution: the adjoint of the convolution with the same arguments.

    Shapes:
        input [N, in_channels, *size], output [N, out_channels, *output size] with the output size
        (n − 1)·stride − 2·padding + extent + output_padding on each axis;
        weight [in_channels, out_channels / groups, *kernel_size], bias [out_channels].
    """

    _ndim: int

    @property
    def operation(self: Any) -> spec.TransposedConvolution:
        """The layer's spec, from its attributes as they are now."""
        return arguments.transposed_spec(
            self._ndim, self.kernel_size, self.stride, self.padding, self.output_padding, self.groups, self.dilation
        )

    def forward(self: Any, input: Tensor, output_size: Sequence[int] | None = None) -> Any:
        """[N, in_channels, *size] → [N, out_channels, *output size]; `output_size` chooses the output padding."""
        operation = self.operation
        if output_size is not None:
            extra = self._output_padding(
                input, output_size, self.stride, self.padding, self.kernel_size, self._ndim, self.dilation
            )
            operation = arguments.transposed_spec(
                self._ndim, self.kernel_size, self.stride, self.padding, tuple(extra), self.groups, self.dilation
            )
        return F.run(operation, input, self.weight, self.bias)


class ConvTranspose1d(_ConvTranspose, nn.ConvTranspose1d):
    """Transposed convolution of [N, C, length]."""

    _ndim = 1


class ConvTranspose2d(_ConvTranspose, nn.ConvTranspose2d):
    """Transposed convolution of [N, C, height, width]."""

    _ndim = 2


class ConvTranspose3d(_ConvTranspose, nn.ConvTranspose3d):
    """Transposed convolution of [N, C, depth, height, width]."""

    _ndim = 3


class _SeparableConv(nn.Module):
    """A depthwise convolution, then a 1×1 one (Chollet 2017, "Xception").

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation, padding_mode: as in `_Conv`.
        depth_multiplier: number of depthwise filters for each input channel.
        bias: of the 1×1 convolution; the depthwise one has none.

    Attributes:
        depthwise, pointwise: the two convolutions; a single multiply-add more or less is theirs.
    """

    _conv: type[Any]

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Sizes,
        stride: Sizes = 1,
        padding: Padding = 0,
        dilation: Sizes = 1,
        depth_multiplier: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        inner = in_channels * depth_multiplier
        self.depthwise = self._conv(
            in_channels, inner, kernel_size, stride, padding, dilation, in_channels, False, padding_mode, device, dtype
        )
        self.pointwise = self._conv(inner, out_channels, 1, bias=bias, device=device, dtype=dtype)

    def forward(self, input: Tensor) -> Tensor:
        """[N, in_channels, *size] → [N, out_channels, *output size]."""
        output: Tensor = self.pointwise(self.depthwise(input))
        return output


class SeparableConv1d(_SeparableConv):
    """Depthwise separable convolution of [N, C, length]; arguments as in `_SeparableConv`."""

    _conv = Conv1d


class SeparableConv2d(_SeparableConv):
    """Depthwise separable convolution of [N, C, height, width]; arguments as in `_SeparableConv`."""

    _conv = Conv2d


class SeparableConv3d(_SeparableConv):
    """Depthwise separable convolution of [N, C, depth, height, width]; arguments as in `_SeparableConv`."""

    _conv = Conv3d


class _LocallyConnected(LazyModuleMixin, nn.Module):
    """Unshared convolution: every place has a weight of its own (Goodfellow et al., Deep Learning, section 9.5).

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode: as in `_Conv`.
        input_size: spatial size of the input, a number or one for each axis; None takes it from the first batch or
            from the loaded weights, as torch's lazy modules do.

    Shapes:
        weight [*output size, out_channels, in_channels / groups, *kernel_size]: `weight[y, x]` is the weight of an
        ordinary convolution at output (y, x); bias [*output size, out_channels].
    """

    _ndim: int

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Sizes,
        input_size: Sizes | None = None,
        stride: Sizes = 1,
        padding: Padding = 0,
        dilation: Sizes = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        if in_channels % integer(groups, "groups", 1) or out_channels % groups:
            raise GeometryError(f"in_channels={in_channels} and out_channels={out_channels} must divide by {groups=}")
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size = spec.per_axis(kernel_size, self._ndim, "kernel_size")
        self.stride = spec.per_axis(stride, self._ndim, "stride")
        self.dilation = spec.per_axis(dilation, self._ndim, "dilation")
        self.padding = padding if isinstance(padding, str) else spec.per_axis(padding, self._ndim, "padding")
        self.padding_mode = padding_mode
        self.operation  # noqa: B018 (raises for arguments that make no window)
        lazily: Any = UninitializedParameter
        self.weight = lazily(device=device, dtype=dtype)
        self.bias = lazily(device=device, dtype=dtype) if bias else None
        if input_size is not None:
            size = spec.per_axis(input_size, self._ndim, "input_size")
            self._infer_parameters(self, (torch.empty(in_channels, *size, device="meta"),))

    @property
    def operation(self) -> spec.Unshared:
        """The layer's spec, from its attributes as they are now."""
        return arguments.unshared_spec(
            self._ndim, self.kernel_size, self.stride, self.padding, self.dilation, self.groups, self.padding_mode
        )

    def initialize_parameters(self, input: Tensor) -> None:
        """Gives the parameters the shapes that fit `input`, [..., in_channels, *size]."""
        if not self.has_uninitialized_params():
            return
        outputs = self.operation.output_size(input.shape[-self._ndim :])
        with torch.no_grad():
            self.weight.materialize((*outputs, self.out_channels, self.in_channels // self.groups, *self.kernel_size))
            if self.bias is not None:
                self.bias.materialize((*outputs, self.out_channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws weight and bias as torch's convolutions do: uniform within ±1/√(taps · in_channels / groups)."""
        bound = 1 / math.sqrt(self.in_channels // self.groups * math.prod(self.kernel_size))
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def forward(self, input: Tensor) -> Any:
        """[N, in_channels, *size] → [N, out_channels, *output size]."""
        return F.run(self.operation, input, self.weight, self.bias)

    def extra_repr(self) -> str:
        """The arguments, for `print(layer)`."""
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}, "
            f"padding={self.padding!r}, dilation={self.dilation}, groups={self.groups}, bias={self.bias is not None}, "
            f"padding_mode={self.padding_mode!r}"
        )


class LocallyConnected1d(_LocallyConnected):
    """Unshared convolution of [N, C, length]; arguments as in `_LocallyConnected`."""

    _ndim = 1


class LocallyConnected2d(_LocallyConnected):
    """Unshared convolution of [N, C, height, width]; arguments as in `_LocallyConnected`."""

    _ndim = 2


class LocallyConnected3d(_LocallyConnected):
    """Unshared convolution of [N, C, depth, height, width]; arguments as in `_LocallyConnected`."""

    _ndim = 3
