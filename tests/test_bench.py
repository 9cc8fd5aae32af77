"""The arithmetic of the table of layers, and the check of what goes into it."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[1] / "bench"))

import choices
import net_worker
import torch
import train_rows
import train_table
from checking import COARSENESS, TOLERANCE, fault, fault_of_losses, losses_and_tolerances
from layer_rows import ROWS, Arrays, Row, arrays, chosen
from layer_table import Result, digits, geometric_mean, markdown, milliseconds, missing, ours, rejected, summary, times

from svertka import models

CONV = Row("g", "conv", "conv", 4, (5, 5), outputs=6, kernel=3, padding=1)
DRAW = Row("g", "draw", "stochastic", 2, (8, 8), kernel=2, stride=2)
MACHINE = {"gflops": 100.0, "bandwidth": 10.0}


def result(**seconds: list[float]) -> Result:
    facts = {"ours": {"path": "kernel", "detail": "d", "compiled": 0.1, "cached": 0.01}}
    return Result(CONV, 2, 10_800, 4000, seconds, facts=facts)


def test_the_ratio_is_taken_within_rounds() -> None:
    measured = result(ours=[1.0, 10.0, 2.0], mnn=[2.0, 20.0, 4.0], torch=[1.5, 16.0, 9.0])
    assert measured.ratio("mnn") == 2.0
    assert measured.best() == ("torch", 1.6)
    assert measured.median("torch") == 9.0
    assert measured.spread() == 4.5


def test_the_best_is_a_peer_not_our_other_layout() -> None:
    measured = Result(CONV, 1, 1, 1, {"ours": [2.0], "ours-nchw": [1.0], "torch": [4.0]})
    assert measured.best() == ("torch", 2.0)
    assert Result(CONV, 1, 1, 1, {"torch": [4.0]}).best() is None


def test_speed_is_arithmetic_or_traffic() -> None:
    measured = result(ours=[1e-6])
    assert measured.speed(MACHINE) == pytest.approx((21.6, "GFLOP/s", 0.216))
    assert replace(measured, macs=0).speed(MACHINE) == pytest.approx((4.0, "GB/s", 0.4))


def test_macs() -> None:
    assert CONV.macs(2, 25) == 2 * 25 * 6 * 4 * 9
    assert replace(CONV, groups=2).macs(2, 25) == 2 * 25 * 6 * 2 * 9
    assert replace(CONV, kind="block", pool=2).macs(1, 4) == 16 * 6 * 4 * 9
    assert replace(CONV, kind="transposed").macs(1, 100) == 25 * 4 * 6 * 9
    assert DRAW.macs(1, 16) == 0


def test_what_is_missing_is_told() -> None:
    measured = result(ours=[1.0], torch=[2.0])
    measured.reasons["mnn"] = "it can't"
    wrong = {"way": "packets", "reason": "off", "error": 0.5, "seconds": 1.0}
    measured.facts["torch"] = {"tried": [wrong, {"way": "", "reason": "", "seconds": 2.0}]}
    again = replace(measured, batch=8)
    assert missing([measured, again]) == ["mnn: it can't (conv by 2 and 8)"]
    assert rejected([measured]) == [
        "torch, packets: off in 1 rows, by 5e-01 to 5e-01, in 0.50 of the time of what is in the table"
    ]
    heads, lines = times([measured], ["ours", "torch", "mnn"])
    assert heads == ("ms", "N", "ours", "torch", "MNN", "ratio")
    assert list(lines) == [("g", ("conv", "2", "1000", "2000*", "–", "2.00"))]
    assert next(ours([measured], MACHINE)[1])[1][4] == "100/10"
    text = markdown([measured], ["ours", "torch", "mnn"], MACHINE, "about")
    assert "| conv | 2 | 1000 | 2000* | – | 2.00 |" in text
    assert "no number for mnn: it can't" in text


def test_numbers() -> None:
    assert geometric_mean([0.5, 2.0, 8.0]) == pytest.approx(2.0)
    assert [milliseconds(s) for s in (1.234e-6, 0.01234, 1.234)] == ["0.001", "12.34", "1234"]
    assert [digits(ratio) for ratio in (0.016, 1.0, 12.34, 757.5)] == ["0.02", "1.00", "12.3", "758"]
    assert "Fastest in 1 of 2 rows" in summary([result(ours=[1.0], mnn=[2.0]), result(ours=[1.0], mnn=[0.5])])


def test_rows_are_told_apart() -> None:
    assert len({(row.group, row.name) for row in ROWS}) == len(ROWS) == len(chosen(""))
    assert {row.kind for row in chosen("LeNet")} == {"block"}
    assert all(np.array_equal(a, b) for a, b in zip(arrays(CONV, 2).values(), arrays(CONV, 2).values(), strict=True))


def test_rounding_is_found() -> None:
    reference = np.random.default_rng(1).standard_normal((1, 6, 5, 5))
    right = reference.astype(np.float32)
    assert not fault(CONV, {}, right, reference)
    for wrong in (right.astype(np.float16).astype(np.float32), right + 2 * TOLERANCE, np.full_like(right, np.nan)):
        assert "off by more" in fault(CONV, {}, wrong, reference)
    assert "shape" in fault(CONV, {}, right[:, :5], reference)


def test_draws_are_members_and_right_on_average() -> None:
    random = np.random.default_rng(2)
    numbers: Arrays = {"x": random.random((50, 2, 8, 8), dtype=np.float32)}
    windows = numbers["x"].reshape(50, 2, 4, 2, 4, 2).transpose(0, 1, 2, 4, 3, 5).reshape(50, 2, 4, 4, 4)
    expected = np.square(windows).sum(-1) / windows.sum(-1)
    order = (windows.cumsum(-1) > random.random((50, 2, 4, 4, 1)) * windows.sum(-1, keepdims=True)).argmax(-1)
    draws = np.take_along_axis(windows, order[..., None], -1)[..., 0]
    assert not fault(DRAW, numbers, draws, expected)
    assert "average" in fault(DRAW, numbers, windows.max(-1), expected)
    assert "isn't in" in fault(DRAW, numbers, expected.astype(np.float32), expected)


def test_training_is_measured_on_the_same_network() -> None:
    losses = []
    for own in (True, False):
        row = train_rows.Row("steps", "tiny", 2, (1, 12, 12), lambda: models.lenet(1, 3, size=(12, 12), dropout=0.0))
        step = train_rows.runner(row, last=True, own=own, compiled=False)
        losses.append([float(step()) for _ in range(3)])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    layers = [type(part).__module__ for part in train_rows.torchs_own(models.lenet(norm=True)).modules()]
    assert not any(name.startswith(("svertka.nn._conv", "svertka.nn._norm")) for name in layers)


def test_a_layers_gradients_are_measured() -> None:
    row = next(row for row in train_rows.ROWS if row.name == "batch norm 14² ×256")
    assert train_rows.runner(row, last=True, own=True, compiled=False)().shape == (8, 256, 14, 14)


def test_the_table_of_training() -> None:
    row = train_rows.ROWS[0]
    result = train_table.Result(row, {"ours": [1.0, 2.0], "torch": [2.0, 3.0]}, reasons={"inductor": "no compiler"})
    result.facts = {peer: {"megabytes": 3.0, "paths": {"kernel": 2, "portable": 0}} for peer in ("ours", "torch")}
    assert result.best() == ("torch", 1.75)
    text = train_table.markdown([result], ["ours", "torch", "inductor"], "here")
    assert "| 1500 | 2500* | – | 1.75 | 3 / 3 | kernels |" in text
    assert "no number for inductor: no compiler" in text


def test_a_layer_drawn_at_random_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    layers = list(choices.drawn(20, 0))
    assert len({layer[0] for layer in layers}) == 20
    assert layers == list(choices.drawn(20, 0))
    monkeypatch.setattr(choices, "MACS", (1e5, 1e6))
    found = choices.measured(next(choices.drawn(1, 0)))
    assert isinstance(found, str) or found.seconds_after <= found.seconds_before


def test_losses_may_differ_as_rounding_makes_them() -> None:
    expected = losses_and_tolerances([4.0, 2.0, 1.0], [[4.0, 2.001, 1.0], [4.0, 2.0, 1.0001]])
    assert expected[1] == pytest.approx([4 * COARSENESS * 2**-23, COARSENESS * 1e-3, COARSENESS * 1e-3])
    assert not fault_of_losses(np.array([4.0, 2.01, 1.01]), expected)
    for wrong, step in (([4.001, 2, 1], 0), ([4, 2.02, 1], 1), ([4, 2, 0.98], 2), ([4, 2, np.nan], 2)):
        assert f"after {step} steps" in fault_of_losses(np.array(wrong), expected)
    assert "2 steps, not 3" in fault_of_losses(np.array([4.0, 2.0]), expected)


class Wrong(net_worker.TorchNet):
    """Its second convolution's gradient is too large by a tenth."""

    def made(self, net, form):
        model = super().made(net, form)
        layer = [part for part in model.modules() if isinstance(part, torch.nn.Conv2d)][1]
        layer.weight.register_hook(lambda grad: grad * 1.1)
        return model


@pytest.mark.parametrize("name", ("LeNet", "ResNet-18"))
def test_a_network_with_a_wrong_gradient_gets_no_number(name, tmp_path) -> None:
    net = replace(next(net for net in net_worker.NETS if net.name == name), shape=(1 if name == "LeNet" else 3, 28, 28))
    file, enabled = tmp_path / "reference.npy", torch.is_grad_enabled()
    try:
        for peer in (net_worker.ReferenceNet, net_worker.TorchLastNet, net_worker.OursNet, Wrong):
            answer = net_worker.Worker(peer(torch.get_num_threads(), tmp_path)).load(net, 4, file, True)
            assert ("reason" in answer) == (peer is Wrong), (peer, answer)
    finally:
        torch.set_grad_enabled(enabled)
    assert "loss after 1 steps" in answer["reason"]
