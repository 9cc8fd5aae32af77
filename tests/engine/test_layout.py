import pytest
import torch
from guarded import guarded

from svertka.engine import layout

SHAPES = ((1, 64, 9, 7), (2, 20, 7, 7), (1, 3, 5, 5), (3, 17, 31), (1, 33, 1, 33), (2, 5, 3, 3, 3), (1, 130, 3, 3))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("at_end", (False, True))
def test_formats_are_exchanged_without_touching_a_byte_outside(shape, at_end, monkeypatch):
    x = guarded(torch.randn(shape), at_end=at_end)
    empty = layout.empty
    monkeypatch.setattr(layout, "empty", lambda *arguments: guarded(empty(*arguments), at_end=at_end))
    last = layout.with_channels_last(x)
    assert torch.equal(last, x)
    assert last.movedim(1, -1).is_contiguous()
    first = layout.contiguous(guarded(last, at_end=at_end))
    assert torch.equal(first, x)
    assert first.is_contiguous()


def test_the_format_of_a_result_follows_torchs_rule():
    for shape in ((2, 3, 4, 5), (2, 1, 4, 5), (2, 3, 1, 1), (1, 3, 1, 5)):
        for memory_format in (torch.contiguous_format, torch.channels_last):
            x = torch.empty(shape).contiguous(memory_format=memory_format)
            expected = torch.nn.functional.conv2d(x, torch.empty(4, shape[1], 1, 1))
            assert layout.channels_last(x) == layout.channels_last(expected), (shape, memory_format)
