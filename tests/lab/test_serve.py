"""The command: a real server in a process of its own, and its page."""

import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import pytest

LAB = [sys.executable, "-c", "from svertka.cli import main; main()", "lab", "--no-browser"]


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[subprocess.Popen[str], str]]:
    process = subprocess.Popen([*LAB, "--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("The lab is at http://127.0.0.1:"), line
    yield process, line.split()[-1]
    process.kill()
    process.communicate()


def test_the_page_and_its_files_are_served(server: tuple[subprocess.Popen[str], str]) -> None:
    _, address = server
    with urllib.request.urlopen(address) as answer:
        page = answer.read().decode()
    static = resources.files("svertka.lab") / "static"
    assert page == (static / "index.html").read_text()
    for name in [
        part.split('"')[1] for part in page.split("<script")[1:] if "src=" in part for part in part.split("src=")[1:]
    ]:
        with urllib.request.urlopen(address + name.lstrip("/")) as answer:
            assert answer.status == 200


def test_another_machines_name_is_refused(server: tuple[subprocess.Popen[str], str]) -> None:
    request = urllib.request.Request(server[1], headers={"Host": "evil.example"})
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request)
    caught.value.close()
    assert caught.value.code == 421


def test_a_port_that_is_taken_is_one_sentence() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = subprocess.run(
            [*LAB, "--port", str(taken.getsockname()[1])], capture_output=True, text=True, timeout=60, check=False
        )
    assert done.returncode == 2
    assert done.stderr.startswith("svertka: the lab can't listen on 127.0.0.1, port ")
    assert done.stderr.count("\n") == 1


def test_a_model_that_cannot_be_used_is_one_sentence(tmp_path: Path) -> None:
    done = subprocess.run([*LAB, str(tmp_path)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert str(tmp_path) in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_page_is_small() -> None:
    import gzip

    static = resources.files("svertka.lab") / "static"
    total = 0
    for folder in (static, static / "assets"):
        for file in folder.iterdir():
            if file.is_file():
                content = file.read_bytes()
                total += len(content) if file.name.endswith("woff2") else len(gzip.compress(content))
    assert total < 300_000
