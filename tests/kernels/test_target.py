"""Targets: what SVERTKA_TARGET may name, and what it may not."""

import pytest

from svertka.errors import SvertkaError
from svertka.kernels import target
from svertka.kernels.target import TARGETS, detected, host, runnable


@pytest.fixture
def choose(monkeypatch):
    """Makes a machine of one target, where the variable names another."""

    def chosen(best, name=None):
        host.cache_clear()
        monkeypatch.setattr(target, "detected", lambda: best)
        if name is None:
            monkeypatch.delenv(target.VARIABLE, raising=False)
        else:
            monkeypatch.setenv(target.VARIABLE, name)
        return host()

    yield chosen
    host.cache_clear()


@pytest.mark.parametrize("best", TARGETS)
def test_without_the_variable_it_is_the_best(choose, best):
    assert choose(best).name == best


@pytest.mark.parametrize(("best", "able"), [(best, runnable(best)) for best in TARGETS])
def test_the_variable_names_what_the_machine_can_run(choose, best, able):
    for name in TARGETS:
        if name in able:
            assert choose(best, name).lanes == TARGETS[name].lanes
        else:
            with pytest.raises(SvertkaError, match=f"SVERTKA_TARGET={name} can't run here.* target is {best}"):
                choose(best, name)


def test_other_names_are_refused(choose):
    with pytest.raises(SvertkaError, match="SVERTKA_TARGET=sse9 is no target: choose one of avx512, avx2, neon"):
        choose("avx2", "sse9")


def test_the_machines_own_triple_and_caches_take_the_place_of_typical_ones(choose, monkeypatch):
    class Process:
        def get_process_triple(self):
            return "riscv64-unknown-linux-gnu"

    monkeypatch.setattr(target, "_cache_sizes", lambda: {2: 7 << 20})
    found = choose("avx2")
    assert (found.l1, found.l2) == (TARGETS["avx2"].l1, 7 << 20)
    assert found.triple == target._llvm().get_process_triple()
    monkeypatch.setattr(target, "_llvm", Process)
    found = choose("generic")
    assert (found.triple, found.cpu, found.features) == ("riscv64-unknown-linux-gnu", "", "")


@pytest.mark.parametrize(
    ("lacking", "expected"), [((), "avx512"), (("avx512cd",), "avx2"), (("fma",), "generic"), (("avx2",), "generic")]
)
def test_a_machine_has_a_target_with_all_its_features(monkeypatch, lacking, expected):
    features = {feature[1:]: True for feature in TARGETS["avx512"].features.split(",")}

    class Machine:
        def get_process_triple(self):
            return "x86_64-unknown-linux-gnu"

        def get_host_cpu_features(self):
            return features | dict.fromkeys(lacking, False)

    monkeypatch.setattr(target, "_llvm", Machine)
    assert detected() == expected


def test_arm_is_neon(monkeypatch):
    class Machine:
        def get_process_triple(self):
            return "arm64-apple-darwin"

    monkeypatch.setattr(target, "_llvm", Machine)
    assert detected() == "neon"


def test_cache_sizes_are_plausible():
    for level, size in target._cache_sizes().items():
        assert 1 <= level <= 4
        assert 4 << 10 <= size <= 1 << 32
