"""Operations of every kind drawn at random, with weights and a small input, for what must hold of all of them."""

import math
from typing import Any

import hypothesis.strategies as st
import numpy as np
from geometries import SEEDS, geometries
from hypothesis import assume

from svertka import spec
from svertka.errors import GeometryError
from svertka.explain.operations import Array, Bound
from svertka.window import Segments

MOST_TERMS = 1500  # of one operation, so that thousands of steps are looked at in seconds
POOLS = ("max", "average", "norm", "weighted", "stochastic", "segments", "k-max")
KINDS = ("convolution", "transposed", "unshared", "pad", *POOLS)


@st.composite
def explained(draw: st.DrawFn, kinds: tuple[str, ...] = KINDS) -> tuple[Bound, Array]:
    """(an operation with its weights, its input [C, *size])."""
    kind = draw(st.sampled_from(kinds))
    random = np.random.default_rng(draw(SEEDS))
    if kind == "k-max":
        n = draw(st.integers(1, 7))
        k_max = spec.KMaxPool((Segments(1),), draw(st.integers(1, n)))
        return Bound(k_max, title="KMaxPool1d"), _input(random, 2, (n,))
    if kind == "segments":
        size = tuple(draw(st.lists(st.integers(1, 6), min_size=1, max_size=2)))
        windows = tuple(Segments(draw(st.integers(1, 4)), draw(st.booleans())) for _ in size)
        pool: Any = draw(st.sampled_from((spec.MaxPool, spec.AveragePool, spec.LpPool)))
        return Bound(pool(windows), title="Adaptive"), _input(random, 2, size)
    pools = kind in ("max", "average", "norm")
    modes = ("zeros",) if kind == "transposed" else ("zeros", "replicate", "reflect", "symmetric", "circular")
    geometry = draw(geometries(modes=modes, ceil=pools, numeric=kind == "transposed"))
    groups, inner, outer = (draw(st.integers(1, 2)) for _ in range(3))
    taps, size = geometry.kernel_size, geometry.size
    if kind == "transposed":
        windows = spec.transposed_windows(
            geometry.ndim, taps, geometry.stride, geometry.padding, dilation=geometry.dilation
        )
        weight, channels, out = random.normal(size=(groups * inner, outer, *taps)), groups * inner, groups * outer
        operation: Any = spec.TransposedConvolution(windows, groups)
    else:
        windows, weight, channels, out = geometry.windows, None, inner, inner
        operation = {
            "max": lambda: spec.MaxPool(windows),
            "average": lambda: spec.AveragePool(windows, draw(st.booleans()), draw(st.sampled_from((None, 3.0)))),
            "norm": lambda: spec.LpPool(windows, draw(st.sampled_from((1.0, 2.0, 3.0, math.inf)))),
            "weighted": lambda: spec.WeightedPool(windows, draw(st.booleans())),
            "stochastic": lambda: spec.StochasticPool(windows, sample=False),
            "pad": lambda: spec.Pad(spec.pad_windows(geometry.ndim, draw(st.integers(0, 3)), geometry.mode), 2.0),
            "convolution": lambda: spec.Convolution(windows, groups),
            "unshared": lambda: spec.Unshared(windows, groups),
        }[kind]()
    try:
        outputs = math.prod(operation.output_size(size))
    except GeometryError:
        assume(False)
    if kind in ("convolution", "unshared"):
        channels, out = groups * inner, groups * outer
        weight = random.normal(size=(out, inner, *taps))
        if kind == "unshared":
            weight = random.normal(size=(*operation.output_size(size), *weight.shape))
    if kind == "weighted":
        weight = random.uniform(0.5, 2, size=(draw(st.sampled_from((1, channels))), *taps))
    assume(outputs * out * math.prod(taps) * inner <= MOST_TERMS)
    bias = None
    if kind in ("convolution", "transposed", "unshared") and draw(st.booleans()):
        bias = random.normal(size=(*operation.output_size(size), out) if kind == "unshared" else (out,))
    return Bound(operation, weight, bias, kind), _input(random, channels, size)


def _input(random: np.random.Generator, channels: int, size: tuple[int, ...]) -> Array:
    return random.normal(size=(channels, *size)).round(1)
