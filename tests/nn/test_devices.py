"""Layers away from the CPU: no number is read back by the host (on torch's meta device none could be), and on a GPU
results and gradients are the CPU's."""

import pytest
import torch
from every_layer import LAYERS, build

CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here: layers on CUDA stay untested")


def parts(result):
    return result if isinstance(result, tuple) else (result,)


def run(layer, x):
    """All results, and the gradients of what is differentiable by the input and the parameters."""
    x = x.detach().requires_grad_()
    results = parts(layer(x))
    wanted = [x, *layer.parameters()]
    return results, torch.autograd.grad(results[0].square().sum(), wanted, allow_unused=True)


@pytest.mark.parametrize("case", LAYERS)
def test_no_number_is_read_by_the_host(case):
    """A tensor on the device meta has a shape and no numbers: who asks for one fails."""
    layer, x = build(case)
    expected = run(layer, x)
    found = run(layer.to("meta"), x.to("meta"))
    for mine, its in zip(found, expected, strict=True):
        for a, b in zip(mine, its, strict=True):
            assert (a is None) == (b is None)
            assert a is None or (a.device.type == "meta" and a.shape == b.shape and a.dtype == b.dtype)


def test_reading_a_number_would_be_seen():
    class Reads(torch.nn.Module):
        def forward(self, x):
            return x * float(x.mean())

    with pytest.raises((RuntimeError, NotImplementedError)):
        run(Reads(), torch.zeros(2, 3, device="meta"))


@CUDA
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("case", LAYERS)
def test_on_a_gpu_all_is_as_on_the_cpu(case, memory_format):
    """In float64; with torch's watch for the host waiting on the GPU set to raise."""
    layer, x = build(case)
    if memory_format is torch.channels_last and x.ndim != 4:
        pytest.skip("torch has this memory format for pictures alone")
    layer, x = layer.double(), x.double().contiguous(memory_format=memory_format)
    expected = run(layer, x)
    layer, x = layer.cuda(), x.cuda()
    run(layer, x)  # tables go to the device once, and are kept there
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = run(layer, x)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for mine, its in zip(found, expected, strict=True):
        for a, b in zip(mine, its, strict=True):
            assert (a is None) == (b is None)
            assert a is None or torch.allclose(a.cpu(), b, rtol=1e-9, atol=1e-9, equal_nan=True)
