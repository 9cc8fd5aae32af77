"""Formulas on tensors against NumPy in float64."""

import math

import numpy as np
import pytest
import torch
from engine.bounds import UNIT
from guarded import guarded
from hypothesis import given, settings
from hypothesis import strategies as st

from svertka.engine import elementwise
from svertka.engine.elementwise import IDENTITY, prepare_elementwise

X, Y, Z = (("x", i) for i in range(3))
NORMAL = np.vectorize(lambda x: (1 + math.erf(x / math.sqrt(2))) / 2)
FORMULAS = {
    "sum": (("add", X, ("mul", Y, Z)), lambda x, y, z: x + y * z),
    "ratio": (("div", ("sub", X, Y), ("add", ("abs", Z), ("number", 1.0))), lambda x, y, z: (x - y) / (abs(z) + 1)),
    "gate": (("mul", X, ("sigmoid", 0.01, ("add", Y, Z))), lambda x, y, z: x / (1 + np.exp(-(y + z)))),
    "limits": (("maximum", ("minimum", X, Y), ("neg", Z)), lambda x, y, z: np.maximum(np.minimum(x, y), -z)),
    "normal": (("mul", ("normal", X), ("sub", Y, Z)), lambda x, y, z: NORMAL(x) * (y - z)),
    "roots": (("sqrt", ("exp", ("relu", 0.0, ("sub", X, Y)))), lambda x, y, _: np.sqrt(np.exp(np.maximum(x - y, 0)))),
}


def run(formula, xs, y):
    runner = prepare_elementwise(formula, xs, y)
    assert not isinstance(runner, str), runner
    return runner(*xs, y)


def laid(x, order):
    """The same numbers, with the axes in another order in memory."""
    return x.permute(order).contiguous().permute([order.index(axis) for axis in range(len(order))])


@given(data=st.data())
@settings(max_examples=120, deadline=None, derandomize=True, database=None)
def test_operands_of_any_layout(data):
    ndim = data.draw(st.integers(1, 4))
    shape = [data.draw(st.integers(1, (40, 20, 9, 5)[ndim - 1])) for _ in range(ndim)]
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    xs = []
    for _ in range(3):
        own = [n if data.draw(st.booleans()) else 1 for n in shape]
        xs.append(laid(torch.randn(own, generator=generator), data.draw(st.permutations(range(ndim)))))
    y = laid(torch.empty(shape), data.draw(st.permutations(range(ndim))))
    formula, exact = FORMULAS[data.draw(st.sampled_from(list(FORMULAS)))]
    found = run(formula, xs, y).numpy()
    numbers = [x.double().numpy() for x in xs]
    # Each of at most 6 operations rounds to 8 units; what they cancel is no larger than the operands.
    size = sum(np.abs(x) for x in numbers) + 1
    bound = 48 * UNIT * (size * np.maximum(1, abs(exact(*numbers))) + math.prod(abs(x) + 1 for x in numbers))
    wrong = abs(found - exact(*numbers)) > bound
    assert not wrong.any()
    assert (abs(found * 1.001 + 0.01 - exact(*numbers)) > bound).all()


@pytest.mark.parametrize("at_end", (False, True))
@pytest.mark.parametrize("order", ((0, 1, 2, 3), (0, 2, 3, 1), (3, 0, 1, 2)))
def test_no_byte_outside_is_touched(at_end, order):
    x, z = torch.randn(2, 19, 3, 5), torch.randn(19, 1, 1)
    guards = [guarded(laid(part, order) if part.ndim == 4 else part, at_end=at_end) for part in (x, x, z)]
    for result in ((0, 1, 2, 3), (0, 2, 3, 1)):
        y = guarded(laid(torch.zeros(x.shape), result), at_end=at_end)
        assert torch.allclose(run(FORMULAS["sum"][0], guards, y), x + x * z)


def test_copies_keep_every_bit():
    x = torch.tensor([0.0, -0.0, math.nan, math.inf, -math.inf, 1e-45] * 7).view(6, 7)
    found = run(IDENTITY, [x.t()], torch.empty(7, 6))
    assert torch.equal(found.view(torch.int32), x.t().contiguous().view(torch.int32))


def test_work_is_cut_into_tasks(monkeypatch):
    monkeypatch.setattr(elementwise, "_TASK", 32)
    for shape in ((3, 100), (50, 3), (1000,)):
        x = torch.randn(shape)
        for operand in (x, x[..., :1]):
            y = torch.empty(shape)
            assert torch.equal(run(("add", X, Y), [x, operand], y), x + operand)


def test_what_it_cannot_do_it_says():
    x = torch.randn(2)
    assert "float32" in prepare_elementwise(IDENTITY, [x.double()], x)
    assert "operands" in prepare_elementwise(IDENTITY, [x] * 9, x)
    wide = torch.empty(2, 3, 2, 3, 2)
    assert "ways" in prepare_elementwise(IDENTITY, [wide.permute(4, 3, 2, 1, 0)], wide)
