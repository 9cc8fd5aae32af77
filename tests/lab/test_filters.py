"""Room 3: the gallery and kernels of one's own on a picture; X against X."""

import base64
import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from starlette.testclient import TestClient

from svertka import functional as F
from svertka.explain import gallery
from svertka.lab.app import create_app
from svertka.lab.guard import Door
from svertka.lab.rooms.filters import LikenessAsked, compare

client = TestClient(create_app(Door(requests=1e6, bytes=1e12)), base_url="http://127.0.0.1:8765")
RAW = {"Content-Type": "application/octet-stream"}
PIXELS = np.random.default_rng(0).integers(0, 256, (40, 60), dtype=np.uint8)


def png(pixels: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def applied(query: str, data: bytes) -> tuple[Any, str]:
    answer = client.post(f"/api/filters/apply?{query}", content=data, headers=RAW)
    assert answer.status_code == 200, answer.text
    width, height = map(int, answer.headers["Svertka-Size"].split("x"))
    return np.frombuffer(answer.content, np.uint8).reshape(height, width, 4), answer.headers["Svertka-Shown"]


def test_the_gallery_is_the_librarys() -> None:
    answer = client.post("/api/filters/gallery?width=60", content=png(PIXELS), headers=RAW).json()
    assert answer["size"] == [40, 60]
    assert [one["name"] for one in answer["filters"]] == [each.name for each in gallery.filters()]
    for one, each in zip(answer["filters"], gallery.filters(), strict=True):
        content = base64.b64decode(one["picture"].removeprefix("data:image/png;base64,"))
        expected = gallery.pictured(gallery.apply(PIXELS, [each.name])[each.name], each.shown, 60)
        assert np.array_equal(Image.open(io.BytesIO(content)), expected)
        if one["plain"]:
            (kernel,) = one["kernels"]
            weight = each.layer(1).weight[0, 0]  # type: ignore[index, union-attr]
            # The divisor is told to three places.
            torch.testing.assert_close(torch.tensor(kernel["rows"]) / kernel["divisor"], weight, rtol=1e-3, atol=0)


def test_a_kernel_of_ones_own() -> None:
    pixels, shown = applied("kernel=1 2 1; 2 4 2; 1 2 1&divisor=16&width=60", png(PIXELS))
    assert shown == "pixels"
    weight = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]])[None, None] / 16
    expected = F.conv2d(torch.from_numpy(PIXELS).float()[None], weight, padding="same", padding_mode="symmetric")
    assert abs(pixels[..., 0] - expected[0].round().clamp(0, 255).numpy()).max() <= 1  # rounding at .5
    assert (pixels[..., 3] == 255).all()
    _, shown = applied("kernel=1 0 -1;", png(PIXELS))
    assert shown == "signed"


def test_a_colour_picture_is_scaled_to_what_was_asked() -> None:
    colour = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    pixels, _ = applied("filter=gaussian-blur&width=60", png(colour))
    assert pixels.shape == (45, 60, 4)
    assert (pixels[..., 0] != pixels[..., 1]).any()


@pytest.mark.parametrize(
    ("query", "data"),
    [
        ("filter=unknown", png(PIXELS)),
        ("width=5000", png(PIXELS)),
        ("divisor=0", png(PIXELS)),
        ("kernel=1 2; 3", png(PIXELS)),
        ("kernel=1;|2;", png(PIXELS)),
        ("", b"no picture"),
    ],
)
def test_what_cannot_be_used_is_one_sentence(query: str, data: bytes) -> None:
    answer = client.post(f"/api/filters/apply?{query}", content=data, headers=RAW)
    assert answer.status_code == 422
    assert "\n" not in answer.json()["message"]


def test_the_lectures_two_x() -> None:
    from svertka.explain import likeness

    def text(x: Any) -> str:
        return "; ".join(" ".join(map(str, row)) for row in x.astype(int))

    first, second = likeness.slides_x(), likeness.slides_x(deformed=True)
    asked: dict[str, Any] = {"first": text(first), "second": text(second), "places": list(likeness.X_PATCHES)}
    found = compare(LikenessAsked(**asked), lambda: None)
    assert (found.differing, found.cells, found.ones, found.shared) == (16, 81, (13, 13), 5)
    assert [one.best for one in found.found] == [one.best for one in likeness.compare().found]
    moved = compare(LikenessAsked(**asked, shift=1), lambda: None)
    assert [one.best[1] for one in moved.found] == [one.best[1] for one in found.found]
    assert moved.second == np.roll(second, 1, axis=1).tolist()
