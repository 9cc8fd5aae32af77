"""Room 5: what the page is told about a network is what the library computes."""

import base64
import io
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from starlette.testclient import TestClient
from torch import nn

from svertka import inspect, models
from svertka.explain import receptive_field
from svertka.inspect import attribution
from svertka.inspect.recording import layers
from svertka.inspect.synthesis import Unit, synthesise
from svertka.lab.app import create_app
from svertka.lab.guard import Door
from svertka.lab.networks import Networks
from svertka.lab.rooms import network as room
from svertka.lab.rooms.numbers import number_of, seen_by
from svertka.lab.work import GivenUpError
from svertka.vision.modelfile import MODEL_FILE, TrainedModel, save_model
from svertka.vision.pictures import Preprocessing

RAW = {"Content-Type": "application/octet-stream"}
FRAME = Preprocessing(1, (12, 12), mean=(0.3,), std=(0.4,))
PIXELS = np.random.default_rng(0).integers(0, 256, (12, 12), dtype=np.uint8)


def png(pixels: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def saved(folder: Path, name: str, frame: Preprocessing = FRAME, **arguments: Any) -> Path:
    folder.mkdir()
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = models.create(name, frame.channels, 3, size=frame.size, **arguments)
    save_model(folder / MODEL_FILE, model, name=name, arguments=arguments, classes=("a", "b", "c"), preprocessing=frame)
    return folder


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Networks]:
    folder = tmp_path_factory.mktemp("networks")
    networks = Networks(saved(folder / "small", "lenet", widths=[4, 6], hidden=10))
    networks.add("linear", saved(folder / "linear", "linear"))
    colour = Preprocessing(3, (16, 16), mean=(0.5,) * 3, std=(0.2,) * 3)
    networks.add("mobile", saved(folder / "mobile", "mobilenet", colour, width=0.25))
    networks.add("res", saved(folder / "res", "resnet18", colour, width=8))
    yield networks
    networks.close()


@pytest.fixture(scope="module")
def client(known: Networks) -> TestClient:
    return TestClient(create_app(Door(requests=1e6, bytes=1e12), known), base_url="http://127.0.0.1:8765")


def sent(client: TestClient, path: str, **options: Any) -> dict[str, Any]:
    answer = client.post(f"/api/network/{path}", params=options, content=png(PIXELS), headers=RAW)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def floats(text: str) -> Any:
    return np.frombuffer(base64.b64decode(text), "<f4")


def picture(trained: TrainedModel) -> torch.Tensor:
    return trained.preprocessing.normalise(trained.preprocessing.decode(png(PIXELS))[None])[0]


def test_a_network_is_described(client: TestClient, known: Networks) -> None:
    told = client.post("/api/network", json={}).json()
    assert told["names"] == ["small", "digits", "linear", "mobile", "res"]
    assert (told["name"], told["classes"], told["size"]) == ("small", ["a", "b", "c"], [1, 12, 12])
    assert told["parameters"] == sum(p.numel() for p in known.get("small").model.parameters())
    assert [layer["title"] for layer in told["layers"]] == [
        "features.0.conv", "features.0.activation", "features.0.pool", "features.1.conv", "features.1.activation",
        "features.1.pool", "dense.0", "dense.1", "dense.3",
    ]  # fmt: skip
    assert client.post("/api/network", json={"model": "unknown"}).json()["kind"] == "no-network"


@pytest.mark.parametrize("name", ["small", "linear", "mobile", "res"])
def test_the_maps_and_scores_are_the_librarys(client: TestClient, known: Networks, name: str) -> None:
    told, trained = sent(client, "look", model=name), known.get(name)
    x = picture(trained)
    with torch.no_grad():
        scores = trained.model(x[None])[0]
    torch.testing.assert_close(torch.tensor(told["scores"]), scores)
    torch.testing.assert_close(torch.tensor(told["probabilities"]), scores.softmax(0))
    expected = inspect.feature_maps(trained.model, x)
    for maps in told["maps"]:
        values = expected[maps["title"]].values
        shape = (len(maps["channels"]), maps["rows"], maps["columns"])
        shown = floats(maps["values"]).reshape(shape)
        np.testing.assert_array_equal(shown, values.reshape(len(values), *shape[1:])[maps["channels"]])
        assert maps["most"] == pytest.approx(np.abs(shown).max())
    pixels = np.array(Image.open(io.BytesIO(base64.b64decode(told["picture"].partition(",")[2]))))
    assert np.array_equal(pixels if pixels.ndim == 2 else pixels.transpose(2, 0, 1), _squeezed(trained))


def _squeezed(trained: TrainedModel) -> Any:
    pixels = trained.preprocessing.decode(png(PIXELS)).numpy()
    return pixels[0] if len(pixels) == 1 else pixels


def test_the_maps_are_bounded(known: Networks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "MAX_VALUES", 9 * 300)
    monkeypatch.setattr(room, "_A_ROW", 1)
    told = room.look(room.PictureOptions(model="small"), lambda: None, png(PIXELS), known)
    first = told.maps[0]
    assert len(first.channels) == 2  # of 4, 144 numbers each
    values = inspect.feature_maps(known.get("small").model, picture(known.get("small")))["features.0.conv"].values
    strongest = np.argsort(-np.abs(values).reshape(4, -1).max(axis=1))[:2]
    assert first.channels == sorted(strongest.tolist())


def test_a_row_of_maps_is_told_in_any_case(known: Networks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "MAX_VALUES", 1)
    told = room.look(room.PictureOptions(model="small"), lambda: None, png(PIXELS), known)
    assert [len(maps.channels) for maps in told.maps] == [4, 4, 4, 6, 6, 6, 6, 6, 3]
    monkeypatch.setattr(room, "_IN_A_ROW", 2 * 144)
    told = room.look(room.PictureOptions(model="small"), lambda: None, png(PIXELS), known)
    assert [len(maps.channels) for maps in told.maps[:3]] == [2, 2, 4]


@pytest.mark.parametrize("layer", ["features.0.conv", "features.1.pool", "dense.1"])
def test_all_maps_of_a_layer_come_in_parts(
    client: TestClient, known: Networks, monkeypatch: pytest.MonkeyPatch, layer: str
) -> None:
    monkeypatch.setattr(room, "MAX_VALUES", 3 * 144)
    expected = inspect.feature_maps(known.get("small").model, picture(known.get("small")))[layer].values
    first, parts = 0, []
    while first < len(expected):
        told = sent(client, "maps", model="small", layer=layer, first=first)
        assert told["channels"] == list(range(first, first + len(told["channels"])))
        assert len(told["channels"]) * told["rows"] * told["columns"] <= 3 * 144
        parts.append(floats(told["values"]))
        first += len(told["channels"])
    np.testing.assert_array_equal(np.concatenate(parts), expected.ravel())
    options = {"model": "small", "layer": layer, "first": len(expected)}
    refused = client.post("/api/network/maps", params=options, content=png(PIXELS), headers=RAW)
    assert refused.status_code == 422 and "channels" in refused.json()["message"]


@pytest.mark.parametrize("name", ["small", "linear", "mobile", "res"])
def test_every_number_is_its_sum(known: Networks, name: str) -> None:
    trained = known.get(name)
    x, draw = picture(trained), np.random.default_rng(2)
    ways = set()
    for layer in room.shown_layers(trained)[:24]:
        values = inspect.feature_maps(trained.model, x, wanted=[layer.title])[layer.title].values
        place = tuple(int(draw.integers(n)) for n in layer.output)
        told = number_of(trained.model, x, layer, place)
        ways.add(told.way)
        assert told.value == values[place]
        if told.way == "sum":
            terms = [product or 0.0 for plane in told.planes for product in plane.products]
            total = sum(terms) + told.rest[0] + (told.bias or 0.0)
            assert total == pytest.approx(told.result, abs=1e-9)
            # float32 sums of n terms err by ε · n · Σ|term| at most
            size = sum(map(abs, terms)) + abs(told.rest[0]) + 1
            assert abs(told.value - told.result) < 4096 * 1.2e-7 * size
        elif told.way == "choice":
            chosen = [v for plane in told.planes for v, c in zip(plane.inputs, plane.chosen, strict=True) if c]
            assert chosen == [pytest.approx(told.value)]
        elif told.before is not None and layer.role == "nonlinearity":
            assert told.value == max(0.0, told.before)
    assert "sum" in ways


def test_fields_in_earlier_layers(known: Networks) -> None:
    trained = known.get("small")
    size = (1, 12, 12)
    layer = room.named_layer(trained, "features.1.conv")
    told = {one.title: one for one in seen_by(trained.model, size, layer, (2, 3, 4), lambda: None)}
    assert list(told) == ["", "features.0.conv", "features.0.activation", "features.0.pool"]
    whole = receptive_field(trained.model, size, "features.1.conv", (3, 4)).intervals
    assert (tuple(told[""].rows), tuple(told[""].columns)) == whole
    # 5×5 around (3, 4) of maps of 6×6, in which each place is a pool of 2×2.
    assert (told["features.0.pool"].rows, told["features.0.pool"].columns) == ([(1, 5)], [(2, 5)])
    assert (told["features.0.conv"].rows, told["features.0.conv"].columns) == ([(2, 11)], [(4, 11)])
    assert all(one.channels is None for one in told.values())


def test_a_field_is_all_that_a_number_depends_on(known: Networks) -> None:
    """Noise elsewhere in an earlier layer changes nothing; noise in the field does."""
    trained = known.get("mobile")
    size, x = (3, 16, 16), picture(trained)
    found = room.shown_layers(trained)
    last = next(one for one in found if one.name.startswith("features.5") and one.role == "convolution")
    place = (5, 1, 2)
    modules = dict(trained.model.named_modules())

    def value(title: str, change: torch.Tensor) -> float:
        hook = modules[title].register_forward_hook(lambda *call: call[2] + change)
        try:
            return number_of(trained.model, x, last, place).value
        finally:
            hook.remove()

    told = [one for one in seen_by(trained.model, size, last, place, lambda: None) if one.title]
    assert any(one.channels is not None for one in told)
    for one in told:
        layer = room.named_layer(trained, one.title)
        if one.title not in modules:
            continue
        seen = torch.zeros(layer.output, dtype=torch.bool)
        for top, bottom in one.rows:
            for left, right in one.columns:
                seen[one.channels or slice(None), top : bottom + 1, left : right + 1] = True
        noise = torch.randn(layer.output, generator=torch.Generator().manual_seed(0))
        same, other = value(one.title, 0 * noise), value(one.title, noise * ~seen)
        assert other == pytest.approx(same, abs=1e-6)
        assert value(one.title, 10 * noise * seen) != same


def test_branches_are_followed(known: Networks) -> None:
    trained = known.get("res")
    layer = room.shown_layers(trained)[-4]
    told = seen_by(trained.model, (3, 16, 16), layer, (0,) * len(layer.output), lambda: None)
    assert len(told) > 20
    assert all(not one.reason for one in told)


def test_attribution_weights_and_pictures_are_the_librarys(client: TestClient, known: Networks) -> None:
    trained = known.get("small")
    for method, ask in attribution.METHODS.items():
        told, expected = sent(client, "attribution", target=1, method=method), ask(trained.model, picture(trained), 1)
        np.testing.assert_allclose(floats(told["values"]), expected.map.ravel(), rtol=1e-5, atol=1e-7)
        assert (told["score"], told["layer"]) == (pytest.approx(expected.score), expected.layer)
    first = client.post("/api/network/weights", json={"model": "small"}).json()
    weight = dict(trained.model.named_parameters())
    assert (first["kind"], first["count"], first["layers"]) == ("grey", 4, ["features.0.conv", "features.1.conv"])
    np.testing.assert_array_equal(floats(first["tiles"][2]["values"]), _flat(weight["features.0.conv.weight"][2]))
    second = client.post("/api/network/weights", json={"layer": "features.1.conv", "filter": 5}).json()
    assert (second["kind"], second["filter"], len(second["tiles"])) == ("full", 5, 4)
    np.testing.assert_array_equal(floats(second["tiles"][3]["values"]), _flat(weight["features.1.conv.weight"][5, 3]))
    made = client.post("/api/network/synthesis", json={"layer": "dense.3", "units": [2, 0]}).json()["made"]
    expected_made = synthesise(trained.model, [Unit("dense.3", 2), Unit("dense.3", 0)], trained.preprocessing)
    assert [one["unit"] for one in made] == [2, 0]
    assert [one["excitation"] for one in made] == [pytest.approx(one.excitation) for one in expected_made]


def _flat(weight: torch.Tensor) -> Any:
    return weight.detach().numpy().ravel()


def test_templates_of_a_linear_network(client: TestClient, known: Networks) -> None:
    told = client.post("/api/network/weights", json={"model": "linear"}).json()
    assert (told["kind"], [tile["name"] for tile in told["tiles"]]) == ("template", ["a", "b", "c"])
    expected = inspect.templates(known.get("linear").model, (1, 12, 12))
    assert expected is not None
    np.testing.assert_array_equal(floats(told["tiles"][1]["values"]), expected.weight[1].ravel())


def test_light_and_dark_are_exchanged(client: TestClient) -> None:
    plain, inverted = (sent(client, "look", inverted=on)["picture"] for on in ("false", "true"))
    first, second = (np.array(Image.open(io.BytesIO(base64.b64decode(p.partition(",")[2])))) for p in (plain, inverted))
    assert np.array_equal(first, 255 - second)


def test_a_drawing_fills_the_frame_as_digits_do() -> None:
    drawing = torch.zeros(100, 100, dtype=torch.uint8)
    drawing[20:60, 30:40] = 255
    cut = room._cut_out(drawing)
    assert cut.shape == (40, 40)
    assert (cut[:, 15:25] == 255).all()
    assert int(cut.sum()) == int(drawing.sum())
    assert room._cut_out(drawing * 0).shape == (100, 100)


@pytest.mark.parametrize(
    ("path", "options"),
    [
        ("look", {"model": "../small"}),
        ("number", {"layer": "nothing"}),
        ("number", {"layer": "features.0.conv", "channel": 4}),
        ("number", {"layer": "features.0.conv", "row": -1}),
        ("attribution", {"target": 3}),
        ("attribution", {"target": 0, "method": "guess"}),
    ],
)
def test_what_cannot_be_used_is_one_sentence(client: TestClient, path: str, options: dict[str, Any]) -> None:
    answer = client.post(f"/api/network/{path}", params=options, content=png(PIXELS), headers=RAW)
    assert answer.status_code == 422
    assert "\n" not in answer.json()["message"]


@pytest.mark.parametrize("data", [b"", b"no picture", png(PIXELS)[:60]])
def test_what_is_no_picture_is_said(client: TestClient, data: bytes) -> None:
    for path in ("look", "number?layer=dense.0", "attribution?target=0"):
        answer = client.post(f"/api/network/{path}", content=data, headers=RAW)
        assert (answer.status_code, answer.json()["kind"]) == (422, "no-picture")


def test_a_picture_of_too_many_pixels_is_refused_by_its_header(client: TestClient) -> None:
    stream = io.BytesIO()
    Image.new("1", (9000, 9000)).save(stream, "PNG")
    answer = client.post("/api/network/look", content=stream.getvalue(), headers=RAW)
    assert answer.json()["kind"] == "picture-size"


def test_work_stops_when_its_page_has_gone(known: Networks) -> None:
    from svertka.lab.rooms.learnt import SynthesisAsked, excite

    calls = 0

    def check() -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise GivenUpError

    with pytest.raises(GivenUpError):
        excite(SynthesisAsked(layer="dense.3", units=[0]), check, known)
    assert calls == 3


def test_a_dozen_pages_at_once(client: TestClient) -> None:
    expected = sent(client, "look")
    found: list[bool] = []

    def page() -> None:
        for _ in range(3):
            number = sent(client, "number", layer="features.1.conv", channel=1, row=2, column=3)
            found.append(sent(client, "look") == expected and len(number["seen"]) == 4)

    threads = [threading.Thread(target=page) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 36


def test_a_function_without_a_module_has_a_value() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 2, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.relu(self.conv(x)).mean((2, 3))

    model, x = Own().eval(), torch.randn(1, 8, 8)
    relu = next(layer for layer in layers(model, (1, 8, 8)) if layer.role == "nonlinearity")
    told = number_of(model, x, relu, (1, 2, 2))
    with torch.no_grad():
        assert told.value == float(torch.relu(model.conv(x[None]))[0, 1, 2, 2])
    assert told.way == "function"
