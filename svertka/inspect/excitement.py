"""Which pictures of a data set, and which parts of them, excite the units of a network most."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from svertka.errors import DataError
from svertka.inspect.recording import Layer, batches_of, before_nonlinearities, layers, named, private, record

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Excitement:
    """What excites the units (channels) of one layer. A picture's excitation is the largest value of the unit's map.

    Args:
        layer: which one.
        values: float32 [units, k]: the largest excitations, falling.
        pictures: int64 [units, k]: the pictures they are of: the batches' indices, or else counted from 0.
        places: int64 [units, k, axes]: where in the map; without axes in a dense layer.
        mean, std: float64 [units]: of the excitations by all pictures.
        count: how many pictures there were.
        beaten: by unit the share of pictures that excite it less than the value that was given to compare with.
    """

    layer: Layer
    values: npt.NDArray[np.float32]
    pictures: Ints
    places: Ints
    mean: npt.NDArray[np.float64]
    std: npt.NDArray[np.float64]
    count: int
    beaten: Mapping[int, float]

    @property
    def outstanding(self) -> npt.NDArray[np.float64]:
        """How far the k largest excitations stand out: (their mean − mean of all) / standard deviation; 0 if dead."""
        peaks = self.values.mean(axis=1, dtype=np.float64)
        found: npt.NDArray[np.float64] = np.divide(
            peaks - self.mean, self.std, out=np.zeros_like(peaks), where=self.std > 1e-12
        )
        return found

    def best(self, most: int) -> Ints:
        """The units that stand out most, the best first."""
        found: Ints = np.argsort(-self.outstanding, kind="stable")[:most]
        return found

    def seen(self, unit: int, rank: int, size: Sequence[int]) -> tuple[tuple[int, int], ...] | None:
        """(first, last) row and column of the picture that excite the unit: what the place sees; None if not known."""
        return self.layer.seen_by(self.places[unit, rank].tolist(), size)


def exciting(
    model: nn.Module,
    pictures: Any,
    wanted: Sequence[str] | None = None,
    *,
    most: int = 9,
    against: Mapping[str, Mapping[int, float]] | None = None,
    progress: Callable[[Iterable[Any]], Iterable[Any]] = iter,
) -> tuple[Excitement, ...]:
    """Stream pictures through a network and keep those that excite each unit of some layers most.

    Memory does not grow with their number. Of equal excitations the earlier picture comes first.

    Args:
        model: any that takes one tensor [N, channels, *size].
        pictures: gives batches, float [N, channels, *size] as the model gets them, or batches of `svertka.vision`.
        wanted: names of layers; None: those before nonlinearities, and the last one.
        most: k, how many to keep for each unit.
        against: by layer and unit a value; `beaten` tells how many pictures excite the unit less.
        progress: goes round the batches, such as a bar.

    Raises:
        DataError: if there are no pictures.
    """
    own, tallies = private(model), dict[Layer, _Tally]()
    with torch.no_grad():
        for images, numbers in progress(batches_of(pictures)):
            if not tallies:
                found = layers(model, tuple(images.shape[1:]))
                chosen = before_nonlinearities(found) if wanted is None else [named(found, name) for name in wanted]
                tallies.update({layer: _Tally(layer, most, (against or {}).get(layer.title, {})) for layer in chosen})
            outputs = record(own, images, list(tallies), lambda _, output: _Peaks.of(output))
            for layer, peaks in outputs.items():
                tallies[layer].add(peaks, numbers)
    if not tallies:
        raise DataError("there are no pictures to excite the network with: give some")
    return tuple(tally.result() for tally in tallies.values())


@dataclass(frozen=True, eq=False)
class _Peaks:
    """The largest value of each unit's map on each picture, and where it is: both [units, N]."""

    values: Tensor
    places: Tensor

    @classmethod
    def of(cls, output: Tensor) -> _Peaks:
        maps = output.detach().float().cpu()
        values, places = (maps.flatten(2) if maps.ndim > 2 else maps[:, :, None]).max(2)
        return cls(values.T, places.T)


class _Tally:
    """The largest excitations so far of one layer's units, and sums over all."""

    def __init__(self, layer: Layer, most: int, against: Mapping[int, float]) -> None:
        self.layer, self.most, self.against = layer, most, against
        units, axes = layer.output[0], len(layer.output) - 1
        self.values, self.pictures = torch.empty(units, 0), torch.empty(units, 0, dtype=torch.int64)
        self.places = torch.empty(units, 0, dtype=torch.int64)
        self.axes, self.count = axes, 0
        self.mean, self.squares = torch.zeros(units, dtype=torch.float64), torch.zeros(units, dtype=torch.float64)
        self.below = dict.fromkeys(against, 0)

    def add(self, peaks: _Peaks, numbers: Tensor) -> None:
        """Takes in a batch, whose pictures have these numbers."""
        for unit, value in self.against.items():
            self.below[unit] += int((peaks.values[unit] < value).sum())
        self._count(peaks.values.double())
        values = torch.cat([self.values, peaks.values], 1)
        order = values.sort(dim=1, descending=True, stable=True).indices[:, : self.most]
        pictures = torch.cat([self.pictures, numbers.expand_as(peaks.values)], 1)
        places = torch.cat([self.places, peaks.places], 1)
        self.values, self.pictures, self.places = (every.gather(1, order) for every in (values, pictures, places))

    def _count(self, values: Tensor) -> None:
        """Mean and sum of squared distances from it, batch by batch (Chan et al. 1979)."""
        n, before = values.shape[1], self.count
        mean = values.mean(1)
        shift, self.count = mean - self.mean, before + n
        self.mean += shift * n / self.count
        self.squares += ((values - mean[:, None]) ** 2).sum(1) + shift**2 * before * n / self.count

    def result(self) -> Excitement:
        size = self.layer.output[1:]
        places = np.stack(np.unravel_index(self.places.numpy(), size), -1) if self.axes else None
        return Excitement(
            self.layer,
            self.values.numpy(),
            self.pictures.numpy(),
            np.zeros((*self.pictures.shape, 0), np.int64) if places is None else places.astype(np.int64),
            self.mean.numpy(),
            (self.squares / max(self.count, 1)).sqrt().numpy(),
            self.count,
            {unit: below / max(self.count, 1) for unit, below in self.below.items()},
        )
