import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.nn.functional as F

import svertka
from svertka import functional, nn
from svertka.engine import dispatch
from svertka.engine.report import report
from svertka.errors import SvertkaError


class Own(torch.Tensor):
    pass


def path_of(call):
    """(path, detail) of the one call that `call` makes."""
    report(reset=True)
    call()
    ((found, count),) = report(reset=True).items()
    assert count == 1
    return found.path, found.detail


@pytest.fixture
def tensors():
    torch.manual_seed(0)
    return torch.randn(1, 2, 5, 5), torch.randn(3, 2, 3, 3)


def test_without_gradients_the_kernels_compute(tensors):
    with torch.no_grad():
        assert path_of(lambda: functional.conv2d(*tensors))[0] == "kernel"
    with torch.inference_mode():
        assert path_of(lambda: functional.conv2d(*tensors))[0] == "kernel"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda t: t.double(), "float64 is computed by torch"),
        (lambda t: t.bfloat16(), "bfloat16 is computed by torch"),
        (lambda t: t.to(torch.complex64), "complex64 is computed by torch"),
        (lambda t: t.as_subclass(Own), "it is a tensor of a kind of its own"),
        (lambda t: t[:0] if t.shape[0] == 1 else t, "it is empty"),
    ],
)
def test_what_the_kernels_leave_to_torch(tensors, change, reason):
    assert path_of(lambda: functional.conv2d(*map(change, tensors))) == ("portable", reason)


@pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")
def test_what_torch_is_doing_decides_too(tensors):
    x, weight = tensors
    with torch.no_grad():
        with torch.autocast("cpu", torch.bfloat16):
            assert path_of(lambda: functional.conv2d(x, weight)) == ("portable", "autocast is on")
        batch = torch.stack([x, x])
        mapped = torch.vmap(functional.conv2d, in_dims=(0, None))
        assert path_of(lambda: mapped(batch, weight))[1] == "a mode or a function transform of torch is active"
        with torch.autograd.forward_ad.dual_level():
            dual = torch.autograd.forward_ad.make_dual(x, x)
            assert path_of(lambda: functional.conv2d(dual, weight))[1] == "forward-mode gradients are on"
        report(reset=True)
        exported = torch.export.export(nn.Conv2d(2, 3, 3), (x,))
        compiled = torch.compile(nn.Conv2d(2, 3, 3), backend="eager", fullgraph=True)(x)
        assert compiled.shape == exported.module()(x).shape
        assert not [call for call in report() if call.path == "kernel"]


def test_engines_are_forced(tensors):
    x, weight = tensors
    with torch.no_grad():
        with svertka.using("portable"):
            assert path_of(lambda: functional.conv2d(x, weight)) == ("portable", "the portable engine was asked for")
        with svertka.using("kernels"):
            assert path_of(lambda: functional.conv2d(x, weight))[0] == "kernel"
            with pytest.raises(SvertkaError, match=r"can't do .* float64 is computed by torch"):
                functional.conv2d(x.double(), weight.double())
    assert dispatch.engine() == "auto"
    with pytest.raises(SvertkaError, match="'fast' is no engine: choose one of auto, kernels, portable"):
        svertka.use("fast")


def test_the_environment_forces_an_engine():
    code = "from svertka.engine.dispatch import engine; print(engine())"
    for name, expected in (("portable", "portable"), ("", "auto")):
        environment = {"SVERTKA_ENGINE": name} if name else {}
        found = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
        )
        assert found.stdout.strip() == expected


def test_an_unknown_engine_in_the_environment_is_named():
    code = "from svertka.engine.dispatch import engine; engine()"
    found = subprocess.run(
        [sys.executable, "-c", code], env={"SVERTKA_ENGINE": "fast"}, capture_output=True, text=True, check=False
    )
    assert "SVERTKA_ENGINE=fast is no engine: choose one of auto, kernels, portable" in found.stderr


def test_errors_are_those_of_the_portable_path(tensors):
    x, weight = tensors
    with torch.no_grad():
        for call in (lambda: functional.conv2d(x, weight[:, :1]), lambda: functional.conv2d(x[..., :2], weight)):
            messages = []
            for engine in ("auto", "portable"):
                with svertka.using(engine), pytest.raises(RuntimeError) as error:
                    call()
                messages.append(str(error.value))
            assert messages[0] == messages[1]


def spread(*shape):
    """Random numbers with gaps between them."""
    return torch.randn(*shape[:-1], 2 * shape[-1])[..., ::2]


@pytest.mark.parametrize("groups", (1, 4, 16))
@pytest.mark.parametrize("last", (False, True))
def test_tensors_with_gaps(groups, last):
    x = torch.randn(2, 16, 9, 9)
    x = x.contiguous(memory_format=torch.channels_last) if last else x
    weight, bias, scale, residual = spread(32, 16 // groups, 3, 3), spread(32), spread(32), spread(2, 32, 9, 9)
    for tensors in ((x, weight), (spread(2, 16, 9, 9), weight)):
        results = []
        for engine in ("kernels", "portable"):
            with torch.no_grad(), svertka.using(engine):
                y = functional.conv_block2d(*tensors, bias, 1, 1, 1, groups, scale=scale, residual=residual)
            results.append(y)
        torch.testing.assert_close(*results, rtol=1e-4, atol=1e-4)


def test_several_threads_at_once(tensors):
    x, weight = torch.randn(8, 2, 33, 33), tensors[1]
    expected = F.conv2d(x, weight)

    def work(_):
        with torch.no_grad():
            return functional.conv2d(x, weight)

    with ThreadPoolExecutor(4) as pool:
        for result in pool.map(work, range(64)):
            torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-5)


def test_a_call_of_many_shapes_is_not_remembered_for_ever(monkeypatch):
    monkeypatch.setattr(dispatch, "_REMEMBERED", 4)
    dispatch.forget()
    with torch.no_grad():
        for length in range(3, 13):
            functional.conv1d(torch.ones(1, 1, length), torch.ones(1, 1, 3))
    assert len(dispatch._runners) == 4


def test_the_memory_of_what_is_remembered_is_bounded(monkeypatch):
    """Its tables of the index map, which fill pages for large pictures of many sizes."""
    monkeypatch.setattr(dispatch, "_LARGEST", 200_000)
    dispatch.forget()
    with torch.no_grad(), svertka.using("kernels"):
        for length in range(30, 60):
            functional.conv2d(torch.ones(1, 40, length, 30), torch.ones(8, 40, 4, 4), stride=2)
    sizes = [dispatch.bytes_of(runner) for runner, _, _ in dispatch._runners.values()]
    assert 1 < len(sizes) < 30 and min(sizes) > 4 * 16 * 100
    assert sum(sizes) == dispatch._held <= 200_000
    dispatch.forget()
    assert not dispatch._held
