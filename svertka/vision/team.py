"""Several processes that train one network: who belongs to the team, and what they tell each other.

torchrun gives each process its rank and their number in the environment. All of them take each step together: every one
computes its share of the batch, then gradients, loss and counts are summed, so that all hold the same network after it.
The leader, rank 0, decides whatever is decided once and is the only one to write and to speak.

A process that fails says why and leaves; the others notice at the next thing that they want to do together, and leave
without a word. One that vanishes (killed, its link cut) is noticed there, too, at the latest when patience runs out.
"""

import json
import os
import re
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from safetensors.torch import load as tensors_from
from safetensors.torch import save as bytes_of
from torch._C._distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from svertka.errors import DataError, SvertkaError
from svertka.vision.batches import usable_cores
from svertka.vision.modelfile import contiguous_copies

PATIENCE = "SVERTKA_PATIENCE"  # this variable says how many seconds to wait for the others
_PATIENCE = 300.0
_CLAIMED = "the reason is told"


class TeamError(SvertkaError):
    """Other processes of the team do not answer."""

    exit_code = 1


class Dismissed(SvertkaError):  # noqa: N818 - it tells of no error
    """The team ends, and the reason was told: this process has nothing to say and leaves with `exit_code`."""

    def __init__(self, exit_code: int) -> None:
        super().__init__()
        self.exit_code = exit_code


class Whole(NamedTuple):
    """What a whole batch gave: its mean loss, how many pictures there were, and how many were told right.

    `share` is the weight in the mean of this process' pictures.
    """

    loss: float
    seen: int
    correct: int
    share: float = 1.0


@dataclass
class Team:
    """`size` processes, of which this is number `rank`; `neighbours` of them run on this machine.

    All of them must call the same methods in the same order. A team of one does nothing, and gives back what it gets.
    """

    rank: int = 0
    size: int = 1
    neighbours: int = 1
    _sums: "list[_GradientSum]" = field(default_factory=list)

    @property
    def leads(self) -> bool:
        """Whether this is the process that decides, writes and speaks."""
        return self.rank == 0

    @property
    def alone(self) -> bool:
        """Whether there are no others."""
        return self.size == 1

    @property
    def cores(self) -> int:
        """The processor cores that each of the processes on this machine has for itself."""
        return max(1, usable_cores() // self.neighbours)

    def total(self, *numbers: float) -> list[float]:
        """The sum over all processes of each number."""
        return self._reduced(numbers, torch.float64, dist.ReduceOp.SUM)

    def highest(self, *numbers: int) -> list[int]:
        """The highest of all processes' numbers, for each."""
        return self._reduced(numbers, torch.int64, dist.ReduceOp.MAX)

    def whole(self, loss: float, weight: float, seen: int, correct: int) -> Whole:
        """From the mean loss over this process' pictures and what they weigh to the mean over those of all."""
        if self.alone:
            return Whole(loss, seen, correct)
        all_weight, all_loss, all_seen, all_correct = self.total(weight, weight * loss, seen, correct)
        divisor = all_weight or 1.0  # of no pictures at all
        return Whole(all_loss / divisor, int(all_seen), int(all_correct), weight / divisor)

    def sum_tensor(self, tensor: torch.Tensor) -> torch.Tensor:
        """`tensor`, now with the sum over all processes."""
        if not self.alone:
            with _answered(self):
                dist.all_reduce(tensor)
        return tensor

    def sum_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Give each parameter the sum of all processes' gradients; one that no process has a gradient of keeps none."""
        if self.alone:
            return
        if not self._sums:
            kinds: dict[Any, list[torch.nn.Parameter]] = {}
            for parameter in parameters:
                kinds.setdefault((parameter.dtype, parameter.device), []).append(parameter)
            self._sums = [_GradientSum(same) for same in kinds.values()]
        with _answered(self):
            for gradient_sum in self._sums:
                gradient_sum()

    def tell(self, value: Any) -> Any:
        """The leader's `value`, which must be JSON-able; what the others give is not looked at."""
        if self.alone:
            return value
        return json.loads(self._tell_bytes(json.dumps(value).encode()))

    def tell_tensors(self, tensors: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
        """The leader's tensors, by their names; what the others give is not looked at."""
        if self.alone:
            return tensors
        return tensors_from(self._tell_bytes(bytes_of(contiguous_copies(tensors)) if self.leads else b""))

    def gather(self, value: Any) -> list[Any]:
        """Every process' JSON-able `value`, by rank."""
        if self.alone:
            return [value]
        text = json.dumps(value).encode()
        length = self.highest(len(text))[0]
        texts = [torch.empty(length, dtype=torch.uint8) for _ in range(self.size)]
        with _answered(self):
            dist.all_gather(texts, _bytes_tensor(text.ljust(length)))
        return [json.loads(each.numpy().tobytes()) for each in texts]

    def _tell_bytes(self, content: bytes) -> bytes:
        length = int(self.total(len(content) if self.leads else 0)[0])
        buffer = _bytes_tensor(content) if self.leads else torch.empty(length, dtype=torch.uint8)
        with _answered(self):
            dist.broadcast(buffer, 0)
        return buffer.numpy().tobytes()

    def _reduced(self, numbers: tuple[Any, ...], dtype: torch.dtype, operation: Any) -> list[Any]:
        if self.alone:
            return list(numbers)
        tensor = torch.tensor(numbers, dtype=dtype)
        with _answered(self):
            dist.all_reduce(tensor, operation)
        return tensor.tolist()


class _GradientSum:
    """The gradients of `parameters`, all of one type, in one piece of memory: one message for all of them.

    Before them comes a 1 for each parameter that has a gradient here: with weight decay, none is not the same as zero.
    """

    def __init__(self, parameters: list[torch.nn.Parameter]) -> None:
        self.parameters = [parameter for parameter in parameters if parameter.requires_grad]
        sizes = [parameter.numel() for parameter in self.parameters]
        self.buffer = parameters[0].new_zeros(len(sizes) + sum(sizes), requires_grad=False)
        self.there, *pieces = torch.split(self.buffer, [len(sizes), *sizes])
        self.gradients = [
            piece.as_strided(parameter.shape, torch.empty_like(parameter).stride(), piece.storage_offset())
            for parameter, piece in zip(self.parameters, pieces, strict=True)
        ]

    def __call__(self) -> None:
        self.buffer.zero_()
        for i, (parameter, gradient) in enumerate(zip(self.parameters, self.gradients, strict=True)):
            if parameter.grad is not None:
                self.there[i] = 1
                gradient.copy_(parameter.grad)
        dist.all_reduce(self.buffer)
        for parameter, gradient, there in zip(self.parameters, self.gradients, self.there.tolist(), strict=True):
            parameter.grad = gradient if there else None


def place() -> tuple[int, int, int]:
    """Rank, number of processes and how many of them are on this machine, as the environment says; (0, 1, 1) if not.

    DataError if it contradicts itself.
    """
    names = ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
    if not {"RANK", "WORLD_SIZE"} <= set(os.environ):
        return 0, 1, 1
    try:
        rank, size, neighbours = (int(os.environ.get(name, 1)) for name in names)
    except ValueError:
        rank, size, neighbours = -1, 0, 1
    if not (0 <= rank < size and neighbours >= 1):
        found = ", ".join(f"{name}={os.environ.get(name)}" for name in names)
        raise DataError(f"the environment names no place in a team ({found}): start with torchrun, or unset these")
    return rank, size, neighbours


@contextmanager
def gathered(say: Callable[[Exception], None]) -> Iterator[Team]:
    """Meet the processes that torchrun has started beside this one, and part from them at the end.

    If the block raises in any of them, it ends in all: the first calls `say` with what was raised, and all raise
    Dismissed. An exception that is a fault in the program is raised where it came from.
    """
    rank, size, neighbours = place()
    if size == 1:
        yield Team()
        return
    # torch's optimizers import this, and it holds on to a group that it finds: its threads would then abort our exit
    import torch._dynamo

    patience = timedelta(seconds=_seconds())
    team = Team(rank, size, neighbours)
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count())
    try:
        common, *_ = next(rendezvous("env://", timeout=patience))
        store = PrefixStore(_agreed_word(common, rank, size, patience.total_seconds()), common)
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=patience)
    except (RuntimeError, ValueError) as error:
        raise TeamError(
            f"process {rank} of {size} has not met the others ({_reason(error)}): see that all were started, and that"
            " their machines reach each other"
        ) from error
    try:
        yield team
        team.highest(0)  # nobody leaves before all are done
    except Exception as error:
        first = _claims(store)
        if not isinstance(error, SvertkaError | OSError | MemoryError):
            raise
        if first:
            say(error)
        raise Dismissed(getattr(error, "exit_code", 2)) from error
    finally:
        with suppress(RuntimeError):
            dist.destroy_process_group()


def _agreed_word(store: Any, rank: int, size: int, patience: float) -> str:
    """A word that these processes, and no earlier ones, agree on; RuntimeError if one of them does not come.

    torchrun keeps one store for all its restarts, where the processes before us have left their addresses.
    The leader calls a new word, each other one answers it with a word of its own, and the leader confirms those.
    """
    mine, deadline = uuid.uuid4().hex, time.monotonic() + patience
    if rank == 0:
        store.set("call", mine)
    waited_for, answers = list(range(1, size)), [mine]
    while time.monotonic() < deadline:
        if rank == 0:
            found = [(other, store.get(f"answer {other}").decode().split()) for other in waited_for]
            answers += [theirs for _, (call, theirs) in found if call == mine]
            waited_for = [other for other, (call, _) in found if call != mine]
            if not waited_for:
                store.set(f"met {mine}", " ".join(answers))
                return mine
        else:
            call = store.get("call").decode()
            store.set(f"answer {rank}", f"{call} {mine}")
            if store.check([f"met {call}"]) and mine in store.get(f"met {call}").decode():
                return str(call)
        time.sleep(0.02)
    raise RuntimeError(f"no answer for {patience:g} s")


def _claims(store: Any) -> bool:
    """Whether this process is the first that has a reason to tell; it is if nobody can be asked."""
    try:
        return int(store.add(_CLAIMED, 1)) == 1
    except RuntimeError:
        return True


@contextmanager
def _answered(team: Team) -> Iterator[None]:
    """TeamError if the others do not take part in what the block does."""
    try:
        yield
    except RuntimeError as error:
        raise TeamError(
            f"process {team.rank} of {team.size} has lost the others ({_reason(error)}): with --resume they go on from"
            " the last checkpoint, and torchrun --max-restarts 3 starts them again"
        ) from error


def _reason(error: Exception) -> str:
    """The first line of torch's message, without the place in its source."""
    return re.sub(r"^\[\S*\] ", "", str(error).strip()).splitlines()[0].partition(". ")[0].rstrip(".")


def _seconds() -> float:
    text = os.environ.get(PATIENCE, str(_PATIENCE))
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e6:
        raise DataError(f"{PATIENCE}={text} is no time to wait: give a number of seconds, or unset it")
    return seconds


def _bytes_tensor(content: bytes) -> torch.Tensor:
    return torch.frombuffer(bytearray(content), dtype=torch.uint8) if content else torch.empty(0, dtype=torch.uint8)
