"""Random changes of training pictures that leave their class as it is: whole batches, plain tensor operations."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from svertka.errors import DataError


@dataclass(frozen=True)
class Augmentation:
    """What may happen to a picture each time it is shown; the default is nothing.

    shift     up to this many pixels in each direction; the edge pixels are repeated into the gap
    flip      left and right are exchanged for half of the pictures (not for digits, letters or arrows)
    crop      a random part, its sides 1 − crop … 1 of the picture's, is scaled up to the full size; 0 ≤ crop < 1
    contrast  the distance from the picture's mean is multiplied by 1 − contrast … 1 + contrast; 0 ≤ contrast ≤ 1

    Raises DataError if a value is not possible.
    """

    shift: int = 0
    flip: bool = False
    crop: float = 0.0
    contrast: float = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.shift, int) or self.shift < 0:
            raise DataError(f"the shift {self.shift} is not a number of pixels: give 0 or a positive whole number")
        if not 0 <= self.crop < 1:
            raise DataError(f"the crop {self.crop} is not the share of a side: give a number from 0 to below 1")
        if not 0 <= self.contrast <= 1:
            raise DataError(f"the contrast {self.contrast} is not a share: give a number from 0 to 1")

    def __call__(
        self,
        batch: torch.Tensor,
        generator: torch.Generator,
        places: torch.Tensor | None = None,
        count: int | None = None,
    ) -> torch.Tensor:
        """uint8 or float [B, C, H, W] → the same shape and type, each picture changed by itself.

        The draws depend on `generator` and the number of pictures only. If `batch` is only what stands at `places`
        (int64 [B]) among `count` pictures, each is changed as it would be among all. uint8 is rounded and stays within
        0..255.
        """
        if not len(batch):
            return batch
        draw = _Draw(generator, len(batch) if count is None else count, places)
        if self.crop:
            batch = _as(batch.dtype, _crop(batch.float(), self.crop, draw))
        if self.shift or self.flip:
            batch = _shift_and_flip(batch, self.shift, self.flip, draw)
        if self.contrast:
            batch = _as(batch.dtype, _contrast(batch, self.contrast, draw))
        return batch


@dataclass(frozen=True)
class _Draw:
    """Random numbers for `count` pictures, of which those at `places` are used; None: all."""

    generator: torch.Generator
    count: int
    places: torch.Tensor | None

    def uniform(self, rows: int) -> torch.Tensor:
        """float32 [rows, B] in 0..1."""
        return self._used(torch.rand(rows, self.count, generator=self.generator))

    def integers(self, low: int, high: int, rows: int) -> torch.Tensor:
        """int64 [rows, B] in low..high."""
        return self._used(torch.randint(low, high + 1, (rows, self.count), generator=self.generator))

    def _used(self, drawn: torch.Tensor) -> torch.Tensor:
        return drawn if self.places is None else drawn[:, self.places]


def _as(dtype: torch.dtype, values: torch.Tensor) -> torch.Tensor:
    return values.to(dtype) if dtype.is_floating_point else values.round_().clamp_(0, 255).to(dtype)


def _crop(batch: torch.Tensor, crop: float, draw: _Draw) -> torch.Tensor:
    draws = draw.uniform(3)
    side = 1 - crop * draws[0]
    theta = torch.zeros(len(batch), 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = side
    theta[:, :, 2] = ((2 * draws[1:] - 1) * (1 - side)).T  # the centre of the part, in −1..1
    grid = F.affine_grid(theta, list(batch.shape), align_corners=False)
    return F.grid_sample(batch, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _shift_and_flip(batch: torch.Tensor, shift: int, flip: bool, draw: _Draw) -> torch.Tensor:
    count, channels, height, width = batch.shape
    offsets = draw.integers(-shift, shift, 2)[:, :, None]
    rows = (torch.arange(height) + offsets[0]).clamp_(0, height - 1)
    columns = (torch.arange(width) + offsets[1]).clamp_(0, width - 1)
    if flip:
        turned = draw.uniform(1)[0, :, None] < 0.5
        columns = torch.where(turned, width - 1 - columns, columns)
    places = (rows[:, :, None] * width + columns[:, None, :]).view(count, 1, -1)
    return batch.flatten(2).gather(2, places.expand(count, channels, -1)).view(batch.shape)


def _contrast(batch: torch.Tensor, contrast: float, draw: _Draw) -> torch.Tensor:
    factor = 1 + contrast * (2 * draw.uniform(1).view(-1, 1, 1, 1) - 1)
    # NumPy's mean is of one thread, so that its bits do not depend on their number.
    mean = torch.from_numpy(batch.flatten(1).numpy().mean(1, dtype=np.float64)).float().view(-1, 1, 1, 1)
    return batch.to(torch.float32, copy=True).mul_(factor).add_(mean * (1 - factor))
