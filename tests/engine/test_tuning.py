import json

import pytest
import torch

from svertka import nn
from svertka.engine import tuning
from svertka.engine.precision import precision
from svertka.kernels.dense import Dense
from svertka.kernels.epilogue import Epilogue
from svertka.kernels.schedule import candidates, choose_dense
from svertka.kernels.target import TARGETS, host
from svertka.kernels.winograd import Winograd, WinogradSchedule
from svertka.kernels.winograd_schedule import Direct, candidates_winograd, choose_winograd


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


@pytest.mark.parametrize("name", ("avx512", "avx2", "generic"))
@pytest.mark.parametrize("pixels", (1, 49, 3136))
@pytest.mark.parametrize(("inputs", "taps"), ((1, 0), (3, 1), (256, 1), (512, 9), (20_000, 1)))
def test_what_is_measured_can_be_computed(inputs, taps, pixels, name):
    question = Dense(inputs, 70), TARGETS[name], taps, pixels, 1
    schedules = candidates(*question)
    assert schedules[0] == choose_dense(*question)
    for schedule in schedules:
        assert schedule.tiles >= 1
        assert schedule.pixels * schedule.vectors + schedule.vectors < TARGETS[name].registers


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


def test_winograd_and_the_direct_kernels_are_both_measured(kept, monkeypatch):
    layer, x = nn.Conv2d(32, 32, 3, padding=1), torch.randn(1, 32, 24, 24)
    fastest = []
    monkeypatch.setattr(tuning, "_seconds", lambda call, _: 0.5 if call.detail.startswith(fastest[0]) else 1.0)
    for fastest[:], kind in ((["few"], Direct), (["winograd F(6×6"], WinogradSchedule)):
        kept.unlink(missing_ok=True)
        tuning._kept.cache_clear()
        with precision("fast"):
            (found,) = tuning.tune(layer, x)
        assert isinstance(found.before, WinogradSchedule) and isinstance(found.after, kind)
        question = Winograd(32, 32, (3, 3), Epilogue(bias=True)), host(), 1, 1, 24, 24, 8, 0
        assert tuning.schedule_for(*question) == found.after


def test_only_winograds_own_schedules_are_taken(kept):
    question = Winograd(64, 64), host(), 1, 1, 28, 28, 8, 0
    chosen, other = choose_winograd(*question), candidates_winograd(*question)[1]
    for fields, expected in (
        (tuning.asdict(other), other),
        ({}, Direct()),
        ({**tuning.asdict(other), "tiles": 10**9}, chosen),
        ({"tiles": 3}, chosen),
        ({**tuning.asdict(other), "tile": 3}, chosen),
    ):
        kept.write_text(json.dumps({tuning._key(*question): fields}))
        tuning._kept.cache_clear()
        assert tuning.schedule_for(*question) == expected
