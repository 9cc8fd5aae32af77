"""From IR to a function: objects for every target, the way through the cache, and what LLVM refuses."""

import subprocess
import sys

import pytest

from svertka.engine import launch
from svertka.jit import cache, engine
from svertka.jit.parallel import parallel_module
from svertka.kernels import dense
from svertka.kernels.dense import DENSE, Dense, DenseSchedule
from svertka.kernels.emit import FIRST, I64, POINTER
from svertka.kernels.family import Family
from svertka.kernels.target import TARGETS, host

MAGIC = b"\x7fELF"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A cache of its own, empty."""
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


def text(spec, schedule, target):
    return launch.kernel_text(DENSE, spec, schedule, target)


def counting(amount):
    """IR that adds an amount to the numbers at its argument, one in each task."""

    def task(e, slots, task, _):
        numbers = e.load(slots, FIRST, POINTER)
        e.store(e.b.add(e.load(numbers, task, I64), e.i64(amount)), numbers, task)

    return str(parallel_module("counting", host(), task))


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_every_target_has_its_object(target):
    kernel = text(Dense(3, 2 * target.lanes + 1), DenseSchedule(2, 2), target)
    assert engine.compile_object(kernel, target).startswith(MAGIC)


def test_assembly_is_text_for_the_target():
    kernel = {name: text(Dense(8, 8), DenseSchedule(2, 1), TARGETS[name]) for name in ("avx2", "neon")}
    assert "vfmadd" in engine.assembly(kernel["avx2"], TARGETS["avx2"])
    assert "fmla" in engine.assembly(kernel["neon"], TARGETS["neon"])


def test_the_second_time_the_object_comes_from_the_disk(folder):
    first, second = (engine.load(counting(3), host()) for _ in range(2))
    assert (first.from_cache, second.from_cache) == (False, True)
    assert len(list(folder.iterdir())) == 1
    assert not engine.load(counting(4), host()).from_cache


def test_without_a_cache_all_is_compiled(monkeypatch):
    monkeypatch.setenv(cache.VARIABLE, cache.OFF)
    assert not any(engine.load(counting(3), host()).from_cache for _ in range(2))


@pytest.mark.parametrize("part", ["triple", "cpu", "features", "options", "versions"])
def test_the_key_depends_on_all_that_makes_the_object(monkeypatch, part):
    target = TARGETS["avx2"]
    before = engine._key("text", target)
    if part == "options":
        monkeypatch.setattr(engine, "OPTIONS", "others")
    elif part == "versions":
        monkeypatch.setattr(engine, "versions", lambda: "others")
    else:
        target = engine.Target(**{**vars(target), part: "other"})
    assert engine._key("text", target) != before


def test_what_is_not_ir_is_refused_with_llvms_words():
    with pytest.raises(RuntimeError, match="expected top-level entity"):
        engine.compile_object("this is no IR", host())


class Recipe:
    """Writes a kernel and counts how often."""

    def __init__(self, *names):
        self.names, self.written = list(names), 0

    def __call__(self):
        return self.names.pop(0) if len(self.names) > 1 else self.names[0]

    def write(self):
        self.written += 1
        return counting(5)


def test_a_known_recipe_is_not_written_again(folder):
    recipe = Recipe("a")
    loaded = [engine.load_recipe(recipe, recipe.write, host()) for _ in range(2)]
    assert [one.from_cache for one in loaded] == [False, True]
    assert recipe.written == 1
    other = Recipe("b")
    assert engine.load_recipe(other, other.write, host()).from_cache  # another recipe of the same IR
    assert other.written == 1
    for entry in folder.iterdir():  # the object is lost, the recipe still knows its key
        if engine._key(counting(5), host()) == entry.name:
            entry.unlink()
    assert not engine.load_recipe(recipe, recipe.write, host()).from_cache


def test_what_was_written_while_the_code_changed_is_not_kept_under_the_recipe():
    recipe = Recipe("a", "b")  # "a" before, "b" after
    engine.load_recipe(recipe, recipe.write, host())
    for name in "ab":
        again = Recipe(name)
        engine.load_recipe(again, again.write, host())
        assert again.written == 1


def test_exchanged_code_is_written_and_not_found(monkeypatch):
    kernel = launch._loaded
    arguments = (DENSE, Dense(1, 2), DenseSchedule(1, 1), host())
    assert [kernel(*arguments).from_cache for _ in range(2)] == [False, True]
    monkeypatch.setattr(dense.DenseKernel, "_start", lambda self, *_: [self.e.splat(1.0)] * 1)
    assert not kernel(*arguments).from_cache
    monkeypatch.undo()


def test_families_from_elsewhere_are_known_by_their_ir(monkeypatch):
    recipes = []
    monkeypatch.setattr(engine, "load_recipe", lambda *_: recipes.append("recipe"))
    amount = 7

    def write(_spec, _schedule, e, slots, task, _):
        numbers = e.load(slots, FIRST, POINTER)
        e.store(e.b.add(e.load(numbers, task, I64), e.i64(amount)), numbers, task)

    family = Family("elsewhere", ("numbers",), (), write)
    launch._loaded(family, Dense(1, 1), DenseSchedule(1, 1), host())
    assert not recipes
    launch._loaded(DENSE, Dense(1, 1), DenseSchedule(1, 1), host())
    assert recipes


def test_layers_are_imported_without_what_writes_kernels():
    code = "import svertka.nn, sys; print([name for name in sys.modules if name.startswith(('llvmlite', 'svertka.k'))])"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"
