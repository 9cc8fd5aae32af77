"""Steps, matrix and layer are three readings of one map: they agree, and the matrix's transpose is the gradient."""

import numpy as np
import pytest
import torch
from geometries import drawn
from hypothesis import given
from operations import explained

from svertka import functional, nn, reference, spec
from svertka.errors import GeometryError
from svertka.explain.matrix import matrix, names
from svertka.explain.operations import bound
from svertka.explain.steps import Steps

F64 = {"dtype": torch.float64}
LAYERS = [
    nn.Conv2d(
        4, 6, (3, 2), (2, 1), padding=((1, 2), (0, 3)), dilation=(1, 2), groups=2, padding_mode="symmetric", **F64
    ),
    torch.nn.Conv2d(4, 2, 3, padding=1, **F64),
    nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2, **F64),
    nn.LocallyConnected2d(4, 6, 3, input_size=(5, 6), groups=2, padding=1, **F64),
    nn.MaxPool2d(3, 2, padding=1, ceil_mode=True),
    torch.nn.MaxPool2d(2),
    nn.AvgPool2d(3, 2, padding="same_upper", count_include_pad=False),
    torch.nn.AvgPool2d(2, divisor_override=3),
    nn.LPPool2d(3, 2),
    nn.LPPool2d(float("inf"), 2),
    nn.LPPool2d(1, 2, padding=1, padding_mode="circular"),
    nn.WeightedAvgPool2d(2, weight=[[1, 2], [3, 4]], padding=1, count_include_pad=False, **F64),
    nn.StochasticPool2d(2, padding=1).eval(),
    nn.AdaptiveAvgPool2d((2, 3)),
    nn.AdaptiveMaxPool2d(3),
    nn.AdaptiveLPPool2d(2.5, 2),
    nn.Pad2d((1, 2, 0, -1), "reflect"),
]


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: type(layer).__name__)
def test_steps_and_matrix_are_the_layer(layer):
    x = torch.randn(1, 4, 5, 6, generator=torch.Generator().manual_seed(0), **F64).requires_grad_()
    y, steps = layer(x), Steps(bound(layer), x[0].detach().numpy())
    assert len(steps) == y.numel()
    np.testing.assert_allclose([step.result for step in steps], y.detach().flatten(), rtol=1e-12, atol=1e-12)

    biases = np.array([step.bias or 0.0 for step in steps])
    table = matrix(steps)
    result = table @ x.detach().numpy().ravel() + biases
    np.testing.assert_allclose(result, y.detach().flatten(), rtol=1e-11, atol=1e-11)
    gradient = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), **F64)
    y.backward(gradient)
    np.testing.assert_allclose(table.T @ gradient.numpy().ravel(), x.grad.flatten(), rtol=1e-10, atol=1e-10)
    assert not np.allclose(table.T @ (gradient.numpy().ravel() + 1), x.grad.flatten())  # it can fail

    for step in steps:
        chosen = [term.value for term in step.terms if term.chosen]
        if chosen:
            assert chosen == [step.result]
        elif "LPPool" not in type(layer).__name__:
            total = sum(term.product for term in step.terms) + (step.bias or 0)
            assert total == pytest.approx(step.result, rel=1e-12, abs=1e-12)
        for term in step.terms:
            assert term.value == (0 if term.source is None else x[(0, term.channel, *term.source)].item())


def test_a_step_says_what_is_padding_and_where_its_value_came_from():
    layer = nn.Conv1d(1, 1, 3, padding=2, padding_mode="symmetric", bias=False)
    first = Steps(bound(layer), np.array([[1.0, 2, 3]]))[0]
    assert [(term.place, term.source, term.on_padding) for term in first.terms] == [
        ((-2,), (1,), True),
        ((-1,), (0,), True),
        ((0,), (0,), False),
    ]
    zeros = Steps(bound(nn.MaxPool1d(3, 1, padding=2)), np.array([[-1.0, -2]]))[0]
    assert [(term.source, term.chosen) for term in zeros.terms] == [(None, False), (None, False), ((0,), True)]
    assert zeros.to_dict()["terms"][2]["value"] == -1


def test_the_matrix_has_the_slides_names():
    steps = Steps(bound(nn.Conv2d(1, 1, 2, bias=False)), np.zeros((1, 3, 3)))
    assert names(steps)[0] == ["k11", "k12", "0", "k21", "k22", "0", "0", "0", "0"]
    assert names(steps)[3] == ["0", "0", "0", "0", "k11", "k12", "0", "k21", "k22"]
    two = Steps(bound(nn.Conv1d(2, 1, 2, groups=1, padding=1, padding_mode="replicate", bias=False)), np.zeros((2, 2)))
    assert names(two)[0] == ["k(1,1)1+k(1,1)2", "0", "k(1,2)1+k(1,2)2", "0"]


def test_the_k_largest_are_chosen_one_by_one():
    steps = Steps(bound(nn.KMaxPool1d(2)), np.array([[3.0, 1, 5, 5]]))
    assert [[term.place for term in step.terms if term.chosen] for step in steps] == [[(2,)], [(3,)]]


def test_what_is_no_operation_and_no_output_is_told():
    with pytest.raises(GeometryError, match="ReLU is not one operation with windows"):
        bound(torch.nn.ReLU())
    steps = Steps(bound(torch.nn.MaxPool1d(2)), np.zeros((1, 4)))
    with pytest.raises(GeometryError, match=r"no output at \(0, 2\)"):
        steps.at((0, 2))
    with pytest.raises(IndexError):
        steps[2]


@drawn
@given(explained())
def test_steps_matrix_reference_and_layer_agree(case):
    bound, x = case
    steps = Steps(bound, x)
    terms = [step.terms for step in steps]
    magnitude = max((abs(t.value * (t.weight or 1)) for each in terms for t in each), default=0) + 1
    near = {"rtol": 1e-12, "atol": 1e-13 * magnitude * max(map(len, terms))}
    definition = reference.k_max_pool(x, bound.operation.k) if isinstance(bound.operation, spec.KMaxPool) else None
    if definition is None:
        tensors = [None if t is None else torch.from_numpy(t) for t in (bound.weight, bound.bias)]
        tensors = [] if bound.weight is None else tensors[: 1 if isinstance(bound.operation, spec.WeightedPool) else 2]
        definition = reference.run(bound.operation, x[None], *tensors)[0]
        layer = functional.run(bound.operation, torch.from_numpy(x)[None], *tensors)
        layer = layer[0] if isinstance(layer, tuple) else layer
        np.testing.assert_allclose(layer[0].numpy(), definition, rtol=1e-10, atol=1e-10 * magnitude)
    results = np.array([made_of(bound.operation, step) for step in steps]).reshape(definition.shape)
    np.testing.assert_allclose(results, definition, **near)
    if np.isfinite(definition).all():
        product = matrix(steps) @ x.ravel() + _beside_the_input(bound, steps)
        np.testing.assert_allclose(product, definition.ravel(), rtol=1e-10, atol=1e-10 * magnitude)


def made_of(operation, step):
    """A step's result from its terms alone, by the definition of the operation."""
    read = [term for term in step.terms if term.source is not None]
    match operation:
        case spec.MaxPool():
            assert [term.value for term in read if term.chosen] == [max(t.value for t in read)] if read else True
            return max((term.value for term in read), default=-np.inf)
        case spec.KMaxPool():
            return next(term.value for term in step.terms if term.chosen)
        case spec.LpPool(p=np.inf):
            return max(abs(term.value) for term in step.terms)
        case spec.LpPool():
            return sum(term.product for term in step.terms) ** (1 / operation.p)
    products = [term.product for term in step.terms]
    empty = np.nan if isinstance(operation, (spec.AveragePool, spec.WeightedPool)) else 0.0
    return (sum(products) if products else empty) + (step.bias or 0.0)


def _beside_the_input(bound, steps):
    """What an output has besides what it takes from the input: its bias; the value of a padding."""
    if isinstance(bound.operation, spec.Pad):
        return np.array([step.result if step.terms[0].source is None else 0.0 for step in steps])
    return np.array([step.bias or 0.0 for step in steps])
