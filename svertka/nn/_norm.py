"""Batch norm."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from svertka import functional as F


class _BatchNorm:
    """torch.nn's batch norm: of each channel over all images and places.

    In training, with svertka's kernels, mean and variance are taken in one pass.
    """

    def forward(self: Any, input: Tensor) -> Tensor:
        """[N, C, *size] → the same shape."""
        return self.normalised(input, None)  # type: ignore[no-any-return]

    def normalised(self: Any, input: Tensor, activation: str | None) -> Tensor:
        """`forward`, and the activation ("relu" or None) in the same pass."""
        if not self.training and isinstance(input, Tensor):
            y: Tensor = super().forward(input)  # type: ignore[misc]
            return y if activation is None else y.relu_()
        if not self.training:  # traced by torch.fx, which knows no number of axes to check
            own = self.running_mean is None and self.running_var is None
            return F.batch_norm(
                input, self.running_mean, self.running_var, self.weight, self.bias, own, 0.0, self.eps,
                activation=activation,
            )  # fmt: skip
        self._check_input_dim(input)
        momentum = 0.0 if self.momentum is None else self.momentum
        if self.track_running_stats and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if self.momentum is None:  # the mean of all batches so far
                momentum = 1.0 / float(self.num_batches_tracked)
        mean, variance = (self.running_mean, self.running_var) if self.track_running_stats else (None, None)
        return F.batch_norm(
            input, mean, variance, self.weight, self.bias, True, momentum, self.eps, activation=activation
        )


class BatchNorm1d(_BatchNorm, nn.BatchNorm1d):
    """Batch norm of [N, C] or [N, C, length]."""


class BatchNorm2d(_BatchNorm, nn.BatchNorm2d):
    """Batch norm of [N, C, height, width]."""


class BatchNorm3d(_BatchNorm, nn.BatchNorm3d):
    """Batch norm of [N, C, depth, height, width]."""
