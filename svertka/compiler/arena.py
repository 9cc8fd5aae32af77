"""The arena: one piece of memory for all that lives only within a plan."""

from __future__ import annotations

from collections.abc import Sequence

LINE = 64  # bytes that a buffer begins at a multiple of


def offsets(buffers: Sequence[tuple[int, int, int]]) -> tuple[list[int], int]:
    """Where each buffer begins, so that those that live at the same time don't overlap, and the size of it all.

    The largest are placed first, each as low as it goes (greedy by size: Pisarchyk & Lee 2020).

    Args:
        buffers: (bytes, first item, last item) of each.
    """
    placed: list[tuple[int, int, int, int]] = []  # (offset, end, first, last)
    result = [0] * len(buffers)
    for index in sorted(range(len(buffers)), key=lambda index: (-buffers[index][0], index)):
        size, first, last = buffers[index]
        size = -(-size // LINE) * LINE
        offset = 0
        for start, end, since, until in sorted(placed):
            if until < first or last < since:
                continue
            if offset + size <= start:
                break
            offset = max(offset, end)
        result[index] = offset
        placed.append((offset, offset + size, first, last))
    return result, max((end for _, end, _, _ in placed), default=0)
