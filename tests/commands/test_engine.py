"""`svertka doctor` and `svertka cache`: what they say and how they end; the doctor finds a wrong kernel."""

import json

import pytest
import torch
from typer.testing import CliRunner

from svertka import spec
from svertka.cli import app
from svertka.engine import dispatch, doctor, speed
from svertka.engine.report import KERNEL, PORTABLE
from svertka.jit import cache

ENTRY = cache.key("an entry")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A cache of its own, empty."""
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "_warned", set())
    return tmp_path / "cache"


@pytest.fixture
def quick(monkeypatch):
    """Measures next to nothing and tries three operations."""
    monkeypatch.setattr(speed, "_SECONDS", 1e-4)
    monkeypatch.setattr(speed, "_TURNS", 10)
    monkeypatch.setattr(speed, "_BYTES", 1 << 20)
    kinds = (spec.Convolution, spec.MaxPool, spec.Pad)
    cases = [case for case in doctor._cases() if type(case.operation) in kinds]
    monkeypatch.setattr(doctor, "_cases", lambda: cases)
    return len(cases)


def printed(*arguments, code=0):
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
    assert result.exit_code == code, result.output
    return result.stdout


def test_the_cache_is_shown_and_cleared(folder):
    assert f"Compiled kernels are kept in {folder}:\n0 entries, 0.0 of 256 MiB." in printed("cache")
    assert not folder.exists()
    cache.write(ENTRY, bytes(1 << 20))
    assert "1 entry, 1.0 of 256 MiB" in printed("cache")
    shown = json.loads(printed("cache", "--json"))
    assert shown["entries"] == 1
    assert shown["size"] == (1 << 20) + 4096  # with the header, in whole blocks
    assert (shown["folder"], shown["used"], shown["limit"]) == (str(folder), True, 256 << 20)
    assert printed("cache", "clear") == f"1 entry, 1.0 MiB: removed from {folder}.\n"
    assert json.loads(printed("cache", "--json"))["entries"] == 0


def test_a_folder_that_is_not_used_is_told_with_the_remedy(folder):
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    text = printed("cache")
    assert "the folder is not used: others have access to it (mode 777)" in text
    assert f"chmod 700 {folder}" in text
    assert json.loads(printed("cache", "--json"))["used"] is False


def test_a_cache_that_is_off_says_so(monkeypatch):
    monkeypatch.setenv(cache.VARIABLE, cache.OFF)
    assert "There is no cache, it is switched off: unset SVERTKA_CACHE" in printed("cache")
    assert json.loads(printed("cache", "--json"))["folder"] is None
    assert "there is no cache, it is switched off" in printed("cache", "clear")


def test_the_doctor_names_everything(quick):
    text = printed("doctor")
    for topic in ("processor", "target", "versions", "engine", "threads", "cache", "arithmetic", "memory"):
        assert f"\n {topic} " in text or f"\n{topic} " in text
    assert f"All {2 * quick} results are right." in text
    found = json.loads(printed("doctor", "--json"))
    assert found["sound"] is True
    assert len(found["trials"]) == 2 * quick


@pytest.mark.usefixtures("quick")
def test_a_wrong_kernel_is_found(monkeypatch):
    def wrong(*arguments, **options):
        runner = right(*arguments, **options)

        class Wrong:
            detail = "a wrong kernel"

            def __call__(self, *tensors, **options):
                result = runner(*tensors, **options)
                result[-1, -1, -1, -1] *= 1 + 1e-4
                return result

        return Wrong()

    right = dispatch.PREPARE[spec.MaxPool]
    monkeypatch.setitem(dispatch.PREPARE, spec.MaxPool, wrong)
    dispatch.forget()
    try:
        text = printed("doctor", code=1)
    finally:
        dispatch.forget()
    assert "numbers are wrong, by up to" in text
    assert "4 of" in text  # two poolings in two layouts
    assert "SVERTKA_ENGINE=portable" in text


@pytest.mark.usefixtures("quick")
def test_what_the_kernels_refuse_is_portable_and_what_fails_is_told(monkeypatch):
    def fails(*_, **__):
        raise ValueError("it broke")

    monkeypatch.setitem(dispatch.PREPARE, spec.MaxPool, lambda *_, **__: "today is Sunday")
    monkeypatch.setitem(dispatch.PREPARE, spec.Pad, fails)
    dispatch.forget()
    try:
        trials = {trial.operation: trial for trial in doctor.self_test()}
    finally:
        dispatch.forget()
    refused = trials["adaptive max pool, channels last"]
    assert (refused.path, refused.detail, refused.fault) == (PORTABLE, "today is Sunday", "")
    assert trials["pad, contiguous"].fault == "ValueError: it broke"
    assert (trials["convolution, contiguous"].path, trials["convolution, contiguous"].fault) == (KERNEL, "")


def test_each_kind_of_operation_is_tried():
    kinds = {kind for kind in vars(spec).values() if isinstance(kind, type) and issubclass(kind, spec.Operation)}
    assert {type(case.operation) for case in doctor._cases()} == kinds - {spec.Operation}


def test_advice_follows_the_findings(monkeypatch):
    monkeypatch.setattr(doctor, "_cores", lambda: torch.get_num_threads() + 2)
    assert "2 cores are idle" in doctor._threads().advice
    monkeypatch.setattr(doctor, "_cores", lambda: torch.get_num_threads() - 1)
    assert "more threads than cores" in doctor._threads().advice
    with dispatch.using("portable"):
        assert "svertka.use('auto')" in doctor._engine().advice
    monkeypatch.setattr(doctor, "detected", lambda: "another")
    assert "unset SVERTKA_TARGET to compute with another" in doctor._target().advice
    monkeypatch.setenv(cache.VARIABLE, cache.OFF)
    assert "unset SVERTKA_CACHE" in doctor._cache().found
    monkeypatch.setattr(doctor, "bandwidth", lambda _: (_ for _ in ()).throw(MemoryError))
    assert doctor._memory().found == "not measured"


def test_an_unknown_target_is_one_sentence(monkeypatch, capsys):
    import sys

    from svertka.cli import main
    from svertka.kernels.target import host

    monkeypatch.setenv("SVERTKA_TARGET", "sse9")
    monkeypatch.setattr(sys, "argv", ["svertka", "doctor"])
    host.cache_clear()
    try:
        with pytest.raises(SystemExit) as end:
            main()
    finally:
        host.cache_clear()
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith("svertka: SVERTKA_TARGET=sse9 is no target: choose one of")
