"""ONNX files: every layer with open sizes, held against ONNX Runtime; what is refused, and what is carried along."""

import json
import subprocess
import sys

import onnx
import onnxruntime
import pytest
import torch
from every_layer import LAYERS, build

from svertka import SvertkaError, models, nn
from svertka.deploy import export
from svertka.deploy.export import export_onnx
from svertka.vision.modelfile import save_model
from svertka.vision.pictures import Preprocessing


class Side(torch.nn.Module):
    """Many layers on one input."""

    def __init__(self, layers):
        super().__init__()
        self.layers = torch.nn.ModuleList(layers)

    def forward(self, x):
        results = [layer(x) for layer in self.layers]
        return tuple(part for result in results for part in (result if isinstance(result, tuple) else (result,)))


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_every_layer_with_open_sizes(ndim, tmp_path):
    cases = [case for case in LAYERS if case.endswith(f"{ndim}d") and "Locally" not in case]
    if ndim == 3:  # paddings that hang on the size take torch seconds to trace on each axis, and the axes are alike
        cases = [case for case in cases if case[:-3] not in ("Conv reflect", "AvgPool wide", "LPPool", "Pad")]
    written = export_onnx(Side([build(case)[0] for case in cases]), build(cases[0])[1], tmp_path / "all.onnx")
    axes = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}[ndim]
    assert written.input[1] == ("batch", 4, *axes)
    assert written.notes == ()
    assert len({shape[2:] for shape in written.tried}) >= 5
    assert written.difference <= written.tolerance < 1e-3


def test_every_padding_mode_with_and_without_rounding_up(tmp_path):
    modes = ("zeros", "replicate", "reflect", "symmetric", "circular")
    layers = [nn.Conv2d(4, 2, 3, 2, 7, padding_mode=mode) for mode in modes]
    layers += [nn.MaxPool2d(3, 2, 1, ceil_mode=True), nn.AvgPool2d(3, 2, 1, True, False)]
    written = export_onnx(Side(layers), torch.zeros(2, 4, 5, 6), tmp_path / "modes.onnx")
    assert written.input[1] == ("batch", 4, "height", "width")


def test_what_holds_for_one_size_only_is_fixed_and_said(tmp_path):
    layer, x = build("LocallyConnected 2d")
    written = export_onnx(layer, x, tmp_path / "fixed.onnx")
    assert written.input[1] == ("batch", 4, 6, 7)
    assert "fixed in the file: height 6, width 7" in written.notes[0]


def test_a_network_keeps_its_mode_and_weights_and_takes_other_sizes(tmp_path):
    model = models.lenet(1, 10, widths=(4, 8), hidden=16, norm=True).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    written = export_onnx(model, torch.zeros(2, 1, 28, 28), tmp_path / "lenet.onnx")
    assert model.training and model.dense[0].training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    session = onnxruntime.InferenceSession(tmp_path / "lenet.onnx")
    x = torch.randn(3, 1, 61, 43)
    (found,) = session.run(None, {"input": x.numpy()})
    assert torch.allclose(torch.from_numpy(found), model.eval()(x), atol=1e-5)
    assert written.input == ("input", ("batch", 1, "height", "width"))
    onnx.checker.check_model(str(tmp_path / "lenet.onnx"), full_check=True)


@pytest.mark.parametrize("size", [(2, 3, 6, 7)])
def test_a_difference_is_refused_and_nothing_written(size, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "_translations", lambda: {torch.ops.aten.relu.default: lambda x: x})
    with pytest.raises(SvertkaError, match=r"Sequential can't be written as ONNX: ONNX Runtime's result differs by"):
        export_onnx(torch.nn.Sequential(torch.nn.ReLU()), torch.zeros(size), tmp_path / "x.onnx", fixed_size=True)
    assert list(tmp_path.iterdir()) == []


def test_the_comparison_is_as_narrow_as_it_says():
    x = torch.randn(5, dtype=torch.float64)
    ours = x.float()
    export._error((5,), [ours], [ours], [x])
    with pytest.raises(SvertkaError, match="rounding"):
        export._error((5,), [ours + 3e-5], [ours], [x])
    with pytest.raises(SvertkaError, match="infinite"):
        export._error((1,), [torch.tensor([1.0])], [torch.tensor([torch.inf])], None)


class Sorted(torch.nn.Module):
    def forward(self, x):
        return torch.linalg.svd(x).S


def test_what_onnx_lacks_is_named(tmp_path):
    with pytest.raises(SvertkaError, match=r"Sorted can't be written as ONNX: there is no ONNX for .*svd"):
        export_onnx(Sorted(), torch.zeros(2, 3, 4, 4), tmp_path / "x.onnx", fixed_size=True)


def test_the_command_carries_classes_and_normalisation(tmp_path):
    model = models.create("lenet", 1, 3, size=(8, 8), widths=[2, 3], hidden=4)
    preprocessing = Preprocessing(1, (8, 8), mean=(0.25,), std=(0.5,))
    save_model(
        tmp_path / "model.safetensors", model, name="lenet", arguments={"widths": [2, 3], "hidden": 4},
        classes=("кот", "dog", "cow"), preprocessing=preprocessing,
    )  # fmt: skip
    command = [sys.executable, "-m", "svertka.cli", "export", str(tmp_path), "--onnx", str(tmp_path / "m.onnx")]
    done = subprocess.run([*command, "--fixed-size", "--json"], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    told = json.loads(done.stdout)
    assert told["opset"] == 20 and told["input"] == ["input", ["batch", 1, 8, 8]] and told["notes"] == []
    carried = {entry.key: entry.value for entry in onnx.load(tmp_path / "m.onnx").metadata_props}
    assert json.loads(carried["svertka.classes"]) == ["кот", "dog", "cow"]
    assert Preprocessing.from_dict(json.loads(carried["svertka.preprocessing"])) == preprocessing
