"""The wheel and the source distribution hold what they should, and nothing else."""

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BUILD = "from setuptools import build_meta as b; print(b.build_{}('dist'))"
LEFT_OVER = ("__pycache__", ".pyc", ".hypothesis", "node_modules", ".venv", ".git", "runs/", ".part", ".ruff_cache")


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    """{kind: the names in it}, built from a copy with some rubbish beside the files that belong there."""
    copy = tmp_path_factory.mktemp("packages") / "svertka"
    rubbish = (
        ".git",
        ".venv*",
        "__pycache__",
        "*.egg-info",
        ".*_cache",
        ".hypothesis",
        "node_modules",
        "runs",
        "build",
    )
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*rubbish))
    for name in (
        "svertka/__pycache__/x.pyc",
        "tests/__pycache__/x.pyc",
        "runs/a/model.safetensors",
        "web/node_modules/x/y.js",
    ):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_bytes(b"")
    found = {}
    for kind in ("sdist", "wheel"):
        done = subprocess.run([sys.executable, "-c", BUILD.format(kind)], cwd=copy, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
        path = copy / "dist" / done.stdout.splitlines()[-1]
        if kind == "wheel":
            found[kind] = set(zipfile.ZipFile(path).namelist())
        else:
            with tarfile.open(path) as opened:
                found[kind] = {name.partition("/")[2] for name in opened.getnames()} - {""}
    return found


def package_files():
    """What belongs to the package: its code and its data."""
    files = [path for path in (ROOT / "svertka").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return {path.relative_to(ROOT).as_posix() for path in files}


def test_the_wheel_is_the_package_and_no_more(names):
    inside = {name for name in names["wheel"] if ".dist-info/" not in name}
    assert inside == package_files()
    assert any(name.endswith("licenses/LICENSE") for name in names["wheel"])


def test_the_built_page_and_the_digits_are_in_both(names):
    for inside in names.values():
        assert "svertka/lab/static/index.html" in inside and "svertka/py.typed" in inside
        assert any(name.startswith("svertka/lab/static/assets/index-") and name.endswith(".js") for name in inside)
        assert any(name.startswith("svertka/vision/data/digits-images") for name in inside)


def test_the_sources_can_be_tested_and_built(names):
    inside = names["sdist"]
    assert package_files() <= inside
    for name in (
        "pyproject.toml", "README.md", "README.ru.md", "LICENSE", "CHANGELOG.md", "SECURITY.md", "Makefile",
        "constraints.txt", "tests/comparing.py", "tests/kernels/twins/dense.ll", "tests/fuzz/run.py", "web/build.py",
        "web/package.json", "docs/security.md", "docs/pictures/lab.png", "bench/soak.py",
    ):  # fmt: skip
        assert name in inside, name


def test_nothing_that_was_left_over_is_in_them(names):
    for inside in names.values():
        assert not [name for name in inside if any(part in name for part in LEFT_OVER)]
