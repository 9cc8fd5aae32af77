import json

import pytest
import torch

from svertka import nn
from svertka.engine import tuning
from svertka.kernels.dense import Dense
from svertka.kernels.schedule import candidates, choose_dense
from svertka.kernels.target import host


@pytest.fixture
def kept(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    folder.mkdir(mode=0o700)
    monkeypatch.setenv("SVERTKA_CACHE", str(folder))
    monkeypatch.setattr(tuning, "_ROUNDS", 1)
    monkeypatch.setattr(tuning, "_LEAST", 0.0)
    tuning._kept.cache_clear()
    yield folder / tuning.FILE
    tuning._kept.cache_clear()


def test_what_measurement_found_is_kept_and_used(kept):
    layer = nn.Conv2d(8, 16, 3)
    found = list(tuning.tune(layer, torch.randn(1, 8, 6, 6)))
    assert [tuned.layer for tuned in found] == ["1×8×6×6 by 16×8×3×3"]
    assert len(json.loads(kept.read_text())) == 1
    result = layer.eval()(torch.ones(1, 8, 6, 6))
    torch.testing.assert_close(result, torch.nn.functional.conv2d(torch.ones(1, 8, 6, 6), layer.weight, layer.bias))


def test_only_schedules_of_the_rules_are_taken(kept):
    question = Dense(8, 64), host(), 9, 100
    other = next(schedule for schedule in candidates(*question) if schedule != choose_dense(*question))
    key = tuning._key(*question)
    for fields, expected in (
        (tuning.asdict(other), other),
        ({**tuning.asdict(other), "pixels": 10**9}, choose_dense(*question)),
        ({"unknown": 1}, choose_dense(*question)),
        ("nonsense", choose_dense(*question)),
    ):
        kept.write_text(json.dumps({key: fields}))
        tuning._kept.cache_clear()
        assert tuning.schedule_for(*question) == expected
    kept.write_text("half a fi")
    tuning._kept.cache_clear()
    assert tuning.schedule_for(*question) == choose_dense(*question)
