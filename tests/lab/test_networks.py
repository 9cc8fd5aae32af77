"""The networks that the server knows: names and no paths, ours trained on first use, those of finished runs."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from svertka import models
from svertka.errors import DataError
from svertka.lab import networks as networks_of_the_lab
from svertka.lab.api import LabError
from svertka.lab.app import create_app
from svertka.lab.guard import Door
from svertka.lab.networks import DIGITS, Networks
from svertka.vision.modelfile import MODEL_FILE, save_model
from svertka.vision.pictures import Preprocessing


def run_folder(folder: Path, classes: tuple[str, ...] = ("cat", "dog")) -> Path:
    folder.mkdir(parents=True)
    model = models.create("linear", 1, len(classes), size=(4, 4))
    save_model(
        folder / MODEL_FILE, model, name="linear", arguments={}, classes=classes,
        preprocessing=Preprocessing(1, (4, 4)),
    )  # fmt: skip
    return folder


@pytest.fixture
def known() -> Iterator[Networks]:
    networks = Networks()
    yield networks
    networks.close()


def trained(networks: Networks) -> list[int]:
    """Waits for our network; the epochs that were told on the way."""
    told: list[int] = []
    end = time.monotonic() + 120
    while time.monotonic() < end:
        try:
            networks.get(DIGITS)
            return told
        except LabError as error:
            assert error.kind == "training"
            done, epochs = error.numbers
            assert 0 <= done <= epochs
            told.append(done)
        time.sleep(0.05)
    raise AssertionError("it is not trained after two minutes")


def test_ours_is_trained_on_first_use(known: Networks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks_of_the_lab, "EPOCHS", 2)
    assert known.names() == (DIGITS,)
    told = trained(known)
    assert told == sorted(told)
    found = known.get()
    assert found.classes == tuple("0123456789")
    assert found.preprocessing.size == networks_of_the_lab.SIZE
    assert not found.model.training
    assert known.get(DIGITS) is found
    assert not found.path.exists()  # nothing is left on the disk


def test_what_fails_is_said_and_tried_again(known: Networks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks_of_the_lab, "EPOCHS", 0)
    for _ in range(2):
        with pytest.raises(LabError, match="epochs 0 cannot be used") as caught:
            while True:
                try:
                    known.get()
                except LabError as error:
                    if error.kind != "training":
                        raise
                time.sleep(0.05)
        assert caught.value.kind == "training-failed"


def test_closing_stops_the_training() -> None:
    networks = Networks()
    with pytest.raises(LabError):
        networks.get()
    process = networks._digits._process
    assert process is not None
    networks.close()
    assert process.poll() is not None


@pytest.mark.parametrize("file", [False, True])
def test_the_given_model_comes_first(tmp_path: Path, file: bool) -> None:
    folder = run_folder(tmp_path / "pets")
    networks = Networks(folder / MODEL_FILE if file else folder)
    assert networks.names() == ("pets", DIGITS)
    assert networks.get().classes == networks.get("pets").classes == ("cat", "dog")


def test_a_model_that_cannot_be_used_is_an_error_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing"):
        Networks(tmp_path / "nothing")


def test_runs_are_added_and_names_kept_apart(known: Networks, tmp_path: Path) -> None:
    first, second = run_folder(tmp_path / "a/run"), run_folder(tmp_path / "b/run", ("x", "y", "z"))
    assert known.add("run", first) == "run"
    assert known.add("run", second) == "run-2"
    assert known.add("run", first) == "run"  # trained on: the same folder keeps its name
    assert known.add(DIGITS, first) == f"{DIGITS}-2"
    assert known.names() == (DIGITS, "run", "run-2", f"{DIGITS}-2")
    assert known.get("run-2").classes == ("x", "y", "z")


@pytest.mark.parametrize("name", ["..", "/etc", "pets/../pets", "./pets", "pets\0", "PETS"])
def test_a_name_is_no_path(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    networks = Networks(run_folder(tmp_path / "pets"))
    with pytest.raises(LabError) as caught:
        networks.get(name)
    assert caught.value.kind == "no-network"


def test_the_app_holds_them() -> None:
    networks = Networks()
    assert create_app(Door(), networks).state.networks is networks
    assert create_app(Door()).state.networks.names() == (DIGITS,)
