"""The classic filters do what their names say, are convolutions, and the figure shows them; X is compared with X."""

import numpy as np
import pytest
import torch
from PIL import Image

from svertka.errors import DataError
from svertka.explain import gallery
from svertka.explain.likeness import X_PATCHES, responses, slides_x

PICTURE = np.random.default_rng(0).integers(0, 256, (3, 12, 17)).astype(np.float64)


def test_the_slides_gradients_are_those_of_its_code():
    image = PICTURE[0]
    gx, gy = np.zeros_like(image), np.zeros_like(image)
    gx[:, 1:-1] = image[:, :-2] - image[:, 2:]
    gy[1:-1, :] = image[:-2, :] - image[2:, :]
    found = gallery.apply(image, ["slide-x", "slide-y", "gradient-x", "gradient-y"])
    np.testing.assert_array_equal(found["slide-x"][0], gx)
    np.testing.assert_array_equal(found["slide-y"][0], gy)
    # [-1 0 1], as layers have it, gives the opposite sign.
    np.testing.assert_array_equal(found["gradient-x"][0, :, 1:-1], -gx[:, 1:-1])
    np.testing.assert_array_equal(found["gradient-y"][0, 1:-1], -gy[1:-1])


def test_every_filter_keeps_the_size_and_is_fixed():
    for each in gallery.filters():
        layer = each.layer(3)
        assert not any(parameter.requires_grad for parameter in layer.parameters())
        assert layer(torch.rand(2, 3, 5, 7)).shape == (2, 1 if each.name == "corners" else 3, 5, 7)


def test_blurs_keep_and_derivatives_drop_what_is_constant():
    flat = np.full((1, 6, 6), 100.0)
    for name, response in gallery.apply(flat).items():
        expected = 100 if name in ("box-blur", "gaussian-blur", "sharpen", "emboss") else 0
        np.testing.assert_allclose(response, expected, atol=1e-9)


def test_filters_against_their_formulas():
    x = np.pad(PICTURE, ((0, 0), (1, 1), (1, 1)), mode="symmetric")
    laplacian = x[:, :-2, 1:-1] + x[:, 2:, 1:-1] + x[:, 1:-1, :-2] + x[:, 1:-1, 2:] - 4 * PICTURE
    found = {name: response.numpy() for name, response in gallery.apply(PICTURE).items()}
    np.testing.assert_allclose(found["laplacian"], laplacian, atol=1e-9)
    np.testing.assert_allclose(found["absolute-laplacian"], abs(laplacian), atol=1e-9)
    np.testing.assert_allclose(found["sharpen"], PICTURE - laplacian, atol=1e-9)
    np.testing.assert_allclose(found["edges"], np.hypot(found["sobel-x"], found["sobel-y"]), atol=1e-9)
    wide = np.pad(PICTURE, ((0, 0), (2, 2), (2, 2)), mode="symmetric")
    np.testing.assert_allclose(
        found["box-blur"], np.lib.stride_tricks.sliding_window_view(wide, (5, 5), (1, 2)).mean((3, 4)), atol=1e-9
    )


def test_the_corner_response_is_positive_at_corners_and_negative_on_edges():
    square = np.zeros((1, 24, 24))
    square[:, 8:16, 8:16] = 200
    response = gallery.apply(square, ["corners"])["corners"][0]
    assert response[8, 8] > 0 > response[8, 12]
    assert response[2, 2] == 0
    assert response.argmax().item() in {row * 24 + column for row in (7, 8, 15, 16) for column in (7, 8, 15, 16)}


def test_the_figure_shows_signs_around_mid_grey(tmp_path):
    step = np.zeros((40, 60), dtype=np.uint8)
    step[:, 30:] = 200
    image = gallery.figure(step, ["gradient-x"], width=60)
    assert image.size == (20 + 2 * 80, 20 + 40 + 46 + 20 + 28)
    cell = np.asarray(image)[66:106, 100:160, 0]
    assert (cell[:, :28] == 128).all()
    assert cell[:, 29:31].min() == 255  # lighter to the right: positive
    gallery.save_figure(image, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as written:
        assert written.size == image.size
    assert gallery.figure(np.zeros((3, 5, 4)), width=50).size[0] == 20 + 5 * 70
    with pytest.raises(DataError, match=r"a\.xyz: give a name that ends in \.png"):
        gallery.save_figure(image, "a.xyz")


def test_what_is_no_filter_and_no_picture_is_told():
    with pytest.raises(DataError, match="no filter sobell: choose among slide-x, slide-y"):
        gallery.apply(PICTURE, ["sobell"])
    with pytest.raises(DataError, match=r"3 × 3 pixels or more, not \[1, 2, 9\]"):
        gallery.apply(np.zeros((2, 9)))


def test_the_slides_x_against_x():
    found = gallery.compare()
    assert (found.cells, found.differing, found.ones, found.shared) == (81, 16, (13, 13), 5)
    assert [each.place for each in found.found] == list(X_PATCHES)
    assert found.found[1].patch == ((1, -1, 1), (-1, 1, -1), (1, -1, 1))
    assert [each.best for each in found.found] == [(1, pytest.approx(7 / 9)), (1, 1), (1, pytest.approx(7 / 9))]
    assert found.found[1].at == ((3, 3), (3, 3))
    assert found.to_dict()["shared"] == 5


def test_filters_survive_a_shift_and_pixels_do_not():
    x = slides_x()
    shifted = gallery.compare(x, np.roll(x, 1, axis=1), places=X_PATCHES)
    assert shifted.differing == 26
    assert shifted.shared == 0
    assert [each.best for each in shifted.found] == [(1, 1)] * 3
    assert [(b[0] - a[0], b[1] - a[1]) for a, b in (each.at for each in shifted.found)] == [(0, 1)] * 3


def test_two_pictures_of_the_users():
    a = np.pad(PICTURE[0], 4)
    found = gallery.compare(a, np.roll(a, (2, 1), axis=(0, 1)), size=4)
    assert len(found.found) == 3
    assert all(each.best == (1, 1) for each in found.found)
    assert [(b[0] - a[0], b[1] - a[1]) for a, b in (each.at for each in found.found)] == [(2, 1)] * 3
    np.testing.assert_allclose(found.found[0].patch, a[found.found[0].place[0] :, found.found[0].place[1] :][:4, :4])
    assert gallery.compare(np.zeros((5, 5)), np.zeros((5, 5))).differing == 0
    assert responses(np.zeros((3, 3)), np.ones((2, 2))).tolist() == [[0, 0], [0, 0]]
    with pytest.raises(DataError, match="5×5 and 5×6 cannot be compared"):
        gallery.compare(np.zeros((5, 5)), np.zeros((5, 6)))
    with pytest.raises(DataError, match="don't fit into 5×5"):
        gallery.compare(np.zeros((5, 5)), np.zeros((5, 5)), size=6)
