"""Room 2 tells what the library's poolings compute, and their gradients."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from svertka import functional as F
from svertka.lab.api import LabError
from svertka.lab.rooms.pooling import PoolingAnswer, PoolingAsked, pool

MATRIX = "3 3 2 1 0; 0 0 1 3 1; 3 1 2 2 3; 2 0 0 2 2; 2 0 0 0 1"
VALUES = [[float(v) for v in row.split()] for row in MATRIX.split(";")]


def asked(**arguments: Any) -> PoolingAnswer:
    return pool(PoolingAsked(**arguments), lambda: None)


def by_kind(found: PoolingAnswer) -> dict[str, Any]:
    return {one.kind: one for one in found.pooled}


def test_the_lectures_average() -> None:
    values = by_kind(asked(input=MATRIX, size=[3], stride=[1]))["average"].stage.output.values
    assert np.round(values, 1).tolist() == [1.7, 1.7, 1.7, 1.0, 1.2, 1.8, 1.1, 0.8, 1.3]


@pytest.mark.parametrize("p", [1.0, 2.0, 3.5, None])
def test_every_kind_and_its_gradient_is_the_librarys(p: float | None) -> None:
    pads, mode = (1, 2), "symmetric"
    found = asked(input=MATRIX, size=[3, 2], stride=[2, 1], padding=[pads], mode=mode, p=p, weights="1 2; 3 4; 0 1")
    windows: dict[str, Any] = {"stride": (2, 1), "padding": (pads, pads), "padding_mode": mode}
    weight = torch.tensor([[[1.0, 2], [3, 4], [0, 1]]], dtype=torch.float64)
    run = {
        "max": lambda x: F.max_pool2d(x, (3, 2), **windows),
        "average": lambda x: F.avg_pool2d(x, (3, 2), **windows),
        "weighted": lambda x: F.weighted_avg_pool2d(x, weight, **windows),
        "norm": lambda x: F.lp_pool2d(x, math.inf if p is None else p, (3, 2), **windows),
        "stochastic": lambda x: F.stochastic_pool2d(x, (3, 2), training=False, **windows),
    }
    assert set(by_kind(found)) == set(run)
    for kind, one in by_kind(found).items():
        x = torch.tensor([VALUES], dtype=torch.float64, requires_grad=True)
        output = run[kind](x)
        output.sum().backward()
        # Sums of a few float64 numbers below 100, in whatever order.
        np.testing.assert_allclose(one.stage.output.values, output.detach().ravel(), rtol=1e-13, atol=1e-13)
        np.testing.assert_allclose(one.gradient, x.grad.ravel(), rtol=1e-12, atol=1e-12)
        by_terms = np.zeros(25)
        for cell, slope in zip(one.stage.terms.cells, one.slopes, strict=True):
            if one.stage.drawn.sources[cell] >= 0:
                by_terms[one.stage.drawn.sources[cell]] += slope
        np.testing.assert_allclose(by_terms, one.gradient, rtol=1e-12, atol=1e-12)


def test_a_draw_is_the_librarys_and_its_gradient_goes_where_it_fell() -> None:
    found = by_kind(asked(input=MATRIX, size=[2], stride=[1], seed=7))["stochastic"]
    x = torch.tensor([VALUES], dtype=torch.float64, requires_grad=True)
    output = F.stochastic_pool2d(x, 2, 1, training=True, generator=torch.Generator().manual_seed(7))
    output.sum().backward()
    assert found.stage.output.values == output.ravel().tolist()
    assert found.gradient == x.grad.ravel().tolist()
    terms = found.stage.terms
    for number, value in enumerate(found.stage.output.values):
        window = range(terms.starts[number], terms.starts[number + 1])
        drawn = [found.stage.drawn.values[terms.cells[i]] for i in window if terms.chosen[i]]
        assert drawn == ([value] if value else [])
    again = by_kind(asked(input=MATRIX, size=[2], stride=[1], seed=8))["stochastic"]
    assert again.stage.output.values != found.stage.output.values


def test_signals_have_two_kinds_more() -> None:
    found = by_kind(asked(input="1 5 2 4 3 3 1 6 0", size=[3], k=4, segments=2))
    signal = torch.tensor([[1.0, 5, 2, 4, 3, 3, 1, 6, 0]])
    assert found["kmax"].stage.output.values == F.k_max_pool1d(signal, 4).ravel().tolist() == [5, 4, 3, 6]
    assert found["dynamic"].stage.output.values == F.dynamic_pool1d(signal[None], 2).ravel().tolist()
    assert found["kmax"].gradient == [0, 1, 0, 1, 1, 0, 0, 1, 0]


def test_to_a_given_size() -> None:
    found = by_kind(asked(input=MATRIX, outputs=[3, 2]))
    x = torch.tensor([VALUES], dtype=torch.float64)
    assert found["max"].stage.output.values == torch.nn.functional.adaptive_max_pool2d(x, (3, 2)).ravel().tolist()
    expected = torch.nn.functional.adaptive_avg_pool2d(x, (3, 2)).ravel()
    np.testing.assert_allclose(found["average"].stage.output.values, expected, rtol=1e-14)


def test_a_shift_moves_zeros_in_and_counts_what_stays() -> None:
    spots = "0 0 0 0; 0 9 0 0; 0 0 0 7; 0 0 0 0"
    found = asked(input=spots, size=[2], shift=[0, -1])
    assert found.input == [[[0, 0, 0, 0], [9, 0, 0, 0], [0, 0, 7, 0], [0, 0, 0, 0]]]
    assert (found.kept, found.count) == (12, 16)
    kinds = by_kind(found)
    assert kinds["max"].before == kinds["max"].stage.output.values == [9, 0, 0, 7]
    assert kinds["max"].kept == 4
    away = by_kind(asked(input=spots, size=[2], shift=[0, 2]))["max"]
    assert away.stage.output.values == [0, 9, 0, 0]
    assert away.kept == 1


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        ({"input": "1 2 3", "size": [5]}, "no-window"),
        ({"input": MATRIX, "weights": "-1 1; 1 1"}, "pool-weights"),
        ({"input": MATRIX, "weights": "0 0; 0 0"}, "pool-weights"),
        ({"input": "1;; 2"}, "axes"),
    ],
)
def test_what_cannot_be_used_has_a_name(arguments: dict[str, Any], kind: str) -> None:
    with pytest.raises(LabError) as caught:
        asked(**arguments)
    assert caught.value.kind == kind
