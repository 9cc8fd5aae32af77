"""What a compiled model lives through: its modules, weights and threads change while plans stay."""

import copy
import gc
import threading
import weakref

import pytest
import torch
from networks import made
from torch import nn

import svertka
from svertka.compiler import compiled as compiling
from svertka.compiler.compiled import compiled_of
from svertka.compiler.held import Weights

compute = Weights._compute


@pytest.fixture
def pair():
    model, x = made("lenet")
    return model, svertka.compile(model, x), x


def same(compiled, model, x):
    with torch.no_grad():
        found, expected = compiled(x), model(x)
    return found.shape == expected.shape and torch.allclose(found, expected, rtol=1e-4, atol=1e-5)


def other_state(model, seed=1):
    torch.manual_seed(seed)
    return {
        name: value + torch.rand(value.shape) if value.ndim else value for name, value in model.state_dict().items()
    }


@pytest.mark.parametrize("dynamo", (False, True))
@pytest.mark.parametrize("assign", (False, True))
def test_a_loaded_state_is_noticed(dynamo, assign):
    torch.compiler.reset()
    model, x = made("lenet")
    compiled = torch.compile(model, backend="svertka") if dynamo else svertka.compile(model)
    for seed in range(3):
        assert same(compiled, model, x)
        model.load_state_dict(other_state(model, seed), assign=assign)
    assert same(compiled, model, x)


@pytest.mark.parametrize("dynamo", (False, True))
def test_edits_in_place_are_noticed(dynamo):
    torch.compiler.reset()
    model, x = made("lenet")
    compiled = torch.compile(model, backend="svertka") if dynamo else svertka.compile(model)
    with torch.no_grad():
        for parameter in (*model.parameters(), *(buffer for buffer in model.buffers() if buffer.ndim)):
            if parameter.ndim > 1:
                assert same(compiled, model, x)
            parameter.mul_(1.1)
        assert same(compiled, model, x)


def test_other_modules_are_noticed(pair):
    model, compiled, x = pair
    model.dense[3] = nn.Linear(model.dense[3].in_features, 9)
    assert same(compiled, model, x)
    model.dense[3].bias = None
    assert same(compiled, model, x)
    model.dense.append(nn.Tanh())
    assert same(compiled, model, x)
    model.dense[3].register_parameter("bias", nn.Parameter(torch.ones(9)))
    assert same(compiled, model, x)
    nn.utils.parametrizations.weight_norm(model.dense[0])
    assert same(compiled, model, x)


def test_weights_of_other_types_and_shapes_are_noticed(pair):
    model, compiled, x = pair
    model.double()
    assert same(compiled, model, x.double())
    with pytest.raises(RuntimeError, match="type"), torch.no_grad():
        compiled(x)
    model.float()
    assert same(compiled, model, x)
    model.features[0].conv.weight.data = torch.randn(8, 1, 5, 5).to(memory_format=torch.channels_last)
    model.dense[3].weight.data, model.dense[3].bias.data = torch.randn(2, 32), torch.randn(2)
    assert same(compiled, model, x)


def test_inputs_on_other_devices_go_to_the_model(pair):
    model, compiled, x = pair
    assert same(compiled, model, x)
    outside = copy.deepcopy(model).to("meta")
    with torch.no_grad():
        with pytest.raises(RuntimeError, match="device"):
            compiled(x.to("meta"))
        assert svertka.compile(outside)(x.to("meta")).shape == model(x).shape
        assert compiled(x).is_cpu


def test_a_constant_tensor_that_changes_is_noticed():
    class Shifted(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.shift = nn.Conv2d(3, 4, 3), [torch.ones(4, 1, 1)]

        def forward(self, x):
            return torch.relu(self.conv(x) + self.shift[0])

    model, x = Shifted(), torch.randn(2, 3, 6, 6)
    compiled = svertka.compile(model)
    assert same(compiled, model, x)
    model.shift[0].mul_(3)
    assert same(compiled, model, x)
    model.shift[0] = nn.Parameter(torch.full((4, 1, 1), 2.0), requires_grad=False)
    compiled = svertka.compile(model)
    assert same(compiled, model, x)
    (part,) = compiled_of(model)[-1:]
    assert "it uses a parameter that none of its modules has" in part.plans.values()


def test_a_compiled_model_within_another_is_its_model():
    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Conv2d(3, 4, 3)
            self.fast = svertka.compile(self.inner)

        def forward(self, x):
            return torch.relu(self.fast(x))

    torch.compiler.reset()
    model, x = Outer(), torch.randn(2, 3, 6, 6)
    for compiled in (svertka.compile(model), torch.compile(model, backend="svertka")):
        assert same(compiled, model, x)
        with torch.no_grad():
            model.inner.weight.mul_(2)
        assert same(compiled, model, x)
        assert same(compiled, model, x[:1])


def test_threads_that_come_first_at_once_agree():
    """Each traces, whose tensors stand in the model's places meanwhile; nobody else may see them."""
    for _ in range(3):
        model, _ = made("unet")
        batches = [torch.randn(1 + index % 3, 3, 8 + 4 * (index % 2), 8) for index in range(6)]
        with torch.no_grad():
            expected = [model(x) for x in batches]
        compiled, start, wrong = svertka.compile(model), threading.Barrier(6), []

        def work(index, compiled=compiled, start=start, wrong=wrong, batches=batches, expected=expected):
            start.wait()
            with torch.no_grad():
                for _ in range(5):
                    found = compiled(batches[index])
                    if not torch.allclose(found, expected[index], rtol=1e-4, atol=1e-4):
                        wrong.append(index)

        threads = [threading.Thread(target=work, args=(index,)) for index in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong
        (part,) = compiled_of(model)
        assert len(part.plans) == 6
        assert all(not isinstance(planned, str) for planned in part.plans.values())
        assert model(batches[0]).shape == expected[0].shape
        assert all(type(parameter) is nn.Parameter for parameter in model.parameters())


def test_threads_train_and_predict_at_once():
    """Steps of one model's optimizer have another's weights looked at anew, while it computes."""
    model, x = made("lenet")
    other, _ = made("lenet", 1)
    compiled, stop, wrong = svertka.compile(model, x), threading.Event(), []
    with torch.no_grad():
        expected = compiled(x)

    def train():
        optimizer = torch.optim.SGD(other.parameters(), 1e-3)
        while not stop.is_set():
            other(x).square().mean().backward()
            optimizer.step()

    def predict():
        with torch.no_grad():
            wrong.extend(1 for _ in range(100) if not torch.equal(compiled(x), expected))

    trainer = threading.Thread(target=train)
    threads = [threading.Thread(target=predict) for _ in range(3)]
    for thread in (trainer, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    stop.set()
    trainer.join()
    assert not wrong


def test_a_model_that_calls_itself_has_an_arena_for_each_call():
    """A part that torch computes may run the same plan again, before the first run is over."""
    deep = []

    @torch.library.custom_op("svertka_tests::again", mutates_args=())
    def again(x: torch.Tensor) -> torch.Tensor:
        if len(deep) > 2:
            return x.clone()
        deep.append(1)
        inner = compiled(x * 0.5)
        deep.pop()
        return x + inner

    again.register_fake(torch.empty_like)

    class Loop(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)

        def forward(self, x):
            y = torch.relu(self.a(x))
            return self.b(torch.ops.svertka_tests.again(y)) + y

    def expected(x, depth=0):
        y = torch.relu(model.a(x))
        return model.b(y + expected(y * 0.5, depth + 1) if depth < 3 else y) + y

    torch.manual_seed(0)
    model, x = Loop().eval(), torch.randn(1, 4, 6, 6)
    compiled = svertka.compile(model)
    with torch.no_grad():
        for _ in range(2):
            assert torch.allclose(compiled(x), expected(x), atol=1e-5)


def test_plans_that_were_used_last_are_kept(monkeypatch):
    monkeypatch.setattr(compiling, "_PLANS", 3)
    model = nn.Conv2d(1, 1, 1).eval()
    compiled = svertka.compile(model)
    for n in (1, 2, 3, 1, 4):
        assert same(compiled, model, torch.randn(1, 1, n, n))
    (part,) = compiled_of(model)
    assert [key[1][0][-1] for key in part.plans] == [3, 1, 4]


def test_what_was_computed_for_a_kernel_that_isnt_there_is_computed_again(monkeypatch):
    from svertka.compiler import layers
    from svertka.compiler.recorder import NotRecordable

    def refuse(low, node):
        low.tensor(node.args[0])
        raise NotRecordable("there is none")

    monkeypatch.setitem(layers.HANDLERS, torch.ops.aten.relu.default, refuse)
    torch.manual_seed(0)
    model = nn.Sequential(nn.AvgPool2d(2), nn.BatchNorm2d(3), nn.ReLU()).eval()
    model[1].running_mean.normal_()
    assert same(svertka.compile(model), model, torch.randn(2, 3, 9, 9))


def test_models_of_one_class_keep_their_own_weights_and_reports(monkeypatch):
    torch.compiler.reset()
    made_of: list[object] = []
    monkeypatch.setattr(Weights, "_compute", lambda self, *rest: (made_of.append(self), compute(self, *rest))[1])
    pairs = [(model, torch.compile(model, backend="svertka")) for model, _ in map(made, ["lenet"] * 3)]
    x = made("lenet")[1]
    for seed, (model, _) in enumerate(pairs):
        model.load_state_dict(other_state(model, seed))
    for model, compiled in pairs * 3:
        assert same(compiled, model, x)
    assert len(made_of) == len(set(map(id, made_of))) == 3  # once each, though torch has one code for all
    for model, compiled in pairs:
        (part,) = compiled_of(model)
        assert svertka.report(compiled)[0].calls == 1
        model.load_state_dict(other_state(model), assign=True)
        assert same(compiled, model, x)
        assert compiled_of(model) == [part]


@pytest.mark.parametrize("dynamo", (False, True))
def test_a_model_that_is_gone_leaves_no_weights_behind(dynamo):
    """torch keeps the code that it compiled, and with it what we made of the graph, for the next model of the class."""
    torch.compiler.reset()
    model, x = made("lenet")
    compiled = torch.compile(model, backend="svertka") if dynamo else svertka.compile(model)
    assert same(compiled, model, x)
    (part,) = compiled_of(model)
    ready = [weakref.ref(tensor) for tensor in part.weights._ready.values()]
    assert ready
    del model, compiled, part
    gc.collect()
    assert not any(tensor() is not None for tensor in ready)
    model, x = made("lenet", 1)
    compiled = torch.compile(model, backend="svertka") if dynamo else svertka.compile(model)
    assert same(compiled, model, x)


def test_a_plan_keeps_no_memory_but_its_own(pair):
    """What stood for arena and weights while it was written down would hold the memory that it lay in."""
    model, compiled, x = pair
    (part,) = compiled_of(model)
    ((plan, _),) = part.plans.values()
    large = [step for step in plan.steps for place in step.places if place.buffer is not None]
    assert large
    assert all(place.buffer.tensor is None for step in large for place in step.places if place.buffer is not None)
    weight = model.dense[0].weight
    assert not any(isinstance(part, torch.Tensor) and part.shape == weight.shape for part in plan.kept)
    assert same(compiled, model, x)
