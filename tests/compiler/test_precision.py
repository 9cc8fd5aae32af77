import pytest
import torch
from torch import nn

import svertka
from svertka.compiler import backend
from svertka.errors import SvertkaError


@pytest.fixture
def model():
    torch.manual_seed(0)
    layers = (svertka.nn.Conv2d(64, 64, 3, padding=1) for _ in range(2))
    return nn.Sequential(*layers).to(memory_format=torch.channels_last)


@pytest.fixture
def x():
    return torch.randn(1, 64, 56, 56).contiguous(memory_format=torch.channels_last)


def tiles(report):
    """Which of the kernels are Winograd's, by the sums of a tile."""
    details = [node.detail for plan in report for node in plan.nodes if "winograd" in node.detail]
    return ["strict" if detail.startswith("winograd F(2×2") else "fast" for detail in details]


@pytest.mark.parametrize("ahead", (False, True))
def test_a_layer_has_a_precision_of_its_own_in_a_plan(model, x, ahead):
    with svertka.precision("fast"), torch.no_grad():
        svertka.set_precision("strict", model[1])
        compiled = svertka.compile(model, x) if ahead else torch.compile(model, backend=backend, fullgraph=True)
        found = compiled(x)
        assert tiles(svertka.report(compiled)) == ["fast", "strict"]
        torch.testing.assert_close(found, model(x), rtol=0, atol=0)


def test_and_so_have_its_gradients(model, x):
    with svertka.precision("strict"):
        svertka.set_precision("fast", model[0])
        compiled = torch.compile(model, backend=backend, fullgraph=True)
        compiled(x.requires_grad_()).sum().backward()
        reported = svertka.report(compiled)
    assert {node.path for plan in reported for node in plan.nodes} == {"kernel"}
    found = tiles(reported)
    assert set(found) == {"strict", "fast"}
    assert found[:2] == ["fast", "strict"]


def test_layers_are_told_by_the_module_that_holds_them(model, x):
    def details():
        svertka.report(reset=True)
        with torch.no_grad():
            model(x)
        return {call.detail.partition(",")[0] for call in svertka.report()}

    with svertka.precision("strict"):
        assert details() == {"winograd F(2×2"}
        svertka.set_precision("fast", model)
        assert "winograd F(2×2" not in details()
        svertka.set_precision("strict", model[0], model[1])
        assert details() == {"winograd F(2×2"}
        model[0].precision = None
        with svertka.precision("fast"):
            assert len(details()) == 2
        assert svertka.get_precision() == "strict"


def test_a_module_without_such_layers_and_an_unknown_policy_are_named(model):
    with pytest.raises(SvertkaError, match="Linear has no convolution of"):
        svertka.set_precision("fast", nn.Linear(2, 2))
    with pytest.raises(SvertkaError, match="'exact' is no precision"):
        svertka.set_precision("exact", model)
    assert model[0].precision is None
