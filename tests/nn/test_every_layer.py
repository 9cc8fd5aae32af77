"""What holds for every layer: compiled, exported, traced, vectorised, copied, cast, and fed with any layout."""

import copy
import importlib
import pickle
import shutil
from functools import partial

import pytest
import torch
from every_layer import CHANNELS, LAYERS, build

from svertka import nn, using

Tensor = torch.Tensor
IN_2D = [case for case in LAYERS if case.endswith("2d")]
ONE_SIZE = "LocallyConnected"


def parts(result: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return result if isinstance(result, tuple) else (result,)


def assert_same(found: Tensor | tuple[Tensor, ...], expected: Tensor | tuple[Tensor, ...], atol: float = 1e-6) -> None:
    for mine, its in zip(parts(found), parts(expected), strict=True):
        assert mine.dtype == its.dtype
        assert torch.allclose(mine, its, atol=atol, rtol=0, equal_nan=True)


def larger(x: Tensor) -> Tensor:
    """Another batch, of other sizes."""
    torch.manual_seed(1)
    return torch.randn(3, CHANNELS, *(n + 3 for n in x.shape[2:]))


def test_every_public_layer_is_here() -> None:
    own = {f"BatchNorm{ndim}d" for ndim in (1, 2, 3)}  # without a batch there is none: see engine/test_batch_norm.py
    assert {type(build(case)[0]).__name__ for case in LAYERS} == set(nn.__all__) - own


@pytest.fixture
def fresh_compiler():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("case", IN_2D)
def test_compiles_to_one_graph(case) -> None:
    layer, x = build(case)
    x.requires_grad_()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    expected = layer(x)
    assert_same(compiled(x), expected)
    wanted = torch.autograd.grad(parts(expected)[0].nan_to_num().square().sum(), x)[0]
    found = torch.autograd.grad(parts(compiled(x))[0].nan_to_num().square().sum(), x)[0]
    assert torch.allclose(found, wanted, atol=1e-5)


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("name", ["Conv reflect", "MaxPool indices", "AvgPool wide", "StochasticPool", "DynamicPool"])
def test_compiles_for_sizes_that_vary(name) -> None:
    layer, x = build(f"{name} 1d")
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager", dynamic=True)
    assert_same(compiled(x), layer(x))
    assert_same(compiled(larger(x)), layer(larger(x)))


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.skipif(not shutil.which("g++"), reason="torch's own compiler needs one for C++")
@pytest.mark.filterwarnings("ignore")
def test_compiles_to_machine_code() -> None:
    model = torch.nn.Sequential(
        nn.Conv2d(CHANNELS, 3, 2, padding=((2, 0), 1), padding_mode="symmetric"), nn.LPPool2d(3, 2)
    )
    x = torch.randn(1, CHANNELS, 5, 4)
    with torch.no_grad():
        assert_same(torch.compile(model, fullgraph=True)(x), model(x), atol=1e-5)


@pytest.mark.parametrize("case", IN_2D)
def test_exports_for_all_sizes(case) -> None:
    layer, x = build(case)
    sizes = dict.fromkeys((0, 2, 3), torch.export.Dim.DYNAMIC)
    shapes = None if ONE_SIZE in case else (sizes,)
    program = torch.export.export(layer, (x,), dynamic_shapes=shapes).module()
    assert_same(program(x), layer(x))
    if shapes is not None:
        assert_same(program(larger(x)), layer(larger(x)))


@pytest.mark.parametrize("case", [case for case in LAYERS if "DynamicKMax" not in case])
def test_is_traced_symbolically_and_vectorised(case) -> None:
    layer, x = build(case)
    expected = layer(x)
    traced = torch.fx.symbolic_trace(torch.nn.Sequential(layer))
    assert_same(traced(x), expected)
    assert_same(pickle.loads(pickle.dumps(traced))(x), expected)
    batches = torch.func.vmap(layer)(torch.stack((x, -x)))
    negative = layer(-x)
    assert_same(batches, tuple(map(torch.stack, zip(parts(expected), parts(negative), strict=True))), atol=1e-5)


@pytest.mark.parametrize("engine", ["portable", "auto"])
@pytest.mark.parametrize("case", LAYERS)
def test_is_a_well_behaved_module(case, engine) -> None:
    with using(engine):
        layer, x = build(case)
        expected = layer(x)
        largest = float(parts(expected)[0].detach().nan_to_num(0, 0, 0).abs().max())
        # The order in which kernels add follows the memory format: their roundings grow with the results.
        atol = 1e-6 * (max(1.0, largest) if engine == "auto" else 1.0)
        check_module(layer, x, expected, build(case)[0], partial(assert_same, atol=atol))


def check_module(layer, x, expected, other, assert_same) -> None:
    for copied in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert_same(copied(x), expected)
        assert repr(copied) == repr(layer)
    assert repr(layer).startswith(type(layer).__name__ + "(")
    other.load_state_dict(layer.state_dict(), strict=True)
    assert_same(other(x), expected)
    assert_same(layer(x.mT.contiguous().mT if x.ndim > 3 else x.movedim(0, 2).contiguous().movedim(2, 0)), expected)
    assert tuple(part.shape for part in parts(layer(x[:0]))) == tuple((0, *part.shape[1:]) for part in parts(expected))
    assert_same(layer(x[0]), tuple(part[0] for part in parts(expected)))
    if x.ndim > 3:
        last = torch.channels_last if x.ndim == 4 else torch.channels_last_3d
        assert_same(layer(x.contiguous(memory_format=last)), expected)
    assert parts(layer.double()(x.double()))[0].dtype == torch.float64


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("case", IN_2D)
def test_half_precision(case, dtype) -> None:
    layer, x = build(case)
    x = x.to(dtype)
    found, expected = parts(layer.to(dtype)(x))[0], parts(layer.float()(x.float()))[0]
    assert found.dtype == dtype
    assert torch.allclose(found.float(), expected, rtol=32 * torch.finfo(dtype).eps, atol=8 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("case", IN_2D)
def test_autocast_lowers_sums_of_products_only(case) -> None:
    layer, x = build(case)
    with torch.autocast("cpu", torch.bfloat16):
        result = parts(layer(x))[0]
    assert result.dtype == (torch.bfloat16 if "Conv" in case or "Connected" in case or "Weighted" in case else x.dtype)


def test_layers_are_found_by_pickle_in_their_module() -> None:
    for name in nn.__all__:
        kind = getattr(nn, name)
        assert getattr(importlib.import_module(kind.__module__), name) is kind
