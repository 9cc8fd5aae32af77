"""Memory between pages that can't be touched: a kernel that reads or writes one byte outside its arrays is killed."""

import ctypes
import mmap

import torch
from torch import Tensor

_PAGE = mmap.PAGESIZE
_libc = ctypes.CDLL(None, use_errno=True)
_kept: list[mmap.mmap] = []


def guarded(tensor: Tensor, *, at_end: bool = True) -> Tensor:
    """A copy, with the same strides, that ends where a guard page begins or (not `at_end`) begins where one ends.

    Between the other side and its guard page lies what is missing to a page; call it both ways.
    """
    span = 1 + sum((n - 1) * step for n, step in zip(tensor.shape, tensor.stride(), strict=True))
    size = span * tensor.element_size() if tensor.numel() else 0
    pages = -(-max(size, 1) // _PAGE)
    memory = mmap.mmap(-1, (pages + 2) * _PAGE)
    _kept.append(memory)  # a page that can't be touched must not be given back to malloc's keeping
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for page in (0, pages + 1):
        if _libc.mprotect(ctypes.c_void_p(start + page * _PAGE), _PAGE, 0):
            raise OSError(ctypes.get_errno(), "mprotect failed")
    offset = _PAGE + (pages * _PAGE - size if at_end else 0)
    flat = torch.frombuffer(memory, dtype=tensor.dtype, count=span if size else 0, offset=offset) if size else tensor
    copy = flat.as_strided(tensor.shape, tensor.stride())
    return copy.copy_(tensor)
