"""Decoding: every kind of picture file becomes the pixels that a viewer would show, or a sentence saying why not."""

import io
import os
import struct
import tracemalloc
import warnings
import zlib

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from svertka.errors import DataError
from svertka.vision.pictures import MAX_PIXELS, PictureError, Preprocessing, opened, picture_suffixes, read_header

GREY = Preprocessing(1, (12, 16))
COLOUR = Preprocessing(3, (12, 16))


def photograph(height=12, width=16, channels=3):
    """A smooth picture, different in all corners and channels, uint8 [height, width, channels]."""
    y, x = np.mgrid[0:height, 0:width] / np.array([height, width]).reshape(2, 1, 1)
    planes = [255 * y, 255 * x, 128 * (1 - y) + 100 * x]
    return np.stack(planes[:channels], -1).astype(np.uint8)


def encoded(picture, form, **options):
    file = io.BytesIO()
    picture.save(file, form, **options)
    return file.getvalue()


def pixels(tensor):
    """[C, H, W] → [H, W, C] as int."""
    return tensor.permute(1, 2, 0).numpy().astype(int)


def luma(colour):
    return colour.astype(int) @ [0.299, 0.587, 0.114]


# ---- formats


@pytest.mark.parametrize(
    ("form", "options"),
    [
        ("BMP", {}),
        ("DIB", {}),
        ("JPEG2000", {"irreversible": False}),
        ("PCX", {}),
        ("PNG", {}),
        ("PPM", {}),
        ("QOI", {}),
        ("SGI", {}),
        ("TGA", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("WEBP", {"lossless": True}),
    ],
)
def test_lossless_formats_keep_every_pixel(form, options):
    shown = photograph()
    data = encoded(Image.fromarray(shown), form, **options)
    assert (pixels(COLOUR.decode(data)) == shown).all()
    assert abs(pixels(GREY.decode(data))[..., 0] - luma(shown)).max() <= 1


@pytest.mark.parametrize("form", ["JPEG", "WEBP", "AVIF", "MPO"])
def test_lossy_formats_come_near(form):
    shown = photograph()
    data = encoded(Image.fromarray(shown), form, quality=95)
    assert abs(pixels(COLOUR.decode(data)) - shown).max() <= 16


def test_a_path_the_bytes_and_an_open_file_give_the_same(tmp_path):
    path = tmp_path / "a.png"
    data = encoded(Image.fromarray(photograph()), "PNG")
    path.write_bytes(data)
    with path.open("rb") as file:
        results = [COLOUR.decode(source) for source in (path, str(path), data, io.BytesIO(data), file)]
    for result in results:
        assert result.dtype == torch.uint8
        assert result.shape == (3, 12, 16)
        assert result.is_contiguous()
        assert torch.equal(result, results[0])


def test_pixels_in_memory_take_the_same_path():
    grey = photograph(30, 40, 1)[..., 0]
    for preprocessing in (GREY, COLOUR):
        from_file = preprocessing.decode(encoded(Image.fromarray(grey), "PNG"))
        assert torch.equal(preprocessing.from_pixels(grey), from_file)


def test_picture_suffixes_are_of_formats_that_can_be_decoded():
    assert {".png", ".jpg", ".jpeg", ".gif", ".bmp", ".tif", ".tiff", ".webp", ".pgm"} <= picture_suffixes()
    assert not {".pdf", ".eps", ".txt", ".mpg", ".wmf", ".h5", ""} & picture_suffixes()


# ---- kinds of pixels


def test_one_bit_pictures_are_black_and_white():
    shown = photograph(channels=1)[..., 0] > 128
    for form in ("PNG", "TIFF", "PPM", "MSP", "XBM"):
        result = pixels(GREY.decode(encoded(Image.fromarray(shown), form)))[..., 0]
        assert (result == 255 * shown).all(), form


def test_a_palette_is_looked_up_before_scaling():
    picture = Image.fromarray(np.tile(np.uint8([[0, 1], [1, 0]]), (12, 16)))
    picture.putpalette([255, 0, 0, 0, 0, 255] + [0, 255, 0] * 254)
    result = pixels(COLOUR.decode(encoded(picture, "PNG")))
    assert abs(result - [127.5, 0, 127.5]).max() <= 3  # between red and blue as colours, not as numbers, where green is


def test_transparency_is_laid_over_white():
    alpha = np.zeros((12, 16), np.uint8)
    alpha[:, 4:8], alpha[:, 8:] = 128, 255
    shown = photograph()
    rgba = Image.fromarray(np.dstack([shown, alpha]))
    expected = 255 - (255 - shown.astype(int)) * alpha[..., None] / 255
    for form in ("PNG", "TIFF", "TGA", "QOI"):
        assert abs(pixels(COLOUR.decode(encoded(rgba, form))) - expected).max() <= 1, form
    grey_alpha = Image.fromarray(np.dstack([shown[..., :1], alpha]))
    expected = 255 - (255 - shown[..., 0].astype(int)) * alpha / 255
    assert abs(pixels(GREY.decode(encoded(grey_alpha, "PNG")))[..., 0] - expected).max() <= 1


def test_the_colour_below_transparent_pixels_does_not_leak_when_scaling():
    hidden_black = np.zeros((120, 160, 4), np.uint8)
    hidden_black[:, 80:] = [200, 200, 200, 255]
    result = pixels(COLOUR.decode(encoded(Image.fromarray(hidden_black), "PNG")))
    assert result.min() >= 200


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "I;16"])
def test_one_transparent_value_becomes_white(mode):
    """PNG can mark one value, or palette entry, as transparent in place of an alpha channel."""
    half = np.zeros((12, 16), np.uint8)
    half[:, 8:] = 1
    if mode == "P":
        picture, marked = Image.fromarray(half), 0
        picture.putpalette([9, 9, 9, 80, 80, 80])
    elif mode == "I;16":
        picture, marked = Image.fromarray(half.astype(np.uint16) * 80 * 257 + 300), 300
    else:
        picture = Image.fromarray(half * 80).convert("L" if mode == "1" else mode)
        picture = picture.point(lambda v: 255 * (v > 40), "1") if mode == "1" else picture
        marked = (0, 0, 0) if mode == "RGB" else 0
    result = pixels(GREY.decode(encoded(picture, "PNG", transparency=marked)))[..., 0]
    assert (result[:, :8] == 255).all()
    assert (abs(result[:, 8:] - (255 if mode == "1" else 80)) <= 1).all()


def test_palette_entries_may_be_half_transparent():
    picture = Image.fromarray(np.zeros((12, 16), np.uint8))
    picture.putpalette([100, 0, 0])
    result = pixels(COLOUR.decode(encoded(picture, "PNG", transparency=bytes([128]))))
    assert abs(result - [177, 127, 127]).max() <= 1


@pytest.mark.parametrize("form", ["PNG", "TIFF", "PPM"])
def test_sixteen_bits_are_scaled_and_not_clipped(form):
    values = np.linspace(0, 65535, 12 * 16).reshape(12, 16).astype(np.uint16)
    result = pixels(GREY.decode(encoded(Image.fromarray(values), form)))[..., 0]
    assert (result == np.rint(values / 257)).all()
    dark = (values // 300).astype(np.uint16)  # below 256, yet nearly black
    assert pixels(GREY.decode(encoded(Image.fromarray(dark), form))).max() == 1


def test_big_endian_sixteen_bits():
    values = np.linspace(0, 65535, 12 * 16).reshape(12, 16).astype(">u2")
    tags = [
        (256, 3, 1, 16),
        (257, 3, 1, 12),
        (258, 3, 1, 16),
        (259, 3, 1, 1),
        (262, 3, 1, 1),
        (273, 4, 1, 122),
        (277, 3, 1, 1),
        (278, 3, 1, 12),
        (279, 4, 1, 384),
    ]
    entries = [struct.pack(">HHIHH", *tag, 0) if tag[1] == 3 else struct.pack(">HHII", *tag) for tag in tags]
    data = b"MM\0*" + struct.pack(">IH", 8, len(tags)) + b"".join(entries) + b"\0" * 4
    result = pixels(GREY.decode(data.ljust(122, b"\0") + values.tobytes()))[..., 0]
    assert (result == np.rint(values / 257)).all()


@pytest.mark.parametrize(
    ("dtype", "low", "high", "black", "white"),
    [
        ("float32", 0, 0.8, 0, 1),
        ("float32", 0, 200, 0, 255),
        ("float32", 0, 40_000, 0, 65535),
        ("float32", -3, 7, -3, 7),
        ("int32", 0, 200, 0, 255),
        ("int32", 0, 40_000, 0, 65535),
        ("int32", 0, 100_000, 0, 100_000),
        ("int32", -5, 5, -5, 5),
    ],
)
def test_thirty_two_bits_take_the_smallest_usual_range(dtype, low, high, black, white):
    values = np.linspace(low, high, 12 * 16).reshape(12, 16).astype(dtype)
    result = pixels(GREY.decode(encoded(Image.fromarray(values), "TIFF")))[..., 0]
    assert abs(result - 255 * (values.astype(float) - black) / (white - black)).max() <= 0.51


def test_floats_that_are_not_finite_are_black_or_the_ends():
    values = np.full((12, 16), 0.5, np.float32)
    values[0, :3] = [np.nan, np.inf, -np.inf]
    result = pixels(GREY.decode(encoded(Image.fromarray(values), "TIFF")))[..., 0]
    assert result[0, :4].tolist() == [0, 255, 0, 128]
    assert not GREY.decode(encoded(Image.fromarray(np.full((12, 16), np.nan, np.float32)), "TIFF")).any()


@pytest.mark.parametrize("form", ["JPEG", "TIFF"])
def test_cmyk(form):
    ink = Image.new("CMYK", (16, 12), (255, 0, 0, 0))  # full cyan
    assert abs(pixels(COLOUR.decode(encoded(ink, form))) - [0, 255, 255]).max() <= 8


def test_an_animation_shows_its_first_frame():
    frames = [Image.new("RGB", (16, 12), colour) for colour in ("red", "lime", "blue")]
    for form in ("GIF", "PNG", "WEBP", "TIFF"):
        data = encoded(frames[0], form, save_all=True, append_images=frames[1:], lossless=True)
        assert abs(pixels(COLOUR.decode(data)) - [255, 0, 0]).max() <= 2, form


# ---- orientation

UPRIGHT = {  # how the stored rows and columns become the shown ones, from the EXIF standard
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(form, orientation):
    stored = photograph(24, 40)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    options = {"lossless": True} if form == "WEBP" else {}
    data = encoded(Image.fromarray(stored), form, exif=exif, quality=95, **options)
    shown = UPRIGHT[orientation](stored)
    result = pixels(Preprocessing(3, shown.shape[:2]).decode(data))
    tolerance = 12 if form in ("JPEG", "AVIF") else 0
    assert abs(result - shown).max() <= tolerance
    others = [UPRIGHT[other](stored) for other in UPRIGHT if other != orientation]
    assert all(abs(result - other).max() > 50 for other in others if other.shape == shown.shape)


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_header_gives_the_upright_size(tmp_path, orientation):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    Image.fromarray(photograph(24, 40)).save(tmp_path / "a.jpg", exif=exif)
    Image.fromarray(photograph(24, 40, 1)[..., 0]).save(tmp_path / "b.png")
    assert read_header(tmp_path / "a.jpg").size == ((24, 40) if orientation == 1 else (40, 24))
    assert not read_header(tmp_path / "a.jpg").grey
    assert read_header(tmp_path / "b.png").grey


def test_damaged_exif_does_not_spoil_a_good_picture():
    shown = photograph()
    for exif in (b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0garbage", b"Exif\0\0", b"\xff" * 40):
        result = COLOUR.decode(encoded(Image.fromarray(shown), "JPEG", quality=95, exif=exif))
        assert abs(pixels(result) - shown).max() <= 16


# ---- fitting


def test_crop_scales_the_shorter_side_and_keeps_the_centre():
    wide = np.zeros((10, 40, 3), np.uint8)
    wide[:, 15:25] = 200
    assert (pixels(Preprocessing(3, (20, 20)).from_pixels(wide))[2:-2, 2:-2] == 200).all()
    assert (pixels(Preprocessing(3, (5, 5)).decode(encoded(Image.fromarray(wide), "PNG"))) >= 150).all()


def test_stretch_shows_the_whole_picture():
    wide = np.zeros((10, 40), np.uint8)
    wide[:, :20] = 200
    result = pixels(Preprocessing(1, (20, 20), "stretch").from_pixels(wide))[..., 0]
    assert (result[:, :9] == 200).all()
    assert (result[:, 11:] == 0).all()


def test_pad_repeats_the_edges():
    wide = np.zeros((10, 40), np.uint8)
    wide[:5] = 200
    result = pixels(Preprocessing(1, (21, 20), "pad").from_pixels(wide))[..., 0]
    assert (result[:10] == 200).all()
    assert (result[11:] == 0).all()


@pytest.mark.parametrize("fit", ["crop", "stretch", "pad"])
@pytest.mark.parametrize("shape", [(1, 3000), (3000, 1), (1, 1), (7, 5)])
def test_any_proportions_fit(fit, shape):
    result = Preprocessing(1, (9, 11), fit).from_pixels(np.full(shape, 77, np.uint8))
    assert result.shape == (1, 9, 11)
    assert (result == 77).all()


@pytest.mark.parametrize("fit", ["crop", "stretch", "pad"])
def test_no_size_is_out_of_bounds_by_rounding(fit):
    rng = np.random.default_rng(0)
    for height, width, *size in rng.integers(1, 600, (500, 4)).tolist():
        result = Preprocessing(1, (size[0] // 8 + 1, size[1] // 8 + 1), fit).from_pixels(
            np.full((height, width), 9, np.uint8)
        )
        assert (result == 9).all()


def test_scaling_down_averages_all_pixels():
    board = np.indices((64, 64)).sum(0) % 2 * 255  # without antialiasing it would come out all black or all white
    result = pixels(Preprocessing(1, (8, 8)).from_pixels(board.astype(np.uint8)))
    assert abs(result - 127.5).max() <= 3


def test_a_large_jpeg_is_decoded_small_and_looks_the_same():
    shown = photograph(1200, 1600)
    data = encoded(Image.fromarray(shown), "JPEG", quality=95)
    expected = pixels(COLOUR.decode(encoded(Image.fromarray(shown), "PNG")))
    assert abs(pixels(COLOUR.decode(data)) - expected).max() <= 4


# ---- what can't be used


def png_of_size(width, height):
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [10_001, 30_000])  # below and above where Pillow itself refuses
def test_a_decompression_bomb_is_refused_by_its_header(tmp_path, side):
    bomb = tmp_path / "bomb.png"
    bomb.write_bytes(png_of_size(side, side))
    tracemalloc.start()
    try:
        for use in (COLOUR.decode, read_header):
            with pytest.raises(PictureError, match=r"bomb\.png has .* 100 million .*: scale it down"):
                use(bomb)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    assert side * side > MAX_PIXELS
    bomb.write_bytes(png_of_size(9_500, 9_500))  # Pillow would warn
    assert read_header(bomb).size == (9_500, 9_500)


def broken_files(folder):
    """(path, what its message must say) for every way in which a file can be no picture."""
    good = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8))
    for form in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "AVIF", "JPEG2000", "QOI", "PPM", "TGA"):
        path = folder / f"cut.{form.lower()}"
        path.write_bytes(encoded(good, form)[: len(encoded(good, form)) // 2])
        yield path, "copy it again or delete it|is not a picture"
    contents = {
        "empty.png": (b"", "is empty"),
        "text.jpg": (b"not a picture at all" * 50, "is not a picture"),
        "nul.png": (bytes(5000), "is not a picture"),
        "zero.gif": (b"GIF89a\0\0\0\0\0\0\0;", "is not a picture|no pixels"),
    }
    for name, (content, reason) in contents.items():
        (folder / name).write_bytes(content)
        yield folder / name, reason
    (folder / "folder.png").mkdir()
    yield folder / "folder.png", "is a folder"
    yield folder / "missing.png", "does not exist"
    os.mkfifo(folder / "pipe.png")
    yield folder / "pipe.png", "is not a regular file"
    (folder / "nowhere.png").symlink_to(folder / "nothing")
    yield folder / "nowhere.png", "does not exist"
    (folder / "page.eps").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    yield folder / "page.eps", "format EPS"


def test_each_error_is_one_sentence_that_names_the_file(tmp_path):
    for path, reason in broken_files(tmp_path):
        with pytest.raises(PictureError, match=reason) as caught:
            COLOUR.decode(path)
        message = str(caught.value)
        assert message.startswith(str(path)), message
        assert "\n" not in message
        assert ": " in message


def test_errors_of_bytes_and_open_files_have_a_name_too():
    with pytest.raises(PictureError, match=r"the picture in memory \(7 bytes\) is not a picture"):
        COLOUR.decode(b"nothing")
    with pytest.raises(PictureError, match="the open picture file is not a picture"):
        COLOUR.decode(io.BytesIO(b"nothing"))
    with pytest.raises(PictureError, match="is empty"):
        COLOUR.decode(b"")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="permissions do not bind this user")
def test_a_forbidden_file(tmp_path):
    (tmp_path / "a.png").write_bytes(encoded(Image.fromarray(photograph()), "PNG"))
    (tmp_path / "a.png").chmod(0)
    with pytest.raises(PictureError, match="permissions"):
        COLOUR.decode(tmp_path / "a.png")


def test_odd_file_names_are_printable_in_messages(tmp_path):
    name = os.fsdecode(b"caf\xe9\n.png")
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(PictureError, match="is empty") as caught:
        COLOUR.decode(tmp_path / name)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "TGA", "QOI", "ICO"])
def test_random_damage_gives_a_picture_or_a_picture_error(form):
    rng = np.random.default_rng(0)
    good = np.frombuffer(encoded(Image.fromarray(photograph()), form), np.uint8)
    outcomes = set()
    for _ in range(60):
        bad = good.copy()
        places = rng.integers(0, len(bad), 1 + rng.integers(6))
        bad[places] = rng.integers(0, 256, len(places))
        try:
            outcomes.add(COLOUR.decode(bad.tobytes()).shape)
        except PictureError:
            outcomes.add("error")
    assert "error" in outcomes
    assert outcomes <= {"error", (3, 12, 16)}


def test_pictures_opened_by_several_threads_leave_no_filter_behind():
    """One is opened, another too, and the first is closed before the second: as threads do it, but in a fixed order.

    Pillow warns of pictures of this size, and a warning that gets out is an error here.
    """
    large = png_of_size(9_500, 9_500)
    filters = list(warnings.filters)
    first, second = opened(large), opened(large)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    with opened(large) as picture:
        assert picture.size == (9_500, 9_500)
    second.__exit__(None, None, None)
    assert warnings.filters == filters


# ---- the record


def test_normalise_is_what_its_formula_says():
    preprocessing = Preprocessing(3, (2, 2), mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    batch = torch.arange(24, dtype=torch.uint8).view(2, 3, 2, 2) * 10
    before = batch.clone()
    result = preprocessing.normalise(batch)
    mean, std = torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1), torch.tensor([0.5, 0.6, 0.7]).view(3, 1, 1)
    expected = (batch.double() / 255 - mean) / std
    assert result.dtype == torch.float32
    torch.testing.assert_close(result.double(), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(preprocessing.normalise(batch.float()), result)
    assert torch.equal(batch, before)


def test_preprocessing_comes_back_from_its_dict():
    preprocessing = Preprocessing(3, (32, 48), "pad", (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert Preprocessing.from_dict(preprocessing.to_dict()) == preprocessing
    assert Preprocessing(1, (8, 8)).std == (1.0,)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"channels": 2}, "channel"),
        ({"size": [0, 5]}, "size"),
        ({"size": [5]}, "size"),
        ({"size": [1e3, 5]}, "size"),
        ({"fit": "zoom"}, "crop, stretch, pad"),
        ({"size": [100_000, 100_000]}, "pixels"),
        ({"mean": [0.1, 0.2]}, "mean"),
        ({"std": [0.0]}, "std"),
        ({"mean": [float("nan")]}, "mean"),
        ({"extra": 1}, "fields"),
        ({"mean": ["a"]}, "type"),
        ({"size": 5}, "type"),
        ({"channels": None}, "channel"),
    ],
)
def test_an_impossible_preprocessing_is_named(change, reason):
    fields = Preprocessing(1, (8, 8)).to_dict() | change
    with pytest.raises(DataError, match=reason):
        Preprocessing.from_dict(fields)


def test_a_preprocessing_without_a_field_is_named():
    fields = Preprocessing(1, (8, 8)).to_dict()
    del fields["std"]
    with pytest.raises(DataError, match="fields"):
        Preprocessing.from_dict(fields)
    with pytest.raises(DataError, match="fields"):
        Preprocessing.from_dict([1])
