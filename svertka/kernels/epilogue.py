"""What happens to a tile before it is stored: y = activation(scale · sum + bias + residual)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from svertka.kernels.emit import Emitter, Value
from svertka.spec import Activation


@dataclass(frozen=True)
class Epilogue:
    """What is done to each sum, in this order: times scale[channel], plus bias[channel], plus residual, activation."""

    bias: bool = False
    scale: bool = False
    residual: bool = False
    activation: Activation | None = None

    def __str__(self) -> str:
        parts = [name for name in ("scale", "bias", "residual") if getattr(self, name)]
        return "+".join([*parts, *([self.activation.name] if self.activation else [])])


NOTHING = Epilogue()


def activate(e: Emitter, activation: Activation | None, x: Value) -> Value:
    """The activation of a vector."""
    return x if activation is None else ACTIVATIONS[activation.name](e, x, activation.slope)


def _relu(e: Emitter, x: Value, _: float) -> Value:
    # NaN stays NaN, as in torch: the comparison is false for it.
    return e.b.select(e.b.fcmp_ordered("<", x, e.splat(0.0)), e.splat(0.0), x)


def _clamped(e: Emitter, x: Value, low: float, high: float) -> Value:
    x = e.b.select(e.b.fcmp_ordered("<", x, e.splat(low)), e.splat(low), x)
    return e.b.select(e.b.fcmp_ordered(">", x, e.splat(high)), e.splat(high), x)


def _relu6(e: Emitter, x: Value, _: float) -> Value:
    return _clamped(e, x, 0.0, 6.0)


def _hardtanh(e: Emitter, x: Value, _: float) -> Value:
    return _clamped(e, x, -1.0, 1.0)


def _leaky_relu(e: Emitter, x: Value, slope: float) -> Value:
    return e.b.select(e.b.fcmp_ordered("<", x, e.splat(0.0)), e.b.fmul(x, e.splat(slope)), x)


def _hardsigmoid(e: Emitter, x: Value, _: float) -> Value:
    return e.b.fmul(_clamped(e, e.b.fadd(x, e.splat(3.0)), 0.0, 6.0), e.splat(1 / 6))


def _hardswish(e: Emitter, x: Value, _: float) -> Value:
    return e.b.fmul(x, _hardsigmoid(e, x, 0.0))


def exp(e: Emitter, x: Value) -> Value:
    """eˣ = 2ⁿ · eʳ, n = round(x / ln 2), |r| ≤ ln 2 / 2; eʳ by its series to r⁷: within 2 ulp from −87.3 to 88.3.

    Below the result is 0, above it is ∞; NaN stays.
    """
    tiny = e.b.fcmp_ordered("<", x, e.splat(-87.3))
    x = _clamped(e, x, -87.3, 89.0)
    n = e.call("llvm.roundeven", e.b.fmul(x, e.splat(1 / math.log(2))))
    high = math.ldexp(round(math.ldexp(math.log(2), 12)), -12)  # n · high is exact
    r = e.fma(n, e.splat(-high), x)
    r = e.fma(n, e.splat(high - math.log(2)), r)
    y = e.splat(1 / math.factorial(7))
    for power in range(6, -1, -1):
        y = e.fma(y, r, e.splat(1 / math.factorial(power)))
    number = e.b.select(e.b.fcmp_unordered("uno", n, n), e.splat(0.0), n)
    exponent = e.b.add(e.b.fptosi(number, e.indices), e.splat_index(127))
    scale = e.b.bitcast(e.b.shl(exponent, e.splat_index(23)), e.vector)
    return e.b.select(tiny, e.splat(0.0), e.b.fmul(y, scale))


def _sigmoid(e: Emitter, x: Value, _: float) -> Value:
    one = e.splat(1.0)
    return e.b.fdiv(one, e.b.fadd(one, exp(e, e.b.fneg(x))))


def _silu(e: Emitter, x: Value, _: float) -> Value:
    return e.b.fdiv(x, e.b.fadd(e.splat(1.0), exp(e, e.b.fneg(x))))


def _tanh(e: Emitter, x: Value, _: float) -> Value:
    """1 − 2 / (e^(2|x|) + 1) with the sign of x; x − x³/3 + 2x⁵/15 − 17x⁷/315 + 62x⁹/2835 where |x| < 0.35."""
    size = e.call("llvm.fabs", x)
    large = e.b.fsub(e.splat(1.0), e.b.fdiv(e.splat(2.0), e.b.fadd(exp(e, e.b.fadd(size, size)), e.splat(1.0))))
    square = e.b.fmul(size, size)
    series = e.splat(-1382 / 155925)
    for factor in (62 / 2835, -17 / 315, 2 / 15, -1 / 3):
        series = e.fma(series, square, e.splat(factor))
    small = e.fma(e.b.fmul(series, square), size, size)
    result = e.b.select(e.b.fcmp_ordered("<", size, e.splat(0.35)), small, large)
    return e.call("llvm.copysign", result, x)


# erf(x) = x · P(2x²/r² − 1) for |x| < r, P of degree 14, whose largest error times x is the least possible one, 6·10⁻⁸;
# beyond, erf is 1 but for 8·10⁻⁸.
_ERF_REACH = 3.8
_ERF = (
    0.37210762, -0.185641242, 0.137739625, -0.11118414, 0.0908301629, -0.0725295672, 0.0550774103, -0.0388817526,
    0.0266153808, -0.0184472157, 0.0100929795, -0.00319331397, 0.00223925297, -0.00273335109, 0.00106604004,
)  # fmt: skip


def _erf(e: Emitter, x: Value) -> Value:
    """erf, to 2·10⁻⁷."""
    t = e.fma(e.b.fmul(x, x), e.splat(2 / _ERF_REACH**2), e.splat(-1.0))
    y = e.splat(_ERF[-1])
    for factor in reversed(_ERF[:-1]):
        y = e.fma(y, t, e.splat(factor))
    inside = e.b.fcmp_ordered("<", e.call("llvm.fabs", x), e.splat(_ERF_REACH))
    return e.b.select(inside, e.b.fmul(x, y), e.call("llvm.copysign", e.splat(1.0), x))


def normal(e: Emitter, x: Value) -> Value:
    """Φ(x) = (1 + erf(x / √2)) / 2, to 10⁻⁷: the share of normal numbers below x."""
    half = e.splat(0.5)
    return e.fma(half, _erf(e, e.b.fmul(x, e.splat(math.sqrt(0.5)))), half)


def _gelu(e: Emitter, x: Value, _: float) -> Value:
    half = e.b.fmul(x, e.splat(0.5))
    return e.fma(half, _erf(e, e.b.fmul(x, e.splat(math.sqrt(0.5)))), half)


COSTLY = ("silu", "gelu", "sigmoid", "tanh")  # in instructions, and so in time to compile
ACTIVATIONS: dict[str, Callable[[Emitter, Value, float], Value]] = {
    "relu": _relu,
    "relu6": _relu6,
    "leaky_relu": _leaky_relu,
    "silu": _silu,
    "gelu": _gelu,
    "sigmoid": _sigmoid,
    "tanh": _tanh,
    "hardtanh": _hardtanh,
    "hardsigmoid": _hardsigmoid,
    "hardswish": _hardswish,
}
