"""The summary as data and as a table."""

import io
import json
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from rich.console import Console
from torch import Tensor, nn

import svertka
from svertka import explain, models
from svertka.errors import GeometryError
from svertka.explain import Row, Summary, summary
from svertka.explain.receptive import AxisField
from svertka.explain.timing import Machine


def lines(found: Summary, width: int) -> list[str]:
    stream = io.StringIO()
    Console(file=stream, width=width).print(found.table())
    return stream.getvalue().splitlines()


def test_the_name_in_the_package_is_the_function() -> None:
    assert explain.summary is summary
    assert callable(summary)


def test_rows_of_lenet() -> None:
    found = summary(models.lenet(), (1, 28, 28))
    first, *_, last = found.rows
    assert first == Row(
        "features.0.conv", "Conv2d", (32, 28, 28), 832, 627_200, (AxisField(5, 1, -2), AxisField(5, 1, -2))
    )
    assert last == Row("dense.3", "Linear", (10,), 5130, 5120, (AxisField(28, None, 0, whole=True),) * 2)
    assert found.parameters == sum(row.parameters for row in found.rows)
    assert found.macs == sum(row.macs for row in found.rows)


def test_everything_goes_through_json() -> None:
    found = summary(models.lenet(), (1, 28, 28))
    read = json.loads(json.dumps(found.to_dict()))
    assert read["macs"] == found.macs
    assert read["rows"][0]["receptive_field"][0] == {"size": 5, "stride": 1, "offset": -2, "whole": False}
    assert read["rows"][7]["receptive_field"] is None
    assert read["rows"][7]["reason"]


def test_the_table_of_lenet() -> None:
    shown = [line.split() for line in lines(summary(models.lenet(), (1, 28, 28)), 100)]
    assert shown[0][1:] == ["on", "1×28×28"]
    assert ["features.0.conv", "Conv2d", "32×28×28", "832", "627k", "100k", "5", "1", "−2"] in shown
    assert ["activation", "ReLU", "32×28×28", "5", "1", "−2"] in shown
    assert ["dense.0", "Linear", "512", "1.61M", "1.61M", "2.05k", "all"] in shown
    assert shown[-5][:3] == ["Total", "1.66M", "12.3M"]
    assert " ".join(shown[-4]).startswith("1 663 370 parameters, 12 273 152 multiply-adds.")
    assert ["flatten", "Flatten", "3136", "10–16", "(1)"] in shown
    assert any(line[:2] == ["(1)", "each"] for line in shown)


@pytest.mark.parametrize("width", [80, 100])
def test_a_row_is_a_line_at_80_columns(width: int) -> None:
    found = summary(models.resnet50(width=64, classes=10), (3, 224, 224))
    shown = lines(found, width)
    assert max(map(len, shown)) <= width
    assert len(shown) <= len(found.rows) + 8
    assert "…" not in "".join(shown)


def test_axes_that_differ_are_both_shown() -> None:
    found = summary(nn.Sequential(nn.Conv2d(1, 1, (3, 5), (1, 2), (0, 2)), nn.AdaptiveAvgPool2d((1, None))), (1, 9, 9))
    shown = [line.split() for line in lines(found, 100)]
    assert ["0", "Conv2d", "1×7×5", "16", "525", "140", "3×5", "1×2", "0×−2"] in shown
    assert shown[4][-3:] == ["9×5", "×2", "×−2"]


def test_notes_are_below_the_table() -> None:
    model = nn.Sequential(nn.Conv2d(1, 1, 3))
    model.spare = nn.Parameter(model[0].weight.detach().clone())
    assert lines(summary(model, (1, 9, 9)), 80)[-1].strip() == "9 parameters are not used in the forward pass."


@pytest.mark.parametrize("size", [(), (3, 0, 4), (3, 2.5)])
def test_sizes_that_are_none(size: tuple[int, ...]) -> None:
    with pytest.raises(GeometryError, match="input"):
        summary(nn.Identity(), size)


def test_the_name_at_the_top_is_the_function() -> None:
    assert svertka.summary is summary
    assert summary(nn.ReLU(), (3, 4, 4)).model == "ReLU"
    assert summary(models.lenet(), (1, 28, 28), name="lenet").to_dict()["model"] == "lenet"


def test_memory_counts_what_lies_in_memory_of_its_own() -> None:
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.ReLU(), nn.ReLU(inplace=True), nn.Dropout(), nn.Flatten(), nn.Linear(98, 3)
    )
    found = summary(model, (1, 9, 9))
    assert [row.memory for row in found.rows] == [4 * 98, 4 * 98, 0, 0, 0, 12]
    assert found.memory == 4 * (2 * 98 + 3)
    assert found.rows[0].moved == 4 * (81 + 20 + 98)


def test_a_tensor_is_an_input_too() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU())
    one, four = summary(model, (1, 9, 9)), summary(model, torch.zeros(4, 1, 9, 9))
    assert (four.batch, four.input_size) == (4, (1, 9, 9))
    assert (four.macs, four.memory) == (4 * one.macs, 4 * one.memory)
    assert four.rows[0].receptive_field == one.rows[0].receptive_field
    assert "4 × 1×9×9" in lines(four, 80)[0]
    words = summary(nn.Sequential(nn.Embedding(10, 4), nn.Linear(4, 2)), torch.zeros(1, 7, dtype=torch.long))
    assert [row.output for row in words.rows] == [(7, 4), (7, 2)]


def test_a_network_that_looks_at_the_numbers_gets_the_tensor_s() -> None:
    class Net(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * 2 if x.sum() > 0 else x.relu()

    found = summary(Net(), torch.ones(1, 1, 3, 3))
    assert found.rows[-1].kind == "mul"
    assert "your input" in found.notes[0]


def test_uneven_fields_tell_the_fewest_and_the_most() -> None:
    model = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.ConvTranspose2d(1, 1, 3, 2), nn.Conv2d(1, 1, 3))
    row = summary(model, (1, 16, 16)).rows[1]
    assert row.receptive_field is None
    assert row.reach == ((2, 4), (2, 4))
    shown = [line.split() for line in lines(summary(model, (1, 16, 16)), 80)]
    assert ["1", "ConvTranspose2d", "1×33×33", "10", "2.30k", "4.36k", "2–4", "(1)"] in shown


@pytest.fixture(scope="module")
def timed() -> Summary:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.last = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = F.max_pool2d(F.relu(self.conv(x)), 2) * 1
            return F.relu(self.last(x)).mean((2, 3))

    return summary(Net(), (3, 64, 64), time=True)


def test_every_row_is_timed(timed: Summary) -> None:
    assert [row.name for row in timed.rows] == ["conv", "relu", "max_pool2d", "mul", "last", "relu", "mean"]
    assert all(row.seconds and 0 < row.seconds < 1 for row in timed.rows)
    assert timed.machine is not None
    assert timed.machine.gflops > 1
    assert timed.machine.bandwidth > 0.1
    assert timed.rows[0].seconds != timed.rows[4].seconds
    assert json.loads(json.dumps(timed.to_dict()))["rows"][0]["seconds"] == timed.rows[0].seconds


def test_the_roof_is_the_larger_of_two_bounds(timed: Summary) -> None:
    machine = Machine(2, gflops=100.0, bandwidth=10.0)
    assert machine.roof(2e9, 1e6) == pytest.approx(0.02)
    assert machine.roof(2e6, 1e9) == pytest.approx(0.1)
    row = replace(timed.rows[0], macs=10**9, moved=4, seconds=0.04)
    assert replace(timed, machine=machine).roof(row) == pytest.approx(0.5)
    assert summary(nn.ReLU(), (3, 4, 4)).roof(row) is None


def test_the_table_of_times(timed: Summary) -> None:
    shown = lines(timed, 80)
    assert max(map(len, shown)) <= 80
    assert shown[1].split() == ["Layer", "Kind", "Output", "MACs", "ms", "Share", "GFLOP/s", "Roof"]
    assert "GB/s by a copy" in " ".join(shown)


def test_what_cannot_be_timed() -> None:
    with torch.device("meta"):
        model = nn.Conv2d(1, 1, 3)
    with pytest.raises(GeometryError, match="on the CPU"):
        summary(model, (1, 9, 9), time=True)


def test_the_command_names_the_model_and_times_it() -> None:
    run = [sys.executable, "-m", "svertka.cli", "summary", "lenet", "--input", "1x28x28", "--json", "--time"]
    read = json.loads(subprocess.run(run, check=True, capture_output=True).stdout)
    assert read["model"] == "lenet"
    assert read["machine"]["threads"] > 0
    assert read["memory"] == sum(row["memory"] for row in read["rows"])
