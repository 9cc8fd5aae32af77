"""Compiled networks under DistributedDataParallel: two processes by gloo have one gradient, that of both batches."""

import copy
import multiprocessing

import pytest
import torch
from networks import made, tolerance


def step(rank, file, results):
    """One process's part: gradients by a compiled network under DDP, whichever is around the other."""
    from torch import distributed
    from torch.nn.parallel import DistributedDataParallel

    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
    found = []
    try:
        for outside in (True, False):
            model, x = made("resnet18")
            half = x[rank : rank + 1]
            if outside:
                run = torch.compile(DistributedDataParallel(model), backend="svertka")
            else:
                run = DistributedDataParallel(torch.compile(model, backend="svertka"))
            for _ in range(2):
                model.zero_grad()
                run(half).square().mean().backward()
            found.append([parameter.grad.numpy().copy() for parameter in model.parameters()])
        results.put((rank, found))
    finally:
        distributed.destroy_process_group()


def are_near(grads, exact, bound):
    """Whether each gradient is within 2 · bound of its largest number: a pass back is as deep as one forward."""
    found = []
    for grad, parameter in zip(grads, exact.parameters(), strict=True):
        off = (torch.from_numpy(grad).double() - parameter.grad).abs().max()
        found.append(bool(off <= 2 * bound * parameter.grad.abs().max()))
    return found


@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch was built without it")
def test_two_processes_have_the_gradient_of_both_batches(tmp_path):
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    workers = [context.Process(target=step, args=(rank, tmp_path / "store", results)) for rank in range(2)]
    for worker in workers:
        worker.start()
    found = [results.get(timeout=300)[1] for _ in workers]
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    model, x = made("resnet18")
    exact = copy.deepcopy(model).double()
    exact(x.double()).square().mean().backward()
    bound = tolerance("resnet18", model)
    assert all(all(are_near(grads, exact, bound)) for ways in found for grads in ways)
    model(x[:1]).square().mean().backward()
    assert not any(are_near([p.grad.numpy() for p in model.parameters()], exact, bound))  # one process' part alone
