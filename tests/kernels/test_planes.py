"""The planes family's vectors at the ends of rows, and its IR for every target."""

import ctypes
import math

import llvmlite.binding as llvm
import numpy as np
import pytest
import torch
from guarded import guarded

from svertka.jit import engine
from svertka.jit.parallel import parallel_module
from svertka.kernels.combine import Average, Maximum, Norm, ProportionalDraw, WeightedMean, WeightedSum
from svertka.kernels.emit import FIRST, I64, POINTER
from svertka.kernels.epilogue import Epilogue
from svertka.kernels.lines import MOST_PHASES, load_first, split, store_first
from svertka.kernels.planes import PLANES, Planes, PlanesSchedule, Taps, choose_planes
from svertka.kernels.target import TARGETS, host
from svertka.kernels.whole import WHOLE, Whole, WholeSchedule

LANES = host().lanes


def called(write, *tensors, number=0):
    """Runs write(e, *pointers, number)."""

    def task(e, slots, _task, _worker):
        pointers = [e.load(slots, FIRST + i, POINTER) for i in range(len(tensors))]
        write(e, *pointers, e.load(slots, FIRST + len(tensors), I64))

    run = engine.load(str(parallel_module("test", host(), task)), host(), "test").run
    slots = ctypes.c_int64 * (FIRST + len(tensors) + 1)
    for value in number if isinstance(number, range) else (number,):
        yield value, run(slots(0, 1, *(tensor.data_ptr() for tensor in tensors), value), 1)


@pytest.mark.parametrize("phases", range(1, MOST_PHASES + 1))
def test_vectors_are_split_into_phases(phases):
    x = torch.arange(phases * LANES, dtype=torch.float32)
    y = torch.zeros(phases, LANES)

    def write(e, x, y, _):
        parts = split(e, [e.load_vector(x, i * e.lanes) for i in range(phases)])
        for i, part in enumerate(parts):
            e.store_vector(part, y, i * e.lanes)

    list(called(write, x, y))
    assert torch.equal(y, x.view(LANES, phases).t())


@pytest.mark.parametrize("at_end", (False, True))
def test_a_part_of_a_vector_is_all_that_is_touched(at_end):
    for count in (1, 3, LANES - 1, LANES):
        x = guarded(torch.arange(1, count + 1, dtype=torch.float32), at_end=at_end)
        y = guarded(torch.zeros(count), at_end=at_end)

        def write(e, x, y, left):
            store_first(e, load_first(e, x, e.i64(0), left), y, e.i64(0), left)

        for left, _ in called(write, x, y, number=range(-2, count + 1)):
            kept = max(left, 0)
            assert torch.equal(y[:kept], x[:kept]) and not y[kept:].any()
            y.zero_()


def test_lanes_that_are_not_read_are_zeros():
    x, y = torch.full((LANES,), 7.0), torch.full((LANES,), 9.0)
    for left, _ in called(lambda e, x, y, n: e.store_vector(load_first(e, x, e.i64(0), n), y), x, y, number=range(5)):
        assert y.tolist() == [7.0] * min(left, LANES) + [0.0] * (LANES - left)


def kernels():
    window, strided = Taps(3), Taps(3, 2)
    yield PLANES, Planes(Maximum(), Taps(3), strided, 2), PlanesSchedule()
    yield PLANES, Planes(Maximum("source"), strided, strided, 2), PlanesSchedule()
    yield PLANES, Planes(Average(), None, None, 1), PlanesSchedule()
    yield PLANES, Planes(Norm(3.5), Taps(3), window, 1), PlanesSchedule()
    yield PLANES, Planes(WeightedMean(), None, Taps(3, 3), 3), PlanesSchedule()
    yield PLANES, Planes(ProportionalDraw(), window, window, 1), PlanesSchedule()
    block = Epilogue(bias=True, scale=True, residual=True)
    yield PLANES, Planes(WeightedSum(), window, window, 1, epilogue=block), PlanesSchedule(4)
    yield PLANES, Planes(WeightedSum(), None, None, 1, sliding=True), PlanesSchedule(4, vectors=2)
    yield WHOLE, Whole(Norm(2.0)), WholeSchedule()


@pytest.mark.parametrize("name", TARGETS)
def test_every_target_has_well_formed_kernels(name):
    for family, spec, schedule in kernels():

        def write(e, *arguments, family=family, spec=spec, schedule=schedule):
            family.write(spec, schedule, e, *arguments)

        llvm.parse_assembly(str(parallel_module("test", TARGETS[name], write))).verify()


def test_few_taps_are_unrolled():
    assert choose_planes(WeightedSum(), Taps(3), Taps(3), 56, True).unrolled == (True, True)
    assert choose_planes(WeightedSum(), Taps(31), Taps(31), 56, True).unrolled == (False, False)
    assert choose_planes(WeightedSum(), Taps(7), Taps(7), 56, True).unrolled == (False, True)
    assert choose_planes(WeightedSum(), Taps(7), Taps(7), 7, False).unrolled == (True, True)
    assert choose_planes(WeightedSum(), Taps(3), None, 56, True).unrolled == (False, False)
    assert choose_planes(Maximum(), Taps(3), Taps(31), 56, True).unrolled == (True, False)
    assert choose_planes(Norm(math.inf), Taps(49), Taps(3), 56, True).unrolled == (False, True)


def test_a_mask_is_made_of_numbers():
    y = torch.from_numpy(np.full(LANES, -1, np.int64))

    def write(e, y, left):
        wide = e.b.sext(e.splat_index(5), type(e.vector)(I64, e.lanes))
        store_first(e, wide, y, e.i64(0), left)

    list(called(write, y, number=3))
    assert y.tolist() == [5] * 3 + [-1] * (LANES - 3)
