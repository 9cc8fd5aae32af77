"""What is committed is what web/ builds: the comparison notices a difference; the API's document is whole."""

import importlib.util
import shutil
from pathlib import Path

import pytest

from svertka.lab.api import Stream, document
from svertka.lab.rooms import ENDPOINTS

ROOT = Path(__file__).parents[2]


def test_the_comparison_sees_every_difference(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("build", ROOT / "web/build.py")
    assert spec is not None
    assert spec.loader is not None
    build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)
    committed, fresh = ROOT / "svertka/lab/static", tmp_path / "fresh"
    shutil.copytree(committed, fresh)
    assert build.differing(fresh, committed) == []
    (fresh / "assets/added.js").write_text("1")
    (fresh / "index.html").write_text((fresh / "index.html").read_text() + " ")
    (fresh / "icon.svg").unlink()
    assert build.differing(fresh, committed) == ["assets/added.js", "icon.svg", "index.html"]


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda e: e.path)
def test_every_endpoint_is_in_the_document(endpoint: object) -> None:
    streams = isinstance(endpoint, Stream)
    found = document(ENDPOINTS)["paths"][endpoint.path]["get" if streams else "post"]  # type: ignore[attr-defined]
    assert found["summary"]
    assert set(found["responses"]) == ({"200"} if streams else {"200", "422"})
