"""Builds the lecture's companion: runs the code of every slide and writes two pages, two notebooks and the pictures.

    python docs/lecture/build.py           rebuild
    python docs/lecture/build.py --check   say what a rebuild would change; exit 1 if it would change anything

`source/slides.py` holds the code in cells, `# %% 5` for each cell of slide 5. `source/ru.md` and `source/en.md` hold
the text, `## 5. Heading` for each slide; a line `%%` stands where the next cell of the slide goes, with its output, and
the rest of that line describes the cell's picture. As in a notebook, what a cell prints and the value of its last
expression are its output; pictures are values that can draw themselves, and files that the cell writes to `pictures/`.
"""

from __future__ import annotations

import argparse
import ast
import base64
import contextlib
import difflib
import io
import json
import os
import re
import shutil
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
LANGUAGES = ("ru", "en")
MARK = "%%"
KINDS = {".svg": "image/svg+xml", ".png": "image/png", ".gif": "image/gif"}
WIDTH = 88  # of printed output, in characters
SAME_LOOK = 12  # of 255: a PNG that differs by less looks the same, and the committed one stays


@dataclass
class Cell:
    """A piece of code of a slide ("5", "5b" …), and what running it gave."""

    slide: int
    code: str
    line: int
    text: str = ""
    value: str = ""
    pictures: list[str] = field(default_factory=list)


@dataclass
class Slide:
    """A section of the text: prose between the places of the cells, and what is written at these places."""

    number: int
    heading: str
    prose: list[str]
    captions: list[str]


def read_cells(source: Path) -> list[Cell]:
    """The cells of slides.py in their order; what stands before the first mark belongs to none."""
    cells, code = [], source.read_text(encoding="utf-8")
    for match in re.finditer(r"^# %% (\d+)\n(.*?)(?=^# %%|\Z)", code, re.MULTILINE | re.DOTALL):
        cells.append(Cell(int(match[1]), match[2].strip(), code.count("\n", 0, match.start(2))))
    return cells


def read_text(source: Path) -> tuple[str, list[Slide]]:
    """The preface and the slides of one language."""
    preface, *sections = re.split(r"^## ", source.read_text(encoding="utf-8"), flags=re.MULTILINE)
    slides = []
    for section in sections:
        heading, _, body = section.partition("\n")
        number = re.match(r"(\d+)\. ", heading)
        parts = re.split(rf"^{MARK}(.*)$", body, flags=re.MULTILINE)
        prose, captions = [part.strip() for part in parts[::2]], [part.strip() for part in parts[1::2]]
        slides.append(Slide(int(number[1]) if number else 0, heading.strip(), prose, captions))
    return preface.strip(), slides


def run(cells: list[Cell], pictures: Path) -> None:
    """Runs the cells in one namespace, as a notebook would, and keeps with each what it gave."""
    namespace: dict[str, Any] = {"__name__": "lecture"}
    counts: dict[int, int] = {}
    for cell in cells:
        counts[cell.slide] = counts.get(cell.slide, 0) + 1
        name = f"{cell.slide:02}" if counts[cell.slide] == 1 else f"{cell.slide:02}-{counts[cell.slide]}"
        before = set(pictures.iterdir())
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            value = _run_code(cell, namespace)
        cell.text = "\n".join(line.rstrip() for line in printed.getvalue().splitlines())
        cell.pictures = sorted(path.name for path in set(pictures.iterdir()) - before if path.suffix in KINDS)
        if cell.pictures:  # the cell has drawn its value itself
            continue
        drawn = _drawing(value)
        if drawn is not None:
            suffix, data = drawn
            Path(pictures, name + suffix).write_bytes(data)
            cell.pictures.append(name + suffix)
        elif value is not None:
            cell.value = repr(value)


def _run_code(cell: Cell, namespace: dict[str, Any]) -> Any:
    """Runs a cell; the value of its last line, if that is an expression."""
    tree = ast.parse(cell.code)
    ast.increment_lineno(tree, cell.line)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "slides.py", "exec"), namespace)
    return None if last is None else eval(compile(ast.Expression(last.value), "slides.py", "eval"), namespace)


def _drawing(value: Any) -> tuple[str, bytes] | None:
    """(suffix, file) of a value that can draw itself."""
    for suffix, method in ((".svg", "_repr_svg_"), (".svg", "svg"), (".png", "_repr_png_")):
        draw = getattr(value, method, None)
        drawn = draw() if draw is not None else None
        if drawn is not None:
            return suffix, drawn.encode() if isinstance(drawn, str) else drawn
    return None


def page(preface: str, slides: list[Slide], cells: list[Cell], pictures: Path) -> str:
    """The page of one language."""
    waiting = {number: [cell for cell in cells if cell.slide == number] for number in {c.slide for c in cells}}
    parts = [preface, contents(slides)]
    for slide in slides:
        parts += [f"## {slide.heading}", slide.prose[0]]
        for cell, caption, prose in zip(_of(slide, waiting), slide.captions, slide.prose[1:], strict=True):
            parts.append(f"```python\n{cell.code}\n```")
            output = "\n".join(part for part in (wrapped(cell.text), cell.value) if part)
            if output:
                parts.append(f"```text\n{output}\n```")
            parts += [_image(pictures / name, caption) for name in cell.pictures]
            parts.append(prose)
    return "\n\n".join(part for part in parts if part) + "\n"


def wrapped(text: str) -> str:
    """The text with long lines broken between words, as a terminal would."""
    broken = [textwrap.wrap(line, WIDTH) if len(line) > WIDTH else [line] for line in text.splitlines()]
    return "\n".join(part for line in broken for part in line)


def contents(slides: list[Slide]) -> str:
    """Links to the slides, by the anchors that GitHub gives to headings."""
    lines = []
    for slide in slides:
        anchor = re.sub(r"[^\w\- ]", "", slide.heading.lower()).replace(" ", "-")
        number, _, title = slide.heading.partition(". ")
        lines.append(f"[{number}\u00a0{title.replace(' ', chr(0xA0))}](#{anchor})")
    return " · ".join(lines)


def _of(slide: Slide, waiting: dict[int, list[Cell]]) -> list[Cell]:
    cells = waiting.get(slide.number, [])
    if len(cells) != len(slide.captions):
        raise SystemExit(f"slide {slide.number} has {len(cells)} cells, but its text places {len(slide.captions)}")
    return cells


def _image(picture: Path, caption: str) -> str:
    """Its own size at most, and never wider than the page."""
    if not caption:
        raise SystemExit(f"{picture.name} needs a description after its cell's {MARK}")
    alt = caption.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    return f'<p align="center"><img src="pictures/{picture.name}" alt="{alt}" title="{alt}"></p>'


def notebook(preface: str, slides: list[Slide], cells: list[Cell], pictures: Path) -> str:
    """The notebook of one language, nbformat 4.5, its outputs in place."""
    waiting = {number: [cell for cell in cells if cell.slide == number] for number in {c.slide for c in cells}}
    parts = [_markdown("preface", preface)]
    count = 0
    for slide in slides:
        parts.append(_markdown(f"slide-{slide.number}", f"## {slide.heading}\n\n{slide.prose[0]}"))
        for n, (cell, caption, prose) in enumerate(
            zip(_of(slide, waiting), slide.captions, slide.prose[1:], strict=True), start=1
        ):
            count += 1
            parts.append(_code(f"slide-{slide.number}-code-{n}", cell, caption, count, pictures))
            if prose:
                parts.append(_markdown(f"slide-{slide.number}-text-{n}", prose))
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    whole = {"cells": parts, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(whole, ensure_ascii=False, indent=1) + "\n"


def _markdown(name: str, text: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "id": name, "metadata": {}, "source": text.splitlines(keepends=True)}


def _code(name: str, cell: Cell, caption: str, count: int, pictures: Path) -> dict[str, Any]:
    outputs: list[dict[str, Any]] = []
    if cell.text:
        text = (cell.text + "\n").splitlines(keepends=True)
        outputs.append({"output_type": "stream", "name": "stdout", "text": text})
    if cell.value:
        data: dict[str, Any] = {"text/plain": cell.value.splitlines(keepends=True)}
        outputs.append({"output_type": "execute_result", "execution_count": count, "metadata": {}, "data": data})
    for picture in cell.pictures:
        kind, content = KINDS[Path(picture).suffix], Path(pictures, picture).read_bytes()
        drawn: Any = base64.b64encode(content).decode()
        if kind == "image/svg+xml":
            drawn = content.decode().splitlines(keepends=True)
        data = {kind: drawn, "text/plain": [caption]}
        outputs.append({"output_type": "display_data", "metadata": {}, "data": data})
    return {
        "cell_type": "code", "execution_count": count, "id": name, "metadata": {}, "outputs": outputs,
        "source": cell.code.splitlines(keepends=True),
    }  # fmt: skip


@contextlib.contextmanager
def workshop(folder: Path) -> Iterator[Path]:
    """A copy of the sources in a folder of its own, where the cells run and may write."""
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as lecture:
        shutil.copytree(folder / "source", Path(lecture, "source"))
        Path(lecture, "pictures").mkdir()
        os.chdir(lecture)
        try:
            yield Path(lecture)
        finally:
            os.chdir(here)


def build(folder: Path) -> dict[str, bytes]:
    """Every file of the companion, by its name in the folder, as the folder's sources give it now."""
    os.environ.update(COLUMNS=str(WIDTH), TERM="dumb", NO_COLOR="1")  # what rich prints must not depend on the terminal
    sys.path.insert(0, str(HERE.parents[1]))  # the library beside these documents, installed or not
    with workshop(folder) as lecture:
        pictures, source = lecture / "pictures", lecture / "source"
        cells = read_cells(source / "slides.py")
        run(cells, pictures)
        for picture in sorted(pictures.iterdir()):
            old = folder / "pictures" / picture.name
            if picture.suffix == ".png" and old.exists() and look_the_same(old.read_bytes(), picture.read_bytes()):
                shutil.copy(old, picture)
        for language in LANGUAGES:
            preface, slides = read_text(source / f"{language}.md")
            Path(lecture, f"{language}.md").write_text(page(preface, slides, cells, pictures), encoding="utf-8")
            whole = notebook(preface, slides, cells, pictures)
            Path(lecture, f"lecture.{language}.ipynb").write_text(whole, encoding="utf-8")
        return {path.relative_to(lecture).as_posix(): path.read_bytes() for path in generated(lecture)}


def generated(folder: Path) -> list[Path]:
    """The generated files that are in the folder."""
    return sorted([*folder.glob("*.md"), *folder.glob("*.ipynb"), *folder.glob("pictures/*")])


def look_the_same(old: bytes, new: bytes) -> bool:
    """Whether two PNGs have the same size and, seen from a little further off, no pixel differs by SAME_LOOK or more.

    So the last bits of a trained weight and the edges of letters may differ between machines.
    """
    import numpy as np
    from PIL import Image

    mine, its = (Image.open(io.BytesIO(data)).convert("RGBA") for data in (old, new))
    if mine.size != its.size:
        return False
    mine, its = (np.asarray(picture.reduce(4), dtype=int) for picture in (mine, its))
    return bool((abs(mine - its) < SAME_LOOK).all())


def differences(files: dict[str, bytes], folder: Path) -> list[str]:
    """What a rebuild would change in the folder: a line for each file, and the first lines that differ."""
    names = [path.relative_to(folder).as_posix() for path in generated(folder)]
    found = [f"{name} is not made by any slide" for name in names if name not in files]
    for name, data in files.items():
        path = folder / name
        if not path.exists():
            found.append(f"{name} is not there")
        elif path.read_bytes() != data:
            found.append(f"{name} differs{_first_difference(path.read_bytes(), data)}")
    return found


def _first_difference(old: bytes, new: bytes) -> str:
    try:
        lines = difflib.unified_diff(old.decode().splitlines(), new.decode().splitlines(), lineterm="", n=0)
    except UnicodeDecodeError:
        return ""
    changed = [line[:200] for line in lines if line[0] in "+-" and not line.startswith(("+++", "---"))]
    return "".join(f"\n    {line}" for line in changed[:6])


def write(files: dict[str, bytes], folder: Path) -> None:
    """Writes every file beside its place and moves it there; takes away pictures that no slide makes any more."""
    Path(folder, "pictures").mkdir(exist_ok=True)
    for name, data in files.items():
        beside = folder / f"{name}.new"
        beside.write_bytes(data)
        beside.replace(folder / name)
    for path in Path(folder, "pictures").iterdir():
        if f"pictures/{path.name}" not in files:
            path.unlink()


def main() -> int:
    """Builds, or checks; the exit code."""
    parser = argparse.ArgumentParser(description="Build the lecture's companion.")
    parser.add_argument("--check", action="store_true", help="write nothing, exit 1 if a rebuild would change a file")
    parser.add_argument("--folder", type=Path, default=HERE, help="where source/ is; by default this file's folder")
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    files = build(folder)
    found = differences(files, folder)
    print("\n".join(found) or "Nothing has changed.")
    if arguments.check:
        return 1 if found else 0
    write(files, folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
