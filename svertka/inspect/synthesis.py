"""A picture made for a unit: one that excites it most, found by gradient ascent (Olah, Mordvintsev & Schubert 2017).

The ascent goes in a decorrelated basis: the picture is σ(A · F⁻¹(s(f) · θ)), where F⁻¹ is the inverse real Fourier
transform, s(f) grows with the amplitude that pictures have at the frequency f, and A is a root of the covariance of
their colours. So none of the high-frequency patterns and colours win that no picture has. Before each step the picture
is moved, turned and scaled a little at random: what is found must excite the unit from anywhere near.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from svertka.errors import GeometryError
from svertka.inspect.recording import Layer, layers, named, private, record

if TYPE_CHECKING:
    from svertka.vision.pictures import Preprocessing

_SMOOTH = 1.75  # at 1 all frequencies move alike; above it the low ones move first, and shapes win over patterns
_RATE = 0.05
_SPREAD = 1.5  # of the waves at most: more would drive all pixels to black or white
_NATURAL = 0.7  # correlation of the colours of a picture of which nothing is known


@dataclass(frozen=True)
class Unit:
    """What is to be excited.

    Args:
        layer: its name.
        channel: the channel of maps, or the unit of a dense layer (in the last one, the class).
        place: one place of the map; None: the channel as a whole, wherever it is excited.
    """

    layer: str
    channel: int
    place: tuple[int, ...] | None = None


@dataclass(frozen=True, eq=False)
class Synthesised:
    """The picture that was made for a unit.

    Args:
        unit: which.
        picture: uint8 [channels, height, width].
        excitation: the largest value of the unit's map on it (at its place, if it has one), as a data set's are
            measured by `exciting`.
        path: the same in the course of the ascent, on the changed pictures.
    """

    unit: Unit
    picture: npt.NDArray[np.uint8]
    excitation: float
    path: npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Statistics:
    """What the pictures of a data set have in common.

    Args:
        amplitude: float32 [height, width // 2 + 1]: root mean square at each frequency, its mean 1.
        colours: float32 [channels, channels]: a root of the covariance of the colours, its largest row of norm 1.
    """

    amplitude: Tensor
    colours: Tensor


def statistics(pictures: Tensor) -> Statistics:
    """Of uint8 or float pictures [n, channels, height, width], the more the better: some hundred are enough."""
    x = pictures.double()
    x = x - x.mean(dim=(0, 2, 3), keepdim=True)
    power = torch.fft.rfft2(x, norm="ortho").abs().square().mean(dim=(0, 1))
    power[0, 0] = power.flatten()[1:].max()  # the mean brightness is free to move as the slowest wave is
    amplitude = power.sqrt().clamp(min=1e-3 * float(power.sqrt().max()))
    flat = x.transpose(0, 1).flatten(1)
    values, vectors = torch.linalg.eigh(flat @ flat.T / flat.shape[1])
    root = vectors @ torch.diag(values.clamp(min=0).sqrt()) @ vectors.T
    largest = root.norm(dim=1).max().clamp(min=1e-12)
    return Statistics((amplitude / amplitude.mean()).float(), (root / largest).float())


def usual_statistics(channels: int, size: tuple[int, int]) -> Statistics:
    """Of natural pictures, when there are none to look at: amplitude ∝ 1/frequency, colours that mostly agree."""
    rows, columns = torch.fft.fftfreq(size[0])[:, None], torch.fft.rfftfreq(size[1])[None]
    amplitude = 1 / (rows**2 + columns**2).sqrt().clamp(min=1 / max(size))
    covariance = torch.full((channels, channels), _NATURAL) + (1 - _NATURAL) * torch.eye(channels)
    values, vectors = torch.linalg.eigh(covariance)
    return Statistics(amplitude / amplitude.mean(), vectors @ torch.diag(values.sqrt()) @ vectors.T)


def synthesise(
    model: nn.Module,
    units: Sequence[Unit],
    preprocessing: Preprocessing,
    pictures: Tensor | None = None,
    *,
    steps: int = 160,
    seed: int = 0,
    progress: Callable[[Iterable[Any]], Iterable[Any]] = iter,
    after_step: Callable[[], None] = lambda: None,
) -> tuple[Synthesised, ...]:
    """Pictures that excite units most; those of one layer are made together.

    Args:
        model: that takes pictures.
        units: which; `Unit("dense.3", 7)` in the last layer is class 7.
        preprocessing: the model's.
        pictures: uint8 [n, channels, height, width] of the data set, from which the statistics are taken.
        steps: of the ascent.
        seed: decides the start and all changes.
        progress: goes round the layers, such as a bar.
        after_step: called after each step; it may raise to stop.

    Raises:
        GeometryError: if there is no such layer or unit.
    """
    size = (preprocessing.channels, *preprocessing.size)
    found, own = layers(model, size), private(model)
    basis = usual_statistics(size[0], preprocessing.size) if pictures is None else statistics(pictures)
    groups: dict[Layer, list[Unit]] = {}
    for unit in units:
        layer = named(found, unit.layer)
        _check(unit, layer)
        groups.setdefault(layer, []).append(unit)
    made: dict[Unit, Synthesised] = {}
    for layer in progress(list(groups)):
        ascent = _Ascent(own, layer, groups[layer], preprocessing, basis, seed)
        made.update({result.unit: result for result in ascent.run(steps, after_step)})
    return tuple(made[unit] for unit in units)


def _check(unit: Unit, layer: Layer) -> None:
    if not 0 <= unit.channel < layer.output[0]:
        raise GeometryError(f"{layer.name} has the units 0 to {layer.output[0] - 1}, not {unit.channel}: choose one")
    if unit.place is not None and not (
        len(unit.place) == len(layer.output) - 1
        and all(0 <= i < n for i, n in zip(unit.place, layer.output[1:], strict=True))
    ):
        raise GeometryError(f"{layer.name} has maps of {layer.output[1:]} without a place {unit.place}: choose another")


class _Ascent:
    """The pictures of several units of one layer, [units, channels, height, width], on their way up."""

    def __init__(
        self,
        model: nn.Module,
        layer: Layer,
        units: Sequence[Unit],
        preprocessing: Preprocessing,
        basis: Statistics,
        seed: int,
    ) -> None:
        self.model, self.layer, self.units, self.preprocessing = model, layer, units, preprocessing
        self.basis, self.draw = basis, torch.Generator().manual_seed(seed)
        self.amplitude = basis.amplitude**_SMOOTH / (basis.amplitude**_SMOOTH).mean()
        rows, columns = basis.amplitude.shape
        # Each picture begins alike, whichever others are made with it.
        start = torch.randn(1, preprocessing.channels, rows, columns, 2, generator=self.draw) * 0.05
        self.theta = start.repeat(len(units), 1, 1, 1, 1).requires_grad_()

    def run(self, steps: int, after_step: Callable[[], None]) -> list[Synthesised]:
        optimiser = torch.optim.Adam([self.theta], lr=_RATE)
        path = np.zeros((steps, len(self.units)), np.float32)
        for step in range(steps):
            ease = min(
                1.0, 4 * (1 - step / steps)
            )  # at the end the picture stands still, so that it is fitted as it is
            maps = self._layer(self._changed(self._pictures(), ease))
            goal = torch.stack([_excited(unit, maps[i]) for i, unit in enumerate(self.units)])
            path[step] = [float(_peak(unit, maps[i].detach())) for i, unit in enumerate(self.units)]
            optimiser.zero_grad()
            (self.theta.grad,) = torch.autograd.grad(-goal.sum(), self.theta)
            optimiser.step()
            after_step()
        with torch.no_grad():
            pictures = (self._pictures() * 255).round().to(torch.uint8)
            maps = self._layer(self.preprocessing.normalise(pictures))
        return [
            Synthesised(unit, pictures[i].numpy(), float(_peak(unit, maps[i])), path[:, i])
            for i, unit in enumerate(self.units)
        ]

    def _pictures(self) -> Tensor:
        """0 … 1, [units, channels, height, width]."""
        size = self.preprocessing.size
        spectrum = torch.view_as_complex(self.theta) * self.amplitude
        waves = 4 * torch.fft.irfft2(spectrum, s=size, norm="ortho")
        spread = waves.flatten(1).std(dim=1).clamp(min=_SPREAD)[:, None, None, None]
        return torch.einsum("ij,njhw->nihw", self.basis.colours, waves * (_SPREAD / spread)).sigmoid()

    def _changed(self, pictures: Tensor, share: float) -> Tensor:
        """Moved by up to a tenth of the side, turned by 10°, scaled by a tenth, or a share of that; then normalised."""
        count = len(pictures)
        mean, std = (torch.tensor(v).view(-1, 1, 1) for v in (self.preprocessing.mean, self.preprocessing.std))
        draws = (share * (2 * torch.rand(4, 1, generator=self.draw) - 1)).expand(4, count)
        angle, scale, shift = draws[0] * math.pi / 18, 1 + draws[1] / 10, draws[2:] / 5
        cos, sin = angle.cos() * scale, angle.sin() * scale
        rows = torch.stack([cos, -sin, shift[0]], -1), torch.stack([sin, cos, shift[1]], -1)
        grid = F.affine_grid(torch.stack(rows, 1), list(pictures.shape), align_corners=False)
        moved = F.grid_sample(pictures, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
        return (moved - mean) / std

    def _layer(self, x: Tensor) -> Tensor:
        output: Tensor = record(self.model, x, [self.layer])[self.layer]
        return output


def _excited(unit: Unit, maps: Tensor) -> Tensor:
    """What is raised: the unit's value at its place, or the mean of the largest twentieth of its map."""
    own = maps[unit.channel]
    if unit.place is not None:
        return own[unit.place]
    return own.flatten().topk(max(1, own.numel() // 20)).values.mean()


def _peak(unit: Unit, maps: Tensor) -> Tensor:
    own = maps[unit.channel]
    return own.max() if unit.place is None else own[unit.place]
