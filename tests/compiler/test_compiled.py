"""What a compiled model notices: changed weights, modes, hooks, gradients, threads, shapes."""

import threading
from importlib import metadata

import pytest
import torch
from networks import made
from torch import nn

import svertka
from svertka.compiler import compiled as compiling
from svertka.compiler.compiled import compiled_of


@pytest.fixture
def pair():
    model, x = made("lenet")
    return model, svertka.compile(model, x), x


def same(compiled, model, x):
    with torch.no_grad():
        return torch.allclose(compiled(x), model(x), rtol=1e-4, atol=1e-5)


def reasons(model):
    return [planned for part in compiled_of(model) for planned in part.plans.values() if isinstance(planned, str)]


def test_the_backend_has_a_name():
    (point,) = metadata.entry_points(group="torch_dynamo_backends", name="svertka")
    assert point.value == "svertka.compiler:backend"


def test_changed_weights_are_noticed(pair):
    model, compiled, x = pair
    with torch.no_grad():
        model.features[0].conv.weight.mul_(2)
        assert same(compiled, model, x)
        model.features[1].norm.running_var.add_(1)
        assert same(compiled, model, x)
        model.dense[0].bias = nn.Parameter(torch.randn_like(model.dense[0].bias))
        assert same(compiled, model, x)
        model.dense[0].weight.data = model.dense[0].weight * 3
        assert same(compiled, model, x)
        model.load_state_dict({name: value + 1 for name, value in model.state_dict().items()})
        assert same(compiled, model, x)
        model.dense[3].weight.data[0, 0] += 100  # which torch doesn't count
        svertka.forget_weights()
        assert same(compiled, model, x)


def test_other_weights_at_the_same_address_are_noticed(pair):
    model, compiled, x = pair
    layer = model.dense[3]
    memory = torch.randn(layer.weight.numel())
    layer.weight = nn.Parameter(memory.view(5, -1))
    with torch.no_grad():
        compiled(x)
        memory.numpy()[:] = 1  # which torch can't count
        layer.weight = nn.Parameter(memory.view(5, -1))
        assert same(compiled, model, x)


@pytest.mark.parametrize("fused", (False, True))
def test_steps_of_an_optimizer_are_noticed(pair, fused):
    model, compiled, x = pair
    optimizer = torch.optim.SGD(model.parameters(), 0.1, fused=fused)
    for _ in range(2):
        model(x).square().mean().backward()
        optimizer.step()
        assert same(compiled, model, x)


def test_calls_that_need_gradients_go_to_the_model(pair):
    model, compiled, x = pair
    compiled(x).sum().backward()
    assert model.dense[0].weight.grad is not None
    model.requires_grad_(False)
    y = x.clone().requires_grad_()
    compiled(y).sum().backward()
    assert y.grad is not None


def test_modes_are_told_apart():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5))
    compiled, x = svertka.compile(model), torch.randn(2, 1, 8, 8)
    with torch.no_grad():
        before = model[1].running_mean.clone()
        zeros = (compiled(x) == 0).float().mean()
        assert 0.2 < zeros < 0.8
        assert not torch.equal(before, model[1].running_mean)  # statistics go on
        assert model[1].num_batches_tracked == 1
        model.eval()
        assert same(compiled, model, x)
        model[1].train()
        twin, count = nn.BatchNorm2d(4), model[1].num_batches_tracked.clone()
        twin.load_state_dict(model[1].state_dict())
        assert torch.allclose(compiled(x), twin(model[0](x)), atol=1e-5)
        assert torch.allclose(model[1].running_var, twin.running_var, atol=1e-6)
        assert model[1].num_batches_tracked == count + 1


def test_hooks_are_called(pair):
    model, compiled, x = pair
    called = []
    handle = model.features[0].register_forward_hook(lambda *_: called.append(1))
    assert same(compiled, model, x)
    assert len(called) == 2
    handle.remove()
    assert same(compiled, model, x)
    assert len(called) == 2


def test_what_cannot_be_planned_runs_as_it_is():
    class Choice(nn.Module):
        def forward(self, x):
            return x + 1 if x.sum() > 0 else x - 1

    model = nn.Sequential(nn.Conv2d(1, 1, 1), Choice())
    compiled, x = svertka.compile(model), torch.ones(1, 1, 2, 2)
    assert same(compiled, model, x)
    assert same(compiled, model, -x)
    assert "can't be traced" in reasons(model)[0]
    assert same(compiled, model, x[:0])
    assert "there is an empty tensor" in reasons(model)
    with pytest.raises(RuntimeError, match="channels"):
        compiled(torch.ones(1, 2, 2, 2))


def test_other_types_are_computed_by_torch():
    model, x = made("lenet")
    model.double()
    compiled = svertka.compile(model, x.double())
    with torch.no_grad():
        assert torch.allclose(compiled(x.double()), model(x.double()), rtol=1e-12)
        with torch.autocast("cpu"):
            assert compiled(x.double()).dtype == model(x.double()).dtype


def test_results_are_the_callers_own(pair):
    _, compiled, x = pair
    with torch.no_grad():
        first = compiled(x)
        kept = first.clone()
        second = compiled(x + 1)
        assert torch.equal(first, kept)
        assert not torch.equal(first, second)


def test_views_and_inputs_come_out_as_they_are():
    class Views(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 2, 1)

        def forward(self, x, more=None):
            y = self.conv(x)
            return x, y, y[:, 0], y, more, self.conv.weight, x.clone(), x[0], 3

    model, x = Views(), torch.randn(2, 1, 3, 3)
    compiled = svertka.compile(model)
    with torch.no_grad():
        found, expected = compiled(x, more="text"), model(x, more="text")
    assert found[0] is x
    assert found[4:6] == ("text", model.conv.weight)
    assert found[6].data_ptr() != x.data_ptr()
    for a, b in zip(found, expected, strict=True):
        assert a == b if not isinstance(a, torch.Tensor) else torch.allclose(a, b)


def test_torch_reads_what_kernels_wrote_wherever_it_lies():
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 16, 3)

        def forward(self, x):
            a = self.a(x)
            b = self.b(a)
            return nn.functional.elu(b).sum((2, 3)), nn.functional.elu(a), torch.cumsum(b, 1)[:, ::2]

    torch.manual_seed(0)
    model, x = Mixed(), torch.randn(2, 3, 9, 9)
    compiled = svertka.compile(model)
    with torch.no_grad():
        for found, expected in zip(compiled(x), model(x), strict=True):
            assert torch.allclose(found, expected, atol=1e-4)


def test_several_threads_share_a_plan(pair):
    model, compiled, _ = pair
    batches = [torch.randn(3, 1, 28, 28) for _ in range(4)]
    with torch.no_grad():
        expected = [compiled(x) for x in batches]
    wrong = []

    def work(index):
        with torch.no_grad():
            wrong.extend(index for _ in range(50) if not torch.equal(compiled(batches[index]), expected[index]))

    workers = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong
    (part,) = compiled_of(model)
    ((plan, _),) = part.plans.values()
    assert len(plan._spare) <= 4


def test_plans_are_bounded(monkeypatch):
    monkeypatch.setattr(compiling, "_PLANS", 2)
    model = nn.Conv2d(1, 1, 1).eval()
    compiled = svertka.compile(model)
    for n in range(1, 6):
        assert same(compiled, model, torch.randn(1, 1, n, n))
    (part,) = compiled_of(model)
    assert len(part.plans) == 2


def test_inference_mode():
    model, x = made("lenet")
    with torch.inference_mode():
        compiled = svertka.compile(model, x)
        assert torch.allclose(compiled(x), model(x), atol=1e-5)
    inner = nn.Linear(3, 2)
    with torch.inference_mode():
        weight = nn.Parameter(torch.randn(2, 3), requires_grad=False)
    inner.weight = weight
    compiled = svertka.compile(inner)
    with torch.inference_mode():
        assert torch.allclose(compiled(torch.ones(1, 3)), inner(torch.ones(1, 3)))


def test_a_forked_child_computes(pair):
    import multiprocessing

    _, compiled, x = pair
    with torch.no_grad():
        expected = compiled(x)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()

    def child():
        with torch.no_grad():
            queue.put(compiled(x).numpy())

    process = context.Process(target=child)
    process.start()
    found = torch.from_numpy(queue.get(timeout=60))
    process.join()
    assert torch.equal(found, expected)


def test_only_modules_are_compiled():
    with pytest.raises(svertka.SvertkaError, match=r"torch\.nn\.Module"):
        svertka.compile(lambda x: x)


def test_each_precision_has_a_plan_of_its_own():
    torch.manual_seed(0)
    model, x = torch.nn.Conv2d(64, 64, 3, padding=1).eval(), torch.randn(1, 64, 32, 32)
    compiled = svertka.compile(model)
    results = []
    for name in ("strict", "fast", "strict"):
        with torch.no_grad(), svertka.precision(name):
            results.append(compiled(x))
    assert torch.equal(results[0], results[2]) and not torch.equal(results[0], results[1])
    torch.testing.assert_close(results[1], results[0], rtol=1e-4, atol=1e-5)


def test_more_threads_than_a_plan_was_made_with_have_scratch():
    torch.manual_seed(0)
    model, x = torch.nn.Conv2d(64, 64, 3, padding=1).eval(), torch.randn(4, 64, 40, 40)
    compiled = svertka.compile(model)
    before = torch.get_num_threads()
    try:
        with torch.no_grad():
            torch.set_num_threads(1)
            expected = compiled(x)
            torch.set_num_threads(4)
            for _ in range(3):
                assert torch.equal(compiled(x), expected)
    finally:
        torch.set_num_threads(before)
