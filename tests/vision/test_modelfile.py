"""A model file is enough to predict, and one that lies, or would run code, is refused in one sentence."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from svertka import models
from svertka.errors import DataError
from svertka.vision.modelfile import build_model, load_model, save_model
from svertka.vision.pictures import Preprocessing

TINY = f"{Path(__file__).parent / 'tiny_model.py'}:build"
PREPROCESSING = Preprocessing(1, (8, 8), mean=(0.3,), std=(0.4,))
SMALL = {"widths": [2, 3], "hidden": 4}


def _saved(path: Path, name: str = "lenet", arguments: dict[str, Any] = SMALL) -> torch.nn.Module:
    model = build_model(name, arguments, 3, PREPROCESSING, seed=1)
    save_model(path, model, name=name, arguments=arguments, classes=["a", "b", "c"], preprocessing=PREPROCESSING)
    return model


def _header(path: Path) -> dict[str, Any]:
    length = int.from_bytes(path.read_bytes()[:8], "little")
    header: dict[str, Any] = json.loads(path.read_bytes()[8 : 8 + length])["__metadata__"]
    value: dict[str, Any] = json.loads(header["svertka"])
    return value


def _rewrite(path: Path, change: Callable[[dict[str, torch.Tensor], dict[str, Any]], object]) -> None:
    tensors, header = {key: tensor.clone() for key, tensor in load_file(path).items()}, _header(path)
    change(tensors, header)
    save_file(tensors, path, metadata={"svertka": json.dumps(header)})


def test_a_model_comes_back_whole(tmp_path: Path) -> None:
    model = _saved(tmp_path / "model.safetensors").eval()
    for path in (tmp_path, tmp_path / "model.safetensors"):  # a run folder, or the file
        back = load_model(path)
        assert (back.classes, back.preprocessing, back.name) == (("a", "b", "c"), PREPROCESSING, "lenet")
        pictures = torch.rand(5, 1, 8, 8)
        assert not back.model.training
        assert torch.equal(back.model(pictures), model(pictures))


def test_a_file_is_not_changed_when_writing_it_fails(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    model = _saved(path)
    before = path.read_bytes()
    with torch.no_grad():
        next(model.parameters()).fill_(float("nan"))
    with pytest.raises(DataError, match=r"features.*NaN or infinite.*lr"):
        save_model(path, model, name="lenet", arguments=SMALL, classes="abc", preprocessing=PREPROCESSING)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["model.safetensors"]


def test_weights_in_another_memory_format_and_shared_ones_are_saved(tmp_path: Path) -> None:
    model = models.create("lenet", 1, 3, size=(8, 8), **SMALL).to(memory_format=torch.channels_last)
    path = tmp_path / "model.safetensors"
    save_model(path, model, name="lenet", arguments=SMALL, classes="abc", preprocessing=PREPROCESSING)
    pictures = torch.rand(2, 1, 8, 8)
    torch.testing.assert_close(load_model(path).model(pictures), model.eval()(pictures))


LIES: dict[str, tuple[Callable[[dict[str, torch.Tensor], dict[str, Any]], object], str]] = {
    "a shape": (lambda t, _: t.update({"dense.0.bias": torch.zeros(5)}), r"dense.0.bias as F32 \[5\] where .* \[4\]"),
    "a dtype": (lambda t, _: t.update({"dense.0.bias": torch.zeros(4, dtype=torch.int64)}), "dense.0.bias as I64"),
    "a missing tensor": (lambda t, _: t.pop("dense.0.bias"), "lacks the weights dense.0.bias"),
    "one too many": (lambda t, _: t.update(extra=torch.zeros(1)), "holds weights extra that"),
    "a NaN": (lambda t, _: t["dense.0.bias"].fill_(float("nan")), "NaN or infinite numbers in dense.0.bias"),
    "an unknown model": (lambda _, h: h.update(model="lenin"), "'lenin' is unknown"),
    "an absurd width": (lambda _, h: h["arguments"].update(hidden=10**12), "dense.0.weight"),
    "a width that overflows": (lambda _, h: h["arguments"].update(hidden=10**30), "could not be built"),
    "an unknown argument": (lambda _, h: h["arguments"].update(depth=3), "depth"),
    "arguments of another type": (lambda _, h: h.update(arguments=[1]), "'arguments' is"),
    "an argument of another type": (lambda _, h: h["arguments"].update(hidden="many"), "could not be built"),
    "another number of classes": (lambda _, h: h.update(classes=["a", "b"]), "dense.3.weight"),
    "equal classes": (lambda _, h: h.update(classes=["a", "b", "a"]), "different names"),
    "classes that are no names": (lambda _, h: h.update(classes=[1, 2, 3]), "different names"),
    "no classes": (lambda _, h: h.pop("classes"), "'classes' is None"),
    "a preprocessing": (lambda _, h: h["preprocessing"].update(size=[10**9, 10**9]), "preprocessing .* pixels"),
    "a negative std": (lambda _, h: h["preprocessing"].update(std=[-1.0]), "preprocessing .* std"),
    "a later format": (lambda _, h: h.update(format=2), "format 2 and this svertka reads 1"),
}


@pytest.mark.parametrize(("lie", "sentence"), LIES.values(), ids=LIES.keys())
def test_a_file_that_lies_is_refused(
    tmp_path: Path, lie: Callable[[dict[str, torch.Tensor], dict[str, Any]], object], sentence: str
) -> None:
    path = tmp_path / "model.safetensors"
    _saved(path)
    _rewrite(path, lambda *_: None)
    load_model(path)  # the file is refused for the lie, and not for having been rewritten
    _rewrite(path, lie)
    with pytest.raises(DataError, match=sentence) as caught:
        load_model(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("damage", [b"", b"no model", b"\xff" * 64, None])
def test_a_file_of_another_kind_or_cut_short_is_refused(tmp_path: Path, damage: bytes | None) -> None:
    path = tmp_path / "model.safetensors"
    _saved(path)
    path.write_bytes(path.read_bytes()[:-10] if damage is None else damage)
    with pytest.raises(DataError, match="not a whole safetensors file"):
        load_model(path)


def test_other_safetensors_and_missing_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with pytest.raises(DataError, match="there is no model at"):
        load_model(tmp_path)
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(DataError, match="its header names no model"):
        load_model(path)
    save_file({"a": torch.zeros(1)}, path, metadata={"svertka": "[" * 10_000})
    with pytest.raises(DataError, match="damaged header"):
        load_model(path)


def test_a_model_file_never_decides_what_code_runs(tmp_path: Path) -> None:
    code = tmp_path / "net.py"
    code.write_text(Path(TINY.rpartition(":")[0]).read_text() + f"\nopen({str(tmp_path / 'ran')!r}, 'w').close()\n")
    path = tmp_path / "model.safetensors"
    _saved(path, f"{code}:build", {"width": 2})
    (tmp_path / "ran").unlink()
    with pytest.raises(DataError, match=r"never runs code by itself.*--model-code .*net.py:build"):
        load_model(path)
    assert not (tmp_path / "ran").exists()
    assert load_model(path, f"{code}:build").classes == ("a", "b", "c")
    assert (tmp_path / "ran").exists()
    code.unlink()
    with pytest.raises(DataError, match="there is no file"):
        load_model(path, f"{code}:build")


def test_code_for_a_model_that_needs_none_is_refused(tmp_path: Path) -> None:
    _saved(tmp_path / "model.safetensors")
    with pytest.raises(DataError, match="leave --model-code away"):
        load_model(tmp_path, TINY)


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("return nn.Flatten()", r"turns 2 pictures into \[2, 64\].*shape \[2, 3\]"),
        ("return nn.Sequential(nn.Flatten(), nn.Linear(5, classes))", "cannot take pictures of 8x8 with 1 channel"),
        ("return 1 / 0", "could not be built.*ZeroDivisionError"),
        ("return 'model'", "torch.nn.Module"),
    ],
)
def test_a_model_of_ones_own_that_does_not_fit_is_refused(tmp_path: Path, body: str, sentence: str) -> None:
    code = tmp_path / "net.py"
    code.write_text(f"from torch import nn\n\ndef build(channels, classes):\n    {body}\n")
    with pytest.raises(DataError, match=sentence):
        build_model(f"{code}:build", {}, 3, PREPROCESSING)


def test_weights_follow_the_seed_and_leave_the_global_state_alone() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    one, same, other = (build_model(TINY, {}, 3, PREPROCESSING, seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert not torch.equal(one["0.weight"], other["0.weight"])
