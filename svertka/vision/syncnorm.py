"""Batch normalisation over the whole batch of a team (torch's SyncBatchNorm computes on GPUs only)."""

from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from svertka.vision.team import Team


def synchronise_norms(module: nn.Module, team: Team) -> nn.Module:
    """Put a TeamNorm with the same parameters and buffers in the place of each batch norm in `module`."""
    if isinstance(module, _BatchNorm):
        return TeamNorm(module, team)
    for name, child in module.named_children():
        setattr(module, name, synchronise_norms(child, team))
    return module


class TeamNorm(_BatchNorm):
    """y = γ (x − μ) / √(σ² + ε) + β, in training with mean μ and variance σ² of all processes' inputs [B, C, …].

    A process without pictures must call it, too, forward and backward: with B = 0.
    """

    def __init__(self, norm: _BatchNorm, team: Team) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
        self._parameters, self._buffers, self.training = norm._parameters, norm._buffers, norm.training
        self.team = team

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """[B, C, …] → the same shape."""
        if not self.training:
            return super().forward(input)
        one_each = (1, -1, *[1] * (input.dim() - 2))
        normalised, mean, variance, count = _Normalise.apply(input, self.eps, self.team)  # type: ignore[no-untyped-call]
        if self.running_mean is not None and self.running_var is not None and count:
            assert self.num_batches_tracked is not None
            self.num_batches_tracked.add_(1)
            part = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
            self.running_mean.lerp_(mean, part)
            self.running_var.lerp_(variance * (count / max(count - 1, 1)), part)
        result: torch.Tensor = normalised
        if self.affine:
            result = torch.addcmul(self.bias.view(one_each), normalised, self.weight.view(one_each))
        return result

    def _check_input_dim(self, input: torch.Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"expected an input [B, C, …], got {input.dim()} dimensions")


class _Normalise(torch.autograd.Function):
    """x̂ = (x − μ) / √(σ² + ε), and with g the gradient of x̂: (g − mean g − x̂ · mean(g x̂)) / √(σ² + ε).

    All means are those of each channel over all processes.
    """

    @staticmethod
    def forward(
        ctx: Any, input: torch.Tensor, eps: float, team: Team
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, int]:
        others = [axis for axis in range(input.dim()) if axis != 1]
        count = int(team.total(input.numel() // input.shape[1])[0])
        mean = team.sum_tensor(input.sum(others)) / max(count, 1)
        one_each = (1, -1, *[1] * (input.dim() - 2))
        centred = input - mean.view(one_each)
        variance = team.sum_tensor(centred.square().sum(others)) / max(count, 1)
        scale = (variance + eps).rsqrt()
        normalised = centred.mul_(scale.view(one_each))
        ctx.save_for_backward(normalised, scale)
        ctx.others, ctx.one_each, ctx.count, ctx.team = others, one_each, max(count, 1), team
        ctx.mark_non_differentiable(mean, variance)
        return normalised, mean, variance, count

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor, *_: Any) -> tuple[torch.Tensor, None, None]:
        normalised, scale = ctx.saved_tensors
        sums = torch.stack([gradient.sum(ctx.others), (gradient * normalised).sum(ctx.others)])
        mean, product = (ctx.team.sum_tensor(sums) / ctx.count).view(2, *ctx.one_each)
        return (gradient - mean - normalised * product) * scale.view(ctx.one_each), None, None
