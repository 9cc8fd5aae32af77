"""Steps: an operation and its gradients on inputs of one shape, by kernels."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

from torch import Tensor

from svertka import portable
from svertka.engine.launch import not_recording


class Saved(NamedTuple):
    """What is known of the forward step.

    Attributes:
        needs: which of x and the tensors need gradients.
        x, tensors: as they were; x is None if the step is `linear`.
        kept: by `forward`.
    """

    needs: Sequence[bool]
    x: Any  # a tensor
    tensors: Sequence[Tensor | None]
    kept: Sequence[Tensor]


class Step:
    """What a differentiable operation does forward and backward; the subclasses are the kinds of operations.

    `detail` is for the report. `linear`: the gradients don't depend on x, which isn't kept.
    """

    detail: str
    linear: ClassVar[bool] = False

    def forward(self, x: Tensor, *tensors: Tensor | None, **options: Any) -> tuple[tuple[Tensor, ...], list[Tensor]]:
        """(the results, of which the first alone has gradients; what to keep for `backward`)."""
        raise NotImplementedError

    def backward(self, dy: Tensor, saved: Saved) -> Sequence[Tensor | None]:
        """The gradients to x and to the tensors; of those that aren't needed any value will do.

        Args:
            dy: the first result's gradient, in any layout.
        """
        raise NotImplementedError

    def composed(self, operation: Any, saved: Saved) -> Any:
        """The first result composed of torch's operations, for gradients of gradients; x is never None here."""
        found = portable.run(operation, saved.x, *saved.tensors)
        return found[0] if isinstance(found, tuple) else found


class Remembered:
    """What was built for each of the latest layouts that gradients came in."""

    def __init__(self, most: int = 16) -> None:
        self._found: OrderedDict[Any, Any] = OrderedDict()
        self._most = most

    def __call__(self, key: Any, build: Callable[[], Any]) -> Any:
        """`build()`, once for each key."""
        found = self._found.get(key)
        if found is None:
            with not_recording():
                found = self._found[key] = build()
            if len(self._found) > self._most:
                self._found.popitem(last=False)
        return found
