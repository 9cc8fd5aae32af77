"""What is left away is chosen to suit the model and the data, and what is given is kept."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from svertka import models
from svertka.errors import DataError
from svertka.vision.datasets import Dataset, load
from svertka.vision.settings import Settings, fingerprint, recipe, settings_for


@pytest.fixture(scope="module")
def digits() -> Dataset:
    """The embedded digits."""
    return load("digits")


def _settings(digits: Dataset, **given: Any) -> Settings:
    return settings_for(given, digits, threads=1)


@pytest.mark.parametrize("model", [*models.MODELS, "mine.py:build"])
def test_every_model_has_a_recipe(digits: Dataset, model: str) -> None:
    settings = _settings(digits, model=model)
    assert settings.lr > 0 and settings.epochs == 76 and settings.size == (8, 8)


def test_few_pictures_are_shown_oftener() -> None:
    epochs = [recipe("lenet", pictures)["epochs"] for pictures in (10, 2_000, 5_000, 60_000, 10**7)]
    assert epochs == [80, 50, 20, 10, 10]


def test_augmentation_is_the_datas_but_for_few_epochs(digits: Dataset) -> None:
    assert _settings(digits).crop == digits.augmentation.crop > 0
    assert _settings(digits, epochs=10).crop == 0
    assert _settings(digits, epochs=10, crop=0.3, flip=True).crop == 0.3


def test_settings_come_back_from_json(digits: Dataset) -> None:
    settings = _settings(digits, seed=4, model_arguments={"hidden": 3})
    assert Settings.from_dict(settings.to_dict()) == settings
    with pytest.raises(DataError, match="differ in lr"):
        Settings.from_dict({key: value for key, value in settings.to_dict().items() if key != "lr"})


def test_a_setting_that_older_runs_do_not_know_has_its_default(digits: Dataset) -> None:
    settings = _settings(digits)
    older = {key: value for key, value in settings.to_dict().items() if key != "sync_batch_norm"}
    assert Settings.from_dict(older) == settings
    with pytest.raises(DataError, match="differ in wind"):
        Settings.from_dict({**older, "wind": 1})


def test_the_fingerprint_sees_labels_names_and_preprocessing(digits: Dataset) -> None:
    before, split = fingerprint(digits), digits.train
    assert fingerprint(load("digits")) == before
    labels = split.labels.clone()
    labels[[0, 1]] = labels[[1, 0]] if labels[0] != labels[1] else torch.tensor([3, 4])
    others = [
        replace(digits, train=replace(split, labels=labels)),
        replace(digits, train=replace(split, names=["x", *split.names[1:]])),
        replace(digits, train=split.subset(torch.arange(len(split) - 1))),
        replace(digits, validation=None),
        replace(digits, classes=digits.classes[::-1]),
        replace(digits, preprocessing=replace(digits.preprocessing, mean=(0.5,))),
    ]
    assert all(fingerprint(other) != before for other in others)
