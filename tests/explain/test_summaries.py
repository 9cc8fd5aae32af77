"""The summary as data and as a table."""

import io
import json

import pytest
from rich.console import Console
from torch import nn

from svertka import explain, models
from svertka.errors import GeometryError
from svertka.explain import Row, Summary, summary
from svertka.explain.receptive import AxisField


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
    assert shown[0] == ["LeNet", "on", "1×28×28"] or shown[0][1:] == ["on", "1×28×28"]
    assert ["features.0.conv", "Conv2d", "32×28×28", "832", "627k", "100k", "5", "1", "−2"] in shown
    assert ["activation", "ReLU", "32×28×28", "100k", "5", "1", "−2"] in shown
    assert ["dense.0", "Linear", "512", "1.61M", "1.61M", "2.05k", "all"] in shown
    assert shown[-5][:3] == ["Total", "1.66M", "12.3M"]
    assert " ".join(shown[-4]).startswith("1 663 370 parameters, 12 273 152 multiply-adds.")
    assert ["flatten", "Flatten", "3136", "16", "(1)"] in shown
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
    assert ["0", "Conv2d", "1×7×5", "16", "525", "3×5", "1×2", "0×−2"] in shown
    assert shown[4][-3:] == ["9×5", "×2", "×−2"]


def test_notes_are_below_the_table() -> None:
    model = nn.Sequential(nn.Conv2d(1, 1, 3))
    model.spare = nn.Parameter(model[0].weight.detach().clone())
    assert lines(summary(model, (1, 9, 9)), 80)[-1].strip() == "9 parameters are not used in the forward pass."


@pytest.mark.parametrize("size", [(), (3, 0, 4), (3, 2.5)])
def test_sizes_that_are_none(size: tuple[int, ...]) -> None:
    with pytest.raises(GeometryError, match="input_size"):
        summary(nn.Identity(), size)
