"""What a plan holds: parameters and buffers, what follows from them alone, and how kernels read these.

A held value is a `Source`, one of the model's parameters and buffers, or `Derived` from such: a folded batch norm, a
transposed matrix. `Weights` computes what kernels need of them, and computes it again, in the same place, when a source
has changed.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from operator import is_
from threading import get_ident
from typing import Any

import torch
from torch import Tensor

from svertka.engine import packing
from svertka.engine.launch import not_recording
from svertka.memory import give_back

_ROWS = 32  # of a weight that are computed in double at once
_LARGE = 1 << 20  # bytes of a packed weight, what was computed on the way to which takes room that is worth giving back


@dataclass(frozen=True)
class Source:
    """A parameter or buffer, by its place among them."""

    index: int


@dataclass(frozen=True)
class Derived:
    """function(*arguments), whose tensors are held values."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    keywords: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True, eq=False)
class Constant:
    """A tensor that is written in the graph."""

    tensor: Tensor


Held = Source | Derived | Constant


def frozen(value: Any) -> Any:
    """A value that can be compared and hashed: lists are tuples."""
    return tuple(map(frozen, value)) if isinstance(value, (list, tuple)) else value


def sources(value: Any) -> Iterator[Any]:
    """What a held value follows from: places of sources, and constants."""
    match value:
        case Source():
            yield value.index
        case Constant():
            yield value
        case Derived():
            yield from sources(value.arguments)
            yield from sources(tuple(part for _, part in value.keywords))
        case tuple():
            for part in value:
                yield from sources(part)


class Weights:
    """What kernels read of held values, for all plans of a model.

    Args:
        names: of the sources.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = list(names)
        self._ready: dict[tuple[Held, Any], Tensor] = {}
        self._state: Any = None
        self._owners: list[weakref.ref[Tensor]] = []  # since a new tensor may lie where an old one lay
        self._constants: dict[Constant, int] = {}  # and torch's counts of their changes
        self._likes: list[Any] = []  # of the sources: shape, stride, type, device
        self.alone()

    def alone(self) -> None:
        """In a forked child: nobody else is reading, and what somebody was computing isn't whole."""
        self._turn = threading.Condition(threading.Lock())
        self._readers = self._changers = 0
        self._inside: dict[int, int] = {}  # how often each thread has entered: a plan may call its own model
        self._state = None

    def enter(self, tensors: Sequence[Tensor]) -> bool:
        """Computes anew what has changed; `tensors` are the sources as they are now, and stay so until `leave`.

        Who comes with other sources meanwhile, since a weight was replaced, waits until all have left. Those of other
        shapes or types than before find no entrance: the answer is False.
        """
        state = self._state_of(tensors)
        if not self._holds(state, tensors) and not self.alike(tensors):
            return False
        with self._turn:
            me, own = get_ident(), self._inside.get(get_ident(), 0)
            while not (holds := self._holds(state, tensors)) or (self._changers and not own):
                if not holds and self._readers == own:
                    self._compute(state, tensors)
                    self._turn.notify_all()
                    break
                self._changers += not holds
                self._turn.wait()
                self._changers -= not holds
            self._readers += 1
            self._inside[me] = own + 1
        return True

    def alike(self, tensors: Sequence[Tensor]) -> bool:
        """Whether sources have the shapes and types that they had at first."""
        likes = [(x.shape, x.stride(), x.dtype, x.device) for x in tensors]
        self._likes = self._likes or likes
        return likes == self._likes

    def leave(self) -> None:
        """After `enter`."""
        with self._turn:
            self._readers -= 1
            own = self._inside.pop(get_ident()) - 1
            if own:
                self._inside[get_ident()] = own
            if not self._readers:
                self._turn.notify_all()

    def _holds(self, state: Any, tensors: Sequence[Tensor]) -> bool:
        """Whether all that is ready was computed of these."""
        return (
            bool(state == self._state)
            and all(map(is_, [owner() for owner in self._owners], tensors))
            and not (self._constants and self._changed_constants())
        )

    def _changed_constants(self) -> dict[Constant, int]:
        """The constants that torch has counted changes of."""
        now = {constant: _version(constant.tensor) for constant in list(self._constants)}
        return {constant: version for constant, version in now.items() if version != self._constants[constant]}

    def _compute(self, state: Any, tensors: Sequence[Tensor]) -> None:
        before, owners = self._state, [owner() for owner in self._owners]
        self._state = None  # should it break off
        if self._ready:
            everything = before is None or before[0] != state[0]
            changed: set[Any] = {
                i
                for i, tensor in enumerate(tensors)
                if everything or before[1][i] != state[1][i] or owners[i] is not tensor
            }
            constants = self._changed_constants()
            changed.update(constants)
            self._constants.update(constants)
            for (held, pack), place in self._ready.items():
                if not changed.isdisjoint(sources(held)):
                    place.copy_(self._computed(held, pack, tensors))
        self._state, self._owners = state, [weakref.ref(tensor) for tensor in tensors]

    def _state_of(self, tensors: Sequence[Tensor]) -> Any:
        """What tells whether sources are the same: torch's counts of changes, where they are, steps of optimizers."""
        try:
            counts = [(tensor._version, tensor.data_ptr()) for tensor in tensors]
        except RuntimeError:  # of inference tensors torch doesn't count them
            counts = [(_version(tensor), tensor.data_ptr()) for tensor in tensors]
        return packing.epoch(), counts

    def ready(self, held: Held, pack: Any, tensors: Sequence[Tensor]) -> Tensor:
        """pack(held value), or (pack None) its numbers in order; the place stays the same for good."""
        key = (held, pack)
        with self._turn:
            if key not in self._ready:
                self._ready[key] = self._computed(held, pack, tensors)
                if self._ready[key].nbytes >= _LARGE:
                    give_back()
                constants = (one for one in sources(held) if isinstance(one, Constant))
                self._constants.update((one, _version(one.tensor)) for one in constants)
            return self._ready[key]

    def _computed(self, held: Held, pack: Any, tensors: Sequence[Tensor]) -> Tensor:
        with torch.no_grad(), not_recording():
            value = evaluate(held, tensors, {})
            result: Tensor = value.detach().contiguous() if pack is None else pack(value.detach())
            # Of a source itself, and of what shares its memory, a copy: the model may edit it at any time.
            own = result.untyped_storage().data_ptr() in {tensor.untyped_storage().data_ptr() for tensor in tensors}
            return result.clone() if own else result

    @property
    def bytes(self) -> int:
        """The memory that all of it takes."""
        return sum(tensor.nbytes for tensor in list(self._ready.values()))


def _version(tensor: Tensor) -> int:
    """torch's count of changes, which inference tensors have none of."""
    return 0 if tensor.is_inference() else tensor._version


def evaluate(value: Any, tensors: Sequence[Tensor], memo: dict[Any, Any]) -> Any:
    """The value of what is held, and of anything around it."""
    match value:
        case Source():
            return tensors[value.index]
        case Constant():
            return value.tensor
        case Derived():
            if value not in memo:
                arguments = [evaluate(part, tensors, memo) for part in value.arguments]
                keywords = {name: evaluate(part, tensors, memo) for name, part in value.keywords}
                memo[value] = value.function(*arguments, **keywords)
            return memo[value]
        case tuple():
            return [evaluate(part, tensors, memo) for part in value]
    return value


def norm_scale(gamma: Tensor | None, variance: Tensor, eps: float) -> Tensor:
    """γ / √(σ² + ε), in float64."""
    scale = (variance.double() + eps).rsqrt()
    return scale if gamma is None else scale * gamma.double()


def norm_shift(
    bias: Tensor | None, gamma: Tensor | None, beta: Tensor | None, mean: Tensor, variance: Tensor, eps: float
) -> Tensor:
    """What batch norm adds after its scale: (bias − μ) · scale + β."""
    shift = -mean.double() if bias is None else bias.double() - mean.double()
    shift = shift * norm_scale(gamma, variance, eps)
    return (shift if beta is None else shift + beta.double()).float()


def scaled(weight: Tensor, gamma: Tensor | None, variance: Tensor, eps: float, transposed: bool, groups: int) -> Tensor:
    """A convolution's weight times batch norm's scale of each output channel."""
    scale, result = norm_scale(gamma, variance, eps), torch.empty_like(weight, dtype=torch.float32)
    each = (1,) * (weight.ndim - 2)
    if transposed:  # [inputs, outputs / groups, …]
        scale = scale.view(groups, 1, -1, *each).expand(groups, weight.shape[0] // groups, -1, *each)
    scale = scale.reshape(*weight.shape[:2], *each) if transposed else scale.view(-1, 1, *each)
    # Row by row, since all of it in double would take more memory than the network.
    for rows in (slice(first, first + _ROWS) for first in range(0, len(weight), _ROWS)):
        result[rows] = weight[rows].double() * scale[rows]
    return result


def with_places_first(weight: Tensor, channels: int) -> Tensor:
    """A linear layer's weight for inputs that were flattened with neighbouring channels."""
    return weight.view(weight.shape[0], channels, -1).transpose(1, 2).reshape(weight.shape)
