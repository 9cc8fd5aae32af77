"""Layers whose windows follow from the input: pooling to a given size, global, k-max and dynamic pooling; padding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from svertka import arguments, spec
from svertka import functional as F
from svertka.errors import GeometryError
from svertka.window import integer


class _AdaptiveMaxPool:
    """torch.nn's maximum pooling to a given output size: a number, or one or None (keep) for each axis."""

    _ndim: int

    @property
    def operation(self: Any) -> spec.Operation[Any]:
        """The layer's spec."""
        return arguments.adaptive_spec(spec.MaxPool, self._ndim, self.output_size)

    def forward(self: Any, input: Tensor) -> Any:
        """[N, C, *size] → [N, C, *output size], or a pair of it and the indices."""
        return F.run(self.operation, input, return_indices=self.return_indices)


class AdaptiveMaxPool1d(_AdaptiveMaxPool, nn.AdaptiveMaxPool1d):
    """Maximum pooling of [N, C, length] to a given length."""

    _ndim = 1


class AdaptiveMaxPool2d(_AdaptiveMaxPool, nn.AdaptiveMaxPool2d):
    """Maximum pooling of [N, C, height, width] to a given size."""

    _ndim = 2


class AdaptiveMaxPool3d(_AdaptiveMaxPool, nn.AdaptiveMaxPool3d):
    """Maximum pooling of [N, C, depth, height, width] to a given size."""

    _ndim = 3


class _AdaptiveAvgPool:
    """torch.nn's average pooling to a given output size: a number, or one or None (keep) for each axis."""

    _ndim: int

    @property
    def operation(self: Any) -> spec.Operation[Any]:
        """The layer's spec."""
        return arguments.adaptive_spec(spec.AveragePool, self._ndim, self.output_size)

    def forward(self: Any, input: Tensor) -> Any:
        """[N, C, *size] → [N, C, *output size]."""
        return F.run(self.operation, input)


class AdaptiveAvgPool1d(_AdaptiveAvgPool, nn.AdaptiveAvgPool1d):
    """Average pooling of [N, C, length] to a given length."""

    _ndim = 1


class AdaptiveAvgPool2d(_AdaptiveAvgPool, nn.AdaptiveAvgPool2d):
    """Average pooling of [N, C, height, width] to a given size."""

    _ndim = 2


class AdaptiveAvgPool3d(_AdaptiveAvgPool, nn.AdaptiveAvgPool3d):
    """Average pooling of [N, C, depth, height, width] to a given size."""

    _ndim = 3


class _AdaptiveLPPool(nn.Module):
    """(Σ |x|^p)^(1/p) over the windows of adaptive pooling.

    Args:
        norm_type: p, above 0 or ∞.
        output_size: a number, or one or None (keep) for each axis.
    """

    _ndim: int

    def __init__(self, norm_type: float, output_size: Any) -> None:
        super().__init__()
        self.norm_type, self.output_size = float(norm_type), output_size
        self.operation  # noqa: B018 (raises for sizes that make no window)

    @property
    def operation(self) -> spec.Operation[Any]:
        """The layer's spec."""
        return arguments.adaptive_spec(spec.LpPool, self._ndim, self.output_size, self.norm_type)

    def forward(self, input: Tensor) -> Any:
        """[N, C, *size] → [N, C, *output size]."""
        return F.run(self.operation, input)

    def extra_repr(self) -> str:
        """The arguments, for `print(layer)`."""
        return f"norm_type={self.norm_type}, output_size={self.output_size}"


class AdaptiveLPPool1d(_AdaptiveLPPool):
    """Lp pooling of [N, C, length] to a given length."""

    _ndim = 1


class AdaptiveLPPool2d(_AdaptiveLPPool):
    """Lp pooling of [N, C, height, width] to a given size."""

    _ndim = 2


class AdaptiveLPPool3d(_AdaptiveLPPool):
    """Lp pooling of [N, C, depth, height, width] to a given size."""

    _ndim = 3


class GlobalMaxPool1d(AdaptiveMaxPool1d):
    """The largest of each channel: [N, C, length] → [N, C, 1]."""

    def __init__(self) -> None:
        super().__init__(1)


class GlobalMaxPool2d(AdaptiveMaxPool2d):
    """The largest of each channel: [N, C, height, width] → [N, C, 1, 1]."""

    def __init__(self) -> None:
        super().__init__(1)


class GlobalMaxPool3d(AdaptiveMaxPool3d):
    """The largest of each channel: [N, C, depth, height, width] → [N, C, 1, 1, 1]."""

    def __init__(self) -> None:
        super().__init__(1)


class GlobalAvgPool1d(AdaptiveAvgPool1d):
    """The mean of each channel: [N, C, length] → [N, C, 1]."""

    def __init__(self) -> None:
        super().__init__(1)


class GlobalAvgPool2d(AdaptiveAvgPool2d):
    """The mean of each channel: [N, C, height, width] → [N, C, 1, 1]."""

    def __init__(self) -> None:
        super().__init__(1)


class GlobalAvgPool3d(AdaptiveAvgPool3d):
    """The mean of each channel: [N, C, depth, height, width] → [N, C, 1, 1, 1]."""

    def __init__(self) -> None:
        super().__init__(1)


class GlobalLPPool1d(AdaptiveLPPool1d):
    """The p-norm of each channel: [N, C, length] → [N, C, 1]."""

    def __init__(self, norm_type: float) -> None:
        super().__init__(norm_type, 1)


class GlobalLPPool2d(AdaptiveLPPool2d):
    """The p-norm of each channel: [N, C, height, width] → [N, C, 1, 1]."""

    def __init__(self, norm_type: float) -> None:
        super().__init__(norm_type, 1)


class GlobalLPPool3d(AdaptiveLPPool3d):
    """The p-norm of each channel: [N, C, depth, height, width] → [N, C, 1, 1, 1]."""

    def __init__(self, norm_type: float) -> None:
        super().__init__(norm_type, 1)


class KMaxPool1d(nn.Module):
    """The k largest of each sequence in the order they stand in: [N, C, L] → [N, C, k] (Kalchbrenner 2014, 3.2)."""

    def __init__(self, k: int) -> None:
        super().__init__()
        self.k = integer(k, "k", 1)

    def forward(self, input: Tensor) -> Tensor:
        """[N, C, L] → [N, C, k], L ≥ k."""
        return F.k_max_pool1d(input, self.k)

    def extra_repr(self) -> str:
        """The arguments, for `print(layer)`."""
        return f"k={self.k}"


class DynamicKMaxPool1d(nn.Module):
    """k-max pooling with k from the length: max(k_top, ⌈(layers − layer) / layers · L⌉) (Kalchbrenner 2014, 3.3).

    Args:
        k_top: k of the topmost layer, a constant.
        layer: number of this convolutional layer, from 1.
        layers: number of convolutional layers in all.
        length: L, the length of the network's input; None takes that of the layer's own.
    """

    def __init__(self, k_top: int, layer: int, layers: int) -> None:
        super().__init__()
        if k_top < 1 or not 1 <= layer <= layers:
            raise GeometryError(
                f"a dynamic k-max pooling needs k_top ≥ 1 and 1 ≤ layer ≤ layers, but got "
                f"k_top={k_top}, layer={layer}, layers={layers}"
            )
        self.k_top, self.layer, self.layers = k_top, layer, layers

    def k(self, length: int) -> int:
        """The number of values kept from sentences of `length`."""
        return max(self.k_top, -(-(self.layers - self.layer) * length // self.layers))

    def forward(self, input: Tensor, length: int | None = None) -> Tensor:
        """[N, C, L] → [N, C, k(length)]; `length` is the sentence's, by default L."""
        return F.k_max_pool1d(input, self.k(input.shape[-1] if length is None else length))

    def extra_repr(self) -> str:
        """The arguments, for `print(layer)`."""
        return f"k_top={self.k_top}, layer={self.layer}, layers={self.layers}"


class DynamicPool1d(nn.Module):
    """Maximum or mean of each segment of a sequence: nearly equal parts, or parts that each sample brings along.

    Socher et al. 2011, section 2.3 (equal parts); Chen et al. 2015, "dynamic multi-pooling" (given boundaries).

    Args:
        segments: number of equal parts; None expects boundaries with each call.
        kind: "max" or "average".
    """

    def __init__(self, segments: int | None = None, kind: str = "max") -> None:
        super().__init__()
        if segments is not None:
            spec.segments(1, segments, overlap=False)
        self.segments, self.kind = segments, kind

    def forward(self, input: Tensor, boundaries: Tensor | None = None) -> Tensor:
        """[N, C, L] → [N, C, S]; boundaries: int64 [N, S − 1], rising from 0 to L."""
        return F.dynamic_pool1d(input, None if boundaries is not None else self.segments, boundaries, self.kind)

    def extra_repr(self) -> str:
        """The arguments, for `print(layer)`."""
        return f"segments={self.segments}, kind={self.kind!r}"


class _Pad(nn.Module):
    """The padded input, in any mode and of any width; negative numbers cut off.

    Args:
        padding: one number for all sides, or (left, right, top, bottom, front, back), the last axis first.
        mode: "zeros", "replicate", "reflect", "symmetric" or "circular".
        value: what stands outside in mode "zeros".
    """

    _ndim: int

    def __init__(self, padding: int | Sequence[int], mode: str = "zeros", value: float = 0.0) -> None:
        super().__init__()
        self.padding, self.mode, self.value = padding, mode, value
        self.operation  # noqa: B018 (raises for arguments that make no window)

    @property
    def operation(self) -> spec.Pad:
        """The layer's spec, from its attributes as they are now."""
        return arguments.pad_spec(self._ndim, self.padding, self.mode, self.value)

    def forward(self, input: Tensor) -> Any:
        """[N, C, *size] → [N, C, *padded size]."""
        return F.run(self.operation, input)

    def extra_repr(self) -> str:
        """The arguments, for `print(layer)`."""
        return f"padding={self.padding}, mode={self.mode!r}, value={self.value}"


class Pad1d(_Pad):
    """Padding of [N, C, length]; arguments as in `_Pad`."""

    _ndim = 1


class Pad2d(_Pad):
    """Padding of [N, C, height, width]; arguments as in `_Pad`."""

    _ndim = 2


class Pad3d(_Pad):
    """Padding of [N, C, depth, height, width]; arguments as in `_Pad`."""

    _ndim = 3
