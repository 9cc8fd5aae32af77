"""The networks: published sizes, any input, training, saving, compiling, and the user's own files."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from svertka import models, using
from svertka.errors import DataError, GeometryError
from svertka.nn import Conv2d, MaxPool2d

# Small enough to be run, everything else as in the real ones.
SMALL: dict[str, dict[str, Any]] = {
    "lenet": {"widths": (4, 8), "hidden": 16},
    "alexnet": {"widths": (8, 8, 8, 8, 8), "hidden": 16},
    "vgg11": {"width": 4, "hidden": 16},
    "vgg16": {"width": 4, "hidden": 16},
    "resnet18": {"width": 4},
    "resnet50": {"width": 4},
    "mobilenet": {"width": 0.125},
}


def small(name: str, channels: int = 3, classes: int = 5, **arguments: Any) -> nn.Module:
    torch.manual_seed(0)
    return models.create(name, channels, classes, **SMALL.get(name, {}), **arguments)


def count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("vgg11", 132_863_336),  # these four: torchvision's model pages
        ("vgg16", 138_357_544),
        ("resnet18", 11_689_512),
        ("resnet50", 25_557_032),
        ("alexnet", 60_965_224),  # Caffe's bvlc_alexnet, which has the paper's groups
        ("mobilenet", 4_231_976),  # Keras' MobileNet (4 253 864) without the 21 888 running means and variances
    ],
)
def test_published_parameter_counts(name: str, expected: int) -> None:
    with torch.device("meta"):
        assert count(models.create(name, 3, 1000)) == expected
        assert count(models.create(name, 3, 1000, size=(224, 224))) == expected


def test_lenet_on_mnist_has_tensorflow_s_tutorial_s_parameters() -> None:
    assert count(models.lenet()) == count(models.lenet(size=(28, 28))) == 832 + 51_264 + 1_606_144 + 5_130


def test_linear_has_a_weight_for_each_pixel_and_class() -> None:
    assert count(models.linear(3, 3, size=(32, 20))) == 3 * (3 * 32 * 20) + 3


def test_alexnet_s_maps_shrink_as_published() -> None:
    with torch.device("meta"):
        features = models.alexnet().features
    size, sizes = (224, 224), []
    for block in features:
        sizes.append(block.conv.operation.output_size(size)[0])
        size = block.output_size(size)
        sizes.append(size[0])
    assert sizes == [55, 27, 27, 13, 13, 13, 13, 13, 13, 6]
    assert [block.conv.groups for block in features] == [1, 2, 1, 2, 2]


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (5, 1), (7, 8), (33, 18)])
def test_takes_any_size_and_gives_a_score_for_each_class(name: str, size: tuple[int, int]) -> None:
    with torch.device("meta"):
        for given in (None, size):
            model = small(name, channels=2, size=given).eval()
            assert model(torch.zeros(2, 2, *size)).shape == (2, 5)


def test_too_small_an_input_gets_zeros_after_its_end() -> None:
    block = models.Block(Conv2d(1, 1, 3, bias=False), pool=MaxPool2d(2))
    nn.init.ones_(block.conv.weight)
    x = torch.tensor([[[[1.0, 2.0]]]])
    assert block(x).tolist() == [[[[3.0]]]]  # max of the sum 3 and the zeros beside it
    assert block.output_size((1, 2)) == (1, 1)


def test_a_block_is_its_layers_one_after_the_other() -> None:
    layers = [Conv2d(3, 4, 3, 2, padding=1), nn.BatchNorm2d(4), nn.ReLU(), MaxPool2d(2)]
    x = torch.randn(2, 3, 9, 12)
    block = models.Block(*layers).eval()
    assert torch.equal(block(x), nn.Sequential(*layers).eval()(x))
    assert block(x).shape[2:] == block.output_size((9, 12)) == (2, 3)


def test_maps_of_the_right_size_are_not_pooled_and_others_are() -> None:
    pool = models.MapsOfSize((3, 2))
    x = torch.randn(1, 4, 3, 2)
    assert pool(x) is x
    assert torch.equal(pool(x.repeat_interleave(2, 2)), x)


def test_small_pictures_get_a_small_dense_part_and_a_gentle_stem() -> None:
    assert models.lenet(1, 10, size=(8, 8)).dense[0].in_features == 64 * 2 * 2
    assert small("vgg11", size=(32, 100)).dense[0].in_features == 32 * 1 * 3
    for name in ("resnet18", "resnet50"):
        assert small(name, size=(28, 64)).features[0].conv.kernel_size == (3, 3)
        assert small(name, size=(28, 65)).features[0].conv.kernel_size == (7, 7)
        assert small(name, size=(28, 28), stem="7x7").features[0].pool is not None
        assert small(name, stem="3x3").features[0].pool is None
    assert small("mobilenet", size=(28, 28)).features[0].conv.stride == (1, 1)
    assert small("mobilenet").features[0].conv.stride == (2, 2)


@pytest.mark.parametrize("name", models.MODELS)
def test_trains_a_step_with_finite_gradients_everywhere(name: str) -> None:
    model = small(name, size=(32, 32))
    loss = nn.functional.cross_entropy(model(torch.randn(4, 3, 32, 32)), torch.arange(4))
    loss.backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
    assert sum(p.grad.abs().sum() > 0 for p in model.parameters()) > count_tensors(model) // 2


def count_tensors(model: nn.Module) -> int:
    return len(list(model.parameters()))


def test_he_s_weights_keep_the_signal_alive_and_torch_s_default_does_not() -> None:
    torch.manual_seed(0)
    features = models.vgg16(width=16, size=(32, 32)).features[:10]  # before the maps are single pixels
    plain = copy.deepcopy(features)
    for block in plain:
        block.conv.reset_parameters()
        nn.init.zeros_(block.conv.bias)
    x = torch.randn(8, 3, 32, 32)
    assert 0.3 < features(x).std() < 10
    assert plain(x).std() < 1e-2


def test_zero_init_residual_starts_with_nothing_but_the_shortcut() -> None:
    residual = small("resnet18", zero_init_residual=True).features[1].eval()
    x = torch.rand(1, 4, 5, 5)
    assert torch.equal(residual(x), x)
    assert not torch.equal(small("resnet18").features[1].eval()(x), x)


@pytest.mark.parametrize("name", SMALL)
def test_weights_load_strictly_into_a_fresh_model(name: str) -> None:
    model, other = small(name, size=(24, 24)).eval(), small(name, size=(24, 24))
    for parameter in other.parameters():
        nn.init.uniform_(parameter)
    other.load_state_dict(model.state_dict(), strict=True)
    x = torch.randn(1, 3, 24, 24)
    assert torch.equal(model(x), other.eval()(x))


@pytest.mark.parametrize("name", SMALL)
def test_channels_last_gives_the_same(name: str) -> None:
    model = small(name).eval()
    x = torch.randn(2, 3, 40, 36)
    expected = model(x)
    actual = model.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("part", ["a whole network", "residual blocks"])
def test_compiles_to_one_graph_at_any_size(part: str) -> None:
    model = small("alexnet") if part == "a whole network" else small("resnet18").features[:4]
    torch.compiler.reset()
    compiled = torch.compile(model.eval(), fullgraph=True, backend="eager")
    for size in [(2, 5), (40, 36)]:  # with and without padding
        x = torch.randn(2, 3, *size)
        with using("portable"):  # which is what torch traces
            assert torch.equal(compiled(x), model(x))


def test_exports() -> None:
    model = small("alexnet").eval()
    x = torch.randn(2, 3, 20, 9)
    with using("portable"):  # which is what torch traces
        assert torch.equal(torch.export.export(model, (x,)).module()(x), model(x))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: models.lenet(0, 10), "channels=0"),
        (lambda: models.lenet(1, 0), "classes=0"),
        (lambda: models.lenet(1, 10, size=(3, 28, 28)), r"\(height, width\)"),
        (lambda: models.vgg11(3, 10, size=(0, 28)), "height in size=0"),
        (lambda: models.linear(1, 10), "needs the input size"),
        (lambda: models.resnet18(stem="5x5"), "auto, 7x7, 3x3"),
        (lambda: models.mobilenet(width=0), "width=0"),
    ],
)
def test_arguments_that_make_no_network_are_named(call: Any, words: str) -> None:
    with pytest.raises(GeometryError, match=words):
        call()


def test_unknown_models_and_arguments_list_the_known_ones() -> None:
    with pytest.raises(DataError, match="'lenet5' is unknown: choose one of linear, lenet, alexnet"):
        models.create("lenet5", 1, 10)
    with pytest.raises(DataError, match="resnet18 takes no argument widths: it knows size, width, stem"):
        models.create("resnet18", 1, 10, widths=3)


OWN = """
from dataclasses import dataclass
from torch import nn
from sibling import HIDDEN

def tiny(channels, classes, hidden=HIDDEN):
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, hidden), nn.Linear(hidden, classes))

def sized(channels, classes, size):
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * size[0] * size[1], classes))

def anything(**arguments):
    return nn.Linear(arguments["channels"], arguments["classes"], bias=arguments["bias"])

def no_module(channels, classes):
    return 7

@dataclass
class Sizes:
    hidden: "int"

def of_sizes(channels, classes):
    return tiny(channels, classes, Sizes(6).hidden)

number = 3
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    (tmp_path / "sibling.py").write_text("HIDDEN = 11\n")
    (tmp_path / "own.py").write_text(OWN)
    return tmp_path / "own.py"


def test_a_factory_in_the_user_s_file_is_called(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(own.parent)
    assert models.create("own.py:tiny", 2, 3, size=(4, 4))[2].out_features == 11
    assert models.create(f"{own}:tiny", 2, 3, hidden=5)[2].out_features == 5
    assert models.create(f"{own}:of_sizes", 2, 3)[2].out_features == 6
    assert models.create(f"{own}:sized", 2, 3, size=(4, 5))[1].in_features == 40
    assert models.create(f"{own}:anything", 2, 3, bias=False).bias is None


@pytest.mark.parametrize(
    ("tail", "arguments", "words"),
    [
        (":huge", {}, "no factory 'huge': it has tiny, sized, anything, no_module, of_sizes"),
        (":number", {}, "no factory 'number'"),
        (":no_module", {}, "type int: it must return a torch.nn.Module"),
        (":tiny", {"depth": 3}, "takes no argument depth: it knows hidden"),
        (":no_module", {"depth": 3}, "it knows none"),
    ],
)
def test_what_is_wrong_with_the_user_s_factory_is_said(own: Path, tail: str, arguments: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        models.create(f"{own}{tail}", 2, 3, **arguments)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = 1\ny = 1 / 0\n", "ZeroDivisionError in line 2"),
        ("def f(:\n", "SyntaxError in line 1"),
        ("import not_there\n", "ModuleNotFoundError in line 1"),
    ],
)
def test_what_is_wrong_with_the_user_s_file_is_said(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "own.py"
    with pytest.raises(DataError, match="there is no file"):
        models.create(f"{file}:f", 1, 2)
    file.write_text(text)
    with pytest.raises(DataError, match=words):
        models.create(f"{file}:f", 1, 2)
