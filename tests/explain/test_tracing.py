"""Any network can be followed, and it is left as it was."""

import subprocess
import sys
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from svertka import models
from svertka import nn as ours
from svertka.errors import GeometryError
from svertka.explain import summary
from svertka.explain.fields import of_call
from svertka.explain.tracing import trace


def test_the_network_is_left_as_it_was() -> None:
    model = models.resnet18(width=4, classes=3, dropout=0.5)
    model.train()
    model.features[3].eval()
    model.last_shape = None
    model.register_forward_hook(lambda module, _, y: setattr(module, "last_shape", y.shape))
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    training = [module.training for module in model.modules()]
    random = torch.get_rng_state()
    summary(model, (3, 32, 32))
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())
    assert [module.training for module in model.modules()] == training
    assert torch.equal(torch.get_rng_state(), random)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert model.last_shape is None
    assert sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()) == 1


def test_torch_s_compiler_is_not_loaded_for_the_sake_of_shapes() -> None:
    code = (
        "import sys\nfrom svertka import models\nfrom svertka.explain import summary\n"
        "summary(models.resnet18(width=2, classes=2), (3, 32, 32)), summary(models.lenet(), (1, 28, 28))\n"
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_branch_that_depends_on_the_size_is_followed() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 1, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            while x.shape[-1] > 4:
                x = F.max_pool2d(self.conv(x), 2)
            return x

    assert [row.name for row in summary(Net(), (1, 16, 16)).rows] == ["conv", "max_pool2d"] * 2


def test_a_branch_that_depends_on_the_numbers_is_run_on_zeros_and_that_is_said() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(1, 1, 3, padding=1), nn.BatchNorm2d(1)

        def forward(self, x: Tensor) -> Tensor:
            x = self.norm(self.conv(x))
            return x if x.sum() < 100 else self.conv(x)

    model = Net()
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    found = summary(model, (1, 8, 8))
    assert [row.name for row in found.rows] == ["conv", "norm", "sum", "lt"]
    assert found.rows[1].receptive_field[0].size == 3
    assert "it was run on zeros" in found.notes[0]
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())


def test_a_shared_layer_has_its_parameters_once_and_its_cost_each_time() -> None:
    conv = nn.Conv2d(2, 2, 3, padding=1)
    found = summary(nn.Sequential(conv, nn.ReLU(), conv), (2, 8, 8))
    assert [row.parameters for row in found.rows] == [38, 0, 0]
    assert [row.macs for row in found.rows] == [2304, 0, 2304]
    assert (found.parameters, found.macs) == (38, 4608)


def test_tied_weights_are_counted_once_and_unused_ones_are_said() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(2, 2, 3, bias=False), nn.Conv2d(2, 2, 3, bias=False)
            self.b.weight = self.a.weight
            self.scale = nn.Parameter(torch.ones(2, 1, 1))
            self.spare = nn.Linear(30, 40)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(self.a(x)) * self.scale

    found = summary(Net(), (2, 8, 8))
    assert [(row.name, row.parameters) for row in found.rows] == [("a", 36), ("b", 0), ("mul", 2)]
    assert found.parameters == 38 + 1240
    assert found.notes == ("1 240 parameters are not used in the forward pass.",)


def test_lazy_layers_learn_their_shapes_in_the_copy_only() -> None:
    model = nn.Sequential(nn.LazyConv2d(4, 3), nn.Flatten(), ours.LocallyConnected1d(1, 1, 2), nn.LazyLinear(3))
    model[2] = nn.Identity()
    assert summary(model, (2, 9, 9)).parameters == 76 + (4 * 49 + 1) * 3
    assert isinstance(model[0].weight, nn.UninitializedParameter)
    unshared = ours.LocallyConnected2d(2, 3, 3)
    assert summary(unshared, (2, 5, 5)).parameters == 9 * 3 * (18 + 1)
    assert isinstance(unshared.weight, nn.UninitializedParameter)


def test_parametrized_layers_are_one_row() -> None:
    conv = nn.utils.parametrizations.weight_norm(nn.Conv2d(2, 3, 3))
    (row,) = summary(nn.Sequential(conv), (2, 9, 9)).rows
    assert (row.name, row.parameters, row.macs) == ("0", 54 + 3 + 3, 3 * 49 * 18)


def test_torchscript_says_that_its_inside_is_not_seen() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls it deprecated
        script = torch.jit.trace(nn.Conv2d(2, 2, 3), torch.zeros(1, 2, 5, 5))
        found = summary(nn.Sequential(nn.Conv2d(1, 2, 3), script, nn.ReLU()), (1, 9, 9))
    assert [row.output for row in found.rows] == [(2, 7, 7), (2, 5, 5), (2, 5, 5)]
    assert found.rows[2].reason == "what TorchScript calls is not seen"


def test_a_compiled_network_is_its_original() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU())
    assert summary(torch.compile(model, backend="eager"), (1, 9, 9)).rows == summary(model, (1, 9, 9)).rows


def test_a_network_in_double_precision_and_one_with_several_results() -> None:
    assert summary(nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU()).double(), (1, 9, 9)).macs == 2 * 49 * 9
    pooled = summary(nn.Sequential(nn.MaxPool2d(2, return_indices=True)), (1, 8, 8)).rows[0]
    assert (pooled.output, pooled.receptive_field[0].size) == ((1, 4, 4), 2)


@pytest.mark.parametrize("size", [(1, 9, 9), (3, 2, 2), (3,)])
def test_an_input_that_does_not_fit_is_named_with_the_reason(size: tuple[int, ...]) -> None:
    with pytest.raises(GeometryError, match=f"cannot take an input of {'×'.join(map(str, size))}: "):
        summary(nn.Sequential(ours.Conv2d(3, 2, 3)), size)


def test_an_error_leaves_no_hooks_behind() -> None:
    with pytest.raises(GeometryError):
        summary(nn.Sequential(nn.Conv2d(3, 2, 3)), (1, 9, 9))
    assert not nn.modules.module._global_forward_hooks
    assert not nn.modules.module._global_forward_pre_hooks


def test_fields_can_be_told_of_the_result_of_a_layer_inside() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(2, 2, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            y = self.first(x)
            z = F.relu(self.second(y))
            return F.max_pool2d(z + y, 2) + F.avg_pool2d(x, 2)

    calls = {
        start: {call.name: call for call in trace(Net(), (1, 8, 8), exact=True, start=start).calls}
        for start in (None, ("first", 0), ("second", 0))
    }
    pooled = "max_pool2d"
    seen = {start: of_call(found[pooled], (2, 8, 8), (0, 1, 1)).intervals for start, found in calls.items()}
    assert seen[None] == (((0, 5),), ((0, 5),))
    assert seen[("first", 0)] == (((1, 4),), ((1, 4),))
    assert seen[("second", 0)] == (((2, 3),), ((2, 3),))
    assert "avg_pool2d" in calls[None]
    assert "avg_pool2d" not in calls[("second", 0)]  # it doesn't come from there
    assert calls[("second", 0)]["first"].field is not None  # what comes before is of the picture, as ever
