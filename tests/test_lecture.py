"""The lecture's companion is what its code gives now, in both languages, and the check that says so can fail."""

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

LECTURE = Path(__file__).parent.parent / "docs" / "lecture"
SLIDES = list(range(31))  # 0 sets up, 1 to 29 are the lecture's, 30 sums up

_found = importlib.util.spec_from_file_location("lecture_build", LECTURE / "build.py")
build = importlib.util.module_from_spec(_found)
sys.modules[_found.name] = build  # dataclasses look their module up
_found.loader.exec_module(build)


def run_build(folder, *arguments):
    """Runs the builder in a process of its own: slides set seeds, threads and printing."""
    command = [sys.executable, "-W", "error", LECTURE / "build.py", "--folder", folder, *arguments]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=300)


def texts():
    return {language: build.read_text(LECTURE / "source" / f"{language}.md") for language in build.LANGUAGES}


def test_a_rebuild_changes_nothing():
    result = run_build(LECTURE, "--check")
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout == "Nothing has changed.\n"


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A lecture of one slide, built: its picture a PNG, its other output text."""
    folder = tmp_path_factory.mktemp("lecture")
    Path(folder, "source").mkdir()
    code = "from PIL import Image\n\ngrey = Image.new('L', (8, 8), 100)\nprint(2 + 2)\ngrey\n"
    Path(folder, "source", "slides.py").write_text(f"# %% 1\n{code}", encoding="utf-8")
    text = "# Preface\n\n## 1. Slide\n\nText.\n\n%% A square\n"
    for language in build.LANGUAGES:
        Path(folder, "source", f"{language}.md").write_text(text, encoding="utf-8")
    assert run_build(folder).returncode == 0
    assert run_build(folder, "--check").returncode == 0
    return folder


@pytest.fixture
def small(built, tmp_path):
    """The built lecture of one slide, to be changed."""
    return Path(shutil.copytree(built, tmp_path / "lecture"))


@pytest.mark.parametrize(
    ("name", "old", "new", "culprit"),
    [
        ("source/slides.py", "2 + 2", "2 + 3", "-4"),  # an output
        ("source/slides.py", "100", "120", "pictures/01.png differs"),  # a picture
        ("source/en.md", "Text", "Prose", "-Text"),  # a text
        ("ru.md", "4", "5", "+4"),  # the page edited by hand
        ("lecture.en.ipynb", "4", "5", "lecture.en.ipynb differs"),
    ],
)
def test_the_check_fails_when_something_differs(small, name, old, new, culprit):
    path = small / name
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    assert path.read_text(encoding="utf-8") != text
    before = {path: path.read_bytes() for path in small.rglob("*") if path.is_file()}
    result = run_build(small, "--check")
    assert result.returncode == 1
    assert culprit in result.stdout
    assert {path: path.read_bytes() for path in small.rglob("*") if path.is_file()} == before


def test_the_check_fails_when_files_are_missing_or_left_over(small):
    Path(small, "pictures", "01.png").rename(small / "pictures" / "02.png")
    result = run_build(small, "--check")
    assert result.returncode == 1
    assert "pictures/01.png is not there" in result.stdout
    assert "pictures/02.png is not made by any slide" in result.stdout
    assert run_build(small).returncode == 0
    assert [path.name for path in Path(small, "pictures").iterdir()] == ["01.png"]


def test_a_picture_that_looks_the_same_stays(small):
    before = Path(small, "pictures", "01.png").read_bytes()
    code = small / "source" / "slides.py"
    code.write_text(code.read_text(encoding="utf-8").replace("100", "101"), encoding="utf-8")
    run_build(small)
    assert Path(small, "pictures", "01.png").read_bytes() == before


@pytest.mark.parametrize(("cells", "places"), [(1, 2), (2, 1)])
def test_text_and_code_must_have_the_same_cells(small, cells, places):
    Path(small, "source", "slides.py").write_text("# %% 1\n1\n" * cells, encoding="utf-8")
    Path(small, "source", "ru.md").write_text("# P\n\n## 1. S\n\nT.\n\n" + "%%\n" * places, encoding="utf-8")
    result = run_build(small)
    assert result.returncode == 1
    assert f"slide 1 has {cells} cells, but its text places {places}" in result.stderr


def test_a_cell_that_fails_is_named_with_its_line(small):
    Path(small, "source", "slides.py").write_text("# %% 1\n1\n1 / 0\n", encoding="utf-8")
    result = run_build(small)
    assert result.returncode == 1
    assert 'File "slides.py", line 3' in result.stderr


def test_both_languages_have_the_same_slides_and_a_text_in_each():
    parts = texts()
    for preface, slides in parts.values():
        assert preface.startswith("# ")
        assert [slide.number for slide in slides] == SLIDES
        for slide in slides:
            assert len(slide.prose[0]) > 80, slide.heading
    (_, russian), (_, english) = parts["ru"], parts["en"]
    for one, other in zip(russian, english, strict=True):
        assert [bool(caption) for caption in one.captions] == [bool(caption) for caption in other.captions]
        assert [bool(prose) for prose in one.prose] == [bool(prose) for prose in other.prose]
        for pattern in (r"^> ", r"^\|", r"`([^`]*)`", r"[₀-₉]+"):
            counts = [len(re.findall(pattern, "\n".join(slide.prose), re.MULTILINE)) > 0 for slide in (one, other)]
            assert counts[0] == counts[1], (one.heading, pattern)


@pytest.mark.parametrize("language", build.LANGUAGES)
def test_no_line_of_prose_turns_into_a_list(language):
    text = Path(LECTURE, "source", f"{language}.md").read_text(encoding="utf-8")
    assert not re.findall(r"^(?:> )?(?:[-+*]|\d+[.)]) .*", text, re.MULTILINE)


def test_every_slide_of_the_lecture_has_code():
    cells = build.read_cells(LECTURE / "source" / "slides.py")
    numbers = [cell.slide for cell in cells]
    assert sorted(set(numbers)) == SLIDES[:-1]
    assert numbers == sorted(numbers)


def test_russian_is_set_as_russian():
    preface, slides = texts()["ru"]
    prose = "\n".join([preface, *(part for slide in slides for part in [*slide.prose, *slide.captions])])
    prose = re.sub(r"`[^`]*`", "", prose)
    assert not re.findall(r'["“”]| - |(?<=\d)--?(?=\d)', prose)
    assert prose.count("«") == prose.count("»")


@pytest.mark.parametrize("language", build.LANGUAGES)
def test_notebooks_hold_the_slides_with_their_outputs(language):
    notebook = json.loads(Path(LECTURE, f"lecture.{language}.ipynb").read_text(encoding="utf-8"))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name) for name in ids)
    code = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert code == [cell.code for cell in build.read_cells(LECTURE / "source" / "slides.py")]
    assert sum(len(cell["outputs"]) for cell in notebook["cells"] if cell["cell_type"] == "code") > len(SLIDES)


def test_pages_show_every_picture_and_stay_small():
    pictures = {path.name for path in Path(LECTURE, "pictures").iterdir()}
    for language in build.LANGUAGES:
        page = Path(LECTURE, f"{language}.md").read_text(encoding="utf-8")
        assert set(re.findall(r'src="pictures/([^"]+)"', page)) == pictures
    assert sum(path.stat().st_size for path in LECTURE.rglob("*") if path.is_file()) < 3_000_000


@pytest.mark.parametrize(
    ("slide", "printed"),
    [
        (1, "row 2 of source/slide-1.txt holds 33 numbers where 32 were expected"),
        (2, "3 classes: [3, 64]"),
        (3, "196_608 numbers"),
        (3, "38_654_705_664 weights"),
        (4, "16 of 81 cells differ"),
        (4, "ones: (13, 13), shared: 5"),
        (5, "[[ 2 2 2 1 -1 -2 -2 -2]]"),
        (6, "zeros [0 0 1 2 3 4 5 0 0] -> [ -1 0 0 6 7]"),
        (6, "replicate [1 1 1 2 3 4 5 5 5] -> [ -2 -1 0 1 2]"),
        (6, "symmetric [2 1 1 2 3 4 5 5 4] -> [ -3 -1 0 1 3]"),
        (6, "circular [4 5 1 2 3 4 5 1 2] -> [ -5 -5 0 5 5]"),
        (6, "reflect [3 2 1 2 3 4 5 4 3] -> [ -4 -2 0 2 4]"),
        (7, "[[[ 1 2] [ 5 3]]]"),
        (8, "[[[ 12 12 17] [ 10 17 19] [ 9 6 14]]]"),
        (8, "[[[ 6 17 3] [ 8 17 13] [ 6 4 4]]]"),
        (9, "expects an input of 3 channels"),
        (12, "same [[ 1 2 5] [ 5 3 2] [ 0 2 0]]"),
        (13, "[[ 0 2] [ -5 2]]"),
        (14, "10×12 -> (5, 8)"),
        (15, "k11 k12 0 k21 k22 0 0 0 0"),
        (16, "weights: 25 15 3"),
        (17, "[[1.7 1.7 1.7] [ 1 1.2 1.8] [1.1 0.8 1.3]]"),
        (18, "3-max: [ 3 5 4]"),
        (19, "max [[0.0, 1.0], [0.0, 0.0]]"),
        (23, "weights and biases 456 357 504 14 455 392"),
        (23, "multiply-adds 352 800"),
        (25, "True"),
        (26, "[1, 3072] -> [1, 10]"),
        (27, "resnet50 parameters 25.6 M multiply-adds 4.09 G"),
        (28, "108 instead of 216"),
        (29, "Conv2d 432 weights, 7_077_888 multiply-adds"),
        (29, "SeparableConv2d 75 weights, 1_228_800 multiply-adds"),
    ],
)
def test_the_lectures_numbers_are_printed(slide, printed):
    for language in build.LANGUAGES:
        page = Path(LECTURE, f"{language}.md").read_text(encoding="utf-8")
        section = re.split(r"^## ", page, flags=re.MULTILINE)[slide + 1]
        blocks = re.findall(r"^```text\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
        assert printed in " ".join(" ".join(blocks).split())
