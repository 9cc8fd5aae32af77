"""From a split to batches for the network: decoded by worker processes once, kept while they fit, then served from memory."""

import gc
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from svertka.errors import DataError
from svertka.vision.augment import Augmentation
from svertka.vision.pictures import PictureError, Preprocessing

if TYPE_CHECKING:
    from svertka.vision.datasets import Split

_UNKNOWN, _CACHED, _UNREADABLE = 0, 1, 2
_ORDER, _CHANGES = 0, 1  # what is drawn


@dataclass(frozen=True)
class Batch:
    """images float32 [B, C, H, W], normalised and augmented; labels int64 [B]; indices int64 [B] into the split; the step of the epoch."""

    images: torch.Tensor
    labels: torch.Tensor
    indices: torch.Tensor
    step: int


class Batches:
    """The batches of one split, epoch after epoch.

    A batch is a function of (seed, epoch, step) and the pictures alone: neither the number of workers, nor what is in memory,
    nor where the epoch is entered changes it, so that nothing has to be saved to go on after a stop. torch's global generator is not
    touched.

    batch_size   pictures in a batch; the last has what is left. When shuffling, a single one left is dropped, since batch
                 normalisation can't train on it.
    workers      processes that decode files; None: one per usable core; 0: this process does
    cache_bytes  up to this much memory keeps decoded pictures as uint8; pictures beyond it are decoded again in each epoch, a few
                 batches ahead
    skipped      gets name → reason of each unreadable picture when it is first met; its place in the batch is left out, and a batch
                 of which nothing is left is not given (`Batch.step` says which one each is). Several splits can share one.
    strict       the first unreadable picture raises PictureError instead
    """

    def __init__(
        self,
        split: "Split",
        preprocessing: Preprocessing,
        batch_size: int,
        *,
        shuffle: bool,
        seed: int,
        augmentation: Augmentation | None = None,
        workers: int | None = None,
        cache_bytes: int = 1 << 30,
        skipped: dict[str, str] | None = None,
        strict: bool = False,
    ) -> None:
        for name, value, least in (
            ("batch size", batch_size, 1),
            ("seed", seed, 0),
            ("number of workers", workers or 0, 0),
        ):
            if value < least:
                raise DataError(f"the {name} {value} is not possible: give {least} or more.")
        self.split, self.preprocessing, self.augmentation = split, preprocessing, augmentation
        self.batch_size, self.shuffle, self.seed, self.strict = batch_size, shuffle, seed, strict
        self.workers = usable_cores() if workers is None else workers
        self.skipped: dict[str, str] = {} if skipped is None else skipped
        self._shape = (preprocessing.channels, *preprocessing.size)
        self._state = torch.full((len(split),), _UNKNOWN, dtype=torch.uint8)
        if split.pixels is not None and split.pixels.shape[1:] == self._shape:
            self._cache = split.pixels
            self._state.fill_(_CACHED)
        else:
            picture_bytes = int(np.prod(self._shape))
            self._cache = torch.empty(min(len(split), cache_bytes // picture_bytes), *self._shape, dtype=torch.uint8)

    def __len__(self) -> int:
        """Steps per epoch."""
        whole, rest = divmod(len(self.split), self.batch_size)
        return whole + (rest > (1 if self.shuffle and whole else 0))

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of one epoch from the step `start` on. Raises PictureError if `strict`, DataError if a worker dies."""
        steps = list(self._order(epoch).split(self.batch_size))[start : len(self)]
        unknown = [indices[self._state[indices] == _UNKNOWN] for indices in steps]
        decoded = self._decoded([indices.tolist() for indices in unknown if len(indices)])
        try:
            for step, (indices, missing) in enumerate(zip(steps, unknown, strict=True), start):
                kept, pixels = self._gathered(indices, missing, decoded)
                if len(kept):
                    if self.augmentation is not None:
                        pixels = self.augmentation(pixels, self._generator(_CHANGES, epoch, step))
                    yield Batch(self.preprocessing.normalise(pixels), self.split.labels[kept], kept, step)
        finally:
            decoded.close()

    def _generator(self, *purpose: int) -> torch.Generator:
        state = np.random.SeedSequence([self.seed, *purpose]).generate_state(1)
        return torch.Generator().manual_seed(int(state[0]))

    def _order(self, epoch: int) -> torch.Tensor:
        if not self.shuffle:
            return torch.arange(len(self.split))
        return torch.randperm(len(self.split), generator=self._generator(_ORDER, epoch))

    def _gathered(
        self, indices: torch.Tensor, missing: torch.Tensor, decoded: Iterator["_Decoded"]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(indices of the readable pictures, their pixels uint8)."""
        if len(missing):
            fresh = self._keep(missing, next(decoded))
        kept = indices[self._state[indices] != _UNREADABLE]
        if not len(missing):
            return kept, self._cache[kept]
        pixels = torch.empty(len(kept), *self._shape, dtype=torch.uint8)
        is_fresh = torch.isin(kept, missing)
        pixels[is_fresh] = fresh
        pixels[~is_fresh] = self._cache[kept[~is_fresh]]
        return kept, pixels

    def _keep(self, missing: torch.Tensor, decoded: "_Decoded") -> torch.Tensor:
        """Takes in what a worker has decoded of the `missing`; gives the pixels of the readable ones."""
        for position, reason in decoded.errors.items():
            index = int(missing[position])
            if self.strict:
                raise PictureError(reason)
            self.skipped.setdefault(self.split.names[index], reason)
            self._state[index] = _UNREADABLE
        readable = self._state[missing] != _UNREADABLE
        pixels, found = torch.from_numpy(decoded.pixels)[readable], missing[readable]
        fits = found < len(self._cache)
        self._cache[found[fits]] = pixels[fits]
        self._state[found[fits]] = _CACHED
        return pixels

    def _decoded(self, plan: list[list[int]]) -> Iterator["_Decoded"]:
        """The pictures of each list of indices, in order, decoded ahead by the workers."""
        if not plan:
            return
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", message="This DataLoader will create"
            )  # more workers than cores is the user's choice
            loader: DataLoader[Any] = DataLoader(
                _Decoder(self.split, self.preprocessing),  # type: ignore[arg-type]
                batch_size=None,
                sampler=plan,
                num_workers=min(self.workers, len(plan)),
                collate_fn=_as_it_is,
                generator=torch.Generator(),  # otherwise the global one would be drawn from
            )
            results = iter(loader)
        try:
            yield from results
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            raise DataError(
                f"a process that decodes pictures has died ({str(error).splitlines()[0]}): memory may have run out, so try fewer workers."
            ) from error
        finally:
            del results, loader
            gc.collect()


@dataclass(frozen=True)
class _Decoded:
    pixels: NDArray[np.uint8]  # [n, C, H, W]; zeros where a picture is unreadable
    errors: dict[int, str]  # position in the list → reason


class _Decoder:
    """What runs in a worker: a list of indices → their pictures. Arrays, so that they come by pipe and not by /dev/shm."""

    def __init__(self, split: "Split", preprocessing: Preprocessing) -> None:
        self.split, self.preprocessing = split, preprocessing

    def __getitem__(self, indices: list[int]) -> _Decoded:
        pixels = np.zeros((len(indices), self.preprocessing.channels, *self.preprocessing.size), np.uint8)
        errors: dict[int, str] = {}
        for position, index in enumerate(indices):
            try:
                pixels[position] = self.split.decode(index, self.preprocessing).numpy()
            except PictureError as error:
                errors[position] = str(error)
        return _Decoded(pixels, errors)


def _as_it_is(decoded: _Decoded) -> _Decoded:
    return decoded


def usable_cores() -> int:
    """The number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
