"""From a split to batches for a network: pictures are decoded once, by worker processes, and kept while they fit."""

import math
import os
import signal
import threading
import warnings
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from svertka.errors import DataError
from svertka.vision.augment import Augmentation
from svertka.vision.datasets import Split
from svertka.vision.pictures import PictureError, Preprocessing

_UNKNOWN, _CACHED, _UNREADABLE = 0, 1, 2
_ORDER, _CHANGES = 0, 1  # what is drawn


@dataclass(frozen=True)
class Batch:
    """One step's pictures.

    images    float32 [B, C, H, W], augmented and normalised
    labels    int64 [B]
    indices   int64 [B], into the split
    step      number of the step in its epoch, from 0
    """

    images: torch.Tensor
    labels: torch.Tensor
    indices: torch.Tensor
    step: int


class Batches:
    """The batches of one split, epoch after epoch.

    A batch is a function of (seed, epoch, step) and the pictures alone: neither the number of workers, nor what is in
    memory, nor the step at which an epoch is entered changes it, so that nothing has to be saved to go on after a stop.
    torch's global generator is neither read nor moved.

    batch_size    pictures in a batch; the last has the rest. When shuffling, a rest of one is left out, since batch
                  normalisation can't train on it
    share         (rank, processes): the batches are one process' shares of batches of `batch_size`. Each picture of an
                  epoch is in one share and looks as it would without sharing; a share may be empty. A picture goes
                  mostly to the same process, which then has it in memory
    augmentation  None: the pictures as they are
    workers       processes that decode; None: one for each usable core; 0: this process does it
    cache_bytes   so much memory keeps decoded pictures, as uint8; those beyond it are decoded in each epoch, two
                  batches ahead for each worker
    skipped       receives name → reason when an unreadable picture is first met; its batch goes without it, and a batch
                  that becomes empty is not given. Several splits may share one
    strict        an unreadable picture raises PictureError instead
    """

    def __init__(
        self,
        split: Split,
        preprocessing: Preprocessing,
        batch_size: int,
        *,
        shuffle: bool,
        seed: int,
        share: tuple[int, int] = (0, 1),
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
            ("cache size", cache_bytes, 0),
        ):
            if value < least:
                raise DataError(f"the {name} {value} is not possible: give {least} or more")
        self.split, self.preprocessing, self.augmentation = split, preprocessing, augmentation
        self.batch_size, self.shuffle, self.seed, self.strict = batch_size, shuffle, seed, strict
        self.share = share
        self.workers = usable_cores() if workers is None else workers
        self.skipped: dict[str, str] = {} if skipped is None else skipped
        self._shape = (preprocessing.channels, *preprocessing.size)
        self._state = torch.full((len(split),), _UNKNOWN, dtype=torch.uint8)
        if split.pixels is not None and split.pixels.shape[1:] == self._shape:
            self._cache = split.pixels
            self._state.fill_(_CACHED)
        else:  # the system gives the memory page by page, as pictures come in
            fitting = min(len(split), cache_bytes // math.prod(self._shape))
            self._cache = torch.empty(fitting, *self._shape, dtype=torch.uint8)

    def __len__(self) -> int:
        """Steps per epoch."""
        whole, rest = divmod(len(self.split), self.batch_size)
        return whole + (rest > (1 if self.shuffle and whole else 0))

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from the step `start` on.

        Raises PictureError on an unreadable picture if `strict`, DataError if a worker dies.
        """
        steps = list(torch.split(self._order(epoch), self.batch_size))[start : len(self)]
        shares = [self._share_of(indices) for indices in steps]
        unknown = [
            mine[self._state[mine] == _UNKNOWN]
            for mine in (indices[places] for indices, places in zip(steps, shares, strict=True))
        ]
        decoded = self._decoded([indices.tolist() for indices in unknown if len(indices)])
        try:
            for step, (indices, places, missing) in enumerate(zip(steps, shares, unknown, strict=True), start):
                fresh = self._kept(missing, next(decoded)) if len(missing) else None
                places = places[self._state[indices[places]] != _UNREADABLE]
                readable = indices[places]
                if not len(readable) and self.share[1] == 1:
                    continue
                pixels = self._cache[readable] if fresh is None else self._merged(readable, missing, fresh)
                if self.augmentation is not None:
                    chance = self._generator(_CHANGES, epoch, step)
                    pixels = self.augmentation(pixels, chance, places, len(indices))
                yield Batch(self.preprocessing.normalise(pixels), self.split.labels[readable], readable, step)
        finally:
            decoded.close()

    def _share_of(self, indices: torch.Tensor) -> torch.Tensor:
        """The places of this process' share among a batch's `indices`: all shares alike, none of a single picture.

        Of one picture batch normalisation could not learn, so that of a small batch some processes have nothing.
        """
        rank, processes = self.share
        sharing = max(1, min(processes, len(indices) // 2))
        if rank >= sharing:
            return indices.new_empty(0)
        return (indices % processes).argsort(stable=True).tensor_split(sharing)[rank].sort().values

    def _generator(self, *purpose: int) -> torch.Generator:
        seed = np.random.SeedSequence([self.seed, *purpose]).generate_state(1)
        return torch.Generator().manual_seed(int(seed[0]))

    def _order(self, epoch: int) -> torch.Tensor:
        if not self.shuffle:
            return torch.arange(len(self.split))
        return torch.randperm(len(self.split), generator=self._generator(_ORDER, epoch))

    def _kept(self, missing: torch.Tensor, decoded: "_Decoded") -> torch.Tensor:
        """Take in the `missing` pictures as a worker has decoded them; give the pixels of the readable ones."""
        for position, reason in decoded.errors.items():
            index = int(missing[position])
            if self.strict:
                raise PictureError(reason)
            self.skipped.setdefault(self.split.names[index], reason)
            self._state[index] = _UNREADABLE
        readable = self._state[missing] != _UNREADABLE
        fresh, found = torch.from_numpy(decoded.pixels)[readable], missing[readable]
        fits = found < len(self._cache)
        self._cache[found[fits]] = fresh[fits]
        self._state[found[fits]] = _CACHED
        return fresh

    def _merged(self, readable: torch.Tensor, missing: torch.Tensor, fresh: torch.Tensor) -> torch.Tensor:
        """The pixels of the `readable` pictures: `fresh` for those that were `missing`, else from memory."""
        pixels = torch.empty(len(readable), *self._shape, dtype=torch.uint8)
        was_missing = torch.isin(readable, missing)
        pixels[was_missing] = fresh
        pixels[~was_missing] = self._cache[readable[~was_missing]]
        return pixels

    def _decoded(self, plan: list[list[int]]) -> Generator["_Decoded", None, None]:
        """The pictures of each list of indices, in order."""
        if not plan:
            return
        with _quiet_start():
            loader: DataLoader[_Decoded] = DataLoader(
                _Decoder(self.split, self.preprocessing),
                batch_size=None,
                sampler=plan,
                num_workers=min(self.workers, len(plan)),
                collate_fn=_unchanged,
                worker_init_fn=_give_way,
                generator=torch.Generator(),  # else it would draw from the global one
            )
            results = iter(loader)
        try:
            yield from results
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            reason = str(error).splitlines()[0].rstrip(".")
            raise DataError(f"decoding stopped ({reason}): if memory ran out, use fewer workers") from error
        finally:
            del results  # ends the workers


@dataclass(frozen=True)
class _Decoded:
    """What a worker gives back: arrays and not tensors, because those would need room in /dev/shm.

    pixels   uint8 [n, C, H, W], zeros where a picture is unreadable
    errors   position → why it is
    """

    pixels: NDArray[np.uint8]
    errors: dict[int, str]


class _Decoder(Dataset[_Decoded]):
    """What runs in a worker, on one torch thread."""

    def __init__(self, split: Split, preprocessing: Preprocessing) -> None:
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


def _unchanged(decoded: Any) -> Any:
    return decoded


def _give_way(_worker: int) -> None:
    """Training goes first: its threads wait for each other many times in a step, so that one kept waiting stops all."""
    if hasattr(os, "nice"):
        os.nice(10)


@contextmanager
def _quiet_start() -> Iterator[None]:
    """While torch starts workers, keep it from making their later death raise at any line of the main thread.

    That could be in the middle of a training step. Asking for the next pictures will raise all the same.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGCHLD) if in_main_thread and hasattr(signal, "SIGCHLD") else None
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="This DataLoader will create")  # more workers than cores: as asked
        yield
    if handler is not None:
        signal.signal(signal.SIGCHLD, handler)


def usable_cores() -> int:
    """The number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
