"""A training run's position in one safetensors file, no pickle: weights, optimizer tensors, and counts in the header.

All chance in training is a function of (seed, epoch, step), and so is the learning rate: nothing else needs saving.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from svertka.errors import DataError
from svertka.files import write_tensors
from svertka.vision.modelfile import contiguous_copies

CHECKPOINT_FILE = "checkpoint"
_HEADER = "svertka checkpoint"


@dataclass
class State:
    """Where training stands: a record of each finished epoch, and the sums of the one under way after `step` steps."""

    history: list[dict[str, Any]] = field(default_factory=list)
    step: int = 0
    loss_sum: float = 0.0
    correct: int = 0
    seen: int = 0
    seconds: float = 0.0
    skipped: dict[str, str] = field(default_factory=dict)

    def is_possible(self) -> bool:
        """Whether all has its type and no count is below 0."""
        counts = (self.step, self.correct, self.seen)
        return (
            are_records(self.history)
            and all(type(count) is int and 0 <= count < 2**53 for count in counts)
            and all(is_number(value) for value in (self.loss_sum, self.seconds))
            and isinstance(self.skipped, dict)
            and all(isinstance(reason, str) for reason in self.skipped.values())
            and self.seen >= self.correct
        )

    @property
    def epoch(self) -> int:
        """How many epochs are finished."""
        return len(self.history)

    def close_epoch(self, record: dict[str, Any]) -> None:
        """Add the epoch's record to the history and begin the next one."""
        self.history.append(record)
        self.step, self.loss_sum, self.correct, self.seen, self.seconds = 0, 0.0, 0, 0, 0.0

    def kept_epoch(self, early_stopping: int) -> int:
        """The finished epoch, from 1, whose model is kept: the last one, or with early stopping the best in validation.

        The best has the highest accuracy; of equal ones the least loss; of equal ones it is the first.
        """
        if not early_stopping:
            return self.epoch
        return 1 + min(range(self.epoch), key=lambda i: (-self.history[i]["val_accuracy"], self.history[i]["val_loss"]))

    def finished(self, epochs: int, early_stopping: int) -> bool:
        """Whether all `epochs` are done, or the last `early_stopping` of them brought no better model."""
        stopped = early_stopping and self.history and self.epoch - self.kept_epoch(early_stopping) >= early_stopping
        return self.epoch >= epochs or bool(stopped)


_RECORD = ("lr", "train_loss", "train_accuracy", "seconds")
_VALIDATED = ("val_loss", "val_accuracy")


def are_records(history: Any) -> bool:
    """Whether these are records of finished epochs, in order, all with validation or none."""
    if not isinstance(history, list) or not all(isinstance(record, dict) for record in history):
        return False
    names = (*_RECORD, *(_VALIDATED if history and "val_loss" in history[0] else ()))
    return all(
        record.get("epoch") == number and all(is_number(record.get(name)) for name in names)
        for number, record in enumerate(history, 1)
    )


def is_number(value: Any) -> bool:
    """A number from JSON; a loss may well be NaN."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def save_checkpoint(
    path: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer, state: State, config: Mapping[str, Any]
) -> None:
    """Write everything that training needs to go on, in place of the last checkpoint in a single move."""
    header = {"state": asdict(state), "config": config}
    write_tensors(path, contiguous_copies(tensors_of(model, optimizer)), {_HEADER: json.dumps(header)})


def read_state(path: Path, config: Mapping[str, Any]) -> State:
    """The position in a checkpoint of a run with this `config`; DataError if it is damaged or another run's."""
    try:
        with safe_open(path, framework="pt") as opened:
            header = json.loads((opened.metadata() or {})[_HEADER])
        state, before = State(**header["state"]), header["config"]
        if not state.is_possible():
            raise ValueError("its state is none that training comes to")
    except (SafetensorError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise DataError(f"{path} is not a whole checkpoint ({error}): start again with --overwrite") from error
    if before != config:
        raise DataError(
            f"{path} belongs to a run with another config.json: restore that, or start again with --overwrite"
        )
    return state


def restore(path: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Put a checkpoint's tensors into `model` and `optimizer`, in the memory layouts that the model has."""
    try:
        with safe_open(path, framework="pt") as opened:
            put_back({key: opened.get_tensor(key) for key in opened.keys()}, model, optimizer)  # noqa: SIM118 - no mapping
    except (SafetensorError, ValueError, IndexError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path} does not fit the model ({reason}): start again with --overwrite") from error


def tensors_of(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """All tensors of both, by names that `put_back` understands."""
    tensors = {f"model.{key}": tensor for key, tensor in model.state_dict().items()}
    for i, parameter in enumerate(_parameters(optimizer)):
        for key, tensor in optimizer.state[parameter].items():
            tensors[f"optimizer.{i}.{key}"] = tensor
    return tensors


def put_back(tensors: Mapping[str, torch.Tensor], model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Put copies of tensors that `tensors_of` gave into `model` and `optimizer`, in the layouts that the model has."""
    parameters = _parameters(optimizer)
    model.load_state_dict({key[6:]: tensor for key, tensor in tensors.items() if key.startswith("model.")})
    for key, tensor in tensors.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".", 2)
            parameter = parameters[int(index)]
            optimizer.state[parameter][name] = _laid_out_like(parameter, tensor)


def _laid_out_like(parameter: torch.Tensor, tensor: torch.Tensor) -> torch.Tensor:
    """A copy with the parameter's strides: arithmetic on another layout may round otherwise. A mere number has none."""
    if tensor.dim() == 0:
        return tensor.clone()
    return torch.empty_like(parameter, dtype=tensor.dtype).copy_(tensor.reshape(parameter.shape))


def _parameters(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
