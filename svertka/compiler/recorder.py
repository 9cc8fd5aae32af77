"""Recording: runners of the engine write down what they would launch.

While a recorder is on, memory that is asked for is noted and left untouched, launches of kernels are steps of a plan,
and copies between memory formats become launches, too. Whatever else torch would compute on recorded tensors can't be
written down, and is refused.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from threading import get_ident
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from svertka.compiler.held import Held, Source, Weights
from svertka.engine import launch as launching
from svertka.engine import pools
from svertka.engine.elementwise import IDENTITY, prepare_elementwise
from svertka.engine.launch import Launch
from svertka.engine.layout import empty, neighbours, turned
from svertka.engine.packing import Packing, weight_order
from svertka.kernels.elementwise import Formula

aten = torch.ops.aten
_NEW = (aten.empty.memory_format, aten.empty_strided.default, aten.new_empty.default, aten.empty_like.default)
_TAPS = 64  # that are turned round, each by a launch
ARENA, INPUT, OUTPUT, EXTERNAL, STAND_IN, HELD = "arena", "input", "output", "external", "stand-in", "held"


class NotRecordable(Exception):  # noqa: N818 (a reason, not an error)
    """Why something can't be part of a plan."""


@dataclass(eq=False)
class Buffer:
    """Memory that a plan knows.

    Args:
        tensor: of its size, untouched: its addresses stand for those of the plan. None once the plan is written.
        kind: what gives the memory: the plan's arena, input, output, parameter or the result of a call of torch, by
            `index`.
        held: of a held weight's stand-in, that a kernel may read as it is, the weight.
    """

    tensor: Any
    kind: str = ARENA
    index: int = 0
    held: Any = None
    origin: int = 0  # bytes of the tensor that stand before what is given
    first: int = -1  # items of the plan that use it
    last: int = -1
    start: int = 0  # the first address
    bytes: int = 0

    def __post_init__(self) -> None:
        storage = self.tensor.untyped_storage()
        self.start, self.bytes = storage.data_ptr(), storage.nbytes()

    def used(self, at: int) -> None:
        """Notes that an item of the plan uses it."""
        self.first = at if self.first < 0 else self.first
        self.last = at


@dataclass(frozen=True)
class Place:
    """An address: of a buffer, so many bytes from its start; without a buffer an address as it is."""

    buffer: Buffer | None
    offset: int


@dataclass(eq=False)
class Step:
    """A kernel's launch."""

    launch: Launch
    pointers: tuple[int, ...]
    places: list[Place] = field(default_factory=list)


@dataclass(frozen=True)
class View:
    """A tensor in a buffer."""

    buffer: Buffer
    offset: int  # in numbers of its type
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype


@dataclass(eq=False)
class Call:
    """A call of torch: function(*arguments, **keywords), whose tensors are `View`s and held values."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]
    results: list[Buffer | None]


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Writes down what happens in a `with` block.

    Args:
        weights, tensors: what is held, and its sources as they are now.
    """

    def __init__(self, weights: Weights, tensors: Sequence[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.weights, self.tensors = weights, tensors
        self.items: list[Step | Call] = []
        self.buffers: dict[int, Buffer] = {}
        self.kept: list[Any] = []  # runners and constants, whose addresses are in the plan
        self._held: dict[int, tuple[Tensor, Held]] = {}  # what stands for weights, by its identity

    def __enter__(self) -> Any:
        launching.recorders[get_ident()] = self
        return super().__enter__()  # type: ignore[no-untyped-call]

    def __exit__(self, *error: Any) -> None:
        del launching.recorders[get_ident()]
        super().__exit__(*error)  # type: ignore[no-untyped-call]

    # What the engine asks

    def launched(self, launch: Launch, pointers: tuple[int, ...]) -> None:
        """Notes a launch."""
        self.items.append(Step(launch, pointers))

    def packed(self, weight: Tensor, pack: Any) -> Tensor:
        """A held weight in the kernel's order."""
        stand_in = self._held.get(id(weight))
        if stand_in is not None:
            return self.weights.ready(stand_in[1], pack, self.tensors)
        if self.buffer_of(weight) is None:
            raise NotRecordable("its weight is neither a parameter nor computed")
        if not isinstance(pack, Packing):
            return pack(weight)  # type: ignore[no-any-return]
        if pack.line:
            return self._packed_line(weight, pack)
        self.kept.append(weight_order(pack, weight.shape, weight.stride()))
        return pack(weight, "packed")

    def _packed_line(self, line: Tensor, pack: Packing) -> Tensor:
        """One number for each output channel, and zeros after those of each group."""
        room = pack.blocks * pack.width
        if pack.groups * room == line.numel():
            return line
        packed = torch.empty(pack.groups, room)
        self.formula(("number", 0.0), [], packed)
        self.copy(line.view(pack.groups, -1), packed[:, : line.numel() // pack.groups])
        return packed

    def formula(self, formula: Formula, xs: Sequence[Tensor], y: Tensor) -> Tensor:
        """Writes down y = formula(*xs)."""
        with _disable_current_modes():
            runner = prepare_elementwise(formula, xs, y)
        if isinstance(runner, str):
            raise NotRecordable(runner)
        self.kept.append(runner)
        return runner(*xs, y)

    # What the lowering asks

    def buffer_of(self, tensor: Tensor) -> Buffer | None:
        """The buffer that a tensor lies in."""
        return self.buffers.get(tensor.untyped_storage().data_ptr())

    def new(self, shape: Sequence[int], stride: Sequence[int], dtype: torch.dtype, kind: str, index: int = 0) -> Tensor:
        """A tensor in a buffer of its own."""
        with _disable_current_modes():
            tensor = torch.empty_strided(shape, stride, dtype=dtype)
        return self._noted(tensor, kind, index)

    def with_room(self, like: Tensor, index: int) -> Tensor:
        """An input of taps that a pooling took, which have room around them: see `pools.room_for_taps`."""
        with _disable_current_modes():
            room = pools.room_for_taps(like.numel(), 8 * like.element_size())
        self._noted(room, INPUT, index)
        buffer = self.buffer_of(room)
        assert buffer is not None
        taps = pools.taps_like(room, like.shape, like.stride())
        buffer.origin = int(taps.storage_offset()) * taps.element_size()
        return taps

    def room_of(self, taps: Tensor) -> Tensor:
        """The room around taps that came in by `with_room`."""
        buffer = self.buffer_of(taps)
        if buffer is None or not buffer.origin:
            raise NotRecordable("it was not pooled by a kernel")
        room: Tensor = buffer.tensor
        return room

    def stand_in(self, held: Held, shape: Sequence[int], last: bool = False, as_is: bool = False) -> Tensor:
        """What runners take for a held weight: untouched memory of its shape, or a line's numbers themselves.

        Kernels may read it `as_is`: in torch's order, not packed.
        """
        if len(shape) < 2:
            tensor = self.weights.ready(held, None, self.tensors)
            self.kept.append(tensor)
        else:
            with _disable_current_modes():
                tensor = empty(shape, last)
            self._noted(tensor, STAND_IN)
            buffer = self.buffer_of(tensor)
            if buffer is not None and as_is:
                buffer.held = held
        self._held[id(tensor)] = tensor, held
        return tensor

    def copy(self, x: Tensor, y: Tensor) -> Tensor:
        """Writes down y ← x."""
        places = math.prod(x.shape[2:])
        if x.dtype is torch.float32 and x.ndim > 2 and x.shape == y.shape and min(x.shape[1], places) > 1:
            if x.is_contiguous() and neighbours(y):
                return turned(x, y, x.shape[1], places)
            if neighbours(x) and y.is_contiguous():
                return turned(x, y, places, x.shape[1])
        return self.formula(IDENTITY, [x], y)

    def call(self, function: Callable[..., Any], arguments: Any, keywords: Any, results: Sequence[Any]) -> list[Any]:
        """Writes down a call of torch; gives tensors like `results`, of which those that are no tensors are None."""
        tensors: list[Tensor | None] = []
        buffers: list[Buffer | None] = []
        for like in results:
            fits = isinstance(like, Tensor)
            tensors.append(self.new(like.shape, like.stride(), like.dtype, EXTERNAL) if fits else None)
            buffers.append(self.buffer_of(tensors[-1]) if tensors[-1] is not None else None)
        arguments, keywords = self._viewed(tuple(arguments)), {k: self._viewed(v) for k, v in keywords.items()}
        self.items.append(Call(function, arguments, keywords, buffers))
        return tensors

    def view(self, tensor: Tensor) -> View:
        """Where a recorded tensor lies."""
        buffer = self.buffer_of(tensor)
        assert buffer is not None, "every tensor of a plan lies in one of its buffers"
        offset = int(tensor.storage_offset()) - buffer.origin // tensor.element_size()
        return View(buffer, offset, tuple(tensor.shape), tensor.stride(), tensor.dtype)

    def undo(self, mark: int) -> None:
        """Forgets all items after the first `mark` ones."""
        del self.items[mark:]

    def resolve(self) -> None:
        """Finds out which buffers' addresses the steps have, and who uses a buffer first and last."""
        buffers = sorted(self.buffers.values(), key=lambda buffer: buffer.start)
        starts = [buffer.start for buffer in buffers]
        for at, item in enumerate(self.items):
            if isinstance(item, Step):
                item.places = [self._place(pointer, buffers, starts) for pointer in item.pointers]
                used = [place.buffer for place in item.places]
            else:
                used = [*(view.buffer for view in views(item.arguments, item.keywords)), *item.results]
            for buffer in used:
                if buffer is not None:
                    buffer.used(at)

    def _place(self, pointer: int, buffers: list[Buffer], starts: list[int]) -> Place:
        at = bisect.bisect_right(starts, pointer) - 1
        if at < 0 or pointer >= starts[at] + max(buffers[at].bytes, 1):
            return Place(None, pointer)
        buffer, offset = buffers[at], pointer - starts[at]
        if buffer.kind == STAND_IN and not self._lies_in_order(buffer):
            return Place(None, self.weights.ready(buffer.held, None, self.tensors).data_ptr() + offset)
        return Place(buffer, offset - buffer.origin)

    def _lies_in_order(self, stand_in: Buffer) -> bool:
        """Whether a weight that is read as it is can be so from the model's memory; then that is where it stands."""
        if not isinstance(stand_in.held, Source) or not self.tensors[stand_in.held.index].is_contiguous():
            return False
        stand_in.kind, stand_in.index = HELD, stand_in.held.index
        return True

    def reads_stand_in(self, mark: int) -> bool:
        """Whether a step from `mark` on reads a held weight as it is, which isn't there."""
        buffers = [buffer for buffer in self.buffers.values() if buffer.kind == STAND_IN and buffer.held is None]
        return any(
            buffer.start <= pointer < buffer.start + buffer.bytes
            for item in self.items[mark:]
            if isinstance(item, Step)
            for pointer in item.pointers
            for buffer in buffers
        )

    def _viewed(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return self.view(value) if self.buffer_of(value) is not None else value
        if isinstance(value, (list, tuple)):
            return tuple(map(self._viewed, value))
        return value

    def _noted(self, tensor: Tensor, kind: str, index: int = 0) -> Tensor:
        if tensor.untyped_storage().nbytes():
            buffer = Buffer(tensor, kind, index)
            self.buffers[buffer.start] = buffer
        return tensor

    def _flipped(self, x: Tensor, axes: Sequence[int]) -> Tensor:
        """A kernel's taps in reverse order, one after the other."""
        taps = math.prod(x.shape[axis] for axis in axes)
        if taps > _TAPS:
            raise NotRecordable(f"more than {_TAPS} taps are turned round by torch")
        y = self._noted(torch.empty_like(x), ARENA)
        for place in itertools.product(*(range(x.shape[axis]) for axis in axes)):
            one, other = x, y
            for axis, n in zip(axes, place, strict=True):
                one, other = one.narrow(axis, n, 1), other.narrow(axis, x.shape[axis] - 1 - n, 1)
            self.copy(one, other)
        return y

    # What torch would do

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function in _NEW:
            return self._noted(function(*args, **kwargs), ARENA)
        recorded = [t for t in _tensors((args, kwargs)) if self.buffer_of(t) is not None]
        if not recorded:
            result = function(*args, **kwargs)
            self.kept.append(result)
            return result
        if function is aten.clone.default:
            layout = kwargs.get("memory_format") or torch.preserve_format
            return self.copy(args[0], self._noted(torch.empty_like(args[0], memory_format=layout), ARENA))
        if function is aten.copy_.default:
            return self.copy(args[1].expand(args[0].shape), args[0])
        if function is aten.flip.default:
            return self._flipped(*args)
        if function is aten._unsafe_view.default:
            return args[0].view(args[1])
        if function.is_view:
            return function(*args, **kwargs)
        raise NotRecordable(f"{function} of torch is part of it")


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _tensors(part)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))


def views(*values: Any) -> Iterator[View]:
    """The views in arguments of a call."""
    for value in values:
        if isinstance(value, View):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from views(*value)
        elif isinstance(value, dict):
            yield from views(*value.values())
