"""Schedules: how a kernel computes what its spec says, chosen by rules."""

from __future__ import annotations

from svertka.kernels.dense import Dense, DenseSchedule
from svertka.kernels.target import Target


def choose_dense(spec: Dense, target: Target, taps: int, pixels: int, images: int) -> DenseSchedule:
    """The schedule of a dense convolution.

    Args:
        taps: of a window.
        pixels: outputs of an image.
        images: in the batch.
    """
    tile, vectors = (7, 4) if target.name == "avx512" else (6, 2)
    vectors = min(vectors, -(-spec.outputs // target.lanes))
    tile = max(tile // spec.pooled, 1) * spec.pooled
    return DenseSchedule(min(tile, pixels), vectors)
