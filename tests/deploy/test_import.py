"""Networks from ONNX: what comes back is what went; damaged and hostile files end in one sentence."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

import svertka
from svertka import SvertkaError, models
from svertka.deploy.export import compared_with_file, export_onnx
from svertka.deploy.folding import folded
from svertka.deploy.reading import import_onnx
from svertka.errors import DataError
from svertka.vision.modelfile import create_model
from svertka.vision.pictures import Preprocessing


def graph_file(path, nodes, tensors=(), shape=("N", 2, 4, 4), opset=20, output="y"):
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
        [each if isinstance(each, TensorProto) else numpy_helper.from_array(each[1], each[0]) for each in tensors],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize(
    ("name", "size", "arguments"),
    [
        ("lenet", (1, 28, 28), {"widths": (4, 8), "hidden": 16, "norm": True}),
        ("resnet18", (3, 32, 32), {"width": 4}),
        ("mobilenet", (3, 32, 32), {"width": 0.1}),
    ],
)
def test_a_network_comes_back(name, size, arguments, tmp_path):
    torch.manual_seed(0)
    model = models.create(name, size[0], 5, size=size[1:], **arguments).eval()
    export_onnx(model, torch.zeros(2, *size), tmp_path / "m.onnx", fixed_size=True)
    imported = import_onnx(tmp_path / "m.onnx")
    error = compared_with_file(imported.network, tmp_path / "m.onnx", imported.size, imported.fixed_batch)
    assert error.theirs <= error.tolerance
    x = torch.randn(3, *size)
    with torch.no_grad():
        assert torch.allclose(imported.network(x), model(x), atol=1e-5)
        assert torch.allclose(svertka.compile(imported.network)(x), model(x), atol=1e-4)


def test_shapes_that_older_exporters_compute(tmp_path):
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "zero"], ["n"]),
        helper.make_node("Unsqueeze", ["n", "axis"], ["n1"]),
        helper.make_node("Concat", ["n1", "rest"], ["shape"], axis=0),
        helper.make_node("Reshape", ["x", "shape"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w", "b"], ["y"], transB=1, alpha=0.5),
    ]
    w, b = np.random.default_rng(0).normal(size=(3, 32)).astype(np.float32), np.ones(3, np.float32)
    tensors = [("zero", np.array(0)), ("axis", np.array([0])), ("rest", np.array([-1])), ("w", w), ("b", b)]
    imported = import_onnx(graph_file(tmp_path / "old.onnx", nodes, tensors, opset=13))
    x = torch.randn(5, 2, 4, 4)
    assert torch.allclose(imported.network(x), 0.5 * x.flatten(1) @ torch.from_numpy(w).T + 1, atol=1e-5)


ACTIVATIONS = [
    ("Relu", {}), ("LeakyRelu", {"alpha": 0.2}), ("Sigmoid", {}), ("Tanh", {}), ("HardSigmoid", {}), ("HardSwish", {}),
    ("Elu", {"alpha": 0.7}), ("Gelu", {}), ("Gelu", {"approximate": "tanh"}), ("Erf", {}), ("Softmax", {"axis": 1}),
    ("LRN", {"size": 3, "alpha": 0.1}), ("GlobalLpPool", {"p": 3}), ("Identity", {}), ("Dropout", {}),
    ("Transpose", {"perm": [0, 2, 3, 1]}),
]  # fmt: skip


@pytest.mark.parametrize(("op", "attributes"), ACTIVATIONS)
def test_layers_without_weights(op, attributes, tmp_path):
    file = graph_file(tmp_path / "a.onnx", [helper.make_node(op, ["x"], ["y"], **attributes)])
    imported = import_onnx(file)
    error = compared_with_file(imported.network, file, imported.size, 0)
    assert error.theirs <= error.tolerance


def test_constants_clips_slopes_and_resizing(tmp_path):
    nodes = [
        helper.make_node("Clip", ["x", "", "high"], ["a"]),
        helper.make_node("PRelu", ["a", "slope"], ["b"]),
        helper.make_node("Resize", ["b", "", "scales"], ["c"], mode="nearest"),
        helper.make_node("Mul", ["c", "factor"], ["d"]),
        helper.make_node("Concat", ["d", "c"], ["e"], axis=1),
        helper.make_node("ReduceMean", ["e", "axes"], ["y"], keepdims=0),
    ]
    tensors = [
        ("high", np.float32(0.5)[None].reshape(())), ("slope", np.float32([0.1, 0.3]).reshape(2, 1, 1)),
        ("scales", np.float32([1, 1, 2, 3])), ("factor", np.float32([2, 3]).reshape(1, 2, 1, 1)),
        ("axes", np.array([2, 3])),
    ]  # fmt: skip
    file = graph_file(tmp_path / "c.onnx", nodes, tensors)
    imported = import_onnx(file)
    error = compared_with_file(imported.network, file, imported.size, 0)
    assert error.theirs <= error.tolerance


def run(*arguments):
    return subprocess.run([sys.executable, "-m", "svertka.cli", *map(str, arguments)], capture_output=True, text=True)


def test_the_command_makes_a_model_that_predicts(tmp_path):
    model = models.create("lenet", 1, 3, size=(8, 8), widths=[2, 3], hidden=4).eval()
    preprocessing = Preprocessing(1, (8, 8), mean=(0.25,), std=(0.5,))
    export_onnx(
        model, torch.zeros(2, 1, 8, 8), tmp_path / "m.onnx", fixed_size=True, classes=("кот", "dog", "cow"),
        preprocessing=preprocessing,
    )  # fmt: skip
    done = run("import", tmp_path / "m.onnx", "--out", tmp_path / "run", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["notes"] == []
    pixels = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
    Image.fromarray(pixels).save(tmp_path / "p.png")
    done = run("predict", tmp_path / "run", tmp_path / "p.png", "--json", "--top", "3")
    assert (done.returncode, done.stderr) == (0, "")
    ranking = json.loads(done.stdout)["predictions"]
    with torch.no_grad():
        expected = model(preprocessing.normalise(torch.from_numpy(pixels)[None, None])).softmax(1)[0]
    assert {entry["class"]: pytest.approx(entry["probability"], abs=1e-5) for entry in ranking} == dict(
        zip(("кот", "dog", "cow"), expected.tolist(), strict=True)
    )
    done = run("import", tmp_path / "p.png", "--out", tmp_path / "run")
    assert done.returncode == 2 and "is no " in done.stderr and done.stderr.count("\n") == 1


def external(location, length=8):
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("length", str(length))):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    return tensor


ADD = [helper.make_node("Add", ["x", "w"], ["y"])]
HOSTILE = {
    "a path outside": (ADD, [external("../secret")], "outside its own folder"),
    "an absolute path": (ADD, [external("/etc/passwd")], "outside its own folder"),
    "a missing file": (ADD, [external("nothing.bin")], "missing or of another size"),
    "a lie about bytes": (ADD, [TensorProto(name="w", data_type=1, dims=[2], raw_data=b"1234")], "number of values"),
    "a huge tensor": (ADD, [TensorProto(name="w", data_type=1, dims=[2**40])], "more than 2 GiB"),
    "a negative size": (ADD, [TensorProto(name="w", data_type=1, dims=[-1])], "of the shape"),
    "a type of text": (ADD, [TensorProto(name="w", data_type=8, dims=[0])], "data type 8"),
    "a huge padding": (
        [helper.make_node("Pad", ["x", "p"], ["y"])], [("p", np.array([0, 0, 10**6, 10**6] * 2))], "more than",
    ),
    "a huge resize": (
        [helper.make_node("Resize", ["x", "", "s"], ["y"])], [("s", np.float32([1, 1, 1e5, 1e5]))], "more than",
    ),
    "a cycle": (
        [helper.make_node("Relu", ["y"], ["z"]), helper.make_node("Relu", ["z"], ["y"])], [], "no node before it",
    ),
    "a loop": ([helper.make_node("Loop", ["x"], ["y"])], [], "a kind that is not read"),
    "another domain": ([helper.make_node("Relu", ["x"], ["y"], domain="evil")], [], "domain 'evil'"),
    "no inputs": ([helper.make_node("Relu", [], ["y"])], [], "Relu"),
    "no weights": ([helper.make_node("Conv", ["x"], ["y"])], [], "Conv"),
    "weights without numbers": (
        [helper.make_node("Conv", ["x", "w"], ["y"])], [("w", np.zeros((3, 0, 1, 1), np.float32))], "without numbers",
    ),
    "a stride of 0": ([helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2], strides=[0, 0])], [], "stride"),
    "no output": ([helper.make_node("Relu", ["x"], ["z"])], [], "outputs"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_file_ends_in_a_sentence(case, tmp_path):
    nodes, tensors, reason = HOSTILE[case]
    (tmp_path / "in").mkdir()
    (tmp_path / "secret").write_bytes(bytes(8))
    with pytest.raises(DataError, match=reason) as raised:
        import_onnx(graph_file(tmp_path / "in" / "h.onnx", nodes, tensors))
    assert "\n" not in str(raised.value)


def test_weights_that_are_no_numbers_are_read_without_a_warning(tmp_path):
    weight = np.frombuffer(b"\x01\x00\x80\x7f" * 64, np.float32).reshape(2, 32)  # signalling NaN
    flatten = helper.make_node("Flatten", ["x"], ["f"])
    gemm = helper.make_node("Gemm", ["f", "w"], ["y"], transB=1, alpha=2.0)
    imported = import_onnx(graph_file(tmp_path / "n.onnx", [flatten, gemm], [("w", weight)]))
    assert imported.network(torch.zeros(1, 2, 4, 4)).isnan().all()


def test_numbers_in_a_file_beside_are_read(tmp_path):
    (tmp_path / "w.bin").write_bytes(np.float32([1, 2, 3, 4]).tobytes())
    file = graph_file(tmp_path / "e.onnx", ADD, [external("w.bin")], shape=("N", 2, 2))
    assert torch.equal(import_onnx(file).network(torch.zeros(1, 2, 2))[0], torch.tensor([[1.0, 2.0], [1.0, 2.0]]))


def test_every_cut_of_a_file_is_refused_or_right(tmp_path):
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"])]
    whole = graph_file(tmp_path / "w.onnx", nodes, [("w", np.ones((1, 2, 3, 3), np.float32))]).read_bytes()
    for end in range(0, len(whole), 7):
        (tmp_path / "cut.onnx").write_bytes(whole[:end])
        with pytest.raises(DataError):
            import_onnx(tmp_path / "cut.onnx")
    generator = np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(whole)
        for place in generator.integers(len(whole), size=3):
            damaged[place] = generator.integers(256)
        (tmp_path / "cut.onnx").write_bytes(damaged)
        try:
            import_onnx(tmp_path / "cut.onnx")
        except SvertkaError as error:
            assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        ({"kind": "Upsample", "arguments": {"scale_factor": [10**5, 10**5], "mode": "nearest"}}, "more than"),
        ({"kind": "Module", "arguments": {}}, "unknown"),
        ({"kind": "Calculation", "arguments": {"function": "exec"}}, "could not be built"),
    ],
)
def test_a_model_file_of_steps_that_lie_is_refused(step, reason):
    step = {"name": "a", "inputs": ["input"], **step}
    with pytest.raises(DataError, match=reason):
        create_model("onnx", {"steps": [step], "output": "a"}, 1, (8, 8), 2)


def test_a_network_with_open_sizes_comes_back_for_one(tmp_path):
    """Its adaptive pooling is written as arithmetic on the size."""
    torch.manual_seed(0)
    model = models.lenet(1, 5, widths=(4, 8), hidden=16).eval()
    about = {"preprocessing": Preprocessing(1, (37, 41))}
    written = export_onnx(model, torch.zeros(2, 1, 37, 41), tmp_path / "m.onnx", **about)
    assert written.input[1][2:] == ("height", "width")
    imported = import_onnx(tmp_path / "m.onnx")
    assert imported.size == (1, 37, 41) and "for pictures of 1×37×41" in imported.notes[0]
    error = compared_with_file(imported.network, tmp_path / "m.onnx", imported.size, imported.fixed_batch)
    assert error.theirs <= error.tolerance


@pytest.mark.parametrize(
    ("op", "given", "expected"),
    [
        ("Div", ([-7, 7], 2), [-3, 3]), ("Mod", (-7, 3), 2), ("Range", (0, 5, 2), [0, 2, 4]), ("Neg", ([3],), [-3]),
        ("Where", ([True, False], 1, 2), [1, 2]), ("Max", ([1, 5], 3), [3, 5]),
        ("Unsqueeze", ([1, 2], [1]), [[1], [2]]), ("Squeeze", ([[1, 2]], [0]), [1, 2]),
        ("Squeeze", ([[[1, 2, 3]]], [0, 1]), [1, 2, 3]),
    ],
)  # fmt: skip
def test_arithmetic_on_sizes(op, given, expected):
    found = folded(op, lambda _, default: default, [np.array(each) for each in given])
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("op", "given"),
    [
        ("Div", (1, 0)), ("Mod", (1, 0)), ("Range", (0, 2**62, 1)), ("Range", (0, 1, 0)), ("Cast", (1,)),
        ("Add", (np.zeros((1 << 9, 1)), np.zeros((1, 1 << 9)))), ("Add", ([1, 2], [1, 2, 3])),
        ("Mod", (np.ones((1 << 9, 1)), np.ones((1, 1 << 9)))),
        ("Squeeze", ([1, 2], [0])), ("Unsqueeze", ([1, 2], [7])),
    ],
)  # fmt: skip
def test_sizes_that_cannot_be_are_refused(op, given):
    with pytest.raises((ValueError, ArithmeticError)):
        folded(op, lambda _, default: default, [np.array(each) for each in given])
