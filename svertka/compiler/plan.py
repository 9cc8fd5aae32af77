"""Plans: what was recorded, ready to run as one call for each piece between calls of torch.

A plan's steps have their arguments in one array of 8-byte words. Addresses in them are relative: to the arena, an
input, a parameter, an output, or the result of a call of torch. A `_Run` is a copy of the array with an arena of its
own, so that several threads can run a plan at once.
"""

from __future__ import annotations

import ctypes
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from svertka.compiler.arena import offsets
from svertka.compiler.held import Constant, Derived, Source, Weights
from svertka.compiler.recorder import ARENA, EXTERNAL, HELD, INPUT, OUTPUT, Buffer, Call, Recorder, Step, View
from svertka.compiler.rooms import Rooms
from svertka.jit import plan as walking
from svertka.jit import threads
from svertka.jit.parallel import LINE
from svertka.kernels.emit import FIRST
from svertka.kernels.target import host

_SPARE = 4  # arenas that are kept for the next calls
Fixups = list[tuple[int, int]]  # (word, bytes from the start)
Key = tuple[str, int]


@dataclass(frozen=True)
class Output:
    """A result: a fresh tensor that kernels write, an input itself, a held value, the result of a call, or no tensor.

    Args:
        kind: "new", "view" (of a new one), "input", "held", "external" or "value".
        value: the place among new ones or inputs, the held value, the view of a call's result, the value.
    """

    kind: str
    value: Any


@dataclass
class _Segment:
    """Steps without a call of torch between them."""

    first: int
    count: int
    widest: int


class Plan:
    """A recorded graph for inputs of some shapes.

    Args:
        recorder: with all items, resolved.
        outputs: of the graph, in order.
        shapes: of the new results: (shape, stride, dtype).
    """

    def __init__(self, recorder: Recorder, outputs: Sequence[Output], shapes: Sequence[Any]) -> None:
        self.weights: Weights = recorder.weights
        self.outputs, self.rooms, self.kept = list(outputs), Rooms(shapes), recorder.kept
        self.most_threads = torch.get_num_threads()  # for so many, scratch of their own was recorded
        recorder.resolve()
        external = [b for item in recorder.items if isinstance(item, Call) for b in item.results if b is not None]
        for index, buffer in enumerate(external):
            buffer.index = index
        self.externals = len(external)
        self.external_views = [View(b, 0, tuple(b.tensor.shape), b.tensor.stride(), b.tensor.dtype) for b in external]
        arena = [b for b in recorder.buffers.values() if b.kind == ARENA and b.first >= 0]
        places, self.arena_bytes = offsets([(b.bytes, b.first, b.last) for b in arena])
        self.separate_bytes = sum(b.bytes for b in arena)
        self.at = dict(zip(map(id, arena), places, strict=True))
        self.items: list[_Segment | Call] = []
        self.ends: list[int] = []  # of each item of the plan, the last one of the recorder
        self.steps: list[Step] = [item for item in recorder.items if isinstance(item, Step)]
        self.words: list[int] = []
        self.arguments: list[int] = []  # the first word of each step
        self.fixups: dict[Key, Fixups] = defaultdict(list)
        self._fill(recorder.items)
        kept = {id(output.value.buffer) for output in outputs if output.kind == "external"}
        spent = [buffer for buffer in external if id(buffer) not in kept]
        self.spent = [  # results of calls that nobody needs after an item
            [buffer.index for buffer in spent if first < buffer.last <= last]
            for first, last in zip([-1, *self.ends], self.ends, strict=False)
        ]
        self._spare: list[_Run] = []
        for buffer in recorder.buffers.values():
            buffer.tensor = None  # its addresses have become the plan's: what it holds is not needed any more

    def _fill(self, items: Sequence[Step | Call]) -> None:
        count = 0
        for at, item in enumerate(items):
            if isinstance(item, Call):
                self.items.append(item)
                self.ends.append(at)
                continue
            if not self.items or isinstance(self.items[-1], Call):
                self.items.append(_Segment(count, 0, 1))
                self.ends.append(at)
            self.ends[-1] = at  # for now: the segment may go on
            segment = self.items[-1]
            assert isinstance(segment, _Segment)
            segment.count, segment.widest = segment.count + 1, max(segment.widest, item.launch.tasks)
            count += 1
            self.arguments.append(len(self.words))
            self.words += [threads.team_address(), item.launch.tasks]
            for word, place in enumerate(item.places, start=len(self.words)):
                if place.buffer is None:
                    self.words.append(place.offset)
                    continue
                self.words.append(0)
                self.fixups[self.key(place.buffer)].append((word, self.offset(place.buffer) + place.offset))
            assert len(item.places) == len(item.launch.family.pointers) and FIRST == 2
            self.words += item.launch.numbers

    def key(self, buffer: Buffer) -> Key:
        """What gives a buffer's memory."""
        return (ARENA, 0) if buffer.kind == ARENA else (buffer.kind, buffer.index)

    def offset(self, buffer: Buffer) -> int:
        """Where a buffer begins in what gives its memory, in bytes."""
        return self.at[id(buffer)] if buffer.kind == ARENA else 0

    def __call__(self, inputs: Sequence[Any], held: Sequence[Tensor]) -> list[Any]:
        """The graph's outputs. `inputs` have the shapes and strides that it was recorded for."""
        run = self._take()
        results = run(inputs, held)
        self._give(run)
        return results

    def times(self, inputs: Sequence[Any], held: Sequence[Tensor]) -> list[float]:
        """Seconds of each item: of each step, and of each call of torch, in order."""
        run = self._take()
        seconds: list[float] = []
        run(inputs, held, seconds)
        self._give(run)
        return seconds

    def _take(self) -> _Run:
        try:
            run = self._spare.pop()
        except IndexError:
            return _Run(self)
        return run if run.team == threads.team_address() else _Run(self)  # a forked child has threads of its own

    def _give(self, run: _Run) -> None:
        if len(self._spare) < _SPARE:
            self._spare.append(run)


class _Run:
    """A plan's words with an arena of their own."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.team = plan, threads.team_address()
        self.walk = walking.walker(host())
        self.arena = torch.empty(plan.arena_bytes, dtype=torch.uint8)
        self.words = (ctypes.c_int64 * max(len(plan.words), 1))(*plan.words)
        for argument in plan.arguments:
            self.words[argument] = self.team
        start = ctypes.addressof(self.words)
        self.steps = (ctypes.c_int64 * max(walking.STEP * len(plan.steps), 1))()
        for index, (step, argument) in enumerate(zip(plan.steps, plan.arguments, strict=True)):
            numbers: list[Any] = [step.launch.kernel.task, start + 8 * argument, step.launch.tasks]
            self.steps[walking.STEP * index : walking.STEP * (index + 1)] = numbers
        self._point((ARENA, 0), self.arena.data_ptr())
        self.inputs = [(key[1], fixups) for key, fixups in plan.fixups.items() if key[0] == INPUT]
        self.held = [(key[1], fixups) for key, fixups in plan.fixups.items() if key[0] == HELD]
        self.outputs = [(key[1], fixups) for key, fixups in plan.fixups.items() if key[0] == OUTPUT]
        self.externals: list[Any] = [None] * plan.externals
        self.threads = 0
        self.items: list[tuple[Callable[..., Any], Any]] = []
        for item in plan.items:
            if isinstance(item, Call):
                self.items.append((self._call, item))
            else:
                self.items.append((self._segment, (self._frame(item), item)))

    def _frame(self, segment: _Segment) -> Any:
        frame = (ctypes.c_int64 * walking.FRAME)()
        frame[walking.TEAM] = self.team
        frame[walking.STEPS] = ctypes.addressof(self.steps) + 8 * walking.STEP * segment.first
        frame[walking.COUNT] = segment.count
        return frame

    def _point(self, key: Key, address: int) -> None:
        words = self.words
        for word, offset in self.plan.fixups.get(key, ()):
            words[word] = address + offset

    def _count_for(self, number: int) -> None:
        """Makes room for the counters of so many threads."""
        longest = max((item.count for item in self.plan.items if isinstance(item, _Segment)), default=0)
        self.counters = torch.empty((number + 1) * walking.row_words(longest) + LINE, dtype=torch.int64)
        for function, pair in self.items:
            if function == self._segment:
                pair[0][walking.COUNTERS] = self.counters.data_ptr()
        self.threads = number

    def __call__(self, inputs: Sequence[Any], held: Sequence[Tensor], seconds: list[float] | None = None) -> list[Any]:
        words = self.words
        new = self.plan.rooms()
        for places, tensors in ((self.inputs, inputs), (self.held, held), (self.outputs, new)):
            for index, fixups in places:
                address = tensors[index].data_ptr()
                for word, offset in fixups:
                    words[word] = address + offset
        number = threads.usable(min(torch.get_num_threads(), self.plan.most_threads))
        if number > self.threads:
            self._count_for(number)
        for (function, item), spent in zip(self.items, self.plan.spent, strict=True):
            function(item, number, (inputs, new, held), seconds)
            for index in spent:
                self.externals[index] = None
        return self._results(inputs, new, held)

    def _segment(self, pair: Any, number: int, _: Any, seconds: list[float] | None) -> None:
        frame, segment = pair
        if seconds is None:
            self.walk(ctypes.addressof(frame), min(number, segment.widest))
            return
        times = (ctypes.c_int64 * (segment.count + 1))()
        frame[walking.TIMES] = ctypes.addressof(times)
        self.walk(ctypes.addressof(frame), min(number, segment.widest))
        frame[walking.TIMES] = 0
        seconds += [(times[i + 1] - times[i]) / 1e9 for i in range(segment.count)]

    def _call(self, call: Call, _: int, world: Any, seconds: list[float] | None) -> None:
        from time import perf_counter

        begin = perf_counter()
        arguments = self._given(call.arguments, world)
        keywords = {name: self._given(value, world) for name, value in call.keywords.items()}
        results = call.function(*arguments, **keywords)
        results = results if isinstance(results, (list, tuple)) else [results]
        for result, buffer in zip(results, call.results, strict=False):
            if buffer is None:
                continue
            like = self.plan.external_views[buffer.index]
            in_arena = result.numel() and result.untyped_storage().data_ptr() == self.arena.untyped_storage().data_ptr()
            if result.stride() != like.stride or in_arena:  # kernels expect what was recorded, and that it stays
                result = torch.empty_strided(like.shape, like.stride, dtype=like.dtype).copy_(result)
            self.externals[buffer.index] = result
            self._point((EXTERNAL, buffer.index), result.data_ptr())
        if seconds is not None:
            seconds.append(perf_counter() - begin)

    def _given(self, value: Any, world: Any) -> Any:
        """Of what a call's arguments stand for the values."""
        if isinstance(value, View):
            return self._tensor(value, world)
        if isinstance(value, Source):
            return world[2][value.index]
        if isinstance(value, (Constant, Derived)):
            return self.plan.weights.ready(value, None, world[2])
        return [self._given(part, world) for part in value] if isinstance(value, (list, tuple)) else value

    def _tensor(self, view: View, world: Any) -> Tensor:
        """The tensor of a view."""
        kind, index = self.plan.key(view.buffer)
        if kind == ARENA:
            whole = self.arena[self.plan.offset(view.buffer) :][: view.buffer.bytes].view(view.dtype)
        else:
            whole = {INPUT: world[0], OUTPUT: world[1], EXTERNAL: self.externals}[kind][index]
            if (tuple(whole.shape), whole.stride(), 0) == (view.shape, view.stride, view.offset):
                return whole  # type: ignore[no-any-return]
        return whole.as_strided(view.shape, view.stride, whole.storage_offset() + view.offset)

    def _results(self, inputs: Sequence[Any], new: list[Tensor], held: Sequence[Tensor]) -> list[Any]:
        world = (inputs, new, held)
        results: list[Any] = []
        for output in self.plan.outputs:
            match output.kind:
                case "new":
                    results.append(new[output.value])
                case "view":
                    index, shape, stride, offset = output.value
                    results.append(new[index].as_strided(shape, stride, offset))
                case "input":
                    results.append(inputs[output.value])
                case "held":
                    value = self._given(output.value, world)
                    results.append(value.clone() if not isinstance(output.value, Source) else value)
                case "external":
                    result = self._tensor(output.value, world)
                    inside = result.untyped_storage().data_ptr() == self.arena.untyped_storage().data_ptr()
                    results.append(result.clone() if inside else result)
                case _:
                    results.append(output.value)
        if self.externals:
            self.externals = [None] * len(self.externals)
        return results
