"""Windows drawn at random: every mode, named and one-sided paddings, padding wider than kernel and input."""

from dataclasses import dataclass
from typing import Any

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings

from svertka import spec
from svertka.window import MODES, Window

SEEDS = st.integers(0, 2**32 - 1)
drawn = settings(
    deadline=None, derandomize=True, max_examples=80, suppress_health_check=[HealthCheck.too_slow], database=None
)


@dataclass(frozen=True)
class Geometry:
    """An input size and the arguments that torch's operations take for a window."""

    size: tuple[int, ...]
    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: Any
    dilation: tuple[int, ...]
    mode: str
    ceil_mode: bool

    @property
    def ndim(self) -> int:
        return len(self.size)

    @property
    def windows(self) -> tuple[Window, ...]:
        return spec.windows(
            self.ndim, self.kernel_size, self.stride, self.padding, self.dilation, self.mode, self.ceil_mode
        )

    @property
    def taps(self) -> int:
        taps = 1
        for size in self.kernel_size:
            taps *= size
        return taps


@st.composite
def geometries(
    draw: st.DrawFn, *, modes: tuple[str, ...] = MODES, numeric: bool = False, ceil: bool = False, dilated: bool = True
) -> Geometry:
    """A geometry on 1 to 3 axes in which at least one window fits.

    Args:
        modes: the padding modes to draw from.
        numeric: paddings in numbers only.
        ceil: draw `ceil_mode`, too.
        dilated: draw dilations.
    """
    ndim = draw(st.integers(1, 3))
    named = st.sampled_from(("valid", "same", "same_upper", "same_lower"))
    numbers = st.integers(0, 5) | st.tuples(st.integers(0, 5), st.integers(0, 5))
    whole = None if numeric else draw(st.none() | named)
    axes = []
    for _ in range(ndim):
        kernel = draw(st.integers(1, 4 if ndim < 3 else 3))
        dilation = draw(st.integers(1, 3)) if dilated else 1
        padding = whole or draw(numbers if numeric else numbers | named)
        stride = 1 if padding == "same" else draw(st.integers(1, 3))
        before, after = (
            (0, 0) if isinstance(padding, str) else padding if isinstance(padding, tuple) else (padding,) * 2
        )
        extent = (kernel - 1) * dilation + 1
        # The SAME names fit any input, all else needs one tap's extent.
        least = 1 if isinstance(padding, str) and padding != "valid" else max(1, extent - before - after)
        size = draw(st.integers(least, least + (5 if ndim < 3 else 3)))
        axes.append((size, kernel, stride, padding, dilation))
    size, kernel, stride, paddings, dilation = zip(*axes, strict=True)
    return Geometry(
        size,
        kernel,
        stride,
        whole or list(paddings),
        dilation,
        draw(st.sampled_from(modes)),
        ceil and draw(st.booleans()),
    )
