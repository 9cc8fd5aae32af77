"""The emitter's helpers and its control flow, by numbers, for every target that this machine can run."""

import math

import numpy as np
import pytest
import torch
from guarded import guarded
from llvmlite import ir

from svertka.jit import engine
from svertka.jit.parallel import parallel_module
from svertka.kernels.emit import F32, FIRST, I32, I64, POINTER, VOID, Arguments, Emitter, shuffle
from svertka.kernels.target import TARGETS, detected, on_this_machine, runnable


@pytest.fixture(params=runnable(detected()))
def target(request):
    return on_this_machine(TARGETS[request.param])


def run(target, write, *arrays):
    """Runs write(e, *pointers) once, on NumPy arrays or torch tensors."""

    def task(e, slots, _task, _worker):
        write(e, *(e.load(slots, FIRST + i, POINTER) for i in range(len(arrays))))

    kernel = engine.load(str(parallel_module("test", target, task)), target, "test")
    places = [array.data_ptr() if isinstance(array, torch.Tensor) else array.ctypes.data for array in arrays]
    slots = np.array([0, 1, *places], np.int64)
    kernel.run(slots.ctypes.data, 1)


def numbers(target, write, *given, count=1):
    """The i64 that write(e, *values) gives for i64 that are known at run time only."""
    inputs, outputs = np.array([*given, 0], np.int64), np.zeros(count, np.int64)

    def all_of_it(e, source, place):
        results = write(e, *(e.load(source, i, I64) for i in range(len(given))))
        for index, result in enumerate(results):
            e.store(e.value(result), place, index)

    run(target, all_of_it, inputs, outputs)
    return outputs.tolist()


def test_arithmetic(target):
    def write(e, a, b):
        quotient, rest = e.divmod(a, b)
        return [e.add(a, b), e.sub(a, b), e.mul(a, b), quotient, rest, e.min(a, b), e.min(b, a), e.min(b, 3)]

    assert numbers(target, write, 47, 5, count=8) == [52, 42, 235, 9, 2, 5, 5, 3]
    assert numbers(target, lambda e, a: [e.add(a, 0), e.mul(1, a), e.sub(2, a), e.min(a, 0)], -3, count=4) == [
        -3, -3, 5, -3,
    ]  # fmt: skip


def emitter(target):
    module = ir.Module()
    return Emitter(ir.Function(module, ir.FunctionType(VOID, [I64]), "f"), target)


def test_python_numbers_are_folded(target):
    e = emitter(target)
    assert (e.add(2, 3), e.sub(2, 3), e.mul(2, 3)) == (5, -1, 6)
    a = e.function.args[0]
    assert e.add(a, 0) is e.add(0, a) is e.mul(a, 1) is e.mul(1, a) is a
    assert e.at(a, 0) is a
    assert not e.function.entry_basic_block.instructions


def test_constants_and_splats(target):
    def write(e, scalar, floats, whole):
        for index, value in enumerate((e.splat(0.1), e.splat(-math.inf), e.splat(e.load(scalar)), e.splat(3))):
            e.store_vector(value, floats, index * e.lanes)
        e.store(e.f32(0.1), floats, 4 * e.lanes)
        e.store_vector(e.splat_index(-7), whole)
        e.store_vector(e.splat_index(e.b.trunc(e.i64(9), I32)), whole, e.lanes)

    lanes = target.lanes
    floats, whole = np.zeros(4 * lanes + 1, np.float32), np.zeros(2 * lanes, np.int32)
    run(target, write, np.array([2.5], np.float32), floats, whole)
    assert (floats[:-1] == np.array([0.1, -math.inf, 2.5, 3], np.float32).repeat(lanes)).all()
    assert floats[-1] == np.float32(0.1)
    assert (whole == np.repeat([-7, 9], lanes)).all()


@pytest.mark.parametrize("at_end", [True, False])
def test_partial_vectors_touch_their_lanes_only(target, at_end):
    lanes = target.lanes
    counts = range(1, lanes + 1)

    def write(e, *pointers):
        for count, x, y in zip(counts, pointers[:lanes], pointers[lanes:], strict=False):
            value = e.load_vector(x, 0, count)
            e.store_vector(value, y, 0, count)
            e.store_vector(value, pointers[-1], (count - 1) * lanes)

    given = [guarded(torch.arange(1.0, count + 1), at_end=at_end) for count in counts]
    taken = [guarded(torch.zeros(count), at_end=at_end) for count in counts]
    whole = torch.full((lanes, lanes), math.nan)
    run(target, write, *given, *taken, whole)
    for count, x, y in zip(counts, given, taken, strict=True):
        assert y.equal(x)
        assert whole[count - 1].equal(torch.cat([x, torch.zeros(lanes - count)]))


def test_vectors_lie_anywhere_and_partial_stores_leave_the_rest(target):
    lanes = target.lanes

    def write(e, x, y):
        e.store_vector(e.load_vector(x, 1), y, 3)
        e.store_vector(e.splat(-1.0), y, lanes + 3, count=lanes - 1)

    x, y = np.arange(lanes + 2, dtype=np.float32), np.zeros(2 * lanes + 4, np.float32)
    run(target, write, x, y)
    assert y.tolist() == [0.0] * 3 + x[1 : lanes + 1].tolist() + [-1.0] * (lanes - 1) + [0.0] * 2


def test_vectors_of_indices(target):
    lanes = target.lanes

    def write(e, x, y):
        e.store_vector(e.load_vector(x, 0, lanes - 1, e.indices), y, 0, lanes)

    x, y = np.arange(1, lanes + 1, dtype=np.int32), np.zeros(lanes, np.int32)
    run(target, write, x, y)
    assert y.tolist() == [*range(1, lanes), 0]


def test_arrays_are_aligned_and_apart_even_if_asked_for_in_a_loop(target):
    def write(e, places):
        first = e.array(5)

        def body(index):
            inner = e.array(3, I64)
            e.store(index, inner)
            e.store(e.b.ptrtoint(inner, I64), places, 1)
            e.store(e.load(inner, 0, I64), places, 2)

        e.loop(0, 1000, body)  # a thousand arrays would be seen in the addresses
        e.store(e.b.ptrtoint(first, I64), places)

    places = np.zeros(3, np.int64)
    run(target, write, places)
    assert (places[:2] % 64 == 0).all()
    assert 20 <= abs(places[0] - places[1]) <= 192
    assert places[2] == 999


def test_loops_carry_values(target):
    def write(e, n):
        def body(i, total, product):
            return [e.b.add(total, i), e.b.mul(product, e.i64(2))]

        return e.loop(3, n, body, [e.i64(100), e.i64(1)], step=4)

    for n in (-5, 3, 4, 7, 8, 20):
        turns = range(3, n, 4)
        assert numbers(target, write, n, count=2) == [100 + sum(turns), 2 ** len(turns)]


def test_loops_in_loops_with_choices_in_them(target):
    def write(e, n):
        def row(i, total):
            def column(j, total):
                odd = e.b.trunc(e.b.add(i, j), ir.IntType(1))

                def then():
                    return e.loop(0, j, lambda k, t: [e.b.add(t, k)], [total])

                return e.choose(odd, then, lambda: [e.b.add(total, e.i64(1000))])

            return e.loop(0, i, column, [total])

        return e.loop(0, n, row, [e.i64(0)])

    expected = sum(sum(range(j)) if (i + j) % 2 else 1000 for i in range(7) for j in range(i))
    assert numbers(target, write, 7) == [expected]


def test_a_loop_whose_body_gives_too_little_is_refused(target):
    e = emitter(target)
    with pytest.raises(ValueError, match="carries 1 values, but its body gives 0"):
        e.loop(0, 3, lambda *_: None, [e.i64(0)])


def test_when(target):
    def write(e, source, place):
        for index in range(2):
            chosen = e.b.icmp_signed("==", e.load(source, index, I64), e.i64(1))
            e.when(chosen, lambda index=index: e.store(e.i64(index + 10), place, index))

    source, place = np.array([0, 1], np.int64), np.zeros(2, np.int64)
    run(target, write, source, place)
    assert place.tolist() == [0, 11]


def test_operations_on_vectors(target):
    lanes = target.lanes
    random = np.random.default_rng(0)
    a, b, c = (random.normal(size=lanes).astype(np.float32) for _ in range(3))

    def write(e, *pointers):
        x, y, z = (e.load_vector(pointer) for pointer in pointers[:3])
        place = pointers[3]
        results = e.fma(x, y, z), e.call("llvm.fabs", x), shuffle(e, x, y, [*range(1, lanes), lanes])
        for index, result in enumerate(results):
            e.store_vector(result, place, index * lanes)
        e.store(e.fma(e.load(pointers[0]), e.load(pointers[1]), e.load(pointers[2])), place, 3 * lanes)

    y = np.zeros(3 * lanes + 1, np.float32)
    run(target, write, a, b, c, y)
    exact = a.astype(float) * b + c
    assert (abs(y[:lanes] - exact) <= np.finfo(np.float32).eps * (abs(a * b) + abs(exact))).all()
    assert (y[lanes : 2 * lanes] == abs(a)).all()
    assert (y[2 * lanes : 3 * lanes] == [*a[1:], b[0]]).all()
    assert y[-1] == pytest.approx(exact[0], rel=1e-6)


def test_the_maximum_keeps_nan_from_either_side(target):
    pairs = [(1.0, 2.0), (2.0, 1.0), (math.nan, 1.0), (1.0, math.nan), (-math.inf, -math.inf), (-1.0, math.inf)]

    def write(e, x, y):
        for index in range(len(pairs)):
            e.store(e.maximum(e.load(x, 2 * index), e.load(x, 2 * index + 1)), y, index)

    x, y = np.array(pairs, np.float32).ravel(), np.zeros(len(pairs), np.float32)
    run(target, write, x, y)
    np.testing.assert_array_equal(y, [2, 2, math.nan, math.nan, -math.inf, math.inf])


def test_functions_are_called_by_their_address(target):
    def write(e, place):
        double = ir.Function(e.function.module, ir.FunctionType(I64, [I64]), "double")
        inner = Emitter(double, target)
        inner.b.ret(inner.mul(double.args[0], 2))
        e.store(e.b.ptrtoint(e.address_of(double), I64), place)
        address = e.b.inttoptr(e.load(place, 0, I64), POINTER)
        e.store(e.call_address(address, double.function_type, e.i64(21)), place)

    place = np.zeros(1, np.int64)
    run(target, write, place)
    assert place[0] == 42


def test_what_is_fetched_ahead_needs_not_exist(target):
    x = guarded(torch.arange(4.0))

    def write(e, x):
        e.prefetch(x, 1 << 40)
        e.prefetch(x, e.add(e.i64(1024), 0))
        e.store(e.f32(9), x)

    run(target, write, x)
    assert x[0] == 9


def test_arguments_by_name(target):
    def task(e, slots, _task, _worker):
        a = Arguments(e, slots, ["y"], ["rows", "columns"])
        e.store(e.sub(a.rows, a.columns), a.y)
        with pytest.raises(AttributeError, match="the kernel has no argument 'depth'"):
            _ = a.depth

    kernel = engine.load(str(parallel_module("test", target, task)), target, "test")
    y = np.zeros(1, np.int64)
    kernel.run(np.array([0, 1, y.ctypes.data, 9, 4], np.int64).ctypes.data, 1)
    assert y[0] == 5


def test_single_elements_of_every_kind(target):
    def write(e, x, y, i):
        e.store(e.load(x, e.load(i, 0, I64), F32), y, 1)
        e.store(e.load(i, 2, I32), i, 3)

    x, y, i = np.arange(5, dtype=np.float32), np.zeros(2, np.float32), np.array([3, 0, 8, 0], np.int32)
    run(target, write, x, y, i)
    assert y.tolist() == [0.0, 3.0]
    assert i.tolist() == [3, 0, 8, 8]
