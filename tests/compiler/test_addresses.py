"""A plan holds all memory whose addresses it has: what nobody holds may be somebody else's by the next call."""

import gc
import types

import pytest
import torch
from networks import NETWORKS, made
from torch.utils import _pytree as pytree

import svertka
from svertka.compiler import backend
from svertka.compiler.compiled import compiled_of

# Other owners than the plan itself: they may let go of it at any time.
_ELSEWHERE = (types.ModuleType, types.FrameType, types.FunctionType, types.BuiltinFunctionType, type)


def held_by(plan):
    """[(start, end)] of the memory of all tensors that a plan holds, by whatever it holds."""
    seen, found, left = {id(plan)}, [], [plan]
    while left:
        thing = left.pop()
        if isinstance(thing, torch.Tensor):
            storage = thing.untyped_storage()
            found.append((storage.data_ptr(), storage.data_ptr() + storage.nbytes()))
            continue
        for part in gc.get_referents(thing):
            if id(part) not in seen and not isinstance(part, _ELSEWHERE):
                seen.add(id(part))
                left.append(part)
    return found


def dangling(plan):
    """The fixed addresses in a plan that lie in no tensor that it holds."""
    ranges, moved = held_by(plan), {word for fixups in plan.fixups.values() for word, _ in fixups}
    wrong = []
    for first, step in zip(plan.arguments, plan.steps, strict=True):
        for word in range(first + 2, first + 2 + len(step.launch.family.pointers)):
            address = plan.words[word]
            if word not in moved and address and not any(start <= address < end for start, end in ranges):
                wrong.append((step.launch.family.name, step.launch.family.pointers[word - first - 2]))
    return wrong


def plans_of(model):
    return [planned[0] for part in compiled_of(model) for planned in part.plans.values()]


@pytest.mark.parametrize("name", NETWORKS)
def test_of_inference(name):
    model, x = made(name)
    compiled = svertka.compile(model, x)
    gc.collect()
    (plan,) = plans_of(model)
    assert not dangling(plan)
    plan.kept.clear()  # the comparison finds what isn't held
    plan.weights._ready.clear()
    assert dangling(plan)
    del compiled


@pytest.mark.parametrize("name", ("lenet", "unet", "inception", "volume"))
def test_of_training(name):
    torch.compiler.reset()
    model, x = made(name)
    run = torch.compile(model.train(), backend=backend)
    sum(part.square().mean() for part in pytree.tree_leaves(run(x))).backward()
    run(x)
    gc.collect()
    plans = plans_of(model)
    assert len(plans) == 2
    for plan in plans:
        assert not dangling(plan)
