"""Compiled networks against float64, whichever way they were compiled."""

import pytest
import torch
from networks import NETWORKS, in_double, made, tolerance
from torch.utils import _pytree as pytree

import svertka
from svertka.compiler.compiled import compiled_of


def far(found, expected, allowed):
    """Where results differ by more than the tolerance, or in anything but numbers."""
    (ours, form), (theirs, other) = pytree.tree_flatten(found), pytree.tree_flatten(expected)
    assert form == other
    return [
        float((a - b).abs().max() / b.abs().max())
        for a, b in zip(ours, theirs, strict=True)
        if a.shape != b.shape or not (a - b).abs().max() <= allowed * b.abs().max()
    ]


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_is_itself(name):
    model, x = made(name)
    exact = in_double(model, x)
    compiled = svertka.compile(model, x)
    with torch.no_grad():
        found, eager = compiled(x), model(x)
    assert not far(found, exact, tolerance(name, model))
    for a, b in zip(pytree.tree_leaves(found), pytree.tree_leaves(eager), strict=True):
        assert a.stride() == b.stride()
    assert all(not isinstance(planned, str) for part in compiled_of(model) for planned in part.plans.values())
    with torch.no_grad():  # the comparison finds what is wrong
        next(model.parameters()).mul_(1.01)
    assert far(found, in_double(model, x), tolerance(name, model))
    with torch.no_grad():
        assert not far(compiled(x), in_double(model, x), tolerance(name, model))


@pytest.mark.parametrize("name", ("lenet", "heads", "unknown", "sequence"))
def test_by_dynamo_too(name):
    torch.compiler.reset()
    model, x = made(name)
    compiled = torch.compile(model, backend="svertka")
    with torch.no_grad():
        for images in (2, 5, 7, 2):
            batch = x[:1].repeat(images, *(1 for _ in x.shape[1:])).mul(torch.randn(images, *(1 for _ in x.shape[1:])))
            assert not far(compiled(batch), in_double(model, batch), tolerance(name, model))
    plans = [planned for part in compiled_of(model) for planned in part.plans.values()]
    assert 3 <= len(plans) <= 4  # 2, at first by a graph of its own, 5 and 7
    assert all(not isinstance(planned, str) for planned in plans)


@pytest.mark.parametrize("name", ("lenet", "resnet18", "unet", "squeeze"))
def test_channels_last_in_and_out(name):
    model, x = made(name)
    x = x.contiguous(memory_format=torch.channels_last)
    compiled = svertka.compile(model)
    with torch.no_grad():
        assert compiled(x).stride() == model(x).stride()
        assert not far(compiled(x), in_double(model, x), tolerance(name, model))
        part = torch.randn(x.shape[0], x.shape[1] + 1, *x.shape[2:])[:, 1:]  # with gaps
        assert not far(compiled(part), in_double(model, part), tolerance(name, model))


@pytest.mark.parametrize("name", ("lenet", "resnet18", "convnext", "unknown", "densenet"))
def test_the_same_bits_for_any_number_of_threads(name):
    model, x = made(name)
    compiled = svertka.compile(model)
    threads, found = torch.get_num_threads(), []
    try:
        for number in (1, 2, 5, 3):
            torch.set_num_threads(number)
            with torch.no_grad():
                found.append(compiled(x))
    finally:
        torch.set_num_threads(threads)
    if name != "unknown":  # part of which torch computes
        assert all(torch.equal(found[0], other) for other in found)
    else:
        assert all(torch.allclose(found[0], other, atol=1e-5) for other in found)
