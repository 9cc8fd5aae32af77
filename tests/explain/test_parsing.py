"""What users write becomes arrays, and what can't be used is named: the row, the entry, the file."""

import numpy as np
import pytest
from PIL import Image

from svertka.errors import DataError
from svertka.explain import parsing
from svertka.vision.pictures import PictureError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1 2 3", [[1, 2, 3]]),
        ("1,2,\t3,", [[1, 2, 3]]),
        ("−1 -0.5 +.5 1e-2 3.", [[-1, -0.5, 0.5, 0.01, 3]]),
        ("1/9 -1/2 0.5/2", [[1 / 9, -0.5, 0.25]]),
        ("1 2; 3 4", [[[1, 2], [3, 4]]]),
        ("1 2;3 4;", [[[1, 2], [3, 4]]]),
        ("1 0 -1;", [[[1, 0, -1]]]),
        ("1; 2", [[[1], [2]]]),
        ("1 2 | 3 4", [[1, 2], [3, 4]]),
        ("1 2; 3 4 | 5 6; 7 8", [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]),
        ("1 2; 3 4 ;; 5 6; 7 8", [[[[1, 2], [3, 4]], [[5, 6], [7, 8]]]]),
        ("1 ;; 2 | 3 ;; 4", [[[[1]], [[2]]], [[[3]], [[4]]]]),
    ],
)
def test_text(text, expected):
    values = parsing.parse(text)
    assert values.dtype == np.float64
    assert values.tolist() == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (" ", "--input is empty"),
        ("1 2 3; 4 5; 6 7 8", "row 2 of --input holds 2 numbers where 3 were expected"),
        ("1 2; 3 4; 5; 6; 7 8", r"row 3 of --input .* \(row 4 differs, too\)"),
        ("1 2; 3 x", "entry 2 of row 2 of --input is 'x', which is no number"),
        ("1 2; ; 3 4", "row 2 of --input is empty"),
        ("\n;", "--input is empty"),
        ("\xa0; 1", "row 1 of --input is empty"),
        ("1,,2", "entry 2 of --input is missing"),
        ("1 2; 3 4 | 5 6", r"channel 2 of --input has the size 2 and channel 1 has 2×2"),
        ("1 2; 3 4 ;; 5 6", r"plane 2 of --input has the size 1×2 and plane 1 has 2×2"),
        ("1 2; 3 4 | 5 6; 7 y", "entry 2 of row 2 of channel 2 of --input"),
        ("1 nan", "entry 2 of --input is nan: only finite"),
        ("1 -inf", "entry 2 of --input is -inf: only finite"),
        ("1 1e999", "not finite"),
        ("1/0", "not finite"),
        ("1_000", "no number"),
        ("٣", "no number"),
    ],
)
def test_what_cannot_be_read_is_named(text, message):
    with pytest.raises(DataError, match=message):
        parsing.parse(text, "--input")


def test_tables_in_files(tmp_path):
    def written(name, text):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return str(path)

    assert parsing.parse(written("a.csv", "1,2\r\n3,4\r\n")).tolist() == [[[1, 2], [3, 4]]]
    assert parsing.parse(written("b.tsv", "1\t2\t\n3\t4\t\n\n")).tolist() == [[[1, 2], [3, 4]]]
    assert parsing.parse(written("c.csv", "\ufeff1;2\n3;4")).tolist() == [[[1, 2], [3, 4]]]
    assert parsing.parse(written("d.txt", "1 2 3\n")).tolist() == [[1, 2, 3]]
    assert parsing.parse(written("e.txt", "1 2; 3 4")).tolist() == [[[1, 2], [3, 4]]]
    assert parsing.parse(written("f.txt", "1 2\n3 4\n \n\n5 6\n7 8\n")).tolist() == [
        [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]
    ]
    assert parsing.parse(written("g.txt", "1 2\n3 4\n|\n5 6\n7 8\n")).tolist() == [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]
    with pytest.raises(DataError, match=r"h\.csv has both ; and ,"):
        parsing.parse(written("h.csv", "1,5;2\n3;4"))
    with pytest.raises(DataError, match=r"entry 1 of row 1 of .*i\.csv is 'width'"):
        parsing.parse(written("i.csv", "width,height\n1,2"))
    with pytest.raises(DataError, match=r"there is no file .*none\.csv"):
        parsing.parse(str(tmp_path / "none.csv"))
    (tmp_path / "j.txt").write_bytes(b"\xff\xfe1")
    with pytest.raises(DataError, match=r"j\.txt is not text in UTF-8"):
        parsing.parse(str(tmp_path / "j.txt"))


def test_a_ragged_matrix_like_the_slides_names_its_first_row_and_the_others(tmp_path):
    """The lecture prints a picture with 33 numbers in rows 2 and 21 and 32 in the rest."""
    rows = [[60 + (r + c) % 9 for c in range(33 if r in (2, 21) else 32)] for r in range(1, 33)]
    path = tmp_path / "picture.tsv"
    path.write_text("\t\n".join("\t".join(map(str, row)) for row in rows))
    with pytest.raises(DataError, match=r"row 2 of .*picture\.tsv holds 33 numbers where 32 .*\(row 21 differs"):
        parsing.parse(str(path))
    path.write_text("\n".join("\t".join(map(str, row[:32])) for row in rows))
    assert parsing.parse(str(path)).shape == (1, 32, 32)


def test_arrays_in_files(tmp_path):
    def saved(values):
        np.save(tmp_path / "a.npy", values)
        return str(tmp_path / "a.npy")

    for shape, expected in [((3,), (1, 3)), ((2, 3), (1, 2, 3)), ((2, 3, 4), (2, 3, 4)), ((1, 2, 3, 4), (1, 2, 3, 4))]:
        assert parsing.parse(saved(np.ones(shape, dtype=np.float32))).shape == expected
    assert parsing.parse(saved(np.array([True, False]))).tolist() == [[1, 0]]
    for values, message in [
        (np.ones((1, 1, 1, 1, 1)), "has the shape"),
        (np.array([1j]), "complex128 in place of real numbers"),
        (np.array(["a"]), "in place of real numbers"),
        (np.array([{}]), r"is no \.npy array"),
        (np.ones((2, 0)), "is empty"),
        (np.array([1, np.nan]), r"holds nan at \(1,\)"),
    ]:
        with pytest.raises(DataError, match=message):
            parsing.parse(saved(values))
    lie = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(lie[:40])
    with pytest.raises(DataError, match=r"is no \.npy array"):
        parsing.parse(str(tmp_path / "a.npy"))


def test_pictures_are_read_at_their_own_size(tmp_path):
    pixels = np.arange(3 * 4 * 3, dtype=np.uint8).reshape(3, 4, 3)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    np.testing.assert_array_equal(parsing.read_picture(tmp_path / "a.png", None), pixels.transpose(2, 0, 1))
    assert parsing.read_picture(tmp_path / "a.png", most=12).shape == (1, 3, 4)
    assert parsing.read_picture(tmp_path / "a.png", most=3).shape == (1, 2, 2)
    assert parsing.parse(str(tmp_path / "a.png")).shape == (1, 3, 4)
    with pytest.raises(PictureError, match="does not exist"):
        parsing.parse(str(tmp_path / "b.png"))


def test_options():
    assert [parsing.sizes(text, "--stride") for text in ("2", "2,1", "3x5", None)] == [2, (2, 1), (3, 5), None]
    assert parsing.numbers("1, −0.5", "--bias") == [1, -0.5]
    paddings = {"1": 1, "1,2": (1, 2), "same": "same", "1:2": ((1, 2),), "1:2,0": ((1, 2), 0), "-1:2": ((-1, 2),)}
    for text, expected in paddings.items():
        assert parsing.padding(text) == expected
    assert parsing.padding("1:2", 2) == ((1, 2), (1, 2))
    assert parsing.position("1,2", (3, 4, 5)) == (0, 1, 2)
    assert parsing.position("2,1,2", (3, 4, 5)) == (2, 1, 2)
    assert parsing.region("1:3,0:2", (4, 4)) == (slice(1, 3), slice(0, 2))
    for call, message in [
        (lambda: parsing.sizes("two", "--stride"), "--stride two is no size"),
        (lambda: parsing.padding("1:2:3"), "--padding 1:2:3 is no padding"),
        (lambda: parsing.position("4,0", (1, 4, 5)), "--at 4,0 is outside the output"),
        (lambda: parsing.position("1", (1, 4, 5)), "--at 1 is outside"),
        (lambda: parsing.region("1:9,0:2", (4, 4)), "not inside the picture: it has 4 rows and 4 columns"),
        (lambda: parsing.region("1,2", (4, 4)), "no region"),
    ]:
        with pytest.raises(DataError, match=message):
            call()
