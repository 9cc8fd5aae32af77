"""A layer of ours beside torch's of the same name, made with the same arguments and seed."""

from typing import Any

import torch
from torch import Tensor

from svertka import using


def twins(ours: Any, theirs: Any, seed: int, *args: Any, **kwargs: Any) -> list[Any]:
    """Both layers."""
    layers = []
    for kind in (ours, theirs):
        torch.manual_seed(seed)
        layers.append(kind(*args, **kwargs))
    return layers


def assert_twins(ours: Any, theirs: Any, x: Tensor, exact_gradients: bool = True) -> None:
    """Ours is one of theirs: the same weights, which load either way, and results and gradients bit for bit.

    The portable engine computes; the kernels have tests and tolerances of their own.
    """
    assert isinstance(ours, type(theirs))
    state = theirs.state_dict()
    assert list(ours.state_dict()) == list(state)
    for name, value in ours.state_dict().items():
        assert torch.equal(value, state[name])
    ours.load_state_dict(state, strict=True)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    with using("portable"):
        results, gradients = zip(*(_results(layer, x) for layer in (ours, theirs)), strict=True)
    for mine, its in zip(*results, strict=True):
        assert mine.dtype == its.dtype
        assert torch.equal(mine.nan_to_num(), its.nan_to_num())
    for mine, its in zip(*gradients, strict=True):
        if exact_gradients:
            assert torch.equal(mine.nan_to_num(), its.nan_to_num())
        else:  # torch adds up what the copies of an input get in another order
            assert torch.allclose(mine, its, rtol=1e-4, atol=1e-4)


def _results(layer: Any, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    leaf = x.clone().requires_grad_()
    y = layer(leaf)
    results = list(y) if isinstance(y, tuple) else [y]
    return results, list(torch.autograd.grad(results[0].square().sum(), (leaf, *layer.parameters())))
