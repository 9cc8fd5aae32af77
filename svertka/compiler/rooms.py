"""Memory for results, again when nobody has them any more: fresh pages cost as much as the arithmetic on them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

LARGE = 1 << 20  # bytes from which on a result's memory is kept


class Rooms:
    """The memory of the last results of a plan.

    A result is its caller's own for as long as the caller, or anything else, holds its storage. Then its memory is for
    the next result of the same shape. The last one is kept.

    Args:
        shapes: (shape, stride, dtype) of each result.
    """

    def __init__(self, shapes: Sequence[Any]) -> None:
        self.shapes = shapes
        self._last: dict[int, _Kept] = {}
        self._large = [
            sum((n - 1) * s for n, s in zip(shape, stride, strict=True)) * dtype.itemsize >= LARGE
            for shape, stride, dtype in shapes
        ]

    def __call__(self) -> list[Tensor]:
        """A tensor for each result, nobody else's."""
        return [
            self._large_one(index, *like) if large else torch.empty_strided(like[0], like[1], dtype=like[2])
            for index, (like, large) in enumerate(zip(self.shapes, self._large, strict=True))
        ]

    def _large_one(self, index: int, shape: Any, stride: Any, dtype: torch.dtype) -> Tensor:
        last = self._last.pop(index, None)  # which no other thread finds meanwhile
        if last is None or not last.is_free():
            last = _Kept(torch.empty_strided(shape, stride, dtype=dtype))
        result = last.alias()
        self._last[index] = last
        return result

    @property
    def bytes(self) -> int:
        """What is kept."""
        return sum(kept.size for kept in list(self._last.values()))


class _Kept:
    """A result's memory, by its storage alone: who else has that counts in C++, or in Python, whose object is one."""

    def __init__(self, tensor: Tensor) -> None:
        self.storage = tensor.untyped_storage()
        self.like = tensor.shape, tensor.stride(), tensor.dtype
        self.address, self.size = self.storage.data_ptr(), self.storage.nbytes()

    def alias(self) -> Tensor:
        """A tensor of the memory, no view to autograd."""
        shape, stride, dtype = self.like
        return torch.empty(0, dtype=dtype).set_(self.storage, 0, shape, stride)

    def is_free(self) -> bool:
        """Whether nobody else has the memory, nor has moved it, as to where processes share it."""
        alone = torch._C._storage_Use_Count(self.storage._cdata) == 1 and sys.getrefcount(self.storage) == _ALONE
        return alone and self.storage.data_ptr() == self.address and self.storage.nbytes() == self.size


_ALONE = 2  # references: ours, and that of who counts
