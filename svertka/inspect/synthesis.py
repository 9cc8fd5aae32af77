"""A picture made for a unit: one that excites it most, found by gradient ascent (Olah, Mordvintsev & Schubert 2017).

The ascent goes in a decorrelated basis: the picture is σ(A · F⁻¹(s(f) · θ)), where F⁻¹ is the inverse real Fourier
transform, s(f) grows with the amplitude that pictures have at the frequency f, and A is a root of the covariance of
their colours. So none of the high-frequency patterns and colours win that no picture has. Before each step the picture
is moved, turned and scaled a little at random: what is found must excite the unit from anywhere near.

In a network that has learnt little, or deep in one, that may end below what pictures of a data set do. So, for as long
as the unit is excited less than by each of the pictures that are given to compare with, the ascent goes on: on the
picture as it stands, then with finer patterns (s(f) grows less), then from another start, fine at once.
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

# Of s(f): at 1 all frequencies move alike; above it the low ones move first, and shapes win over patterns.
_SMOOTH = (1.75, 1.0, 0.5)
_COMPARED = 256  # pictures, that those made shall excite their units more than
_RATE = 0.05
_SPREAD = 1.5  # of the waves at most: more would drive all pixels to black or white,
_BRIGHT = 4.0  # and so would a mean beyond this, where no pixel has a slope any more
_STARTS = 15  # of which each unit takes the one that excites it most
_TRIES = 2  # from different starts
_PATIENCE = 4  # steps without a rise, after which they are halved
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
        pictures: uint8 [n, channels, height, width] of the data set, in mixed order: the statistics are
            theirs, and a unit shall be excited more than by the first 256 of them.
        steps: of the ascent on changed pictures, and at most of each that follows.
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
        made.update({result.unit: result for result in ascent.run(steps, pictures, after_step)})
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
    """The pictures of several units of one layer, [units, channels, height, width], on their way up.

    What holds of a unit is decided by the unit alone, whichever others are made with it.
    """

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
        self.amplitude = self._amplitude(_SMOOTH[0])
        starts = self._starts()
        with torch.no_grad():
            maps = self._layer(self._normalised(self._pictures(starts)))
        excited = [[float(_excited(unit, one)) for one in maps] for unit in units]
        self.ranked = [sorted(range(_STARTS), key=lambda i, own=own: -own[i]) for own in excited]  # type: ignore[misc]
        self.starts, self.peaks = starts, [[float(_peak(unit, one)) for one in maps] for unit in units]
        self.theta = [torch.empty_like(starts[0]).requires_grad_() for _ in units]
        self.here = [(-math.inf, starts[0]) for _ in units]  # since the start: the largest peak and where it is
        self.best, self.made = [-math.inf] * len(units), self._pictures(starts[[own[0] for own in self.ranked]])
        self.path: list[list[float]] = [[] for _ in units]

    def run(self, steps: int, pictures: Tensor | None, after_step: Callable[[], None]) -> list[Synthesised]:
        """The ascent on changed pictures; where that is not enough, on the pictures as they are, ever finer ones."""
        low, goals = list(range(len(self.units))), self._goals(pictures)
        for start in range(_TRIES if pictures is not None else 1):
            self._begin(low, start)
            optimiser = self._optimiser(low)
            for step in range(steps if low else 0):
                share = min(1.0, 4 * (1 - step / steps))  # of the changes, which die away
                self._step(low, optimiser, _excited, lambda x, share=share: self._changed(x, share))  # type: ignore[misc]
                after_step()
            for smooth in _SMOOTH if pictures is not None else _SMOOTH[:1]:
                self._sharpen(smooth)
                self._settle(low, steps, goals, after_step)
                low = [i for i in low if self.best[i] < goals[i]]
        made = (self.made * 255).round().to(torch.uint8)
        with torch.no_grad():
            maps = self._layer(self.preprocessing.normalise(made))
        return [
            Synthesised(unit, made[i].numpy(), float(_peak(unit, maps[i])), np.array(self.path[i], np.float32))
            for i, unit in enumerate(self.units)
        ]

    def _starts(self) -> Tensor:
        """Random pictures from almost plain ones to rich ones, each of another brightness and colour."""
        shape = (_STARTS, self.preprocessing.channels, *self.basis.amplitude.shape, 2)
        number = torch.arange(_STARTS).view(-1, 1, 1, 1, 1)
        theta = torch.randn(shape, generator=self.draw) * 0.02 * 2.0 ** (number % 5)
        theta[:, :, :1, :1] += torch.randn((*shape[:2], 1, 1, 1), generator=self.draw) * (number > 0)
        return theta

    def _begin(self, chosen: list[int], rank: int) -> None:
        """At the start that excites each unit most; then at the next one, but finer: shapes have led nowhere."""
        self.amplitude = self._amplitude(_SMOOTH[-1 if rank else 0])
        for i in chosen:
            start = self.ranked[i][rank]
            self.theta[i].data.copy_(self.starts[start])
            self.here[i] = -math.inf if rank else self.peaks[i][start], self.starts[start]

    def _goals(self, pictures: Tensor | None) -> list[float]:
        """By unit what it is to be excited to: a little more than by any of the pictures."""
        if pictures is None:
            return [math.inf] * len(self.units)
        with torch.no_grad():
            compared = pictures[:_COMPARED]
            parts = [compared[i : i + 32] for i in range(0, len(compared), 32)]
            maps = [self._layer(self.preprocessing.normalise(part)) for part in parts]
            peaks = [[float(_peak(unit, one)) for part in maps for one in part] for unit in self.units]
        return [max(own) + 0.05 * (max(own) - sum(own) / len(own)) for own in peaks]

    def _sharpen(self, smooth: float) -> None:
        """Another exponent of the amplitudes, the pictures as they are: the smaller it is, the sooner details come."""
        before, self.amplitude = self.amplitude, self._amplitude(smooth)
        as_before = (before / self.amplitude)[None, :, :, None]
        for i, theta in enumerate(self.theta):
            theta.data *= as_before
            self.here[i] = self.here[i][0], self.here[i][1] * as_before

    def _settle(self, chosen: list[int], steps: int, goals: list[float], after_step: Callable[[], None]) -> None:
        """Up on the pictures as they are. A unit that rises no more goes back to its best, and on in smaller steps."""
        optimiser, waited = self._optimiser(chosen), dict.fromkeys(chosen, 0)
        for _ in range(steps if chosen else 0):
            before = [self.theta[i].detach().clone() for i in chosen]
            self._step(chosen, optimiser, _peak, lambda x: x)
            after_step()
            for i, theta, group in zip(chosen, before, optimiser.param_groups, strict=True):
                now, peak = self.path[i][-1], self.here[i][0]
                waited[i] = 0 if now > peak + 0.002 * abs(peak) else waited[i] + 1
                if now > peak:
                    self.here[i] = now, theta
                if waited[i] == _PATIENCE:
                    self.theta[i].data.copy_(self.here[i][1])
                    optimiser.state.pop(self.theta[i])
                    group["lr"], waited[i] = group["lr"] / 2, 0
            rates = [group["lr"] for group in optimiser.param_groups]
            if all(self.best[i] >= goals[i] or rate < _RATE / 8 for i, rate in zip(chosen, rates, strict=True)):
                break
        for i in chosen:
            self.theta[i].data.copy_(self.here[i][1])

    def _optimiser(self, chosen: list[int]) -> torch.optim.Optimizer:
        return torch.optim.Adam([{"params": [self.theta[i]]} for i in chosen] or [torch.zeros(1)], lr=_RATE)

    def _step(
        self,
        chosen: list[int],
        optimiser: torch.optim.Optimizer,
        raised: Callable[[Unit, Tensor], Tensor],
        changed: Callable[[Tensor], Tensor],
    ) -> None:
        """One step up of some units; notes how far they had come."""
        pictures = self._pictures(torch.stack([self.theta[i] for i in chosen]))
        maps = self._layer(self._normalised(changed(pictures)))
        goal = torch.stack([raised(self.units[i], own) for i, own in zip(chosen, maps, strict=True)]).sum()
        thetas = [self.theta[i] for i in chosen]
        for theta, slope in zip(thetas, torch.autograd.grad(-goal, thetas), strict=True):
            theta.grad = slope
        optimiser.step()
        for i, own, picture in zip(chosen, maps.detach(), pictures.detach(), strict=True):
            peak = float(_peak(self.units[i], own))
            self.path[i].append(peak)
            if raised is _peak and peak > self.best[i]:
                self.best[i], self.made[i] = peak, picture

    def _pictures(self, theta: Tensor) -> Tensor:
        """0 … 1, [n, channels, height, width]."""
        size = self.preprocessing.size
        spectrum = torch.view_as_complex(theta) * self.amplitude
        waves = 4 * torch.fft.irfft2(spectrum, s=size, norm="ortho")
        mean = waves.mean(dim=(2, 3), keepdim=True)
        spread = (waves - mean).flatten(1).std(dim=1).clamp(min=_SPREAD)[:, None, None, None]
        bounded = (waves - mean) * (_SPREAD / spread) + mean / (1 + mean.abs() / _BRIGHT)
        return torch.einsum("ij,njhw->nihw", self.basis.colours, bounded).sigmoid()

    def _changed(self, pictures: Tensor, share: float) -> Tensor:
        """Moved by up to a tenth of the side, turned by 10°, scaled by a tenth, or a share of that."""
        count = len(pictures)
        draws = (share * (2 * torch.rand(4, 1, generator=self.draw) - 1)).expand(4, count)
        angle, scale, shift = draws[0] * math.pi / 18, 1 + draws[1] / 10, draws[2:] / 5
        cos, sin = angle.cos() * scale, angle.sin() * scale
        rows = torch.stack([cos, -sin, shift[0]], -1), torch.stack([sin, cos, shift[1]], -1)
        grid = F.affine_grid(torch.stack(rows, 1), list(pictures.shape), align_corners=False)
        return F.grid_sample(pictures, grid, mode="bilinear", padding_mode="reflection", align_corners=False)

    def _amplitude(self, smooth: float) -> Tensor:
        return self.basis.amplitude**smooth / (self.basis.amplitude**smooth).mean()

    def _normalised(self, pictures: Tensor) -> Tensor:
        mean, std = (torch.tensor(v).view(-1, 1, 1) for v in (self.preprocessing.mean, self.preprocessing.std))
        return (pictures - mean) / std

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
