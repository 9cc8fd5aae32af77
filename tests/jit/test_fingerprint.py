"""The digest of loaded code changes with the code, wherever in it, and with nothing else."""

import subprocess
import sys

import pytest

from svertka.jit.fingerprint import fingerprint
from svertka.kernels import dense, emit, epilogue

MODULES = ("svertka.kernels.dense", "svertka.jit.parallel")
PRINT = f"""
from svertka.jit import parallel
from svertka.jit.fingerprint import fingerprint
from svertka.kernels import dense
print(fingerprint("svertka", {MODULES}))
"""


def current():
    return fingerprint("svertka", MODULES)


def test_it_is_the_same_in_every_process():
    printed = {
        subprocess.run(
            [sys.executable, "-c", f"import {first}\n{PRINT}"], capture_output=True, text=True, check=True
        ).stdout.strip()
        for first in ("os", "svertka.window, svertka.reference, svertka.kernels.combine")
    }
    assert len(printed) == 1


def changed(_, value=0):
    return value


@pytest.mark.parametrize(
    ("owner", "name", "value"),
    [
        (dense, "_write", changed),
        (dense, "activate", changed),
        (dense, "POINTERS", ("x",)),
        (dense.DenseKernel, "_sum", changed),
        (dense.DenseKernel, "more", 1),
        (emit.Emitter, "fma", changed),
        (epilogue, "_ERF_P", 0.3),
        (epilogue, "NOTHING", epilogue.Epilogue(bias=True)),
    ],
)
def test_exchanging_anything_changes_it(monkeypatch, owner, name, value):
    before = current()
    assert current() == before
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, value, raising=False)
        assert current() != before
    assert current() == before


def test_exchanging_an_entry_of_a_table_or_a_functions_code_changes_it(monkeypatch):
    before = current()
    with monkeypatch.context() as patch:
        patch.setitem(epilogue.ACTIVATIONS, "relu", epilogue.ACTIVATIONS["relu6"])
        assert current() != before
    with monkeypatch.context() as patch:
        patch.setattr(epilogue._relu, "__code__", epilogue._relu6.__code__)
        assert current() != before
    assert current() == before


def test_functions_of_the_same_name_differ_by_their_code(monkeypatch):
    def first():
        return 1

    def second():
        return 2

    second.__qualname__ = first.__qualname__
    digests = set()
    for function in (first, second):
        with monkeypatch.context() as patch:
            patch.setattr(dense, "activate", function)
            digests.add(current())
    assert len(digests) == 2
