"""Room 1 tells what the library computes."""

import contextlib
import io
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from svertka.errors import SvertkaError
from svertka.functional import conv2d, conv_transpose2d
from svertka.lab.api import LabError
from svertka.lab.app import create_app
from svertka.lab.guard import Door
from svertka.lab.rooms.convolution import ConvolutionAnswer, ConvolutionAsked, convolve
from svertka.lab.work import GivenUpError

MATRIX, KERNEL = "3 3 2 1 0; 0 0 1 3 1; 3 1 2 2 3; 2 0 0 2 2; 2 0 0 0 1", "0 1 2; 2 2 0; 0 1 2"


def asked(**arguments: Any) -> ConvolutionAnswer:
    return convolve(ConvolutionAsked(**arguments), lambda: None)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"input": "1 2 3 4 5 5 4 3 2 1", "kernel": "-1 0 1"}, [2, 2, 2, 1, -1, -2, -2, -2]),
        ({"input": "1 2 3; 3 4 5; 1 0 2", "kernel": "0 1; 1 -1"}, [1, 2, 5, 3]),
        ({"input": "1 2 3; 3 4 5; 1 0 2", "kernel": "0 1; 1 -1", "padding": "same_upper"}, [1, 2, 5, 5, 3, 2, 0, 2, 0]),
        ({"input": MATRIX, "kernel": KERNEL}, [12, 12, 17, 10, 17, 19, 9, 6, 14]),
        ({"input": MATRIX, "kernel": KERNEL, "stride": [2], "padding": [(1, 1)]}, [6, 17, 3, 8, 17, 13, 6, 4, 4]),
    ],
)
def test_the_lectures_numbers(arguments: dict[str, Any], expected: list[float]) -> None:
    assert asked(**arguments).stage.output.values == expected


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
def test_the_lectures_paddings(mode: Any, expected: list[float]) -> None:
    found = asked(input="1 2 3 4 5", kernel="-1 0 2 0 -1", padding=[(2, 2)], mode=mode)
    assert found.stage.output.values == expected
    assert found.stage.drawn.left == 2
    assert found.stage.drawn.kinds == [1, 1, 0, 0, 0, 0, 0, 1, 1]
    assert found.stage.drawn.values[2:7] == [1, 2, 3, 4, 5]


experiments = st.fixed_dictionaries(
    {
        "sizes": st.tuples(*[st.integers(3, 6)] * 2),
        "kernel": st.tuples(*[st.integers(1, 3)] * 2),
        "groups": st.integers(1, 2),
        "per_group": st.tuples(st.integers(1, 2), st.integers(1, 2)),
        "stride": st.lists(st.integers(1, 2), min_size=2, max_size=2),
        "dilation": st.lists(st.integers(1, 2), min_size=2, max_size=2),
        "padding": st.lists(st.tuples(st.integers(0, 3), st.integers(2, 3)), min_size=2, max_size=2),
        "mode": st.sampled_from(["zeros", "replicate", "reflect", "symmetric", "circular"]),
        "transposed": st.booleans(),
        "flip": st.booleans(),
        "bias": st.sampled_from([None, 0.5]),
    }
)


def written(planes: np.ndarray[Any, Any]) -> str:
    return "|".join(";".join(" ".join(map(str, row)) for row in plane) + ";" for plane in planes)


@settings(max_examples=40, deadline=None)
@given(experiments)
def test_the_table_holds_all_that_makes_the_librarys_result(e: dict[str, Any]) -> None:
    random = np.random.default_rng(0)
    inputs, outputs = (n * e["groups"] for n in e["per_group"])
    x = random.integers(-4, 5, (inputs, *e["sizes"]))
    leading = (inputs, e["per_group"][1]) if e["transposed"] else (outputs, e["per_group"][0])
    kernel = random.integers(-4, 5, (*leading, *e["kernel"]))
    padding = [(0, 0), (0, 0)] if e["transposed"] else e["padding"]
    found = asked(
        input=written(x), kernel=written(kernel.reshape(-1, *e["kernel"])), groups=e["groups"], stride=e["stride"],
        dilation=e["dilation"], padding=padding, mode="zeros" if e["transposed"] else e["mode"],
        transposed=e["transposed"], flip=e["flip"], bias=e["bias"],
    )  # fmt: skip
    weight = torch.tensor(kernel).double()
    weight = weight.flip(-2, -1) if e["flip"] else weight
    bias = None if e["bias"] is None else torch.full((outputs,), e["bias"]).double()
    options: Any = {"stride": tuple(e["stride"]), "dilation": tuple(e["dilation"]), "groups": e["groups"]}
    values = torch.tensor(x).double()
    if e["transposed"]:
        expected = conv_transpose2d(values, weight, bias, **options)
    else:
        expected = conv2d(values, weight, bias, padding=padding, padding_mode=e["mode"], **options)  # type: ignore[arg-type]
    stage, terms, flat = found.stage, found.stage.terms, kernel.ravel()
    # Whole numbers below 2^53: float64 is exact.
    assert stage.output.values == expected.ravel().tolist()
    read: list[set[int]] = [set() for _ in range(x.size)]
    for output, result in enumerate(stage.output.values):
        total = stage.biases[output] or 0.0
        for i in range(terms.starts[output], terms.starts[output + 1]):
            cell, factor = terms.cells[i], terms.factors[i]
            assert factor == flat[terms.weights[i]]
            value = stage.drawn.values[cell] or 0.0
            assert terms.products[i] == value * factor
            total += value * factor
            if stage.drawn.sources[cell] >= 0:
                assert value == x.ravel()[stage.drawn.sources[cell]]
                read[stage.drawn.sources[cell]].add(output)
        assert total == result
    readers = stage.readers
    assert [set(readers.outputs[a:b]) for a, b in zip(readers.starts, readers.starts[1:], strict=False)] == read
    if found.matrix is not None:
        table = np.zeros((found.matrix.height, found.matrix.width))
        table[found.matrix.rows, found.matrix.columns] = found.matrix.values
        assert np.array_equal(table @ x.ravel() + (e["bias"] or 0), stage.output.values)
    assert _printed(found.code, expected.shape) == stage.output.values


def _printed(code: str, shape: torch.Size) -> list[float]:
    """The numbers that the copied code prints."""
    names: dict[str, Any] = {}
    with contextlib.redirect_stdout(io.StringIO()):
        exec(code, names)
    result = names["layer"](names["x"]).detach()
    assert result.shape == shape
    found: list[float] = result.double().ravel().tolist()
    return found


@pytest.mark.parametrize(
    ("arguments", "kind", "numbers"),
    [
        ({"input": "1 2 3", "kernel": "1 1 1 1"}, "no-window", [4, 3, 0, 0]),
        ({"input": "1 2; 3 4", "kernel": "1 2"}, "axes", []),
        ({"input": "1 2;; 3 4", "kernel": "1"}, "axes", []),
        ({"input": "1 2 | 3 4", "kernel": "1 | 1 | 1"}, "groups", [3, 2, 1]),
        ({"input": " ".join(["1"] * 4000), "kernel": "1 1"}, "too-many-cells", [4000]),
        ({"input": "1e30 1", "kernel": "1"}, "too-large", []),
        ({"input": "1 2 3", "kernel": "1", "transposed": True, "mode": "reflect"}, "transposed-mode", []),
        ({"input": "1 2 3", "kernel": "1", "transposed": True, "padding": "same_upper"}, "transposed-padding", []),
    ],
)
def test_what_cannot_be_used_has_a_name(arguments: dict[str, Any], kind: str, numbers: list[int]) -> None:
    with pytest.raises(LabError) as caught:
        asked(**arguments)
    assert (caught.value.kind, caught.value.numbers) == (kind, numbers)


def test_too_many_terms_are_refused_before_they_are_made() -> None:
    side = "; ".join([" ".join(["1"] * 30)] * 30)
    with pytest.raises(LabError, match="products"):
        asked(input=side, kernel="; ".join(["1 1 1 1 1 1 1"] * 7))


def test_the_grammars_own_errors_come_through() -> None:
    with pytest.raises(SvertkaError, match="row 2"):
        asked(input="1 2 3; 1 2; 1 2 3", kernel="1;")


def test_work_is_given_up_when_nobody_waits() -> None:
    calls = []

    def check() -> None:
        calls.append(1)
        if len(calls) == 3:
            raise GivenUpError

    with pytest.raises(GivenUpError):
        convolve(ConvolutionAsked(input=MATRIX, kernel=KERNEL), check)
    assert len(calls) == 3


client = TestClient(create_app(Door(requests=1e6)), base_url="http://127.0.0.1:8765")


def test_over_the_wire() -> None:
    answer = client.post("/api/convolution", json={"input": MATRIX, "kernel": KERNEL})
    assert answer.json()["stage"]["output"]["values"] == [12, 12, 17, 10, 17, 19, 9, 6, 14]


def test_a_dozen_pages_at_once_get_their_own_answers() -> None:
    def ask(number: int) -> list[float]:
        values: list[float] = []
        for turn in range(5):
            body = {"input": f"{number} {turn} 1", "kernel": "1 1 1"}
            values += client.post("/api/convolution", json=body).json()["stage"]["output"]["values"]
        return values

    with ThreadPoolExecutor(12) as pages:
        assert list(pages.map(ask, range(12))) == [[number + turn + 1 for turn in range(5)] for number in range(12)]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"input": "1 2", "kernel": "1", "unknown": 1},
        {"input": "1 2", "kernel": "1", "stride": [0]},
        {"input": "1 2", "kernel": "1", "padding": [[0, 10**9]]},
        {"input": "svertka.csv", "kernel": "1"},
        {"input": "/etc/passwd.txt", "kernel": "1"},
        {"input": "nan 1", "kernel": "1"},
        {"input": "1 2 3", "kernel": "1 1 1 1"},
        [],
        "text",
    ],
)
def test_bad_requests_end_in_one_sentence(body: Any) -> None:
    answer = client.post("/api/convolution", json=body)
    assert answer.status_code == 422
    problem = answer.json()
    assert set(problem) == {"kind", "message", "numbers"}
    assert "\n" not in problem["message"]


@pytest.mark.parametrize(("kind", "start"), [("svg", b"<svg"), ("gif", b"GIF89a"), ("html", b"<!doctype html>")])
def test_the_animation_as_a_file(kind: str, start: bytes) -> None:
    body = {"experiment": {"input": "1 2 3; 3 4 5; 1 0 2", "kernel": "0 1; 1 -1"}, "kind": kind}
    answer = client.post("/api/convolution/export", json=body)
    assert answer.status_code == 200
    assert answer.content.lower().startswith(start.lower())
    assert "attachment" in answer.headers["Content-Disposition"]


def test_pictures_become_numbers() -> None:
    from PIL import Image

    grey = Image.fromarray(np.arange(0, 160, 10, dtype=np.uint8).reshape(4, 4))
    stream = io.BytesIO()
    grey.save(stream, "PNG")
    headers = {"Content-Type": "application/octet-stream"}
    answer = client.post("/api/picture?rows=4&columns=4", content=stream.getvalue(), headers=headers)
    assert answer.json()["text"] == "0 10 20 30; 40 50 60 70; 80 90 100 110; 120 130 140 150;"
    for content, query, kind in (
        (b"", "", "no-picture"),
        (b"no picture", "", "no-picture"),
        (stream.getvalue()[:40], "", "no-picture"),
        (stream.getvalue(), "rows=100000", "request"),
        (_bomb(), "", "picture-size"),
    ):
        answer = client.post(f"/api/picture?{query}", content=content, headers=headers)
        assert (answer.status_code, answer.json()["kind"]) == (422, kind)


def _bomb() -> bytes:
    """A PNG of few bytes that says it has 64 million pixels."""
    from PIL import Image

    stream = io.BytesIO()
    Image.new("1", (8000, 8000)).save(stream, "PNG")
    return stream.getvalue()
