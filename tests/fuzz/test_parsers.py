"""Every parser, given what was damaged, cut short, or lies: a result or one sentence, no crash, no flood of memory."""

import contextlib
import io
import json
import signal
import sys

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from fuzz import damage
from fuzz.amount import drawn
from fuzz.damage import ODD, Whole, changed, damaged, fenced, written
from hypothesis import given
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from svertka import models
from svertka.engine import tuning
from svertka.errors import SvertkaError
from svertka.explain.parsing import parse_text
from svertka.jit import cache
from svertka.vision import checkpoint, idx
from svertka.vision.modelfile import load_model, save_model
from svertka.vision.pictures import Preprocessing, read_header
from svertka.vision.report.runs import read_run
from svertka.vision.results import predict_into
from svertka.vision.run import train
from svertka.vision.runfolder import read_config

GRAMMAR = st.text("0123456789 ,;|.-+e/\n\tnaif∞x", max_size=60) | st.text(max_size=40)
SMALL = {"hidden": 4}
SIZE = (8, 8)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("parsers")


@drawn(150, 0.2)
@given(GRAMMAR)
def test_matrices(text):
    with fenced():
        found = parse_text(text, "the input")
        assert np.isfinite(found).all() and found.size


WORDS = (
    "0", "1", "2", "3", "-1", "3x3", "0x0", "1,2", "same", "same_upper", "valid", "reflect", "9999999999", "nan", "inf",
    "1e400", "", " ", "1;2", "3 4; 5 6", "\0", "é", "--", "5x5x5x5", "max", "average", "norm",
)  # fmt: skip
COMMANDS = {
    ("explain", "conv"): (
        "--input", "--kernel", "--stride", "--dilation", "--padding", "--mode", "--groups", "--bias", "--at",
    ),
    ("explain", "pool"): ("--input", "--size", "--stride", "--dilation", "--padding", "--mode", "--kind", "--at"),
    ("summary", "lenet"): ("--input", "--classes", "--model-arg"),
    ("train", "digits", "--out", "/dev/null"): ("--size", "--epochs", "--lr", "--batch-size", "--seed", "--model-arg"),
}  # fmt: skip


def called(arguments):
    """(exit code, standard error) of a command, in this process."""
    from svertka.cli import main

    said, before = io.StringIO(), sys.argv
    sys.argv = ["svertka", *arguments]
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
            try:
                main()
            except SystemExit as end:
                return end.code or 0, said.getvalue()
        return 0, said.getvalue()
    finally:
        sys.argv = before


@drawn(60, 0.05)
@given(st.sampled_from(list(COMMANDS)), st.data())
def test_options(command, data):
    options = data.draw(st.lists(st.sampled_from(COMMANDS[command]), max_size=4, unique=True))
    arguments = [*command]
    if command[0] == "explain":
        arguments += ["--input", "1 2 3 4; 5 6 7 8; 9 1 2 3"]
        arguments += ["--kernel", "1 2; 3 4"] if command[1] == "conv" else ["--size", "2"]
    for option in options:
        arguments += [option, data.draw(st.sampled_from(WORDS) | st.text(max_size=6))]
    with fenced(most=512 << 20):
        code, said = called(arguments)
        assert code in (0, 1, 2) and "Traceback" not in said, (arguments, code, said)


def pictures():
    """A small picture in each of the usual formats."""
    pixels = (np.arange(24 * 20 * 3) % 251).astype(np.uint8).reshape(24, 20, 3)
    found = []
    for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "ICO", "TGA", "PCX", "SGI"):
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, kind)
        found.append(file.getvalue())
    return found


PICTURES = pictures()


@drawn(150, 0.2)
@given(st.sampled_from(PICTURES).flatmap(damaged), st.sampled_from(("crop", "stretch", "pad")), st.sampled_from((1, 3)))
def test_pictures(data, fit, channels):
    with fenced(most=600 << 20):
        read_header(data)
        found = Preprocessing(channels, SIZE, fit).decode(data)
        assert found.shape == (channels, *SIZE) and found.dtype is torch.uint8


@pytest.fixture(scope="module")
def model(place):
    """A model's file: (its bytes, its tensors, its header)."""
    path = place / "model.safetensors"
    network = models.create("lenet", 1, 3, size=SIZE, **SMALL)
    save_model(
        path, network, name="lenet", arguments=SMALL, classes="abc", preprocessing=Preprocessing(1, SIZE), extra={}
    )
    with safe_open(path, framework="pt") as opened:
        header = json.loads(opened.metadata()["svertka"])
    return Whole((path.read_bytes(), load_file(path), header))


@drawn(80, 0.1)
@given(st.data())
def test_bytes_of_model_files(place, model, data):
    path = place / "damaged.safetensors"
    path.write_bytes(data.draw(damaged(model.content[0])))
    with fenced():
        load_model(path)


@drawn(80, 0.1)
@given(st.data())
def test_headers_and_tensors_of_model_files_that_lie(place, model, data):
    path, tensors = place / "lying.safetensors", dict(model.content[1])
    header = data.draw(changed(model.content[2], 3))
    if data.draw(st.booleans()):
        name = data.draw(st.sampled_from(sorted(tensors)))
        shape = data.draw(st.lists(st.integers(0, 9), max_size=5))
        dtype = data.draw(st.sampled_from((torch.float32, torch.float64, torch.int64, torch.bool, torch.complex64)))
        tensors[name] = torch.zeros(shape, dtype=dtype)
    save_file(tensors, path, metadata={"svertka": json.dumps(header)})
    with fenced():
        load_model(path)


@pytest.fixture(scope="module")
def run(place):
    """A finished run's files, by name."""
    folder = place / "run"
    given = {"data": "digits", "epochs": 1, "model": "linear", "device": "cpu", "threads": 1, "batch_size": 500}
    train(given, out=folder, workers=0)
    return Whole({path.name: path.read_bytes() for path in folder.iterdir()})


def unfolded(folder, files):
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


@drawn(60, 0.05)
@given(st.data())
def test_run_folders(place, run, data):
    """What is read when a run is taken up again or reported, not what is trained after that."""
    files = dict(run.content)
    name = data.draw(st.sampled_from(("config.json", "metrics.jsonl", "checkpoint", "model.safetensors")))
    if name == "config.json" and data.draw(st.booleans()):
        files[name] = written(data.draw(changed(json.loads(files[name]), 3)))
    elif name == "metrics.jsonl" and data.draw(st.booleans()):
        files[name] = written(data.draw(changed(json.loads(files[name].splitlines()[0])))) + b"\n"
    else:
        files[name] = data.draw(damaged(files[name]))
    folder = unfolded(place / "taken up", files)
    with fenced(most=400 << 20):
        train({}, out=folder, resume=True, workers=0)
    unfolded(folder, files)
    with fenced(most=400 << 20):
        read_run(folder, None, 0)


@drawn(80, 0.1)
@given(st.data())
def test_states_of_checkpoints(place, data):
    path = place / "state"
    record = {"epoch": 1, "lr": 0.1, "train_loss": 1.0, "train_accuracy": 0.5, "seconds": 1.0, "val_accuracy": 0.5}
    state = {"history": [{**record, "val_loss": 1.0}], "step": 3, "loss_sum": 0.5, "correct": 2, "seen": 4}
    state |= {"seconds": 1.0, "skipped": {"a": "b"}}
    header = data.draw(changed({"state": state, "config": {"seed": 1}}, 3))
    text = json.dumps(header) if data.draw(st.booleans()) else data.draw(st.text(max_size=50))
    save_file({"a": torch.zeros(2)}, path, metadata={"svertka checkpoint": text})
    with fenced():
        found = checkpoint.read_state(path, {"seed": 1})
        assert found.finished(10, 2 if found.history and "val_loss" in found.history[0] else 0) in (True, False)
        assert found.step >= 0 and found.seen >= found.correct >= 0 and all(isinstance(h, dict) for h in found.history)


@drawn(40, 0.05)
@given(st.data())
def test_kept_predictions(place, model, data):
    trained_at = place / "whole.safetensors"
    trained_at.write_bytes(model.content[0])
    folder, picture = place / "answers", place / "one.png"
    picture.write_bytes(PICTURES[0])
    trained = load_model(trained_at)
    if not (folder / "parts").exists():
        predict_into(folder, trained, [picture], workers=0)
    config = (folder / "config.json").read_text()
    good = json.loads((folder / "predictions.jsonl").read_text().splitlines()[0])
    part = folder / "parts" / "drawn.jsonl"
    part.write_bytes(
        written(data.draw(changed(good))) + b"\n" if data.draw(st.booleans()) else data.draw(damaged(written(good)))
    )
    try:
        with fenced():
            predict_into(folder, trained, [picture], workers=0)
    finally:
        part.unlink()
        (folder / "predictions.jsonl").write_text(json.dumps(good) + "\n")
        (folder / "config.json").write_text(config)


def idx_file(shape):
    return bytes([0, 0, 8, len(shape)]) + np.array(shape, ">u4").tobytes() + bytes(int(np.prod(shape)))


@drawn(120, 0.2)
@given(
    st.sampled_from(((5, 4, 3), (7,))).flatmap(lambda s: damaged(idx_file(s))), st.sampled_from((1, 3)), st.booleans()
)
def test_idx_files(place, data, dimensions, zipped):
    import gzip

    path = place / "train-images-idx3-ubyte"
    path.write_bytes(gzip.compress(data) if zipped else data)
    with fenced():
        assert idx.read_idx(path, dimensions).ndim == dimensions


@pytest.fixture(scope="module")
def graph(place):
    """A network as ONNX."""
    from svertka.deploy.export import export_onnx

    path = place / "network.onnx"
    network = torch.nn.Sequential(
        torch.nn.Conv2d(1, 2, 3, padding=1), torch.nn.ReLU(), torch.nn.MaxPool2d(2), torch.nn.Flatten(),
        torch.nn.Linear(32, 3),
    )  # fmt: skip
    export_onnx(network.eval(), torch.zeros(2, 1, *SIZE), path)
    return Whole(path.read_bytes())


@drawn(60, 0.1)
@given(st.data())
def test_onnx_files(place, graph, data):
    from svertka.deploy.reading import import_onnx

    path = place / "damaged.onnx"
    path.write_bytes(data.draw(damaged(graph.content)))
    with fenced():
        found = import_onnx(path, data.draw(st.sampled_from((None, (1, *SIZE)))))
        assert isinstance(found.network, torch.nn.Module)


@drawn(40, 0.1)
@given(st.data())
def test_graphs_of_onnx_that_lie(place, graph, data):
    """Well-formed files whose attributes, dimensions and names are odd."""
    import onnx

    from svertka.deploy.reading import import_onnx

    proto = onnx.ModelProto.FromString(graph.content)
    node = data.draw(st.sampled_from(list(proto.graph.node)))
    how = data.draw(st.integers(0, 5))
    if how == 0 and node.attribute:
        attribute = data.draw(st.sampled_from(list(node.attribute)))
        attribute.ints[:] = data.draw(st.lists(st.sampled_from((-1, 0, 1, 2, 3, 2**31, 2**62)), max_size=6))
    elif how == 1:
        node.op_type = data.draw(
            st.sampled_from(("Conv", "MaxPool", "Gemm", "Reshape", "Pad", "Concat", "Loop", "Relu"))
        )
    elif how == 2 and proto.graph.initializer:
        tensor = data.draw(st.sampled_from(list(proto.graph.initializer)))
        tensor.dims[:] = data.draw(st.lists(st.sampled_from((0, 1, 2, 3, 9, 2**31, 2**62, -1)), max_size=6))
    elif how == 3 and node.input:
        node.input[0] = data.draw(st.sampled_from(("", node.output[0], "elsewhere")))
    elif how == 4:
        node.attribute.append(
            onnx.helper.make_attribute(data.draw(st.sampled_from(("pads", "strides", "axis"))), [7, -7])
        )
    else:
        dim = proto.graph.input[0].type.tensor_type.shape.dim
        dim[data.draw(st.integers(0, len(dim) - 1))].dim_value = data.draw(st.sampled_from((0, 1, -5, 2**40)))
    path = place / "lying.onnx"
    path.write_bytes(proto.SerializeToString())
    with fenced():
        import_onnx(path, (1, *SIZE))


@drawn(100, 0.2)
@given(st.data())
def test_entries_of_the_cache(place, data):
    """Only the very bytes that were written come back."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(cache.VARIABLE, str(place / "cache"))
        key, payload = cache.key("one"), bytes(range(100))
        cache.write(key, payload)
        path = place / "cache" / key
        path.write_bytes(data.draw(damaged(path.read_bytes())))
        with fenced():
            assert cache.read(key) in (None, payload)
        with fenced():
            assert cache.read(data.draw(st.text(max_size=70))) is None


@drawn(60, 0.1)
@given(st.data())
def test_schedules_that_were_kept(place, data):
    from svertka.kernels.dense import Dense
    from svertka.kernels.epilogue import Epilogue
    from svertka.kernels.few import Few
    from svertka.kernels.target import host

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(cache.VARIABLE, str(place / "tuned"))
        cache.write(cache.key("one"), b"")
        questions = (
            (Dense(8, 8, Epilogue()), host(), 9, 100),
            (Few(3, 8, 3, 1, Epilogue(), (1, 1), False, False), host(), 3, 20),
        )
        kept = {tuning._key(*question): {"pixels": 4, "vectors": 2} for question in questions}
        text = written(data.draw(changed(kept, 3))) if data.draw(st.booleans()) else data.draw(damaged(written(kept)))
        (place / "tuned" / tuning.FILE).write_bytes(b"[" * 100_000 if data.draw(st.integers(0, 9)) == 0 else text)
        tuning._kept.cache_clear()
        try:
            with fenced():
                for question in questions:
                    assert tuning.schedule_for(*question) in tuning._RULES[type(question[0])][1](*question)
        finally:
            tuning._kept.cache_clear()


@drawn(40, 0.05)
@given(st.data())
def test_configurations(place, run, data):
    folder = unfolded(place / "config", run.content)
    content = data.draw(damaged(run.content["config.json"]) | st.sampled_from(ODD).map(written))
    (folder / "config.json").write_bytes(content)
    with fenced():
        read_config(folder)


def test_the_fence_holds(monkeypatch):
    """An error that nobody meant to raise, a sentence of two lines, a flood of memory each time, a loop."""
    with pytest.raises(TypeError), fenced():
        raise TypeError("not meant")
    with pytest.raises(AssertionError), fenced():
        raise SvertkaError("one\ntwo")
    for _ in range(2):
        with pytest.raises(AssertionError, match="MiB"), fenced(most=1 << 20):
            np.ones(1 << 28, np.uint8).sum()
    monkeypatch.setattr(damage, "SECONDS", 0.2)
    with pytest.raises(AssertionError, match="computed"), fenced():
        while True:
            pass
    monkeypatch.setattr(damage, "WAITED", 0.2)
    with pytest.raises(AssertionError, match="hangs"), fenced():
        signal.pause()
