"""Training with autocast, and on a GPU where there is one."""

import io

import pytest
import torch
from rich.console import Console

from svertka.vision import settings
from svertka.vision.datasets import load
from svertka.vision.run import train
from svertka.vision.settings import command, settings_for
from svertka.vision.training import train_epoch

CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here: training on CUDA stays untested")
GIVEN = {"model": "lenet", "epochs": 1, "batch_size": 128, "threads": 1}


def test_autocast_is_chosen_where_a_gpu_has_bfloat16(monkeypatch):
    digits = load("digits")
    assert not settings_for(GIVEN, digits, 1).autocast
    assert "autocast" not in command(settings_for(GIVEN, digits, 1))
    monkeypatch.setitem(settings._ALLOWED, "device", (bool, ""))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for has_it in (True, False):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_, has_it=has_it: has_it)
        chosen = settings_for({**GIVEN, "device": "cuda:1"}, digits, 1)
        assert chosen.autocast == has_it
        assert ("--autocast" if has_it else "--no-autocast") in command(chosen).split()


def test_with_autocast_a_network_learns_the_same_in_another_precision(tmp_path, monkeypatch):
    seen = set()

    def watched(model, *rest):
        model.register_forward_hook(lambda *_: seen.add(torch.is_autocast_enabled("cpu")) if model.training else None)
        return train_epoch(model, *rest)

    monkeypatch.setattr("svertka.vision.run.train_epoch", watched)
    said = Console(record=True, width=200, file=io.StringIO())
    lower = train({**GIVEN, "autocast": True}, out=tmp_path / "lower", workers=0, console=said)
    assert seen == {True} and "cpu, sums of products in bfloat16" in said.export_text()
    exact = train(GIVEN, out=tmp_path / "exact", workers=0)
    assert seen == {True, False}
    assert lower.evaluation.loss != exact.evaluation.loss
    assert abs(lower.evaluation.loss - exact.evaluation.loss) < 0.05 * exact.evaluation.loss


@CUDA
@pytest.mark.parametrize("autocast", [True, False])
def test_training_on_a_gpu_learns_what_it_does_on_the_cpu(tmp_path, autocast):
    given = {**GIVEN, "epochs": 3}
    there = train({**given, "device": "cuda", "autocast": autocast}, out=tmp_path / "there", workers=0)
    here = train(given, out=tmp_path / "here", workers=0)
    assert abs(there.evaluation.accuracy - here.evaluation.accuracy) < 0.05
    again = train({}, out=tmp_path / "there", resume=True, workers=0)
    assert again.finished_before
