"""What is told of a compiled network: every operation, who computes it and why, and how long it takes."""

import json
from itertools import pairwise

import pytest
import torch
from networks import made
from torch import nn
from typer.testing import CliRunner

import svertka
from svertka.cli import app
from svertka.compiler import report as reporting
from svertka.compiler.report import write_trace
from svertka.engine import speed


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(speed, "_SECONDS", 1e-4)
    monkeypatch.setattr(reporting, "_SECONDS", 1e-3)


def test_fusions_are_told():
    model, x = made("lenet")
    (found,) = svertka.report(svertka.compile(model, x))
    first, second, view, dense, last = found.nodes
    assert first.name == "features.0.conv"
    assert first.fused == ("convolution", "batch_norm", "relu", "max_pool2d")
    assert first.shape == (3, 8, 14, 14)
    assert first.macs == 3 * 8 * 28 * 28 * 25
    assert (first.path, first.kernels, second.path, view.path) == ("kernel", 1, "kernel", "view")
    assert (dense.fused, last.fused) == (("linear", "relu"), ("linear",))
    assert not found.fallbacks
    assert found.calls == 1
    assert found.inputs == ((3, 1, 28, 28),)
    assert 0 < found.arena_bytes <= found.unshared_bytes
    assert found.weight_bytes > 0
    assert found.seconds is None
    assert "4 kernels in 1 calls, 0 operations of torch" in str(found)


def test_a_depthwise_and_a_pointwise_convolution_are_one_or_two():
    def layer(inputs, outputs, **more):
        return [nn.Conv2d(inputs, outputs, **more), nn.BatchNorm2d(outputs), nn.ReLU()]

    depthwise = {"kernel_size": 3, "padding": 1, "bias": False}
    for axes in (1, 2):
        pairs = [*layer(8, 8, groups=8, **depthwise), *layer(8, 24, kernel_size=1)]
        if axes == 1:
            pairs = [nn.Conv1d(8, 8, 3, padding=1, groups=8), nn.ReLU(), nn.Conv1d(8, 24, 1), nn.ReLU()]
        model, x = nn.Sequential(*pairs).eval(), torch.randn(2, 8, *(20,) * axes)
        compiled = svertka.compile(model, x)
        (found,) = svertka.report(compiled)
        (node,) = (node for node in found.nodes if node.fused)
        whole = ("convolution", "batch_norm", "relu") if axes == 2 else ("convolution", "relu")
        assert node.fused == 2 * whole
        assert node.detail.startswith("separable")
        assert node.macs == 2 * 20**axes * (8 * 3**axes + 8 * 24)
        with torch.no_grad():
            torch.testing.assert_close(compiled(x), model(x), rtol=1e-4, atol=1e-5)
    many = nn.Sequential(*layer(256, 256, groups=256, **depthwise), *layer(256, 512, kernel_size=1)).eval()
    x = torch.randn(1, 256, 7, 7)
    compiled = svertka.compile(many, x)
    (found,) = svertka.report(compiled)
    assert [node.fused for node in found.nodes if node.fused] == 2 * [("convolution", "batch_norm", "relu")]
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), many(x), rtol=1e-4, atol=1e-5)


def test_fallbacks_have_reasons():
    model, x = made("unknown")
    (found,) = svertka.report(svertka.compile(model, x))
    reasons = {node.name: node.detail for node in found.fallbacks}
    assert reasons["cumsum"] == "there is no kernel for it"
    assert reasons["elu"] == "there is no kernel for it"
    assert found.calls > 1


def test_every_shape_has_its_report_and_no_plan_a_reason():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU())
    compiled = svertka.compile(model)
    with torch.no_grad():
        for n in (4, 5):
            compiled(torch.randn(1, 1, n, n))
        compiled(torch.randn(0, 1, 4, 4))
    found = svertka.report(compiled)
    assert [part.inputs for part in found] == [((1, 1, 4, 4),), ((1, 1, 5, 5),), ((0, 1, 4, 4),)]
    assert "no plan, since there is an empty tensor" in str(found[2])


def test_dynamos_are_found_by_their_module():
    torch.compiler.reset()
    model, x = made("lenet")
    compiled, other = torch.compile(model, backend="svertka"), nn.Linear(3, 3)
    with torch.no_grad():
        compiled(x)
    (found,) = svertka.report(compiled)
    assert [node.name for node in found.nodes if node.macs] == [
        "features.0.conv",
        "features.1.conv",
        "dense.0",
        "dense.3",
    ]
    assert svertka.report(torch.compile(other, backend="svertka")) == []
    assert compiled(x).requires_grad
    assert [part.reason for part in svertka.report(compiled)] == ["", ""]  # a forward graph beside it
    with pytest.raises(svertka.SvertkaError, match="of type int"):
        svertka.report(3)


def test_times_and_a_trace(tmp_path):
    model, x = made("unknown")
    (found,) = svertka.report(svertka.compile(model, x), measure=True)
    assert found.seconds == pytest.approx(sum(node.seconds for node in found.nodes))
    assert all(node.seconds > 0 for node in found.nodes if node.path != "view")
    assert all(node.of_peak > 0 for node in found.nodes if node.macs)
    write_trace(tmp_path / "trace.json", found)
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    blocks = [event for event in events if event["ph"] == "X"]
    assert [event["name"] for event in blocks] == [node.name for node in found.nodes if node.seconds]
    for before, after in pairwise(blocks):
        assert after["ts"] == pytest.approx(before["ts"] + before["dur"])


def test_the_command(tmp_path):
    arguments = ["profile", "lenet", "--input", "1x28x28", "--classes", "10", "--trace", str(tmp_path / "t.json")]
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    assert "convolution + relu + max_pool2d" in result.stdout
    assert "4 kernels in 1 native call; nothing is left to torch" in result.stdout
    assert (tmp_path / "t.json").exists()
    found = json.loads(CliRunner().invoke(app, [*arguments[:6], "--json"]).stdout)
    assert found["nodes"][0]["name"] == "features.0.conv"
    wrong = CliRunner().invoke(app, ["profile", "lenet"])
    assert wrong.exit_code
