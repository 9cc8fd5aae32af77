"""What the fuzzing tests have found, each as it was found."""

from dataclasses import replace

import numpy as np
import pytest

from svertka import spec
from svertka.engine import tuning
from svertka.errors import DataError
from svertka.explain.explanation import explain
from svertka.explain.matrix import derivative
from svertka.jit import cache
from svertka.vision.checkpoint import State, are_records
from svertka.vision.results import _answers
from svertka.vision.runfolder import read_metrics
from svertka.vision.settings import Settings

SETTINGS = {
    "data": "digits", "model": "linear", "model_arguments": {}, "size": [8, 8], "channels": 1, "fit": "crop",
    "validation": 0.1, "strict": False, "seed": 0, "epochs": 1, "batch_size": 8, "optimizer": "sgd", "lr": 0.1,
    "weight_decay": 0, "schedule": "onecycle", "label_smoothing": 0.0, "class_weights": False, "early_stopping": 0,
    "shift": 0, "flip": False, "crop": 0.0, "contrast": 0.0, "device": "cpu", "threads": 1,
}  # fmt: skip


def test_settings_of_the_right_types_are_read():
    assert replace(Settings.from_dict(SETTINGS), weight_decay=1.0).size == (8, 8)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seed", []), ("seed", True), ("size", None), ("size", [8]), ("size", [8, -8]), ("size", 3.5), ("data", 7),
        ("model", None), ("lr", "0.1"), ("lr", float("nan")), ("model_arguments", [1]), ("flip", 1),
    ],
)  # fmt: skip
def test_settings_of_another_type_are_named(name, value):
    with pytest.raises(DataError, match=f"--{name.split('_')[0]}.* cannot be"):
        Settings.from_dict({**SETTINGS, name: value})


def test_settings_without_a_name_are_named():
    with pytest.raises(DataError, match='differ in "": start'):
        Settings.from_dict({**SETTINGS, "": None})


@pytest.mark.parametrize("content", [b"\x8c", b"[]", b"3", b'{"picture": 3}', b"[" * 100_000, b"{}"])
def test_a_part_of_predictions_that_is_damaged_is_named(tmp_path, content):
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "one.jsonl").write_bytes(content)
    with pytest.raises(DataError, match=r"one\.jsonl is damaged"):
        _answers(tmp_path)


@pytest.mark.parametrize("content", [b"\xff", b"[1]", b'{"epoch": 2}', b"[" * 100_000, b'{"epoch": 1, "lr": "a"}'])
def test_metrics_that_are_damaged_are_named(tmp_path, content):
    (tmp_path / "metrics.jsonl").write_bytes(content)
    with pytest.raises(DataError, match=r"metrics\.jsonl"):
        read_metrics(tmp_path / "metrics.jsonl")


def test_states_that_no_training_comes_to():
    assert State().is_possible()
    for change in ({"step": -1}, {"step": "a"}, {"correct": 2}, {"history": [1]}, {"skipped": []}, {"seconds": None}):
        assert not State(**change).is_possible()
    assert not are_records([{"epoch": 1}])


def test_schedules_nested_too_deep_are_none(tmp_path, monkeypatch):
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    cache.write(cache.key("one"), b"")
    (tmp_path / "cache" / tuning.FILE).write_text("[" * 100_000)
    tuning._kept.cache_clear()
    assert tuning._kept() == {}
    tuning._kept.cache_clear()


def test_a_key_that_is_none_is_not_looked_for(tmp_path, monkeypatch):
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    cache.write(cache.key("one"), b"")
    (tmp_path / "secret").write_bytes(b"x" * 200)
    for key in ("../secret", "", "\0", "zz" * 32):
        assert cache.read(key) is None


@pytest.mark.parametrize("dims", [(0, 2**62), (2**31,), (1,) * 20, (-1,)])
def test_dimensions_of_onnx_that_no_array_has(tmp_path, dims):
    onnx = pytest.importorskip("onnx")
    from svertka.deploy.onnxfile import OnnxFile

    tensor = onnx.TensorProto(name="w", data_type=1, dims=dims)
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    x, y = (onnx.helper.make_tensor_value_info(name, 1, [1, 1, 4, 4]) for name in "xy")
    graph = onnx.helper.make_graph([node], "g", [x], [y], [tensor])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(DataError, match=r"'w' of the shape|claims tensors of more than 2 GiB"):
        OnnxFile(tmp_path / "m.onnx")


@pytest.mark.parametrize("batch", [-5, 2**40])
def test_batches_of_onnx_that_cannot_be(tmp_path, batch):
    onnx = pytest.importorskip("onnx")
    from svertka.deploy.reading import import_onnx

    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    x, y = (onnx.helper.make_tensor_value_info(name, 1, [batch, 1, 4, 4]) for name in "xy")
    model = onnx.helper.make_model(
        onnx.helper.make_graph([node], "g", [x], [y]), opset_imports=[onnx.helper.make_opsetid("", 17)]
    )
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(DataError, match="pictures at a time"):
        import_onnx(tmp_path / "m.onnx")


@pytest.mark.parametrize(("p", "largest"), [(5e-324, 4.0), (2e-295, 4.0), (9e-4, 4.0), (100.0, 1e200)])
def test_norms_that_overflow(p, largest):
    shown = explain(spec.LpPool(spec.windows(1, 2), p), np.array([[1.0, 2, 3, largest]]))
    slopes = [derivative(shown.bound.operation, step, term) for step in shown.steps for term in step.terms]
    assert len(slopes) == 6 and all(slope >= 0 for slope in slopes)
    assert shown.output[0, -1] == np.inf
