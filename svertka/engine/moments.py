"""Means and variances of each channel over all images and places, and the sums that batch norm's gradient needs."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from svertka.engine.launch import Launch, address
from svertka.engine.layout import scratch_floats
from svertka.kernels.moments import MOMENTS, TOGETHER, Moments

_CHUNK = 1 << 15  # numbers in a chunk, about: they are read twice


def prepare_moments(backward: bool, x: Tensor) -> MomentsRunner:
    """A runner for x [N, C, *size], or dy, too, with neighbouring channels, see `kernels.moments`.

    Forward: (x) → (mean, variance by n). Backward: (x, dy, mean) → (Σ dy, Σ dy · (x − mean)).
    """
    return MomentsRunner(backward, x)


class MomentsRunner:
    """Sums over all but the channels, of tensors of one shape."""

    def __init__(self, backward: bool, x: Tensor) -> None:
        channels, rows = x.shape[1], x.shape[0] * math.prod(x.shape[2:])
        chunk = max(_CHUNK // channels, 16)
        chunks = -(-rows // chunk)
        self.channels, self.room = channels, 2 * chunks * channels
        sizes = {"rows": rows, "columns": channels, "chunk": chunk}
        self.sums = Launch(MOMENTS, Moments(backward), None, chunks, **sizes)
        self.together = Launch(TOGETHER, Moments(backward), None, 1, **sizes, chunks=chunks)
        self.detail = "moments"

    def __call__(self, x: Tensor, dy: Tensor | None = None, mean: Tensor | None = None) -> tuple[Tensor, Tensor]:
        sums = scratch_floats(self.room, "sums")
        first, second = torch.empty(self.channels), torch.empty(self.channels)
        self.sums(address(x), address(dy), address(mean), address(sums))
        self.together(address(sums), address(first), address(second))
        return first, second
