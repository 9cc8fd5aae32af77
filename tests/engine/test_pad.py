import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from guarded import guarded
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from svertka import arguments, functional, reference
from svertka.engine import pad
from svertka.engine.dispatch import using
from svertka.errors import GeometryError
from svertka.window import MODES

FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}


def numbers(seed, *shape):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def padded(operation, x):
    runner = pad.prepare_pad(operation, x)
    assert not isinstance(runner, str), runner
    return runner(x)


def same(result, expected):
    """Numbers are copied, so each is the very same."""
    return np.array_equal(result.numpy(), expected.astype(np.float32), equal_nan=True)


@given(data=st.data())
@settings(max_examples=150, deadline=None, derandomize=True, database=None)
def test_every_padding_is_the_reference(data):
    ndim = data.draw(st.integers(1, 3))
    size = [data.draw(st.integers(1, (50, 20, 6)[ndim - 1])) for _ in range(ndim)]
    sides = [data.draw(st.integers(-4, 7)) for _ in range(2 * ndim)]
    operation = arguments.pad_spec(ndim, tuple(sides), data.draw(st.sampled_from(MODES)), 1.5)
    try:
        operation.output_size(size)
    except GeometryError:
        assume(False)
    x = numbers(0, 2, data.draw(st.sampled_from((1, 3, 16, 19))), *size)
    last = ndim > 1 and data.draw(st.booleans())
    x = x.contiguous(memory_format=FORMATS[x.ndim]) if last else x
    result = padded(operation, x)
    assert same(result, reference.run(operation, x.numpy()))
    if last:
        assert result.is_contiguous(memory_format=FORMATS[x.ndim])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("at_end", (False, True))
@pytest.mark.parametrize("last", (False, True))
@pytest.mark.parametrize("channels, width", ((3, 37), (5, 4), (17, 3), (2, 16)))
def test_no_byte_outside_is_touched(mode, at_end, last, channels, width, monkeypatch):
    operation = arguments.pad_spec(2, (2, 1, -1, 3), mode, 0.0)
    x = numbers(0, 2, channels, 4, width)
    x = guarded(x.contiguous(memory_format=torch.channels_last) if last else x, at_end=at_end)
    empty = pad.empty
    monkeypatch.setattr(pad, "empty", lambda *arguments: guarded(empty(*arguments), at_end=at_end))
    assert same(padded(operation, x), reference.run(operation, x.numpy()))


@pytest.mark.parametrize("last", (False, True))
def test_rows_and_columns_are_shared_out(last, monkeypatch):
    monkeypatch.setattr(pad, "_TASK", 64)
    x = numbers(0, 2, 3, 5, 231)
    x = x.contiguous(memory_format=torch.channels_last) if last else x
    for sides in ((100, 7, 1, 1), (-100, 3, 0, 0), (3, -100, 1, 1)):
        for mode in MODES:
            operation = arguments.pad_spec(2, sides, mode, 2.0)
            assert same(padded(operation, x), reference.run(operation, x.numpy()))


def test_each_number_stays_as_it_is():
    x = torch.tensor([[[0.0, -0.0, math.nan, math.inf, -math.inf, 1e-45]]])
    for value in (math.nan, 0.0, -0.0, 0.0, math.inf, 0.1):
        with torch.no_grad(), using("kernels"):
            result = functional.pad1d(x, 2, value=value)
        expected = F.pad(x, (2, 2), value=value)
        assert torch.equal(result.view(torch.int32), expected.view(torch.int32))
    assert arguments.pad_spec(1, 2, "zeros", -0.0) != arguments.pad_spec(1, 2, "zeros", 0.0)
    assert arguments.pad_spec(1, 2, "zeros", math.nan) is arguments.pad_spec(1, 2, "zeros", math.nan)


def test_the_comparison_fails_on_a_wrong_kernel():
    operation = arguments.pad_spec(2, 1, "reflect", 0.0)
    x = numbers(0, 1, 2, 4, 5)
    expected = reference.run(operation, x.numpy())
    wrong = padded(operation, x).clone()
    wrong[0, 1, 0, 0] += 1
    assert not same(wrong, expected)
    assert not same(padded(arguments.pad_spec(2, 1, "symmetric", 0.0), x), expected)


def test_all_that_torch_takes():
    x = numbers(0, 2, 3, 6, 7)
    with torch.no_grad(), using("kernels"):
        turned = functional.pad2d(x.transpose(2, 3), (1, 2, 0, 1))
        assert torch.equal(turned, F.pad(x.transpose(2, 3), (1, 2, 0, 1)))
        assert torch.equal(functional.pad2d(x[0], 1), F.pad(x[0], (1, 1, 1, 1)))
    with pytest.raises(GeometryError):
        functional.pad2d(x, -4)
