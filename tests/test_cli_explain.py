"""The lecture's numbers out of `svertka explain`, read from what it prints; bad input ends in one sentence, code 2."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from svertka import cli
from svertka.explain import gallery
from svertka.explain.likeness import DEFORMED_X, X
from svertka.vision.modelfile import build_model, load_model, save_model
from svertka.vision.pictures import Preprocessing

STEPS = "3 3 2 1 0; 0 0 1 3 1; 3 1 2 2 3; 2 0 0 2 2; 2 0 0 0 1"
STEPS_KERNEL = "0 1 2; 2 2 0; 0 1 2"
SQUARE, SQUARE_KERNEL = "1 2 3; 3 4 5; 1 0 2", "0 1; 1 -1"


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs a command line in this process: (exit code, what it printed, what it complained about)."""
    monkeypatch.setenv("COLUMNS", "100")

    def command(*args):
        monkeypatch.setattr(sys, "argv", ["svertka", *map(str, args)])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        printed = capsys.readouterr()
        return stopped.value.code or 0, printed.out, printed.err

    return command


@pytest.fixture
def explain(run):
    """The printed output of `svertka explain`, which must succeed."""

    def command(*args):
        code, out, err = run("explain", *args)
        assert (code, err) == (0, "")
        return out

    return command


def matrices(text):
    """Every run of lines that hold numbers only, as rows of numbers."""
    found, open_block = [], False
    for line in text.splitlines():
        if re.fullmatch(r"\s*(−?\d+(\.\d+)?\s*)+", line):
            row = [float(word) for word in line.replace("−", "-").split()]
            if not open_block:
                found.append([])
            found[-1].append(row)
            open_block = True
        else:
            open_block = False
    return found


def test_slide_1_a_picture_is_a_matrix(explain, tmp_path):
    pixels = np.arange(40 * 50, dtype=np.uint8).reshape(40, 50)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    out = explain("picture", tmp_path / "a.png", "--region", "3:6,10:14")
    assert "50 × 40 pixels, grey: rows 3–5, columns 10–13" in " ".join(out.split())
    assert matrices(out) == [pixels[3:6, 10:14].tolist()]
    out = explain("picture", tmp_path / "a.png")
    assert "rows 8–31, columns 15–34" in " ".join(out.split())
    assert matrices(out) == [pixels[8:32, 15:35].tolist()]
    assert max(map(len, out.splitlines()[1:])) <= 100
    out = explain("picture", tmp_path / "a.png", "--channels", 3, "--region", "0:1,0:2", "--json")
    assert json.loads(out)["pixels"] == [[[0, 1]]] * 3
    assert [len(m) for m in matrices(explain("picture", tmp_path / "a.png", "--channels", 3))] == [12, 12, 12]


def test_slide_1_a_ragged_matrix_names_its_row(run, tmp_path):
    rows = [" ".join(["60"] * (33 if r in (2, 21) else 32)) for r in range(1, 33)]
    (tmp_path / "slide.txt").write_text("\n".join(rows))
    code, out, err = run("explain", "conv", "--input", tmp_path / "slide.txt", "--kernel", "1 0; 0 1")
    assert (code, out) == (2, "")
    assert re.fullmatch(r"svertka: row 2 of .*slide\.txt holds 33 numbers where 32 .*\n", err)


def test_slide_4_x_against_x(explain, tmp_path):
    out = explain("compare")
    assert "16 of 81 differ; 13 are bright in A, 13 in B, 5 in both" in out
    assert re.search(r"1\.00 at 3, 3 +1\.00 at 3, 3 +1\.00 at 3, 4", out)
    assert re.search(r"1\.00 at 1, 1 +0\.78 at 1, 0 +1\.00 at 1, 2", out)
    for name, text in (("a.txt", X), ("b.txt", DEFORMED_X)):
        (tmp_path / name).write_text(text)
    own = explain("compare", tmp_path / "a.txt", tmp_path / "b.txt")
    assert "16 of 81 differ" in own
    noise = np.pad(np.random.default_rng(0).integers(0, 256, (30, 40), dtype=np.uint8), 8)
    for name, pixels in (("a.png", noise), ("b.png", np.roll(noise, (0, 2), (0, 1)))):
        Image.fromarray(pixels).save(tmp_path / name)
    found = json.loads(explain("compare", tmp_path / "a.png", tmp_path / "b.png", "--size", 7, "--json"))["second"]
    assert [each["best"] for each in found["found"]] == [[1, 1]] * 3
    assert "7 × 7 at" in explain("compare", tmp_path / "a.png", tmp_path / "b.png", "--size", 7)


def test_slide_5_one_dimension(explain):
    signal = "1 2 3 4 5 5 4 3 2 1"
    out = explain("conv", "--input", signal, "--kernel", "-1 0 1")
    assert matrices(out) == [[[2, 2, 2, 1, -1, -2, -2, -2]]]
    assert "Cross-correlation" in out
    assert "--flip" in out
    flipped = explain("conv", "--input", signal, "--kernel", "-1 0 1", "--flip")
    assert matrices(flipped) == [[[-2, -2, -2, -1, 1, 2, 2, 2]]]
    assert "Cross-correlation" not in flipped


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("zeros", [-1, 0, 0, 6, 7]),
        ("replicate", [-2, -1, 0, 1, 2]),
        ("symmetric", [-3, -1, 0, 1, 3]),
        ("circular", [-5, -5, 0, 5, 5]),
        ("reflect", [-4, -2, 0, 2, 4]),
    ],
)
def test_slide_6_paddings(explain, mode, expected):
    out = explain("conv", "--input", "1 2 3 4 5", "--kernel", "-1 0 2 0 -1", "--padding", "same", "--mode", mode)
    assert matrices(out) == [[expected]]


def test_slide_6_the_padded_signal(explain):
    for mode, expected in [
        ("zeros", [0, 0, 1, 2, 3, 4, 5, 0, 0]),
        ("replicate", [1, 1, 1, 2, 3, 4, 5, 5, 5]),
        ("symmetric", [2, 1, 1, 2, 3, 4, 5, 5, 4]),
        ("circular", [4, 5, 1, 2, 3, 4, 5, 1, 2]),
    ]:
        assert matrices(explain("pad", "--input", "1 2 3 4 5", "--padding", 2, "--mode", mode)) == [[expected]]
    out = explain("pad", "--input", "1 2; 3 4", "--padding", "0:1,-1:2", "--value", "9")
    assert matrices(out) == [[[2, 9, 9], [4, 9, 9], [9, 9, 9]]]


def test_slides_7_and_12_two_and_three_dimensions(explain):
    assert matrices(explain("conv", "--input", SQUARE, "--kernel", SQUARE_KERNEL)) == [[[1, 2], [5, 3]]]
    for padding, expected in [
        ("valid", [[1, 2], [5, 3]]),
        ("same", [[1, 2, 5], [5, 3, 2], [0, 2, 0]]),
        ("same_upper", [[1, 2, 5], [5, 3, 2], [0, 2, 0]]),
        ("0:1", [[1, 2, 5], [5, 3, 2], [0, 2, 0]]),
    ]:
        out = explain("conv", "--input", SQUARE, "--kernel", SQUARE_KERNEL, "--padding", padding)
        assert matrices(out) == [expected]
    cube = explain("conv", "--input", f"{SQUARE} ;; {SQUARE}", "--kernel", f"{SQUARE_KERNEL} ;; {SQUARE_KERNEL}")
    assert matrices(cube) == [[[2, 4], [10, 6]]]


def test_slides_8_and_13_strides(explain):
    conv = ("conv", "--input", STEPS, "--kernel", STEPS_KERNEL)
    assert matrices(explain(*conv)) == [[[12, 12, 17], [10, 17, 19], [9, 6, 14]]]
    strided = explain(*conv, "--stride", 2, "--padding", 1)
    assert matrices(strided) == [[[6, 17, 3], [8, 17, 13], [6, 4, 4]]]
    values = "1 2 3 1 0; 3 4 5 2 1; 1 0 2 3 4; 0 1 3 1 2; 1 2 4 2 3"
    conv = ("conv", "--input", values, "--kernel", "0 1 0; 1 0 -1; 0 -1 0")
    assert matrices(explain(*conv, "--stride", 2)) == [[[0, 2], [-5, 2]]]
    assert matrices(explain(*conv, "--stride", "2,1"))[0] == matrices(explain(*conv))[0][::2]


def test_slide_8_transposed_and_dilated(explain):
    out = explain("transposed", "--input", "1 2; 3 4", "--kernel", "1 1; 1 2", "--stride", 2)
    assert matrices(out) == [[[1, 1, 2, 2], [1, 2, 2, 4], [3, 3, 4, 4], [3, 6, 4, 8]]]
    larger = explain("transposed", "--input", "1 2", "--kernel", "1 1", "--stride", 2, "--output-padding", 1)
    assert matrices(larger) == [[[1, 1, 2, 2, 0]]]
    out = explain("conv", "--input", "1 2 3 4 5", "--kernel", "1 1", "--dilation", 3)
    assert matrices(out) == [[[5, 7]]]


def test_slide_9_channels_and_groups(explain):
    two = "1 2 3 | 10 20 30"
    assert matrices(explain("conv", "--input", two, "--kernel", "1 1 | 1 0")) == [[[13, 25]]]
    out = explain("conv", "--input", two, "--kernel", "1 1", "--kernel", "1 -1", "--groups", 2, "--bias", "0,100")
    assert matrices(out) == [[[3, 5]], [[90, 90]]]
    grouped = explain("transposed", "--input", two, "--kernel", "1 1", "--kernel", "1 0", "--groups", 2)
    assert matrices(grouped) == [[[1, 3, 5, 3]], [[10, 20, 30, 0]]]
    mixed = explain("transposed", "--input", two, "--kernel", "1 1 | 0 1", "--kernel", "1 0 | 0 0", "--bias", "1")
    assert matrices(mixed) == [[[2, 14, 26, 34]], [[2, 3, 4, 1]]]


def test_slide_15_the_matrix(explain):
    out = explain("conv", "--input", SQUARE, "--kernel", SQUARE_KERNEL, "--matrix", "--gradient")
    lines = [line.split() for line in out.splitlines()]
    start = lines.index(["x11", "x12", "x13", "x21", "x22", "x23", "x31", "x32", "x33"])
    assert lines[start + 1 : start + 5] == [
        ["y11", "k11", "k12", "0", "k21", "k22", "0", "0", "0", "0"],
        ["y12", "0", "k11", "k12", "0", "k21", "k22", "0", "0", "0"],
        ["y21", "0", "0", "0", "k11", "k12", "0", "k21", "k22", "0"],
        ["y22", "0", "0", "0", "0", "k11", "k12", "0", "k21", "k22"],
    ]
    assert ["y22", "0", "0", "0", "0", "0", "1", "0", "1", "−1"] in lines
    assert matrices(out)[1:] == [[[0, 1, 1], [1, 1, 0], [1, 0, -1]]]
    values = json.loads(explain("conv", "--input", SQUARE, "--kernel", SQUARE_KERNEL, "--matrix", "--json"))
    result = np.array(values["matrix"]) @ np.ravel(values["input"])
    assert result.tolist() == np.ravel(values["output"]).tolist() == [1, 2, 5, 3]


def test_slide_16_unshared(explain):
    kernels = [option for kernel in ("1 0", "0 1", "1 1") for option in ("--kernel", kernel)]
    out = explain("local", "--input", "1 2 3 4", *kernels, "--bias", "10,20,30")
    assert matrices(out) == [[[11, 23, 37]]]
    assert matrices(explain("local", "--input", SQUARE, "--kernel", SQUARE_KERNEL)) == [[[1, 2], [5, 3]]]


def test_slide_17_pooling(explain):
    pool = ("pool", "--input", STEPS, "--size", 3, "--stride", 1)
    [average] = matrices(explain(*pool, "--kind", "average"))
    assert np.round(average, 1).tolist() == [[1.7, 1.7, 1.7], [1.0, 1.2, 1.8], [1.1, 0.8, 1.3]]
    assert matrices(explain(*pool)) == [[[3, 3, 3], [3, 3, 3], [3, 2, 3]]]


def test_slide_18_kinds_of_pooling(explain):
    def result(kind, *options, values="1 3; -2 2"):
        [found] = matrices(explain("pool", "--kind", kind, "--input", values, *options))
        return found

    assert result("weighted", "--kernel", "1 2; 1 0") == [[1.25]]
    assert result("lp", "--size", 2) == [[4.24]]
    assert result("lp", "--size", 2, "-p", 1) == [[8]]
    assert result("lp", "--size", 2, "-p", "inf") == [[3]]
    assert result("stochastic", "--size", 2) == [[2.33]]
    assert result("kmax", "--size", 3, values="3 1 5 4 2") == [[3, 5, 4]]
    assert result("dynamic-max", "--size", 2, values="3 1 5 4 2") == [[3, 5]]
    assert result("dynamic-average", "--size", 2, values="3 1 5 4 3") == [[2, 4]]


def test_slides_18_and_19_a_stochastic_pooling_draws_and_its_gradient_goes_there(explain):
    drawn = set()
    for seed in range(8):
        out = explain(
            "pool",
            "--kind",
            "stochastic",
            "--input",
            "1 3; -3 2",
            "--size",
            2,
            "--sample",
            "--seed",
            seed,
            "--gradient",
        )
        evaluation, [[value]], gradient = matrices(out)
        assert evaluation == [[2.33]]
        assert gradient == [[float(value == 1), float(value == 3)], [0, float(value == 2)]]
        drawn.add(value)
    assert drawn == {1, 2, 3}


def test_slide_19_gradients_of_pooling(explain):
    out = explain("pool", "--input", "1 3; 3 2", "--size", 2, "--matrix")
    assert "The matrix of derivatives at this input, 1 outputs × 4 inputs" in out

    def gradient(kind, values, *options):
        return matrices(explain("pool", "--kind", kind, "--input", values, "--size", 2, "--gradient", *options))[1]

    assert gradient("max", "1 3; 3 2") == [[0, 1], [0, 0]]
    assert gradient("average", "1 3; 3 2") == [[0.25, 0.25], [0.25, 0.25]]
    assert gradient("lp", "3 0; 0 -4") == [[0.6, 0], [0, -0.8]]


def test_slide_20_to_a_given_size(explain):
    values = "; ".join(" ".join(str(7 * row + column) for column in range(7)) for row in range(5))
    out = explain("pool", "--kind", "adaptive-max", "--input", values, "--size", "2,3")
    assert matrices(out) == [[[16, 18, 20], [30, 32, 34]]]
    assert matrices(explain("pool", "--kind", "adaptive-average", "--input", values, "--size", 1)) == [[[17]]]
    assert matrices(explain("pool", "--kind", "adaptive-lp", "--input", "3 4", "--size", 1)) == [[[5]]]
    assert matrices(explain("pool", "--input", values, "--size", 2, "--ceil"))[0][-1] == [29, 31, 33, 34]


def test_steps_are_shown_where_asked(explain):
    conv = ("conv", "--input", STEPS, "--kernel", STEPS_KERNEL)
    out = explain(*conv, "--at", "1,2")
    assert "19" in out.split("Convolution", 2)[-1]
    assert len(explain(*conv, "--all")) > len(explain(*conv, "--at", "0,0", "--at", "0,1")) > len(out)
    steps = json.loads(explain(*conv, "--at", "0,1,2", "--json"))["steps"]
    assert [(step["output"], step["result"]) for step in steps] == [([0, 1, 2], 19)]
    assert sum(term["product"] for term in steps[0]["terms"]) == 19


def test_json_is_json_even_where_a_number_is_not_finite(explain):
    values = json.loads(explain("pool", "--input", "1 2", "--size", 1, "--padding", 1, "--json"))
    assert values["output"] == [[None, 1, 2, None]]
    assert matrices(explain("pool", "--input", "1 2", "--size", 1, "--padding", 1)) == []  # −∞ is shown


@pytest.mark.parametrize("ending", ["svg", "html", "gif"])
def test_an_animation_is_written(explain, tmp_path, ending):
    path = tmp_path / f"conv.{ending}"
    out = explain("conv", "--input", SQUARE, "--kernel", SQUARE_KERNEL, "--animate", path)
    assert f"The animation is in {path}" in out.replace("\n", "")
    assert path.stat().st_size > 500
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_files_and_pictures_as_input(explain, tmp_path):
    np.save(tmp_path / "x.npy", np.arange(6).reshape(2, 3))
    np.save(tmp_path / "k.npy", np.ones((2, 1, 2, 2)))
    out = explain("conv", "--input", tmp_path / "x.npy", "--kernel", tmp_path / "k.npy")
    assert matrices(out) == [[[8, 12]]] * 2
    np.save(tmp_path / "t.npy", np.array([[[[1.0]], [[2.0]]]]))  # one input channel, two output channels
    out = explain("transposed", "--input", tmp_path / "x.npy", "--kernel", tmp_path / "t.npy", "--bias", "0,1")
    assert matrices(out) == [[[0, 1, 2], [3, 4, 5]], [[1, 3, 5], [7, 9, 11]]]
    np.save(tmp_path / "l.npy", np.arange(4.0).reshape(2, 2, 1, 1, 1, 1))
    out = explain("local", "--input", "1 1; 1 1", "--kernel", tmp_path / "l.npy")
    assert matrices(out) == [[[0, 1], [2, 3]]]
    pixels = np.arange(30 * 20, dtype=np.uint8).reshape(30, 20)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    out = explain("pad", "--input", tmp_path / "a.png", "--padding", 0)
    assert "20 × 30 pixels, grey: rows 9–20, columns 4–15" in " ".join(out.split())
    assert matrices(out) == [pixels[9:21, 4:16].tolist()]
    out = explain("pool", "--input", tmp_path / "a.png", "--size", 2, "--region", "0:2,0:4", "--channels", 3)
    assert matrices(out) == [[[21, 23]]] * 3


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run folder's model file, and a picture."""
    folder = tmp_path_factory.mktemp("run")
    preprocessing = Preprocessing(1, (16, 12), mean=(0.5,), std=(0.25,))
    model = build_model("lenet", {"widths": [4, 6], "hidden": 8}, 2, preprocessing, seed=1)
    save_model(
        folder / "model.safetensors", model, name="lenet", arguments={"widths": [4, 6], "hidden": 8},
        classes=["a", "b"], preprocessing=preprocessing,
    )  # fmt: skip
    pixels = np.random.default_rng(0).integers(0, 256, (16, 12), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "cat.png")
    return folder


def test_one_number_of_a_trained_network(explain, trained):
    out = explain(trained, "--layer", "features.1.conv", "--at", "2,3,1", "--picture", trained / "cat.png")
    model = load_model(trained)
    x = model.preprocessing.normalise(model.preprocessing.decode(trained / "cat.png")[None])
    with torch.no_grad():
        expected = model.model.features[1].conv(model.model.features[0](x))[0, 2, 3, 1].item()
    [shown] = re.findall(r"channel 2, place 3, 1: (\S+)", out)
    assert float(shown.replace("−", "-")) == pytest.approx(expected, rel=1e-3)
    assert re.search(r"80 more|sum of 100 products", out)
    assert "The network itself, in float32:" in out
    assert "It sees rows 0–13 and columns 0–9 of the picture" in out
    values = json.loads(
        explain(trained, "--layer", "features.1.conv", "--at", "2,3,1", "--picture", trained / "cat.png", "--json")
    )
    assert values["computed"] == pytest.approx(expected)
    assert values["step"]["result"] == pytest.approx(expected, abs=1e-5)
    assert len(values["step"]["terms"]) == 100
    assert values["receptive_field"] == [{"first": 0, "last": 13}, {"first": -4, "last": 9}]


def test_the_receptive_field_is_what_changes_the_number(explain, trained, tmp_path):
    """Outside of the field any pixel may change; at its corner the number does."""
    at = ("--layer", "features.1.conv", "--at", "2,5,3", "--json")
    values = json.loads(explain(trained, *at, "--picture", trained / "cat.png"))
    (top, bottom), (left, right) = ((axis["first"], axis["last"]) for axis in values["receptive_field"])
    pixels = np.array(Image.open(trained / "cat.png").copy())
    outside = np.ones_like(pixels, dtype=bool)
    outside[max(top, 0) : bottom + 1, max(left, 0) : right + 1] = False
    assert outside.any()
    Image.fromarray(np.where(outside, 255 - pixels, pixels)).save(tmp_path / "outside.png")
    assert json.loads(explain(trained, *at, "--picture", tmp_path / "outside.png"))["computed"] == values["computed"]
    pixels[min(bottom, 15) - 1 :, :] = 255
    Image.fromarray(pixels).save(tmp_path / "inside.png")
    assert json.loads(explain(trained, *at, "--picture", tmp_path / "inside.png"))["computed"] != values["computed"]


def test_a_pool_of_a_trained_network_and_its_frame(explain, trained, tmp_path):
    out = explain(
        trained, "--layer", "features.0.pool", "--at", "1,2,3", "--picture", trained / "cat.png",
        "--out", tmp_path / "f.png",
    )  # fmt: skip
    assert out.count("← the result") == 1
    with Image.open(tmp_path / "f.png") as framed:
        assert framed.size == (12 * 32, 16 * 32)
        assert len(framed.getcolors(10**6)) > 100
        assert framed.getpixel((4 * 32, 2 * 32)) == (0xD5, 0x5E, 0x00)  # the pool's window and 2 pixels around it


def test_the_filters_in_one_figure(run, tmp_path, monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    code, out, err = run("filter", tmp_path / "a.png", "--out", tmp_path / "f.png", "--width", 64)
    assert (code, err) == (0, "")
    assert re.search(r"sobel-x .*\n +−1 +0 +1\n +−2 +0 +2\n +−1 +0 +1\n", out)
    with Image.open(tmp_path / "f.png") as figure:
        assert figure.size[0] == 20 + 5 * 84
    code, out, _ = run("filter", tmp_path / "a.png", "--only", "corners", "--out", tmp_path / "g.webp")
    assert code == 0
    assert "sobel" not in out
    assert (tmp_path / "g.webp").exists()
    assert "scaled down" not in out
    monkeypatch.setattr(gallery, "MAX_PIXELS", 150)
    _, out, _ = run("filter", tmp_path / "a.png", "--out", tmp_path / "f.png")
    assert "was scaled down to 15 × 10 pixels" in " ".join(out.split())


BAD = [
    (("conv", "--input", "1 2; 3", "--kernel", "1"), "row 1 of --input holds 2 numbers|row 2 of --input holds 1"),
    (("conv", "--input", "", "--kernel", "1"), "--input is empty"),
    (("conv", "--input", "1 two 3", "--kernel", "1"), "entry 2 of --input is 'two'"),
    (("conv", "--input", "1 nan", "--kernel", "1"), "only finite numbers"),
    (("conv", "--input", "1 2 3", "--kernel", "1 2 3 4"), "larger than the padded input"),
    (("conv", "--input", "1 2; 3 4", "--kernel", "1 1"), "--kernel is a row where the input is a matrix"),
    (("conv", "--input", "1 2 | 3 4", "--kernel", "1"), "--kernel has 1 channels where the input has 2"),
    (("conv", "--input", "1 2", "--kernel", "1", "--kernel", "1 2"), "--kernel 2 has another size"),
    (("conv", "--input", "1 2", "--kernel", "1", "--mode", "mirror"), "'mirror' is 'symmetric'"),
    (("conv", "--input", "1 2", "--kernel", "1", "--mode", "no"), "padding mode 'no' is unknown"),
    (("conv", "--input", "1 2", "--kernel", "1", "--padding", "sam"), "padding 'sam' is unknown"),
    (("conv", "--input", "1 2", "--kernel", "1", "--padding", "1:2:3"), "--padding 1:2:3 is no padding"),
    (("conv", "--input", "1 2", "--kernel", "1", "--stride", "0"), "stride=0 is too small"),
    (("conv", "--input", "1 2", "--kernel", "1", "--stride", "x"), "--stride x is no size"),
    (("conv", "--input", "1 2", "--kernel", "1", "--groups", "0"), "groups.* is too small"),
    (("conv", "--input", "1 2", "--kernel", "1", "--bias", "1,2"), "--bias has 2 numbers where 1"),
    (("conv", "--input", "1 2", "--kernel", "1", "--at", "7"), "--at 7 is outside the output"),
    (("conv", "--input", "1 2", "--kernel", "1", "--region", "0:1,0:1"), "--input is none"),
    (("conv", "--input", "none.csv", "--kernel", "1"), "there is no file none.csv"),
    (("conv", "--input", "none.png", "--kernel", "1"), "none.png does not exist"),
    (("conv", "--input", "1 2", "--kernel", "1", "--animate", "a.xyz"), "a.xyz"),
    (("local", "--input", "1 2 3", "--kernel", "1", "--kernel", "2"), "needs --kernel 3 times"),
    (("transposed", "--input", "1 2", "--kernel", "1", "--padding", "3"), "cuts off all outputs"),
    (("transposed", "--input", "1 2", "--kernel", "1", "--stride", "2", "--padding", "same_upper"), "padding"),
    (("pool", "--input", "1 2", "--kind", "median", "--size", "2"), "no pooling of kind median"),
    (("pool", "--input", "1 2"), "add --size 2"),
    (("pool", "--input", "1 2", "--kind", "weighted", "--size", "2"), "add one like"),
    (("pool", "--input", "1 2", "--kind", "kmax", "--size", "3"), "k=3"),
    (("pool", "--input", "1 2; 3 4", "--kind", "kmax", "--size", "1"), "is of sequences"),
    (("pool", "--input", "1 2", "--size", "2", "--sample"), "add --kind stochastic"),
    (("pool", "--input", "1 2", "--kind", "lp", "--size", "2", "-p", "-1"), "norm_type=-1.0"),
    (("pad", "--input", "1 2", "--padding", "9000000000"), "all windows together read 18000000002 values"),
    (("pool", "--input", "1 2", "--size", "9999999", "--padding", "9999999"), "all windows together read"),
    (("conv", "--input", "1 2", "--kernel", "1", "--padding", "99999", "--matrix"), "too large to be shown"),
    (("conv", "--input", "1 2", "--kernel", "1", "--padding", "9999", "--all"), "--all would print 20000 steps"),
    (("compare", "a.png"), "give two"),
    (("nothing",), "neither a trained model's path nor one of conv, "),
]


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=lambda value: " ".join(value)[:40] if value else "")
def test_bad_input_ends_in_one_sentence(run, arguments, message):
    code, out, err = run("explain", *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("svertka: ")
    assert err.count("\n") == 1
    assert re.search(message, err)


def test_arrays_of_other_shapes_are_refused(run, tmp_path):
    for shape, message in [((), "has the shape"), ((3,), "has the shape"), ((1,) * 5, "has the shape")]:
        np.save(tmp_path / "k.npy", np.ones(shape))
        code, _, err = run("explain", "conv", "--input", SQUARE, "--kernel", tmp_path / "k.npy")
        assert (code, err.count("\n")) == (2, 1)
        assert message in err


def test_bad_requests_to_a_model_end_in_one_sentence(run, trained):
    def told(**options):
        given = {"layer": "features.1.conv", "at": "0,0,0", "picture": trained / "cat.png", **options}
        code, out, err = run("explain", trained, *(x for key, value in given.items() for x in (f"--{key}", value)))
        assert (code, out, err.count("\n")) == (2, "", 1)
        return err

    assert "no layer conv9: choose among features.0.conv, features.0.pool, features.1.conv" in told(layer="conv9")
    assert "dense is not one operation with windows: choose among" in told(layer="dense")
    assert "--at 6,0,0 is outside the output" in told(at="6,0,0")
    assert "does not exist" in told(picture="none.png")


def test_help_is_quick_without_torch(run):
    """Commands import what they need when they run."""
    code, out, _ = run("explain", "--help")
    assert code == 0
    assert "transposed" in out
    source = Path(cli.__file__).parent / "commands"
    for path in (source / "explain.py", source / "model.py", source / "pictures.py"):
        lines = path.read_text().split("if TYPE_CHECKING")[0]
        assert "torch" not in lines
        assert "numpy" not in lines
